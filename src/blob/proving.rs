//! Proving a blob that is shown before it is verified, once all of it has come.
//!
//! # Problem
//!
//! A file of forty gigabytes is shown by range as its source sends it ([`Proof::Transport`](crate::index::Proof::Transport)). Its digest can be
//! held against it only when all of its bytes are here, and who copies it wants to know then, and not to copy it
//! twice.
//!
//! # Design
//!
//! The hash runs along with what comes, in order, on the threads that fetch: it takes a span that is next, and
//! then those behind it that are cached. Who reads the file from its start to its end has the answer with the last
//! span: it is handed over if the digest is right, and is an error if it is not, which all further reads are then.
//! From there on spans that are fetched anew are verified by the digests that were computed on the way.
//!
//! What becomes of a blob that has proven right is in `blob::record`.
//!
//! Rejected: hashing what is in the cache after the last span, which makes its reader wait for seconds.
//!
//! # Invariants
//!
//! - A blob counts as proven only if each of its bytes was hashed as it was handed over, or read from the cache.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::spans::Spans;
use crate::digest::{Digest, Hasher, SpanDigest};
use crate::index::Span;

/// What is known of a blob that is being proven.
#[derive(Debug)]
pub(super) struct Proving {
    blob: Digest,
    running: Mutex<Running>,
    /// Whether its digest is right, when all of it was seen.
    outcome: OnceLock<bool>,
}

#[derive(Debug)]
struct Running {
    hasher: Hasher,
    /// Digests of the spans that were hashed, which are the first ones.
    digests: Vec<SpanDigest>,
}

/// What came is wrong, or something that came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong;

impl Proving {
    pub(super) fn new(blob: Digest) -> Proving {
        let running = Running { hasher: Hasher::new(blob.algorithm()), digests: Vec::new() };
        Proving { blob, running: Mutex::new(running), outcome: OnceLock::new() }
    }

    /// Whether the blob has proven right, or wrong; `None` as long as that is not known.
    pub(super) fn outcome(&self) -> Option<bool> {
        self.outcome.get().copied()
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
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.outcome() == Some(false) {
            return Err(Wrong);
        }
        if let Some(digest) = running.digests.get(at) {
            // It was here before, and was evicted.
            return if *digest == SpanDigest::of(bytes) { Ok(None) } else { Err(Wrong) };
        }
        if at > running.digests.len() {
            return Ok(None);
        }
        running.take(bytes);
        let mut buf = Vec::new();
        while let Some(next) = spans.get(running.digests.len()) {
            buf.resize(next.length as usize, 0);
            if !shared.read(next, 0, &mut buf) {
                return Ok(None);
            }
            running.take(&buf);
        }
        let is_right = running.hasher.clone().finish() == self.blob;
        self.outcome.get_or_init(|| is_right);
        if !is_right {
            log::error!("blob {}: its bytes do not match its digest", self.blob);
            let cache = shared.cache();
            spans.iter().for_each(|span| cache.withdraw_span(&span.digest));
            return Err(Wrong);
        }
        log::info!("blob {}: all of it has come, and its digest is right", self.blob);
        Ok(Some(running.digests.clone()))
    }
}

impl Running {
    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.digests.push(SpanDigest::of(bytes));
    }
}
