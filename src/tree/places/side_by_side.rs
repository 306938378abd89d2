//! The trees of two images.
//!
//! Which files differ is the caller's to say, who knows their digests: comparing two trees is one pass, and
//! looking at the result is many.

use std::collections::HashSet;

use super::{Facts, Place, Places, paired};
use crate::tree::inode::{FileKind, Ino, NONE};
use crate::tree::provenance::Change;
use crate::tree::table::Tree;

/// Two trees, and which files differ that both have. Rows of a place are positions in the tables of names, and one more:
/// 0 is the root, which no name stands for.
#[derive(Debug)]
pub struct SideBySide<'a> {
    old: &'a Tree,
    new: &'a Tree,
    differing: &'a HashSet<(Ino, Ino)>,
}

impl<'a> SideBySide<'a> {
    /// `differing` are the files that differ and have the same path, by their inodes in the old and the new tree.
    pub fn new(old: &'a Tree, new: &'a Tree, differing: &'a HashSet<(Ino, Ino)>) -> SideBySide<'a> {
        SideBySide { old, new, differing }
    }

    /// What the old tree has there.
    pub fn old_ino(&self, place: Place) -> Option<Ino> {
        place.before().map(|row| ino(self.old, row))
    }

    /// What the new tree has there.
    pub fn new_ino(&self, place: Place) -> Option<Ino> {
        place.now().map(|row| ino(self.new, row))
    }

    /// The tree to tell of, and the row in it.
    fn told(&self, place: Place) -> (&'a Tree, u32) {
        match place.now() {
            Some(row) => (self.new, row),
            None => (self.old, place.before),
        }
    }
}

fn ino(tree: &Tree, row: u32) -> Ino {
    row.checked_sub(1).map_or(Ino::ROOT, |at| Ino(tree.dirents[at as usize].ino))
}

/// The rows of a directory, by name.
fn rows(tree: &Tree, row: Option<u32>) -> Vec<u32> {
    let dir = row.map(|row| ino(tree, row));
    dir.map_or_else(Vec::new, |dir| tree.names_of(dir).iter().map(|at| at + 1).collect())
}

fn name(tree: &Tree, row: u32) -> &[u8] {
    match row.checked_sub(1) {
        Some(at) => tree.dir_entry(&tree.dirents[at as usize]).name,
        None => b"",
    }
}

/// The row of a name in a directory.
fn child(tree: &Tree, row: Option<u32>, wanted: &[u8]) -> u32 {
    let Some(dir) = row.map(|row| ino(tree, row)) else { return NONE };
    let names = tree.names_of(dir);
    let at =
        names.binary_search_by(|at| tree.dir_entry(&tree.dirents[*at as usize]).name.cmp(wanted));
    at.map_or(NONE, |at| names[at] + 1)
}

impl Places for SideBySide<'_> {
    fn root(&self) -> Place {
        Place::ROOT
    }

    fn children(&self, dir: Place) -> Vec<Place> {
        let (now, before) = (rows(self.new, dir.now()), rows(self.old, dir.before()));
        paired(now, before, [&|row| name(self.new, row), &|row| name(self.old, row)])
    }

    fn most_names(&self, dir: Place) -> usize {
        let now = self.new_ino(dir).map_or(0, |dir| self.new.child_count(dir));
        now + self.old_ino(dir).map_or(0, |dir| self.old.child_count(dir))
    }

    fn child(&self, dir: Place, name: &[u8]) -> Option<Place> {
        let (now, before) = (child(self.new, dir.now(), name), child(self.old, dir.before(), name));
        (now != NONE || before != NONE).then_some(Place { now, before })
    }

    fn name(&self, place: Place) -> &[u8] {
        let (tree, row) = self.told(place);
        name(tree, row)
    }

    fn facts(&self, place: Place) -> Facts {
        let (tree, row) = self.told(place);
        let a = tree.attributes(ino(tree, row));
        let change = match (self.old_ino(place), self.new_ino(place)) {
            (_, None) => Some(Change::Removed),
            (None, _) => Some(Change::Added),
            (Some(old), Some(new)) => {
                self.differing.contains(&(old, new)).then_some(Change::Changed)
            }
        };
        Facts {
            kind: a.kind,
            mode: a.mode,
            uid: a.uid,
            gid: a.gid,
            size: match a.kind {
                FileKind::Regular | FileKind::Symlink => a.size,
                _ => 0,
            },
            mtime_seconds: a.mtime_seconds,
            change,
            file: (u32::from(place.now == NONE), a.ino.0),
        }
    }

    fn target(&self, place: Place) -> Option<&[u8]> {
        let (tree, row) = self.told(place);
        tree.symlink(ino(tree, row))
    }

    fn is_directory(&self, place: Place) -> bool {
        let is_dir = |tree: &Tree, ino: Option<Ino>| {
            ino.is_some_and(|ino| tree.kind(ino) == FileKind::Directory)
        };
        is_dir(self.new, self.new_ino(place)) || is_dir(self.old, self.old_ino(place))
    }
}
