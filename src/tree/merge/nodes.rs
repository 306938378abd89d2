//! The linked structure that layers are applied to.

use hashbrown::HashMap;

use super::names::Names;
use crate::extent::UncompressedOffset;
use crate::index::{Drawn, Entry, EntryKind, LayerIndex, MAX_PATH_BYTES, Runs};
use crate::tree::error::{Error, MAX_NODES, MAX_STEPS};
use crate::tree::inode::NONE;
use crate::tree::origins::{MARK, Source};
use crate::tree::witness::{Cause, Witness};

/// What a whiteout is where it is shown.
const EMPTY_FILE: EntryKind<'_> =
    EntryKind::File { size: 0, runs: Runs::Whole(UncompressedOffset(0)) };

/// Names that room is made for at once.
const MAX_EXPECTED: usize = 1 << 20;

pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;

/// A name in the tree.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) parent: NodeId,
    pub(super) name: &'a [u8],
    /// Row of `Merge::inodes`; hard links share one.
    pub(super) inode: u32,
    /// The layer that made this node.
    pub(super) layer: u32,
    pub(super) first_child: NodeId,
    pub(super) next: NodeId,
    pub(super) previous: NodeId,
    /// Length of the path to it from the root.
    pub(super) path_bytes: u32,
    pub(super) alive: bool,
}

pub(super) struct Merge<'a> {
    pub(super) layers: &'a [&'a LayerIndex],
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) inodes: Vec<Source>,
    pub(super) names: Names,
    /// Lower nodes that the layer being merged has removed, for its hard links.
    pub(super) ghosts: HashMap<(NodeId, &'a [u8]), NodeId>,
    pub(super) steps_left: u64,
    /// Counts directories and symlinks that came or went.
    pub(super) turns: u32,
    pub(super) layer: u32,
    /// For nodes that the layers have not drawn for.
    pub(super) drawn: Drawn,
    /// Sees what comes and goes, if the caller wants to know.
    pub(super) witness: Option<Witness>,
    /// Whether there are layers that are not merged, to whose files hard links may lead.
    pub(super) is_partial: bool,
}

impl<'a> Merge<'a> {
    pub(super) fn new(layers: &'a [&'a LayerIndex], drawn: Drawn) -> Merge<'a> {
        // Growing step by step costs a tenth of opening a cached image.
        let entries: usize = layers.iter().map(|layer| layer.entries().len()).sum();
        let expected = entries.min(MAX_EXPECTED);
        let mut inodes = Vec::with_capacity(expected + 1);
        inodes.push(Source { layer: 0, entry: NONE });
        let mut merge = Merge {
            layers,
            nodes: Vec::with_capacity(expected + 1),
            inodes,
            names: Names::with_capacity(expected),
            ghosts: HashMap::new(),
            steps_left: MAX_STEPS,
            turns: 0,
            layer: 0,
            drawn,
            witness: None,
            is_partial: false,
        };
        merge.nodes.push(Node {
            parent: ROOT,
            name: b"",
            inode: 0,
            layer: 0,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            path_bytes: 0,
            alive: true,
        });
        merge
    }

    /// The entry that an inode is made from.
    pub(super) fn origin(&self, inode: u32) -> Option<Entry<'a>> {
        let Source { layer, entry } = self.inodes[inode as usize];
        (entry < MARK).then(|| self.layers[layer as usize].entry_at(entry as usize))
    }

    pub(super) fn kind(&self, inode: u32) -> EntryKind<'a> {
        match self.inodes[inode as usize].entry {
            MARK => EMPTY_FILE,
            _ => self.origin(inode).map_or(EntryKind::Directory, |entry| entry.kind),
        }
    }

    /// The child of that name now, or as it was below this layer.
    pub(super) fn child(&self, dir: NodeId, name: &[u8], before: bool) -> Option<NodeId> {
        let now = self.names.get((dir, name), named(&self.nodes));
        if !before {
            return now;
        }
        let lower = |node: &NodeId| self.node(*node).layer < self.layer;
        self.ghosts.get(&(dir, name)).copied().or(now.filter(lower))
    }

    pub(super) fn implied(&mut self, parent: NodeId, name: &'a [u8]) -> Result<NodeId, Error> {
        let inode = self.inode(Source { layer: self.layer, entry: NONE })?;
        self.insert(parent, name, inode)
    }

    pub(super) fn inode(&mut self, source: Source) -> Result<u32, Error> {
        if self.inodes.len() >= MAX_NODES {
            return Err(Error::TooLarge);
        }
        self.inodes.push(source);
        Ok(self.inodes.len() as u32 - 1)
    }

    pub(super) fn insert(
        &mut self,
        parent: NodeId,
        name: &'a [u8],
        inode: u32,
    ) -> Result<NodeId, Error> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::TooLarge);
        }
        self.note_turn(inode);
        let id = self.nodes.len() as NodeId;
        let path_bytes = self.node(parent).path_bytes + name.len() as u32 + 1;
        if path_bytes as usize > MAX_PATH_BYTES {
            return Err(Error::PathTooLong { layer: self.layer as usize, path: lossy(name) });
        }
        let next = self.node(parent).first_child;
        self.nodes.push(Node {
            parent,
            name,
            inode,
            layer: self.layer,
            first_child: NONE,
            next,
            previous: NONE,
            path_bytes,
            alive: true,
        });
        if next != NONE {
            self.node_mut(next).previous = id;
        }
        self.node_mut(parent).first_child = id;
        self.names.insert(id, named(&self.nodes));
        if let Some(witness) = &mut self.witness {
            // A directory that this layer has put in place of another one continues it, name by name.
            let lower = [Some(parent), witness.previous(parent)];
            let mut lower = lower.into_iter().flatten();
            let previous = lower.find_map(|dir| self.ghosts.get(&(dir, name)).copied());
            witness.placed(id, previous);
        }
        Ok(id)
    }

    /// Counts something that comes or goes, if paths can lead through it.
    pub(super) fn note_turn(&mut self, inode: u32) {
        if matches!(self.kind(inode), EntryKind::Directory | EntryKind::Symlink(_)) {
            self.turns += 1;
        }
    }

    /// Takes a node and all below it out of the tree.
    pub(super) fn remove(&mut self, node: NodeId, cause: Cause) {
        let Node { parent, next, previous, inode, .. } = *self.node(node);
        self.note_turn(inode);
        match previous {
            NONE => self.node_mut(parent).first_child = next,
            previous => self.node_mut(previous).next = next,
        }
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        let mut todo = vec![node];
        while let Some(id) = todo.pop() {
            let Node { parent, name, layer, first_child, .. } = *self.node(id);
            self.node_mut(id).alive = false;
            self.names.remove(id, (parent, name));
            if let Some(witness) = &mut self.witness {
                witness.removed(id, self.layer, cause);
            }
            if layer < self.layer {
                self.ghosts.insert((parent, name), id);
            }
            let mut child = first_child;
            while child != NONE {
                todo.push(child);
                child = self.node(child).next;
            }
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node<'a> {
        &mut self.nodes[id as usize]
    }

    pub(super) fn node_path(&self, node: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            names.push(lossy(self.node(at).name));
            at = self.node(at).parent;
        }
        names.reverse();
        names.join("/")
    }
}

/// Tells the directories and the names of nodes.
fn named<'n, 'a>(nodes: &'n [Node<'a>]) -> impl Fn(NodeId) -> (NodeId, &'a [u8]) + use<'n, 'a> {
    |id| {
        let Node { parent, name, .. } = nodes[id as usize];
        (parent, name)
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
