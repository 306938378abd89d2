//! Why a layer can't be used.

use std::io;

use crate::codec;
use crate::digest::{DiffId, Digest, VerifyError};
use crate::hint::Hint;
use crate::index::{self, DecodeError};
use crate::oci::Descriptor;
use crate::source;

/// Why a layer can't be used.
#[derive(Debug, thiserror::Error)]
#[error("layer {digest}: {kind}")]
pub struct Error {
    /// The blob.
    pub digest: Digest,
    /// What is wrong with it.
    pub kind: ErrorKind,
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ErrorKind {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("reading it failed: {0}")]
    Read(std::io::Error),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Index(#[from] index::Error),
    #[error(transparent)]
    Inconsistent(#[from] DecodeError),
    #[error("its content does not match the diff ID in the config: expected {expected}, got {got}")]
    DiffId { expected: DiffId, got: DiffId },
    #[error("it unpacks to more than {limit} bytes, far more than {blob} compressed bytes should")]
    TooLarge { limit: u64, blob: u64 },
    #[error("it is not in the cache")]
    Offline,
    #[error(
        "the cache has its index but no full proof, for which all of it has to be streamed once"
    )]
    OfflineUnproven,
    #[error(
        "it is a foreign layer, which is not in the registry of the image but at {url}, and nothing is \
         fetched from addresses that an image names"
    )]
    Foreign { url: String },
    #[error("its content is no tar but {0}")]
    NotTar(&'static str),
    #[error(
        "it has a table of contents, but what it unpacks to is no tar: a runtime sees no file of it"
    )]
    NoTarBehindTable,
    #[error("it is compressed twice: what it unpacks to is no tar but {0}")]
    CompressedTwice(&'static str),
    #[error("no thread can be started for it: {0}")]
    Thread(io::Error),
    #[error("a worker thread died")]
    Worker,
}

impl ErrorKind {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ErrorKind::Source(error) => error.hint(),
            ErrorKind::Read(error) => source::hint_of(error),
            ErrorKind::Codec(error) => error.hint(),
            ErrorKind::Index(error) => error.hint(),
            ErrorKind::TooLarge { .. } => Some(Hint::AllowLargerLayers),
            ErrorKind::Offline => Some(Hint::GoOnline),
            ErrorKind::OfflineUnproven => Some(Hint::GoOnlineOrUnproven),
            _ => None,
        }
    }
}

impl ErrorKind {
    /// Why the blob of a layer can't be had. Layers that may not be distributed, such as those of Windows,
    /// are often not pushed.
    pub(super) fn of_blob(error: source::Error, descriptor: &Descriptor) -> ErrorKind {
        match descriptor.urls.first() {
            Some(url) if error.is_missing() => {
                let end = url.find(['?', '#']).unwrap_or(url.len());
                ErrorKind::Foreign { url: url[..end].to_owned() }
            }
            _ => error.into(),
        }
    }
}
