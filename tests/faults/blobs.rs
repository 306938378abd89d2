//! Layers whose blob and descriptor disagree, or whose stream is damaged.
//!
//! Whatever a registry or a disk did to a blob, the digest tells, and the message must be that
//! cause and not what the decoder stumbled over.

use serde_json::json;
use sha2::{Digest, Sha512};

use crate::fixture::{
    GOOD, Sandbox, Verdict, fails, good, image_of, image_with, name_in, open, opens, options, read,
    refuses,
};
use crate::support::image::{Built, Compression, ImageBuilder, Layer, OCI_MANIFEST, sha256};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// What is done to a blob.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// The archive that the broken layers hold: more than a span, of content that compresses a bit.
fn archive() -> Vec<u8> {
    let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    tar(&[Entry::file("f", text)])
}

/// An image whose layer blob was changed after the descriptor had been made.
fn changed(compression: Compression, change: impl Fn(&mut Vec<u8>)) -> Built {
    let mut image = image_of(&archive(), compression);
    let digest = image.layer_digests().remove(0);
    change(image.blobs.get_mut(&digest).unwrap());
    image
}

#[test]
fn damaged_blobs_are_told_by_digest_or_size() {
    let mut verdict = Verdict::default();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let change: [(&str, Change<'_>, &[&str]); 6] = [
            ("first byte flipped", &|b| b[0] ^= 0xff, &["does not match its digest"]),
            ("middle byte flipped", &|b| flip(b, 2), &["does not match its digest"]),
            ("last byte flipped", &|b| *b.last_mut().unwrap() ^= 1, &["does not match its digest"]),
            ("cut in half", &|b| b.truncate(b.len() / 2), &["bytes", "its descriptor says"]),
            ("emptied", &|b| b.clear(), &["bytes", "its descriptor says"]),
            ("made longer", &|b| b.push(0), &["bytes", "its descriptor says"]),
        ];
        for (what, change, words) in change {
            let image = changed(compression, change);
            let what = format!("{compression:?}, {what}");
            verdict.row(&what, refuses(&image, &options(), words));
        }
    }
    verdict.end();
}

fn flip(bytes: &mut [u8], part: usize) {
    let at = bytes.len() / part;
    bytes[at] ^= 0xff;
}

#[test]
fn descriptors_and_streams_that_lie_are_refused() {
    let archive = archive();
    let zstd = Layer::new(&archive, Compression::Zstd);
    let gzip = || Layer::new(&archive, Compression::Gzip);
    let length = image_with(gzip()).blobs.values().map(Vec::len).max().unwrap() as u64;
    // Damage that the digest covers: the builder of the layer made it broken.
    let broken = |compression, change: &dyn Fn(&mut Vec<u8>)| {
        let mut blob = crate::support::image::compress(&archive, compression);
        change(&mut blob);
        Layer::from_blob(blob, "gzip", &archive)
    };
    let other = sha256(b"other");
    let diff_id = ["diff ID", &other];
    let rows: Vec<(&str, Layer, &[&str])> = vec![
        ("size too small", gzip().size(length - 1), &["its descriptor says"]),
        ("size too large", gzip().size(length + 1), &["its descriptor says"]),
        ("size 0", gzip().size(0), &["its descriptor says"]),
        ("size 2^63", gzip().size(1 << 63), &["9223372036854775808 bytes"]),
        ("size 2^64 - 1", gzip().size(u64::MAX), &["18446744073709551615 bytes"]),
        ("diff ID", gzip().diff_id(&other), &diff_id),
        ("diff ID of zstd", zstd.diff_id(&other), &diff_id),
        (
            "gzip cut",
            broken(Compression::Gzip, &|b| b.truncate(b.len() - 9)),
            &["gzip stream ends too early"],
        ),
        (
            "gzip checksum",
            broken(Compression::Gzip, &|b| flip_at_end(b, 8)),
            &["corrupt gzip stream"],
        ),
        (
            "zstd cut",
            broken(Compression::Zstd, &|b| b.truncate(b.len() - 9)),
            &["zstd stream ends too early"],
        ),
        ("zstd damaged", broken(Compression::Zstd, &|b| b[6] ^= 0xff), &[]),
        ("bzip2", Layer::from_blob(b"BZh91AY&SY...".to_vec(), "", &archive), &["bzip2"]),
        ("xz", Layer::from_blob(b"\xfd7zXZ\0\0\x04....".to_vec(), "", &archive), &["xz"]),
        ("not a tar", Layer::from_blob(b"hello".repeat(300), "", b"hello"), &["no tar but text"]),
        (
            "encrypted",
            gzip().media_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            &["encrypted"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, layer, words) in rows {
        verdict.row(what, refuses(&image_with(layer), &options(), words));
    }
    verdict.end();
}

fn flip_at_end(bytes: &mut [u8], from_end: usize) {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
}

/// One bad layer between good ones: those that are right may stay in the cache, and the bad one's
/// bytes are gone.
#[test]
fn only_the_bad_layer_of_several_is_dropped() {
    let layers: Vec<Vec<u8>> =
        (0..3u8).map(|n| tar(&[Entry::file(format!("f{n}"), vec![n; 100_000])])).collect();
    let image = layers
        .iter()
        .fold(ImageBuilder::new(), |builder, layer| builder.layer(layer, Compression::Gzip));
    let right = image.build();
    let mut wrong = right.clone();
    let bad = right.layer_digests()[1].clone();
    flip(wrong.blobs.get_mut(&bad).unwrap(), 2);

    let sandbox = Sandbox::new();
    let registry = Registry::start();
    registry.add_image("r", "t", &wrong);
    let error = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap_err();
    assert!(error.contains(&bad) && error.contains("does not match"), "{error}");
    let diff_id = right.diff_ids()[1].replace(':', "-");
    for (kind, name) in [("layers", bad.replace(':', "-")), ("diffs", diff_id)] {
        let files = sandbox.cached(kind);
        assert!(!files.iter().any(|path| path.ends_with(&name)), "{kind}: {files:?}");
    }
    // A span is a whole small layer here, so that each layer index stands for one span.
    assert_eq!(sandbox.cached("spans").len(), sandbox.cached("layers").len());

    registry.add_image("r", "t", &right);
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    for n in 0..3u8 {
        assert_eq!(read(&image, &format!("f{n}")).unwrap(), vec![n; 100_000]);
    }
}

#[test]
fn manifest_and_config_are_checked() {
    let sandbox = Sandbox::new();
    let registry = Registry::start();
    let (image, other) = (good(), image_of(&archive(), Compression::None));
    registry.add_image("r", "t", &image);
    // Another manifest under the digest that the user wrote.
    registry.add_manifest("r", &image.manifest_digest, OCI_MANIFEST, &other.manifest);
    let pinned = format!("{}/r@{}", registry.addr(), image.manifest_digest);
    let words = ["does not match its digest", &image.manifest_digest[..]];
    fails(&sandbox, &pinned, &options(), &words).unwrap();
    registry.add_manifest("r", &image.manifest_digest, OCI_MANIFEST, &image.manifest);
    opens(&sandbox, &pinned, &options()).unwrap();

    let config = sha256(&image.config);
    let mut verdict = Verdict::default();
    let changes: [(&str, Change<'_>, &str); 3] = [
        ("config changed", &|b| flip(b, 2), "does not match its digest"),
        ("config cut", &|b| b.truncate(10), "its descriptor says"),
        ("config longer", &|b| b.push(b' '), "its descriptor says"),
    ];
    for (what, change, words) in changes {
        let mut bad = good();
        change(bad.blobs.get_mut(&config).unwrap());
        verdict.row(what, refuses(&bad, &options(), &[&config, words]));
    }
    verdict.end();
}

fn sha512(bytes: &[u8]) -> String {
    let hex: String = Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

#[test]
fn digest_algorithms() {
    let sandbox = Sandbox::new();
    let registry = Registry::start();
    let name = name_in(&registry);
    let archive = tar(&[Entry::file("f", GOOD)]);
    let image = image_with(
        Layer::new(&archive, Compression::None)
            .digest(&sha512(&archive))
            .diff_id(&sha512(&archive)),
    );
    registry.add_image("r", "t", &image);
    registry.add_manifest("r", &sha512(&image.manifest), OCI_MANIFEST, &image.manifest);
    for name in [name.clone(), format!("{}/r@{}", registry.addr(), sha512(&image.manifest))] {
        let sandbox = Sandbox::new();
        opens(&sandbox, &name, &options()).unwrap();
        registry.add_image("r", "t", &image);
    }
    // A wrong SHA-512 is found out like any other.
    let wrong = sha512(b"other");
    let bad = image_with(Layer::new(&archive, Compression::None).digest(&wrong));
    registry.add_image("r", "t", &bad);
    fails(&sandbox, &name, &options(), &["does not match its digest", &wrong]).unwrap();

    let hex = "0".repeat(64);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["digest"] = json!(format!("blake3:{hex}"));
    registry.add_manifest("r", "t", OCI_MANIFEST, manifest.to_string().as_bytes());
    fails(&sandbox, &name, &options(), &["blake3", "not supported"]).unwrap();
    let pinned = format!("{}/r@blake3:{hex}", registry.addr());
    fails(&sandbox, &pinned, &options(), &["blake3", "not supported"]).unwrap();
    for digest in ["sha256:abc".to_owned(), format!("sha256:{}", "A".repeat(64))] {
        manifest["layers"][0]["digest"] = json!(digest);
        registry.add_manifest("r", "t", OCI_MANIFEST, manifest.to_string().as_bytes());
        fails(&sandbox, &name, &options(), &["hexadecimal"]).unwrap();
    }
}
