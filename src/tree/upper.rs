//! What the upper layers of an image decide alone, whatever lies below them.
//!
//! # Problem
//!
//! `ocifs cat IMAGE /srv/app/settings.py` of an image that this machine never saw wants a file that
//! the topmost layer, a few KB, brings. Streaming the layers below it costs minutes and gives nothing,
//! if the answer can't depend on them. It can in many ways: an entry's directory part follows symlinks
//! of lower layers, so that `lib/x` may be `usr/lib/x`; what it needs as a directory, a lower file gives
//! way to; a hard link's target may be below.
//!
//! # Design
//!
//! The known layers, an unbroken run down from the top, are applied as [`super::merge()`] applies them, to a
//! tree of *facts* that hold over any lower tree. What no fact is known of may be anything. An entry whose
//! directory part leads through something unknown, or through a symlink, is a *stray*: it may
//! land in any directory, make directories in others, and have a lower file give way. So with each stray
//!
//! - facts of names like its own, made before it, are void;
//! - so are those of files of the layers below its own;
//! - so is every fact that something does not exist.
//!
//! A stray whiteout voids names like its own; a stray opaque mark voids all of the layers below. The
//! layers that engines write describe the directories of all their entries and have no strays.
//!
//! A question is decided if each step of its path rests on a fact. One exception makes layers useful
//! that describe no directories (`COPY` as some builders write it): a regular file of the topmost layer,
//! asked for by the very path that its entry has. It is where that path leads, unless a later entry of
//! the layer can turn the path elsewhere: a symlink, a hard link, a directory in place of something
//! unknown, or another entry with the file's own name. Without those the whole image has this
//! file there, or, if lower symlinks lead through names that do not exist and back (`a -> none/../b`)
//! or something on their way is replaced, no file. It never has another one.
//!
//! # Rejected
//!
//! Following symlinks whose layer is known, as the merge does: lower entries may have moved what they
//! lead to, and by the time that a base layer with such symlinks is open, the merge itself can be made.
//!
//! # Invariants
//!
//! - What the tree of [`merge_upper`] answers to the questions it was made for, the tree of all layers
//!   answers too, but for the exception above; what it says of anything else means nothing. A test
//!   compares the two over random stacks.
//! - Time and memory are linear in the entries of the known layers, with a bound on steps; beyond it
//!   nothing is decided.

mod answers;
mod facts;

use std::collections::HashSet;
use std::ptr;

use super::flat::Flat;
use super::inode::NONE;
use super::origins::{Origins, Source};
use super::table::Tree;
use crate::index::LayerIndex;
use facts::{Node, Upper, What};

pub use answers::{Question, Want};

/// The tree of the upper layers of an image, base first, and where its inodes come from, if it answers the
/// questions as the tree of all layers would; `None` if lower layers are needed for that. No layers decide nothing: also what
/// the root is, is known of one of them.
pub fn merge_upper(layers: &[&LayerIndex], questions: &[Question]) -> Option<(Tree, Origins)> {
    if layers.is_empty() {
        return None;
    }
    // What a layer costs that is applied once more, only a whole merge draws on a budget.
    let mut seen = HashSet::new();
    let mut with_rows = layers.iter().filter(|layer| !layer.is_empty());
    if !with_rows.all(|layer| seen.insert(ptr::from_ref(*layer))) {
        return None;
    }
    let mut upper = Upper::new(layers);
    for (number, index) in layers.iter().enumerate() {
        upper.apply(number as u32, index)?;
    }
    questions.iter().all(|question| upper.decides(question)).then(|| upper.flatten())?
}

impl Upper<'_> {
    /// The facts as a tree. Where something unknown is, there is nothing, or a directory.
    fn flatten(self) -> Option<(Tree, Origins)> {
        let is_shown = |node: &Node<'_>| {
            node.alive
                && node.inode != NONE
                && !matches!(node.what, What::Absent | What::Marked { .. })
        };
        let mut names_of = vec![0u32; self.inodes.len()];
        for node in self.nodes.iter().filter(|node| is_shown(node)) {
            names_of[node.inode as usize] += 1;
        }
        let mut numbers = vec![0u32; self.inodes.len()];
        let mut flat = Flat::new(self.layers);
        let mut origins = Vec::new();
        for (at, Source { layer, entry }) in self.inodes.iter().enumerate() {
            if names_of[at] > 0 {
                let index = self.layers[*layer as usize];
                let origin = (*entry != NONE).then(|| index.entry_at(*entry as usize));
                numbers[at] = flat.inode(*layer, origin, names_of[at]).ok()?;
                origins.push(*entry);
            }
        }
        for node in self.nodes.iter().filter(|node| is_shown(node) && node.what != What::Leaf) {
            let shown = node.children.iter().map(|child| self.node(*child));
            let shown = shown.filter(|child| is_shown(child));
            let subdirs = shown.clone().filter(|child| child.what != What::Leaf).count() as u32;
            let mut children: Vec<(u32, &[u8])> =
                shown.map(|child| (numbers[child.inode as usize], child.name)).collect();
            let parent = numbers[self.node(node.parent).inode as usize];
            let number = numbers[node.inode as usize];
            flat.directory(number, parent, subdirs, &mut children).ok()?;
        }
        Some((flat.into_tree(), Origins(origins)))
    }
}
