//! How much room the files of a directory take, as du(1) counts it.
//!
//! Each file counts once, however many names it has, at the one that the walk meets first; so a directory that has only
//! later names of a file is as small as without it. Names are walked in their order, where du(1) has that of the
//! file system. Directories have a block of their own, as on a mount.

use std::collections::HashSet;
use std::ops::AddAssign;

use super::inode::{FileKind, Ino};
use super::table::Tree;

/// What some files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that a file system with blocks of 4 KiB needs; holes need none.
    pub allocated: u64,
    /// Sum of their sizes in bytes.
    pub apparent: u64,
    /// How many there are, directories included.
    pub files: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.apparent = self.apparent.saturating_add(other.apparent);
        self.files += other.files;
    }
}

/// What is told of a file or directory.
#[derive(Clone, Copy, Debug)]
pub struct UsageRow<'a> {
    /// The path, which begins as the caller said.
    pub path: &'a [u8],
    /// The file itself.
    pub ino: Ino,
    /// How deep it is; where the walk began is 0.
    pub depth: usize,
    /// What it takes, with all below it.
    pub usage: Usage,
}

/// Counts files over several walks, each once.
#[derive(Debug)]
pub struct UsageCount<'a> {
    tree: &'a Tree,
    /// Whether there are several walks, which may come to any file again.
    are_several: bool,
    seen: HashSet<Ino>,
}

/// A directory on the way.
struct Level<'a> {
    dir: Ino,
    left: &'a [u32],
    path_bytes: usize,
    usage: Usage,
}

impl<'a> UsageCount<'a> {
    /// None counted yet; one walk will come, or several.
    pub fn new(tree: &'a Tree, are_several: bool) -> UsageCount<'a> {
        UsageCount { tree, are_several, seen: HashSet::new() }
    }

    /// Counts what is at and below `start`, which has this path for the user; tells `row` each directory behind what is
    /// in it, and each other file. What an earlier walk has counted is left out.
    ///
    /// # Errors
    /// Those of `row`, which end the walk.
    pub fn walk<E>(
        &mut self,
        start: Ino,
        path: &[u8],
        row: &mut dyn FnMut(UsageRow<'_>) -> Result<(), E>,
    ) -> Result<Usage, E> {
        let tree = self.tree;
        let mut path = path.to_vec();
        let mut stack: Vec<Level<'_>> = Vec::new();
        let mut total = Usage::default();
        let mut next = Some(start);
        loop {
            if let Some(ino) = next.take() {
                let inode = tree.inode(ino);
                let is_dir = inode.kind == FileKind::Directory;
                let has_names = !is_dir && inode.nlink > 1;
                let is_known = (self.are_several || has_names) && !self.seen.insert(ino);
                if !is_known {
                    let usage = Usage {
                        allocated: inode.blocks.saturating_mul(512),
                        apparent: inode.size,
                        files: 1,
                    };
                    if is_dir {
                        let left = tree.names_of(ino);
                        stack.push(Level { dir: ino, left, path_bytes: path.len(), usage });
                    } else {
                        row(UsageRow { path: &path, ino, depth: stack.len(), usage })?;
                        *stack.last_mut().map_or(&mut total, |level| &mut level.usage) += usage;
                    }
                }
            }
            let Some(level) = stack.last_mut() else { return Ok(total) };
            path.truncate(level.path_bytes);
            if let Some((first, left)) = level.left.split_first() {
                level.left = left;
                let child = tree.dir_entry(&tree.dirents[*first as usize]);
                if path.last() != Some(&b'/') {
                    path.push(b'/');
                }
                path.extend_from_slice(child.name);
                next = Some(child.ino);
                continue;
            }
            let (ino, usage) = (level.dir, level.usage);
            stack.pop();
            row(UsageRow { path: &path, ino, depth: stack.len(), usage })?;
            *stack.last_mut().map_or(&mut total, |level| &mut level.usage) += usage;
        }
    }
}
