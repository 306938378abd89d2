//! Layers with a table of contents, opened by it: for the price of the table, as the tar would be
//! shown, and never with bytes that the table's digests do not cover. Then tables that lie.

use std::collections::BTreeMap;

use ocifs::tree::Symlinks;
use serde_json::{Value, json};

use crate::external_fixture::{
    BOOKKEEPING, BULK_BYTES, BULK_FILES, FEW, Served, Way, bulk, bulk_content, entries, image,
    open_fresh, open_in, proofs, proving, read_4k, read_at, same, shown, upper_entries, ways,
};
use crate::fixture::{Sandbox, Verdict, exists, name_in, open, options, read};
use crate::logs;
use crate::support::estargz::{JSON_DIGEST, Written, skippable};
use crate::support::image::sha256;
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::Entry;

/// What a read may fetch: a span of 256 KiB and the neighbours that a fast link takes along.
const READ_BYTES: u64 = 800 << 10;

/// Two layers of one kind.
fn layers(way: &Way) -> [Written; 2] {
    [(way.write)(&entries(1), None), (way.write)(&upper_entries(2), None)]
}

#[test]
fn a_first_sight_costs_the_tables() {
    for way in ways() {
        let what = way.what;
        let layers = layers(&way);
        let built = image(layers.iter().map(|layer| way.layer(layer)));
        let served = Served::new(&built);
        let opened = served.open();
        assert_eq!(proofs(&opened), ["toc", "toc"], "{what}");
        let asked: Vec<String> = served.asked().into_iter().map(|logged| logged.path).collect();
        assert_eq!(asked.len(), 4, "{what}: manifest, config, and a table a layer: {asked:?}");
        for (layer, digest) in layers.iter().zip(built.layer_digests()) {
            let (requests, bytes) = served.asked_of(&digest);
            assert_eq!(requests, 1, "{what}");
            let most = if way.is_zstd() { 128 << 10 } else { 512 << 10 };
            assert!(bytes <= most && bytes < layer.blob.len() as u64 / 2, "{what}: {bytes}");
        }
        // Names and attributes are here.
        let before = served.asked().len();
        let names = opened.filesystem().tree().len();
        assert!(names > 2 * BULK_FILES && served.asked().len() == before);
        for name in BOOKKEEPING {
            assert!(!exists(&opened, name), "{what}: {name}");
        }
        // A piece of a file costs the span that it is in.
        served.registry.clear_log();
        read_4k(&opened, 1, 20);
        let asked = served.asked();
        let bytes: u64 = asked.iter().map(|request| request.body_bytes_sent).sum();
        assert!(asked.len() == 1 && bytes <= READ_BYTES, "{what}: {bytes} bytes in {asked:?}");
        // The second open finds the indexes in the cache, and without the network too.
        let again = served.open();
        assert_eq!(served.asked().len(), 1, "{what}: the manifest is looked for");
        read_4k(&again, 1, 20);
        assert_eq!(served.asked().len(), 1, "{what}: the span is in the cache");
        let offline = served.open_with(&ocifs::image::ImageOptions { offline: true, ..options() });
        assert_eq!(proofs(&offline), ["toc", "toc"]);
        read_4k(&offline, 1, 20);
        let error = read(&offline, &bulk(2, 40)).unwrap_err();
        assert!(error.contains("GoOnline"), "{error}");
        assert_eq!(served.asked().len(), 0);
    }
}

/// A reader of everything pays for the layers once, in few requests.
#[test]
fn a_walk_costs_the_layers() {
    for way in ways() {
        let what = way.what;
        let built = image(layers(&way).iter().map(|layer| way.layer(layer)));
        let served = Served::new(&built);
        let opened = served.open();
        served.registry.clear_log();
        let read = shown(&opened);
        assert!(read.len() > 2 * BULK_FILES);
        for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
            let (requests, bytes) = served.asked_of(digest);
            assert!(requests <= 4, "{what}: {requests} requests");
            assert!(bytes <= size + size / 50, "{what}: {bytes} of {size} bytes");
        }
    }
}

/// A table shows what the tar does, and bookkeeping is hidden whichever of the two is read.
#[test]
fn the_same_as_the_tar() {
    for way in ways() {
        let what = way.what;
        let layers = layers(&way);
        let served = Served::new(&image(layers.iter().map(|layer| way.layer(layer))));
        let by_table = served.open();
        assert_eq!(proofs(&by_table), ["toc", "toc"]);
        let by_table = shown(&by_table);
        let proven = open_fresh(&served.name, &proving());
        assert_eq!(proofs(&proven), ["full", "full"]);
        same(what, &by_table, &shown(&proven));
        // A blob is only a blob where nobody says that it has a table.
        served.registry.add_image("r", "t", &image(layers.iter().map(|l| way.unannotated(l))));
        let plain = open_fresh(&served.name, &options());
        assert_eq!(proofs(&plain), ["full", "full"]);
        let mut plain = shown(&plain);
        let gzip = usize::from(way.is_stargz()) + usize::from(way.is_stargz() && !way.is_zstd());
        let hidden = BOOKKEEPING.iter().filter(|name| plain.remove(**name).is_some()).count();
        assert_eq!(hidden, gzip, "{what}");
        same(what, &by_table, &plain);
    }
}

/// A small layer is streamed: that costs one request too, and proves everything.
#[test]
fn small_layers_are_streamed() {
    let small = [Entry::file("f", "small"), Entry::dir("d")];
    for way in ways() {
        let layer = (way.write)(&small, None);
        let served = Served::new(&image([way.layer(&layer)]));
        let opened = served.open();
        assert_eq!((proofs(&opened), served.asked().len()), (vec!["full"], 3), "{}", way.what);
        assert!(read(&opened, "f").unwrap() == b"small" && !exists(&opened, BOOKKEEPING[0]));
    }
}

/// A table that can't be used costs its request: the layer is streamed, and it is said why.
#[test]
fn tables_that_cannot_be_used() {
    let annotate = |layer: &mut Written, end: &str, value: &dyn Fn(&str) -> String| {
        let (_, text) = layer.annotations.iter_mut().find(|(key, _)| key.ends_with(end)).unwrap();
        *text = value(text);
    };
    let position = |layer: &mut Written, change: &dyn Fn(&mut [u64])| {
        annotate(layer, "manifest-position", &|text| {
            let mut numbers: Vec<u64> = text.split(':').map(|n| n.parse().unwrap()).collect();
            change(&mut numbers);
            numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(":")
        });
    };
    let few = |seed| entries(seed)[..FEW].to_vec();
    let other = |way: &Way| (way.write)(&few(3), None);
    let mut verdict = Verdict::default();
    for way in ways() {
        let mut rows: Vec<(&str, Written)> = Vec::new();
        let honest = (way.write)(&few(1), None);
        let mut row = |what, change: &dyn Fn(&mut Written)| {
            let mut layer = honest.clone();
            change(&mut layer);
            rows.push((what, layer));
        };
        let digest = if way.is_zstd() { "manifest-checksum" } else { "toc.digest" };
        row("wrong digest", &|layer| annotate(layer, digest, &|_| sha256(b"another")));
        row("of another layer", &|layer| layer.annotations = other(&way).annotations);
        if way.is_zstd() {
            let size = honest.blob.len() as u64;
            row("past the end", &|layer| position(layer, &|n| n[0] = size));
            row("beyond everything", &|layer| position(layer, &|n| n[0] = u64::MAX / 2));
            row("longer than the blob", &|layer| position(layer, &|n| n[1] = size));
            row("nothing", &|layer| position(layer, &|n| n[1] = 0));
            row("the whole blob", &|layer| position(layer, &|n| (n[0], n[1]) = (0, size)));
            row("huge JSON", &|layer| position(layer, &|n| n[2] = u64::MAX));
            row("shorter JSON", &|layer| position(layer, &|n| n[2] -= 1));
        } else {
            row("no footer", &|layer| {
                // An empty gzip member, of which nothing is missed.
                let at = layer.blob.windows(6).rposition(|w| w == b"STARGZ").unwrap();
                let start = layer.blob[..at].windows(3).rposition(|w| w == [0x1f, 0x8b, 8]);
                layer.blob.truncate(start.unwrap());
            });
            row("a footer that points nowhere", &|layer| {
                let at = layer.blob.windows(6).rposition(|w| w == b"STARGZ").unwrap();
                layer.blob[at - 16..at].copy_from_slice(b"00000fffffffffff");
            });
        }
        type Damage = fn(&mut Value);
        let damages: [(&str, Damage); 5] = [
            ("another version", |json| json["version"] = json!(2)),
            ("no entries", |json| json["entries"] = json!("none")),
            ("a place outside", |json| first_bulk(json)["offset"] = json!(1u64 << 50)),
            ("climbing out", |json| json["entries"][0]["name"] = json!("../../etc")),
            ("a size that is none", |json| first_bulk(json)["size"] = json!(1u64 << 60)),
        ];
        for (what, damage) in damages {
            rows.push((what, (way.write)(&few(1), Some(&damage))));
        }
        for (what, layer) in rows {
            let built = image([way.layer(&layer)]);
            let served = Served::new(&built);
            let what = format!("{}: {what}", way.what);
            let opened = match open(&served.name, &served.sandbox.cache(), &options()) {
                Ok(opened) => opened,
                Err(e) => {
                    verdict.row(&what, Err(e));
                    continue;
                }
            };
            let digest = &built.layer_digests()[0];
            let said = logs::with(digest);
            let said =
                said.iter().any(|line| line.contains("WARN") && line.contains("can't be used"));
            let right = read(&opened, &bulk(1, 5)).is_ok_and(|bytes| bytes == bulk_content(1, 5));
            let size = built.layer_sizes()[0];
            let (requests, bytes) = served.asked_of(digest);
            verdict.row(
                &what,
                match (proofs(&opened)[0], right, said) {
                    ("full", true, true) if requests <= 3 && bytes <= 2 * size + 1000 => Ok(()),
                    other => Err(format!("{other:?}, {requests} requests, {bytes} bytes")),
                },
            );
        }
    }
    verdict.end();
}

/// The row of the first file that does not compress.
fn first_bulk(json: &mut Value) -> &mut Value {
    let rows = json["entries"].as_array_mut().unwrap();
    rows.iter_mut().find(|row| row["size"] == BULK_BYTES).unwrap()
}

/// Gives the chunks of a file the digest of something else.
fn lie_about(json: &mut Value, name: &str) {
    let another = json!(sha256(b"another"));
    let rows = json["entries"].as_array_mut().unwrap().iter_mut();
    for row in rows.filter(|row| row["name"] == name) {
        for key in ["digest", "chunkDigest"] {
            if !row[key].is_null() {
                row[key] = another.clone();
            }
        }
    }
}

/// A chunk that is not what its digest says is an error for its reader, and the end of the index.
#[test]
fn chunks_that_are_not_there() {
    for way in ways() {
        let what = way.what;
        let lying = bulk(1, 10);
        let edit = |json: &mut Value| lie_about(json, &lying);
        let layer = (way.write)(&entries(1), Some(&edit));
        let built = image([way.layer(&layer)]);
        let digest = &built.layer_digests()[0];
        let served = Served::new(&built);
        let opened = served.open();
        assert_eq!(proofs(&opened), ["toc"], "{what}");
        read_4k(&opened, 1, 40);
        served.registry.clear_log();
        let tree = opened.filesystem().tree();
        let ino = tree.resolve(lying.as_bytes(), Symlinks::Follow).unwrap();
        let error = read_at(&opened, ino, 100, 4096).unwrap_err();
        assert!(error.contains("are not those that were indexed"), "{what}: {error}");
        assert!(served.asked_of(digest).0 <= 2, "{what}: {:?}", served.asked());
        let said = logs::with(digest);
        assert!(said.iter().any(|line| line.contains("is not used again")), "{what}: {said:?}");
        // What is right stays readable, and again nothing wrong comes.
        read_4k(&opened, 1, 40);
        read_at(&opened, ino, 100, 4096).unwrap_err();
        let again = served.open();
        assert_eq!(proofs(&again), ["full"], "{what}");
        assert!(read(&again, &lying).unwrap() == bulk_content(1, 10), "{what}");
        // What was cached by the lying index is no harm.
        let honest = open_fresh(&served.name, &proving());
        same(what, &shown(&again), &shown(&honest));
        assert_eq!(proofs(&served.open()), ["full"]);
    }
}

/// What arrives damaged is fetched once more, and the index is not to blame.
#[test]
fn damage_on_the_way_is_no_lie() {
    for way in ways() {
        let built = image([way.layer(&(way.write)(&entries(1), None))]);
        let digest = built.layer_digests().remove(0);
        let served = Served::new(&built);
        let opened = served.open();
        served.registry.clear_log();
        served.registry.fault(("GET", &digest, Times::First(1)), Fault::FlipByte(30_000));
        read_4k(&opened, 1, 20);
        assert!(served.asked().len() <= 3, "{}: {:?}", way.what, served.asked());
        assert_eq!(proofs(&served.open()), ["toc"], "{}", way.what);
    }
}

/// A blob with two tables: the one that an image names is the one that it is shown by, in one
/// cache with another image that names the other.
#[test]
fn a_lie_about_a_layer_is_one_image_s() {
    let way = ways().into_iter().find(|way| way.what == "zstd:chunked").unwrap();
    let lying = bulk(1, 10);
    let edit = |json: &mut Value| {
        lie_about(json, &lying);
        let rows = json["entries"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["name"] == "usr/empty1").unwrap()["name"] =
            json!("usr/evil");
    };
    let honest = (way.write)(&entries(1), None);
    let liar = (way.write)(&entries(1), Some(&edit));
    // The lying table behind the honest layer: skippable frames change nothing of the tar.
    let compressed = zstd::encode_all(&liar.json[..], 3).unwrap();
    let (start, length) = (honest.blob.len() + 8, compressed.len());
    let blob = [&honest.blob[..], &skippable(&compressed)].concat();
    let mut annotations = BTreeMap::new();
    for (key, value) in [
        ("manifest-checksum", sha256(&compressed)),
        ("manifest-position", format!("{start}:{length}:{}:1", liar.json.len())),
    ] {
        annotations.insert(format!("io.github.containers.zstd-chunked.{key}"), value);
    }
    let honest = image([way.layer(&Written { blob: blob.clone(), ..honest })]);
    let liar = image([way.layer(&Written { blob, annotations, ..liar })]);
    assert_eq!(honest.layer_digests(), liar.layer_digests());

    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &honest);
    registry.add_image("r", "liar", &liar);
    let name = name_in(&registry);
    let liar_name = format!("{}/r:liar", registry.addr());
    let liar = open_in(&sandbox.cache(), &liar_name, &options());
    let honest = open_in(&sandbox.cache(), &name, &options());
    assert_eq!((proofs(&liar), proofs(&honest)), (vec!["toc"], vec!["toc"]));
    assert!(exists(&liar, "usr/evil") && !exists(&honest, "usr/evil"));
    read(&liar, &lying).unwrap_err();
    assert!(read(&honest, &lying).unwrap() == bulk_content(1, 10));
    // The liar is found out; the other is as it was.
    let honest = open_in(&sandbox.cache(), &name, &options());
    assert_eq!(proofs(&honest), ["toc"]);
    assert_eq!(read(&honest, &lying).unwrap().len(), BULK_BYTES);
    let liar = open_in(&sandbox.cache(), &liar_name, &options());
    assert_eq!(proofs(&liar), ["full"]);
    assert!(!exists(&liar, "usr/evil"));
    same("once streamed", &shown(&liar), &shown(&honest));
}

/// eStargz names its table by digest alone: a wrong name is found out at once.
#[test]
fn a_wrong_name_spoils_nothing() {
    let way = &ways()[0];
    let layer = (way.write)(&entries(1), None);
    let mut lie = layer.clone();
    lie.annotations.insert(JSON_DIGEST.to_owned(), sha256(b"another"));
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image([way.layer(&layer)]));
    let honest = open_in(&sandbox.cache(), &name_in(&registry), &options());
    registry.add_image("r", "t", &image([way.layer(&lie)]));
    let liar = open_in(&sandbox.cache(), &name_in(&registry), &options());
    assert_eq!((proofs(&honest), proofs(&liar)), (vec!["toc"], vec!["full"]));
    // What the name does not mean is a file like any other.
    let mut by_liar = shown(&liar);
    assert!(by_liar.remove("stargz.index.json").is_some());
    same("both", &shown(&honest), &by_liar);
}
