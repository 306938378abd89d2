//! Tests of reading documents.

use super::*;
use crate::digest::Digest;
use crate::json;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest(config_type: &str, layer_type: &str) -> Manifest {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{D}","size":1}},
            "layers":[{{"mediaType":"{layer_type}","digest":"{D}","size":2,"annotations":null}}]}}"#
    );
    match Document::parse(text.as_bytes(), None).unwrap() {
        Document::Manifest(m) => m,
        Document::Index(_) => panic!("parsed as an index"),
    }
}

#[test]
fn kinds_of_documents() {
    let index = br#"{"schemaVersion":2,"manifests":null}"#;
    assert!(matches!(Document::parse(index, None).unwrap(), Document::Index(_)));
    // The number decides nothing where there is more to go by.
    for number in ["1", "0", "\"2\"", "null", "1e999"] {
        let index = format!(r#"{{"schemaVersion":{number},"manifests":[]}}"#);
        assert!(matches!(Document::parse(index.as_bytes(), None).unwrap(), Document::Index(_)));
    }
    let announced = Some("application/vnd.oci.image.index.v1+json; charset=utf-8");
    assert!(matches!(Document::parse(b"{}", announced).unwrap(), Document::Index(_)));
    for (text, announced, word) in [
        (r#"{"schemaVersion":1}"#, None, "schema 1"),
        (r#"{"fsLayers":[]}"#, None, "schema 1"),
        (r#"{"schemaVersion":2,"config":{},"FSLayers":[]}"#, None, "schema 1"),
        ("{}", Some(media_type::DOCKER_SCHEMA1_SIGNED), "schema 1"),
        ("{}", None, "neither"),
        (r#"{"mediaType":"text/plain"}"#, None, "text/plain"),
        ("[", None, "JSON"),
        ("<html>", Some("text/html"), "JSON"),
    ] {
        let error = Document::parse(text.as_bytes(), announced).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let text = format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_MANIFEST);
    let error = Document::parse(text.as_bytes(), Some(media_type::OCI_INDEX)).unwrap_err();
    assert!(matches!(error, Error::Contradiction { .. }));
}

#[test]
fn images_and_artifacts() {
    for (config, layer) in [
        (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (media_type::DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (media_type::DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar"),
    ] {
        manifest(config, layer).check_image().unwrap();
    }
    for (config, layer, word) in [
        ("application/vnd.cncf.helm.config.v1+json", "x", "helm"),
        (media_type::DOCKER_CONFIG, "application/vnd.ollama.image.model", "ollama"),
        (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encr"),
    ] {
        let error = manifest(config, layer).check_image().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn configs() {
    let text =
        format!(r#"{{"os":"linux","architecture":"arm64","rootfs":{{"diff_ids":["{D}"]}}}}"#);
    let config = ImageConfig::parse(text.as_bytes(), 1).unwrap();
    assert_eq!(config.platform.to_string(), "linux/arm64");
    let error = ImageConfig::parse(text.as_bytes(), 2).unwrap_err().to_string();
    assert_eq!(error, "the config lists 1 diff IDs for 2 layers");
    assert!(ImageConfig::parse(b"{}", 0).is_err());
    assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":null}}"#, 0).is_ok());
}

#[test]
fn embedded_documents() {
    let with = |data: &str, size: u64| {
        let digest = Digest::sha256(b"{}");
        let text = format!(r#"{{"digest":"{digest}","size":{size},"data":{data}}}"#);
        json::from_slice::<Descriptor>(text.as_bytes()).unwrap().embedded()
    };
    assert_eq!(with("\"e30=\"", 2).as_deref(), Some(&b"{}"[..]));
    for (data, size) in
        [("null", 2), ("\"\"", 2), ("\"e30=\"", 3), ("\"e30\"", 2), ("\"W10=\"", 2), ("\"?\"", 2)]
    {
        assert_eq!(with(data, size), None, "{data}");
    }
}
