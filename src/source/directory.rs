//! skopeo's `dir:` transport: a folder with `manifest.json` and every blob by its bare hex digest.
//!
//! Version 1.1 keeps the instances of an image index as `HEX.manifest.json`.

use std::ops::Range;

use super::archive::Files;
use super::{Error, Opened, RawDocument, Source};
use crate::oci::{Descriptor, MAX_MANIFEST_BYTES};

/// The image of a `dir:` folder.
#[derive(Debug)]
pub struct Directory {
    files: Files,
}

impl Directory {
    /// Opens the folder, or a tar of one.
    ///
    /// # Errors
    /// It has no `manifest.json`.
    pub fn open(files: Files) -> Result<Directory, Error> {
        if files.open("manifest.json")?.is_none() {
            let what = "not a `dir:` image: it has no `manifest.json`";
            return Err(Error::invalid(files.path(), what));
        }
        Ok(Directory { files })
    }
}

impl Source for Directory {
    fn root(&self) -> Result<RawDocument, Error> {
        let bytes = self.files.read("manifest.json", MAX_MANIFEST_BYTES)?;
        Ok(RawDocument { bytes, media_type: None, digest: None })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let name = format!("{}.manifest.json", descriptor.digest.hex());
        Ok(RawDocument {
            bytes: self.files.read(&name, MAX_MANIFEST_BYTES)?,
            media_type: Some(descriptor.media_type.clone()).filter(|t| !t.is_empty()),
            digest: Some(descriptor.digest),
        })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.files.blob(&descriptor.digest.hex(), descriptor, range)
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        let hex = descriptor.digest.hex();
        [format!("{hex}.manifest.json"), hex]
            .iter()
            .any(|name| matches!(self.files.open(name), Ok(Some(_))))
    }
}
