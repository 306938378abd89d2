//! What a merge can be watched for: which name took the place of which, what removed it, which directories were
//! described anew.
//!
//! The linked structure of a merge keeps the nodes that were removed, so a witness only notes what that does not
//! say. A merge without one does and keeps nothing more than it would otherwise.

use super::inode::NONE;
use super::origins::Source;

/// Why a name is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A whiteout hides it, or a directory above it.
    Whiteout,
    /// An opaque mark hides all that was in a directory above it.
    OpaqueMark,
    /// An entry took its place, or that of a directory above it.
    Replaced,
}

/// A node that was removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) node: u32,
    pub(super) layer: u32,
    pub(super) cause: Cause,
}

/// A directory that a layer describes anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    pub(super) node: u32,
    /// What it was made from until then.
    pub(super) before: Source,
    pub(super) layer: u32,
}

/// Notes of one merge, in the order in which things happened.
#[derive(Debug)]
pub(super) struct Witness {
    /// By node: the lower node of the same path that its layer removed, or `NONE`.
    pub(super) previous: Vec<u32>,
    pub(super) removals: Vec<Removal>,
    pub(super) updates: Vec<Update>,
}

impl Witness {
    /// One that has seen the root.
    pub(super) fn new() -> Witness {
        Witness { previous: vec![NONE], removals: Vec::new(), updates: Vec::new() }
    }

    pub(super) fn previous(&self, node: u32) -> Option<u32> {
        Some(self.previous[node as usize]).filter(|previous| *previous != NONE)
    }

    /// Each node is placed once, in the order of their numbers.
    pub(super) fn placed(&mut self, node: u32, previous: Option<u32>) {
        debug_assert_eq!(node as usize, self.previous.len());
        self.previous.push(previous.unwrap_or(NONE));
    }

    pub(super) fn removed(&mut self, node: u32, layer: u32, cause: Cause) {
        self.removals.push(Removal { node, layer, cause });
    }

    pub(super) fn updated(&mut self, node: u32, before: Source, layer: u32) {
        self.updates.push(Update { node, before, layer });
    }
}
