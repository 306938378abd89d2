//! Why a tar stream is refused.

/// Why a tar stream is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("tar header at offset {at}: the checksum does not match")]
    Checksum { at: u64 },
    #[error("tar header at offset {at}: field `{field}` is not a number")]
    Number { at: u64, field: &'static str },
    #[error("tar header at offset {at}: {field} is {value}, which does not fit")]
    Range { at: u64, field: &'static str, value: i64 },
    #[error("tar header at offset {at}: unsupported entry type {kind:?}")]
    UnknownType { at: u64, kind: char },
    #[error("tar header at offset {at}: the extension data is larger than 1 MiB")]
    MetadataTooLarge { at: u64 },
    #[error("tar header at offset {at}: malformed PAX record: {what}")]
    Pax { at: u64, what: &'static str },
    #[error("tar header at offset {at}: invalid sparse map: {what}")]
    Sparse { at: u64, what: &'static str },
    #[error("tar entry at offset {at}: content of {size} bytes reaches past any possible archive")]
    Size { at: u64, size: u64 },
    #[error("the tar ends inside an entry, at offset {at}")]
    Truncated { at: u64 },
    #[error("tar header at offset {at}: a lone zero block stands inside the archive")]
    LoneZeroBlock { at: u64 },
}
