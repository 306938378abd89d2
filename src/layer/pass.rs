//! The first pass over a layer: streams it once, checks it, indexes it, and fills the cache.
//!
//! A layer seen for the first time is downloaded once, and everything is done on the way, in four
//! stages with bounded queues between them:
//!
//! ```text
//! fetch thread    source -> hash of the blob, size -> chunks
//! inflate thread  chunks -> decompress -> spans of 1 to 2.5 MiB, and how each can be begun at
//! this thread     spans -> diff ID, tar entries, hash of each file
//! keep thread     the same spans -> CRC-32 of gzip members, span digest -> cache
//! ```
//!
//! No stage costs more than inflating, so that a layer takes as long as that where there are
//! processors enough, and layers run side by side besides. Memory is a few MiB a layer whatever its
//! size.
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

mod fetch;
mod inflate;
mod keep;
mod parse;
mod stopped;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::download::{Download, Way};
use super::error::{Error, ErrorKind};
use super::lookup::{own_name, sent_name};
use super::options::LayerOptions;
use super::progress::Hearing;
use crate::artifact::ShownAs;
use crate::cache::{Cache, LayerName};
use crate::codec::Compression;
use crate::digest::{Algorithm, DiffId, VerifyingReader};
use crate::index::{Budget, Identity, LayerIndex, Proof};
use crate::resolve::ResolvedLayer;
use crate::source::Source;
use crate::toc;
use keep::Keeper;
use parse::Read;
use stopped::Stopped;

/// Chunks of the blob that may wait for the stage that inflates them.
const QUEUED_CHUNKS: usize = 4;

/// Spans that may wait for the stages behind inflating.
const QUEUED_SPANS: usize = 1;

/// One pass: which layer, where from, and what for.
#[derive(Clone, Copy)]
pub(super) struct FirstPass<'a> {
    pub(super) layer: &'a ResolvedLayer,
    pub(super) source: &'a Arc<dyn Source>,
    pub(super) cache: &'a Cache,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) options: &'a LayerOptions,
    pub(super) hearing: Hearing<'a>,
}

impl FirstPass<'_> {
    /// Streams until all of it was right, or nothing is left to try.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub(super) fn run(self) -> Result<LayerIndex, Error> {
        let FirstPass { layer, source, cache, options, hearing, .. } = self;
        let descriptor = &layer.descriptor;
        let error = |kind| Error { digest: descriptor.digest, kind };
        if source.is_offline() {
            return Err(error(ErrorKind::Offline));
        }
        // What is kept of a download may be of another's.
        let mut way = match options.again || options.only_sent_by.is_some() {
            true => Way::Afresh,
            false => Way::Usual,
        };
        loop {
            let opened = Download::open(descriptor, source, cache, hearing.stop, way);
            let mut download = opened.map_err(|e| error(ErrorKind::of_blob(e, descriptor)))?;
            let is_resumed = download.is_resumed();
            let mut written = Vec::new();
            let cache_of_spans = options.keep_spans.then_some(cache);
            let keeper =
                Keeper { cache: cache_of_spans, checks: options.again, written: &mut written };
            let result = self.pipeline(&mut download, keeper);
            // An interrupted download is gone on with the next time; a wrong one is not.
            if !matches!(result, Err(ErrorKind::Read(_) | ErrorKind::Source(_))) {
                download.finish();
            }
            let kind = match result {
                Ok(index) => {
                    let (digest, bytes) = (descriptor.digest, index.encode());
                    let name = own_name(layer);
                    match &name {
                        LayerName::Blob(_) => {
                            cache.put_layer_index(&digest, &index.diff_id(), &bytes);
                        }
                        name => cache.put_external_index(name, &bytes),
                    }
                    if let Some(registry) = source.sender().filter(|_| !is_resumed) {
                        cache.add_name(&name, &sent_name(layer, registry), &bytes);
                    }
                    hearing.progress.layer_done();
                    hearing.progress.layer_opened();
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
                    log::warn!(
                        "layer {}: {e}; downloading it from another host",
                        descriptor.digest
                    );
                }
                kind => return Err(error(kind)),
            }
            if way == Way::Usual {
                way = Way::InOrder;
            }
        }
    }

    /// The four stages, and what they have found out together.
    fn pipeline(
        &self,
        download: &mut Download<'_>,
        keeper: Keeper<'_>,
    ) -> Result<LayerIndex, ErrorKind> {
        let FirstPass { layer, budget, options, hearing, .. } = *self;
        let descriptor = &layer.descriptor;
        let LayerOptions { max_uncompressed_bytes: limit, codec, .. } = *options;
        let (chunk_sender, chunks) = sync_channel(QUEUED_CHUNKS);
        let (piece_sender, pieces) = sync_channel(QUEUED_SPANS);
        // None waits here: the next stage has the piece that this one is at.
        let (kept_sender, kept) = sync_channel(0);
        let (used_sender, used) = sync_channel(QUEUED_SPANS);
        thread::scope(|scope| {
            let reader = VerifyingReader::new(download, descriptor.digest, descriptor.size);
            let used_here = used_sender.clone();
            let fetch = stage(scope, "fetch", move || {
                fetch::fetch(reader, descriptor, &chunk_sender, hearing)
            })?;
            let is_file = matches!(layer.shown, ShownAs::File(_));
            let inflate = stage(scope, "inflate", move || {
                let known = is_file.then_some(Compression::None);
                inflate::inflate(&chunks, &piece_sender, &used, known, codec, limit)
            })?;
            let keep = stage(scope, "keep", move || keeper.keep(&kept, &used_sender))?;
            let algorithm = layer.diff_id.map_or(Algorithm::Sha256, |id| id.0.algorithm());
            let read = Read { blob: descriptor.digest, budget, algorithm };
            let parsed = match &layer.shown {
                ShownAs::File(_) => {
                    parse::file(&pieces, kept_sender, &used_here, read, descriptor.size)
                }
                ShownAs::Compressed(_) => parse::inflated(&pieces, kept_sender, &used_here, read),
                ShownAs::Tree { .. } => {
                    let has_table = toc::promise(descriptor).is_some();
                    parse::parse(&pieces, kept_sender, &used_here, read, has_table)
                }
            };
            // From here on no stage takes pieces: the inflating thread ends at its next one.
            drop(pieces);
            drop(used_here);
            let inflated = inflate.join().map_err(|_| ErrorKind::Worker)?;
            let fetched = fetch.join().map_err(|_| ErrorKind::Worker)?;
            let kept = keep.join().map_err(|_| ErrorKind::Worker)?;
            // The cause before its consequences.
            fetched?;
            let (compression, (spans, windows), (mut builder, hasher, uncompressed_size)) =
                match (inflated, kept, parsed) {
                    // A wrong checksum, which stands before all that inflating finds wrong.
                    (_, Err(kind), _)
                    | (Err(Stopped::Error(kind)), ..)
                    | (_, _, Err(Stopped::Error(kind))) => return Err(kind),
                    (Err(Stopped::Receiver), ..) | (.., Err(Stopped::Receiver)) => {
                        return Err(ErrorKind::Worker);
                    }
                    (Ok(compression), Ok(kept), Ok(parsed)) => (compression, kept, parsed),
                };
            let diff_id = match layer.diff_id {
                None => DiffId(hasher.finish()),
                Some(expected) => {
                    let missing = parse::missing_padding(hasher, uncompressed_size, expected);
                    let missing = missing.map_err(|got| ErrorKind::DiffId { expected, got })?;
                    if missing > 0 {
                        // Who asked for a proof is told with the outcome.
                        let level =
                            if options.prove { log::Level::Debug } else { log::Level::Warn };
                        log::log!(
                            level,
                            "layer {}: {missing} bytes of zeros at the end of its tar are missing; \
                             all else is as its diff ID says",
                            descriptor.digest
                        );
                        builder.missing_padding(missing);
                    }
                    expected
                }
            };
            builder.window(&windows);
            spans.iter().for_each(|span| builder.span(span));
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
