//! Entries of image indexes that are not what they seem: images with a type, artifacts without one,
//! entries that can't be verified, and entries that are not there.

use serde_json::{Value, json};

use crate::fixture::{Sandbox, Verdict, fails, has_words, name_in, opens, options};
use crate::selection::{
    attestation, chosen, files_of, image, index_entry, index_of, labelled, serve, write_layout,
};
use crate::support::image::{Built, Compression, ImageBuilder, Layer, OCI_MANIFEST, sha256};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn typed(mut entry: Value, of_type: &str) -> Value {
    entry["artifactType"] = json!(of_type);
    entry
}

/// The word that is shown must be this, or the error must have these words.
fn row(registry: &Registry, platform: &str, expected: Result<&str, &[&str]>) -> Result<(), String> {
    match (chosen(registry, platform), expected) {
        (Ok(word), Ok(expected)) if word == expected => Ok(()),
        (Err(error), Err(words)) => has_words(&error, words),
        (found, expected) => Err(format!("{found:?} instead of {expected:?}")),
    }
}

const THING: &str = "application/vnd.example.thing.v1";
const NYDUS: &str = "application/vnd.nydus.image.manifest.v1+json";

#[test]
fn platforms_hold_for_images_with_a_type() {
    let images = ["arm64", "amd64", "s390x"].map(|arch| image(arch, arch));
    let [arm, amd, s390] = &images;
    let nydus = ImageBuilder::new()
        .push_layer(
            Layer::new(b"?", Compression::None)
                .media_type("application/vnd.oci.image.layer.nydus.blob.v1"),
        )
        .build();
    let signature = attestation();
    let all = [arm, amd, s390, &nydus, &signature];
    let of_arm = typed(labelled(arm, "arm64", None), THING);
    let of_amd = typed(labelled(amd, "amd64", None), THING);
    let nested = index_of(vec![of_arm.clone(), of_amd.clone()]);
    let listed: &[&str] = &["there is linux/amd64, linux/arm64"];
    let both = [("amd64", Ok("amd64")), ("arm64", Ok("arm64")), ("s390x", Err(listed))];
    let with_plain = vec![
        typed(labelled(arm, "amd64", None), NYDUS),
        labelled(amd, "amd64", None),
        typed(labelled(&signature, "amd64", None), THING),
    ];
    let only_amd: &[&str] = &["there is linux/amd64"];
    let mut marked = labelled(arm, "amd64", None);
    marked["platform"]["os.features"] = json!(["nydus.remoteimage.v1"]);
    let mut unknown = labelled(&signature, "unknown", None);
    unknown["platform"]["os"] = json!("unknown");
    type Rows<'a> = Vec<(&'a str, Result<&'a str, &'a [&'a str]>)>;
    let tables: Vec<(&str, Vec<Value>, Rows)> = vec![
        ("all typed", vec![of_arm.clone(), of_amd.clone()], both.to_vec()),
        ("in another order", vec![of_amd.clone(), of_arm.clone()], both.to_vec()),
        ("in a nested index", vec![index_entry(&nested)], both.to_vec()),
        ("in a typed nested index", vec![typed(index_entry(&nested), THING)], both.to_vec()),
        (
            "an ordinary one comes first",
            with_plain,
            vec![("amd64", Ok("amd64")), ("s390x", Err(only_amd))],
        ),
        (
            "an image behind a signature of its platform",
            vec![typed(labelled(&signature, "amd64", None), THING), of_amd.clone(), of_arm.clone()],
            both.to_vec(),
        ),
        (
            "a signature without a type, labelled as the image",
            vec![labelled(&signature, "amd64", None), labelled(amd, "amd64", None)],
            vec![("amd64", Ok("amd64"))],
        ),
        (
            "an image of features",
            vec![marked, labelled(amd, "amd64", None)],
            vec![("amd64", Ok("amd64")), ("s390x", Err(only_amd))],
        ),
        (
            "unknown without a mark",
            vec![unknown.clone(), labelled(amd, "amd64", None)],
            vec![("amd64", Ok("amd64")), ("s390x", Err(only_amd))],
        ),
        (
            "typed without a platform",
            vec![typed(arm.descriptor(), THING), typed(amd.descriptor(), THING)],
            both.to_vec(),
        ),
        (
            "typed and of no use",
            vec![typed(labelled(&nydus, "amd64", None), NYDUS)],
            vec![("amd64", Err(&["is data of a Nydus image"])), ("", Err(&["Nydus"]))],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, entries, rows) in tables {
        let registry = serve(entries, &all, &[&nested]);
        for (platform, expected) in rows {
            verdict.row(&format!("{what}, {platform}"), row(&registry, platform, expected));
        }
    }
    verdict.end();
}

/// An artifact of another platform is not opened, nor is one where an ordinary entry matches.
#[test]
fn typed_entries_are_opened_only_if_their_platform_is_wanted() {
    let images = ["arm64", "amd64"].map(|arch| image(arch, arch));
    let entries: Vec<Value> = images
        .iter()
        .zip(["arm64", "amd64"])
        .map(|(image, arch)| typed(labelled(image, arch, None), THING))
        .collect();
    let registry = serve(entries, &images.iter().collect::<Vec<_>>(), &[]);
    assert_eq!(chosen(&registry, "amd64").as_deref(), Ok("amd64"));
    let asked = |digest: &str| registry.requests().iter().any(|r| r.path.contains(digest));
    assert!(asked(&images[1].manifest_digest) && !asked(&images[0].manifest_digest));
}

/// However many artifacts of the wanted platform there are, the image that says nothing is found.
#[test]
fn many_signatures_of_a_platform() {
    let amd = image("amd64", "amd64");
    let signature = attestation();
    let mut entries: Vec<Value> = (0..100)
        .map(|n| {
            let mut entry = typed(labelled(&signature, "amd64", None), THING);
            entry["platform"]["os.version"] = json!(n.to_string());
            entry
        })
        .collect();
    entries.push(amd.descriptor());
    let registry = serve(entries, &[&amd, &signature], &[]);
    assert_eq!(chosen(&registry, "amd64").as_deref(), Ok("amd64"));
    let error = chosen(&registry, "s390x").unwrap_err();
    assert!(error.contains("there is linux/amd64 [ChoosePlatform]"), "{error}");
}

/// Only what is chosen has to be verified.
#[test]
fn entries_that_cannot_be_used() {
    let amd = image("amd64", "amd64");
    let entry = |digest: &str, architecture: Option<&str>| {
        let mut entry = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": 500 });
        if let Some(architecture) = architecture {
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        }
        entry
    };
    let blake = format!("blake3:{}", "a".repeat(64));
    let not_supported: &[&str] = &["`blake3` is not supported"];
    let only: &[&str] = &["there is linux/amd64"];
    let good = || labelled(&amd, "amd64", None);
    let mut verdict = Verdict::default();
    for other in [
        entry(&blake, Some("arm64")),
        entry(&blake, None),
        typed(entry(&blake, None), THING),
        entry("sha384:00", Some("arm64")),
        entry("multihash+base58:QmX", Some("arm64")),
        entry("sha256:short", Some("arm64")),
        entry("", None),
        json!({}),
        json!(null),
        json!("text"),
        json!({ "digest": 5, "size": "x" }),
        json!({ "digest": sha256(b"x"), "size": -1, "platform": [] }),
    ] {
        let registry = serve(vec![other.clone(), good(), other.clone()], &[&amd], &[]);
        verdict.row(&other.to_string(), row(&registry, "amd64", Ok("amd64")));
        verdict.row(&other.to_string(), row(&registry, "", Ok("amd64")));
    }
    // What is chosen, or all that there is.
    let registry = serve(vec![entry(&blake, Some("arm64")), good()], &[&amd], &[]);
    verdict.row("named", row(&registry, "arm64", Err(&["linux/arm64", not_supported[0]])));
    verdict.row("neither", row(&registry, "s390x", Err(only)));
    for other in [entry(&blake, Some("arm64")), entry(&blake, None)] {
        let registry = serve(vec![other], &[], &[]);
        verdict.row("alone", row(&registry, "", Err(not_supported)));
    }
    let registry = serve(vec![entry(&blake, Some("amd64")), good()], &[&amd], &[]);
    verdict.row("twice", row(&registry, "amd64", Ok("amd64")));
    verdict.end();
    // In a layout by name, and by position.
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let named = |mut entry: Value, name: &str| {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        entry
    };
    let entries = vec![named(entry(&blake, None), "other"), named(amd.descriptor(), "v1")];
    write_layout(&folder, entries, &files_of(&amd));
    let name = |selector: &str| format!("oci:{}{selector}", folder.display());
    for selector in [":other", ":@0"] {
        fails(&Sandbox::new(), &name(selector), &options(), &["`blake3` is not supp"]).unwrap();
    }
    for selector in ["", ":v1", ":@1"] {
        crate::fixture::open(&name(selector), &sandbox.cache(), &options()).unwrap();
    }
}

/// An entry that says nothing and is not there, or is no document, hides no image.
#[test]
fn entries_that_are_not_there() {
    let [arm, amd] = ["arm64", "amd64"].map(|arch| image(arch, arch));
    let lost = image("amd64", "lost");
    let junk = b"junk";
    let junk_entry =
        json!({ "mediaType": OCI_MANIFEST, "digest": sha256(junk), "size": junk.len() });
    let registry_of = |entries: Vec<Value>| {
        let registry = serve(entries, &[&arm, &amd], &[]);
        registry.add_manifest("r", "part", OCI_MANIFEST, junk);
        registry
    };
    let mut verdict = Verdict::default();
    for other in [lost.descriptor(), typed(lost.descriptor(), THING), junk_entry.clone()] {
        for present in [amd.descriptor(), labelled(&amd, "amd64", None)] {
            let registry = registry_of(vec![other.clone(), present.clone(), other.clone()]);
            verdict.row("unlabelled", row(&registry, "amd64", Ok("amd64")));
            let listed: &[&str] = &["there is linux/amd64"];
            verdict.row("another platform", row(&registry, "s390x", Err(listed)));
        }
    }
    // Nothing is left.
    let registry = registry_of(vec![lost.descriptor()]);
    let (digest, digest_of_junk) = (lost.manifest_digest.as_str(), sha256(junk));
    verdict.row("alone", row(&registry, "", Err(&[digest, "does not have it"])));
    let registry = registry_of(vec![junk_entry]);
    verdict.row("junk", row(&registry, "", Err(&[&digest_of_junk, "not valid JSON"])));
    // What was wanted is listed, and lost; nothing else is shown for it.
    let registry = registry_of(vec![labelled(&arm, "arm64", None), labelled(&lost, "amd64", None)]);
    let words: &[&str] = &["lists linux/amd64 as", digest, "not there"];
    verdict.row("listed", row(&registry, "amd64", Err(words)));
    verdict.row("listed", row(&registry, "", Err(words)));
    verdict.row("the other", row(&registry, "arm64", Ok("arm64")));
    let error = chosen(&registry, "amd64").unwrap_err();
    verdict.row(
        "no advice",
        match error.contains("misspelt") {
            true => Err(error),
            false => Ok(()),
        },
    );
    verdict.end();
    // In an archive that was saved for one platform, naming the other is told so.
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let index = index_of(vec![labelled(&arm, "arm64", None), labelled(&lost, "amd64", None)]);
    let mut files = files_of(&arm);
    files.push(&index);
    write_layout(&folder, vec![index_entry(&index)], &files);
    let name = format!("oci:{}", folder.display());
    let amd64 = ocifs::image::ImageOptions { platform: "linux/amd64".parse().ok(), ..options() };
    fails(&Sandbox::new(), &name, &amd64, &words[..2]).unwrap();
}

/// Layers and configs that the registry lists and lacks are no matter of spelling.
#[test]
fn parts_that_are_not_there() {
    let built: Built =
        ImageBuilder::new().layer(&tar(&[Entry::file("f", "x")]), Compression::Gzip).build();
    for digest in [sha256(&built.config), built.layer_digests()[0].clone()] {
        let mut image = built.clone();
        image.blobs.remove(&digest);
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        let words = [digest.as_str(), "not found", "does not have it"];
        fails(&Sandbox::new(), &name_in(&registry), &options(), &words).unwrap();
        let error = opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap_err();
        assert!(!error.contains("misspelt"), "{error}");
    }
}

/// Versions of systems, as they are listed, can be asked for.
#[test]
fn versions_of_systems() {
    let mac = |version: &str| {
        let image = ImageBuilder::new()
            .platform("darwin", "arm64", None)
            .layer(&tar(&[Entry::file("f", version)]), Compression::Gzip)
            .build();
        let mut entry = labelled(&image, "arm64", None);
        entry["platform"]["os"] = json!("darwin");
        entry["platform"]["os.version"] = json!(version);
        (image, entry)
    };
    let versions = ["macOS 11.7", "macOS 14.2 (23C64)+beta/1", "13"];
    let made: Vec<(Built, Value)> = versions.iter().map(|version| mac(version)).collect();
    let images: Vec<&Built> = made.iter().map(|(image, _)| image).collect();
    let registry = serve(made.iter().map(|(_, entry)| entry.clone()).collect(), &images, &[]);
    let error = chosen(&registry, "linux/amd64").unwrap_err();
    for version in versions {
        let platform = format!("darwin({version})/arm64");
        assert!(error.contains(&platform), "{error}");
        assert_eq!(chosen(&registry, &platform).as_deref(), Ok(version));
        assert_eq!(chosen(&registry, &platform.to_uppercase()).as_deref(), Ok(version));
    }
    assert_eq!(chosen(&registry, "darwin(macOS 11)/arm64").as_deref(), Ok("macOS 11.7"));
    assert!(chosen(&registry, "darwin(macOS 1)/arm64").is_err());
}
