//! What stands before the symbols of a dynamic block: the lengths of its codes (RFC 1951, 3.2.7).

use super::bits::Bits;
use super::codes::Codes;
use super::table::{CODE_LENGTH_BITS, CODE_LENGTH_ENTRIES, CODE_LENGTHS, END_OF_BLOCK, build};

/// In which order the lengths of the code for lengths come.
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Most symbols of literals and lengths, and of distances, that a block may have.
const MAX_SYMBOLS: (usize, usize) = (286, 30);

/// Most bits that one code length takes: its code, and how often it is repeated.
const MAX_LENGTH_BITS: u32 = 7 + 7;

/// Code lengths that are written at once, whatever their number is.
const RUN: usize = 16;

/// Room for all code lengths, and what the last run of them writes too much.
const MAX_LENGTHS: usize = 320 + RUN;

/// What became of reading.
pub(super) enum Read {
    /// The codes are built.
    Done,
    /// The input ended before.
    NeedsInput,
    /// zlib would refuse it, at the same bit.
    Refused,
}

/// The part of a header that was read.
#[derive(Debug)]
pub(super) struct Header {
    step: Step,
    literals: usize,
    distances: usize,
    /// Lengths of codes: first of those for lengths, then of all others.
    lengths: [u8; MAX_LENGTHS],
    /// How many of them are there.
    have: usize,
    table: [u32; CODE_LENGTH_ENTRIES],
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Counts,
    LengthCode { codes: usize },
    Lengths,
}

impl Header {
    pub(super) fn new() -> Header {
        Header {
            step: Step::Counts,
            literals: 0,
            distances: 0,
            lengths: [0; MAX_LENGTHS],
            have: 0,
            table: [0; CODE_LENGTH_ENTRIES],
        }
    }

    /// The next header begins.
    pub(super) fn begin(&mut self) {
        self.step = Step::Counts;
    }

    /// The lengths of the codes for literals of the block whose header was read last.
    pub(super) fn literal_lengths(&self) -> &[u8] {
        &self.lengths[..END_OF_BLOCK]
    }

    /// Reads on, and builds the codes in the end.
    pub(super) fn read(&mut self, bits: &mut Bits<'_>, codes: &mut Codes) -> Read {
        if let Step::Counts = self.step {
            if !bits.need(14) {
                return Read::NeedsInput;
            }
            self.literals = 257 + bits.take(5) as usize;
            self.distances = 1 + bits.take(5) as usize;
            let codes = 4 + bits.take(4) as usize;
            if self.literals > MAX_SYMBOLS.0 || self.distances > MAX_SYMBOLS.1 {
                return Read::Refused;
            }
            self.lengths[..ORDER.len()].fill(0);
            self.have = 0;
            self.step = Step::LengthCode { codes };
        }
        if let Step::LengthCode { codes } = self.step {
            while self.have < codes {
                if !bits.need(3) {
                    return Read::NeedsInput;
                }
                self.lengths[usize::from(ORDER[self.have])] = bits.take(3) as u8;
                self.have += 1;
            }
            let lengths = &self.lengths[..ORDER.len()];
            if !build(&mut self.table, CODE_LENGTH_BITS, lengths, &CODE_LENGTHS, false) {
                return Read::Refused;
            }
            self.have = 0;
            self.step = Step::Lengths;
        }
        match self.lengths(bits) {
            Read::Done => {}
            other => return other,
        }
        let (literals, rest) = self.lengths.split_at(self.literals);
        let has_end = literals[END_OF_BLOCK] > 0;
        match has_end && codes.build(literals, &rest[..self.distances]) {
            true => Read::Done,
            false => Read::Refused,
        }
    }

    /// Reads the lengths of both codes, which follow each other as one row.
    #[inline(never)]
    fn lengths(&mut self, bits: &mut Bits<'_>) -> Read {
        let total = self.literals + self.distances;
        while self.have < total {
            if bits.count < MAX_LENGTH_BITS {
                bits.refill();
            }
            let entry = loop {
                let entry = self.table[bits.peek(CODE_LENGTH_BITS) as usize];
                let (code, symbol) = (entry & 0xff, entry >> 16);
                let extra = [2, 3, 7].get((symbol as usize).wrapping_sub(16)).copied();
                if code <= bits.count && bits.need(code + extra.unwrap_or(0)) {
                    break entry;
                }
                if !bits.need(bits.count + 1) {
                    return Read::NeedsInput;
                }
            };
            bits.skip(entry & 0xff);
            let (length, repeat) = match entry >> 16 {
                16 => {
                    let Some(last) = self.have.checked_sub(1) else { return Read::Refused };
                    (self.lengths[last], 3 + bits.take(2))
                }
                17 => (0, 3 + bits.take(3)),
                18 => (0, 11 + bits.take(7)),
                length => (length as u8, 1),
            };
            let end = self.have + repeat as usize;
            if end > total {
                return Read::Refused;
            }
            while self.have < end {
                // What is too much is overwritten by what comes next, or not looked at.
                self.lengths[self.have..self.have + RUN].fill(length);
                self.have += RUN;
            }
            self.have = end;
        }
        Read::Done
    }
}
