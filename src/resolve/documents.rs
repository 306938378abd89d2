//! Documents from the cache, or else from the source; verified, and kept.
//!
//! All that looks at documents beside [`resolve`](super::resolve) (a graph of an image, its attestations) gets
//! them here, so that none is shown which was not held against the digest that led to it.

use std::io::Read;

use super::error::Error;
use super::options::ResolveOptions;
use super::verified::Verified;
use crate::cache::{Asked, Cache};
use crate::digest::{Digest, VerifyingReader};
use crate::oci::{
    self, Descriptor, Document, ImageConfig, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest,
};
use crate::reference::{ImageName, Reference};
use crate::source::{RawDocument, Source};

/// Where documents come from, and where they are kept.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) cache: &'a Cache,
    pub(super) options: &'a ResolveOptions,
}

impl<'a> Documents<'a> {
    /// Documents of a source, with a cache before it.
    pub fn new(
        source: &'a dyn Source,
        cache: &'a Cache,
        options: &'a ResolveOptions,
    ) -> Documents<'a> {
        Documents { source, cache, options }
    }

    /// The document behind the name, by way of what the tag meant last time.
    ///
    /// # Errors
    /// It can't be had, or is neither a manifest nor an image index.
    pub fn root(&self, name: &ImageName) -> Result<Verified<Document>, Error> {
        if let Some(root) = self.options.root {
            return self.known_to_be(root);
        }
        let known = match name {
            ImageName::Registry(reference) => self.known_root(reference)?,
            _ => None,
        };
        self.verified(known, || Ok(self.source.root()?), Digest::to_string, parse)
    }

    /// The document that a name has meant.
    fn known_to_be(&self, root: Digest) -> Result<Verified<Document>, Error> {
        if !self.source.is_remote() {
            // An archive may have no documents but the one that it is of.
            let now = self.verified(None, || Ok(self.source.root()?), Digest::to_string, parse);
            if now.as_ref().is_ok_and(|now| now.digest() == root) {
                return now;
            }
        }
        self.by_digest(&root)
    }

    /// What is local of the document behind a name.
    fn known_root(&self, reference: &Reference) -> Result<Option<RawDocument>, Error> {
        let cached = |digest: Digest| {
            let bytes = self.cached(&digest)?;
            Some(RawDocument { bytes, media_type: None, digest: Some(digest) })
        };
        let full = reference.to_string();
        if self.source.is_offline() {
            let known = match reference.digest() {
                Some(digest) => Some(digest),
                None => match self.cache.tag(&full) {
                    Some(tag) if tag.asked == Asked::Unchecked && !self.options.is_exempt => {
                        return Err(Error::OfflineUnchecked(full));
                    }
                    tag => tag.map(|tag| tag.digest),
                },
            };
            return known.and_then(cached).ok_or(Error::Offline(full)).map(Some);
        }
        if let Some(digest) = reference.digest() {
            return Ok(cached(digest));
        }
        if let Some(known) = self.cache.tag(&full)
            && let Some(document) = cached(known.digest)
            && self.source.head()? == Some(known.digest)
        {
            return Ok(Some(document));
        }
        Ok(None)
    }

    /// A manifest or image index by descriptor.
    ///
    /// # Errors
    /// It can't be had, or is none.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Verified<Document>, Error> {
        let fetch = || {
            let what = || format!("manifest {}", descriptor.digest);
            self.check_fetch(descriptor, MAX_MANIFEST_BYTES, &what)?;
            let document = self.source.document(descriptor)?;
            let got = document.bytes.len() as u64;
            if got != descriptor.size {
                return Err(Error::Size { what: what(), got, expected: descriptor.size });
            }
            Ok(RawDocument { digest: Some(descriptor.digest), ..document })
        };
        self.verified(self.local(descriptor), fetch, Digest::to_string, parse)
    }

    /// A manifest or image index of which only the digest is known.
    ///
    /// # Errors
    /// It can't be had, or is none.
    pub fn by_digest(&self, digest: &Digest) -> Result<Verified<Document>, Error> {
        let local = self.cached(digest).map(|bytes| RawDocument {
            bytes,
            media_type: None,
            digest: Some(*digest),
        });
        let fetch = || {
            if self.source.is_offline() {
                return Err(Error::Offline(format!("manifest {digest}")));
            }
            let document = self.source.document(&Descriptor::of_manifest(*digest))?;
            let media_type = document.media_type.filter(|_| self.source.is_remote());
            Ok(RawDocument { digest: Some(*digest), media_type, bytes: document.bytes })
        };
        self.verified(local, fetch, Digest::to_string, parse)
    }

    /// Whether a document is here, so that it costs no request.
    pub fn is_here(&self, digest: &Digest) -> bool {
        !self.source.is_remote() || self.cached(digest).is_some()
    }

    /// The config of an image.
    ///
    /// # Errors
    /// It can't be had, or does not fit its manifest.
    pub fn config(&self, manifest: &Manifest) -> Result<Verified<ImageConfig>, Error> {
        let read = |bytes: &[u8], _: Option<&str>| manifest.image_config(bytes);
        self.blob_read_as(&manifest.config, "config", MAX_CONFIG_BYTES, read)
    }

    /// The config of an image, whose manifest is that of one.
    ///
    /// # Errors
    /// It is none, or its config can't be had or does not fit it.
    pub fn image_config(
        &self,
        manifest: &Verified<Manifest>,
    ) -> Result<Verified<ImageConfig>, Error> {
        let of_manifest = |cause| Error::Document { what: manifest.digest().to_string(), cause };
        manifest.value().check_image().map_err(of_manifest)?;
        self.config(manifest.value())
    }

    /// A blob of at most so many bytes, whatever is in it.
    ///
    /// # Errors
    /// It can't be had, or is larger.
    pub fn blob(&self, descriptor: &Descriptor, most_bytes: u64) -> Result<Verified<()>, Error> {
        self.blob_read_as(descriptor, "blob", most_bytes, |_, _| Ok(()))
    }

    fn blob_read_as<T>(
        &self,
        descriptor: &Descriptor,
        kind: &str,
        most_bytes: u64,
        read: impl FnOnce(&[u8], Option<&str>) -> Result<T, oci::Error>,
    ) -> Result<Verified<T>, Error> {
        let what = |digest: &Digest| format!("{kind} {digest}");
        let fetch = || {
            let what = || what(&descriptor.digest);
            self.check_fetch(descriptor, most_bytes, &what)?;
            let bytes = self.blob_bytes(descriptor, &what)?;
            Ok(RawDocument { bytes, media_type: None, digest: Some(descriptor.digest) })
        };
        self.verified(self.local(descriptor), fetch, what, read)
    }

    /// Whether what an entry of an image index names is there, as far as that can be told for nothing.
    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        !descriptor.data.is_empty()
            || self.source.has(descriptor)
            || self.cache.blob(&descriptor.digest).is_some()
    }

    /// A document that is local, or else is fetched, and then kept if getting it again would cost a
    /// request; verified and read. `what` names it in messages.
    fn verified<T>(
        &self,
        local: Option<RawDocument>,
        fetch: impl FnOnce() -> Result<RawDocument, Error>,
        what: impl FnOnce(&Digest) -> String,
        read: impl FnOnce(&[u8], Option<&str>) -> Result<T, oci::Error>,
    ) -> Result<Verified<T>, Error> {
        let is_kept = local.is_some() || !self.source.is_remote();
        let RawDocument { bytes, media_type, digest } = local.map_or_else(fetch, Ok)?;
        let document = Verified::check(bytes, digest)?;
        if !is_kept {
            self.cache.put_blob(&document.digest(), document.bytes());
        }
        let digest = document.digest();
        let document = document.read(|bytes| read(bytes, media_type.as_deref()));
        document.map_err(|source| Error::Document { what: what(&digest), cause: source })
    }

    /// A document that stands in its descriptor, or is in the cache.
    fn local(&self, descriptor: &Descriptor) -> Option<RawDocument> {
        let digest = descriptor.digest;
        let bytes = descriptor.embedded().or_else(|| self.cached(&digest))?;
        let media_type = Some(descriptor.media_type.clone()).filter(|t| !t.is_empty());
        Some(RawDocument { bytes, media_type, digest: Some(digest) })
    }

    /// A document of the cache, if that is to be used.
    fn cached(&self, digest: &Digest) -> Option<Vec<u8>> {
        if self.options.again { None } else { self.cache.blob(digest) }
    }

    /// Whether a document may be fetched that has at most so many bytes.
    fn check_fetch(
        &self,
        descriptor: &Descriptor,
        most_bytes: u64,
        what: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        if self.source.is_offline() {
            return Err(Error::Offline(what()));
        }
        if descriptor.size > most_bytes {
            return Err(Error::Size { what: what(), got: descriptor.size, expected: most_bytes });
        }
        Ok(())
    }

    /// Fetches a small blob, from another host if one sends something else.
    fn blob_bytes(
        &self,
        descriptor: &Descriptor,
        what: &dyn Fn() -> String,
    ) -> Result<Vec<u8>, Error> {
        loop {
            let body = self.source.blob(descriptor, 0..descriptor.size)?.body;
            let mut bytes = Vec::new();
            let mut body = VerifyingReader::new(body, descriptor.digest, descriptor.size);
            let Err(source) = body.read_to_end(&mut bytes) else { return Ok(bytes) };
            if !self.source.distrust(&descriptor.digest) {
                return Err(Error::Read { what: what(), cause: source });
            }
        }
    }
}

/// Reads a manifest or image index.
fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document, oci::Error> {
    Document::parse(bytes, media_type)
}
