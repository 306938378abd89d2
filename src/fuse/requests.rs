//! What the kernel has asked so far, and what failed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fuser::{Errno, INodeNo};

use super::failures::Failures;
use super::reads::{ReadReport, Reads};
use crate::fs::{self, Filesystem};
use crate::tree::Ino;

/// Reasons for EIO that are remembered.
const RECENT_ERRORS: usize = 8;

/// Requests that the kernel has sent, by kind.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "named after the FUSE requests they count")]
pub struct Requests {
    pub lookup: AtomicU64,
    pub getattr: AtomicU64,
    pub readlink: AtomicU64,
    pub open: AtomicU64,
    pub opendir: AtomicU64,
    pub read: AtomicU64,
    pub readdir: AtomicU64,
    pub readdirplus: AtomicU64,
    pub xattr: AtomicU64,
    pub statfs: AtomicU64,
    pub other: AtomicU64,
    /// Requests that were answered with EIO.
    pub errors: AtomicU64,
    /// Files that were given before they were asked for.
    pub pushed: AtomicU64,
    /// Requests of the prefetcher, of whatever kind, which are not among the others.
    pub ahead: AtomicU64,
    recent_errors: Mutex<VecDeque<String>>,
    failures: Failures,
    reads: Reads,
    refused: Mutex<Option<String>>,
    refusals: AtomicU64,
}

/// A read that has to wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    requests: Arc<Requests>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.requests.reads.end(self.number);
    }
}

impl Requests {
    /// The last few reasons for EIO, oldest first.
    pub fn recent_errors(&self) -> Vec<String> {
        let errors = self.recent_errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().cloned().collect()
    }

    /// What there is to tell of reads that had to wait, or have failed.
    pub fn reads(&self) -> ReadReport {
        self.reads.report()
    }

    /// Notes that a read has to wait, from now until what is returned is dropped.
    pub(super) fn wait(
        self: &Arc<Self>,
        filesystem: &Arc<Filesystem>,
        ino: Ino,
        offset: u64,
    ) -> Waiting {
        let number = self.reads.begin(filesystem, ino, offset);
        Waiting { requests: Arc::clone(self), number }
    }

    /// Logs and remembers that a read of these bytes failed, and why; what the kernel is told. It asks so many
    /// times [again](super::failures).
    pub(super) fn failed(
        &self,
        ino: INodeNo,
        range: Range<u64>,
        echoes: u32,
        error: &fs::Error,
    ) -> Errno {
        self.failures.remember(ino.0, range, echoes, Instant::now());
        self.not_had(error)
    }

    /// Logs and remembers why something could not be had; what the kernel is told.
    pub(super) fn not_had(&self, error: &fs::Error) -> Errno {
        count(&self.errors);
        log::error!("{error}");
        if let fs::Error::Content { path, cause } = error {
            self.reads.fail(path, cause.to_string());
        }
        let mut errors = self.recent_errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == RECENT_ERRORS {
            errors.pop_front();
        }
        errors.push_back(error.to_string());
        Errno::from_i32(error.errno().raw_os_error())
    }

    /// Logs and remembers that a request was refused, as it has ended other processes.
    pub(super) fn refuse(&self, text: String) {
        count(&self.errors);
        self.refusals.fetch_add(1, Ordering::Relaxed);
        log::error!("{text}");
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// How many requests were refused, as they had ended other processes, and the last of them.
    pub fn refused(&self) -> (u64, Option<String>) {
        let last = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.refusals.load(Ordering::Relaxed), last)
    }

    /// Whether this is only the kernel that asks [again](super::failures) for what has just failed.
    pub(super) fn is_echo(&self, ino: INodeNo, offset: u64) -> bool {
        let is_echo = self.failures.is_echo(ino.0, offset, Instant::now());
        if is_echo {
            count(&self.errors);
        }
        is_echo
    }

    /// Names and counts, in a fixed order.
    pub fn counts(&self) -> [(&'static str, u64); 12] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("lookup", get(&self.lookup)),
            ("getattr", get(&self.getattr)),
            ("readlink", get(&self.readlink)),
            ("open", get(&self.open)),
            ("opendir", get(&self.opendir)),
            ("read", get(&self.read)),
            ("readdir", get(&self.readdir)),
            ("readdirplus", get(&self.readdirplus)),
            ("xattr", get(&self.xattr)),
            ("statfs", get(&self.statfs)),
            ("other", get(&self.other)),
            ("errors", get(&self.errors)),
        ]
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
