//! From an image name to verified documents: manifest, config, layers.
//!
//! A tag is resolved once and pinned; from then on everything is named by digest. Whatever a source
//! returns is checked here: a document against the digest that led to it, the number of diff IDs
//! against the number of layers. What passes is kept in the cache, so that the same image resolves
//! again with one question to the registry, or none offline.
//!
//! An image index names images for several platforms, further indexes, and artifacts about images.
//! What is no image is an artifact, and its blobs are shown as [`crate::artifact`] says.
//! Entries that say what they are cost nothing to consider; the others are opened only if none of
//! the former will do. Whatever an entry says, its platform counts as soon as it turns out to be an
//! image.

mod artifact;
mod choice;
mod documents;
mod error;
mod image;
mod options;
mod search;
mod verified;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use crate::artifact::{ArtifactView, is_artifact};
use crate::cache::{Asked, Cache};
use crate::oci::{self, Descriptor, Document};
use crate::reference::ImageName;
use crate::source::Source;
use choice::Offer;
use search::{Followed, Search};

pub use documents::Documents;
pub use error::Error;
pub use image::{ResolvedImage, ResolvedLayer};
pub use options::ResolveOptions;
pub use verified::Verified;

/// Resolves a name.
///
/// # Errors
/// See [`Error`].
pub fn resolve(
    name: &ImageName,
    source: &dyn Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<ResolvedImage, Error> {
    let documents = Documents { source, cache, options };
    resolve_from(documents.root(name)?, name, &documents)
}

/// Resolves a name whose document is there.
///
/// # Errors
/// See [`Error`].
pub fn resolve_from(
    root: Verified<Document>,
    name: &ImageName,
    documents: &Documents<'_>,
) -> Result<ResolvedImage, Error> {
    let Documents { source, cache, options } = *documents;
    let Followed { manifest, indexes, is_labelled } = Search::new(documents).follow(root)?;
    let image = if options.artifacts == ArtifactView::Raw || is_artifact(manifest.value()) {
        None
    } else {
        match documents.image_config(&manifest) {
            Ok(config) => Some(config),
            Err(Error::Document { cause, .. }) if cause.is_of_artifact() => {
                if let oci::Error::Layer { .. } | oci::Error::OtherLayer { .. } = cause {
                    log::warn!("{name}: {cause}; its blobs are shown as the files of an artifact");
                }
                None
            }
            Err(error) => return Err(error),
        }
    };
    let is_image = image.is_some();
    let image = match image {
        Some(config) => ResolvedImage::new(name.to_string(), indexes, manifest, config),
        None => artifact::resolve(name.to_string(), indexes, manifest, documents)?,
    };
    // What an index says of its images is believed, as engines do; a config need not be exact.
    if let Some(wanted) = options.platform.as_ref().filter(|_| is_image && !is_labelled) {
        let descriptor = Descriptor::of_manifest(image.digest);
        let platform = Some(image.platform.clone());
        let offer = Offer { descriptor, platform, is_extra: false, within: None };
        choice::choose(&[offer], Some(wanted))?;
    }
    // Only what has proven to be an image is worth remembering.
    if let ImageName::Registry(reference) = name
        && reference.tag().is_some()
        && options.root.is_none()
        && !source.is_offline()
    {
        let asked = if options.is_exempt { Asked::Unchecked } else { Asked::Checked };
        cache.put_tag(&reference.to_string(), image.root, asked);
    }
    Ok(image)
}
