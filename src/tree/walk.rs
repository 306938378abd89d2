//! Walking a tree without recursion: an image may nest directories deeper than any stack.

use super::{DirEntry, FileKind, Ino, Tree};

/// The order in which the names of a directory come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By name, for people.
    Name,
    /// By the place of the data in the layers, for reading everything.
    Data,
}

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
