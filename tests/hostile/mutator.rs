//! Changes valid inputs, always in the same way for the same seed.
//!
//! Random bytes rarely get past a magic number, so every case begins with something valid. The
//! changes are those that parsers trip over: bytes and bits, numbers at the ends of their range, in
//! binary and in digits, blocks that are missing, doubled or exchanged, and halves of two inputs.

/// A source of random numbers: SplitMix64, the same on every machine and in every release.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a case.
    pub fn new(seed: u64, case: u64) -> Random {
        let mut random = Random(seed);
        random.0 = random.next() ^ case;
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit as u64).max(1)) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// The longest input that is made, as a multiple of the longest valid one.
const MAX_GROWTH: usize = 2;

/// Sizes of what formats are made of: digits, records of tables, tar blocks, pages.
const BLOCKS: [usize; 9] = [1, 2, 4, 8, 16, 64, 512, 1024, 4096];

/// Bytes that have a meaning in many formats.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff \n\t\"\\/.:=,;@{}[]-+09a";

/// Numbers as texts, at and past the ends of what readers keep them in.
const TEXTS: [&str; 13] = [
    "0",
    "-1",
    "1",
    "511",
    "4096",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
];

/// A changed input, made of `valid` ones.
pub fn mutate(valid: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = valid[random.below(valid.len())].clone();
    let longest = valid.iter().map(Vec::len).max().unwrap_or_default();
    // One change more often than many: the first that a parser refuses hides the others.
    let changes = 1 + random.next().trailing_ones().min(6);
    for _ in 0..changes {
        change(&mut bytes, valid, random);
    }
    bytes.truncate(longest * MAX_GROWTH + 64);
    bytes
}

fn change(bytes: &mut Vec<u8>, valid: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(20) {
        _ if bytes.is_empty() => bytes.push(random.byte()),
        0..4 => bytes[at] = random.byte(),
        4..6 => bytes[at] ^= 1 << random.below(8),
        6..8 => bytes[at] = BYTES[random.below(BYTES.len())],
        8..11 => put_number(bytes, at, random),
        11..13 => put_digits(bytes, at, random),
        13 => bytes.truncate(at),
        14..18 => move_blocks(bytes, random),
        18 => splice(bytes, random.of(&refs(valid)), random),
        _ => {
            let end = bytes.len().min(at + 1 + random.below(64));
            let byte = BYTES[random.below(BYTES.len())];
            bytes[at..end].fill(byte);
        }
    }
}

fn refs(valid: &[Vec<u8>]) -> Vec<&[u8]> {
    valid.iter().map(Vec::as_slice).collect()
}

/// Overwrites or moves a number of 2, 4 or 8 bytes, in either order of bytes.
fn put_number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = [2, 4, 8][random.below(3)];
    // Most formats align their numbers.
    let at = if random.below(2) == 0 { at / width * width } else { at };
    let length = bytes.len() as u64;
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let is_little = random.below(4) > 0;
    if !is_little {
        field.reverse();
    }
    let old = field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let step = 1 + random.below(600) as u64;
    let new = match random.below(12) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX >> 1,
        4 => 1 << (8 * width - 1),
        5 => length,
        6 => length - at as u64,
        7 => 1 << random.below(8 * width),
        8 => (1 << random.below(8 * width)) - 1,
        9 => random.next(),
        10 => old.wrapping_add(step),
        _ => old.wrapping_sub(step),
    };
    field.copy_from_slice(&new.to_le_bytes()[..width]);
    if !is_little {
        field.reverse();
    }
}

/// Replaces the next number that is written in digits: within its width, as in the fields of a tar
/// header, or by one of another length.
fn put_digits(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(skipped) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + skipped;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = start..start + length;
    match random.below(5) {
        0 => bytes[number].fill(b'0'),
        1 => bytes[number].fill(b'7'),
        2 => {
            let last = &mut bytes[number.end - 1];
            *last = if *last == b'7' { b'0' } else { *last + 1 };
        }
        3 => {
            let text = TEXTS[random.below(TEXTS.len())].as_bytes();
            let skipped = length.saturating_sub(text.len());
            bytes[number.start..number.start + skipped].fill(b'0');
            let text = &text[..text.len().min(length)];
            bytes[number.end - text.len()..number.end].copy_from_slice(text);
        }
        _ => drop(bytes.splice(number, TEXTS[random.below(TEXTS.len())].bytes())),
    }
}

/// Removes, doubles or exchanges blocks of one size, which begin at a multiple of it or anywhere.
fn move_blocks(bytes: &mut Vec<u8>, random: &mut Random) {
    let size = BLOCKS[random.below(BLOCKS.len())] * (1 + random.below(3));
    let size = size.min(bytes.len());
    let is_aligned = random.below(3) > 0;
    let place = |random: &mut Random| {
        let at = random.below(bytes.len() - size + 1);
        if is_aligned { at / size * size } else { at }
    };
    let (one, other) = (place(random), place(random));
    match random.below(3) {
        0 => drop(bytes.drain(one..one + size)),
        1 => {
            let copy = bytes[one..one + size].to_vec();
            drop(bytes.splice(other..other, copy));
        }
        _ if one.abs_diff(other) >= size => {
            let (low, high) = (one.min(other), one.max(other));
            let (left, right) = bytes.split_at_mut(high);
            left[low..low + size].swap_with_slice(&mut right[..size]);
        }
        _ => bytes[one..one + size].reverse(),
    }
}

/// Goes on with another input: from the same place, from any, or with a piece of it in between.
fn splice(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let (at, from) = (random.below(bytes.len()), random.below(other.len()));
    match random.below(3) {
        0 => bytes.splice(at.., other.get(at..).unwrap_or_default().iter().copied()),
        1 => bytes.splice(at.., other[from..].iter().copied()),
        _ => {
            let end = other.len().min(from + 1 + random.below(512));
            bytes.splice(at..at, other[from..end].iter().copied())
        }
    };
}
