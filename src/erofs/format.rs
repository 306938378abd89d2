//! The numbers of the format (`fs/erofs/erofs_fs.h` of Linux), and what does not fit into it.

use std::io;

use crate::tree::{FileKind, Ino, Order, Tree};

/// Size of a block in bytes, the same as that of the plain mount's.
pub const BLOCK_BYTES: u64 = 1 << BLOCK_BITS;
pub(super) const BLOCK_BITS: u8 = 12;

/// Place of the superblock, and of the table of devices behind it.
pub(super) const SUPER_OFFSET: usize = 1024;
pub(super) const SUPER_BYTES: usize = 128;
pub(super) const SLOT_BYTES: usize = 128;

/// `EROFS_SUPER_MAGIC_V1`.
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`, `EROFS_FEATURE_COMPAT_MTIME`.
pub(super) const COMPATIBLE: u32 = 1 | 2;

/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`, `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`.
pub(super) const CHUNKED_FILE: u32 = 4;
pub(super) const DEVICE_TABLE: u32 = 8;

/// An inode is named by its place in units of this many bytes.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE_BYTES: u64 = 64;

/// `EROFS_INODE_LAYOUT_EXTENDED`, and the layouts of data.
pub(super) const EXTENDED: u16 = 1;
pub(super) const FLAT_PLAIN: u16 = 0;
pub(super) const FLAT_INLINE: u16 = 2;
pub(super) const CHUNK_BASED: u16 = 4;

/// `EROFS_CHUNK_FORMAT_INDEXES`; the bits below it are the size of chunks.
pub(super) const CHUNK_INDEXES: u32 = 0x20;
pub(super) const CHUNK_INDEX_BYTES: u64 = 8;

/// `EROFS_NULL_ADDR`: the place of a chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// The superblock has 16 bits for the place of the root, which lies behind the devices.
pub(super) const MAX_DEVICES: usize = 16_000;

/// Why a tree can't be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("`{path}`: a file of {size} bytes does not fit into EROFS, which takes 8 TiB")]
    FileTooLarge { path: String, size: u64 },
    #[error("layer {layer}: its files have more than 16 TiB, which do not fit into EROFS")]
    LayerTooLarge { layer: usize },
    #[error("more than {MAX_DEVICES} layers with files do not fit into EROFS")]
    TooManyLayers,
    #[error("`{path}`: its extended attributes do not fit into EROFS, which takes 64 KiB each")]
    XattrsTooLarge { path: String },
    #[error("names and attributes of more than 128 GiB do not fit into EROFS")]
    TooLarge,
    #[error("writing names and attributes: {0}")]
    Write(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Write(error)
    }
}

/// Identifies a file system, for `f_fsid` of statfs(2), fanotify(7) and overlayfs.
pub type Uuid = [u8; 16];

/// Whether so many bytes from a place on are in one block.
pub(super) fn fits(at: u64, bytes: u64) -> bool {
    at % BLOCK_BYTES + bytes <= BLOCK_BYTES
}

/// The bits of `st_mode` for the kind of file.
pub(super) fn type_bits(kind: FileKind) -> u16 {
    match kind {
        FileKind::Fifo => 0o010000,
        FileKind::CharDevice => 0o020000,
        FileKind::Directory => 0o040000,
        FileKind::BlockDevice => 0o060000,
        FileKind::Regular => 0o100000,
        FileKind::Symlink => 0o120000,
    }
}

/// The path of an inode, for people.
pub(super) fn path(tree: &Tree, ino: Ino) -> String {
    let mut walk = tree.walk(Ino::ROOT, Order::Data);
    while let Some((path, found)) = walk.next() {
        if found == ino {
            return path.escape_ascii().to_string();
        }
    }
    "/".to_owned()
}

/// CRC-32C (Castagnoli) without the final inversion, as EROFS has it.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}
