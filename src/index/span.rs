//! Spans: how the bytes of a layer are fetched and verified.

use std::sync::Arc;

use super::outline::Outline;
use super::proof::Proof;
use crate::codec::Compression;
use crate::digest::{Digest, SpanDigest};
use crate::extent::{CompressedOffset, UncompressedOffset};

/// The longest span in uncompressed bytes: all of one is in memory while it is verified.
pub const MAX_SPAN_BYTES: u32 = 64 << 20;

/// How decompression can begin at a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Only by decoding the spans before it, from the nearest that can be begun at.
    Continues,
    /// Without any state: at a gzip member, a zstd frame, or anywhere in a plain tar.
    Here,
    /// Between two deflate blocks.
    Block {
        /// Upper bits of the first byte (0 to 7) that belong to this span; with 0 all of it does.
        bits: u8,
        /// Place of the window in the table of windows: offset and length in bytes.
        window: (u64, u32),
    },
}

/// How the bytes of a span are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The span's digest is that of its bytes.
    Content,
    /// It is made of these rows of the table of chunks, each with the digest of its bytes; the
    /// span's digest is [`SpanDigest::of_chunks`].
    Chunks {
        /// First row.
        first: u32,
        /// Number of rows.
        count: u32,
    },
    /// This row has the SHA-256 of the *compressed* bytes; the span's digest is
    /// [`SpanDigest::of_compressed`].
    Compressed {
        /// The row.
        chunk: u32,
    },
    /// Not at all: see [`Proof::Transport`]. The span's digest is known when its bytes have come, and is zeros
    /// before.
    Transport,
}

/// A run of uncompressed bytes that is fetched, verified and cached as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins in the tar.
    pub start: UncompressedOffset,
    /// Length in uncompressed bytes.
    pub length: u32,
    /// The first compressed byte that it needs. With [`Restart::Block`] and bits, neighbours share
    /// that byte.
    pub compressed_start: CompressedOffset,
    /// Just past the last one.
    pub compressed_end: CompressedOffset,
    /// How to begin there.
    pub restart: Restart,
    /// How to verify it.
    pub check: Check,
    /// Its name: what the bytes are, wherever they come from. (In a table without proof, see
    /// [`SpanTable::unproven_blob`].)
    pub digest: SpanDigest,
}

impl Span {
    /// Offset just past the span.
    pub fn end(&self) -> u64 {
        self.start.0 + u64::from(self.length)
    }
}

/// A piece of a layer to which a format of others gives a digest (eStargz and zstd:chunked: a piece
/// of a file; SOCI: a run of compressed bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the gzip member or zstd frame begins that holds it.
    pub compressed_start: CompressedOffset,
    /// Uncompressed bytes of that member before it.
    pub skip: u64,
    /// Length in uncompressed bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: [u8; 32],
}

/// Where the windows of an index are.
#[derive(Clone, Debug, PartialEq)]
pub enum Windows {
    /// Here.
    Loaded(Arc<Vec<u8>>),
    /// Left where the index came from.
    Detached,
}

/// Everything needed to fetch and verify the bytes of a layer.
#[derive(Clone, Debug)]
pub struct SpanTable {
    /// The spans, in order, without gaps.
    pub spans: Vec<Span>,
    /// The chunks that spans refer to.
    pub chunks: Vec<Chunk>,
    /// The windows that spans refer to.
    pub windows: Windows,
    /// Compression of the blob, if it is known.
    pub compression: Option<Compression>,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// What has been checked.
    pub proof: Proof,
    /// What was shown, where only headers were read.
    pub outline: Option<Outline>,
    /// The blob, where nothing proves the table. The names of its spans are then
    /// [`SpanDigest::in_unproven`], so that no bytes of another layer are shown for those of this one.
    pub unproven_blob: Option<Digest>,
}
