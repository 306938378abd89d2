//! The images of an archive without a layout: the one that is meant, and the others beside it.
//!
//! Which one is meant is decided when it is read, so that an archive of several can be asked for its names.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::saved::{self, SavedImage};
use super::v1;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::source::archive::Files;
use crate::source::{Error, Named, Opened, RawDocument, Repository, Source, Tags};

/// How an archive says what its images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `manifest.json` lists them.
    Listed,
    /// They are chains of layers, as before Docker 1.10.
    Chains,
}

/// Names of which it is told what they mean; a hostile archive lists a million.
const MAX_DESCRIBED: usize = 1000;

/// One image of an archive that may have several.
#[derive(Debug)]
pub(super) struct SavedImages {
    files: Files,
    selector: Option<String>,
    form: Form,
    /// The image that the selector names.
    image: OnceLock<Arc<SavedImage>>,
    /// All that were opened, each once.
    opened: Mutex<Vec<Arc<SavedImage>>>,
    described: AtomicUsize,
}

impl SavedImages {
    pub(super) fn new(files: Files, selector: Option<String>, form: Form) -> SavedImages {
        let (image, opened, described) = Default::default();
        SavedImages { files, selector, form, image, opened, described }
    }

    /// The image that the selector names.
    pub(super) fn image(&self) -> Result<&SavedImage, Error> {
        if let Some(image) = self.image.get() {
            return Ok(image);
        }
        let image = self.open(self.selector.as_deref())?;
        Ok(self.image.get_or_init(|| image))
    }

    fn open(&self, selector: Option<&str>) -> Result<Arc<SavedImage>, Error> {
        let files = self.files.clone();
        let image = match self.form {
            Form::Listed => SavedImage::open(files, selector)?,
            Form::Chains => v1::open(files, selector)?,
        };
        let digest = image.descriptor().digest;
        if let Some(known) = self.find(|known| known.descriptor().digest == digest) {
            return Ok(known);
        }
        let image = Arc::new(image);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&image));
        Ok(image)
    }

    /// One of the images that were opened.
    fn find(&self, is_wanted: impl Fn(&SavedImage) -> bool) -> Option<Arc<SavedImage>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().find(|image| is_wanted(image)).cloned()
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = match self.form {
            Form::Listed => saved::names(&self.files)?,
            Form::Chains => v1::names(&self.files)?,
        };
        names.sort();
        names.dedup();
        Ok(names)
    }
}

impl Source for SavedImages {
    fn root(&self) -> Result<RawDocument, Error> {
        Ok(self.image()?.root())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        self.named(Named::Digest(&descriptor.digest))
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        match self.find(|image| image.has(&descriptor.digest)) {
            Some(image) => image.blob(descriptor, range),
            None => self.image()?.blob(descriptor, range),
        }
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Some(self)
    }
}

impl Repository for SavedImages {
    fn named(&self, name: Named<'_>) -> Result<RawDocument, Error> {
        match name {
            Named::Tag(tag) => Ok(self.open(Some(tag))?.root()),
            Named::Digest(digest) => {
                let image = self.find(|image| image.descriptor().digest == *digest);
                let missing = || {
                    let what = format!("manifest `{digest}`");
                    Error::Missing { path: self.files.path().to_owned(), what }
                };
                image.map(|image| image.root()).ok_or_else(missing)
            }
        }
    }

    fn tags(&self) -> Result<Tags, Error> {
        Ok(Tags { names: self.names()?, cut: None })
    }

    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        match self.described.fetch_add(1, Ordering::Relaxed) < MAX_DESCRIBED {
            true => Ok(Some(self.open(Some(tag))?.descriptor())),
            false => Ok(None),
        }
    }

    /// There are none: such an archive has images alone.
    fn referrers(&self, _: &Digest, _: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        Ok(Vec::new())
    }

    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>, Error> {
        let image = self.find(|image| image.descriptor().digest == *digest);
        Ok(image.map(|image| image.descriptor()))
    }
}
