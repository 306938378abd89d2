//! What a reader of missing bytes is likely to read next.
//!
//! # Problem
//!
//! A walk over a directory that is not in the cache should come in few requests, and bring what is in
//! the directory and not what happens to lie behind it in the layer. The kernel says only which
//! inode is read.
//!
//! # Design
//!
//! Two misses in a row in one layer, in files of different directories, suggest a walk over the
//! smallest directory that holds both; two in one file suggest that the file is read to its end.
//! The *scope* of the reader is that directory or file, and what matters of it is where its first
//! and its last byte lie in the layer: whether all of what lies before the miss was read tells a walk
//! from a program that reads here and there. This is asked for only on a miss that continues a run
//! (`blob::plan`), so it may look at the whole tree.
//!
//! It is a guess: two readers of one layer confuse each other's, which costs requests and never
//! anything else. Where `prefetch::layers` knows that a directory is walked, its scope is all that the layer
//! has of the files in it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::ReadAhead;
use crate::extent::Pieces;
use crate::tree::{Ino, Order, Tree};

/// Says that no file was missed yet: no inode has this number.
const NONE: u64 = u64::MAX;

/// Wanted ranges that have so little between them are one.
const SLACK_BYTES: u64 = 64 << 10;

/// Remembers the last miss of each layer.
#[derive(Debug)]
pub(crate) struct Misses {
    last_missed: Vec<AtomicU64>,
}

impl Misses {
    pub(crate) fn new(layers: usize) -> Misses {
        Misses { last_missed: (0..layers).map(|_| AtomicU64::new(NONE)).collect() }
    }

    /// Remembers that bytes of a file in a layer are missing; the file of which some were before, or
    /// this one. To be called before they are fetched, as the next read of the file may come meanwhile.
    pub(crate) fn missed(&self, tree: &Tree, ino: Ino, layer: usize) -> Ino {
        let last = self.last_missed[layer].swap(ino.number(), Ordering::Relaxed);
        tree.ino(last).unwrap_or(ino)
    }
}

/// Where in the layer the scope of a reader lies who has missed bytes of one file after another.
pub(crate) fn guess(tree: &Tree, last: Ino, ino: Ino, layer: usize) -> ReadAhead {
    if last == ino {
        let mut scope = 0..0;
        add_extent(tree, ino, layer, &mut scope);
        return ReadAhead::File(scope);
    }
    let common = match (tree.directory_of(last), tree.directory_of(ino)) {
        (Some(last), Some(this)) => tree.common_directory(last, this),
        _ => Ino::ROOT,
    };
    if common == Ino::ROOT && tree.layers_of(ino).is_some() {
        // Of different images, so it is no walk that they tell of.
        return ReadAhead::Files(0..0);
    }
    if tree.is_top(common) {
        // Everything.
        return ReadAhead::Files(0..u64::MAX);
    }
    let mut scope = 0..0;
    let mut walk = tree.walk(common, Order::Data);
    while let Some((_, ino)) = walk.next() {
        add_extent(tree, ino, layer, &mut scope);
    }
    ReadAhead::Files(scope)
}

/// Where in a layer the files below a directory have their content.
pub(crate) fn below(tree: &Tree, dir: Ino, layer: usize) -> ReadAhead {
    if tree.is_top(dir) {
        return ReadAhead::Ranges(std::iter::once(0..u64::MAX).collect());
    }
    let mut ranges = Vec::new();
    let mut walk = tree.walk(dir, Order::Data);
    while let Some((_, ino)) = walk.next() {
        add_content(tree, ino, |of, range| {
            if of == layer {
                add(&mut ranges, range);
            }
        });
    }
    ReadAhead::Ranges(merged(ranges))
}

/// Names the layer and the ranges of a file's content.
pub(crate) fn add_content(tree: &Tree, ino: Ino, mut add: impl FnMut(usize, Range<u64>)) {
    let Some(content) = tree.content(ino).filter(|content| content.size > 0) else { return };
    match content.pieces {
        Pieces::Whole(start) => add(content.layer, start.0..start.0 + content.size),
        Pieces::Sparse(runs) => {
            runs.iter().for_each(|run| add(content.layer, run.start.0..run.start.0 + run.length));
        }
    }
}

/// Adds a range, to the last one if it continues it.
pub(crate) fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if range.start >= last.start && range.start <= last.end + SLACK_BYTES => {
            last.end = last.end.max(range.end);
        }
        _ => ranges.push(range),
    }
}

/// Ranges in order, those that are close together as one.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged = Vec::with_capacity(ranges.len());
    ranges.into_iter().for_each(|range| add(&mut merged, range));
    merged
}

/// Widens a range of the layer to what it has of the content of a file. A range that holds nothing is
/// nowhere.
fn add_extent(tree: &Tree, ino: Ino, layer: usize, extent: &mut Range<u64>) {
    add_content(tree, ino, |of, range| {
        if of == layer {
            *extent = match extent.is_empty() {
                true => range,
                false => extent.start.min(range.start)..extent.end.max(range.end),
            };
        }
    });
}
