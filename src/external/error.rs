//! Why an index of others can't be used.

use std::io;

use crate::index::ExternalError;
use crate::index_artifact;
use crate::source;
use crate::toc;
use crate::ztoc;

/// Why an index of others can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("reading {what}: {cause}")]
    Read { what: String, cause: io::Error },
    #[error("{0} does not match its digest")]
    Digest(String),
    #[error(transparent)]
    Toc(#[from] toc::Error),
    #[error(transparent)]
    Ztoc(#[from] ztoc::Error),
    #[error(transparent)]
    Artifact(#[from] index_artifact::Error),
    #[error(transparent)]
    Index(#[from] ExternalError),
    #[error("the SOCI index is for another image")]
    OtherImage,
    #[error("the gzip header is longer than the ztoc assumes")]
    GzipHeader,
}
