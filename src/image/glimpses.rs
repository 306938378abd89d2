//! What is seen of an image while it is being opened.
//!
//! # Problem
//!
//! Opening an image that is new here takes as long as streaming its layers; and opening one of a million files that is
//! known takes a second or two. A user who wants to look into it wants to see something at once, and more as it comes.
//!
//! # Design
//!
//! A *glimpse* ([`Survey`]) is made of the layer indexes that are in the cache: at first, before anything else is read; then each time that a
//! layer has come, or that a user opens a directory ([`Wishes`]). It lists the directories that are wanted alone, so that
//! it costs little whatever the image holds; and it is made anew each time, so that nothing has to be kept between.
//!
//! An image that is known and small is open before anyone could look at a glimpse of it, and gets none.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::opening::Opening;
use crate::index::Budget;
use crate::layer::{self, Known, Progress};
use crate::tree::{Glimpse, Survey};

/// What a glimpse may take, as a budget counts it; and the largest tables besides entries, in bytes.
const MAX_GLIMPSE_BYTES: u64 = 192 << 20;
const MAX_TABLES_BYTES: u64 = 48 << 20;

/// An image that is known and has fewer entries is opened at once.
const FEW_ENTRIES: usize = 50_000;

/// An image as far as it is known.
pub(super) struct Seen {
    pub(super) glimpse: Glimpse,
    /// By layer, whether it is.
    pub(super) known: Vec<bool>,
    /// Paths of the directories besides the root that are listed.
    pub(super) listed: Vec<Vec<u8>>,
}

/// What is wanted of an image that is being opened.
#[derive(Debug, Default)]
pub struct Wishes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Paths of directories that are to be listed.
    opened: Vec<Vec<u8>>,
    /// Counts what makes another glimpse worth while.
    news: u64,
    is_over: bool,
}

impl Wishes {
    /// Wants the names of a directory, by its path without a slash before it.
    pub fn list(&self, directory: Vec<u8>) {
        let mut state = self.state();
        if !state.opened.contains(&directory) {
            state.opened.push(directory);
            state.news += 1;
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layer_came(&self) {
        self.state().news += 1;
        self.changed.notify_all();
    }

    /// All is known.
    fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    /// What is wanted once there is more news than that; `None` if all is known.
    fn next(&self, news: u64) -> Option<(u64, Vec<Vec<u8>>)> {
        let mut state = self.state();
        while !state.is_over && state.news <= news {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.is_over).then(|| (state.news, state.opened.clone()))
    }
}

/// Ends the glimpses, however opening has ended.
struct End<'a>(&'a Wishes);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Hears of layers on behalf of another one.
struct Hearing<'a> {
    progress: &'a dyn Progress,
    wishes: &'a Wishes,
}

impl Progress for Hearing<'_> {
    fn start(&self, layers: usize, to_fetch: usize, bytes: u64) {
        self.progress.start(layers, to_fetch, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn layer_done(&self) {
        self.progress.layer_done();
    }

    fn layer_opened(&self) {
        self.wishes.layer_came();
    }
}

/// Does the opening of an image, and shows what is known of it until that is done.
pub(super) fn while_opening<T>(
    opening: &Opening<'_>,
    progress: &dyn Progress,
    see: &(dyn Fn(Seen) + Sync),
    wishes: &Wishes,
    open: impl FnOnce(&dyn Progress) -> T,
) -> T {
    // Nothing else is read or kept in memory until that is there.
    let is_worth_it = show(opening, Vec::new(), see);
    std::thread::scope(|scope| {
        if is_worth_it {
            scope.spawn(|| {
                let mut seen = 0;
                while let Some((news, opened)) = wishes.next(seen) {
                    seen = news;
                    show(opening, opened, see);
                }
            });
        }
        let _end = End(wishes);
        open(&Hearing { progress, wishes })
    })
}

/// Shows what is known; false if there is nothing that glimpses are for.
fn show(opening: &Opening<'_>, listed: Vec<Vec<u8>>, see: &(dyn Fn(Seen) + Sync)) -> bool {
    let Some(survey) = survey(opening) else { return false };
    let entries = survey.files.iter().map(|file| file.entry_count()).fold(0, usize::saturating_add);
    let is_whole = survey.layers.iter().all(Option::is_some);
    if is_whole && entries < FEW_ENTRIES {
        return false;
    }
    let known: Vec<bool> = survey.layers.iter().map(Option::is_some).collect();
    if !known.contains(&true) {
        return true;
    }
    match survey.glimpse(&listed, &Arc::new(Budget::of(MAX_GLIMPSE_BYTES))) {
        Ok(glimpse) => see(Seen { glimpse, known, listed }),
        // All of it is opened besides, and tells what is wrong.
        Err(error) => log::debug!("no glimpse of {}: {error}", opening.resolved.name),
    }
    true
}

/// What the cache knows of the layers; `None` if their entries can't be looked at one by one.
fn survey(opening: &Opening<'_>) -> Option<Survey> {
    let Opening { finder, cache, options, resolved, .. } = opening;
    let mut survey = Survey::default();
    let mut left = MAX_TABLES_BYTES;
    for (at, layer) in resolved.layers.iter().enumerate() {
        let is_same = |other: &usize| {
            let other = &resolved.layers[*other];
            other.descriptor.digest == layer.descriptor.digest && other.diff_id == layer.diff_id
        };
        let place = match (0..at).find(is_same) {
            Some(before) => survey.layers[before],
            None => match layer::known(layer, cache, finder, options, left, &mut survey.names) {
                Known::File(file) => {
                    left = left.saturating_sub(file.table_bytes());
                    survey.files.push(*file);
                    Some(survey.files.len() - 1)
                }
                Known::Nothing => None,
                Known::Changed => return None,
            },
        };
        survey.layers.push(place);
    }
    Some(survey)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn wishes_wake_and_end() {
        let wishes = Wishes::default();
        wishes.list(b"a".to_vec());
        wishes.list(b"a".to_vec());
        let (news, opened) = wishes.next(0).unwrap();
        assert_eq!((news, opened), (1, vec![b"a".to_vec()]));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wishes.next(news));
            wishes.layer_came();
            assert_eq!(waiting.join().unwrap(), Some((2, vec![b"a".to_vec()])));
            let waiting = scope.spawn(|| wishes.next(2));
            drop(End(&wishes));
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
