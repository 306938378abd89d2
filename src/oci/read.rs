//! Reading documents, as lenient as registries need it, and strict about what decides.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::json;

/// Fields on which it depends what is shown: no document may have two of one that differ.
const DECISIVE: &[&str] = &[
    "config",
    "diff_ids",
    "digest",
    "fsLayers",
    "layers",
    "manifests",
    "mediaType",
    "rootfs",
    "size",
];

/// Reads a document.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, json::Error> {
    json::from_slice_decisive(bytes, DECISIVE)
}

/// Whether a field is there at all, whatever it holds.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
