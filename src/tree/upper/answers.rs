//! Whether facts answer a question.

use super::facts::{NodeId, ROOT, Upper, What};
use crate::index::EntryKind;
use crate::tree::origins::Source;
use crate::tree::path::{MAX_LINKS, Symlinks};

/// What is asked about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The path, with or without a slash before it.
    pub path: Vec<u8>,
    /// Whether a symlink in its last component is followed.
    pub last: Symlinks,
    /// What is wanted of it.
    pub want: Want,
}

/// What is wanted of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The bytes of a file.
    Content,
    /// That it exists, and of a directory all names below it.
    Names,
    /// The same with attributes.
    Attributes,
}

/// Where a path leads.
enum Answer {
    Is(NodeId),
    /// To an error.
    Nowhere,
    Unknown,
}

impl Upper<'_> {
    pub(super) fn decides(&self, question: &Question) -> bool {
        let node = match self.resolve(question) {
            Answer::Unknown => return false,
            Answer::Nowhere => return true,
            Answer::Is(node) => self.node(node),
        };
        match (question.want, node.what) {
            (Want::Content, _) | (Want::Names, What::Leaf) => true,
            (Want::Names, What::Directory { whole }) => {
                !self.has_unknown_links && whole.is_some_and(|since| self.last_stray < since)
            }
            // The number of links counts names anywhere.
            (Want::Attributes, What::Leaf) => !self.has_unknown_links && self.last_stray == 0,
            (Want::Attributes, What::Directory { whole }) => {
                !self.has_unknown_links && self.last_stray == 0 && whole.is_some()
            }
            (_, What::Absent | What::Veil | What::Marked { .. }) => false,
        }
    }

    /// As [`Tree::resolve`](crate::tree::Tree::resolve), as far as facts lead.
    fn resolve(&self, question: &Question) -> Answer {
        let path = &question.path[..];
        let mut todo: Vec<&[u8]> = path.split(|b| *b == b'/').rev().collect();
        let must_be_dir = path.ends_with(b"/");
        let mut at = ROOT;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if matches!(name, b"" | b".") {
                continue;
            }
            if self.node(at).what == What::Leaf {
                return Answer::Nowhere;
            }
            if name == b".." {
                at = self.node(at).parent;
                continue;
            }
            let found = self.child(at, name);
            let child = match found.map(|found| (found, self.node(found).what)) {
                Some((_, What::Absent)) => return Answer::Nowhere,
                Some((child, What::Leaf | What::Directory { .. })) => child,
                None if self.is_missing(at, name) => return Answer::Nowhere,
                Some((child, What::Veil)) if !must_be_dir => return self.behind_veil(child, todo),
                _ => return Answer::Unknown,
            };
            let is_last = todo.iter().all(|rest| rest.is_empty());
            match self.kind(self.node(child).inode) {
                None => return Answer::Unknown,
                Some(EntryKind::Symlink(target))
                    if !is_last || must_be_dir || question.last == Symlinks::Follow =>
                {
                    links += 1;
                    if links > MAX_LINKS {
                        return Answer::Nowhere;
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    todo.extend(target.split(|b| *b == b'/').rev());
                }
                Some(_) => at = child,
            }
        }
        match must_be_dir && self.node(at).what == What::Leaf {
            true => Answer::Nowhere,
            false => Answer::Is(at),
        }
    }

    /// The exception: a regular file of the topmost layer, by the path that its entry has.
    fn behind_veil(&self, veil: NodeId, todo: Vec<&[u8]>) -> Answer {
        let mut at = veil;
        for name in todo.into_iter().rev().filter(|name| !matches!(*name, b"" | b".")) {
            let is_directory = matches!(self.node(at).what, What::Veil | What::Directory { .. });
            match self.names.get(&(at, name)) {
                Some(child) if is_directory && name != b".." => at = *child,
                _ => return Answer::Unknown,
            }
        }
        let node = self.node(at);
        let top = self.layers.len() - 1;
        let Some(Source { layer, entry }) = self.inodes.get(node.inode as usize).copied() else {
            return Answer::Unknown;
        };
        let is_file = matches!(self.kind(node.inode), Some(EntryKind::File { .. }));
        if !is_file
            || layer as usize != top
            || node.layer as usize != top
            || self.last_turn > node.since
        {
            return Answer::Unknown;
        }
        let mut later = self.layers[top].entries().skip(entry as usize + 1);
        match later.any(|later| later.name == node.name) {
            true => Answer::Unknown,
            false => Answer::Is(at),
        }
    }
}
