//! A source that is not asked for blobs that their descriptors hold.
//!
//! Who describes a small blob may put a copy of it beside its digest (image-spec, descriptor.md, `data`), and so do we of
//! files that we make of blobs: no request is needed for those, and there may be nobody to ask.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::connections::Connections;
use super::error::Error;
use super::image::{Opened, Source, Throughput, check_range};
use super::raw::RawDocument;
use super::repository::Repository;
use crate::digest::Digest;
use crate::oci::Descriptor;

/// A source for what descriptors do not hold.
#[derive(Debug)]
pub struct Embedded(Arc<dyn Source>);

impl Embedded {
    /// The same image.
    pub fn new(source: Arc<dyn Source>) -> Embedded {
        Embedded(source)
    }
}

/// The part of a blob that is asked for, if its descriptor holds it.
fn held(descriptor: &Descriptor, range: &Range<u64>) -> Option<Result<Opened, Error>> {
    let bytes = descriptor.embedded()?;
    let checked = check_range(descriptor, range);
    Some(checked.map(|()| Opened::of_bytes(&bytes, range.clone())))
}

impl Source for Embedded {
    fn root(&self) -> Result<RawDocument, Error> {
        self.0.root()
    }

    fn head(&self) -> Result<Option<Digest>, Error> {
        self.0.head()
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        self.0.document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        held(descriptor, &range).unwrap_or_else(|| self.0.blob(descriptor, range))
    }

    fn blob_ahead(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        held(descriptor, &range).unwrap_or_else(|| self.0.blob_ahead(descriptor, range))
    }

    fn connections(&self) -> Option<&Arc<Connections>> {
        self.0.connections()
    }

    fn throughput(&self) -> Option<Throughput> {
        self.0.throughput()
    }

    /// What a descriptor holds was read with the document that has the descriptor.
    fn confirm(&self, blob: &Descriptor) -> Result<bool, Error> {
        match blob.embedded() {
            Some(_) => Ok(self.0.sender().is_some()),
            None => self.0.confirm(blob),
        }
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Arc::clone(&self.0).repository()
    }

    fn sender(&self) -> Option<&str> {
        self.0.sender()
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        descriptor.embedded().is_some() || self.0.has(descriptor)
    }

    fn local_copy(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        self.0.local_copy(descriptor)
    }

    fn distrust(&self, digest: &Digest) -> bool {
        self.0.distrust(digest)
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn is_offline(&self) -> bool {
        self.0.is_offline()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use base64::Engine;

    use super::*;
    use crate::source::{InMemory, Offline};

    #[test]
    fn what_a_descriptor_holds_is_asked_of_nobody() {
        let other = InMemory::new(b"other".to_vec());
        let asked = other.descriptor();
        let source = Embedded::new(Arc::new(Offline::new(Arc::new(other))));
        let read = |descriptor: &Descriptor, range| -> Result<Vec<u8>, Error> {
            let mut bytes = Vec::new();
            source.blob(descriptor, range)?.body.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        };
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let held = Descriptor {
            size: 5,
            data: encode(b"01234"),
            ..Descriptor::of_manifest(Digest::sha256(b"01234"))
        };
        assert_eq!(read(&held, 1..4).unwrap(), b"123");
        assert!(read(&held, 1..6).is_err());
        assert!(!source.confirm(&held).unwrap(), "there is no registry");
        assert_eq!(read(&asked, 0..5).unwrap(), b"other");
        // A copy that is none.
        let lies = Descriptor { data: encode(b"56789"), ..held };
        assert_eq!(
            read(&lies, 0..5).unwrap(),
            b"other",
            "it is asked for, and checked like all others"
        );
    }
}
