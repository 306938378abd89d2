//! Documents as they come.

use crate::digest::Digest;

/// A manifest, image index or config as it came, unverified.
#[derive(Clone, Debug)]
pub struct RawDocument {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The media type that was announced with it, if any.
    pub media_type: Option<String>,
    /// The digest that the source says it has; the caller checks it.
    pub digest: Option<Digest>,
}
