//! Layer indexes out of the tables of contents and indexes of other formats.
//!
//! # TOCs (eStargz, zstd:chunked)
//!
//! A TOC names the content of files in chunks, each with a digest and a place in the blob, and says
//! nothing of the tar around it. So the uncompressed offsets of such an index are those of the
//! contents alone, one after the other, and a span is a row of chunks that lie close together: one
//! fetch and one cache file for many small files. Each chunk in it is verified by its own digest.
//! A gzip member or zstd frame with several chunks is not divided unless it is large: who wanted the
//! second part alone would have to fetch the first as well.
//!
//! # ztocs (SOCI)
//!
//! A ztoc has checkpoints as ours, and digests of the compressed bytes between them. Its spans are
//! taken as they are. The first is begun as raw deflate behind the gzip header, because no digest
//! covers the header.

use std::sync::Arc;

use super::budget::Budget;
use super::builder::Builder;
use super::decode::DecodeError;
use super::entry::{EntryKind, ROOT_DIR};
use super::error::Error;
use super::format::ENTRY_HIDDEN;
use super::layer_index::LayerIndex;
use super::proof::{Identity, Proof};
use super::span::{Check, Chunk, MAX_SPAN_BYTES, Restart, Span};
use crate::codec::{self, Compression, window};
use crate::digest::{ContentDigest, DiffId, SpanDigest};
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::hint::Hint;
use crate::oci::Descriptor;
use crate::toc::{Toc, TocAnnotation};
use crate::ztoc::Ztoc;

/// A span of chunks ends after so many uncompressed bytes ...
const SPAN_BYTES: u64 = 1 << 20;

/// ... or so many bytes of the blob, what lies between chunks included ...
const SPAN_COMPRESSED_BYTES: u64 = 512 << 10;

/// ... but within a member only after so many uncompressed bytes. Writers share members among small
/// files, behind which one of eStargz' usual 4 MiB may come.
const SHARED_MEMBER_BYTES: u64 = 8 << 20;

/// Why a table or index of another format can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ExternalError {
    #[error(transparent)]
    Index(#[from] Error),
    #[error(transparent)]
    Inconsistent(#[from] DecodeError),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("a piece of it has {0} bytes, too many to verify before the first is read")]
    Piece(u64),
    #[error("it is of a layer of {got} bytes, but the layer has {expected}")]
    Size { expected: u64, got: u64 },
}

impl ExternalError {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            ExternalError::Index(error) => error.hint(),
            ExternalError::Codec(error) => error.hint(),
            _ => None,
        }
    }
}

impl LayerIndex {
    /// The index that a TOC makes. Its digest stands in the manifest: [`Proof::Toc`].
    ///
    /// # Errors
    /// See [`ExternalError`]; the layer can still be read as a whole.
    pub fn from_toc(
        promise: &TocAnnotation,
        toc: Toc,
        layer: &Descriptor,
        diff_id: DiffId,
        budget: &Arc<Budget>,
    ) -> Result<LayerIndex, ExternalError> {
        let mut builder = Builder::within(Arc::clone(budget));
        for listed in toc.entries {
            builder.listed(listed.entry, listed.content_hash)?;
        }
        let mut row: Vec<&crate::toc::Chunk> = Vec::new();
        let mut bytes = 0;
        for chunk in &toc.chunks {
            if chunk.length > u64::from(MAX_SPAN_BYTES) {
                return Err(ExternalError::Piece(chunk.length));
            }
            let from = row.first().map_or(chunk.compressed.start, |first| first.compressed.start);
            let shares_member =
                row.last().is_some_and(|last| last.compressed.start == chunk.compressed.start);
            let is_full = match shares_member {
                true => bytes + chunk.length > SHARED_MEMBER_BYTES,
                false => {
                    bytes >= SPAN_BYTES
                        || bytes + chunk.length > u64::from(MAX_SPAN_BYTES)
                        || chunk.compressed.end.saturating_sub(from) > SPAN_COMPRESSED_BYTES
                }
            };
            if is_full && !row.is_empty() {
                add_row(&mut builder, &row)?;
                row.clear();
                bytes = 0;
            }
            bytes += chunk.length;
            row.push(chunk);
        }
        if !row.is_empty() {
            add_row(&mut builder, &row)?;
        }
        Ok(builder.finish(Identity {
            blob: layer.digest,
            blob_size: layer.size,
            diff_id,
            uncompressed_size: toc.content_bytes,
            compression: match promise {
                TocAnnotation::Estargz { .. } => Compression::Gzip,
                TocAnnotation::ZstdChunked { .. } => Compression::Zstd,
            },
            proof: Proof::Toc,
        })?)
    }

    /// The index that a ztoc makes.
    ///
    /// # Errors
    /// See [`ExternalError`]; the layer can still be read as a whole.
    pub fn from_ztoc(
        ztoc: Ztoc<'_>,
        layer: &Descriptor,
        diff_id: DiffId,
        proof: Proof,
        budget: &Arc<Budget>,
    ) -> Result<LayerIndex, ExternalError> {
        if ztoc.compressed_bytes != layer.size {
            let (expected, got) = (layer.size, ztoc.compressed_bytes);
            return Err(ExternalError::Size { expected, got });
        }
        let mut builder = Builder::within(Arc::clone(budget));
        for entry in ztoc.entries {
            builder.listed(entry, None)?;
        }
        for span in &ztoc.spans {
            if span.length > u64::from(MAX_SPAN_BYTES) {
                return Err(ExternalError::Piece(span.length));
            }
            let stored = match span.window {
                Some(window) => window::pack(window)?,
                None => Vec::new(),
            };
            let place = span.verified_range();
            let chunk = builder.chunk(&Chunk {
                compressed_start: CompressedOffset(place.start),
                skip: 0,
                length: span.length,
                digest: span.digest,
            })?;
            let restart = match ztoc.compression {
                Compression::Gzip => {
                    Restart::Block { bits: span.bits, window: builder.window(&stored) }
                }
                Compression::None | Compression::Zstd => Restart::Here,
            };
            builder.span(&Span {
                start: span.start,
                length: span.length as u32,
                compressed_start: CompressedOffset(place.start),
                compressed_end: CompressedOffset(place.end),
                restart,
                check: Check::Compressed { chunk },
                digest: SpanDigest::of_compressed(span.digest, span.bits, &stored, span.length),
            });
        }
        Ok(builder.finish(Identity {
            blob: layer.digest,
            blob_size: layer.size,
            diff_id,
            uncompressed_size: ztoc.uncompressed_bytes,
            compression: ztoc.compression,
            proof,
        })?)
    }
}

impl LayerIndex {
    /// Hides the files that the writer of the layer added for itself: regular files in the root that
    /// [`TocAnnotation::is_bookkeeping`] knows by name and content.
    pub fn without_bookkeeping(mut self, promise: &TocAnnotation) -> LayerIndex {
        for at in 0..self.entries.len() {
            let entry = self.entry_at(at);
            if let EntryKind::File { size, .. } = entry.kind
                && entry.dir == ROOT_DIR
                && let Some(ContentDigest::Sha256(content)) = self.content_digest(&entry)
                && promise.is_bookkeeping(entry.name, size, &content)
            {
                self.entries[at].flags |= ENTRY_HIDDEN;
            }
        }
        self
    }
}

/// Adds a span that is made of these chunks, of which there is at least one.
fn add_row(builder: &mut Builder, row: &[&crate::toc::Chunk]) -> Result<(), ExternalError> {
    let [first_chunk, ..] = row else { return Ok(()) };
    let mut first = None;
    let mut end = 0;
    for chunk in row {
        let number = builder.chunk(&Chunk {
            compressed_start: CompressedOffset(chunk.compressed.start),
            skip: chunk.skip,
            length: chunk.length,
            digest: chunk.digest,
        })?;
        first.get_or_insert(number);
        end = end.max(chunk.compressed.end);
    }
    let length: u64 = row.iter().map(|chunk| chunk.length).sum();
    builder.span(&Span {
        start: UncompressedOffset(first_chunk.start.0),
        length: u32::try_from(length).map_err(|_| ExternalError::Piece(length))?,
        compressed_start: CompressedOffset(first_chunk.compressed.start),
        compressed_end: CompressedOffset(end),
        restart: Restart::Here,
        check: Check::Chunks { first: first.unwrap_or_default(), count: row.len() as u32 },
        digest: SpanDigest::of_chunks(row.iter().map(|chunk| (chunk.digest, chunk.length))),
    });
    Ok(())
}
