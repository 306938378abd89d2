//! Documents that have been checked.
//!
//! # Invariants
//!
//! A [`Verified`] exists only of bytes that have the digest which led to them, and its value is what these
//! bytes say. It can be made in `resolve` alone.
//!
//! # What is kept
//!
//! The bytes stay as they came, shared by all copies: to write a document down again, or to show another
//! program what an image was checked by, nothing else will do, as JSON that is read and written again has
//! another digest. There are few of them, each of [`MAX_MANIFEST_BYTES`](crate::oci::MAX_MANIFEST_BYTES) or
//! [`MAX_CONFIG_BYTES`](crate::oci::MAX_CONFIG_BYTES) at most, and a few KiB as a rule.

use std::sync::Arc;

use crate::digest::{Digest, Hasher, VerifyError};
use crate::oci::{Document, ImageIndex, Manifest};

/// A document that was checked: its bytes, their digest, and what was read from them.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    bytes: Arc<[u8]>,
    digest: Digest,
    value: T,
}

impl Verified<()> {
    /// Checks bytes against the digest that was asked for, if one was.
    pub(super) fn check(
        bytes: Vec<u8>,
        asked: Option<Digest>,
    ) -> Result<Verified<()>, VerifyError> {
        let digest = match asked {
            Some(expected) if expected.matches(&bytes) => expected,
            Some(expected) => {
                let mut hasher = Hasher::new(expected.algorithm());
                hasher.update(&bytes);
                return Err(VerifyError::Mismatch { expected, got: hasher.finish() });
            }
            None => Digest::sha256(&bytes),
        };
        Ok(Verified { bytes: bytes.into(), digest, value: () })
    }

    /// Reads what they say.
    pub(super) fn read<T, E>(
        self,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Verified<T>, E> {
        let value = read(&self.bytes)?;
        Ok(Verified { bytes: self.bytes, digest: self.digest, value })
    }
}

/// A document that a name or an entry of an image index can mean.
pub(super) enum VerifiedDocument {
    Index(Verified<ImageIndex>),
    Manifest(Verified<Manifest>),
}

impl Verified<Document> {
    /// Which of the two kinds it is.
    pub(super) fn kind(self) -> VerifiedDocument {
        let Verified { bytes, digest, value } = self;
        match value {
            Document::Index(value) => VerifiedDocument::Index(Verified { bytes, digest, value }),
            Document::Manifest(value) => {
                VerifiedDocument::Manifest(Verified { bytes, digest, value })
            }
        }
    }
}

impl<T> Verified<T> {
    /// The bytes, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their number.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What they say.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The document alone, without what was read from it.
    pub fn without_value(self) -> Verified<()> {
        self.split().0
    }

    /// The document without what was read from it, and that.
    pub(super) fn split(self) -> (Verified<()>, T) {
        (Verified { bytes: self.bytes, digest: self.digest, value: () }, self.value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_that_were_asked_for() {
        let right = Digest::sha256(b"{}");
        let checked = Verified::check(b"{}".to_vec(), Some(right)).unwrap();
        assert_eq!((checked.digest(), checked.bytes(), checked.size()), (right, &b"{}"[..], 2));
        let error = Verified::check(b"[]".to_vec(), Some(right)).unwrap_err();
        let got = Digest::sha256(b"[]");
        assert!(
            matches!(error, VerifyError::Mismatch { expected, got: g } if expected == right && g == got)
        );
        assert_eq!(Verified::check(b"[]".to_vec(), None).unwrap().digest(), got);
        let read = checked.read(|bytes| std::str::from_utf8(bytes).map(str::len)).unwrap();
        assert_eq!((*read.value(), read.digest()), (2, right));
    }
}
