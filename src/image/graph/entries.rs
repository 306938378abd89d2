//! The entries of image indexes, and what their documents turn out to be.

use std::collections::{HashMap, HashSet};

use super::entry::{Depth, Entry, EntryKind};
use crate::digest::Digest;
use crate::image::parallel;
use crate::oci::{self, Document, ImageIndex, Manifest};
use crate::resolve::{Documents, ResolvedImage, Verified};

/// Documents that one look at an image opens, beside those of the image itself. The largest real indexes name some
/// fifty manifests.
const MAX_DOCUMENTS: usize = 512;

/// How deep indexes are followed.
const MAX_INDEX_DEPTH: usize = 8;

/// A walk through image indexes.
pub(super) struct Walk<'a> {
    documents: Documents<'a>,
    depth: Depth,
    /// The image that is shown in detail.
    shown: Option<&'a ResolvedImage>,
    /// The indexes that lead to it, which are there.
    way: HashMap<Digest, &'a [u8]>,
    /// Indexes that were entered: each is shown once.
    entered: HashSet<Digest>,
    entries: Vec<Entry>,
    opened: usize,
    left_out: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        documents: Documents<'a>,
        shown: Option<&'a ResolvedImage>,
        depth: Depth,
    ) -> Walk<'a> {
        let way = shown.iter().flat_map(|image| image.indexes());
        let way = way.map(|index| (index.digest(), index.bytes())).collect();
        let (entered, entries) = (HashSet::new(), Vec::new());
        Walk { documents, depth, shown, way, entered, entries, opened: 0, left_out: 0 }
    }

    /// Takes the entries of a document, if it is an index.
    pub(super) fn document(&mut self, root: &Verified<Document>) {
        if let Document::Index(index) = root.value() {
            self.index(root.digest(), index, 0);
        }
    }

    fn index(&mut self, digest: Digest, index: &ImageIndex, depth: usize) {
        self.entered.insert(digest);
        for entry in &index.entries.0 {
            let (descriptor, platform, kind) = match entry {
                Ok(descriptor) => {
                    let platform = descriptor.platform.clone().filter(|p| !p.is_unknown());
                    let kind = match () {
                        () if descriptor.is_about_another() => {
                            EntryKind::Attestation(descriptor.attested())
                        }
                        () if descriptor.is_index() => EntryKind::Index,
                        () if descriptor.is_typed() => EntryKind::Artifact,
                        () if platform.is_some() => EntryKind::Image,
                        () => EntryKind::Unknown,
                    };
                    (Ok(descriptor.clone()), platform, kind)
                }
                Err(unusable) => {
                    (Err(unusable.why.clone()), unusable.platform.clone(), EntryKind::Unusable)
                }
            };
            let named = descriptor.as_ref().ok().map(|descriptor| descriptor.digest);
            let shown = self.shown.filter(|image| named == Some(image.digest));
            self.entries.push(Entry {
                within: digest,
                depth,
                descriptor,
                platform,
                kind: if shown.is_some() { EntryKind::Image } else { kind },
                is_shown: shown.is_some(),
                manifest: shown.map(|image| image.manifest().value().clone()),
                error: None,
            });
            let at = self.entries.len() - 1;
            if shown.is_none() && matches!(kind, EntryKind::Index | EntryKind::Unknown) {
                self.enter(at, depth);
            }
        }
    }

    /// Opens an entry that is or may be an index, if that is wanted or costs nothing.
    fn enter(&mut self, at: usize, depth: usize) {
        let Ok(descriptor) = self.entries[at].descriptor.clone() else { return };
        let digest = descriptor.digest;
        if self.entered.contains(&digest) || depth >= MAX_INDEX_DEPTH {
            return;
        }
        if let Some(bytes) = self.way.get(&digest) {
            self.entries[at].kind = EntryKind::Index;
            // It was read once, on the way to the image.
            if let Ok(index) = ImageIndex::parse(bytes) {
                self.index(digest, &index, depth + 1);
            }
            return;
        }
        if self.depth == Depth::Shown {
            return;
        }
        if self.opened >= MAX_DOCUMENTS {
            self.left_out += 1;
            return;
        }
        self.opened += 1;
        match self.documents.document(&descriptor).map(|document| document.value().clone()) {
            Ok(Document::Index(index)) => {
                self.entries[at].kind = EntryKind::Index;
                self.index(digest, &index, depth + 1);
            }
            Ok(Document::Manifest(manifest)) => settle(&mut self.entries[at], manifest),
            Err(error) => self.entries[at].error = Some(error.to_string()),
        }
    }

    /// What was found; with everything, up to `width` manifests are opened at a time. How many were left out.
    pub(super) fn finish(mut self, width: usize) -> (Vec<Entry>, usize) {
        if self.depth != Depth::All {
            return (self.entries, self.left_out);
        }
        let is_closed = |entry: &Entry| entry.manifest.is_none() && entry.error.is_none();
        let closed = self.entries.iter().enumerate();
        let closed = closed.filter(|(_, entry)| is_closed(entry) && entry.kind != EntryKind::Index);
        let mut todo: Vec<_> = closed
            .filter_map(|(at, entry)| Some((at, entry.descriptor.as_ref().ok()?.clone())))
            .collect();
        let most = MAX_DOCUMENTS.saturating_sub(self.opened);
        self.left_out += todo.len().saturating_sub(most);
        todo.truncate(most);
        let documents = self.documents;
        let opened = parallel::map(&todo, width, |(_, descriptor)| documents.document(descriptor));
        for ((at, _), opened) in todo.into_iter().zip(opened) {
            let entry = &mut self.entries[at];
            match opened.map(|document| document.value().clone()) {
                Ok(Document::Manifest(manifest)) => settle(entry, manifest),
                Ok(Document::Index(_)) => {
                    entry.error = Some("it is an image index, which its entry does not say".into());
                }
                Err(error) => entry.error = Some(error.to_string()),
            }
        }
        (self.entries, self.left_out)
    }
}

/// Notes what an entry has turned out to be.
fn settle(entry: &mut Entry, manifest: Manifest) {
    entry.kind = match (entry.kind, manifest.check_image()) {
        (EntryKind::Attestation(of), _) => EntryKind::Attestation(of),
        (_, Ok(())) => EntryKind::Image,
        (_, Err(oci::Error::Artifact(_))) => EntryKind::Artifact,
        (_, Err(error)) => {
            entry.error = Some(error.to_string());
            EntryKind::Artifact
        }
    };
    entry.manifest = Some(manifest);
}
