//! Why a stage of a pass ended early.

use crate::layer::error::ErrorKind;

/// Why a stage ended early.
pub(super) enum Stopped {
    Error(ErrorKind),
    /// The next stage takes no more.
    Receiver,
}

impl<E: Into<ErrorKind>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Error(error.into())
    }
}
