//! The deflate decoder against zlib, call by call: the same bytes taken and given, the same ends of
//! blocks, the same windows, the same refusals.

use ocifs::codec::{Boundary, Compression, Decoder, WINDOW_BYTES};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::hostile::deflate::{Case, LIMIT, Outcome, compare};
use crate::support::deflate_writer::{
    BitWriter, Block, Dice, ORDER, Token, block, codes, fixed_lengths, header, stream,
};
use crate::support::zlib::Raw;

/// Behind what a stream can begin.
fn window(length: usize) -> Vec<u8> {
    let mut dice = Dice(length as u64);
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// Decodes in many ways of cutting input and output into pieces.
fn outcome(stream: &[u8], window: &[u8]) -> Outcome {
    let case = |seed| Case { stream, bits: 0, window, seed };
    let first = compare(case(0));
    for seed in 1..12 {
        let other = compare(case(seed));
        assert!(first == other, "seed {seed}: {first:?} and {other:?}");
    }
    first
}

fn accepted(stream: &[u8]) -> Vec<u8> {
    match outcome(stream, &[]) {
        Outcome::Ended(out) => out,
        other => panic!("{other:?}"),
    }
}

fn token() -> impl Strategy<Value = Token> {
    let length = prop_oneof![3 => 3..=10u16, 2 => 3..=258u16, 1 => Just(258)];
    let distance = prop_oneof![
        2 => 1..=20u16, 2 => 1..=300u16, 2 => 1..=32768u16, 1 => Just(32768), 1 => 32500..=32768u16
    ];
    let literal = prop_oneof![any::<u8>(), b'a'..=b'f'];
    prop_oneof![
        3 => literal.prop_map(Token::Literal),
        2 => (length, distance).prop_map(|(length, distance)| Token::Match { length, distance }),
    ]
}

fn tokens() -> impl Strategy<Value = Vec<Token>> {
    // Some blocks are long enough for all ways through the decoder.
    let times = prop_oneof![5 => Just(1usize), 2 => 1..40usize, 1 => 100..400usize];
    (vec(token(), 0..120), times).prop_map(|(tokens, times)| {
        let mut tokens = tokens.repeat(times);
        tokens.truncate(12_000);
        tokens
    })
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let stored = prop_oneof![vec(any::<u8>(), 0..300), vec(any::<u8>(), 30_000..40_000)];
    let block = prop_oneof![
        1 => stored.prop_map(Block::Stored),
        1 => tokens().prop_map(Block::Fixed),
        3 => (tokens(), any::<u64>()).prop_map(|(tokens, shape)| Block::Dynamic { tokens, shape }),
    ];
    vec(block, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What a writer that follows the specification has written comes out, and zlib does in each call
    /// what the decoder does.
    #[test]
    fn streams_made_block_by_block(
        blocks in blocks(), behind in prop_oneof![Just(0), 0..=WINDOW_BYTES, Just(WINDOW_BYTES)],
        seed: u64,
    ) {
        let window = window(behind);
        let (stream, expected) = stream(&blocks, &window);
        for seed in [seed, seed ^ 0xff] {
            let case = Case { stream: &stream, bits: 0, window: &window, seed };
            match compare(case) {
                Outcome::Ended(out) => prop_assert!(out == expected, "not what was written"),
                Outcome::NotAllThere(out) => {
                    prop_assert!(out.len() > LIMIT && expected.starts_with(&out));
                }
                Outcome::Refused => prop_assert!(false, "it was refused"),
            }
        }
    }

    /// Damage is refused where zlib refuses it, and what it does not refuse comes out as it does there.
    #[test]
    fn damaged_streams(
        blocks in blocks(), seed: u64, flips in vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
        at_start in any::<bool>(), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut stream, _) = stream(&blocks, &[]);
        for (at, bit) in flips {
            // Headers of blocks are short, and most can go wrong there.
            let bytes = if at_start { stream.len().min(90) } else { stream.len() };
            stream[at.index(bytes)] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            stream.truncate(cut.index(stream.len()));
        }
        compare(Case { stream: &stream, bits: 0, window: &[], seed });
    }

    /// Any bit of a stream can be taken for the start of a block.
    #[test]
    fn streams_begun_anywhere(
        blocks in blocks(), seed: u64, at: prop::sample::Index, bits in 0..8u8, behind in 0..=WINDOW_BYTES,
    ) {
        let (stream, _) = stream(&blocks, &[]);
        let rest = &stream[at.index(stream.len())..];
        compare(Case { stream: rest, bits, window: &window(behind), seed });
    }
}

/// Literals.
fn literals(bytes: &[u8]) -> Vec<Token> {
    bytes.iter().map(|byte| Token::Literal(*byte)).collect()
}

/// A dynamic block's header with these lengths, and what follows.
fn dynamic(literals: &[u8], distances: &[u8]) -> BitWriter {
    let mut out = BitWriter::default();
    out.bits(1, 1).bits(2, 2);
    header(&mut out, literals, distances, &mut Dice(1));
    out
}

/// Lengths of a code with these symbols.
fn lengths(count: usize, of: &[(usize, u8)]) -> Vec<u8> {
    let mut lengths = vec![0; count];
    of.iter().for_each(|(symbol, length)| lengths[*symbol] = *length);
    lengths
}

/// The stream with enough behind it, so that what refuses it is not its end.
fn refused(what: &str, out: &BitWriter) {
    let mut stream = out.bytes.clone();
    stream.extend([0; 40]);
    assert_eq!(outcome(&stream, &[]), Outcome::Refused, "{what}");
}

/// The same with all bits of a block's header written by hand: `counts` are HLIT, HDIST and HCLEN as they
/// stand there, then the lengths of the code for lengths, then symbols of it with their extra bits.
fn by_hand(counts: [u32; 3], lengths: &[(usize, u8)], row: &[(usize, u32, u32)]) -> BitWriter {
    let mut out = BitWriter::default();
    out.bits(1, 1).bits(2, 2).bits(counts[0], 5).bits(counts[1], 5).bits(counts[2], 4);
    let mut all = [0; 19];
    lengths.iter().for_each(|(symbol, length)| all[*symbol] = *length);
    ORDER[..counts[2] as usize + 4].iter().for_each(|symbol| {
        out.bits(all[*symbol].into(), 3);
    });
    let codes = codes(&all);
    for (symbol, value, bits) in row {
        out.code(codes[*symbol]).bits(*value, *bits);
    }
    out
}

#[test]
fn what_zlib_refuses_is_refused() {
    let two = [(b'a'.into(), 2), (b'b'.into(), 2), (256, 2), (257, 2)];
    let one_distance = lengths(1, &[(0, 1)]);
    // Counts that are too large, and the largest.
    let code = [(0, 1), (1, 2), (18, 2)];
    refused("287 literals", &by_hand([30, 0, 14], &code, &[]));
    refused("31 distances", &by_hand([0, 30, 14], &code, &[]));
    for (count, distances) in [(286, 1), (258, 30)] {
        let mut out = dynamic(&lengths(count, &two), &lengths(distances, &[(0, 1)]));
        out.bits(0b00, 2).code((2, 2));
        assert_eq!(accepted(&out.bytes), b"a", "{count} and {distances} symbols");
    }
    // The code for lengths.
    refused("an incomplete code for lengths", &by_hand([0, 0, 14], &[(0, 1), (1, 2)], &[]));
    refused("a code of one length", &by_hand([0, 0, 14], &[(18, 1)], &[]));
    refused("too many lengths", &by_hand([0, 0, 14], &[(0, 1), (1, 1), (18, 1)], &[]));
    refused("no code for lengths", &by_hand([0, 0, 14], &[], &[]));
    // Rows of lengths.
    let code = [(16, 2), (17, 2), (18, 2), (1, 2)];
    refused("a repetition of nothing", &by_hand([0, 0, 14], &code, &[(16, 0, 2)]));
    let zeros = |extra| (18, extra, 7);
    let past = [zeros(127), zeros(107), (1, 0, 0), (16, 0, 2)];
    refused("a repetition past the end", &by_hand([0, 0, 14], &code, &past));
    let past = [zeros(127), zeros(107), (1, 0, 0), zeros(0)];
    refused("zeros past the end", &by_hand([0, 0, 14], &code, &past));
    // The end of the block has one bit, and so have five distances.
    let same = [zeros(127), zeros(107), (1, 0, 0), (16, 2, 2)];
    refused("five distances of one bit", &by_hand([0, 4, 14], &code, &same));
    // Five zeros, the first of which is of a literal and the others of distances.
    let across = [zeros(127), zeros(106), (1, 0, 0), (1, 0, 0), (17, 2, 3), (1, 0, 0)];
    let mut out = by_hand([1, 4, 14], &code, &across);
    out.code((0, 1)).code((1, 1));
    assert_eq!(accepted(&out.bytes), [255], "zeros in both rows");
    let none = lengths(257, &[(b'a'.into(), 1), (b'b'.into(), 1)]);
    refused("no end of the block", &dynamic(&none, &one_distance));
    // Codes.
    let over = [(b'a'.into(), 1), (b'b'.into(), 1), (256, 1)];
    refused("too many literals", &dynamic(&lengths(257, &over), &one_distance));
    let over = [(0, 2), (1, 1), (2, 1)];
    refused("too many distances", &dynamic(&lengths(258, &two), &lengths(3, &over)));
    let few = [(b'a'.into(), 2), (256, 2)];
    refused("an incomplete code of literals", &dynamic(&lengths(257, &few), &one_distance));
    refused("one literal of two bits", &dynamic(&lengths(257, &[(256, 2)]), &one_distance));
    let few = [(3, 2), (4, 2)];
    refused("an incomplete code of distances", &dynamic(&lengths(258, &two), &lengths(5, &few)));
    refused("one distance of two bits", &dynamic(&lengths(258, &two), &lengths(1, &[(0, 2)])));
    let mut out = dynamic(&lengths(257, &[(256, 1)]), &lengths(1, &[]));
    out.bits(0, 1);
    assert_eq!(
        accepted(&out.bytes),
        b"",
        "an empty block with a code of one bit, and no distances"
    );
    let mut out = dynamic(&lengths(257, &[(256, 1)]), &lengths(1, &[]));
    out.bits(1, 1);
    refused("the other bit of a code of one bit", &out);
    let with_match = |distances: &[u8], bit| {
        let mut out = dynamic(&lengths(258, &two), distances);
        // a, then a match of three.
        out.code((0, 2)).code((3, 2)).bits(bit, 1).code((2, 2));
        out
    };
    assert_eq!(accepted(&with_match(&one_distance, 0).bytes), b"aaaa");
    refused("the other bit of a single distance", &with_match(&one_distance, 1));
    refused("a match without distances", &with_match(&lengths(1, &[]), 0));
    let mut out = dynamic(&lengths(258, &two), &lengths(1, &[]));
    out.code((0, 2)).code((2, 2));
    assert_eq!(accepted(&out.bytes), b"a", "no distances, and none needed");
    // Fixed codes.
    let fixed = |symbol: usize, distance: usize| {
        let (literals, distances) = fixed_lengths();
        let mut out = BitWriter::default();
        out.bits(1, 1).bits(1, 2).code(codes(&literals)[usize::from(b'a')]);
        out.code(codes(&literals)[symbol]);
        out.code(codes(&distances)[distance]).code(codes(&literals)[256]);
        out
    };
    assert_eq!(accepted(&fixed(257, 0).bytes), b"aaaa");
    refused("symbol 286", &fixed(286, 0));
    refused("symbol 287", &fixed(287, 0));
    refused("distance 30", &fixed(257, 30));
    refused("distance 31", &fixed(257, 31));
    refused("two back of one", &fixed(257, 1));
    // Blocks.
    refused("a block of type 3", BitWriter::default().bits(1, 1).bits(3, 2));
    refused(
        "a length without its complement",
        BitWriter::default().bits(1, 8).bits(5, 16).bits(5, 16),
    );
}

#[test]
fn what_zlib_accepts_is_accepted() {
    // Bits that fill up a byte may be anything.
    let mut out = BitWriter::default();
    out.bits(1, 1).bits(0, 2).align(true).bits(0, 16).bits(0xffff, 16);
    assert_eq!(accepted(&out.bytes), b"", "an empty stored block behind ones");
    // 258 can be written in two ways.
    let (literals, distances) = fixed_lengths();
    let (literals, distances) = (codes(&literals), codes(&distances));
    for (symbol, extra, bits) in [(285, 0, 0), (284, 31, 5)] {
        let mut out = BitWriter::default();
        out.bits(1, 1).bits(1, 2).code(literals[usize::from(b'a')]);
        out.code(literals[symbol]).bits(extra, bits).code(distances[0]).code(literals[256]);
        assert_eq!(accepted(&out.bytes), [b'a'; 259], "{symbol}");
    }
    // Blocks without output, by the thousand.
    let mut blocks = vec![Block::Fixed(self::literals(b"x"))];
    for shape in 0..1000 {
        let dynamic = Block::Dynamic { tokens: vec![], shape };
        blocks.extend([Block::Stored(vec![]), Block::Fixed(vec![]), dynamic]);
    }
    let (stream, _) = stream(&blocks, &[]);
    assert_eq!(accepted(&stream), b"x");
}

/// A stream of blocks with so many bytes each, and the place behind each block but the last: bits of the
/// stream, and bytes of output.
fn even_blocks(count: usize, bytes: usize) -> (Vec<u8>, Vec<u8>, Vec<(usize, usize)>) {
    let (mut out, mut output, mut ends) = (BitWriter::default(), Vec::new(), Vec::new());
    for at in 0..count {
        let start = literals(format!("block {at} ").as_bytes());
        let mut tokens = start.clone();
        let mut left = bytes - start.len();
        while left > 0 {
            let length = left.min(200) as u16;
            match length {
                1 | 2 => tokens.extend(literals(&b"xy"[..length.into()])),
                length => tokens.push(Token::Match { length, distance: 1 + (left % 97) as u16 }),
            }
            left -= usize::from(length);
        }
        let one = Block::Dynamic { tokens, shape: at as u64 };
        block(&mut out, &one, at + 1 == count, 0, &mut output);
        ends.push((out.position(), output.len()));
    }
    ends.pop();
    (out.bytes, output, ends)
}

/// Output that is full where a block ends: zlib takes the end of the block, the header of the next one and
/// its first symbol in the same call, if it was not asked to stop. A decoder that does not makes other
/// checkpoints: `pigz` writes blocks of 128 KiB, of which twenty are a span.
#[test]
fn output_that_is_full_where_a_block_ends() {
    let (stream, output, ends) = even_blocks(4, 1000);
    for (asked, stop, at_once) in
        [(1000, false, None), (1000, true, Some(0)), (2000, true, Some(0))]
    {
        let mut decoder =
            Decoder::resume(Compression::Gzip, Boundary::Block { bits: 0 }, vec![]).unwrap();
        decoder.stop_at_blocks(stop);
        let mut buffer = vec![0; asked];
        let first = decoder.decode(&stream, &mut buffer).unwrap();
        assert_eq!(first.produced, 1000);
        let bits = (8 - ends[0].0 % 8) as u8 % 8;
        let boundary = decoder.boundary();
        assert_eq!(boundary, at_once.map(|_: usize| Boundary::Block { bits }), "{asked} {stop}");
        let end = ends[0].0.div_ceil(8);
        match stop {
            true => assert_eq!(first.consumed, end),
            // The next header has more than two bytes.
            false => assert!(first.consumed > end + 2, "{} behind {end}", first.consumed),
        }
        // What is stopped at then is the end of the second block.
        decoder.stop_at_blocks(true);
        let mut buffer = vec![0; 5000];
        let second = decoder.decode(&stream[first.consumed..], &mut buffer).unwrap();
        assert_eq!(second.produced, 1000);
        assert_eq!(buffer[..1000], output[1000..2000]);
        assert_eq!(first.consumed + second.consumed, ends[1].0.div_ceil(8));
    }
}

/// An end of a block needs no room, and the last one's is none where decoding could begin.
#[test]
fn ends_of_blocks_without_room() {
    let (stream, output, ends) = even_blocks(3, 500);
    let start = || {
        let mut decoder =
            Decoder::resume(Compression::Gzip, Boundary::Block { bits: 0 }, vec![]).unwrap();
        decoder.stop_at_blocks(true);
        decoder
    };
    let mut decoder = start();
    let mut buffer = vec![0; 500];
    let mut consumed = 0;
    let mut boundaries = 0;
    for at in 0..3 {
        let step = decoder.decode(&stream[consumed..], &mut buffer).unwrap();
        assert_eq!((step.produced, &buffer[..]), (500, &output[500 * at..][..500]));
        consumed += step.consumed;
        boundaries += usize::from(decoder.boundary().is_some());
        assert_eq!(decoder.boundary().is_some(), at < 2, "block {at}");
        if let Some((bit, _)) = ends.get(at) {
            assert_eq!(consumed, bit.div_ceil(8));
        }
    }
    assert_eq!((consumed, boundaries), (stream.len(), 2));
    // Byte by byte of input, with the end code last.
    let mut decoder = start();
    let mut found = Vec::new();
    let mut produced = 0;
    let mut whole = vec![0; output.len()];
    for (at, byte) in stream.iter().enumerate() {
        loop {
            let step = decoder.decode_behind(&[*byte], &mut whole, produced).unwrap();
            produced += step.produced;
            if step.consumed == 1 {
                if let Some(Boundary::Block { bits }) = decoder.boundary() {
                    found.push((8 * (at + 1) - usize::from(bits), produced));
                }
                break;
            }
        }
    }
    assert_eq!((found, whole == output), (ends, true));
}

/// Whole bytes that were read ahead are given back: what follows a stream is not its.
#[test]
fn bytes_behind_the_end_are_left() {
    for count in 1..40 {
        let tokens = literals(&window(count));
        for block in [
            Block::Dynamic { tokens: tokens.clone(), shape: 9 },
            Block::Fixed(tokens.clone()),
            Block::Stored(window(count)),
        ] {
            let (stream, expected) = stream(&[block], &[]);
            // The trailer of the member, and the start of what comes behind.
            let input = [&stream[..], &[0x55; 7]].concat();
            let mut decoder =
                Decoder::resume(Compression::Gzip, Boundary::Block { bits: 0 }, vec![]).unwrap();
            let mut out = vec![0; 5000];
            let step = decoder.decode(&input, &mut out).unwrap();
            assert_eq!(out[..step.produced], expected);
            // One more byte ends the trailer, and the member.
            assert_eq!((step.consumed, decoder.boundary()), (input.len(), None));
            let end = decoder.decode(&[0x55, 0x1f], &mut out).unwrap();
            assert_eq!((end.consumed, decoder.boundary()), (1, Some(Boundary::Start)));
        }
    }
}

/// How far back a match may reach begins anew with each member, and is the window's length behind a
/// checkpoint.
#[test]
fn how_far_back_a_match_may_reach() {
    let reaching = |distance| {
        let mut out = BitWriter::default();
        let tokens = vec![Token::Match { length: 3, distance }];
        block(&mut out, &Block::Fixed(tokens), true, 0, &mut vec![0; WINDOW_BYTES]);
        out.bytes
    };
    for (window_bytes, distance, is_allowed) in [
        (0, 1, false),
        (1, 1, true),
        (1, 2, false),
        (100, 100, true),
        (100, 101, false),
        (WINDOW_BYTES, 32768, true),
        (WINDOW_BYTES - 1, 32768, false),
    ] {
        let outcome = outcome(&reaching(distance), &window(window_bytes));
        let came = matches!(outcome, Outcome::Ended(ref out) if out.len() == 3);
        assert_eq!(came, is_allowed, "{distance} back of {window_bytes}");
    }
    // The second member may not copy from the first, wherever the pieces end.
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    let first = stream(&[Block::Stored(window(500))], &[]).0;
    let gzip = [&header[..], &first, &[0; 8], &header, &reaching(400)].concat();
    for step in [1, 7, 100, gzip.len()] {
        let mut decoder = Decoder::new(Compression::Gzip).unwrap();
        decoder.leave_checks();
        let (mut out, mut filled, mut failed) = (vec![0; 2000], 0, false);
        for mut piece in gzip.chunks(step) {
            while !piece.is_empty() && !failed {
                match decoder.decode_behind(piece, &mut out, filled) {
                    Ok(progress) => {
                        piece = &piece[progress.consumed..];
                        filled += progress.produced;
                    }
                    Err(_) => failed = true,
                }
            }
        }
        assert_eq!((failed, filled), (true, 500), "pieces of {step}");
    }
}

/// From each end of a block on, behind the bytes of the window that are used, the rest comes out, and those
/// are the bytes that zlib needs.
#[test]
fn every_end_of_a_block_is_a_place_to_begin_at() {
    let mut dice = Dice(11);
    let mut blocks = vec![Block::Stored(window(WINDOW_BYTES)); 2];
    for at in 0..40 {
        let tokens = (0..1 + dice.below(2500)).map(|_| match dice.below(3) {
            0 => Token::Match {
                length: 3 + (dice.below(256) * dice.below(2)) as u16,
                distance: 1 + dice.below(32768) as u16,
            },
            _ => Token::Literal(dice.below(30) as u8),
        });
        let tokens = tokens.collect();
        blocks.push(match at % 4 {
            0 => Block::Fixed(tokens),
            _ => Block::Dynamic { tokens, shape: at },
        });
    }
    let (stream, output) = stream(&blocks, &[]);
    let mut raw = Raw::new();
    let (mut consumed, mut produced, mut checked) = (0, 0, 0);
    let mut room = vec![0; output.len()];
    loop {
        let step = raw.run(&stream[consumed..], &mut room[produced..], true).unwrap();
        consumed += step.consumed;
        produced += step.produced;
        if step.ended {
            break;
        }
        let Some(bits) = step.block_end.filter(|_| produced >= WINDOW_BYTES) else { continue };
        let from = consumed - usize::from(bits > 0);
        let case = Case {
            stream: &stream[from..],
            bits,
            window: &output[produced - WINDOW_BYTES..produced],
            seed: checked,
        };
        assert!(compare(case) == Outcome::Ended(output[produced..].to_vec()), "at {produced}");
        checked += 1;
    }
    assert_eq!(checked, 41);
}
