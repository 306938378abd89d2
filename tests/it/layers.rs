//! From abstract entries to a merged tree, without any I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocifs::extent::Pieces;
use ocifs::index::{Budget, LayerIndex};
use ocifs::tree::{self, FileKind, Ino, Tree};

pub use crate::hostile::layer::index;
use crate::model::reference::{self, Node, NodeKind};
use crate::support::tarball::{Entry, tar};

/// Merges layers given as tars; each tar is returned to read contents from.
pub fn merge(tars: &[Vec<u8>]) -> Result<Tree, String> {
    let indexes: Vec<LayerIndex> = tars.iter().map(|tar| index(tar)).collect::<Result<_, _>>()?;
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    tree::merge(&layers, &Arc::new(Budget::of(u64::MAX))).map_err(|e| e.to_string())
}

/// The tree of the real implementation in the model's terms.
pub fn snapshot(tree: &Tree, tars: &[Vec<u8>]) -> reference::Tree {
    snapshot_below(tree, tars, Ino::ROOT)
}

/// The same of what is at and below a directory.
pub fn snapshot_below(tree: &Tree, tars: &[Vec<u8>], top: Ino) -> reference::Tree {
    let mut out = reference::Tree::new();
    walk(tree, tars, top, Vec::new(), &mut out);
    // Number inodes by their first path, as the model does.
    let mut numbers = BTreeMap::new();
    for node in out.values_mut() {
        let next = numbers.len();
        node.inode = *numbers.entry(node.inode).or_insert(next);
    }
    out
}

fn walk(tree: &Tree, tars: &[Vec<u8>], ino: Ino, path: Vec<u8>, out: &mut reference::Tree) {
    let attributes = tree.attributes(ino);
    let node = Node {
        kind: match attributes.kind {
            FileKind::Regular => NodeKind::File,
            FileKind::Directory => NodeKind::Dir,
            FileKind::Symlink => NodeKind::Symlink,
            FileKind::CharDevice => NodeKind::Char,
            FileKind::BlockDevice => NodeKind::Block,
            FileKind::Fifo => NodeKind::Fifo,
        },
        mode: u32::from(attributes.mode),
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: (attributes.mtime_seconds, attributes.mtime_nanoseconds),
        xattrs: tree.xattrs(ino).map(|(n, v)| (n.to_vec(), v.to_vec())).collect(),
        content: content(tree, tars, ino),
        target: tree.symlink(ino).unwrap_or_default().to_vec(),
        rdev: attributes.device,
        inode: ino.number() as usize,
        nlink: attributes.nlink,
    };
    assert!(out.insert(path.clone(), node).is_none(), "two nodes at one path");
    let by_name: Vec<_> = tree.children_by_name(ino).collect();
    assert!(by_name.is_sorted_by(|a, b| a.name < b.name), "names are sorted and unique");
    assert_eq!(by_name.len(), tree.child_count(ino));
    for child in tree.children(ino, 0) {
        assert_eq!(tree.lookup(ino, child.name), Some(child.ino));
        if tree.kind(child.ino) == FileKind::Directory {
            assert_eq!(tree.parent(child.ino), Some(ino));
        }
        let mut below = path.clone();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(child.name);
        walk(tree, tars, child.ino, below, out);
    }
}

/// The bytes of a file.
pub fn content(tree: &Tree, tars: &[Vec<u8>], ino: Ino) -> Vec<u8> {
    let Some(content) = tree.content(ino) else { return Vec::new() };
    let tar = &tars[content.layer];
    match content.pieces {
        Pieces::Whole(start) => {
            let start = start.0 as usize;
            tar[start..start + content.size as usize].to_vec()
        }
        Pieces::Sparse(runs) => {
            let mut out = vec![0; content.size as usize];
            for run in runs {
                let (to, from, length) =
                    (run.file_offset as usize, run.start.0 as usize, run.length as usize);
                out[to..to + length].copy_from_slice(&tar[from..from + length]);
            }
            out
        }
    }
}

/// What the real implementation makes of a stack of layers.
pub fn real(stack: &[Vec<Entry>]) -> Result<reference::Tree, String> {
    let tars: Vec<Vec<u8>> = stack.iter().map(|layer| tar(layer)).collect();
    merge(&tars).map(|tree| snapshot(&tree, &tars))
}
