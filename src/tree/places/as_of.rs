//! The tree as of a layer, beside the tree below that layer.
//!
//! The table of a [`Provenance`] has every name that any layer made, with the layer that made it and the layer in
//! which it is gone. So it holds the tree as of each layer at once: the rows that were made by then and are not gone.
//! No tree is built, and going to another layer costs nothing but listing what is shown.

use std::sync::Arc;

use super::{Facts, Place, Places, paired};
use crate::index::{Entry, EntryKind, LayerIndex};
use crate::tree::inode::{FileKind, NONE};
use crate::tree::provenance::{Change, Origin, Provenance};

/// The row of the root directory, which is there before the first layer.
const ROOT: u32 = 0;

/// The tree as of a layer. Changes are those of that layer, as [`Provenance::changed_paths`] has them.
#[derive(Clone, Copy, Debug)]
pub struct AsOf<'a> {
    provenance: &'a Provenance,
    indexes: &'a [Arc<LayerIndex>],
    /// One more than the layer: a row is there as of it if it was made by a lower one and is not gone there.
    end: u32,
}

impl<'a> AsOf<'a> {
    /// As of the layer at this position. `indexes` is what was merged.
    pub fn new(
        provenance: &'a Provenance,
        indexes: &'a [Arc<LayerIndex>],
        layer: usize,
    ) -> AsOf<'a> {
        AsOf { provenance, indexes, end: layer as u32 + 1 }
    }

    fn layer(&self) -> u32 {
        self.end - 1
    }

    /// Whether a row is in the tree of the layers below `end`.
    fn is_there(&self, row: u32, end: u32) -> bool {
        let (layer, gone) = self.provenance.life(row);
        row == ROOT || layer < end && (gone == NONE || gone >= end)
    }

    /// The rows of a directory that are in the tree of the layers below `end`, by name.
    fn rows(&self, dir: u32, end: u32) -> Vec<u32> {
        let rows = self.provenance.rows_in(dir).iter().copied();
        rows.filter(|row| self.is_there(*row, end)).collect()
    }

    /// The row to tell of, and the layers that count for it: those below this number.
    fn told(&self, place: Place) -> (u32, u32) {
        match place.now() {
            Some(now) => (now, self.end),
            None => (place.before, self.layer()),
        }
    }

    /// What a place is made from.
    pub fn origin(&self, place: Place) -> Origin {
        let (row, end) = self.told(place);
        self.provenance.origin_below(row, end)
    }

    /// The layer that brought the name as it is.
    pub fn made_in(&self, place: Place) -> usize {
        self.provenance.life(self.told(place).0).0 as usize
    }

    /// Whether the layer has an entry or a whiteout of this very name, be it without effect.
    pub fn is_touched(&self, place: Place) -> bool {
        let Some(now) = place.now() else { return true };
        now != ROOT && self.provenance.life(now).0 == self.layer()
            || self.provenance.is_updated(now, self.layer())
    }

    /// The path, without a slash before it.
    pub fn path(&self, place: Place) -> Vec<u8> {
        self.provenance.path(self.told(place).0)
    }

    fn change(&self, place: Place) -> Option<Change> {
        match (place.now(), place.before()) {
            (None, _) => Some(Change::Removed),
            (Some(_), None) => Some(Change::Added),
            (Some(now), Some(before)) if now != before => Some(Change::Changed),
            (Some(now), _) => self
                .provenance
                .has_other_attributes(now, self.layer(), self.indexes)
                .then_some(Change::Changed),
        }
    }

    fn entry(&self, place: Place) -> Option<Entry<'a>> {
        let Origin { layer, entry } = self.origin(place);
        Some(self.indexes[layer].entry_at(entry?))
    }

    fn kind(&self, row: u32, end: u32) -> FileKind {
        let Origin { layer, entry } = self.provenance.origin_below(row, end);
        kind(entry.map(|entry| self.indexes[layer].entry_at(entry).kind))
    }
}

impl Places for AsOf<'_> {
    fn root(&self) -> Place {
        Place::ROOT
    }

    fn children(&self, dir: Place) -> Vec<Place> {
        let rows = |row: Option<u32>, end| row.map_or_else(Vec::new, |row| self.rows(row, end));
        let name = |row| self.provenance.name(row);
        let (now, before) = (rows(dir.now(), self.end), rows(dir.before(), self.layer()));
        paired(now, before, [&name, &name])
    }

    fn most_names(&self, dir: Place) -> usize {
        let rows = [dir.now(), dir.before().filter(|before| dir.now() != Some(*before))];
        rows.into_iter().flatten().map(|row| self.provenance.rows_in(row).len()).sum()
    }

    fn child(&self, dir: Place, name: &[u8]) -> Option<Place> {
        let row = |dir: Option<u32>, end| {
            let rows = dir.map_or(&[][..], |dir| self.provenance.children(dir, name));
            rows.iter().copied().find(|row| self.is_there(*row, end)).unwrap_or(NONE)
        };
        let (now, before) = (row(dir.now(), self.end), row(dir.before(), self.layer()));
        (now != NONE || before != NONE).then_some(Place { now, before })
    }

    fn name(&self, place: Place) -> &[u8] {
        self.provenance.name(self.told(place).0)
    }

    fn facts(&self, place: Place) -> Facts {
        let Origin { layer, entry: position } = self.origin(place);
        let entry = self.entry(place);
        let size = match entry.map(|entry| entry.kind) {
            Some(EntryKind::File { size, .. }) => size,
            Some(EntryKind::Symlink(target)) => target.len() as u64,
            _ => 0,
        };
        let kind = kind(entry.map(|entry| entry.kind));
        let mode = match kind {
            // Linux gives every symlink these bits.
            FileKind::Symlink => 0o777,
            _ => entry.map_or(0o755, |entry| entry.mode),
        };
        Facts {
            kind,
            mode,
            uid: entry.map_or(0, |entry| entry.uid),
            gid: entry.map_or(0, |entry| entry.gid),
            size,
            mtime_seconds: entry.map_or(0, |entry| entry.mtime_seconds),
            change: self.change(place),
            file: (layer as u32, position.map_or(NONE, |entry| entry as u32)),
        }
    }

    fn target(&self, place: Place) -> Option<&[u8]> {
        match self.entry(place)?.kind {
            EntryKind::Symlink(target) => Some(target),
            _ => None,
        }
    }

    fn is_directory(&self, place: Place) -> bool {
        let sides = [(place.now(), self.end), (place.before(), self.layer())];
        let mut sides = sides.into_iter().filter_map(|(row, end)| Some((row?, end)));
        sides.any(|(row, end)| self.kind(row, end) == FileKind::Directory)
    }
}

/// The kind of file that an entry makes; of what no entry describes, a directory.
fn kind(entry: Option<EntryKind<'_>>) -> FileKind {
    match entry {
        None | Some(EntryKind::Directory) => FileKind::Directory,
        // A link is made from what it leads to, so there is none.
        Some(EntryKind::File { .. } | EntryKind::HardLink { .. }) => FileKind::Regular,
        Some(EntryKind::Symlink(_)) => FileKind::Symlink,
        Some(EntryKind::CharDevice(..)) => FileKind::CharDevice,
        Some(EntryKind::BlockDevice(..)) => FileKind::BlockDevice,
        Some(EntryKind::Fifo) => FileKind::Fifo,
    }
}
