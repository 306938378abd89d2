//! Which layer brought a path, what it was before, and what became of it.
//!
//! # Design
//!
//! If all layers have an index on this machine, the [`Provenance`](crate::tree::Provenance) of their names tells
//! every version that a path ever had. If one has none, layers are opened from the top down until those that are
//! open decide what the path is, as [`Excerpt`](super::Excerpt) does it, so that a question about a file of
//! the topmost layer streams that one alone; what the layers below had at the path is not known then,
//! and the answer says how many they are. The caller may have all of them opened instead.
//!
//! The directory part of a path is taken as the image has it: a symlink in it is followed, so `/bin/sh` is
//! `/usr/bin/sh` where `/bin` leads there. A directory that the image has no more is taken as it is written.

use std::sync::Arc;

use super::excerpt::{Upper, open_upper};
use super::history::{LayersToOpen, instructions_of_layers};
use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::digest::ContentDigest;
use crate::index::{Entry, EntryKind, LayerIndex, Proof};
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::oci::HistoryEntry;
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::tree::{self, End, FileKind, Merged, Origin, Question, Symlinks, Tree, Version, Want};

/// What is known of some paths of an image.
#[derive(Debug)]
pub struct PathOrigins {
    /// What the name resolved to.
    pub image: ResolvedImage,
    /// The instruction that made each layer, base first, as far as the config tells.
    pub instructions: Vec<Option<HistoryEntry>>,
    /// The paths, in the order in which they were asked for.
    pub paths: Vec<PathOrigin>,
    /// Layers at the base that were not opened: what they had at the paths is not known.
    pub unopened: usize,
    /// What was checked of the layers that were opened.
    pub proofs: Vec<Proof>,
}

/// What is known of a path.
#[derive(Debug)]
pub struct PathOrigin {
    /// The path without a slash before it, symlinks of its directory part followed.
    pub path: Vec<u8>,
    /// What it was, base first; none if no layer ever had it.
    pub versions: Vec<PathVersion>,
}

/// What a path was from one layer on.
#[derive(Clone, Debug)]
pub struct PathVersion {
    /// The layer that made it, or gave the directory other attributes.
    pub layer: usize,
    /// Where its content and attributes are from: for a hard link, the layer of its target.
    pub content_layer: usize,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file.
    pub size: u64,
    /// Permission bits, owner and group.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, in seconds since the epoch.
    pub mtime_seconds: i64,
    /// What a symlink holds.
    pub target: Option<Vec<u8>>,
    /// What a regular file holds, if its layer index says it.
    pub content: Option<ContentDigest>,
    /// What was checked of the layer that the content is from.
    pub proof: Proof,
    /// Whether the layer only gave a directory other attributes.
    pub is_update: bool,
    /// Whether the image has it.
    pub is_present: bool,
    /// Its end, if another layer removed or replaced it.
    pub end: Option<End>,
}

/// Where paths come from.
///
/// # Errors
/// See [`Error`].
pub fn which(
    name: &ImageName,
    paths: &[Vec<u8>],
    cache: &Arc<Cache>,
    options: &ImageOptions,
    layers: LayersToOpen,
    progress: &dyn Progress,
) -> Result<PathOrigins, Error> {
    let opening = Opening::new(name, cache, options)?;
    let all = &opening.resolved.layers;
    let open = match layers {
        LayersToOpen::All => Some(opening.layers(all, &OpenedLayers::default(), progress)?),
        LayersToOpen::Cached => opening.all_cached(),
    };
    if let Some(open) = open {
        return of_all(opening, &open, paths);
    }
    let question =
        |path: &Vec<u8>| Question { path: path.clone(), last: Symlinks::Keep, want: Want::Content };
    let questions: Vec<Question> = paths.iter().map(question).collect();
    let upper = open_upper(&opening, &questions, progress)?;
    match upper.open.len() == opening.resolved.layers.len() {
        true => of_all(opening, &upper.open, paths),
        false => Ok(of_upper(opening.resolved, upper, paths)),
    }
}

/// Everything, from all layers.
fn of_all(
    opening: Opening<'_>,
    open: &[OpenLayer],
    paths: &[Vec<u8>],
) -> Result<PathOrigins, Error> {
    let indexes: Vec<&LayerIndex> = open.iter().map(|open| open.index.as_ref()).collect();
    let merged = tree::merge_with_provenance(&indexes, opening.finder.budget())?;
    let Merged { tree, provenance, .. } = merged;
    let of_path = |path: &Vec<u8>| {
        let path = canonical(&tree, path);
        let versions = provenance.versions(&path);
        let version = |version: &Version| {
            let Origin { layer, entry } = version.origin;
            let entry = entry.map(|entry| indexes[layer].entry_at(entry));
            PathVersion {
                layer: version.layer,
                is_update: version.is_update,
                is_present: version.ino.is_some(),
                end: version.end,
                ..described(indexes[layer], layer, entry.as_ref())
            }
        };
        // An image without layers has a root, which none of them brought.
        let versions = versions.iter().filter(|version| version.layer < indexes.len());
        PathOrigin { path, versions: versions.map(version).collect() }
    };
    let image = opening.resolved;
    Ok(PathOrigins {
        instructions: instructions_of_layers(&image),
        paths: paths.iter().map(of_path).collect(),
        unopened: 0,
        proofs: open.iter().map(|open| open.index.proof()).collect(),
        image,
    })
}

/// What the topmost layers decide alone.
fn of_upper(image: ResolvedImage, upper: Upper, paths: &[Vec<u8>]) -> PathOrigins {
    let Upper { open, tree, origins } = upper;
    let unopened = image.layers.len() - open.len();
    let of_path = |path: &Vec<u8>| {
        let found = tree.resolve(path, Symlinks::Keep).ok().map(|ino| {
            let layer = tree.layer(ino);
            let index = &open[layer].index;
            let entry = origins.entry(ino).map(|entry| index.entry_at(entry));
            let is_present = true;
            PathVersion { is_present, ..described(index, layer + unopened, entry.as_ref()) }
        });
        PathOrigin { path: canonical(&tree, path), versions: found.into_iter().collect() }
    };
    PathOrigins {
        instructions: instructions_of_layers(&image),
        paths: paths.iter().map(of_path).collect(),
        unopened,
        proofs: open.iter().map(|open| open.index.proof()).collect(),
        image,
    }
}

/// What an entry says, or what a directory is that none describes.
fn described(index: &LayerIndex, layer: usize, entry: Option<&Entry<'_>>) -> PathVersion {
    let (kind, size) = match entry.map_or(EntryKind::Directory, |entry| entry.kind) {
        EntryKind::File { size, .. } => (FileKind::Regular, size),
        EntryKind::Directory => (FileKind::Directory, 0),
        EntryKind::Symlink(_) => (FileKind::Symlink, 0),
        EntryKind::CharDevice(..) => (FileKind::CharDevice, 0),
        EntryKind::BlockDevice(..) => (FileKind::BlockDevice, 0),
        EntryKind::Fifo => (FileKind::Fifo, 0),
        EntryKind::HardLink { .. } => unreachable!("a name is made from what its link leads to"),
    };
    let target = entry.and_then(|entry| match entry.kind {
        EntryKind::Symlink(target) => Some(target.to_vec()),
        _ => None,
    });
    let content = entry.filter(|_| kind == FileKind::Regular);
    PathVersion {
        layer,
        content_layer: layer,
        kind,
        size,
        mode: entry.map_or(0o755, |entry| entry.mode),
        uid: entry.map_or(0, |entry| entry.uid),
        gid: entry.map_or(0, |entry| entry.gid),
        mtime_seconds: entry.map_or(0, |entry| entry.mtime_seconds),
        target,
        content: content.and_then(|entry| index.content_digest(entry)),
        proof: index.proof(),
        is_update: false,
        is_present: false,
        end: None,
    }
}

/// A path as the tree has it: without symlinks in its directory part, as far as that exists.
fn canonical(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let names = tree::plain_names(path);
    let Some((last, above)) = names.split_last() else { return Vec::new() };
    let above = above.join(&b'/');
    match tree.resolve(&above, Symlinks::Follow) {
        Ok(dir) if tree.kind(dir) == FileKind::Directory => {
            let mut path = tree.path(dir);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(last);
            path
        }
        _ => names.join(&b'/'),
    }
}
