//! All bytes of a blob, in order: whether they have its digest, and what is in them.

use std::sync::Arc;

use crate::digest::{Digest, Hasher, SpanDigest};
use crate::index::{self, Budget, Builder, LayerIndex, Outline};
use crate::tar::{self, Parser, Sink};

/// Takes the bytes of a blob that is not compressed.
#[derive(Debug)]
pub(super) enum WholeBlob {
    /// It is a file.
    File(Hasher),
    /// It is a tar, of which an index is made.
    Tar(Box<Parser>, Box<HashedTar>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is as its digest says, and as it was shown; its index with the digests of its spans.
    Right(LayerIndex),
    /// It does not have its digest.
    Wrong,
    /// It has its digest, but its files are others than were shown. Its index, if it has one.
    Others(Option<LayerIndex>),
}

impl WholeBlob {
    /// Of a file, or of a tar that was shown by its headers.
    pub(super) fn new(blob: &Digest, outline: Option<&Outline>) -> WholeBlob {
        let hasher = Hasher::new(blob.algorithm());
        let Some(outline) = outline else { return WholeBlob::File(hasher) };
        // What takes more is not what was shown. A builder draws a little more than it keeps.
        let budget = Arc::new(Budget::of(2 * outline.metadata_bytes));
        let tar = HashedTar { builder: Builder::within(budget), hasher };
        WholeBlob::Tar(Box::default(), Box::new(tar))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They are not those of the tar that was shown. No more may follow.
    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<(), index::Error> {
        match self {
            WholeBlob::File(hasher) => hasher.update(bytes),
            WholeBlob::Tar(parser, tar) => parser.feed(bytes, &mut **tar)?,
        }
        Ok(())
    }

    /// There are no more. `digests` are those of the spans that have gone by.
    pub(super) fn finish(
        self,
        (blob, size): (Digest, u64),
        outline: Option<&Outline>,
        digests: &[SpanDigest],
    ) -> Seen {
        let (hasher, tar) = match self {
            WholeBlob::File(hasher) => (hasher, None),
            WholeBlob::Tar(parser, tar) => {
                let HashedTar { builder, hasher } = *tar;
                (hasher, Some((parser, builder)))
            }
        };
        if hasher.finish() != blob {
            return Seen::Wrong;
        }
        let index = match tar {
            None => LayerIndex::of_proven_file(blob, size, digests),
            Some((parser, _)) if parser.finish().is_err() => None,
            Some((_, builder)) => builder.finish_proven(blob, size, digests).ok(),
        };
        match index {
            Some(index) if outline.is_none_or(|shown| *shown == index.tables()) => {
                Seen::Right(index)
            }
            index => Seen::Others(index),
        }
    }
}

/// Builds the index of a tar, and hashes every byte of it for the digest of the blob.
#[derive(Debug)]
pub(super) struct HashedTar {
    builder: Builder,
    hasher: Hasher,
}

impl Sink for HashedTar {
    type Error = index::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), index::Error> {
        self.builder.entry(entry)
    }

    fn content(&mut self, bytes: &[u8]) {
        self.builder.content_for_both(&mut self.hasher, bytes);
    }

    fn end(&mut self) {
        self.builder.end();
    }

    fn framing(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }
}
