//! The names that are there, by directory: a table of nodes, which have the names themselves.
//!
//! A map with keys of its own would take 33 bytes for each of its places, of which up to half are free; this takes 5. A
//! name that is looked for is compared in its node, which is a look at memory that may be far; but nearly all names that are looked for are
//! new, and of those the table says so by itself.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::nodes::{Node, NodeId};

#[derive(Default)]
pub(super) struct Names {
    table: HashTable<NodeId>,
    hasher: DefaultHashBuilder,
}

impl Names {
    pub(super) fn with_capacity(capacity: usize) -> Names {
        Names { table: HashTable::with_capacity(capacity), hasher: DefaultHashBuilder::default() }
    }

    fn hash(&self, dir: NodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((dir, name))
    }

    /// The node of a name.
    pub(super) fn get(&self, nodes: &[Node<'_>], dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_it = |id: &NodeId| {
            let node = &nodes[*id as usize];
            node.parent == dir && node.name == name
        };
        self.table.find(self.hash(dir, name), is_it).copied()
    }

    /// Adds a node whose name is not there.
    pub(super) fn insert(&mut self, nodes: &[Node<'_>], id: NodeId) {
        let hash_of = |id: &NodeId| {
            let Node { parent, name, .. } = nodes[*id as usize];
            self.hasher.hash_one((parent, name))
        };
        self.table.insert_unique(hash_of(&id), id, hash_of);
    }

    /// Takes a node out, if it is there.
    pub(super) fn remove(&mut self, nodes: &[Node<'_>], id: NodeId) {
        let Node { parent, name, .. } = nodes[id as usize];
        if let Ok(entry) = self.table.find_entry(self.hash(parent, name), |other| *other == id) {
            entry.remove();
        }
    }
}
