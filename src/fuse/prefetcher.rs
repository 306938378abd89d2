//! A process that runs ahead of walks.
//!
//! # Problem
//!
//! Over a tree of small things the first `find`, `grep -r` or `tar` asks for each of them, waits, and
//! has the processor that it runs on idle meanwhile. Had another process asked before it, the answers would
//! be in the kernel's caches.
//!
//! # Design
//!
//! That other process is one of our own, the *prefetcher*: it lists directories of the mount, opens small
//! files and has the kernel read them ahead (`posix_fadvise(2)`), as any user might. [`Traversal`] says where
//! to, from the requests of others; what of it is cached goes to the prefetcher as *batches* of a
//! few steps, and it answers each with a byte. At most two batches are under way, so that
//! what comes next can still be changed. It is started when the first walk is seen.
//!
//! Over `fuse::erofs_mount` the kernel asks for contents only, in ranges. The same process then opens files of
//! those, which puts them into the cache of the file system that walks see; and it has the kernel read ahead
//! what lies before the files of a reader that reads them from the end.
//!
//! # Why a process
//!
//! A thread that asks this process for something must not be part of it. If it is killed, the kernel closes the
//! connection only when all its threads have ended, and a thread that waits for an answer in
//! the kernel does not end. For the same reason the prefetcher must not have the device open: all
//! our descriptors are closed when a program is started.
//!
//! # Invariants
//!
//! - All of it is a hint. What the prefetcher asks for is answered like everything else; no reader waits for it.
//! - Only what is cached is named, so nothing is fetched for it but what is evicted in this moment.
//! - A mount that is in use can't be unmounted. The prefetcher uses it only while it has batches to work on, a
//!   few tens of milliseconds after the walk's last request, and stops as soon as the process that walks has
//!   ended and been waited for. If it does not answer it is killed.
//! - Its process number, in every request, keeps it from being taken for a walk itself. If that number is not
//!   seen (another namespace), it is given up. Where it may need no request, the number is right because
//!   one process has made the connection and started the prefetcher.
//!
//! (Rejected: pushing contents with FUSE_NOTIFY_STORE, which `fuse::pusher` does and which saves the request
//! altogether. `scripts/bench` has both as fast where files are read; but it does nothing about listings, and a reader
//! may hang when the process is killed.)

mod batch;
mod process;
mod program;
mod target;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{PROC_SUPER_MAGIC, statfs};

use crate::fs::Filesystem;
use crate::prefetch::{Next, Step, Traversal};
use crate::tree::Ino;

use batch::Batch;
pub use process::run;
pub use program::{Launched, Launcher, Program};
pub use target::{DeviceFolder, Target};

/// Steps of a batch.
const BATCH_STEPS: usize = 16;

/// A batch that is longer than this has no more steps. One path more is no longer than this again, so the batches under
/// way fit into a pipe (64 KiB), and sending them never blocks.
const FULL_BATCH_BYTES: usize = 16 << 10;

/// Ranges that were told of and not yet taken.
const MAX_RANGES: usize = 32;

/// Batches under way.
const WINDOW: usize = 2;

/// Batches in which nothing is asked for under the process number of the prefetcher, if it is known. (In
/// one, everything may have been in the kernel's caches.)
const MAX_UNSEEN: u32 = 8;

/// How long an answer is waited for: all that a batch asks for is cached. A process that is stopped or stuck would
/// keep the mount in use. It is looked meanwhile whether the mount has ended.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A part of a device that a process comes to.
#[derive(Debug)]
pub(super) struct DeviceRange {
    /// The number of the device.
    pub(super) device: usize,
    /// Where, in bytes.
    pub(super) range: Range<u64>,
    /// What lies there: files, and parts of them in bytes.
    pub(super) parts: Vec<(Ino, Range<u64>)>,
}

/// What the threads that answer the kernel tell, and whom.
#[derive(Debug)]
pub(super) struct Prefetcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    filesystem: Arc<Filesystem>,
    state: Mutex<PrefetchState>,
    news: Condvar,
    /// The process, 0 while there is none.
    pid: AtomicU32,
    /// Whether a request of it has come, or none need come.
    is_seen: AtomicBool,
    /// Whether nothing is done any more.
    is_off: AtomicBool,
}

#[derive(Debug)]
struct PrefetchState {
    traversal: Traversal,
    /// What is to be brought, and before whom; the latest last.
    ranges: VecDeque<(u32, DeviceRange)>,
    has_news: bool,
}

impl Prefetcher {
    /// Begins to wait for walks. Nothing depends on it, so it is only logged if that is not possible.
    pub(super) fn start(
        filesystem: &Arc<Filesystem>,
        program: Arc<dyn Launcher>,
        place: io::Result<Target>,
    ) -> Option<Prefetcher> {
        let started = place.and_then(|place| Prefetcher::new(filesystem, program, place));
        started.inspect_err(not_running).ok()
    }

    fn new(
        filesystem: &Arc<Filesystem>,
        program: Arc<dyn Launcher>,
        place: Target,
    ) -> io::Result<Prefetcher> {
        let traversal = Traversal::new(filesystem.tree());
        let is_seen = AtomicBool::new(place.devices.is_some());
        let shared = Arc::new(Shared {
            filesystem: Arc::clone(filesystem),
            state: Mutex::new(PrefetchState {
                traversal,
                ranges: VecDeque::new(),
                has_news: false,
            }),
            news: Condvar::new(),
            pid: AtomicU32::new(0),
            is_seen,
            is_off: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let work = move || {
            if let Err(e) = serve(&own, &*program, &place) {
                not_running(&e);
            }
            own.is_off.store(true, Ordering::Relaxed);
        };
        thread::Builder::new().name("prefetcher".into()).spawn(work)?;
        Ok(Prefetcher(shared))
    }

    /// Whether this is the number of the prefetcher.
    pub(super) fn asks(&self, pid: u32) -> bool {
        let is_own = pid == self.0.pid.load(Ordering::Relaxed) && pid != 0;
        if is_own && !self.0.is_seen.load(Ordering::Relaxed) {
            self.0.is_seen.store(true, Ordering::Relaxed);
        }
        is_own
    }

    /// A directory is listed from its start, by this process.
    pub(super) fn listed(&self, pid: u32, dir: Ino) {
        self.tell(pid, |traversal| {
            traversal.listed(self.0.filesystem.tree(), pid, dir, Instant::now())
        });
    }

    /// A file was read from its start.
    pub(super) fn read(&self, pid: u32, file: Ino) {
        self.tell(pid, |traversal| {
            traversal.read(self.0.filesystem.tree(), pid, file, Instant::now())
        });
    }

    /// A symlink was read.
    pub(super) fn followed(&self, pid: u32) {
        self.tell(pid, |traversal| {
            traversal.followed();
            false
        });
    }

    /// A process has read up to a part of contents, in which these files begin in this order.
    pub(super) fn shown(&self, pid: u32, files: impl IntoIterator<Item = Ino>) {
        self.tell(pid, |traversal| traversal.shown(self.0.filesystem.tree(), pid, files));
    }

    /// A process reads a device from its end, and comes to these parts of it in this order.
    pub(super) fn descends(&self, pid: u32, ranges: impl FnOnce() -> Vec<DeviceRange>) {
        if !self.hears(pid) {
            return;
        }
        let ranges = ranges();
        let mut state = self.0.lock();
        state.ranges.extend(ranges.into_iter().map(|part| (pid, part)));
        // Their readers are likely to be there by now.
        let late = state.ranges.len().saturating_sub(MAX_RANGES);
        state.ranges.drain(..late);
        self.0.wake(state);
    }

    /// Ends it, at once.
    pub(super) fn end(&self) {
        self.0.is_off.store(true, Ordering::Relaxed);
        self.0.wake(self.0.lock());
    }

    fn tell(&self, pid: u32, news: impl FnOnce(&mut Traversal) -> bool) {
        if self.hears(pid) {
            let mut state = self.0.lock();
            if news(&mut state.traversal) {
                self.0.wake(state);
            }
        }
    }

    /// Whether what this process does is of interest.
    fn hears(&self, pid: u32) -> bool {
        // A process of another namespace has no number, and so can't be seen to end.
        !self.0.is_off.load(Ordering::Relaxed) && !self.asks(pid) && pid != 0
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PrefetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is news.
    fn wake(&self, mut state: MutexGuard<'_, PrefetchState>) {
        state.has_news = true;
        drop(state);
        self.news.notify_one();
    }

    /// Waits for news.
    fn wait(&self) {
        let state = self.lock();
        let waited = self.news.wait_while(state, |state| !state.has_news);
        waited.unwrap_or_else(PoisonError::into_inner).has_news = false;
    }

    /// The next batch, and how many steps it took; it may have fewer, as not all is cached.
    fn next_batch(&self) -> (Batch, usize) {
        let tree = self.filesystem.tree();
        let (mut batch, mut steps) = (Batch::default(), 0);
        self.lock().traversal.retain(process::is_alive);
        if let Some((client, part)) = self.next_range() {
            batch.bring(client, part.device, &part.range);
        }
        while steps < BATCH_STEPS && batch.bytes() < FULL_BATCH_BYTES {
            // Not for longer: who answers the kernel wants it too.
            let next = self.lock().traversal.next(tree);
            match next {
                Next::Step { step, .. } if !self.is_local(step) => {
                    self.lock().traversal.stop(step);
                    steps += 1;
                }
                Next::Step { client, step } => {
                    batch.add(tree, client, step);
                    steps += 1;
                }
                Next::Again => {}
                Next::Nothing => break,
            }
        }
        (batch, steps)
    }

    /// What is to be brought next. Nothing of it may have to be fetched.
    fn next_range(&self) -> Option<(u32, DeviceRange)> {
        loop {
            let (client, part) = self.lock().ranges.pop_front()?;
            if process::is_alive(client) && self.filesystem.are_local(&part.parts) {
                return Some((client, part));
            }
        }
    }

    fn is_local(&self, step: Step) -> bool {
        match step {
            Step::Read { file, .. } => self.filesystem.is_local(file),
            Step::List(_) | Step::Follow { .. } => true,
        }
    }
}

/// Logs why there is no prefetcher.
fn not_running(error: &io::Error) {
    log::info!("the prefetcher is not running: {error}");
}

/// Sends batches until `Prefetcher::end` is called.
fn serve(shared: &Shared, program: &dyn Launcher, place: &Target) -> io::Result<()> {
    let mut process = None;
    let result = send_batches(shared, program, place, &mut process);
    if let Some(process) = process {
        process.end(shared, program);
    }
    result
}

fn send_batches(
    shared: &Shared,
    program: &dyn Launcher,
    place: &Target,
    process: &mut Option<Process>,
) -> io::Result<()> {
    loop {
        shared.wait();
        while !shared.is_off.load(Ordering::Relaxed) {
            let (batch, steps) = shared.next_batch();
            if steps == 0 && batch.is_empty() {
                break;
            }
            match process {
                Some(process) => process.send(shared, batch, steps)?,
                None if batch.is_empty() => shared.lock().traversal.done(steps),
                None => {
                    let started = process.insert(Process::start(shared, program, place)?);
                    started.send(shared, batch, steps)?;
                }
            }
        }
        if let Some(process) = process {
            process.wait_for_all(shared)?;
        }
        if shared.is_off.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// The process, as we see it.
#[derive(Debug)]
struct Process {
    launched: Launched,
    /// Steps of the batches under way.
    under_way: VecDeque<usize>,
    /// Batches that were done before a request of it was seen.
    unseen: u32,
}

impl Process {
    fn start(shared: &Shared, program: &dyn Launcher, place: &Target) -> io::Result<Process> {
        let proc = statfs("/proc/self")?;
        if proc.f_type != PROC_SUPER_MAGIC {
            return Err(io::Error::other("something else is mounted over /proc"));
        }
        process::check()?;
        let launched = program.launch(&place.words())?;
        shared.pid.store(launched.pid, Ordering::Relaxed);
        Ok(Process { launched, under_way: VecDeque::new(), unseen: 0 })
    }

    /// Sends a batch, as soon as there is room for it.
    fn send(&mut self, shared: &Shared, batch: Batch, steps: usize) -> io::Result<()> {
        if batch.is_empty() {
            match self.under_way.back_mut() {
                Some(last) => *last += steps,
                None => shared.lock().traversal.done(steps),
            }
            return Ok(());
        }
        if self.under_way.len() == WINDOW {
            self.wait_for_one(shared)?;
        }
        self.launched.batches.write_all(&batch.finish())?;
        self.under_way.push_back(steps);
        Ok(())
    }

    fn wait_for_one(&mut self, shared: &Shared) -> io::Result<()> {
        let mut answer = [PollFd::new(&self.launched.answers, PollFlags::IN)];
        let until = Instant::now() + PATIENCE;
        while poll(&mut answer, Some(&LOOK))? == 0 {
            if shared.is_off.load(Ordering::Relaxed) {
                return Err(io::Error::other("the mount has ended"));
            }
            if Instant::now() > until {
                return Err(io::Error::other("it does not answer"));
            }
        }
        self.launched.answers.read_exact(&mut [0])?;
        if !shared.is_seen.load(Ordering::Relaxed) {
            self.unseen += 1;
            if self.unseen == MAX_UNSEEN {
                return Err(io::Error::other("its requests come under another process number"));
            }
        }
        if let Some(steps) = self.under_way.pop_front() {
            shared.lock().traversal.done(steps);
        }
        Ok(())
    }

    fn wait_for_all(&mut self, shared: &Shared) -> io::Result<()> {
        while !self.under_way.is_empty() {
            self.wait_for_one(shared)?;
        }
        Ok(())
    }

    /// Ends it, in the middle of what it does: it may be stopped.
    fn end(self, shared: &Shared, program: &dyn Launcher) {
        let Process { launched, .. } = self;
        if let Err(e) = program.end(launched) {
            log::debug!("the prefetcher: {e}");
        }
        // The number may become another process's.
        shared.pid.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_place_is_told_in_words() {
        let mount_point = PathBuf::from("/a b/\u{fc}");
        let folder = DeviceFolder { path: "/proc/1/fd/7".into(), device_minor: 43 };
        for devices in [None, Some(folder)] {
            let place = Target { mount_point: mount_point.clone(), device_minor: 42, devices };
            let words = place.words();
            let parsed = Target::parse(words.clone()).unwrap();
            assert_eq!(format!("{parsed:?}"), format!("{place:?}"));
            assert!(Target::parse(words.iter().skip(1).cloned()).is_none());
            assert!(Target::parse(words.into_iter().chain(["x".into()])).is_none());
        }
    }
}
