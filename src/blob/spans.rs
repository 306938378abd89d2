//! Spans that are local: the cache, the files of it that are open, and a few in memory.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::memory::Memory;
use crate::cache::{Cache, Cost, SpanFile};
use crate::digest::SpanDigest;
use crate::index::{Restart, Span};

/// Bytes of spans in memory, for reads right after a fetch. A span is a MiB or two, four at most.
const MEMORY_BYTES: usize = 8 << 20;

/// The same where the cache does not keep what a fetch brings.
const UNCACHED_BYTES: usize = 24 << 20;

/// Uncompressed bytes that a fetch may be ahead of all readers.
pub(super) const MAX_AHEAD_BYTES: u64 = 64 << 20;

/// The same where the cache does not keep them.
const MAX_AHEAD_UNCACHED: u64 = UNCACHED_BYTES as u64 / 2;

/// From this length on, spans are fetched only as far as there is room for them.
const LARGE_BYTES: u32 = 8 << 20;

/// Bytes of such spans that may be in memory while they are fetched, if it is not a single one.
const MAX_LARGE_BYTES: u64 = 128 << 20;

/// Span files opened until those that stay open are looked at, whether they were evicted and take room
/// that the cache has given back. Looking at a thousand takes a millisecond.
const OPENED_BETWEEN_LOOKS: u32 = 16;

/// Open span files and the cache behind them, shared by the layers of a mount.
#[derive(Debug)]
pub struct Spans {
    cache: Arc<Cache>,
    open: Mutex<LruCache<SpanDigest, Arc<SpanFile>>>,
    opened: AtomicU32,
    memory: Mutex<Memory>,
    /// Bytes of large spans that are being fetched, and those who wait for room.
    large: (Mutex<u64>, Condvar),
    hits: AtomicU64,
    misses: AtomicU64,
    /// Readers that wait for something that is fetched.
    waiting: AtomicU64,
}

impl Spans {
    /// At most `open_files` span files are kept open.
    pub fn new(cache: Arc<Cache>, open_files: usize) -> Spans {
        let at_least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Spans {
            cache,
            open: Mutex::new(LruCache::new(at_least_one(open_files))),
            opened: AtomicU32::new(0),
            memory: Mutex::default(),
            large: (Mutex::new(0), Condvar::new()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// Reads of spans that were cached, and that had to be fetched.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Notes that a reader waits, until what is returned is dropped.
    pub(super) fn begin_waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Whether any reader waits.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The cache behind them.
    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Notes that a reader has found a span here.
    pub(super) fn note_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a reader has not found a span here.
    pub(super) fn note_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads from a span that is cached; false if it is not.
    pub(super) fn read(&self, span: &Span, offset: u32, buf: &mut [u8]) -> bool {
        let read_from = |file: &SpanFile, buf: &mut [u8]| {
            let read = file.read_at(buf, offset);
            read.inspect_err(|e| log::warn!("span {}: {e}", span.digest.hex())).unwrap_or(false)
        };
        let open = lock(&self.open).get(&span.digest).cloned();
        if let Some(file) = open {
            if read_from(&file, buf) {
                return true;
            }
            lock(&self.open).pop(&span.digest);
        }
        let in_memory = lock(&self.memory).read(&span.digest, buf.len());
        if let Some(bytes) = in_memory {
            copy_part(&bytes, offset, buf);
            return true;
        }
        let Some(file) = self.cache.span(&span.digest, span.length) else { return false };
        if !read_from(&file, buf) {
            return false;
        }
        lock(&self.open).put(span.digest, Arc::new(file));
        if self.opened.fetch_add(1, Ordering::Relaxed).is_multiple_of(OPENED_BETWEEN_LOOKS) {
            self.let_go();
        }
        true
    }

    /// Closes files that are no longer in the cache: they take room until then.
    fn let_go(&self) {
        let open: Vec<_> =
            lock(&self.open).iter().map(|(digest, file)| (*digest, Arc::clone(file))).collect();
        for (digest, _) in open.iter().filter(|(_, file)| !file.is_kept()) {
            lock(&self.open).pop(digest);
        }
    }

    /// Whether a span seems to be cached; cheap, and may be wrong.
    pub(super) fn has(&self, span: &Span) -> bool {
        lock(&self.open).contains(&span.digest)
            || lock(&self.memory).contains(&span.digest)
            || self.cache.has_span(&span.digest)
    }

    /// Puts a verified span into the cache.
    pub(super) fn keep(&self, span: &Span, bytes: &[u8]) {
        self.cache.put_span(&span.digest, bytes, cost(span.restart));
    }

    /// Keeps a verified span, in memory as well.
    pub(super) fn put(&self, span: &Span, bytes: &Arc<Vec<u8>>) {
        self.keep(span, bytes);
        let budget = self.memory_bytes();
        // One that is larger than all that may stay is read from its file, if it has one.
        if bytes.len() <= budget || !self.cache.has_span(&span.digest) {
            lock(&self.memory).put(span.digest, bytes, budget);
        }
    }

    /// Waits until a span as long as this may be in memory while it is fetched.
    pub(super) fn admit(&self, length: u32) -> Admitted<'_> {
        let bytes = if length > LARGE_BYTES { u64::from(length) } else { 0 };
        let (taken, changed) = &self.large;
        let mut taken = lock(taken);
        while bytes > 0 && *taken > 0 && *taken + bytes > MAX_LARGE_BYTES {
            taken = changed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Admitted { spans: self, bytes }
    }

    /// Notes that a reader was handed so many bytes of a span that has just come.
    pub(super) fn note_handed_over(&self, span: &Span, bytes: usize) {
        lock(&self.memory).read(&span.digest, bytes);
    }

    /// Whether a fetch may bring a span that begins so many bytes behind where its layer is read.
    pub(super) fn may_bring_ahead(&self, span: &Span, distance_bytes: u64) -> bool {
        if self.keeps() {
            return distance_bytes <= MAX_AHEAD_BYTES;
        }
        let length = span.length as usize;
        distance_bytes <= MAX_AHEAD_UNCACHED && lock(&self.memory).has_room(length, UNCACHED_BYTES)
    }

    /// Whether the cache keeps what comes until it is read.
    fn keeps(&self) -> bool {
        self.cache.has_room(MAX_AHEAD_BYTES)
    }

    fn memory_bytes(&self) -> usize {
        if self.keeps() { MEMORY_BYTES } else { UNCACHED_BYTES }
    }
}

/// A reader that waits.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room in memory for a span that is fetched.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    spans: &'a Spans,
    bytes: u64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let (taken, changed) = &self.spans.large;
        *lock(taken) -= self.bytes;
        changed.notify_all();
    }
}

/// What losing a span costs: of one that can't be begun at, all that stand before it.
pub fn cost(restart: Restart) -> Cost {
    match restart {
        Restart::Continues => Cost::Dear,
        Restart::Here | Restart::Block { .. } => Cost::Cheap,
    }
}

pub(super) fn copy_part(bytes: &[u8], offset: u32, buf: &mut [u8]) {
    let offset = offset as usize;
    buf.copy_from_slice(&bytes[offset..offset + buf.len()]);
}

/// Locks; a thread that panicked left nothing half done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn large_spans_wait_for_room_until_one_is_done() {
        let spans = Spans::new(Arc::new(Cache::none()), 1);
        let large = u32::try_from(MAX_LARGE_BYTES / 2).unwrap();
        let first = spans.admit(large);
        let second = spans.admit(large);
        // Small ones never wait.
        drop(spans.admit(LARGE_BYTES));
        thread::scope(|scope| {
            let (admitted, third) = mpsc::channel();
            let spans = &spans;
            scope.spawn(move || {
                let room = spans.admit(large);
                admitted.send(room.bytes).unwrap();
            });
            third.recv_timeout(Duration::from_millis(50)).unwrap_err();
            drop(first);
            assert_eq!(third.recv().unwrap(), u64::from(large));
        });
        drop(second);
        // One that is larger than all the room is fetched alone.
        drop(spans.admit(u32::MAX));
        assert_eq!(*lock(&spans.large.0), 0);
    }
}
