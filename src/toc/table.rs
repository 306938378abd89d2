//! A TOC that was read and checked.

use std::ops::Range;

use crate::digest::ContentHash;
use crate::extent::UncompressedOffset;
use crate::tar;

/// The most that may stand before a chunk in its member, in uncompressed bytes. Every read of such
/// a chunk decompresses all of it; writers share members among small files only.
pub const MAX_SKIP_BYTES: u64 = 256 << 20;

/// What a layer's TOC says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    /// The entries in the order of the TOC, which is that of the tar; with landmarks.
    pub entries: Vec<TocEntry>,
    /// All content, in the order of its place in the virtual space and in the blob.
    pub chunks: Vec<Chunk>,
    /// Size of the virtual space: the stored content of all files.
    pub content_bytes: u64,
}

/// One entry of a layer, as its tar would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// The entry; its runs point into the virtual space. A file whose bytes are not one run from
    /// start to end is marked as sparse.
    pub entry: tar::Entry,
    /// What the TOC says is the SHA-256 of the file; `None` for empty files and where the TOC does
    /// not say. Content is verified by chunks: for a file of one this is that chunk's digest, for a
    /// file of several the writer's word.
    pub content_hash: Option<ContentHash>,
}

/// A run of content with a digest of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Place in the virtual space.
    pub start: UncompressedOffset,
    /// Length in uncompressed bytes, at least 1. There is no upper limit: eStargz cuts at 4 MiB by
    /// default, but containers/storage cuts by content and makes one chunk of a gigabyte of equal
    /// bytes.
    pub length: u64,
    /// Place in the blob: where the gzip member or zstd frame begins, and where it ends at the
    /// latest. Other members may follow in it, and the member may go on after the chunk.
    pub compressed: Range<u64>,
    /// Uncompressed bytes of the member that come before the chunk, at most [`MAX_SKIP_BYTES`].
    pub skip: u64,
    /// SHA-256 of the chunk.
    pub digest: [u8; 32],
}
