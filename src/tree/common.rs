//! What one tree has exactly as another has it.

use super::compare::aspects;
use super::inode::{FileKind, Ino};
use super::table::Tree;

/// A directory on the way down.
struct Level {
    was: Ino,
    is: Ino,
    /// Its length is that of the directory's path.
    path_bytes: usize,
    /// Names that are still to be looked at, last first.
    left: Vec<(Vec<u8>, Ino)>,
    /// What was found below so far begins here.
    found: usize,
    /// Whether all that was looked at is the same.
    is_same: bool,
}

impl Level {
    fn new(new: &Tree, was: Ino, is: Ino, path_bytes: usize, found: usize) -> Level {
        let mut left: Vec<_> =
            new.children_by_name(is).map(|entry| (entry.name.to_vec(), entry.ino)).collect();
        left.reverse();
        Level { was, is, path_bytes, left, found, is_same: true }
    }
}

/// The paths that `new` has as `old` has them: kind, content, target, device, mode, owner and extended attributes
/// are the same; times count for nothing. Of a directory all of which is the same, its own path alone; the root is
/// never among them. `same_content` is asked about regular files of equal size.
///
/// # Errors
/// Those of `same_content`.
pub fn common<E>(
    old: &Tree,
    new: &Tree,
    same_content: &mut dyn FnMut(Ino, Ino) -> Result<bool, E>,
) -> Result<Vec<Vec<u8>>, E> {
    let (mut found, mut path) = (Vec::new(), Vec::new());
    let mut stack = vec![Level::new(new, Ino::ROOT, Ino::ROOT, 0, 0)];
    while let Some(level) = stack.last_mut() {
        let Some((name, is)) = level.left.pop() else {
            let Level { was, is, path_bytes, found: first, is_same, .. } = *level;
            stack.pop();
            let Some(above) = stack.last_mut() else { break };
            path.truncate(path_bytes);
            // Whether a directory has the same names as before does not count: what was removed is not there.
            if is_same && !aspects(old, new, was, is, same_content)?.any_but_time() {
                found.truncate(first);
                found.push(path.clone());
            } else {
                above.is_same = false;
            }
            continue;
        };
        path.truncate(level.path_bytes);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let Some(was) = old.lookup(level.was, &name) else {
            level.is_same = false;
            continue;
        };
        let is_directory = |tree: &Tree, ino| tree.kind(ino) == FileKind::Directory;
        if is_directory(old, was) && is_directory(new, is) {
            let below = Level::new(new, was, is, path.len(), found.len());
            stack.push(below);
        } else if aspects(old, new, was, is, same_content)?.any_but_time() {
            level.is_same = false;
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}
