//! Directories: names in the order of their bytes, cut into blocks.
//!
//! A block begins with rows of 12 bytes, behind which stand the names in the same order. `.` and `..`
//! are names like all others. Format: `struct erofs_dirent`.

use super::format::BLOCK_BYTES;
use crate::tree::{DirEntry, FileKind, Ino, Tree};

const ROW_BYTES: usize = 12;

pub(super) type Name<'a> = DirEntry<'a>;

/// How a directory is cut.
pub(super) struct Blocks<'a> {
    tree: &'a Tree,
    dir: Ino,
    count: usize,
    last_bytes: usize,
}

impl<'a> Blocks<'a> {
    /// Of something that is a directory.
    pub(super) fn of(tree: &'a Tree, dir: Ino) -> Blocks<'a> {
        let (mut count, mut last_bytes) = (1, 0);
        for name in names(tree, dir) {
            let bytes = ROW_BYTES + name.name.len();
            if last_bytes + bytes > BLOCK_BYTES as usize {
                count += 1;
                last_bytes = 0;
            }
            last_bytes += bytes;
        }
        Blocks { tree, dir, count, last_bytes }
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How much of the last one is used.
    pub(super) fn last_bytes(&self) -> u64 {
        self.last_bytes as u64
    }

    /// The size of the directory.
    pub(super) fn bytes(&self) -> u64 {
        (self.count as u64 - 1) * BLOCK_BYTES + self.last_bytes as u64
    }

    /// The names in each block.
    pub(super) fn iter(&self) -> impl Iterator<Item = Vec<Name<'a>>> + use<'a> {
        let mut names = names(self.tree, self.dir).peekable();
        std::iter::from_fn(move || {
            let (mut block, mut bytes) = (Vec::new(), 0);
            let fits = |name: &Name<'_>, bytes: usize| {
                bytes + ROW_BYTES + name.name.len() <= BLOCK_BYTES as usize
            };
            while let Some(name) = names.next_if(|name| fits(name, bytes)) {
                bytes += ROW_BYTES + name.name.len();
                block.push(name);
            }
            (!block.is_empty()).then_some(block)
        })
    }
}

/// The names of a directory with `.` and `..`, in the order of their bytes.
fn names(tree: &Tree, dir: Ino) -> impl Iterator<Item = Name<'_>> {
    let parent = tree.parent(dir).unwrap_or(dir);
    let dots = [Name { name: b".", ino: dir }, Name { name: b"..", ino: parent }];
    let mut dots = dots.into_iter().peekable();
    let mut others = tree.children_by_name(dir).peekable();
    std::iter::from_fn(move || match (dots.peek(), others.peek()) {
        (Some(dot), Some(other)) if other.name < dot.name => others.next(),
        (Some(_), _) => dots.next(),
        (None, _) => others.next(),
    })
}

/// Adds a block without what pads it. `look_up` says where the inode of a name is, and its kind.
pub(super) fn encode(
    names: &[Name<'_>],
    look_up: impl Fn(Ino) -> (u64, FileKind),
    out: &mut Vec<u8>,
) {
    let mut name_offset = names.len() * ROW_BYTES;
    for name in names {
        let (nid, kind) = look_up(name.ino);
        out.extend_from_slice(&nid.to_le_bytes());
        out.extend_from_slice(&(name_offset as u16).to_le_bytes());
        out.extend_from_slice(&[file_type(kind), 0]);
        name_offset += name.name.len();
    }
    names.iter().for_each(|name| out.extend_from_slice(name.name));
}

/// `FT_REG_FILE` and so on of include/linux/fs_types.h.
fn file_type(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::CharDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Symlink => 7,
    }
}
