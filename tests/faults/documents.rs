//! Manifests and configs that are not what they should be: wrong JSON, other artifacts, old
//! formats, absurd sizes.

use serde_json::{Value, json};

use crate::fixture::{Sandbox, Verdict, fails, good, name_in, open, opens, options, refuses};
use crate::support::image::{Built, DOCKER_MANIFEST, ImageBuilder, OCI_MANIFEST, sha256};
use crate::support::registry::{Fault, Registry, Times};

/// The good image with its manifest changed.
fn manifest_with(change: impl FnOnce(&mut Value)) -> Built {
    let mut image = good();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    change(&mut manifest);
    with_manifest(&mut image, manifest.to_string().into_bytes());
    image
}

fn with_manifest(image: &mut Built, bytes: Vec<u8>) {
    image.manifest_digest = sha256(&bytes);
    image.manifest = bytes;
}

/// The good image with another config, right by digest and size.
fn config_of(config: &[u8]) -> Built {
    let mut image = manifest_with(|manifest| {
        manifest["config"]["digest"] = json!(sha256(config));
        manifest["config"]["size"] = json!(config.len());
    });
    image.config = config.to_vec();
    image.blobs.insert(sha256(config), config.to_vec());
    image
}

/// The good image whose manifest is exactly these bytes.
fn manifest_is(bytes: impl AsRef<[u8]>) -> Built {
    let mut image = good();
    with_manifest(&mut image, bytes.as_ref().to_vec());
    image
}

#[test]
fn documents_of_other_kinds() {
    let none = sha256(b"none");
    let missing = [&none[7..]];
    let filler = " ".repeat(5 << 20);
    let padded = |image: &Built| [&image.manifest[..], filler.as_bytes()].concat();
    let schema1 = json!({ "schemaVersion": 1, "name": "r", "tag": "t", "fsLayers": [] });
    let rows: Vec<(&str, Built, &[&str])> = vec![
        ("[]", manifest_is("[]"), &["not valid JSON of its kind"]),
        ("null", manifest_is("null"), &["not valid JSON of its kind"]),
        ("a number", manifest_is("5"), &["not valid JSON of its kind"]),
        ("nothing", manifest_is(""), &["not valid JSON of its kind"]),
        ("HTML", manifest_is("<!DOCTYPE html><html></html>"), &["not valid JSON of its kind"]),
        ("half", manifest_is(&good().manifest[..100]), &["not valid JSON of its kind"]),
        ("binary", manifest_is([0xff; 100]), &["not valid JSON of its kind"]),
        ("brackets", manifest_is("[".repeat(1 << 20)), &["not valid JSON of its kind"]),
        ("nested", manifest_is(format!("{{\"a\":{}", "[".repeat(1 << 20))), &["not valid JSON"]),
        ("5 MiB", manifest_is(padded(&good())), &["4"]),
        ("schema 1", manifest_is(schema1.to_string()), &["schema 1"]),
        (
            "no config",
            manifest_with(|m| m["config"] = json!(null)),
            &["names the config", "descriptor"],
        ),
        ("layers are text", manifest_with(|m| m["layers"] = json!("x")), &["not valid JSON of"]),
        (
            "layers are numbers",
            manifest_with(|m| m["layers"] = json!([1])),
            &["names layer 1", "descriptor"],
        ),
        (
            "negative size",
            manifest_with(|m| m["layers"][0]["size"] = json!(-1)),
            &["names layer 1", "-1"],
        ),
        (
            "fractional size",
            manifest_with(|m| m["layers"][0]["size"] = json!(1.5)),
            &["names layer 1", "1.5"],
        ),
        (
            "a layer by another algorithm",
            manifest_with(|m| m["layers"][0]["digest"] = json!("blake3:00")),
            &["names layer 1 in a way that can't be used: digest algorithm `blake3` is not supp"],
        ),
        (
            "a config by another algorithm",
            manifest_with(|m| m["config"]["digest"] = json!("sha384:00")),
            &["names the config in a way that can't be used: digest algorithm `sha384` is not"],
        ),
        (
            "no digest",
            manifest_with(|m| drop(m["layers"][0].as_object_mut().unwrap().remove("digest"))),
            &["digest"],
        ),
        (
            "digest with a path in it",
            manifest_with(|m| m["layers"][0]["digest"] = json!("sha256:../../etc/passwd")),
            &["hexadecimal"],
        ),
        (
            "bzip2 by name",
            manifest_with(|m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+bzip2");
            }),
            &["tar+bzip2", "a tar compressed with bzip2"],
        ),
        ("config missing", manifest_with(|m| m["config"]["digest"] = json!(none)), &missing),
        ("layer missing", manifest_with(|m| m["layers"][0]["digest"] = json!(none)), &missing),
        (
            "config of 9 MiB",
            manifest_with(|m| m["config"]["size"] = json!(9 << 20)),
            &["config", "9437184"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, image, words) in &rows {
        verdict.row(what, refuses(image, &options(), words));
    }
    verdict.end();
}

/// What is no container image is shown as the files that it has.
#[test]
fn documents_of_artifacts() {
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let ollama = "application/vnd.ollama.image.model";
    let mut verdict = Verdict::default();
    for (what, image) in [
        ("Helm chart", manifest_with(|m| m["config"]["mediaType"] = json!(helm))),
        (
            "artifact type",
            manifest_with(|m| {
                m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
                m["artifactType"] = json!("application/x-thing");
            }),
        ),
        ("model", manifest_with(|m| m["layers"][0]["mediaType"] = json!(ollama))),
    ] {
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        verdict.row(what, is_shown(&registry));
    }
    verdict.end();
}

/// Opens what is no image, and has no file `f`.
fn is_shown(registry: &Registry) -> Result<(), String> {
    open(&name_in(registry), &Sandbox::new().cache(), &options()).map(drop)
}

/// One document must not be two things to two readers, in whatever spelling (CVE-2021-41190).
#[test]
fn ambiguous_documents() {
    let both = "both an image manifest and an image index";
    let spellings = "two spellings";
    let with = |more: &str| {
        let text = String::from_utf8(good().manifest).unwrap();
        let (inner, more) = (text.strip_suffix('}').unwrap(), more.replace("DIGEST", &sha256(b"")));
        manifest_is(format!("{inner},{more}}}"))
    };
    let rows = [
        (r#""manifests":[]"#, both),
        (r#""manifests":null"#, both),
        (r#""Manifests":[]"#, both),
        (r#""MANIFESTS":[{"digest":"DIGEST","size":0}]"#, both),
        (r#""manifeſts":[]"#, both),
        (r#""\u006danifests":[]"#, both),
        (r#""Layers":[]"#, spellings),
        (r#""layerſ":null"#, spellings),
        (r#""CONFIG":{"digest":"DIGEST","size":0}"#, spellings),
        (r#""mediatype":"application/vnd.oci.image.index.v1+json""#, spellings),
        (r#""fslayers":[]"#, "schema 1"),
        (r#""FSLayers":null"#, "schema 1"),
    ];
    let mut verdict = Verdict::default();
    for (more, word) in rows {
        verdict.row(more, refuses(&with(more), &options(), &[word]));
    }
    let two_digests = manifest_with(|m| {
        let layer = m["layers"][0].as_object_mut().unwrap();
        layer.insert("Digest".to_owned(), json!(sha256(b"")));
    });
    verdict.row("two digests", refuses(&two_digests, &options(), &[spellings]));
    verdict.end();
    // An index that has layers as well.
    let registry = Registry::start();
    for index in [r#"{"manifests":[],"layers":[]}"#, r#"{"Manifests":[],"LAYERS":null}"#] {
        registry.add_manifest("r", "t", crate::support::image::OCI_INDEX, index.as_bytes());
        fails(&Sandbox::new(), &name_in(&registry), &options(), &[both]).unwrap();
    }
}

/// What Go's JSON reads of manifests and configs, where it does not matter.
#[test]
fn odd_json_is_read_as_engines_read_it() {
    let replaced = |bytes: &[u8], from: &str, to: &[u8]| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("`{from}` is not in it"));
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    };
    let manifest = |from: &str, to: &[u8]| manifest_is(replaced(&good().manifest, from, to));
    let config = |from: &str, to: &[u8]| config_of(&replaced(&good().config, from, to));
    let odd: [&[u8]; 12] = [
        br#""x":"cut \ud83d","#,
        br#""x":"\ude00 half","#,
        b"\"x\":\"J\xf6rg\",",
        b"\"\xff\":1,",
        br#""x":1e999,"#,
        br#""x":123456789012345678901234567890,"#,
        br#""annotations":{"a":null,"b":7,"c":{},"d":"\udead"},"#,
        br#""annotations":null,"annotations":{},"#,
        br#""annotations":[],"#,
        br#""os.version":10,"os.features":"win32k","variant":7,"#,
        br#""Author":"a","author":"b","x":{"y":[1,{"z":null}]},"#,
        br#""created":{},"history":{},"subject":{"digest":"blake3:00"},"#,
    ];
    let mut images: Vec<(String, Built)> = Vec::new();
    for text in odd {
        let at_start = [b"{", text].concat();
        let what = String::from_utf8_lossy(text).into_owned();
        images.push((format!("manifest with {what}"), manifest("{", &at_start)));
        images.push((format!("config with {what}"), config("{", &at_start)));
    }
    let deep = format!("{{\"x\":{}{},", "[".repeat(9_000), "]".repeat(9_000)).into_bytes();
    images.push(("deep manifest".to_owned(), manifest("{", &deep)));
    images.push(("deep config".to_owned(), config("{", &deep)));
    for (from, to) in [
        ("\"layers\"", "\"layers\":[],\"layers\""),
        ("\"layers\"", "\"LAYERS\""),
        ("\"config\"", "\"Config\""),
        ("\"digest\"", "\"DIGEST\""),
        ("\"mediaType\"", "\"mediatype\""),
        ("manifest.v1+json\"", "manifest.v1+json; charset=utf-8\""),
        ("vnd.oci.image.manifest", "vnd.OCI.Image.Manifest"),
    ] {
        images.push((format!("manifest with {to}"), manifest(from, to.as_bytes())));
    }
    for (from, to) in [
        ("\"rootfs\"", "\"RootFS\""),
        ("\"diff_ids\"", "\"Diff_IDs\""),
        ("\"os\"", "\"os\":\"windows\",\"OS\""),
        ("\"architecture\"", "\"architecture\":null,\"architecture\""),
    ] {
        images.push((format!("config with {to}"), config(from, to.as_bytes())));
    }
    let mut verdict = Verdict::default();
    for (what, image) in &images {
        let registry = Registry::start();
        registry.add_image("r", "t", image);
        verdict.row(what, opens(&Sandbox::new(), &name_in(&registry), &options()));
    }
    verdict.end();
}

/// Registries of 2016 gave configs generic types. An artifact may have one as well.
#[test]
fn generic_config_types() {
    let with = |config: &str, layer: Option<&str>| {
        manifest_with(|m| {
            m["config"]["mediaType"] = json!(config);
            if let Some(layer) = layer {
                m["layers"][0]["mediaType"] = json!(layer);
            }
        })
    };
    let generic =
        ["application/octet-stream", "application/json", "text/html; charset=utf-8", "text/plain"];
    let mut verdict = Verdict::default();
    for config in generic {
        let registry = Registry::start();
        for layer in [None, Some("application/vnd.docker.image.rootfs.diff.tar.gzip")] {
            registry.add_image("r", "t", &with(config, layer));
            verdict.row(config, opens(&Sandbox::new(), &name_in(&registry), &options()));
        }
        // Not a container image, but files.
        for layer in ["application/octet-stream", "application/pdf", "application/tar+gzip", ""] {
            registry.add_image("r", "t", &with(config, Some(layer)));
            verdict.row(layer, is_shown(&registry));
        }
        let mut artifact = config_of(b"{}");
        let mut manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        manifest["config"]["mediaType"] = json!(config);
        with_manifest(&mut artifact, manifest.to_string().into_bytes());
        registry.add_image("r", "t", &artifact);
        verdict.row("{}", is_shown(&registry));
        let typed = manifest_with(|m| {
            m["config"]["mediaType"] = json!(config);
            m["artifactType"] = json!("application/x-thing");
        });
        registry.add_image("r", "t", &typed);
        verdict.row("typed", is_shown(&registry));
    }
    // Nothing is said of any type.
    let registry = Registry::start();
    registry.add_image("r", "t", &with("", Some("")));
    verdict.row("no types", opens(&Sandbox::new(), &name_in(&registry), &options()));
    verdict.end();
}

/// Media types of layers: what a layer is said to be is said in the error.
#[test]
fn types_of_layers() {
    let with = |layer: &str| manifest_with(|m| m["layers"][0]["mediaType"] = json!(layer));
    let mut verdict = Verdict::default();
    for layer in [
        "application/vnd.OCI.image.layer.v1.tar+GZIP",
        "application/vnd.oci.image.layer.v1.tar+gzip; charset=binary",
        "application/vnd.oci.image.layer.tar+gzip",
        "application/vnd.oci.image.serialization.rootfs.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/tar+gzip",
        "application/x-tar",
        "application/octet-stream",
    ] {
        let registry = Registry::start();
        registry.add_image("r", "t", &with(layer));
        verdict.row(layer, opens(&Sandbox::new(), &name_in(&registry), &options()));
    }
    // Files.
    for layer in ["application/vnd.in-toto+json", "application/vnd.docker.ai.gguf.v3"] {
        let registry = Registry::start();
        registry.add_image("r", "t", &with(layer));
        verdict.row(layer, is_shown(&registry));
    }
    for (layer, word) in [
        ("application/vnd.erofs.layer.v1", "is an EROFS file system"),
        ("application/vnd.oci.image.layer.v1.erofs+zstd", "is an EROFS file system"),
        ("application/vnd.stacker.image.layer.squashfs+zstd+verity", "is a SquashFS file system"),
        ("application/vnd.oci.image.layer.nydus.blob.v1", "is data of a Nydus image"),
        ("application/vnd.oci.image.layer.v1.tar+xz", "is a tar compressed with xz"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
    ] {
        verdict.row(layer, refuses(&with(layer), &options(), &[word]));
    }
    verdict.end();
}

#[test]
fn configs_of_other_kinds() {
    let platform = r#""os":"linux","architecture":"amd64""#;
    let ids =
        |ids: &str| format!(r#"{{{platform},"rootfs":{{"type":"layers","diff_ids":{ids}}}}}"#);
    let two = format!(r#"["{0}","{0}"]"#, sha256(b""));
    let rows: Vec<(&str, String, &[&str])> = vec![
        ("[]", "[]".into(), &["image config is not valid"]),
        ("null", "null".into(), &["image config is not valid"]),
        ("{}", "{}".into(), &["image config is not valid"]),
        ("HTML", "<html>".into(), &["image config is not valid"]),
        ("no diff IDs", ids("null"), &["lists 0 diff IDs for 1 layers"]),
        ("too many diff IDs", ids(&two), &["lists 2 diff IDs for 1 layers"]),
        ("diff IDs are numbers", ids("[1]"), &["image config is not valid"]),
        ("diff ID is short", ids(r#"["sha256:00"]"#), &["hexadecimal"]),
        ("diff ID is blake3", ids(r#"["blake3:00"]"#), &["blake3", "not supported"]),
    ];
    let mut verdict = Verdict::default();
    for (what, config, words) in &rows {
        verdict.row(what, refuses(&config_of(config.as_bytes()), &options(), words));
    }
    verdict.end();
}

/// What some tools write is odd and harmless.
#[test]
fn null_lists_and_missing_types_are_accepted() {
    let remove = |value: &mut Value, key: &str| drop(value.as_object_mut().unwrap().remove(key));
    let rows: Vec<(&str, Built)> = vec![
        ("null annotations", manifest_with(|m| m["annotations"] = json!(null))),
        (
            "null annotations of a layer",
            manifest_with(|m| m["layers"][0]["annotations"] = json!(null)),
        ),
        ("no media type", manifest_with(|m| remove(m, "mediaType"))),
        ("empty media type", manifest_with(|m| m["mediaType"] = json!(""))),
        ("no layer type", manifest_with(|m| remove(&mut m["layers"][0], "mediaType"))),
        ("unknown fields", manifest_with(|m| m["x"] = json!({ "y": [1, null] }))),
        ("an empty subject", manifest_with(|m| m["subject"] = json!(null))),
    ];
    let mut verdict = Verdict::default();
    for (what, image) in &rows {
        let registry = Registry::start();
        registry.add_image("r", "t", image);
        verdict.row(what, opens(&Sandbox::new(), &name_in(&registry), &options()));
    }
    // An image without layers is empty, whether its lists are empty or null.
    for (layers, ids) in [(json!([]), json!([])), (json!(null), json!(null))] {
        let mut image = config_of(
            json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": ids } })
                .to_string()
                .as_bytes(),
        );
        let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        manifest["layers"] = layers;
        with_manifest(&mut image, manifest.to_string().into_bytes());
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        let opened = open(&name_in(&registry), &Sandbox::new().cache(), &options());
        verdict.row(
            "no layers",
            opened.map(|image| {
                assert_eq!(image.filesystem().tree().len(), 1);
            }),
        );
    }
    verdict.end();
}

#[test]
fn headers_of_manifests() {
    let image = good();
    let serve = |media_type: &str, fault: Option<Fault>| {
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        registry.add_manifest("r", "t", media_type, &image.manifest);
        if let Some(fault) = fault {
            registry.fault(("", "/manifests/", Times::Always), fault);
        }
        opens(&Sandbox::new(), &name_in(&registry), &options())
    };
    // Generic types mean nothing, and the digest header is not believed.
    serve("application/json; charset=utf-8", None).unwrap();
    serve("text/plain", None).unwrap();
    serve(OCI_MANIFEST, Some(Fault::WrongDigestHeader)).unwrap();
    serve(OCI_MANIFEST, Some(Fault::NoLength)).unwrap();
    serve(OCI_MANIFEST, Some(Fault::ContentEncoding("identity".into()))).unwrap();
    let error = serve(crate::support::image::OCI_INDEX, None).unwrap_err();
    assert!(error.contains("announced"), "{error}");
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let bare = manifest_with(|m| drop(m.as_object_mut().unwrap().remove("mediaType")));
    let registry = Registry::start();
    registry.add_manifest("r", "t", schema1, &bare.manifest);
    fails(&Sandbox::new(), &name_in(&registry), &options(), &["schema 1"]).unwrap();
    // Docker's types work as OCI's do.
    let docker = ImageBuilder::new().docker_schema2(true).build();
    registry.add_manifest("r", "t", DOCKER_MANIFEST, &docker.manifest);
    registry.add_image("r", "t", &docker);
    open(&name_in(&registry), &Sandbox::new().cache(), &options()).unwrap();
}

/// Nothing but its header says which bytes a tag's manifest has. Where they differ the manifest is asked for by that digest:
/// one byte more or less makes an image something else.
#[test]
fn a_manifest_with_a_wrong_byte_is_not_taken_for_another() {
    let image = good();
    // In the media type of the config, of a layer, in a digest, at the end.
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let places = ["image.config", "image.layer", "sha256:"].map(|what| text.find(what).unwrap());
    for place in places.into_iter().chain([text.len() - 2]) {
        for (times, is_read) in [(Times::First(1), true), (Times::Always, false)] {
            let registry = Registry::start();
            registry.add_image("r", "t", &image);
            registry.fault(("GET", "/manifests/", times), Fault::FlipByte(place));
            let opened = opens(&Sandbox::new(), &name_in(&registry), &options());
            assert_eq!(opened.is_ok(), is_read, "{place}: {opened:?}");
        }
    }
}

#[test]
fn missing_names_list_what_there_is() {
    let registry = Registry::start();
    let missing = format!("{}/r:missing", registry.addr());
    let sandbox = Sandbox::new();
    fails(&sandbox, &missing, &options(), &["not found", "does not exist there"]).unwrap();
    // What refers to an image has tags of this form, and is none.
    let of_referrers =
        ["".to_owned(), ".sig".to_owned()].map(|end| format!("sha256-{}{end}", "0".repeat(64)));
    for tag in ["first", "second", &of_referrers[0], &of_referrers[1]] {
        registry.add_image("r", tag, &good());
    }
    fails(&sandbox, &missing, &options(), &["not found", "first, second"]).unwrap();
    for n in 0..30 {
        registry.add_image("r", &format!("v{n}"), &good());
    }
    registry.clear_log();
    fails(&sandbox, &missing, &options(), &["first, second", "and 12 more"]).unwrap();
    let lists = registry.requests().iter().filter(|r| r.path.contains("/tags/list")).count();
    assert_eq!(lists, 1);
    // The nearest first, and of equally near ones the newest.
    for (tag, words) in [
        ("frist", "has first, "),
        ("V1", "has v1, v19, v18, "),
        ("latest", "has first, v29, v28, "),
    ] {
        let name = format!("{}/r:{tag}", registry.addr());
        fails(&sandbox, &name, &options(), &[words]).unwrap();
    }
    // A registry that refuses the list, or talks nonsense, changes only the words.
    for fault in [
        Fault::Status(403, Vec::new(), Vec::new()),
        Fault::Status(200, Vec::new(), b"<html>".to_vec()),
        Fault::Status(200, Vec::new(), br#"{"tags":null}"#.to_vec()),
    ] {
        registry.clear_faults();
        registry.fault(("GET", "/tags/list", Times::Always), fault);
        fails(&sandbox, &missing, &options(), &["not found", "misspelt"]).unwrap();
    }
    let digest = format!("{}/r@{}", registry.addr(), sha256(b"none"));
    fails(&sandbox, &digest, &options(), &["not found", &sha256(b"none")]).unwrap();
}
