//! Why a name does not lead to an image.

use crate::digest::{Digest, VerifyError};
use crate::hint::Hint;
use crate::oci::{self, Platform};
use crate::source;

/// How deep image indexes may be nested.
pub(super) const MAX_INDEX_DEPTH: usize = 4;

/// Documents that are opened because an index does not say what they are for.
pub(super) const MAX_OPENED: usize = 64;

/// Why a name does not lead to an image.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("{0} is not in the cache")]
    Offline(String),
    #[error(
        "the digest of {0} was last looked up without TLS, or without verifying the certificate"
    )]
    OfflineUnchecked(String),
    #[error("{what}: {cause}")]
    Document { what: String, cause: oci::Error },
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{what} has {got} bytes, its descriptor says {expected}")]
    Size { what: String, got: u64, expected: u64 },
    #[error("reading {what}: {cause}")]
    Read { what: String, cause: std::io::Error },
    #[error("image indexes are nested more than {MAX_INDEX_DEPTH} deep, or in a circle")]
    Nesting,
    #[error("there is no image for {wanted}; there is {available}")]
    Platform { wanted: Platform, available: String },
    #[error(
        "the image index has no image but {count} artifacts, of which one has to be named by its digest: {listed}"
    )]
    Several { count: usize, listed: String },
    #[error("the image index is empty")]
    EmptyIndex,
    #[error("the image index lists {0}, but none of these manifests is there")]
    Absent(String),
    #[error(
        "the image index lists {platform} as {digest}, but that manifest is not there{}",
        if .others.is_empty() { String::new() } else { format!("; there is {others}") }
    )]
    Lost { platform: Platform, digest: Digest, others: String },
    #[error("the image index lists {what}, which can't be used: {why}")]
    Unusable { what: String, why: String },
    #[error(
        "more than {MAX_OPENED} entries of the image index do not say what they are for; name one \
         by its digest"
    )]
    TooManyOpened,
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Source(error) => error.hint(),
            Error::Offline(_) => Some(Hint::GoOnline),
            Error::OfflineUnchecked(_) => Some(Hint::ExemptAgain),
            Error::Read { cause: source, .. } => source::hint_of(source),
            Error::Platform { .. } => Some(Hint::ChoosePlatform),
            _ => None,
        }
    }

    /// Whether the documents were read, and an image that would be wanted is not among what they name.
    pub fn is_no_image(&self) -> bool {
        match self {
            Error::Document { cause, .. } => cause.is_no_image(),
            Error::Platform { .. } | Error::EmptyIndex | Error::Absent(_) => true,
            Error::Several { .. } => true,
            Error::Lost { .. } | Error::Unusable { .. } | Error::TooManyOpened => true,
            _ => false,
        }
    }

    /// Whether it is about a single entry of an index, and says nothing of the others.
    pub(super) fn is_of_the_entry(&self) -> bool {
        match self {
            Error::Source(error) => error.is_missing(),
            Error::Offline(_) | Error::Document { .. } => true,
            _ => false,
        }
    }
}
