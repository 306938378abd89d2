//! Tars, the way that a layer's go: parser, index, merge.

use ocifs::codec;
use ocifs::digest::ContentDigest;
use ocifs::index::{EntryKind, LayerIndex, Runs};
use ocifs::tar::{self, Parser, Sink};
use sha2::{Digest, Sha256};

use super::{SMALL, Target, Verdict, layer, layer_index, tree};
use crate::support::tarball::{Entry, TarWriter, base256, octal, put, tar as write};

/// Tars as they are.
pub const TAR: Target = Target { name: "tar", valid, check, most_memory: MOST_MEMORY };

/// Tars whose header checksums are right, so that changes reach the fields behind them.
pub const TAR_WITH_CHECKSUMS: Target = Target {
    name: "tar_with_checksums",
    valid,
    check: |tar| check(&with_checksums(tar.to_vec())),
    most_memory: MOST_MEMORY,
};

/// Records of an extended header in front of a file. Global ones are passed over.
pub const PAX: Target =
    Target { name: "pax", valid: valid_pax, check: check_pax, most_memory: MOST_MEMORY };

/// Holes of hashed files are zeros that are never in memory, but reading a map of 65,536 runs is.
const MOST_MEMORY: usize = 2 * SMALL;

/// The largest file whose content is hashed again here, in bytes.
const MAX_REHASHED: u64 = 1 << 20;

/// The stored bytes of the sparse files here.
const SPARSE_BYTES: usize = 612;

fn valid() -> Vec<Vec<u8>> {
    let mut plain = TarWriter::new();
    plain.gnu_long_name(&[b'n'; 150]).entry(&Entry::file("x", "content"));
    plain.entry(&Entry::dir("usr/lib").xattr("user.a", "value").mtime(-3, 7));
    plain.entry(&Entry::symlink("lib", "usr/lib"));
    plain.entry(&Entry::file("lib/a", [1; 700]));
    plain.entry(&Entry::hardlink("b", "usr/lib/a"));
    plain.entry(&Entry::file("lib/.wh.x", ""));
    plain.entry(&Entry::file("etc/.wh..wh..opq", ""));
    plain.entry(&Entry::char_device("null", 1, 3)).entry(&Entry::fifo("pipe"));
    plain.pax_global(&[("comment", "a build")]);
    plain.gnu_long_link(&[b't'; 120]).raw_header(|header| {
        header.gnu();
        header.name[0] = b'l';
        header.typeflag = b'2';
        base256(&mut header.uid, 3_000_000);
    });
    let regions: &[(u64, &[u8])] = &[(0, &[1; 512]), (5000, &[2; 100])];
    let many: Vec<(u64, &[u8])> = (0..30).map(|at| (at * 2048, &[3; 512][..])).collect();
    let mut sparse = TarWriter::new();
    sparse.sparse_old_gnu("s1", 9000, regions);
    sparse.sparse_pax_0_0("s0", 9000, regions);
    sparse.sparse_pax_0_1("s2", 9000, regions);
    sparse.sparse_pax_1_0("s3", 9000, regions);
    sparse.sparse_old_gnu("many", 70_000, &many);
    vec![plain.finish(), sparse.finish()]
}

/// Computes every header checksum again.
fn with_checksums(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

fn check(tar: &[u8]) -> Verdict {
    let _ = (tar::is_header(tar.get(..512).unwrap_or(tar)), codec::guess(tar));
    check_names(tar);
    let whole = layer::index(tar);
    // How the bytes come must not matter.
    assert_eq!(layer::index_in_pieces(tar, 64), whole);
    let Ok(index) = &whole else { return Verdict::Refused };
    check_contents(index, tar);
    layer_index::check(index);
    let upper = layer::index(&write(&[Entry::file("usr/lib/a/x", "1")])).unwrap();
    tree::check(&[index, &upper]);
    tree::check(&[&upper, index])
}

/// The digests of contents are those of the bytes that are shown.
fn check_contents(index: &LayerIndex, tar: &[u8]) {
    for entry in index.entries() {
        let EntryKind::File { size, runs } = entry.kind else { continue };
        let Some(ContentDigest::Sha256(expected)) = index.content_digest(&entry) else { continue };
        if size > MAX_REHASHED {
            continue;
        }
        let mut content = vec![0; size as usize];
        match runs {
            Runs::Whole(start) => {
                content.copy_from_slice(&tar[start.0 as usize..][..size as usize])
            }
            Runs::Sparse { first, count } => {
                for run in index.sparse_runs(first, count) {
                    let (to, from) = (run.file_offset as usize, run.start.0 as usize);
                    let length = run.length as usize;
                    content[to..to + length].copy_from_slice(&tar[from..from + length]);
                }
            }
        }
        assert!(Sha256::digest(&content)[..] == expected, "{entry:?}");
    }
}

/// Entries of an archive of images: what is skipped is what is read and dropped.
fn check_names(tar: &[u8]) {
    let (mut read, mut skipped) = (Entries::default(), Entries::default());
    let mut parser = Parser::of_names();
    let fed = parser.feed(tar, &mut read).and_then(|()| parser.finish());
    let mut parser = Parser::of_names();
    let mut rest = tar;
    let result = loop {
        if rest.is_empty() {
            break parser.finish();
        }
        let n = parser.skip(rest.len() as u64, &mut skipped) as usize;
        rest = &rest[n..];
        let (next, after) = rest.split_at(rest.len().min(100));
        if let Err(e) = parser.feed(next, &mut skipped) {
            break Err(e);
        }
        rest = after;
    };
    assert_eq!(fed, result);
    assert_eq!(read.entries, skipped.entries);
    for entry in &read.entries {
        let mut end = 0;
        for run in &entry.runs {
            assert!(run.file_offset >= end && run.length > 0, "{entry:?}");
            end = run.file_end();
            assert!(end <= entry.size && run.start.checked_add(run.length).is_some(), "{entry:?}");
        }
    }
}

#[derive(Default)]
struct Entries {
    entries: Vec<tar::Entry>,
}

impl Sink for Entries {
    type Error = tar::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), tar::Error> {
        self.entries.push(entry);
        Ok(())
    }

    fn content(&mut self, _: &[u8]) {}

    fn end(&mut self) {}
}

/// The records of one extended header, as the writer writes them.
fn valid_pax() -> Vec<Vec<u8>> {
    let records = |records: &[(&str, &str)]| {
        let mut writer = TarWriter::new();
        writer.pax(records);
        let bytes = writer.finish_without_end();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(512, |last| last + 1);
        bytes[512..end].to_vec()
    };
    vec![
        records(&[("path", "usr/a file"), ("mtime", "1700000000.123456789"), ("uid", "3000000")]),
        records(&[("linkpath", "b"), ("gid", "7"), ("SCHILY.xattr.user.a", "value"), ("size", "")]),
        records(&[
            ("GNU.sparse.size", "9000"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "512"),
            ("GNU.sparse.offset", "5000"),
            ("GNU.sparse.numbytes", "100"),
        ]),
        records(&[
            ("GNU.sparse.size", "9000"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.map", "0,512,5000,100"),
            ("GNU.sparse.name", "sparse"),
            ("atime", "5.5"),
            ("uname", "root"),
        ]),
        records(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", "100"),
        ]),
    ]
}

fn check_pax(records: &[u8]) -> Verdict {
    // As much as the sparse files above have; where a map is to come in front of the content, this is one.
    let mut content = b"1\n0\n100\n".to_vec();
    content.resize(SPARSE_BYTES, 0);
    let tar = |kind: u8| {
        let mut writer = TarWriter::new();
        writer.raw_header(|header| {
            header.typeflag = kind;
            put(&mut header.name, "pax");
            octal(&mut header.size, records.len() as u64);
        });
        writer.data(records).entry(&Entry::file("file", &content));
        writer.finish()
    };
    check(&tar(b'g'));
    check(&tar(b'x'))
}
