//! The files that an image carries and does not show, by path: what to mend where an image is larger than it has to
//! be.
//!
//! Bytes are those that [`layer_usage`](fn@super::layer_usage) counts as hidden: content of a file in a layer that is
//! part of the image no more once a later layer, or the same one, has replaced or deleted all names of it. A file
//! with several names in its layer counts once, at the path of its entry. The version that the image shows is no waste,
//! however often it was replaced before.
//!
//! Rejected: to count all versions of a path of which there are several, as dive does. Then replacing a file once
//! costs twice its size, and a path counts as waste of which nothing could be saved but the older half. And paths as
//! keys: a million files far below take a thousand times the room of the layer indexes.

use std::collections::HashMap;

use super::layer_usage::stored;
use crate::index::{DirId, LayerIndex, ROOT_DIR};
use crate::tree::Provenance;

/// A path of which layers have versions that the image does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WastedPath {
    /// The path, without a slash before it.
    pub path: Vec<u8>,
    /// Bytes of content of these versions.
    pub bytes: u64,
    /// How many versions there are.
    pub versions: u64,
    /// The lowest layer that has one of them.
    pub layer: usize,
    /// The layer that hid the last one.
    pub hidden_in: usize,
}

/// What is known of a path before it is spelled out.
struct Wasted {
    bytes: u64,
    versions: u64,
    /// The layer and the entry of the lowest version.
    first: (usize, usize),
    hidden_in: usize,
}

/// The paths that waste the most, the largest first; at most so many of them. `indexes` is what was merged.
pub fn wasted_paths(
    indexes: &[&LayerIndex],
    provenance: &Provenance,
    most: usize,
) -> Vec<WastedPath> {
    let mut directories = Directories::new(indexes);
    let mut paths: HashMap<(u32, &[u8]), Wasted> = HashMap::new();
    // Lower layers come first.
    for (origin, hidden_in) in provenance.hidden() {
        let Some(at) = origin.entry else { continue };
        let index = indexes[origin.layer];
        let entry = index.entry_at(at);
        let bytes = stored(index, entry.kind);
        if bytes == 0 {
            continue;
        }
        let key = (directories.number(origin.layer, entry.dir), entry.name);
        let first = (origin.layer, at);
        let none = Wasted { bytes: 0, versions: 0, first, hidden_in };
        let wasted = paths.entry(key).or_insert(none);
        wasted.bytes = wasted.bytes.saturating_add(bytes);
        wasted.versions += 1;
        wasted.hidden_in = wasted.hidden_in.max(hidden_in);
    }
    let mut paths: Vec<Wasted> = paths.into_values().collect();
    paths.sort_unstable_by_key(|wasted| (std::cmp::Reverse(wasted.bytes), wasted.first));
    paths.truncate(most);
    let spelled = |wasted: Wasted| {
        let Wasted { bytes, versions, first: (layer, entry), hidden_in } = wasted;
        let entry = indexes[layer].entry_at(entry);
        let path = indexes[layer].path(entry.dir, entry.name);
        WastedPath { path, bytes, versions, layer, hidden_in }
    };
    paths.into_iter().map(spelled).collect()
}

/// Numbers for directories, the same for those of one path in several layers.
struct Directories<'a> {
    indexes: &'a [&'a LayerIndex],
    numbers: HashMap<(u32, &'a [u8]), u32>,
    /// By layer and directory of the layer.
    known: Vec<HashMap<DirId, u32>>,
}

impl<'a> Directories<'a> {
    fn new(indexes: &'a [&'a LayerIndex]) -> Directories<'a> {
        let known = indexes.iter().map(|_| HashMap::from([(ROOT_DIR, 0)])).collect();
        Directories { indexes, numbers: HashMap::new(), known }
    }

    fn number(&mut self, layer: usize, dir: DirId) -> u32 {
        let (index, known) = (self.indexes[layer], &mut self.known[layer]);
        let mut unknown = Vec::new();
        let mut at = dir;
        let mut number = loop {
            match known.get(&at) {
                Some(number) => break *number,
                None => unknown.push(at),
            }
            at = index.dir(at).parent;
        };
        for dir in unknown.into_iter().rev() {
            let next = self.numbers.len() as u32 + 1;
            number = *self.numbers.entry((number, index.dir(dir).name)).or_insert(next);
            known.insert(dir, number);
        }
        number
    }
}
