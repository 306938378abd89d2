//! The way from a document through image indexes down to a manifest.
//!
//! An image index names images for several platforms, further indexes, and artifacts about images.
//! Entries that say what they are cost nothing to consider; the others are opened only if none of
//! the former will do. Whatever an entry says, its platform counts as soon as it turns out to be an
//! image.
//!
//! Every index that is entered stays until the search has ended, as bytes beside the entries that are
//! considered: which of them lead to the image is known only then.

use std::collections::HashSet;

use super::choice::{self, Offer};
use super::documents::Documents;
use super::error::{Error, MAX_INDEX_DEPTH, MAX_OPENED};
use super::verified::{Verified, VerifiedDocument};
use crate::digest::Digest;
use crate::oci::{Descriptor, Document, Entry, ImageIndex, Manifest, Platform, Unusable};
use crate::source;

/// How many of them may be artifacts of the wanted platform, which may be one's signatures.
const MAX_TYPED_OPENED: usize = 16;

/// Platforms listed when nothing of an index is there.
const LISTED_PLATFORMS: usize = 20;

/// The manifest at the end of the way.
pub(super) struct Followed {
    pub(super) manifest: Verified<Manifest>,
    /// The image indexes that lead to it, from the first down.
    pub(super) indexes: Vec<Verified<()>>,
    /// An image index says what it is for.
    pub(super) is_labelled: bool,
}

/// A search through indexes.
pub(super) struct Search<'a> {
    documents: &'a Documents<'a>,
    /// The platform that the user asked for, if any.
    platform: Option<&'a Platform>,
    /// Levels of indexes that were gone down.
    depth: usize,
    /// Documents opened to see what they are for.
    opened: usize,
    /// What was considered. Nothing is considered twice, so that the search ends: indexes by digest
    /// can't form a circle, but may share parts, and tools write entries twice.
    seen: HashSet<(Digest, Option<Platform>)>,
    /// The indexes that were entered, each with the place here of the one that names it.
    entered: Vec<(Verified<()>, Option<usize>)>,
}

/// An entry to be opened, and the place of its index among those that were entered.
struct Candidate {
    descriptor: Descriptor,
    within: usize,
}

/// What the entries of an index, and of those that it names, turned out to be.
#[derive(Default)]
struct Finds {
    offers: Vec<Offer>,
    /// Entries with a platform and a type: artifacts about the image of that platform as a rule,
    /// but all images of some tools. None is opened whose platform is not wanted.
    typed: Vec<Candidate>,
    /// Entries that can't be verified or read.
    unusable: Vec<Unusable>,
    /// Entries of which the source says that they are not there.
    absent: Vec<Descriptor>,
    /// Why the first of the entries that had to be opened could not be.
    failure: Option<Error>,
}

/// What was found in something that did not say what it is for.
enum Opened {
    Index(Verified<ImageIndex>),
    Image(Offer),
}

impl<'a> Search<'a> {
    pub(super) fn new(documents: &'a Documents<'a>) -> Search<'a> {
        Search {
            documents,
            platform: documents.options.platform.as_ref(),
            depth: 0,
            opened: 0,
            seen: HashSet::new(),
            entered: Vec::new(),
        }
    }

    /// Follows image indexes down to a manifest.
    pub(super) fn follow(mut self, root: Verified<Document>) -> Result<Followed, Error> {
        let mut document = root;
        let (mut is_labelled, mut within) = (false, None);
        loop {
            let index = match document.kind() {
                VerifiedDocument::Manifest(manifest) => {
                    return Ok(Followed { manifest, indexes: self.way_to(within), is_labelled });
                }
                VerifiedDocument::Index(index) => index,
            };
            let chosen = self.choose(index, within)?;
            is_labelled = chosen.real_platform().is_some();
            within = chosen.within;
            let opened = self.documents.document(&chosen.descriptor);
            document = opened.map_err(|error| lost(&chosen, error))?;
        }
    }

    /// Enters an index that is named by another, if one names it: its place, and its entries.
    fn enter(&mut self, index: Verified<ImageIndex>, within: Option<usize>) -> (usize, Vec<Entry>) {
        let (document, index) = index.split();
        self.entered.push((document, within));
        (self.entered.len() - 1, index.entries.0)
    }

    /// The indexes that lead to this one, and it, from the first down.
    fn way_to(&self, last: Option<usize>) -> Vec<Verified<()>> {
        let way = std::iter::successors(last, |at| self.entered[*at].1);
        let mut way: Vec<_> = way.map(|at| self.entered[at].0.clone()).collect();
        way.reverse();
        way
    }

    /// Chooses an image of an index, opening what does not say what it is as far as that is
    /// necessary.
    fn choose(
        &mut self,
        index: Verified<ImageIndex>,
        within: Option<usize>,
    ) -> Result<Offer, Error> {
        let host = Platform::host();
        let wanted = self.platform.unwrap_or(&host);
        let mut finds = Finds::default();
        let mut indexes = vec![self.enter(index, within)];
        while !indexes.is_empty() {
            self.depth += 1;
            if self.depth > MAX_INDEX_DEPTH {
                return Err(Error::Nesting);
            }
            let mut silent = Vec::new();
            for (within, entries) in indexes.drain(..) {
                self.sort(within, entries, &mut finds, &mut silent);
            }
            if let Some(offer) = self.matching(&mut finds.offers, wanted)? {
                return Ok(offer);
            }
            let typed = finds.typed.extract_if(.., |c| rank(wanted, c).is_some());
            let mut typed: Vec<Candidate> = typed.collect();
            typed.sort_by_key(|c| rank(wanted, c));
            for candidate in typed {
                if self.opened >= MAX_TYPED_OPENED {
                    finds.typed.push(candidate);
                    continue;
                }
                indexes.extend(self.look_into(candidate, &mut finds)?);
                if let Some(offer) = choice::matching(&finds.offers, wanted) {
                    return Ok(offer.clone());
                }
            }
            for candidate in silent {
                indexes.extend(self.look_into(candidate, &mut finds)?);
            }
        }
        self.choose_of_all(finds, wanted)
    }

    /// Sorts the entries of an index by what they say of themselves; `silent` are those that say nothing.
    fn sort(
        &mut self,
        within: usize,
        entries: Vec<Entry>,
        finds: &mut Finds,
        silent: &mut Vec<Candidate>,
    ) {
        for entry in entries {
            let descriptor = match entry {
                Ok(descriptor) => descriptor,
                Err(unusable) => {
                    finds.unusable.push(*unusable);
                    continue;
                }
            };
            let platform = descriptor.platform.clone();
            if !self.seen.insert((descriptor.digest, platform.clone())) {
                continue;
            }
            let is_labelled = platform.as_ref().is_some_and(|platform| !platform.is_unknown());
            let is_extra = descriptor.is_about_another();
            if !self.documents.has(&descriptor) {
                // Archives of multi-platform images often lack the blobs of all but one.
                finds.absent.push(descriptor);
            } else if !is_labelled && !is_extra {
                silent.push(Candidate { descriptor, within });
            } else if descriptor.is_typed() && !is_extra {
                finds.typed.push(Candidate { descriptor, within });
            } else {
                finds.offers.push(Offer { descriptor, platform, is_extra, within: Some(within) });
            }
        }
    }

    /// The best of what is labelled for a platform. Of several that are equally good one may be no
    /// image, whatever its label says.
    fn matching(&self, offers: &mut [Offer], wanted: &Platform) -> Result<Option<Offer>, Error> {
        loop {
            let Some(best) = choice::matching(offers, wanted).cloned() else { return Ok(None) };
            if choice::equals(offers, wanted, &best) < 2 {
                return Ok(Some(best));
            }
            let document =
                self.documents.document(&best.descriptor).map_err(|error| lost(&best, error))?;
            match document.kind() {
                VerifiedDocument::Manifest(manifest) if !is_image(manifest.value()) => {
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
        &mut self,
        candidate: Candidate,
        finds: &mut Finds,
    ) -> Result<Option<(usize, Vec<Entry>)>, Error> {
        self.opened += 1;
        if self.opened > MAX_OPENED {
            return Err(Error::TooManyOpened);
        }
        let within = candidate.within;
        match self.open(candidate) {
            Ok(Opened::Index(index)) => return Ok(Some(self.enter(index, Some(within)))),
            Ok(Opened::Image(offer)) => finds.offers.push(offer),
            Err(error) if error.is_of_the_entry() => drop(finds.failure.get_or_insert(error)),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Chooses where nothing matches exactly.
    fn choose_of_all(&mut self, mut finds: Finds, wanted: &Platform) -> Result<Offer, Error> {
        let named = self.platform;
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
        for candidate in std::mem::take(&mut finds.typed) {
            if self.opened < MAX_OPENED {
                self.look_into(candidate, &mut finds)?;
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

    /// Looks into something that does not say whether it is an image, or what for.
    fn open(&self, Candidate { descriptor, within }: Candidate) -> Result<Opened, Error> {
        let document = self.documents.document(&descriptor)?;
        let manifest = match document.kind() {
            VerifiedDocument::Index(index) => return Ok(Opened::Index(index)),
            VerifiedDocument::Manifest(manifest) => manifest,
        };
        let label = descriptor.platform.clone().filter(|platform| !platform.is_unknown());
        let (platform, is_extra) = match label {
            _ if !is_image(manifest.value()) => (None, true),
            Some(platform) => (Some(platform), false),
            None => {
                let mut platform =
                    self.documents.config(manifest.value())?.value().platform.clone();
                platform.normalise();
                (Some(platform), false)
            }
        };
        Ok(Opened::Image(Offer { descriptor, platform, is_extra, within: Some(within) }))
    }
}

/// How well an entry serves by its label.
fn rank(wanted: &Platform, candidate: &Candidate) -> Option<u32> {
    wanted.rank(candidate.descriptor.platform.as_ref()?)
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
