//! What a layer holds: directories, entries and whiteouts, borrowed from its index.

use super::format::EntryRecord;
use crate::extent::UncompressedOffset;

/// Index of a directory path in the layer's table; `ROOT_DIR` is `/`.
pub type DirId = u32;

/// The root directory's place in every layer's table of directories.
pub const ROOT_DIR: DirId = 0;

/// A directory path of the layer, existing or only named.
#[derive(Clone, Copy, Debug)]
pub struct Dir<'a> {
    /// The directory above; the root is its own parent.
    pub parent: DirId,
    /// The last component.
    pub name: &'a [u8],
    /// Whether the layer has an entry of any kind at exactly this path.
    pub has_entry: bool,
}

/// A whiteout or opaque mark.
#[derive(Clone, Copy, Debug)]
pub struct Whiteout<'a> {
    /// The directory it stands in.
    pub dir: DirId,
    /// The lower name it hides; `None` for an opaque mark, which hides all of them.
    pub name: Option<&'a [u8]>,
}

/// What an entry is, with what only that kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file.
    File {
        /// Size in bytes, holes included.
        size: u64,
        /// Position of its runs in the table of runs.
        runs: Runs,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// Another name of what `dir`/`name` is at this place of the tar.
    HardLink {
        /// Directory of the target.
        dir: DirId,
        /// Name of the target.
        name: &'a [u8],
    },
    /// A character device (major, minor).
    CharDevice(u32, u32),
    /// A block device (major, minor).
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Where the content of a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// In one piece, from here.
    Whole(UncompressedOffset),
    /// Sparse: these rows of the table of runs.
    Sparse {
        /// First row.
        first: u32,
        /// Number of rows.
        count: u32,
    },
}

/// One entry, borrowed from the index.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Directory part of the path.
    pub dir: DirId,
    /// Last component; empty for the root.
    pub name: &'a [u8],
    /// Kind and its data.
    pub kind: EntryKind<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, rounded down.
    pub mtime_seconds: i64,
    /// Nanoseconds to add.
    pub mtime_nanoseconds: u32,
    /// Never shown; only a hard link of the same layer may refer to it.
    pub hidden: bool,
    pub(super) record: &'a EntryRecord,
}
