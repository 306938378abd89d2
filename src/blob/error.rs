//! Why bytes of a layer can't be had.

use std::io;
use std::sync::Arc;

use crate::codec;
use crate::extent::UncompressedOffset;
use crate::hint::Hint;
use crate::index::Span;
use crate::source;

/// Why bytes can't be had.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(Arc<source::Error>),
    #[error("reading {what}: {cause}")]
    Read { what: String, cause: Arc<io::Error> },
    #[error("{what}: {cause}")]
    Codec { what: String, cause: Arc<codec::Error> },
    #[error("{what}: the bytes at {at} are not those that were indexed")]
    Mismatch { what: String, at: UncompressedOffset },
    #[error("{what}: its bytes do not match its digest")]
    Digest { what: String },
    #[error(
        "{what}: its files are not those that the headers showed which were sent for it at first; mounted again, it is \
         shown as it is"
    )]
    OtherFiles { what: String },
    #[error("{what}: ends before {at}")]
    Short { what: String, at: UncompressedOffset },
    #[error("{0}: not fetched in time")]
    Deadline(String),
    #[error("{0} is not in the cache, and offline nothing is fetched")]
    Offline(String),
    #[error("{0}: its layer index came without checkpoints, and no source has them")]
    Windows(String),
    #[error("{0}: the thread that fetched it died")]
    Died(String),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Source(error) => error.hint(),
            Error::Read { cause: source, .. } => source::hint_of(source),
            Error::Codec { cause: source, .. } => source.hint(),
            Error::Deadline(_) => Some(Hint::AllowMoreTime),
            Error::Offline(_) => Some(Hint::GoOnline),
            _ => None,
        }
    }

    pub(super) fn codec(what: &str, error: codec::Error) -> Error {
        Error::Codec { what: what.to_owned(), cause: Arc::new(error) }
    }

    pub(super) fn read(what: &str, error: io::Error) -> Error {
        Error::Read { what: what.to_owned(), cause: Arc::new(error) }
    }

    pub(super) fn short(what: &str, span: &Span) -> Error {
        Error::Short { what: what.to_owned(), at: span.start }
    }
}

/// Why a fetch failed.
pub(super) enum Fault {
    /// The source did not deliver.
    Transport(Error),
    /// It delivered something else than was indexed.
    Content(Error),
}
