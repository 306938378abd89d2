//! Reads that have to wait: which are under way, which took longest, and which files could not be read.
//!
//! # Problem
//!
//! A program that stands still in a mount waits for some file, and nothing else tells which, or for how long already. After
//! an outage the question is which files have failed.
//!
//! # Design
//!
//! A read whose bytes are not on this machine is noted while it waits, by its inode; its path is made only when
//! somebody asks. What is read from local files is not noted: that is nearly all, and takes microseconds. Failures
//! are counted by path.
//!
//! Rejected: a histogram of all reads. It would cost every read two clocks and a lock, and say little of a mount
//! where most reads never come here, as the kernel has the pages.
//!
//! Invariants: a read is noted from before it waits for a thread until it is answered, however that ends, by panic
//! too. What is remembered is bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::fs::Filesystem;
use crate::tree::Ino;

/// Paths whose failures are remembered: the last ones.
const MAX_FAILED_PATHS: usize = 64;

/// Reads under way that are told with their path, the oldest first. The kernel has no more than some dozens.
const MAX_TOLD: usize = 64;

/// What is known of reads that had to wait.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order in which they began.
    under_way: BTreeMap<u64, UnderWay>,
    slowest: Option<(UnderWay, Duration, SystemTime)>,
    /// The one that failed last at the end.
    failed: Vec<FailedPath>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    filesystem: Arc<Filesystem>,
    ino: Ino,
    offset: u64,
    since: Instant,
}

impl UnderWay {
    fn told(&self, took: Duration) -> SlowRead {
        SlowRead { path: self.filesystem.tree().path(self.ino), offset: self.offset, took }
    }
}

/// A read that has to wait, or had to.
#[derive(Clone, Debug)]
pub struct SlowRead {
    /// The file, from the root of the mount or, where registries are shown, of its image; without a slash in front.
    pub path: Vec<u8>,
    /// Where in it the read begins.
    pub offset: u64,
    /// For how long it has waited.
    pub took: Duration,
}

/// A file that could not be read.
#[derive(Clone, Debug)]
pub struct FailedPath {
    /// The file, without a slash in front.
    pub path: String,
    /// How many reads of it have failed.
    pub count: u64,
    /// When the last of them failed.
    pub last: SystemTime,
    /// Why.
    pub cause: String,
}

/// What there is to tell of reads that had to wait.
#[derive(Clone, Debug, Default)]
pub struct ReadReport {
    /// How many are under way.
    pub waiting: usize,
    /// The oldest of them, the oldest first.
    pub under_way: Vec<SlowRead>,
    /// The one that took longest, and when it ended.
    pub slowest: Option<(SlowRead, SystemTime)>,
    /// Files that could not be read, the one that failed last at the end.
    pub failed: Vec<FailedPath>,
}

impl Reads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a read that has to wait; its number.
    pub(super) fn begin(&self, filesystem: &Arc<Filesystem>, ino: Ino, offset: u64) -> u64 {
        let filesystem = Arc::clone(filesystem);
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let read = UnderWay { filesystem, ino, offset, since: Instant::now() };
        state.under_way.insert(number, read);
        number
    }

    /// Notes that it has ended.
    pub(super) fn end(&self, number: u64) {
        let mut state = self.lock();
        let Some(read) = state.under_way.remove(&number) else { return };
        let took = read.since.elapsed();
        if state.slowest.as_ref().is_none_or(|(_, most, _)| took > *most) {
            state.slowest = Some((read, took, SystemTime::now()));
        }
    }

    /// Notes that a file could not be read.
    pub(super) fn fail(&self, path: &str, cause: String) {
        let failed = &mut self.lock().failed;
        let at = failed.iter().position(|failed| failed.path == path);
        let before = at.map_or(0, |at| failed.remove(at).count);
        if failed.len() == MAX_FAILED_PATHS {
            failed.remove(0);
        }
        let (path, last) = (path.to_owned(), SystemTime::now());
        failed.push(FailedPath { path, count: before + 1, last, cause });
    }

    /// What there is to tell.
    pub(super) fn report(&self) -> ReadReport {
        let state = self.lock();
        let (waiting, failed) = (state.under_way.len(), state.failed.clone());
        let oldest: Vec<UnderWay> = state.under_way.values().take(MAX_TOLD).cloned().collect();
        let slowest = state.slowest.clone();
        // Paths take a moment to make.
        drop(state);
        ReadReport {
            waiting,
            under_way: oldest.iter().map(|read| read.told(read.since.elapsed())).collect(),
            slowest: slowest.map(|(read, took, ended)| (read.told(took), ended)),
            failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_path_and_bounded() {
        let reads = Reads::default();
        reads.fail("a", "first".to_owned());
        reads.fail("b", "other".to_owned());
        reads.fail("a", "second".to_owned());
        let failed = reads.report().failed;
        let rows: Vec<_> = failed.iter().map(|f| (&*f.path, f.count, &*f.cause)).collect();
        assert_eq!(rows, [("b", 1, "other"), ("a", 2, "second")]);
        (0..1000).for_each(|n| reads.fail(&n.to_string(), String::new()));
        let failed = reads.report().failed;
        assert_eq!((failed.len(), &*failed[63].path), (MAX_FAILED_PATHS, "999"));
    }
}
