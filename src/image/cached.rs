//! Which images the cache holds, how much of it each takes, and removing one.
//!
//! # Problem
//!
//! The cache is addressed by content: layers, spans and documents, which images share. Users think in images, and want to know
//! which of them takes the room, and to get it back.
//!
//! # Design
//!
//! What a tag meant is remembered, and the documents are there: from each tag's document the walk goes down through
//! indexes, manifests and configs to the digests of blobs and diff IDs, and from these through layer indexes to the spans.
//! Documents that no tag leads to are listed by their digest: images that were named so, or whose tag has moved.
//! What is shared counts for each image that has it, and is told apart from what is an image's alone: removing an image removes
//! that and nothing else.
//!
//! Of images in layouts, archives and stores the cache has layers and no documents, so these belong to no image here, and are
//! counted together. What they share with an image stays when that is removed.
//!
//! Rejected: removing all that an image has. It would take from other images what they share, which is then fetched
//! again.
//!
//! Invariants: no network is used. A file that several images have is removed with the last of them. A mount whose image is
//! removed goes on and fetches what it needs again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::{Cache, Held, Holds, Removed};
use crate::digest::{DiffId, Digest, SpanDigest};
use crate::index::LayerIndex;
use crate::oci::{Document, Manifest};

/// The images that a cache holds, as it was when it was looked at.
#[derive(Debug)]
pub struct CachedImages {
    /// The images, the most recently used first.
    pub images: Vec<CachedImage>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of those that belong to no image of the list.
    pub other_bytes: u64,
    files: Vec<Held>,
    /// Spans that layers of no image have, beside those that perhaps have them too.
    used_elsewhere: HashSet<usize>,
}

/// An image of which the cache holds something.
#[derive(Debug)]
pub struct CachedImage {
    /// Its name in full; `None` if no tag means it.
    pub reference: Option<String>,
    /// Digest of what the name means: a manifest, or an image index.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of those that no other image has.
    pub own_bytes: u64,
    /// When it was last used, to some minutes; by another image, perhaps, that shares layers with it.
    pub used: SystemTime,
    documents: HashSet<Digest>,
    /// Which of the files are its own or shared, in order.
    files: Vec<usize>,
}

impl CachedImage {
    /// Whether a manifest is this image's, for whatever platform.
    pub fn has_manifest(&self, manifest: &Digest) -> bool {
        self.digest == *manifest || self.documents.contains(manifest)
    }
}

impl CachedImages {
    /// Looks at all that is in a cache.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn list(cache: &Cache) -> io::Result<CachedImages> {
        let files = cache.inventory()?;
        let known = Known::read(cache, &files);
        let mut images = known.images();
        let mut owners = vec![0u32; files.len()];
        for image in &images {
            image.files.iter().for_each(|at| owners[*at] += 1);
        }
        let used_elsewhere = known.used_elsewhere(&owners);
        let is_own = |at: &usize| owners[*at] == 1 && !used_elsewhere.contains(at);
        let sum = |of: &mut dyn Iterator<Item = usize>| of.map(|at| files[at].bytes).sum::<u64>();
        for image in &mut images {
            image.bytes = sum(&mut image.files.iter().copied());
            image.own_bytes = sum(&mut image.files.iter().copied().filter(|at| is_own(at)));
            let used = image.files.iter().map(|at| files[*at].used).max();
            image.used = used.unwrap_or(UNIX_EPOCH);
        }
        images.sort_by(|a, b| (b.used, &a.reference).cmp(&(a.used, &b.reference)));
        Ok(CachedImages {
            bytes: sum(&mut (0..files.len())),
            other_bytes: sum(&mut (0..files.len()).filter(|at| owners[*at] == 0)),
            images,
            files,
            used_elsewhere,
        })
    }

    /// Removes what these images have and no other one.
    ///
    /// # Errors
    /// The cache's folder can't be opened, or is not to be trusted.
    pub fn remove(
        &self,
        cache: &Cache,
        is_meant: impl Fn(&CachedImage) -> bool,
    ) -> io::Result<Removed> {
        let (meant, others): (Vec<&CachedImage>, Vec<_>) =
            self.images.iter().partition(|image| is_meant(image));
        let mut kept = self.used_elsewhere.clone();
        kept.extend(others.iter().flat_map(|image| &image.files));
        let mut gone: Vec<usize> = meant.iter().flat_map(|image| &image.files).copied().collect();
        gone.sort_unstable();
        gone.dedup();
        cache.remove_held(gone.iter().filter(|at| !kept.contains(at)).map(|at| &self.files[*at]))
    }
}

/// A document of the cache, and what it leads to.
struct Parsed {
    leads_to: Vec<Digest>,
    subject: Option<Digest>,
    /// Of a manifest.
    diff_ids: Vec<DiffId>,
}

impl Parsed {
    fn read(cache: &Cache, bytes: &[u8]) -> Option<Parsed> {
        let document = Document::parse(bytes, None).ok()?;
        let subject = document.subject().map(|subject| subject.digest);
        let (leads_to, diff_ids) = match &document {
            Document::Index(index) => {
                (index.entries.usable().map(|entry| entry.digest).collect(), Vec::new())
            }
            Document::Manifest(manifest) => {
                let blobs = manifest.layers.iter().chain([&manifest.config]);
                (blobs.map(|blob| blob.digest).collect(), diff_ids(cache, manifest))
            }
        };
        Some(Parsed { leads_to, subject, diff_ids })
    }
}

/// What the config of an image says of its layers; nothing, if the cache does not have it or it is none.
fn diff_ids(cache: &Cache, manifest: &Manifest) -> Vec<DiffId> {
    let config = cache.blob(&manifest.config.digest);
    let config = config.and_then(|bytes| manifest.image_config(&bytes).ok());
    config.map(|config| config.rootfs.diff_ids).unwrap_or_default()
}

/// What the files say of each other.
struct Known<'a> {
    files: &'a [Held],
    documents: HashMap<Digest, (usize, Option<Parsed>)>,
    /// Documents about another one, by that.
    about: HashMap<Digest, Vec<Digest>>,
    /// Files of a blob, and spans that such a file names.
    of_blob: HashMap<Digest, Vec<usize>>,
    of_diff_id: HashMap<DiffId, Vec<usize>>,
    spans_of: HashMap<usize, Vec<SpanDigest>>,
    /// A span may be in two places.
    spans: HashMap<SpanDigest, Vec<usize>>,
}

impl Known<'_> {
    fn read<'a>(cache: &Cache, files: &'a [Held]) -> Known<'a> {
        let mut known = Known {
            files,
            documents: HashMap::new(),
            about: HashMap::new(),
            of_blob: HashMap::new(),
            of_diff_id: HashMap::new(),
            spans_of: HashMap::new(),
            spans: HashMap::new(),
        };
        for (at, file) in files.iter().enumerate() {
            match &file.holds {
                Holds::Span(digest) => known.spans.entry(*digest).or_default().push(at),
                Holds::Document(digest) => {
                    let parsed = cache.blob(digest).and_then(|bytes| Parsed::read(cache, &bytes));
                    if let Some(subject) = parsed.as_ref().and_then(|parsed| parsed.subject) {
                        known.about.entry(subject).or_default().push(*digest);
                    }
                    known.documents.insert(*digest, (at, parsed));
                }
                Holds::LayerIndex => known.add_layer_index(cache, at),
                Holds::Arrived(blob, spans) => {
                    known.of_blob.entry(*blob).or_default().push(at);
                    known.spans_of.insert(at, spans.clone());
                }
                Holds::Download(blob) => known.of_blob.entry(*blob).or_default().push(at),
                Holds::Tag(_) | Holds::Other => {}
            }
        }
        known
    }

    /// Its names may be by blob, by diff ID, or by what can't be told from the name: the index itself says both.
    fn add_layer_index(&mut self, cache: &Cache, at: usize) {
        let bytes = cache.held_layer_index(&self.files[at]);
        // What is damaged belongs to no image; opening the layer removes it.
        let Some(index) = bytes.and_then(|bytes| LayerIndex::decode(&bytes).ok()) else { return };
        self.of_blob.entry(index.blob()).or_default().push(at);
        self.of_diff_id.entry(index.diff_id()).or_default().push(at);
        self.spans_of.insert(at, (0..index.span_count()).map(|n| index.span(n).digest).collect());
    }

    /// Spans of layers that belong to no image.
    fn used_elsewhere(&self, owners: &[u32]) -> HashSet<usize> {
        let of_none = self.spans_of.iter().filter(|(at, _)| owners[**at] == 0);
        let spans = of_none.flat_map(|(_, spans)| spans);
        spans.filter_map(|span| self.spans.get(span)).flatten().copied().collect()
    }

    /// All images, without sizes.
    fn images(&self) -> Vec<CachedImage> {
        let tags = self.files.iter().enumerate().filter_map(|(at, file)| match &file.holds {
            Holds::Tag(record) => Some((at, record)),
            _ => None,
        });
        let mut images: Vec<CachedImage> = tags
            .map(|(at, record)| {
                let mut image = self.image(record.digest);
                image.reference = Some(record.reference.clone());
                image.files.push(at);
                image
            })
            .collect();
        let mut reached: HashSet<Digest> =
            images.iter().flat_map(|image| &image.documents).copied().collect();
        let is_image = |(_, parsed): &(usize, Option<Parsed>)| {
            parsed.as_ref().is_some_and(|parsed| parsed.subject.is_none())
        };
        let roots = self.documents.iter().filter(|(_, document)| is_image(document));
        let roots = roots.map(|(digest, _)| *digest).filter(|digest| !reached.contains(digest));
        let others: Vec<CachedImage> = roots.map(|digest| self.image(digest)).collect();
        // What is within another one is no image of its own.
        for other in &others {
            reached.extend(other.documents.iter().filter(|digest| **digest != other.digest));
        }
        images.extend(others.into_iter().filter(|other| !reached.contains(&other.digest)));
        images
    }

    /// What a document leads to.
    fn image(&self, digest: Digest) -> CachedImage {
        let mut documents = HashSet::new();
        let mut files = HashSet::new();
        let mut todo = vec![digest];
        while let Some(digest) = todo.pop() {
            if !documents.insert(digest) {
                continue;
            }
            todo.extend(self.about.get(&digest).into_iter().flatten());
            self.add_blob(self.of_blob.get(&digest), &mut files);
            let Some((at, parsed)) = self.documents.get(&digest) else { continue };
            files.insert(*at);
            if let Some(parsed) = parsed {
                todo.extend(&parsed.leads_to);
                for diff_id in &parsed.diff_ids {
                    self.add_blob(self.of_diff_id.get(diff_id), &mut files);
                }
            }
        }
        // Digests of blobs are not told from those of documents: a blob is not asked for as a manifest.
        let mut files: Vec<usize> = files.into_iter().collect();
        files.sort_unstable();
        let used = UNIX_EPOCH;
        CachedImage { reference: None, digest, bytes: 0, own_bytes: 0, used, documents, files }
    }

    fn add_blob(&self, of: Option<&Vec<usize>>, files: &mut HashSet<usize>) {
        for at in of.into_iter().flatten() {
            files.insert(*at);
            let spans = self.spans_of.get(at).into_iter().flatten();
            files.extend(spans.filter_map(|span| self.spans.get(span)).flatten());
        }
    }
}
