//! Whether a cache is written to: not for a while after its disk has refused.
//!
//! # Problem
//!
//! A disk is full, read-only or over its quota for a while, and a mount lives for weeks. To try with every span would
//! cost a call that fails and a line in the log each time; never to try again would make the mount
//! fetch everything again and again for the rest of its life.
//!
//! # Design
//!
//! After a refusal nothing is written for a pause, of a second at first and twice as long after each further
//! one. What is written well ends that. Only the first refusal of a row is told.
//!
//! Rejected: to ask the file system for its free room. A quota, a read-only mount and inodes are not in that number.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest: when a disk has room again is known so late at most.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What is known of a cache that is written to.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Pause>>);

#[derive(Clone, Copy, Debug)]
struct Pause {
    length: Duration,
    /// When it ends; none if it is for good.
    end: Option<Instant>,
}

impl Refusals {
    /// Of a cache that is not to be written to.
    pub fn for_good() -> Refusals {
        Refusals(Mutex::new(Some(Pause { length: MAX_PAUSE, end: None })))
    }

    /// Whether it is tried to write.
    pub fn allow(&self, now: Instant) -> bool {
        self.pause().is_none_or(|pause| pause.end.is_some_and(|end| now >= end))
    }

    /// Notes that nothing can be written now; true for the first of a row.
    pub fn note_refused(&self, now: Instant) -> bool {
        let mut pause = self.pause();
        let before = pause.map(|pause| pause.length);
        let length = before.map_or(FIRST_PAUSE, |length| MAX_PAUSE.min(length * 2));
        *pause = Some(Pause { length, end: Some(now + length) });
        before.is_none()
    }

    /// Notes that something was written; true for the first after a refusal.
    pub fn note_written(&self) -> bool {
        self.pause().take().is_some()
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(refusals.allow(start) && refusals.note_refused(start));
        assert!(!refusals.allow(start) && refusals.allow(at(1)));
        assert!(!refusals.note_refused(at(1)), "told once");
        assert!(!refusals.allow(at(2)) && refusals.allow(at(3)));
        for _ in 0..20 {
            refusals.note_refused(at(10));
        }
        assert!(!refusals.allow(at(69)) && refusals.allow(at(70)));
        assert!(refusals.note_written() && !refusals.note_written());
        assert!(refusals.allow(at(10)) && refusals.note_refused(at(10)));
        assert!(refusals.allow(at(11)));
    }

    #[test]
    fn for_good_is_for_good() {
        assert!(!Refusals::for_good().allow(Instant::now() + 2 * MAX_PAUSE));
    }
}
