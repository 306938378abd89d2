//! Layer indexes that travel: built here, pushed beside the image, and used where nobody has seen
//! the layers. Nothing binds them to the image, so half of this is about whom to believe.

use std::fs;

use ocifs::image::{self, Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;
use ocifs::tree::Symlinks;
use serde_json::{Value, json};

use crate::external_fixture::{
    Served, bulk, bulk_content, entries, open_fresh, open_in, proofs, proving, read_4k, read_at,
    same, shown, trusting, upper_entries,
};
use crate::fixture::{Sandbox, noise, open, options, read};
use crate::logs;
use crate::support::image::{Built, Compression, ImageBuilder, OCI_MANIFEST, sha256};
use crate::support::registry::{Fault, Referrers, Times};
use crate::support::tarball::{Entry, Kind, tar};

const TYPE: &str = "application/vnd.ocifs.layer-index.v1";

/// Content that deflate makes something of, so that checkpoints have windows.
fn prose(length: usize, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 8);
    for word in noise(length, seed).chunks_exact(2) {
        let number = u16::from_le_bytes([word[0], word[1]]) % 3000;
        out.extend_from_slice(format!("{number:x} ").as_bytes());
        if out.len() >= length {
            break;
        }
    }
    out.truncate(length);
    out
}

/// The file that is read in pieces, and its length.
const LONG: &str = "long";
const LONG_BYTES: usize = 7 << 20;

/// A layer of one gzip member in several spans, of which all but the first need a window.
fn long_tar() -> Vec<u8> {
    tar(&[Entry::file(LONG, prose(LONG_BYTES, 5)), Entry::file("last", "last")])
}

fn long_image() -> Built {
    ImageBuilder::new().layer(&long_tar(), Compression::Gzip).build()
}

fn image() -> Built {
    ImageBuilder::new()
        .layer(&tar(&entries(1)), Compression::Gzip)
        .layer(&tar(&upper_entries(2)), Compression::Zstd)
        .build()
}

/// Serves an image whose indexes another user has pushed; the artifact's digest.
fn published(built: &Built, referrers: Referrers) -> (Served, String) {
    let served = Served::new(built);
    served.registry.set_referrers(referrers);
    let artifact = push(&served.name);
    (served, artifact)
}

fn push(name: &str) -> String {
    let elsewhere = Sandbox::new();
    let name: ImageName = name.parse().unwrap();
    let publication = image::build_indexes(&name, &elsewhere.cache(), &options(), &Quiet).unwrap();
    image::push_indexes(&publication, &name, &options()).unwrap().to_string()
}

/// The manifest of an artifact.
fn manifest(served: &Served, digest: &str) -> Value {
    serde_json::from_slice(&served.registry.manifest("r", digest).unwrap()).unwrap()
}

/// Puts another artifact in the place of the one that was pushed.
fn replace(served: &Served, artifact: &str, change: impl FnOnce(&mut Value)) {
    let mut manifest = manifest(served, artifact);
    change(&mut manifest);
    let image = manifest["subject"]["digest"].as_str().unwrap().to_owned();
    let bytes = manifest.to_string().into_bytes();
    served.registry.set_referrers(Referrers::Absent);
    list(served, &image, &[&bytes]);
}

/// Makes these the artifacts of an image, the latest last.
fn list(served: &Served, image: &str, artifacts: &[&[u8]]) {
    let entries: Vec<Value> = artifacts
        .iter()
        .map(|bytes| {
            served.registry.add_manifest("r", &sha256(bytes), OCI_MANIFEST, bytes);
            json!({
                "mediaType": OCI_MANIFEST, "digest": sha256(bytes), "size": bytes.len(),
                "artifactType": TYPE,
            })
        })
        .collect();
    let index = "application/vnd.oci.image.index.v1+json";
    let list = json!({ "schemaVersion": 2, "mediaType": index, "manifests": entries });
    let tag = image.replace(':', "-");
    served.registry.add_manifest("r", &tag, index, list.to_string().as_bytes());
}

fn layer_requests(served: &Served, built: &Built) -> usize {
    built.layer_digests().iter().map(|digest| served.asked_of(digest).0).sum()
}

#[test]
fn a_mount_elsewhere_reads_no_layer() {
    let built = image();
    for (referrers, lists) in [(Referrers::Filtered, 1), (Referrers::Absent, 2)] {
        let (served, artifact) = published(&built, referrers);
        let pushed = manifest(&served, &artifact);
        assert_eq!(pushed["artifactType"], TYPE);
        assert_eq!(pushed["subject"]["digest"], built.manifest_digest);
        let opened = served.open_with(&trusting());
        assert_eq!(proofs(&opened), ["hint", "hint"], "{referrers:?}");
        let asked = served.asked();
        // Manifest, config, the list, the artifact's manifest, and a head a layer.
        assert_eq!(asked.len(), 2 + lists + 1 + 2, "{referrers:?}: {asked:?}");
        assert_eq!(layer_requests(&served, &built), 0);
        let heads: u64 = pushed["layers"].as_array().unwrap().iter().map(head_size).sum();
        let blobs = asked.iter().filter(|request| request.range.is_some());
        assert_eq!(blobs.map(|request| request.body_bytes_sent).sum::<u64>(), heads);
        served.registry.clear_log();
        read_4k(&opened, 1, 20);
        assert_eq!(layer_requests(&served, &built), 1);
        let proven = open_fresh(&served.name, &proving());
        same("pushed", &shown(&opened), &shown(&proven));
        let again = served.open_with(&trusting());
        assert_eq!((proofs(&again), served.asked().len()), (vec!["hint", "hint"], 1));
        let offline = ImageOptions { offline: true, ..trusting() };
        let offline = served.open_with(&offline);
        same("offline", &shown(&offline), &shown(&proven));
        assert!(served.asked().is_empty());
    }
}

fn head_size(descriptor: &Value) -> u64 {
    descriptor["annotations"]["vnd.ocifs.head.size"].as_str().unwrap().parse().unwrap()
}

/// A read in the middle of a stream needs the bytes and the one window before them.
#[test]
fn a_cold_read_is_a_range_and_a_window() {
    let built = long_image();
    let (served, artifact) = published(&built, Referrers::Filtered);
    let opened = served.open_with(&trusting());
    served.registry.clear_log();
    let content = prose(LONG_BYTES, 5);
    read_long(&opened, 5 << 20, &content).unwrap();
    let (of_layer, bytes) = served.asked_of(&built.layer_digests()[0]);
    assert!(of_layer == 1 && bytes <= 900 << 10, "{bytes}");
    let blob = manifest(&served, &artifact)["layers"][0]["digest"].clone();
    let (of_index, bytes) = served.asked_of(blob.as_str().unwrap());
    assert!(of_index == 1 && bytes <= 32 << 10, "{bytes}");
    assert_eq!(served.asked().len(), 2, "{:?}", served.asked());
}

/// Reads 4 KiB of the long file and compares them.
fn read_long(image: &Image, offset: usize, content: &[u8]) -> Result<(), String> {
    let tree = image.filesystem().tree();
    let ino = tree.resolve(LONG.as_bytes(), Symlinks::Follow).unwrap();
    let bytes = read_at(image, ino, offset as u64, 4096)?;
    assert!(bytes == content[offset..offset + 4096], "wrong bytes at {offset}");
    Ok(())
}

/// Without a word of trust nothing of it is as much as asked for.
#[test]
fn nothing_is_trusted_unasked() {
    let built = image();
    let (served, _) = published(&built, Referrers::Filtered);
    let opened = served.open();
    assert_eq!(proofs(&opened), ["full", "full"]);
    let asked = served.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(!asked.iter().any(|request| request.path.contains("referrers")));
    // What was proven here is never replaced by what others say.
    let files = |kind| -> Vec<Vec<u8>> {
        served.sandbox.cached(kind).iter().map(|file| fs::read(file).unwrap()).collect()
    };
    let before = files("layers");
    let again = served.open_with(&trusting());
    assert_eq!((proofs(&again), served.asked().len()), (vec!["full", "full"], 1));
    assert!(files("layers") == before && files("hints").is_empty());
}

#[test]
fn pushing_twice_changes_nothing() {
    for referrers in [Referrers::Filtered, Referrers::Absent] {
        let (served, first) = published(&image(), referrers);
        assert_eq!(push(&served.name), first);
        let tag = image().manifest_digest.replace(':', "-");
        match served.registry.manifest("r", &tag) {
            Some(list) => {
                let list: Value = serde_json::from_slice(&list).unwrap();
                assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
                assert_eq!(list["manifests"][0]["digest"], first);
            }
            None => assert_eq!(referrers, Referrers::Filtered),
        }
    }
}

/// Changes the layers of an artifact; the blobs are those that were pushed.
type Change<'a> = &'a dyn Fn(&Served, &mut Value);

/// An artifact that is of no use costs its requests: the layers are streamed, and it is said why.
#[test]
fn artifacts_that_cannot_be_used() {
    let annotation = |layer: &mut Value, name: &str, value: &str| {
        layer["annotations"][format!("vnd.ocifs.{name}")] = json!(value);
    };
    let other = ImageBuilder::new().layer(&tar(&entries(3)), Compression::Gzip).build();
    let (elsewhere, other_artifact) = published(&other, Referrers::Filtered);
    let other_layer = manifest(&elsewhere, &other_artifact)["layers"][0].clone();
    let other_blob = elsewhere.registry.blob("r", other_layer["digest"].as_str().unwrap()).unwrap();
    let built = ImageBuilder::new().layer(&tar(&entries(1)), Compression::Gzip).build();
    let digest = built.layer_digests().remove(0);
    // The same blob in an image that says something else of what is in it.
    let rows: [(&str, bool, Change); 9] = [
        ("index of another layer", true, &|served, layer| {
            served.registry.add_blob("r", other_layer["digest"].as_str().unwrap(), &other_blob);
            *layer = other_layer.clone();
            annotation(layer, "layer.digest", &digest);
        }),
        ("says so itself", false, &|_, layer| {
            annotation(layer, "layer.digest", &sha256(b"another"));
        }),
        ("head's digest", true, &|_, layer| annotation(layer, "head.digest", &sha256(b""))),
        ("shorter head", true, &|_, layer| {
            let size = head_size(layer) - 1;
            annotation(layer, "head.size", &size.to_string());
        }),
        ("head of nothing", false, &|_, layer| annotation(layer, "head.size", "0")),
        ("head beyond the blob", false, &|_, layer| {
            annotation(layer, "head.size", &u64::MAX.to_string());
        }),
        ("no annotations", false, &|_, layer| layer["annotations"] = json!({})),
        ("no blob", true, &|_, layer| layer["digest"] = json!(sha256(b"none"))),
        ("a damaged head", true, &|served, layer| {
            let name = layer["digest"].as_str().unwrap();
            let mut blob = served.registry.blob("r", name).unwrap();
            blob[50] ^= 1;
            served.registry.add_blob("r", name, &blob);
        }),
    ];
    for (what, is_said, change) in rows {
        let (served, artifact) = published(&built, Referrers::Filtered);
        replace(&served, &artifact, |manifest| change(&served, &mut manifest["layers"][0]));
        let before = logs::with(&digest).len();
        let opened = served.open_with(&trusting());
        assert_eq!(proofs(&opened), ["full"], "{what}");
        let said = logs::with(&digest).split_off(before);
        let said =
            said.iter().any(|line| line.contains("layer index in the registry can't be used"));
        assert_eq!(said, is_said, "{what}");
        read_4k(&opened, 1, 20);
    }
    // Of the same blob, but for an image with another diff ID.
    let layer = crate::support::image::Layer::new(&tar(&entries(1)), Compression::Gzip);
    let lying = ImageBuilder::new().push_layer(layer.diff_id(&sha256(b"another"))).build();
    let (served, artifact) = published(&built, Referrers::Filtered);
    let index = served.registry.manifest("r", &artifact).unwrap();
    served.registry.set_referrers(Referrers::Absent);
    served.registry.add_image("r", "t", &lying);
    list(&served, &lying.manifest_digest, &[&index]);
    let error = open(&served.name, &served.sandbox.cache(), &trusting()).unwrap_err();
    assert!(error.contains("does not match the diff ID"), "{error}");
    // A useless one pushed later does not hide an older one.
    let (served, artifact) = published(&built, Referrers::Filtered);
    let good = served.registry.manifest("r", &artifact).unwrap();
    let mut bad = manifest(&served, &artifact);
    annotation(&mut bad["layers"][0], "head.digest", &sha256(b""));
    served.registry.set_referrers(Referrers::Absent);
    list(&served, &built.manifest_digest, &[&good, bad.to_string().as_bytes()]);
    let opened = served.open_with(&trusting());
    assert_eq!(proofs(&opened), ["hint"]);
    same("older", &shown(&opened), &shown(&open_fresh(&served.name, &proving())));
}

/// Changes the windows of the long image's index in the registry.
fn with_windows(change: impl Fn(&mut [u8])) -> (Served, Built) {
    let built = long_image();
    let (served, artifact) = published(&built, Referrers::Filtered);
    let layer = manifest(&served, &artifact)["layers"][0].clone();
    let digest = layer["digest"].as_str().unwrap();
    let mut blob = served.registry.blob("r", digest).unwrap();
    change(&mut blob[head_size(&layer) as usize..]);
    served.registry.add_blob("r", digest, &blob);
    (served, built)
}

/// Windows have no digest of their own: what is decoded with them has, and there is another way to
/// the bytes than through them.
#[test]
fn damaged_windows() {
    let content = prose(LONG_BYTES, 5);
    let flip = |tail: &mut [u8]| tail.iter_mut().for_each(|byte| *byte ^= 0x55);
    // Windows are zstd frames or bytes as they are; either way something may still decode.
    let scatter = |tail: &mut [u8]| tail.iter_mut().step_by(97).for_each(|byte| *byte ^= 1);
    for (what, change) in [("all", &flip as &dyn Fn(&mut [u8])), ("some", &scatter)] {
        let (served, built) = with_windows(change);
        let opened = served.open_with(&trusting());
        assert_eq!(proofs(&opened), ["hint"], "{what}");
        served.registry.clear_log();
        for offset in [6 << 20, 2 << 20, 4 << 20] {
            read_long(&opened, offset, &content).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        // Twice for each place.
        assert!(served.asked_of(&built.layer_digests()[0]).0 <= 6, "{what}: {:?}", served.asked());
        same(what, &shown(&opened), &shown(&open_fresh(&served.name, &proving())));
    }
}

/// Artifacts go away. What was mounted by them stays readable, by a way that needs no window.
#[test]
fn windows_that_are_gone() {
    let content = prose(LONG_BYTES, 5);
    let built = long_image();
    for fault in [None, Some(Fault::Status(404, Vec::new(), Vec::new()))] {
        let (served, artifact) = published(&built, Referrers::Absent);
        drop(served.open_with(&trusting()));
        let layer = manifest(&served, &artifact)["layers"][0].clone();
        match &fault {
            None => list(&served, &built.manifest_digest, &[]),
            Some(fault) => {
                let blob = layer["digest"].as_str().unwrap();
                served.registry.fault(("GET", blob, Times::Always), fault.clone());
            }
        }
        let again = served.open_with(&trusting());
        assert_eq!(proofs(&again), ["hint"]);
        read_long(&again, 5 << 20, &content).unwrap_or_else(|e| panic!("{fault:?}: {e}"));
    }
}

/// An image in the repository `r`, whose referrer has a head that describes another tar of the same
/// size; the image, and the image that has the other tar.
fn forged() -> (Served, Built, Built) {
    let built = ImageBuilder::new().layer(&tar(&entries(1)), Compression::None).build();
    let mut forged = entries(1);
    forged[2].path = b"usr/evil1".to_vec();
    forged[2].kind = Kind::File(noise(90_000, 77));
    forged[5].kind = Kind::Symlink(b"evil1".to_vec());
    let forged = tar(&forged);
    assert_eq!(forged.len() as u64, built.layer_sizes()[0], "the lie has the right size");
    let forged = ImageBuilder::new().layer(&forged, Compression::None).build();

    let (served, artifact) = published(&forged, Referrers::Filtered);
    served.registry.add_image("r", "t", &built);
    // The head names its layer by digest and diff ID: those are easy to change.
    let mut manifest = manifest(&served, &artifact);
    let layer = &mut manifest["layers"][0];
    let blob = served.registry.blob("r", layer["digest"].as_str().unwrap()).unwrap();
    let mut head = zstd::decode_all(&blob[..head_size(layer) as usize]).unwrap();
    let from: Vec<u8> = digest_bytes(&forged.layer_digests()[0]);
    let to: Vec<u8> = digest_bytes(&built.layer_digests()[0]);
    let places: Vec<usize> =
        (0..head.len() - 32).filter(|at| head[*at..*at + 32] == from).collect();
    assert_eq!(places.len(), 2, "the blob's and the tar's, which are the same here");
    places.iter().for_each(|at| head[*at..*at + 32].copy_from_slice(&to));
    // And so is the checksum behind it.
    let end = head.len() - 32;
    let checksum = blake3::hash(&head[..end]);
    head[end..].copy_from_slice(checksum.as_bytes());
    let head = zstd::encode_all(&head[..], 3).unwrap();
    let mut blob = blob[head_size(layer) as usize..].to_vec();
    blob.splice(0..0, head.iter().copied());
    layer["digest"] = json!(sha256(&blob));
    layer["size"] = json!(blob.len());
    layer["annotations"] = json!({
        "vnd.ocifs.layer.digest": built.layer_digests()[0],
        "vnd.ocifs.head.size": head.len().to_string(),
        "vnd.ocifs.head.digest": sha256(&head),
    });
    manifest["subject"] = built.descriptor();
    served.registry.add_blob("r", &sha256(&blob), &blob);
    served.registry.set_referrers(Referrers::Absent);
    list(&served, &built.manifest_digest, &[manifest.to_string().as_bytes()]);
    (served, built, forged)
}

/// What a referrer says of an image in one repository counts for no other repository.
#[test]
fn a_referrer_speaks_for_its_repository_only() {
    let (served, built, _) = forged();
    served.registry.add_image("good/app", "t", &built);
    let opened = served.open_with(&trusting());
    assert!(crate::fixture::exists(&opened, "usr/evil1"), "the premise: it is believed there");
    let name = served.name.replace("/r:", "/good/app:");
    let cache = served.sandbox.cache();
    let elsewhere = open_in(&cache, &name, &trusting());
    assert_eq!(proofs(&elsewhere), ["full"]);
    assert!(!crate::fixture::exists(&elsewhere, "usr/evil1"));
    same("elsewhere", &shown(&elsewhere), &shown(&open_fresh(&name, &proving())));
}

/// The cache has the content that a referrer's index names, because another image has it; the index
/// still brings nothing but bytes of its own layer.
#[test]
fn a_referrer_brings_no_bytes_of_another_layer() {
    let (served, _, other) = forged();
    served.registry.add_image("planted", "t", &other);
    let cache = served.sandbox.cache();
    let planted = open_in(&cache, &served.name.replace("/r:", "/planted:"), &options());
    assert!(read(&planted, "usr/evil1").unwrap() == noise(90_000, 77), "the premise: it is cached");
    let opened = open_in(&cache, &served.name, &trusting());
    assert_eq!(proofs(&opened), ["hint"]);
    assert!(crate::fixture::exists(&opened, "usr/evil1"));
    read(&opened, "usr/evil1").unwrap_err();
    // What the layer itself has is read from it, and then from the cache.
    for round in 0..2 {
        assert!(read(&opened, &bulk(1, 40)).unwrap() == bulk_content(1, 40), "round {round}");
    }
}

/// A head that describes another tar: names and attributes are what it says, as the user allowed,
/// but bytes that are not in the layer are never shown, and `verify` finds it out.
#[test]
fn forged_heads() {
    let (served, _, _) = forged();
    let opened = served.open_with(&trusting());
    assert_eq!(proofs(&opened), ["hint"]);
    assert!(crate::fixture::exists(&opened, "usr/evil1"));
    read(&opened, "usr/evil1").unwrap_err();
    assert!(read(&opened, &bulk(1, 40)).unwrap() == bulk_content(1, 40));
    // The index is not used again: it has contradicted its layer.
    let mut served = served;
    assert_eq!(proofs(&served.open_with(&trusting())), ["full"]);
    served.empty_cache();

    let name: ImageName = served.name.parse().unwrap();
    for round in 0..2 {
        let cache = served.sandbox.cache();
        let found = image::verify(&name, &cache, &trusting(), &Quiet).unwrap();
        assert!(!found.is_good(), "round {round}");
        let paths: Vec<&str> =
            found.layers[0].differences.iter().map(|d| d.path.as_str()).collect();
        for path in ["usr/evil1", "usr/tool1", "usr/other1"] {
            assert!(paths.contains(&path), "round {round}: {path}: {paths:?}");
        }
    }
    // Whom nobody trusts, nobody hears.
    let found = image::verify(&name, &served.sandbox.cache(), &options(), &Quiet).unwrap();
    assert!(found.is_good());
    let opened = served.open_with(&trusting());
    assert_eq!(proofs(&opened), ["full"]);
    same("after", &shown(&opened), &shown(&open_fresh(&served.name, &proving())));
}

fn digest_bytes(digest: &str) -> Vec<u8> {
    let hex = &digest[7..];
    (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}
