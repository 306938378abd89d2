//! Sets of inodes, and what of a tree is worth bringing before it is asked for.

use crate::tree::{Ino, Tree};

/// Largest file that is brought ahead of a walk, in bytes: what one READ would bring.
const MAX_FILE_BYTES: u64 = 128 << 10;

/// A set of inodes of one tree: a bit for each.
#[derive(Debug)]
pub(super) struct InoSet(Vec<u64>);

impl InoSet {
    /// An empty set, for a tree of so many inodes.
    pub(super) fn new(inodes: usize) -> InoSet {
        InoSet(vec![0; inodes / 64 + 1])
    }

    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.0[word(ino)] & mask(ino) != 0
    }

    pub(super) fn insert(&mut self, ino: Ino) {
        self.0[word(ino)] |= mask(ino);
    }

    pub(super) fn remove(&mut self, ino: Ino) {
        self.0[word(ino)] &= !mask(ino);
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

fn word(ino: Ino) -> usize {
    (ino.number() / 64) as usize
}

fn mask(ino: Ino) -> u64 {
    1 << (ino.number() % 64)
}

/// The size of a regular file in bytes; 0 for anything else.
pub(super) fn size(tree: &Tree, file: Ino) -> u64 {
    tree.content(file).map_or(0, |content| content.size)
}

/// Whether a file has content, and little enough to be brought ahead.
pub(super) fn is_small(tree: &Tree, file: Ino) -> bool {
    (1..=MAX_FILE_BYTES).contains(&size(tree, file))
}
