//! An image without what another has: its base, of which scanners and reviewers know already.
//!
//! # Design
//!
//! Both images are merged, and the paths that they have in common ([`tree::common`]) become whiteouts of a layer
//! that exists nowhere, on top of the image. So the tree that remains is one of layers as any other.
//!
//! A file is left out if its content has the same digest, and only if both digests were computed here
//! ([`Proof::is_own`](crate::index::Proof::is_own)): one that a table of contents claims could hide a file from who looks for what
//! is new. What can't be compared is shown.
//!
//! # Invariants
//!
//! - Nothing is left out that differs in more than its times.

use std::sync::Arc;

use super::Error;
use super::opening::Opening;
use super::options::{Exclusion, ImageOptions};
use crate::codec::Compression;
use crate::digest::{ContentDigest, DiffId, Digest};
use crate::index::{Builder, Identity, LayerIndex, MAX_NAME_BYTES, Proof};
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::tar;
use crate::tree::{self, Ino, Origins, Tree};

/// What stands before the name that a whiteout hides.
const WHITEOUT: &[u8] = b".wh.";

/// Merges the layers of an image, all of which are open, without what is to be left out.
pub(super) fn merge(
    opening: &Opening<'_>,
    open: &[OpenLayer],
    options: &ImageOptions,
    progress: &dyn Progress,
) -> Result<(Tree, Origins), Error> {
    let budget = opening.finder.budget();
    let mut indexes: Vec<&LayerIndex> = open.iter().map(|open| open.index.as_ref()).collect();
    let merged = tree::merge_with_origins(&indexes, budget)?;
    let Some(exclusion) = &options.exclude else { return Ok(merged) };
    let image = Merged { open, tree: &merged.0, origins: &merged.1 };
    let whiteouts = whiteouts(opening, exclusion, &image, progress)?;
    drop(merged);
    indexes.push(&whiteouts);
    Ok(tree::merge_with_origins(&indexes, budget)?)
}

/// An image that is merged.
struct Merged<'a> {
    open: &'a [OpenLayer],
    tree: &'a Tree,
    origins: &'a Origins,
}

impl Merged<'_> {
    /// What a regular file holds, if that was found out here.
    fn content(&self, ino: Ino) -> Option<ContentDigest> {
        let index = &self.open[self.tree.layer(ino)].index;
        let entry = index.entry_at(self.origins.entry(ino)?);
        index.content_digest(&entry).filter(|_| index.proof().is_own())
    }
}

/// A layer that hides what an image has in common with another.
fn whiteouts(
    opening: &Opening<'_>,
    exclusion: &Exclusion,
    image: &Merged<'_>,
    progress: &dyn Progress,
) -> Result<LayerIndex, Error> {
    let of_base = |cause: Error| {
        let name = exclusion.name.to_string();
        Error::Base { name, cause: Box::new(cause) }
    };
    let base = Opening::new(&exclusion.name, opening.cache, &exclusion.options).map_err(of_base)?;
    // Of several images the first to be opened says what it means.
    let _ = exclusion.root.set(base.resolved.root);
    let open = base.layers(&base.resolved.layers, &OpenedLayers::default(), progress);
    let open = open.map_err(|e| of_base(e.into()))?;
    let indexes: Vec<&LayerIndex> = open.iter().map(|open| open.index.as_ref()).collect();
    let merged = tree::merge_with_origins(&indexes, base.finder.budget());
    let (tree, origins) = merged.map_err(|e| of_base(e.into()))?;
    let base = Merged { open: &open, tree: &tree, origins: &origins };
    let mut is_same = |was: Ino, is: Ino| {
        let contents = base.content(was).zip(image.content(is));
        Ok::<_, Error>(contents.is_some_and(|(was, is)| was == is))
    };
    let paths = tree::common(base.tree, image.tree, &mut is_same)?;
    hiding(&paths, opening)
}

/// A layer that hides these paths.
fn hiding(paths: &[Vec<u8>], opening: &Opening<'_>) -> Result<LayerIndex, Error> {
    let mut builder = Builder::within(Arc::clone(opening.finder.budget()));
    for path in paths {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        // The name of a whiteout is longer than what it hides: what has no room for that is shown.
        if path.len() - start + WHITEOUT.len() > MAX_NAME_BYTES {
            continue;
        }
        let path = [&path[..start], WHITEOUT, &path[start..]].concat();
        tar::Sink::entry(&mut builder, tar::Entry::of_file(path, 0, 0, Vec::new()))
            .map_err(tree::Error::from)?;
    }
    let none = Digest::sha256(b"");
    let identity = Identity {
        blob: none,
        blob_size: 0,
        diff_id: DiffId(none),
        uncompressed_size: 0,
        compression: Compression::None,
        proof: Proof::Full,
    };
    builder.finish(identity).map_err(Error::Exclude)
}
