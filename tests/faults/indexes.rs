//! Image indexes: empty, circular, too deep, too large, and without the wanted platform.

use ocifs::image::ImageOptions;
use serde_json::{Value, json};

use crate::fixture::{Sandbox, Verdict, fails, good, name_in, open, opens, options, read};
use crate::support::image::{
    Built, Compression, ImageBuilder, OCI_INDEX, image_index, sha256, write_oci_index_layout,
    write_oci_layout,
};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn linux(architecture: &str) -> Value {
    json!({ "os": "linux", "architecture": architecture })
}

fn index_of(manifests: Value) -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
        .to_string()
        .into_bytes()
}

fn descriptor(bytes: &[u8]) -> Value {
    json!({ "mediaType": OCI_INDEX, "digest": sha256(bytes), "size": bytes.len() })
}

/// An image whose file `f` holds the name of its architecture.
fn image_for(architecture: &str) -> Built {
    ImageBuilder::new()
        .platform("linux", architecture, None)
        .layer(&tar(&[Entry::file("f", architecture)]), Compression::Gzip)
        .build()
}

#[test]
fn broken_indexes() {
    let image = good();
    let mut wrong_size = image.descriptor();
    wrong_size["size"] = json!(image.manifest.len() + 1);
    let mut too_large = image.descriptor();
    too_large["size"] = json!(5 << 20);
    let missing = json!({ "mediaType": OCI_INDEX, "digest": sha256(b"none"), "size": 4 });
    let none = sha256(b"none");
    let absent = [&none[7..]];
    let filler = " ".repeat(5 << 20).into_bytes();
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", index_of(json!([])), &["image index is empty"]),
        ("null", index_of(json!(null)), &["image index is empty"]),
        ("an object", index_of(json!({})), &["not valid JSON of its kind"]),
        ("numbers", index_of(json!([1, 2])), &["can't be used", "expected a descriptor"]),
        ("wrong size", index_of(json!([wrong_size])), &["its descriptor says"]),
        ("manifest of 5 MiB", index_of(json!([too_large])), &["5242880"]),
        ("missing manifest", index_of(json!([missing])), &absent),
        ("5 MiB", [index_of(json!([image.descriptor()])), filler].concat(), &["larger than 4 MiB"]),
    ];
    let mut verdict = Verdict::default();
    for (what, index, words) in rows {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "other", &image);
        registry.add_manifest("r", "t", OCI_INDEX, &index);
        let name = name_in(&registry);
        verdict.row(what, fails(&sandbox, &name, &options(), words));
        registry.add_image("r", "t", &image);
        verdict.row(what, opens(&sandbox, &name, &options()));
    }
    verdict.end();
}

/// A digest cannot name itself, so a circle has to lie about digests: it is found out by the
/// first, and a chain without lies ends at the limit.
#[test]
fn chains_and_circles() {
    let image = good();
    for depth in 1..=6 {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "other", &image);
        let mut inner = image.descriptor();
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes = index_of(json!([inner]));
            registry.add_manifest("r", "t", OCI_INDEX, &bytes);
            inner = descriptor(&bytes);
        }
        registry.add_manifest("r", "t", OCI_INDEX, &bytes);
        let name = name_in(&registry);
        match depth {
            1..=4 => opens(&sandbox, &name, &options()).unwrap(),
            _ => fails(&sandbox, &name, &options(), &["nested more than 4 deep"]).unwrap(),
        }
    }
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let (one, two) = (sha256(b"one"), sha256(b"two"));
    for (own, other) in [(&one, &two), (&two, &one)] {
        let index = index_of(json!([{ "mediaType": OCI_INDEX, "digest": other, "size": 232 }]));
        registry.add_manifest("r", own, OCI_INDEX, &index);
        registry.add_manifest("r", "t", OCI_INDEX, &index);
    }
    assert!(open(&name_in(&registry), &sandbox.cache(), &options()).is_err());
}

#[test]
fn platforms() {
    let images = ["arm64", "s390x"].map(image_for);
    let pairs = [(&images[0], linux("arm64")), (&images[1], linux("s390x"))];
    let (index, _) = image_index(&pairs);
    let sandbox = Sandbox::new();
    let registry = Registry::start();
    registry.add_manifest("r", "t", OCI_INDEX, &index);
    for image in &images {
        registry.add_image("r", "parts", image);
    }
    let layout = sandbox.path().join("layout");
    write_oci_index_layout(&layout, Some("t"), &pairs).unwrap();
    for name in [name_in(&registry), format!("oci:{}:t", layout.display())] {
        let sandbox = Sandbox::new();
        let with = |platform: &str| ImageOptions {
            platform: Some(platform.parse().unwrap()),
            ..options()
        };
        let words = ["linux/riscv64", "linux/arm64, linux/s390x", "ChoosePlatform"];
        fails(&sandbox, &name, &with("linux/riscv64"), &words).unwrap();
        fails(&sandbox, &name, &with("windows/arm64"), &["windows/arm64", "linux/s390x"]).unwrap();
        let image = open(&name, &sandbox.cache(), &with("linux/s390x")).unwrap();
        assert_eq!(read(&image, "f").unwrap(), b"s390x");
    }
    // The blobs of all but one platform are missing: what is there is said.
    let partial = sandbox.path().join("partial");
    write_oci_index_layout(&partial, Some("t"), &pairs).unwrap();
    let hex = &images[0].manifest_digest[7..];
    std::fs::remove_file(partial.join("blobs/sha256").join(hex)).unwrap();
    let options = ImageOptions { platform: Some("linux/arm64".parse().unwrap()), ..options() };
    let name = format!("oci:{}:t", partial.display());
    let error = open(&name, &sandbox.cache(), &options).unwrap_err();
    let words = ["lists linux/arm64", "is not there; there is linux/s390x"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

/// A file of a layout, its content (`None` for no file), and the words of the error.
type LayoutRow<'a> = (&'a str, Option<&'a [u8]>, &'a [&'a str]);

/// The files around the blobs of an OCI layout.
#[test]
fn broken_layouts() {
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    let name = format!("oci:{}:t", layout.display());
    fails(&sandbox, &name, &options(), &["layout"]).unwrap();
    let write = || write_oci_layout(&layout, &[(Some("t"), &good())]).unwrap();
    let rows: [LayoutRow<'_>; 9] = [
        ("oci-layout", Some(b"[]"), &["oci-layout"]),
        ("oci-layout", Some(b"{\"imageLayoutVersion\":\"2.0.0\"}"), &["unknown version 2.0.0"]),
        ("index.json", None, &["index.json"]),
        ("index.json", Some(b""), &["index.json"]),
        ("index.json", Some(b"[]"), &["index.json"]),
        ("index.json", Some(b"<html>"), &["index.json"]),
        ("index.json", Some(b"{\"manifests\":null}"), &["no image `t`"]),
        ("index.json", Some(&[b' '; 5 << 20]), &["index.json"]),
        (
            "index.json",
            Some(b"{\"manifests\":[{\"digest\":\"x\",\"size\":1}]}"),
            &["is not a digest"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (file, content, words) in rows {
        write();
        match content {
            Some(content) => std::fs::write(layout.join(file), content).unwrap(),
            None => std::fs::remove_file(layout.join(file)).unwrap(),
        }
        verdict.row(&format!("{file} {}", words[0]), fails(&sandbox, &name, &options(), words));
    }
    verdict.end();
    write();
    let other = format!("oci:{}:other", layout.display());
    fails(&sandbox, &other, &options(), &["no image `other`", "there is t"]).unwrap();
    opens(&sandbox, &name, &options()).unwrap();
}
