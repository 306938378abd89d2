//! The files that names of hosts are looked up with, which may be replaced under a process that is contained.
//!
//! Landlock lets a process read the files that were there when it was contained. `/etc/resolv.conf` and `/etc/hosts` are
//! replaced by others of the same name when a machine changes its network, and a process that can't read the new ones asks a
//! name server of its own machine that is not there. So whoever starts contained processes looks at these files, and
//! starts others.
//!
//! (Rejected: to let them read all of `/etc`, which has secrets. To look names up in a process that is not contained: what
//! name servers answer is parsed there.)

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::paths::{NAMES, READ};

/// Which file or folder it is, whatever it is called: device, inode, and when that was made, as numbers are used again.
type FileId = (u64, u64, Option<SystemTime>);

/// The files as they were at one time.
#[derive(Debug)]
pub(crate) struct NameFiles([Option<FileId>; NAMES.len()]);

impl NameFiles {
    pub(crate) fn now() -> NameFiles {
        NameFiles(NAMES.map(|path| file_id(Path::new(path))))
    }

    /// Whether one of them is now another file. One that is not there may just be being replaced.
    pub(crate) fn are_replaced(&self, now: &NameFiles) -> bool {
        self.0.iter().zip(&now.0).any(|(then, now)| now.is_some() && then != now)
    }
}

/// What is allowed so that a file can be read: the file itself, or the folder in which all may be read.
fn file_id(path: &Path) -> Option<FileId> {
    let path = path.canonicalize().ok()?;
    let folder = READ.iter().map(Path::new).find(|folder| path.starts_with(folder));
    let metadata = folder.unwrap_or(&path).metadata().ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let now = || NameFiles(NAMES.map(|_| file_id(&path)));
        let none = now();
        fs::write(&path, "a").unwrap();
        let first = now();
        assert!(none.are_replaced(&first) && !first.are_replaced(&none));
        fs::write(&path, "b").unwrap();
        assert!(!first.are_replaced(&now()), "the same file with another content");
        fs::write(folder.path().join("new"), "a").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(first.are_replaced(&now()));
        // Where all may be read, the folder counts: files in it may be replaced.
        let folder = Path::new("/proc");
        assert_eq!(file_id(Path::new("/proc/version")), file_id(folder));
        assert!(file_id(folder).is_some());
    }
}
