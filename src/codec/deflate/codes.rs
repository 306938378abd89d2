//! The two codes of a block, as tables.

use std::sync::LazyLock;

use super::table::{
    DISTANCE_BITS, DISTANCE_ENTRIES, DISTANCES, LITERAL, LITERAL_BITS, LITERAL_ENTRIES, LITERALS,
    PAIR, build,
};

/// Entries of the main table of literals.
const MAIN_ENTRIES: usize = 1 << LITERAL_BITS;

/// Pairs of literals are worth their price if at least one of so many entries holds one.
const PAIRS_FROM: usize = MAIN_ENTRIES / 5;

/// The two codes of a block.
pub(super) struct Codes {
    pub(super) literals: [u32; LITERAL_ENTRIES],
    pub(super) distances: [u32; DISTANCE_ENTRIES],
    pub(super) pairs: Pairs,
}

/// Whether entries of literals hold two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairs {
    /// It was not looked at.
    Unknown,
    /// It would not pay.
    TooFew,
    There,
}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codes").finish_non_exhaustive()
    }
}

/// The codes of blocks that bring none, built once (RFC 1951, 3.2.6).
pub(super) static FIXED: LazyLock<Box<Codes>> = LazyLock::new(|| {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    let mut codes = Codes::new();
    let is_built = codes.build(&lengths, &[5; 32]);
    debug_assert!(is_built, "both codes are complete");
    codes
});

impl Codes {
    /// Codes without a symbol.
    pub(super) fn new() -> Box<Codes> {
        Box::new(Codes {
            literals: [0; LITERAL_ENTRIES],
            distances: [0; DISTANCE_ENTRIES],
            pairs: Pairs::Unknown,
        })
    }

    /// Builds the tables for codes of these lengths; false if one of them is refused.
    pub(super) fn build(&mut self, literals: &[u8], distances: &[u8]) -> bool {
        self.pairs = Pairs::Unknown;
        build(&mut self.literals, LITERAL_BITS, literals, &LITERALS, true)
            && build(&mut self.distances, DISTANCE_BITS, distances, &DISTANCES, true)
    }

    /// Puts a second literal into the entries whose bits hold all of its code, if there are many of them
    /// with literals of these lengths.
    pub(super) fn add_pairs(&mut self, lengths: &[u8]) {
        if pairs(lengths) < PAIRS_FROM {
            self.pairs = Pairs::TooFew;
            return;
        }
        // The entry for what follows the first code has a smaller index, and no pair yet.
        for at in (0..MAIN_ENTRIES).rev() {
            let first = self.literals[at];
            let bits = first & 0xff;
            let second = self.literals[at >> bits];
            let both = bits + (second & 0xff);
            if first & second & LITERAL != 0 && both <= LITERAL_BITS {
                // In the entry of zeros the second is the first.
                self.literals[at] = (first & !0xff) | both | PAIR | (second & 0xff_0000) << 8;
            }
        }
        self.pairs = Pairs::There;
    }
}

/// How many entries of a main table could hold two literals.
fn pairs(lengths: &[u8]) -> usize {
    let mut counts = [0usize; LITERAL_BITS as usize + 1];
    for length in lengths {
        if let Some(count) = counts.get_mut(usize::from(*length)) {
            *count += 1;
        }
    }
    let mut pairs = 0;
    for first in 1..LITERAL_BITS as usize {
        for second in 1..=LITERAL_BITS as usize - first {
            let entries = 1 << (LITERAL_BITS as usize - first - second);
            pairs += counts[first] * counts[second] * entries;
        }
    }
    pairs
}
