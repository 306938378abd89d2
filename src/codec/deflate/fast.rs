//! The loop that decodes symbols where input and room are plenty.
//!
//! # Problem
//!
//! Each symbol depends on the bits of the one before: the time goes to waiting for a table entry, then
//! for the shift that it asks for, then for the next entry.
//!
//! # Design
//!
//! The loop of libdeflate, without its pointers. The next symbol's entry is looked up before the input
//! is refilled and the match is copied, so that both hide the wait (a fifth of the speed). Up to three
//! entries of literals are taken between two refills. A match of the usual kind, from 16 bytes back on
//! and of at most 48, is copied as three times 16 bytes, whatever its length; all others take the way
//! through [`History::copy`]. Where a block's code has many pairs of short literals an entry holds two.
//!
//! # Rejected
//!
//! Pointers instead of checked slices are no faster. Pairs of literals in all blocks, triples, wider
//! copies and other sizes of tables are slower.
//!
//! # Invariants
//!
//! The last bytes of the input and of the room are left to the exact decoder. Bytes behind the output may
//! be anything.

use super::bits::{Bits, REFILLED};
use super::codes::{Codes, Pairs};
use super::history::History;
use super::table::{
    DISTANCE_BITS, DISTANCE_ENTRIES, LITERAL, LITERAL_BITS, LITERAL_ENTRIES, OTHER, PAIR, SUBTABLE,
    ends_block, subtable_index, value,
};

/// Input bytes that a round may take: two refills.
pub(super) const MIN_INPUT: usize = 16;

/// Room that a round may want: three pairs of literals, or two and a match.
pub(super) const MIN_ROOM: usize = 6 + 258;

/// Longest match that is copied in line.
const SHORT_MATCH: usize = 48;

/// Bytes that are copied at once, and the shortest distance for that.
const STEP: usize = 16;

/// Bits that a distance takes, whose code is in the main table: itself and the most extra bits.
const SHORT_DISTANCE: u32 = DISTANCE_BITS + 13;
/// Bits that any distance takes.
const LONG_DISTANCE: u32 = 15 + 13;

/// Bits that are valid above those that are counted, at least.
const SLACK: u32 = 1;

/// Why the loop ended.
pub(super) enum Stop {
    /// Too little input or room is left, or the place asked for is reached.
    Short,
    /// The block has ended.
    EndOfBlock,
    /// A code that no symbol has, or a match that reaches too far back.
    Refused,
}

/// Decodes symbols into `output` from `at` on, which it moves, while it is below `until`.
pub(super) fn decode(
    codes: &Codes,
    bits: &mut Bits<'_>,
    output: &mut [u8],
    at: &mut usize,
    until: usize,
    history: &mut History,
) -> Stop {
    match codes.pairs == Pairs::There {
        true => rounds::<true>(codes, bits, output, at, until, history),
        false => rounds::<false>(codes, bits, output, at, until, history),
    }
}

#[inline(always)]
fn rounds<const PAIRS: bool>(
    codes: &Codes,
    reader: &mut Bits<'_>,
    output: &mut [u8],
    place: &mut usize,
    until: usize,
    history: &mut History,
) -> Stop {
    let Codes { literals, distances, .. } = codes;
    let Bits { input, at: taken, mut hold, mut count } = *reader;
    let mut rest = &input[taken..];
    let mut at = *place;
    let start = history.start(at);
    if output.len() < MIN_ROOM {
        return Stop::Short;
    }
    let until = until.min(output.len() - (MIN_ROOM - 1));
    let mut stop = Stop::Short;
    let Some(word) = rest.first_chunk() else { return stop };
    rest = &rest[refill(&mut hold, &mut count, *word)..];
    let mut entry = literals[index(hold, LITERAL_BITS)];
    while at < until {
        let Some(ahead) = rest.first_chunk::<MIN_INPUT>() else { break };
        let mut used = 0;
        let mut before = hold;
        hold = hold.wrapping_shr(entry);
        count = count.wrapping_sub(entry);
        if entry & LITERAL != 0 {
            at = put::<PAIRS>(output, at, entry);
            entry = literals[index(hold, LITERAL_BITS)];
            before = hold;
            hold = hold.wrapping_shr(entry);
            count = count.wrapping_sub(entry);
            if entry & LITERAL != 0 {
                at = put::<PAIRS>(output, at, entry);
                entry = literals[index(hold, LITERAL_BITS)];
                before = hold;
                hold = hold.wrapping_shr(entry);
                count = count.wrapping_sub(entry);
                if entry & LITERAL != 0 {
                    at = put::<PAIRS>(output, at, entry);
                    entry = literals[index(hold, LITERAL_BITS)];
                    used = refill(&mut hold, &mut count, word_at(ahead, 0));
                    rest = &rest[used..];
                    continue;
                }
            }
        }
        if entry & OTHER != 0 {
            if entry & SUBTABLE != 0 {
                entry = literals[subtable_index(entry, hold) % LITERAL_ENTRIES];
                before = hold;
                hold = hold.wrapping_shr(entry);
                count = count.wrapping_sub(entry);
                if entry & LITERAL != 0 {
                    at = put::<false>(output, at, entry);
                    entry = literals[index(hold, LITERAL_BITS)];
                    used = refill(&mut hold, &mut count, word_at(ahead, 0));
                    rest = &rest[used..];
                    continue;
                }
            }
            if entry & OTHER != 0 {
                stop = match ends_block(entry) {
                    true => Stop::EndOfBlock,
                    false => Stop::Refused,
                };
                break;
            }
        }
        let length = value(entry, before);
        entry = distances[index(hold, DISTANCE_BITS)];
        if entry & OTHER != 0 {
            if entry & SUBTABLE == 0 {
                stop = Stop::Refused;
                break;
            }
            if count & 0xff < LONG_DISTANCE + LITERAL_BITS - SLACK {
                used = refill(&mut hold, &mut count, word_at(ahead, 0));
            }
            hold = hold.wrapping_shr(entry);
            count = count.wrapping_sub(entry);
            entry = distances[subtable_index(entry, hold) % DISTANCE_ENTRIES];
        } else if count & 0xff < SHORT_DISTANCE + LITERAL_BITS - SLACK {
            used = refill(&mut hold, &mut count, word_at(ahead, 0));
        }
        before = hold;
        hold = hold.wrapping_shr(entry);
        count = count.wrapping_sub(entry);
        let distance = value(entry, before);
        entry = literals[index(hold, LITERAL_BITS)];
        used += refill(&mut hold, &mut count, word_at(ahead, used));
        rest = &rest[used..];
        if length <= SHORT_MATCH && distance >= STEP && distance <= at.wrapping_sub(start) {
            copy_steps(output, at, distance);
        } else if !history.copy(output, at, distance, length) {
            stop = Stop::Refused;
            break;
        }
        at = at.wrapping_add(length);
    }
    *reader = Bits { input, at: input.len() - rest.len(), hold, count: count & 0xff };
    *place = at;
    stop
}

/// Fills `hold` up with the bytes of a word, as far as they find room; how many did.
#[inline(always)]
fn refill(hold: &mut u64, count: &mut u32, word: [u8; 8]) -> usize {
    *hold |= u64::from_le_bytes(word).wrapping_shl(*count);
    let used = (!*count & 63) as usize >> 3;
    *count |= REFILLED;
    used
}

/// The word that begins at most 7 bytes on.
#[inline(always)]
fn word_at(ahead: &[u8; MIN_INPUT], at: usize) -> [u8; 8] {
    let at = at & 7;
    *ahead[at..].first_chunk().unwrap_or(&[0; 8])
}

/// The next bits as an index.
#[inline(always)]
fn index(hold: u64, bits: u32) -> usize {
    hold as usize & ((1 << bits) - 1)
}

#[inline(always)]
fn put<const PAIRS: bool>(output: &mut [u8], at: usize, entry: u32) -> usize {
    if PAIRS {
        if let Some(place) = output.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = ((entry >> 16) as u16).to_le_bytes();
        }
        at + 1 + usize::from(entry & PAIR != 0)
    } else {
        if let Some(place) = output.get_mut(at) {
            *place = (entry >> 16) as u8;
        }
        at + 1
    }
}

#[inline(always)]
fn copy_steps(output: &mut [u8], at: usize, distance: usize) {
    let Some(span) = output.get_mut(at.wrapping_sub(distance)..) else { return };
    let Some(span) = span.get_mut(..distance + SHORT_MATCH) else { return };
    for step in (0..SHORT_MATCH).step_by(STEP) {
        let Some(bytes) = span[step..].first_chunk::<STEP>().copied() else { return };
        let Some(place) = span[distance + step..].first_chunk_mut() else { return };
        *place = bytes;
    }
}
