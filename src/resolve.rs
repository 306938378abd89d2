//! From an image name to verified documents: manifest, config, layers.
//!
//! A tag is resolved once and pinned; from then on everything is named by digest. Whatever a source
//! returns is checked here: a document against the digest that led to it, the number of diff IDs
//! against the number of layers. What passes is kept in the cache, so that the same image resolves
//! again with one question to the registry, or none offline.
//!
//! An image index names images for several platforms, further indexes, and artifacts about images.
//! Entries that say what they are cost nothing to consider; the others are opened only if none of
//! the former will do. Whatever an entry says, its platform counts as soon as it turns out to be an
//! image.

mod choice;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use crate::cache::{Asked, Cache};
use crate::digest::{DiffId, Digest, Hasher, VerifyError, VerifyingReader};
use crate::hint::Hint;
use crate::oci::{
    self, Descriptor, Document, Entry, ImageConfig, ImageIndex, MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES, Manifest, Platform, Unusable, media_type,
};
use crate::reference::ImageName;
use crate::source::{self, RawDocument, Source};
use choice::Offer;

/// How deep image indexes may be nested.
const MAX_INDEX_DEPTH: usize = 4;

/// Documents that are opened because an index does not say what they are for.
const MAX_OPENED: usize = 64;

/// How many of them may be artifacts of the wanted platform, which may be one's signatures.
const MAX_TYPED_OPENED: usize = 16;

/// Platforms listed when nothing of an index is there.
const LISTED_PLATFORMS: usize = 20;

/// What to resolve, beyond the name.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The platform wanted; the host's if not said.
    pub platform: Option<Platform>,
    /// Ask nobody: the cache must know.
    pub offline: bool,
    /// Take no document from the cache.
    pub again: bool,
    /// The user exempts the registry from TLS, or from the check of its certificate.
    pub is_exempt: bool,
}

/// Why a name does not lead to an image.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("{0} is not in the cache")]
    Offline(String),
    #[error(
        "what {0} means was last asked over a connection that another machine could have answered on"
    )]
    OfflineUnchecked(String),
    #[error("{what}: {source}")]
    Document { what: String, r#source: oci::Error },
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{what} has {got} bytes, its descriptor says {expected}")]
    Size { what: String, got: u64, expected: u64 },
    #[error("reading {what}: {source}")]
    Read { what: String, r#source: std::io::Error },
    #[error("image indexes are nested more than {MAX_INDEX_DEPTH} deep, or in a circle")]
    Nesting,
    #[error("there is no image for {wanted}; there is {available}")]
    Platform { wanted: Platform, available: String },
    #[error("the image index is empty")]
    EmptyIndex,
    #[error("the image index lists {0}, and nothing of it is there")]
    Absent(String),
    #[error(
        "the image index lists {platform} as {digest}, but that manifest is not there{}",
        if .others.is_empty() { String::new() } else { format!("; there is {others}") }
    )]
    Lost { platform: Platform, digest: Digest, others: String },
    #[error("the image index lists {what}, which can't be used: {why}")]
    Unusable { what: String, why: String },
    #[error(
        "more than {MAX_OPENED} entries of the image index do not say what they are for; name one \
         by its digest"
    )]
    TooManyOpened,
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Source(error) => error.hint(),
            Error::Offline(_) => Some(Hint::GoOnline),
            Error::OfflineUnchecked(_) => Some(Hint::ExemptAgain),
            Error::Read { source, .. } => source::hint_of(source),
            Error::Platform { .. } => Some(Hint::ChoosePlatform),
            _ => None,
        }
    }
}

impl Error {
    /// Whether it is about a single entry of an index, and says nothing of the others.
    fn is_of_the_entry(&self) -> bool {
        match self {
            Error::Source(error) => error.is_missing(),
            Error::Offline(_) | Error::Document { .. } => true,
            _ => false,
        }
    }
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
    seen: HashSet<(Digest, Option<Platform>)>,
}

/// What the entries of an index, and of those that it names, turned out to be.
#[derive(Default)]
struct Finds {
    offers: Vec<Offer>,
    /// Entries with a platform and a type: artifacts about the image of that platform as a rule,
    /// but all images of some tools. None is opened whose platform is not wanted.
    typed: Vec<Descriptor>,
    /// Entries that can't be verified or read.
    unusable: Vec<Unusable>,
    /// Entries of which the source says that they are not there.
    absent: Vec<Descriptor>,
    /// Why the first of the entries that had to be opened could not be.
    failure: Option<Error>,
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
        let asked = if options.is_exempt { Asked::Unchecked } else { Asked::Checked };
        cache.put_tag(&reference.to_string(), root_digest, asked);
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
            let bytes = self.cached(&digest)?;
            Some(RawDocument { bytes, media_type: None, digest: Some(digest) })
        };
        let full = reference.to_string();
        if self.options.offline {
            let known = match reference.digest() {
                Some(digest) => Some(digest),
                None => match self.cache.tag(&full) {
                    Some(tag) if tag.asked == Asked::Unchecked && !self.options.is_exempt => {
                        return Err(Error::OfflineUnchecked(full));
                    }
                    tag => tag.map(|tag| tag.digest),
                },
            };
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

    /// A document of the cache, if that is to be used.
    fn cached(&self, digest: &Digest) -> Option<Vec<u8>> {
        if self.options.again { None } else { self.cache.blob(digest) }
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
            document = self.document(&chosen.descriptor).map_err(|error| lost(&chosen, error))?;
        }
    }

    /// Chooses an image of an index, opening what does not say what it is as far as that is
    /// necessary.
    fn choose(&self, index: ImageIndex, search: &mut Search) -> Result<Offer, Error> {
        let host = Platform::host();
        let wanted = self.options.platform.as_ref().unwrap_or(&host);
        let mut finds = Finds::default();
        let mut indexes = vec![index];
        while !indexes.is_empty() {
            search.depth += 1;
            if search.depth > MAX_INDEX_DEPTH {
                return Err(Error::Nesting);
            }
            let entries = indexes.drain(..).flat_map(|index| index.entries.0).collect();
            let silent = self.sort(entries, &mut finds, search);
            if let Some(offer) = self.matching(&mut finds.offers, wanted)? {
                return Ok(offer);
            }
            let typed = finds.typed.extract_if(.., |d| rank(wanted, d).is_some());
            let mut typed: Vec<Descriptor> = typed.collect();
            typed.sort_by_key(|d| rank(wanted, d));
            for descriptor in typed {
                if search.opened >= MAX_TYPED_OPENED {
                    finds.typed.push(descriptor);
                    continue;
                }
                indexes.extend(self.look_into(descriptor, &mut finds, search)?);
                if let Some(offer) = choice::matching(&finds.offers, wanted) {
                    return Ok(offer.clone());
                }
            }
            for descriptor in silent {
                indexes.extend(self.look_into(descriptor, &mut finds, search)?);
            }
        }
        self.choose_of_all(finds, search, wanted)
    }

    /// Sorts the entries of indexes by what they say of themselves; what is left says nothing.
    fn sort(&self, entries: Vec<Entry>, finds: &mut Finds, search: &mut Search) -> Vec<Descriptor> {
        let mut silent = Vec::new();
        for entry in entries {
            let descriptor = match entry {
                Ok(descriptor) => descriptor,
                Err(unusable) => {
                    finds.unusable.push(*unusable);
                    continue;
                }
            };
            let platform = descriptor.platform.clone();
            if !search.seen.insert((descriptor.digest, platform.clone())) {
                continue;
            }
            let is_labelled = platform.as_ref().is_some_and(|platform| !platform.is_unknown());
            let is_extra = descriptor.is_about_another();
            if !self.is_present(&descriptor) {
                // Archives of multi-platform images often lack the blobs of all but one.
                finds.absent.push(descriptor);
            } else if !is_labelled && !is_extra {
                silent.push(descriptor);
            } else if descriptor.is_typed() && !is_extra {
                finds.typed.push(descriptor);
            } else {
                finds.offers.push(Offer { descriptor, platform, is_extra });
            }
        }
        silent
    }

    /// The best of what is labelled for a platform. Of several that are equally good one may be no
    /// image, whatever its label says.
    fn matching(&self, offers: &mut [Offer], wanted: &Platform) -> Result<Option<Offer>, Error> {
        loop {
            let Some(best) = choice::matching(offers, wanted).cloned() else { return Ok(None) };
            if choice::equals(offers, wanted, &best) < 2 {
                return Ok(Some(best));
            }
            let document = self.document(&best.descriptor).map_err(|error| lost(&best, error))?;
            match parse(&document, &best.descriptor.digest)? {
                Document::Manifest(manifest) if !is_image(&manifest) => {
                    let digest = best.descriptor.digest;
                    let same = offers.iter_mut().filter(|o| o.descriptor.digest == digest);
                    same.for_each(|offer| offer.is_extra = true);
                }
                _ => return Ok(Some(best)),
            }
        }
    }

    /// Opens an entry to see what it is; an index in it is returned. One that is not there or no
    /// document that is understood hides no others.
    fn look_into(
        &self,
        descriptor: Descriptor,
        finds: &mut Finds,
        search: &mut Search,
    ) -> Result<Option<ImageIndex>, Error> {
        search.opened += 1;
        if search.opened > MAX_OPENED {
            return Err(Error::TooManyOpened);
        }
        match self.open(descriptor) {
            Ok(Opened::Index(index)) => return Ok(Some(index)),
            Ok(Opened::Image(offer)) => finds.offers.push(offer),
            Err(error) if error.is_of_the_entry() => drop(finds.failure.get_or_insert(error)),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Chooses where nothing matches exactly.
    fn choose_of_all(
        &self,
        mut finds: Finds,
        search: &mut Search,
        wanted: &Platform,
    ) -> Result<Offer, Error> {
        let named = self.options.platform.as_ref();
        let unusable = |entry: &Unusable| Error::Unusable {
            what: match &entry.platform {
                Some(platform) if !platform.is_unknown() => format!("an image for {platform}"),
                _ => "an image".to_owned(),
            },
            why: entry.why.clone(),
        };
        finds.unusable.retain(Unusable::may_be_image);
        let is_wanted = |p: &Option<Platform>| p.as_ref().is_some_and(|p| wanted.rank(p).is_some());
        if let Some(entry) = finds.unusable.iter().find(|entry| is_wanted(&entry.platform)) {
            return Err(unusable(entry));
        }
        if let Some(absent) =
            finds.absent.iter().find(|d| named.is_some() && is_wanted(&d.platform))
            && let Some(platform) = absent.platform.clone()
        {
            let others = choice::platforms(&finds.offers);
            return Err(Error::Lost { platform, digest: absent.digest, others });
        }
        // What else there is: for the message, or if it is near enough.
        for descriptor in std::mem::take(&mut finds.typed) {
            if search.opened < MAX_OPENED {
                self.look_into(descriptor, &mut finds, search)?;
            }
        }
        if finds.offers.iter().all(|offer| offer.is_extra) {
            if let Some(failure) = finds.failure {
                return Err(failure);
            }
            if let Some(entry) = finds.unusable.first() {
                return Err(unusable(entry));
            }
            let listed = finds.absent.iter().filter_map(|d| d.platform.as_ref());
            let listed = listed.filter(|platform| !platform.is_unknown());
            let listed: Vec<String> =
                listed.take(LISTED_PLATFORMS).map(ToString::to_string).collect();
            if !finds.absent.is_empty() {
                let listed =
                    if listed.is_empty() { "images".to_owned() } else { listed.join(", ") };
                return Err(Error::Absent(listed));
            }
        }
        choice::choose(&finds.offers, named).cloned()
    }

    fn is_present(&self, descriptor: &Descriptor) -> bool {
        !descriptor.data.is_empty()
            || self.source.has(descriptor)
            || self.cache.blob(&descriptor.digest).is_some()
    }

    /// Looks into something that does not say whether it is an image, or what for.
    fn open(&self, descriptor: Descriptor) -> Result<Opened, Error> {
        let document = self.document(&descriptor)?;
        let manifest = match parse(&document, &descriptor.digest)? {
            Document::Index(index) => return Ok(Opened::Index(index)),
            Document::Manifest(manifest) => manifest,
        };
        let label = descriptor.platform.clone().filter(|platform| !platform.is_unknown());
        let (platform, is_extra) = match label {
            _ if !is_image(&manifest) => (None, true),
            Some(platform) => (Some(platform), false),
            None => {
                let mut platform = self.config(&manifest)?.platform;
                platform.normalise();
                (Some(platform), false)
            }
        };
        Ok(Opened::Image(Offer { descriptor, platform, is_extra }))
    }

    /// A document by descriptor, from the cache or the source, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let digest = descriptor.digest;
        let media_type = Some(descriptor.media_type.clone()).filter(|t| !t.is_empty());
        if let Some(bytes) = descriptor.embedded().or_else(|| self.cached(&digest)) {
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
        let bytes = match descriptor.embedded().or_else(|| self.cached(&digest)) {
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
        manifest.image_config(&bytes).map_err(|source| Error::Document { what, source })
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

/// How well an entry serves by its label.
fn rank(wanted: &Platform, descriptor: &Descriptor) -> Option<u32> {
    wanted.rank(descriptor.platform.as_ref()?)
}

fn is_image(manifest: &Manifest) -> bool {
    manifest.check_image().is_ok()
}

/// What it means that the document of an entry can't be had.
fn lost(chosen: &Offer, error: Error) -> Error {
    match (error, chosen.real_platform()) {
        (Error::Source(source::Error::Registry(e)), Some(platform)) if e.is_not_found() => {
            let (platform, digest) = (platform.clone(), chosen.descriptor.digest);
            Error::Lost { platform, digest, others: String::new() }
        }
        (error, _) => error,
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
