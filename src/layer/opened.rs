//! Layers that are open: one, and those of another image in the same mount.

use std::collections::HashMap;
use std::sync::Arc;

use super::budget;
use super::error::Error;
use crate::artifact::ShownAs;
use crate::cache::LayerName;
use crate::digest::{DiffId, Digest};
use crate::external::IndexFinder;
use crate::index::LayerIndex;
use crate::resolve::ResolvedLayer;
use crate::toc::{self, TocAnnotation};

/// A layer that can be shown.
#[derive(Clone, Debug)]
pub struct OpenLayer {
    /// Its index.
    pub index: Arc<LayerIndex>,
    /// The index's name in the cache.
    pub name: LayerName,
}

impl OpenLayer {
    /// Files that the writer of an eStargz layer added for itself are hidden, whichever way the
    /// index was made; and what is shown has the paths that it is to have.
    ///
    /// # Errors
    /// There are too many names.
    pub(super) fn new(
        index: LayerIndex,
        name: LayerName,
        layer: &ResolvedLayer,
    ) -> Result<OpenLayer, Error> {
        let index = match toc::promise(&layer.descriptor) {
            Some(promise) => index.without_bookkeeping(&promise),
            None => index,
        };
        let index = match &layer.shown {
            ShownAs::Tree { below } => index.shown_below(below),
            ShownAs::File(file) | ShownAs::Compressed(file) => {
                index.shown_as_file(&file.path, file.mode, file.mtime_seconds)
            }
        };
        let index = index.map_err(|e| Error { digest: layer.descriptor.digest, kind: e.into() })?;
        Ok(OpenLayer { index: Arc::new(index), name })
    }
}

/// What makes two layers the same: both digests, as each promises something of its own, and how they are shown.
pub(super) type LayerKey = (Digest, Option<DiffId>, ShownAs);

pub(super) fn layer_key(layer: &ResolvedLayer) -> LayerKey {
    (layer.descriptor.digest, layer.diff_id, layer.shown.clone())
}

/// Layers that need not be opened again.
///
/// An index that others made is bound to an image, or to nothing: it counts for another image only if
/// that one would use it too. And a layer with another promise of a table of contents hides other
/// files.
#[derive(Debug, Default)]
pub struct OpenedLayers {
    layers: HashMap<LayerKey, Vec<(Option<TocAnnotation>, OpenLayer)>>,
    /// Whether they were opened for other images than the one that they are looked up for.
    are_of_others: bool,
}

impl OpenedLayers {
    /// None yet, to be looked up for other images than they were opened for: each of these draws on its own budget.
    pub fn of_other_images() -> OpenedLayers {
        OpenedLayers { layers: HashMap::new(), are_of_others: true }
    }

    /// Remembers the layers of an image.
    pub fn add<'a>(&mut self, layers: impl Iterator<Item = (&'a ResolvedLayer, &'a OpenLayer)>) {
        for (layer, open) in layers {
            let rows = self.layers.entry(layer_key(layer)).or_default();
            let promise = toc::promise(&layer.descriptor);
            if !rows.iter().any(|row| row.0 == promise && row.1.name == open.name) {
                rows.push((promise, open.clone()));
            }
        }
    }

    /// The layer, if the image that `finder` is of may have it as it is.
    ///
    /// # Errors
    /// What it takes is more than is left of the image's budget.
    pub fn get(
        &self,
        layer: &ResolvedLayer,
        finder: &IndexFinder,
    ) -> Result<Option<OpenLayer>, Error> {
        let promise = toc::promise(&layer.descriptor);
        let is_good = |open: &OpenLayer| {
            open.index.proof().is_own() || finder.names(layer).contains(&open.name)
        };
        let mut rows = self.layers.get(&layer_key(layer)).into_iter().flatten();
        let found = rows.find(|row| row.0 == promise && is_good(&row.1));
        let Some((_, open)) = found else { return Ok(None) };
        if self.are_of_others {
            let encoded = || open.index.encode().into();
            let drawn = budget::draw(&open.index, &encoded, finder.budget());
            let digest = layer.descriptor.digest;
            drawn.map_err(|e| Error { digest, kind: e.into() })?;
        }
        Ok(Some(open.clone()))
    }
}
