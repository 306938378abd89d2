//! An image with its layers kept apart: names, where they come from, and what the layers say of contents.
//!
//! A mount drops the layer indexes once they are merged. Looking inside needs them: they have the SHA-256 of each
//! file, so that versions are compared without reading any, and the provenance of a name leads to their entries.
//! Images that are opened together ([`LayeredImage::open_all`]) share the layers that they have in common: an index is read
//! once, and the same entry of it is the same file without a look at its digest.

use std::sync::Arc;

use super::opening::Opening;
use super::together::{self, Failure};
use super::{Error, ImageOptions, exclude};
use crate::blob::Spans;
use crate::cache::Cache;
use crate::content::Contents;
use crate::digest::ContentDigest;
use crate::fs::Filesystem;
use crate::index::{Budget, EntryKind, LayerIndex, Proof};
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::source::registry::Session;
use crate::tree::{self, Ino, Origin, Origins, Provenance};

/// An image, open, with what each of its layers says.
#[derive(Debug)]
pub struct LayeredImage {
    resolved: ResolvedImage,
    filesystem: Filesystem,
    origins: Origins,
    indexes: Vec<Arc<LayerIndex>>,
    budget: Arc<Budget>,
}

impl LayeredImage {
    /// Resolves a name, opens its layers (streaming those that have no index), and merges them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<LayeredImage, Error> {
        let opening = Opening::new(name, cache, options)?;
        let open = opening.layers(&opening.resolved.layers, &OpenedLayers::default(), progress)?;
        LayeredImage::of(opening, open, options, progress)
    }

    /// Opens several at the same time, in the order of their names: what is known of registries and layers is shared.
    ///
    /// # Errors
    /// The first error, with the image that it is about.
    pub fn open_all(
        images: &[(&ImageName, &ImageOptions)],
        cache: &Arc<Cache>,
        progress: &dyn Progress,
    ) -> Result<Vec<LayeredImage>, Failure> {
        let none = OpenedLayers::of_other_images();
        let open = together::open(images, cache, &Session::default(), &none, progress)?;
        let open = open.into_iter().enumerate().map(|(image, (opening, layers))| {
            let opened = LayeredImage::of(opening, layers, images[image].1, progress);
            opened.map_err(|error| Failure { image, error })
        });
        open.collect()
    }

    /// Of layers that are open, all of them.
    fn of(
        opening: Opening<'_>,
        layers: Vec<OpenLayer>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<LayeredImage, Error> {
        let budget = Arc::clone(opening.finder.budget());
        let (tree, origins) = exclude::merge(&opening, &layers, options, progress)?;
        let spans = Arc::new(Spans::new(Arc::clone(opening.cache), options.open_files));
        let contents = Contents::new(opening.readers(&layers, &spans));
        let filesystem = Filesystem::new(tree, contents, options.read_deadline);
        let indexes = layers.into_iter().map(|open| open.index).collect();
        Ok(LayeredImage { resolved: opening.resolved, filesystem, origins, indexes, budget })
    }

    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.resolved
    }

    /// Names, attributes and bytes.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    /// What became of each name that a layer made. The layers are merged once more for that.
    ///
    /// # Errors
    /// The budget of the image has not so much left.
    pub fn provenance(&self) -> Result<Provenance, Error> {
        Ok(tree::merge_with_provenance(&self.indexes(), &self.budget)?.provenance)
    }

    /// The layer indexes, base first.
    pub fn indexes(&self) -> Vec<&LayerIndex> {
        self.indexes.iter().map(Arc::as_ref).collect()
    }

    /// What has been checked of each layer, base first.
    pub fn proofs(&self) -> Vec<Proof> {
        self.indexes.iter().map(|index| index.proof()).collect()
    }

    /// What an inode is made from.
    pub fn origin(&self, ino: Ino) -> Origin {
        Origin { layer: self.filesystem.tree().layer(ino), entry: self.origins.entry(ino) }
    }

    /// The layer index that has the entry of an inode, and the entry's place in it.
    pub(super) fn entry(&self, ino: Ino) -> Option<(&Arc<LayerIndex>, usize)> {
        let Origin { layer, entry } = self.origin(ino);
        Some((&self.indexes[layer], entry?))
    }

    /// What a regular file holds, as its layer index says; `None` for other files, and where it does not say.
    pub fn content_digest(&self, ino: Ino) -> Option<ContentDigest> {
        let (index, entry) = self.entry(ino)?;
        let entry = index.entry_at(entry);
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        is_file.then(|| index.content_digest(&entry))?
    }
}
