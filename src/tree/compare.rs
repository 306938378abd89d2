//! The differences of two trees.
//!
//! Both are walked side by side, by name, and without recursion. Whether two regular files of the same size hold
//! the same is for the caller to say, who knows their digests; everything else stands in the trees.
//! Inode numbers, numbers of names and blocks are not compared: they tell how files are stored.
//!
//! Of a name that only one tree has, or that is a directory in one tree alone, everything below comes as well.

use std::cmp::Ordering;
use std::convert::Infallible;

use super::inode::{Attributes, DirEntry, FileKind, Ino};
use super::table::Tree;

/// A path in which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path, without a slash before it; empty for the root.
    pub path: Vec<u8>,
    /// What the first tree has there.
    pub old: Option<Ino>,
    /// What the second one has there.
    pub new: Option<Ino>,
    /// In what the two differ; nothing is set if only one tree has it.
    pub aspects: Aspects,
}

/// In what two files differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aspects {
    /// The kind of file. Nothing else is set then but mode, owner and time.
    pub kind: bool,
    /// The bytes of a regular file.
    pub content: bool,
    /// What a symlink holds.
    pub target: bool,
    /// The numbers of a device.
    pub device: bool,
    /// Permission bits.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Names or values of extended attributes.
    pub xattrs: bool,
    /// The time of modification.
    pub time: bool,
}

impl Aspects {
    /// Whether anything differs.
    pub fn any(self) -> bool {
        self != Aspects::default()
    }

    /// Whether anything but the time differs.
    pub fn any_but_time(self) -> bool {
        Aspects { time: false, ..self }.any()
    }
}

/// A directory on the way: what is still to come of it, in reverse.
struct Level {
    left: Vec<Pair>,
    path_bytes: usize,
}

/// A name, and what each tree has there.
struct Pair {
    name: Vec<u8>,
    old: Option<Ino>,
    new: Option<Ino>,
}

/// All paths in which two trees differ, each directory before what is in it. `same_content` is asked about regular
/// files of equal size.
///
/// # Errors
/// Those of `same_content`.
pub fn compare<E>(
    old: &Tree,
    new: &Tree,
    same_content: &mut dyn FnMut(Ino, Ino) -> Result<bool, E>,
) -> Result<Vec<Difference>, E> {
    let mut differences = Vec::new();
    let mut path = Vec::new();
    let root = Pair { name: Vec::new(), old: Some(Ino::ROOT), new: Some(Ino::ROOT) };
    let mut stack = vec![Level { left: vec![root], path_bytes: 0 }];
    while let Some(level) = stack.last_mut() {
        let Some(Pair { name, old: was, new: is }) = level.left.pop() else {
            stack.pop();
            continue;
        };
        path.truncate(level.path_bytes);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let aspects = match (was, is) {
            (Some(was), Some(is)) => Some(aspects(old, new, was, is, same_content)?),
            _ => None,
        };
        if aspects.is_none_or(Aspects::any) {
            let (path, aspects) = (path.clone(), aspects.unwrap_or_default());
            differences.push(Difference { path, old: was, new: is, aspects });
        }
        let left = pairs(children(old, was), children(new, is));
        if !left.is_empty() {
            stack.push(Level { left, path_bytes: path.len() });
        }
    }
    Ok(differences)
}

/// What is in a directory, by name; nothing in anything else.
fn children(tree: &Tree, ino: Option<Ino>) -> Vec<DirEntry<'_>> {
    let dir = ino.filter(|ino| tree.kind(*ino) == FileKind::Directory);
    dir.map_or_else(Vec::new, |dir| tree.children_by_name(dir).collect())
}

/// The names of two directories, last first.
fn pairs(old: Vec<DirEntry<'_>>, new: Vec<DirEntry<'_>>) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(old.len().max(new.len()));
    let (mut old, mut new) = (old.into_iter().rev().peekable(), new.into_iter().rev().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.name.cmp(new.name),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => return pairs,
        };
        let was = if order != Ordering::Less { old.next() } else { None };
        let is = if order != Ordering::Greater { new.next() } else { None };
        let name = was.or(is).map_or(Vec::new(), |entry| entry.name.to_vec());
        pairs.push(Pair { name, old: was.map(|e| e.ino), new: is.map(|e| e.ino) });
    }
}

/// In what a regular file differs that has moved and holds the same.
pub fn aspects_of_moved(old: &Tree, new: &Tree, was: Ino, is: Ino) -> Aspects {
    let same = |_, _| Ok::<_, Infallible>(true);
    aspects(old, new, was, is, &mut { same }).unwrap_or_else(|never| match never {})
}

pub(super) fn aspects<E>(
    old: &Tree,
    new: &Tree,
    was: Ino,
    is: Ino,
    same_content: &mut dyn FnMut(Ino, Ino) -> Result<bool, E>,
) -> Result<Aspects, E> {
    let (a, b): (Attributes, Attributes) = (old.attributes(was), new.attributes(is));
    let time = |a: &Attributes| (a.mtime_seconds, a.mtime_nanoseconds);
    let mut aspects = Aspects {
        kind: a.kind != b.kind,
        mode: a.mode != b.mode,
        owner: (a.uid, a.gid) != (b.uid, b.gid),
        time: time(&a) != time(&b),
        ..Aspects::default()
    };
    if aspects.kind {
        return Ok(aspects);
    }
    aspects.target = old.symlink(was) != new.symlink(is);
    aspects.device = a.device != b.device;
    aspects.xattrs = xattrs(old, was) != xattrs(new, is);
    if a.kind == FileKind::Regular {
        aspects.content = a.size != b.size || !same_content(was, is)?;
    }
    Ok(aspects)
}

/// The extended attributes of an inode, by name.
fn xattrs(tree: &Tree, ino: Ino) -> Vec<(&[u8], &[u8])> {
    let mut xattrs: Vec<_> = tree.xattrs(ino).collect();
    xattrs.sort_unstable();
    xattrs
}
