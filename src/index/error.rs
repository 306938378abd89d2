//! Why a layer can't be indexed, and how large its names may be.

use crate::hint::Hint;
use crate::tar;

/// Entries accepted in one layer. Each costs about 100 bytes of memory.
pub const MAX_ENTRIES: usize = 16 << 20;

/// The longest path accepted, in bytes: Linux's `PATH_MAX`, past which nothing could unpack it.
pub const MAX_PATH_BYTES: usize = 4096;

/// The longest name of a file, in bytes: Linux's `NAME_MAX`.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest symlink target in bytes: what `readlink(2)` over FUSE can return.
pub const MAX_SYMLINK_BYTES: usize = 4095;

/// Why a layer can't be indexed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Tar(#[from] tar::Error),
    #[error("entry with an empty name")]
    EmptyName,
    #[error("entry `{0}` climbs above the root with `..`")]
    ClimbsOut(String),
    #[error("entry `{0}`: the path is longer than 4096 bytes")]
    PathTooLong(String),
    #[error("entry `{0}`: a name in it is longer than 255 bytes")]
    NameTooLong(String),
    #[error("entry `{0}` would replace the root directory by something else")]
    RootNotDirectory(String),
    #[error("entry `{0}`: whiteouts of nothing, `.` or `..` are invalid")]
    InvalidWhiteout(String),
    #[error("symlink `{0}`: the target is empty or longer than 4095 bytes")]
    SymlinkTarget(String),
    #[error("hard link `{0}` climbs above the root with `..`")]
    LinkClimbsOut(String),
    #[error("the layer has more than {MAX_ENTRIES} entries or 4 GiB of names")]
    TooLarge,
    #[error(
        "names and attributes of the image would take more than {limit} bytes of memory, far more than \
         layers of its size should"
    )]
    Budget { limit: u64 },
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Budget { .. } => Some(Hint::AllowMoreMetadata),
            _ => None,
        }
    }
}
