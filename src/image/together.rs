//! Several images that are opened at the same time.
//!
//! # Problem
//!
//! Images that are shown or compared together are wanted all at once. Opened one after the other, each waits for the
//! round trips of the ones in front of it, and a last large layer has the link and the processors for itself.
//!
//! # Design
//!
//! Names are resolved at the same time, as each waits for its registry; then the layers of all are passed over as if
//! they were one image's ([`layer::open_images`]), the largest first. So no image keeps another from connections or
//! processors, and a layer that several have is opened for the first of them.
//!
//! Rejected: small layers first. They are there sooner, but nothing is shown before the last one is, and a large layer
//! that is left to the end has one stream of deflate, hence one processor, for itself.

use std::sync::Arc;

use super::opening::Opening;
use super::{Error, ImageOptions, parallel};
use crate::cache::Cache;
use crate::layer::{self, OpenLayer, OpenedLayers, Progress};
use crate::reference::ImageName;
use crate::source::registry::Session;

/// Images that are resolved at the same time.
const AT_ONCE: usize = 8;

/// An image that can't be opened with others.
#[derive(Debug)]
pub struct Failure {
    /// Its place among those that were to be opened.
    pub image: usize,
    /// Why.
    pub error: Error,
}

/// Resolves images and opens all of their layers but those that are `known`; in the order of the names.
///
/// # Errors
/// The first error, with the image that it is about.
pub(super) fn open<'a>(
    images: &[(&ImageName, &ImageOptions)],
    cache: &'a Arc<Cache>,
    session: &Session,
    known: &OpenedLayers,
    progress: &dyn Progress,
) -> Result<Vec<(Opening<'a>, Vec<OpenLayer>)>, Failure> {
    let resolved = parallel::map(images, AT_ONCE, |(name, options)| {
        Opening::in_session(name, cache, options, session)
    });
    let resolved = resolved.into_iter().enumerate();
    let resolved = resolved.map(|(image, one)| one.map_err(|error| Failure { image, error }));
    let openings = resolved.collect::<Result<Vec<_>, _>>()?;
    let layers: Vec<_> = openings.iter().map(Opening::all_layers).collect();
    let open = layer::open_images(&layers, cache, known, progress);
    let open = open.map_err(|e| Failure { image: e.image, error: e.error.into() })?;
    Ok(openings.into_iter().zip(open).collect())
}
