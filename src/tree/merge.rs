//! Merging layers, base to top, into a [`Tree`].
//!
//! # Semantics
//!
//! OCI image spec, layer.md, "Applying changesets"; where it is silent, what containerd's and
//! umoci's extraction agree on. Each layer is applied in two passes:
//!
//! 1. All its whiteouts, against the lower layers only: `.wh.NAME` hides a lower name with all
//!    below it, an opaque mark all lower names of its directory. (Applying them where they stand in
//!    the tar would make a file of the same layer vanish if it came first.)
//! 2. All its entries in the order of the tar. A directory over a directory merges and takes the
//!    upper's attributes; anything else replaces what was there with all below it.
//!
//! The directory part of a path follows symlinks, inside the image, as unpacking would: an entry
//! `lib/x` over a lower `lib -> usr/lib` lands in `usr/lib`. Directories that no entry describes
//! are made (0755, owner 0:0, time 0), also where a dangling symlink points. A lower *file* in
//! the way of such a directory gives way; one of the same layer is an error. A hard link is
//! resolved where it stands, shares the inode from then on, and takes no attributes from its
//! own header. Where a layer hides the target of its own hard link by a whiteout, the lower file
//! is still found.
//!
//! A whiteout is not followed through a symlink of the lower layers that this very layer
//! replaces: below the new directory there is nothing of the lower layers to hide.
//!
//! # Cost
//!
//! One hash lookup and one insertion an entry; directories are resolved once a layer, however many
//! entries, hard links and whiteouts name them. Paths that lead through symlinks, or to nothing, are
//! walked again when a directory or a symlink came or went. Symlinks followed are bounded per path, and
//! so are in total the steps that are more than one a directory.
//!
//! Memory is bounded by the budget of the image ([`Budget`]): a layer that is applied once more, and
//! directories that are made where symlinks lead, draw on it before they are made.

mod alone;
mod names;
mod nodes;
mod paths;
mod rules;

use std::sync::Arc;

use nodes::{Merge, Node};

pub use alone::layer_alone;

use super::error::Error;
use super::flat::Flat;
use super::inode::NONE;
use super::origins::{MARK, Origins};
use super::provenance::{self, Placed, Provenance};
use super::table::Tree;
use super::witness::Witness;
use crate::index::{Budget, EntryKind, LayerIndex};

/// Merges the layers, base first. Each has drawn on the budget when it was opened; what the merge makes
/// beyond that is drawn here.
///
/// # Errors
/// What unpacking the layers would fail with, or there is not so much left of the budget.
pub fn merge(layers: &[&LayerIndex], budget: &Arc<Budget>) -> Result<Tree, Error> {
    Ok(Merge::of(layers, budget, None)?.flatten(None)?.0)
}

/// Merges the layers, base first, and says where each inode comes from.
///
/// # Errors
/// As [`merge()`].
pub fn merge_with_origins(
    layers: &[&LayerIndex],
    budget: &Arc<Budget>,
) -> Result<(Tree, Origins), Error> {
    let mut origins = Vec::new();
    let (tree, _) = Merge::of(layers, budget, None)?.flatten(Some(&mut origins))?;
    Ok((tree, Origins(origins)))
}

/// A tree, and all that the layers say of how it came to be.
#[derive(Debug)]
pub struct Merged {
    /// The merged view.
    pub tree: Tree,
    /// What each inode is made from.
    pub origins: Origins,
    /// What became of each name.
    pub provenance: Provenance,
}

/// Merges the layers, base first, and keeps what became of every name that one of them made. What that takes
/// draws on the budget as well.
///
/// # Errors
/// As [`merge()`].
pub fn merge_with_provenance(
    layers: &[&LayerIndex],
    budget: &Arc<Budget>,
) -> Result<Merged, Error> {
    let mut origins = Vec::new();
    let merge = Merge::of(layers, budget, Some(Witness::new()))?;
    let (tree, provenance) = merge.flatten(Some(&mut origins))?;
    match provenance {
        Some(provenance) => Ok(Merged { tree, origins: Origins(origins), provenance }),
        None => unreachable!("a merge with a witness has a provenance"),
    }
}

/// Merges the layers, base first, and keeps what became of every name alone: for callers that do without the tree,
/// which is larger.
///
/// # Errors
/// As [`merge()`].
pub fn provenance(layers: &[&LayerIndex], budget: &Arc<Budget>) -> Result<Provenance, Error> {
    rows_alone(Merge::of(layers, budget, Some(Witness::new()))?)
}

/// The same of layers that may not be all of an image: a hard link whose target is in none of them is a name without
/// content.
///
/// # Errors
/// As [`merge()`].
pub(super) fn provenance_of_known(
    layers: &[&LayerIndex],
    budget: &Arc<Budget>,
) -> Result<Provenance, Error> {
    let mut merge = Merge::begin(layers, budget)?;
    merge.witness = Some(Witness::new());
    merge.is_partial = true;
    merge.apply_all()?;
    rows_alone(merge)
}

fn rows_alone(mut merge: Merge<'_>) -> Result<Provenance, Error> {
    // Nothing is looked up any more.
    (merge.names, merge.ghosts) = Default::default();
    let mut last = 0;
    let numbers = merge.names_of_inodes().into_iter().map(|names| match names {
        0 => 0,
        _ => {
            last += 1;
            last
        }
    });
    let numbers: Vec<u32> = numbers.collect();
    let Some(witness) = merge.witness.take() else {
        unreachable!("the merge was begun with a witness")
    };
    merge.drawn.more(merge.nodes.len() as u64 * provenance::ROW_BYTES)?;
    let provenance = merge.provenance(&numbers, witness);
    merge.drawn.keep();
    Ok(provenance)
}

impl Merge<'_> {
    /// How many names each inode has that are still there.
    fn names_of_inodes(&self) -> Vec<u32> {
        let mut names_of = vec![0u32; self.inodes.len()];
        names_of[0] = 1;
        for node in self.nodes.iter().skip(1).filter(|node| node.alive) {
            names_of[node.inode as usize] += 1;
        }
        names_of
    }

    /// Turns the linked structure into the arrays of a [`Tree`]; with the entry of each inode, if
    /// the caller wants them, and what its witness saw, if it has one.
    fn flatten(
        mut self,
        mut origins: Option<&mut Vec<u32>>,
    ) -> Result<(Tree, Option<Provenance>), Error> {
        let names_of = self.names_of_inodes();
        let mut numbers = vec![0u32; self.inodes.len()];
        let mut flat = Flat::new(self.layers);
        for (at, source) in self.inodes.iter().enumerate() {
            if names_of[at] > 0 {
                numbers[at] = match source.entry {
                    MARK => flat.mark(source.layer)?,
                    _ => flat.inode(source.layer, self.origin(at as u32), names_of[at])?,
                };
                if let Some(origins) = origins.as_deref_mut() {
                    origins.push(source.entry);
                }
            }
        }
        let mut children = Vec::new();
        for node in self.nodes.iter().filter(|node| node.alive) {
            if self.kind(node.inode) != EntryKind::Directory {
                continue;
            }
            children.clear();
            let mut child = node.first_child;
            let mut subdirs = 0;
            while child != NONE {
                let Node { name, inode, next, .. } = *self.node(child);
                children.push((numbers[inode as usize], name));
                subdirs += u32::from(self.kind(inode) == EntryKind::Directory);
                child = next;
            }
            let parent = numbers[self.node(node.parent).inode as usize];
            flat.directory(numbers[node.inode as usize], parent, subdirs, &mut children)?;
        }
        let tree = flat.into_tree();
        if self.witness.is_some() {
            self.drawn.more(self.nodes.len() as u64 * provenance::ROW_BYTES)?;
        }
        let provenance = self.witness.take().map(|witness| self.provenance(&numbers, witness));
        self.drawn.keep();
        Ok((tree, provenance))
    }

    /// What became of each node; `numbers` are those of the inodes that are in the tree.
    fn provenance(&self, numbers: &[u32], witness: Witness) -> Provenance {
        let placed = self.nodes.iter().map(|node| Placed {
            parent: node.parent,
            name: node.name,
            layer: node.layer,
            source: self.inodes[node.inode as usize],
            ino: if node.alive { numbers[node.inode as usize] } else { 0 },
        });
        Provenance::new(self.layers.len(), placed, witness)
    }
}
