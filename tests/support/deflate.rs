//! Inflates bit by bit, to know at which bit each block begins (RFC 1951 and 1952).
//!
//! Decompression libraries do not tell. This one is slow, panics on damage, and takes its codes
//! from the definition: a Huffman code is the number of codes of each length, and the symbols in
//! the order of their codes.

/// A place between two blocks of a gzip stream at which decompression can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Bits of the stream before it.
    pub bit: u64,
    /// Uncompressed bytes before it.
    pub out: usize,
}

/// Inflates all members of a gzip stream. Boundaries are where zlib's `Z_BLOCK` stops: behind each
/// member's header, and behind each block that is not its member's last.
pub fn walk(gzip: &[u8]) -> (Vec<u8>, Vec<Boundary>) {
    let mut inflater = Inflater::new(gzip, 0, &[]);
    let mut boundaries = Vec::new();
    while inflater.bit < 8 * gzip.len() as u64 {
        inflater.member_header();
        loop {
            boundaries.push(Boundary { bit: inflater.bit, out: inflater.out.len() });
            if inflater.block() {
                break;
            }
        }
        inflater.member_trailer();
    }
    (inflater.out, boundaries)
}

/// Inflates `length` bytes from the middle of a stream, where a block begins at `bit`.
pub fn resume(gzip: &[u8], bit: u64, window: &[u8], length: usize) -> Vec<u8> {
    let mut inflater = Inflater::new(gzip, bit, window);
    while inflater.out.len() < window.len() + length {
        if inflater.block() && inflater.out.len() < window.len() + length {
            inflater.member_trailer();
            inflater.member_header();
        }
    }
    inflater.out[window.len()..][..length].to_vec()
}

struct Inflater<'a> {
    input: &'a [u8],
    bit: u64,
    out: Vec<u8>,
}

/// The first length that a symbol stands for, and the number of extra bits behind it.
fn length(symbol: usize) -> (usize, u32) {
    match symbol - 257 {
        28 => (258, 0),
        s @ 0..8 => (3 + s, 0),
        s => (3 + ((4 + s % 4) << (s / 4 - 1)), (s / 4 - 1) as u32),
    }
}

/// As [`length`], for distances.
fn distance(symbol: usize) -> (usize, u32) {
    match symbol {
        s @ 0..4 => (1 + s, 0),
        s => (1 + ((2 + s % 2) << (s / 2 - 1)), (s / 2 - 1) as u32),
    }
}

struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Code {
        let mut counts = [0; 16];
        lengths.iter().filter(|length| **length > 0).for_each(|length| counts[*length] += 1);
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|s| lengths[*s] > 0).collect();
        symbols.sort_by_key(|symbol| (lengths[*symbol], *symbol));
        Code { counts, symbols }
    }
}

impl<'a> Inflater<'a> {
    fn new(input: &'a [u8], bit: u64, window: &[u8]) -> Inflater<'a> {
        Inflater { input, bit, out: window.to_vec() }
    }

    fn bits(&mut self, count: u32) -> usize {
        let mut value = 0;
        for place in 0..count {
            let byte = self.input[(self.bit / 8) as usize];
            value |= usize::from(byte >> (self.bit % 8) & 1) << place;
            self.bit += 1;
        }
        value
    }

    fn symbol(&mut self, code: &Code) -> usize {
        let (mut value, mut first, mut at) = (0, 0, 0);
        for count in &code.counts[1..] {
            value |= self.bits(1);
            if value < first + count {
                return code.symbols[at + value - first];
            }
            at += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        panic!("a code that no symbol has, before bit {}", self.bit)
    }

    /// Takes one block; true if it was the last of its member.
    fn block(&mut self) -> bool {
        let last = self.bits(1) == 1;
        match self.bits(2) {
            0 => self.stored(),
            1 => {
                let lengths: Vec<usize> = (0..288)
                    .map(|symbol| match symbol {
                        0..144 => 8,
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                self.compressed(&Code::new(&lengths), &Code::new(&[5; 30]));
            }
            2 => {
                let (literals, distances) = self.dynamic_codes();
                self.compressed(&literals, &distances);
            }
            _ => panic!("a block of type 3 before bit {}", self.bit),
        }
        last
    }

    fn stored(&mut self) {
        self.bit = self.bit.next_multiple_of(8);
        let length = self.bits(16);
        assert_eq!(length ^ 0xffff, self.bits(16), "stored length before bit {}", self.bit);
        let at = (self.bit / 8) as usize;
        self.out.extend_from_slice(&self.input[at..at + length]);
        self.bit += 8 * length as u64;
    }

    fn dynamic_codes(&mut self) -> (Code, Code) {
        const ORDER: [usize; 19] =
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances) = (self.bits(5) + 257, self.bits(5) + 1);
        let count = self.bits(4) + 4;
        let mut lengths = [0; 19];
        for at in &ORDER[..count] {
            lengths[*at] = self.bits(3);
        }
        let code = Code::new(&lengths);
        let mut lengths: Vec<usize> = Vec::new();
        while lengths.len() < literals + distances {
            let (length, repeat) = match self.symbol(&code) {
                16 => (*lengths.last().unwrap(), 3 + self.bits(2)),
                17 => (0, 3 + self.bits(3)),
                18 => (0, 11 + self.bits(7)),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(length, repeat));
        }
        (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
    }

    fn compressed(&mut self, literals: &Code, distances: &Code) {
        loop {
            match self.symbol(literals) {
                literal @ 0..256 => self.out.push(literal as u8),
                256 => return,
                symbol => {
                    let (least, extra) = length(symbol);
                    let length = least + self.bits(extra);
                    let (least, extra) = distance(self.symbol(distances));
                    let distance = least + self.bits(extra);
                    for _ in 0..length {
                        self.out.push(self.out[self.out.len() - distance]);
                    }
                }
            }
        }
    }

    fn member_header(&mut self) {
        let start = (self.bit / 8) as usize;
        let flags = self.input[start + 3];
        let mut at = start + 10;
        if flags & 4 != 0 {
            at += 2 + usize::from(u16::from_le_bytes([self.input[at], self.input[at + 1]]));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                at += self.input[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
            }
        }
        at += if flags & 2 != 0 { 2 } else { 0 };
        self.bit = 8 * at as u64;
    }

    fn member_trailer(&mut self) {
        self.bit = self.bit.next_multiple_of(8) + 64;
    }
}
