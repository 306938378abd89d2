//! Why a database of packages can't be read.

use super::limits::{MAX_FIELD_BYTES, MAX_PACKAGES};
use crate::fs;

/// Why a database can't be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    /// The bytes can't be had. It says nothing about the image.
    #[error("{0}")]
    Access(fs::Error),
    #[error("it is corrupt: {0}")]
    Corrupt(&'static str),
    #[error("its page {page} is corrupt: {what}")]
    Page { page: u32, what: &'static str },
    #[error("not supported: {0}")]
    NotSupported(&'static str),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("there are more than {limit} such files")]
    TooManyFiles { limit: usize },
    #[error("it has more than the {limit} bytes that are read of it")]
    TooLarge { limit: u64 },
    #[error("more than {limit} bytes would have to be read of it")]
    TooMuchToRead { limit: u64 },
    #[error("it has more than {MAX_PACKAGES} packages")]
    TooManyPackages,
    #[error("a name, version or architecture in it has more than {MAX_FIELD_BYTES} bytes")]
    LongField,
}
