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
//! streamed: the layer is decompressed from its start up to the span, and every span on the way is
//! verified and kept. The stream stays where it stopped, so a walk in the order of the tar costs
//! one download and not one per span. One thread streams at a time; the others wait for it, and one
//! of them goes on when it gives up.
//!
//! Reading is by `pread` into the caller's buffer: a mapped file that is damaged or truncated
//! behind our back would be a SIGBUS.
//!
//! # Invariants
//!
//! - No byte leaves here that was not checked against the span's digest, or read from a file whose
//!   checksum this process has seen to be right.
//! - [`BlobReader::read_local`] never waits for the network.
//! - [`BlobReader::read`] returns within its deadline; a lost leader does not hang its followers.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::cache::{Cache, SpanFile};
use crate::codec::{self, Compression, Decoder, SNIFF_BYTES};
use crate::digest::SpanDigest;
use crate::extent::UncompressedOffset;
use crate::image::Descriptor;
use crate::index::{LayerIndex, Span};
use crate::source::{self, Body, Source};

/// Spans kept in memory: for reads right after a fetch, and as the only place where the cache is
/// off. One span is a MiB.
const MEMORY_SPANS: usize = 8;

/// Bytes read from a source at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Why bytes can't be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("reading {what}: {source}")]
    Read { what: String, source: io::Error },
    #[error("{what}: {source}")]
    Codec { what: String, source: codec::Error },
    #[error("{what}: the bytes at {at} are not those that were indexed")]
    Mismatch { what: String, at: UncompressedOffset },
    #[error("{what}: ends before {at}")]
    Short { what: String, at: UncompressedOffset },
    #[error("{what}: not fetched within {} s (--timeout)", .after.as_secs())]
    Deadline { what: String, after: Duration },
    #[error("{0} is not in the cache, and --offline forbids to fetch it")]
    Offline(String),
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
        let part = |bytes: &[u8], buf: &mut [u8]| {
            let offset = offset as usize;
            buf.copy_from_slice(&bytes[offset..offset + buf.len()]);
        };
        let in_memory = lock(&self.memory).get(&span.digest).cloned();
        if let Some(bytes) = in_memory {
            part(&bytes, buf);
            return true;
        }
        let Some((file, bytes)) = self.cache.span(&span.digest, span.length) else { return false };
        part(&bytes, buf);
        lock(&self.open).put(span.digest, Arc::new(file));
        true
    }

    /// Keeps a verified span.
    fn put(&self, span: &Span, bytes: &[u8]) {
        self.cache.put_span(&span.digest, bytes);
        lock(&self.memory).put(span.digest, Arc::new(bytes.to_vec()));
    }
}

/// One layer's bytes.
#[derive(Debug)]
pub struct BlobReader {
    descriptor: Descriptor,
    spans: Vec<Span>,
    source: Arc<dyn Source>,
    shared: Arc<Spans>,
    deadline: Duration,
    offline: bool,
    flight: Mutex<Flight>,
    landed: Condvar,
}

/// Who streams, and from where it would go on.
#[derive(Debug, Default)]
struct Flight {
    busy: bool,
    stream: Option<Stream>,
}

impl BlobReader {
    /// A reader of the layer that `index` describes, fetched from `descriptor` if need be.
    /// `offline` forbids to fetch from a remote source.
    pub fn new(
        descriptor: Descriptor,
        index: &LayerIndex,
        source: Arc<dyn Source>,
        shared: Arc<Spans>,
        deadline: Duration,
        offline: bool,
    ) -> BlobReader {
        BlobReader {
            descriptor,
            spans: (0..index.span_count()).map(|at| index.span(at)).collect(),
            offline: offline && source.is_remote(),
            source,
            shared,
            deadline,
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

    /// Fills `buf` from `start`, fetching what is missing.
    ///
    /// # Errors
    /// See [`Error`]; `buf` is then of no use.
    pub fn read(&self, start: UncompressedOffset, buf: &mut [u8]) -> Result<(), Error> {
        let give_up = Instant::now() + self.deadline;
        for (at, offset, part) in self.pieces(start, buf) {
            let at = at.ok_or_else(|| Error::Short { what: self.what(), at: start })?;
            if self.shared.read(&self.spans[at], offset, part) {
                self.shared.hits.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.shared.misses.fetch_add(1, Ordering::Relaxed);
            self.fetch(at, offset, part, give_up)?;
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

    /// Gets a span that is not at hand, alone or behind whoever streams already.
    fn fetch(
        &self,
        at: usize,
        offset: u32,
        part: &mut [u8],
        give_up: Instant,
    ) -> Result<(), Error> {
        if self.offline {
            return Err(Error::Offline(self.what()));
        }
        let late = || Error::Deadline { what: self.what(), after: self.deadline };
        let mut flight = lock(&self.flight);
        while flight.busy {
            let left = give_up.checked_duration_since(Instant::now()).ok_or_else(late)?;
            flight = wait(&self.landed, flight, left);
        }
        // The one before may have brought it.
        if self.shared.read(&self.spans[at], offset, part) {
            return Ok(());
        }
        flight.busy = true;
        let stream = flight.stream.take().filter(|stream| stream.next <= at);
        drop(flight);
        let mut leader = Leader { reader: self, stream };
        let bytes = leader.stream_to(at, give_up)?;
        let offset = offset as usize;
        part.copy_from_slice(&bytes[offset..offset + part.len()]);
        Ok(())
    }
}

/// The thread that streams. Dropping it lets the next one go on, whatever happened.
struct Leader<'a> {
    reader: &'a BlobReader,
    stream: Option<Stream>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut flight = lock(&self.reader.flight);
        flight.busy = false;
        flight.stream = self.stream.take();
        self.reader.landed.notify_all();
    }
}

impl Leader<'_> {
    /// Streams up to and including a span; returns its bytes.
    fn stream_to(&mut self, at: usize, give_up: Instant) -> Result<Vec<u8>, Error> {
        let reader = self.reader;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => Stream::open(reader)?,
        };
        loop {
            if Instant::now() >= give_up {
                self.stream = Some(stream);
                return Err(Error::Deadline { what: reader.what(), after: reader.deadline });
            }
            let number = stream.next;
            let span = &reader.spans[number];
            stream.fill(reader, span)?;
            if SpanDigest::of(&stream.buffer) != span.digest {
                return Err(Error::Mismatch { what: reader.what(), at: span.start });
            }
            reader.shared.put(span, &stream.buffer);
            stream.next += 1;
            if number == at {
                let bytes = stream.buffer.clone();
                // A finished stream holds a connection for nothing.
                self.stream = (stream.next < reader.spans.len()).then_some(stream);
                return Ok(bytes);
            }
        }
    }
}

/// A layer being decompressed from its start.
struct Stream {
    body: Body,
    decoder: Decoder,
    input: Vec<u8>,
    /// Unread part of `input`.
    unread: std::ops::Range<usize>,
    /// The last span's bytes.
    buffer: Vec<u8>,
    /// The span that comes next.
    next: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Stream {
    fn open(reader: &BlobReader) -> Result<Stream, Error> {
        let mut body = reader.source.blob(&reader.descriptor, 0)?;
        let mut input = vec![0; CHUNK_BYTES];
        let mut seen = 0;
        while seen < SNIFF_BYTES {
            match read_some(&mut body, &mut input[seen..]) {
                Ok(0) => break,
                Ok(n) => seen += n,
                Err(source) => return Err(Error::Read { what: reader.what(), source }),
            }
        }
        let codec = |source| Error::Codec { what: reader.what(), source };
        let compression = Compression::sniff(&input[..seen]).map_err(codec)?;
        let decoder = Decoder::new(compression).map_err(codec)?;
        Ok(Stream { body, decoder, input, unread: 0..seen, buffer: Vec::new(), next: 0 })
    }

    /// Decompresses the next span into the buffer.
    fn fill(&mut self, reader: &BlobReader, span: &Span) -> Result<(), Error> {
        self.buffer.resize(span.length as usize, 0);
        let mut filled = 0;
        while filled < self.buffer.len() {
            let input = &self.input[self.unread.clone()];
            let progress = self
                .decoder
                .decode(input, &mut self.buffer[filled..])
                .map_err(|source| Error::Codec { what: reader.what(), source })?;
            self.unread.start += progress.consumed;
            filled += progress.produced;
            if progress.consumed == 0 && progress.produced == 0 {
                let n = read_some(&mut self.body, &mut self.input)
                    .map_err(|source| Error::Read { what: reader.what(), source })?;
                if n == 0 {
                    return Err(Error::Short { what: reader.what(), at: span.start });
                }
                self.unread = 0..n;
            }
        }
        Ok(())
    }
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

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, left: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
}
