//! Which entries of an `index.json` are images of their own.
//!
//! Tools list there what they copied along with an image: its signatures, attestations and SBOMs
//! (`oras cp -r`, `cosign save`), and the children of an image index (oras). Marks on the entries
//! differ from tool to tool or are missing, so the documents are read: they are small and lie on this
//! machine. What remains is what a person would call the images of the layout.

use std::collections::HashSet;

use crate::oci::{Descriptor, Document};
use crate::source::Source;

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

/// The entries that are images, without those that are about one and those that belong to another;
/// all of them, where none is an image or too many would have to be read.
pub(super) fn images(layout: &dyn Source, entries: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut reading = Reading::default();
    let is_image: Vec<bool> =
        entries.iter().map(|entry| reading.is_image(layout, entry, 0)).collect();
    if reading.read > MAX_READ {
        return entries;
    }
    let is_kept = |(entry, is_image): &(&Descriptor, bool)| {
        *is_image && !reading.children.contains(&entry.digest.to_string())
    };
    let kept: Vec<Descriptor> =
        entries.iter().zip(is_image).filter(is_kept).map(|(entry, _)| entry.clone()).collect();
    if kept.is_empty() { entries } else { kept }
}

impl Reading {
    /// Whether this is an image, or an index with one in it.
    fn is_image(&mut self, layout: &dyn Source, entry: &Descriptor, depth: usize) -> bool {
        self.read += 1;
        if depth > MAX_DEPTH || self.read > MAX_READ || entry.is_about_another() {
            return false;
        }
        let Ok(document) = layout.document(entry) else {
            // What was left out of a layout with one platform of several, if nothing speaks against it.
            return depth > 0 && !entry.is_typed();
        };
        if !entry.digest.matches(&document.bytes) {
            // For the reader to refuse, if this is chosen.
            return true;
        }
        match Document::parse(&document.bytes, document.media_type.as_deref()) {
            Ok(Document::Manifest(manifest)) => manifest.check_image().is_ok(),
            Ok(Document::Index(index)) => {
                let mut has_image = false;
                for child in index.entries.usable() {
                    self.children.insert(child.digest.to_string());
                    has_image |= self.is_image(layout, child, depth + 1);
                }
                has_image
            }
            Err(_) => false,
        }
    }
}
