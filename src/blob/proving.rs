//! Proving a blob that is shown before it is verified, once all of it has come.
//!
//! # Problem
//!
//! A file of forty gigabytes is shown by range as its source sends it
//! ([`Proof::Transport`](crate::index::Proof::Transport)), and so is a plain tar of which only the headers were read. Its
//! digest can be held against it only when all of its bytes are here, and who copies it wants to know then, and not to copy
//! it twice.
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
//! A tar is parsed as it is hashed (`blob::whole`), so that its index is made on the way as well, with the digests of its
//! files. What that says has to be, record by record, what is shown ([`Outline`]). If it is not, the source has sent
//! other headers than it sent later: all reads are errors from then on, and the index of what is right is kept, for the
//! next mount.
//!
//! Rejected: hashing what is in the cache after the last span, which makes its reader wait for seconds.
//!
//! # Invariants
//!
//! - A blob counts as proven only if each of its bytes was hashed as it was handed over, or read from the cache; or if
//!   another process has proven it with the same spans, and has found in it what is shown.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use super::arrived::{add_all, arrived_spans, proven_index};
use super::spans::Spans;
use super::whole::{Seen, WholeBlob};
use crate::cache::{ArrivedSpans, LayerName};
use crate::digest::{Digest, SpanDigest};
use crate::index::{LayerIndex, Outline, Span};

/// Spans that come until it is noted in the cache that they have.
const NOTED_EVERY: usize = 64;

/// What is known of a blob that is being proven.
#[derive(Debug)]
pub(super) struct Proving {
    blob: Digest,
    /// The name of the index that proves it.
    name: LayerName,
    /// What is shown of it, if it is a tar.
    outline: Option<Outline>,
    /// Digests of the spans that have come. Readers look at them while others are hashed.
    arrived: RwLock<ArrivedSpans>,
    running: Mutex<Running>,
    /// Whether it is right, when all of it was seen.
    outcome: OnceLock<Outcome>,
}

/// Whether a blob is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has its digest, and holds what is shown.
    Right,
    /// It does not have its digest.
    Wrong,
    /// What it holds is not what is shown.
    OtherFiles,
}

#[derive(Debug)]
struct Running {
    /// What the bytes go through; nothing once they all have.
    whole: Option<WholeBlob>,
    /// Spans that were hashed, which are the first ones.
    hashed: usize,
    /// Spans that have come of which the cache does not know.
    unnoted: usize,
}

/// What came is wrong, or something that came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong;

impl Proving {
    /// Of a blob with these spans, whose index has this name when it is proven.
    pub(super) fn new(
        blob: Digest,
        name: LayerName,
        outline: Option<Outline>,
        spans: &[Span],
        shared: &Spans,
    ) -> Proving {
        let whole = Some(WholeBlob::new(&blob, outline.as_ref()));
        let proving = Proving {
            blob,
            name,
            outline,
            arrived: RwLock::new(shared.cache().arrived_spans(&blob, spans.len())),
            running: Mutex::new(Running { whole, hashed: 0, unnoted: 0 }),
            outcome: OnceLock::new(),
        };
        proving.learn(spans, shared);
        proving
    }

    /// Takes over what other processes, and other images of this one, have found out since.
    pub(super) fn learn(&self, spans: &[Span], shared: &Spans) {
        let Some(outline) = self.outline.filter(|_| self.outcome().is_none()) else { return };
        // Such an index has a digest for each entry and a row for each span besides.
        let most = 2 * outline.metadata_bytes + 512 * (spans.len() as u64 + 8);
        let found = (&self.name, most);
        let mut running = self.running();
        match proven_index(shared.cache(), &self.blob, spans, found) {
            Some(index) => {
                add_all(&mut self.arrived(), &index);
                running.hashed = spans.len();
                running.whole = None;
                match index.tables() == outline {
                    true => drop(self.outcome.set(Outcome::Right)),
                    false => self.fail(Outcome::OtherFiles),
                }
            }
            None => {
                self.arrived().merge(&arrived_spans(shared.cache(), &self.blob, spans, found));
            }
        }
    }

    /// Whether the blob has proven right, or wrong; `None` as long as that is not known.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome.get().copied()
    }

    /// What is shown of it, if it is a tar.
    pub(super) fn outline(&self) -> Option<&Outline> {
        self.outline.as_ref()
    }

    /// The digest of a span that has come.
    pub(super) fn digest(&self, at: usize) -> Option<SpanDigest> {
        self.arrived.read().unwrap_or_else(PoisonError::into_inner).digest(at)
    }

    /// Takes a span that has come. With the last one, the index of the blob is returned if it is right, for
    /// [`Proving::record`].
    pub(super) fn take(
        &self,
        spans: &[Span],
        shared: &Spans,
        at: usize,
        bytes: &[u8],
    ) -> Result<Option<LayerIndex>, Wrong> {
        let digest = SpanDigest::of(bytes);
        let mut running = self.running();
        if self.is_wrong() {
            return Err(Wrong);
        }
        if at < running.hashed {
            // It was here before, and was evicted.
            return if self.digest(at) == Some(digest) { Ok(None) } else { Err(Wrong) };
        }
        if self.digest(at).is_some_and(|before| before != digest) {
            // Other bytes than came before, which may have been handed over: nothing says which are right.
            self.forget(shared);
            return Err(Wrong);
        }
        self.arrived().set(at, digest);
        running.unnoted += 1;
        if running.unnoted >= NOTED_EVERY {
            self.note_in(&mut running, shared);
        }
        if at > running.hashed {
            return Ok(None);
        }
        let mut proven = self.hash(&mut running, spans, shared, bytes)?;
        while proven.is_none() && self.outcome().is_none() {
            let Some(bytes) = self.next_kept(&running, spans, shared) else { break };
            proven = self.hash(&mut running, spans, shared, &bytes)?;
        }
        Ok(proven)
    }

    /// Takes the next span if it is in the cache; false if it is not, or nothing is left to do. With the last one, the index
    /// of the blob is kept if it is right.
    pub(super) fn take_kept(&self, spans: &[Span], shared: &Spans) -> Result<bool, Wrong> {
        let mut running = self.running();
        if self.outcome().is_some() {
            return if self.is_wrong() { Err(Wrong) } else { Ok(false) };
        }
        let Some(bytes) = self.next_kept(&running, spans, shared) else { return Ok(false) };
        if let Some(index) = self.hash(&mut running, spans, shared, &bytes)? {
            self.record(&index, shared);
        }
        Ok(true)
    }

    /// The first span that was not hashed yet; past the last one there is none.
    pub(super) fn next(&self) -> usize {
        self.running().hashed
    }

    /// Its bytes, if the cache has them.
    fn next_kept(&self, running: &Running, spans: &[Span], shared: &Spans) -> Option<Vec<u8>> {
        let next = spans.get(running.hashed)?;
        let digest = self.digest(running.hashed)?;
        let mut bytes = vec![0; next.length as usize];
        shared.read(&Span { digest, ..*next }, 0, &mut bytes).then_some(bytes)
    }

    /// Hashes the next span.
    fn hash(
        &self,
        running: &mut Running,
        spans: &[Span],
        shared: &Spans,
        bytes: &[u8],
    ) -> Result<Option<LayerIndex>, Wrong> {
        let taken = running.whole.as_mut().map(|whole| whole.update(bytes));
        if let Some(Err(e)) = taken {
            // Nothing says which of the bytes are right.
            log::error!("blob {}: its tar is not the one that is shown: {e}", self.blob);
            self.forget(shared);
            self.withdraw(shared);
            self.fail(Outcome::OtherFiles);
            return Err(Wrong);
        }
        running.hashed += 1;
        if running.hashed < spans.len() {
            return Ok(None);
        }
        let Some(whole) = running.whole.take() else { return Ok(None) };
        let size = spans.last().map_or(0, Span::end);
        let digests: Vec<SpanDigest> = self.arrived().digests().collect();
        let seen = whole.finish((self.blob, size), self.outline.as_ref(), &digests);
        self.forget(shared);
        match seen {
            Seen::Right(index) => {
                log::info!("blob {}: all of it has come, and its digest is right", self.blob);
                self.outcome.get_or_init(|| Outcome::Right);
                return Ok(Some(index));
            }
            Seen::Wrong => {
                log::error!("blob {}: its bytes do not match its digest", self.blob);
                self.withdraw(shared);
                self.fail(Outcome::Wrong);
            }
            Seen::Others(index) => {
                log::error!(
                    "blob {}: its digest is right, but its files are not those that are shown: other headers                      were sent for it at first",
                    self.blob
                );
                index.iter().for_each(|index| self.record(index, shared));
                self.fail(Outcome::OtherFiles);
            }
        }
        Err(Wrong)
    }

    /// Keeps the index of a blob that has proven right, so that the next mount shows it as proven.
    pub(super) fn record(&self, index: &LayerIndex, shared: &Spans) {
        let bytes = index.encode();
        match &self.name {
            LayerName::Blob(blob) => shared.cache().put_layer_index(blob, &index.diff_id(), &bytes),
            name => shared.cache().put_external_index(name, &bytes),
        }
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

    fn fail(&self, outcome: Outcome) {
        self.outcome.get_or_init(|| outcome);
    }

    fn is_wrong(&self) -> bool {
        self.outcome().is_some_and(|outcome| outcome != Outcome::Right)
    }

    fn forget(&self, shared: &Spans) {
        shared.cache().forget_arrived_spans(&self.blob);
    }

    fn withdraw(&self, shared: &Spans) {
        let digests: Vec<SpanDigest> = self.arrived().digests().collect();
        digests.iter().for_each(|digest| shared.cache().withdraw_span(digest));
    }

    fn arrived(&self) -> RwLockWriteGuard<'_, ArrivedSpans> {
        self.arrived.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked left nothing half done in there.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
