//! The cutter against one over zlib, which looks for ends of blocks and windows as zlib's users do: what is
//! cut elsewhere makes other indexes of the same layers.

use std::io::Write;
use std::sync::mpsc::sync_channel;

use super::*;

#[path = "../../../tests/support/deflate_writer.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
pub(crate) mod deflate_writer;
#[path = "../../../tests/support/zlib.rs"]
#[allow(dead_code, missing_debug_implementations, reason = "other tests need more of it")]
pub(crate) mod zlib;

use deflate_writer::{BitWriter, Block, Dice, Token};
use zlib::Raw;

/// A span, and what is needed to begin at it.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    bytes: Vec<u8>,
    compressed: Range<u64>,
    begin: Begins,
}

#[derive(Debug, PartialEq, Eq)]
enum Begins {
    Continues,
    Here,
    Block { bits: u8, window: Vec<u8> },
}

/// What the cutter makes of a stream that comes in pieces of so many bytes.
fn cuts(stream: &[u8], step: usize) -> Vec<Cut> {
    let (_sender, used) = sync_channel(1);
    let mut cutter = Cutter::new(Compression::Gzip, codec::Limits::default(), &used).unwrap();
    let mut pieces = Vec::new();
    for mut chunk in stream.chunks(step) {
        loop {
            let (progress, piece) = cutter.decode(chunk).unwrap();
            chunk = &chunk[progress.consumed..];
            let is_stuck = progress.consumed == 0 && progress.produced == 0 && piece.is_none();
            pieces.extend(piece);
            if is_stuck {
                break;
            }
        }
    }
    pieces.extend(cutter.finish().unwrap());
    let cut = |piece: Piece| Cut {
        bytes: piece.buffer[..piece.length].to_vec(),
        compressed: piece.compressed,
        begin: match piece.begin {
            Begin::Continues => Begins::Continues,
            Begin::Here => Begins::Here,
            Begin::Block { bits, window } => Begins::Block { bits, window },
        },
    };
    pieces.into_iter().map(cut).filter(|cut| !cut.bytes.is_empty()).collect()
}

/// Members whose header has no optional fields, by zlib.
struct Members {
    raw: Raw,
    /// Bytes of a header or trailer that are still to come, or that of deflate.
    framing: usize,
    is_behind: bool,
    stop: bool,
    block_end: Option<u8>,
}

impl Members {
    fn decode(&mut self, input: &[u8], room: &mut [u8]) -> codec::Progress {
        let (mut consumed, mut produced) = (0, 0);
        while consumed < input.len() || self.framing == 0 {
            if self.framing > 0 {
                let count = self.framing.min(input.len() - consumed);
                self.framing -= count;
                consumed += count;
                if self.framing == 0 && std::mem::replace(&mut self.is_behind, false) {
                    self.framing = 10;
                    self.raw.reset();
                    self.block_end = None;
                    break;
                }
                continue;
            }
            let step = self.raw.run(&input[consumed..], &mut room[produced..], self.stop).unwrap();
            consumed += step.consumed;
            produced += step.produced;
            let is_stuck = step.consumed == 0 && step.produced == 0;
            if !is_stuck {
                self.block_end = step.block_end;
            }
            if step.ended {
                (self.framing, self.is_behind) = (8, true);
            } else if is_stuck || step.block_end.is_some() || produced == room.len() {
                break;
            }
        }
        codec::Progress { consumed, produced }
    }

    fn boundary(&self) -> Option<Boundary> {
        match self.framing {
            10 => Some(Boundary::Start),
            0 => self.block_end.map(|bits| Boundary::Block { bits }),
            _ => None,
        }
    }
}

/// What is to come out, by the rules at the top of the module.
fn expected(stream: &[u8], step: usize) -> Vec<Cut> {
    let mut members =
        Members { raw: Raw::new(), framing: 10, is_behind: false, stop: false, block_end: None };
    let (mut bytes, mut filled) = (vec![0; MAX_SPAN_BYTES], 0);
    let (mut start, mut end, mut consumed) = (0, 0, 0);
    let (mut begin, mut cuts) = (None, Vec::new());
    let mut begins = Vec::new();
    let mut cut = |begin: Option<(u8, Vec<u8>)>, is_here, bytes: &[u8], compressed| {
        begins.push((begin, is_here));
        cuts.push((bytes.to_vec(), compressed));
    };
    let mut is_here = true;
    for mut chunk in stream.chunks(step) {
        loop {
            let due_in = (start + SPAN_COMPRESSED_BYTES).saturating_sub(consumed);
            let is_due = filled >= SPAN_BYTES || due_in == 0;
            members.stop = is_due;
            let (input, room) = match is_due {
                true => (chunk, MAX_SPAN_BYTES),
                false => (&chunk[..chunk.len().min(due_in as usize)], SPAN_BYTES),
            };
            let progress = members.decode(input, &mut bytes[filled..room]);
            filled += progress.produced;
            consumed += progress.consumed as u64;
            chunk = &chunk[progress.consumed..];
            if progress.produced > 0 {
                end = consumed;
            }
            let half = filled >= SPAN_BYTES / 2 || consumed - start >= SPAN_COMPRESSED_BYTES / 2;
            let next = match members.boundary() {
                _ if filled == 0 => None,
                Some(Boundary::Start) if half || is_due => Some((None, true)),
                Some(Boundary::Block { bits }) if is_due && filled >= WINDOW_BYTES => {
                    Some((Some((bits, bytes[filled - WINDOW_BYTES..filled].to_vec())), false))
                }
                _ if filled == MAX_SPAN_BYTES => Some((None, false)),
                _ => None,
            };
            let is_stuck = progress.consumed == 0 && progress.produced == 0 && next.is_none();
            if let Some((next, next_is_here)) = next {
                cut(begin.take(), is_here, &bytes[..filled], start..end.max(start));
                let shares_byte = matches!(next, Some((1.., _)));
                start = consumed - u64::from(shares_byte);
                (begin, is_here, filled) = (next, next_is_here, 0);
            }
            if is_stuck {
                break;
            }
        }
    }
    assert_eq!(members.boundary(), Some(Boundary::Start), "the stream is all there");
    if filled > 0 {
        cut(begin.take(), is_here, &bytes[..filled], start..end.max(start));
    }
    let used = |bits, window: &[u8], from: u64, truth: &[u8]| {
        zlib::used_of_window(window, bits, &stream[from as usize..], truth)
    };
    let cuts = cuts.into_iter().zip(begins).map(|((bytes, compressed), (begin, is_here))| Cut {
        begin: match (begin, is_here) {
            (Some((bits, window)), _) => {
                let window = used(bits, &window, compressed.start, &bytes);
                Begins::Block { bits, window }
            }
            (None, true) => Begins::Here,
            (None, false) => Begins::Continues,
        },
        bytes,
        compressed,
    });
    cuts.collect()
}

/// How the cuts of a stream can be begun at; they are the expected ones, whatever pieces it comes in.
fn check(what: &str, stream: &[u8]) -> [usize; 3] {
    let mut begins = [0; 3];
    for step in [128 << 10, stream.len(), 10_007] {
        let (cuts, expected) = (cuts(stream, step), expected(stream, step));
        for (at, (cut, expected)) in cuts.iter().zip(&expected).enumerate() {
            assert_eq!(cut.compressed, expected.compressed, "{what}: span {at} by {step}");
            assert!(cut == expected, "{what}: span {at} by {step}");
        }
        assert_eq!(cuts.len(), expected.len(), "{what} by {step}");
        begins = [0; 3];
        for cut in &cuts {
            begins[match cut.begin {
                Begins::Here => 0,
                Begins::Block { .. } => 1,
                Begins::Continues => 2,
            }] += 1;
        }
    }
    begins
}

/// A member around raw deflate. Nothing here looks at its trailer.
fn member(deflate: &[u8]) -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0], deflate, &[0; 8]].concat()
}

/// Lines of a made-up language, some of which come again.
fn text(length: usize) -> Vec<u8> {
    let (mut dice, mut text) = (Dice(5), Vec::new());
    while text.len() < length {
        match text.len().checked_sub(1 + dice.below(50_000)) {
            Some(from) if dice.below(3) > 0 => {
                let count = 4 + dice.below(40);
                for at in from..from + count {
                    text.push(text[at]);
                }
            }
            _ => text.extend_from_slice(format!("{:x} ", dice.below(1 << 30)).as_bytes()),
        }
    }
    text.truncate(length);
    text
}

fn deflated(data: &[u8], level: u32) -> Vec<u8> {
    let level = flate2::Compression::new(level);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn layers_of_compressors() {
    let data = text(9_000_000);
    for level in [0, 1, 6, 9] {
        let [here, block, continues] = check("one member", &member(&deflated(&data, level)));
        // The fastest level writes blocks that are longer than a span can be.
        assert!(here == 1 && block + continues >= 2, "{level}: {block} {continues}");
        assert!(block > 1 || level == 1, "{level}: {block}");
    }
    let members: Vec<u8> =
        data.chunks(70_001).flat_map(|part| member(&deflated(part, 6))).collect();
    let [here, block, continues] = check("many members", &members);
    assert!(here > 6 && block == 0 && continues == 0, "{here} {block} {continues}");
    let members: Vec<u8> =
        data.chunks(3_000_000).flat_map(|part| member(&deflated(part, 9))).collect();
    let [here, block, _] = check("large members", &members);
    assert!(here == 3 && block > 0, "{here} {block}");
}

/// As `pigz` writes: blocks of 128 KiB, and an empty stored one behind each. Twenty of them are a span to
/// the byte, which is full where a block ends.
#[test]
fn spans_that_are_full_where_a_block_ends() {
    const PART: usize = 128 << 10;
    assert_eq!(SPAN_BYTES % PART, 0);
    let mut flushed = Vec::new();
    let mut encoder = flate2::write::DeflateEncoder::new(&mut flushed, flate2::Compression::fast());
    for part in text(50 * PART).chunks(PART) {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap();
    let [here, block, continues] = check("flushed", &member(&flushed));
    assert_eq!((here, continues), (1, 0));
    assert!(block >= 2);
    // Without the stored block, and so that input is far from what ends a span.
    let mut tokens = vec![Token::Literal(b'a'), Token::Literal(b'b')];
    tokens.extend([Token::Match { length: 258, distance: 2 }; PART / 258]);
    let mut left = PART - 2 - 258 * (PART / 258);
    while left > 0 {
        let length = left.min(30);
        tokens.push(Token::Match { length: length as u16, distance: 2 });
        left -= length;
    }
    let blocks: Vec<Block> =
        (0..65).map(|shape| Block::Dynamic { tokens: tokens.clone(), shape }).collect();
    let (stream, output) = deflate_writer::stream(&blocks, &[]);
    assert_eq!(output.len(), 65 * PART);
    let [here, block, continues] = check("blocks of a twentieth", &member(&stream));
    // zlib goes on to the end of the next block: spans of 21 blocks.
    assert_eq!((here, block, continues), (1, 3, 0));
}

/// Blocks that are longer than a span can be, and such as are empty.
#[test]
fn blocks_of_odd_sizes() {
    let long = Block::Dynamic {
        tokens: vec![Token::Match { length: 258, distance: 1 }; 20_000],
        shape: 3,
    };
    let many = Block::Fixed(vec![Token::Literal(b'x'); 40_000]);
    let mut dice = Dice(2);
    let mut blocks = vec![many.clone()];
    for at in 0..150 {
        blocks.push(match dice.below(7) {
            0 => Block::Stored(vec![]),
            1 => Block::Fixed(vec![]),
            2 => Block::Stored(vec![at; dice.below(65_536)]),
            3 if at % 3 == 0 => long.clone(),
            3 | 4 => many.clone(),
            _ => Block::Dynamic {
                tokens: (0..dice.below(30_000))
                    .map(|_| Token::Literal(dice.below(40) as u8))
                    .collect(),
                shape: at.into(),
            },
        });
    }
    let (stream, _) = deflate_writer::stream(&blocks, &[]);
    let [_, block, continues] = check("odd blocks", &member(&stream));
    assert!(block > 3 && continues > 3, "{block} {continues}");
    // A member's last block that fills the longest span to the byte, and another member.
    let full = |bytes: usize| {
        let mut out = BitWriter::default();
        let mut tokens = vec![Token::Literal(b'x'); 1 + (bytes - 1) % 258];
        tokens.extend(vec![Token::Match { length: 258, distance: 1 }; (bytes - 1) / 258]);
        let mut output = Vec::new();
        deflate_writer::block(&mut out, &Block::Fixed(tokens), true, 0, &mut output);
        assert_eq!(output.len(), bytes);
        member(&out.bytes)
    };
    for bytes in [MAX_SPAN_BYTES, MAX_SPAN_BYTES - 1, SPAN_BYTES, SPAN_BYTES - 1, SPAN_BYTES / 2] {
        let [here, ..] = check("full members", &[full(bytes), full(1000), full(bytes)].concat());
        assert!(here > 0);
    }
}
