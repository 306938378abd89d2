//! What lies in an OCI layout beside the image: what tools copy along with it, or list twice.

use serde_json::{Value, json};

use crate::fixture::{Sandbox, Verdict, fails, open, options, read};
use crate::selection::{
    attestation, files_of, image, index_entry, index_of, labelled, write_layout,
};
use crate::support::image::{Built, Compression, ImageBuilder, Layer};

fn named(mut entry: Value, name: &str) -> Value {
    entry["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
    entry
}

fn annotated(mut entry: Value, key: &str, value: &str) -> Value {
    entry["annotations"][key] = json!(value);
    entry
}

/// What cosign writes: an image by its config, but for its layer.
fn signature() -> Built {
    let layer = Layer::new(b"{}", Compression::None)
        .media_type("application/vnd.dev.cosign.simplesigning.v1+json");
    ImageBuilder::new().push_layer(layer).build()
}

/// An artifact by its config.
fn artifact() -> Built {
    let mut built = signature();
    let mut manifest: Value = serde_json::from_slice(&built.manifest).unwrap();
    manifest["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    built.manifest = manifest.to_string().into_bytes();
    built.manifest_digest = crate::support::image::sha256(&built.manifest);
    built
}

/// The word in `f` of the image that is meant by the name of a layout with this end.
fn shown(entries: &[Value], files: &[&[u8]], selector: &str) -> Result<String, String> {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    write_layout(&folder, entries.to_vec(), files);
    let name = format!("oci:{}{selector}", folder.display());
    let options = ocifs::image::ImageOptions { platform: "linux/amd64".parse().ok(), ..options() };
    let image = open(&name, &sandbox.cache(), &options)?;
    Ok(String::from_utf8(read(&image, "f")?).unwrap())
}

#[test]
fn one_image_and_what_belongs_to_it() {
    let [arm, amd] = ["arm64", "amd64"].map(|arch| image(arch, arch));
    let (signature, artifact, about) = (signature(), artifact(), attestation());
    let index = index_of(vec![labelled(&amd, "amd64", None), labelled(&arm, "arm64", None)]);
    let outer = index_of(vec![index_entry(&index)]);
    // An index that stands in for the referrers API.
    let referrers = index_of(vec![signature.descriptor(), artifact.descriptor()]);
    let built = [&arm, &amd, &signature, &artifact, &about];
    let mut files: Vec<&[u8]> = built.into_iter().flat_map(files_of).collect();
    files.extend([&index[..], &outer, &referrers]);
    let typed = |mut entry: Value| {
        entry["artifactType"] = json!("application/vnd.example");
        entry
    };
    let of = Built::descriptor;
    let tables: Vec<(&str, Vec<Value>)> = vec![
        ("index and children", vec![named(index_entry(&index), "v1"), of(&amd), of(&arm)]),
        ("children first", vec![of(&amd), of(&arm), named(index_entry(&index), "v1")]),
        (
            "labelled children",
            vec![
                named(index_entry(&index), "v1"),
                labelled(&amd, "amd64", None),
                labelled(&arm, "arm64", None),
            ],
        ),
        (
            "index of an index",
            vec![named(index_entry(&outer), "v1"), index_entry(&index), of(&amd)],
        ),
        ("signature", vec![named(of(&amd), "v1"), of(&signature)]),
        ("named signature", vec![named(of(&amd), "v1"), named(of(&signature), "sha256-0.sig")]),
        ("typed artifact", vec![typed(of(&artifact)), named(of(&amd), "v1")]),
        ("artifact", vec![of(&artifact), named(of(&amd), "v1"), of(&artifact)]),
        ("referrers tag", vec![named(of(&amd), "v1"), named(index_entry(&referrers), "sha256-0")]),
        ("attestation", vec![of(&about), named(of(&amd), "v1")]),
        ("two names", vec![named(of(&amd), "v1"), named(of(&amd), "latest")]),
        (
            "image and signature of one name",
            vec![named(of(&amd), "v1"), named(of(&signature), "v1")],
        ),
        (
            "index and child of one name",
            vec![named(index_entry(&index), "v1"), named(of(&arm), "v1")],
        ),
        (
            "full name",
            vec![
                annotated(of(&amd), "io.containerd.image.name", "docker.io/library/app:v1"),
                of(&signature),
            ],
        ),
        (
            "kinds of cosign",
            vec![
                annotated(named(of(&amd), "v1"), "kind", "dev.cosignproject.cosign/image"),
                annotated(of(&signature), "kind", "dev.cosignproject.cosign/sigs"),
            ],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, entries) in &tables {
        for selector in ["", ":v1"] {
            let result = match shown(entries, &files, selector) {
                Ok(word) if word == "amd64" => Ok(()),
                other => Err(format!("{other:?}")),
            };
            verdict.row(&format!("{what}{selector}"), result);
        }
    }
    verdict.end();
    // An image without a name is offered by its position.
    let entries = [of(&amd), named(of(&signature), "sig")];
    let error = shown(&entries, &files, ":v1").unwrap_err();
    assert!(
        error.contains("there is no image `v1`") && error.contains("there is `@0` (sha256:"),
        "{error}"
    );
    // What is about an image is what is meant by its own name: it is shown as an artifact.
    let entries = [named(of(&amd), "v1"), named(of(&signature), "sig")];
    let error = shown(&entries, &files, ":sig").unwrap_err();
    assert!(error.contains("no such file"), "{error}");
}

/// What `oras cp -r` and `oras backup --include-referrers` write of an artifact, and of an index of it.
#[test]
fn one_artifact_and_what_belongs_to_it() {
    let artifact = artifact();
    let about = |kind: &str| {
        let mut about = artifact.clone();
        let mut manifest: Value = serde_json::from_slice(&about.manifest).unwrap();
        manifest["subject"] = artifact.descriptor();
        manifest["artifactType"] = json!(kind);
        about.manifest = manifest.to_string().into_bytes();
        about.manifest_digest = crate::support::image::sha256(&about.manifest);
        about
    };
    let (signature, sbom) = (about("application/vnd.a"), about("application/vnd.b"));
    let index = index_of(vec![artifact.descriptor()]);
    let referrers = index_of(vec![signature.descriptor(), sbom.descriptor()]);
    let built = [&artifact, &signature, &sbom];
    let mut files: Vec<&[u8]> = built.into_iter().flat_map(files_of).collect();
    files.extend([&index[..], &referrers]);
    let tag = artifact.manifest_digest.replace(':', "-");
    let of = Built::descriptor;
    let mut entries = vec![of(&signature), named(of(&artifact), "v1"), of(&sbom)];
    let opened = |entries: &[Value]| {
        let error = shown(entries, &files, "").unwrap_err();
        assert!(error.contains("no such file"), "{error}");
    };
    opened(&entries);
    entries.push(named(index_entry(&referrers), &tag));
    opened(&entries);
    entries.push(named(index_entry(&index), "latest"));
    opened(&entries);
    // Of what is about the artifact alone there may be a choice.
    let error = shown(&[of(&signature), of(&sbom)], &files, "").unwrap_err();
    assert!(error.contains("several images"), "{error}");
}

/// Of two images of one name some engines take the first and some the last.
#[test]
fn several_images() {
    let [one, two, arm] = [("amd64", "one"), ("amd64", "two"), ("arm64", "arm")]
        .map(|(architecture, word)| image(architecture, word));
    let files: Vec<&[u8]> = [&one, &two, &arm].into_iter().flat_map(files_of).collect();
    let both = [named(one.descriptor(), "v1"), named(two.descriptor(), "v1")];
    for selector in ["", ":v1"] {
        let error = shown(&both, &files, selector).unwrap_err();
        for word in ["several images", "`@0` (`v1`, sha256:", "`@1` (`v1`, sha256:"] {
            assert!(error.contains(word), "{error}");
        }
    }
    let by_digest = format!("@{}", two.manifest_digest);
    for (selector, word) in [(":@0", "one"), (":@1", "two"), (by_digest.as_str(), "two")] {
        assert_eq!(shown(&both, &files, selector).as_deref(), Ok(word));
    }
    // Without names, and with one of each.
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let name = format!("oci:{}", folder.display());
    write_layout(&folder, vec![one.descriptor(), two.descriptor()], &files);
    fails(&sandbox, &name, &options(), &["several images", "`@0` (sha256:", "`@1` (sha"]).unwrap();
    write_layout(&folder, vec![one.descriptor(), named(two.descriptor(), "v2")], &files);
    fails(&sandbox, &name, &options(), &["several images", "`@0` (sha256:", "v2"]).unwrap();
    let names = [named(one.descriptor(), "a:1"), named(two.descriptor(), "b:1")];
    let error = shown(&names, &files, "").unwrap_err();
    assert!(error.contains("there is a:1, b:1"), "{error}");
    // The nearest name first.
    let error = shown(&names, &files, ":b:2").unwrap_err();
    assert!(error.contains("there is b:1, a:1"), "{error}");
    // With platforms they are one image.
    let one_name =
        [named(labelled(&arm, "arm64", None), "v1"), named(labelled(&two, "amd64", None), "v1")];
    assert_eq!(shown(&one_name, &files, ":v1").as_deref(), Ok("two"));
}

/// The file `oci-layout` says a version at most.
#[test]
fn marks_of_layouts() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let amd = image("amd64", "amd64");
    write_layout(&folder, vec![amd.descriptor()], &files_of(&amd));
    let name = format!("oci:{}", folder.display());
    let marker = folder.join("oci-layout");
    for text in [
        r#"{"imageLayoutVersion":"1.1.0"}"#,
        r#"{"ImageLayoutVersion":"1.0.0","x":"\ud83d"}"#,
        r#"{"imageLayoutVersion":null}"#,
        "{}",
    ] {
        std::fs::write(&marker, text).unwrap();
        open(&name, &sandbox.cache(), &options()).unwrap();
    }
    for (text, word) in [
        (r#"{"imageLayoutVersion":"2.0.0"}"#, "unknown version 2.0.0"),
        ("x", "`oci-layout`: unexpected `x`"),
    ] {
        std::fs::write(&marker, text).unwrap();
        fails(&Sandbox::new(), &name, &options(), &[word]).unwrap();
    }
    std::fs::remove_file(&marker).unwrap();
    open(&name, &sandbox.cache(), &options()).unwrap();
    std::fs::remove_file(folder.join("index.json")).unwrap();
    fails(&Sandbox::new(), &name, &options(), &["has no file `oci-layout`"]).unwrap();
}
