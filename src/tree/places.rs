//! Two trees as one, a directory at a time: what stands at each name now, and what stood there before.
//!
//! # Problem
//!
//! A user who looks at what a layer changed, or at what differs between two images, opens a few of the directories
//! of a tree that may have a million names. Building or comparing whole trees for that takes seconds, and again for
//! each layer.
//!
//! # Design
//!
//! A [`Place`] is a name with what is there and what was there before. [`Places`] lists those of one directory,
//! and tells what is known of one. There are two: [`AsOf`], the tree as of a layer beside the tree below that layer, out
//! of the one table of a [`Provenance`](super::Provenance); and [`SideBySide`], the trees of two images. What
//! passes over everything (sums, searches, filters) does it with [`PlaceWalk`], which can be stopped at
//! each step.
//!
//! # Invariants
//!
//! - A name that both sides have is one place, whatever kinds of file they are.
//! - A place is good for the [`Places`] that gave it, and for no other.

mod as_of;
mod side_by_side;
mod walk;

pub use as_of::AsOf;
pub use side_by_side::SideBySide;
pub use walk::PlaceWalk;

use super::inode::{FileKind, NONE};
use super::provenance::Change;

/// A name in two trees: what is there now, and what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// A row of the newer side, or `NONE`.
    now: u32,
    /// A row of the older side, or `NONE`.
    before: u32,
}

impl Place {
    /// The root of both.
    const ROOT: Place = Place { now: 0, before: 0 };

    fn now(self) -> Option<u32> {
        (self.now != NONE).then_some(self.now)
    }

    fn before(self) -> Option<u32> {
        (self.before != NONE).then_some(self.before)
    }

    /// Whether something is there now.
    pub fn is_there(self) -> bool {
        self.now != NONE
    }

    /// Whether something was there before.
    pub fn was_there(self) -> bool {
        self.before != NONE
    }
}

/// What is known of a place: of what is there now, or where nothing is, of what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Kind of file.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file, or of a symlink's target; 0 for anything else.
    pub size: u64,
    /// Modification time, in seconds since the epoch.
    pub mtime_seconds: i64,
    /// What became of it.
    pub change: Option<Change>,
    /// The same for two names of one file: a number of its layer or image, and one of it there.
    pub file: (u32, u32),
}

/// Two trees side by side.
pub trait Places: Send + Sync {
    /// The root directory.
    fn root(&self) -> Place;

    /// What is in a directory of either side, in byte order of the names.
    fn children(&self, dir: Place) -> Vec<Place>;

    /// A number that the names in a directory are at most, which costs nothing to know.
    fn most_names(&self, dir: Place) -> usize;

    /// The last component of its path; empty for the root.
    fn name(&self, place: Place) -> &[u8];

    /// What is known of it.
    fn facts(&self, place: Place) -> Facts;

    /// What a symlink holds.
    fn target(&self, place: Place) -> Option<&[u8]>;

    /// Whether either side has a directory there.
    fn is_directory(&self, place: Place) -> bool;

    /// The place at a path from the root, component by component. No symlink is followed.
    fn find(&self, path: &[u8]) -> Option<Place> {
        let names = super::plain_names(path);
        names.iter().try_fold(self.root(), |dir, name| self.child(dir, name))
    }

    /// The place of a name in a directory of either side.
    fn child(&self, dir: Place, name: &[u8]) -> Option<Place>;
}

/// Puts rows of two directories together, both in the order of their names.
fn paired<'a>(now: Vec<u32>, before: Vec<u32>, name: [&dyn Fn(u32) -> &'a [u8]; 2]) -> Vec<Place> {
    let mut places = Vec::with_capacity(now.len().max(before.len()));
    let (mut now, mut before) = (now.into_iter().peekable(), before.into_iter().peekable());
    loop {
        let order = match (now.peek(), before.peek()) {
            (Some(is), Some(was)) => name[0](*is).cmp(name[1](*was)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return places,
        };
        places.push(Place {
            now: if order.is_le() { now.next().unwrap_or(NONE) } else { NONE },
            before: if order.is_ge() { before.next().unwrap_or(NONE) } else { NONE },
        });
    }
}
