//! What an expression says of a file.

use super::expression::{Expression, Owner, Tell, Test};
use crate::tree::inode::{FileKind, Ino, Inode};
use crate::tree::table::Tree;

/// A file that the walk has come to.
pub(super) struct Candidate<'a> {
    pub(super) ino: Ino,
    pub(super) path: &'a [u8],
    /// Where its name begins in the path.
    pub(super) name: usize,
}

impl Candidate<'_> {
    /// Its name, without the slashes that a user may have written behind it.
    fn name(&self) -> &[u8] {
        let name = &self.path[self.name..];
        let end = name.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
        &name[..end.min(name.len())]
    }
}

/// What is needed for evaluating, and what comes out beside true and false.
pub(super) struct Evaluation<'a, E> {
    pub(super) tree: &'a Tree,
    pub(super) found: &'a mut Tell<'a, E>,
    pub(super) is_pruned: bool,
    pub(super) has_quit: bool,
}

impl<E> Evaluation<'_, E> {
    pub(super) fn ask(&mut self, expression: &Expression, file: &Candidate<'_>) -> Result<bool, E> {
        match expression {
            Expression::And(parts) => {
                for part in parts {
                    if !self.ask(part, file)? || self.has_quit {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Expression::Or(parts) => {
                for part in parts {
                    if self.ask(part, file)? || self.has_quit {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Expression::List(parts) => {
                let mut last = true;
                for part in parts {
                    last = self.ask(part, file)?;
                    if self.has_quit {
                        break;
                    }
                }
                Ok(last)
            }
            Expression::Not(part) => Ok(!self.ask(part, file)?),
            Expression::Test(test) => Ok(self.holds(test, file)),
            Expression::Output(output) => {
                (self.found)(*output, file.path, file.ino)?;
                Ok(true)
            }
            Expression::Prune => {
                self.is_pruned = true;
                Ok(true)
            }
            Expression::Quit => {
                self.has_quit = true;
                Ok(true)
            }
        }
    }

    fn holds(&self, test: &Test, file: &Candidate<'_>) -> bool {
        let inode = self.tree.inode(file.ino);
        match test {
            Test::Constant(value) => *value,
            Test::Name(glob) => glob.matches(file.name()),
            Test::Path(glob) => glob.matches(file.path),
            Test::Target(glob) => {
                self.tree.symlink(file.ino).is_some_and(|target| glob.matches(target))
            }
            Test::Kind(kinds) => kinds.has(inode.kind, self.tree.mark(file.ino)),
            Test::Size(unit, number) => number.holds(inode.size.div_ceil(*unit)),
            Test::Permissions(permissions) => permissions.holds(inode.kind, inode.mode),
            Test::Links(number) => number.holds(inode.nlink.into()),
            Test::Id(owner, number) => number.holds(id(inode, *owner).into()),
            Test::IdBut(owner, ids) => !ids.contains(&id(inode, *owner)),
            Test::Empty => match inode.kind {
                FileKind::Regular => inode.size == 0 && self.tree.mark(file.ino).is_none(),
                FileKind::Directory => inode.count == 0,
                _ => false,
            },
            Test::After(seconds, nanoseconds) => {
                (inode.mtime_seconds, inode.mtime_nanoseconds) > (*seconds, *nanoseconds)
            }
            Test::Age { now, unit, rounds_up, number } => {
                // A part of a second counts as in the file's favour: it is that much younger.
                let seconds = now.saturating_sub(inode.mtime_seconds);
                let units = match rounds_up {
                    true => seconds.saturating_add(unit - 1).div_euclid(*unit),
                    false => seconds.div_euclid(*unit),
                };
                number.holds(u64::try_from(units).unwrap_or(0))
            }
            Test::Ino(ino) => *ino == file.ino,
            // Not bound, so nothing is known of it.
            Test::NewerThan(_) | Test::SameAs(_) | Test::Owner(..) | Test::Nameless(_) => false,
        }
    }
}

fn id(inode: &Inode, owner: Owner) -> u32 {
    match owner {
        Owner::User => inode.uid,
        Owner::Group => inode.gid,
    }
}
