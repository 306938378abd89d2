//! The index of a plain tar from its headers alone, for who asks for it.
//!
//! # Problem
//!
//! A layer that holds a model, not compressed, is some headers and a few gigabytes between them. A first pass streams
//! all of it before anything is shown, because only its digest proves it. Who would rather have it at once, and
//! proven later, needs the headers only.
//!
//! # Design
//!
//! The parser of the first pass is fed *stretches*, each by one range request, and skips content of which the
//! length is known. The next stretch begins where the next header does; as long as files are small, stretches grow, so
//! that what is skipped between them costs no request. What is here of the blob from a mount before is taken from
//! the cache.
//!
//! A layer is worth it if it is its own diff ID (so it is no compressed one, and not a byte of those is fetched in vain) and
//! has [`MIN_LAYER_BYTES`]. Where files turn out to be small it is given up soon ([`Allowance`]): the first pass then
//! streams the layer as if nothing had been. So it does whenever anything is odd: a server without ranges, an answer that is
//! too short or too long, a damaged tar, a file that ends past the blob. It finds out what is wrong and says it.
//!
//! What comes of it proves nothing ([`Proof::Transport`](crate::index::Proof::Transport)) and is kept nowhere: the headers
//! are walked again for each mount, until all of the layer has come and was proven (`blob::proving`). Then its index is
//! one that is found in the cache.
//!
//! Rejected: keeping the headers in the cache. Bytes that nothing verifies would be shown from there when their source
//! has long been corrected, and a walk over a layer for which this pays takes some round trips.
//!
//! Rejected: several stretches at a time. Where the next header is, the one before says.
//!
//! # Invariants
//!
//! - Time and memory are bounded: [`MAX_REQUESTS`], [`MAX_TIME`], [`MAX_STRETCH_BYTES`] at a time, and of metadata what the
//!   image's budget allows for the bytes that came.
//! - The same bytes give the same tables as in a first pass: same parser, same builder.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lookup::own_name;
use crate::artifact::ShownAs;
use crate::blob::arrived_spans;
use crate::cache::{ArrivedSpans, Cache};
use crate::codec::{self, Compression};
use crate::digest::{Algorithm, DiffId};
use crate::index::{self, Budget, Builder, LayerIndex, PlainTarError, Span, plain_spans};
use crate::resolve::ResolvedLayer;
use crate::source::{self, Source};
use crate::tar::{self, BLOCK_BYTES, Parser};
use crate::toc;

/// Smallest layer whose headers are walked, in bytes: less comes in about as long as some round trips take.
const MIN_LAYER_BYTES: u64 = 16 << 20;

/// A stretch behind a large file, and the longest one where files are small.
const STRETCH_BYTES: u64 = 32 << 10;
const MAX_STRETCH_BYTES: u64 = 1 << 20;

/// Content of this length or more between two headers is skipped for the price of a request.
const LARGE_FILE_BYTES: u64 = 1 << 20;

/// Requests of one walk, and the time that it takes, at most. The last request may take as long as any.
const MAX_REQUESTS: u64 = 4096;
const MAX_TIME: Duration = Duration::from_secs(60);

/// Why headers alone do not do.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it begins with no header of a tar")]
    NoTar,
    #[error("its files are small")]
    SmallFiles,
    #[error("its headers come slowly")]
    Slow,
    #[error("the server sends everything")]
    NoRanges,
    #[error("{0} bytes came where {1} were asked for")]
    Length(u64, u64),
    #[error("a file ends past the end of the layer")]
    PastEnd,
    #[error("another layer has failed")]
    Stopped,
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Index(#[from] index::Error),
    #[error(transparent)]
    PlainTar(#[from] PlainTarError),
}

impl From<tar::Error> for Refusal {
    fn from(error: tar::Error) -> Refusal {
        Refusal::Index(error.into())
    }
}

/// A walk over the headers of a layer.
pub(super) struct HeaderWalk<'a> {
    pub(super) layer: &'a ResolvedLayer,
    pub(super) source: &'a dyn Source,
    pub(super) cache: &'a Cache,
    pub(super) budget: &'a Arc<Budget>,
    /// Set when another layer of the image has failed.
    pub(super) stop: &'a AtomicBool,
}

impl HeaderWalk<'_> {
    /// The index, if the headers alone say it.
    pub(super) fn run(&self) -> Option<LayerIndex> {
        if !self.is_worth() {
            return None;
        }
        let digest = self.layer.descriptor.digest;
        match self.walk() {
            Ok(index) => {
                log::info!("layer {digest}: shown by its headers, to be proven later");
                Some(index)
            }
            Err(why) => {
                log::info!("layer {digest}: streamed, as its headers alone do not do: {why}");
                None
            }
        }
    }

    /// Whether it may be a large tar that is not compressed, and that costs a network.
    fn is_worth(&self) -> bool {
        let ResolvedLayer { descriptor, diff_id, shown, .. } = self.layer;
        let is_plain = match diff_id {
            Some(diff_id) => *diff_id == DiffId(descriptor.digest),
            None => descriptor.digest.algorithm() == Algorithm::Sha256,
        };
        is_plain
            && matches!(shown, ShownAs::Tree { .. })
            && descriptor.size >= MIN_LAYER_BYTES
            && self.source.is_remote()
            && !self.source.is_offline()
            && self.source.local_copy(descriptor).is_none()
            && toc::promise(descriptor).is_none()
    }

    fn walk(&self) -> Result<LayerIndex, Refusal> {
        let (blob, size) = (self.layer.descriptor.digest, self.layer.descriptor.size);
        let mut stretches = Stretches::new(self)?;
        let mut listed = Listed { builder: Builder::within(Arc::clone(self.budget)), size };
        let mut parser = Parser::new();
        let (mut at, mut length) = (0, STRETCH_BYTES);
        while at < size {
            let bytes = stretches.read(at..size.min(at + length))?;
            if at == 0 && !is_plain_tar(&bytes) {
                return Err(Refusal::NoTar);
            }
            parser.feed(&bytes, &mut listed)?;
            at += bytes.len() as u64;
            let skipped = skip(&mut parser, size - at, &mut listed);
            at += skipped;
            length = match skipped {
                LARGE_FILE_BYTES.. => STRETCH_BYTES,
                _ => MAX_STRETCH_BYTES.min(2 * length),
            };
        }
        parser.finish()?;
        Ok(listed.builder.finish_headers(blob, size)?)
    }
}

/// Has a parser skip all that it can; how many bytes that are.
pub(super) fn skip<S: tar::Sink>(parser: &mut Parser, most: u64, sink: &mut S) -> u64 {
    let mut skipped = 0;
    loop {
        // Content, and then the padding behind it.
        match parser.skip(most - skipped, sink) {
            0 => return skipped,
            n => skipped += n,
        }
    }
}

fn is_plain_tar(start: &[u8]) -> bool {
    let sniffed = Compression::sniff(&start[..codec::SNIFF_BYTES.min(start.len())]);
    matches!(sniffed, Ok(Compression::None)) && start.get(..BLOCK_BYTES).is_some_and(tar::is_header)
}

/// Parts of the blob, from the cache or by request.
struct Stretches<'a> {
    walk: &'a HeaderWalk<'a>,
    spans: Vec<Span>,
    arrived: ArrivedSpans,
    used: Allowance,
    started: Instant,
}

/// What was fetched, and how much may be.
///
/// For each 4 MiB that the walk has come on it may have made one request, and it may have fetched a sixteenth of them; some
/// requests and 1 MiB besides, and a 256th of the layer, so that many small files at its beginning do not end it. So a layer
/// of small files costs little more than a mebibyte in vain.
struct Allowance {
    size: u64,
    requests: u64,
    bytes: u64,
}

impl Allowance {
    const FREE_REQUESTS: u64 = 12;
    const FREE_BYTES: u64 = 1 << 20;
    const BYTES_PER_REQUEST: u64 = 4 << 20;

    /// Counts a request at a place.
    fn draw(&mut self, range: &Range<u64>) -> Result<(), Refusal> {
        self.requests += 1;
        self.bytes += range.end - range.start;
        let most = Allowance::FREE_REQUESTS + range.start / Allowance::BYTES_PER_REQUEST;
        let most_bytes = Allowance::FREE_BYTES + self.size / 256 + range.start / 16;
        match self.requests <= most.min(MAX_REQUESTS) && self.bytes <= most_bytes {
            true => Ok(()),
            false => Err(Refusal::SmallFiles),
        }
    }
}

impl<'a> Stretches<'a> {
    fn new(walk: &'a HeaderWalk<'a>) -> Result<Stretches<'a>, Refusal> {
        let (blob, size) = (walk.layer.descriptor.digest, walk.layer.descriptor.size);
        let spans = plain_spans(size)?;
        let most = walk.budget.limit_with(size);
        let arrived = arrived_spans(walk.cache, &blob, &spans, (&own_name(walk.layer), most));
        let used = Allowance { size, requests: 0, bytes: 0 };
        Ok(Stretches { walk, spans, arrived, used, started: Instant::now() })
    }

    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, Refusal> {
        if let Some(bytes) = self.kept(&range) {
            return Ok(bytes);
        }
        if self.walk.stop.load(Ordering::Relaxed) {
            return Err(Refusal::Stopped);
        }
        self.used.draw(&range)?;
        if self.started.elapsed() > MAX_TIME {
            return Err(Refusal::Slow);
        }
        let descriptor = &self.walk.layer.descriptor;
        let opened = self.walk.source.blob(descriptor, range.clone())?;
        if (opened.start, opened.end) != (range.start, range.end) {
            return Err(Refusal::NoRanges);
        }
        let length = range.end - range.start;
        let mut bytes = Vec::with_capacity(length as usize);
        // One more, if there is one.
        opened.body.take(length + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(Refusal::Length(bytes.len() as u64, length));
        }
        self.walk.budget.has_read(descriptor.digest, self.used.bytes);
        Ok(bytes)
    }

    /// The bytes of a range that have come before, and are in the cache.
    fn kept(&self, range: &Range<u64>) -> Option<Vec<u8>> {
        let first = self.spans.partition_point(|span| span.end() <= range.start);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut rest = &mut bytes[..];
        for (at, span) in self.spans.iter().enumerate().skip(first) {
            if rest.is_empty() {
                break;
            }
            let digest = self.arrived.digest(at)?;
            let offset = range.start.saturating_sub(span.start.0) as u32;
            let length = rest.len().min((span.length - offset) as usize);
            let (part, after) = rest.split_at_mut(length);
            let file = self.walk.cache.span(&digest, span.length)?;
            file.read_at(part, offset).ok().filter(|is_here| *is_here)?;
            rest = after;
        }
        Some(bytes)
    }
}

/// Takes entries without content.
struct Listed {
    builder: Builder,
    size: u64,
}

impl tar::Sink for Listed {
    type Error = Refusal;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), Refusal> {
        let end = entry.runs.iter().map(|run| run.start.0.saturating_add(run.length)).max();
        if end.is_some_and(|end| end > self.size) {
            return Err(Refusal::PastEnd);
        }
        Ok(self.builder.listed(entry, None)?)
    }

    fn content(&mut self, _: &[u8]) {}

    fn end(&mut self) {}
}
