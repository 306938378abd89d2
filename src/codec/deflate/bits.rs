//! The input of a decoder as bits: the first one is the lowest of the first byte.
//!
//! # Invariants
//!
//! - The lowest `count` bits of `hold` are the next ones of the stream. Those above are zeros, or what
//!   follows in the stream, so that taking the same byte twice does no harm.
//! - Between two calls of a decoder `count` is below 8, unless it waits for more input: bytes that were
//!   taken too early are given back.

/// Bits that are sure to be there after [`Bits::refill`].
pub(super) const REFILLED: u32 = 56;

/// A reader of bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    pub(super) input: &'a [u8],
    /// Bytes taken of the input.
    pub(super) at: usize,
    pub(super) hold: u64,
    pub(super) count: u32,
}

impl Bits<'_> {
    /// Takes bytes one at a time until there are `bits`, at most [`REFILLED`]; false if the input ends
    /// before.
    #[inline(always)]
    pub(super) fn need(&mut self, bits: u32) -> bool {
        while self.count < bits {
            let Some(byte) = self.input.get(self.at) else { return false };
            self.hold |= u64::from(*byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
        true
    }

    /// Takes eight bytes at once, as far as they find room; false if the input ends before.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> bool {
        let Some(word) = self.input.get(self.at..).and_then(|rest| rest.first_chunk()) else {
            return false;
        };
        self.hold |= u64::from_le_bytes(*word).wrapping_shl(self.count);
        self.at = self.at.wrapping_add((63 ^ self.count) as usize >> 3);
        self.count |= REFILLED;
        true
    }

    /// The next bits, which must be there.
    #[inline(always)]
    pub(super) fn peek(&self, bits: u32) -> u32 {
        self.hold as u32 & ((1 << bits) - 1)
    }

    /// Takes bits, which must be there.
    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        debug_assert!(bits <= self.count);
        self.hold = self.hold.wrapping_shr(bits);
        self.count = self.count.wrapping_sub(bits);
    }

    /// Takes the next bits, which must be there.
    #[inline(always)]
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        let value = self.peek(bits);
        self.skip(bits);
        value
    }

    /// Takes the bits up to the next byte.
    pub(super) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// Gives back the whole bytes that are left.
    pub(super) fn give_back(&mut self) {
        self.at -= self.count as usize / 8;
        self.count %= 8;
        self.hold &= (1 << self.count) - 1;
    }
}
