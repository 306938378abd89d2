//! Tables that decode Huffman codes: the next bits of the stream are the index, the entry tells what
//! they mean and how many there were.
//!
//! # Problem
//!
//! A code has up to 15 bits. A table of all 15 is built too slowly and falls out of the first cache.
//!
//! # Design
//!
//! The first bits, 11 of a literal or length and 8 of a distance, index the main table. A longer
//! code's entry leads to a second table, behind the first in the same array. An entry is one number
//! with all that its symbol means, so that the decoder looks at no second place:
//!
//! ```text
//! bits 0..8    bits to take from the stream: the code and the extra bits behind it
//! bits 8..12   bits of the code alone; of a pair of literals, those of the first
//! bits 12..16  LITERAL, PAIR, OTHER, SUBTABLE
//! bits 16..32  one or two literals | the least length | the least distance | where a second table begins
//! ```
//!
//! A main table is filled as libdeflate does it: the entries of the codes of `n` bits, in the order of
//! the codes, then a copy of all entries for the next bit. (11 and 8 bits were measured: with 10 for
//! literals streams of igzip become slower by a third, 9 and 12 are slower on all streams.)
//!
//! # Invariants
//!
//! What zlib refuses is refused, and nothing else: sets of lengths that are over-subscribed, and those
//! that are incomplete, but for a single code of one bit. A code that no symbol has is an entry that is
//! neither [`LITERAL`] nor a length, and takes one bit.

/// Entry: literals.
pub(super) const LITERAL: u32 = 1 << 15;
/// Entry, of literals: two of them.
pub(super) const PAIR: u32 = 1 << 14;
/// Entry: a second table, the end of the block, or no symbol's code.
pub(super) const OTHER: u32 = 1 << 13;
/// Entry, of others: the place of a second table.
pub(super) const SUBTABLE: u32 = 1 << 12;

/// Index bits of the main table of literals and lengths.
pub(super) const LITERAL_BITS: u32 = 11;
/// Index bits of the main table of distances.
pub(super) const DISTANCE_BITS: u32 = 8;
/// Index bits of the table of code lengths, which have no longer codes.
pub(super) const CODE_LENGTH_BITS: u32 = 7;

/// Entries for literals and lengths: at most 2342 are used. A power of two, so that a mask is as good
/// as a check of the index.
pub(super) const LITERAL_ENTRIES: usize = 4096;
/// Entries for distances: at most 402 are used.
pub(super) const DISTANCE_ENTRIES: usize = 512;
/// Entries for code lengths.
pub(super) const CODE_LENGTH_ENTRIES: usize = 1 << CODE_LENGTH_BITS;

/// Longest code in bits.
const MAX_BITS: usize = 15;
/// Symbols of the largest alphabet.
const MAX_SYMBOLS: usize = 288;

/// The symbol that ends a block.
pub(super) const END_OF_BLOCK: usize = 256;

/// The meaning of a code that no symbol has.
const NO_SYMBOL: u32 = OTHER;
/// The meaning of the symbol that ends a block.
const END: u32 = OTHER | 1 << 16;

/// What symbols of literals and lengths mean: an entry without the bits of the code.
pub(super) static LITERALS: [u32; MAX_SYMBOLS] = literals();
/// The same for distances.
pub(super) static DISTANCES: [u32; 32] = distances();
/// The same for code lengths.
pub(super) static CODE_LENGTHS: [u32; 19] = code_lengths();

const fn literals() -> [u32; MAX_SYMBOLS] {
    let mut meanings = [NO_SYMBOL; MAX_SYMBOLS];
    let mut literal = 0;
    while literal < END_OF_BLOCK {
        meanings[literal] = LITERAL | (literal as u32) << 16;
        literal += 1;
    }
    meanings[END_OF_BLOCK] = END;
    let (mut symbol, mut least) = (END_OF_BLOCK + 1, 3);
    while symbol < 285 {
        let extra = (symbol as u32 - 257) / 4;
        let extra = extra.saturating_sub(1);
        meanings[symbol] = least << 16 | extra;
        least += 1 << extra;
        symbol += 1;
    }
    meanings[285] = 258 << 16;
    meanings
}

const fn distances() -> [u32; 32] {
    let mut meanings = [NO_SYMBOL; 32];
    let (mut symbol, mut least) = (0, 1);
    while symbol < 30 {
        let extra = (symbol as u32 / 2).saturating_sub(1);
        meanings[symbol] = least << 16 | extra;
        least += 1 << extra;
        symbol += 1;
    }
    meanings
}

const fn code_lengths() -> [u32; 19] {
    let mut meanings = [0; 19];
    let mut symbol = 0;
    while symbol < 19 {
        meanings[symbol] = (symbol as u32) << 16;
        symbol += 1;
    }
    meanings
}

/// Whether an entry of [`OTHER`] ends the block. All others but second tables are no symbol's.
pub(super) fn ends_block(entry: u32) -> bool {
    entry >> 12 == END >> 12
}

/// The place in the second table that `entry` leads to, with the bits that follow the main table's.
#[inline(always)]
pub(super) fn subtable_index(entry: u32, hold: u64) -> usize {
    let bits = entry >> 8 & 0xf;
    (entry >> 16) as usize + (hold as usize & ((1 << bits) - 1))
}

/// The length or distance that an entry and the extra bits behind its code make.
#[inline(always)]
pub(super) fn value(entry: u32, hold: u64) -> usize {
    let both = hold & 1u64.wrapping_shl(entry).wrapping_sub(1);
    (entry >> 16) as usize + (both as u32 >> (entry >> 8 & 0xf)) as usize
}

/// The bits of an entry's code alone; of a pair of literals, those of the first.
pub(super) fn code_bits(entry: u32) -> u32 {
    entry >> 8 & 0xf
}

/// Builds a table for the codes of these `lengths`, symbol by symbol; false if they are refused.
/// `partial` allows for a single code of one bit.
pub(super) fn build<const ENTRIES: usize>(
    table: &mut [u32; ENTRIES],
    root: u32,
    lengths: &[u8],
    meanings: &[u32],
    partial: bool,
) -> bool {
    // Two rows, so that a run of the same length does not wait for itself.
    let mut rows = [[0u16; MAX_BITS + 1]; 2];
    for pair in lengths.chunks(2) {
        for (row, length) in rows.iter_mut().zip(pair) {
            row[usize::from(length & 15)] += 1;
        }
    }
    let mut counts = rows[0];
    counts.iter_mut().zip(rows[1]).for_each(|(count, more)| *count += more);
    counts[0] = 0;
    let mut offsets = [0u16; MAX_BITS + 2];
    let mut left = 1i32;
    for length in 1..=MAX_BITS {
        left = 2 * left - i32::from(counts[length]);
        if left < 0 {
            return false;
        }
        offsets[length + 1] = offsets[length] + counts[length];
    }
    let used = usize::from(offsets[MAX_BITS + 1]);
    let main = &mut table[..1 << root];
    if used == 0 {
        main.fill(NO_SYMBOL + 0x101);
        return true;
    }
    if left > 0 {
        if !partial || counts[1] != 1 || used != 1 {
            return false;
        }
        let symbol = lengths.iter().position(|length| *length == 1).unwrap_or_default();
        for pair in main.chunks_exact_mut(2) {
            pair.copy_from_slice(&[meanings[symbol] + 0x101, NO_SYMBOL + 0x101]);
        }
        return true;
    }
    let mut sorted = [0u16; MAX_SYMBOLS];
    for (symbol, length) in lengths.iter().enumerate() {
        if *length > 0 {
            let offset = &mut offsets[usize::from(*length)];
            sorted[usize::from(*offset)] = symbol as u16;
            *offset += 1;
        }
    }
    fill(table, root, &counts, &sorted[..used], meanings);
    true
}

/// Fills a table for a complete code.
fn fill<const ENTRIES: usize>(
    table: &mut [u32; ENTRIES],
    root: u32,
    counts: &[u16; MAX_BITS + 1],
    sorted: &[u16],
    meanings: &[u32],
) {
    let entry = |symbol: u16, bits: u32| meanings[usize::from(symbol)] + bits * 0x101;
    let mut symbols = sorted.iter().copied();
    let (mut code, mut bits, mut end) = (0usize, 0u32, 1usize);
    for count in &counts[1..=root as usize] {
        // One bit more: what is there is repeated for both of its values.
        table.copy_within(..end, end);
        end *= 2;
        bits += 1;
        for symbol in symbols.by_ref().take(usize::from(*count)) {
            table[code] = entry(symbol, bits);
            code = following(code, end - 1);
        }
    }
    // Codes that begin with the same bits as the main table's index share a second table.
    let (mut prefix, mut start) = (usize::MAX, 0);
    for length in root as usize + 1..=MAX_BITS {
        for (rank, symbol) in symbols.by_ref().take(usize::from(counts[length])).enumerate() {
            let first = code & ((1 << root) - 1);
            if first != prefix {
                prefix = first;
                start = end;
                let mut bits = length - root as usize;
                let mut space = usize::from(counts[length]) - rank;
                while space < 1 << bits {
                    bits += 1;
                    space = 2 * space + usize::from(counts[root as usize + bits]);
                }
                end += 1 << bits;
                table[first] = (start as u32) << 16 | OTHER | SUBTABLE | (bits as u32) << 8 | root;
            }
            let here = entry(symbol, length as u32 - root);
            for at in (start + (code >> root)..end).step_by(1 << (length - root as usize)) {
                table[at] = here;
            }
            code = following(code, (1 << length) - 1);
        }
    }
}

/// The code that follows `code` of as many bits as `ones` has, both with their first bit lowest; behind
/// the last one, zero.
#[inline(always)]
fn following(code: usize, ones: usize) -> usize {
    match code ^ ones {
        0 => 0,
        zeros => {
            let bit = 1 << zeros.ilog2();
            code & (bit - 1) | bit
        }
    }
}
