//! Walking a tree without recursion: an image may nest directories deeper than any stack.

use super::inode::{DirEntry, FileKind, Ino};
use super::table::Tree;

/// The order in which the names of a directory come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By name, for people.
    Name,
    /// By the place of the data in the layers, for reading everything.
    Data,
}

/// Comes before all inodes.
const NOTHING: Ino = Ino(0);

/// All that is below a directory, each directory before what is in it.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    order: Order,
    path: Vec<u8>,
    /// Directories on the way.
    stack: Vec<Level<'a>>,
}

#[derive(Debug)]
struct Level<'a> {
    /// What of it is still to come, in reverse.
    left: Vec<DirEntry<'a>>,
    /// The length of its own path.
    path_bytes: usize,
}

impl Tree {
    /// Walks everything below `dir`, with paths relative to it.
    pub fn walk(&self, dir: Ino, order: Order) -> Walk<'_> {
        let mut walk = Walk { tree: self, order, path: Vec::new(), stack: Vec::new() };
        walk.enter(dir);
        walk
    }
}

/// The regular files that a walk in the order [`Order::Data`] comes to behind one of them.
#[derive(Debug)]
pub struct FilesAfter<'a> {
    tree: &'a Tree,
    top: Ino,
    dir: Ino,
    /// The inode in `dir` that was last.
    place: Ino,
    is_over: bool,
}

impl Tree {
    /// The files behind `file`, which `dir` lists, in a walk below `top`, a directory that is somewhere above
    /// it. What lies above is passed over again for each, so it is cheap to begin anywhere.
    pub fn files_after(&self, dir: Ino, file: Ino, top: Ino) -> FilesAfter<'_> {
        FilesAfter { tree: self, top, dir, place: file, is_over: false }
    }

    /// The smallest directory that has both of these below it, or is one of them.
    pub fn common_directory(&self, one: Ino, other: Ino) -> Ino {
        let path = |dir: Ino| {
            let above = |dir: &Ino| self.parent(*dir).filter(|_| *dir != Ino::ROOT);
            let mut path: Vec<Ino> = std::iter::successors(Some(dir), above).collect();
            path.reverse();
            path
        };
        let (one, other) = (path(one), path(other));
        let common = one.iter().zip(&other).take_while(|(a, b)| a == b).last();
        common.map_or(Ino::ROOT, |(dir, _)| *dir)
    }
}

impl FilesAfter<'_> {
    /// The directory that lists the file that came last. (It may have names in others too.)
    pub fn directory(&self) -> Ino {
        self.dir
    }
}

impl Iterator for FilesAfter<'_> {
    type Item = Ino;

    fn next(&mut self) -> Option<Ino> {
        while !self.is_over {
            match self.tree.listed_after(self.dir, self.place).next() {
                Some(ino) if self.tree.kind(ino) == FileKind::Directory => {
                    (self.dir, self.place) = (ino, NOTHING);
                }
                Some(ino) => {
                    self.place = ino;
                    if self.tree.kind(ino) == FileKind::Regular {
                        return Some(ino);
                    }
                }
                None => {
                    self.is_over = self.dir == self.top || self.dir == Ino::ROOT;
                    self.place = self.dir;
                    self.dir = self.tree.parent(self.dir).unwrap_or(Ino::ROOT);
                }
            }
        }
        None
    }
}

impl<'a> Walk<'a> {
    /// The next path and inode. (Not an `Iterator`: the path is lent.)
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Option<(&[u8], Ino)> {
        loop {
            let level = self.stack.last_mut()?;
            let Some(DirEntry { name, ino }) = level.left.pop() else {
                self.stack.pop();
                continue;
            };
            self.path.truncate(level.path_bytes);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            if self.tree.kind(ino) == FileKind::Directory {
                self.enter(ino);
            }
            return Some((&self.path, ino));
        }
    }

    fn enter(&mut self, dir: Ino) {
        let mut left: Vec<DirEntry<'a>> = match self.order {
            Order::Name => self.tree.children_by_name(dir).collect(),
            Order::Data => self.tree.children(dir, 0).collect(),
        };
        left.reverse();
        self.stack.push(Level { left, path_bytes: self.path.len() });
    }
}
