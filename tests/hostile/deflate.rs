//! Deflate, call by call: what zlib takes, gives and refuses, and where it stops.

use ocifs::codec::{Boundary, Compression, Decoder, WINDOW_BYTES};

use super::{SMALL, Target, Verdict};
use crate::support::deflate_writer::{self, Block, Dice, Token};
use crate::support::zlib::{self, Raw};

/// Deflate behind a window, in pieces of any size.
pub const DEFLATE: Target = Target { name: "deflate", valid, check, most_memory: 2 * SMALL };

/// The most that is unpacked, in bytes.
pub const LIMIT: usize = 1 << 20;

/// Buffers that are filled piece by piece have up to so many bytes more than a window.
const BUFFER_BYTES: usize = 60_000;

/// A stream, and how it is read.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub stream: &'a [u8],
    /// So many bits of its first byte belong to it, or all of it.
    pub bits: u8,
    /// The output before.
    pub window: &'a [u8],
    /// What sizes of pieces are made from.
    pub seed: u64,
}

/// How the decoder's output is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffers {
    /// Each call has its own.
    Each,
    /// One is filled until it is full, or a block has ended.
    Filled,
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended, and this came out.
    Ended(Vec<u8>),
    /// It is not all there.
    NotAllThere(Vec<u8>),
    Refused,
}

/// Decodes with both decoders in the same pieces, which must do the same in each call.
pub fn compare(case: Case<'_>) -> Outcome {
    let each = run(case, Buffers::Each);
    let filled = run(case, Buffers::Filled);
    match (&each, &filled) {
        // Which bytes come before the damage depends on the pieces, and so does where too much is noticed.
        (
            Outcome::Ended(one) | Outcome::NotAllThere(one),
            Outcome::Ended(other) | Outcome::NotAllThere(other),
        ) if one.len().min(other.len()) > LIMIT => {
            let common = one.len().min(other.len());
            assert!(
                one[..common] == other[..common],
                "the way that the output is taken makes a difference"
            );
        }
        _ => assert!(each == filled, "the way that the output is taken makes a difference"),
    }
    each
}

/// A size that is small most times, and large enough for long runs without a check at others.
fn size(dice: &mut Dice) -> usize {
    let bound = [2, 5, 40, 700, 5000, 70_000][dice.below(6)];
    dice.below(bound)
}

/// A place that decoding can begin at, with the window as the decoder has noted it.
struct Noted {
    /// Bytes taken before, and bits of the last of them that come next.
    consumed: usize,
    bits: u8,
    /// Bytes put out before.
    produced: usize,
}

fn run(case: Case<'_>, buffers: Buffers) -> Outcome {
    let Case { stream, bits, window, seed } = case;
    let mut dice = Dice(seed);
    let boundary = Boundary::Block { bits };
    let mut ours =
        Decoder::resume(Compression::Gzip, boundary, window.to_vec()).expect("it is a boundary");
    ours.leave_checks();
    let mut theirs = Raw::new();
    let mut consumed = 0;
    theirs.resume(bits, stream.first().copied().unwrap_or_default(), window);
    if bits > 0 && !stream.is_empty() {
        let first = ours.decode(&stream[..1], &mut []);
        assert_eq!(first.is_err(), theirs.run(&[], &mut [], false).is_none());
        let Ok(first) = first else { return Outcome::Refused };
        assert_eq!((first.consumed, first.produced), (1, 0));
        consumed = 1;
    }
    let buffer_bytes = match buffers {
        Buffers::Each => 70_000,
        Buffers::Filled => WINDOW_BYTES + dice.below(BUFFER_BYTES),
    };
    let (mut buffer, mut their_buffer) = (vec![0; buffer_bytes], vec![0; buffer_bytes]);
    let (mut filled, mut out) = (0, Vec::new());
    let (mut block_end, mut noted) = (None, None::<Noted>);
    let mut idle = 0;
    loop {
        let input = &stream[consumed..stream.len().min(consumed + size(&mut dice))];
        let until = buffer_bytes.min(filled + size(&mut dice));
        let stop = dice.below(3) > 0;
        ours.stop_at_blocks(stop);
        let our_step = match buffers {
            Buffers::Each => ours.decode(input, &mut buffer[..until]),
            Buffers::Filled => ours.decode_behind(input, &mut buffer[..until], filled),
        };
        let their_room = &mut their_buffer[filled..until];
        let Some(their_step) = decode(&mut theirs, input, their_room, stop, &mut block_end) else {
            assert!(our_step.is_err(), "zlib refuses it between {consumed} and {}", input.len());
            return Outcome::Refused;
        };
        let our_step = our_step.expect("zlib does not refuse it");
        assert_eq!(our_step.produced, their_step.produced, "at {consumed} and {}", out.len());
        let new = &buffer[filled..filled + our_step.produced];
        assert!(new == &their_buffer[filled..filled + new.len()], "other bytes at {}", out.len());
        out.extend_from_slice(new);
        if their_step.ended {
            assert!(our_step.consumed >= their_step.consumed);
            if let Some(noted) = noted {
                let read = consumed + our_step.consumed;
                check_noted(case, &out, &noted, read, &mut ours);
            }
            return Outcome::Ended(out);
        }
        assert_eq!(our_step.consumed, their_step.consumed, "at {consumed} and {}", out.len());
        assert_eq!(ours.boundary(), block_end.map(|bits| Boundary::Block { bits }));
        consumed += our_step.consumed;
        if buffers == Buffers::Filled {
            filled += our_step.produced;
            let is_cut = block_end.is_some() && filled >= WINDOW_BYTES && dice.below(2) == 0;
            if is_cut || filled == buffer_bytes {
                if let Some(noted) = noted.take() {
                    check_noted(case, &out, &noted, consumed, &mut ours);
                }
                ours.next_buffer(&buffer[..filled]);
                filled = 0;
                if let Some(bits) = block_end.filter(|_| is_cut) {
                    ours.note_window();
                    noted = Some(Noted { consumed, bits, produced: out.len() });
                }
            }
        }
        let is_stuck = our_step.consumed == 0 && our_step.produced == 0;
        idle = if is_stuck { idle + 1 } else { 0 };
        if (consumed == stream.len() && is_stuck && until > filled) || idle > 200 {
            assert!(consumed == stream.len(), "no way on at {consumed}");
            return Outcome::NotAllThere(out);
        }
        if out.len() > LIMIT {
            return Outcome::NotAllThere(out);
        }
    }
}

/// One call of zlib, or several, as the decoder of members makes them.
fn decode(
    raw: &mut Raw,
    input: &[u8],
    room: &mut [u8],
    stop: bool,
    block_end: &mut Option<u8>,
) -> Option<zlib::Step> {
    let (mut consumed, mut produced) = (0, 0);
    loop {
        let step = raw.run(&input[consumed..], &mut room[produced..], stop)?;
        consumed += step.consumed;
        produced += step.produced;
        let is_stuck = step.consumed == 0 && step.produced == 0;
        if !is_stuck {
            *block_end = step.block_end;
        }
        if step.ended || is_stuck || step.block_end.is_some() || produced == room.len() {
            return Some(zlib::Step { consumed, produced, ..step });
        }
    }
}

/// A window has just the bytes that are needed, and decoding that begins with it goes on as before, up to the
/// input that was read: behind it there may be damage, which a decoder whose room is full looks at too.
fn check_noted(case: Case<'_>, out: &[u8], noted: &Noted, read: usize, ours: &mut Decoder) {
    let window = ours.take_window().expect("it was asked for");
    let mut whole = vec![0; WINDOW_BYTES];
    whole.extend_from_slice(case.window);
    whole.extend_from_slice(&out[..noted.produced]);
    let before = &whole[whole.len() - WINDOW_BYTES..];
    let from = noted.consumed - usize::from(noted.bits > 0);
    let (rest, truth) = (&case.stream[from..read], &out[noted.produced..]);
    let expected = zlib::used_of_window(before, noted.bits, rest, truth);
    assert!(window == expected, "another window at {}", noted.produced);
    let boundary = Boundary::Block { bits: noted.bits };
    let mut resumed =
        Decoder::resume(Compression::Gzip, boundary, window).expect("it is a boundary");
    let mut again = vec![0; truth.len().min(2 * WINDOW_BYTES)];
    let (mut filled, mut rest) = (0, rest);
    while filled < again.len() {
        let step = resumed.decode_behind(rest, &mut again, filled).expect("it was decoded before");
        assert!(step.consumed + step.produced > 0, "no way on");
        rest = &rest[step.consumed..];
        filled += step.produced;
    }
    assert!(again == truth[..again.len()], "other bytes from {} on", noted.produced);
}

/// Bits, the window in steps of 128 bytes, the seed, and the stream.
fn valid() -> Vec<Vec<u8>> {
    let literals =
        |bytes: &[u8]| bytes.iter().map(|byte| Token::Literal(*byte)).collect::<Vec<_>>();
    let far = |length, distance| Token::Match { length, distance };
    let mixed =
        [literals(b"one two three"), vec![far(258, 4), far(3, 32768)], literals(b"!")].concat();
    let blocks = [
        vec![Block::Stored(b"stored".to_vec()), Block::Fixed(mixed.clone())],
        vec![Block::Dynamic { tokens: mixed.clone(), shape: 1 }, Block::Stored(vec![])],
        vec![
            Block::Dynamic { tokens: mixed.repeat(60), shape: 2 },
            Block::Fixed(vec![]),
            Block::Dynamic { tokens: mixed.repeat(700), shape: 7 },
        ],
        vec![Block::Dynamic { tokens: literals(&[7; 20_000]), shape: 3 }],
    ];
    let mut valid = Vec::new();
    for (at, blocks) in blocks.iter().enumerate() {
        let steps = [255, 0, 1, 100][at];
        let (stream, _) = deflate_writer::stream(blocks, &window(steps));
        valid.push([&[0, steps, at as u8][..], &stream].concat());
    }
    valid
}

fn window(steps: u8) -> Vec<u8> {
    let bytes = match steps {
        255 => WINDOW_BYTES,
        steps => 128 * usize::from(steps),
    };
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn check(input: &[u8]) -> Verdict {
    let [bits, steps, seed, stream @ ..] = input else { return Verdict::Refused };
    let case = Case { stream, bits: bits % 8, window: &window(*steps), seed: (*seed).into() };
    match compare(case) {
        Outcome::Ended(_) => Verdict::Accepted,
        Outcome::NotAllThere(_) | Outcome::Refused => Verdict::Refused,
    }
}
