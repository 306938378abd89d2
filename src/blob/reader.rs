//! One layer whose bytes are read: what it is, how it is reached, and what of it is on its way.
//!
//! Reading itself (`blob::read`), the threads that fetch (`blob::fetch`) and fetching ahead of walks
//! (`blob::ahead`) are built on this.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::Access;
use super::error::Error;
use super::in_flight::InFlight;
use super::proving::{Outcome, Proving};
use super::spans::Spans;
use super::used::Used;
use crate::index::{Proof, Restart, Span, SpanTable, Windows};

/// One layer's bytes.
#[derive(Debug)]
pub struct BlobReader {
    pub(super) access: Access,
    pub(super) what: String,
    pub(super) table: SpanTable,
    pub(super) shared: Arc<Spans>,
    /// How much of each span was read.
    pub(super) used: Used,
    /// The span that was read last: what fetches keep an eye on.
    pub(super) reader_at: AtomicUsize,
    /// The index has contradicted the blob: it is dropped from the cache once.
    pub(super) is_contradicted: AtomicBool,
    pub(super) in_flight: Mutex<InFlight>,
    /// Of a blob that is shown before it is verified.
    pub(super) proving: Option<Proving>,
    /// Signalled when a span has arrived, or a fetch has ended.
    pub(super) arrival: Condvar,
}

impl BlobReader {
    /// A reader for the layer that the table describes.
    pub fn new(table: SpanTable, access: Access, shared: Arc<Spans>) -> BlobReader {
        BlobReader {
            what: format!("layer {}", access.descriptor.digest),
            proving: (table.proof == Proof::Transport).then(|| {
                let (blob, name) = (access.descriptor.digest, access.index_name);
                Proving::new(blob, name, table.outline, &table.spans, &shared)
            }),
            used: Used::new(table.spans.len()),
            access,
            table,
            shared,
            reader_at: AtomicUsize::new(0),
            is_contradicted: AtomicBool::new(false),
            in_flight: Mutex::new(InFlight::default()),
            arrival: Condvar::new(),
        }
    }

    /// Whether the cache holds all of the layer, for now.
    pub fn is_cached(&self) -> bool {
        (0..self.table.spans.len()).all(|at| self.is_kept(at))
    }

    /// Uncompressed bytes that the cache does not hold, once it has come to rest.
    pub fn uncached_bytes(&self) -> u64 {
        let cache = self.shared.cache();
        cache.settle();
        let spans = self.table.spans.iter().enumerate();
        spans.filter(|(at, _)| !self.is_kept(*at)).map(|(_, span)| u64::from(span.length)).sum()
    }

    /// Bytes of the blob whose content the cache holds, of all that the index knows of it.
    pub fn kept_bytes(&self) -> u64 {
        let spans = self.table.spans.iter().enumerate().filter(|(at, _)| self.is_kept(*at));
        spans.map(|(_, span)| span.compressed_end.0.saturating_sub(span.compressed_start.0)).sum()
    }

    /// Whether the cache has a span.
    pub(super) fn is_kept(&self, at: usize) -> bool {
        self.named(at).is_some_and(|span| self.shared.cache().has_span(&span.digest))
    }

    /// A span by the digest of its bytes; `None` if that is known only when they have come, which they have not.
    pub(super) fn named(&self, at: usize) -> Option<Cow<'_, Span>> {
        let span = &self.table.spans[at];
        match &self.proving {
            None => Some(Cow::Borrowed(span)),
            Some(proving) => proving.digest(at).map(|digest| Cow::Owned(Span { digest, ..*span })),
        }
    }

    /// Whether a span seems to be cached.
    pub(super) fn is_here(&self, at: usize) -> bool {
        self.named(at).is_some_and(|span| self.shared.has(&span))
    }

    /// Reads from a span that is cached; false if it is not.
    pub(super) fn read_here(&self, at: usize, offset: u32, buf: &mut [u8]) -> bool {
        self.named(at).is_some_and(|span| self.shared.read(&span, offset, buf))
    }

    /// What has been checked of the layer's index, or since, of its bytes.
    pub fn proof(&self) -> Proof {
        match self.proving.as_ref().and_then(Proving::outcome) {
            Some(Outcome::Right) => Proof::Full,
            _ => self.table.proof,
        }
    }

    /// What is wrong with it, when all of it has come and is not what is shown: no more of it can be read.
    pub fn found_wrong(&self) -> Option<Error> {
        let what = || self.what.clone();
        match self.proving.as_ref().and_then(Proving::outcome)? {
            Outcome::Right => None,
            Outcome::Wrong => Some(Error::Digest { what: what() }),
            Outcome::OtherFiles => Some(Error::OtherFiles { what: what() }),
        }
    }

    /// What it is, for messages.
    pub fn name(&self) -> &str {
        &self.what
    }

    /// Size of the layer's bytes.
    pub fn uncompressed_size(&self) -> u64 {
        self.table.uncompressed_size
    }

    /// What is on its way. A thread that panicked left nothing half done in there.
    pub(super) fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a span has arrived, or a fetch has ended, but not for longer than this.
    pub(super) fn wait<'a>(
        &self,
        in_flight: MutexGuard<'a, InFlight>,
        most: Duration,
    ) -> MutexGuard<'a, InFlight> {
        let waited = self.arrival.wait_timeout(in_flight, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a span is cached or on its way.
    pub(super) fn is_coming(&self, in_flight: &InFlight, at: usize) -> bool {
        in_flight.carries(at) || self.is_here(at)
    }

    /// Ends a fetch; those who wait for what it still had to bring hear why it failed.
    pub(super) fn finish(&self, number: u64, error: Option<&Error>) {
        let mut in_flight = self.in_flight();
        let place = in_flight.fetches.iter().position(|fetch| fetch.number == number);
        if let Some(fetch) = place.map(|place| in_flight.fetches.swap_remove(place))
            && let Some(error) = error
        {
            // What another fetch brings as well may still come.
            let is_lost = |at: &usize| fetch.left.contains(at) && !in_flight.carries(*at);
            let failed: Vec<usize> = in_flight.wanted.keys().copied().filter(is_lost).collect();
            for at in failed {
                in_flight.arrived.entry(at).or_insert_with(|| Err(error.clone()));
            }
        }
        drop(in_flight);
        self.arrival.notify_all();
    }

    /// The stored window of a span.
    pub(super) fn window(&self, span: &Span) -> Result<Vec<u8>, Error> {
        let Restart::Block { window: (offset, length), .. } = span.restart else {
            return Ok(Vec::new());
        };
        let range = offset..offset + u64::from(length);
        match (&self.table.windows, &self.access.windows) {
            (Windows::Loaded(windows), _) => {
                Ok(windows[range.start as usize..range.end as usize].to_vec())
            }
            (Windows::Detached, _) if length == 0 => Ok(Vec::new()),
            (Windows::Detached, Some(source)) => {
                source.windows(range).map_err(|e| Error::Source(Arc::new(e)))
            }
            (Windows::Detached, None) => Err(Error::Windows(self.what.clone())),
        }
    }
}
