//! Tables of contents that layers carry: eStargz and zstd:chunked.
//!
//! # Problem
//!
//! Some layers are written so that each file can be fetched alone: every file (or chunk of one)
//! begins a gzip member or zstd frame of its own, and a table of contents at the end of the blob
//! says where. With it a layer is usable after one or two small requests instead of a whole pass.
//!
//! # Why it can be trusted
//!
//! The layer's descriptor in the manifest names a digest of the TOC ([`promise`]), and the TOC a
//! digest of every chunk. A TOC without a digest in the descriptor is not looked for at all. What
//! the chain does *not* say is that the TOC and the tar inside the layer agree: a dishonest writer
//! can show one thing to readers of the TOC and another to those who unpack the tar. Both are what
//! the author of the manifest signed up for, but the diff ID proves only the tar.
//!
//! # Formats
//!
//! - eStargz (containerd/stargz-snapshotter, docs/estargz.md), with the footer of its predecessor
//!   stargz as well. The TOC is `stargz.index.json` in a tar in a gzip member.
//! - zstd:chunked as `stargz-snapshotter` and old releases of Podman and Buildah annotate it, and
//!   as containers/storage does today. The TOC is a zstd frame inside a skippable frame. Its place
//!   is taken from the annotations, never from the footer, which nothing protects. The tar-split
//!   part, which rebuilds the tar's headers, is not read.
//!
//! # Design
//!
//! No I/O: the caller asks where to look ([`TocAnnotation::first_fetch`], [`find`]), brings the bytes,
//! and [`read`] checks and parses them. A TOC does not say where a file lies in the tar, so
//! offsets are *virtual*: the contents of all files one after the other, in the order of their
//! compressed places. Rejected: computing the tar's offsets by guessing the sizes of headers, which
//! only the writer's tar library knows; and one offset space per file, which neither runs nor spans
//! could express.
//!
//! Go's JSON writer turns bytes that are not UTF-8 into U+FFFD, so a TOC cannot say such names. A
//! TOC in which that character occurs is refused ([`Fault::LossyName`]); the layer's tar has the
//! true name. Users' names, access and change times are not read.
//!
//! # Invariants
//!
//! - Digests are checked before a byte is parsed, and sizes before anything is allocated by them.
//! - The chunks of a [`Toc`] cover `0..content_bytes` exactly; they are ordered by `start` and by
//!   compressed place, lie before the TOC, and those of one member do not overlap.
//! - Every run of an entry lies in `0..content_bytes` and in the file; all of a file is in runs or
//!   in holes that the TOC names.

mod footer;
mod rows;
mod time;

use std::ops::Range;

use crate::codec::{self, Compression, Decoder};
use crate::digest::{self, ContentHash, Digest};
use crate::extent::UncompressedOffset;
use crate::oci::Descriptor;
use crate::tar;

/// The largest TOC accepted in bytes, compressed or not: the limit of containers/storage.
pub const MAX_TOC_BYTES: u64 = 150 << 20;

/// Rows accepted in one TOC (entries and further chunks). Each may cost 300 bytes of memory, and
/// JSON can claim one in 20 bytes; [`MAX_TOC_BYTES`] hold about a million real ones.
pub const MAX_ROWS: usize = 4 << 20;

/// The most that may stand before a chunk in its member, in uncompressed bytes. Every read of such
/// a chunk decompresses all of it; writers share members among small files only.
pub const MAX_SKIP_BYTES: u64 = 256 << 20;

/// How much of the end of an eStargz layer is worth fetching at once, in bytes: the footer and the
/// TOC of some 5,000 files. One request for too much is cheaper than two.
const TAIL_BYTES: u64 = 512 << 10;

/// Digest of the TOC's JSON (stargz-snapshotter, estargz/types.go).
const JSON_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The two dialects' prefixes, the later one first: containers/storage since 2023, and
/// stargz-snapshotter, whose names Podman 4 and Buildah 1.28 used too.
const ZSTD_PREFIXES: [&str; 2] =
    ["io.github.containers.zstd-chunked", "io.containers.zstd-chunked"];

/// The only type of zstd:chunked manifest: JSON as in eStargz.
const MANIFEST_TYPE: u64 = 1;

/// The name of the TOC in its tar.
const TOC_NAME: &[u8] = b"stargz.index.json";

/// Files that stargz-snapshotter adds to the root of a layer for itself, to say how much of it to
/// prefetch.
const LANDMARKS: [&[u8]; 2] = [b".prefetch.landmark", b".no.prefetch.landmark"];

/// SHA-256 of what a landmark holds: the byte 0x0f.
const LANDMARK: ContentHash = [
    0xdc, 0x0e, 0x9c, 0x36, 0x58, 0xa1, 0xa3, 0xed, 0x1e, 0xc9, 0x42, 0x74, 0xd8, 0xb1, 0x99, 0x25,
    0xc9, 0x3e, 0x1a, 0xbb, 0x7d, 0xdb, 0xa2, 0x94, 0x92, 0x3a, 0xd9, 0xbd, 0xe3, 0x0f, 0x8c, 0xb8,
];

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

/// What a layer's descriptor promises about a TOC, before anything is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TocAnnotation {
    /// The footer of the blob says where it is.
    Estargz {
        /// Digest of the JSON, uncompressed.
        json: Digest,
    },
    /// The annotations say where it is.
    ZstdChunked {
        /// Place of the compressed JSON in the blob.
        manifest: Range<u64>,
        /// Length of the JSON in bytes.
        json_bytes: u64,
        /// Digest of the compressed JSON.
        digest: Digest,
        /// Digest of the JSON, uncompressed. Only stargz-snapshotter adds it.
        json: Option<Digest>,
    },
}

/// Reads what a layer's annotations promise; `None` if they name no digest, or in a form that
/// nobody writes: then there is nothing that a TOC could be checked against.
///
/// A layer with both kinds of annotation is zstd:chunked as stargz-snapshotter writes it.
pub fn promise(descriptor: &Descriptor) -> Option<TocAnnotation> {
    let annotation = |name: &str| descriptor.annotations.get(name).map(String::as_str);
    let json = annotation(JSON_DIGEST).and_then(|text| text.parse().ok());
    for prefix in ZSTD_PREFIXES {
        let digest = annotation(&format!("{prefix}.manifest-checksum"));
        let position = annotation(&format!("{prefix}.manifest-position"));
        let position = position.and_then(position_numbers);
        if let (Some(digest), Some(position)) = (digest.and_then(|d| d.parse().ok()), position) {
            let [start, length, json_bytes, MANIFEST_TYPE] = position else { return None };
            let manifest = start..start.checked_add(length)?;
            return Some(TocAnnotation::ZstdChunked { manifest, json_bytes, digest, json });
        }
    }
    json.map(|json| TocAnnotation::Estargz { json })
}

/// `offset:compressed length:length:type`, decimal.
fn position_numbers(text: &str) -> Option<[u64; 4]> {
    let numbers: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

impl TocAnnotation {
    /// The part of a blob of `blob_size` bytes to fetch first: for eStargz its end, with the
    /// footer and hopefully the TOC; for zstd:chunked exactly the TOC.
    pub fn first_fetch(&self, blob_size: u64) -> Range<u64> {
        match self {
            TocAnnotation::Estargz { .. } => blob_size.saturating_sub(TAIL_BYTES)..blob_size,
            TocAnnotation::ZstdChunked { manifest, .. } => {
                manifest.start.min(blob_size)..manifest.end.min(blob_size)
            }
        }
    }

    /// Whether a regular file in the root of the layer is one that the layer's writer added for
    /// itself, which is not part of the image: a landmark of stargz-snapshotter, or the TOC, which is
    /// a file of the tar too. `size` is in bytes, `content` the SHA-256: what else is stored under
    /// the same names is a file like any other.
    ///
    /// Only for layers with that tool's own annotation; elsewhere landmarks are files too.
    pub fn is_bookkeeping(&self, name: &[u8], size: u64, content: &ContentHash) -> bool {
        let (by_stargz, toc) = match self {
            TocAnnotation::Estargz { json } => (true, Some(json)),
            // This TOC is in no tar.
            TocAnnotation::ZstdChunked { json, .. } => (json.is_some(), None),
        };
        if name == TOC_NAME {
            return toc.is_some_and(|json| json.hash() == content);
        }
        by_stargz && LANDMARKS.contains(&name) && (size, content) == (1, &LANDMARK)
    }
}

/// Where the compressed TOC lies in a blob of `blob_size` bytes. `tail` is a part of the blob that
/// begins at `tail_start`: the one of [`TocAnnotation::first_fetch`], or any that ends where that ends.
///
/// # Errors
/// There is no TOC, or not in the blob, or it is too large.
pub fn find(
    promise: &TocAnnotation,
    tail: &[u8],
    tail_start: u64,
    blob_size: u64,
) -> Result<Range<u64>, Error> {
    let (place, json_bytes, end) = match promise {
        TocAnnotation::Estargz { .. } => {
            if tail_start.checked_add(tail.len() as u64) != Some(blob_size) {
                return Err(Error::NotTheEnd);
            }
            let footer = footer::read(tail).ok_or(match tail.len() {
                short if short < footer::BYTES && tail_start > 0 => Error::NotTheEnd,
                _ => Error::NoFooter,
            })?;
            let footer::Footer { bytes, toc } = footer;
            let end = blob_size - bytes as u64;
            (toc.ok_or(Error::ExternalToc)?..end, 0, end)
        }
        TocAnnotation::ZstdChunked { manifest, json_bytes, .. } => {
            (manifest.clone(), *json_bytes, blob_size)
        }
    };
    if place.start >= place.end || place.end > end {
        return Err(Error::Place(place));
    }
    if place.end - place.start > MAX_TOC_BYTES || json_bytes > MAX_TOC_BYTES {
        return Err(Error::TooLarge);
    }
    Ok(place)
}

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

/// Checks and parses the TOC: `bytes` are those of the blob at `place`, which came from [`find`].
///
/// # Errors
/// The bytes are not those that the descriptor promised, what they say can't be true, or the JSON has
/// more than `most` bytes.
pub fn read(
    promise: &TocAnnotation,
    place: &Range<u64>,
    bytes: &[u8],
    most: u64,
) -> Result<Toc, Error> {
    let most = most.min(MAX_TOC_BYTES);
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge);
    }
    let json = match promise {
        TocAnnotation::Estargz { json: expected } => {
            let json = toc_of_tar(bytes, most)?;
            check(*expected, &json)?;
            json
        }
        TocAnnotation::ZstdChunked { json_bytes, digest, json: expected, .. } => {
            check(*digest, bytes)?;
            let json = zstd_frame(bytes, *json_bytes, most)?;
            if let Some(expected) = expected {
                check(*expected, &json)?;
            }
            json
        }
    };
    // Content lies before its TOC in every format.
    rows::parse(&json, place.start)
}

fn check(expected: Digest, bytes: &[u8]) -> Result<(), Error> {
    let mut hasher = digest::Hasher::new(expected.algorithm());
    hasher.update(bytes);
    match hasher.finish() {
        got if got == expected => Ok(()),
        got => Err(Error::Digest { expected, got }),
    }
}

fn zstd_frame(bytes: &[u8], expected: u64, most: u64) -> Result<Vec<u8>, Error> {
    if Compression::sniff(bytes)? != Compression::Zstd {
        return Err(Error::NotZstd);
    }
    if expected > most {
        return Err(Error::TooLarge);
    }
    let json = codec::decompress(bytes, usize::try_from(expected).map_err(|_| Error::TooLarge)?)?;
    match json.len() as u64 {
        got if got == expected => Ok(json),
        got => Err(Error::Length { expected, got }),
    }
}

/// The JSON of an eStargz layer: the only file of a compressed tar.
fn toc_of_tar(bytes: &[u8], most: u64) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(Compression::Gzip)?;
    let mut parser = tar::Parser::new();
    let mut file = TocFile::default();
    let mut output = vec![0; 64 << 10];
    let (mut rest, mut total) = (bytes, 0);
    loop {
        let progress = decoder.decode(rest, &mut output)?;
        if progress.consumed == 0 && progress.produced == 0 {
            break;
        }
        rest = &rest[progress.consumed..];
        total += progress.produced as u64;
        if total > most {
            return Err(Error::TooLarge);
        }
        parser.feed(&output[..progress.produced], &mut file)?;
    }
    decoder.finish()?;
    parser.finish()?;
    file.json.ok_or(Error::TarContent)
}

/// Takes the TOC out of its tar.
#[derive(Default)]
struct TocFile {
    json: Option<Vec<u8>>,
}

impl tar::Sink for TocFile {
    type Error = Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), Error> {
        let is_toc = entry.path == TOC_NAME && entry.kind == tar::FileType::File && !entry.sparse;
        if !is_toc || self.json.is_some() {
            return Err(Error::TarContent);
        }
        self.json = Some(Vec::new());
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(json) = &mut self.json {
            json.extend_from_slice(bytes);
        }
    }

    fn end(&mut self) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
