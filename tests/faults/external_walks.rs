//! Walks over layers with a table of contents, of sizes and shapes that are found: what they cost is
//! one download in a few requests, as for any other layer.

use ocifs::image::Image;
use ocifs::tree::{FileKind, Ino, Order};

use crate::external_fixture::{Served, image, proofs};
use crate::fixture::noise;
use crate::lazy::{READ_BYTES, Random, range_of, read_part, text};
use crate::support::estargz::{self, Form, Written};
use crate::support::image::Layer;
use crate::support::tarball::{Entry, Kind};
use crate::support::zstd_chunked;

const FILES: u64 = 1500;
const BYTES: usize = 16 << 20;

/// A file larger than any span.
const LARGE_BYTES: usize = 9 << 20;

/// Requests for a layer whose files were sorted by their use. The first misses of a walk lie anywhere
/// in it, nothing tells yet that it is one, and as long as it may be one over a directory no more than that
/// is fetched: each leaves an island, and what lies between islands comes by itself where they are too
/// large to be sent again. What is nested deeper takes more steps until the walk is seen to be over all.
const OPTIMIZED: usize = 5;
const OPTIMIZED_DEEP: usize = 8;

/// A layer's files below one directory, nested up to seven deep: most of them small, one large, some
/// that do not compress, some that hold nothing, and some that are in it twice.
fn entries(seed: u64) -> Vec<Entry> {
    let mut random = Random::new(seed);
    let text = text(LARGE_BYTES + BYTES, seed);
    let mean = BYTES as u64 / FILES;
    let mut path = vec!["top".to_owned()];
    let mut entries = vec![Entry::dir("top")];
    let mut left = 0;
    let mut at = 0;
    for number in 0..FILES {
        if left == 0 {
            path.truncate(1 + random.below(6) as usize);
            path.push(format!("d{number:04}"));
            entries.push(Entry::dir(path.join("/")));
            left = 5 + random.below(30);
        }
        left -= 1;
        let length = match random.below(8) {
            _ if number == FILES / 3 => LARGE_BYTES,
            0..4 => random.below(mean / 2) as usize,
            4..7 => random.below(mean * 2) as usize,
            _ => random.below(mean * 4) as usize,
        };
        let content = match number % 16 {
            3 => noise(length, number),
            7 => noise(length % 3000, number / 64),
            9 => Vec::new(),
            _ => text[at..at + length].to_vec(),
        };
        at = (at + length) % BYTES;
        entries.push(Entry::file(format!("{}/f{number:04}", path.join("/")), content));
    }
    entries
}

/// The same as `ctr-remote image optimize` sorts it: what was used comes first, in the order in which
/// it was used, then a landmark and the rest.
fn optimized(entries: &[Entry]) -> Vec<Entry> {
    let mut random = Random::new(5);
    let (mut used, rest): (Vec<Entry>, Vec<Entry>) = entries
        .iter()
        .cloned()
        .partition(|entry| matches!(entry.kind, Kind::File(_)) && random.below(7) == 0);
    for at in 0..used.len() {
        let other = random.below(used.len() as u64) as usize;
        used.swap(at, other);
    }
    used.push(Entry::file(".prefetch.landmark", [0xf]));
    used.extend(rest);
    used
}

/// Reads everything as `tar` and `grep -r` do.
fn walk(image: &Image) {
    let tree = image.filesystem().tree();
    let mut walk = tree.walk(Ino::ROOT, Order::Data);
    while let Some((_, ino)) = walk.next() {
        let size = if tree.kind(ino) == FileKind::Regular { tree.attributes(ino).size } else { 0 };
        for at in (0..size).step_by(READ_BYTES as usize) {
            read_part(image, ino, at..(at + READ_BYTES).min(size)).unwrap();
        }
    }
}

/// Walks in a new cache; each layer's bytes come once, in so many requests at most.
fn costs_one_download(what: &str, suffix: &'static str, written: &Written, most_requests: usize) {
    let layer = Layer::from_blob(written.blob.clone(), suffix, &written.tar);
    let built = image([layer.annotations(&written.annotations)]);
    let served = Served::new(&built);
    let opened = served.open();
    assert_eq!(proofs(&opened), ["toc"], "{what}");
    served.registry.clear_log();
    walk(&opened);
    let size = built.layer_sizes()[0];
    let (requests, bytes) = served.asked_of(&built.layer_digests()[0]);
    let asked = served.asked();
    let ranges: Vec<_> = asked.iter().map(|request| range_of(request, size)).collect();
    assert!(requests <= most_requests, "{what}: {ranges:?}");
    assert!(bytes <= size + size / 50, "{what}: {bytes} of {size}: {ranges:?}");
}

#[test]
fn a_walk_over_estargz_costs_one_download() {
    let entries = entries(1);
    let optimized = optimized(&entries);
    let usual = estargz::Options {
        form: Form::Estargz,
        chunk_size: 4 << 20,
        min_member: 0,
        landmark: true,
        edit: None,
    };
    let write = |entries: &[Entry], options: &estargz::Options| estargz::write(entries, options);
    costs_one_download("eStargz", "gzip", &write(&entries, &usual), 4);
    // Members with several files are not divided, so none is fetched twice.
    let shared = estargz::Options { min_member: 1 << 20, ..usual };
    costs_one_download("eStargz, shared members", "gzip", &write(&entries, &shared), 4);
    let unmarked = estargz::Options { landmark: false, ..usual };
    costs_one_download("eStargz, optimized", "gzip", &write(&optimized, &unmarked), OPTIMIZED);
}

#[test]
fn a_walk_over_zstd_chunked_costs_one_download() {
    let entries = entries(2);
    let options = zstd_chunked::Options { old: false, chunk_size: 64 << 10, edit: None };
    costs_one_download("zstd:chunked", "zstd", &zstd_chunked::write(&entries, &options), 4);
    let options = estargz::Options {
        form: Form::Zstd,
        chunk_size: 4 << 20,
        min_member: 0,
        landmark: false,
        edit: None,
    };
    let written = estargz::write(&optimized(&entries), &options);
    costs_one_download("zstd:chunked of stargz, optimized", "zstd", &written, OPTIMIZED_DEEP);
}
