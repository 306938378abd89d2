//! Patterns for paths, expanded in the image as a shell expands them on a disk.

use super::glob::Glob;
use super::inode::{FileKind, Ino};
use super::path::Symlinks;
use super::table::Tree;

/// The most paths that a pattern may stand for.
pub const MAX_EXPANDED: usize = 100_000;

/// The most names that are held against a pattern. Symlinks to directories above them let `*/*/*` visit a tree again
/// and again.
const MAX_COMPARED: usize = 4_000_000;

/// A pattern stands for more than is reasonable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the pattern stands for more than {MAX_EXPANDED} paths, or needs more than {MAX_COMPARED} names to be looked at"
)]
pub struct TooManyPaths;

impl Tree {
    /// The paths that a word means: itself, if there is such a path or it is no pattern; otherwise those that match it,
    /// by name. Names that begin with a dot are matched by patterns that do.
    ///
    /// # Errors
    /// [`TooManyPaths`].
    pub fn expand(&self, word: &[u8]) -> Result<Vec<Vec<u8>>, TooManyPaths> {
        if !Glob::is_pattern(word) || self.resolve(word, Symlinks::Keep).is_ok() {
            return Ok(vec![word.to_vec()]);
        }
        let start: &[u8] = if word.starts_with(b"/") { b"/" } else { b"" };
        let mut found = vec![(start.to_vec(), Ino::ROOT)];
        let mut compared = 0;
        let components = word.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        for component in components {
            let above = std::mem::take(&mut found);
            for (path, dir) in above {
                let below = |name: &[u8]| {
                    let slash: &[u8] =
                        if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
                    [&path[..], slash, name].concat()
                };
                // What stands in the middle of a path is a directory, or leads to one.
                let Ok(dir) = self.enter(&path, dir) else { continue };
                if !Glob::is_pattern(component) {
                    let below = below(component);
                    if let Ok(ino) = self.resolve(&below, Symlinks::Keep) {
                        found.push((below, ino));
                    }
                    compared += 1;
                } else {
                    let glob = Glob::new(component);
                    compared += self.child_count(dir);
                    for child in self.children_by_name(dir) {
                        let is_hidden =
                            child.name.starts_with(b".") && !component.starts_with(b".");
                        if !is_hidden && glob.matches(child.name) {
                            found.push((below(child.name), child.ino));
                        }
                    }
                }
                if found.len() > MAX_EXPANDED || compared > MAX_COMPARED {
                    return Err(TooManyPaths);
                }
            }
        }
        Ok(found.into_iter().map(|(path, _)| path).collect())
    }

    /// The directory that a path leads to.
    fn enter(&self, path: &[u8], ino: Ino) -> Result<Ino, ()> {
        match self.kind(ino) {
            FileKind::Directory => Ok(ino),
            FileKind::Symlink => {
                let target = self.resolve(path, Symlinks::Follow).map_err(|_| ())?;
                (self.kind(target) == FileKind::Directory).then_some(target).ok_or(())
            }
            _ => Err(()),
        }
    }
}

/// The part of a pattern that is none: the directory below which everything is that it can stand for.
pub fn fixed_part(word: &[u8]) -> &[u8] {
    let mut end = 0;
    for component in word.split_inclusive(|byte| *byte == b'/') {
        if Glob::is_pattern(component) {
            return &word[..end];
        }
        end += component.len();
    }
    word
}
