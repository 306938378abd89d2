//! An image as of each of its layers, for looking at what each of them did.
//!
//! # Problem
//!
//! A mount shows what the layers make together, and forgets how. A user who explores an image goes from layer to layer,
//! opens a few directories of the tree as it was then, and looks into files, among them those that the image
//! has no more.
//!
//! # Design
//!
//! One merge keeps what became of every name ([`Provenance`]), and no tree: [`AsOf`] finds a directory as of a layer in
//! that table when it is asked for. A file is read by the entry that it was made from, so one that a later layer
//! hides is read as any other. What an image wastes are the entries of which it shows nothing.
//!
//! Until all of that is known there are stacks of what is (`glimpses`): with fewer directories, perhaps fewer layers, and
//! without contents.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::glimpses::{Seen, Wishes, while_opening};
use super::history::instructions_of_layers;
use super::layer_usage::stored;
use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::blob::{ReadAhead, Spans};
use crate::cache::Cache;
use crate::content::Contents;
use crate::digest::ContentDigest;
use crate::extent::{Pieces, Run};
use crate::fs;
use crate::index::{Entry, EntryKind, LayerIndex, Proof, Runs};
use crate::layer::{OpenedLayers, PassOrder, Progress};
use crate::oci::HistoryEntry;
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::tree::{self, AsOf, Changes, Glimpse, Origin, Place, Provenance};

/// An image, open, as of each of its layers.
#[derive(Debug)]
pub struct LayerStack {
    resolved: ResolvedImage,
    indexes: Vec<Arc<LayerIndex>>,
    provenance: Provenance,
    extent: Extent,
    read_timeout: Duration,
}

/// How much of an image there is.
#[derive(Debug)]
enum Extent {
    Whole(Contents),
    Glimpse {
        /// By layer.
        known: Vec<bool>,
        /// Paths of the directories besides the root whose names are here.
        listed: HashSet<Vec<u8>>,
    },
}

/// Who looks at an image while it is being opened.
pub trait Onlooker: Send + Sync {
    /// The name is resolved.
    fn resolved(&self, image: &ResolvedImage);

    /// The image as far as it is known.
    fn sees(&self, stack: LayerStack);
}

/// A file of which an image has the bytes and shows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WastedFile {
    /// The last path that it had, without a slash before it.
    pub path: Vec<u8>,
    /// Bytes of content in the layer.
    pub bytes: u64,
    /// The layer that has them.
    pub layer: usize,
    /// The layer that hides them.
    pub hidden_by: usize,
}

/// What an image has for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wasted {
    /// Bytes of content of all these files.
    pub bytes: u64,
    /// How many there are.
    pub files: u64,
    /// Bytes of content of all files of all layers.
    pub of_bytes: u64,
    /// The largest of them, the largest first.
    pub largest: Vec<WastedFile>,
}

impl LayerStack {
    /// Resolves a name, opens its layers (streaming those that have no index), and merges them. The onlooker hears of
    /// the image before any layer is opened, and sees what is known of it meanwhile, with the directories that are wished
    /// for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
        onlooker: &dyn Onlooker,
        wishes: &Wishes,
    ) -> Result<LayerStack, Error> {
        let mut opening = Opening::new(name, cache, options)?;
        opening.options.order = PassOrder::TopmostFirst;
        onlooker.resolved(&opening.resolved);
        let read_timeout = options.read_deadline;
        let see = |seen: Seen| {
            let (resolved, Glimpse { indexes, provenance }) =
                (opening.resolved.clone(), seen.glimpse);
            let listed = seen.listed.into_iter().collect();
            let extent = Extent::Glimpse { known: seen.known, listed };
            onlooker.sees(LayerStack { resolved, indexes, provenance, extent, read_timeout });
        };
        let opened = while_opening(&opening, progress, &see, wishes, |progress| {
            let layers = &opening.resolved.layers;
            let open = opening.layers(layers, &OpenedLayers::default(), progress)?;
            let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
            let contents = Contents::new(opening.readers(&open, &spans));
            let indexes: Vec<Arc<LayerIndex>> = open.into_iter().map(|open| open.index).collect();
            let plain: Vec<&LayerIndex> = indexes.iter().map(Arc::as_ref).collect();
            let provenance = tree::provenance(&plain, opening.finder.budget())?;
            Ok::<_, Error>((indexes, provenance, Extent::Whole(contents)))
        });
        let (indexes, provenance, extent) = opened?;
        Ok(LayerStack { resolved: opening.resolved, indexes, provenance, extent, read_timeout })
    }

    /// Whether all of it is here. Otherwise no file can be read, and there are only the names of some directories.
    pub fn is_whole(&self) -> bool {
        matches!(self.extent, Extent::Whole(_))
    }

    /// Whether the names of the directory at this path are all here, as far as layers are known.
    pub fn lists(&self, path: &[u8]) -> bool {
        match &self.extent {
            Extent::Whole(_) => true,
            Extent::Glimpse { listed, .. } => path.is_empty() || listed.contains(path),
        }
    }

    /// How many layers are not known yet, of the lowest so many.
    pub fn unknown_layers(&self, lowest: usize) -> usize {
        match &self.extent {
            Extent::Whole(_) => 0,
            Extent::Glimpse { known, .. } => {
                known.iter().take(lowest).filter(|is_known| !**is_known).count()
            }
        }
    }

    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.resolved
    }

    /// What became of each name.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The layer indexes, base first.
    pub fn indexes(&self) -> &[Arc<LayerIndex>] {
        &self.indexes
    }

    /// The tree as of a layer.
    pub fn as_of(&self, layer: usize) -> AsOf<'_> {
        AsOf::new(&self.provenance, &self.indexes, layer)
    }

    /// How many names each layer changed, base first.
    pub fn changes(&self) -> Vec<Changes> {
        let indexes: Vec<&LayerIndex> = self.indexes.iter().map(Arc::as_ref).collect();
        self.provenance.changes(&indexes)
    }

    /// What has been checked of each layer that is known, base first.
    pub fn proofs(&self) -> Vec<Proof> {
        let is_known = |at: usize| match &self.extent {
            Extent::Whole(_) => true,
            Extent::Glimpse { known, .. } => known[at],
        };
        let known = self.indexes.iter().enumerate().filter(|(at, _)| is_known(*at));
        known.map(|(_, index)| index.proof()).collect()
    }

    /// What a layer has at an entry.
    pub fn entry(&self, origin: Origin) -> Option<Entry<'_>> {
        Some(self.indexes[origin.layer].entry_at(origin.entry?))
    }

    /// Extended attributes of an entry.
    pub fn xattrs(&self, origin: Origin) -> Vec<(&[u8], &[u8])> {
        let index = &self.indexes[origin.layer];
        self.entry(origin).map_or_else(Vec::new, |entry| index.xattrs(&entry).collect())
    }

    /// What a regular file holds, if its layer index says it.
    pub fn content_digest(&self, origin: Origin) -> Option<ContentDigest> {
        let entry = self.entry(origin).filter(|e| matches!(e.kind, EntryKind::File { .. }))?;
        self.indexes[origin.layer].content_digest(&entry)
    }

    /// The regular file at a place as of a layer; `None` if there is none, or if not all of the image is here.
    pub fn file(&self, layer: usize, place: Place) -> Option<LayerFile<'_>> {
        let Extent::Whole(contents) = &self.extent else { return None };
        let as_of = self.as_of(layer);
        let origin = as_of.origin(place);
        let EntryKind::File { size, runs } = self.entry(origin)?.kind else { return None };
        let sparse = match runs {
            Runs::Whole(_) => Vec::new(),
            Runs::Sparse { first, count } => {
                self.indexes[origin.layer].sparse_runs(first, count).collect()
            }
        };
        Some(LayerFile {
            stack: self,
            contents,
            origin,
            size,
            runs,
            sparse,
            path: as_of.path(place),
        })
    }

    /// What of the image is for nothing, with as many of the largest files.
    pub fn wasted(&self, largest: usize) -> Wasted {
        let content = |index: &Arc<LayerIndex>| -> u64 {
            index.entries().map(|entry| stored(index, entry.kind)).sum()
        };
        let of_bytes = self.indexes.iter().map(content).sum();
        let mut files: Vec<(u64, Origin, usize)> = Vec::new();
        for (origin, hidden_by) in self.provenance.hidden() {
            let kind = self.entry(origin).map(|entry| entry.kind);
            if let Some(kind @ EntryKind::File { .. }) = kind {
                files.push((stored(&self.indexes[origin.layer], kind), origin, hidden_by));
            }
        }
        let (bytes, count) = (files.iter().map(|(bytes, ..)| bytes).sum(), files.len() as u64);
        files.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
        files.truncate(largest);
        let origins: Vec<Origin> = files.iter().map(|(_, origin, _)| *origin).collect();
        let paths = self.provenance.paths_of_hidden(&origins);
        let file = |((bytes, origin, hidden_by), path): ((u64, Origin, usize), Vec<u8>)| {
            WastedFile { path, bytes, layer: origin.layer, hidden_by }
        };
        let largest = files.into_iter().zip(paths).map(file).collect();
        Wasted { bytes, files: count, of_bytes, largest }
    }
}

/// A regular file of a layer.
pub struct LayerFile<'a> {
    stack: &'a LayerStack,
    contents: &'a Contents,
    origin: Origin,
    size: u64,
    runs: Runs,
    sparse: Vec<Run>,
    path: Vec<u8>,
}

impl fmt::Debug for LayerFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerFile").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl LayerFile<'_> {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Up to `length` bytes from `offset`, fewer at the end of the file. What is missing is fetched.
    ///
    /// # Errors
    /// [`fs::Error::Content`].
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, fs::Error> {
        let left = self.size.saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let pieces = match self.runs {
            Runs::Whole(start) => Pieces::Whole(start),
            Runs::Sparse { .. } => Pieces::Sparse(&self.sparse),
        };
        let (layer, give_up) = (self.origin.layer, Instant::now() + self.stack.read_timeout);
        let ahead = |_| ReadAhead::File(0..0);
        let read = self.contents.read(layer, pieces, offset, &mut bytes, give_up, &ahead);
        let path = || String::from_utf8_lossy(&self.path).into_owned();
        read.map_err(|cause| fs::Error::Content { path: path(), cause })?;
        Ok(bytes)
    }
}

/// The instruction that made each layer, base first, as far as the config tells.
pub fn instructions(image: &ResolvedImage) -> Vec<Option<HistoryEntry>> {
    instructions_of_layers(image)
}
