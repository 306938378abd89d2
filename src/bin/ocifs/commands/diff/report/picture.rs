//! The changes as nodes of a picture.

use std::cmp::Reverse;

use ocifs::image::FileChange;

use crate::commands::diff::files::{Files, Kind};
use crate::render::html::{Node, Tone};

/// What is smaller than this part of the whole is no node of its own.
const PARTS: u64 = 1000;

/// Names of directories that are told apart.
const DEEPEST: usize = 6;

/// The colour of directories.
const PLAIN: Tone = Tone::Group(7);

/// The root, with what is worth a part of a picture below it.
pub(super) fn node(files: &Files<'_>, bytes_of: impl Fn(&FileChange) -> u64) -> Node {
    let changes = &files.diff.changes;
    let all = changes.iter().map(&bytes_of).fold(0, u64::saturating_add);
    let least = (all / PARTS).max(1);
    let mut open = vec![directory(b"")];
    for change in changes {
        let bytes = bytes_of(change);
        if bytes == 0 {
            continue;
        }
        let above: Vec<usize> = change
            .path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at)
            .take(DEEPEST)
            .collect();
        let is_above = |node: &Node| {
            let path = &node.path[1..];
            path.is_empty() || change.path.starts_with(path)
        };
        while open.last().is_some_and(|node| !is_above(node)) {
            close(&mut open, least);
        }
        for end in above.iter().skip(open.len() - 1) {
            open.push(directory(&change.path[..=*end]));
        }
        let Some(last) = open.last_mut() else { continue };
        last.bytes = last.bytes.saturating_add(bytes);
        if bytes >= least {
            let begin = above.last().map_or(0, |end| end + 1);
            let label = change.path[begin..].to_vec();
            let path = [b"/", &change.path[..]].concat();
            last.children.push(Node {
                label,
                path,
                bytes,
                tone: tone(change),
                is_wasted: false,
                children: Vec::new(),
            });
        }
    }
    while open.len() > 1 {
        close(&mut open, least);
    }
    let mut root = open.swap_remove(0);
    sort(&mut root);
    root
}

fn directory(path: &[u8]) -> Node {
    let name = path.strip_suffix(b"/").unwrap_or(path).rsplit(|byte| *byte == b'/').next();
    let label = [name.unwrap_or_default(), b"/"].concat();
    Node {
        label,
        path: [b"/", path].concat(),
        bytes: 0,
        tone: PLAIN,
        is_wasted: false,
        children: Vec::new(),
    }
}

/// The last directory that was opened is whole.
fn close(open: &mut Vec<Node>, least: u64) {
    let Some(mut node) = open.pop() else { return };
    let Some(above) = open.last_mut() else { return };
    above.bytes = above.bytes.saturating_add(node.bytes);
    if node.bytes >= least {
        sort(&mut node);
        above.children.push(node.joined());
    }
}

fn sort(node: &mut Node) {
    node.children.sort_by_key(|child| Reverse(child.bytes));
}

/// The colour of a change.
fn tone(change: &FileChange) -> Tone {
    match Kind::of(change) {
        Kind::Added => Tone::Added,
        Kind::Removed => Tone::Removed,
        Kind::Renamed | Kind::Changed | Kind::Attributes => Tone::Changed,
    }
}
