//! Our own layer index, from a cache or a registry.

use std::ops::Range;
use std::sync::Arc;

use ocifs::codec::Compression;
use ocifs::digest::{DiffId, Digest, SpanDigest};
use ocifs::extent::{CompressedOffset, Run, UncompressedOffset};
use ocifs::index::{
    Budget, Builder, Check, Chunk, EntryKind, Identity, LayerIndex, Proof, Restart, Runs, Span,
    format,
};
use ocifs::tar;

use super::{SMALL, Target, Verdict, layer, tree};
use crate::support::tarball::{Entry, TarWriter};

/// Files as they are.
pub const RAW: Target = Target { name: "layer_index", valid, check: read, most_memory: SMALL };

/// Files whose checksums are right, as an attacker would make them.
pub const SEALED: Target = Target {
    name: "layer_index_sealed",
    valid,
    check: |file| read(&seal(file.to_vec())),
    most_memory: SMALL,
};

fn valid() -> Vec<Vec<u8>> {
    vec![sample().encode(), sample().encode_head(), sample_of_spans().encode()]
}

/// An index with every kind of entry.
pub fn sample() -> LayerIndex {
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
    layer::index(&writer.finish()).unwrap()
}

/// An index with every kind of span.
pub fn sample_of_spans() -> LayerIndex {
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
    let span = |start, length, place: Range<u64>, restart, check, digest| Span {
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
        kind: tar::FileType::File,
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

/// Makes the checksums of head and tail right again.
pub fn seal(mut file: Vec<u8>) -> Vec<u8> {
    let Some(head) = head_bytes(&file).filter(|head| *head <= file.len()) else { return file };
    let end = file.len();
    for part in [0..head, head..end] {
        if let Some(body) = part.end.checked_sub(format::CHECKSUM_BYTES)
            && body >= part.start
        {
            let checksum = blake3::hash(&file[part.start..body]);
            file[body..part.end].copy_from_slice(checksum.as_bytes());
        }
    }
    file
}

/// The length of a head with its checksum, by what its header says.
fn head_bytes(file: &[u8]) -> Option<usize> {
    const RECORDS: [usize; format::SECTIONS - 2] = [
        size_of::<format::DirRecord>(),
        size_of::<format::EntryRecord>(),
        size_of::<format::WhiteoutRecord>(),
        size_of::<format::RunRecord>(),
        size_of::<format::XattrRecord>(),
        size_of::<format::SpanRecord>(),
        size_of::<format::ChunkRecord>(),
        1,
    ];
    let header = size_of::<format::FileHeader>();
    let counts = file.get(header - 8 * format::SECTIONS..header)?.chunks_exact(8);
    let mut bytes = header + format::CHECKSUM_BYTES;
    for (count, record) in counts.zip(RECORDS) {
        let count = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
        bytes = bytes.checked_add(count.checked_mul(record)?)?;
    }
    Some(bytes)
}

fn read(file: &[u8]) -> Verdict {
    let decoded = LayerIndex::decode(file);
    if let Ok(index) = &decoded {
        check(index);
    }
    Verdict::from(&decoded)
}

/// Checks every row of an index, and what is merged of it.
pub fn check(index: &LayerIndex) {
    let again = LayerIndex::decode(&index.encode()).expect("what was decoded can be encoded");
    // A proof that is of the process alone is not stored.
    assert!(again.with_proof(index.proof()) == *index, "encoding changed the index");
    check_entries(index);
    check_spans(index);
    let budget = Arc::new(Budget::of(u64::MAX));
    index.draw_on(&budget).expect("there is no limit");
    tree::check(&[index]);
    tree::check(&[index, index]);
}

fn check_entries(index: &LayerIndex) {
    let is_inside = |start: UncompressedOffset, length: u64| {
        start.checked_add(length).is_some_and(|end| end.0 <= index.uncompressed_size())
    };
    for dir in 0..index.dir_count() as u32 {
        let _ = index.dir_path(dir);
    }
    for (at, entry) in index.entries().enumerate() {
        assert_eq!(index.entry_at(at).name, entry.name);
        assert!(index.path(entry.dir, entry.name).ends_with(entry.name));
        let _ = (index.xattrs(&entry).count(), index.content_digest(&entry));
        match entry.kind {
            EntryKind::File { size, runs: Runs::Whole(start) } => {
                assert!(is_inside(start, size), "{entry:?}");
            }
            EntryKind::File { size, runs: Runs::Sparse { first, count } } => {
                let mut end = 0;
                for run in index.sparse_runs(first, count) {
                    assert!(run.file_offset >= end && is_inside(run.start, run.length));
                    end = run.file_end();
                    assert!(end <= size, "{run:?} in {size} bytes");
                }
            }
            EntryKind::HardLink { dir, .. } => assert!((dir as usize) < index.dir_count()),
            _ => {}
        }
    }
    for whiteout in index.whiteouts() {
        let _ = index.dir(whiteout.dir);
        assert!(whiteout.name != Some(b""));
    }
}

fn check_spans(index: &LayerIndex) {
    // An index may claim to be of any blob.
    let others = [&b"other"[..], b"another"].map(Digest::sha256);
    let other = others.into_iter().find(|other| *other != index.blob()).expect("they differ");
    for (blob, size) in [(index.blob(), index.blob_size()), (other, 1000)] {
        let table = index.span_table(blob, size);
        let (mut end, mut place) = (0, 0);
        for (at, span) in table.spans.iter().enumerate() {
            assert_eq!(span.start.0, end, "spans cover the layer");
            end = span.end();
            assert!(span.length > 0 && (at > 0 || span.restart != Restart::Continues));
            assert!(span.compressed_start.0 >= place && span.compressed_end.0 <= size, "{span:?}");
            place = span.compressed_start.0;
            match span.check {
                Check::Content => {}
                Check::Chunks { first, count } => {
                    let rows = &table.chunks[first as usize..][..count as usize];
                    let bytes: u64 = rows.iter().map(|row| row.length).sum();
                    assert_eq!(bytes, u64::from(span.length));
                }
                Check::Compressed { chunk } => assert!((chunk as usize) < table.chunks.len()),
                Check::Transport => panic!("a stored index with spans that nothing verifies"),
            }
            if let Restart::Block { bits, window: (start, length) } = span.restart {
                assert!(bits <= 7 && start + u64::from(length) <= index.window_bytes());
            }
        }
        assert_eq!(end, table.uncompressed_size, "spans cover the layer");
    }
}
