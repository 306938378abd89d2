//! What directories had when a reader began to list them.
//!
//! # Problem
//!
//! A listing comes in parts, and each is asked for by the place at which the last one ended. To look up all names for each part
//! takes a time that grows with the square of their number; and names that have come or gone in the meantime would move the
//! others, so that a reader never sees one of them, or sees it twice.
//!
//! # Design
//!
//! What was looked up for the first part is kept for the others, until a reader comes to its end. A few such lists are kept,
//! those that were used last: who stops in between, as many do, says nothing of it. Without one, all is looked up again.
//!
//! (Rejected: a list for each directory that is open. A process may open as many as it likes, and a repository has up to
//! 100,000 tags. And the numbers of names as places in a list: several names may lead to one directory.)

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lists that are kept.
const MOST: usize = 4;

/// Lists of directories, by their numbers; the one that was used last is the last.
#[derive(Debug)]
pub(super) struct Listings<T>(Mutex<VecDeque<Listing<T>>>);

#[derive(Debug)]
struct Listing<T> {
    directory: u32,
    rows: Arc<Vec<T>>,
}

impl<T> Default for Listings<T> {
    fn default() -> Listings<T> {
        Listings(Mutex::default())
    }
}

impl<T> Listings<T> {
    /// What a directory has, for a reader that goes on at an offset.
    pub(super) fn rows<E>(
        &self,
        directory: u32,
        offset: u64,
        look_up: impl FnOnce() -> Result<Vec<T>, E>,
    ) -> Result<Arc<Vec<T>>, E> {
        let kept = if offset > 0 { self.kept(directory) } else { None };
        let rows = match kept {
            Some(rows) => rows,
            None => Arc::new(look_up()?),
        };
        let is_over = offset >= rows.len() as u64;
        self.put(directory, (!is_over).then(|| Arc::clone(&rows)));
        Ok(rows)
    }

    fn kept(&self, directory: u32) -> Option<Arc<Vec<T>>> {
        let all = self.all();
        let listing = all.iter().find(|listing| listing.directory == directory)?;
        Some(Arc::clone(&listing.rows))
    }

    /// Keeps the rows of a directory as those that were used last, or none.
    fn put(&self, directory: u32, rows: Option<Arc<Vec<T>>>) {
        let mut all = self.all();
        all.retain(|listing| listing.directory != directory);
        let Some(rows) = rows else { return };
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back(Listing { directory, rows });
    }

    /// A thread that panicked left nothing half done in there.
    fn all(&self) -> MutexGuard<'_, VecDeque<Listing<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_reader_sees_what_was_there_when_it_began() {
        let (listings, looked_up) = (Listings::default(), Cell::new(0));
        let rows = |directory: u32, offset: u64| {
            let look_up = || {
                looked_up.set(looked_up.get() + 1);
                Ok::<_, ()>(vec![looked_up.get(); 3])
            };
            listings.rows(directory, offset, look_up).unwrap()[0]
        };
        assert_eq!([rows(7, 0), rows(7, 1), rows(7, 2)], [1, 1, 1]);
        // The end, and what a reader finds who comes later.
        assert_eq!([rows(7, 3), rows(7, 1)], [1, 2]);
        // Who begins sees what is there now.
        assert_eq!([rows(7, 0), rows(7, 2)], [3, 3]);
        // Those of other directories are others, and a few are kept.
        let begun: Vec<u32> = (0..=MOST as u32).map(|directory| rows(directory, 0)).collect();
        assert_eq!(begun, [4, 5, 6, 7, 8]);
        assert_eq!([rows(1, 1), rows(0, 1)], [5, 9]);
        assert_eq!(listings.0.lock().unwrap().len(), MOST);
    }
}
