//! Manifests, image indexes and configs, by digest.

use super::folder::Cache;
use super::layout::blob_name;
use crate::digest::Digest;

/// Largest document that is read back, in bytes.
pub(super) const MAX_BLOB_BYTES: u64 = 64 << 20;

impl Cache {
    /// A document by digest, checked.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.read(&name, MAX_BLOB_BYTES)?;
        if !digest.matches(&bytes) {
            self.discard(&name, "its digest does not match");
            return None;
        }
        Some(bytes)
    }

    /// Keeps a document that the caller has verified.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) {
        self.put(&blob_name(digest), &[bytes]);
    }
}
