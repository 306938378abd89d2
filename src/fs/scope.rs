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
//! The *scope* of the reader is that directory or file, and what matters of it is where its last
//! byte lies in the layer. This is asked for only on a miss that continues a run
//! (`blob::plan`), so it may look at the whole tree.
//!
//! It is a guess: two readers of one layer confuse each other's, which costs requests and never
//! anything else.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::tree::{Ino, Order, Pieces, Tree};

/// Says that no file was missed yet: no inode has this number.
const NONE: u64 = u64::MAX;

/// Remembers the last miss of each layer.
#[derive(Debug)]
pub(super) struct Scopes {
    last_missed: Vec<AtomicU64>,
}

impl Scopes {
    pub(super) fn new(layers: usize) -> Scopes {
        Scopes { last_missed: (0..layers).map(|_| AtomicU64::new(NONE)).collect() }
    }

    /// Remembers that bytes of a file in a layer were missing.
    pub(super) fn missed(&self, ino: Ino, layer: usize) {
        self.last_missed[layer].store(ino.number(), Ordering::Relaxed);
    }

    /// Where in the layer the scope of a reader of `ino` ends, as an uncompressed offset.
    pub(super) fn end(&self, tree: &Tree, ino: Ino, layer: usize) -> u64 {
        let last = self.last_missed[layer].load(Ordering::Relaxed);
        let last = tree.ino(last).unwrap_or(ino);
        if last == ino {
            return content_end(tree, ino, layer);
        }
        let ancestors = |ino: Ino| {
            let above = |dir: &Ino| tree.parent(*dir).filter(|_| *dir != Ino::ROOT);
            let mut path: Vec<Ino> = std::iter::successors(tree.directory_of(ino), above).collect();
            path.reverse();
            path
        };
        let (a, b) = (ancestors(last), ancestors(ino));
        let common = a.iter().zip(&b).take_while(|(a, b)| a == b).last();
        match common {
            // Everything.
            None | Some((&Ino::ROOT, _)) => u64::MAX,
            Some((dir, _)) => {
                let mut end = 0;
                let mut walk = tree.walk(*dir, Order::Data);
                while let Some((_, ino)) = walk.next() {
                    end = end.max(content_end(tree, ino, layer));
                }
                end
            }
        }
    }
}

/// Offset in the layer just past the content of a file; 0 if none of it lies there.
fn content_end(tree: &Tree, ino: Ino, layer: usize) -> u64 {
    match tree.content(ino) {
        Some(content) if content.layer == layer => match content.pieces {
            Pieces::Whole(start) => start.0 + content.size,
            Pieces::Sparse(runs) => runs.last().map_or(0, |run| run.start.0 + run.length),
        },
        _ => 0,
    }
}
