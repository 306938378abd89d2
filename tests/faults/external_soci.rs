//! Layers with ztocs of SOCI: bound by the image's manifest, or only lying beside it.

use ocifs::image;
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;
use ocifs::tree::Symlinks;
use serde_json::{Value, json};

use crate::external_fixture::{
    FEW, Served, bulk, bulk_content, entries, open_fresh, proofs, proving, read_4k, read_at, same,
    shown, trusting, upper_entries,
};
use crate::fixture::{Verdict, open, options, read};
use crate::logs;
use crate::support::deflate::walk;
use crate::support::image::{
    Built, Compression, ImageBuilder, Layer, OCI_MANIFEST, compress, gzip_all_fields, sha256,
};
use crate::support::registry::Referrers;
use crate::support::tarball::Entry;
use crate::support::ztoc::{POINT, Points, Ztoc, tar_with_metadata};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const V1: &str = "application/vnd.amazon.soci.index.v1+json";
const V2: &str = "application/vnd.amazon.soci.index.v2+json";
const BOUND: &str = "com.amazon.soci.index-digest";

/// Uncompressed bytes of a span.
const SPAN: usize = 200_000;

/// A layer and its ztoc.
struct Indexed {
    blob: Vec<u8>,
    tar: Vec<u8>,
    suffix: &'static str,
    ztoc: Ztoc,
}

impl Indexed {
    fn gzip(entries: &[Entry]) -> Indexed {
        let (tar, metadata) = tar_with_metadata(entries);
        let blob = compress(&tar, Compression::Gzip);
        let ztoc = Ztoc::gzip(&metadata, &blob, SPAN, Points::Soci);
        Indexed { blob, tar, suffix: "gzip", ztoc }
    }

    fn plain(entries: &[Entry]) -> Indexed {
        let (tar, metadata) = tar_with_metadata(entries);
        let ztoc = Ztoc::plain(&metadata, &tar, SPAN);
        Indexed { blob: tar.clone(), tar, suffix: "", ztoc }
    }

    fn layer(&self) -> Layer {
        Layer::from_blob(self.blob.clone(), self.suffix, &self.tar)
    }
}

/// A SOCI index manifest.
fn soci_index(kind: &str, layers: &[&Indexed], subject: Option<&Built>) -> Vec<u8> {
    let ztoc = |layer: &&Indexed| {
        let bytes = layer.ztoc.encode();
        json!({
            "mediaType": "application/octet-stream", "digest": sha256(&bytes), "size": bytes.len(),
            "annotations": {
                "com.amazon.soci.image-layer-digest": sha256(&layer.blob),
                "com.amazon.soci.span-size": SPAN.to_string(),
            },
        })
    };
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
        "config": { "mediaType": kind, "digest": sha256(b"{}"), "size": 2 },
        "layers": layers.iter().map(ztoc).collect::<Vec<Value>>(),
    });
    if let Some(image) = subject {
        manifest["subject"] = image.descriptor();
    }
    manifest.to_string().into_bytes()
}

fn builder(layers: &[&Indexed]) -> ImageBuilder {
    layers.iter().fold(ImageBuilder::new(), |image, layer| image.push_layer(layer.layer()))
}

fn add_ztocs(served: &Served, layers: &[&Indexed]) {
    for layer in layers {
        let bytes = layer.ztoc.encode();
        served.registry.add_blob("r", &sha256(&bytes), &bytes);
    }
}

/// An image whose manifest names its SOCI index.
fn bound(layers: &[&Indexed]) -> Served {
    let index = soci_index(V2, layers, None);
    let served = Served::new(&builder(layers).annotation(BOUND, &sha256(&index)).build());
    served.registry.add_manifest("r", &sha256(&index), OCI_MANIFEST, &index);
    add_ztocs(&served, layers);
    served
}

/// An image that a SOCI index refers to, in a list of the API or in the tag that stands in.
fn referred(layers: &[&Indexed], referrers: Referrers) -> Served {
    let built = builder(layers).build();
    let served = Served::new(&built);
    let index = soci_index(V1, layers, Some(&built));
    served.registry.add_manifest("r", &sha256(&index), OCI_MANIFEST, &index);
    served.registry.set_referrers(referrers);
    if referrers == Referrers::Absent {
        list_by_tag(&served, &built, &index);
    }
    add_ztocs(&served, layers);
    served
}

/// Lists a SOCI index under the tag that stands in for the referrers of an image.
fn list_by_tag(served: &Served, image: &Built, index: &[u8]) {
    let list = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{
            "mediaType": OCI_MANIFEST, "digest": sha256(index), "size": index.len(),
            "artifactType": V1,
        }],
    });
    let tag = image.manifest_digest.replace(':', "-");
    served.registry.add_manifest("r", &tag, INDEX, list.to_string().as_bytes());
}

fn paths(served: &Served) -> Vec<String> {
    served.asked().into_iter().map(|logged| logged.path).collect()
}

/// Checks an image that was opened by its ztocs against its tars.
fn is_right(what: &str, served: &Served, by_ztoc: &ocifs::image::Image) {
    served.registry.clear_log();
    read_4k(by_ztoc, 1, 20);
    let asked = served.asked();
    let bytes: u64 = asked.iter().map(|request| request.body_bytes_sent).sum();
    assert!(asked.len() == 1 && bytes <= 800 << 10, "{what}: {bytes} bytes in {asked:?}");
    let proven = open_fresh(&served.name, &proving());
    assert_eq!(proofs(&proven), ["full", "full"], "{what}");
    same(what, &shown(by_ztoc), &shown(&proven));
}

#[test]
fn a_manifest_that_names_its_index() {
    let mut implied = Indexed::gzip(&entries(1));
    implied.ztoc = implied.ztoc.without_first_checkpoint();
    for (what, lower, upper, more) in [
        ("gzip", Indexed::gzip(&entries(1)), Indexed::gzip(&upper_entries(2)), 0),
        ("gzip and plain", Indexed::gzip(&entries(1)), Indexed::plain(&upper_entries(2)), 0),
        ("first encoding", implied, Indexed::plain(&upper_entries(2)), 1),
    ] {
        let served = bound(&[&lower, &upper]);
        let opened = served.open();
        assert_eq!(proofs(&opened), ["toc", "toc"], "{what}");
        let asked = paths(&served);
        assert_eq!(asked.len(), 5 + more, "{what}: manifest, config, index, two ztocs: {asked:?}");
        assert!(served.asked_of(&sha256(&lower.blob)).1 <= 10, "{what}: at most a gzip header");
        assert!(!asked.iter().any(|path| path.contains("referrers")));
        is_right(what, &served, &opened);
        let again = served.open();
        assert_eq!((proofs(&again), served.asked().len()), (vec!["toc", "toc"], 1), "{what}");
        let offline = served.open_with(&ocifs::image::ImageOptions { offline: true, ..options() });
        read_4k(&offline, 1, 20);
        assert!(read(&offline, &bulk(2, 47)).is_ok() && served.asked().is_empty(), "all was read");
    }
}

#[test]
fn an_index_that_refers_to_the_image() {
    let (lower, upper) = (Indexed::gzip(&entries(1)), Indexed::gzip(&upper_entries(2)));
    for referrers in [Referrers::Filtered, Referrers::Absent] {
        let mut served = referred(&[&lower, &upper], referrers);
        let what = format!("{referrers:?}");
        // Nobody said to trust it.
        let opened = served.open();
        assert_eq!(proofs(&opened), ["full", "full"], "{what}");
        let asked = paths(&served);
        assert_eq!(asked.len(), 4, "{what}: manifest, config, two layers: {asked:?}");
        served.empty_cache();
        let opened = served.open_with(&trusting());
        assert_eq!(proofs(&opened), ["hint", "hint"], "{what}");
        assert_eq!(served.asked_of(&sha256(&lower.blob)).0, 0);
        // Two lists, as ours are looked for first, and the index with its ztocs. That there is no API is asked once.
        let lists = if referrers == Referrers::Absent { 3 } else { 2 };
        assert_eq!(paths(&served).len(), 2 + lists + 3, "{what}: {:?}", paths(&served));
        is_right(&what, &served, &opened);
        let again = served.open_with(&trusting());
        assert_eq!((proofs(&again), served.asked().len()), (vec!["hint", "hint"], 1), "{what}");
        // The trust of then is not that of now, and what was streamed needs none.
        assert_eq!(proofs(&served.open()), ["full", "full"], "{what}");
        assert_eq!(proofs(&served.open_with(&trusting())), ["full", "full"], "{what}");
        assert_eq!(served.asked().len(), 1);
    }
}

/// A ztoc that is for another image, layer or size, or can't be parsed: the layer is streamed.
#[test]
fn ztocs_that_cannot_be_used() {
    fn few(seed: u64) -> Vec<Entry> {
        entries(seed)[..FEW].to_vec()
    }
    let honest = || Indexed::gzip(&few(1));
    let with = |change: fn(&mut Indexed)| {
        let mut layer = honest();
        change(&mut layer);
        layer
    };
    let rows: Vec<(&str, Indexed)> = vec![
        ("of another layer", with(|layer| layer.ztoc = Indexed::gzip(&few(3)).ztoc)),
        ("larger layer", with(|layer| layer.ztoc.compressed_size += 1)),
        ("absurd size", with(|layer| layer.ztoc.uncompressed_size = i64::MAX)),
        ("version", with(|layer| layer.ztoc.version = "0.1".into())),
        ("algorithm", with(|layer| layer.ztoc.algorithm = 7)),
        ("a digest too few", with(|layer| drop(layer.ztoc.span_digests.pop()))),
        ("half of a checkpoint", with(|layer| layer.ztoc.checkpoints.truncate(12 + POINT / 2))),
        ("no checkpoints", with(|layer| layer.ztoc.checkpoints.clear())),
        ("a file outside", with(|layer| layer.ztoc.metadata[15].offset = 1 << 50)),
        ("climbing out", with(|layer| layer.ztoc.metadata[0].name = b"../etc".to_vec())),
        ("a longer header than it takes it for", {
            let (tar, metadata) = tar_with_metadata(&few(1));
            let blob = gzip_all_fields(&tar);
            let ztoc = Ztoc::gzip(&metadata, &blob, SPAN, Points::Soci).without_first_checkpoint();
            Indexed { blob, tar, suffix: "gzip", ztoc }
        }),
    ];
    let mut verdict = Verdict::default();
    for (what, layer) in rows {
        let served = bound(&[&layer]);
        let opened = open(&served.name, &served.sandbox.cache(), &options());
        verdict.row(
            what,
            opened.and_then(|opened| {
                let digest = sha256(&layer.blob);
                let said =
                    logs::with(&digest).iter().any(|line| line.contains("ztoc can't be used"));
                let right = read(&opened, &bulk(1, 5))? == bulk_content(1, 5);
                match (proofs(&opened)[0], right, said) {
                    ("full", true, true) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }),
        );
    }
    // What is not there, or not what its digest says.
    let layer = honest();
    let index = soci_index(V2, &[&layer], None);
    let image = builder(&[&layer]).annotation(BOUND, &sha256(&index)).build();
    let wrong_kind = soci_index(V1, &[&layer], None);
    let wrong_kind_image = builder(&[&layer]).annotation(BOUND, &sha256(&wrong_kind)).build();
    type Prepare<'a> = &'a dyn Fn(&Served);
    let add = |served: &Served, bytes: &[u8]| {
        served.registry.add_manifest("r", &sha256(bytes), OCI_MANIFEST, bytes);
    };
    let rows: [(&str, &Built, Prepare); 5] = [
        ("no index", &image, &|_| {}),
        ("no ztoc", &image, &|served| add(served, &index)),
        ("a ztoc with other bytes", &image, &|served| {
            add(served, &index);
            let bytes = layer.ztoc.encode();
            let mut other = bytes.clone();
            other[100] ^= 1;
            served.registry.add_blob("r", &sha256(&bytes), &other);
        }),
        ("a shorter ztoc", &image, &|served| {
            add(served, &index);
            let bytes = layer.ztoc.encode();
            served.registry.add_blob("r", &sha256(&bytes), &bytes[..1000]);
        }),
        ("nonsense as digest", &builder(&[&layer]).annotation(BOUND, "sha256:x").build(), &|_| {}),
    ];
    for (what, image, prepare) in rows {
        let served = Served::new(image);
        prepare(&served);
        let opened = open(&served.name, &served.sandbox.cache(), &options());
        verdict.row(
            what,
            opened.and_then(|opened| match proofs(&opened)[0] {
                "full" => read(&opened, &bulk(1, 5)).map(drop),
                other => Err(other.to_owned()),
            }),
        );
    }
    // The first version has nothing to be named by, but its content is all the same.
    let served = Served::new(&wrong_kind_image);
    add(&served, &wrong_kind);
    add_ztocs(&served, &[&layer]);
    assert_eq!(proofs(&served.open()), ["toc"]);
    verdict.end();
}

/// An index that refers to another image than it is listed for is left alone.
#[test]
fn an_index_of_another_image() {
    let layer = Indexed::gzip(&entries(1));
    let built = builder(&[&layer]).build();
    let other = builder(&[&layer]).config("author", "another").build();
    let served = Served::new(&built);
    let index = soci_index(V1, &[&layer], Some(&other));
    served.registry.add_manifest("r", &sha256(&index), OCI_MANIFEST, &index);
    add_ztocs(&served, &[&layer]);
    list_by_tag(&served, &built, &index);
    assert_eq!(proofs(&served.open_with(&trusting())), ["full"]);
}

/// What a ztoc says of the compressed bytes is wrong: an error for the reader of those bytes, nothing
/// wrong in the cache, and the end of the index.
#[test]
fn ztocs_that_contradict_their_layer() {
    let middle = |layer: &Indexed| layer.ztoc.span_digests.len() / 2;
    let checkpoint = |layer: &Indexed| 12 + middle(layer) * POINT;
    type Change<'a> = &'a dyn Fn(&mut Indexed);
    let rows: [(&str, Change); 3] = [
        ("digest", &|layer| {
            let at = middle(layer);
            layer.ztoc.span_digests[at] = sha256(b"another");
        }),
        ("bits", &|layer| {
            let at = checkpoint(layer) + 16;
            layer.ztoc.checkpoints[at] = (layer.ztoc.checkpoints[at] + 3) % 8;
        }),
        ("place", &|layer| {
            let at = checkpoint(layer);
            layer.ztoc.checkpoints[at] ^= 1;
        }),
    ];
    for (what, change) in rows {
        let mut layer = Indexed::gzip(&entries(1));
        change(&mut layer);
        // Which file it is about.
        let at = checkpoint(&layer) + 8;
        let out = layer.ztoc.checkpoints[at..at + 8].try_into().unwrap();
        let out = i64::from_le_bytes(out);
        let file = layer.ztoc.metadata.iter().find(|m| m.offset >= out && m.size > 0).unwrap();
        let path = String::from_utf8(file.name.clone()).unwrap();
        let served = bound(&[&layer]);
        let opened = served.open();
        assert_eq!(proofs(&opened), ["toc"], "{what}");
        served.registry.clear_log();
        let tree = opened.filesystem().tree();
        let ino = tree.resolve(path.as_bytes(), Symlinks::Follow).unwrap();
        read_at(&opened, ino, 0, 4096).unwrap_err();
        let digest = sha256(&layer.blob);
        assert!(served.asked_of(&digest).0 <= 2, "{what}: {:?}", served.asked());
        assert!(logs::with(&digest).iter().any(|line| line.contains("not used again")), "{what}");
        read_4k(&opened, 1, 2);
        let again = served.open();
        assert_eq!(proofs(&again), ["full"], "{what}");
        assert!(shown(&again).values().count() > 50);
        same(what, &shown(&again), &shown(&open_fresh(&served.name, &proving())));
        let (tar, _) = walk(&layer.blob);
        assert!(tar == layer.tar);
    }
}

/// Content in another place of the tar is another file's: digests of compressed bytes don't tell, so
/// `verify` does, as often as it is asked.
#[test]
fn files_in_other_places() {
    let mut layer = Indexed::gzip(&entries(1));
    let place = |layer: &Indexed, path: String| {
        layer.ztoc.metadata.iter().position(|m| m.name == path.as_bytes()).unwrap()
    };
    let (one, other) = (place(&layer, bulk(1, 6)), place(&layer, bulk(1, 9)));
    let (lower, upper) = layer.ztoc.metadata.split_at_mut(other);
    std::mem::swap(&mut lower[one].name, &mut upper[0].name);
    std::mem::swap(&mut lower[one].mod_time, &mut upper[0].mod_time);
    let served = bound(&[&layer]);
    let opened = served.open();
    assert_eq!(proofs(&opened), ["toc"]);
    assert!(read(&opened, &bulk(1, 6)).unwrap() == bulk_content(1, 9), "as the manifest says");
    let name: ImageName = served.name.parse().unwrap();
    for round in 0..2 {
        let found = image::verify(&name, &served.sandbox.cache(), &options(), &Quiet).unwrap();
        let paths: Vec<&str> =
            found.layers[0].differences.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(paths, [bulk(1, 6), bulk(1, 9)], "round {round}");
    }
    assert!(read(&served.open(), &bulk(1, 6)).unwrap() == bulk_content(1, 6));
}

/// A window that is not what stands before its span makes other bytes of the right compressed ones.
/// No digest of a ztoc covers what is shown then: `verify` has to find out.
#[test]
fn windows_that_lie() {
    let mut entries = entries(1);
    // What refers back to far before.
    let line = |number: u32| {
        format!("{:08x} the same words in every line\n", number.wrapping_mul(2_654_435))
    };
    let content: String = (0..40_000).map(line).collect();
    entries.push(Entry::file("lines", &content));
    let mut layer = Indexed::gzip(&entries);
    let last = layer.ztoc.span_digests.len() - 2;
    let window = 12 + last * POINT + 17;
    for byte in &mut layer.ztoc.checkpoints[window..window + POINT - 17] {
        *byte = byte.to_ascii_uppercase();
    }
    let served = bound(&[&layer]);
    let opened = served.open();
    let bytes = read(&opened, "lines").unwrap();
    assert!(bytes != content.as_bytes(), "the window matters");
    let name: ImageName = served.name.parse().unwrap();
    let found = image::verify(&name, &served.sandbox.cache(), &options(), &Quiet).unwrap();
    assert!(!found.is_good(), "the table shows what the tar does not have");
}
