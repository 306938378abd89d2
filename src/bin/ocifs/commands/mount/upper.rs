//! The directory of `--upper`: what was written over an image, and which image that is.
//!
//! ```text
//! DIR/upper       what was written (overlayfs)
//! DIR/work        what the kernel needs beside it
//! DIR/image.json  the image that it was written over
//! DIR/lock        locked by the process whose mount uses it
//! ```
//!
//! What was written is told from what was not by names and attributes alone: over another image, files of both would be
//! mixed, and the kernel does not notice. Two mounts over one directory are undefined, and neither is that noticed. How
//! the kernel marks what was removed depends on whether root or a user has mounted it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::render::errors::AnyError;

const VERSION: u32 = 1;

/// A directory that is used by this process alone.
#[derive(Debug)]
pub(in crate::commands) struct Upper {
    directory: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// What it is over.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Record {
    version: u32,
    image: String,
    /// The digest of the manifest.
    digest: String,
    /// Whether the marks are those of user namespaces (`userxattr` of overlayfs).
    by_user: bool,
}

impl Upper {
    /// Opens a directory, which is made if it is not there.
    pub(in crate::commands) fn open(directory: &Path, by_user: bool) -> Result<Upper, AnyError> {
        let failed = |e: io::Error| format!("{}: {e}", directory.display());
        match fs::create_dir(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e).into()),
            _ => {}
        }
        let directory = fs::canonicalize(directory).map_err(failed)?;
        let is_known = directory.join("image.json").exists();
        let others = fs::read_dir(&directory).map_err(failed)?.flatten();
        let is_ours = |name: &std::ffi::OsStr| name == "lock" || is_known;
        if let Some(other) = others.map(|entry| entry.file_name()).find(|name| !is_ours(name)) {
            let (directory, other) = (directory.display(), other.display());
            let text = format!(
                "{directory} has other files in it (`{other}`): choose an empty directory, or one that ocifs has made"
            );
            return Err(text.into());
        }
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let lock = options.open(directory.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = "is in use by another mount or program of ocifs, and can't be by two";
                return Err(format!("{} {text}", directory.display()).into());
            }
            Err(TryLockError::Error(e)) => return Err(failed(e).into()),
        }
        let upper = Upper { directory, _lock: lock };
        if let Some(Record { by_user: is_by_user, .. }) = upper.record()?
            && is_by_user != by_user
        {
            let (who, now) = if is_by_user { ("a user", "root") } else { ("root", "a user") };
            let text = format!(
                "{} was written by {who}, and overlayfs can't go on with it as {now}: use it as {who}, or \
                 choose another directory",
                upper.directory.display()
            );
            return Err(text.into());
        }
        Ok(upper)
    }

    /// Its real path.
    pub(in crate::commands) fn path(&self) -> &Path {
        &self.directory
    }

    /// Makes sure that it is for an image, or can be.
    pub(in crate::commands) fn claim(
        &self,
        image: &str,
        digest: &str,
        by_user: bool,
    ) -> Result<(), AnyError> {
        let place = self.directory.display();
        if let Some(record) = self.record()? {
            return match record.digest == digest {
                true => Ok(()),
                false => Err(format!(
                    "{place} was written over {} ({}), and can't be used over another image ({digest}): choose another \
                     directory, or name that image by its digest",
                    record.image, record.digest
                )
                .into()),
            };
        }
        let (image, digest) = (image.to_owned(), digest.to_owned());
        let record = Record { version: VERSION, image, digest, by_user };
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer(file.as_file_mut(), &record)?;
        file.persist(self.directory.join("image.json")).map_err(|e| format!("{place}: {e}"))?;
        Ok(())
    }

    fn record(&self) -> Result<Option<Record>, AnyError> {
        let path = self.directory.join("image.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|e| format!("{}: {e}", path.display()))?,
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.version == VERSION => Ok(Some(record)),
            Ok(_) | Err(_) => {
                Err(format!("{} was not written by this version of ocifs", path.display()).into())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_for_one_image_and_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("upper");
        let upper = Upper::open(&place, true).unwrap();
        let error = Upper::open(&place, true).unwrap_err().to_string();
        assert!(error.contains("in use by another"), "{error}");
        upper.claim("r:1", "sha256:a", true).unwrap();
        upper.claim("r:2", "sha256:a", true).unwrap();
        let error = upper.claim("r:1", "sha256:b", true).unwrap_err().to_string();
        assert!(error.contains("over r:1 (sha256:a)") && error.contains("sha256:b"), "{error}");
        drop(upper);
        fs::create_dir(place.join("work")).unwrap();
        drop(Upper::open(&place, true).unwrap());
        let error = Upper::open(&place, false).unwrap_err().to_string();
        assert!(error.contains("written by a user"), "{error}");
        fs::write(place.join("image.json"), "{}").unwrap();
        let error = Upper::open(&place, true).unwrap_err().to_string();
        assert!(error.contains("this version"), "{error}");
        let error = Upper::open(folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("other files"), "{error}");
    }
}
