//! Finding files by what they are: the walk and the expressions of GNU find.
//!
//! # Problem
//!
//! `find` is how people ask for files, so its expressions are to mean here what they mean there: which tests there
//! are, how sizes are rounded, what a pattern matches, how far `-prune` reaches. A test holds both against each other
//! over random trees.
//!
//! # Design
//!
//! An [`Expression`] is a tree of tests and actions, which is evaluated for each file that the walk comes to; what is to
//! be told of a file goes to the caller. Reading it from words is the program's. What it names in the image (a file
//! that others are to be newer than, a user) is looked up once, before the walk ([`Expression::bind`]).
//!
//! The walk goes down by name, so that the output is the same each time; that of GNU find has the order of its file
//! system. It builds one path in place and allocates for directories only.
//!
//! # Invariants
//!
//! - No content is read: all tests are about names and attributes.
//! - The walk has no recursion. The evaluation has, as deep as the expression, which the user has typed.

mod accounts;
mod bind;
mod evaluate;
mod expression;

use super::inode::{FileKind, Ino};
use super::table::Tree;
use evaluate::{Candidate, Evaluation};

pub use accounts::Accounts;
pub use bind::{BindError, Named};
pub use expression::{
    Comparison, Expression, Kinds, ModeBits, Output, Owner, Permissions, Tell, Test,
};

/// What is looked for, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What is asked of each file.
    pub expression: Expression,
    /// Files above this depth are passed through and not asked about; where the walk begins is 0.
    pub min_depth: usize,
    /// Nothing below this depth is looked at.
    pub max_depth: usize,
    /// Whether what is in a directory comes before it.
    pub contents_first: bool,
}

/// Whether a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the end.
    Done,
    /// `-quit` was said.
    Quit,
}

/// A directory on the way.
#[derive(Debug)]
struct Level<'a> {
    dir: Ino,
    /// Its names that are still to come, as positions in the table of names.
    left: &'a [u32],
    /// The length of its path, and where its name begins there.
    path_bytes: usize,
    name: usize,
}

impl Tree {
    /// Searches at and below `start`, which has this path for the user; tells `found` what to output for which path.
    ///
    /// # Errors
    /// Those of `found`, which end the search.
    pub fn find<E>(
        &self,
        start: Ino,
        path: &[u8],
        search: &Search,
        found: &mut Tell<'_, E>,
    ) -> Result<Flow, E> {
        let mut evaluation = Evaluation { tree: self, found, is_pruned: false, has_quit: false };
        let mut path = path.to_vec();
        let mut stack: Vec<Level<'_>> = Vec::new();
        let mut next = Some((start, base_name(&path)));
        loop {
            if let Some((ino, name)) = next.take() {
                let depth = stack.len();
                let is_dir = self.kind(ino) == FileKind::Directory;
                let enters = is_dir && depth < search.max_depth;
                let comes_later = enters && search.contents_first;
                evaluation.is_pruned = false;
                if depth >= search.min_depth && !comes_later {
                    let candidate = Candidate { ino, path: &path, name };
                    evaluation.ask(&search.expression, &candidate)?;
                    if evaluation.has_quit {
                        return Ok(Flow::Quit);
                    }
                }
                if enters && !evaluation.is_pruned {
                    let left = self.names_of(ino);
                    stack.push(Level { dir: ino, left, path_bytes: path.len(), name });
                }
            }
            let depth = stack.len();
            let Some(level) = stack.last_mut() else { return Ok(Flow::Done) };
            path.truncate(level.path_bytes);
            if let Some((first, left)) = level.left.split_first() {
                level.left = left;
                let child = self.dir_entry(&self.dirents[*first as usize]);
                if path.last() != Some(&b'/') {
                    path.push(b'/');
                }
                next = Some((child.ino, path.len()));
                path.extend_from_slice(child.name);
                continue;
            }
            let (ino, name) = (level.dir, level.name);
            stack.pop();
            if search.contents_first && depth > search.min_depth {
                evaluation.ask(&search.expression, &Candidate { ino, path: &path, name })?;
                if evaluation.has_quit {
                    return Ok(Flow::Quit);
                }
            }
        }
    }
}

/// Where the name begins that `-name` is about, in a path that the user gave.
fn base_name(path: &[u8]) -> usize {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}
