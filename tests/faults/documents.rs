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
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let ollama = "application/vnd.ollama.image.model";
    let (chart, model) = (["not a container image", helm], [ollama, "not a file system layer"]);
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
        ("no config", manifest_with(|m| m["config"] = json!(null)), &["not valid JSON of its"]),
        ("layers are text", manifest_with(|m| m["layers"] = json!("x")), &["not valid JSON of"]),
        ("layers are numbers", manifest_with(|m| m["layers"] = json!([1])), &["not valid JSON of"]),
        (
            "negative size",
            manifest_with(|m| m["layers"][0]["size"] = json!(-1)),
            &["not valid JSON of its kind", "-1"],
        ),
        (
            "fractional size",
            manifest_with(|m| m["layers"][0]["size"] = json!(1.5)),
            &["not valid JSON of its kind"],
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
        ("Helm chart", manifest_with(|m| m["config"]["mediaType"] = json!(helm)), &chart),
        (
            "artifact type",
            manifest_with(|m| {
                m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
                m["artifactType"] = json!("application/x-thing");
            }),
            &["not a container image", "application/x-thing"],
        ),
        ("model", manifest_with(|m| m["layers"][0]["mediaType"] = json!(ollama)), &model),
        (
            "bzip2 by name",
            manifest_with(|m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+bzip2");
            }),
            &["tar+bzip2", "not a file system layer"],
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

#[test]
fn missing_names_list_what_there_is() {
    let registry = Registry::start();
    let missing = format!("{}/r:missing", registry.addr());
    let sandbox = Sandbox::new();
    fails(&sandbox, &missing, &options(), &["not found", "does not exist there"]).unwrap();
    for tag in ["first", "second"] {
        registry.add_image("r", tag, &good());
    }
    fails(&sandbox, &missing, &options(), &["not found", "first, second"]).unwrap();
    for n in 0..30 {
        registry.add_image("r", &format!("v{n}"), &good());
    }
    fails(&sandbox, &missing, &options(), &["first, second", "and 12 more"]).unwrap();
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
