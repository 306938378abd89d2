//! Where the inodes of a tree come from.

use super::inode::{Ino, NONE};

/// The entries that the inodes of a tree were made from, 4 bytes an inode.
#[derive(Debug)]
pub struct Origins(pub(super) Vec<u32>);

impl Origins {
    /// The place of the entry in its layer; `None` for an implied directory.
    pub fn entry(&self, ino: Ino) -> Option<usize> {
        let entry = self.0[ino.position()];
        (entry != NONE).then_some(entry as usize)
    }
}

/// In the place of an entry: a whiteout of a layer that is shown alone.
pub(super) const MARK: u32 = NONE - 1;

/// What an inode is made from: the entry at this place of a layer, or `NONE` for an implied
/// directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) layer: u32,
    pub(super) entry: u32,
}
