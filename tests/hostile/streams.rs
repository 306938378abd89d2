//! Compressed streams: what is unpacked is what other implementations unpack, or there is an error.

use std::io::Read;

use ocifs::codec::{
    Boundary, Compression, Decoder, Error, WINDOW_BYTES, decompress, guess, window,
};

use super::{SMALL, Target, Verdict};
use crate::support::deflate;
use crate::support::image::{self, compress, gzip_all_fields};

/// gzip, from the start, and from each block on.
pub const GZIP: Target =
    Target { name: "gzip", valid: valid_gzip, check: check_gzip, most_memory: SMALL };

/// Deflate behind a checkpoint, where no checksum covers the rest of the member.
pub const INFLATE: Target =
    Target { name: "inflate", valid: valid_deflate, check: check_inflate, most_memory: SMALL };

/// zstd.
pub const ZSTD: Target =
    Target { name: "zstd", valid: valid_zstd, check: check_zstd, most_memory: SMALL };

/// The most that is unpacked, in bytes.
const LIMIT: usize = 1 << 20;

/// Blocks of a stream that decoding is begun at.
const MAX_RESUMED: usize = 4;

/// Numbers that repeat at a distance, so that decoders copy from behind.
fn data(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| (n / 3).to_le_bytes()).collect()
}

fn valid_gzip() -> Vec<Vec<u8>> {
    let text = data(2000);
    vec![
        compress(&text, image::Compression::Gzip),
        compress(&text, image::Compression::GzipMultiMember(3000)),
        gzip_all_fields(&text),
        crate::support::ztoc::gzip_flushed(&text, 2500),
    ]
}

/// The number of bits of the first byte that belong to the stream, and the stream.
fn valid_deflate() -> Vec<Vec<u8>> {
    let members = compress(&data(1500), image::Compression::GzipMultiMember(3000));
    let flushed = crate::support::ztoc::gzip_flushed(&data(1500), 2000);
    let mut valid = Vec::new();
    for gzip in [members, flushed] {
        let (_, blocks) = deflate::walk(&gzip);
        for block in [blocks[0], blocks[blocks.len() / 2]] {
            let bits = (8 - block.bit % 8) as u8 % 8;
            valid.push([&[bits], &gzip[(block.bit / 8) as usize..]].concat());
        }
    }
    let stored = [&[0, 1, 5, 0, !5, !0][..], b"12345", &[0; 8]].concat();
    valid.push([stored, compress(b"next", image::Compression::Gzip)].concat());
    valid
}

fn valid_zstd() -> Vec<Vec<u8>> {
    let text = data(2000);
    vec![
        compress(&text, image::Compression::ZstdManyFrames(3000)),
        compress(&text, image::Compression::ZstdSkippable),
        compress(&text, image::Compression::Zstd),
    ]
}

/// Unpacks in pieces of `step` bytes, with a bound on the number of calls. What was produced comes
/// with the error, if there is one.
fn unpack(mut decoder: Decoder, input: &[u8], step: usize) -> (Vec<u8>, Result<(), Error>) {
    let (mut out, mut buffer, mut calls) = (Vec::new(), vec![0; 100 + step], 0);
    let mut rest = input;
    loop {
        let piece = &rest[..rest.len().min(step)];
        let progress = match decoder.decode(piece, &mut buffer) {
            Ok(progress) => progress,
            Err(e) => return (out, Err(e)),
        };
        assert!(progress.consumed <= piece.len() && progress.produced <= buffer.len());
        out.extend_from_slice(&buffer[..progress.produced]);
        rest = &rest[progress.consumed..];
        calls += 1;
        assert!(calls <= 16 + input.len() + out.len(), "{calls} calls for {} bytes", input.len());
        if progress.consumed == 0 && progress.produced == 0 {
            assert!(rest.is_empty(), "a decoder that takes nothing must be drained");
            return (out, decoder.finish());
        }
        if out.len() > LIMIT {
            return (out, Err(Error::Unsupported("too much")));
        }
    }
}

/// A size of pieces that depends on the input, so that all come up.
fn step_for(input: &[u8]) -> usize {
    let sum = input.iter().fold(7usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    [1, 7, 64, 997, 5000][sum % 5]
}

/// The whole and the pieces unpack to the same, which is returned.
fn both_ways(compression: Compression, input: &[u8]) -> Option<Vec<u8>> {
    let decoder = Decoder::new(compression).expect("there is memory");
    let (out, result) = unpack(decoder, input, step_for(input));
    let accepted = result.is_ok().then_some(out);
    if Compression::sniff(input).ok() == Some(compression) {
        let whole = decompress(input, LIMIT).ok();
        assert!(whole == accepted, "the size of pieces makes a difference");
    }
    accepted
}

fn check_gzip(input: &[u8]) -> Verdict {
    let _ = guess(input);
    let ours = both_ways(Compression::Gzip, input);
    let mut theirs = Vec::new();
    let decoder = flate2::bufread::MultiGzDecoder::new(input);
    let result = decoder.take(LIMIT as u64 + 1).read_to_end(&mut theirs);
    match (&ours, result.is_ok() && theirs.len() <= LIMIT) {
        (ours, true) => assert!(ours.as_deref() == Some(&theirs[..]), "not what flate2 unpacks"),
        // Garbage behind the last member is an error there.
        (Some(ours), false) => assert!(ours.starts_with(&theirs), "not what flate2 unpacks"),
        (None, false) => {}
    }
    let Some(ours) = ours else { return Verdict::Refused };
    resume_at_blocks(input, &ours);
    Verdict::Accepted
}

/// From each of the first blocks on, the same bytes come.
fn resume_at_blocks(input: &[u8], whole: &[u8]) {
    let mut decoder = Decoder::new(Compression::Gzip).expect("there is memory");
    decoder.stop_at_blocks(true);
    let (mut consumed, mut produced, mut resumed) = (0, 0, 0);
    let mut buffer = vec![0; 4096];
    while resumed < MAX_RESUMED {
        let progress = decoder.decode(&input[consumed..], &mut buffer).expect("it was accepted");
        if progress.consumed == 0 && progress.produced == 0 {
            return;
        }
        consumed += progress.consumed;
        produced += progress.produced;
        let Some(boundary) = decoder.boundary() else { continue };
        let (from, window) = match boundary {
            Boundary::Start => (consumed, Vec::new()),
            Boundary::Block { bits } => {
                let window = &whole[produced.saturating_sub(WINDOW_BYTES)..produced];
                (consumed - usize::from(bits > 0), window.to_vec())
            }
        };
        // At the end there is garbage, which is no member to begin with.
        if boundary == Boundary::Start && !input[from..].starts_with(&[0x1f, 0x8b]) {
            return;
        }
        let resumed_here = Decoder::resume(Compression::Gzip, boundary, window).expect("it is one");
        let (out, result) = unpack(resumed_here, &input[from..], 4096);
        assert!(result.is_ok() && out == whole[produced..], "other bytes from {produced} on");
        resumed += 1;
    }
}

fn check_inflate(input: &[u8]) -> Verdict {
    let Some((bits, input)) = input.split_first() else { return Verdict::Refused };
    let bits = bits % 8;
    let window: Vec<u8> = data(WINDOW_BYTES as u32 / 4);
    let decoder = |window: &[u8]| {
        let boundary = Boundary::Block { bits };
        Decoder::resume(Compression::Gzip, boundary, window.to_vec()).expect("it is a boundary")
    };
    let (ours, result) = unpack(decoder(&window), input, step_for(input));
    // Without the bytes that it does not need, a window gives the same.
    let used = used_of_window(decoder(&window), input);
    let (again, _) = unpack(decoder(&used), input, 5000);
    let common = ours.len().min(again.len());
    assert!(ours[..common] == again[..common], "a byte of the window was needed");
    let stored = window::pack(&used).expect("there is memory");
    assert!(window::unpack(&stored).is_ok_and(|window| window == used));
    let mut first_member = ours.len();
    if bits == 0 {
        let (theirs, ended) = raw_inflate(&window, input);
        let common = ours.len().min(theirs.len());
        assert!(ours[..common] == theirs[..common], "not what flate2 inflates");
        assert!(ended || result.is_err(), "flate2 finds no end");
        first_member = theirs.len().min(first_member);
    }
    let Ok(()) = result else { return Verdict::Refused };
    // A second opinion, bit by bit: it panics on what is damaged.
    let slow = deflate::resume(input, (8 - u64::from(bits)) % 8, &window, first_member);
    assert!(slow == ours[..first_member], "not what a simple decoder inflates");
    Verdict::Accepted
}

/// The window that a decoder begins with, as it notes it.
fn used_of_window(mut decoder: Decoder, input: &[u8]) -> Vec<u8> {
    decoder.note_window();
    let (mut filled, mut rest, mut out) = (0, input, vec![0; WINDOW_BYTES]);
    while let Ok(progress) = decoder.decode_behind(rest, &mut out, filled) {
        rest = &rest[progress.consumed..];
        filled += progress.produced;
        if progress.consumed == 0 && progress.produced == 0 {
            break;
        }
    }
    decoder.take_window().expect("it was asked for")
}

/// Inflates behind a window, which stands in front as stored blocks; and whether the end came.
fn raw_inflate(window: &[u8], input: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = Vec::new();
    for block in window.chunks(16 << 10) {
        let length = block.len() as u16;
        stream.push(0);
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend_from_slice(input);
    let mut out = Vec::with_capacity(window.len() + LIMIT + 6000);
    let mut decoder = flate2::Decompress::new(false);
    let status = decoder.decompress_vec(&stream, &mut out, flate2::FlushDecompress::Finish);
    let ended = matches!(status, Ok(flate2::Status::StreamEnd));
    (out.split_off(window.len().min(out.len())), ended)
}

/// What zstd's own reader unpacks, which is given pieces of `step` bytes.
fn read_zstd(input: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let pieces = std::io::BufReader::with_capacity(step, input);
    let decoder = zstd::Decoder::with_buffer(pieces).expect("there is memory");
    let result = decoder.take(LIMIT as u64 + 1).read_to_end(&mut out);
    // Nothing at all is no frame there, but the end of a row of frames here.
    ((result.is_ok() || input.is_empty()) && out.len() <= LIMIT).then_some(out)
}

fn check_zstd(input: &[u8]) -> Verdict {
    let decoder = Decoder::new(Compression::Zstd).expect("there is memory");
    let (out, result) = unpack(decoder, input, step_for(input));
    let ours = result.is_ok().then_some(out);
    let whole = match Compression::sniff(input) {
        Ok(Compression::Zstd) => decompress(input, LIMIT).ok(),
        _ => ours.clone(),
    };
    // Frames that are not quite right are taken by the library or refused, by the sizes of the pieces that it is given.
    let [theirs, pieces] = [input.len().max(1), step_for(input)].map(|step| read_zstd(input, step));
    let at_once = zstd::bulk::decompress(input, LIMIT).ok();
    let mut readings = [&ours, &whole, &theirs, &pieces, &at_once].into_iter().flatten();
    if let Some(first) = readings.next() {
        assert!(readings.all(|other| other == first), "two contents of one stream");
    }
    assert!(whole.is_some() || theirs.is_none() || at_once.is_none(), "what zstd takes is refused");
    assert!(ours.is_some() || pieces.is_none() || at_once.is_none(), "its pieces are refused");
    let is_refused = ours.is_none() && whole.is_none();
    let is_taken = theirs.is_some() || pieces.is_some() || at_once.is_some();
    assert!(is_refused || is_taken, "what zstd refuses is taken");
    if let Ok(window) = window::unpack(input) {
        assert!(window.len() <= WINDOW_BYTES);
    }
    match ours {
        Some(_) => Verdict::Accepted,
        None => Verdict::Refused,
    }
}
