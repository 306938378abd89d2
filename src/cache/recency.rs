//! Which files were used last, and which are given up: their modification times.

use std::fs::File;
use std::time::{Duration, SystemTime};

/// Age from which a temporary file or a download is given up: writing one takes seconds, and who
/// has not resumed a download in a day does not come back.
pub(super) const MAX_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Time since a file was last marked as used before it is marked again: long enough to cost nothing
/// on a hot path, short enough for an order among the days that a cache lasts.
pub(super) const RECENCY: Duration = Duration::from_secs(5 * 60);

/// Renews the modification time of a span or a layer index, by which the least recently used is found.
pub(super) fn mark_used(file: &File) {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    // One from the future is as good as none.
    if age.is_none_or(|age| age > RECENCY)
        && let Err(e) = file.set_modified(SystemTime::now())
    {
        log::debug!("marking a file of the cache as used: {e}");
    }
}
