//! SOCI's ztocs and index manifests, read from what an independent writer makes.

use ocifs::codec::Compression;
use ocifs::tar;
use ocifs::ztoc::{Error, SociIndex, SociVersion, Ztoc};
use serde_json::json;

use crate::hostile::ztoc::check_ztoc;
use crate::support::deflate::{resume, walk};
use crate::support::image::{compress, gzip_all_fields, sha256};
use crate::support::tarball::{Entry, Kind};
use crate::support::ztoc::{
    self as writer, Metadata, POINT, Points, WINDOW, gzip_flushed, hash, tar_with_metadata,
};

/// Spans of the test layers: small, so that there are many.
const SPAN: usize = 60_000;

/// Text that deflate makes something of, without being the same everywhere.
fn prose(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(bytes + 16);
    while out.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = state >> 40;
        out.extend_from_slice(format!("{:x} ", word % 5000).as_bytes());
        if word.is_multiple_of(5) {
            out.extend_from_slice(&state.to_le_bytes());
        }
    }
    out.truncate(bytes);
    out
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::dir("usr/").owner(1, 2).mode(0o1777).mtime(1_700_000_000, 123_456_789),
        Entry::file("usr/big", prose(700_000, 7)).mode(0o4755),
        Entry::file("empty", "").mtime(-1, 500_000_000),
        Entry::symlink("link", "usr/big").owner(u32::MAX - 1, 65534),
        Entry::hardlink("hard", "usr/big").mtime(-86400 * 365 * 60, 0),
        Entry::file(b"name\xff", prose(90_001, 8)).xattr("user.b", "2").xattr("user.a", b"\0\xff"),
        Entry::char_device("null", 1, 3),
        Entry::block_device("disk", 259, 70_000),
        Entry::fifo("pipe").xattr("security.capability", ""),
        Entry::file("last", [9; 512]).mtime(253_402_300_799, 1),
    ]
}

/// Every way to make a gzip layer, with the name of it.
fn gzips(tar: &[u8]) -> Vec<(&'static str, Vec<u8>, Points)> {
    use crate::support::image::Compression::{Gzip, GzipMultiMember};
    vec![
        ("one member", compress(tar, Gzip), Points::Soci),
        ("members", compress(tar, GzipMultiMember(100_000)), Points::Soci),
        ("many members in a span", compress(tar, GzipMultiMember(10_000)), Points::Soci),
        ("all header fields", gzip_all_fields(tar), Points::Soci),
        ("flushed", gzip_flushed(tar, 20_000), Points::Soci),
        ("flushed, whole bytes", gzip_flushed(tar, 20_000), Points::Aligned),
        (
            "an empty member first",
            [compress(b"", Gzip), compress(tar, Gzip)].concat(),
            Points::Soci,
        ),
    ]
}

/// What should be read from an entry and its metadata.
fn expected(entry: &Entry, metadata: &Metadata) -> tar::Entry {
    let (kind, link_target, device, size) = match &entry.kind {
        Kind::File(data) => (tar::FileType::File, &b""[..], (0, 0), data.len() as u64),
        Kind::Dir => (tar::FileType::Directory, &b""[..], (0, 0), 0),
        Kind::Symlink(target) => (tar::FileType::Symlink, &target[..], (0, 0), 0),
        Kind::Hardlink(target) => (tar::FileType::HardLink, &target[..], (0, 0), 0),
        Kind::Char { major, minor } => (tar::FileType::CharDevice, &b""[..], (*major, *minor), 0),
        Kind::Block { major, minor } => (tar::FileType::BlockDevice, &b""[..], (*major, *minor), 0),
        Kind::Fifo => (tar::FileType::Fifo, &b""[..], (0, 0), 0),
    };
    let start = ocifs::extent::UncompressedOffset(metadata.offset as u64);
    let run = ocifs::extent::Run { file_offset: 0, start, length: size };
    let mut xattrs = entry.xattrs.clone();
    xattrs.sort();
    tar::Entry {
        path: metadata.name.clone(),
        kind,
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        mtime_seconds: entry.mtime.0,
        mtime_nanoseconds: entry.mtime.1,
        size,
        link_target: link_target.to_vec(),
        device,
        xattrs,
        runs: if size > 0 { vec![run] } else { Vec::new() },
        sparse: false,
    }
}

/// What the parser of tars makes of the same layer.
fn parsed(tar: &[u8]) -> Vec<tar::Entry> {
    struct Entries(Vec<tar::Entry>);
    impl tar::Sink for Entries {
        type Error = tar::Error;
        fn entry(&mut self, mut entry: tar::Entry) -> Result<(), tar::Error> {
            entry.xattrs.sort();
            self.0.push(entry);
            Ok(())
        }
        fn content(&mut self, _: &[u8]) {}
        fn end(&mut self) {}
    }
    let mut entries = Entries(Vec::new());
    tar::Parser::new().feed(tar, &mut entries).unwrap();
    entries.0
}

#[test]
fn entries_are_those_of_the_tar() {
    let entries = entries();
    let (tar, metadata) = tar_with_metadata(&entries);
    let blob = gzip_flushed(&tar, 50_000);
    for bytes in [
        writer::Ztoc::gzip(&metadata, &blob, SPAN, Points::Soci).encode(),
        writer::Ztoc::plain(&metadata, &tar, SPAN).encode(),
    ] {
        let ztoc = Ztoc::parse(&bytes).unwrap();
        check_ztoc(&ztoc);
        assert_eq!(ztoc.entries.len(), entries.len());
        for ((read, entry), metadata) in ztoc.entries.iter().zip(&entries).zip(&metadata) {
            assert_eq!(*read, expected(entry, metadata));
        }
        assert_eq!(ztoc.entries, parsed(&tar));
    }
}

#[test]
fn spans_decompress_alone() {
    let (tar, metadata) = tar_with_metadata(&entries());
    let mut bits = [0; 8];
    let mut inflated = 0;
    for (name, blob, points) in gzips(&tar) {
        let written = writer::Ztoc::gzip(&metadata, &blob, SPAN, points);
        let bytes = written.encode();
        let ztoc = Ztoc::parse(&bytes).unwrap();
        check_ztoc(&ztoc);
        assert_eq!(ztoc.compression, Compression::Gzip);
        assert_eq!(
            (ztoc.compressed_bytes, ztoc.uncompressed_bytes),
            (blob.len() as u64, tar.len() as u64)
        );
        assert!(!ztoc.first_checkpoint_implied && ztoc.spans.len() > 5, "{name}");
        for span in &ztoc.spans {
            let range = span.verified_range();
            assert_eq!(
                hash(&blob[range.start as usize..range.end as usize]),
                span.digest,
                "{name}"
            );
            let start = span.start.0 as usize;
            let content = &tar[start..start + span.length as usize];
            let empty = [0; WINDOW];
            let window = span.window.unwrap_or(&empty);
            let bit = 8 * span.compressed.start - u64::from(span.bits);
            // The stream is cut where the span ends, so that it can't read on.
            let stream = &blob[..span.compressed.end as usize];
            assert!(resume(stream, bit, window, content.len()) == content, "{name} at {start}");
            bits[usize::from(span.bits)] += 1;
            if points == Points::Aligned {
                let mut inflate = flate2::Decompress::new(false);
                inflate.set_dictionary(window).unwrap();
                let mut out = Vec::with_capacity(content.len());
                let input = &stream[span.compressed.start as usize..];
                inflate.decompress_vec(input, &mut out, flate2::FlushDecompress::None).unwrap();
                assert!(out == content, "{name} at {start}");
                inflated += 1;
            }
        }
    }
    // What the fixtures are for.
    assert!(bits.iter().all(|count| *count > 0), "every number of bits occurs: {bits:?}");
    assert!(inflated > 5);
}

#[test]
fn both_encodings_of_checkpoints() {
    let (tar, metadata) = tar_with_metadata(&entries());
    let blob = gzip_flushed(&tar, 20_000);
    let second = writer::Ztoc::gzip(&metadata, &blob, SPAN, Points::Soci);
    let (second, first) = (second.encode(), second.without_first_checkpoint().encode());
    let (second, first) = (Ztoc::parse(&second).unwrap(), Ztoc::parse(&first).unwrap());
    assert!(first.first_checkpoint_implied && !second.first_checkpoint_implied);
    assert_eq!(first.spans, second.spans);
    assert_eq!(first.entries, second.entries);

    // With a longer header the first encoding is wrong, which the writer's digest is as well.
    let mut written = writer::Ztoc::gzip(&metadata, &gzip_all_fields(&tar), SPAN, Points::Soci);
    let end = i64::from_le_bytes(written.checkpoints[12 + POINT..][..8].try_into().unwrap());
    written.span_digests[0] = sha256(&gzip_all_fields(&tar)[10..end as usize]);
    let first = written.without_first_checkpoint().encode();
    let first = Ztoc::parse(&first).unwrap();
    assert!(first.first_checkpoint_implied);
    assert_eq!(first.spans[0].verified_range(), 10..end as u64);
}

#[test]
fn plain_tars() {
    let (tar, metadata) = tar_with_metadata(&entries());
    // Also with zeros behind the end mark, and with a last span that is full.
    for (padding, span) in [(0, SPAN), (9000, 4096), (0, tar.len()), (0, tar.len() / 2)] {
        let padded = [&tar[..], &vec![0; padding]].concat();
        let mut written = writer::Ztoc::plain(&metadata, &padded, span);
        written.uncompressed_size = tar.len() as i64;
        let bytes = written.encode();
        let ztoc = Ztoc::parse(&bytes).unwrap();
        check_ztoc(&ztoc);
        assert_eq!(ztoc.compression, Compression::None);
        assert_eq!(ztoc.uncompressed_bytes, padded.len() as u64);
        for span in &ztoc.spans {
            assert_eq!(span.compressed, span.start.0..span.start.0 + span.length);
            let range = span.compressed.start as usize..span.compressed.end as usize;
            assert_eq!(hash(&padded[range]), span.digest);
        }
    }
}

/// GNU tar pads to 10 KiB, of which a ztoc's size knows nothing: what lies behind the end mark has
/// no span, and the span before it is as long as is known.
#[test]
fn zeros_behind_the_end_mark() {
    let (tar, metadata) = tar_with_metadata(&entries());
    let padded = [&tar[..], &[0; 200_000]].concat();
    let blob = gzip_flushed(&padded, 20_000);
    let mut written = writer::Ztoc::gzip(&metadata, &blob, SPAN, Points::Soci);
    let all = written.span_digests.len();
    written.uncompressed_size = tar.len() as i64;
    let bytes = written.encode();
    let ztoc = Ztoc::parse(&bytes).unwrap();
    check_ztoc(&ztoc);
    assert!(ztoc.spans.len() < all);
    let last = ztoc.spans.last().unwrap();
    assert!(last.compressed.end < blob.len() as u64, "the range is that of the digest");
    let range = last.verified_range();
    assert_eq!(hash(&blob[range.start as usize..range.end as usize]), last.digest);
}

#[test]
fn times_in_other_zones() {
    let (tar, mut metadata) = tar_with_metadata(&[Entry::fifo("a"), Entry::fifo("b")]);
    metadata[0].mod_time = "2024-02-29T23:30:00.25-05:30".to_owned();
    metadata[1].mod_time = "1969-12-31T23:59:59.75Z".to_owned();
    let bytes = writer::Ztoc::plain(&metadata, &tar, SPAN).encode();
    let ztoc = Ztoc::parse(&bytes).unwrap();
    let time = |at: usize| (ztoc.entries[at].mtime_seconds, ztoc.entries[at].mtime_nanoseconds);
    assert_eq!(time(0), (1_709_269_200, 250_000_000));
    assert_eq!(time(1), (-1, 750_000_000));
}

/// A small ztoc with four checkpoints, to tell lies in.
fn honest() -> writer::Ztoc {
    let entries = [Entry::file("a", prose(1000, 1)), Entry::dir("b"), Entry::file("c", [5; 3000])];
    let (tar, metadata) = tar_with_metadata(&entries);
    writer::Ztoc::gzip(&metadata, &gzip_flushed(&tar, 1024), 2000, Points::Aligned)
}

fn honest_plain() -> writer::Ztoc {
    let entries = [
        Entry::file("a", prose(1000, 1)).xattr("user.a", "value"),
        Entry::symlink("b", "a"),
        Entry::char_device("c", 1, 3),
    ];
    let (tar, metadata) = tar_with_metadata(&entries);
    writer::Ztoc::plain(&metadata, &tar, 1024)
}

#[test]
fn lies_are_found_out() {
    type Lie = (&'static str, fn(&mut writer::Ztoc));
    /// Overwrites a field of a checkpoint: `in` at 0, `out` at 8.
    fn point(ztoc: &mut writer::Ztoc, number: usize, field: usize, value: i64) {
        ztoc.checkpoints[12 + number * POINT + field..][..8].copy_from_slice(&value.to_le_bytes());
    }
    fn out(ztoc: &writer::Ztoc, number: usize) -> i64 {
        i64::from_le_bytes(ztoc.checkpoints[12 + number * POINT + 8..][..8].try_into().unwrap())
    }
    let gzip: Vec<Lie> = vec![
        ("version `0.8`", |z| z.version = "0.8".into()),
        ("version ``", |z| z.version.clear()),
        ("number 3", |z| z.algorithm = 3),
        ("number -1", |z| z.algorithm = -1),
        ("`compressed_archive_size` of the ztoc is -1", |z| z.compressed_size = -1),
        ("`uncompressed_archive_size` of the ztoc is -5", |z| z.uncompressed_size = -5),
        ("absurd", |z| z.uncompressed_size = i64::MAX),
        ("number of span digests", |z| z.max_span_id += 1),
        ("number of span digests", |z| z.max_span_id = -1),
        ("number of span digests", |z| z.max_span_id = i32::MIN),
        ("number of span digests", |z| z.span_digests.truncate(z.span_digests.len() - 1)),
        ("number of checkpoints", |z| {
            z.span_digests.pop();
            z.max_span_id -= 1;
        }),
        ("`sha256:00` is not", |z| z.span_digests[1] = "sha256:00".into()),
        ("is not the SHA-256", |z| z.span_digests[1] = format!("sha512:{}", "0".repeat(128))),
        ("is not the SHA-256", |z| z.span_digests[0] = "é".repeat(100)),
        ("too short", |z| z.checkpoints.truncate(11)),
        ("too short", |z| z.checkpoints.clear()),
        ("no checkpoint", |z| z.checkpoints[..4].fill(0)),
        ("no checkpoint", |z| z.checkpoints[3] = 0x80),
        ("does not fit their number", |z| z.checkpoints[3] = 0x7f),
        ("does not fit their number", |z| z.checkpoints.truncate(z.checkpoints.len() - 1)),
        ("does not fit their number", |z| z.checkpoints.truncate(12 + POINT)),
        ("negative", |z| point(z, 1, 0, -1)),
        ("negative", |z| point(z, 1, 8, -1)),
        ("out of order", |z| point(z, 0, 0, 9)),
        ("out of order", |z| point(z, 0, 8, 1)),
        ("out of order", |z| z.checkpoints[12 + 16] = 3),
        ("out of order", |z| point(z, 1, 0, 10)),
        ("out of order", |z| point(z, 2, 0, 20)),
        ("out of order", |z| {
            let same = out(z, 1);
            point(z, 2, 8, same);
        }),
        ("out of order", |z| point(z, 2, 8, 1)),
        ("out of order", |z| point(z, 2, 8, 0)),
        ("past the end of the layer", |z| point(z, 2, 0, i64::MAX)),
        ("past the end of the layer", |z| {
            let end = z.compressed_size;
            let last = z.span_digests.len() - 1;
            point(z, last, 0, end);
        }),
        ("more than 7 bits", |z| z.checkpoints[12 + POINT + 16] = 8),
        ("past the end of the layer", |z| z.compressed_size = 100),
    ];
    let entries: Vec<Lie> = vec![
        ("unknown type `chunk`", |z| z.metadata[0].kind = "chunk".into()),
        ("unknown type ``", |z| z.metadata[0].kind.clear()),
        ("`uncompressed_offset` of the ztoc is -512", |z| z.metadata[0].offset = -512),
        ("`uncompressed_size` of the ztoc is -1", |z| z.metadata[0].size = -1),
        ("not a multiple of 512", |z| z.metadata[0].offset += 1),
        ("overlaps", |z| z.metadata[0].offset = 0),
        ("overlaps", |z| z.metadata[1].offset -= 512),
        ("overlaps", |z| z.metadata[0].size += 512),
        ("overlaps", |z| z.metadata.swap(0, 1)),
        ("overlaps", |z| z.metadata.push(z.metadata[0].clone())),
        ("past the end", |z| z.metadata[0].size = i64::MAX),
        ("past the end", |z| z.metadata[0].offset = i64::MAX - 511),
        ("past the end", |z| z.metadata[2].offset += 1 << 20),
        ("RFC 3339", |z| z.metadata[1].mod_time.clear()),
        ("RFC 3339", |z| z.metadata[1].mod_time = "now".into()),
        ("NUL", |z| z.metadata[0].name.push(0)),
        ("sparse", |z| z.metadata[0].pax.push((b"GNU.sparse.map".into(), b"0,1".into()))),
        ("xattr name", |z| z.metadata[0].pax.push((b"SCHILY.xattr.".into(), b"1".into()))),
        ("xattr name", |z| z.metadata[0].pax.push((b"SCHILY.xattr.user.a\0".into(), b"1".into()))),
        ("64 KiB", |z| z.metadata[0].pax.push((b"SCHILY.xattr.user.x".into(), vec![0; 65537]))),
        ("two xattrs", |z| {
            z.metadata[0].pax.extend([
                (b"SCHILY.xattr.user.x".into(), b"1".into()),
                (b"SCHILY.xattr.user.x".into(), b"2".into()),
            ]);
        }),
        ("1024 xattrs", |z| {
            let many = (0..1025).map(|n| (format!("SCHILY.xattr.user.{n}").into_bytes(), vec![1]));
            z.metadata[0].pax.extend(many);
        }),
    ];
    let plain: Vec<Lie> = vec![
        ("NUL", |z| z.metadata[1].link_name = b"a\0b".into()),
        ("device", |z| z.metadata[2].device.0 = -1),
        ("device", |z| z.metadata[2].device.1 = 1 << 32),
        ("version of a tar's", |z| z.checkpoints = writer::tar_zinfo(1, 1024, z.compressed_size)),
        ("span size", |z| z.checkpoints = writer::tar_zinfo(2, 0, z.compressed_size)),
        ("span size", |z| z.checkpoints = writer::tar_zinfo(2, 1, z.compressed_size)),
        ("`span_size` of the ztoc is -1", |z| {
            z.checkpoints = writer::tar_zinfo(2, -1, z.compressed_size)
        }),
        ("contradict", |z| z.checkpoints = writer::tar_zinfo(2, 1024, z.compressed_size - 1)),
        ("contradict", |z| z.uncompressed_size += 1),
        ("FlatBuffer", |z| z.checkpoints.truncate(8)),
        ("FlatBuffer", |z| z.checkpoints.clear()),
    ];
    let cases = [
        (honest as fn() -> writer::Ztoc, gzip),
        (honest, entries.clone()),
        (honest_plain, plain),
        (honest_plain, entries),
    ];
    for (honest, lies) in cases {
        check_ztoc(&Ztoc::parse(&honest().encode()).unwrap());
        for (words, lie) in lies {
            let mut ztoc = honest();
            lie(&mut ztoc);
            let bytes = ztoc.encode();
            let error = Ztoc::parse(&bytes).expect_err(words).to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

#[test]
fn what_is_not_a_lie() {
    let mut ztoc = honest_plain();
    // Modes as writers store them, sizes and devices where they mean nothing.
    ztoc.metadata[0].mode = 0o100_4755;
    ztoc.metadata[0].device = (-1, i64::MAX);
    ztoc.metadata[0].link_name = b"no link".to_vec();
    ztoc.metadata[1].size = 77;
    ztoc.metadata[1].pax.push((b"GNU.sparse.major".to_vec(), b"1".to_vec()));
    let bytes = ztoc.encode();
    let ztoc = Ztoc::parse(&bytes).unwrap();
    assert_eq!((ztoc.entries[0].mode, ztoc.entries[0].device), (0o4755, (0, 0)));
    assert!(ztoc.entries[0].link_target.is_empty());
    assert_eq!(ztoc.entries[1].size, 0);
    // An image of an empty file, which SOCI calls a tar.
    let bytes = writer::Ztoc::plain(&[], b"", 1024).encode();
    let ztoc = Ztoc::parse(&bytes).unwrap();
    assert!(ztoc.spans.is_empty() && ztoc.entries.is_empty());
}

/// A buffer may refer to one place from everywhere. What is copied out of it stays in proportion.
#[test]
fn shared_strings_do_not_multiply() {
    // An honest writer may share: 2000 directories of one xattr, time and type.
    let names: Vec<String> = (0..2000).map(|n| format!("directory{n}")).collect();
    let label = "system_u:object_r:container_file_t:s0";
    let dir = |name: &String| Entry::dir(name).xattr("security.selinux", label);
    let (tar, metadata) = tar_with_metadata(&names.iter().map(dir).collect::<Vec<_>>());
    let written = writer::Ztoc::plain(&metadata, &tar, 1 << 20);
    let (apart, shared) = (written.encode(), written.encode_shared());
    assert!(shared.len() < apart.len() * 3 / 4);
    assert_eq!(Ztoc::parse(&shared).unwrap().entries, Ztoc::parse(&apart).unwrap().entries);

    type Lie = fn(&mut writer::Ztoc);
    let lies: [(&str, Lie); 4] = [
        ("names", |z| z.metadata.iter_mut().for_each(|m| m.name = vec![b'n'; 100_000])),
        ("targets", |z| {
            for metadata in &mut z.metadata {
                metadata.kind = "symlink".into();
                metadata.link_name = vec![b'n'; 100_000];
            }
        }),
        ("xattrs", |z| {
            let record = (b"SCHILY.xattr.user.a".to_vec(), vec![1; 60_000]);
            z.metadata.iter_mut().for_each(|m| m.pax = vec![record.clone()]);
        }),
        ("digests", |z| {
            z.checkpoints = writer::tar_zinfo(2, 1, z.compressed_size);
            z.span_digests = vec![sha256(b""); z.compressed_size as usize];
            z.max_span_id = z.compressed_size as i32 - 1;
        }),
    ];
    for (what, lie) in lies {
        let mut lying = written.clone();
        lie(&mut lying);
        let error = Ztoc::parse(&lying.encode_shared()).map(|_| ()).expect_err(what);
        assert!(matches!(error, Error::Expansion), "{what}: {error}");
    }
}

#[test]
fn fields_lie_in_their_tables() {
    let good = honest_plain().encode();
    let root = u32::from_le_bytes(good[..4].try_into().unwrap()) as usize;
    let vtable = root - u32::from_le_bytes(good[root..root + 4].try_into().unwrap()) as usize;
    let set = |at: usize, value: u16| {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        Ztoc::parse(&bytes).map(|_| ()).unwrap_err()
    };
    // The table's length, the vtable's, and the places of `version` and `toc`.
    for (at, value) in [
        (vtable + 2, 0),
        (vtable + 2, 4),
        (vtable + 2, 39),
        (vtable + 2, u16::MAX),
        (vtable, 0),
        (vtable, 3),
        (vtable, u16::MAX),
        (vtable + 4, 3),
        (vtable + 4, u16::MAX),
        (vtable + 12, 44),
    ] {
        let error = set(at, value);
        assert!(matches!(error, Error::Flatbuffer { .. }), "{value} at {at}: {error}");
    }
    // A vtable that ends early leaves the rest at their defaults, and places of 0 do.
    assert!(matches!(set(vtable, 4), Error::Version(_)));
    assert!(matches!(set(vtable, 6), Error::Missing("compression_info")));
    assert!(matches!(set(vtable + 12, 0), Error::Missing("toc")));
}

/// Tables and vectors that all are one, and counts of what is not there.
#[test]
fn shared_tables_do_not_multiply() {
    let mut bytes = honest_plain().encode();
    let number = |bytes: &[u8], at: usize| -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    // From the root to the field `toc`, to its field `metadata`, to the vector.
    let follow = |bytes: &[u8], table: usize, field: usize| {
        let vtable = table - number(bytes, table);
        let place = vtable + 4 + 2 * field;
        let at = table + usize::from(u16::from_le_bytes([bytes[place], bytes[place + 1]]));
        (at, at + number(bytes, at))
    };
    let (_, toc) = follow(&bytes, number(&bytes, 0), 4);
    let (metadata_field, metadata) = follow(&bytes, toc, 0);
    assert_eq!(number(&bytes, metadata), 3);
    let first = metadata + 4 + number(&bytes, metadata + 4);
    let (xattrs_field, xattrs) = follow(&bytes, first, 13);
    let record = xattrs + 4 + number(&bytes, xattrs + 4);

    for huge in [4, 1000, 16 << 20, 1 << 30, u32::MAX] {
        let mut lying = bytes.clone();
        lying[metadata..metadata + 4].copy_from_slice(&huge.to_le_bytes());
        let error = Ztoc::parse(&lying).unwrap_err();
        assert!(matches!(error, Error::Flatbuffer { .. } | Error::Expansion), "{huge}: {error}");
    }

    // A vector at the end, of as many offsets as there can be.
    let vector = bytes.len().next_multiple_of(4);
    bytes.resize(vector, 0);
    let with_vector = |field: usize, target: usize| {
        let mut bytes = bytes.clone();
        bytes[field..field + 4].copy_from_slice(&((vector - field) as u32).to_le_bytes());
        bytes.extend_from_slice(&2_000_000u32.to_le_bytes());
        for _ in 0..2_000_000 {
            // Offsets are unsigned, so these wrap around in a reader that does not check.
            let offset = (target as u32).wrapping_sub(bytes.len() as u32);
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes
    };
    for (field, target) in [(metadata_field, first), (xattrs_field, record)] {
        let error = Ztoc::parse(&with_vector(field, target)).unwrap_err();
        assert!(matches!(error, Error::Expansion), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for ztoc in [honest_plain().encode(), honest().without_first_checkpoint().encode()] {
        let step = ztoc.len() / 2000 + 1;
        for cut in (0..ztoc.len() - 1).step_by(step) {
            assert!(Ztoc::parse(&ztoc[..cut]).is_err(), "cut at {cut}");
        }
    }
}

const LAYER: &str = "sha256:aece8493d3972efa43bfd4ee3cdba659c0f787f8f59c82fb3e48c87cbb22a12e";
const ZTOC: &str = "sha256:b556ba5abe0f9ad4a2d2d1de0fd5bd3b0b9d5b0dd1e9ae9f6a1f4c0a8f2a3b4c";
const IMAGE: &str = "sha256:4db5d81e8ad10e19dcf3d1e9d9f1b4f5e9d9d5ea7e50f53ee9f0a8c64ce8f62d";

/// A SOCI index as soci-snapshotter 0.12 writes it.
fn soci_index(version: u32) -> serde_json::Value {
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": format!("application/vnd.amazon.soci.index.v{version}+json"),
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/octet-stream",
                "digest": ZTOC,
                "size": 1_227_144,
                "annotations": {
                    "com.amazon.soci.disable-xattrs": "true",
                    "com.amazon.soci.image-layer-digest": LAYER,
                    "com.amazon.soci.image-layer-mediaType":
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                    "com.amazon.soci.span-size": "4194304",
                },
            },
            {
                "mediaType": "application/vnd.amazon.soci.prefetch.v1+json",
                "digest": IMAGE,
                "size": 99,
                "annotations": { "com.amazon.soci.image-layer-digest": LAYER },
            },
        ],
        "annotations": { "com.amazon.soci.build-tool-identifier": "AWS SOCI CLI v0.2" },
    });
    if version == 1 {
        index["subject"] = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": IMAGE, "size": 1246,
        });
    }
    index
}

fn parse_index(index: &serde_json::Value) -> Result<SociIndex, Error> {
    SociIndex::parse(index.to_string().as_bytes())
}

#[test]
fn index_manifests() {
    let subject = Some(IMAGE.parse().unwrap());
    for (version, expected) in [(1, SociVersion::V1 { subject }), (2, SociVersion::V2)] {
        let index = parse_index(&soci_index(version)).unwrap();
        assert_eq!(index.version, expected);
        assert_eq!(index.layers.len(), 1, "a prefetch list is not a ztoc");
        let layer = index.layer(&LAYER.parse().unwrap()).unwrap();
        assert_eq!(layer.ztoc.digest.to_string(), ZTOC);
        assert_eq!(layer.ztoc.size, 1_227_144);
        assert_eq!((layer.span_bytes, layer.disable_xattrs), (Some(4 << 20), true));
        assert_eq!(index.layer(&IMAGE.parse().unwrap()), None);
    }
    // The oldest ones do not state the size of spans; a subject may be missing.
    let mut old = soci_index(1);
    old["layers"][0]["annotations"] = json!({ "com.amazon.soci.image-layer-digest": LAYER });
    old.as_object_mut().unwrap().remove("subject");
    let index = parse_index(&old).unwrap();
    assert_eq!(index.version, SociVersion::V1 { subject: None });
    assert_eq!((index.layers[0].span_bytes, index.layers[0].disable_xattrs), (None, false));
    // An index of an image whose layers are all small.
    let mut empty = soci_index(2);
    empty["layers"] = json!(null);
    assert!(parse_index(&empty).unwrap().layers.is_empty());
}

#[test]
fn other_manifests_are_no_soci_indexes() {
    type Change = (&'static str, fn(&mut serde_json::Value));
    let changes: Vec<Change> = vec![
        ("of type `application/vnd.oci.image.config.v1+json`", |i| {
            i["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        }),
        ("index.v3+json", |i| {
            i["config"]["mediaType"] = json!("application/vnd.amazon.soci.index.v3+json");
        }),
        ("artifact.manifest", |i| {
            i["mediaType"] = json!("application/vnd.oci.artifact.manifest.v1+json");
        }),
        ("the document says", |i| {
            i["mediaType"] = json!("application/vnd.oci.image.index.v1+json")
        }),
        ("names layer 1 in a way that can't be used: `sha256:00` is not a digest", |i| {
            i["layers"][0]["digest"] = json!("sha256:00");
        }),
        ("not valid JSON", |i| *i = json!([1])),
        ("image-layer-digest` is missing or wrong: ``", |i| {
            i["layers"][0]["annotations"] = json!(null);
        }),
        ("image-layer-digest` is missing or wrong: `latest`", |i| {
            i["layers"][0]["annotations"]["com.amazon.soci.image-layer-digest"] = json!("latest");
        }),
        ("span-size` is missing or wrong: `-1`", |i| {
            i["layers"][0]["annotations"]["com.amazon.soci.span-size"] = json!("-1");
        }),
        ("1025 layers", |i| {
            let layer = i["layers"][0].clone();
            i["layers"] = vec![layer; 1025].into();
        }),
    ];
    for (words, change) in changes {
        for version in [1, 2] {
            let mut index = soci_index(version);
            change(&mut index);
            let error = parse_index(&index).expect_err(words).to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

/// The fixtures' own inflater agrees with a library on every kind of block.
#[test]
fn the_walker_inflates() {
    use std::io::{Read, Write};
    let data = prose(300_000, 3);
    for level in [0, 1, 6, 9] {
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(&data).unwrap();
        let gzip = encoder.finish().unwrap();
        let mut theirs = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut theirs).unwrap();
        let (ours, boundaries) = walk(&gzip);
        assert!(ours == theirs && theirs == data);
        assert_eq!(boundaries[0].bit, 80);
    }
}
