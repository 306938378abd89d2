//! Tables of contents: what independent writers wrote is what `toc` reads, and every chunk is where
//! it says. Then damage: errors are fine, panics and absurd allocations are not.

use std::io::Read;
use std::ops::Range;

use ocifs::codec;
use ocifs::oci::Descriptor;
use ocifs::toc::{self, Chunk, Error, Fault, Toc, TocAnnotation, TocEntry};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::hostile::toc::{check_toc, descriptor, read_blob};
use crate::support::estargz::{self, Form, Written};
use crate::support::image::sha256;
use crate::support::tarball::{Entry, Kind};
use crate::support::zstd_chunked;

/// Content that does not repeat, without zeros.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8 | 1)
    };
    std::iter::repeat_n((), length).scan(seed, |state, ()| next(state)).collect()
}

fn sample() -> Vec<Entry> {
    let holes = [&noise(1500, 1)[..], &[0; 5000], &noise(7, 2), &[0; 1023], b"x", &[0; 1024]];
    vec![
        Entry::dir("usr").mode(0o1777).mtime(1_700_000_000, 0),
        Entry::dir("usr/bin").owner(1000, 4_294_967_294),
        Entry::file("usr/bin/tool", noise(3500, 3)).mode(0o4755).mtime(-315_619_199, 0),
        Entry::file("usr/bin/exact", noise(2000, 4)),
        Entry::file("usr/small", "small").xattr("user.b", "v").xattr("security.a", [0, 255, 7]),
        Entry::file("usr/empty", ""),
        Entry::hardlink("usr/other", "usr/bin/tool"),
        Entry::symlink("bin", "usr/bin"),
        Entry::char_device("dev/null", 1, 3),
        Entry::block_device("dev/sda", 259, 1_048_575),
        Entry::fifo("pipe"),
        Entry::file("usr/.wh.gone", ""),
        Entry::file("etc/.wh..wh..opq", ""),
        Entry::file("usr/holes", holes.concat()),
        Entry::file("usr/zeros", [0; 3000]),
        Entry::file("usr/begins", [&[0; 2000][..], &noise(1200, 5)].concat()),
        Entry::file(format!("{}/ü", "long".repeat(60)), "long name").mtime(1, 0),
        // The same bytes again are stored again.
        Entry::file("usr/copy", "small"),
    ]
}

fn part(blob: &[u8], range: &Range<u64>) -> Vec<u8> {
    blob[range.start as usize..range.end as usize].to_vec()
}

/// Opens a layer as its user has to: fetch, find, fetch, read.
fn open(layer: &Written) -> Result<Toc, Error> {
    let promise = toc::promise(&descriptor(layer)).expect("the writer annotates");
    read_blob(&promise, &layer.blob)
}

/// The bytes of a chunk, by nothing but its place.
fn content(blob: &[u8], chunk: &Chunk) -> Vec<u8> {
    let compressed = part(blob, &chunk.compressed);
    let mut out = Vec::new();
    let limit = chunk.skip + chunk.length;
    let member: Box<dyn Read> = match compressed[0] {
        0x1f => Box::new(flate2::read::GzDecoder::new(&compressed[..])),
        _ => Box::new(zstd::Decoder::new(&compressed[..]).unwrap().single_frame()),
    };
    member.take(limit).read_to_end(&mut out).unwrap();
    assert_eq!(out.len() as u64, limit, "the member holds the chunk");
    out.split_off(chunk.skip as usize)
}

/// Checks everything that a TOC promises of itself, and returns the virtual space.
fn space(blob: &[u8], toc: &Toc) -> Vec<u8> {
    let mut space = Vec::new();
    let mut place = (0, 0);
    for chunk in &toc.chunks {
        assert_eq!(chunk.start.0, space.len() as u64);
        assert!(chunk.length > 0 && chunk.compressed.start < chunk.compressed.end);
        assert!((chunk.compressed.start, chunk.skip) >= place);
        place = (chunk.compressed.start, chunk.skip);
        let bytes = content(blob, chunk);
        assert_eq!(Sha256::digest(&bytes)[..], chunk.digest, "a chunk has its digest");
        space.extend(bytes);
    }
    assert_eq!(toc.content_bytes, space.len() as u64);
    space
}

/// The content of a file, from its runs.
fn bytes_of(entry: &ocifs::tar::Entry, space: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; entry.size as usize];
    for run in &entry.runs {
        let (to, from) = (run.file_offset as usize, run.start.0 as usize);
        let length = run.length as usize;
        bytes[to..to + length].copy_from_slice(&space[from..from + length]);
    }
    bytes
}

/// Compares what was read with what was written.
fn same(layer: &Written, written: &[Entry]) {
    assert_eq!(codec::decompress(&layer.blob, 1 << 30).unwrap(), layer.tar, "the blob is the tar");
    let toc = open(layer).unwrap();
    let space = space(&layer.blob, &toc);
    assert_eq!(toc.entries.len(), written.len());
    for (found, wanted) in toc.entries.iter().zip(written) {
        let entry = &found.entry;
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        assert_eq!(name, estargz::name(wanted));
        assert_eq!((entry.mode, entry.uid, entry.gid), (wanted.mode, wanted.uid, wanted.gid));
        assert_eq!((entry.mtime_seconds, entry.mtime_nanoseconds), wanted.mtime, "{name}");
        let mut xattrs = wanted.xattrs.clone();
        xattrs.sort();
        assert_eq!(entry.xattrs, xattrs, "{name}");
        let data: &[u8] = if let Kind::File(data) = &wanted.kind { data } else { b"" };
        let (kind, target, device): (_, &[u8], _) = match &wanted.kind {
            Kind::File(_) => (ocifs::tar::FileType::File, b"", (0, 0)),
            Kind::Dir => (ocifs::tar::FileType::Directory, b"", (0, 0)),
            Kind::Symlink(target) => (ocifs::tar::FileType::Symlink, target, (0, 0)),
            Kind::Hardlink(target) => (ocifs::tar::FileType::HardLink, target, (0, 0)),
            Kind::Char { major, minor } => {
                (ocifs::tar::FileType::CharDevice, b"", (*major, *minor))
            }
            Kind::Block { major, minor } => {
                (ocifs::tar::FileType::BlockDevice, b"", (*major, *minor))
            }
            Kind::Fifo => (ocifs::tar::FileType::Fifo, b"", (0, 0)),
        };
        assert_eq!((entry.kind, &entry.link_target[..], entry.device), (kind, target, device));
        assert_eq!(entry.size, data.len() as u64);
        assert!(bytes_of(entry, &space) == data, "{name} has its content");
        let hash: Option<[u8; 32]> = (!data.is_empty()).then(|| Sha256::digest(data).into());
        assert_eq!(found.content_hash, hash, "{name}");
        assert!(entry.sparse || entry.runs.len() <= 1, "{name}");
    }
}

#[test]
fn what_stargz_writes() {
    let entries = sample();
    for form in [Form::Estargz, Form::Legacy, Form::Zstd] {
        for (chunk_size, min_member) in [(1000, 0), (1000, 3000), (1000, 1 << 20), (1 << 20, 0)] {
            for landmark in [true, false] {
                let options = estargz::Options {
                    form,
                    chunk_size,
                    min_member,
                    landmark,
                    ..estargz::Options::default()
                };
                let layer = estargz::write(&entries, &options);
                let mut written = entries.clone();
                if landmark {
                    written.insert(0, Entry::file(".no.prefetch.landmark", "\x0f"));
                }
                same(&layer, &written);
                let toc = open(&layer).unwrap();
                let shared = toc.chunks.iter().any(|chunk| chunk.skip > 0);
                assert_eq!(shared, min_member > 0, "{form:?} {min_member}");
            }
        }
        let options = estargz::Options { form, landmark: false, ..Default::default() };
        same(&estargz::write(&[], &options), &[]);
    }
}

#[test]
fn what_containers_storage_writes() {
    let mut entries = sample();
    entries.push(Entry::file("fraction", "x").mtime(-2, 123_456_789));
    for old in [true, false] {
        for chunk_size in [1000, 1 << 20] {
            let options = zstd_chunked::Options { old, chunk_size, edit: None };
            let layer = zstd_chunked::write(&entries, &options);
            same(&layer, &entries);
            let toc = open(&layer).unwrap();
            let holes = toc.entries.iter().find(|e| e.entry.path == b"usr/holes").unwrap();
            assert!(holes.entry.sparse);
            let stored: u64 = holes.entry.runs.iter().map(|run| run.length).sum();
            assert_eq!((holes.entry.size, stored), (8555, 1500 + 7 + 1023 + 1));
        }
        same(&zstd_chunked::write(&[], &zstd_chunked::Options { old, ..Default::default() }), &[]);
    }
    // These are names like any other here.
    let entries = [Entry::file(".prefetch.landmark", "\x0f"), Entry::file("stargz.index.json", "")];
    same(&zstd_chunked::write(&entries, &zstd_chunked::Options::default()), &entries);
}

/// A layer of Buildah 1.28, pushed with `--compression-format zstd:chunked`, and what Python's
/// `tarfile` says of its tar.
#[test]
fn a_layer_of_buildah() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/zstd-chunked");
    let blob = std::fs::read(format!("{folder}/layer.tar.zst")).unwrap();
    let descriptor = std::fs::read(format!("{folder}/descriptor.json")).unwrap();
    let descriptor: Descriptor = serde_json::from_slice(&descriptor).unwrap();
    assert!(descriptor.digest.matches(&blob));
    let toc = read_blob(&toc::promise(&descriptor).unwrap(), &blob).unwrap();
    let space = space(&blob, &toc);
    let line = |found: &TocEntry| {
        let entry = &found.entry;
        let (path, kind) = (String::from_utf8_lossy(&entry.path), entry.kind);
        let (mode, mtime, size) = (entry.mode, entry.mtime_seconds, entry.size);
        let hash = sha256(&bytes_of(entry, &space));
        format!("{path} {kind:?} {mode:o} {mtime} {size} {}\n", &hash[7..23])
    };
    let lines: String = toc.entries.iter().map(line).collect();
    let expected = std::fs::read_to_string(format!("{folder}/expected.txt")).unwrap();
    assert_eq!(lines, expected);
    let equal = toc.entries.iter().find(|e| e.entry.path == b"usr/bin/equal").unwrap();
    assert_eq!(equal.content_hash.unwrap(), Sha256::digest(vec![b'x'; 3_000_000])[..]);
}

#[test]
fn lies() {
    let entries = sample();
    // Wrong digests.
    let mut layer = estargz::write(&entries, &estargz::Options::default());
    layer.annotations.insert(estargz::JSON_DIGEST.into(), sha256(b"another"));
    assert!(matches!(open(&layer), Err(Error::Digest { .. })));
    let stargz = estargz::Options { form: Form::Zstd, ..Default::default() };
    for key in [estargz::JSON_DIGEST, "io.containers.zstd-chunked.manifest-checksum"] {
        let mut layer = estargz::write(&entries, &stargz);
        layer.annotations.insert(key.into(), sha256(b"another"));
        assert!(matches!(open(&layer), Err(Error::Digest { .. })), "{key}");
    }
    // A length that is not the real one, either way.
    for (by, too_long) in [(-1, true), (1, false)] {
        let mut layer = zstd_chunked::write(&entries, &zstd_chunked::Options::default());
        let key = "io.github.containers.zstd-chunked.manifest-position";
        let position = layer.annotations[key].clone();
        let numbers: Vec<i64> = position.split(':').map(|n| n.parse().unwrap()).collect();
        let claim = format!("{}:{}:{}:1", numbers[0], numbers[1], numbers[2] + by);
        layer.annotations.insert(key.into(), claim);
        match open(&layer) {
            Err(Error::Codec(_)) if too_long => {}
            Err(Error::Length { .. }) if !too_long => {}
            other => panic!("{other:?}"),
        }
    }
    // A TOC elsewhere.
    let external = estargz::Options { form: Form::External, ..Default::default() };
    assert!(matches!(open(&estargz::write(&entries, &external)), Err(Error::ExternalToc)));
    // Another digest than the content has is not noticed here, but by the reader of the chunk.
    let digest = sha256(b"another");
    let edit = |json: &mut Value| {
        let row = &mut json["entries"][5];
        assert_eq!(row["name"], "usr/small");
        (row["digest"], row["chunkDigest"]) = (json!(digest), json!(digest));
    };
    let options = estargz::Options { edit: Some(&edit), landmark: false, ..Default::default() };
    let layer = estargz::write(&shifted(&entries), &options);
    let toc = open(&layer).unwrap();
    let wrong = |chunk: &&Chunk| Sha256::digest(content(&layer.blob, chunk))[..] != chunk.digest;
    assert_eq!(toc.chunks.iter().filter(wrong).count(), 1);
}

/// With the small file at a known place.
fn shifted(entries: &[Entry]) -> Vec<Entry> {
    let small = entries.iter().find(|e| e.path == b"usr/small").unwrap();
    let dirs = (0..5).map(|n| Entry::dir(format!("d{n}")));
    dirs.chain([small.clone(), Entry::file("after", "after")]).collect()
}

#[test]
fn rows_that_lie() {
    let entries = shifted(&sample());
    let place = |row: usize, key: &'static str, value: Value| {
        move |json: &mut Value| json["entries"][row][key] = value.clone()
    };
    let far = json!(1u64 << 40);
    type Lie<'a> = (Box<dyn Fn(&mut Value)>, fn(&Fault) -> bool);
    let lies: Vec<Lie> = vec![
        (Box::new(place(5, "offset", far.clone())), |f| matches!(f, Fault::Place(_))),
        (Box::new(place(5, "endOffset", far)), |f| matches!(f, Fault::Place(_))),
        (Box::new(place(5, "size", json!(6000))), |f| matches!(f, Fault::Sizes { .. })),
        (Box::new(place(6, "type", json!("chunk"))), |f| matches!(f, Fault::Stray)),
        (Box::new(place(6, "name", json!("\u{fffd}"))), |f| *f == Fault::LossyName),
        (Box::new(|json| json["entries"][6]["offset"] = json["entries"][5]["offset"].clone()), {
            |f| *f == Fault::Overlap
        }),
    ];
    for (at, (edit, expected)) in lies.iter().enumerate() {
        let edit = |json: &mut Value| {
            // Give both formats a chunk size to contradict.
            json["entries"][5]["chunkSize"] = json!(5);
            edit(json);
        };
        let options = estargz::Options { edit: Some(&edit), landmark: false, ..Default::default() };
        let first = estargz::write(&entries, &options);
        let options = zstd_chunked::Options { edit: Some(&edit), ..Default::default() };
        for layer in [first, zstd_chunked::write(&entries, &options)] {
            match open(&layer) {
                Err(Error::Row { fault, .. }) => assert!(expected(&fault), "{at}: {fault}"),
                other => panic!("{at}: {other:?}"),
            }
        }
    }
    // Names that Go could not write in JSON.
    let lossy = [Entry::file([b'a', 0xff], "x")];
    for layer in [
        estargz::write(&lossy, &estargz::Options::default()),
        zstd_chunked::write(&lossy, &zstd_chunked::Options::default()),
    ] {
        assert!(matches!(open(&layer), Err(Error::Row { fault: Fault::LossyName, .. })));
    }
}

/// Values that readers trip over.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(|n| json!(n)),
        (-1i64..3000).prop_map(|n| json!(n)),
        Just(json!(i64::MAX)),
        Just(json!(u64::MAX)),
        Just(json!("zeros")),
        Just(json!("chunk")),
        Just(json!("usr/holes")),
        Just(json!([])),
        Just(json!({ "user.x": "////" })),
    ]
}

const KEYS: [&str; 20] = [
    "name",
    "type",
    "size",
    "modtime",
    "linkName",
    "mode",
    "uid",
    "gid",
    "devMajor",
    "devMinor",
    "xattrs",
    "digest",
    "offset",
    "innerOffset",
    "endOffset",
    "chunkOffset",
    "chunkSize",
    "chunkDigest",
    "chunkType",
    "other",
];

fn writers(kind: usize, edit: estargz::Edit) -> Written {
    let entries = sample();
    let (edit, min_member) = (Some(edit), if kind == 1 { 3000 } else { 0 });
    match kind {
        0 | 1 => {
            estargz::write(&entries, &estargz::Options { edit, min_member, ..Default::default() })
        }
        2 => {
            let form = Form::Zstd;
            estargz::write(&entries, &estargz::Options { edit, form, ..Default::default() })
        }
        _ => zstd_chunked::write(&entries, &zstd_chunked::Options { edit, ..Default::default() }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(47),
        ..ProptestConfig::default()
    })]

    /// A dishonest writer: fields changed, rows dropped, doubled and swapped.
    #[test]
    fn changed_rows(
        kind in 0..4usize,
        fields in prop::collection::vec((any::<Index>(), any::<Index>(), odd_value()), 0..3),
        moves in prop::collection::vec((any::<Index>(), any::<Index>(), 0..3), 0..3),
    ) {
        let edit = |json: &mut Value| {
            let rows = json["entries"].as_array_mut().unwrap();
            for (row, key, value) in &fields {
                let at = row.index(rows.len());
                rows[at][KEYS[key.index(KEYS.len())]] = value.clone();
            }
            for (a, b, what) in &moves {
                let (a, b) = (a.index(rows.len()), b.index(rows.len()));
                match what {
                    0 => rows.swap(a, b),
                    1 => drop(rows.remove(a)),
                    _ => rows.insert(b, rows[a].clone()),
                }
            }
        };
        let layer = writers(kind, &edit);
        if let Ok(toc) = open(&layer) {
            check_toc(&toc, layer.blob.len() as u64);
        }
    }
}

#[test]
fn rows_are_counted() {
    let rows = vec![r#"{"name":"a","type":"dir"}"#; toc::MAX_ROWS + 1];
    let json = format!(r#"{{"version":1,"entries":[{}]}}"#, rows.join(","));
    let compressed = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
    let (place, digest) = (0..compressed.len() as u64, ocifs::digest::Digest::sha256(&compressed));
    let json_bytes = json.len() as u64;
    let promise =
        TocAnnotation::ZstdChunked { manifest: place.clone(), json_bytes, digest, json: None };
    assert!(matches!(
        toc::read(&promise, &place, &compressed, toc::MAX_TOC_BYTES),
        Err(Error::TooManyRows)
    ));
}

/// A small promise must not unpack to a large TOC.
#[test]
fn bombs() {
    let bomb = vec![b' '; toc::MAX_TOC_BYTES as usize + 1024];
    let compressed = zstd::bulk::compress(&bomb, 1).unwrap();
    let place = 0..compressed.len() as u64;
    let digest = ocifs::digest::Digest::sha256(&compressed);
    for json_bytes in [10, toc::MAX_TOC_BYTES, u64::MAX] {
        let promise =
            TocAnnotation::ZstdChunked { manifest: place.clone(), json_bytes, digest, json: None };
        assert!(toc::read(&promise, &place, &compressed, toc::MAX_TOC_BYTES).is_err());
    }
    let tar = crate::support::tarball::tar(&[Entry::file("stargz.index.json", &bomb)]);
    for content in [&bomb, &tar] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut &content[..], &mut gzip).unwrap();
        let bytes = gzip.finish().unwrap();
        let promise = TocAnnotation::Estargz { json: digest };
        assert!(toc::read(&promise, &(0..bytes.len() as u64), &bytes, toc::MAX_TOC_BYTES).is_err());
    }
}
