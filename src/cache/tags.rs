//! What tags meant when they were last asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::documents::MAX_BLOB_BYTES;
use super::folder::Cache;
use super::layout::{Asked, tag_name};
use crate::digest::Digest;

/// What a tag meant.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TagRecord {
    /// The full reference, to tell apart names whose hashes collide in theory only.
    pub reference: String,
    /// The digest of the manifest or image index.
    pub digest: Digest,
    /// When the registry said so: seconds since the epoch.
    pub checked: u64,
    /// How it was asked.
    #[serde(default)]
    pub asked: Asked,
}

impl Cache {
    /// What a reference meant when it was last resolved.
    pub fn tag(&self, reference: &str) -> Option<TagRecord> {
        let bytes = self.read(&tag_name(reference), MAX_BLOB_BYTES)?;
        let record: TagRecord = serde_json::from_slice(&bytes).ok()?;
        (record.reference == reference).then_some(record)
    }

    /// Remembers what a reference means now.
    pub fn put_tag(&self, reference: &str, digest: Digest, asked: Asked) {
        let checked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let record = TagRecord { reference: reference.to_owned(), digest, checked, asked };
        if let Ok(bytes) = serde_json::to_vec(&record) {
            self.put(&tag_name(reference), &[&bytes]);
        }
    }
}
