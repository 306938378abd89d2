//! Offsets and ranges, with the side of the compression in the type.
//!
//! A layer has two coordinate systems: the blob as it travels (compressed) and the tar inside it
//! (uncompressed). An offset of one is meaningless in the other, so each side has a newtype and
//! neither converts to the other; only a span knows both.

use std::fmt;

/// A byte offset in a blob as it is stored and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompressedOffset(pub u64);

/// A byte offset in the uncompressed tar of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UncompressedOffset(pub u64);

impl UncompressedOffset {
    /// The offset `bytes` further on; `None` on overflow.
    pub fn checked_add(self, bytes: u64) -> Option<UncompressedOffset> {
        self.0.checked_add(bytes).map(UncompressedOffset)
    }
}

impl fmt::Display for CompressedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compressed offset {}", self.0)
    }
}

impl fmt::Display for UncompressedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uncompressed offset {}", self.0)
    }
}

/// Where a run of a file's bytes lies in the uncompressed tar of its layer.
///
/// A file that is not sparse has exactly one run, at file offset 0. Bytes of the file that no
/// run covers are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in the file.
    pub file_offset: u64,
    /// Offset of the same bytes in the tar.
    pub start: UncompressedOffset,
    /// Length in bytes.
    pub length: u64,
}

impl Run {
    /// Offset in the file just past the run. Runs come from a checked index: this cannot overflow.
    pub fn file_end(&self) -> u64 {
        self.file_offset + self.length
    }
}

/// Where all of a file's content lies in the uncompressed tar of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces<'a> {
    /// In one piece, from this offset on.
    Whole(UncompressedOffset),
    /// In these runs, in order; zeros between them.
    Sparse(&'a [Run]),
}
