//! Which directories and files take the room of an image, or of one of its layers: for pictures, which have no place
//! for a million files.
//!
//! Only what takes a thousandth of the whole is worth a part of a picture, down to a depth that can be told apart. So
//! the answer is bounded by the picture and not by the image: at each depth there are at most a thousand of these.

use super::layer_usage::stored;
use crate::index::LayerIndex;
use crate::tree::{FileKind, Ino, Tree, UsageCount, UsageRow};

/// What is smaller than this part of the whole is counted with the directory that has it.
const PARTS: u64 = 1000;

/// The depth of the deepest paths, where that of the root is 0.
const DEEPEST: usize = 6;

/// A file or directory that takes room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Its path, without a slash before it; empty for the root.
    pub path: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// What it takes, with all below it.
    pub bytes: u64,
    /// What of that the image does not show.
    pub hidden: u64,
    /// What of it is worth a part, the largest first.
    pub children: Vec<Room>,
}

impl Room {
    /// The last name of the path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Blocks that the files of a tree take, as [`UsageCount`] counts them.
pub fn room_of_tree(tree: &Tree) -> Room {
    let mut total = 0;
    walk(tree, &mut |row| total = row.usage.allocated);
    let least = least_of(total);
    // By depth: what was met there since the last directory above it.
    let mut found: Vec<Vec<Room>> = vec![Vec::new(); DEEPEST + 2];
    walk(tree, &mut |row| {
        let UsageRow { path, ino, depth, usage } = row;
        if depth > DEEPEST {
            return;
        }
        let mut children = std::mem::take(&mut found[depth + 1]);
        if usage.allocated < least {
            return;
        }
        sort(&mut children);
        let path = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        let is_directory = tree.kind(ino) == FileKind::Directory;
        found[depth].push(Room { path, is_directory, bytes: usage.allocated, hidden: 0, children });
    });
    found.swap_remove(0).pop().unwrap_or_default()
}

fn walk(tree: &Tree, tell: &mut dyn FnMut(UsageRow<'_>)) {
    let mut count = UsageCount::new(tree, false);
    let told: Result<_, std::convert::Infallible> = count.walk(Ino::ROOT, b"/", &mut |row| {
        tell(row);
        Ok(())
    });
    let Ok(_) = told;
}

/// Bytes of content in a layer's tar, and how many of them are of entries that the image does not show.
pub fn room_of_layer(index: &LayerIndex, is_hidden: &dyn Fn(usize) -> bool) -> Room {
    let count = index.dir_count();
    let (mut bytes, mut hidden) = (vec![0u64; count], vec![0u64; count]);
    let hidden_of = |at, bytes| if is_hidden(at) { bytes } else { 0 };
    for (at, entry) in index.entries().enumerate() {
        let (dir, own) = (entry.dir as usize, stored(index, entry.kind));
        bytes[dir] = bytes[dir].saturating_add(own);
        hidden[dir] = hidden[dir].saturating_add(hidden_of(at, own));
    }
    // Directories stand behind those that they are in.
    for dir in (1..count).rev() {
        let parent = index.dir(dir as u32).parent as usize;
        bytes[parent] = bytes[parent].saturating_add(bytes[dir]);
        hidden[parent] = hidden[parent].saturating_add(hidden[dir]);
    }
    let total = bytes.first().copied().unwrap_or(0);
    let least = least_of(total);
    let mut depths = vec![0usize; count];
    let mut parts: Vec<(usize, usize, Room)> = Vec::new();
    for dir in 1..count {
        let parent = index.dir(dir as u32).parent as usize;
        depths[dir] = depths[parent] + 1;
        if depths[dir] <= DEEPEST && bytes[dir] >= least {
            let path = index.path(parent as u32, index.dir(dir as u32).name);
            let (bytes, hidden) = (bytes[dir], hidden[dir]);
            let room = Room { path, is_directory: true, bytes, hidden, children: Vec::new() };
            parts.push((dir, parent, room));
        }
    }
    let mut children: Vec<Vec<Room>> = Vec::new();
    children.resize_with(count, Vec::new);
    for (at, entry) in index.entries().enumerate() {
        let (dir, bytes) = (entry.dir as usize, stored(index, entry.kind));
        if depths[dir] < DEEPEST && bytes >= least {
            let path = index.path(entry.dir, entry.name);
            let (is_directory, hidden) = (false, hidden_of(at, bytes));
            children[dir].push(Room { path, is_directory, bytes, hidden, children: Vec::new() });
        }
    }
    for (dir, parent, mut room) in parts.into_iter().rev() {
        room.children = std::mem::take(&mut children[dir]);
        sort(&mut room.children);
        children[parent].push(room);
    }
    let mut top = children.into_iter().next().unwrap_or_default();
    sort(&mut top);
    let hidden = hidden.first().copied().unwrap_or(0);
    Room { path: Vec::new(), is_directory: true, bytes: total, hidden, children: top }
}

fn least_of(total: u64) -> u64 {
    (total / PARTS).max(1)
}

fn sort(rooms: &mut [Room]) {
    rooms.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
}
