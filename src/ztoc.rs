//! SOCI's layer indexes: *ztocs*, and the manifests that list them.
//!
//! AWS' soci-snapshotter makes existing layers lazy without changing them. For each layer of some
//! size it stores a ztoc: the entries of the tar, and checkpoints from which the gzip stream can be
//! decompressed, with a digest of the compressed bytes of each span. With a ztoc nothing of
//! the layer need be read before its first file is.
//!
//! Format: `ztoc/fbs/ztoc.fbs`, `ztoc/compression/gzip_zinfo.c` and `docs/` of
//! awslabs/soci-snapshotter, version 0.9. A ztoc is a FlatBuffer without a file identifier. The
//! `flatbuffers` crate was considered: its accessors need a schema compiler, and are sound only
//! behind a verifier that has to be generated as well; the four tables here need some hundred lines
//! of checked reads.
//!
//! # What a reader must know
//!
//! - **The first span.** [`ZtocSpan::compressed`] begins behind the gzip header; the header is under
//!   no digest. Inflate from there, as with every other span (raw, with an empty window), or parse
//!   the header and insist that it ends there: a header whose flags were changed on the way would
//!   otherwise shift the data behind it. The first encoding of checkpoints does not store where the
//!   header ends and takes it to be 10 bytes ([`Ztoc::first_checkpoint_implied`]), which is wrong
//!   for a header with a name. Such a layer's header does not end at `compressed.start`, and its
//!   ztoc is of no use.
//! - **Spans share a byte.** A deflate block may begin inside a byte. The byte before
//!   `compressed.start` then belongs to two spans, and to the digests of both.
//! - **Members.** A layer may have several gzip members, and a span may cross from one to the
//!   next: behind the last block stand 8 bytes of trailer and a header.
//! - **The end.** A ztoc's size of the tar is what Go's `archive/tar` had read when it saw the end
//!   mark. Zeros may follow, so the last span may inflate to more than its length.
//! - **A check.** The window of a span is the last 32 KiB before it, which span by span verifies
//!   what the span before it inflated to.
//!
//! # Invariants
//!
//! - Entries are in the order of the tar, do not overlap, and lie inside it.
//! - Spans are not empty, cover the tar without gaps or overlaps, and their compressed ranges are
//!   in order, not empty and inside the blob. Nothing bounds the length of a span: that is the
//!   layer's choice of blocks, so a caller with a limit has to apply it.
//! - Memory is bounded by [`MAX_ZTOC_BYTES`] and [`MAX_EXPANSION`], whatever the parts of a buffer
//!   that refer to each other claim. Windows are borrowed.
//!
//! What is said here is a claim of the ztoc's author. It becomes a promise of the image only by the
//! digests that lead to it: see [`SociVersion`].

mod budget;
mod entries;
mod error;
mod flatbuffer;
mod manifest;
mod spans;

use crate::codec::{self, Compression};
use crate::tar;
use budget::Budget;
use error::{VERSION, shortened};
use flatbuffer::Table;

pub use budget::MAX_EXPANSION;
pub use error::{Error, MAX_ENTRIES, MAX_ZTOC_BYTES};
pub use manifest::{
    ARTIFACT_TYPE_V1, ARTIFACT_TYPE_V2, INDEX_DIGEST_ANNOTATION, MANIFEST_DIGEST_ANNOTATION,
    SociIndex, SociLayer, SociVersion,
};
pub use spans::ZtocSpan;

/// Fields of the table `Ztoc`; `build_tool_identifier` (1) says nothing about the layer.
const ZTOC_VERSION: usize = 0;
const COMPRESSED_ARCHIVE_SIZE: usize = 2;
const UNCOMPRESSED_ARCHIVE_SIZE: usize = 3;
const TOC: usize = 4;
const COMPRESSION_INFO: usize = 5;

/// The only field of the table `TOC`.
const METADATA: usize = 0;

/// Fields of the table `CompressionInfo`.
const COMPRESSION_ALGORITHM: usize = 0;
const MAX_SPAN_ID: usize = 1;
const SPAN_DIGESTS: usize = 2;
const CHECKPOINTS: usize = 3;

/// Values of `CompressionAlgorithm`.
const GZIP: i8 = 1;
const UNCOMPRESSED: i8 = 2;

/// A parsed ztoc, which borrows the windows from its bytes.
#[derive(Clone, Debug)]
pub struct Ztoc<'a> {
    /// Size of the layer as it is stored, to be held against its descriptor.
    pub compressed_bytes: u64,
    /// Size of the tar: all of a plain one, up to and including its end mark of a compressed one.
    pub uncompressed_bytes: u64,
    /// [`Compression::Gzip`] or [`Compression::None`].
    pub compression: Compression,
    /// The entries of the tar in their order, without those that carry extensions.
    pub entries: Vec<tar::Entry>,
    /// The spans, in order.
    pub spans: Vec<ZtocSpan<'a>>,
    /// Where deflate data begins was not stored: `spans[0].compressed.start` is a guess.
    pub first_checkpoint_implied: bool,
}

impl<'a> Ztoc<'a> {
    /// Parses a ztoc.
    ///
    /// # Errors
    /// Any: a ztoc that is not understood in full is not used. [`Error::Sparse`] is the one that
    /// ztocs of real layers give.
    pub fn parse(bytes: &'a [u8]) -> Result<Ztoc<'a>, Error> {
        if bytes.len() > MAX_ZTOC_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        let mut budget = Budget(bytes.len() * MAX_EXPANSION);
        let ztoc = Table::root(bytes)?;
        let version = ztoc.bytes(ZTOC_VERSION)?;
        if version != VERSION.as_bytes() {
            return Err(Error::Version(shortened(version)));
        }
        let mut sizes = spans::Sizes {
            compressed: ztoc.size(COMPRESSED_ARCHIVE_SIZE, "compressed_archive_size")?,
            uncompressed: ztoc.size(UNCOMPRESSED_ARCHIVE_SIZE, "uncompressed_archive_size")?,
        };
        if sizes.uncompressed > codec::plausible_uncompressed_bytes(sizes.compressed) {
            let spans::Sizes { compressed, uncompressed } = sizes;
            return Err(Error::Ratio { compressed, uncompressed });
        }
        let info = ztoc.table(COMPRESSION_INFO, "compression_info")?;
        let digests = info.vector(SPAN_DIGESTS)?;
        let digests = spans::digests(digests, info.i32(MAX_SPAN_ID)?, &mut budget)?;
        let checkpoints = info.bytes(CHECKPOINTS)?;
        let (compression, (spans, first_checkpoint_implied)) =
            match info.i8(COMPRESSION_ALGORITHM, GZIP)? {
                GZIP => (Compression::Gzip, spans::gzip(checkpoints, &digests, sizes)?),
                UNCOMPRESSED => {
                    let spans = spans::plain(checkpoints, &digests, sizes)?;
                    sizes.uncompressed = sizes.compressed;
                    (Compression::None, (spans, false))
                }
                other => return Err(Error::Compression(other)),
            };
        let metadata = ztoc.table(TOC, "toc")?.vector(METADATA)?;
        Ok(Ztoc {
            compressed_bytes: sizes.compressed,
            uncompressed_bytes: sizes.uncompressed,
            compression,
            entries: entries::parse(metadata, sizes.uncompressed, &mut budget)?,
            spans,
            first_checkpoint_implied,
        })
    }
}
