//! What a supervisor's mount ends by: signals, or the end of the program that it was made for.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::commands::run::{Guest, Signals};

/// What a mount ends by.
pub(super) enum Ending {
    /// There is something to read when a signal has come.
    Mount(UnixStream),
    /// The end of the program, which signals are for.
    Program(Guest, Signals),
}

impl Ending {
    /// What becomes readable when a signal has come.
    pub(super) fn signals(&self) -> BorrowedFd<'_> {
        match self {
            Ending::Mount(signals) => signals.as_fd(),
            Ending::Program(_, signals) => signals.as_fd(),
        }
    }

    /// The same when the program has ended.
    pub(super) fn program(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Ending::Mount(_) => None,
            Ending::Program(guest, _) => Some(guest.end.as_fd()),
        }
    }
}
