//! Why a stream can't be decompressed.

use crate::hint::Hint;

/// Why a stream can't be decompressed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the {0} stream ends too early")]
    Truncated(&'static str),
    #[error("corrupt gzip stream: {0}")]
    Gzip(&'static str),
    #[error("corrupt zstd stream: {0}")]
    Zstd(String),
    #[error(
        "its zstd window of {} is larger than the {} of memory that it may take",
        mebibytes(*window), mebibytes(*limit)
    )]
    ZstdWindow { window: u64, limit: u64 },
    #[error("the layer is compressed with {0}, which no image format allows")]
    Unsupported(&'static str),
}

/// A size in words.
fn mebibytes(bytes: u64) -> String {
    match bytes {
        whole if whole.is_multiple_of(1 << 20) => format!("{} MiB", whole >> 20),
        other => format!("{other} bytes"),
    }
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::ZstdWindow { .. } => Some(Hint::AllowLargerWindow),
            _ => None,
        }
    }
}
