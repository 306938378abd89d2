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
//!
//! Memory is bounded. Once it is full, further failures have no echoes: their programs wait for longer. (Rejected: to
//! forget the oldest. The kernel still has its pages, so that the next failure there would look like a first one, and
//! the program's next attempt like an echo of it.)

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How soon the kernel asks again: as soon as the one who waits for it has woken up, which a busy machine may put
/// off.
const MOMENT: Duration = Duration::from_secs(2);

/// Ranges that are remembered at most.
const MAX_FAILURES: usize = 4096;

/// Ranges of inodes that could not be read.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_inode: HashMap<u64, Vec<Failure>>,
    count: usize,
}

#[derive(Debug)]
struct Failure {
    range: Range<u64>,
    when: Instant,
    /// How often the kernel has yet to ask again.
    echoes: u32,
}

impl Remembered {
    fn find(&mut self, ino: u64, offset: u64) -> Option<&mut Failure> {
        let failures = self.by_inode.get_mut(&ino)?;
        failures.iter_mut().find(|failure| failure.range.contains(&offset))
    }
}

impl Failures {
    /// A read of these bytes of an inode fails now, and the kernel asks so many times again if it had not before.
    pub(super) fn remember(&self, ino: u64, range: Range<u64>, echoes: u32, now: Instant) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = Failure { range, when: now, echoes };
        if let Some(known) = remembered.find(ino, failure.range.start) {
            // Without echoes, its pages are there.
            if known.echoes > 0 {
                *known = failure;
            }
        } else if remembered.count < MAX_FAILURES {
            remembered.count += 1;
            remembered.by_inode.entry(ino).or_default().push(failure);
        }
    }

    /// Whether a read from here on is the kernel's own after one that has just failed.
    pub(super) fn is_echo(&self, ino: u64, offset: u64, now: Instant) -> bool {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = |when: Instant| now.saturating_duration_since(when) < MOMENT;
        let found = remembered.find(ino, offset);
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
    fn a_program_is_never_answered_for_the_kernel_however_much_has_failed() {
        let (failures, now) = (Failures::default(), Instant::now());
        // In each round a program asks once for each; in the first the kernel asks again.
        for round in 0..3 {
            for ino in 0..2 * MAX_FAILURES as u64 {
                assert!(!failures.is_echo(ino, 0, now), "{ino} in round {round}");
                failures.remember(ino, 0..1, 1, now);
                let is_echo = failures.is_echo(ino, 0, now);
                assert_eq!(is_echo, round == 0 && ino < MAX_FAILURES as u64, "{ino}");
            }
        }
        let remembered = failures.0.lock().unwrap();
        assert_eq!(remembered.by_inode.values().map(Vec::len).sum::<usize>(), MAX_FAILURES);
    }
}
