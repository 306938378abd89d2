//! Sparse files in a tar: what is stored of them, in the GNU format 1.0.
//!
//! PAX records name the file and its size, and its content begins with a map in decimal text: how many parts, and place
//! and length of each. The header itself has a made-up name, so that programs that know nothing of this show that it is
//! not the file. GNU tar, bsdtar, Go (Docker, containerd) and Python read it; BusyBox does not. Format: "Storing Sparse
//! Files" in the manual of GNU tar.
//!
//! GNU tar wants each part at a block of 512 bytes, others want the parts one behind the other. So parts are whole
//! blocks of the file, and only the end of the file can be the end of a part as well.

use std::ops::Range;

use ocifs::extent::Pieces;
use ocifs::tree::{Ino, Tree};
use tar::Header;

use super::records::Records;

/// The unit of a tar, in bytes.
const BLOCK_BYTES: u64 = 512;

/// What is stored of a file.
pub(super) struct Sparse {
    /// In order; they neither overlap nor touch.
    pub(super) parts: Vec<Range<u64>>,
    /// Size of the file in bytes.
    size: u64,
}

impl Sparse {
    /// Of a file with holes; `None` for anything else.
    pub(super) fn of(tree: &Tree, ino: Ino) -> Option<Sparse> {
        let content = tree.content(ino)?;
        let Pieces::Sparse(runs) = content.pieces else { return None };
        let mut parts: Vec<Range<u64>> = Vec::new();
        for run in runs.iter().filter(|run| run.length > 0) {
            let start = run.file_offset / BLOCK_BYTES * BLOCK_BYTES;
            let end = run.file_end().next_multiple_of(BLOCK_BYTES).min(content.size);
            match parts.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => parts.push(start..end),
            }
        }
        let whole = 0..content.size;
        (parts != [whole]).then_some(Sparse { parts, size: content.size })
    }

    /// How many bytes of the file are stored.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.end - part.start).sum()
    }

    /// Names the file in its records.
    pub(super) fn name(&self, header: &mut Header, records: &mut Records, path: &[u8]) {
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let shown = [b"./GNUSparseFile.0/", base].concat();
        let field = &mut header.as_mut_bytes()[..100];
        let length = shown.len().min(field.len());
        field[..length].copy_from_slice(&shown[..length]);
        records.add(b"GNU.sparse.major", b"1");
        records.add(b"GNU.sparse.minor", b"0");
        records.add(b"GNU.sparse.name", path);
        records.add(b"GNU.sparse.realsize", self.size.to_string().as_bytes());
    }

    /// What stands before the content, whole blocks.
    pub(super) fn map(&self) -> Vec<u8> {
        let mut rows: Vec<(u64, u64)> =
            self.parts.iter().map(|part| (part.start, part.end - part.start)).collect();
        // A part of nothing says where a file ends that ends in a hole.
        if self.parts.last().is_none_or(|last| last.end < self.size) {
            rows.push((self.size, 0));
        }
        let mut map = format!("{}\n", rows.len());
        rows.iter().for_each(|(start, length)| map.push_str(&format!("{start}\n{length}\n")));
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        map
    }
}
