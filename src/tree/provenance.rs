//! Where each name of an image comes from, and what became of those that are not in it any more.
//!
//! # Problem
//!
//! "Which layer brought this file, and what did it look like before?", "is the key that a layer deleted still
//! in the image?", "what did this instruction change?" are questions about names that the merged tree does not
//! have, or has from somewhere else.
//!
//! # Design
//!
//! A merge with a [`Witness`] keeps the names that were removed, with the layer that did it and why, and says
//! of each name whether it continues one of a lower layer. Both together are a table with a row for each name
//! that any layer made: its directory's row, its layer, what it was made from, the row that it continues, and
//! its end. A path may have several rows, one after the other; they are found by walking all rows of its
//! directories at once.
//!
//! # What counts as a change of a layer
//!
//! Names are compared with the tree below the layer. One that was not there is *added*. One that was there and
//! is an entry of the layer again is *changed*, also if both are equal: the layer carries it. A directory that
//! stands in a layer because something in it does is changed if its mode, owner or extended attributes
//! differ; its time alone is not counted, as every change below sets it. A name that was there and is
//! not any more is *removed*; all names below a directory count.
//!
//! # Rejected
//!
//! Applying the layers one after the other and comparing trees: as many merges as layers. Keeping rows in the
//! tree itself: a mount, which never asks, would pay for them.
//!
//! # Invariants
//!
//! - Rows that are alive are exactly the names of the tree made by the same merge.
//! - Paths are taken as they are: symlinks in them are not followed, as they may have led elsewhere in each
//!   layer.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use super::inode::{Ino, NONE};
use super::origins::Source;
use super::path::plain_names;
use super::witness::{Cause, Update, Witness};
use crate::index::{Entry, LayerIndex};

/// What a row and what is noted while it is made take, in bytes, its name included.
pub(super) const ROW_BYTES: u64 = 96;

/// The row of the root directory.
const ROOT: u32 = 0;

/// A name that a layer made.
#[derive(Debug)]
struct Row {
    parent: u32,
    name_offset: u32,
    name_length: u16,
    /// Why it is gone, if it is.
    cause: Option<Cause>,
    /// The layer that made it.
    layer: u32,
    /// The layer in which it is gone; `NONE` if it is in the image.
    end: u32,
    /// What it is made from: for a hard link, what its target is made from.
    source: Source,
    ino: u32,
    /// The row of the same path that it continues, or `NONE`.
    previous: u32,
}

/// What the layers of an image made of each name.
#[derive(Debug)]
pub struct Provenance {
    layers: usize,
    names: Vec<u8>,
    rows: Vec<Row>,
    /// Rows by directory and name, then as they were made.
    by_name: Vec<u32>,
    updates: Vec<Update>,
}

/// What a name was made from: an entry of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Position of the layer in the image, 0 is the base.
    pub layer: usize,
    /// The place of the entry in the layer, or `None` for a directory that no entry describes.
    pub entry: Option<usize>,
}

/// The end of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The layer that removed it.
    pub layer: usize,
    /// Why it is gone.
    pub cause: Cause,
}

/// What a path was from one layer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The layer that made it, or that described the directory anew.
    pub layer: usize,
    /// What it was made from. The layer of a hard link's target may be a lower one.
    pub origin: Origin,
    /// Whether this layer has only given a directory other attributes.
    pub is_update: bool,
    /// The inode, if the image has it.
    pub ino: Option<Ino>,
    /// Its end; `None` if the image has it, or if the next version describes the same directory.
    pub end: Option<End>,
}

/// What a layer did to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was not there.
    Added,
    /// It was there, and the layer has it again.
    Changed,
    /// It was there.
    Removed,
}

/// How many names a layer changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that were not there.
    pub added: u64,
    /// Names that were there, and that the layer has again.
    pub changed: u64,
    /// Names that were there.
    pub removed: u64,
}

/// A node of a merge, as it is handed over.
pub(super) struct Placed<'a> {
    pub(super) parent: u32,
    pub(super) name: &'a [u8],
    pub(super) layer: u32,
    pub(super) source: Source,
    /// 0 if it is not in the tree.
    pub(super) ino: u32,
}

impl Source {
    fn origin(self) -> Origin {
        let entry = (self.entry != NONE).then_some(self.entry as usize);
        Origin { layer: self.layer as usize, entry }
    }
}

impl Provenance {
    /// Makes the table of all nodes of a merge, in the order in which they were placed, and of what its witness
    /// noted.
    pub(super) fn new<'a>(
        layers: usize,
        nodes: impl ExactSizeIterator<Item = Placed<'a>>,
        witness: Witness,
    ) -> Provenance {
        let mut names = Vec::new();
        let mut rows = Vec::with_capacity(nodes.len());
        for (node, previous) in nodes.zip(witness.previous) {
            let name_offset = names.len() as u32;
            names.extend_from_slice(node.name);
            rows.push(Row {
                parent: node.parent,
                name_offset,
                name_length: node.name.len() as u16,
                cause: None,
                layer: node.layer,
                end: NONE,
                source: node.source,
                ino: node.ino,
                previous,
            });
        }
        for removal in witness.removals {
            let row = &mut rows[removal.node as usize];
            (row.end, row.cause) = (removal.layer, Some(removal.cause));
        }
        let mut provenance =
            Provenance { layers, names, rows, by_name: Vec::new(), updates: witness.updates };
        provenance.by_name = provenance.sorted();
        provenance.updates.sort_by_key(|update| update.node);
        provenance
    }

    /// All rows but the root, by directory and name, then as they were made. They are put to their directories by
    /// counting, so that names are compared with those beside them only.
    fn sorted(&self) -> Vec<u32> {
        let mut ends = vec![0u32; self.rows.len() + 1];
        for row in &self.rows[1..] {
            ends[row.parent as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let starts = ends.clone();
        let mut sorted = vec![0; self.rows.len() - 1];
        for (at, row) in (1..).zip(&self.rows[1..]) {
            let place = &mut ends[row.parent as usize];
            sorted[*place as usize] = at;
            *place += 1;
        }
        for bounds in starts.windows(2) {
            let names = &mut sorted[bounds[0] as usize..bounds[1] as usize];
            names.sort_by(|one, other| self.name(*one).cmp(self.name(*other)));
        }
        sorted
    }

    fn row(&self, row: u32) -> &Row {
        &self.rows[row as usize]
    }

    pub(super) fn name(&self, row: u32) -> &[u8] {
        let Row { name_offset, name_length, .. } = self.row(row);
        &self.names[*name_offset as usize..*name_offset as usize + usize::from(*name_length)]
    }

    /// The path of a row, without a slash before it.
    pub(super) fn path(&self, row: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = row;
        while at != ROOT {
            parts.push(self.name(at));
            at = self.row(at).parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// All rows that a directory ever had, by name.
    pub(super) fn rows_in(&self, dir: u32) -> &[u32] {
        let begin = self.by_name.partition_point(|row| self.row(*row).parent < dir);
        let length = self.by_name[begin..].partition_point(|row| self.row(*row).parent == dir);
        &self.by_name[begin..begin + length]
    }

    /// The layer that made a row, and the one in which it is gone, or `NONE`.
    pub(super) fn life(&self, row: u32) -> (u32, u32) {
        let Row { layer, end, .. } = *self.row(row);
        (layer, end)
    }

    /// What a row was made from where the layers below `end` alone count.
    pub(super) fn origin_below(&self, row: u32, end: u32) -> Origin {
        let later = self.updates_of(row).iter().find(|update| update.layer >= end);
        later.map_or(self.row(row).source, |update| update.before).origin()
    }

    /// Whether a layer describes a directory anew that a lower one made.
    pub(super) fn is_updated(&self, row: u32, layer: u32) -> bool {
        self.updates_of(row).iter().any(|update| update.layer == layer)
    }

    /// Whether a layer gives a directory other attributes that a lower one made.
    pub(super) fn has_other_attributes(
        &self,
        row: u32,
        layer: u32,
        indexes: &[impl Borrow<LayerIndex>],
    ) -> bool {
        let updates = self.updates_of(row);
        let first = updates.iter().position(|update| update.layer == layer);
        first.filter(|_| self.row(row).layer != layer).is_some_and(|first| {
            let later = updates[first..].iter().find(|update| update.layer > layer);
            let after = later.map_or(self.row(row).source, |update| update.before);
            attributes(updates[first].before, indexes) != attributes(after, indexes)
        })
    }

    /// All rows of a name in a directory, in the order in which they were made.
    pub(super) fn children(&self, dir: u32, name: &[u8]) -> &[u32] {
        let key = |row: &u32| (self.row(*row).parent, self.name(*row));
        let begin = self.by_name.partition_point(|row| key(row) < (dir, name));
        let length = self.by_name[begin..].partition_point(|row| key(row) == (dir, name));
        &self.by_name[begin..begin + length]
    }

    /// What each row was made from, and the row of its directory, in the order in which they were made.
    pub(super) fn placed(&self) -> impl Iterator<Item = (Source, u32)> {
        self.rows.iter().skip(1).map(|row| (row.source, row.parent))
    }

    /// All rows that a path had. `.`, `..` and empty names are taken as they are written.
    pub(super) fn rows_of(&self, path: &[u8]) -> Vec<u32> {
        let names = plain_names(path);
        let mut rows = vec![ROOT];
        for name in names {
            rows = rows.into_iter().flat_map(|dir| self.children(dir, name)).copied().collect();
        }
        rows.sort_unstable();
        rows
    }

    /// The updates of a directory, in the order of the layers.
    fn updates_of(&self, row: u32) -> &[Update] {
        let begin = self.updates.partition_point(|update| update.node < row);
        let length = self.updates[begin..].partition_point(|update| update.node == row);
        &self.updates[begin..begin + length]
    }

    /// What a path was in each layer that had something to say of it, the base first. Names that their own
    /// layer replaced again are left out.
    pub fn versions(&self, path: &[u8]) -> Vec<Version> {
        let mut versions = Vec::new();
        for row in self.rows_of(path) {
            let Row { layer, end, cause, source, ino, .. } = *self.row(row);
            if end == layer {
                continue;
            }
            let first = versions.len();
            let origins = self.updates_of(row).iter().map(|update| update.before);
            for (at, source) in origins.chain([source]).enumerate() {
                let is_first = at == 0;
                versions.push(Version {
                    layer: if is_first { layer as usize } else { source.layer as usize },
                    origin: source.origin(),
                    is_update: !is_first,
                    ino: None,
                    end: None,
                });
            }
            // What a layer says of a directory several times counts once, as it said it last.
            let mut at = first;
            while at + 1 < versions.len() {
                if versions[at].layer == versions[at + 1].layer {
                    versions[at + 1].is_update &= versions[at].is_update;
                    versions.remove(at);
                } else {
                    at += 1;
                }
            }
            if let Some(last) = versions.last_mut() {
                last.ino = (ino != 0).then_some(Ino(ino));
                last.end = cause.map(|cause| End { layer: end as usize, cause });
            }
        }
        versions.sort_by_key(|version| version.layer);
        versions
    }

    /// How many names each layer changed, the base first. `indexes` is what was merged.
    pub fn changes(&self, indexes: &[&LayerIndex]) -> Vec<Changes> {
        let mut changes = vec![Changes::default(); self.layers];
        self.each_change(indexes, |layer, _, change| {
            let Changes { added, changed, removed } = &mut changes[layer as usize];
            *match change {
                Change::Added => added,
                Change::Changed => changed,
                Change::Removed => removed,
            } += 1;
        });
        changes
    }

    /// The paths that a layer changed, by path.
    pub fn changed_paths(&self, layer: usize, indexes: &[&LayerIndex]) -> Vec<(Vec<u8>, Change)> {
        let mut paths = Vec::new();
        self.each_change(indexes, |of, row, change| {
            if of as usize == layer {
                paths.push((self.path(row), change));
            }
        });
        paths.sort_unstable();
        paths
    }

    /// The entries of which the image has nothing any more, each once: what was made from them, and the layer that
    /// hid its last name.
    pub fn hidden(&self) -> Vec<(Origin, usize)> {
        let mut hidden: HashMap<(u32, u32), u32> = HashMap::new();
        let alive: HashSet<(u32, u32)> = self
            .rows
            .iter()
            .filter(|row| row.end == NONE)
            .map(|row| (row.source.layer, row.source.entry))
            .collect();
        for row in self.rows.iter().filter(|row| row.end != NONE) {
            let source = (row.source.layer, row.source.entry);
            if source.1 != NONE && !alive.contains(&source) {
                let last = hidden.entry(source).or_insert(row.end);
                *last = row.end.max(*last);
            }
        }
        let mut hidden: Vec<(Origin, usize)> = hidden
            .into_iter()
            .map(|((layer, entry), end)| (Source { layer, entry }.origin(), end as usize))
            .collect();
        hidden.sort_unstable_by_key(|(origin, _)| (origin.layer, origin.entry));
        hidden
    }

    /// The paths of names that were made from these entries and are gone: the last that each had.
    pub fn paths_of_hidden(&self, origins: &[Origin]) -> Vec<Vec<u8>> {
        let places: HashMap<Origin, usize> =
            origins.iter().enumerate().map(|(at, origin)| (*origin, at)).collect();
        let mut paths = vec![Vec::new(); origins.len()];
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| row.end != NONE) {
            if let Some(place) = places.get(&row.source.origin()) {
                paths[*place] = self.path(at as u32);
            }
        }
        paths
    }

    /// Calls for each change of each layer, in no order.
    fn each_change(&self, indexes: &[&LayerIndex], mut tell: impl FnMut(u32, u32, Change)) {
        let mut is_continued = vec![false; self.rows.len()];
        for (at, row) in self.rows.iter().enumerate().skip(1) {
            // What its own layer replaced again was never seen.
            if row.end == row.layer {
                continue;
            }
            match row.previous {
                NONE => tell(row.layer, at as u32, Change::Added),
                previous => {
                    is_continued[previous as usize] = true;
                    tell(row.layer, at as u32, Change::Changed);
                }
            }
        }
        for (at, row) in self.rows.iter().enumerate().skip(1) {
            if row.end != NONE && row.end != row.layer && !is_continued[at] {
                tell(row.end, at as u32, Change::Removed);
            }
        }
        let mut at = 0;
        while at < self.updates.len() {
            let Update { node, before, layer } = self.updates[at];
            let same = |update: &&Update| update.node == node && update.layer == layer;
            at += self.updates[at..].iter().take_while(same).count();
            let row = self.row(node);
            // One that the same layer made, or removed again, is told already.
            if row.layer == layer || row.end == layer {
                continue;
            }
            let next = self.updates.get(at).filter(|next| next.node == node);
            let after = next.map_or(row.source, |next| next.before);
            if attributes(before, indexes) != attributes(after, indexes) {
                tell(layer, node, Change::Changed);
            }
        }
    }
}

/// What of a directory counts as changed.
type DirectoryAttributes<'a> = (u16, u32, u32, Vec<(&'a [u8], &'a [u8])>);

fn attributes(source: Source, indexes: &[impl Borrow<LayerIndex>]) -> DirectoryAttributes<'_> {
    let index = indexes[source.layer as usize].borrow();
    let entry: Option<Entry<'_>> =
        (source.entry != NONE).then(|| index.entry_at(source.entry as usize));
    entry.map_or((0o755, 0, 0, Vec::new()), |entry| {
        (entry.mode, entry.uid, entry.gid, index.xattrs(&entry).collect())
    })
}
