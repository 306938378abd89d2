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

use crate::index::{DirId, Entry, EntryKind, LayerIndex};

/// What the entries of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// At this path or below it.
    Path(Vec<u8>),
    /// Of this name in any directory, or a hard link to such a name.
    Name(Vec<u8>),
}

/// The groups of several descriptions of a layer.
pub(super) fn groups(indexes: [&LayerIndex; 2]) -> BTreeSet<Group> {
    let mut groups = BTreeSet::new();
    for index in indexes {
        let mut told: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for entry in index.entries() {
            if entry.hidden {
                continue;
            }
            if let EntryKind::HardLink { name, .. } = entry.kind {
                groups.insert(Group::Name(name.to_vec()));
            }
            let path = index.path(entry.dir, entry.name);
            let is_directory = entry.kind == EntryKind::Directory;
            if told.insert(path.clone(), is_directory).is_some_and(|was| !was || !is_directory) {
                groups.insert(Group::Path(path));
            }
        }
        for id in 0..index.dir_count() {
            let path = dir_path(index, id as DirId);
            if told.get(&path) == Some(&false) {
                groups.insert(Group::Path(path));
            }
        }
    }
    groups
}

/// The entries of each group by their place in the table, in the order of the layer.
pub(super) fn members(index: &LayerIndex, groups: &BTreeSet<Group>) -> BTreeMap<Group, Vec<usize>> {
    let mut members: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
    if groups.is_empty() {
        return members;
    }
    let group_of = |path: Vec<u8>| Some(Group::Path(path)).filter(|group| groups.contains(group));
    // For each directory the outermost path of a group that it is at or below.
    let mut around: Vec<Option<DirId>> = Vec::with_capacity(index.dir_count());
    for id in 0..index.dir_count() {
        let id = id as DirId;
        let parent = index.dir(id).parent;
        let above = if parent < id { around[parent as usize] } else { None };
        around.push(above.or_else(|| group_of(dir_path(index, id)).map(|_| id)));
    }
    for (at, entry) in index.entries().enumerate() {
        let by_path = match around[entry.dir as usize] {
            _ if entry.hidden => None,
            Some(id) => Some(Group::Path(dir_path(index, id))),
            None => group_of(index.path(entry.dir, entry.name)),
        };
        let name = Some(Group::Name(entry.name.to_vec())).filter(|group| groups.contains(group));
        let target = match entry.kind {
            EntryKind::HardLink { name, .. } if name != entry.name => {
                Some(Group::Name(name.to_vec()))
            }
            _ => None,
        };
        for group in [by_path, name, target].into_iter().flatten() {
            members.entry(group).or_default().push(at);
        }
    }
    members
}

/// What an entry is told apart by within a group: its path, and that of its target.
pub(super) fn label(index: &LayerIndex, entry: &Entry<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    let target = match entry.kind {
        EntryKind::HardLink { dir, name } => Some(index.path(dir, name)),
        _ => None,
    };
    (index.path(entry.dir, entry.name), target)
}

fn dir_path(index: &LayerIndex, id: DirId) -> Vec<u8> {
    let dir = index.dir(id);
    index.path(dir.parent, dir.name)
}
