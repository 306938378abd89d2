//! Looking up a path in the tree the way the kernel would inside the image.

use super::inode::{FileKind, Ino};
use super::table::Tree;

/// Symlinks followed in one lookup before giving up (Linux's `MAXSYMLINKS`).
pub(super) const MAX_LINKS: usize = 40;

/// Whether a symlink in the last component is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// As `stat` and `cat` do.
    Follow,
    /// As `lstat` and `ls -l` do.
    Keep,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum PathError {
    #[error("no such file or directory in the image")]
    NotFound,
    #[error("a component of the path is not a directory")]
    NotADirectory,
    #[error("too many levels of symbolic links")]
    Loop,
}

/// The names of a path as it is written: without `.` and empty ones, and `..` takes back the one before it. No symlink
/// is followed.
pub fn plain_names(path: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

impl Tree {
    /// The inode at `path`, with or without a leading slash. Symlinks stay inside the image:
    /// absolute targets start at its root, and `..` stops there.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn resolve(&self, path: &[u8], last: Symlinks) -> Result<Ino, PathError> {
        let mut todo: Vec<&[u8]> = path.split(|b| *b == b'/').rev().collect();
        let must_be_dir = path.ends_with(b"/");
        let mut at = Ino::ROOT;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name {
                b"" | b"." => continue,
                b".." => {
                    at = self.parent(at).ok_or(PathError::NotADirectory)?;
                    continue;
                }
                _ => {}
            }
            if self.kind(at) != FileKind::Directory {
                return Err(PathError::NotADirectory);
            }
            let child = self.lookup(at, name).ok_or(PathError::NotFound)?;
            let is_last = todo.iter().all(|rest| rest.is_empty());
            match self.symlink(child) {
                Some(target) if !is_last || must_be_dir || last == Symlinks::Follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(PathError::Loop);
                    }
                    if target.starts_with(b"/") {
                        at = Ino::ROOT;
                    }
                    todo.extend(target.split(|b| *b == b'/').rev());
                }
                _ => at = child,
            }
        }
        if must_be_dir && self.kind(at) != FileKind::Directory {
            return Err(PathError::NotADirectory);
        }
        Ok(at)
    }
}
