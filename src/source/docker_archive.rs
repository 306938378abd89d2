//! The output of `docker save`, podman's and skopeo's `docker-archive`, of any age; an archive, or the
//! folder that it was unpacked to.
//!
//! Since version 25 Docker writes an OCI layout *and* the old `manifest.json`; then the layout is
//! used, because it has digests, unless it lacks what the other half has. The old form lists a config and
//! layer files by name (`saved`). What Docker wrote before version 1.10 has no config either (`v1`). Both
//! may hold several images, of which one is meant (`images`).

mod images;
mod saved;
mod v1;

use std::sync::Arc;

use super::archive::{Archive, Files};
use super::layout::Layout;
use super::{Error, RawDocument, Source};
use crate::oci::{Descriptor, Document};
use images::{Form, SavedImages};

/// How deep image indexes may be nested before an image is taken for whole.
const MAX_INDEX_DEPTH: usize = 4;

/// Opens an archive of any kind that is open.
///
/// # Errors
/// It is none.
pub(super) fn open_archive(
    archive: Archive,
    selector: Option<String>,
) -> Result<Arc<dyn Source>, Error> {
    open_files(Files::Archive(archive), selector)
}

/// Opens what `docker save` wrote, of any age.
///
/// # Errors
/// It is nothing of the kind.
pub(super) fn open_files(files: Files, selector: Option<String>) -> Result<Arc<dyn Source>, Error> {
    let has = |name| files.open(name).map(|file| file.is_some());
    let has_rows = has("manifest.json")?;
    let layout = match has("oci-layout")? && has("index.json")? {
        true => Some(Layout::open(files.clone(), selector.clone())),
        false => None,
    };
    match layout {
        Some(layout) if !has_rows => Ok(Arc::new(layout?)),
        // Some writers put the full name into `manifest.json` alone.
        Some(Ok(layout)) if layout.has_image() => {
            if is_whole(&layout) {
                return Ok(Arc::new(layout));
            }
            let saved = SavedImages::new(files, selector, Form::Listed);
            match saved.image() {
                Ok(_) => Ok(Arc::new(saved)),
                // Of two halves that lack something, the one with digests says what.
                Err(_) => Ok(Arc::new(layout)),
            }
        }
        _ if has_rows => Ok(Arc::new(SavedImages::new(files, selector, Form::Listed))),
        _ if has("repositories")? || is_unnamed(&files) => {
            Ok(Arc::new(SavedImages::new(files, selector, Form::Chains)))
        }
        _ => {
            let what = "not the output of `docker save`: it has neither `manifest.json` nor \
                        `repositories`";
            Err(Error::invalid(files.path(), what))
        }
    }
}

/// Whether it is what Docker wrote before version 1.10 for an image without a name.
pub(super) fn is_unnamed(files: &Files) -> bool {
    !v1::images(files).is_empty()
}

/// Whether there is an image in a layout of which nothing is missing.
fn is_whole(layout: &Layout) -> bool {
    layout.root().is_ok_and(|root| leads_to_whole(layout, &root, 0))
}

fn leads_to_whole(layout: &Layout, document: &RawDocument, depth: usize) -> bool {
    match Document::parse(&document.bytes, document.media_type.as_deref()) {
        Ok(Document::Manifest(manifest)) => {
            layout.has(&manifest.config) && manifest.layers.iter().all(|layer| layout.has(layer))
        }
        Ok(Document::Index(index)) if depth < MAX_INDEX_DEPTH => {
            // Attestations have all of their parts when the images that they are about have not.
            let is_image = |descriptor: &&Descriptor| {
                let platform = descriptor.platform.as_ref();
                !descriptor.is_about_another()
                    && platform.is_none_or(|platform| platform.os != "unknown")
            };
            let images = index.entries.usable().filter(is_image);
            let mut present = images.filter(|descriptor| layout.has(descriptor));
            present.any(|descriptor| {
                let document = layout.document(descriptor);
                document.is_ok_and(|document| leads_to_whole(layout, &document, depth + 1))
            })
        }
        // The reader of the layout reports what can't be parsed.
        _ => true,
    }
}
