//! What removing files of the cache has brought.

use std::io;
use std::path::{Path, PathBuf};

/// What removing files has brought.
#[derive(Debug, Default)]
pub struct Removed {
    /// Files removed.
    pub files: u64,
    /// Their bytes; a file of several names counts with its last.
    pub bytes: u64,
    /// Bytes that are left in the cache's folder, by all kinds.
    pub left: u64,
    /// The first file that could not be removed, and why; its path below the version's folder.
    pub failed: Option<(PathBuf, io::Error)>,
}

impl Removed {
    /// Notes how removing a file went; true if it is gone.
    pub(super) fn note(&mut self, path: &Path, bytes: u64, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => {
                self.files += 1;
                self.bytes += bytes;
                true
            }
            // Another process was first.
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => {
                log::debug!("removing {} from the cache: {e}", path.display());
                self.failed.get_or_insert((path.to_owned(), e));
                false
            }
        }
    }
}
