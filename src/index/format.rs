//! The file format of a layer index, version 3.
//!
//! ```text
//! head     FileHeader: magic, version, identity of the layer, and a table of sections
//!          sections, each a run of fixed-size records or plain bytes, without gaps:
//!          dirs | entries | whiteouts | runs | xattrs | spans | chunks | bytes
//!          BLAKE3 of everything before it (32 bytes)
//! tail     hashes | windows
//!          BLAKE3 of the tail (32 bytes)
//! ```
//!
//! All numbers are little-endian and unaligned. `bytes` holds names, link targets and xattr values,
//! which records refer to by offset and length; equal strings are stored once where that is free.
//! `hashes` has the digest of each file's content, `windows` those of gzip checkpoints as
//! [`crate::codec::window`] stores them.
//!
//! The head alone is enough to mount: an index that travels is fetched without its tail, which is
//! as large as the head, cannot be compressed, and of which a read needs one window at most.
//!
//! A golden file in the tests pins these bytes: a change of layout needs a new [`VERSION`], and a
//! file of another version is rebuilt, never migrated. (Version 1 had no checkpoints, version 2 no digests
//! of sparse files.)
//!
//! FlatBuffers was considered: its tables would add a schema compiler and an indirection for each
//! record, and its vectors of structs are exactly what stands here.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::span::{Check, Chunk, Restart, Span};
use crate::digest::{Algorithm, Digest, SpanDigest};
use crate::extent::{CompressedOffset, UncompressedOffset};

/// First bytes of every layer index.
pub const MAGIC: [u8; 8] = *b"OCIFSLIX";

/// Version of the format described here.
pub const VERSION: u32 = 3;

/// Length of the checksum behind the head, and behind the tail, in bytes.
pub const CHECKSUM_BYTES: usize = 32;

/// Number of sections, in head and tail together.
pub const SECTIONS: usize = 10;

/// [`DirRecord::flags`]: the layer has an entry at this path.
pub const DIR_HAS_ENTRY: u16 = 1;

/// [`EntryRecord::flags`]: see [`super::Entry::hidden`].
pub const ENTRY_HIDDEN: u8 = 1;
/// [`EntryRecord::flags`]: `data` is the first row in the table of runs, `extra` their number.
pub const ENTRY_SPARSE: u8 = 2;
/// [`EntryRecord::flags`]: the row in the table of hashes is a
/// [`ContentDigest::Blocks`](crate::digest::ContentDigest), and not a SHA-256.
pub const ENTRY_BLOCKS: u8 = 4;

/// [`EntryRecord::hash`] of an entry without a content hash.
pub const NO_HASH: u32 = u32::MAX;

/// [`EntryRecord::kind`]: `data` is the offset of the content in the tar.
pub const KIND_FILE: u8 = 0;
/// [`EntryRecord::kind`]: a directory.
pub const KIND_DIRECTORY: u8 = 1;
/// [`EntryRecord::kind`]: `data` and `extra` are offset and length of the target.
pub const KIND_SYMLINK: u8 = 2;
/// [`EntryRecord::kind`]: `data` is the target's directory (high half) and the offset of its name
/// (low half), `extra` the length of its name.
pub const KIND_HARD_LINK: u8 = 3;
/// [`EntryRecord::kind`]: `data` is major (high half) and minor (low half).
pub const KIND_CHAR_DEVICE: u8 = 4;
/// [`EntryRecord::kind`]: as for character devices.
pub const KIND_BLOCK_DEVICE: u8 = 5;
/// [`EntryRecord::kind`]: a named pipe.
pub const KIND_FIFO: u8 = 6;

/// A digest with its algorithm: 1 for SHA-256, 2 for SHA-512.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
pub struct DigestField {
    algorithm: u8,
    hash: [u8; 64],
}

impl DigestField {
    /// Encodes a digest.
    pub fn new(digest: Digest) -> DigestField {
        let mut hash = [0; 64];
        hash[..digest.hash().len()].copy_from_slice(digest.hash());
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        };
        DigestField { algorithm, hash }
    }

    /// Decodes it; `None` for an unknown algorithm.
    pub fn get(&self) -> Option<Digest> {
        let algorithm = match self.algorithm {
            1 => Algorithm::Sha256,
            2 => Algorithm::Sha512,
            _ => return None,
        };
        Digest::from_hash(algorithm, &self.hash[..algorithm.hash_bytes()])
    }
}

/// The fixed part at the start of the file.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "named after the fields of LayerIndex")]
pub struct FileHeader {
    pub magic: [u8; 8],
    pub version: U32,
    pub compression: u8,
    pub proof: u8,
    pub reserved: U16,
    /// In bytes.
    pub missing_padding: U32,
    pub blob: DigestField,
    pub diff_id: DigestField,
    pub blob_size: U64,
    pub uncompressed_size: U64,
    /// Number of records (bytes for `bytes` and `windows`) of each section, in the order of the file.
    pub counts: [U64; SECTIONS],
}

/// A directory path.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see super::Dir")]
pub struct DirRecord {
    pub parent: U32,
    pub name_offset: U32,
    pub name_length: U16,
    pub flags: U16,
}

/// An entry, 64 bytes.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see super::Entry")]
pub struct EntryRecord {
    pub dir: U32,
    pub name_offset: U32,
    pub name_length: U16,
    pub kind: u8,
    pub flags: u8,
    pub mode: U16,
    pub xattr_count: U16,
    pub uid: U32,
    pub gid: U32,
    pub mtime_seconds: I64,
    pub mtime_nanoseconds: U32,
    pub size: U64,
    /// By kind: see the `KIND_` constants.
    pub data: U64,
    pub extra: U32,
    pub first_xattr: U32,
    /// Row in the table of hashes, or [`NO_HASH`].
    pub hash: U32,
}

/// A whiteout; an opaque mark has no name.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see super::Whiteout")]
pub struct WhiteoutRecord {
    pub dir: U32,
    pub name_offset: U32,
    pub name_length: U32,
}

/// A run of a sparse file.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see crate::extent::Run")]
pub struct RunRecord {
    pub file_offset: U64,
    pub start: U64,
    pub length: U64,
}

/// An extended attribute.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "offsets and lengths in the bytes section")]
pub struct XattrRecord {
    pub name_offset: U32,
    pub name_length: U32,
    pub value_offset: U32,
    pub value_length: U32,
}

/// A span.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see super::Span")]
pub struct SpanRecord {
    pub start: U64,
    pub compressed_start: U64,
    pub compressed_end: U64,
    pub window_offset: U64,
    pub window_length: U32,
    pub length: U32,
    /// Rows in the table of chunks, by `check`.
    pub first_chunk: U32,
    pub chunk_count: U32,
    /// One of the `RESTART_` constants.
    pub restart: u8,
    pub bits: u8,
    /// One of the `CHECK_` constants.
    pub check: u8,
    pub reserved: u8,
    pub digest: [u8; 32],
}

/// [`SpanRecord::restart`]: only by decoding the spans before it.
pub const RESTART_CONTINUES: u8 = 0;
/// [`SpanRecord::restart`]: without state.
pub const RESTART_HERE: u8 = 1;
/// [`SpanRecord::restart`]: between deflate blocks, with a window.
pub const RESTART_BLOCK: u8 = 2;

/// [`SpanRecord::check`]: `digest` is the BLAKE3 of the span's bytes.
pub const CHECK_CONTENT: u8 = 0;
/// [`SpanRecord::check`]: the span is made of chunks with digests of their own.
pub const CHECK_CHUNKS: u8 = 1;
/// [`SpanRecord::check`]: one chunk has the SHA-256 of the compressed bytes.
pub const CHECK_COMPRESSED: u8 = 2;
/// [`Check::Transport`].
pub const CHECK_TRANSPORT: u8 = 3;

impl SpanRecord {
    /// Encodes a span.
    pub fn new(span: &Span) -> SpanRecord {
        let (restart, bits, (window_offset, window_length)) = match span.restart {
            Restart::Continues => (RESTART_CONTINUES, 0, (0, 0)),
            Restart::Here => (RESTART_HERE, 0, (0, 0)),
            Restart::Block { bits, window } => (RESTART_BLOCK, bits, window),
        };
        let (check, first_chunk, chunk_count) = match span.check {
            Check::Content => (CHECK_CONTENT, 0, 0),
            Check::Chunks { first, count } => (CHECK_CHUNKS, first, count),
            Check::Compressed { chunk } => (CHECK_COMPRESSED, chunk, 1),
            Check::Transport => (CHECK_TRANSPORT, 0, 0),
        };
        SpanRecord {
            start: span.start.0.into(),
            compressed_start: span.compressed_start.0.into(),
            compressed_end: span.compressed_end.0.into(),
            window_offset: window_offset.into(),
            window_length: window_length.into(),
            length: span.length.into(),
            first_chunk: first_chunk.into(),
            chunk_count: chunk_count.into(),
            restart,
            bits,
            check,
            reserved: 0,
            digest: span.digest.0,
        }
    }

    /// Decodes a checked record.
    pub fn to_span(&self) -> Span {
        let window = (self.window_offset.get(), self.window_length.get());
        let (first, count) = (self.first_chunk.get(), self.chunk_count.get());
        Span {
            start: UncompressedOffset(self.start.get()),
            length: self.length.get(),
            compressed_start: CompressedOffset(self.compressed_start.get()),
            compressed_end: CompressedOffset(self.compressed_end.get()),
            restart: match self.restart {
                RESTART_CONTINUES => Restart::Continues,
                RESTART_HERE => Restart::Here,
                _ => Restart::Block { bits: self.bits, window },
            },
            check: match self.check {
                CHECK_CONTENT => Check::Content,
                CHECK_CHUNKS => Check::Chunks { first, count },
                CHECK_TRANSPORT => Check::Transport,
                _ => Check::Compressed { chunk: first },
            },
            digest: SpanDigest(self.digest),
        }
    }
}

/// A chunk: what formats of others give a digest to.
#[derive(
    Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs, reason = "see super::Chunk")]
pub struct ChunkRecord {
    pub compressed_start: U64,
    pub skip: U64,
    pub length: U64,
    pub digest: [u8; 32],
}

impl ChunkRecord {
    /// Encodes a chunk.
    pub fn new(chunk: &Chunk) -> ChunkRecord {
        ChunkRecord {
            compressed_start: chunk.compressed_start.0.into(),
            skip: chunk.skip.into(),
            length: chunk.length.into(),
            digest: chunk.digest,
        }
    }

    /// Decodes a checked record.
    pub fn to_chunk(&self) -> Chunk {
        Chunk {
            compressed_start: CompressedOffset(self.compressed_start.get()),
            skip: self.skip.get(),
            length: self.length.get(),
            digest: self.digest,
        }
    }
}
