//! How much room each layer takes, and how much of it for nothing.

use crate::digest::{DiffId, Digest};
use crate::image::LayeredImage;
use crate::index::{EntryKind, LayerIndex, Runs};
use crate::tree::Provenance;

/// What a layer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar.
    pub diff_id: Option<DiffId>,
    /// Bytes of the blob.
    pub compressed: u64,
    /// Bytes of the tar.
    pub uncompressed: u64,
    /// Entries of the tar, without whiteouts.
    pub entries: u64,
    /// Bytes of content of its files, holes left out.
    pub content: u64,
    /// Of these, bytes that the image shows nowhere, as a later layer, or this one, deletes or replaces the file.
    pub hidden: u64,
    /// How many files these are.
    pub hidden_files: u64,
}

/// What the layers take, base first. `provenance` is that of the image.
pub fn layer_usage(image: &LayeredImage, provenance: &Provenance) -> Vec<LayerUsage> {
    let indexes = image.indexes();
    let layers = image.resolved().layers.iter().zip(&indexes);
    let mut rows: Vec<LayerUsage> = layers
        .map(|(layer, index)| LayerUsage {
            digest: layer.descriptor.digest,
            diff_id: layer.diff_id,
            compressed: layer.descriptor.size,
            uncompressed: index.uncompressed_size(),
            entries: index.entries().len() as u64,
            content: index.entries().map(|entry| stored(index, entry.kind)).sum(),
            hidden: 0,
            hidden_files: 0,
        })
        .collect();
    for (origin, _) in provenance.hidden() {
        let Some(entry) = origin.entry else { continue };
        let index = indexes[origin.layer];
        let kind = index.entry_at(entry).kind;
        if matches!(kind, EntryKind::File { .. }) {
            rows[origin.layer].hidden += stored(index, kind);
            rows[origin.layer].hidden_files += 1;
        }
    }
    rows
}

/// Bytes of content that are in the tar.
pub(super) fn stored(index: &LayerIndex, kind: EntryKind<'_>) -> u64 {
    match kind {
        EntryKind::File { size, runs: Runs::Whole(_) } => size,
        EntryKind::File { runs: Runs::Sparse { first, count }, .. } => {
            index.sparse_runs(first, count).map(|run| run.length).sum()
        }
        _ => 0,
    }
}
