//! The pane of the tree: rows of what is open, and nothing of what is not.
//!
//! A directory is listed when it is opened. Which directories are open is kept by their paths, so that it stays when the
//! user goes to another layer, where the same path is another place.

use std::collections::HashSet;

use ocifs::tree::{Place, Places};

use super::cursor::Cursor;
use crate::explore::subject::View;
use crate::explore::work::{Kept, Sums};

/// Rows that are opened at once.
const MAX_OPENED: usize = 100_000;

/// A name that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) struct Row {
    pub(in crate::explore) place: Place,
    pub(in crate::explore) depth: u16,
    pub(in crate::explore) is_dir: bool,
    pub(in crate::explore) is_open: bool,
}

/// By what the names of a directory are in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::explore) enum Sort {
    #[default]
    Name,
    /// The largest first.
    Size,
}

/// The pane.
#[derive(Debug, Default)]
pub(in crate::explore) struct TreePane {
    pub(in crate::explore) rows: Vec<Row>,
    pub(in crate::explore) cursor: Cursor,
    pub(in crate::explore) sort: Sort,
    /// What is shown, if not all is.
    pub(in crate::explore) kept: Option<Kept>,
    /// What directories hold, once that is known.
    pub(in crate::explore) sums: Option<Sums>,
    /// Paths of the directories that are open.
    open: HashSet<Vec<u8>>,
}

impl TreePane {
    /// The selected row.
    pub(in crate::explore) fn selected(&self) -> Option<Row> {
        self.rows.get(self.cursor.at).copied()
    }

    /// The path of a row, without a slash before it.
    pub(in crate::explore) fn path(&self, at: usize, view: &View) -> Vec<u8> {
        view.with(|places| {
            let (mut names, mut wanted) = (Vec::new(), usize::MAX);
            for row in self.rows[..=at].iter().rev() {
                let depth = usize::from(row.depth);
                if depth < wanted {
                    names.push(places.name(row.place));
                    wanted = depth;
                }
                if depth == 0 {
                    break;
                }
            }
            names.reverse();
            names.join(&b'/')
        })
    }

    /// The row of the directory that holds a row.
    pub(in crate::explore) fn above(&self, at: usize) -> Option<usize> {
        let depth = self.rows.get(at)?.depth;
        self.rows[..at].iter().rposition(|row| row.depth < depth)
    }

    /// Lists everything anew, and goes to the row of this path, or the nearest above it.
    pub(in crate::explore) fn list(&mut self, view: &View, path: &[u8]) {
        self.rows = view.with(|places| self.below(view, places, places.root(), b"", 0));
        self.cursor.at = self.find(view, path).unwrap_or_else(|near| near);
    }

    /// The row of a path; or of the nearest above it that is shown.
    fn find(&self, view: &View, path: &[u8]) -> Result<usize, usize> {
        view.with(|places| {
            let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            let mut wanted = names.next();
            let (mut depth, mut near) = (0, 0);
            for (at, row) in self.rows.iter().enumerate() {
                let row_depth = usize::from(row.depth);
                if row_depth < depth {
                    break;
                }
                if row_depth == depth && Some(places.name(row.place)) == wanted {
                    near = at;
                    wanted = names.next();
                    if wanted.is_none() {
                        return Ok(at);
                    }
                    depth += 1;
                }
            }
            Err(near)
        })
    }

    /// Opens what is above a path and goes there; false if it is not shown.
    pub(in crate::explore) fn reveal(&mut self, view: &View, path: &[u8]) -> bool {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.open.insert(path[..at].to_vec());
        }
        self.list(view, path);
        self.find(view, path).is_ok()
    }

    /// Opens or closes the directory of a row.
    pub(in crate::explore) fn set_open(&mut self, at: usize, is_open: bool, view: &View) {
        let Some(row) = self.rows.get(at).copied() else { return };
        if !row.is_dir || row.is_open == is_open {
            return;
        }
        let path = self.path(at, view);
        self.rows[at].is_open = is_open;
        if is_open {
            self.open.insert(path.clone());
            let below =
                view.with(|places| self.below(view, places, row.place, &path, row.depth + 1));
            self.rows.splice(at + 1..at + 1, below);
        } else {
            self.open.remove(&path);
            self.rows.drain(at + 1..self.end_of(at));
        }
    }

    /// The row behind all that are below one.
    fn end_of(&self, at: usize) -> usize {
        let depth = self.rows[at].depth;
        let below = self.rows[at + 1..].iter().take_while(|row| row.depth > depth).count();
        at + 1 + below
    }

    /// Opens the directories that lead to what is kept. Those that came or went as a whole stay closed.
    pub(in crate::explore) fn open_kept(&mut self, view: &View) {
        let is_old = |place: Place| place.is_there() && place.was_there();
        view.with(|places| self.open_below(places, places.root(), Vec::new(), &is_old));
    }

    /// Opens all directories below a row, or below the root; false if they are too many.
    pub(in crate::explore) fn open_all(&mut self, at: Option<usize>, view: &View) -> bool {
        let path = at.map_or_else(Vec::new, |at| self.path(at, view));
        let place = at.map(|at| self.rows[at].place);
        self.open.insert(path.clone());
        let is_whole = view.with(|places| {
            let place = place.unwrap_or(places.root());
            self.open_below(places, place, path, &|_| true)
        });
        let path = self.path(self.cursor.at, view);
        self.list(view, &path);
        is_whole
    }

    /// Opens directories below one, as long as they are not too many.
    fn open_below(
        &mut self,
        places: &dyn Places,
        dir: Place,
        path: Vec<u8>,
        is_wanted: &dyn Fn(Place) -> bool,
    ) -> bool {
        let mut left = vec![(dir, path)];
        let mut count = 0;
        while let Some((dir, path)) = left.pop() {
            for child in self.children(places, dir) {
                count += 1;
                if places.is_directory(child) && is_wanted(child) {
                    let path = joined(&path, places.name(child));
                    self.open.insert(path.clone());
                    left.push((child, path));
                }
            }
            if count > MAX_OPENED {
                return false;
            }
        }
        true
    }

    /// Closes all directories.
    pub(in crate::explore) fn close_all(&mut self, view: &View) {
        let path = self.selected().map(|_| self.path(self.cursor.at, view)).unwrap_or_default();
        self.open.clear();
        self.list(view, &path);
    }

    /// The bytes that a row stands for.
    pub(in crate::explore) fn size(
        &self,
        places: &dyn Places,
        place: Place,
        is_dir: bool,
    ) -> Option<u64> {
        match is_dir {
            true => Some(self.sums.as_ref()?.get(&place).copied().unwrap_or(0)),
            false => Some(places.facts(place).size),
        }
    }

    /// What is shown of a directory, in order.
    fn children(&self, places: &dyn Places, dir: Place) -> Vec<Place> {
        let mut children = places.children(dir);
        if let Some(kept) = &self.kept {
            children.retain(|place| kept.contains(place));
        }
        if self.sort == Sort::Size {
            let size = |place: &Place| {
                let size = self.size(places, *place, places.is_directory(*place));
                std::cmp::Reverse(size.unwrap_or(0))
            };
            children.sort_by_cached_key(size);
        }
        children
    }

    /// The rows below a directory. Where its names are not known yet, there are none.
    fn below(
        &self,
        view: &View,
        places: &dyn Places,
        dir: Place,
        path: &[u8],
        depth: u16,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        let listed = |dir, path: &[u8]| {
            let mut children = match view.lists(path) {
                true => self.children(places, dir),
                false => Vec::new(),
            };
            children.reverse();
            children
        };
        let mut path = path.to_vec();
        let mut stack = vec![(listed(dir, &path), path.len())];
        while let Some((children, length)) = stack.last_mut() {
            path.truncate(*length);
            let Some(place) = children.pop() else {
                stack.pop();
                continue;
            };
            let is_dir = places.is_directory(place);
            let is_open = is_dir && !self.open.is_empty() && {
                path = joined(&path, places.name(place));
                self.open.contains(&path)
            };
            let depth = depth.saturating_add(u16::try_from(stack.len() - 1).unwrap_or(u16::MAX));
            rows.push(Row { place, depth, is_dir, is_open });
            if is_open {
                stack.push((listed(place, &path), path.len()));
            }
        }
        rows
    }
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}
