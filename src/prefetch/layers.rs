//! Whether a walk goes on, and in which layers it will come.
//!
//! # Problem
//!
//! `tar` and `grep -r` over an image of many layers wait for each layer's first bytes, one after the
//! other, though where they come next could be told: they read file after file in the order in which
//! directories are listed. A program that reads what it needs must not be taken for one of them: what
//! is fetched ahead of it is traffic for nothing.
//!
//! # Design
//!
//! Only misses are looked at, and what counts is one that a walk would have as its next: every file
//! between the last miss and this one, in the order of the tree, is cached or on its way. A program
//! that picks its files hardly ever hits that once, let alone [`SURE`] times in a row with different
//! files. From then on the walk is *on*:
//!
//! - it is over the smallest directory that holds all files that were missed in it; a walk
//!   over that directory alone is not seen to go further;
//! - a miss brings all that its layer has of that directory (`blob::plan`, `ReadAhead::Ranges`);
//! - the other layers that have files there, behind the last miss, are the *itinerary*. The
//!   beginnings of the next few are brought ahead ([`BlobReader::bring`](crate::blob::BlobReader)),
//!   each once, and further ones only as the reader comes into those.
//!
//! A walk that is interrupted does nothing more, so the bounds of what is ahead are all that it can
//! have cost in vain. Misses that are not next, [`SURE`] of them, end the walk: what was begun ahead of
//! it ends too.
//!
//! It is a guess, made only where no reader has to wait for it: when two readers come at once, one of
//! them does without.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::read_ahead::{add, add_content, merged};
use crate::blob::Walk;
use crate::content::Contents;
use crate::extent::Pieces;
use crate::tree::{Ino, Tree};

/// Misses in the order of a walk, each next to the one before, that make one.
const SURE: u32 = 2;

/// Files between two misses that are looked at. As those of a span are looked at together, this takes a
/// few milliseconds.
const MAX_LOOKS: usize = 1 << 15;

/// Layers that are ahead of the reader at the same time, and uncompressed bytes of one of them and of
/// all.
const MAX_LAYERS: usize = 6;
const LAYER_BYTES: u64 = 16 << 20;
const MAX_BYTES: u64 = 32 << 20;

/// Follows the misses of an image.
#[derive(Debug)]
pub(crate) struct Walks {
    state: Mutex<WalkState>,
    /// Whether a layer was brought ahead and is yet to be read.
    is_ahead: Vec<AtomicBool>,
}

#[derive(Debug, Default)]
struct WalkState {
    /// The last miss of what may be a walk, and the directory in which the walk came to it.
    last: Option<(Ino, Ino)>,
    /// Directory that holds all misses of it.
    top: Option<Ino>,
    /// How many of them were next, less those that were not; at most one more than [`SURE`].
    hits: u32,
    walk: Option<Walk>,
    itinerary: VecDeque<Leg>,
    /// What is ahead: layers and bytes.
    ahead: Vec<(usize, u64)>,
    /// Layers that the walk has come into or that were brought.
    is_done: Vec<bool>,
}

/// What a walk will want of a layer.
#[derive(Debug)]
struct Leg {
    layer: usize,
    ranges: Vec<Range<u64>>,
}

impl Walks {
    pub(crate) fn new(layers: usize) -> Walks {
        let is_ahead = (0..layers).map(|_| AtomicBool::new(false)).collect();
        Walks { state: Mutex::default(), is_ahead }
    }

    /// Notes that bytes of a file are missing and not on their way. The directory that is walked, if
    /// one is.
    pub(crate) fn missed(&self, tree: &Tree, contents: &Contents, file: Ino) -> Option<Ino> {
        // Another reader is at it.
        let mut state = self.state.try_lock().ok()?;
        let before = state.top;
        let is_next = state.follow(tree, contents, file);
        if state.hits < SURE {
            self.end(&mut state);
            return None;
        }
        let is_new = state.walk.is_none();
        if is_new {
            state.walk = Some(Walk::begin());
            state.is_done = vec![false; self.is_ahead.len()];
        }
        if let Some(content) = tree.content(file) {
            state.is_done[content.layer] = true;
        }
        if is_new || state.top != before {
            state.plan(tree);
        }
        self.bring(&mut state, contents);
        state.top.filter(|_| is_next)
    }

    /// Notes that bytes of a layer are being read. Cheap for layers that are not ahead.
    pub(crate) fn reached(&self, contents: &Contents, layer: usize) {
        if !self.is_ahead[layer].load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut state) = self.state.try_lock() else { return };
        self.is_ahead[layer].store(false, Ordering::Relaxed);
        state.ahead.retain(|(other, _)| *other != layer);
        self.bring(&mut state, contents);
    }

    /// Brings the next layers, as far as the bounds allow.
    fn bring(&self, state: &mut WalkState, contents: &Contents) {
        let Some(walk) = state.walk.clone().filter(Walk::is_on) else { return };
        let bytes_ahead =
            |state: &WalkState| state.ahead.iter().map(|(_, bytes)| bytes).sum::<u64>();
        // Each has room for all that it may bring.
        while state.ahead.len() < MAX_LAYERS && bytes_ahead(state) + LAYER_BYTES <= MAX_BYTES {
            let Some(leg) = state.itinerary.pop_front() else { return };
            if std::mem::replace(&mut state.is_done[leg.layer], true) {
                continue;
            }
            let bytes = contents.layers()[leg.layer].bring(&leg.ranges, LAYER_BYTES, &walk);
            if bytes > 0 {
                state.ahead.push((leg.layer, bytes));
                self.is_ahead[leg.layer].store(true, Ordering::Relaxed);
            }
        }
    }

    fn end(&self, state: &mut WalkState) {
        if let Some(walk) = state.walk.take() {
            walk.end();
        }
        state.itinerary.clear();
        for (layer, _) in state.ahead.drain(..) {
            self.is_ahead[layer].store(false, Ordering::Relaxed);
        }
    }
}

impl WalkState {
    /// Whether the miss belongs to the walk.
    fn follow(&mut self, tree: &Tree, contents: &Contents, file: Ino) -> bool {
        if self.last.is_some_and(|(_, last)| last == file) {
            // It goes on in the same file.
            return true;
        }
        let next = self.last.and_then(|(dir, last)| comes_next(tree, contents, (dir, last), file));
        if let (Some(dir), Some(top)) = (next, self.top) {
            self.hits = (self.hits + 1).min(SURE + 1);
            (self.last, self.top) = (Some((dir, file)), Some(tree.common_directory(top, dir)));
            return true;
        }
        if self.hits > SURE {
            // Perhaps it is another reader.
            self.hits -= 1;
        } else if let Some(dir) = tree.directory_of(file) {
            (self.last, self.top, self.hits) = (Some((dir, file)), Some(dir), 0);
        }
        false
    }

    /// Plans the itinerary behind the last miss.
    fn plan(&mut self, tree: &Tree) {
        self.itinerary.clear();
        let (Some((dir, last)), Some(top)) = (self.last, self.top) else { return };
        let mut place: Vec<Option<usize>> = vec![None; self.is_done.len()];
        for file in tree.files_after(dir, last, top) {
            add_content(tree, file, |layer, range| {
                if self.is_done[layer] {
                    return;
                }
                let at = *place[layer].get_or_insert_with(|| {
                    self.itinerary.push_back(Leg { layer, ranges: Vec::new() });
                    self.itinerary.len() - 1
                });
                add(&mut self.itinerary[at].ranges, range);
            });
        }
        for leg in &mut self.itinerary {
            leg.ranges = merged(std::mem::take(&mut leg.ranges));
        }
    }
}

/// The directory in which a walk comes to a file after `last`, the file of a directory, if all that it reads
/// between them is cached or on its way.
fn comes_next(tree: &Tree, contents: &Contents, (dir, last): (Ino, Ino), file: Ino) -> Option<Ino> {
    // A layer, and a range of it that is coming.
    let mut coming = (usize::MAX, 0..0);
    let mut files = tree.files_after(dir, last, Ino::ROOT);
    for _ in 0..MAX_LOOKS {
        let between = files.next()?;
        if between == file {
            return Some(files.directory());
        }
        let Some(content) = tree.content(between) else { continue };
        let range = match content.pieces {
            Pieces::Whole(start) => Some(start.0..start.0 + content.size),
            Pieces::Sparse(_) => None,
        };
        let is_inside = |range: &Range<u64>| {
            coming.0 == content.layer && coming.1.start <= range.start && range.end <= coming.1.end
        };
        if range.as_ref().is_some_and(is_inside) {
            continue;
        }
        if !contents.is_coming(content.layer, content.pieces, 0, content.size) {
            return None;
        }
        if let Some(range) = range {
            coming = (content.layer, contents.layers()[content.layer].spans_of(range));
        }
    }
    None
}
