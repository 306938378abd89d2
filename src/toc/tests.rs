//! Tables: annotations, footers, and one JSON after the other.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::annotation::JSON_DIGEST;
use super::*;
use crate::digest::{ContentHash, Digest};
use crate::extent::UncompressedOffset;
use crate::oci::Descriptor;
use crate::tar;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn descriptor(annotations: &[(&str, &str)]) -> Descriptor {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let value = json!({ "digest": A, "size": 1000, "annotations": annotations });
    serde_json::from_value(value).unwrap()
}

#[test]
fn promises() {
    let old = "io.containers.zstd-chunked.manifest";
    let new = "io.github.containers.zstd-chunked.manifest";
    let (json, sum) = (A.parse().unwrap(), B.parse().unwrap());
    let zstd = |json| TocAnnotation::ZstdChunked {
        manifest: 100..150,
        json_bytes: 400,
        digest: sum,
        json,
    };
    let key = |prefix: &str, name: &str| format!("{prefix}-{name}");
    let with = |prefix: &str, position: &str, more: &[(&str, &str)]| {
        let (checksum, place) = (key(prefix, "checksum"), key(prefix, "position"));
        let mut all = vec![(checksum.as_str(), B), (place.as_str(), position)];
        all.extend_from_slice(more);
        promise(&descriptor(&all))
    };
    let stargz = [(JSON_DIGEST, A)];
    assert_eq!(promise(&descriptor(&[])), None);
    assert_eq!(promise(&descriptor(&[(JSON_DIGEST, "sha256:1")])), None);
    assert_eq!(promise(&descriptor(&stargz)), Some(TocAnnotation::Estargz { json }));
    assert_eq!(with(old, "100:50:400:1", &[]), Some(zstd(None)));
    assert_eq!(with(new, "100:50:400:1", &[]), Some(zstd(None)));
    assert_eq!(with(old, "100:50:400:1", &stargz), Some(zstd(Some(json))));
    for bad in ["", "1:2:3", "100:50:400:2", "1:2:3:1:5", "-1:2:3:1", "18446744073709551615:9:9:1"]
    {
        assert_eq!(with(new, bad, &[]), None, "{bad}");
    }
    // A place without a digest binds nothing.
    let place = key(new, "position");
    assert_eq!(promise(&descriptor(&[(&place, "100:50:400:1")])), None);
    // What follows from a promise.
    assert_eq!(zstd(None).first_fetch(1000), 100..150);
    assert_eq!(zstd(None).first_fetch(120), 100..120);
    assert_eq!(TocAnnotation::Estargz { json }.first_fetch(1 << 20), 1 << 19..1 << 20);
    assert_eq!(TocAnnotation::Estargz { json }.first_fetch(9), 0..9);
}

#[test]
fn bookkeeping() {
    let content = |bytes: &[u8]| -> ContentHash { Sha256::digest(bytes).into() };
    let json = Digest::sha256(b"the TOC");
    let stargz = TocAnnotation::Estargz { json };
    for (name, bytes, expected) in [
        (&b".prefetch.landmark"[..], &b"\x0f"[..], true),
        (b".no.prefetch.landmark", b"\x0f", true),
        (b".no.prefetch.landmark", b"\x0e", false),
        (b".prefetch.landmark", b"\x0f\x0f", false),
        (b".prefetch.landmark", b"#!/bin/sh", false),
        (b".prefetch.landmark", b"the TOC", false),
        (b"stargz.index.json", b"the TOC", true),
        (b"stargz.index.json", b"another", false),
        (b"stargz.index.json", b"\x0f", false),
        (b"another", b"\x0f", false),
        (b"another", b"the TOC", false),
    ] {
        let found = stargz.is_bookkeeping(name, bytes.len() as u64, &content(bytes));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(name));
    }
    let zstd = |json| TocAnnotation::ZstdChunked {
        manifest: 1..2,
        json_bytes: 1,
        digest: A.parse().unwrap(),
        json,
    };
    let landmark = content(b"\x0f");
    assert!(zstd(Some(json)).is_bookkeeping(b".prefetch.landmark", 1, &landmark));
    assert!(!zstd(None).is_bookkeeping(b".prefetch.landmark", 1, &landmark));
    // There it is in no tar.
    assert!(!zstd(Some(json)).is_bookkeeping(b"stargz.index.json", 7, &content(b"the TOC")));
    // A digest alone is only a claim.
    assert!(!stargz.is_bookkeeping(b".prefetch.landmark", 2, &landmark));
}

/// A footer around an extra field.
fn footer(extra: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
    out.extend_from_slice(extra);
    out.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    out
}

#[test]
fn footers() {
    let promise = TocAnnotation::Estargz { json: A.parse().unwrap() };
    let tail = |extra: &[u8]| [&[7; 100][..], &footer(extra)].concat();
    let look = |tail: &[u8], size: u64| find(&promise, tail, size - tail.len() as u64, size);
    let new = tail(b"SG\x16\x000000000000000300STARGZ");
    let legacy = tail(b"0000000000000300STARGZ");
    assert_eq!((new.len(), legacy.len()), (151, 147));
    assert_eq!(look(&new, 1000).unwrap(), 0x300..949);
    assert_eq!(look(&new[100..], 1000).unwrap(), 0x300..949);
    assert_eq!(look(&legacy, 1000).unwrap(), 0x300..953);
    assert_eq!(look(&tail(b"SG\x16\x00000000000000000ASTARGZ"), 151).unwrap(), 10..100);
    for (tail, size, word) in [
        (tail(b"SG\x11\x00STARGZEXTERNALTOC"), 1000, "outside"),
        (tail(b"SG\x16\x00+000000000000300STARGZ"), 1000, "no footer"),
        (tail(b"SH\x16\x000000000000000300STARGZ"), 1000, "no footer"),
        (tail(b"SG\x15\x000000000000000300STARGZ"), 1000, "no footer"),
        (tail(b"SG\x16\x000000000000000300STARGX"), 1000, "no footer"),
        (tail(b"SG\x16\x0000000000000003b5STARGZ"), 1000, "not inside"),
        (tail(b"SG\x16\x00ffffffffffffffffSTARGZ"), 1000, "not inside"),
        (tail(b"SG\x16\x000000000000000000STARGZ"), 1 << 40, "larger than"),
        (new[110..].to_vec(), 1000, "was not read"),
        (new[..150].to_vec(), 1000, "no footer"),
        (b"x".to_vec(), 1, "no footer"),
        (Vec::new(), 0, "no footer"),
    ] {
        let error = look(&tail, size).unwrap_err().to_string();
        assert!(error.contains(word), "{error}, not {word}");
    }
    assert!(matches!(find(&promise, &new, 0, 1000), Err(Error::NotTheEnd)));
    assert!(matches!(find(&promise, &new, u64::MAX, 1000), Err(Error::NotTheEnd)));
}

#[test]
fn places_from_annotations() {
    let zstd = |manifest, json_bytes| TocAnnotation::ZstdChunked {
        manifest,
        json_bytes,
        digest: A.parse().unwrap(),
        json: None,
    };
    let look = |promise: TocAnnotation, size| find(&promise, b"", 0, size);
    assert_eq!(look(zstd(100..150, 400), 150).unwrap(), 100..150);
    assert!(matches!(look(zstd(100..150, 400), 149), Err(Error::Place(_))));
    assert!(matches!(look(zstd(100..100, 400), 150), Err(Error::Place(_))));
    let large = MAX_TOC_BYTES + 1;
    assert!(matches!(look(zstd(100..150, large), 150), Err(Error::TooLarge)));
    assert!(matches!(look(zstd(0..large, 1), large), Err(Error::TooLarge)));
}

const CONTENT_END: u64 = 10_000;

fn parse(entries: Value) -> Result<Toc, Error> {
    let text = json!({ "version": 1, "entries": entries, "tarSplitDigest": A, "x": [{}] });
    rows::parse(text.to_string().as_bytes(), CONTENT_END)
}

#[test]
fn entries_of_all_kinds() {
    let toc = parse(json!([
        { "name": "d/", "type": "dir", "mode": 0o041777, "uid": 7, "gid": 4294967295u32,
          "modtime": "1960-01-01T00:00:01.5Z", "userName": "u", "xattrs": null, "size": 4096,
          "linkName": "not a link", "offset": 1, "digest": "ignored" },
        { "name": "d/l", "type": "symlink", "linkName": "../x", "mode": 511, "future": {"a": [1]} },
        { "name": "d/h", "type": "hardlink", "linkName": "d/f", "size": 100, "chunkSize": null },
        { "name": "c", "type": "char", "devMajor": 1, "devMinor": 3 },
        { "name": "b", "type": "block", "devMajor": 259, "devMinor": 1048575 },
        { "name": "p", "type": "fifo", "modtime": "" },
        { "name": "d/e", "type": "reg", "digest": A,
          "xattrs": { "user.b": "dg==", "user.a": "", "user.c": null } },
        { "name": "ü", "type": "reg", "mode": 0o104755, "size": 5, "digest": A, "offset": 10 },
    ]))
    .unwrap();
    let entry = |path: &str, kind, mode| tar::Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime_seconds: 0,
        mtime_nanoseconds: 0,
        size: 0,
        link_target: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        runs: Vec::new(),
        sparse: false,
    };
    use crate::tar::FileType::*;
    let start = UncompressedOffset(0);
    let run = crate::extent::Run { file_offset: 0, start, length: 5 };
    let expected = [
        tar::Entry {
            uid: 7,
            gid: u32::MAX,
            mtime_seconds: -315_619_199,
            mtime_nanoseconds: 500_000_000,
            ..entry("d/", Directory, 0o1777)
        },
        tar::Entry { link_target: b"../x".to_vec(), ..entry("d/l", Symlink, 0o777) },
        tar::Entry { link_target: b"d/f".to_vec(), ..entry("d/h", HardLink, 0) },
        tar::Entry { device: (1, 3), ..entry("c", CharDevice, 0) },
        tar::Entry { device: (259, 1_048_575), ..entry("b", BlockDevice, 0) },
        entry("p", Fifo, 0),
        tar::Entry {
            xattrs: [(&b"user.a"[..], &b""[..]), (b"user.b", b"v"), (b"user.c", b"")]
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .to_vec(),
            ..entry("d/e", File, 0)
        },
        tar::Entry { size: 5, runs: vec![run], ..entry("ü", File, 0o4755) },
    ];
    let entries: Vec<_> = toc.entries.iter().map(|e| e.entry.clone()).collect();
    assert_eq!(entries, expected);
    let hashes: Vec<_> = toc.entries.iter().map(|e| e.content_hash).collect();
    assert_eq!(hashes, [None, None, None, None, None, None, None, Some([0xaa; 32])]);
    let chunk =
        Chunk { start, length: 5, compressed: 10..CONTENT_END, skip: 0, digest: [0xaa; 32] };
    assert_eq!((toc.chunks, toc.content_bytes), (vec![chunk], 5));
}

#[test]
fn lists_may_be_null_and_versions_must_be_1() {
    let read = |text: &str| rows::parse(text.as_bytes(), 1);
    for text in [r#"{"version":1}"#, r#"{"entries":null,"version":1}"#] {
        assert_eq!(read(text).unwrap().entries, []);
    }
    for (text, word) in [
        ("", "not valid"),
        ("{}", "version 0"),
        (r#"{"version":2}"#, "version 2"),
        (r#"{"version":1} x"#, "not valid"),
        (r#"{"version":1,"entries":{}}"#, "not valid"),
        (r#"{"version":1,"entries":[null]}"#, "not valid"),
        (r#"{"version":1,"entries":[{"size":1.5}]}"#, "not valid"),
        (r#"{"version":1,"entries":[{"size":9223372036854775808}]}"#, "not valid"),
        (r#"{"version":1,"entries":[],"entries":[]}"#, "duplicate"),
        ("[1,[]]", "not valid"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

/// Where the chunks of a TOC are: (start, length, compressed, skip).
fn places(toc: &Toc) -> Vec<(u64, u64, Range<u64>, u64)> {
    toc.chunks.iter().map(|c| (c.start.0, c.length, c.compressed.clone(), c.skip)).collect()
}

/// The runs of one entry: (file offset, start, length).
fn runs(toc: &Toc, entry: usize) -> Vec<(u64, u64, u64)> {
    let runs = &toc.entries[entry].entry.runs;
    runs.iter().map(|run| (run.file_offset, run.start.0, run.length)).collect()
}

#[test]
fn chunks() {
    // Order in the list and order in the blob differ.
    let toc = parse(json!([
        { "name": "late", "type": "reg", "size": 8, "offset": 900, "chunkSize": 3,
          "chunkDigest": A, "digest": B },
        { "name": "late", "type": "chunk", "offset": 950, "chunkOffset": 3, "chunkDigest": B },
        { "name": ".prefetch.landmark", "type": "reg", "size": 1, "offset": 700, "digest": A },
        { "name": "early", "type": "reg", "size": 5, "offset": 500, "chunkDigest": A },
    ]))
    .unwrap();
    let expected = [
        (0, 5, 500..700, 0),
        (5, 1, 700..900, 0),
        (6, 3, 900..950, 0),
        (9, 5, 950..CONTENT_END, 0),
    ];
    assert_eq!(places(&toc), expected);
    assert_eq!(toc.entries.len(), 3);
    assert_eq!((runs(&toc, 0), runs(&toc, 2)), (vec![(0, 6, 8)], vec![(0, 0, 5)]));
    // Of a file of one chunk the chunk's digest, which is verified; otherwise the file's.
    let hashes: Vec<_> = toc.entries.iter().map(|e| e.content_hash).collect();
    assert_eq!(hashes, [Some([0xbb; 32]), Some([0xaa; 32]), Some([0xaa; 32])]);
    assert!(!toc.entries[0].entry.sparse);
    assert_eq!(toc.content_bytes, 14);

    // Several files in one member, the first of them in the blob's first.
    let toc = parse(json!([
        { "name": "a", "type": "reg", "size": 5, "innerOffset": 512, "digest": A },
        { "name": "b", "type": "reg", "size": 7, "innerOffset": 2048, "digest": A, "chunkSize": 4,
          "chunkDigest": A },
        { "type": "chunk", "offset": 300, "chunkOffset": 4, "chunkSize": 3, "chunkDigest": A },
    ]))
    .unwrap();
    let expected = [(0, 5, 0..300, 512), (5, 4, 0..300, 2048), (9, 3, 300..CONTENT_END, 0)];
    assert_eq!(places(&toc), expected);
    assert_eq!(runs(&toc, 1), [(0, 5, 7)]);
}

#[test]
fn holes() {
    let toc = parse(json!([
        { "name": "s", "type": "reg", "size": 10_000_000_000u64, "offset": 100, "endOffset": 190,
          "chunkSize": 3, "chunkDigest": A, "digest": B },
        { "name": "s", "type": "chunk", "offset": 120, "chunkOffset": 3, "chunkType": "zeros",
          "chunkSize": 9_999_999_990u64 },
        { "name": "s", "type": "chunk", "offset": 150, "chunkOffset": 9_999_999_993u64,
          "chunkSize": 7, "chunkDigest": A },
        { "name": "z", "type": "reg", "size": 4096, "chunkType": "zeros" },
        { "name": "t", "type": "reg", "size": 4, "offset": 200, "endOffset": 210, "digest": A },
    ]))
    .unwrap();
    assert_eq!(places(&toc), [(0, 3, 100..120, 0), (3, 7, 150..190, 0), (10, 4, 200..210, 0)]);
    assert_eq!(runs(&toc, 0), [(0, 0, 3), (9_999_999_993, 3, 7)]);
    assert_eq!(runs(&toc, 1), []);
    let sparse: Vec<bool> = toc.entries.iter().map(|e| e.entry.sparse).collect();
    assert_eq!(sparse, [true, true, false]);
    assert_eq!(toc.entries[0].content_hash, Some([0xbb; 32]));
}

#[test]
fn files_whose_chunks_alternate() {
    let read = |[a, b, c, d]: [(u64, u64); 4]| {
        let row = |name: &str, kind: &str, at: u64, (offset, inner): (u64, u64)| {
            json!({ "name": name, "type": kind, "size": 8, "offset": offset,
                "innerOffset": inner, "chunkOffset": at, "chunkSize": 4, "chunkDigest": A })
        };
        let (a, c) = (row("a", "reg", 0, a), row("a", "chunk", 4, c));
        parse(json!([a, c, row("b", "reg", 0, b), row("b", "chunk", 4, d)]))
    };
    // In one member nothing is in the way; the bytes of each are two runs.
    let toc = read([(10, 0), (10, 4), (10, 100), (10, 104)]).unwrap();
    assert_eq!(runs(&toc, 0), [(0, 0, 4), (4, 8, 4)]);
    assert_eq!(runs(&toc, 1), [(0, 4, 4), (4, 12, 4)]);
    assert!(toc.entries[0].entry.sparse && toc.entries[1].entry.sparse);
    // Else a chunk lasts until the next one of its file, in the eyes of other readers too.
    let error = read([(10, 0), (20, 0), (30, 0), (40, 0)]).unwrap_err();
    assert!(matches!(error, Error::Row { fault: Fault::Overlap, .. }));
}

#[test]
fn faults() {
    let file = json!({ "name": "f", "type": "reg", "size": 8, "offset": 10, "chunkSize": 4,
        "chunkDigest": A });
    let last = json!({ "name": "f", "type": "chunk", "offset": 20, "chunkOffset": 4,
        "chunkDigest": A });
    let with = |base: &Value, changes: Value| {
        let mut row = base.clone();
        for (key, value) in changes.as_object().unwrap() {
            row[key] = value.clone();
        }
        row
    };
    parse(json!([file, last])).unwrap();
    let plain = json!({ "name": "g", "type": "reg", "size": 4, "offset": 15, "digest": B });
    let range = |field, value| Fault::Range { field, value };
    let file_with = |changes| json!([with(&file, changes), last]);
    let last_with = |changes| json!([file, with(&last, changes)]);
    let plain_with = |changes| json!([with(&plain, changes)]);
    for (rows, expected) in [
        (json!([{}]), Fault::Type(String::new())),
        (plain_with(json!({ "type": "socket" })), Fault::Type("socket".into())),
        (plain_with(json!({ "size": -1 })), range("size", -1)),
        (plain_with(json!({ "uid": 4294967296i64 })), range("uid", 1 << 32)),
        (plain_with(json!({ "gid": -1 })), range("gid", -1)),
        (plain_with(json!({ "type": "char", "devMinor": -2 })), range("devMinor", -2)),
        (plain_with(json!({ "offset": -10 })), range("offset", -10)),
        (plain_with(json!({ "endOffset": -10 })), range("endOffset", -10)),
        (plain_with(json!({ "modtime": "yesterday" })), Fault::Time("yesterday".into())),
        (plain_with(json!({ "xattrs": { "user.a": "?" } })), Fault::Xattr("a value is not base64")),
        (
            plain_with(json!({ "xattrs": { "": "" } })),
            Fault::Xattr("a name is empty, too long or has a NUL"),
        ),
        (plain_with(json!({ "name": "g\u{fffd}" })), Fault::LossyName),
        (json!([{ "type": "symlink", "linkName": "\u{fffd}" }]), Fault::LossyName),
        (plain_with(json!({ "xattrs": { "user.\u{fffd}": "" } })), Fault::LossyName),
        (plain_with(json!({ "digest": "sha512:00" })), {
            Fault::Digest("sha512:00".parse::<Digest>().unwrap_err())
        }),
        (plain_with(json!({ "digest": format!("sha512:{}", "0".repeat(128)) })), Fault::NotSha256),
        (plain_with(json!({ "digest": "" })), Fault::NoDigest),
        (plain_with(json!({ "chunkDigest": A })), Fault::Contradiction),
        (plain_with(json!({ "offset": 0 })), Fault::NoPlace),
        (plain_with(json!({ "offset": CONTENT_END })), Fault::Place(CONTENT_END)),
        (plain_with(json!({ "endOffset": 15 })), Fault::Place(15)),
        (plain_with(json!({ "endOffset": CONTENT_END + 1 })), Fault::Place(CONTENT_END + 1)),
        (plain_with(json!({ "innerOffset": i64::MAX })), Fault::Skip(i64::MAX as u64)),
        (plain_with(json!({ "chunkType": "dedup" })), Fault::ChunkType("dedup".into())),
        (plain_with(json!({ "chunkSize": 5 })), Fault::Sizes { size: 4 }),
        (plain_with(json!({ "chunkSize": 3 })), Fault::Sizes { size: 4 }),
        (plain_with(json!({ "chunkOffset": 1 })), Fault::ChunkOffset { expected: 0, got: 1 }),
        (json!([last]), Fault::Stray),
        (json!([plain, last]), Fault::Stray),
        (json!([{ "name": "f", "type": "dir" }, last]), Fault::Stray),
        (json!([{ "name": "f", "type": "reg" }, last]), {
            Fault::ChunkOffset { expected: 0, got: 4 }
        }),
        (
            json!([{ "name": "f", "type": "reg" }, with(&last, json!({ "chunkOffset": 0 }))]),
            Fault::Sizes { size: 0 },
        ),
        (file_with(json!({ "chunkSize": 0 })), Fault::ChunkOffset { expected: 8, got: 4 }),
        (file_with(json!({ "chunkDigest": null, "digest": A })), Fault::NoDigest),
        (last_with(json!({ "chunkDigest": null })), Fault::NoDigest),
        (last_with(json!({ "chunkOffset": 5 })), Fault::ChunkOffset { expected: 4, got: 5 }),
        (last_with(json!({ "chunkSize": 3 })), Fault::Sizes { size: 8 }),
        (last_with(json!({ "chunkSize": 5 })), Fault::Sizes { size: 8 }),
        (last_with(json!({ "offset": 10 })), Fault::Order),
        (last_with(json!({ "offset": 9 })), Fault::Order),
        (last_with(json!({ "offset": 10, "innerOffset": 3 })), Fault::Overlap),
        // The other file's chunks begin at 10 and 20.
        (json!([file, last, with(&plain, json!({ "offset": 10 }))]), Fault::Overlap),
        (json!([file, last, with(&plain, json!({ "endOffset": 21 }))]), Fault::Overlap),
    ] {
        match parse(rows.clone()) {
            Err(Error::Row { fault, .. }) => assert_eq!(fault, expected, "{rows}"),
            other => panic!("{rows}: {other:?}"),
        }
    }
    let error = parse(json!([file, last, with(&plain, json!({ "offset": 10 }))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "table of contents, `g`: the content overlaps that of another file"
    );
    let bomb = plain_with(json!({ "size": 1u64 << 40 }));
    assert!(matches!(parse(bomb), Err(Error::Implausible { .. })));
    let bombs = (1..9).map(|n| with(&plain, json!({ "size": i64::MAX, "offset": n })));
    assert!(matches!(parse(bombs.collect()), Err(Error::Implausible { .. })));
}
