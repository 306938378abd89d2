//! One image with all of its layers open and merged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::opening::Opening;
use super::options::Selection;
use super::sharing::Scope;
use super::tag::Tag;
use super::{Error, ImageOptions, exclude, labels};
use crate::blob::{self, Spans};
use crate::cache::Cache;
use crate::content::Contents;
use crate::digest::Digest;
use crate::fs::{Filesystem, Labels, SharedFiles};
use crate::index::{LayerIndex, Proof};
use crate::layer::{OpenedLayers, Progress};
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::source::Source;
use crate::source::registry::{Session, Traffic};

/// What images that are opened one by one have in common.
#[derive(Clone, Debug)]
pub struct Common<'a> {
    /// What is known of registries.
    pub session: &'a Session,
    /// What they are read from.
    pub spans: Arc<Spans>,
    /// Numbers of the layers whose files they share; none, if each has files of its own.
    pub scope: Option<Scope<'a>>,
}

/// An image, open: all layers indexed and merged.
#[derive(Debug)]
pub struct Image {
    pub(super) resolved: ResolvedImage,
    pub(super) source: Arc<dyn Source>,
    pub(super) tag: Option<Arc<Tag>>,
    /// What was checked of each layer.
    pub(super) selection: Selection,
    pub(super) base: Option<Digest>,
    pub(super) proofs: Vec<Proof>,
    pub(super) filesystem: Arc<Filesystem>,
    pub(super) spans: Arc<Spans>,
    pub(super) traffic: Arc<Traffic>,
}

impl Image {
    /// Resolves a name, opens its layers (passing over those that nobody knows), and merges them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
        let common = Common { session: &Session::default(), spans, scope: None };
        Image::open_in(name, cache, options, common, progress)
    }

    /// The same, with what it has in common with other images.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_in(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        Common { session, spans, scope }: Common<'_>,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let opening = Opening::in_session(name, cache, options, session)?;
        Image::of_opening(opening, spans, scope, options, progress)
    }

    /// The same of an image that is resolved.
    pub(super) fn of_opening(
        opening: Opening<'_>,
        spans: Arc<Spans>,
        scope: Option<Scope<'_>>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let layers =
            opening.layers(&opening.resolved.layers, &OpenedLayers::default(), progress)?;
        let indexes: Vec<&LayerIndex> = layers.iter().map(|open| open.index.as_ref()).collect();
        let (mut tree, origins) = exclude::merge(&opening, &layers, options, progress)?;
        tree.number(&origins, &indexes);
        let proofs = layers.iter().map(|open| open.index.proof()).collect();
        let contents = Contents::new(opening.readers(&layers, &spans));
        // Labels need the indexes. Otherwise these go: the tree has taken what it needs, and they are as large as it is.
        let (mut labels, mut shared) = (None, None);
        match (options.provenance, scope) {
            (true, _) => {
                let of_layers = labels::of_layers(&opening.resolved, &layers);
                labels = Some(Labels::new(origins, of_layers));
            }
            (false, Some(scope)) => {
                let numbers = opening.resolved.layers.iter().zip(&layers);
                let numbers = numbers.map(|(layer, open)| scope.number(layer, open)).collect();
                shared = Some(SharedFiles::new(&tree, origins, numbers));
            }
            (false, None) => {}
        }
        drop(layers);
        let filesystem = Filesystem::new(tree, contents, options.read_deadline);
        let filesystem = Arc::new(filesystem.with_labels(labels).with_shared_files(shared));
        let Opening { resolved, source, tag, traffic, .. } = opening;
        let (selection, base) = (options.selection(), options.base());
        Ok(Image { resolved, selection, base, source, tag, proofs, filesystem, spans, traffic })
    }

    /// Brings everything into the cache that is not there yet, layers side by side; how many
    /// uncompressed bytes that are in all.
    ///
    /// # Errors
    /// The first thing that can't be had, or the cache is too small to keep all of it.
    pub fn pull(
        &self,
        read_deadline: Duration,
        parallel: usize,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let layers = self.filesystem.contents().layers();
        let bytes = layers.iter().map(|layer| layer.uncompressed_size()).sum();
        progress.start(layers.len(), layers.len(), bytes);
        let next = AtomicUsize::new(0);
        let results = thread::scope(|scope| {
            let workers = (0..parallel.clamp(1, layers.len().max(1))).map(|_| {
                scope.spawn(|| {
                    while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        layer.fetch_all(read_deadline, &|bytes| progress.advance(bytes))?;
                        progress.layer_done();
                    }
                    Ok(())
                })
            });
            let workers: Vec<_> = workers.collect();
            let died = |_| Err(blob::Error::Died("pulling".to_owned()));
            workers.into_iter().map(|w| w.join().unwrap_or_else(died)).collect::<Vec<_>>()
        });
        results.into_iter().collect::<Result<(), blob::Error>>()?;
        match layers.iter().map(|layer| layer.uncached_bytes()).sum() {
            0 => Ok(bytes),
            missing => Err(Error::NotKept { missing, bytes }),
        }
    }

    /// What has been checked of each layer, base first.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.resolved
    }

    /// Names, attributes and bytes.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}
