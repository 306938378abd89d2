//! Why the kernel does not take names and attributes as an image.

use std::io;

use crate::erofs;
use crate::hint::Hint;

/// Why such a mount does not work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("kernel metadata needs root")]
    NotRoot,
    #[error("kernel metadata needs root of the machine, not of a container or a user namespace")]
    NotPermitted,
    #[error("kernel metadata needs a kernel that has EROFS (`modprobe erofs`, CONFIG_EROFS_FS)")]
    NoErofs,
    #[error(
        "kernel metadata needs a kernel that mounts EROFS from a file (Linux 6.12 with \
         CONFIG_EROFS_FS_BACKED_BY_FILE)"
    )]
    NotFromFile,
    #[error(
        "kernel metadata needs a kernel whose EROFS says when it can't read something (Linux 6.18.21 \
         or later, for example): this one would show zeros instead"
    )]
    ShortReads,
    #[error("kernel metadata: {0}")]
    Image(erofs::Error),
    #[error(
        "kernel metadata: the image's names and attributes would take {bytes} bytes of memory that can't be \
         swapped out, more than {limit}"
    )]
    TooLarge { bytes: u64, limit: u64 },
    #[error("kernel metadata: {what}: {cause}")]
    Step { what: &'static str, cause: io::Error },
}

impl From<erofs::Error> for Error {
    fn from(error: erofs::Error) -> Error {
        Error::Image(error)
    }
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::TooLarge { .. } => Some(Hint::AllowMoreKernelMetadata),
            Error::Step { .. } => None,
            _ => Some(Hint::MountWithoutKernelMetadata),
        }
    }
}

/// Says what was being done when something failed.
pub(super) fn step<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Step { what, cause: e.into() }
}
