//! Keeping the cache below its limit, by many processes and without a daemon.
//!
//! # Design
//!
//! The process that writes cleans up. Each process counts the bytes that it has written and, at its first
//! write and after every [`scan_after`] bytes, walks the whole cache on a thread of its own: ten
//! thousand spans, which is the default limit, take some 60 ms. Above the limit it removes spans,
//! the least recently used first, until a tenth of the limit is free. There is no list of files to
//! keep up to date, to lock or to lose: recency is a span file's modification time, which a process
//! renews when it opens a span that was not used for some minutes.
//!
//! One scan at a time is enough, so it takes a lock on the version's folder, and leaves the work to
//! the process that holds that. The lock saves work and nothing depends on it: two scans that remove the
//! same files do no harm. (Considered and left: a total kept in a file, which a killed process
//! leaves wrong; a lock around every write.)
//!
//! # Invariants
//!
//! - No read and no write waits for an eviction.
//! - The cache exceeds its limit by at most [`slack`] for each process that writes to it: one whose
//!   scans don't keep up keeps no more spans until they do. (Documents and layer indexes are written
//!   all the same, and make room by spans.)
//! - A file that is open stays readable; its room is free when it is closed.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, openat};

use super::evict::evict_to_limit;
use super::limit::{scan_after, slack};
use super::removed::Removed;
use super::store::{FOLDER, Store};

/// Counts what this process writes, and scans when it is due.
#[derive(Debug)]
pub(super) struct Evictor {
    store: Arc<Store>,
    limit: Option<u64>,
    /// Bytes written, or asked to be, since the last scan began.
    pending: AtomicU64,
    /// The last scan could not bring the cache below its limit.
    stuck: AtomicBool,
    running: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Evictor {
    pub fn new(store: Arc<Store>, limit: Option<u64>) -> Evictor {
        // The first write is due at once: programs that write little must clean up too.
        let pending = limit.map_or(0, scan_after);
        Evictor {
            store,
            limit,
            pending: AtomicU64::new(pending),
            stuck: AtomicBool::new(false),
            running: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Counts bytes that are about to be written, and says whether there is room for something
    /// that can be done without.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> bool {
        let Some(limit) = self.limit else { return true };
        let pending = self.pending.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if pending > scan_after(limit) {
            self.start(limit);
        }
        bytes <= limit && pending <= slack(limit) && !self.stuck.load(Ordering::Relaxed)
    }

    /// Waits for a scan that is under way.
    pub fn settle(&self) {
        // Not joined under the lock: writers that begin a scan take it.
        let thread = self.thread().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that evicts from the cache died");
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers whether the cache is below its limit now, and says it once if it is not.
    fn note_stuck(&self, removed: &Removed, limit: u64) {
        let stuck = removed.left > limit;
        let before = self.stuck.swap(stuck, Ordering::Relaxed);
        if before || !stuck {
            return;
        }
        let root = self.store.path().display();
        match &removed.failed {
            Some((path, e)) => log::warn!(
                "the cache in {root} stays above its limit, and no more spans are kept: \
                 {} can't be removed: {e}",
                path.display()
            ),
            None => log::info!(
                "documents and layer indexes alone exceed the limit of the cache in {root}: \
                 no spans are kept"
            ),
        }
    }

    fn start(self: &Arc<Self>, limit: u64) {
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        // Held until the handle is in its place, for a `settle` right afterwards.
        let mut thread = self.thread();
        match thread::Builder::new().name("evict".into()).spawn(move || this.run(limit)) {
            Ok(handle) => *thread = Some(handle),
            Err(e) => {
                log::warn!("nothing is evicted from the cache: starting a thread: {e}");
                self.running.store(false, Ordering::Release);
            }
        }
    }

    fn run(&self, limit: u64) {
        loop {
            let counted = self.pending.load(Ordering::Relaxed);
            let scanned = match evict_alone(&self.store, limit) {
                Ok(Some(removed)) => {
                    log::debug!(
                        "cache: {} bytes evicted, {} left of {limit}",
                        removed.bytes,
                        removed.left
                    );
                    self.note_stuck(&removed, limit);
                    self.pending.fetch_sub(counted, Ordering::Relaxed);
                    true
                }
                Ok(None) => false,
                Err(e) => {
                    log::warn!("evicting from the cache in {}: {e}", self.store.path().display());
                    self.stuck.store(true, Ordering::Relaxed);
                    self.pending.fetch_sub(counted, Ordering::Relaxed);
                    true
                }
            };
            self.running.store(false, Ordering::Release);
            // What was written meanwhile may be due; the thread that takes `running` sees to it.
            let due = scanned && self.pending.load(Ordering::Relaxed) > scan_after(limit);
            if !due || self.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

/// The same, unless another process is at it.
fn evict_alone(store: &Store, limit: u64) -> io::Result<Option<Removed>> {
    // A description of its own: the lock belongs to it.
    let folder = File::from(openat(store.root(), ".", FOLDER, Mode::empty())?);
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: two scans at once do no harm.
        Err(TryLockError::Error(e)) => log::debug!("locking {}: {e}", store.path().display()),
    }
    Ok(Some(evict_to_limit(store, limit)))
}
