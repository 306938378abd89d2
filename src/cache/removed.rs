//! What removing files of the cache has brought.

use std::io;
use std::path::{Path, PathBuf};

/// What removing files has brought.
#[derive(Debug, Default)]
pub struct Removed {
    /// Files removed; one of several names counts once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are left in the cache's folder, by all kinds.
    pub left: u64,
    /// The first file that could not be removed, and why; its path below the version's folder.
    pub failed: Option<(PathBuf, io::Error)>,
}

impl Removed {
    /// Notes how removing a name went; true if it is gone. `bytes` are those of the file, and `None` for a name
    /// of a file that counts by another one.
    pub(super) fn note(&mut self, path: &Path, bytes: Option<u64>, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => {
                self.files += u64::from(bytes.is_some());
                self.bytes += bytes.unwrap_or(0);
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
