//! The layer index's file format: pinned bytes, and files that lie.

use ocifs::codec::Compression;
use ocifs::digest::{DiffId, Digest, SpanDigest};
use ocifs::extent::{CompressedOffset, Run, UncompressedOffset};
use ocifs::index::{
    Builder, Check, Chunk, DecodeError, Identity, LayerIndex, Proof, Restart, Span, format,
};
use ocifs::tar;
use proptest::prelude::*;

use crate::layers::index;
use crate::support::tarball::{Entry, TarWriter};

/// An index with everything in it.
fn sample() -> LayerIndex {
    let mut writer = TarWriter::new();
    writer.entry(&Entry::dir("./").mode(0o755).mtime(1, 0));
    writer.entry(&Entry::dir("usr").mode(0o755).owner(1, 2).mtime(1_700_000_000, 5));
    writer.entry(&Entry::file("usr/file", "content").mode(0o4711).xattr("user.a", "value"));
    writer.entry(&Entry::symlink("usr/link", "file"));
    writer.entry(&Entry::hardlink("hard", "usr/file"));
    writer.entry(&Entry::char_device("null", 1, 3));
    writer.entry(&Entry::block_device("disk", 259, 70000));
    writer.entry(&Entry::fifo("pipe").mtime(-2, 500_000_000));
    writer.entry(&Entry::file("usr/.wh.gone", ""));
    writer.entry(&Entry::file("opaque/.wh..wh..opq", ""));
    writer.sparse_pax_1_0("sparse", 100_000, &[(0, &[1; 512]), (50_000, &[2; 512])]);
    index(&writer.finish()).unwrap()
}

/// An index with every kind of span.
fn sample_of_spans() -> LayerIndex {
    let mut builder = Builder::new();
    let window = builder.window(b"a stored window");
    let hash = |n: u8| [n; 32];
    let chunk = |start, skip, length, n| Chunk {
        compressed_start: CompressedOffset(start),
        skip,
        length,
        digest: hash(n),
    };
    let chunks = [chunk(300, 0, 70, 1), chunk(400, 5, 30, 2), chunk(500, 0, 50, 3)]
        .map(|chunk| builder.chunk(&chunk).unwrap());
    let span = |start, length, place: std::ops::Range<u64>, restart, check, digest| Span {
        start: UncompressedOffset(start),
        length,
        compressed_start: CompressedOffset(place.start),
        compressed_end: CompressedOffset(place.end),
        restart,
        check,
        digest,
    };
    let of_chunks = SpanDigest::of_chunks([(hash(1), 70), (hash(2), 30)].into_iter());
    let of_compressed = SpanDigest::of_compressed(hash(3), 3, b"a stored window", 50);
    for span in [
        span(0, 100, 0..50, Restart::Here, Check::Content, SpanDigest(hash(7))),
        span(100, 100, 50..90, Restart::Continues, Check::Content, SpanDigest(hash(8))),
        span(
            200,
            100,
            89..300,
            Restart::Block { bits: 3, window },
            Check::Content,
            SpanDigest(hash(9)),
        ),
        span(
            300,
            100,
            300..500,
            Restart::Here,
            Check::Chunks { first: chunks[0], count: 2 },
            of_chunks,
        ),
        span(
            400,
            50,
            500..600,
            Restart::Block { bits: 3, window },
            Check::Compressed { chunk: chunks[2] },
            of_compressed,
        ),
    ] {
        builder.span(&span);
    }
    let file = tar::Entry {
        path: b"listed".to_vec(),
        kind: tar::Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_seconds: 0,
        mtime_nanoseconds: 0,
        size: 450,
        link_target: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        runs: vec![Run { file_offset: 0, start: UncompressedOffset(0), length: 450 }],
        sparse: false,
    };
    builder.listed(file, Some(hash(5))).unwrap();
    builder
        .finish(Identity {
            blob: Digest::sha256(b"blob"),
            blob_size: 1000,
            diff_id: DiffId(Digest::sha256(b"tar")),
            uncompressed_size: 450,
            compression: Compression::Gzip,
            proof: Proof::Toc,
        })
        .unwrap()
}

#[test]
fn an_index_without_its_tail_is_an_index() {
    let whole = sample();
    let head = LayerIndex::decode(&whole.encode_head()).unwrap();
    assert_eq!(head.encode_head(), whole.encode_head());
    assert_eq!(head.encode_tail(), b"");
    assert_eq!(head.window_bytes(), whole.window_bytes());
    let hashes = |index: &LayerIndex| {
        index.entries().filter(|entry| index.content_digest(entry).is_some()).count()
    };
    assert_eq!((hashes(&head), hashes(&whole)), (0, 2));
    // A name that binds a window can't be checked without it.
    assert!(LayerIndex::decode(&sample_of_spans().encode_head()).is_err());
    let decoded = LayerIndex::decode(&sample_of_spans().encode()).unwrap();
    assert_eq!(decoded, sample_of_spans());
    assert_eq!(decoded.window_bytes(), 15);
}

/// The digest of the encoded samples. If this fails, the format has changed: give it a new
/// `format::VERSION` and pin the new digest; files of old versions are then rebuilt.
#[test]
fn the_bytes_of_version_3_are_pinned() {
    assert_eq!(format::VERSION, 3);
    let digest = |index: LayerIndex| Digest::sha256(&index.encode()).to_string();
    assert_eq!((&*digest(sample()), &*digest(sample_of_spans())), (GOLDEN, GOLDEN_OF_SPANS));
}

const GOLDEN: &str = "sha256:83d67471912c659431c781f5a9179a0b8004eb53746788bd0b4734724af66fa2";
const GOLDEN_OF_SPANS: &str =
    "sha256:50ae4434226e9cbcb512a0caa955b463f8a24191f27ca8893648f8b498dde031";

#[test]
fn other_files_are_refused() {
    let good = sample().encode();
    assert_eq!(LayerIndex::decode(b""), Err(DecodeError::Length));
    assert_eq!(LayerIndex::decode(&good[..good.len() - 1]), Err(DecodeError::Length));
    let mut other = good.clone();
    other[0] = b'X';
    assert_eq!(LayerIndex::decode(&other), Err(DecodeError::Magic));
    let mut newer = good.clone();
    newer[8] = 4;
    assert_eq!(LayerIndex::decode(&newer), Err(DecodeError::Version(4)));
    for at in (0..good.len()).step_by(97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        assert!(LayerIndex::decode(&flipped).is_err(), "a bit at {at}");
    }
}

/// A head alone says how long its tail is: places in it are computed from that.
#[test]
fn a_head_with_an_absurd_tail_is_refused() {
    let head = sample().encode_head();
    let end = size_of::<format::FileHeader>();
    for (what, at) in [("hashes", end - 16), ("windows", end - 8)] {
        for count in [1 << 40, 1 << 59, u64::MAX] {
            let mut file = head.clone();
            file[at..at + 8].copy_from_slice(&u64::to_le_bytes(count));
            let body = file.len() - format::CHECKSUM_BYTES;
            let checksum = blake3::hash(&file[..body]);
            file[body..].copy_from_slice(checksum.as_bytes());
            let refused = matches!(LayerIndex::decode(&file), Err(DecodeError::Inconsistent(_)));
            assert!(refused, "{count} {what}");
        }
    }
}

/// Makes the checksums right again, as an attacker would.
fn seal(mut file: Vec<u8>, head: usize) -> Vec<u8> {
    let end = file.len();
    for part in [0..head, head..end] {
        let body = part.end - format::CHECKSUM_BYTES;
        let checksum = blake3::hash(&file[part.start..body]);
        file[body..part.end].copy_from_slice(checksum.as_bytes());
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Errors are fine, panics are not: whatever decodes can be used without one.
    #[test]
    fn lies_under_a_right_checksum(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        of_spans in any::<bool>(),
    ) {
        let sample = if of_spans { sample_of_spans() } else { sample() };
        let mut file = sample.encode();
        let head = sample.encode_head().len();
        let body = file.len() - format::CHECKSUM_BYTES;
        for (at, byte) in edits {
            // The header's identity is not what this is about.
            let at = 8 + at.index(body - 8);
            file[at] = byte;
        }
        if let Ok(index) = LayerIndex::decode(&seal(file, head)) {
            for entry in index.entries() {
                let _ = (index.xattrs(&entry).count(), index.content_digest(&entry), index.dir_path(entry.dir));
            }
            let _ = (index.whiteouts().count(), index.span_table(Digest::sha256(b"blob"), 1000));
            if let Ok(tree) = ocifs::tree::merge(&[&index, &index]) {
                for ino in tree.inos() {
                    let _ = (tree.attributes(ino), tree.content(ino), tree.symlink(ino), tree.xattrs(ino).count());
                    let _ = tree.children_by_name(ino).count();
                }
            }
        }
    }
}
