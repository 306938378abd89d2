//! The file format of a layer index, version 1.
//!
//! ```text
//! header   FileHeader: magic, version, identity of the layer, and a table of sections
//! sections in order, each a run of fixed-size records or plain bytes, without gaps:
//!          dirs | entries | whiteouts | runs | xattrs | hashes | spans | bytes | windows
//! trailer  BLAKE3 of everything before it (32 bytes)
//! ```
//!
//! All numbers are little-endian and unaligned. `bytes` holds names, link targets and xattr values,
//! which records refer to by offset and length; equal strings are stored once where that is free.
//! `windows` is empty in files written today: it is the place of gzip checkpoints' windows.
//!
//! A golden file in the tests pins these bytes: a change of layout needs a new [`VERSION`], and a
//! file of another version is rebuilt, never migrated.
//!
//! FlatBuffers was considered: its tables would add a schema compiler and an indirection for each
//! record, and its vectors of structs are exactly what stands here.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Restart, Span};
use crate::digest::{Algorithm, Digest, SpanDigest};
use crate::extent::{CompressedOffset, UncompressedOffset};

/// First bytes of every layer index.
pub const MAGIC: [u8; 8] = *b"OCIFSLIX";

/// Version of the format described here.
pub const VERSION: u32 = 1;

/// Length of the trailer in bytes.
pub const TRAILER_BYTES: usize = 32;

/// Number of sections.
pub const SECTIONS: usize = 9;

/// [`DirRecord::flags`]: the layer has an entry at this path.
pub const DIR_HAS_ENTRY: u16 = 1;

/// [`EntryRecord::flags`]: see [`super::Entry::hidden`].
pub const ENTRY_HIDDEN: u8 = 1;
/// [`EntryRecord::flags`]: `data` is the first row in the table of runs, `extra` their number.
pub const ENTRY_SPARSE: u8 = 2;

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
    pub blob: DigestField,
    pub diff_id: DigestField,
    pub blob_size: U64,
    pub uncompressed_size: U64,
    /// Number of records (bytes for `bytes` and `windows`) of each section.
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
    pub window_offset: U64,
    pub window_length: U32,
    pub length: U32,
    /// 0 from the start of the layer, 1 without state, 2 with a checkpoint.
    pub restart: u8,
    pub bits: u8,
    pub reserved: [u8; 2],
    pub digest: [u8; 32],
}

impl SpanRecord {
    /// Encodes a span.
    pub fn new(span: &Span) -> SpanRecord {
        let (restart, bits, (window_offset, window_length)) = match span.restart {
            Restart::FromStart => (0, 0, (0, 0)),
            Restart::Here => (1, 0, (0, 0)),
            Restart::Checkpoint { bits, window } => (2, bits, window),
        };
        SpanRecord {
            start: span.start.0.into(),
            compressed_start: span.compressed_start.0.into(),
            window_offset: window_offset.into(),
            window_length: window_length.into(),
            length: span.length.into(),
            restart,
            bits,
            reserved: [0; 2],
            digest: span.digest.0,
        }
    }

    /// Decodes a checked record.
    pub fn to_span(&self) -> Span {
        let window = (self.window_offset.get(), self.window_length.get());
        Span {
            start: UncompressedOffset(self.start.get()),
            length: self.length.get(),
            compressed_start: CompressedOffset(self.compressed_start.get()),
            restart: match self.restart {
                0 => Restart::FromStart,
                1 => Restart::Here,
                _ => Restart::Checkpoint { bits: self.bits, window },
            },
            digest: SpanDigest(self.digest),
        }
    }
}
