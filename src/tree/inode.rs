//! What a file of the tree is: its number, kind, attributes and content; and the rows that the tables keep of it.

use std::fmt;

use crate::extent::Pieces;

/// Size of a block of the file system that we pretend to be, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// Symlink targets shorter than this live in the inode on ext4 and cost no block.
pub(super) const FAST_SYMLINK_BYTES: u64 = 60;

/// Size that directories are shown with, in bytes.
pub(super) const DIRECTORY_BYTES: u64 = 4096;

/// No row: a list that ends, an inode that no entry describes.
pub(super) const NONE: u32 = u32::MAX;

/// An inode: 1 for the root, then upwards without gaps. What is shown is another number, [`Tree::shown`](super::Tree::shown).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub(super) u32);

impl Ino {
    /// The root directory: `FUSE_ROOT_ID`.
    pub const ROOT: Ino = Ino(1);

    /// The position, from 1 on.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }

    pub(super) fn position(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of a file in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// What `stat(2)` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The inode itself.
    pub ino: Ino,
    /// Kind of file.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Number of names; for directories 2 and one for each subdirectory.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes: of the content, of a symlink's target, 4096 for a directory.
    pub size: u64,
    /// Allocated size in units of 512 bytes, as a file system with 4 KiB blocks would have it.
    pub blocks: u64,
    /// Modification time: seconds since the epoch, rounded down.
    pub mtime_seconds: i64,
    /// Nanoseconds to add.
    pub mtime_nanoseconds: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl Attributes {
    /// The number of a device as Linux has it in 32 bits (`new_encode_dev`,
    /// include/linux/kdev_t.h).
    pub fn encoded_device(&self) -> u32 {
        let (major, minor) = self.device;
        (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
    }
}

/// Where the content of a regular file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Position of the layer in the image, 0 is the base; in a joined tree as [`Part::layers`](super::Part::layers) has it.
    pub layer: usize,
    /// Size of the file in bytes.
    pub size: u64,
    /// Its pieces.
    pub pieces: Pieces<'a>,
}

impl Content<'_> {
    /// Where in the tar the first stored byte is; 0 if none is stored.
    pub fn start(&self) -> u64 {
        match self.pieces {
            Pieces::Whole(start) => start.0,
            Pieces::Sparse(runs) => runs.first().map_or(0, |run| run.start.0),
        }
    }
}

/// One row of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it names.
    pub ino: Ino,
}

/// A row of the inode table, 80 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) mtime_seconds: i64,
    /// Regular: offset in the tar, or first row of `runs`. Directory: first row of `dirents`.
    /// Symlink: offset of the target in `bytes`.
    pub(super) data: u64,
    pub(super) mtime_nanoseconds: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    /// Regular and sparse: number of runs. Directory: number of children. Device: minor.
    pub(super) count: u32,
    /// Directory, regular: inode number of the directory that lists it. Device: major.
    pub(super) parent: u32,
    pub(super) layer: u32,
    pub(super) first_xattr: u32,
    pub(super) xattr_count: u16,
    pub(super) mode: u16,
    pub(super) kind: FileKind,
    pub(super) sparse: bool,
}

/// A row of the table of names, 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirent {
    pub(super) ino: u32,
    pub(super) name_offset: u32,
    pub(super) name_length: u16,
}

/// Offsets and lengths in `bytes`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xattr {
    pub(super) name_offset: u32,
    pub(super) name_length: u32,
    pub(super) value_offset: u32,
    pub(super) value_length: u32,
}

/// A row of the table of marks: what a file stands for, in the tree of a layer alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkRow {
    pub(super) ino: u32,
    pub(super) kind: MarkKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum MarkKind {
    Whiteout,
    OpaqueMark,
    /// Offset and length of the target in `bytes`.
    LinkBelow(u32, u32),
}
