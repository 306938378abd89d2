//! Proving a blob that is shown before it is verified, once all of it has come.
//!
//! # Problem
//!
//! A file of forty gigabytes is shown by range as its source sends it
//! ([`Proof::Transport`](crate::index::Proof::Transport)). Its digest can be held against it only when all of its
//! bytes are here, and who copies it wants to know then, and not to copy it twice.
//!
//! # Design
//!
//! The digest of each span is computed when it comes, and it is kept in the cache under that, as any span. Which
//! spans have come, with which digests, is kept in the cache as well ([`ArrivedSpans`]), so that the next mount
//! finds them.
//!
//! The hash of the blob runs along with what comes, in order, on the threads that fetch: it takes a span that is
//! next, and then those behind it that are cached. Who reads the file from its start to its end has the answer with
//! the last span: it is handed over if the digest is right, and is an error if it is not, which all further reads are
//! then. From there on what is fetched anew is verified by the digests that were hashed, and the index of the blob
//! is kept with them: the next mount shows it as proven.
//!
//! Rejected: hashing what is in the cache after the last span, which makes its reader wait for seconds.
//!
//! # Invariants
//!
//! - A blob counts as proven only if each of its bytes was hashed as it was handed over, or read from the cache.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use super::spans::Spans;
use crate::cache::ArrivedSpans;
use crate::digest::{Digest, Hasher, SpanDigest};
use crate::index::Span;

/// Spans that come until it is noted in the cache that they have.
const NOTED_EVERY: usize = 64;

/// What is known of a blob that is being proven.
#[derive(Debug)]
pub(super) struct Proving {
    blob: Digest,
    /// Digests of the spans that have come. Readers look at them while others are hashed.
    arrived: RwLock<ArrivedSpans>,
    running: Mutex<Running>,
    /// Whether its digest is right, when all of it was seen.
    outcome: OnceLock<bool>,
}

#[derive(Debug)]
struct Running {
    hasher: Hasher,
    /// Spans that were hashed, which are the first ones.
    hashed: usize,
    /// Spans that have come of which the cache does not know.
    unnoted: usize,
}

/// What came is wrong, or something that came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong;

impl Proving {
    /// Of a blob with so many spans.
    pub(super) fn new(blob: Digest, spans: usize, shared: &Spans) -> Proving {
        let running = Running { hasher: Hasher::new(blob.algorithm()), hashed: 0, unnoted: 0 };
        Proving {
            blob,
            arrived: RwLock::new(shared.cache().arrived_spans(&blob, spans)),
            running: Mutex::new(running),
            outcome: OnceLock::new(),
        }
    }

    /// Whether the blob has proven right, or wrong; `None` as long as that is not known.
    pub(super) fn outcome(&self) -> Option<bool> {
        self.outcome.get().copied()
    }

    /// The digest of a span that has come.
    pub(super) fn digest(&self, at: usize) -> Option<SpanDigest> {
        self.arrived.read().unwrap_or_else(PoisonError::into_inner).digest(at)
    }

    /// Takes a span that has come. With the last one, the digests of all of them are returned if the blob is
    /// right.
    pub(super) fn take(
        &self,
        spans: &[Span],
        shared: &Spans,
        at: usize,
        bytes: &[u8],
    ) -> Result<Option<Vec<SpanDigest>>, Wrong> {
        let digest = SpanDigest::of(bytes);
        let mut running = self.running();
        if self.outcome() == Some(false) {
            return Err(Wrong);
        }
        if at < running.hashed {
            // It was here before, and was evicted.
            return if self.digest(at) == Some(digest) { Ok(None) } else { Err(Wrong) };
        }
        self.arrived().set(at, digest);
        running.unnoted += 1;
        if running.unnoted >= NOTED_EVERY {
            self.note_in(&mut running, shared);
        }
        if at > running.hashed {
            return Ok(None);
        }
        running.hash(bytes);
        let mut buf = Vec::new();
        while let Some(next) = spans.get(running.hashed) {
            let Some(digest) = self.digest(running.hashed) else { return Ok(None) };
            buf.resize(next.length as usize, 0);
            if !shared.read(&Span { digest, ..*next }, 0, &mut buf) {
                return Ok(None);
            }
            running.hash(&buf);
        }
        let is_right = running.hasher.clone().finish() == self.blob;
        self.outcome.get_or_init(|| is_right);
        let digests: Vec<SpanDigest> = self.arrived().digests().collect();
        shared.cache().forget_arrived_spans(&self.blob);
        if !is_right {
            log::error!("blob {}: its bytes do not match its digest", self.blob);
            digests.iter().for_each(|digest| shared.cache().withdraw_span(digest));
            return Err(Wrong);
        }
        log::info!("blob {}: all of it has come, and its digest is right", self.blob);
        Ok(Some(digests))
    }

    /// Has the cache know which spans have come.
    pub(super) fn note(&self, shared: &Spans) {
        let mut running = self.running();
        if running.unnoted > 0 && self.outcome().is_none() {
            self.note_in(&mut running, shared);
        }
    }

    fn note_in(&self, running: &mut Running, shared: &Spans) {
        // Readers look at them meanwhile.
        let mut noted = self.arrived.read().unwrap_or_else(PoisonError::into_inner).clone();
        shared.cache().put_arrived_spans(&self.blob, &mut noted);
        self.arrived().merge(&noted);
        running.unnoted = 0;
    }

    fn arrived(&self) -> RwLockWriteGuard<'_, ArrivedSpans> {
        self.arrived.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked left nothing half done in there.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += 1;
    }
}
