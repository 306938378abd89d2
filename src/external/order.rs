//! Where the order of entries decides what is shown.
//!
//! What a path means in the end is nearly always said by its last entry. But a hard link shows what
//! its target is *where the link stands*, which a later entry may replace, and which may be hidden; and
//! whatever replaces a directory takes what is in it along. So entries are grouped by what they have
//! to do with each other: those of a path that is told more than once, or that is something else than
//! a directory and has entries below it, with all below it; and hard links with all entries that have
//! the last name of their target, as the directories before it may be symlinks. Two descriptions of a
//! layer agree if each of these groups has the same order in both. The order of anything else means
//! nothing.
//!
//! Of nested paths the outermost makes the group, so that an entry is in three at most. Hidden files
//! replace nothing: they count as targets of hard links alone.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::index::{DirId, Entry, EntryKind, LayerIndex, ROOT_DIR};

/// A path: the number of its directory, which both descriptions have in common, and its name.
pub(super) type Key<'a> = (DirId, &'a [u8]);

/// What an entry is told apart by within a group: its path, and that of its target.
pub(super) type Label<'a> = (Key<'a>, Option<Key<'a>>);

/// Numbers for the directories of two descriptions: the same path has the same one.
pub(super) fn shared_dirs(indexes: [&LayerIndex; 2]) -> [Vec<DirId>; 2] {
    let mut numbers: HashMap<Key<'_>, DirId> = HashMap::new();
    indexes.map(|index| {
        let mut dirs = vec![ROOT_DIR];
        for id in 1..index.dir_count() {
            let dir = index.dir(id as DirId);
            // Those above stand before it.
            let next = numbers.len() as DirId + 1;
            dirs.push(*numbers.entry((dirs[dir.parent as usize], dir.name)).or_insert(next));
        }
        dirs
    })
}

/// One of two descriptions of a layer.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) index: &'a LayerIndex,
    /// Of [`shared_dirs`].
    dirs: &'a [DirId],
}

impl<'a> Side<'a> {
    pub(super) fn of(indexes: [&'a LayerIndex; 2], dirs: &'a [Vec<DirId>; 2]) -> [Side<'a>; 2] {
        [0, 1].map(|at| Side { index: indexes[at], dirs: &dirs[at] })
    }

    pub(super) fn key(self, dir: DirId, name: &'a [u8]) -> Key<'a> {
        (self.dirs[dir as usize], name)
    }

    fn key_of_dir(self, id: DirId) -> Key<'a> {
        let dir = self.index.dir(id);
        self.key(dir.parent, dir.name)
    }

    pub(super) fn label(self, entry: &Entry<'a>) -> Label<'a> {
        let target = match entry.kind {
            EntryKind::HardLink { dir, name } => Some(self.key(dir, name)),
            _ => None,
        };
        (self.key(entry.dir, entry.name), target)
    }
}

/// What the entries of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group<'a> {
    /// At this path or below it.
    Path(Key<'a>),
    /// Of this name in any directory, or a hard link to such a name.
    Name(&'a [u8]),
}

/// The groups of several descriptions of a layer.
pub(super) fn groups(sides: [Side<'_>; 2]) -> BTreeSet<Group<'_>> {
    let mut groups = BTreeSet::new();
    for side in sides {
        let mut told: HashMap<Key<'_>, bool> = HashMap::new();
        for entry in side.index.entries() {
            if entry.hidden {
                continue;
            }
            if let EntryKind::HardLink { name, .. } = entry.kind {
                groups.insert(Group::Name(name));
            }
            let path = side.key(entry.dir, entry.name);
            let is_directory = entry.kind == EntryKind::Directory;
            if told.insert(path, is_directory).is_some_and(|was| !was || !is_directory) {
                groups.insert(Group::Path(path));
            }
        }
        for id in 0..side.index.dir_count() {
            let path = side.key_of_dir(id as DirId);
            if told.get(&path) == Some(&false) {
                groups.insert(Group::Path(path));
            }
        }
    }
    groups
}

/// The entries of each group by their place in the table, in the order of the layer.
pub(super) fn members<'a>(
    side: Side<'a>,
    groups: &BTreeSet<Group<'a>>,
) -> BTreeMap<Group<'a>, Vec<usize>> {
    let mut members: BTreeMap<Group<'a>, Vec<usize>> = BTreeMap::new();
    if groups.is_empty() {
        return members;
    }
    let index = side.index;
    let is_group = |group: &Group<'a>| groups.contains(group);
    // For each directory the outermost path of a group that it is at or below.
    let mut around: Vec<Option<Group<'a>>> = Vec::with_capacity(index.dir_count());
    for id in 0..index.dir_count() {
        let id = id as DirId;
        let parent = index.dir(id).parent;
        let above = if parent < id { around[parent as usize] } else { None };
        around.push(above.or_else(|| Some(Group::Path(side.key_of_dir(id))).filter(is_group)));
    }
    for (at, entry) in index.entries().enumerate() {
        let by_path = match around[entry.dir as usize] {
            _ if entry.hidden => None,
            Some(group) => Some(group),
            None => Some(Group::Path(side.key(entry.dir, entry.name))).filter(is_group),
        };
        let name = Some(Group::Name(entry.name)).filter(is_group);
        let target = match entry.kind {
            EntryKind::HardLink { name, .. } if name != entry.name => Some(Group::Name(name)),
            _ => None,
        };
        for group in [by_path, name, target].into_iter().flatten() {
            members.entry(group).or_default().push(at);
        }
    }
    members
}
