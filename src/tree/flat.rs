//! The tables of a tree, filled from what a merge has found.

use super::error::Error;
use super::inode::{
    BLOCK_BYTES, DIRECTORY_BYTES, Dirent, FAST_SYMLINK_BYTES, FileKind, Inode, Xattr,
};
use super::table::Tree;
use crate::extent::Run;
use crate::index::{Entry, EntryKind, LayerIndex, Runs};

/// The arrays under construction.
pub(super) struct Flat<'a> {
    layers: &'a [&'a LayerIndex],
    tree: Tree,
}

impl<'a> Flat<'a> {
    pub(super) fn new(layers: &'a [&'a LayerIndex]) -> Flat<'a> {
        Flat { layers, tree: Tree::unfilled() }
    }

    /// The tree, when every directory is filled.
    pub(super) fn into_tree(self) -> Tree {
        self.tree
    }

    fn text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let offset = u32::try_from(self.tree.bytes.len()).map_err(|_| Error::TooLarge)?;
        self.tree.bytes.extend_from_slice(text);
        u32::try_from(self.tree.bytes.len()).map_err(|_| Error::TooLarge)?;
        Ok(offset)
    }

    /// A directory that no entry describes.
    fn blank(&self, layer: u32, names: u32) -> Inode {
        Inode {
            size: 0,
            blocks: 0,
            mtime_seconds: 0,
            data: 0,
            mtime_nanoseconds: 0,
            uid: 0,
            gid: 0,
            nlink: names,
            count: 0,
            parent: 0,
            layer,
            first_xattr: self.tree.xattrs.len() as u32,
            xattr_count: 0,
            mode: 0o755,
            kind: FileKind::Directory,
            sparse: false,
        }
    }

    /// Adds an empty file of which nothing is known but that it is there; returns its number.
    pub(super) fn mark(&mut self, layer: u32) -> Result<u32, Error> {
        let blank = self.blank(layer, 1);
        self.tree.inodes.push(Inode { mode: 0, kind: FileKind::Regular, ..blank });
        u32::try_from(self.tree.inodes.len()).map_err(|_| Error::TooLarge)
    }

    /// Adds an inode with `names` names; returns its number.
    pub(super) fn inode(
        &mut self,
        layer: u32,
        origin: Option<Entry<'_>>,
        names: u32,
    ) -> Result<u32, Error> {
        let mut inode = self.blank(layer, names);
        let layers = self.layers;
        let index = || layers[layer as usize];
        let mut stored_bytes = 0;
        match origin.map_or(EntryKind::Directory, |entry| entry.kind) {
            EntryKind::File { size, runs } => {
                inode.kind = FileKind::Regular;
                inode.size = size;
                self.tree.total_size = self.tree.total_size.saturating_add(size);
                match runs {
                    Runs::Whole(start) => {
                        inode.data = start.0;
                        stored_bytes = size;
                    }
                    Runs::Sparse { first, count } => {
                        inode.sparse = true;
                        inode.data = self.tree.runs.len() as u64;
                        inode.count = count;
                        let runs: Vec<Run> = index().sparse_runs(first, count).collect();
                        stored_bytes = runs.iter().map(|run| run.length).sum();
                        self.tree.runs.extend(runs);
                    }
                }
            }
            EntryKind::Directory => {
                inode.size = DIRECTORY_BYTES;
                stored_bytes = DIRECTORY_BYTES;
            }
            EntryKind::Symlink(target) => {
                inode.kind = FileKind::Symlink;
                inode.size = target.len() as u64;
                inode.data = u64::from(self.text(target)?);
                if inode.size >= FAST_SYMLINK_BYTES {
                    stored_bytes = inode.size;
                }
            }
            EntryKind::CharDevice(major, minor) => {
                inode.kind = FileKind::CharDevice;
                (inode.parent, inode.count) = (major, minor);
            }
            EntryKind::BlockDevice(major, minor) => {
                inode.kind = FileKind::BlockDevice;
                (inode.parent, inode.count) = (major, minor);
            }
            EntryKind::Fifo => inode.kind = FileKind::Fifo,
            // Its target is in a lower layer, and this layer is shown alone; otherwise it has the inode of that.
            EntryKind::HardLink { .. } => inode.kind = FileKind::Regular,
        }
        inode.blocks = stored_bytes.div_ceil(BLOCK_BYTES) * (BLOCK_BYTES / 512);
        if let Some(entry) = &origin {
            // Linux gives every symlink these bits, whatever was asked for.
            inode.mode = if inode.kind == FileKind::Symlink { 0o777 } else { entry.mode };
            inode.uid = entry.uid;
            inode.gid = entry.gid;
            inode.mtime_seconds = entry.mtime_seconds;
            inode.mtime_nanoseconds = entry.mtime_nanoseconds;
            for (name, value) in index().xattrs(entry) {
                let xattr = Xattr {
                    name_offset: self.text(name)?,
                    name_length: name.len() as u32,
                    value_offset: self.text(value)?,
                    value_length: value.len() as u32,
                };
                self.tree.xattrs.push(xattr);
                inode.xattr_count += 1;
            }
        }
        self.tree.inodes.push(inode);
        u32::try_from(self.tree.inodes.len()).map_err(|_| Error::TooLarge)
    }

    /// Fills a directory: the number of the one above it, and its children by number and name.
    pub(super) fn directory(
        &mut self,
        ino: u32,
        parent: u32,
        subdirs: u32,
        children: &mut [(u32, &[u8])],
    ) -> Result<(), Error> {
        let first = self.tree.dirents.len();
        // By inode, then by name: hard links of one file may share a directory.
        children.sort_unstable();
        for (child, name) in &*children {
            let name_offset = self.text(name)?;
            let name_length = name.len() as u16;
            self.tree.dirents.push(Dirent { ino: *child, name_offset, name_length });
            let inode = &mut self.tree.inodes[*child as usize - 1];
            if inode.kind == FileKind::Regular {
                inode.parent = ino;
            }
        }
        let end = u32::try_from(self.tree.dirents.len()).map_err(|_| Error::TooLarge)?;
        let mut by_name: Vec<u32> = (first as u32..end).collect();
        by_name.sort_unstable_by_key(|at| children[*at as usize - first].1);
        self.tree.by_name.extend_from_slice(&by_name);
        let inode = &mut self.tree.inodes[ino as usize - 1];
        inode.data = first as u64;
        inode.count = children.len() as u32;
        inode.parent = parent;
        inode.nlink = 2 + subdirs;
        Ok(())
    }
}
