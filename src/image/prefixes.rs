//! Images as engines stack them: for each layer the tree of all layers up to it.
//!
//! # Problem
//!
//! An engine knows a layer by the chain of layers that it ends, and wants to see what unpacking this chain gives: a *prefix
//! tree*, of layers 1..k. An image of twenty layers has twenty, and images on a common base have some in common.
//!
//! # Design
//!
//! Adding an image opens its layers, streaming those that nobody knows, and keeps of them what lists of layers say:
//! sizes and names. A prefix tree is merged when it is asked for, from indexes that come from the cache then, and is
//! the caller's: who drops it can have it again. The trees of all images that were added share readers, spans and
//! connections, and their regular files are known by what they are made from ([`SharedFiles`]).
//!
//! **Cost.** What stays of an image is its documents, and of each layer of it the table of its spans. A tree
//! that is open costs about 130 bytes an inode; merging it takes some tens of milliseconds for 100,000 entries, as
//! opening the image does. To run containers of an image one tree is needed, the one of all layers. All are
//! needed where the engine writes the image as an archive, one after the other.
//!
//! (Rejected: one table with what became of each name, layer by layer, out of which every prefix could be told
//! ([`Provenance`](crate::tree::Provenance)). It is one and a half times as large as a tree, all the time, for the
//! sake of prefixes that are hardly ever looked into; and each answer would have to search it.)
//!
//! # Invariants
//!
//! - A prefix opened again is the same, with the same inode numbers: it is opened by digests, and by way of
//!   indexes with the same proof.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::opening::Opening;
use super::options::Opened;
use super::{Error, ImageOptions, Shown};
use crate::blob::{BlobReader, Spans};
use crate::cache::{Cache, LayerName};
use crate::codec::Compression;
use crate::content::Contents;
use crate::digest::{DiffId, Digest};
use crate::fs::{Filesystem, SharedFiles};
use crate::index::{LayerIndex, Proof};
use crate::layer::{OpenLayer, OpenedLayers, Progress, Quiet};
use crate::reference::ImageName;
use crate::resolve::{ResolvedImage, ResolvedLayer};
use crate::source::Source;
use crate::source::registry::{Session, Traffic};
use crate::tree;

/// What a reader reads, and by way of which index.
type ReaderKey = (Digest, Option<DiffId>, LayerName);

/// Images whose prefix trees share what they have in common.
#[derive(Debug)]
pub struct Prefixes {
    cache: Arc<Cache>,
    session: Session,
    spans: Arc<Spans>,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    all: Vec<Arc<BlobReader>>,
    numbers: HashMap<ReaderKey, u32>,
}

/// An image with its layers open.
#[derive(Debug)]
pub struct PrefixedImage {
    name: ImageName,
    options: ImageOptions,
    source: Arc<dyn Source>,
    shown: Shown,
    layers: Vec<PrefixLayer>,
}

/// What is known of a layer.
#[derive(Clone, Debug)]
pub struct PrefixLayer {
    /// The number that all trees of these [`Prefixes`] know it by.
    pub number: u32,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// What was checked of it.
    pub proof: Proof,
    /// Size of the tar in bytes, if it is known: a table of contents does not say it.
    pub tar_bytes: Option<u64>,
    /// Digest of its blob.
    pub blob: Digest,
    /// Size of the blob in bytes.
    pub blob_bytes: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

impl Prefixes {
    /// Of no images yet. Of the options those count that are about reads, not about one image.
    pub fn new(cache: &Arc<Cache>, options: &ImageOptions) -> Prefixes {
        Prefixes {
            cache: Arc::clone(cache),
            session: Session::default(),
            spans: Arc::new(Spans::new(Arc::clone(cache), options.open_files)),
            readers: Mutex::default(),
        }
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        self.session.traffic()
    }

    /// The spans that all trees read from.
    pub fn spans(&self) -> &Arc<Spans> {
        &self.spans
    }

    /// Resolves a name and opens the layers of the image, as [`super::Image::open`] does.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::NoContainerImage`] for an artifact.
    pub fn add(
        &self,
        name: &ImageName,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<PrefixedImage, Error> {
        let opening = Opening::in_session(name, &self.cache, options, &self.session)?;
        if let Some(kind) = &opening.resolved.artifact {
            return Err(Error::NoContainerImage { kind: kind.name() });
        }
        let open = opening.layers(&opening.resolved.layers, &OpenedLayers::default(), progress)?;
        let (numbers, readers) = self.readers(&opening, &open).into_iter().unzip();
        let numbers: Vec<u32> = numbers;
        let proofs = open.iter().map(|open| open.index.proof()).collect();
        let layers = opening.resolved.layers.iter().zip(&open).zip(numbers);
        let layers = layers.map(|((layer, OpenLayer { index, .. }), number)| PrefixLayer {
            number,
            diff_id: layer.content_id(),
            proof: index.proof(),
            tar_bytes: tar_bytes(index),
            blob: layer.descriptor.digest,
            blob_bytes: layer.descriptor.size,
            compression: index.compression(),
        });
        let layers = layers.collect();
        let Opening { resolved, source, tag, .. } = opening;
        let shown = Shown {
            directory: None,
            image: resolved,
            base: None,
            proofs,
            readers,
            source: Arc::clone(&source),
            tag,
        };
        // What was asked of the registry was answered, and what it had to send is proven.
        let options = ImageOptions {
            before: Some(Opened { base: None, ..shown.opened() }),
            prove: options.prove || options.check_access,
            check_access: false,
            again: false,
            ..options.clone()
        };
        Ok(PrefixedImage { name: name.clone(), options, source, shown, layers })
    }

    /// The tree of the lowest `count` layers.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(&self, image: &PrefixedImage, count: usize) -> Result<Filesystem, Error> {
        let lowest = image.resolved().layers[..count].to_vec();
        let (opening, open) = self.opened(image, lowest, &image.options)?;
        let indexes: Vec<&LayerIndex> = open.iter().map(|open| open.index.as_ref()).collect();
        let (mut tree, origins) = tree::merge_with_origins(&indexes, opening.finder.budget())?;
        tree.number(&origins, &indexes);
        let with_numbers = self.readers(&opening, &open).into_iter();
        let (numbers, readers) =
            with_numbers.map(|(number, reader)| (Some(number), reader)).unzip();
        let files = SharedFiles::new(&tree, origins, numbers);
        let filesystem = Filesystem::new(tree, Contents::new(readers), image.read_deadline());
        Ok(filesystem.with_shared_files(Some(files)))
    }

    /// Some layers of an image, open.
    fn opened<'a>(
        &'a self,
        image: &PrefixedImage,
        layers: Vec<ResolvedLayer>,
        options: &ImageOptions,
    ) -> Result<(Opening<'a>, Vec<OpenLayer>), Error> {
        let resolved = image.resolved().with_layers(layers);
        let source = Arc::clone(&image.source);
        let (name, session) = (&image.name, &self.session);
        let opening = Opening::of_resolved(name, resolved, source, &self.cache, options, session)?;
        let known = OpenedLayers::default();
        let open = opening.layers(&opening.resolved.layers, &known, &Quiet)?;
        Ok((opening, open))
    }

    /// The bytes of a layer's tar. If the layer is known by a table of contents, which does not know them, it is streamed.
    pub(super) fn tar(&self, image: &PrefixedImage, at: usize) -> Result<Tar, Error> {
        let layer = || vec![image.resolved().layers[at].clone()];
        let (opening, open) = self.opened(image, layer(), &image.options)?;
        if let ([(_, reader)], [open]) = (&self.readers(&opening, &open)[..], &open[..])
            && open.index.has_tar_offsets()
        {
            let (index, reader) = (Arc::clone(&open.index), Arc::clone(reader));
            return Ok(Tar { index, reader, is_of_tree: true });
        }
        let options = ImageOptions { prove: true, before: None, ..image.options.clone() };
        let (opening, mut open) = self.opened(image, layer(), &options)?;
        let reader = opening.readers(&open, &self.spans).pop();
        let (open, reader) = open.pop().zip(reader).expect("a layer that is open has a reader");
        Ok(Tar { index: open.index, reader, is_of_tree: false })
    }

    /// The readers of the lowest layers of an image, which are open, and their numbers.
    fn readers(&self, opening: &Opening<'_>, open: &[OpenLayer]) -> Vec<(u32, Arc<BlobReader>)> {
        // A thread that panicked left nothing half done in there.
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = opening.resolved.layers.iter().zip(open);
        let readers = layers.map(|(layer, OpenLayer { index, name })| {
            let key = (layer.descriptor.digest, layer.diff_id, *name);
            let next = readers.all.len() as u32;
            let number = *readers.numbers.entry(key).or_insert(next);
            if number == next {
                readers.all.push(opening.reader(layer, index, *name, &self.spans));
            }
            (number, Arc::clone(&readers.all[number as usize]))
        });
        readers.collect()
    }
}

/// A layer as the archive that it is.
#[derive(Debug)]
pub(super) struct Tar {
    pub(super) index: Arc<LayerIndex>,
    pub(super) reader: Arc<BlobReader>,
    /// Whether prefix trees are made of the same index.
    pub(super) is_of_tree: bool,
}

impl PrefixedImage {
    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.shown.image
    }

    /// Its layers, base first.
    pub fn layers(&self) -> &[PrefixLayer] {
        &self.layers
    }

    /// Longest time for a read of it.
    pub(super) fn read_deadline(&self) -> Duration {
        self.options.read_deadline
    }

    /// The image in the form in which mounts tell of theirs.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }
}

/// The size of a layer's tar, with what its writer has left out.
fn tar_bytes(index: &LayerIndex) -> Option<u64> {
    let size = index.uncompressed_size().checked_add(index.missing_padding().into());
    size.filter(|_| index.has_tar_offsets())
}
