//! Opening a layer: its index from the cache, or made by one streamed pass.
//!
//! # The first pass
//!
//! A layer seen for the first time is downloaded once, and everything is done on the way, in three
//! stages with bounded queues between them:
//!
//! ```text
//! fetch thread    source -> hash of the blob, size -> chunks
//! inflate thread  chunks -> decompress -> spans of 1 MiB
//! this thread     spans -> diff ID, tar entries, hash of each file, span digest -> cache
//! ```
//!
//! On two cores the stages balance (inflating costs as much as all the hashing after it), and layers
//! run side by side besides. Memory is a few MiB a layer whatever its size.
//!
//! # Invariants
//!
//! - The index is published only when blob digest, size, diff ID and the tar itself have proven
//!   right; spans that a failed pass has written are removed again.
//! - When several things are wrong the most telling is reported: a blob that is not what its digest
//!   says, rather than the decoder's complaint about it.
//! - A layer that unpacks to absurdly much is refused while it streams.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::cache::{Cache, LayerName};
use crate::codec::{self, Compression, Decoder};
use crate::digest::{DiffId, Digest, Hasher, SpanDigest, VerifyError, VerifyingReader};
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::index::{self, Builder, DecodeError, Identity, LayerIndex, Proof, Restart, Span};
use crate::resolve::ResolvedLayer;
use crate::source::{self, Body, Source};
use crate::tar::Parser;

/// Length of a span in uncompressed bytes.
pub const SPAN_BYTES: usize = 1 << 20;

/// Bytes of the blob handed on at a time, and how many such chunks may wait.
const CHUNK_BYTES: usize = 128 << 10;
const QUEUED_CHUNKS: usize = 4;

/// Spans that may wait between inflating and hashing.
const QUEUED_SPANS: usize = 2;

/// Why a layer can't be used.
#[derive(Debug, thiserror::Error)]
#[error("layer {digest}: {kind}")]
pub struct Error {
    /// The blob.
    pub digest: Digest,
    /// What is wrong with it.
    #[source]
    pub kind: ErrorKind,
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ErrorKind {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("reading it failed: {0}")]
    Read(std::io::Error),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Index(#[from] index::Error),
    #[error(transparent)]
    Inconsistent(#[from] DecodeError),
    #[error("its content does not match the diff ID in the config: expected {expected}, got {got}")]
    DiffId { expected: DiffId, got: DiffId },
    #[error(
        "it unpacks to more than {limit} bytes, far more than {blob} compressed bytes should; \
         raise --max-layer-size if you trust it"
    )]
    TooLarge { limit: u64, blob: u64 },
    #[error("it is not in the cache; mount the image once without --offline")]
    Offline,
    #[error("a worker thread died")]
    Worker,
}

/// Hears how a first pass goes on. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// The image has `layers` layers, of which `to_fetch` with `bytes` compressed bytes are new.
    fn start(&self, layers: usize, to_fetch: usize, bytes: u64) {
        let _ = (layers, to_fetch, bytes);
    }

    /// Compressed bytes were taken in.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A new layer is indexed.
    fn layer_done(&self) {}
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {}

/// Limits and switches for opening layers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fetch nothing from a remote source.
    pub offline: bool,
    /// Most uncompressed bytes of one layer; the default depends on the blob's size.
    pub max_uncompressed_bytes: Option<u64>,
    /// Layers passed over at the same time.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { offline: false, max_uncompressed_bytes: None, parallel: 4 }
    }
}

/// Opens all layers of an image, base first.
///
/// # Errors
/// The first error of any layer; the others are stopped at their next layer.
pub fn open_all(
    layers: &[ResolvedLayer],
    source: &Arc<dyn Source>,
    cache: &Cache,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Arc<LayerIndex>>, Error> {
    // One layer may stand in an image many times: it is opened once.
    let mut indexes: HashMap<LayerKey, Arc<LayerIndex>> = HashMap::new();
    let mut missing: Vec<usize> = Vec::new();
    let mut seen = HashSet::new();
    for (at, layer) in layers.iter().enumerate() {
        if seen.insert(layer_key(layer)) {
            match cached(layer, cache) {
                Some(index) => drop(indexes.insert(layer_key(layer), Arc::new(index))),
                None => missing.push(at),
            }
        }
    }
    let sizes = missing.iter().map(|at| layers[*at].descriptor.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    progress.start(layers.len(), missing.len(), bytes);
    // Large layers first, so that none of them is left to run alone at the end.
    missing.sort_by_key(|at| std::cmp::Reverse(layers[*at].descriptor.size));
    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..options.parallel.clamp(1, missing.len().max(1)) {
            let (sender, next, missing) = (sender.clone(), &next, &missing);
            scope.spawn(move || {
                while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result =
                        first_pass(&layers[*at], source.as_ref(), cache, options, progress);
                    if result.is_err() {
                        next.store(missing.len(), Ordering::Relaxed);
                    }
                    // The receiver lives until all threads have ended.
                    let _ = sender.send((*at, result));
                }
            });
        }
    });
    drop(sender);
    for (at, result) in receiver {
        indexes.insert(layer_key(&layers[at]), Arc::new(result?));
    }
    layers
        .iter()
        .map(|layer| {
            let digest = layer.descriptor.digest;
            let index = indexes.get(&layer_key(layer)).cloned();
            index.ok_or(Error { digest, kind: ErrorKind::Worker })
        })
        .collect()
}

/// What makes two layers the same: both digests, as each promises something of its own.
type LayerKey = (Digest, DiffId);

fn layer_key(layer: &ResolvedLayer) -> LayerKey {
    (layer.descriptor.digest, layer.diff_id)
}

/// The index from the cache: by blob digest, or by diff ID, as the config binds that just as well.
fn cached(layer: &ResolvedLayer, cache: &Cache) -> Option<LayerIndex> {
    let (digest, diff_id) = (layer.descriptor.digest, layer.diff_id);
    let names = [LayerName::Blob(digest), LayerName::DiffId(diff_id)];
    for name in names {
        let Some(file) = cache.layer_index(&name) else { continue };
        match LayerIndex::decode(&file) {
            Ok(index) if index.diff_id() == diff_id && index.proof() == Proof::Full => {
                return Some(index);
            }
            Ok(_) => log::debug!("layer {digest}: the index in the cache is of another layer"),
            Err(e) => cache.discard_layer_index(&name, &e.to_string()),
        }
    }
    None
}

/// Streams a layer once: checks everything, indexes it, and fills the cache.
fn first_pass(
    layer: &ResolvedLayer,
    source: &dyn Source,
    cache: &Cache,
    options: &Options,
    progress: &dyn Progress,
) -> Result<LayerIndex, Error> {
    let descriptor = &layer.descriptor;
    let error = |kind| Error { digest: descriptor.digest, kind };
    if options.offline && source.is_remote() {
        return Err(error(ErrorKind::Offline));
    }
    let opened = source.blob(descriptor, 0..descriptor.size).map_err(|e| error(e.into()))?;
    let mut written = Vec::new();
    let result =
        pipeline(layer, opened.body, cache, options.max_uncompressed_bytes, &mut written, progress);
    match result {
        Ok(index) => {
            cache.put_layer_index(&descriptor.digest, &layer.diff_id, &index.encode());
            progress.layer_done();
            Ok(index)
        }
        Err(kind) => {
            for span in written {
                cache.discard_span(&span, "its layer did not prove right");
            }
            Err(error(kind))
        }
    }
}

fn pipeline(
    layer: &ResolvedLayer,
    body: Body,
    cache: &Cache,
    limit: Option<u64>,
    written: &mut Vec<SpanDigest>,
    progress: &dyn Progress,
) -> Result<LayerIndex, ErrorKind> {
    let descriptor = &layer.descriptor;
    let (chunk_sender, chunks) = sync_channel(QUEUED_CHUNKS);
    let (span_sender, spans) = sync_channel(QUEUED_SPANS);
    let (used_sender, used) = sync_channel(QUEUED_SPANS);
    thread::scope(|scope| {
        let reader = VerifyingReader::new(body, descriptor.digest, descriptor.size);
        let fetch = scope.spawn(move || fetch(reader, &chunk_sender, progress));
        let inflate = scope.spawn(move || inflate(&chunks, &span_sender, &used, limit));
        let indexed = index_spans(&spans, &used_sender, layer.diff_id, cache, written);
        // From here on nobody takes spans: the inflating thread ends at its next one.
        drop(spans);
        drop(used_sender);
        let inflated = inflate.join().map_err(|_| ErrorKind::Worker)?;
        let fetched = fetch.join().map_err(|_| ErrorKind::Worker)?;
        // The cause before its consequences.
        fetched?;
        let (compression, (builder, diff_id, uncompressed_size)) = match (inflated, indexed) {
            (Err(Stopped::Error(kind)), _) | (_, Err(kind)) => return Err(kind),
            (Err(Stopped::Receiver), Ok(_)) => return Err(ErrorKind::Worker),
            (Ok(compression), Ok(indexed)) => (compression, indexed),
        };
        if diff_id != layer.diff_id {
            return Err(ErrorKind::DiffId { expected: layer.diff_id, got: diff_id });
        }
        Ok(builder.finish(Identity {
            blob: descriptor.digest,
            blob_size: descriptor.size,
            diff_id,
            uncompressed_size,
            compression,
            proof: Proof::Full,
        })?)
    })
}

/// Why a stage ended early.
enum Stopped {
    Error(ErrorKind),
    /// The next stage takes no more.
    Receiver,
}

impl<E: Into<ErrorKind>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Error(error.into())
    }
}

/// Stage 1: reads the blob to its end, whatever becomes of the chunks, because only its digest
/// tells a broken layer from a broken download.
fn fetch(
    mut reader: VerifyingReader<Body>,
    chunks: &SyncSender<Vec<u8>>,
    progress: &dyn Progress,
) -> Result<(), ErrorKind> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match reader.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    progress.advance(n as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(match e.downcast::<VerifyError>() {
                        Ok(verify) => verify.into(),
                        Err(e) => ErrorKind::Read(e),
                    });
                }
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        // A stage that stopped says why itself.
        let _ = chunks.send(chunk);
    }
}

/// Stage 2: decompresses into buffers of one span each.
fn inflate(
    chunks: &Receiver<Vec<u8>>,
    spans: &SyncSender<Vec<u8>>,
    used: &Receiver<Vec<u8>>,
    limit: Option<u64>,
) -> Result<Compression, Stopped> {
    let mut chunk = chunks.recv().unwrap_or_default();
    // Chunks are full but for the last: a first one shorter than the magic is the whole blob.
    let compression = Compression::sniff(&chunk).map_err(ErrorKind::from)?;
    let mut decoder = Decoder::new(compression).map_err(ErrorKind::from)?;
    let mut span = vec![0; SPAN_BYTES];
    let (mut filled, mut total, mut blob) = (0, 0u64, 0u64);
    loop {
        let mut unread = &chunk[..];
        loop {
            let progress = decoder.decode(unread, &mut span[filled..]).map_err(ErrorKind::from)?;
            unread = &unread[progress.consumed..];
            filled += progress.produced;
            total += progress.produced as u64;
            blob += progress.consumed as u64;
            let limit = limit.unwrap_or(codec::plausible_uncompressed_bytes(blob));
            if total > limit {
                return Err(ErrorKind::TooLarge { limit, blob }.into());
            }
            if filled == SPAN_BYTES {
                let fresh = used.try_recv().unwrap_or_else(|_| vec![0; SPAN_BYTES]);
                let full = std::mem::replace(&mut span, fresh);
                spans.send(full).map_err(|_| Stopped::Receiver)?;
                filled = 0;
            } else if progress.consumed == 0 && progress.produced == 0 {
                break;
            }
        }
        chunk = match chunks.recv() {
            Ok(chunk) => chunk,
            Err(_) => break,
        };
    }
    decoder.finish().map_err(ErrorKind::from)?;
    if filled > 0 {
        span.truncate(filled);
        spans.send(span).map_err(|_| Stopped::Receiver)?;
    }
    Ok(compression)
}

/// Stage 3: parses and hashes.
fn index_spans(
    spans: &Receiver<Vec<u8>>,
    used: &SyncSender<Vec<u8>>,
    expected: DiffId,
    cache: &Cache,
    written: &mut Vec<SpanDigest>,
) -> Result<(Builder, DiffId, u64), ErrorKind> {
    let mut builder = Builder::new();
    let mut parser = Parser::new();
    let mut diff_id = Hasher::new(expected.0.algorithm());
    let mut start = 0;
    for bytes in spans {
        diff_id.update(&bytes);
        parser.feed(&bytes, &mut builder)?;
        let digest = SpanDigest::of(&bytes);
        builder.span(&Span {
            start: UncompressedOffset(start),
            length: bytes.len() as u32,
            compressed_start: CompressedOffset(0),
            restart: Restart::FromStart,
            digest,
        });
        if cache.put_span(&digest, &bytes) {
            written.push(digest);
        }
        start += bytes.len() as u64;
        if bytes.len() == SPAN_BYTES {
            // If the queue is full there are buffers enough.
            let _ = used.try_send(bytes);
        }
    }
    parser.finish().map_err(index::Error::from)?;
    Ok((builder, DiffId(diff_id.finish()), start))
}
