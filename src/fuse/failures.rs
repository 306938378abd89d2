//! Reads that have just failed.
//!
//! # Problem
//!
//! A program reads; the kernel asks for what it reads and for more behind it (readahead). When that fails, the
//! pages are there and not up to date, and the kernel asks for the first of them once more by itself, before the
//! program gets its error (`filemap_read_folio` in mm/filemap.c). So does EROFS above us (`fuse::metadata`). Behind
//! a registry that does not answer the program would wait for twice as long as it was told.
//!
//! # Design
//!
//! What has failed fails at once for a moment more.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How soon the kernel asks again: as soon as the one who waits for it has woken up. A program that tries again
/// is hardly ever so fast.
const MOMENT: Duration = Duration::from_millis(300);

/// Failures that are remembered at most.
const MAX_FAILURES: usize = 256;

/// The last failures, oldest first.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<VecDeque<Failure>>);

#[derive(Debug)]
struct Failure {
    ino: u64,
    range: Range<u64>,
    when: Instant,
}

impl Failures {
    /// A read of these bytes of an inode fails now.
    pub(super) fn remember(&self, ino: u64, range: Range<u64>) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == MAX_FAILURES {
            failures.pop_front();
        }
        failures.push_back(Failure { ino, range, when: Instant::now() });
    }

    /// Whether a read from here on has just failed.
    pub(super) fn contains(&self, ino: u64, offset: u64) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while failures.front().is_some_and(|failure| failure.when.elapsed() >= MOMENT) {
            failures.pop_front();
        }
        failures.iter().any(|failure| failure.ino == ino && failure.range.contains(&offset))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_of_bytes_and_soon_forgotten() {
        let failures = Failures::default();
        assert!(!failures.contains(1, 0));
        failures.remember(1, 4096..8192);
        let near = [(2, 4096), (1, 0), (1, 8192)];
        assert!(near.iter().all(|(ino, offset)| !failures.contains(*ino, *offset)));
        assert!(failures.contains(1, 4096) && failures.contains(1, 8191));
        std::thread::sleep(MOMENT);
        assert!(!failures.contains(1, 4096));
    }

    #[test]
    fn there_are_not_many() {
        let failures = Failures::default();
        (0..10 * MAX_FAILURES as u64).for_each(|ino| failures.remember(ino, 0..1));
        assert!(failures.0.lock().unwrap().len() <= MAX_FAILURES);
    }
}
