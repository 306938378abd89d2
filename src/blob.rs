//! Verified bytes of a layer, span by span.
//!
//! # Problem
//!
//! A read wants some bytes of the uncompressed tar of a layer, now, and never wrong ones. Mostly the
//! span that holds them is in the cache. When it is not (evicted, damaged, or the cache is off), it
//! has to come from the source again, and nobody may wait longer than the deadline.
//!
//! # Design
//!
//! [`Spans`] is shared by all layers of a mount: the cache, the open span files, and a few spans in
//! memory. [`BlobReader`] is one layer. A span is looked for in that order; what is missing is
//! streamed: a thread of its own decompresses the layer from its start (a plain tar from the span),
//! verifies every span on the way, keeps it, and hands it to whoever waits. When nobody waits for anything further on, the
//! stream is left where it is, so a walk in the order of the tar costs one download and not one per
//! span. Readers only ever wait on a condition with their own deadline, whatever the source does.
//!
//! Reading is by `pread` into the caller's buffer: a mapped file that is damaged or truncated
//! behind our back would be a SIGBUS.
//!
//! # Invariants
//!
//! - No byte leaves here that was not checked against the span's digest, or read from a file whose
//!   checksum this process has seen to be right.
//! - [`BlobReader::read_local`] never waits for the network.
//! - [`BlobReader::read`] returns by its deadline; a stream that dies wakes all that wait for it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use lru::LruCache;

use crate::cache::{Cache, SpanFile};
use crate::codec::{self, Compression, Decoder, SNIFF_BYTES};
use crate::digest::SpanDigest;
use crate::extent::UncompressedOffset;
use crate::image::Descriptor;
use crate::index::{LayerIndex, Span};
use crate::source::{self, Body, Opened, Source};

/// Spans kept in memory: for reads right after a fetch, and as the only place where the cache is
/// off. One span is a MiB.
const MEMORY_SPANS: usize = 8;

/// Bytes read from a source at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Spans of a plain tar that are read past rather than asked for anew.
const MAX_PLAIN_SKIP: usize = 4;

/// Why bytes can't be had.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(Arc<source::Error>),
    #[error("reading {what}: {source}")]
    Read { what: String, source: Arc<io::Error> },
    #[error("{what}: {source}")]
    Codec { what: String, source: Arc<codec::Error> },
    #[error("{what}: the bytes at {at} are not those that were indexed")]
    Mismatch { what: String, at: UncompressedOffset },
    #[error("{what}: ends before {at}")]
    Short { what: String, at: UncompressedOffset },
    #[error("{0}: not fetched in time (--timeout)")]
    Deadline(String),
    #[error("{0} is not in the cache, and --offline forbids to fetch it")]
    Offline(String),
    #[error("{0}: the thread that fetched it died")]
    Died(String),
}

/// Open span files and the cache behind them, shared by the layers of a mount.
#[derive(Debug)]
pub struct Spans {
    cache: Arc<Cache>,
    open: Mutex<LruCache<SpanDigest, Arc<SpanFile>>>,
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
            memory: Mutex::new(LruCache::new(at_least_one(MEMORY_SPANS))),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Reads of spans that were at hand, and that had to be fetched.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Reads from a span that is at hand; false if it is not.
    fn read(&self, span: &Span, offset: u32, buf: &mut [u8]) -> bool {
        let open = lock(&self.open).get(&span.digest).cloned();
        if let Some(file) = open {
            match file.read_at(buf, offset) {
                Ok(()) => return true,
                Err(e) => {
                    log::warn!("span {}: {e}", span.digest.hex());
                    lock(&self.open).pop(&span.digest);
                }
            }
        }
        let in_memory = lock(&self.memory).get(&span.digest).cloned();
        if let Some(bytes) = in_memory {
            copy_part(&bytes, offset, buf);
            return true;
        }
        let Some((file, bytes)) = self.cache.span(&span.digest, span.length) else { return false };
        copy_part(&bytes, offset, buf);
        lock(&self.open).put(span.digest, Arc::new(file));
        true
    }

    /// Keeps a verified span.
    fn put(&self, span: &Span, bytes: &Arc<Vec<u8>>) {
        self.cache.put_span(&span.digest, bytes);
        lock(&self.memory).put(span.digest, Arc::clone(bytes));
    }
}

/// One layer's bytes.
#[derive(Debug)]
pub struct BlobReader {
    descriptor: Descriptor,
    spans: Vec<Span>,
    source: Arc<dyn Source>,
    shared: Arc<Spans>,
    offline: bool,
    /// The blob is a plain tar: a stream can begin at any span.
    is_plain: bool,
    flight: Mutex<Flight>,
    landed: Condvar,
}

/// What is wanted from the stream, and what it has brought.
#[derive(Debug, Default)]
struct Flight {
    /// A thread is streaming.
    busy: bool,
    /// Where the last one stopped.
    stream: Option<Stream>,
    /// How many wait for each span.
    wanted: HashMap<usize, usize>,
    /// Spans for those who wait; the last of them takes it away.
    arrived: HashMap<usize, Arc<Vec<u8>>>,
    /// How many flights have failed, and why the last one did.
    failures: u64,
    error: Option<Error>,
}

impl Flight {
    /// The span to go for from `next`: the nearest one on, or, if all that are wanted were passed by
    /// already, the first of them.
    fn next_wanted(&self, next: usize) -> Option<usize> {
        let missing = || self.wanted.keys().copied().filter(|at| !self.arrived.contains_key(at));
        missing().filter(|at| *at >= next).min().or_else(|| missing().min())
    }
}

impl BlobReader {
    /// A reader of the layer that `index` describes, fetched from `descriptor` if need be.
    /// `offline` forbids to fetch from a remote source.
    pub fn new(
        descriptor: Descriptor,
        index: &LayerIndex,
        source: Arc<dyn Source>,
        shared: Arc<Spans>,
        offline: bool,
    ) -> BlobReader {
        // An index that was made from another blob says nothing of this one's compression.
        let is_plain =
            index.compression() == Compression::None && index.blob() == descriptor.digest;
        BlobReader {
            descriptor,
            is_plain,
            spans: (0..index.span_count()).map(|at| index.span(at)).collect(),
            offline: offline && source.is_remote(),
            source,
            shared,
            flight: Mutex::new(Flight::default()),
            landed: Condvar::new(),
        }
    }

    /// Fills `buf` from `start` if everything is at hand; false if something is not, or if the
    /// range reaches past the layer. Never waits for a source.
    pub fn read_local(&self, start: UncompressedOffset, buf: &mut [u8]) -> bool {
        self.pieces(start, buf).all(|(at, offset, part)| {
            let hit = at.is_some_and(|at| self.shared.read(&self.spans[at], offset, part));
            if hit {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
            }
            hit
        })
    }

    /// Fills `buf` from `start`, fetching what is missing, but not beyond `give_up`.
    ///
    /// # Errors
    /// See [`Error`]; `buf` is then of no use.
    pub fn read(
        self: &Arc<Self>,
        start: UncompressedOffset,
        buf: &mut [u8],
        give_up: Instant,
    ) -> Result<(), Error> {
        for (at, offset, part) in self.pieces(start, buf) {
            let at = at.ok_or_else(|| Error::Short { what: self.what(), at: start })?;
            if self.shared.read(&self.spans[at], offset, part) {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.shared.misses.fetch_add(1, Ordering::Relaxed);
            let bytes = self.fetch(at, give_up)?;
            copy_part(&bytes, offset, part);
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("layer {}", self.descriptor.digest)
    }

    /// Cuts a range at span boundaries: (span, offset in it, part of the buffer).
    fn pieces<'a>(
        &'a self,
        start: UncompressedOffset,
        buf: &'a mut [u8],
    ) -> impl Iterator<Item = (Option<usize>, u32, &'a mut [u8])> {
        let mut at = self.spans.partition_point(|span| span.end() <= start.0);
        let mut offset = start.0;
        let mut rest = buf;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some(span) = self.spans.get(at) else {
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

    /// Waits for a span that is not at hand, and sees to it that somebody fetches it.
    fn fetch(self: &Arc<Self>, at: usize, give_up: Instant) -> Result<Arc<Vec<u8>>, Error> {
        if self.offline {
            return Err(Error::Offline(self.what()));
        }
        let mut flight = lock(&self.flight);
        *flight.wanted.entry(at).or_default() += 1;
        let failures = flight.failures;
        let result = loop {
            if let Some(bytes) = flight.arrived.get(&at) {
                break Ok(Arc::clone(bytes));
            }
            // A flight that ended in vain while we waited; one before us is no concern of ours.
            if flight.failures != failures {
                break Err(flight.error.clone().unwrap_or_else(|| Error::Died(self.what())));
            }
            if !flight.busy {
                flight.busy = true;
                let stream = flight.stream.take();
                let reader = Arc::clone(self);
                let spawned = thread::Builder::new()
                    .name("stream".into())
                    .spawn(move || Pilot { reader: &reader, stream, landed: false }.fly());
                if let Err(e) = spawned {
                    flight.busy = false;
                    break Err(Error::Read { what: self.what(), source: Arc::new(e) });
                }
            }
            let Some(left) = give_up.checked_duration_since(Instant::now()) else {
                break Err(Error::Deadline(self.what()));
            };
            let waited = self.landed.wait_timeout(flight, left);
            flight = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        if let Some(count) = flight.wanted.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                flight.wanted.remove(&at);
                flight.arrived.remove(&at);
            }
        }
        result
    }
}

/// The thread that streams. Dropping it, by panic too, lets everybody know.
struct Pilot<'a> {
    reader: &'a BlobReader,
    stream: Option<Stream>,
    /// The flight is given up: another one may be under way already.
    landed: bool,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        if !self.landed {
            let mut flight = lock(&self.reader.flight);
            flight.busy = false;
            flight.failures += 1;
            flight.error = Some(Error::Died(self.reader.what()));
        }
        self.reader.landed.notify_all();
    }
}

impl Pilot<'_> {
    fn fly(mut self) {
        if let Err(error) = self.deliver() {
            let mut flight = lock(&self.reader.flight);
            flight.busy = false;
            flight.failures += 1;
            flight.error = Some(error);
        }
        self.landed = true;
    }

    /// Streams as long as somebody waits for a span further on.
    fn deliver(&mut self) -> Result<(), Error> {
        let reader = self.reader;
        loop {
            let mut flight = lock(&reader.flight);
            let next = self.stream.as_ref().map_or(0, |stream| stream.next);
            let Some(target) = flight.next_wanted(next) else {
                // A finished stream would hold a connection for nothing.
                flight.stream = self.stream.take().filter(|s| s.next < reader.spans.len());
                flight.busy = false;
                return Ok(());
            };
            drop(flight);
            let is_ahead = reader.is_plain && target - next.min(target) > MAX_PLAIN_SKIP;
            if target < next || is_ahead {
                self.stream = None;
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => {
                    none.insert(Stream::open(reader, if reader.is_plain { target } else { 0 })?)
                }
            };
            let number = stream.next;
            let span = &reader.spans[number];
            let bytes = stream.take_span(reader, span)?;
            if SpanDigest::of(&bytes) != span.digest {
                return Err(Error::Mismatch { what: reader.what(), at: span.start });
            }
            let bytes = Arc::new(bytes);
            reader.shared.put(span, &bytes);
            stream.next += 1;
            let mut flight = lock(&reader.flight);
            if flight.wanted.contains_key(&number) {
                flight.arrived.insert(number, bytes);
                reader.landed.notify_all();
            }
        }
    }
}

/// A layer being decompressed in order.
struct Stream {
    body: Body,
    decoder: Decoder,
    input: Vec<u8>,
    /// Unread part of `input`.
    unread: std::ops::Range<usize>,
    /// The span that comes next.
    next: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Stream {
    /// Begins at a span: of a compressed layer always at the first.
    fn open(reader: &BlobReader, first: usize) -> Result<Stream, Error> {
        let start = reader.spans.get(first).map_or(0, |span| span.start.0);
        let opened = reader.source.blob(&reader.descriptor, start..reader.descriptor.size);
        let Opened { mut body, start: opened, .. } =
            opened.map_err(|e| Error::Source(Arc::new(e)))?;
        // A server that knows no ranges sends the blob from its start.
        let skip = start.saturating_sub(opened);
        io::copy(&mut (&mut body).take(skip), &mut io::sink())
            .map_err(|e| Error::Read { what: reader.what(), source: Arc::new(e) })?;
        let mut input = vec![0; CHUNK_BYTES];
        let mut seen = 0;
        while seen < SNIFF_BYTES {
            match read_some(&mut body, &mut input[seen..]) {
                Ok(0) => break,
                Ok(n) => seen += n,
                Err(e) => return Err(Error::Read { what: reader.what(), source: Arc::new(e) }),
            }
        }
        let codec = |e| Error::Codec { what: reader.what(), source: Arc::new(e) };
        let compression = match reader.is_plain {
            true => Compression::None,
            false => Compression::sniff(&input[..seen]).map_err(codec)?,
        };
        let decoder = Decoder::new(compression).map_err(codec)?;
        Ok(Stream { body, decoder, input, unread: 0..seen, next: first })
    }

    /// Decompresses the next span.
    fn take_span(&mut self, reader: &BlobReader, span: &Span) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; span.length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let input = &self.input[self.unread.clone()];
            let progress = self
                .decoder
                .decode(input, &mut bytes[filled..])
                .map_err(|e| Error::Codec { what: reader.what(), source: Arc::new(e) })?;
            self.unread.start += progress.consumed;
            filled += progress.produced;
            if progress.consumed == 0 && progress.produced == 0 {
                let n = read_some(&mut self.body, &mut self.input)
                    .map_err(|e| Error::Read { what: reader.what(), source: Arc::new(e) })?;
                if n == 0 {
                    return Err(Error::Short { what: reader.what(), at: span.start });
                }
                self.unread = 0..n;
            }
        }
        Ok(bytes)
    }
}

fn copy_part(bytes: &[u8], offset: u32, buf: &mut [u8]) {
    let offset = offset as usize;
    buf.copy_from_slice(&bytes[offset..offset + buf.len()]);
}

fn read_some(body: &mut Body, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match body.read(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Locks; a thread that panicked left nothing half done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
