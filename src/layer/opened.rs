//! Layers that are open: one, and those of another image in the same mount.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::budget;
use super::error::Error;
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
    /// index was made.
    pub(super) fn new(index: LayerIndex, name: LayerName, layer: &ResolvedLayer) -> OpenLayer {
        let index = match toc::promise(&layer.descriptor) {
            Some(promise) => index.without_bookkeeping(&promise),
            None => index,
        };
        OpenLayer { index: Arc::new(index), name }
    }
}

/// What makes two layers the same: both digests, as each promises something of its own.
pub(super) type LayerKey = (Digest, DiffId);

pub(super) fn layer_key(layer: &ResolvedLayer) -> LayerKey {
    (layer.descriptor.digest, layer.diff_id)
}

/// Layers that need not be opened again.
///
/// An index that others made is bound to an image, or to nothing: it counts for another image only if
/// that one would use it too. And a layer with another promise of a table of contents hides other
/// files.
#[derive(Debug, Default)]
pub struct OpenedLayers {
    layers: HashMap<LayerKey, Vec<(Option<TocAnnotation>, OpenLayer)>>,
}

impl OpenedLayers {
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
    pub fn get(&self, layer: &ResolvedLayer, finder: &IndexFinder) -> Option<OpenLayer> {
        let rows = self.layers.get(&layer_key(layer))?;
        let promise = toc::promise(&layer.descriptor);
        let is_good = |open: &OpenLayer| {
            open.index.proof().is_own() || finder.names(layer).contains(&open.name)
        };
        let found = rows.iter().find(|row| row.0 == promise && is_good(&row.1));
        found.map(|(_, open)| open.clone())
    }

    /// Draws on the budget of an image for those of its layers that were opened for another one.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn draw_on(&self, layers: &[ResolvedLayer], finder: &IndexFinder) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for layer in layers.iter().filter(|layer| seen.insert(layer_key(layer))) {
            if let Some(open) = self.get(layer, finder) {
                let drawn =
                    budget::draw(&open.index, &|| open.index.encode().into(), finder.budget());
                let digest = layer.descriptor.digest;
                drawn.map_err(|e| Error { digest, kind: e.into() })?;
            }
        }
        Ok(())
    }
}
