//! Reads that have just failed.
//!
//! # Problem
//!
//! A program reads; the kernel asks for what it reads and for more behind it (readahead). When that fails, the
//! pages are there and not up to date, and the kernel asks for the first of them once more by itself, before the
//! program gets its error (`filemap_read_folio` in mm/filemap.c). EROFS above us (`fuse::erofs_mount`) does the same
//! once more. Behind a registry that does not answer the program would wait for a multiple of what it was told.
//!
//! # Design
//!
//! A failure is remembered, and as many reads within it as the kernel makes of its own accord, a moment later,
//! fail at once. After that the pages stay, and the kernel asks once whenever a program does: a program that tries
//! again is never answered from here, however soon it comes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How soon the kernel asks again: as soon as the one who waits for it has woken up, which a busy machine may put
/// off.
const MOMENT: Duration = Duration::from_secs(2);

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
    /// How often the kernel has yet to ask again.
    echoes: u32,
}

impl Failures {
    /// A read of these bytes of an inode fails now, and the kernel asks so many times again if it had not before.
    pub(super) fn remember(&self, ino: u64, range: Range<u64>, echoes: u32, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_here =
            |failure: &Failure| failure.ino == ino && failure.range.contains(&range.start);
        match failures.iter().position(is_here) {
            // Its pages are there.
            Some(at) if failures[at].echoes == 0 => return,
            Some(at) => drop(failures.remove(at)),
            None if failures.len() == MAX_FAILURES => drop(failures.pop_front()),
            None => {}
        }
        failures.push_back(Failure { ino, range, when: now, echoes });
    }

    /// Whether a read from here on is the kernel's own after one that has just failed.
    pub(super) fn is_echo(&self, ino: u64, offset: u64, now: Instant) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_here =
            |failure: &&mut Failure| failure.ino == ino && failure.range.contains(&offset);
        let found = failures.iter_mut().find(is_here);
        let is_soon = |when: Instant| now.saturating_duration_since(when) < MOMENT;
        let found = found.filter(|failure| failure.echoes > 0 && is_soon(failure.when));
        found.map(|failure| failure.echoes -= 1).is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_kernel_makes() {
        let (failures, now) = (Failures::default(), Instant::now());
        let is_echo = |ino, offset| failures.is_echo(ino, offset, now);
        assert!(!is_echo(1, 0));
        failures.remember(1, 4096..8192, 2, now);
        assert!(!is_echo(2, 4096) && !is_echo(1, 0) && !is_echo(1, 8192));
        assert!(is_echo(1, 8191) && is_echo(1, 4096) && !is_echo(1, 4096));
        // From now on it is a program that asks.
        failures.remember(1, 4096..8192, 2, now);
        assert!(!is_echo(1, 4096));
    }

    #[test]
    fn a_moment_later() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.remember(1, 0..1, 1, now);
        assert!(!failures.is_echo(1, 0, now + MOMENT));
        failures.remember(1, 0..1, 1, now + MOMENT);
        assert!(failures.is_echo(1, 0, now + MOMENT), "the kernel has not asked again before");
    }

    #[test]
    fn there_are_not_many() {
        let (failures, now) = (Failures::default(), Instant::now());
        (0..10 * MAX_FAILURES as u64).for_each(|ino| failures.remember(ino, 0..1, 1, now));
        assert!(failures.0.lock().unwrap().len() <= MAX_FAILURES);
    }
}
