//! What goes over the network, counted, and what the clocks of registries show.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What went over the wire; shared with the code that shows it.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    body_bytes: AtomicU64,
    clock: Mutex<Option<Clock>>,
}

/// What a registry's clock showed, and this machine's at that moment.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The registry.
    pub host: String,
    /// Its time, by the header `Date`.
    pub theirs: SystemTime,
    /// This machine's time.
    pub ours: SystemTime,
}

impl Traffic {
    /// HTTP requests sent, of every kind.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of response bodies received.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// What the clock showed of the registry that answered last, if it said so.
    pub fn clock(&self) -> Option<Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request that is sent.
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a body that have come.
    pub(super) fn count_body(&self, bytes: u64) {
        self.body_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes what the clock of a registry shows.
    pub(super) fn note_clock(&self, host: &str, theirs: SystemTime) {
        let clock = Clock { host: host.to_owned(), theirs, ours: SystemTime::now() };
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }
}
