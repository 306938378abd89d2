//! Regular files of one tree that other trees have too, known by what they are made from.
//!
//! # Problem
//!
//! The trees of layers 1..k and 1..k+1 of an image are mostly the same files, and so are those of images with a common
//! base. Where each tree gives its files numbers of its own, the kernel keeps the pages of each file once for every
//! tree.
//!
//! # Design
//!
//! All that `stat(2)`, `listxattr(2)` and `read(2)` tell of a regular file is said by one entry of one layer, but for the
//! number of its names: hard links and whiteouts of upper layers change that. So layer, entry and names are what a
//! file *is* ([`FileKey`]), in whatever tree it stands, and a number made from them is the same for all trees. Each tree
//! keeps what its inodes are made from, and its regular files in the order of that: 8 bytes an inode.
//!
//! (Rejected: to compare trees when they are opened, as [`join`](crate::tree::join) does. What a number means would depend
//! on which trees were opened before; here any tree that has the file can answer for it.)
//!
//! A layer without a number has nothing that other trees have.
//!
//! # Invariants
//!
//! - Layers have the same number in two trees only if both have the same entries at the same places of it.

use crate::tree::{FileKind, Ino, Origins, Tree};

/// What a regular file is, in all trees that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// The number of its layer, which trees that share files agree upon.
    pub layer: u32,
    /// The entry of the layer.
    pub entry: u32,
    /// How many names it has.
    pub names: u32,
}

/// The regular files of a tree.
#[derive(Debug)]
pub struct SharedFiles {
    /// The number of each layer of the tree, if it has one.
    layers: Vec<Option<u32>>,
    origins: Origins,
    /// Ordered by layer and entry.
    files: Vec<Ino>,
}

impl SharedFiles {
    /// Of a tree whose inodes are made from these entries, and whose layers have these numbers.
    pub fn new(tree: &Tree, origins: Origins, layers: Vec<Option<u32>>) -> SharedFiles {
        let mut files: Vec<Ino> = tree.inos().filter(|ino| is_file(tree, &origins, *ino)).collect();
        files.sort_unstable_by_key(|ino| (tree.layer(*ino), origins.entry(*ino)));
        SharedFiles { layers, origins, files }
    }

    /// The layers with numbers, each once.
    pub(super) fn layers(&self) -> Vec<u32> {
        let mut layers: Vec<u32> = self.layers.iter().copied().flatten().collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// The files of layers with numbers, each as its layer and the entry of that.
    pub(super) fn files(&self, tree: &Tree) -> impl Iterator<Item = (u32, u32)> {
        let of =
            |ino: &Ino| Some((self.layers[tree.layer(*ino)]?, self.origins.entry(*ino)? as u32));
        self.files.iter().filter_map(of)
    }

    /// What an inode is, if it is a regular file.
    pub(super) fn key(&self, tree: &Tree, ino: Ino) -> Option<FileKey> {
        let entry = self.origins.entry(ino).filter(|_| is_file(tree, &self.origins, ino))?;
        let layer = self.layers[tree.layer(ino)]?;
        Some(FileKey { layer, entry: entry as u32, names: tree.attributes(ino).nlink })
    }

    /// The file that is made from an entry, however many names it has in this tree.
    pub(super) fn find(&self, tree: &Tree, layer: u32, entry: u32) -> Option<Ino> {
        // A layer may stand in an image several times.
        let places = self.layers.iter().enumerate().filter(|(_, number)| **number == Some(layer));
        places.map(|(at, _)| (at, Some(entry as usize))).find_map(|wanted| {
            let key = |ino: &Ino| (tree.layer(*ino), self.origins.entry(*ino));
            let found = self.files.binary_search_by_key(&wanted, key);
            found.ok().map(|at| self.files[at])
        })
    }
}

/// Whether an inode is a regular file that an entry of a layer has brought, and stands for nothing else.
fn is_file(tree: &Tree, origins: &Origins, ino: Ino) -> bool {
    tree.kind(ino) == FileKind::Regular && origins.entry(ino).is_some() && tree.mark(ino).is_none()
}
