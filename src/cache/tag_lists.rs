//! The tags that a repository had when they were last listed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::documents::MAX_BLOB_BYTES;
use super::folder::Cache;
use super::layout::tag_list_name;

/// The most tags of a repository that are remembered.
const MAX_NAMES: usize = 10_000;

/// The tags that a repository had.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TagListRecord {
    /// The full name of the repository.
    pub repository: String,
    /// The names of its tags.
    pub names: Vec<String>,
    /// When the registry said so: seconds since the epoch.
    pub checked: u64,
}

impl TagListRecord {
    /// Time since the registry said so; none if the clock was set back.
    pub fn age(&self) -> Duration {
        let checked = UNIX_EPOCH.checked_add(Duration::from_secs(self.checked));
        checked.and_then(|checked| checked.elapsed().ok()).unwrap_or_default()
    }
}

impl Cache {
    /// The tags that a repository had when they were last listed.
    pub fn tag_list(&self, repository: &str) -> Option<TagListRecord> {
        let bytes = self.read(&tag_list_name(repository), MAX_BLOB_BYTES)?;
        let record: TagListRecord = serde_json::from_slice(&bytes).ok()?;
        (record.repository == repository).then_some(record)
    }

    /// Remembers the tags that a repository has now.
    pub fn put_tag_list(&self, repository: &str, names: &[String]) {
        let names = names[..names.len().min(MAX_NAMES)].to_vec();
        let checked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let record = TagListRecord { repository: repository.to_owned(), names, checked };
        if let Ok(bytes) = serde_json::to_vec(&record) {
            self.put(&tag_list_name(repository), &[&bytes]);
        }
    }
}
