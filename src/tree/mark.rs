//! What a layer that is shown alone has that no directory has: whiteouts, and hard links to files of other layers.
//!
//! They are in the tree as empty regular files, and marked. A whiteout has the name that it has in the tar, `.wh.NAME`:
//! a layer may hide a lower `NAME` and bring its own, so they can't both be `NAME`, where overlayfs has its character
//! device. And what is written to a tar, or to a directory, is the layer again.

use super::inode::{Ino, MarkKind};
use super::table::Tree;

/// What a file of a layer that is shown alone stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// A lower name is hidden.
    Whiteout,
    /// All lower names of the directory are hidden.
    OpaqueMark,
    /// A hard link to what lower layers have at this path, which begins at the root, without a slash.
    LinkBelow(&'a [u8]),
}

impl Tree {
    /// What a file stands for, in the tree of a layer alone.
    pub fn mark(&self, ino: Ino) -> Option<Mark<'_>> {
        if self.marks.is_empty() {
            return None;
        }
        let at = self.marks.binary_search_by_key(&ino.0, |row| row.ino).ok()?;
        Some(match self.marks[at].kind {
            MarkKind::Whiteout => Mark::Whiteout,
            MarkKind::OpaqueMark => Mark::OpaqueMark,
            MarkKind::LinkBelow(offset, length) => Mark::LinkBelow(self.text(offset, length)),
        })
    }
}
