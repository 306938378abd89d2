//! Why a TOC can't be used.

use std::ops::Range;

use crate::codec;
use crate::digest::{self, Digest};
use crate::tar;

/// The largest TOC accepted in bytes, compressed or not: the limit of containers/storage.
pub const MAX_TOC_BYTES: u64 = 150 << 20;

/// Rows accepted in one TOC (entries and further chunks). Each may cost 300 bytes of memory, and
/// JSON can claim one in 20 bytes; [`MAX_TOC_BYTES`] hold about a million real ones.
pub const MAX_ROWS: usize = 4 << 20;

/// Why a TOC can't be used. The layer can still be read as a whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the layer is annotated as eStargz but has no footer of that format")]
    NoFooter,
    #[error("the layer's table of contents is kept outside of it, which is not supported")]
    ExternalToc,
    #[error("the end of the layer is needed to find its table of contents, and was not read")]
    NotTheEnd,
    #[error("the table of contents is said to be at {0:?}, which is not inside the layer")]
    Place(Range<u64>),
    #[error(
        "the table of contents is larger than {MAX_TOC_BYTES} bytes, or than a layer of this size should have"
    )]
    TooLarge,
    #[error("the table of contents can't be decompressed: {0}")]
    Codec(codec::Error),
    #[error("the table of contents is in no tar: {0}")]
    Tar(tar::Error),
    #[error("the tar of the table of contents does not hold `stargz.index.json` alone")]
    TarContent,
    #[error("the table of contents is not compressed with zstd")]
    NotZstd,
    #[error("the table of contents has {got} bytes, its annotation says {expected}")]
    Length { expected: u64, got: u64 },
    #[error("the table of contents does not match its digest: expected {expected}, got {got}")]
    Digest { expected: Digest, got: Digest },
    #[error("the table of contents is not valid: {0}")]
    Json(serde_json::Error),
    #[error("the table of contents has version {0}; only version 1 is known")]
    Version(i64),
    #[error("the table of contents has more than {MAX_ROWS} rows")]
    TooManyRows,
    #[error(
        "the table of contents promises {bytes} bytes of content in {compressed} bytes of blob"
    )]
    Implausible { bytes: u64, compressed: u64 },
    #[error("table of contents, `{name}`: {fault}")]
    Row { name: String, fault: Fault },
}

/// What is wrong with one row of a TOC.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Fault {
    #[error("unknown type `{0}`")]
    Type(String),
    #[error("{field} is {value}, which does not fit")]
    Range { field: &'static str, value: i64 },
    #[error("`{0}` is not a time")]
    Time(String),
    #[error("xattr: {0}")]
    Xattr(&'static str),
    #[error("the name was not UTF-8 and is lost; only the layer's tar has it")]
    LossyName,
    #[error("a chunk that follows no file of its name")]
    Stray,
    #[error("unknown chunk type `{0}`")]
    ChunkType(String),
    #[error("a chunk begins at {got} of the file where {expected} was due")]
    ChunkOffset { expected: u64, got: u64 },
    #[error("the chunks do not add up to the {size} bytes of the file")]
    Sizes { size: u64 },
    #[error("the chunks are stored out of order")]
    Order,
    #[error("no place is given for its content")]
    NoPlace,
    #[error("the content at {0} is outside of the layer's files")]
    Place(u64),
    #[error("{0} bytes stand before the content in its member")]
    Skip(u64),
    #[error("the content overlaps that of another file")]
    Overlap,
    #[error("a chunk has no digest, so it could not be verified")]
    NoDigest,
    #[error("the digests of the file and of its only chunk differ")]
    Contradiction,
    #[error("{0}")]
    Digest(digest::ParseError),
    #[error("a digest is not of SHA-256")]
    NotSha256,
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Error {
        Error::Codec(error)
    }
}

impl From<tar::Error> for Error {
    fn from(error: tar::Error) -> Error {
        Error::Tar(error)
    }
}
