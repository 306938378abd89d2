//! Why an image can't be mounted.

use std::io;

use crate::fuse::{erofs_mount, kernel};
use crate::hint::Hint;

/// Why an image can't be mounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Erofs(#[from] erofs_mount::Error),
    #[error("starting to serve the mount: {0}")]
    Serve(io::Error),
    #[error("what the names of the images meant is not shown as it was when it was mounted")]
    Different,
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Kernel(error) => error.hint(),
            Error::Erofs(error) => error.hint(),
            Error::Serve(_) | Error::Different => None,
        }
    }
}
