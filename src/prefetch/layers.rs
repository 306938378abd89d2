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
//! - the layers that have files there, behind the last miss, are the *itinerary*. The
//!   beginnings of what is missing of the next few are brought ahead ([`BlobReader::bring`](crate::blob::BlobReader)),
//!   each once, and further ones only as the reader comes into those, or when what it reads has nearly come;
//! - of a layer that the reader has come into, the rest follows, as from a miss;
//! - where the directory turns out to be a larger one, a layer may have more there than the walk has had of it,
//!   and is on the itinerary again.
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
use crate::blob::{BlobReader, Walk};
use crate::content::Contents;
use crate::extent::Pieces;
use crate::tree::{Ino, Tree};

/// Misses in the order of a walk, each next to the one before, that make one.
const SURE: u32 = 2;

/// Files between two misses that are looked at. As those of a span are looked at together, this takes a
/// few milliseconds.
const MAX_LOOKS: usize = 1 << 15;

/// Layers that are ahead of the reader at the same time.
const MAX_LAYERS: usize = 6;

/// What is brought at once of a layer is one part in so many of all that may be ahead, and as much as this at most.
const PIECES: u64 = 2;
const MAX_PIECE_BYTES: u64 = 64 << 20;

/// Follows the misses of an image.
#[derive(Debug)]
pub(crate) struct Walks {
    state: Mutex<WalkState>,
    /// Whether reads may be what a walk needs to know of.
    is_followed: AtomicBool,
    layers: usize,
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
    /// Legs whose beginnings were brought, until their rest is asked for.
    begun: Vec<Begun>,
    /// Layers of which the walk over the present directory has missed something, or that were brought for it.
    is_done: Vec<bool>,
}

/// What a walk will want of a layer.
#[derive(Debug)]
struct Leg {
    layer: usize,
    ranges: Vec<Range<u64>>,
}

/// A leg of which something was brought.
#[derive(Debug)]
struct Begun {
    leg: Leg,
    /// Uncompressed bytes that are ahead of the reader.
    ahead_bytes: u64,
}

impl Walks {
    pub(crate) fn new(layers: usize) -> Walks {
        Walks { state: Mutex::default(), is_followed: AtomicBool::new(false), layers }
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
        let is_other = state.walk.is_none() || state.top != before;
        state.walk.get_or_insert_with(Walk::begin);
        if is_other {
            state.is_done = vec![false; self.layers];
        }
        if let Some(content) = tree.content(file) {
            state.is_done[content.layer] = true;
        }
        if is_other {
            state.plan(tree);
            self.is_followed.store(true, Ordering::Relaxed);
        }
        self.bring(&mut state, contents);
        state.top.filter(|_| is_next)
    }

    /// Notes that bytes of a layer are being read. Cheap unless there is a walk.
    pub(crate) fn reached(&self, contents: &Contents, layer: usize) {
        if !self.is_followed.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut state) = self.state.try_lock() else { return };
        let state = &mut *state;
        let reader = &contents.layers()[layer];
        let is_idle = !reader.is_busy();
        state.begun.retain_mut(|begun| {
            let is_reached = begun.leg.layer == layer;
            if is_reached {
                begun.ahead_bytes = 0;
            }
            // While its piece has yet to come, a later read asks for the rest.
            let has_rest = is_reached && is_idle;
            if has_rest {
                reader.bring_rest(&begun.leg.ranges);
            }
            !has_rest
        });
        self.bring(state, contents);
        if reader.is_nearly_idle() {
            state.bring_further(contents, layer);
        }
    }

    /// Brings the beginnings of the next layers, as far as the bounds allow.
    fn bring(&self, state: &mut WalkState, contents: &Contents) {
        let Some(walk) = state.walk.clone().filter(Walk::is_on) else {
            self.is_followed.store(false, Ordering::Relaxed);
            return;
        };
        let mut at = 0;
        while state.layers_ahead() < MAX_LAYERS
            && let Some(leg) = state.itinerary.get(at)
        {
            if state.is_done[leg.layer] {
                state.itinerary.remove(at);
                continue;
            }
            let reader = &contents.layers()[leg.layer];
            if reader.is_busy() {
                // Some reader is in it; later, perhaps.
                at += 1;
                continue;
            }
            let piece_bytes = state.piece_bytes(reader);
            if piece_bytes == 0 {
                return;
            }
            let Some(leg) = state.itinerary.remove(at) else { return };
            state.is_done[leg.layer] = true;
            let ahead_bytes = reader.bring(&leg.ranges, piece_bytes, &walk);
            if ahead_bytes > 0 {
                state.begun.push(Begun { leg, ahead_bytes });
            }
        }
        let is_over = state.itinerary.is_empty() && state.begun.is_empty();
        self.is_followed.store(!is_over, Ordering::Relaxed);
    }

    fn end(&self, state: &mut WalkState) {
        if let Some(walk) = state.walk.take() {
            walk.end();
        }
        self.is_followed.store(false, Ordering::Relaxed);
        state.itinerary.clear();
        state.begun.clear();
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

    /// Layers in which something is ahead of the reader.
    fn layers_ahead(&self) -> usize {
        self.begun.iter().filter(|begun| begun.ahead_bytes > 0).count()
    }

    /// The most that may be brought of a layer: 0 if there is no room for a piece.
    fn piece_bytes(&self, reader: &BlobReader) -> u64 {
        let most_bytes = reader.ahead_bytes();
        let piece_bytes = MAX_PIECE_BYTES.min(most_bytes / PIECES);
        let ahead_bytes: u64 = self.begun.iter().map(|begun| begun.ahead_bytes).sum();
        if ahead_bytes + piece_bytes <= most_bytes { piece_bytes } else { 0 }
    }

    /// Brings more of what was begun in other layers than this one, in which a reader is that has nearly all on its
    /// way that it wants there. The link may have turned out to be a wide one since.
    fn bring_further(&mut self, contents: &Contents, layer: usize) {
        let Some(walk) = self.walk.clone().filter(Walk::is_on) else { return };
        for at in 0..self.begun.len() {
            let Begun { leg, .. } = &self.begun[at];
            let reader = &contents.layers()[leg.layer];
            let piece_bytes = self.piece_bytes(reader);
            if leg.layer != layer && !reader.is_busy() && piece_bytes > 0 {
                self.begun[at].ahead_bytes += reader.bring(&leg.ranges, piece_bytes, &walk);
            }
        }
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
        // What is ahead stays so, and may have more to follow now.
        for Begun { leg, .. } in &mut self.begun {
            if let Some(at) = self.itinerary.iter().position(|other| other.layer == leg.layer)
                && let Some(larger) = self.itinerary.remove(at)
            {
                *leg = larger;
            }
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
