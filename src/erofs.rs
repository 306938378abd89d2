//! A tree as an EROFS image: names and attributes in the form in which the kernel reads them itself.
//!
//! # Problem
//!
//! Through FUSE the first look at a directory costs requests, and the first read of a small file
//! one more. A kernel that reads names and attributes from an image of its own asks for nothing but
//! bytes of files, and for those in large runs that many files share.
//!
//! # Design
//!
//! An [`Image`] is written with everything but the contents of regular files. A file that is not
//! empty is *chunk-based*, with a single chunk on an extra *device*: a run of blocks that `fuse::blobs`
//! serves. Sparse files have more chunks, of which some are holes. [`Devices`] says what lies where on
//! them; there is one for each layer that has content, with its files in the order of the layer's tar, so
//! that reading ahead on a device is reading ahead in the layer.
//!
//! A device is not the tar. Each file begins at a block of its own, holes of sparse files are
//! zeros like all others, and the rest of a file's last block is zero. Rejected: the tar itself as the
//! device, with blocks of 512 bytes, which is how `mkfs.erofs --tar=i` does it. Then whatever a tar has
//! behind the end of a file shows up in the last page of a mapping, what lies between the files of the
//! tree is readable, sparse files need a device of their own, `st_blksize` is 512 (and with it
//! the buffers of stdio and Python), and directories are cut into blocks of 512 bytes. It would save
//! 1.5 KiB a file on average, of memory that is soon given back.
//!
//! The writer goes over the tree three times and remembers 8 bytes an inode: a first pass finds a
//! place for each inode, the second writes the inodes, the third the directories that don't fit
//! beside their inodes. The image is about 110 bytes an inode and the names; its size is known after the first
//! pass, before anything is written.
//!
//! # Format
//!
//! `fs/erofs/erofs_fs.h` of Linux 6.12 and Documentation/filesystems/erofs.rst. Little-endian. Only
//! extended inodes of 64 bytes are made, because compact ones have no times. An inode is followed
//! by its extended attributes and by what is inline: the target of a symlink, the last block of
//! a directory, the chunk indexes of a file.
//!
//! ```text
//! 0      empty
//! 1024   superblock, device slots; zeros up to the next block
//! ...    inodes, the root first, then in the order of their numbers
//! ...    extended attributes that several inodes have
//! ...    blocks of directories and long symlinks, in the same order
//! ```
//!
//! # What does not fit
//!
//! - Inode numbers are places in the image; they come in the order of the tree's.
//! - A directory has the size of its blocks; of files `st_blocks` counts holes too.
//! - Directories are listed by name, not in the order of the data.
//! - Extended attributes outside `user.`, `trusted.`, `security.` and the POSIX ACLs are left out, as
//!   when an image is unpacked to a disk. Larger ones than the format can hold are an error, and so
//!   are files of more than 8 TiB, and layers of more than 16.

mod chunks;
mod devices;
mod directory;
mod format;
mod image;
mod xattrs;

pub use devices::{Device, Devices, Piece};
pub use format::{BLOCK_BYTES, Error, Uuid};
pub use image::Image;
