//! How large the cache may become, and what follows from it.

use std::path::Path;

/// The default limit, if the disk is large enough: a few images of the large kind.
const DEFAULT_LIMIT_BYTES: u64 = 10 << 30;

/// The part of the disk that the default limit leaves to others is all but one of so many.
const DEFAULT_DISK_PARTS: u64 = 10;

/// Most bytes that a process writes between two scans: a second's worth of a fast first pass.
const MAX_SCAN_AFTER_BYTES: u64 = 64 << 20;

/// Bounds of [`slack`]: a few spans, and what a fast source brings while a slow disk is walked.
const MIN_SLACK_BYTES: u64 = 4 << 20;

const MAX_SLACK_BYTES: u64 = 1 << 30;

/// How large the cache may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// 10 GiB, or a tenth of the disk if that is less.
    #[default]
    Default,
    /// So many bytes; with less than a span's, no spans are kept.
    Bytes(u64),
    /// As large as the disk.
    Unlimited,
}

impl Limit {
    /// In bytes, for a cache in this folder; `None` without a limit.
    pub(super) fn bytes(self, folder: &Path) -> Option<u64> {
        match self {
            Limit::Bytes(bytes) => Some(bytes),
            Limit::Unlimited => None,
            Limit::Default => {
                // The folder may not exist yet; its disk does.
                let disk = folder.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
                let disk = disk.map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
                // Some file systems do not tell.
                let disk = disk.filter(|bytes| *bytes > 0);
                let part = disk.map_or(u64::MAX, |bytes| bytes / DEFAULT_DISK_PARTS);
                Some(part.min(DEFAULT_LIMIT_BYTES))
            }
        }
    }
}

/// Bytes that a process writes between two scans.
pub(super) fn scan_after(limit: u64) -> u64 {
    (limit / 16).min(MAX_SCAN_AFTER_BYTES)
}

/// Bytes that a process writes at most while its scans don't keep up.
pub(super) fn slack(limit: u64) -> u64 {
    (limit / 8).clamp(MIN_SLACK_BYTES, MAX_SLACK_BYTES)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limit_leaves_room_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let tenth = disk.f_blocks * disk.f_frsize / 10;
        let limit = Limit::Default.bytes(&folder.path().join("not/there/yet")).unwrap();
        assert_eq!(limit, tenth.min(10 << 30));
        assert_eq!(Limit::Unlimited.bytes(folder.path()), None);
    }
}
