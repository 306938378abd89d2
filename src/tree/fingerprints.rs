//! What the numbers of inodes are made from: hashes of paths and contents.

use xxhash_rust::xxh3::Xxh3Default;

use super::inode::{FileKind, Ino, Inode};
use super::numbers::Numbers;
use super::origins::Origins;
use super::table::Tree;
use crate::digest::ContentDigest;
use crate::index::LayerIndex;

/// The digest of a regular file's content, if it was taken here. One that is claimed counts for nothing.
pub(super) fn own_digest(index: &LayerIndex, origins: &Origins, ino: Ino) -> Option<ContentDigest> {
    let entry = origins.entry(ino).filter(|_| index.proof().is_own())?;
    index.content_digest(&index.entry_at(entry))
}

impl Tree {
    /// Gives the inodes of the tree of one image their numbers. `indexes` is what it was merged of, base first.
    pub fn number(&mut self, origins: &Origins, indexes: &[&LayerIndex]) {
        self.numbers = Some(Numbers::new(&fingerprints(self, b"", origins, indexes)));
    }
}

/// The fingerprints of all inodes of the tree of one image that is shown in a directory of this name, or is the whole.
pub(super) fn fingerprints(
    tree: &Tree,
    directory: &[u8],
    origins: &Origins,
    indexes: &[&LayerIndex],
) -> Vec<u64> {
    let mut paths = vec![u64::MAX; tree.len()];
    let mut begin = Xxh3Default::new();
    begin.update(directory);
    paths[Ino::ROOT.position()] = begin.digest();
    let mut dirs = vec![Ino::ROOT];
    while let Some(dir) = dirs.pop() {
        let mut above = Xxh3Default::new();
        above.update(&paths[dir.position()].to_le_bytes());
        for child in tree.children(dir, 0) {
            let mut hash = above.clone();
            hash.update(child.name);
            let path = &mut paths[child.ino.position()];
            *path = hash.digest().min(*path);
            if tree.kind(child.ino) == FileKind::Directory {
                dirs.push(child.ino);
            }
        }
    }
    let mut fingerprints = paths;
    for (ino, fingerprint) in tree.inos().zip(&mut fingerprints) {
        let mut hash = Xxh3Default::new();
        hash.update(&fingerprint.to_le_bytes());
        add_content(&mut hash, tree, ino, origins, indexes);
        *fingerprint = hash.digest();
    }
    fingerprints
}

/// Adds what an inode is, of whatever path. The first byte is the kind, so that no two kinds are mixed up.
fn add_content(
    hash: &mut Xxh3Default,
    tree: &Tree,
    ino: Ino,
    origins: &Origins,
    indexes: &[&LayerIndex],
) {
    let inode: &Inode = tree.inode(ino);
    match inode.kind {
        FileKind::Directory => hash.update(b"d"),
        FileKind::Fifo => hash.update(b"p"),
        FileKind::Symlink => {
            hash.update(b"l");
            hash.update(tree.symlink(ino).unwrap_or_default());
        }
        FileKind::CharDevice | FileKind::BlockDevice => {
            hash.update(if inode.kind == FileKind::CharDevice { b"c" } else { b"b" });
            hash.update(&inode.parent.to_le_bytes());
            hash.update(&inode.count.to_le_bytes());
        }
        FileKind::Regular if inode.size == 0 => hash.update(b"e"),
        FileKind::Regular => {
            let index = indexes[inode.layer as usize];
            match own_digest(index, origins, ino) {
                Some(ContentDigest::Sha256(content)) => {
                    hash.update(b"h");
                    hash.update(&content);
                }
                Some(ContentDigest::Blocks(content)) => {
                    hash.update(b"s");
                    hash.update(&content);
                }
                None => {
                    let start = tree.content(ino).map_or(0, |content| content.start());
                    hash.update(b"@");
                    hash.update(index.blob().hash());
                    hash.update(&start.to_le_bytes());
                    hash.update(&inode.size.to_le_bytes());
                }
            }
        }
    }
}
