//! From an image name to verified documents: manifest, config, layers.
//!
//! A tag is resolved once and pinned; from then on everything is named by digest. Whatever a source
//! returns is checked here: a document against the digest that led to it, the number of diff IDs
//! against the number of layers. What passes is kept in the cache, so that the same image resolves
//! again with one question to the registry, or none offline.
//!
//! An image index names images for several platforms, or further indexes. Those that say what they
//! are for cost nothing to consider; the others are opened only if none of the former will do.

mod choice;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use crate::cache::Cache;
use crate::digest::{DiffId, Digest, Hasher, VerifyError, VerifyingReader};
use crate::image::{
    self, Descriptor, Document, ImageConfig, ImageIndex, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES,
    Manifest, Platform, media_type,
};
use crate::reference::ImageName;
use crate::source::{self, RawDocument, Source};
use choice::Offer;

/// How deep image indexes may be nested.
const MAX_INDEX_DEPTH: usize = 4;

/// Documents that are opened because an index does not say what they are for.
const MAX_OPENED: usize = 64;

/// Platforms listed when nothing of an index is there.
const LISTED_PLATFORMS: usize = 20;

/// What an attestation consists of.
const IN_TOTO: &str = "application/vnd.in-toto+json";

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
    #[error("the image index lists {0}, and nothing of it is there")]
    Absent(String),
    #[error(
        "more than {MAX_OPENED} entries of the image index do not say what they are for; name one \
         by its digest"
    )]
    TooManyOpened,
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
    /// Digest of what the name itself means: the manifest, or the image index it is from.
    pub root: Digest,
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
    /// An image index says what it is for.
    is_labelled: bool,
}

/// What a search through indexes has come upon.
#[derive(Default)]
struct Search {
    /// Levels of indexes that were gone down.
    depth: usize,
    /// Documents opened to see what they are for.
    opened: usize,
    /// What was considered. Nothing is considered twice, so that the search ends: indexes by digest
    /// can't form a circle, but may share parts, and tools write entries twice.
    seen: HashSet<Digest>,
}

/// What was found in something that did not say what it is for.
enum Opened {
    Index(ImageIndex),
    Image(Offer),
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
    let Followed { manifest, digest, size, is_labelled } = resolver.manifest(root)?;
    let what = || digest.to_string();
    manifest.check_image().map_err(|source| Error::Document { what: what(), source })?;
    let config = resolver.config(&manifest)?;
    let mut platform = config.platform;
    platform.normalise();
    // What an index says of its images is believed, as engines do; a config need not be exact.
    if let Some(wanted) = options.platform.as_ref().filter(|_| !is_labelled) {
        let descriptor = Descriptor::of_manifest(digest);
        let offer = Offer { descriptor, platform: Some(platform.clone()), is_extra: false };
        choice::choose(&[offer], Some(wanted))?;
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
        root: root_digest,
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
        let mut is_labelled = false;
        let mut search = Search::default();
        loop {
            let digest = verify(&document)?;
            let index = match parse(&document, &digest)? {
                Document::Manifest(manifest) => {
                    let size = document.bytes.len() as u64;
                    return Ok(Followed { manifest, digest, size, is_labelled });
                }
                Document::Index(index) => index,
            };
            let chosen = self.choose(index, &mut search)?;
            is_labelled = chosen.real_platform().is_some();
            document = self.document(&chosen.descriptor)?;
        }
    }

    /// Chooses an image of an index, opening what does not say what it is for as far as that is
    /// necessary.
    fn choose(&self, index: ImageIndex, search: &mut Search) -> Result<Offer, Error> {
        let host = Platform::host();
        let wanted = self.options.platform.as_ref().unwrap_or(&host);
        let listed = index.manifests.iter().filter_map(|d| d.platform.as_ref());
        let listed: Vec<String> = listed.take(LISTED_PLATFORMS).map(ToString::to_string).collect();
        let is_empty = index.manifests.is_empty();
        let mut offers = Vec::new();
        let mut indexes = vec![index];
        while !indexes.is_empty() {
            search.depth += 1;
            if search.depth > MAX_INDEX_DEPTH {
                return Err(Error::Nesting);
            }
            let mut silent = Vec::new();
            for index in indexes.drain(..) {
                // Archives of multi-platform images often lack the blobs of all but one.
                let present = index.manifests.into_iter().filter(|d| self.is_present(d));
                for descriptor in present.filter(|d| search.seen.insert(d.digest)) {
                    let (platform, is_extra) =
                        (descriptor.platform.clone(), descriptor.is_about_another());
                    match platform.is_none() && !is_extra {
                        true => silent.push(descriptor),
                        false => offers.push(Offer { descriptor, platform, is_extra }),
                    }
                }
            }
            if let Some(offer) = choice::matching(&offers, wanted) {
                return Ok(offer.clone());
            }
            for descriptor in silent {
                search.opened += 1;
                if search.opened > MAX_OPENED {
                    return Err(Error::TooManyOpened);
                }
                match self.open(descriptor)? {
                    Opened::Index(index) => indexes.push(index),
                    Opened::Image(offer) => offers.push(offer),
                }
            }
        }
        if offers.is_empty() && !is_empty {
            let listed = if listed.is_empty() { "images".to_owned() } else { listed.join(", ") };
            return Err(Error::Absent(listed));
        }
        choice::choose(&offers, self.options.platform.as_ref()).cloned()
    }

    fn is_present(&self, descriptor: &Descriptor) -> bool {
        !descriptor.data.is_empty()
            || self.source.has(descriptor)
            || self.cache.blob(&descriptor.digest).is_some()
    }

    /// Looks into something that does not say what it is for.
    fn open(&self, descriptor: Descriptor) -> Result<Opened, Error> {
        let document = self.document(&descriptor)?;
        let manifest = match parse(&document, &descriptor.digest)? {
            Document::Index(index) => return Ok(Opened::Index(index)),
            Document::Manifest(manifest) => manifest,
        };
        let is_attestation = !manifest.layers.is_empty()
            && manifest.layers.iter().all(|layer| layer.media_type == IN_TOTO);
        let is_extra = is_attestation || manifest.check_image().is_err();
        let platform = match is_extra {
            true => None,
            false => {
                let mut platform = self.config(&manifest)?.platform;
                platform.normalise();
                Some(platform)
            }
        };
        Ok(Opened::Image(Offer { descriptor, platform, is_extra }))
    }

    /// A document by descriptor, from the cache or the source, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let digest = descriptor.digest;
        let media_type = Some(descriptor.media_type.clone()).filter(|t| !t.is_empty());
        if let Some(bytes) = descriptor.embedded().or_else(|| self.cache.blob(&digest)) {
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
        let bytes = match descriptor.embedded().or_else(|| self.cache.blob(&digest)) {
            Some(bytes) => bytes,
            None if self.options.offline && self.source.is_remote() => {
                return Err(Error::Offline(what));
            }
            None => {
                if descriptor.size > MAX_CONFIG_BYTES {
                    let (got, expected) = (descriptor.size, MAX_CONFIG_BYTES);
                    return Err(Error::Size { what, got, expected });
                }
                let bytes = self.config_bytes(descriptor, &what)?;
                self.keep(&digest, &bytes);
                bytes
            }
        };
        ImageConfig::parse(&bytes, manifest.layers.len())
            .map_err(|source| Error::Document { what, source })
    }

    /// Fetches a config, from another host if one sends something else.
    fn config_bytes(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, Error> {
        loop {
            let body = self.source.blob(descriptor, 0..descriptor.size)?.body;
            let mut bytes = Vec::new();
            let mut body = VerifyingReader::new(body, descriptor.digest, descriptor.size);
            let Err(source) = body.read_to_end(&mut bytes) else { return Ok(bytes) };
            if !self.source.distrust(&descriptor.digest) {
                return Err(Error::Read { what: what.to_owned(), source });
            }
        }
    }

    /// Keeps a verified document, if getting it again would cost a request.
    fn keep(&self, digest: &Digest, bytes: &[u8]) {
        if self.source.is_remote() {
            self.cache.put_blob(digest, bytes);
        }
    }
}

fn parse(document: &RawDocument, digest: &Digest) -> Result<Document, Error> {
    Document::parse(&document.bytes, document.media_type.as_deref())
        .map_err(|source| Error::Document { what: digest.to_string(), source })
}

/// The digest of a document, which must be the one that was asked for, if one was.
fn verify(document: &RawDocument) -> Result<Digest, VerifyError> {
    match document.digest {
        Some(expected) if expected.matches(&document.bytes) => Ok(expected),
        Some(expected) => {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(&document.bytes);
            Err(VerifyError::Mismatch { expected, got: hasher.finish() })
        }
        None => Ok(Digest::sha256(&document.bytes)),
    }
}
