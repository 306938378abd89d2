//! The operations of a read-only file system, over plain values.
//!
//! This is what FUSE needs and what `ocifs ls`, `cat` and `export` use without any kernel. Only
//! [`File::read`] and [`File::read_for`] wait for a network; everything else is answered from the
//! tree in memory, and [`File::read_local`] from files of the cache.
//! There are no handles: the image cannot change, so opening is nothing to remember. A [`File`] is an inode
//! that was looked up once, for as long as a request or a copy takes.

mod error;
mod file;
mod filesystem;
mod labels;
mod seek;
mod shared;

pub use crate::index::PROOF_XATTR;
pub use error::Error;
pub use file::File;
pub use filesystem::{Filesystem, MARK_XATTR, Totals};
pub use labels::{Labels, LayerLabel};
pub use seek::Seek;
pub use shared::{FileKey, SharedFiles};
