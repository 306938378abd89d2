//! Tests of the decoders, and of beginning at checkpoints.

use std::io::Write;

use super::*;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn sample() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

/// Feeds `input` in pieces of `step` bytes into outputs of another odd size.
fn piecewise(input: &[u8], step: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(Compression::sniff(input)?)?;
    let mut out = Vec::new();
    let mut buffer = vec![0; 1000 + step];
    for piece in input.chunks(step) {
        let mut piece = piece;
        loop {
            let progress = decoder.decode(piece, &mut buffer)?;
            piece = &piece[progress.consumed..];
            out.extend_from_slice(&buffer[..progress.produced]);
            if progress.consumed == 0 && progress.produced == 0 {
                assert!(piece.is_empty(), "a decoder that takes nothing must be drained");
                break;
            }
        }
    }
    decoder.finish().map(|()| out)
}

#[test]
fn round_trips_in_any_chunking() {
    let data = sample();
    let zstd = |d: &[u8]| zstd::bulk::compress(d, 3).unwrap();
    let skippable = [0x53u8, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 9, 9, 9, 9];
    let (left, right) = data.split_at(100_001);
    let mut zeros = gzip(&data);
    zeros.extend_from_slice(&[0; 700]);
    let mut garbage = gzip(&data);
    garbage.extend_from_slice(b"\x1e trailing garbage");
    for (name, stream) in [
        ("plain", data.clone()),
        ("gzip", gzip(&data)),
        ("gzip members", [gzip(left), gzip(b""), gzip(right)].concat()),
        ("gzip and zeros", zeros),
        ("gzip and garbage", garbage),
        ("zstd", zstd(&data)),
        ("zstd frames", [zstd(left), skippable.to_vec(), zstd(right)].concat()),
        ("skippable first and last", [&skippable[..], &zstd(&data), &skippable].concat()),
    ] {
        for step in [1, 7, 512, 100_000, stream.len()] {
            assert!(piecewise(&stream, step).unwrap() == data, "{name} by {step}");
        }
        assert!(decompress(&stream, data.len()).unwrap() == data, "{name}");
        assert!(decompress(&stream, data.len() - 1).is_err() || name == "plain", "{name}");
    }
}

#[test]
fn all_gzip_header_fields() {
    let data = b"hello";
    let stream = flate2::GzBuilder::new()
        .extra(vec![b'S', b'G', 2, 0, 1, 2])
        .filename("name")
        .comment("comment")
        .mtime(7)
        .write(Vec::new(), flate2::Compression::best());
    let mut stream = stream;
    stream.write_all(data).unwrap();
    let mut stream = stream.finish().unwrap();
    assert_eq!(piecewise(&stream, 1).unwrap(), data);
    // With a header checksum too (FHCRC), whose value no reader checks.
    stream[3] |= 2;
    let header_end = 10 + 2 + 6 + 5 + 8;
    stream.splice(header_end..header_end, [0, 0]);
    assert_eq!(piecewise(&stream, 3).unwrap(), data);
}

/// What the caller has to check, when checks are left to him: each member that had output, once.
#[test]
fn the_ends_of_members_are_told_to_who_checks() {
    let data = varied(100_000);
    let (left, right) = data.split_at(40_000);
    let stream = [gzip(left), gzip(b""), gzip(right)].concat();
    for step in [1, 7, 5000, stream.len()] {
        let mut decoder = Decoder::new(Compression::Gzip).unwrap();
        decoder.leave_checks();
        let (mut out, mut filled, mut sum) = (vec![0; data.len() + 1], 0, MemberSum::default());
        let mut ends = Vec::new();
        for mut piece in stream.chunks(step) {
            while !piece.is_empty() {
                let progress = decoder.decode_behind(piece, &mut out, filled).unwrap();
                piece = &piece[progress.consumed..];
                sum.update(&out[filled..filled + progress.produced]);
                filled += progress.produced;
                if let Some(end) = decoder.member_end() {
                    sum.check(end).unwrap();
                    ends.push(filled);
                }
            }
        }
        assert_eq!((ends, out[..filled] == data), (vec![left.len(), data.len()], true));
    }
    let empty = gzip(b"");
    for at in [empty.len() - 8, empty.len() - 1] {
        let mut wrong = empty.clone();
        wrong[at] ^= 1;
        let mut decoder = Decoder::new(Compression::Gzip).unwrap();
        decoder.leave_checks();
        assert!(decoder.decode(&wrong, &mut [0; 10]).is_err(), "nobody else checks it");
    }
}

#[test]
fn truncation_and_damage_are_errors() {
    let data = sample();
    for stream in [gzip(&data), zstd::bulk::compress(&data, 3).unwrap()] {
        for cut in [3, 9, 20, stream.len() / 2, stream.len() - 1] {
            if Compression::sniff(&stream[..cut]).unwrap() != Compression::None {
                assert!(piecewise(&stream[..cut], 4096).is_err(), "cut at {cut}");
            }
        }
    }
    let mut flipped = gzip(&data);
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    assert!(piecewise(&flipped, 4096).is_err());
    // A second member whose header is broken is damage, not garbage.
    let mut second = gzip(&data);
    second.extend_from_slice(&[0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 0]);
    assert!(piecewise(&second, 4096).is_err());
}

/// Text with repetitions over all distances, so that blocks refer far back.
fn varied(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut data = Vec::with_capacity(length + 64);
    while data.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let distance = (state >> 8) as usize % 40_000;
        let count = 3 + (state >> 24) as usize % 60;
        match data.len().checked_sub(distance) {
            Some(from) if distance > count && state.is_multiple_of(3) => {
                data.extend_from_within(from..from + count);
            }
            _ => data.extend_from_slice(&state.to_le_bytes()[1..]),
        }
    }
    data.truncate(length);
    data
}

/// A place where decoding can begin again, with all that it takes.
struct Checkpoint {
    boundary: Boundary,
    consumed: usize,
    produced: usize,
}

/// Decodes a stream, stopping at blocks, in pieces of `step` bytes.
fn checkpoints(stream: &[u8], step: usize) -> (Vec<u8>, Vec<Checkpoint>) {
    let mut decoder = Decoder::new(Compression::sniff(stream).unwrap()).unwrap();
    decoder.stop_at_blocks(true);
    let (mut out, mut found) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 10_000];
    let mut consumed = 0;
    loop {
        let piece = &stream[consumed..stream.len().min(consumed + step)];
        let progress = decoder.decode(piece, &mut buffer).unwrap();
        consumed += progress.consumed;
        out.extend_from_slice(&buffer[..progress.produced]);
        let is_stuck = progress.consumed == 0 && progress.produced == 0;
        if let Some(boundary) = decoder.boundary()
            && !is_stuck
        {
            found.push(Checkpoint { boundary, consumed, produced: out.len() });
        }
        if is_stuck && piece.is_empty() {
            decoder.finish().unwrap();
            return (out, found);
        }
    }
}

/// The bytes of a window that are copied behind it, and zeros.
fn used_of_window(bits: u8, window: Vec<u8>, rest: &[u8]) -> Vec<u8> {
    let boundary = Boundary::Block { bits };
    let mut decoder = Decoder::resume(Compression::Gzip, boundary, window).unwrap();
    decoder.note_window();
    let mut out = vec![0; WINDOW_BYTES];
    decoder.decode_behind(rest, &mut out, 0).unwrap();
    decoder.take_window().unwrap()
}

#[test]
fn decoding_begins_at_every_checkpoint_with_only_the_bytes_of_the_window_that_are_used() {
    let data = varied(1_500_000);
    let deflate = |data: &[u8], level| {
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let (left, right) = data.split_at(700_001);
    for (name, stream) in [
        ("stored", deflate(&data, 0)),
        ("medium", deflate(&data, 3)),
        ("default", deflate(&data, 6)),
        ("members", [deflate(left, 6), deflate(b"", 6), deflate(right, 9)].concat()),
    ] {
        let (out, found) = checkpoints(&stream, 5000);
        assert!(out == data, "{name}");
        let blocks = found.iter().filter(|c| matches!(c.boundary, Boundary::Block { .. })).count();
        assert!(blocks > 5, "{name}: {blocks} block ends");
        assert!(
            name == "stored"
                || found.iter().any(|c| { matches!(c.boundary, Boundary::Block { bits: 1.. }) })
        );
        let mut cleared = 0;
        for Checkpoint { boundary, consumed, produced } in found {
            if produced == data.len() {
                continue;
            }
            let shares_byte = matches!(boundary, Boundary::Block { bits: 1.. });
            let rest = &stream[consumed - usize::from(shares_byte)..];
            let mut kept = data[produced.saturating_sub(WINDOW_BYTES)..produced].to_vec();
            if let Boundary::Block { bits } = boundary {
                kept = used_of_window(bits, kept, rest);
                cleared += kept.iter().filter(|byte| **byte == 0).count();
            }
            let kept = window::unpack(&window::pack(&kept).unwrap()).unwrap();
            let mut decoder = Decoder::resume(Compression::Gzip, boundary, kept).unwrap();
            let mut again = vec![0; (data.len() - produced).min(300_000)];
            let (mut filled, mut rest) = (0, rest);
            while filled < again.len() {
                let progress = decoder.decode(rest, &mut again[filled..]).unwrap();
                rest = &rest[progress.consumed..];
                filled += progress.produced;
                assert!(progress.consumed + progress.produced > 0, "{name} stuck");
            }
            assert!(again == data[produced..][..again.len()], "{name} at {produced}");
        }
        assert!(name == "stored" || cleared > 0, "{name}: nothing was unused");
    }
}

#[test]
fn a_checkpoint_of_damaged_numbers_is_an_error_or_wrong_bytes_but_nothing_worse() {
    let stream = gzip(&varied(300_000));
    for bits in 0..8 {
        for at in (0..stream.len()).step_by(997) {
            let boundary = Boundary::Block { bits };
            let window = vec![0x55; at % WINDOW_BYTES];
            let mut decoder = Decoder::resume(Compression::Gzip, boundary, window).unwrap();
            let mut out = [0; 5000];
            let mut rest = &stream[at..];
            while let Ok(progress) = decoder.decode(rest, &mut out) {
                rest = &rest[progress.consumed..];
                if progress.consumed == 0 && progress.produced == 0 {
                    break;
                }
            }
        }
    }
    assert!(Decoder::resume(Compression::Gzip, Boundary::Block { bits: 8 }, vec![]).is_err());
    assert!(Decoder::resume(Compression::Zstd, Boundary::Block { bits: 1 }, vec![]).is_err());
    let long = vec![0; WINDOW_BYTES + 1];
    assert!(Decoder::resume(Compression::Gzip, Boundary::Block { bits: 0 }, long).is_err());
    assert!(window::unpack(&[1, 2, 3]).is_err());
    assert!(window::unpack(&zstd::bulk::compress(&[7; 40_000], 1).unwrap()).is_err());
}

/// A small frame that wants a window of `1 << log` bytes.
fn wide_frame(log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.long_distance_matching(false).unwrap();
    // Its size is not known beforehand, so that the window is written down.
    encoder.write_all(&[7; 3000]).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn zstd_frames_hold_what_they_say() {
    // A single segment that says its size in a byte: a raw block of some bytes, and an empty one that is the last.
    let frame = |said: u8, content: &[u8]| {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, said];
        frame.extend([(content.len() as u8) << 3, 0, 0]);
        frame.extend_from_slice(content);
        frame.extend([1, 0, 0]);
        frame
    };
    let before = zstd::bulk::compress(b"small", 1).unwrap();
    for step in [1, 3, 5, 100] {
        for said in [3, 4, 5] {
            let stream = [&before[..], &frame(said, b"four")].concat();
            let mut decoder = Decoder::new(Compression::Zstd).unwrap();
            let mut buffer = [0; 64];
            let decoded = stream.chunks(step).try_for_each(|mut piece| {
                while !piece.is_empty() {
                    let progress = decoder.decode(piece, &mut buffer)?;
                    piece = &piece[progress.consumed..];
                }
                Ok::<_, Error>(())
            });
            assert_eq!(decoded.is_ok(), said == 4, "{said} by {step}: {decoded:?}");
        }
    }
}

#[test]
fn windows_are_named_and_limited() {
    let small = zstd::bulk::compress(b"small", 1).unwrap();
    for step in [1, 5, 100, 10_000] {
        for (log, limit, is_allowed) in
            [(27, 27, true), (28, 27, false), (28, 28, true), (31, 28, false), (31, 31, true)]
        {
            let stream = [small.clone(), wide_frame(log)].concat();
            let limits = Limits { zstd_window_log: limit };
            let mut decoder = Decoder::within(limits, Compression::Zstd).unwrap();
            let mut buffer = [0; 8192];
            let decoded = stream.chunks(step).try_for_each(|mut piece| {
                loop {
                    let progress = decoder.decode(piece, &mut buffer)?;
                    piece = &piece[progress.consumed..];
                    if progress.consumed == 0 && progress.produced == 0 {
                        return Ok(());
                    }
                }
            });
            match decoded {
                Ok(()) => assert!(is_allowed, "{log} within {limit}"),
                Err(Error::ZstdWindow { window, limit: named }) => {
                    assert!(!is_allowed, "{log} within {limit}");
                    assert_eq!((window, named), (1 << log, 1 << limit));
                }
                Err(e) => panic!("{log} within {limit}: {e}"),
            }
        }
    }
    let error = Error::ZstdWindow { window: 1 << 31, limit: 1 << 27 }.to_string();
    assert!(error.contains("2048 MiB") && error.contains("128 MiB"), "{error}");
}

#[test]
fn foreign_compressions_are_named() {
    for (start, name) in
        [(&b"BZh91"[..], "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x04\x22\x4d\x18d", "lz4")]
    {
        assert!(Compression::sniff(start).unwrap_err().to_string().contains(name));
    }
}
