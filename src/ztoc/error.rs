//! Why a ztoc or a SOCI index is not used.

use crate::digest::Digest;
use crate::oci;

/// The largest ztoc accepted, in bytes. The windows are nearly all of it: 32 KiB for 4 MiB of
/// layer, so that this is the ztoc of a layer of 64 GiB.
pub const MAX_ZTOC_BYTES: usize = 512 << 20;

/// Entries accepted in one ztoc, as in one layer.
pub const MAX_ENTRIES: usize = 16 << 20;

/// The version of the format.
pub(super) const VERSION: &str = "0.9";

/// Why a ztoc or a SOCI index is not used. The layer can be read without it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the ztoc has {0} bytes; more than {MAX_ZTOC_BYTES} are not accepted")]
    TooLarge(usize),
    #[error("malformed FlatBuffer at byte {at}: {what}")]
    Flatbuffer { at: usize, what: &'static str },
    #[error("the ztoc has no `{0}`")]
    Missing(&'static str),
    #[error("`{field}` of the ztoc is {value}, which is no size")]
    Range { field: &'static str, value: i64 },
    #[error("the ztoc has version `{0}`, but only `{VERSION}` is known")]
    Version(String),
    #[error("the ztoc is for a compression that SOCI does not define (number {0})")]
    Compression(i8),
    #[error("the ztoc says that {compressed} bytes hold {uncompressed}, which is absurd")]
    Ratio { compressed: u64, uncompressed: u64 },
    #[error("the ztoc has {0} entries; more than {MAX_ENTRIES} are not accepted")]
    TooManyEntries(usize),
    #[error("the ztoc refers to the same bytes too often")]
    Expansion,
    #[error("entry `{name}` of the ztoc: unknown type `{kind}`")]
    UnknownType { name: String, kind: String },
    #[error("entry `{name}` of the ztoc is a sparse file, whose map a ztoc does not have")]
    Sparse { name: String },
    #[error("entry `{name}` of the ztoc: {what}")]
    Entry { name: String, what: &'static str },
    #[error("checkpoints of the ztoc: {0}")]
    Checkpoints(&'static str),
    #[error("`{0}` is not the SHA-256 digest of a span")]
    SpanDigest(String),
    #[error("the SOCI index is not usable: {0}")]
    Manifest(oci::Error),
    #[error("the document is not a SOCI index but of type `{0}`")]
    NotSoci(String),
    #[error("ztoc {ztoc}: annotation `{name}` is missing or wrong: `{value}`")]
    Annotation { ztoc: Digest, name: &'static str, value: String },
}

impl From<oci::Error> for Error {
    fn from(error: oci::Error) -> Error {
        Error::Manifest(error)
    }
}

/// Text of a hostile document, fit for a message.
pub(super) fn shortened(text: &[u8]) -> String {
    let mut shown = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
    if text.len() > 80 {
        shown.push('…');
    }
    shown
}
