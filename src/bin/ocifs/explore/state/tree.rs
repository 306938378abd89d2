//! The pane of the tree: rows of what is open, and nothing of what is not.
//!
//! A directory is listed when it is opened. Which directories are open is kept by their paths, so that it stays when the
//! user goes to another layer, where the same path is another place. While a long listing is made, the rows of the one before
//! stay, with the view that they are of.

use std::sync::Arc;

use ocifs::tree::{Place, Places};

use super::cursor::Cursor;
use crate::explore::listing::{Listed, Row, Shape, Wanted, has_few_names, joined, list};
use crate::explore::subject::View;

/// Rows that are opened at once.
const MAX_OPENED: usize = 100_000;

/// The pane.
#[derive(Debug, Default)]
pub(in crate::explore) struct TreePane {
    pub(in crate::explore) rows: Vec<Row>,
    /// What the rows are of.
    pub(in crate::explore) view: Option<View>,
    pub(in crate::explore) cursor: Cursor,
    pub(in crate::explore) shape: Shape,
    /// A listing that is to be made by a thread.
    wanted: Option<Wanted>,
    /// Whether one is being made.
    is_listing: bool,
}

impl TreePane {
    /// The selected row.
    pub(in crate::explore) fn selected(&self) -> Option<Row> {
        self.rows.get(self.cursor.at).copied()
    }

    /// Whether other rows are to come.
    pub(in crate::explore) fn is_listing(&self) -> bool {
        self.is_listing
    }

    /// The listing that a thread is to make.
    pub(in crate::explore) fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    /// The path of a row, without a slash before it.
    pub(in crate::explore) fn path(&self, at: usize) -> Vec<u8> {
        let Some(view) = &self.view else { return Vec::new() };
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

    /// Lists everything anew, and goes to the row of this path, or the nearest above it; false if it is known that the path
    /// itself is not shown.
    pub(in crate::explore) fn list(&mut self, view: &View, path: &[u8]) -> bool {
        let (view, shape) = (view.clone(), self.shape.clone());
        let wanted = Wanted { view, shape, path: path.to_vec() };
        self.is_listing = !wanted.is_small();
        match self.is_listing {
            true => {
                self.wanted = Some(wanted);
                true
            }
            false => {
                self.wanted = None;
                self.show(list(wanted))
            }
        }
    }

    /// Shows rows; whether the path that was wanted is among them.
    pub(in crate::explore) fn show(&mut self, listed: Listed) -> bool {
        let Listed { view, rows, at } = listed;
        (self.view, self.rows, self.is_listing) = (Some(view), rows, false);
        self.cursor.at = at.unwrap_or_else(|near| near);
        at.is_ok()
    }

    /// Opens what is above a path and goes there; false if it is known that it is not shown.
    pub(in crate::explore) fn reveal(&mut self, view: &View, path: &[u8]) -> bool {
        let open = Arc::make_mut(&mut self.shape.open);
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            open.insert(path[..at].to_vec());
        }
        self.list(view, path)
    }

    /// Opens or closes the directory of a row.
    pub(in crate::explore) fn set_open(&mut self, at: usize, is_open: bool) {
        let (Some(row), Some(view)) = (self.rows.get(at).copied(), self.view.clone()) else {
            return;
        };
        if !row.is_dir || row.is_open == is_open {
            return;
        }
        let path = self.path(at);
        self.rows[at].is_open = is_open;
        let open = Arc::make_mut(&mut self.shape.open);
        if !is_open {
            open.remove(&path);
            self.rows.drain(at + 1..self.end_of(at));
            return;
        }
        open.insert(path.clone());
        let below = open.iter().map(Vec::as_slice).filter(|other| other.starts_with(&path));
        // It may be few names, whatever else is shown.
        match has_few_names(&view, below) {
            true => {
                let below = self.shape.below(&view, Some(row.place), &path, row.depth + 1);
                self.rows.splice(at + 1..at + 1, below);
            }
            false => drop(self.list(&view, &path)),
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
        let path = at.map_or_else(Vec::new, |at| self.path(at));
        let place = at.map(|at| self.rows[at].place);
        Arc::make_mut(&mut self.shape.open).insert(path.clone());
        let is_whole = view.with(|places| {
            let place = place.unwrap_or(places.root());
            self.open_below(places, place, path, &|_| true)
        });
        let path = self.path(self.cursor.at);
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
            if count + places.most_names(dir) > MAX_OPENED {
                return false;
            }
            for child in self.shape.children(places, dir) {
                count += 1;
                if places.is_directory(child) && is_wanted(child) {
                    let path = joined(&path, places.name(child));
                    Arc::make_mut(&mut self.shape.open).insert(path.clone());
                    left.push((child, path));
                }
            }
        }
        true
    }

    /// Closes all directories.
    pub(in crate::explore) fn close_all(&mut self, view: &View) {
        let path = self.selected().map(|_| self.path(self.cursor.at)).unwrap_or_default();
        self.shape.open = Arc::default();
        self.list(view, &path);
    }
}
