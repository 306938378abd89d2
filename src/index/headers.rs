//! Indexes of plain tars of which only the headers were read, and of the same tars once all of them was.
//!
//! # Problem
//!
//! A plain tar that is its own blob can be shown when its headers are known: content lies where they say. Nothing
//! has verified them then, and an index that is made later, of every byte, has to be held against what was shown.
//!
//! # Design
//!
//! Both indexes are made by one [`Builder`] of the same entries in the same order, so their tables are the same,
//! record by record, but for the digests of contents. Of the first one an [`Outline`] is kept: a checksum of these
//! tables. Spans are those of a blob that is a file: fixed pieces that nothing verifies as they come.
//!
//! Rejected: comparing what paths mean in the end, as is done with tables of contents. It needs the whole first index
//! until the last byte has come, and what differs is wrong here, however little it means.
//!
//! # Invariants
//!
//! - An index of headers alone has no digest of any content, says [`Proof::Transport`], and can't be read from a file.

use zerocopy::IntoBytes;

use super::blob_file::plain_spans;
use super::builder::Builder;
use super::decode::DecodeError;
use super::error::Error;
use super::format::{ENTRY_BLOCKS, NO_HASH};
use super::layer_index::LayerIndex;
use super::outline::Outline;
use super::proof::{Identity, Proof};
use super::span::{Check, Span};
use crate::codec::Compression;
use crate::digest::{DiffId, Digest, SpanDigest};

/// Why there is no index of a plain tar.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum PlainTarError {
    #[error(transparent)]
    Index(#[from] Error),
    #[error(transparent)]
    Inconsistent(#[from] DecodeError),
}

impl Builder {
    /// The index of a plain tar whose entries were [listed](Builder::listed) and whose content was not read.
    ///
    /// # Errors
    /// It is too large, or content lies past its end.
    pub fn finish_headers(self, blob: Digest, size: u64) -> Result<LayerIndex, PlainTarError> {
        let mut index = self.finish_plain(blob, size, &plain_spans(size)?, Proof::Transport)?;
        index.outline = Some(index.tables());
        Ok(index)
    }

    /// The index of the same tar when all of it has gone by and had the blob's digest, with the digests of its spans.
    ///
    /// # Errors
    /// As before; or the digests are not as many as there are spans.
    pub fn finish_proven(
        self,
        blob: Digest,
        size: u64,
        digests: &[SpanDigest],
    ) -> Result<LayerIndex, PlainTarError> {
        let mut spans = plain_spans(size)?;
        for (span, digest) in spans.iter_mut().zip(digests) {
            (span.check, span.digest) = (Check::Content, *digest);
        }
        self.finish_plain(blob, size, &spans, Proof::Full)
    }

    fn finish_plain(
        mut self,
        blob: Digest,
        size: u64,
        spans: &[Span],
        proof: Proof,
    ) -> Result<LayerIndex, PlainTarError> {
        spans.iter().for_each(|span| self.span(span));
        Ok(self.finish(Identity {
            blob,
            blob_size: size,
            diff_id: DiffId(blob),
            uncompressed_size: size,
            compression: Compression::None,
            proof,
        })?)
    }
}

impl LayerIndex {
    /// What was shown, in an index that was made of headers alone.
    pub fn outline(&self) -> Option<Outline> {
        self.outline
    }

    /// What its tables say of names, attributes and places.
    pub fn tables(&self) -> Outline {
        let mut hasher = blake3::Hasher::new();
        let mut section = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        section(self.dirs.as_bytes());
        section(self.whiteouts.as_bytes());
        section(self.runs.as_bytes());
        section(self.xattrs.as_bytes());
        section(&self.bytes);
        for entry in &self.entries {
            let mut entry = *entry;
            entry.hash = NO_HASH.into();
            entry.flags &= !ENTRY_BLOCKS;
            hasher.update(entry.as_bytes());
        }
        Outline { checksum: *hasher.finalize().as_bytes(), metadata_bytes: self.metadata_bytes() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest::SpanDigest;
    use crate::extent::{Run, UncompressedOffset};
    use crate::tar::{self, Sink as _};

    const SIZE: u64 = 3 << 20;

    fn file(name: &str, mode: u32) -> tar::Entry {
        let run = Run { file_offset: 0, start: UncompressedOffset(512), length: 100 };
        tar::Entry::of_file(name.as_bytes().to_vec(), mode, 100, vec![run])
    }

    fn of_headers(entry: tar::Entry) -> LayerIndex {
        let mut builder = Builder::new();
        builder.listed(entry, None).unwrap();
        builder.finish_headers(Digest::sha256(b"x"), SIZE).unwrap()
    }

    fn of_all(entry: tar::Entry, digests: &[SpanDigest]) -> Result<LayerIndex, PlainTarError> {
        let mut builder = Builder::new();
        builder.entry(entry).unwrap();
        builder.content(&[7; 100]);
        builder.end();
        builder.finish_proven(Digest::sha256(b"x"), SIZE, digests)
    }

    #[test]
    fn both_indexes_have_the_same_outline() {
        let digests = [SpanDigest([1; 32]); 3];
        let shown = of_headers(file("a/b", 0o644));
        let whole = of_all(file("a/b", 0o644), &digests).unwrap();
        assert_eq!(shown.outline(), Some(whole.tables()));
        assert_eq!((shown.proof(), whole.proof()), (Proof::Transport, Proof::Full));
        assert!(whole.content_digest(&whole.entry_at(0)).is_some());
        assert_eq!(shown.content_digest(&shown.entry_at(0)), None);
        for other in [file("a/c", 0o644), file("a/b", 0o600), file("b", 0o644)] {
            assert_ne!(shown.outline(), Some(of_all(other, &digests).unwrap().tables()));
        }
    }

    #[test]
    fn what_nothing_verifies_is_no_file_and_needs_all_digests() {
        let shown = of_headers(file("a", 0o644));
        assert!(LayerIndex::decode(&shown.encode()).is_err());
        let whole = of_all(file("a", 0o644), &[SpanDigest([1; 32]); 3]).unwrap();
        assert_eq!(LayerIndex::decode(&whole.encode()).unwrap(), whole);
        assert_eq!(whole.outline(), None);
        assert!(of_all(file("a", 0o644), &[SpanDigest([1; 32]); 2]).is_err());
    }
}
