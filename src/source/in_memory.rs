//! Blobs that lie in memory: texts that are shown beside what an image has.

use std::ops::Range;

use super::error::Error;
use super::image::{Opened, Source, check_range};
use super::raw::RawDocument;
use crate::digest::Digest;
use crate::oci::Descriptor;

/// One blob. Like any source it is not trusted: its bytes are checked by their digest before they are shown.
#[derive(Debug)]
pub struct InMemory {
    bytes: Vec<u8>,
}

impl InMemory {
    /// Of these bytes.
    pub fn new(bytes: Vec<u8>) -> InMemory {
        InMemory { bytes }
    }

    /// The blob.
    pub fn descriptor(&self) -> Descriptor {
        let digest = Digest::sha256(&self.bytes);
        Descriptor { size: self.bytes.len() as u64, ..Descriptor::of_manifest(digest) }
    }
}

impl Source for InMemory {
    fn root(&self) -> Result<RawDocument, Error> {
        self.document(&self.descriptor())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let digest = Some(descriptor.digest);
        Ok(RawDocument { bytes: self.bytes.clone(), media_type: None, digest })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        check_range(descriptor, &range)?;
        Ok(Opened::of_bytes(&self.bytes, range))
    }
}
