//! Chunks of files: a file without holes has one, a sparse file as many as tell its holes.
//!
//! A chunk is a run of blocks, a power of 2 of them, that lies on a device or is a hole. The kernel reads nothing of a hole
//! and finds it for `SEEK_HOLE`; a smaller one than a chunk is zeros on the device. The index of a chunk takes 8 bytes of
//! memory that can't be swapped out, however little a hole of terabytes takes in a tar, so their number is limited.

use super::format::BLOCK_BYTES;
use crate::extent::Pieces;
use crate::extent::Run;
use crate::tree::{Ino, Tree};

/// Most chunks of all sparse files of an image together, 8 MiB of indexes, and of one of them.
const MAX_CHUNKS: usize = 1 << 20;
const MAX_CHUNKS_OF_A_FILE: usize = 1 << 16;

/// How the sparse files of a tree are cut.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Most chunks of one of them.
    most: u64,
}

/// Whether a chunk has data, and its first block in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) block: u64,
    pub(super) is_data: bool,
}

impl Chunks {
    pub(super) fn of(tree: &Tree) -> Chunks {
        let sparse = tree.inos().filter(|ino| runs(tree, *ino).is_some()).count();
        let most = (MAX_CHUNKS / sparse.max(1)).clamp(1, MAX_CHUNKS_OF_A_FILE);
        Chunks { most: most as u64 }
    }

    /// The size of the chunks of a file that is not empty, as blocks to the power of 2.
    pub(super) fn bits(&self, tree: &Tree, ino: Ino, size: u64) -> u32 {
        let whole = size.div_ceil(BLOCK_BYTES).next_power_of_two().trailing_zeros();
        match runs(tree, ino) {
            Some(_) => (0..whole).find(|bits| count(size, *bits) <= self.most).unwrap_or(whole),
            None => whole,
        }
    }
}

/// The number of chunks of a file.
pub(super) fn count(size: u64, bits: u32) -> u64 {
    size.div_ceil(BLOCK_BYTES).div_ceil(1 << bits)
}

/// The chunks of a file in order.
pub(super) fn iter(
    tree: &Tree,
    ino: Ino,
    size: u64,
    bits: u32,
) -> impl Iterator<Item = Chunk> + use<'_> {
    let runs = runs(tree, ino);
    (0..count(size, bits)).map(move |chunk| {
        let block = chunk << bits;
        let start = block * BLOCK_BYTES;
        let end = start + (BLOCK_BYTES << bits);
        let is_data = runs.is_none_or(|runs| has_data(runs, start, end));
        Chunk { block, is_data }
    })
}

fn has_data(runs: &[Run], start: u64, end: u64) -> bool {
    let rest = &runs[runs.partition_point(|run| run.file_end() <= start)..];
    rest.iter().take_while(|run| run.file_offset < end).any(|run| run.length > 0)
}

/// The runs of a sparse file; `None` for anything else.
fn runs(tree: &Tree, ino: Ino) -> Option<&[Run]> {
    match tree.content(ino)?.pieces {
        Pieces::Sparse(runs) => Some(runs),
        Pieces::Whole(_) => None,
    }
}
