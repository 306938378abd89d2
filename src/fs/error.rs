//! Why an operation fails, and the errno that it is for the kernel.

use crate::blob;
use crate::hint::Hint;
use crate::index::MAX_NAME_BYTES;

/// Why an operation fails.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("no such file or directory")]
    NotFound,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("not the kind of file that this works on")]
    WrongKind,
    #[error("no such attribute")]
    NoAttribute,
    #[error("no file has attributes of this kind")]
    NoNamespace,
    #[error("there is none beyond this offset")]
    Beyond,
    #[error("a name of more than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    #[error("{name}: {cause}")]
    Name { name: String, cause: String },
    #[error("{name}: not looked up in time")]
    Late { name: String },
    #[error("reading /{path}: {cause}")]
    Content { path: String, cause: blob::Error },
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Content { cause: source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Error {
    /// The errno that the kernel is told: each error has exactly one.
    pub fn errno(&self) -> rustix::io::Errno {
        use rustix::io::Errno;
        match self {
            Error::NotFound => Errno::NOENT,
            Error::NotADirectory => Errno::NOTDIR,
            Error::IsADirectory => Errno::ISDIR,
            Error::WrongKind => Errno::INVAL,
            Error::NoAttribute => Errno::NODATA,
            Error::NoNamespace => Errno::OPNOTSUPP,
            Error::Beyond => Errno::NXIO,
            Error::NameTooLong => Errno::NAMETOOLONG,
            Error::Content { .. } | Error::Name { .. } => Errno::IO,
            Error::Late { .. } => Errno::TIMEDOUT,
        }
    }
}
