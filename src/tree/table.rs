//! The tables of a tree, and the questions that they answer.

use super::inode::{Attributes, Content, DirEntry, Dirent, FileKind, Ino, Inode, MarkRow, Xattr};
use super::numbers::{Numbers, Shown};
use super::readable::is_readable;
use crate::extent::{Pieces, Run, UncompressedOffset};

/// The merged tree of an image.
#[derive(Debug)]
pub struct Tree {
    pub(super) inodes: Vec<Inode>,
    /// Children of each directory in one run, ordered by inode number.
    pub(super) dirents: Vec<Dirent>,
    /// The same runs as positions in `dirents`, ordered by name.
    pub(super) by_name: Vec<u32>,
    pub(super) runs: Vec<Run>,
    pub(super) xattrs: Vec<Xattr>,
    /// Names, targets and xattr values.
    pub(super) bytes: Vec<u8>,
    pub(super) total_size: u64,
    /// What it was joined of, in the order of their inodes; empty for a tree of one image.
    pub(super) images: Vec<Joined>,
    pub(super) numbers: Option<Numbers>,
    /// By inode; only in the tree of a layer alone.
    pub(super) marks: Vec<MarkRow>,
}

/// An image in a joined tree.
#[derive(Debug)]
pub(super) struct Joined {
    /// Its root directory: its inodes are from here up to the next image's.
    pub(super) root: u32,
    /// The places of its layers among those of the joined tree, base first.
    pub(super) layers: Vec<u32>,
}

impl Tree {
    /// A tree to be filled, which has no root yet.
    pub(super) fn unfilled() -> Tree {
        Tree {
            inodes: Vec::new(),
            dirents: Vec::new(),
            by_name: Vec::new(),
            runs: Vec::new(),
            xattrs: Vec::new(),
            bytes: Vec::new(),
            total_size: 0,
            images: Vec::new(),
            numbers: None,
            marks: Vec::new(),
        }
    }

    /// Number of inodes.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Never: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// Sum of the sizes of all regular files in bytes, each inode once.
    pub fn total_size(&self) -> u64 {
        self.total_size
    }

    /// Whether any file has extended attributes.
    pub fn has_xattrs(&self) -> bool {
        !self.xattrs.is_empty()
    }

    /// Whether any file is sparse. Looks at all of them.
    pub fn has_sparse_files(&self) -> bool {
        self.inodes.iter().any(|inode| inode.sparse)
    }

    /// The inode at a position, from 1 on; `None` if there is no such inode.
    pub fn ino(&self, number: u64) -> Option<Ino> {
        let number = u32::try_from(number).ok()?;
        (number >= 1 && number as usize <= self.inodes.len()).then_some(Ino(number))
    }

    /// All inodes in order.
    pub fn inos(&self) -> impl Iterator<Item = Ino> + use<> {
        (1..=self.inodes.len() as u32).map(Ino)
    }

    /// The attributes of an inode.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let inode = self.inode(ino);
        let device = match inode.kind {
            FileKind::CharDevice | FileKind::BlockDevice => (inode.parent, inode.count),
            _ => (0, 0),
        };
        Attributes {
            ino,
            kind: inode.kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            blocks: inode.blocks,
            mtime_seconds: inode.mtime_seconds,
            mtime_nanoseconds: inode.mtime_nanoseconds,
            device,
        }
    }

    /// The layer that an inode was made from, as a position among those that were merged.
    pub fn layer(&self, ino: Ino) -> usize {
        self.inode(ino).layer as usize
    }

    /// The same, but `None` for the root above several images.
    pub fn layer_of_image(&self, ino: Ino) -> Option<usize> {
        (self.images.is_empty() || ino != Ino::ROOT).then(|| self.layer(ino))
    }

    /// The kind of an inode.
    pub fn kind(&self, ino: Ino) -> FileKind {
        self.inode(ino).kind
    }

    /// The directory that holds `dir`; the root holds itself. `None` if `dir` is no directory.
    pub fn parent(&self, dir: Ino) -> Option<Ino> {
        let inode = self.inode(dir);
        (inode.kind == FileKind::Directory).then_some(Ino(inode.parent))
    }

    /// The directory that lists a regular file, one of them if it has several names; `None` for
    /// anything else.
    pub fn directory_of(&self, file: Ino) -> Option<Ino> {
        let inode = self.inode(file);
        (inode.kind == FileKind::Regular).then_some(Ino(inode.parent))
    }

    /// The layers of the image that an inode belongs to, base first; `None` if the tree is of one image
    /// only, and for the directory above several.
    pub fn layers_of(&self, ino: Ino) -> Option<&[u32]> {
        Some(&self.images[self.image_of(ino)?].layers)
    }

    /// The image that an inode belongs to, the first of those that share it; `None` as in
    /// [`Tree::layers_of`].
    pub(super) fn image_of(&self, ino: Ino) -> Option<usize> {
        self.images.partition_point(|image| image.root <= ino.0).checked_sub(1)
    }

    /// The regular files that several images have, each once for every other image.
    pub fn shared_files(&self) -> impl Iterator<Item = Ino> {
        let dirs = self.inos().skip(if self.images.is_empty() { self.len() } else { 0 });
        dirs.flat_map(move |dir| {
            let image = self.image_of(dir);
            let files = self.listed_after(dir, Ino::ROOT);
            let files = files.filter(|file| self.kind(*file) == FileKind::Regular);
            files.filter(move |file| image.is_some() && self.image_of(*file) != image)
        })
    }

    /// Whether a directory holds all of an image, or more.
    pub fn is_top(&self, dir: Ino) -> bool {
        dir == Ino::ROOT || self.images.binary_search_by_key(&dir.0, |image| image.root).is_ok()
    }

    /// Number of names in a directory, 0 for anything else.
    pub fn child_count(&self, dir: Ino) -> usize {
        self.dirents_of(dir).len()
    }

    /// The names of a directory from position `from` on, in the order of the data in the layers.
    pub fn children(&self, dir: Ino, from: usize) -> impl ExactSizeIterator<Item = DirEntry<'_>> {
        let dirents = self.dirents_of(dir);
        dirents[from.min(dirents.len())..].iter().map(|dirent| self.dir_entry(dirent))
    }

    /// The inodes that a directory lists behind `ino`, in the order of [`Tree::children`].
    pub fn listed_after(&self, dir: Ino, ino: Ino) -> impl ExactSizeIterator<Item = Ino> {
        self.dirents_after(dir, ino.0).iter().map(|dirent| Ino(dirent.ino))
    }

    /// The name of an inode in a directory that lists it, the first if it has several there.
    pub fn name_in(&self, dir: Ino, ino: Ino) -> Option<&[u8]> {
        let first = self.dirents_after(dir, ino.0 - 1).first()?;
        (first.ino == ino.0).then(|| self.dir_entry(first).name)
    }

    /// The path of a directory or a regular file from the root, without a slash at its ends: empty for the root. Of
    /// a file with several names it is one of them.
    pub fn path(&self, ino: Ino) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT
            && let Some(parent) = self.parent(at).or_else(|| self.directory_of(at))
        {
            names.extend(self.name_in(parent, at));
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The names of a directory in byte order.
    pub fn children_by_name(&self, dir: Ino) -> impl ExactSizeIterator<Item = DirEntry<'_>> {
        self.names_of(dir).iter().map(|at| self.dir_entry(&self.dirents[*at as usize]))
    }

    /// The child of `dir` with this name.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let names = self.names_of(dir);
        let at = names
            .binary_search_by(|at| self.dir_entry(&self.dirents[*at as usize]).name.cmp(name))
            .ok()?;
        Some(Ino(self.dirents[names[at] as usize].ino))
    }

    /// The target of a symlink; `None` for anything else.
    pub fn symlink(&self, ino: Ino) -> Option<&[u8]> {
        let inode = self.inode(ino);
        (inode.kind == FileKind::Symlink).then(|| self.text(inode.data as u32, inode.size as u32))
    }

    /// Where a regular file's bytes lie; `None` for anything else.
    pub fn content(&self, ino: Ino) -> Option<Content<'_>> {
        let inode = self.inode(ino);
        if inode.kind != FileKind::Regular {
            return None;
        }
        let pieces = if inode.sparse {
            Pieces::Sparse(self.runs_of(inode))
        } else {
            Pieces::Whole(UncompressedOffset(inode.data))
        };
        Some(Content { layer: inode.layer as usize, size: inode.size, pieces })
    }

    /// The extended attributes of an inode.
    pub fn xattrs(&self, ino: Ino) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let inode = self.inode(ino);
        let first = inode.first_xattr as usize;
        self.xattrs[first..first + usize::from(inode.xattr_count)].iter().map(|x| {
            let name = self.text(x.name_offset, x.name_length);
            (name, self.text(x.value_offset, x.value_length))
        })
    }

    /// The same without those that Linux returns to no process (`readable`), whatever a tar says.
    pub fn readable_xattrs(&self, ino: Ino) -> impl Iterator<Item = (&[u8], &[u8])> {
        let kind = self.kind(ino);
        self.xattrs(ino).filter(move |(name, value)| is_readable(kind, name, value))
    }

    /// How an inode is known outside: by its position if the tree was given no numbers.
    pub fn shown(&self, ino: Ino) -> Shown {
        match &self.numbers {
            Some(numbers) => {
                let (number, generation) = numbers.of[ino.position()];
                Shown { number: u64::from(number), generation }
            }
            None => Shown { number: ino.number(), generation: 0 },
        }
    }

    /// The inode that is known by a number; `None` if there is no such inode.
    pub fn ino_of(&self, number: u64) -> Option<Ino> {
        let Some(numbers) = &self.numbers else { return self.ino(number) };
        let number = u32::try_from(number).ok()?;
        let at = numbers.inos.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(Ino(numbers.inos[at].1))
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        &self.inodes[ino.position()]
    }

    pub(super) fn runs_of(&self, inode: &Inode) -> &[Run] {
        let first = inode.data as usize;
        &self.runs[first..first + inode.count as usize]
    }

    pub(super) fn dir_range(&self, dir: Ino) -> std::ops::Range<usize> {
        let inode = self.inode(dir);
        match inode.kind {
            FileKind::Directory => {
                let first = inode.data as usize;
                first..first + inode.count as usize
            }
            _ => 0..0,
        }
    }

    /// The names of a directory whose inodes come behind a number.
    pub(super) fn dirents_after(&self, dir: Ino, number: u32) -> &[Dirent] {
        let dirents = self.dirents_of(dir);
        &dirents[dirents.partition_point(|dirent| dirent.ino <= number)..]
    }

    pub(super) fn dirents_of(&self, dir: Ino) -> &[Dirent] {
        &self.dirents[self.dir_range(dir)]
    }

    pub(super) fn names_of(&self, dir: Ino) -> &[u32] {
        &self.by_name[self.dir_range(dir)]
    }

    pub(super) fn dir_entry(&self, dirent: &Dirent) -> DirEntry<'_> {
        let name = self.text(dirent.name_offset, u32::from(dirent.name_length));
        DirEntry { name, ino: Ino(dirent.ino) }
    }

    pub(super) fn text(&self, offset: u32, length: u32) -> &[u8] {
        &self.bytes[offset as usize..offset as usize + length as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::Budget;
    use crate::tree::merge;

    #[test]
    fn device_numbers_are_the_kernels() {
        let mut attributes =
            merge(&[], &Arc::new(Budget::growing())).unwrap().attributes(Ino::ROOT);
        let mut encoded = |device| {
            attributes.device = device;
            attributes.encoded_device()
        };
        assert_eq!(encoded((1, 3)), 0x0103);
        assert_eq!(encoded((259, 70_000)), (70_000 & 0xff) | (259 << 8) | (70_000 & !0xff) << 12);
    }
}
