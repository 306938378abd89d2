//! Which entries of an `index.json` are images of their own.
//!
//! Tools list there what they copied along with an image: its signatures, attestations and SBOMs
//! (`oras cp -r`, `cosign save`), and the children of an image index (oras). Marks on the entries
//! differ from tool to tool or are missing, so the documents are read: they are small and lie on this
//! machine. What remains is what a person would call the images of the layout; or, in a layout of artifacts, those that
//! are about no other.

use std::collections::HashSet;

use crate::oci::{Descriptor, Document};
use crate::source::Source;
use crate::source::nearest::is_of_referrer;

/// What a user's reference is called in an index.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Documents that are read to tell images from what is about them. A layout with more entries is an
/// archive of many images, and needs a name anyway.
const MAX_READ: usize = 256;

/// How deep indexes are followed.
const MAX_DEPTH: usize = 4;

/// Documents of a layout, as they are read.
#[derive(Default)]
struct Reading {
    read: usize,
    /// Everything that an index names which an entry leads to.
    children: HashSet<String>,
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    /// An image, or an index with one in it.
    Image,
    /// An artifact that stands for itself, or an index of such.
    Artifact,
    /// What is about another one, or can't be read.
    Other,
}

/// The entries that are images, or artifacts where none is an image, without those that are about one and those that
/// belong to another; all of them, where there is neither or too many would have to be read.
pub(super) fn images(layout: &dyn Source, entries: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut reading = Reading::default();
    let classes: Vec<Class> = entries.iter().map(|entry| reading.class(layout, entry, 0)).collect();
    if reading.read > MAX_READ {
        return entries;
    }
    let of = |wanted: Class| -> Vec<Descriptor> {
        let is_child = |entry: &Descriptor| reading.children.contains(&entry.digest.to_string());
        let entries = entries.iter().zip(&classes).filter(|(_, class)| **class == wanted);
        entries.map(|(entry, _)| entry).filter(|entry| !is_child(entry)).cloned().collect()
    };
    let kept = [Class::Image, Class::Artifact].map(of).into_iter().find(|kept| !kept.is_empty());
    kept.unwrap_or(entries)
}

/// Whether an entry stands in for the referrers API, by its name.
fn is_index_of_referrers(entry: &Descriptor) -> bool {
    entry.annotations.get(REF_NAME).is_some_and(|name| is_of_referrer(name))
}

impl Reading {
    fn class(&mut self, layout: &dyn Source, entry: &Descriptor, depth: usize) -> Class {
        self.read += 1;
        if depth > MAX_DEPTH || self.read > MAX_READ || entry.is_about_another() {
            return Class::Other;
        }
        let Ok(document) = layout.document(entry) else {
            // What was left out of a layout with one platform of several, if nothing speaks against it.
            return if depth > 0 && !entry.is_typed() { Class::Image } else { Class::Other };
        };
        if !entry.digest.matches(&document.bytes) {
            // For the reader to refuse, if this is chosen.
            return Class::Image;
        }
        let Ok(document) = Document::parse(&document.bytes, document.media_type.as_deref()) else {
            return Class::Other;
        };
        let is_image = match &document {
            Document::Manifest(manifest) => manifest.check_image().is_ok(),
            Document::Index(index) => {
                let mut has_image = false;
                for child in index.entries.usable() {
                    self.children.insert(child.digest.to_string());
                    has_image |= self.class(layout, child, depth + 1) == Class::Image;
                }
                has_image
            }
        };
        match is_image {
            true => Class::Image,
            false if document.subject().is_none() && !is_index_of_referrers(entry) => {
                Class::Artifact
            }
            false => Class::Other,
        }
    }
}
