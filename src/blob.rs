//! Verified bytes of a layer, span by span.
//!
//! # Problem
//!
//! A read wants some bytes of the uncompressed tar of a layer, now, and never wrong ones. When the
//! span that holds them is not in the cache, it has to come from the source, at the price of that
//! span and not of the layer, and nobody may wait longer than the deadline. When everything is
//! read, it has to cost no more than a download.
//!
//! # Design
//!
//! [`Spans`] is shared by all layers of a mount: the cache, the open span files, and a few spans in
//! memory. [`BlobReader`] is one layer. A span is looked for in that order; what is missing is
//! fetched by a *flight*, a thread with one request for a row of spans (`blob::plan` says how many). It
//! decodes, verifies and keeps each of them (`blob::stream`) and hands those to their readers that are
//! waited for. A span that is on its way is not sent for again: its readers just wait.
//! Readers only ever wait on a condition with their own deadline, whatever the source does.
//!
//! A server that ignores the range and sends everything is taken at its word: that flight serves
//! the layer from its start to its end, and nothing of what comes is thrown away.
//!
//! Where decoding can't begin again for long (a zstd layer of one frame), a flight that has brought
//! what it was sent for lingers: a reader that wants something further on sends it on, instead of
//! streaming everything before it once more.
//!
//! Some flights have no reader yet: they bring the beginnings of layers that a walk will come to
//! (`blob::ahead`).
//!
//! A flight that is far ahead of all readers pauses, and one that nobody follows ends: `grep -r`
//! that was interrupted must not download the rest of the image.
//!
//! Reading is by `pread` into the caller's buffer: a mapped file that is damaged or truncated
//! behind our back would be a SIGBUS.
//!
//! # Invariants
//!
//! - No byte leaves here that was not checked against the layer index, or read from a file whose
//!   checksum this process has seen to be right.
//! - What only an index without proof says of a layer is read from that layer's blob, or from a file of
//!   the cache that was: its spans have names of their own.
//! - Bytes that do not match are fetched once more, and from a place that needs no checkpoint; if
//!   they are wrong again the reader gets an error, and an index that was only a hint is dropped.
//! - [`BlobReader::read_local`] never waits for the network.
//! - [`BlobReader::read`] returns by its deadline; a flight that dies wakes all that wait for it.

mod ahead;
mod plan;
mod stream;

use std::collections::{HashMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::cache::{Cache, Cost, LayerName, SpanFile};
use crate::codec;
use crate::digest::SpanDigest;
use crate::extent::UncompressedOffset;
use crate::hint::Hint;
use crate::index::{Check, Proof, Restart, Span, SpanTable, Windows};
use crate::oci::Descriptor;
use crate::source::{self, MIN_BYTES_PER_SECOND, Opened, Source};
use plan::{Runs, Situation};
use stream::{Layer, Stream};

pub use ahead::Walk;
pub use plan::ReadAhead;

/// Spans kept in memory: for reads right after a fetch, and as the only place where the cache is
/// off. One span is a MiB or two, four at most.
const MEMORY_SPANS: usize = 6;

/// Span files opened until those that stay open are looked at, whether they were evicted and take room
/// that the cache has given back. Looking at a thousand takes a millisecond.
const OPENED_BETWEEN_LOOKS: u32 = 16;

/// Bytes read from a source at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Flights of one layer at the same time: readers at so many places do not wait for each other.
const MAX_FLIGHTS: usize = 8;

/// From this age on the failure of a flight says little to a reader who has just come.
const OLD: Duration = Duration::from_millis(500);

/// Uncompressed bytes that a flight may be ahead of all readers.
const MAX_AHEAD_BYTES: u64 = 64 << 20;

/// The same in spans, where there is no cache and what is fetched too early is lost.
const MAX_AHEAD_UNCACHED: usize = MEMORY_SPANS / 2;

/// How long a flight waits for readers to catch up before it ends, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// Why bytes can't be had.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(Arc<source::Error>),
    #[error("reading {what}: {source}")]
    Read { what: String, r#source: Arc<io::Error> },
    #[error("{what}: {source}")]
    Codec { what: String, r#source: Arc<codec::Error> },
    #[error("{what}: the bytes at {at} are not those that were indexed")]
    Mismatch { what: String, at: UncompressedOffset },
    #[error("{what}: ends before {at}")]
    Short { what: String, at: UncompressedOffset },
    #[error("{0}: not fetched in time")]
    Deadline(String),
    #[error("{0} is not in the cache, and offline nothing is fetched")]
    Offline(String),
    #[error("{0}: its layer index came without checkpoints, and they can't be had")]
    Windows(String),
    #[error("{0}: the thread that fetched it died")]
    Died(String),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Source(error) => error.hint(),
            Error::Read { source, .. } => source::hint_of(source),
            Error::Codec { source, .. } => source.hint(),
            Error::Deadline(_) => Some(Hint::AllowMoreTime),
            Error::Offline(_) => Some(Hint::GoOnline),
            _ => None,
        }
    }
}

impl Error {
    fn codec(what: &str, error: codec::Error) -> Error {
        Error::Codec { what: what.to_owned(), source: Arc::new(error) }
    }

    fn read(what: &str, error: io::Error) -> Error {
        Error::Read { what: what.to_owned(), source: Arc::new(error) }
    }

    fn short(what: &str, span: &Span) -> Error {
        Error::Short { what: what.to_owned(), at: span.start }
    }
}

/// Why a flight failed.
enum Fault {
    /// The source did not deliver.
    Transport(Error),
    /// It delivered something else than was indexed.
    Content(Error),
}

/// Windows that were left where their index came from.
pub trait WindowSource: std::fmt::Debug + Send + Sync {
    /// Stored windows by their place in the table of windows.
    ///
    /// # Errors
    /// They can't be had.
    fn windows(&self, range: Range<u64>) -> Result<Vec<u8>, source::Error>;
}

/// Open span files and the cache behind them, shared by the layers of a mount.
#[derive(Debug)]
pub struct Spans {
    cache: Arc<Cache>,
    open: Mutex<LruCache<SpanDigest, Arc<SpanFile>>>,
    opened: AtomicU32,
    memory: Mutex<LruCache<SpanDigest, Arc<Vec<u8>>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Spans {
    /// At most `open_files` span files are kept open.
    pub fn new(cache: Arc<Cache>, open_files: usize) -> Spans {
        let at_least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Spans {
            cache,
            open: Mutex::new(LruCache::new(at_least_one(open_files))),
            opened: AtomicU32::new(0),
            memory: Mutex::new(LruCache::new(at_least_one(MEMORY_SPANS))),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Reads of spans that were cached, and that had to be fetched.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Reads from a span that is cached; false if it is not.
    fn read(&self, span: &Span, offset: u32, buf: &mut [u8]) -> bool {
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
        let in_memory = lock(&self.memory).get(&span.digest).cloned();
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
    fn has(&self, span: &Span) -> bool {
        lock(&self.open).contains(&span.digest)
            || lock(&self.memory).contains(&span.digest)
            || self.cache.has_span(&span.digest)
    }

    /// Keeps a verified span.
    fn put(&self, span: &Span, bytes: &Arc<Vec<u8>>) {
        self.cache.put_span(&span.digest, bytes, cost(span.restart));
        lock(&self.memory).put(span.digest, Arc::clone(bytes));
    }
}

/// What losing a span costs: of one that can't be begun at, all that stand before it.
pub fn cost(restart: Restart) -> Cost {
    match restart {
        Restart::Continues => Cost::Dear,
        Restart::Here | Restart::Block { .. } => Cost::Cheap,
    }
}

/// How a layer's bytes are reached.
#[derive(Debug)]
pub struct Access {
    /// The blob.
    pub descriptor: Descriptor,
    /// Where it comes from.
    pub source: Arc<dyn Source>,
    /// Fetch nothing from a remote source.
    pub offline: bool,
    /// What decompressing may cost.
    pub codec: codec::Limits,
    /// The windows, where the index has none.
    pub windows: Option<Arc<dyn WindowSource>>,
    /// The name of the index in the cache.
    pub index_name: LayerName,
}

/// One layer's bytes.
#[derive(Debug)]
pub struct BlobReader {
    access: Access,
    what: String,
    table: SpanTable,
    shared: Arc<Spans>,
    /// The span that was read last: what flights keep an eye on.
    reader_at: AtomicUsize,
    /// The index has contradicted the blob: it is dropped from the cache once.
    is_contradicted: AtomicBool,
    sky: Mutex<InFlight>,
    /// Signalled when a span has arrived, or a flight has ended.
    landed: Condvar,
}

/// What is on its way, and who waits.
#[derive(Debug, Default)]
struct InFlight {
    flights: Vec<FlightPlan>,
    /// Number of the next flight.
    next_number: u64,
    /// How many wait for each span.
    wanted: HashMap<usize, usize>,
    /// Spans, or why there are none, for those who wait; the last of them takes it away.
    arrived: HashMap<usize, Result<Arc<Vec<u8>>, Error>>,
    /// Spans that have come wrong once.
    suspects: HashSet<usize>,
    runs: Runs,
}

/// What a flight still has to bring.
#[derive(Debug)]
struct FlightPlan {
    number: u64,
    left: Range<usize>,
    /// How far it can be sent on.
    limit: usize,
    took_off: Instant,
}

impl InFlight {
    fn carries(&self, at: usize) -> bool {
        self.flights.iter().any(|flight| flight.left.contains(&at))
    }

    /// Whether a span is on its way since long before now.
    fn is_on_old_flight(&self, at: usize) -> bool {
        let mut flights = self.flights.iter().filter(|flight| flight.left.contains(&at));
        flights.any(|flight| flight.took_off.elapsed() > OLD)
    }

    /// Sends a flight on that has to pass `begin..=at` anyway, if there is one.
    fn extend(&mut self, begin: usize, at: usize, end: usize) -> bool {
        let passes = |flight: &&mut FlightPlan| {
            flight.left.start >= begin && flight.left.start <= at && at < flight.limit
        };
        match self.flights.iter_mut().find(passes) {
            Some(flight) => {
                flight.left.end = flight.left.end.max(end.min(flight.limit));
                true
            }
            None => false,
        }
    }
}

impl BlobReader {
    /// A reader for the layer that the table describes.
    pub fn new(table: SpanTable, access: Access, shared: Arc<Spans>) -> BlobReader {
        BlobReader {
            what: format!("layer {}", access.descriptor.digest),
            access,
            table,
            shared,
            reader_at: AtomicUsize::new(0),
            is_contradicted: AtomicBool::new(false),
            sky: Mutex::new(InFlight::default()),
            landed: Condvar::new(),
        }
    }

    /// Fills `buf` from `start` if everything is cached; false if something is not, or if the
    /// range reaches past the layer. Never waits for a source.
    pub fn read_local(&self, start: UncompressedOffset, buf: &mut [u8]) -> bool {
        self.pieces(start, buf).all(|(at, offset, part)| {
            let hit = at.is_some_and(|at| {
                self.reader_at.store(at, Ordering::Relaxed);
                self.shared.read(&self.table.spans[at], offset, part)
            });
            if hit {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
            }
            hit
        })
    }

    /// Fills `buf` from `start`, fetching what is missing, but not beyond `give_up`. `scope` says
    /// what the reader is likely to want next; it is asked only if need be, and is told whether this
    /// miss goes on from the one before.
    ///
    /// # Errors
    /// See [`Error`]; `buf` is then of no use.
    pub fn read(
        self: &Arc<Self>,
        start: UncompressedOffset,
        buf: &mut [u8],
        give_up: Instant,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Result<(), Error> {
        let end = start.0.saturating_add(buf.len() as u64);
        let needed_end = self.table.spans.partition_point(|span| span.start.0 < end);
        for (at, offset, part) in self.pieces(start, buf) {
            let at = at.ok_or_else(|| Error::Short { what: self.what.clone(), at: start })?;
            self.reader_at.store(at, Ordering::Relaxed);
            if self.shared.read(&self.table.spans[at], offset, part) {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.shared.misses.fetch_add(1, Ordering::Relaxed);
            let bytes = self.fetch(at, needed_end, give_up, scope)?;
            copy_part(&bytes, offset, part);
        }
        Ok(())
    }

    /// Brings every span into the cache that is not there yet, in order; stops where it fails.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch_all(
        self: &Arc<Self>,
        read_timeout: Duration,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        for (at, span) in self.table.spans.iter().enumerate() {
            self.reader_at.store(at, Ordering::Relaxed);
            if self.shared.read(span, 0, &mut [0]) {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shared.misses.fetch_add(1, Ordering::Relaxed);
                let scope = |_| ReadAhead::UpTo(u64::MAX);
                // No reader waits for this one span: it may come as slowly as its source lets it.
                let slowest =
                    Duration::from_secs(plan::compressed_bytes(span) / MIN_BYTES_PER_SECOND);
                self.fetch(at, at + 1, Instant::now() + read_timeout + slowest, &scope)?;
            }
            progress(span.length.into());
        }
        Ok(())
    }

    /// Whether the cache holds all of the layer, for now.
    pub fn is_cached(&self) -> bool {
        self.table.spans.iter().all(|span| self.shared.cache.has_span(&span.digest))
    }

    /// Uncompressed bytes that the cache does not hold, once it has come to rest.
    pub fn uncached_bytes(&self) -> u64 {
        let cache = &self.shared.cache;
        cache.settle();
        let missing = self.table.spans.iter().filter(|span| !cache.has_span(&span.digest));
        missing.map(|span| u64::from(span.length)).sum()
    }

    /// What has been checked of the layer's index.
    pub fn proof(&self) -> Proof {
        self.table.proof
    }

    /// Size of the layer's bytes.
    pub fn uncompressed_size(&self) -> u64 {
        self.table.uncompressed_size
    }

    /// Cuts a range at span boundaries: (span, offset in it, part of the buffer).
    fn pieces<'a>(
        &'a self,
        start: UncompressedOffset,
        buf: &'a mut [u8],
    ) -> impl Iterator<Item = (Option<usize>, u32, &'a mut [u8])> {
        let spans = &self.table.spans;
        let mut at = spans.partition_point(|span| span.end() <= start.0);
        let mut offset = start.0;
        let mut rest = buf;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some(span) = spans.get(at) else {
                return Some((None, 0, std::mem::take(&mut rest)));
            };
            let within = (offset - span.start.0) as u32;
            let length = rest.len().min((span.length - within) as usize);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            offset += length as u64;
            at += 1;
            Some((Some(at - 1), within, part))
        })
    }

    /// Waits for a span that is not cached, and sees to it that a flight fetches it, and what else
    /// the read needs up to `needed_end`.
    fn fetch(
        self: &Arc<Self>,
        at: usize,
        needed_end: usize,
        give_up: Instant,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Result<Arc<Vec<u8>>, Error> {
        if self.access.offline && self.access.source.is_remote() {
            return Err(Error::Offline(self.what.clone()));
        }
        let mut sky = lock(&self.sky);
        *sky.wanted.entry(at).or_default() += 1;
        // What ails an old flight, a connection that was forgotten or a server that was down, may be over.
        let mut may_try_again = sky.is_on_old_flight(at);
        let result = loop {
            match sky.arrived.get(&at) {
                Some(Err(Error::Source(_) | Error::Read { .. })) if may_try_again => {
                    may_try_again = false;
                    sky.arrived.remove(&at);
                }
                Some(result) => break result.clone(),
                None => {}
            }
            if !sky.carries(at) && sky.flights.len() < MAX_FLIGHTS {
                let plan = self.plan(&mut sky, at, needed_end, scope);
                if sky.extend(plan::begin_of(&self.table.spans, at), at, plan.end) {
                    self.landed.notify_all();
                } else if let Err(e) = self.spawn(&mut sky, plan, None) {
                    break Err(Error::read(&self.what, e));
                }
            }
            let Some(left) = give_up.checked_duration_since(Instant::now()) else {
                break Err(Error::Deadline(self.what.clone()));
            };
            let waited = self.landed.wait_timeout(sky, left);
            sky = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        if let Some(count) = sky.wanted.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                sky.wanted.remove(&at);
                sky.arrived.remove(&at);
            }
        }
        result
    }

    /// What to fetch for a span that is missing and not on its way.
    fn plan(
        &self,
        sky: &mut InFlight,
        at: usize,
        needed_end: usize,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Range<usize> {
        let spans = &self.table.spans;
        if sky.suspects.contains(&at) {
            // Its checkpoint may be wrong: from a place that needs none, and no further.
            let here = |at: &usize| spans[*at].restart == Restart::Here;
            let check = spans[at].check;
            return match check {
                Check::Content => (0..=at).rev().find(here).unwrap_or(0)..at + 1,
                Check::Chunks { .. } | Check::Compressed { .. } => at..at + 1,
            };
        }
        let mut runs = std::mem::take(&mut sky.runs);
        let link = self.access.source.throughput();
        let scope = |goes_on| self.affordable(scope(goes_on), goes_on);
        let plan = runs.plan(
            at,
            &Situation {
                spans,
                gap_bytes: plan::gap_bytes(link),
                back_bytes: plan::back_bytes(link),
                is_at_hand: &|at| self.is_coming(sky, at),
                needed_end,
                scope: &scope,
            },
        );
        sky.runs = runs;
        // Another flight that is ahead is left to its work.
        let next = sky.flights.iter().map(|flight| flight.left.start).filter(|from| *from > at);
        plan.start..plan.end.min(next.min().unwrap_or(plan.end))
    }

    /// The scope of a walk brings bytes in another order than they are read in. Where they may not be
    /// kept until then, it counts as a guess.
    fn affordable(&self, scope: ReadAhead, goes_on: bool) -> ReadAhead {
        match scope {
            ReadAhead::Ranges(ranges)
                if !self.shared.cache.has_room(self.table.uncompressed_size / 4) =>
            {
                let end = ranges.last().map_or(0, |range| range.end);
                ReadAhead::UpTo(if goes_on { end } else { 0 })
            }
            scope => scope,
        }
    }

    /// Whether a span is cached or on its way.
    fn is_coming(&self, sky: &InFlight, at: usize) -> bool {
        sky.carries(at) || self.shared.has(&self.table.spans[at])
    }

    /// Sends out a flight, for a reader or, without one, ahead of a walk.
    fn spawn(
        self: &Arc<Self>,
        sky: &mut InFlight,
        spans: Range<usize>,
        walk: Option<Walk>,
    ) -> io::Result<()> {
        let number = sky.next_number;
        let reader = Arc::clone(self);
        let left = spans.clone();
        let limit = plan::group_end(&self.table.spans, spans.end - 1);
        thread::Builder::new()
            .name("fetch".into())
            .spawn(move || Fetch { reader: &reader, number, spans, walk, landed: false }.fly())?;
        sky.next_number += 1;
        sky.flights.push(FlightPlan { number, left, limit, took_off: Instant::now() });
        Ok(())
    }

    /// Ends a flight; those who wait for what it still had to bring hear why it failed.
    fn finish(&self, number: u64, error: Option<&Error>) {
        let mut sky = lock(&self.sky);
        let place = sky.flights.iter().position(|flight| flight.number == number);
        if let Some(flight) = place.map(|place| sky.flights.swap_remove(place))
            && let Some(error) = error
        {
            // What another flight brings as well may still come.
            let is_lost = |at: &usize| flight.left.contains(at) && !sky.carries(*at);
            let failed: Vec<usize> = sky.wanted.keys().copied().filter(is_lost).collect();
            for at in failed {
                sky.arrived.entry(at).or_insert_with(|| Err(error.clone()));
            }
        }
        drop(sky);
        self.landed.notify_all();
    }

    /// The stored window of a span.
    fn window(&self, span: &Span) -> Result<Vec<u8>, Error> {
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

/// A thread that fetches a row of spans. Dropping it, by panic too, lets everybody know.
struct Fetch<'a> {
    reader: &'a BlobReader,
    number: u64,
    spans: Range<usize>,
    /// The walk that it is ahead of, if no reader has asked for it.
    walk: Option<Walk>,
    landed: bool,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if !self.landed {
            let error = Error::Died(self.reader.what.clone());
            self.reader.finish(self.number, Some(&error).filter(|_| self.walk.is_none()));
        }
    }
}

impl Fetch<'_> {
    fn fly(mut self) {
        let result = self.deliver();
        self.landed = true;
        let error = match result {
            Ok(()) => None,
            Err(Fault::Transport(error)) => Some(error),
            Err(Fault::Content(error)) => self.suspect(error),
        };
        if let (Some(_), Some(error)) = (&self.walk, &error) {
            log::info!("ahead of a walk: {error}");
        }
        // A reader that waits for what nobody had asked for tries it itself.
        self.reader.finish(self.number, error.as_ref().filter(|_| self.walk.is_none()));
    }

    /// The first span that was not delivered came wrong: `None` if it is worth another try.
    fn suspect(&self, error: Error) -> Option<Error> {
        let reader = self.reader;
        let has_other = reader.access.source.distrust(&reader.access.descriptor.digest);
        let mut sky = lock(&reader.sky);
        let flight = sky.flights.iter().find(|flight| flight.number == self.number);
        let at = flight.map_or(0, |flight| flight.left.start);
        if sky.suspects.insert(at) || has_other {
            log::warn!("{error}; trying once more");
            return None;
        }
        sky.suspects.remove(&at);
        drop(sky);
        if !reader.table.proof.is_own() && !reader.is_contradicted.swap(true, Ordering::Relaxed) {
            log::warn!("{}: its index is not used again; the next mount streams it", reader.what);
            reader.shared.cache.reject_layer_index(&reader.access.index_name);
        }
        Some(error)
    }

    fn deliver(&mut self) -> Result<(), Fault> {
        let reader = self.reader;
        let spans = &reader.table.spans;
        let mut limit = plan::group_end(spans, self.spans.end - 1);
        let range = spans[self.spans.start].compressed_start.0..spans[limit - 1].compressed_end.0;
        let first = &spans[self.spans.start];
        // A window that is elsewhere comes at the same time as the bytes.
        let (opened, window) = match (&reader.table.windows, first.restart) {
            (Windows::Detached, Restart::Block { window: (_, 1..), .. }) => {
                thread::scope(|scope| {
                    let window = scope.spawn(|| reader.window(first));
                    let opened =
                        reader.access.source.blob(&reader.access.descriptor, range.clone());
                    let died = |_| Err(Error::Died(reader.what.clone()));
                    (opened, Some(window.join().unwrap_or_else(died)))
                })
            }
            _ => (reader.access.source.blob(&reader.access.descriptor, range.clone()), None),
        };
        let opened: Opened = opened.map_err(|e| Fault::Transport(Error::Source(Arc::new(e))))?;
        let is_whole = opened.start < range.start || opened.end > range.end;
        if is_whole && self.is_too_much_ahead() {
            return Ok(());
        }
        if is_whole {
            log::info!("{}: the server sends everything; so be it", reader.what);
            limit = spans.len();
            self.redirect(0..limit);
        }
        let end = opened.end;
        let layer = Layer {
            what: &reader.what,
            compression: reader.table.compression,
            limits: reader.access.codec,
            spans,
            chunks: &reader.table.chunks,
            unproven_blob: reader.table.unproven_blob,
            window: &|span| match &window {
                Some(window) if span == first => window.clone(),
                _ => reader.window(span),
            },
        };
        let mut stream = Stream::new(opened);
        for (at, span) in spans.iter().enumerate().take(limit).skip(self.spans.start) {
            if !self.is_sent_on(at) || !self.is_followed(at, is_whole) {
                return Ok(());
            }
            let bytes = Arc::new(stream.take_span(&layer, at)?);
            reader.shared.put(span, &bytes);
            self.hand_over(at, bytes);
            self.end_walk_if_lost(span);
        }
        stream.drain(end);
        Ok(())
    }

    /// Takes on another row of spans.
    fn redirect(&mut self, spans: Range<usize>) {
        self.spans = spans.clone();
        let mut sky = lock(&self.reader.sky);
        if let Some(flight) = sky.flights.iter_mut().find(|f| f.number == self.number) {
            flight.limit = spans.end;
            flight.left = spans;
        }
    }

    /// Waits, at the end of what it was sent for, for a reader to send the flight on; false if
    /// none does.
    fn is_sent_on(&self, at: usize) -> bool {
        let reader = self.reader;
        let until = Instant::now() + PATIENCE;
        let mut sky = lock(&reader.sky);
        loop {
            let place = sky.flights.iter().position(|f| f.number == self.number);
            if place.is_none_or(|place| at < sky.flights[place].left.end) {
                return place.is_some();
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                // Nobody must count on it any more.
                place.map(|place| sky.flights.swap_remove(place));
                return false;
            };
            let waited = reader.landed.wait_timeout(sky, left);
            sky = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives a span to those who wait for it.
    fn hand_over(&self, at: usize, bytes: Arc<Vec<u8>>) {
        let mut sky = lock(&self.reader.sky);
        if let Some(flight) = sky.flights.iter_mut().find(|f| f.number == self.number) {
            flight.left.start = at + 1;
        }
        sky.suspects.remove(&at);
        if sky.wanted.contains_key(&at) {
            sky.arrived.insert(at, Ok(bytes));
            self.reader.landed.notify_all();
        }
    }

    /// Waits while the span is far ahead of every reader; false if nobody comes.
    fn is_followed(&self, at: usize, is_whole: bool) -> bool {
        let reader = self.reader;
        let start = reader.table.spans[at].start.0;
        let is_wanted = || lock(&reader.sky).wanted.keys().any(|wanted| *wanted >= at);
        if let Some(walk) = &self.walk {
            return walk.is_on() || is_wanted();
        }
        let seen = || reader.reader_at.load(Ordering::Relaxed);
        let mut last_seen = seen();
        let mut since = Instant::now();
        loop {
            let now = seen();
            let near = match reader.shared.cache.is_writable() {
                true => reader.table.spans[now].start.0 + MAX_AHEAD_BYTES >= start,
                false => now + MAX_AHEAD_UNCACHED >= at,
            };
            // What comes once and whole is kept: to come back for it would cost all of it again.
            if near || is_whole || is_wanted() {
                return true;
            }
            if now != last_seen {
                (last_seen, since) = (now, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(GLANCE);
        }
    }
}

fn copy_part(bytes: &[u8], offset: u32, buf: &mut [u8]) {
    let offset = offset as usize;
    buf.copy_from_slice(&bytes[offset..offset + buf.len()]);
}

/// Locks; a thread that panicked left nothing half done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
