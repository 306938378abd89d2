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
//! - In this order go: old temporary files and downloads, other downloads that no process appends to,
//!   spans, those spans that only streaming a whole layer brings back, and layer indexes. Losing a layer
//!   index costs streaming its layer, so a small limit leaves [`MIN_INDEX_BYTES`] of them.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use rustix::fs::{Mode, openat};

use super::store::{FOLDER, Store};
use super::walk::{self, Content, Kind};
use super::{MAX_TEMPORARY_AGE, REJECTED, span_name};
use crate::digest::SpanDigest;

/// The default limit, if the disk is large enough: a few images of the large kind.
const DEFAULT_LIMIT_BYTES: u64 = 10 << 30;

/// The part of the disk that the default limit leaves to others is all but one of so many.
const DEFAULT_DISK_PARTS: u64 = 10;

/// Most bytes that a process writes between two scans: a second's worth of a fast first pass.
const MAX_SCAN_AFTER_BYTES: u64 = 64 << 20;

/// Bounds of [`slack`]: a few spans, and what a fast source brings while a slow disk is walked.
const MIN_SLACK_BYTES: u64 = 4 << 20;
const MAX_SLACK_BYTES: u64 = 1 << 30;

/// Layer indexes, with the documents beside them, that a limit leaves however small it is: those of an
/// image of half a million files. Without it a cache that is to hold no content (`0`) would stream
/// each layer at every mount.
const MIN_INDEX_BYTES: u64 = 64 << 20;

/// How large the cache may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// 10 GiB, or a tenth of the disk if that is less.
    #[default]
    Default,
    /// So many bytes; with less than a span's, no spans are kept.
    Bytes(u64),
    /// As large as the disk.
    Unlimited,
}

impl Limit {
    /// In bytes, for a cache in this folder; `None` without a limit.
    pub(super) fn bytes(self, folder: &Path) -> Option<u64> {
        match self {
            Limit::Bytes(bytes) => Some(bytes),
            Limit::Unlimited => None,
            Limit::Default => {
                // The folder may not exist yet; its disk does.
                let disk = folder.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
                let disk = disk.map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
                // Some file systems do not tell.
                let disk = disk.filter(|bytes| *bytes > 0);
                let part = disk.map_or(u64::MAX, |bytes| bytes / DEFAULT_DISK_PARTS);
                Some(part.min(DEFAULT_LIMIT_BYTES))
            }
        }
    }
}

/// Bytes that a process writes between two scans.
fn scan_after(limit: u64) -> u64 {
    (limit / 16).min(MAX_SCAN_AFTER_BYTES)
}

/// Bytes that a process writes at most while its scans don't keep up.
fn slack(limit: u64) -> u64 {
    (limit / 8).clamp(MIN_SLACK_BYTES, MAX_SLACK_BYTES)
}

/// What removing files has brought.
#[derive(Debug, Default)]
pub struct Removed {
    /// Files removed.
    pub files: u64,
    /// Their bytes; a file of several names counts with its last.
    pub bytes: u64,
    /// Bytes that are left in the cache's folder, by all kinds.
    pub left: u64,
    /// The first file that could not be removed, and why; its path below the version's folder.
    pub failed: Option<(PathBuf, io::Error)>,
}

impl Removed {
    /// Notes how removing a file went; true if it is gone.
    pub(super) fn note(&mut self, path: &Path, bytes: u64, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => {
                self.files += 1;
                self.bytes += bytes;
                true
            }
            // Another process was first.
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => {
                log::debug!("removing {} from the cache: {e}", path.display());
                self.failed.get_or_insert((path.to_owned(), e));
                false
            }
        }
    }
}

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

/// Evicts down to nine tenths of the limit if the cache exceeds it.
pub(super) fn evict_to_limit(store: &Store, limit: u64) -> Removed {
    let down_to = limit - limit / 10;
    evict(store, limit, down_to, down_to.max(MIN_INDEX_BYTES))
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

/// A span that could go.
struct Candidate {
    kind: Kind,
    used: SystemTime,
    digest: SpanDigest,
    bytes: u64,
}

/// A layer index that could go, with all its names.
#[derive(Default)]
struct IndexCandidate {
    used: Option<SystemTime>,
    names: Vec<PathBuf>,
    bytes: u64,
}

/// Removes temporary files and downloads that nobody can still want and, if the cache is larger
/// than `above`, the least recently used until `down_to` bytes are left; layer indexes only until
/// `down_to_with_indexes` are.
pub(super) fn evict(store: &Store, above: u64, down_to: u64, down_to_with_indexes: u64) -> Removed {
    let mut removed = Removed::default();
    let mut spans = Vec::new();
    let mut downloads = Vec::new();
    let mut indexes: HashMap<(u64, u64), IndexCandidate> = HashMap::new();
    let mut total = 0u64;
    walk::walk(store, &mut |found| {
        let bytes = if found.seen { 0 } else { found.bytes };
        total = total.saturating_add(bytes);
        match (found.kind, &found.content) {
            (kind @ (Kind::Spans | Kind::Streams), Content::Span(digest)) => {
                spans.push(Candidate { kind, used: found.modified, digest: *digest, bytes });
            }
            (Kind::Partial, _) => {
                downloads.push((found.modified, found.path.to_owned(), bytes));
            }
            // That a table was rejected stays known.
            (Kind::LayerIndexes, _) if found.bytes > REJECTED.len() as u64 => {
                let index = indexes.entry(found.inode).or_default();
                index.used = Some(found.modified);
                index.names.push(found.path.to_owned());
                index.bytes += bytes;
            }
            (Kind::Temporary, _) => {
                let stale = found.age() > MAX_TEMPORARY_AGE;
                if stale && removed.note(found.path, bytes, found.remove()) {
                    total -= bytes;
                }
            }
            _ => {}
        }
    });
    let full = total > above;
    downloads.sort_unstable();
    for (modified, path, bytes) in downloads {
        let stale = modified.elapsed().is_ok_and(|age| age > MAX_TEMPORARY_AGE);
        if (stale || full && total > down_to)
            && let Some(result) = remove_if_idle(store, &path)
            && removed.note(&path, bytes, result)
        {
            total -= bytes;
        }
    }
    if full {
        // The dear ones last.
        spans.sort_unstable_by_key(|span| (span.kind, span.used));
        for span in spans {
            if total <= down_to {
                break;
            }
            let path = span_name(span.kind, &span.digest);
            if removed.note(&path, span.bytes, store.remove(&path)) {
                total -= span.bytes;
            }
        }
    }
    if full && total > down_to_with_indexes {
        let mut indexes: Vec<IndexCandidate> = indexes.into_values().collect();
        indexes.sort_unstable_by_key(|index| index.used);
        for IndexCandidate { names, bytes, .. } in indexes {
            if total <= down_to_with_indexes {
                break;
            }
            // Its room is free when the last of its names goes.
            let Some((last, others)) = names.split_last() else { continue };
            let is_only_named_so =
                others.iter().all(|name| removed.note(name, 0, store.remove(name)));
            if is_only_named_so && removed.note(last, bytes, store.remove(last)) {
                total -= bytes;
            }
        }
    }
    removed.left = total;
    removed
}

/// Removes a download unless a process appends to it.
fn remove_if_idle(store: &Store, name: &Path) -> Option<io::Result<()>> {
    let file = match store.read(name) {
        Ok(file) => file,
        Err(e) => return Some(Err(e)),
    };
    match file.try_lock() {
        // Removed while locked: a process that opens it next sees that it lost its name.
        Ok(()) => Some(store.remove(name)),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(e)) => Some(Err(e)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::{Cache, Cost, LayerName};
    use super::*;
    use crate::digest::{DiffId, Digest};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Different bytes for each number, and their name.
    fn span(number: u32, length: usize) -> (SpanDigest, Vec<u8>) {
        let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(length).collect();
        (SpanDigest::of(&bytes), bytes)
    }

    fn put(cache: &Cache, number: u32, cost: Cost) -> SpanDigest {
        let (digest, bytes) = span(number, 1000);
        assert!(cache.put_span(&digest, &bytes, cost));
        digest
    }

    fn path(folder: &Path, kind: Kind, digest: &SpanDigest) -> PathBuf {
        folder.join("v1").join(span_name(kind, digest))
    }

    fn set_age(path: &Path, age: Duration) {
        File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    /// Which of these spans are there.
    fn left(folder: &Path, kind: Kind, spans: &[SpanDigest]) -> Vec<bool> {
        spans.iter().map(|digest| path(folder, kind, digest).exists()).collect()
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
        let spans: Vec<SpanDigest> = (0..5).map(|n| put(&cache, n, Cost::Cheap)).collect();
        // Not in the order in which they were written.
        for (digest, hours) in spans.iter().zip([5, 2, 4, 1, 3]) {
            set_age(&path(folder.path(), Kind::Spans, digest), hours * HOUR);
        }
        assert!(cache.span(&spans[0], 1000).is_some(), "the oldest is used");
        let removed = cache.collect(3 * 1040 + 500).unwrap();
        assert_eq!((removed.files, removed.bytes, removed.left), (2, 2080, 3120));
        let kept = left(folder.path(), Kind::Spans, &spans);
        assert_eq!(kept, [true, true, false, true, false]);
        // A span that was marked just now is not marked again.
        let recent = path(folder.path(), Kind::Spans, &spans[1]);
        set_age(&recent, super::super::RECENCY / 2);
        let before = fs::metadata(&recent).unwrap().modified().unwrap();
        cache.span(&spans[1], 1000).unwrap();
        assert_eq!(fs::metadata(&recent).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn cheap_spans_go_before_dear_ones() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
        let dear = put(&cache, 1, Cost::Dear);
        set_age(&path(folder.path(), Kind::Streams, &dear), 9 * HOUR);
        let cheap = put(&cache, 2, Cost::Cheap);
        cache.collect(1500).unwrap();
        assert_eq!(left(folder.path(), Kind::Streams, &[dear]), [true]);
        assert_eq!(left(folder.path(), Kind::Spans, &[cheap]), [false]);
        assert!(cache.span(&dear, 1000).is_some() && cache.span(&cheap, 1000).is_none());
        assert_eq!(cache.collect(0).unwrap().left, 0, "dear ones go at last");

        // What turns out to be dear for another layer moves, and is there all the time.
        let both = put(&cache, 3, Cost::Cheap);
        let bytes = span(3, 1000).1;
        assert!(!cache.put_span(&both, &bytes, Cost::Dear), "it was there before");
        assert!(!cache.put_span(&both, &bytes, Cost::Cheap));
        assert_eq!(left(folder.path(), Kind::Spans, &[both]), [false]);
        let mut read = vec![0; bytes.len()];
        assert!(cache.span(&both, 1000).unwrap().read_at(&mut read, 0).unwrap());
        assert_eq!(read, bytes);
        cache.withdraw_span(&both);
        assert!(cache.span(&both, 1000).is_none());
    }

    #[test]
    fn the_limit_holds_while_writing() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 1 << 20;
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(limit));
        let mut kept = 0;
        for number in 0..150 {
            let (digest, bytes) = span(number, 64 << 10);
            kept += u64::from(cache.put_span(&digest, &bytes, Cost::Cheap));
            let bytes = cache.usage().unwrap().total.bytes;
            assert!(bytes <= limit + slack(limit), "{bytes} after {number}");
        }
        cache.settle();
        let bytes = cache.usage().unwrap().total.bytes;
        assert!(bytes <= limit + scan_after(limit), "{bytes}");
        assert!(kept * (64 << 10) > limit && bytes > limit / 2, "{kept} kept, {bytes} left");
    }

    /// As long as nobody evicts, a process writes no more than its slack.
    #[test]
    fn writing_stops_where_evicting_does_not_keep_up() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 2 << 20;
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(limit));
        let busy = File::open(folder.path().join("v1")).unwrap();
        busy.try_lock().unwrap();
        let put = |number: u32| {
            let (digest, bytes) = span(number, 256 << 10);
            let kept = cache.put_span(&digest, &bytes, Cost::Cheap);
            cache.settle();
            kept
        };
        let kept = (0..100).filter(|number| put(*number)).count() as u64;
        assert!(kept * (256 << 10) > limit, "{kept}");
        assert!(cache.usage().unwrap().total.bytes <= slack(limit));
        drop(busy);
        assert!(!put(200), "this one begins the scan");
        assert!(cache.usage().unwrap().total.bytes <= limit);
        assert!(put(201), "and then there is room");
    }

    #[test]
    fn small_limits() {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = span(1, 1000);
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(1039));
        assert!(!cache.put_span(&digest, &bytes, Cost::Cheap), "the trailer has no room");
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(1040));
        assert!(cache.put_span(&digest, &bytes, Cost::Cheap));
        // A scan that is under way makes others skip theirs.
        cache.settle();
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(0));
        assert!(!cache.put_span(&span(2, 1).0, &span(2, 1).1, Cost::Dear));
        cache.settle();
        // Documents are kept whatever the limit, and make spans go.
        let document = Digest::sha256(b"{}");
        cache.put_blob(&document, b"{}");
        cache.settle();
        assert!(cache.blob(&document).is_some() && cache.span(&digest, 1000).is_none());
        // Where they alone exceed the limit, no room is left for spans.
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(1500));
        // The scan that the second begins sees the first in any case.
        for large in [vec![1; 2000], vec![2; 2000]] {
            cache.put_blob(&Digest::sha256(&large), &large);
            cache.settle();
        }
        assert!(!cache.put_span(&digest, &bytes, Cost::Cheap));
    }

    #[test]
    fn layer_indexes_go_last_with_all_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
        let digest = |number: u8| Digest::sha256(&[number]);
        let name = |number: u8| LayerName::Blob(digest(number));
        let hint = |number: u8| LayerName::Hint { blob: digest(number), scope: digest(0) };
        for number in 0..3 {
            cache.put_layer_index(&digest(number), &DiffId(digest(100 + number)), &[number; 5000]);
        }
        cache.put_external_index(&hint(7), &[7; 5000]);
        cache.reject_layer_index(&hint(8));
        cache.put_blob(&digest(9), &[9]);
        let file = |folder_name: &str, number: u8| {
            let name = format!("sha256-{}", digest(number).hex());
            folder.path().join("v1").join(folder_name).join(name)
        };
        set_age(&file("layers", 0), HOUR);
        set_age(&file("layers", 1), 3 * HOUR);
        set_age(&file("layers", 2), 2 * HOUR);
        let hints = fs::read_dir(folder.path().join("v1/hints")).unwrap();
        hints.for_each(|file| set_age(&file.unwrap().path(), 4 * HOUR));
        // Used again, so it is not the oldest any more.
        assert!(cache.layer_index(&name(1), 5000).is_some());
        let span = put(&cache, 1, Cost::Dear);
        let there = || [0, 1, 2].map(|number| file("layers", number).exists());

        // A small limit leaves what indexes there are.
        let small = Cache::open_limited(folder.path(), Limit::Bytes(2000));
        small.collect_to_limit().unwrap();
        assert!(cache.span(&span, 1000).is_none());
        assert_eq!(there(), [true; 3]);
        let removed = cache.collect(16_000).unwrap();
        assert!(removed.left <= 16_000, "{removed:?}");
        assert!(cache.layer_index(&hint(7), 5000).is_none());
        assert_eq!(there(), [true; 3]);
        cache.collect(11_000).unwrap();
        assert_eq!(there(), [true, true, false]);
        assert!(!file("layers", 2).exists() && !file("diffs", 102).exists());
        cache.collect(0).unwrap();
        assert_eq!(there(), [false; 3]);
        assert!(cache.is_rejected(&hint(8)), "that a table lies stays known");
        assert_eq!(cache.blob(&digest(9)), Some(vec![9]));
    }

    #[test]
    fn the_default_limit_leaves_room_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let tenth = disk.f_blocks * disk.f_frsize / 10;
        let limit = Limit::Default.bytes(&folder.path().join("not/there/yet")).unwrap();
        assert_eq!(limit, tenth.min(10 << 30));
        assert_eq!(Limit::Unlimited.bytes(folder.path()), None);
    }

    #[test]
    fn downloads_and_temporary_files_go_before_spans() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
        let name = |number: u8| Digest::sha256(&[number]);
        let file = |number: u8| {
            folder.path().join("v1/partial").join(format!("sha256-{}", name(number).hex()))
        };
        for number in 0..4 {
            cache.partial(&name(number)).unwrap().append(&[number; 1000]);
        }
        let temporary = |name: &str| {
            let path = folder.path().join("v1/tmp").join(name);
            fs::write(&path, [0; 100]).unwrap();
            path
        };
        let (old, young) = (temporary(".tmpold"), temporary(".tmpyoung"));
        set_age(&old, 25 * HOUR);
        let span = put(&cache, 1, Cost::Cheap);
        set_age(&path(folder.path(), Kind::Spans, &span), 99 * HOUR);
        for (number, hours) in [(0, 2), (1, 3), (2, 1), (3, 25)] {
            set_age(&file(number), hours * HOUR);
        }
        let there = || [0, 1, 2, 3].map(|number| file(number).exists());
        let locked = cache.partial(&name(1)).unwrap();

        let removed = cache.collect(u64::MAX).unwrap();
        assert_eq!((removed.files, removed.bytes), (2, 1100), "what nobody wants any more");
        assert_eq!(there(), [true, true, true, false]);
        assert!(!old.exists() && young.exists());

        cache.collect(3500).unwrap();
        assert_eq!(there(), [false, true, true, false], "the oldest that nobody appends to");
        cache.collect(0).unwrap();
        assert_eq!(there(), [false, true, false, false]);
        assert!(cache.span(&span, 1000).is_none());
        drop(locked);
        assert_eq!(cache.collect(0).unwrap().left, 100);
    }
}
