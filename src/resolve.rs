//! From an image name to verified documents: manifest, config, layers.
//!
//! A tag is resolved once and pinned; from then on everything is named by digest. Whatever a source
//! returns is checked here: a document against the digest that led to it, the number of diff IDs
//! against the number of layers. What passes is kept in the cache, so that the same image resolves
//! again with one question to the registry, or none offline.

use std::collections::BTreeMap;
use std::io::Read;

use crate::cache::Cache;
use crate::digest::{DiffId, Digest, VerifyError, VerifyingReader};
use crate::image::{
    self, Descriptor, Document, ImageConfig, ImageIndex, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES,
    Manifest, Platform, media_type,
};
use crate::reference::ImageName;
use crate::source::{self, RawDocument, Source};

/// How deep image indexes may be nested.
const MAX_INDEX_DEPTH: usize = 4;

/// BuildKit's mark of an attestation among the images of an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// What to resolve, beyond the name.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The platform wanted; the host's if not said.
    pub platform: Option<Platform>,
    /// Ask nobody: the cache must know.
    pub offline: bool,
}

/// Why a name does not lead to an image.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("{0} is not in the cache; mount it once without --offline")]
    Offline(String),
    #[error("{what}: {source}")]
    Document { what: String, source: image::Error },
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{what} has {got} bytes, its descriptor says {expected}")]
    Size { what: String, got: u64, expected: u64 },
    #[error("reading {what}: {source}")]
    Read { what: String, source: std::io::Error },
    #[error("image indexes are nested more than {MAX_INDEX_DEPTH} deep, or in a circle")]
    Nesting,
    #[error("there is no image for {wanted}; there is {available} (choose with --platform)")]
    Platform { wanted: Platform, available: String },
    #[error("the image index is empty")]
    EmptyIndex,
}

/// A layer of a resolved image.
#[derive(Clone, Debug)]
pub struct ResolvedLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the tar in it, from the verified config.
    pub diff_id: DiffId,
}

/// An image whose documents have all been verified.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The name as the user gave it, in full.
    pub name: String,
    /// Digest of the image manifest.
    pub digest: Digest,
    /// Digest of the config: the image ID.
    pub image_id: Digest,
    /// The platform that the config names.
    pub platform: Platform,
    /// Size of the image manifest in bytes.
    pub size: u64,
    /// Media type of the image manifest.
    pub media_type: String,
    /// Annotations of the image manifest.
    pub annotations: BTreeMap<String, String>,
    /// The layers, base first.
    pub layers: Vec<ResolvedLayer>,
}

/// The manifest at the end of the way.
struct Followed {
    manifest: Manifest,
    digest: Digest,
    size: u64,
    /// There was an image index to choose from.
    was_chosen: bool,
}

struct Resolver<'a> {
    source: &'a dyn Source,
    cache: &'a Cache,
    options: &'a Options,
}

/// Resolves a name.
///
/// # Errors
/// See [`Error`].
pub fn resolve(
    name: &ImageName,
    source: &dyn Source,
    cache: &Cache,
    options: &Options,
) -> Result<ResolvedImage, Error> {
    let resolver = Resolver { source, cache, options };
    let root = resolver.root(name)?;
    let root_digest = verify(&root)?;
    let Followed { manifest, digest, size, was_chosen } = resolver.manifest(root)?;
    let what = || digest.to_string();
    manifest.check_image().map_err(|source| Error::Document { what: what(), source })?;
    let config = resolver.config(&manifest)?;
    let mut platform = config.platform;
    platform.normalise();
    // What an index says of its images is believed, as engines do; a config need not be exact.
    if let Some(wanted) = options.platform.as_ref().filter(|_| !was_chosen)
        && !platform.is_unknown()
        && wanted.rank(&platform).is_none()
    {
        let (wanted, available) = (wanted.clone(), platform.to_string());
        return Err(Error::Platform { wanted, available });
    }
    // Only what has proven to be an image is worth remembering.
    if let ImageName::Registry(reference) = name
        && reference.tag().is_some()
        && !options.offline
    {
        cache.put_tag(&reference.to_string(), root_digest);
    }
    let layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids);
    Ok(ResolvedImage {
        name: name.to_string(),
        digest,
        image_id: manifest.config.digest,
        platform,
        size,
        media_type: manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
        annotations: manifest.annotations,
        layers: layers.map(|(descriptor, diff_id)| ResolvedLayer { descriptor, diff_id }).collect(),
    })
}

impl Resolver<'_> {
    /// The document behind the name, by way of what the tag meant last time.
    fn root(&self, name: &ImageName) -> Result<RawDocument, Error> {
        let ImageName::Registry(reference) = name else {
            return Ok(self.source.root()?);
        };
        let cached = |digest: Digest| {
            let bytes = self.cache.blob(&digest)?;
            Some(RawDocument { bytes, media_type: None, digest: Some(digest) })
        };
        let full = reference.to_string();
        if self.options.offline {
            let known = reference.digest().or_else(|| Some(self.cache.tag(&full)?.digest));
            return known.and_then(cached).ok_or(Error::Offline(full));
        }
        if let Some(digest) = reference.digest() {
            if let Some(document) = cached(digest) {
                return Ok(document);
            }
        } else if let Some(known) = self.cache.tag(&full)
            && let Some(document) = cached(known.digest)
            && self.source.head()? == Some(known.digest)
        {
            return Ok(document);
        }
        let document = self.source.root()?;
        let digest = verify(&document)?;
        self.keep(&digest, &document.bytes);
        Ok(RawDocument { digest: Some(digest), ..document })
    }

    /// Follows image indexes down to a manifest.
    fn manifest(&self, root: RawDocument) -> Result<Followed, Error> {
        let mut document = root;
        let mut was_chosen = false;
        for _ in 0..=MAX_INDEX_DEPTH {
            let digest = verify(&document)?;
            let parsed = Document::parse(&document.bytes, document.media_type.as_deref());
            let parsed =
                parsed.map_err(|source| Error::Document { what: digest.to_string(), source })?;
            let index = match parsed {
                Document::Manifest(manifest) => {
                    let size = document.bytes.len() as u64;
                    return Ok(Followed { manifest, digest, size, was_chosen });
                }
                Document::Index(index) => index,
            };
            was_chosen = true;
            let chosen = self.choose(index)?;
            document = self.document(&chosen)?;
        }
        Err(Error::Nesting)
    }

    /// Chooses the image of the wanted platform.
    fn choose(&self, index: ImageIndex) -> Result<Descriptor, Error> {
        let images: Vec<Descriptor> = index.manifests;
        let is_attestation = |d: &Descriptor| {
            d.platform.as_ref().is_some_and(Platform::is_unknown)
                && d.annotations.get(REFERENCE_TYPE).is_some_and(|t| t == "attestation-manifest")
        };
        let mut candidates: Vec<&Descriptor> =
            images.iter().filter(|d| !is_attestation(d)).collect();
        if candidates.is_empty() {
            candidates = images.iter().collect();
        }
        if candidates.is_empty() {
            return Err(Error::EmptyIndex);
        }
        let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
        let rank = |d: &&Descriptor| match &d.platform {
            Some(platform) => wanted.rank(platform),
            // Without a platform anything may be in it; worse than every real match.
            None => Some(u32::MAX),
        };
        // Archives of multi-platform images often lack the blobs of all but one.
        let present = |d: &&Descriptor| self.source.has(d) || self.cache.blob(&d.digest).is_some();
        let best = candidates
            .iter()
            .copied()
            .filter(|d| rank(d).is_some() && present(d))
            .min_by_key(|d| rank(d));
        if let Some(best) = best {
            return Ok(best.clone());
        }
        let there: Vec<&Descriptor> = candidates.into_iter().filter(present).collect();
        if let ([only], None) = (&there[..], &self.options.platform) {
            let platform = only.platform.clone().unwrap_or_default();
            log::warn!("the only image there is for {platform}");
            return Ok((*only).clone());
        }
        let mut platforms: Vec<String> =
            there.iter().filter_map(|d| d.platform.as_ref()).map(ToString::to_string).collect();
        platforms.sort();
        platforms.dedup();
        let available = match platforms.is_empty() {
            true => "none".to_owned(),
            false => platforms.join(", "),
        };
        Err(Error::Platform { wanted, available })
    }

    /// A document by descriptor, from the cache or the source, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let digest = descriptor.digest;
        let media_type = Some(descriptor.media_type.clone()).filter(|t| !t.is_empty());
        if let Some(bytes) = self.cache.blob(&digest) {
            return Ok(RawDocument { bytes, media_type, digest: Some(digest) });
        }
        let what = || format!("manifest {digest}");
        if self.options.offline && self.source.is_remote() {
            return Err(Error::Offline(what()));
        }
        if descriptor.size > MAX_MANIFEST_BYTES {
            let (got, expected) = (descriptor.size, MAX_MANIFEST_BYTES);
            return Err(Error::Size { what: what(), got, expected });
        }
        let mut document = self.source.document(descriptor)?;
        let got = document.bytes.len() as u64;
        if got != descriptor.size {
            return Err(Error::Size { what: what(), got, expected: descriptor.size });
        }
        document.digest = Some(digest);
        verify(&document)?;
        self.keep(&digest, &document.bytes);
        Ok(document)
    }

    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let descriptor = &manifest.config;
        let digest = descriptor.digest;
        let what = format!("config {digest}");
        let bytes = match self.cache.blob(&digest) {
            Some(bytes) => bytes,
            None if self.options.offline && self.source.is_remote() => {
                return Err(Error::Offline(what));
            }
            None => {
                if descriptor.size > MAX_CONFIG_BYTES {
                    let (got, expected) = (descriptor.size, MAX_CONFIG_BYTES);
                    return Err(Error::Size { what, got, expected });
                }
                let body = self.source.blob(descriptor, 0..descriptor.size)?.body;
                let mut bytes = Vec::new();
                VerifyingReader::new(body, digest, descriptor.size)
                    .read_to_end(&mut bytes)
                    .map_err(|source| Error::Read { what: what.clone(), source })?;
                self.keep(&digest, &bytes);
                bytes
            }
        };
        ImageConfig::parse(&bytes, manifest.layers.len())
            .map_err(|source| Error::Document { what, source })
    }

    /// Keeps a verified document, if getting it again would cost a request.
    fn keep(&self, digest: &Digest, bytes: &[u8]) {
        if self.source.is_remote() {
            self.cache.put_blob(digest, bytes);
        }
    }
}

/// The digest of a document, which must be the one that was asked for, if one was.
fn verify(document: &RawDocument) -> Result<Digest, VerifyError> {
    match document.digest {
        Some(expected) if expected.matches(&document.bytes) => Ok(expected),
        Some(expected) => {
            Err(VerifyError::Mismatch { expected, got: Digest::sha256(&document.bytes) })
        }
        None => Ok(Digest::sha256(&document.bytes)),
    }
}
