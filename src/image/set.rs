//! Several images in one mount.
//!
//! They are opened together (`image::together`), and what they have in common is had once: a layer is opened for the first
//! image that has it, and there is one reader for all that read it by way of the same index. What is known of
//! registries is shared, network traffic and open span files are counted together. Of each image the tree is kept, and
//! the layer indexes of all, until the last one is there: only then is it known which files are equal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::opening::Opening;
use super::options::Selection;
use super::together::{self, Failure};
use super::{Error, ImageOptions, Shown, View, exclude, labels};
use crate::blob::{BlobReader, Spans};
use crate::cache::{Cache, LayerName};
use crate::content::Contents;
use crate::digest::{DiffId, Digest};
use crate::fs::{Filesystem, Labels, LayerLabel};
use crate::index::LayerIndex;
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::reference::{DirectoryName, ImageName};
use crate::source::registry::Session;
use crate::tree::{self, Origins, Part, Sharing, Tree};

/// What a reader reads, and by way of which index.
type ReaderKey = (Digest, Option<DiffId>, LayerName);

/// Images that are opened, to be shown in a directory each.
#[derive(Debug)]
pub struct ImageSet {
    cache: Arc<Cache>,
    spans: Arc<Spans>,
    session: Session,
    read_deadline: Duration,
    selection: Selection,
    known: OpenedLayers,
    readers: Vec<Arc<BlobReader>>,
    numbers: HashMap<ReaderKey, u32>,
    members: Vec<Member>,
    /// By reader, if files are to say where they are from.
    labels: Vec<LayerLabel>,
}

/// One of them.
#[derive(Debug)]
struct Member {
    name: DirectoryName,
    shown: Shown,
    tree: Tree,
    origins: Origins,
    indexes: Vec<Arc<LayerIndex>>,
    /// The places of its layers' readers.
    layers: Vec<u32>,
}

impl ImageSet {
    /// None yet. Of the options those count that are about reads, not about one image.
    pub fn new(cache: &Arc<Cache>, options: &ImageOptions) -> ImageSet {
        ImageSet {
            cache: Arc::clone(cache),
            spans: Arc::new(Spans::new(Arc::clone(cache), options.open_files)),
            session: Session::default(),
            read_deadline: options.read_deadline,
            selection: options.selection(),
            known: OpenedLayers::of_other_images(),
            readers: Vec::new(),
            numbers: HashMap::new(),
            members: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Opens one more image, as [`super::Image::open`] does.
    ///
    /// # Errors
    /// See [`Error`]; the others stay as they are.
    pub fn add(
        &mut self,
        directory: DirectoryName,
        name: &ImageName,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let added = self.add_all(&[(directory, name, options)], progress);
        added.map_err(|failure| failure.error)
    }

    /// Opens more of them, all at the same time.
    ///
    /// # Errors
    /// The first error, with the image that it is about; those that were there stay as they are.
    pub fn add_all(
        &mut self,
        images: &[(DirectoryName, &ImageName, &ImageOptions)],
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let cache = Arc::clone(&self.cache);
        let mut names: HashSet<_> = self.members.iter().map(|member| &member.name).collect();
        for (image, (name, ..)) in images.iter().enumerate() {
            if !names.insert(name) {
                return Err(Failure { image, error: Error::DirectoryTaken(name.clone()) });
            }
        }
        drop(names);
        let named: Vec<_> = images.iter().map(|(_, name, options)| (*name, *options)).collect();
        let open = together::open(&named, &cache, &self.session, &self.known, progress)?;
        let mut members = Vec::with_capacity(images.len());
        for (image, (opening, open)) in open.into_iter().enumerate() {
            let (directory, _, options) = &images[image];
            let merged = exclude::merge(&opening, &open, options, progress);
            let merged = merged.map_err(|error| Failure { image, error })?;
            members.push(self.member(directory.clone(), opening, open, merged, options));
        }
        self.members.extend(members);
        Ok(())
    }

    fn member(
        &mut self,
        name: DirectoryName,
        opening: Opening<'_>,
        open: Vec<OpenLayer>,
        (tree, origins): (Tree, Origins),
        options: &ImageOptions,
    ) -> Member {
        self.known.add(opening.resolved.layers.iter().zip(&open));
        let labels = match options.provenance {
            true => labels::of_layers(&opening.resolved, &open),
            false => Vec::new(),
        };
        let mut layers = Vec::with_capacity(open.len());
        for (layer, OpenLayer { index, name }) in opening.resolved.layers.iter().zip(&open) {
            let key = (layer.descriptor.digest, layer.diff_id, *name);
            let next = self.readers.len() as u32;
            let number = *self.numbers.entry(key).or_insert(next);
            if number == next {
                self.labels.extend(labels.get(layers.len()).cloned());
                self.readers.push(opening.reader(layer, index, *name, &self.spans));
            }
            layers.push(number);
        }
        let proofs = open.iter().map(|open| open.index.proof()).collect();
        let Opening { resolved, source, tag, .. } = opening;
        let readers = layers.iter().map(|number| Arc::clone(&self.readers[*number as usize]));
        let shown = Shown {
            directory: Some(name.clone()),
            image: resolved,
            base: options.base(),
            proofs,
            readers: readers.collect(),
            source,
            tag,
        };
        let indexes = open.into_iter().map(|open| open.index).collect();
        Member { name, shown, tree, origins, indexes, layers }
    }

    /// Puts them together.
    ///
    /// # Errors
    /// They are too many or too large.
    pub fn finish(self, sharing: Sharing) -> Result<View, Error> {
        let mut images = Vec::with_capacity(self.members.len());
        let mut kept = Vec::with_capacity(self.members.len());
        let mut trees = Vec::with_capacity(self.members.len());
        for Member { name, shown, tree, origins, indexes, layers } in self.members {
            images.push(shown);
            kept.push((name, indexes));
            trees.push((tree, origins, layers));
        }
        let parts = trees.into_iter().zip(&kept).map(|((tree, origins, layers), kept)| {
            let (name, indexes) = kept;
            let indexes = indexes.iter().map(Arc::as_ref).collect();
            Part { name: name.as_str().as_bytes(), tree, origins, indexes, layers }
        });
        let (tree, origins) = tree::join(parts.collect(), sharing)?;
        let labels = (!self.labels.is_empty()).then(|| Labels::new(origins, self.labels));
        let contents = Contents::new(self.readers);
        let filesystem = Filesystem::new(tree, contents, self.read_deadline);
        let filesystem = Arc::new(filesystem.with_labels(labels));
        let traffic = Arc::clone(self.session.traffic());
        let (spans, selection) = (self.spans, self.selection);
        Ok(View { images, filesystem, spans, traffic, sharing, selection })
    }
}
