//! Writes raw deflate block by block, with codes of any shape (RFC 1951).
//!
//! Compressors write what compresses well. This one writes what it is told: the longest codes, distances
//! and matches, blocks without a byte, headers that repeat lengths over the border of both codes.

/// What one symbol, or two of them, stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Literal(u8),
    /// 3 to 258 bytes from 1 to 32768 back; from further back than there is anything, less far.
    Match {
        length: u16,
        distance: u16,
    },
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Stored(Vec<u8>),
    Fixed(Vec<Token>),
    /// With codes for the symbols it has, whose lengths, and the way they are written down, depend on
    /// `shape`.
    Dynamic {
        tokens: Vec<Token>,
        shape: u64,
    },
}

/// The order in which the lengths of the code for lengths come.
pub const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Bits, the first one lowest in the first byte.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    pub bytes: Vec<u8>,
    /// How many bits the last byte has, 1 to 8, if there is one.
    bits: u32,
}

impl BitWriter {
    /// Writes the lowest bits of a number, the lowest first.
    pub fn bits(&mut self, value: u32, count: u32) -> &mut BitWriter {
        for place in 0..count {
            if self.bytes.is_empty() || self.bits == 8 {
                self.bytes.push(0);
                self.bits = 0;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> place & 1) as u8) << self.bits;
            }
            self.bits += 1;
        }
        self
    }

    /// Writes a code, its highest bit first.
    pub fn code(&mut self, (code, length): (u32, u32)) -> &mut BitWriter {
        assert!(length > 0, "a symbol without a code");
        for place in (0..length).rev() {
            self.bits(code >> place, 1);
        }
        self
    }

    /// Fills up the last byte, with ones if `ones`: any bits are allowed there.
    pub fn align(&mut self, ones: bool) -> &mut BitWriter {
        while !self.bytes.is_empty() && self.bits < 8 {
            self.bits(u32::from(ones), 1);
        }
        self
    }

    /// The place behind the last bit, in bits.
    pub fn position(&self) -> usize {
        (8 * self.bytes.len()).saturating_sub(8 - self.bits as usize)
    }
}

/// Numbers that look random and come again with the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// The codes of symbols with these lengths: the value and the number of its bits.
pub fn codes(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut next = 0;
    let mut codes = vec![(0, 0); lengths.len()];
    for length in 1..=15 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| **l == length) {
            codes[symbol] = (next, u32::from(length));
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// The lengths of a complete code for so many symbols, none above `max`: a tree that grew where the dice
/// fell. One symbol has one bit.
fn grow(symbols: usize, max: u8, dice: &mut Dice) -> Vec<u8> {
    let mut leaves = vec![1; symbols.min(2)];
    // Some trees are deep.
    let is_deep = dice.below(3) == 0;
    while leaves.len() < symbols {
        let at = match is_deep && dice.below(8) > 0 {
            true => leaves.len() - 1,
            false => dice.below(leaves.len()),
        };
        let at = match leaves[at] < max {
            true => at,
            false => leaves.iter().position(|depth| *depth < max).unwrap(),
        };
        leaves[at] += 1;
        leaves.push(leaves[at]);
    }
    for at in (1..leaves.len()).rev() {
        let other = dice.below(at + 1);
        leaves.swap(at, other);
    }
    leaves
}

/// Lengths of codes for those of the symbols that are used.
fn lengths(used: &[bool], max: u8, dice: &mut Dice) -> Vec<u8> {
    let mut grown = grow(used.iter().filter(|used| **used).count(), max, dice).into_iter();
    used.iter().map(|used| if *used { grown.next().unwrap() } else { 0 }).collect()
}

/// The symbol of a length, the number of its extra bits, and their value.
fn length_symbol(length: u16) -> (usize, u32, u32) {
    let length = u32::from(length);
    match length - 3 {
        255 => (285, 0, 0),
        rest @ 0..8 => (257 + rest as usize, 0, 0),
        rest => {
            let extra = rest.ilog2() - 2;
            (257 + (4 * extra + (rest >> extra)) as usize, extra, rest & ((1 << extra) - 1))
        }
    }
}

/// The same of a distance.
fn distance_symbol(distance: u16) -> (usize, u32, u32) {
    match u32::from(distance) - 1 {
        rest @ 0..4 => (rest as usize, 0, 0),
        rest => {
            let extra = rest.ilog2() - 1;
            ((2 * extra + (rest >> extra)) as usize, extra, rest & ((1 << extra) - 1))
        }
    }
}

/// Writes tokens and the end of the block.
fn tokens(out: &mut BitWriter, tokens: &[Token], literals: &[u8], distances: &[u8]) {
    let (literals, distances) = (codes(literals), codes(distances));
    for token in tokens {
        match *token {
            Token::Literal(byte) => {
                out.code(literals[usize::from(byte)]);
            }
            Token::Match { length, distance } => {
                let (symbol, extra, value) = length_symbol(length);
                out.code(literals[symbol]).bits(value, extra);
                let (symbol, extra, value) = distance_symbol(distance);
                out.code(distances[symbol]).bits(value, extra);
            }
        }
    }
    out.code(literals[256]);
}

/// The lengths of the fixed codes.
pub fn fixed_lengths() -> (Vec<u8>, Vec<u8>) {
    let literals = (0..288).map(|symbol| match symbol {
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    });
    (literals.collect(), vec![5; 32])
}

/// Writes the header of a dynamic block behind its type: both rows of lengths.
pub fn header(out: &mut BitWriter, literals: &[u8], distances: &[u8], dice: &mut Dice) {
    let row = [literals, distances].concat();
    // A symbol, its extra bits and how many.
    let mut written: Vec<(usize, u32, u32)> = Vec::new();
    let mut at = 0;
    while at < row.len() {
        let run = row[at..].iter().take_while(|length| **length == row[at]).count();
        let most = if row[at] == 0 { 138 } else { 6 };
        let run = 1 + dice.below(run.min(most));
        let is_repetition = at > 0 && row[at] == row[at - 1] && (3..=6).contains(&run);
        let (symbol, count) = match (row[at], run) {
            _ if is_repetition && dice.below(2) == 0 => ((16, run as u32 - 3, 2), run),
            (0, 3..=10) => ((17, run as u32 - 3, 3), run),
            (0, 11..) => ((18, run as u32 - 11, 7), run),
            (length, _) => ((usize::from(length), 0, 0), 1),
        };
        written.push(symbol);
        at += count;
    }
    let mut used = [false; 19];
    written.iter().for_each(|(symbol, ..)| used[*symbol] = true);
    // A code of one symbol is refused here.
    while used.iter().filter(|used| **used).count() < 2 {
        used[dice.below(19)] = true;
    }
    let lengths = lengths(&used, 7, dice);
    let count = ORDER.iter().rposition(|symbol| lengths[*symbol] > 0).unwrap() + 1;
    let count = count.max(4);
    out.bits(literals.len() as u32 - 257, 5).bits(distances.len() as u32 - 1, 5);
    out.bits(count as u32 - 4, 4);
    ORDER[..count].iter().for_each(|symbol| {
        out.bits(lengths[*symbol].into(), 3);
    });
    let codes = codes(&lengths);
    for (symbol, value, extra) in written {
        out.code(codes[symbol]).bits(value, extra);
    }
}

/// Matches that reach further back than `before` bytes and the output so far reach less far, and what the
/// tokens stand for is put behind the output.
fn put_out(tokens: &[Token], before: usize, output: &mut Vec<u8>) -> Vec<Token> {
    let mut done = Vec::with_capacity(tokens.len());
    for token in tokens {
        let token = match *token {
            Token::Match { distance, .. } if output.len() == before => {
                Token::Literal(distance as u8)
            }
            Token::Match { length, distance } => {
                let there = (output.len() - before).min(32768);
                let distance = 1 + (usize::from(distance) - 1) % there;
                Token::Match { length, distance: distance as u16 }
            }
            literal => literal,
        };
        match token {
            Token::Literal(byte) => output.push(byte),
            Token::Match { length, distance } => {
                for _ in 0..length {
                    output.push(output[output.len() - usize::from(distance)]);
                }
            }
        }
        done.push(token);
    }
    done
}

/// Writes one block, and puts what it stands for behind `output`, in which matches may reach back to
/// `before`.
pub fn block(
    out: &mut BitWriter,
    block: &Block,
    is_last: bool,
    before: usize,
    output: &mut Vec<u8>,
) {
    out.bits(u32::from(is_last), 1);
    match block {
        Block::Stored(bytes) => {
            let length = u32::from(u16::try_from(bytes.len()).unwrap());
            out.bits(0, 2).align(length % 2 == 1).bits(length, 16).bits(!length, 16);
            out.bytes.extend_from_slice(bytes);
            output.extend_from_slice(bytes);
        }
        Block::Fixed(plan) => {
            out.bits(1, 2);
            let (literals, distances) = fixed_lengths();
            tokens(out, &put_out(plan, before, output), &literals, &distances);
        }
        Block::Dynamic { tokens: plan, shape } => {
            let plan = put_out(plan, before, output);
            let (mut literals, mut distances) = ([false; 286], [false; 30]);
            literals[256] = true;
            for token in &plan {
                match *token {
                    Token::Literal(byte) => literals[usize::from(byte)] = true,
                    Token::Match { length, distance } => {
                        literals[length_symbol(length).0] = true;
                        distances[distance_symbol(distance).0] = true;
                    }
                }
            }
            let mut dice = Dice(*shape);
            // Symbols that the block does not need.
            for _ in 0..dice.below(3) * dice.below(60) {
                literals[dice.below(286)] = true;
                distances[dice.below(30)] = true;
            }
            let end = |used: &[bool], least: usize, dice: &mut Dice| {
                let end = used.iter().rposition(|used| *used).map_or(0, |last| last + 1).max(least);
                end + dice.below(used.len() - end + 1)
            };
            let literals = &literals[..end(&literals, 257, &mut dice)];
            let distances = &distances[..end(&distances, 1, &mut dice)];
            let literals = lengths(literals, 15, &mut dice);
            let distances = lengths(distances, 15, &mut dice);
            out.bits(2, 2);
            header(out, &literals, &distances, &mut dice);
            tokens(out, &plan, &literals, &distances);
        }
    }
}

/// A stream of these blocks behind `window`, and what it stands for.
pub fn stream(blocks: &[Block], window: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut output) = (BitWriter::default(), window.to_vec());
    for (at, one) in blocks.iter().enumerate() {
        block(&mut out, one, at + 1 == blocks.len(), 0, &mut output);
    }
    output.drain(..window.len());
    (out.bytes, output)
}
