//! Where the threads that read requests wait until their descriptor is that of the device (`fuse::session`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long threads may take to come: they are started, and have one message to read.
const LIMIT: Duration = Duration::from_secs(30);

/// A gate that is closed at first, and then open for ever.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: AtomicBool,
    /// How many wait.
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// Waits here as long as it is closed.
    pub(super) fn pass(&self) {
        if self.is_open.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        self.changed.notify_all();
        while !self.is_open.load(Ordering::Acquire) {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many wait here.
    ///
    /// # Errors
    /// They do not come.
    pub(super) fn wait_for(&self, threads: usize) -> io::Result<()> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let come = self.changed.wait_timeout_while(waiting, LIMIT, |waiting| *waiting < threads);
        match *come.unwrap_or_else(PoisonError::into_inner).0 {
            waiting if waiting < threads => {
                Err(io::Error::other("the threads of FUSE do not start"))
            }
            _ => Ok(()),
        }
    }

    /// Opens it.
    pub(super) fn open(&self) {
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_open.store(true, Ordering::Release);
        self.changed.notify_all();
    }
}
