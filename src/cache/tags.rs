//! What tags meant when they were last asked for.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::documents::MAX_BLOB_BYTES;
use super::folder::{Cache, read_limited};
use super::layout::{Asked, tag_name};
use super::walk::{self, Content};
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

    /// What is remembered of references, in no order and at most so many.
    pub fn tags(&self, limit: usize) -> Vec<TagRecord> {
        let mut records = Vec::new();
        let Some(store) = &self.store else { return records };
        walk::walk_below(store, Path::new("refs"), &mut |found| {
            if records.len() >= limit || !matches!(found.content, Content::Tag(_)) {
                return;
            }
            let bytes = found.open().ok().and_then(|file| read_limited(file, MAX_BLOB_BYTES));
            records.extend(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
        });
        records
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
