//! The names that are there, by directory: a table of nodes, which have the names themselves.
//!
//! A map with keys of its own would take 33 bytes for each of its places, of which up to half are free; this takes 5. A
//! name that is looked for is compared in its node, which is a look at memory that may be far; but nearly all names that are looked for are
//! new, and of those the table says so by itself.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Numbers of nodes. Each is found again by what a caller says that it is: a directory, and a name.
#[derive(Default)]
pub(super) struct Names {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    pub(super) fn with_capacity(capacity: usize) -> Names {
        Names { table: HashTable::with_capacity(capacity), hasher: DefaultHashBuilder::default() }
    }

    /// The node of a name.
    pub(super) fn get<'n>(
        &self,
        wanted: (u32, &[u8]),
        name_of: impl Fn(u32) -> (u32, &'n [u8]),
    ) -> Option<u32> {
        let hash = self.hasher.hash_one(wanted);
        self.table.find(hash, |id| name_of(*id) == wanted).copied()
    }

    /// Adds a node whose name is not there.
    pub(super) fn insert<'n>(&mut self, id: u32, name_of: impl Fn(u32) -> (u32, &'n [u8])) {
        let hash_of = |id: &u32| self.hasher.hash_one(name_of(*id));
        self.table.insert_unique(hash_of(&id), id, hash_of);
    }

    /// Takes a node out, if it is there.
    pub(super) fn remove(&mut self, id: u32, name: (u32, &[u8])) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_by_their_names() {
        let texts: Vec<(u32, Vec<u8>)> =
            (0..1000).map(|at| (at % 7, (at / 7).to_string().into_bytes())).collect();
        let name_of = |id: u32| {
            let (dir, name) = &texts[id as usize];
            (*dir, &name[..])
        };
        let mut names = Names::with_capacity(3);
        (0..1000).for_each(|id| names.insert(id, name_of));
        assert!((0..1000).all(|id| names.get(name_of(id), name_of) == Some(id)));
        assert_eq!(names.get((8, b"1"), name_of), None);
        (0..1000).step_by(2).for_each(|id| names.remove(id, name_of(id)));
        names.remove(0, name_of(0));
        let expected = |id: u32| (id % 2 == 1).then_some(id);
        assert!((0..1000).all(|id| names.get(name_of(id), name_of) == expected(id)));
    }
}
