//! The decoder: blocks one after the other, to the last bit of the input and the last byte of the room.

use super::bits::Bits;
use super::codes::{Codes, FIXED, Pairs};
use super::fast::{self, Stop};
use super::header::{Header, Read};
use super::history::History;
use super::table::{
    DISTANCE_BITS, LITERAL, LITERAL_BITS, OTHER, SUBTABLE, code_bits, ends_block, subtable_index,
    value,
};
use crate::codec::boundary::WINDOW_BYTES;
use crate::codec::error::Error;

/// Output of a block behind which pairs of literals are worth their price, in bytes.
const PAIRS_AFTER: usize = 8 << 10;

/// What one call of [`Inflate::run`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct Step {
    pub(in crate::codec) consumed: usize,
    pub(in crate::codec) produced: usize,
    /// The stream has ended.
    pub(in crate::codec) ended: bool,
    /// Between two blocks: this many bits of the last byte taken belong to the next one.
    pub(in crate::codec) block_end: Option<u8>,
}

/// A raw deflate decoder.
#[derive(Debug)]
pub(in crate::codec) struct Inflate {
    hold: u64,
    count: u32,
    state: State,
    /// The block is the stream's last.
    is_last: bool,
    header: Header,
    is_fixed: bool,
    codes: Box<Codes>,
    /// Output of the block so far, as far as it is looked at.
    block_bytes: usize,
    history: History,
}

/// What comes next in the stream.
#[derive(Clone, Copy, Debug)]
enum State {
    Block,
    StoredLength,
    Stored {
        left: usize,
    },
    Header,
    Symbol,
    /// A symbol that was taken and had no room.
    Literal(u8),
    Match {
        distance: usize,
        length: usize,
    },
    End,
}

/// A symbol.
enum Symbol {
    Literal(u8),
    Match { distance: usize, length: usize },
    EndOfBlock,
    NeedsInput,
    Refused,
}

/// Why a call ends.
enum Exit {
    NeedsInput,
    NoRoom,
    BlockEnd,
    StreamEnd,
}

impl Inflate {
    /// A decoder at the start of a stream.
    pub(in crate::codec) fn new() -> Inflate {
        Inflate {
            hold: 0,
            count: 0,
            state: State::Block,
            is_last: false,
            header: Header::new(),
            is_fixed: false,
            codes: Codes::new(),
            block_bytes: 0,
            history: History::default(),
        }
    }

    /// At the start of a stream again.
    pub(in crate::codec) fn reset(&mut self) {
        (self.hold, self.count) = (0, 0);
        self.state = State::Block;
        self.is_last = false;
        self.history.reset();
    }

    /// Begins in the middle, behind a window of output. To be called on a fresh or reset decoder.
    pub(in crate::codec) fn resume(&mut self, window: Vec<u8>) {
        debug_assert!(window.len() <= WINDOW_BYTES);
        self.history.resume(window);
    }

    /// The upper `bits` bits of `byte` come before the input. To be called before there is any.
    pub(in crate::codec) fn prime(&mut self, bits: u8, byte: u8) {
        debug_assert!((1..=7).contains(&bits) && self.count == 0);
        self.count = u32::from(bits);
        self.hold = u64::from(byte) >> (8 - bits);
    }

    /// What matches copy from.
    pub(in crate::codec) fn history(&mut self) -> &mut History {
        &mut self.history
    }

    /// Decompresses from `input` into `output` from `from` on; the bytes before are those that earlier
    /// calls have written there. With `stop`, not past the end of a block.
    ///
    /// # Errors
    /// zlib would refuse the stream at this place.
    pub(in crate::codec) fn run(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        from: usize,
        stop: bool,
    ) -> Result<Step, Error> {
        self.history.start(from);
        let mut bits = Bits { input, at: 0, hold: self.hold, count: self.count };
        let mut at = from;
        let exit = self.blocks(&mut bits, output, &mut at, stop)?;
        if !matches!(exit, Exit::NeedsInput) {
            bits.give_back();
        }
        (self.hold, self.count) = (bits.hold, bits.count);
        let is_between = matches!(exit, Exit::BlockEnd) && !self.is_last;
        Ok(Step {
            consumed: bits.at,
            produced: at - from,
            ended: matches!(exit, Exit::StreamEnd),
            block_end: is_between.then_some(bits.count as u8),
        })
    }

    fn blocks(
        &mut self,
        bits: &mut Bits<'_>,
        output: &mut [u8],
        at: &mut usize,
        stop: bool,
    ) -> Result<Exit, Error> {
        loop {
            self.state = match self.state {
                State::Block if self.is_last => {
                    bits.align();
                    State::End
                }
                State::Block => {
                    if !bits.need(3) {
                        return Ok(Exit::NeedsInput);
                    }
                    self.is_last = bits.take(1) == 1;
                    self.block_bytes = 0;
                    match bits.take(2) {
                        0 => {
                            bits.align();
                            State::StoredLength
                        }
                        1 => {
                            self.is_fixed = true;
                            State::Symbol
                        }
                        2 => {
                            self.header.begin();
                            State::Header
                        }
                        _ => return Err(invalid()),
                    }
                }
                State::StoredLength => {
                    if !bits.need(32) {
                        return Ok(Exit::NeedsInput);
                    }
                    let (length, complement) = (bits.take(16), bits.take(16));
                    if length ^ complement != 0xffff {
                        return Err(invalid());
                    }
                    bits.give_back();
                    State::Stored { left: length as usize }
                }
                State::Stored { left } => {
                    let input = &bits.input[bits.at..];
                    let count = left.min(input.len()).min(output.len() - *at);
                    output[*at..*at + count].copy_from_slice(&input[..count]);
                    bits.at += count;
                    *at += count;
                    if count < left {
                        self.state = State::Stored { left: left - count };
                        return Ok(match bits.at == bits.input.len() {
                            true => Exit::NeedsInput,
                            false => Exit::NoRoom,
                        });
                    }
                    self.state = State::Block;
                    if stop {
                        return Ok(Exit::BlockEnd);
                    }
                    continue;
                }
                State::Header => match self.header.read(bits, &mut self.codes) {
                    Read::Done => {
                        self.is_fixed = false;
                        State::Symbol
                    }
                    Read::NeedsInput => return Ok(Exit::NeedsInput),
                    Read::Refused => return Err(invalid()),
                },
                State::Symbol => match self.symbols(bits, output, at) {
                    Symbol::Literal(byte) => State::Literal(byte),
                    Symbol::Match { distance, length } => State::Match { distance, length },
                    Symbol::EndOfBlock => {
                        self.state = State::Block;
                        if stop {
                            return Ok(Exit::BlockEnd);
                        }
                        continue;
                    }
                    Symbol::NeedsInput => return Ok(Exit::NeedsInput),
                    Symbol::Refused => return Err(invalid()),
                },
                State::Literal(byte) => {
                    let Some(place) = output.get_mut(*at) else { return Ok(Exit::NoRoom) };
                    *place = byte;
                    *at += 1;
                    State::Symbol
                }
                State::Match { distance, length } => {
                    let count = length.min(output.len() - *at);
                    if count == 0 {
                        return Ok(Exit::NoRoom);
                    }
                    if !self.history.copy(output, *at, distance, count) {
                        return Err(invalid());
                    }
                    *at += count;
                    if count < length {
                        self.state = State::Match { distance, length: length - count };
                        return Ok(Exit::NoRoom);
                    }
                    State::Symbol
                }
                State::End => return Ok(Exit::StreamEnd),
            };
        }
    }

    /// Decodes symbols, the last one of which is for the caller.
    fn symbols(&mut self, bits: &mut Bits<'_>, output: &mut [u8], at: &mut usize) -> Symbol {
        loop {
            let is_plenty = bits.input.len() - bits.at >= fast::MIN_INPUT
                && output.len() - *at >= fast::MIN_ROOM;
            if !is_plenty {
                return symbol(self.codes(), bits);
            }
            let mut until = output.len();
            if !self.is_fixed && self.codes.pairs == Pairs::Unknown {
                match PAIRS_AFTER.checked_sub(self.block_bytes) {
                    Some(left @ 1..) => until = *at + left,
                    _ => self.codes.add_pairs(self.header.literal_lengths()),
                }
            }
            let codes = if self.is_fixed { &**FIXED } else { &*self.codes };
            let from = *at;
            let stopped = fast::decode(codes, bits, output, at, until, &mut self.history);
            self.block_bytes += *at - from;
            match stopped {
                Stop::Short => {}
                Stop::EndOfBlock => return Symbol::EndOfBlock,
                Stop::Refused => return Symbol::Refused,
            }
        }
    }

    fn codes(&self) -> &Codes {
        if self.is_fixed { &FIXED } else { &self.codes }
    }
}

/// Takes one symbol, and no byte that it does not need; nothing if the input ends before it does.
fn symbol(codes: &Codes, bits: &mut Bits<'_>) -> Symbol {
    let Some((entry, behind)) = look_up(&codes.literals, LITERAL_BITS, bits, 0) else {
        return Symbol::NeedsInput;
    };
    if entry & LITERAL != 0 {
        // Of a pair it is the first.
        bits.skip(behind + code_bits(entry));
        return Symbol::Literal((entry >> 16) as u8);
    }
    if entry & OTHER != 0 {
        bits.skip(behind + code_bits(entry));
        return if ends_block(entry) { Symbol::EndOfBlock } else { Symbol::Refused };
    }
    let end = behind + (entry & 0xff);
    if !bits.need(end) {
        return Symbol::NeedsInput;
    }
    let length = value(entry, bits.hold >> behind);
    let Some((entry, behind)) = look_up(&codes.distances, DISTANCE_BITS, bits, end) else {
        return Symbol::NeedsInput;
    };
    if entry & OTHER != 0 {
        return Symbol::Refused;
    }
    let end = behind + (entry & 0xff);
    if !bits.need(end) {
        return Symbol::NeedsInput;
    }
    let distance = value(entry, bits.hold >> behind);
    bits.skip(end);
    Symbol::Match { distance, length }
}

/// The entry of the code behind the next bits, of which `behind` are passed over, and where its own bits
/// begin. Takes bytes until all of the code is there; `None` if the input ends before.
fn look_up(table: &[u32], root: u32, bits: &mut Bits<'_>, behind: u32) -> Option<(u32, u32)> {
    loop {
        let hold = bits.hold >> behind;
        let (mut entry, mut behind) = (table[hold as usize & ((1 << root) - 1)], behind);
        if entry & SUBTABLE != 0 {
            entry = table[subtable_index(entry, hold >> root)];
            behind += root;
        }
        if behind + code_bits(entry) <= bits.count {
            return Some((entry, behind));
        }
        if !bits.need(bits.count + 1) {
            return None;
        }
    }
}

fn invalid() -> Error {
    Error::Gzip("invalid deflate data")
}
