//! Opening a layer: its index from the cache, from others, or made by one streamed pass.
//!
//! # The first pass
//!
//! A layer seen for the first time is downloaded once, and everything is done on the way, in four
//! stages with bounded queues between them:
//!
//! ```text
//! fetch thread    source -> hash of the blob, size -> chunks
//! inflate thread  chunks -> decompress -> spans of 1 to 2.5 MiB, and how each can be begun at
//! this thread     spans -> diff ID, tar entries, hash of each file
//! keep thread     the same spans -> span digest, window -> cache
//! ```
//!
//! No stage costs more than inflating, so that a layer takes as long as that where there are
//! processors enough, and layers run side by side besides. Memory is a few MiB a layer whatever its
//! size.
//!
//! # Where spans begin
//!
//! A span ends at the first place where decoding can begin again after 2.5 MiB of output or 512 KiB
//! of input: the end of a deflate block, a gzip member or a zstd frame. A member or frame ends it from
//! half of that on, because it needs no window. Where nothing comes for 4 MiB the span ends anyway,
//! and the next one can only be had by decoding this one first ([`Restart::Continues`]): a zstd
//! layer of a single frame is one long row of these. The
//! windows then take about half a percent of a gzip layer, and a cold read fetches half a megabyte;
//! at half the distance both numbers change places. (Placing checkpoints just before files was
//! measured and left: it saves 3 % of what is decoded at this distance.)
//!
//! # Invariants
//!
//! - The index is published only when blob digest, size, diff ID and the tar itself have proven
//!   right; spans that a failed pass has written are removed again.
//! - A resumed download that turns out wrong is made once more from its start: what was kept on
//!   disk may be to blame, and the user can do nothing about it.
//! - When several things are wrong the most telling is reported: a blob that is not what its digest
//!   says, rather than the decoder's complaint about it.
//! - A layer that unpacks to absurdly much is refused while it streams.

mod opened;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::blob;
use crate::cache::{Cache, LayerName, Partial};
use crate::codec::{self, Boundary, Compression, Decoder, WINDOW_BYTES, window};
use crate::digest::{Algorithm, DiffId, Digest, Hasher, SpanDigest, VerifyError, VerifyingReader};
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::external::{self, Found, IndexFinder};
use crate::hint::Hint;
use crate::index::{
    self, Budget, Builder, Check, DecodeError, Identity, LayerIndex, Proof, Restart, Span,
};
use crate::oci::Descriptor;
use crate::resolve::ResolvedLayer;
use crate::source::{self, Body, Source};
use crate::tar::{self, Parser};
use crate::toc;

pub use opened::OpenedLayers;

/// A span ends at the first boundary after so many uncompressed bytes ...
pub const SPAN_BYTES: usize = 5 << 19;

/// ... or so many compressed ones: what a cold read of a small file has to fetch.
const SPAN_COMPRESSED_BYTES: u64 = 512 << 10;

/// Length of a span of a plain tar, where every place is a boundary.
const PLAIN_SPAN_BYTES: usize = 512 << 10;

/// Longest span. Deflate blocks of real layers are below 1.5 MiB.
const MAX_SPAN_BYTES: usize = 4 << 20;

/// Bytes of the blob handed on at a time, and how many such chunks may wait.
const CHUNK_BYTES: usize = 128 << 10;
const QUEUED_CHUNKS: usize = 4;

/// Zeros at the end of a tar that may be missing, in bytes. Tars are padded to whole records, of 10 KiB
/// with most writers and of 64 KiB with the largest usual ones.
const MAX_MISSING_PADDING: u32 = 1 << 20;

/// Smallest blob of which an interrupted download is kept, in bytes.
const MIN_KEPT_BYTES: u64 = 8 << 20;

/// Spans that may wait for the stages behind inflating.
const QUEUED_SPANS: usize = 1;

/// Why a layer can't be used.
#[derive(Debug, thiserror::Error)]
#[error("layer {digest}: {kind}")]
pub struct Error {
    /// The blob.
    pub digest: Digest,
    /// What is wrong with it.
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
    #[error("it unpacks to more than {limit} bytes, far more than {blob} compressed bytes should")]
    TooLarge { limit: u64, blob: u64 },
    #[error("it is not in the cache")]
    Offline,
    #[error(
        "a proof of what it holds is not in the cache: for that all of it has to be streamed once"
    )]
    OfflineUnproven,
    #[error(
        "it is a foreign layer: it is not where the image is, but may be had from {url}, and nothing \
         is fetched from addresses that an image names"
    )]
    Foreign { url: String },
    #[error("its content is no tar but {0}")]
    NotTar(&'static str),
    #[error(
        "it has a table of contents, but what it unpacks to is no tar: a runtime sees no file of it"
    )]
    NoTarBehindTable,
    #[error("it is compressed twice: what it unpacks to is no tar but {0}")]
    CompressedTwice(&'static str),
    #[error("no thread can be started for it: {0}")]
    Thread(io::Error),
    #[error("a worker thread died")]
    Worker,
}

impl ErrorKind {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ErrorKind::Source(error) => error.hint(),
            ErrorKind::Read(error) => source::hint_of(error),
            ErrorKind::Codec(error) => error.hint(),
            ErrorKind::Index(error) => error.hint(),
            ErrorKind::TooLarge { .. } => Some(Hint::AllowLargerLayers),
            ErrorKind::Offline => Some(Hint::GoOnline),
            ErrorKind::OfflineUnproven => Some(Hint::GoOnlineOrUnproven),
            _ => None,
        }
    }
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
    /// Take no index but one that proves everything: what is not proven is streamed.
    pub prove: bool,
    /// Take no index of the same tar in another blob, which the image's repository may not have.
    pub only_its_blob: bool,
    /// Stream all that is not open already, whatever is in the cache, whose spans are compared with what comes.
    pub again: bool,
    /// Fetch nothing from a remote source.
    pub offline: bool,
    /// Most uncompressed bytes of one layer; the default depends on the blob's size.
    pub max_uncompressed_bytes: Option<u64>,
    /// What decompressing may cost. With more than the default layers are passed over one at a time.
    pub codec: codec::Limits,
    /// Layers passed over at the same time.
    pub parallel: usize,
    /// Keep the bytes that a first pass has seen, for those who will read them.
    pub keep_spans: bool,
}

impl Options {
    fn parallel(&self) -> usize {
        match self.codec.zstd_window_log > codec::DEFAULT_ZSTD_WINDOW_LOG {
            true => 1,
            false => self.parallel,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prove: false,
            only_its_blob: false,
            again: false,
            offline: false,
            max_uncompressed_bytes: None,
            codec: codec::Limits::default(),
            parallel: 4,
            keep_spans: true,
        }
    }
}

/// A layer that can be shown.
#[derive(Clone, Debug)]
pub struct OpenLayer {
    /// Its index.
    pub index: Arc<LayerIndex>,
    /// The index's name in the cache.
    pub name: LayerName,
}

impl OpenLayer {
    /// Files that the writer of an eStargz layer added for itself are hidden, whichever way the
    /// index was made.
    fn new(index: LayerIndex, name: LayerName, layer: &ResolvedLayer) -> OpenLayer {
        let index = match toc::promise(&layer.descriptor) {
            Some(promise) => index.without_bookkeeping(&promise),
            None => index,
        };
        OpenLayer { index: Arc::new(index), name }
    }
}

/// Opens all layers of an image, base first; those that are `known` are open already.
///
/// # Errors
/// The first error of any layer; the others are stopped.
pub fn open_all(
    layers: &[ResolvedLayer],
    source: &Arc<dyn Source>,
    cache: &Cache,
    finder: &IndexFinder,
    known: &OpenedLayers,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<OpenLayer>, Error> {
    // One layer may stand in an image many times: it is opened once.
    let mut opened: HashMap<LayerKey, OpenLayer> = HashMap::new();
    let mut missing: Vec<&ResolvedLayer> = Vec::new();
    let mut seen = HashSet::new();
    for layer in layers {
        if seen.insert(layer_key(layer)) {
            let open = known.get(layer, finder);
            let cached = || cached(layer, cache, finder, options);
            match open.or_else(|| if options.again { None } else { cached() }) {
                Some(open) => drop(opened.insert(layer_key(layer), open)),
                None => missing.push(layer),
            }
        }
    }
    // When one layer fails, the others are stopped.
    let stop = AtomicBool::new(false);
    let pass = |layer: &ResolvedLayer, progress: &dyn Progress| {
        let hearing = Hearing { progress, stop: &stop };
        let budget = finder.budget();
        let index = first_pass(layer, source.as_ref(), cache, budget, options, hearing);
        let index = index.map_err(|mut e| {
            let unproven = Options { prove: false, ..options.clone() };
            let is_known = || cached(layer, cache, finder, &unproven).is_some();
            if matches!(e.kind, ErrorKind::Offline) && options.prove && is_known() {
                e.kind = ErrorKind::OfflineUnproven;
            }
            e
        })?;
        let name = LayerName::Blob(layer.descriptor.digest);
        Ok(OpenLayer::new(index, name, layer))
    };
    if !options.prove {
        let find = |layer: &ResolvedLayer| match find(layer, cache, finder) {
            // The smallest come along with the indexes of the others.
            None if layer.descriptor.size < external::MIN_LAYER_BYTES => {
                pass(layer, &Quiet).map(Some)
            }
            found => Ok(found),
        };
        for (layer, found) in in_parallel(&missing, options.parallel(), &stop, &find)? {
            found.map(|open| opened.insert(layer_key(layer), open));
        }
        missing.retain(|layer| !opened.contains_key(&layer_key(layer)));
    }
    let sizes = missing.iter().map(|layer| layer.descriptor.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    progress.start(layers.len(), missing.len(), bytes);
    // Large layers first, so that none of them is left to run alone at the end.
    missing.sort_by_key(|layer| std::cmp::Reverse(layer.descriptor.size));
    let pass = |layer: &ResolvedLayer| pass(layer, progress);
    for (layer, open) in in_parallel(&missing, options.parallel(), &stop, &pass)? {
        opened.insert(layer_key(layer), open);
    }
    layers
        .iter()
        .map(|layer| {
            let digest = layer.descriptor.digest;
            let open = opened.get(&layer_key(layer)).cloned();
            open.ok_or(Error { digest, kind: ErrorKind::Worker })
        })
        .collect()
}

/// Who hears of a first pass, and whether it is still wanted.
#[derive(Clone, Copy)]
struct Hearing<'a> {
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

/// Does something for each layer, on up to `parallel` threads, until it fails for one: then `stop` is
/// set for the others.
fn in_parallel<'a, T: Send>(
    layers: &[&'a ResolvedLayer],
    parallel: usize,
    stop: &AtomicBool,
    act: &(dyn Fn(&ResolvedLayer) -> Result<T, Error> + Sync),
) -> Result<Vec<(&'a ResolvedLayer, T)>, Error> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, layers.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = act(layer);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        next.store(layers.len(), Ordering::Relaxed);
                    }
                    // The receiver lives until all threads have ended.
                    let _ = sender.send(result.map(|value| (*layer, value)));
                }
            });
        }
    });
    drop(sender);
    receiver.into_iter().collect()
}

/// An index that others made, from outside of the cache.
fn find(layer: &ResolvedLayer, cache: &Cache, finder: &IndexFinder) -> Option<OpenLayer> {
    let Found { index, name } = finder.find(layer)?;
    log::info!("layer {}: {} index of others", layer.descriptor.digest, index.proof().name());
    cache.put_external_index(&name, &index.encode());
    Some(OpenLayer::new(index, name, layer))
}

/// What makes two layers the same: both digests, as each promises something of its own.
type LayerKey = (Digest, DiffId);

fn layer_key(layer: &ResolvedLayer) -> LayerKey {
    (layer.descriptor.digest, layer.diff_id)
}

/// The index from the cache: by blob digest, or by diff ID, as the config binds that just as well
/// ([`Proof::Tar`]); or, unless everything has to be proven, one that others made. Asks nobody.
pub fn cached(
    layer: &ResolvedLayer,
    cache: &Cache,
    finder: &IndexFinder,
    options: &Options,
) -> Option<OpenLayer> {
    let (digest, diff_id) = (layer.descriptor.digest, layer.diff_id);
    let Options { prove, only_its_blob, .. } = *options;
    let load = |name: LayerName, is_right: &dyn Fn(&LayerIndex) -> bool| {
        let file = cache.layer_index(&name, finder.budget().limit())?;
        match LayerIndex::decode(&file) {
            Ok(index) if index.diff_id() == diff_id && is_right(&index) => {
                // Streaming the layer says what is wrong.
                index.draw_on(finder.budget()).ok()?;
                // A tar that is not compressed is its own blob.
                let is_seen = index.blob() == digest || diff_id.0 == digest;
                let index = match index.proof() {
                    Proof::Full if !is_seen => index.with_proof(Proof::Tar),
                    _ => index,
                };
                return Some(OpenLayer::new(index, name, layer));
            }
            Ok(_) => log::debug!("layer {digest}: the index in the cache is of another layer"),
            Err(e) => cache.discard_layer_index(&name, &e.to_string()),
        }
        None
    };
    let is_proven = |index: &LayerIndex| {
        index.proof() == Proof::Full
            && (index.blob() == digest || (index.is_of_tar() && !prove && !only_its_blob))
    };
    let own = [LayerName::Blob(digest), LayerName::DiffId(diff_id)];
    let own = own.into_iter().find_map(|name| load(name, &is_proven));
    if own.is_some() || prove {
        return own;
    }
    let is_of_blob = |index: &LayerIndex| index.blob() == digest;
    finder.names(layer).into_iter().find_map(|name| load(name, &is_of_blob))
}

/// Streams a layer once: checks everything, indexes it, and fills the cache.
fn first_pass(
    layer: &ResolvedLayer,
    source: &dyn Source,
    cache: &Cache,
    budget: &Arc<Budget>,
    options: &Options,
    hearing: Hearing<'_>,
) -> Result<LayerIndex, Error> {
    let descriptor = &layer.descriptor;
    let error = |kind| Error { digest: descriptor.digest, kind };
    if options.offline && source.is_remote() {
        return Err(error(ErrorKind::Offline));
    }
    loop {
        let opened = match options.again {
            true => Download::from_start(descriptor, source),
            false => Download::open(descriptor, source, cache),
        };
        let mut download = opened.map_err(|e| error(not_opened(e, descriptor)))?;
        let is_resumed = download.kept.is_some();
        let mut written = Vec::new();
        let cache_of_spans = options.keep_spans.then_some(cache);
        let keeper = Keeper { cache: cache_of_spans, checks: options.again, written: &mut written };
        let result = pipeline(layer, &mut download, keeper, budget, options, hearing);
        // An interrupted download is gone on with the next time; a wrong one is not.
        if !matches!(result, Err(ErrorKind::Read(_) | ErrorKind::Source(_))) {
            download.finish();
        }
        let kind = match result {
            Ok(index) => {
                cache.put_layer_index(&descriptor.digest, &layer.diff_id, &index.encode());
                hearing.progress.layer_done();
                return Ok(index);
            }
            Err(kind) => kind,
        };
        for span in written {
            cache.withdraw_span(&span);
        }
        // What was kept may be to blame, and is gone now: the next time all comes from the source.
        match kind {
            ErrorKind::Verify(e) if is_resumed => {
                log::warn!("layer {}: {e}; downloading all of it again", descriptor.digest);
            }
            ErrorKind::Verify(e) if source.distrust(&descriptor.digest) => {
                log::warn!("layer {}: {e}; downloading it from another host", descriptor.digest);
            }
            kind => return Err(error(kind)),
        }
    }
}

/// Why a layer can't be had. Layers that may not be distributed, such as those of Windows, are often
/// not pushed.
fn not_opened(error: source::Error, descriptor: &Descriptor) -> ErrorKind {
    match descriptor.urls.first() {
        Some(url) if error.is_missing() => {
            let end = url.find(['?', '#']).unwrap_or(url.len());
            ErrorKind::Foreign { url: url[..end].to_owned() }
        }
        _ => error.into(),
    }
}

/// The compressed bytes of a layer: those that an earlier, interrupted pass has kept, then the rest
/// from the source, which is kept as it comes.
struct Download {
    kept: Option<Box<dyn Read + Send>>,
    rest: Body,
    partial: Option<Partial>,
}

impl Download {
    /// All of it, of which nothing was kept or will be.
    fn from_start(descriptor: &Descriptor, source: &dyn Source) -> Result<Download, source::Error> {
        let rest = source.blob(descriptor, 0..descriptor.size)?.body;
        Ok(Download { kept: None, rest, partial: None })
    }

    fn open(
        descriptor: &Descriptor,
        source: &dyn Source,
        cache: &Cache,
    ) -> Result<Download, source::Error> {
        let size = descriptor.size;
        let is_worth_it =
            source.is_remote() && size >= MIN_KEPT_BYTES && source.local_copy(descriptor).is_none();
        let partial = is_worth_it.then(|| cache.partial(&descriptor.digest)).flatten();
        let start = partial.as_ref().map_or(0, Partial::len);
        let reader = partial.as_ref().and_then(|partial| partial.reader().ok());
        if let Some(reader) = reader.filter(|_| (1..=size).contains(&start)) {
            let kept: Option<Box<dyn Read + Send>> = Some(Box::new(reader));
            if start == size {
                return Ok(Download { kept, rest: Box::new(io::empty()), partial });
            }
            let opened = source.blob(descriptor, start..size)?;
            if opened.start == start {
                log::info!("blob {}: going on at {start} bytes", descriptor.digest);
                return Ok(Download { kept, rest: opened.body, partial });
            }
            // The server sends everything again: what is kept is of no use.
            forget(partial);
            return Ok(Download { kept: None, rest: opened.body, partial: None });
        }
        let rest = source.blob(descriptor, 0..size)?.body;
        if start > 0 {
            // Longer than the blob, or unreadable.
            forget(partial);
            return Ok(Download { kept: None, rest, partial: None });
        }
        Ok(Download { kept: None, rest, partial })
    }

    /// Nothing of it has to be kept any longer.
    fn finish(self) {
        forget(self.partial);
    }
}

/// Removes what was kept of a download.
fn forget(partial: Option<Partial>) {
    if let Some(partial) = partial {
        partial.finish();
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.kept {
            match kept.read(buf)? {
                0 => self.kept = None,
                n => return Ok(n),
            }
        }
        let n = self.rest.read(buf)?;
        if let Some(partial) = &mut self.partial {
            partial.append(&buf[..n]);
        }
        Ok(n)
    }
}

fn pipeline(
    layer: &ResolvedLayer,
    download: &mut Download,
    keeper: Keeper<'_>,
    budget: &Arc<Budget>,
    options: &Options,
    hearing: Hearing<'_>,
) -> Result<LayerIndex, ErrorKind> {
    let descriptor = &layer.descriptor;
    let Options { max_uncompressed_bytes: limit, codec, .. } = *options;
    let (chunk_sender, chunks) = sync_channel(QUEUED_CHUNKS);
    let (piece_sender, pieces) = sync_channel(QUEUED_SPANS);
    // None waits here: the next stage has the piece that this one is at.
    let (kept_sender, kept) = sync_channel(0);
    let (used_sender, used) = sync_channel(QUEUED_SPANS);
    thread::scope(|scope| {
        let reader = VerifyingReader::new(download, descriptor.digest, descriptor.size);
        let used_here = used_sender.clone();
        let fetch = stage(scope, "fetch", move || fetch(reader, &chunk_sender, hearing))?;
        let inflate =
            stage(scope, "inflate", move || inflate(&chunks, &piece_sender, &used, codec, limit))?;
        let keep = stage(scope, "keep", move || keeper.keep(&kept, &used_sender))?;
        let algorithm = layer.diff_id.0.algorithm();
        let has_table = toc::promise(descriptor).is_some();
        let parsed = parse(&pieces, kept_sender, &used_here, algorithm, budget, has_table);
        // From here on nobody takes pieces: the inflating thread ends at its next one.
        drop(pieces);
        drop(used_here);
        let inflated = inflate.join().map_err(|_| ErrorKind::Worker)?;
        let fetched = fetch.join().map_err(|_| ErrorKind::Worker)?;
        let kept = keep.join().map_err(|_| ErrorKind::Worker)?;
        // The cause before its consequences.
        fetched?;
        let (compression, (spans, windows), (mut builder, hasher, uncompressed_size)) =
            match (inflated, kept, parsed) {
                (Err(Stopped::Error(kind)), ..)
                | (_, Err(kind), _)
                | (_, _, Err(Stopped::Error(kind))) => return Err(kind),
                (Err(Stopped::Receiver), ..) | (.., Err(Stopped::Receiver)) => {
                    return Err(ErrorKind::Worker);
                }
                (Ok(compression), Ok(kept), Ok(parsed)) => (compression, kept, parsed),
            };
        match missing_padding(hasher, uncompressed_size, layer.diff_id) {
            Ok(0) => {}
            Ok(missing) => {
                // Who asked for a proof is told with the outcome.
                let level = if options.prove { log::Level::Debug } else { log::Level::Warn };
                log::log!(
                    level,
                    "layer {}: {missing} bytes of zeros at the end of its tar are missing; all else \
                     is as its diff ID says",
                    descriptor.digest
                );
                builder.missing_padding(missing);
            }
            Err(got) => return Err(ErrorKind::DiffId { expected: layer.diff_id, got }),
        }
        builder.window(&windows);
        spans.iter().for_each(|span| builder.span(span));
        Ok(builder.finish(Identity {
            blob: descriptor.digest,
            blob_size: descriptor.size,
            diff_id: layer.diff_id,
            uncompressed_size,
            compression,
            proof: Proof::Full,
        })?)
    })
}

/// Starts a stage on a thread of its own, whose name tells profilers which it is.
fn stage<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, ErrorKind> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn_scoped(scope, work).map_err(ErrorKind::Thread)
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
    mut reader: VerifyingReader<&mut Download>,
    chunks: &SyncSender<Vec<u8>>,
    Hearing { progress, stop }: Hearing<'_>,
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
                    if stop.load(Ordering::Relaxed) {
                        return Err(ErrorKind::Read(io::Error::other("another layer has failed")));
                    }
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

/// A span as it leaves the decompressor.
struct Piece {
    /// [`MAX_SPAN_BYTES`], of which `length` are the span's.
    buffer: Arc<Vec<u8>>,
    length: usize,
    /// First compressed byte needed, and just past the last.
    compressed: Range<u64>,
    begin: Begin,
    compression: Compression,
}

/// How a piece can be begun at.
enum Begin {
    Continues,
    Here,
    /// Behind a deflate block.
    Block {
        bits: u8,
        /// Output before.
        window: Vec<u8>,
        /// Compressed bytes from there on, enough for [`WINDOW_BYTES`] of output.
        probe: Vec<u8>,
    },
}

/// Stage 2: decompresses, and cuts the output into spans.
fn inflate(
    chunks: &Receiver<Vec<u8>>,
    spans: &SyncSender<Piece>,
    used: &Receiver<Vec<u8>>,
    limits: codec::Limits,
    limit: Option<u64>,
) -> Result<Compression, Stopped> {
    let mut chunk = chunks.recv().unwrap_or_default();
    // Chunks are full but for the last: a first one shorter than the magic is the whole blob.
    let compression = Compression::sniff(&chunk).map_err(ErrorKind::from)?;
    let mut cutter = Cutter::new(compression, limits, used)?;
    let mut total = 0u64;
    loop {
        let mut unread = &chunk[..];
        loop {
            let (progress, piece) = cutter.decode(unread)?;
            unread = &unread[progress.consumed..];
            total += progress.produced as u64;
            let blob = cutter.consumed;
            let limit = limit.unwrap_or(codec::plausible_uncompressed_bytes(blob));
            if total > limit {
                return Err(ErrorKind::TooLarge { limit, blob }.into());
            }
            let is_stuck = progress.consumed == 0 && progress.produced == 0;
            match piece {
                Some(piece) => spans.send(piece).map_err(|_| Stopped::Receiver)?,
                None if is_stuck => break,
                None => {}
            }
        }
        chunk = match chunks.recv() {
            Ok(chunk) => chunk,
            Err(_) => break,
        };
    }
    cutter.decoder.finish().map_err(ErrorKind::from)?;
    if cutter.filled > 0 {
        spans.send(cutter.cut(Begin::Continues)).map_err(|_| Stopped::Receiver)?;
    }
    Ok(compression)
}

/// Cuts a stream into spans at places where decoding can begin again.
struct Cutter<'a> {
    decoder: Decoder,
    compression: Compression,
    used: &'a Receiver<Vec<u8>>,
    /// The span that is being filled.
    bytes: Vec<u8>,
    filled: usize,
    /// Where its compressed bytes begin, and how.
    compressed_start: u64,
    begin: Begin,
    /// Compressed bytes taken in all.
    consumed: u64,
    /// The last of them.
    last_byte: u8,
    /// The compressed offset just past the last byte that gave output.
    compressed_end: u64,
}

impl Cutter<'_> {
    fn new(
        compression: Compression,
        limits: codec::Limits,
        used: &Receiver<Vec<u8>>,
    ) -> Result<Cutter<'_>, Stopped> {
        Ok(Cutter {
            decoder: Decoder::within(limits, compression).map_err(ErrorKind::from)?,
            compression,
            used,
            bytes: vec![0; MAX_SPAN_BYTES],
            filled: 0,
            compressed_start: 0,
            begin: Begin::Here,
            consumed: 0,
            last_byte: 0,
            compressed_end: 0,
        })
    }

    /// Decodes some of `input`; a span, if one became complete.
    fn decode(&mut self, input: &[u8]) -> Result<(codec::Progress, Option<Piece>), Stopped> {
        if self.compression == Compression::None {
            let room = &mut self.bytes[self.filled..PLAIN_SPAN_BYTES];
            let progress = self.decoder.decode(input, room).map_err(ErrorKind::from)?;
            self.filled += progress.produced;
            self.consumed += progress.consumed as u64;
            self.compressed_end = self.consumed;
            let is_full = self.filled == PLAIN_SPAN_BYTES;
            return Ok((progress, is_full.then(|| self.cut(Begin::Here))));
        }
        let due_in = (self.compressed_start + SPAN_COMPRESSED_BYTES).saturating_sub(self.consumed);
        let is_due = self.filled >= SPAN_BYTES || due_in == 0;
        // Looking for block ends costs something: only a span that is due does.
        self.decoder.stop_at_blocks(is_due);
        let (input, room) = match is_due {
            true => (input, MAX_SPAN_BYTES),
            false => (&input[..input.len().min(due_in as usize)], SPAN_BYTES),
        };
        let from = self.filled;
        let progress =
            self.decoder.decode(input, &mut self.bytes[from..room]).map_err(ErrorKind::from)?;
        self.filled += progress.produced;
        self.consumed += progress.consumed as u64;
        let taken = &input[..progress.consumed];
        if let Some(byte) = taken.last() {
            self.last_byte = *byte;
        }
        if progress.produced > 0 {
            self.compressed_end = self.consumed;
        }
        if let Begin::Block { probe, .. } = &mut self.begin
            && from < WINDOW_BYTES
        {
            probe.extend_from_slice(taken);
        }
        let half = self.filled >= SPAN_BYTES / 2
            || self.consumed - self.compressed_start >= SPAN_COMPRESSED_BYTES / 2;
        let next = match self.decoder.boundary() {
            _ if self.filled == 0 => None,
            Some(Boundary::Start) if half || is_due => Some(Begin::Here),
            Some(Boundary::Block { bits }) if is_due && self.filled >= WINDOW_BYTES => {
                let window = self.bytes[self.filled - WINDOW_BYTES..self.filled].to_vec();
                let probe = if bits > 0 { vec![self.last_byte] } else { Vec::new() };
                Some(Begin::Block { bits, window, probe })
            }
            _ if self.filled == MAX_SPAN_BYTES => Some(Begin::Continues),
            _ => None,
        };
        Ok((progress, next.map(|next| self.cut(next))))
    }

    /// Ends the span; `next` is how the following one can be begun at.
    fn cut(&mut self, next: Begin) -> Piece {
        let shares_byte = matches!(next, Begin::Block { bits: 1.., .. });
        let next_start = self.consumed - u64::from(shares_byte);
        let fresh = self.used.try_recv().unwrap_or_else(|_| vec![0; MAX_SPAN_BYTES]);
        let buffer = Arc::new(std::mem::replace(&mut self.bytes, fresh));
        let length = std::mem::take(&mut self.filled);
        let start = std::mem::replace(&mut self.compressed_start, next_start);
        let begin = std::mem::replace(&mut self.begin, next);
        let compressed = start..self.compressed_end.max(start);
        Piece { buffer, length, compressed, begin, compression: self.compression }
    }
}

/// Stage 3: parses and hashes what is in the layer, and hands each piece on.
fn parse(
    pieces: &Receiver<Piece>,
    kept: SyncSender<Piece>,
    used: &SyncSender<Vec<u8>>,
    algorithm: Algorithm,
    budget: &Arc<Budget>,
    has_table: bool,
) -> Result<(Builder, Hasher, u64), Stopped> {
    let mut builder = Builder::within(Arc::clone(budget));
    let mut parser = Parser::new();
    let mut diff_id = Hasher::new(algorithm);
    let mut total = 0;
    let mut start = Start::default();
    let mut is_zero = true;
    for piece in pieces {
        let (buffer, length) = (Arc::clone(&piece.buffer), piece.length);
        start.note(&piece);
        kept.send(piece).map_err(|_| Stopped::Receiver)?;
        let bytes = &buffer[..length];
        diff_id.update(bytes);
        parser.feed(bytes, &mut builder).map_err(|e| start.refusal(e))?;
        // What follows the end mark of a tar is nobody's, but a table can show it.
        is_zero = is_zero && !(has_table && builder.is_empty() && bytes.iter().any(|b| *b != 0));
        total += length as u64;
        give_back(buffer, used);
    }
    parser.finish().map_err(|e| start.refusal(e.into()))?;
    if builder.is_empty() && !is_zero {
        return Err(ErrorKind::NoTarBehindTable.into());
    }
    Ok((builder, diff_id, total))
}

/// How many bytes of zeros have to stand behind a tar of `size` bytes to give it the diff ID that is
/// expected, or the diff ID that it has.
///
/// Releases of Podman and Buildah of 2023 dropped the zeros behind the end mark of a tar when they wrote
/// zstd:chunked, and kept its diff ID (containers/storage#1771). Nothing that is shown depends on them.
fn missing_padding(mut hasher: Hasher, size: u64, expected: DiffId) -> Result<u32, DiffId> {
    const BLOCK: [u8; tar::BLOCK_BYTES] = [0; tar::BLOCK_BYTES];
    let got = DiffId(hasher.clone().finish());
    if got == expected {
        return Ok(0);
    }
    let mut missing = 0;
    // The last block may be cut short too.
    let mut next = BLOCK.len() as u32 - (size % BLOCK.len() as u64) as u32;
    while missing + next <= MAX_MISSING_PADDING {
        hasher.update(&BLOCK[..next as usize]);
        missing += next;
        if DiffId(hasher.clone().finish()) == expected {
            return Ok(missing);
        }
        next = BLOCK.len() as u32;
    }
    Err(got)
}

/// How what should be a tar begins, to say what it is instead.
#[derive(Default)]
struct Start {
    bytes: Vec<u8>,
    is_compressed: bool,
}

impl Start {
    fn note(&mut self, piece: &Piece) {
        if self.bytes.is_empty() {
            self.bytes = piece.buffer[..piece.length.min(tar::BLOCK_BYTES)].to_vec();
            self.is_compressed = piece.compression != Compression::None;
        }
    }

    /// What is wrong, in the words that help: the first block is no header, or there is not even one.
    fn refusal(&self, error: index::Error) -> ErrorKind {
        let is_no_tar = match error {
            index::Error::Tar(tar::Error::Checksum { at: 0 }) => true,
            index::Error::Tar(tar::Error::Truncated { .. }) => self.bytes.len() < tar::BLOCK_BYTES,
            _ => false,
        };
        match codec::guess(&self.bytes).filter(|_| is_no_tar) {
            Some(guess) if guess.is_compressed && self.is_compressed => {
                ErrorKind::CompressedTwice(guess.name)
            }
            Some(guess) => ErrorKind::NotTar(guess.name),
            None => error.into(),
        }
    }
}

/// Returns a buffer for further use, if nobody else holds it.
fn give_back(buffer: Arc<Vec<u8>>, used: &SyncSender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(buffer) {
        // If the queue is full there are buffers enough.
        let _ = used.try_send(buffer);
    }
}

/// Stage 4: describes spans, and keeps them.
struct Keeper<'a> {
    /// None where only the index is wanted.
    cache: Option<&'a Cache>,
    /// Whether spans that are in the cache are compared.
    checks: bool,
    /// Those that were not in the cache before.
    written: &'a mut Vec<SpanDigest>,
}

impl Keeper<'_> {
    /// The spans of a layer, and the stored windows that they refer to.
    fn keep(
        self,
        pieces: &Receiver<Piece>,
        used: &SyncSender<Vec<u8>>,
    ) -> Result<(Vec<Span>, Vec<u8>), ErrorKind> {
        let (mut spans, mut windows) = (Vec::new(), Vec::new());
        let mut start = 0;
        for Piece { buffer, length, compressed, begin, .. } in pieces {
            let bytes = &buffer[..length];
            let digest = SpanDigest::of(bytes);
            let restart = match begin {
                Begin::Continues => Restart::Continues,
                Begin::Here => Restart::Here,
                Begin::Block { bits, mut window, probe } => {
                    window::clear_unused(&mut window, bits, &probe, bytes)?;
                    let stored = window::pack(&window)?;
                    let place = (windows.len() as u64, stored.len() as u32);
                    windows.extend_from_slice(&stored);
                    Restart::Block { bits, window: place }
                }
            };
            let span = Span {
                start: UncompressedOffset(start),
                length: length as u32,
                compressed_start: CompressedOffset(compressed.start),
                compressed_end: CompressedOffset(compressed.end),
                restart,
                check: Check::Content,
                digest,
            };
            if let Some(cache) = self.cache.filter(|_| self.checks) {
                replace_other(cache, &digest, bytes);
            }
            if self.cache.is_some_and(|cache| cache.put_span(&digest, bytes, blob::cost(restart))) {
                self.written.push(digest);
            }
            spans.push(span);
            start += length as u64;
            give_back(buffer, used);
        }
        Ok((spans, windows))
    }
}

/// Removes a span from the cache that is not what has come.
fn replace_other(cache: &Cache, digest: &SpanDigest, bytes: &[u8]) {
    let Some(file) = cache.span(digest, bytes.len() as u32) else { return };
    let mut cached = vec![0; bytes.len()];
    // A file whose bytes changed while they were read is not the same either.
    if !matches!(file.read_at(&mut cached, 0), Ok(true)) || cached != bytes {
        log::warn!("a span in the cache was not what its layer holds; it is replaced");
        cache.withdraw_span(digest);
    }
}
