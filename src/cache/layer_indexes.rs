//! Layer indexes: ours by blob and diff ID, and those that others made.

use std::fs::File;
use std::time::SystemTime;

use super::folder::{Cache, read_limited};
use super::layout::{LayerName, REJECTED, layer_name};
use super::recency::mark_used;
use crate::digest::{DiffId, Digest};

/// Largest layer index that is read back, in bytes.
pub(super) const MAX_LAYER_INDEX_BYTES: u64 = 4 << 30;

impl Cache {
    /// A layer index under one of its names, undecoded, of at most `most` bytes; not one that was
    /// rejected.
    pub fn layer_index(&self, name: &LayerName, most: u64) -> Option<Vec<u8>> {
        let file = self.open_file(&layer_name(name))?;
        mark_used(&file);
        let bytes = read_limited(file, most.min(MAX_LAYER_INDEX_BYTES))?;
        (bytes != REJECTED).then_some(bytes)
    }

    /// The file of a layer index of at most `most` bytes, to be read in parts. One that was rejected is too short to be one.
    pub fn layer_index_file(&self, name: &LayerName, most: u64) -> Option<File> {
        let file = self.open_file(&layer_name(name))?;
        let length = file.metadata().ok()?.len();
        (length <= most.min(MAX_LAYER_INDEX_BYTES)).then_some(file)
    }

    /// When a layer index came into the cache, as far as its file system tells.
    pub fn layer_index_time(&self, name: &LayerName) -> Option<SystemTime> {
        // The time of its last change is that of its last use.
        self.open_file(&layer_name(name))?.metadata().ok()?.created().ok()
    }

    /// Keeps a layer index under both names of its layer.
    pub fn put_layer_index(&self, blob: &Digest, diff_id: &DiffId, bytes: &[u8]) {
        let blob = LayerName::Blob(*blob);
        if self.put(&layer_name(&blob), &[bytes]) {
            self.add_name(&blob, &LayerName::DiffId(*diff_id), bytes);
        }
    }

    /// Keeps a layer index that is there under one more name.
    pub fn add_name(&self, there: &LayerName, name: &LayerName, bytes: &[u8]) {
        let (there, name) = (layer_name(there), layer_name(name));
        if let Some(store) = &self.store
            && !store.exists(&name)
            && store.link(&there, &name).is_err()
        {
            // No hard links on this file system, or another process was first.
            self.put(&name, &[bytes]);
        }
    }

    /// Removes a layer index that turned out to be of no use from under one of its names.
    pub fn discard_layer_index(&self, name: &LayerName, why: &str) {
        self.discard(&layer_name(name), why);
    }

    /// Keeps a layer index that others made.
    pub fn put_external_index(&self, name: &LayerName, bytes: &[u8]) {
        self.put(&layer_name(name), &[bytes]);
    }

    /// Notes that a layer index of others contradicts its layer, in its place.
    pub fn reject_layer_index(&self, name: &LayerName) {
        self.put_external_index(name, REJECTED);
    }

    /// Whether a layer index of this name was found to contradict its layer.
    pub fn is_rejected(&self, name: &LayerName) -> bool {
        // Anything longer is an index, and is not read for this.
        let bytes = self.read(&layer_name(name), REJECTED.len() as u64);
        bytes.is_some_and(|bytes| bytes == REJECTED)
    }
}
