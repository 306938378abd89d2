//! Which volumes have the files that volumes share.
//!
//! # Problem
//!
//! A file that several volumes have is known by its layer and its entry there ([`super::volume`]), and whichever has it
//! answers for it. Volumes are closed and opened again. When all that have a file are closed, one of them has to be opened, and
//! not each image in turn that has the layer: most may hide just this file.
//!
//! # Design
//!
//! Of each layer it is known which of the open volumes have it, the one that answered last first: it stays the one
//! that answers, so that what is learnt of a blob while it is read is learnt once. And each file has a *holder*, the
//! first volume that had it: a volume that is opened becomes the holder of those files that have none, as a bitmap of
//! entries. Most volumes bring no new file of an old layer, and cost nothing here.
//!
//! A process that takes over knows which volumes had files of a layer ([`Entered`](super::entered::Entered)), and not which
//! files: those are opened one after the other until one has the file that is asked for.
//!
//! Rejected: asking all volumes that have the layer, one after the other, as is done where there are a few.
//!
//! # Invariants
//!
//! - Each file that an open volume has, or that a closed one had, has a holder, or a volume that had it is *unknown*.

use std::collections::HashMap;
use std::sync::Arc;

use crate::fs::Filesystem;

/// Which volumes have which files.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<u32, Layer>);

#[derive(Debug, Default)]
struct Layer {
    /// Volumes that are open, or will be in a moment.
    open: Vec<u32>,
    held: Vec<Held>,
    /// Volumes that had files of it before this process ran.
    unknown: Vec<u32>,
}

/// The entries whose holder a volume is.
#[derive(Debug)]
struct Held {
    volume: u32,
    /// The first word of the bitmap of all entries that has one of them.
    first: usize,
    words: Vec<u64>,
}

impl Held {
    fn of(volume: u32, entries: Vec<u32>) -> Option<Held> {
        let words = entries.iter().map(|entry| *entry as usize / 64);
        let (first, last) = (words.clone().min()?, words.max()?);
        let mut words = vec![0; last - first + 1];
        for entry in entries {
            words[entry as usize / 64 - first] |= 1 << (entry % 64);
        }
        Some(Held { volume, first, words })
    }

    fn has(&self, entry: u32) -> bool {
        let word = (entry as usize / 64).checked_sub(self.first);
        word.and_then(|word| self.words.get(word)).is_some_and(|word| word >> (entry % 64) & 1 == 1)
    }
}

impl Layer {
    fn holder(&self, entry: u32) -> Option<u32> {
        self.held.iter().find(|held| held.has(entry)).map(|held| held.volume)
    }
}

impl Holders {
    /// Notes that another process had a volume open, with files of these layers.
    pub(super) fn were_opened(&mut self, volume: u32, layers: &[u32]) {
        for layer in layers {
            self.0.entry(*layer).or_default().unknown.push(volume);
        }
    }

    /// Notes that a volume is open, with these files.
    pub(super) fn opened(&mut self, volume: u32, filesystem: &Filesystem) {
        for layer in filesystem.shared_layers() {
            let Layer { open, unknown, .. } = self.0.entry(layer).or_default();
            unknown.retain(|other| *other != volume);
            if !open.contains(&volume) {
                open.push(volume);
            }
        }
        // Those of one layer come together.
        let mut files = filesystem.shared_files().peekable();
        while let Some((layer, _)) = files.peek().copied() {
            let known = self.0.entry(layer).or_default();
            let entries = std::iter::from_fn(|| files.next_if(|(of, _)| *of == layer));
            let entries = entries.map(|(_, entry)| entry);
            let new = entries.filter(|entry| known.holder(*entry).is_none()).collect();
            known.held.extend(Held::of(volume, new));
        }
    }

    /// Notes that a volume is closed.
    pub(super) fn closed(&mut self, volume: u32, filesystem: &Filesystem) {
        for layer in filesystem.shared_layers() {
            if let Some(layer) = self.0.get_mut(&layer) {
                layer.open.retain(|open| *open != volume);
            }
        }
    }

    /// An open volume that has a file, of those that `opened` knows.
    pub(super) fn open(
        &mut self,
        layer: u32,
        entry: u32,
        opened: impl Fn(u32) -> Option<Arc<Filesystem>>,
    ) -> Option<(u32, Arc<Filesystem>)> {
        let open = &mut self.0.get_mut(&layer)?.open;
        let found = open.iter().enumerate().find_map(|(at, volume)| {
            let filesystem = opened(*volume)?;
            filesystem.file_made_from(layer, entry)?;
            Some((at, *volume, filesystem))
        });
        let (at, volume, filesystem) = found?;
        open[..=at].rotate_right(1);
        Some((volume, filesystem))
    }

    /// All of them.
    pub(super) fn all_open(
        &self,
        layer: u32,
        entry: u32,
        opened: impl Fn(u32) -> Option<Arc<Filesystem>>,
    ) -> Vec<Arc<Filesystem>> {
        let open = self.0.get(&layer).into_iter().flat_map(|layer| &layer.open);
        let open = open.filter_map(|volume| opened(*volume));
        open.filter(|filesystem| filesystem.file_made_from(layer, entry).is_some()).collect()
    }

    /// The volumes that are to be opened for a file, one after the other until one has it.
    pub(super) fn candidates(&self, layer: u32, entry: u32) -> Vec<u32> {
        let Some(layer) = self.0.get(&layer) else { return Vec::new() };
        match layer.holder(entry) {
            Some(holder) => vec![holder],
            None => layer.unknown.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_have_what_was_put_into_them() {
        let entries = [70, 64, 200, 127];
        let held = Held::of(3, entries.to_vec()).unwrap();
        assert_eq!((held.first, held.words.len()), (1, 3));
        for entry in 0..400 {
            assert_eq!(held.has(entry), entries.contains(&entry), "{entry}");
        }
        assert!(Held::of(3, Vec::new()).is_none());
    }
}
