//! Decompression of layers: pushed bytes in, bytes out, no I/O.
//!
//! The compression is *sniffed*, never taken from the media type: registries serve zstd under
//! gzip's name and gzip under plain tar's, and Docker's schema 2 says "tar" for both.
//!
//! # What real layers contain
//!
//! A gzip layer may have several members (pigz, mgzip, eStargz write one per block or file), every
//! optional header field, and, after the last member, zero padding or garbage, which `gzip -d`
//! reports and ignores: what counts is that the diff ID matches. A zstd layer may have many frames
//! and skippable frames anywhere (zstd:chunked keeps its table of contents in them).
//!
//! # Beginning in the middle
//!
//! A stream can be decoded from a [`Boundary`] on: the start of a gzip member or zstd frame, which
//! needs nothing, or, in gzip, the end of a deflate block, which needs some bits and the
//! [`window`]. [`Decoder::boundary`] says when a decoder stands at one; asked to by
//! [`Decoder::stop_at_blocks`] it stops at the next. Looking for block ends only when a span is due
//! keeps the price within noise. zstd has no such places inside a frame: its state between blocks
//! is a window of megabytes and entropy tables that no library hands out.
//!
//! # Invariants
//!
//! - [`Decoder::decode`] makes progress or says that it needs input; it never loops for more
//!   than its buffers are long, so a bomb costs its caller exactly the output it asks for.
//! - A stream that ends inside a member or frame is [`Error::Truncated`], never a short success.
//! - zstd frames that want a larger window than [`Limits`] allow are refused. A decoder takes as much
//!   memory as the window of its frame.

mod guess;
mod gzip;
mod inflate;
pub mod window;
mod zstd_header;

use zstd::stream::raw::{self, Operation};

use crate::hint::Hint;

pub use guess::{Guess, guess};

/// The largest zstd window accepted by default, as a power of two: 128 MiB, which is zstd's own limit,
/// and with four layers unpacked side by side half a gigabyte of memory.
pub const DEFAULT_ZSTD_WINDOW_LOG: u32 = 27;

/// The largest zstd window that can be decoded, as a power of two: 2 GiB (`zstd --long=31`).
pub const MAX_ZSTD_WINDOW_LOG: u32 = 31;

/// What decoding a stream may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest zstd window, as a power of two, at most [`MAX_ZSTD_WINDOW_LOG`].
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { zstd_window_log: DEFAULT_ZSTD_WINDOW_LOG }
    }
}

/// Any stream may unpack to this many bytes ...
const FREE_UNCOMPRESSED_BYTES: u64 = 1 << 30;

/// ... and beyond that to this many times what has been read of it. Real layers stay below 20;
/// deflate can reach 1032, zstd far more.
const MAX_RATIO: u64 = 200;

/// The most that may come out of a stream of which `compressed` bytes have been read. Counted by
/// what has come and not by a size that is claimed, so that a bomb ends early.
pub fn plausible_uncompressed_bytes(compressed: u64) -> u64 {
    compressed.saturating_mul(MAX_RATIO).max(FREE_UNCOMPRESSED_BYTES)
}

/// Size of deflate's window in bytes: what a checkpoint needs of the output before it.
pub const WINDOW_BYTES: usize = 32 << 10;

/// Bytes that [`Compression::sniff`] wants to see.
pub const SNIFF_BYTES: usize = 4;

/// Why a stream can't be decompressed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the {0} stream ends too early")]
    Truncated(&'static str),
    #[error("corrupt gzip stream: {0}")]
    Gzip(&'static str),
    #[error("corrupt zstd stream: {0}")]
    Zstd(String),
    #[error(
        "its zstd window of {} is larger than the {} of memory that it may take",
        mebibytes(*window), mebibytes(*limit)
    )]
    ZstdWindow { window: u64, limit: u64 },
    #[error("the layer is compressed with {0}, which no image format allows")]
    Unsupported(&'static str),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::ZstdWindow { .. } => Some(Hint::AllowLargerWindow),
            _ => None,
        }
    }
}

/// A size in words.
fn mebibytes(bytes: u64) -> String {
    match bytes {
        whole if whole.is_multiple_of(1 << 20) => format!("{} MiB", whole >> 20),
        other => format!("{other} bytes"),
    }
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// Recognises the compression by the first bytes of the blob, of which there may be fewer
    /// than [`SNIFF_BYTES`] only if the blob is that short.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bzip2 and xz, which `docker load` once took but no layer media
    /// type has, and for lz4.
    pub fn sniff(start: &[u8]) -> Result<Compression, Error> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(Error::Unsupported("bzip2")),
            [0xfd, b'7', b'z', b'X', ..] => return Err(Error::Unsupported("xz")),
            [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Error::Unsupported("lz4")),
            _ => Compression::None,
        })
    }

    /// The name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes taken.
    pub consumed: usize,
    /// Output bytes written.
    pub produced: usize,
}

/// A place of a stream where decoding can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Before a gzip member or a zstd frame, or anywhere in a plain tar: nothing is needed.
    Start,
    /// Between two deflate blocks.
    Block {
        /// Upper bits of the byte before (0 to 7) that belong to the next block.
        bits: u8,
    },
}

/// A streaming decompressor.
#[derive(Debug)]
pub struct Decoder(Inner);

enum Inner {
    Plain,
    Gzip(Box<gzip::Gzip>),
    Zstd(Box<Zstd>),
}

struct Zstd {
    decoder: raw::Decoder<'static>,
    limits: Limits,
    inside_frame: bool,
    /// The first bytes of the frame, as far as they have been taken.
    start: Vec<u8>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Inner::Plain => "Plain",
            Inner::Gzip(_) => "Gzip",
            Inner::Zstd(_) => "Zstd",
        })
    }
}

impl Decoder {
    /// A decoder at the start of a stream, within the default [`Limits`].
    ///
    /// # Errors
    /// The decompressor can't be set up (out of memory).
    pub fn new(compression: Compression) -> Result<Decoder, Error> {
        Decoder::within(Limits::default(), compression)
    }

    /// A decoder at the start of a stream.
    ///
    /// # Errors
    /// The decompressor can't be set up (out of memory).
    pub fn within(limits: Limits, compression: Compression) -> Result<Decoder, Error> {
        Ok(Decoder(match compression {
            Compression::None => Inner::Plain,
            Compression::Gzip => Inner::Gzip(Box::new(gzip::Gzip::new()?)),
            Compression::Zstd => {
                let error = |e: std::io::Error| Error::Zstd(e.to_string());
                let mut decoder = raw::Decoder::new().map_err(error)?;
                let log = limits.zstd_window_log.min(MAX_ZSTD_WINDOW_LOG);
                decoder.set_parameter(raw::DParameter::WindowLogMax(log)).map_err(error)?;
                let start = Vec::new();
                Inner::Zstd(Box::new(Zstd { decoder, limits, inside_frame: false, start }))
            }
        }))
    }

    /// A decoder that begins at a boundary. With [`Boundary::Block`] and bits, the first byte of
    /// input is the one that holds them; `window` is the output before (up to [`WINDOW_BYTES`]).
    ///
    /// # Errors
    /// Only gzip has block boundaries.
    pub fn resume(
        compression: Compression,
        boundary: Boundary,
        window: Vec<u8>,
    ) -> Result<Decoder, Error> {
        match boundary {
            Boundary::Start => Decoder::new(compression),
            Boundary::Block { bits }
                if compression == Compression::Gzip
                    && bits <= 7
                    && window.len() <= WINDOW_BYTES =>
            {
                Ok(Decoder(Inner::Gzip(Box::new(gzip::Gzip::resume(bits, window)?))))
            }
            Boundary::Block { .. } => Err(Error::Gzip("an impossible checkpoint")),
        }
    }

    /// Makes [`Decoder::decode`] return at every end of a deflate block, or no longer.
    pub fn stop_at_blocks(&mut self, stop: bool) {
        if let Inner::Gzip(gzip) = &mut self.0 {
            gzip.stop = stop;
        }
    }

    /// The boundary that the decoder stands at. Ends of blocks are noticed only while
    /// [`Decoder::stop_at_blocks`] is on; [`Decoder::decode`] returns at all others.
    pub fn boundary(&self) -> Option<Boundary> {
        match &self.0 {
            Inner::Plain => Some(Boundary::Start),
            Inner::Gzip(gzip) => gzip.boundary(),
            Inner::Zstd(zstd) => (!zstd.inside_frame).then_some(Boundary::Start),
        }
    }

    /// Decompresses from `input` into `output`.
    ///
    /// With room in `output`, `consumed == 0 && produced == 0` means that more input is needed.
    ///
    /// # Errors
    /// The stream is corrupt.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        match &mut self.0 {
            Inner::Plain => {
                let n = input.len().min(output.len());
                output[..n].copy_from_slice(&input[..n]);
                Ok(Progress { consumed: n, produced: n })
            }
            Inner::Gzip(gzip) => gzip.decode(input, output),
            Inner::Zstd(zstd) => zstd.decode(input, output),
        }
    }

    /// The input has ended.
    ///
    /// # Errors
    /// [`Error::Truncated`] inside a member or frame.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.0 {
            Inner::Plain => Ok(()),
            Inner::Gzip(gzip) => gzip.finish(),
            Inner::Zstd(zstd) if zstd.inside_frame => Err(Error::Truncated("zstd")),
            Inner::Zstd(_) => Ok(()),
        }
    }
}

impl Zstd {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        if output.is_empty() || (input.is_empty() && !self.inside_frame) {
            return Ok(Progress { consumed: 0, produced: 0 });
        }
        if !self.inside_frame {
            self.start.clear();
        }
        let seen = self.start.len();
        let missing = zstd_header::MAX_BYTES.saturating_sub(seen);
        self.start.extend_from_slice(&input[..input.len().min(missing)]);
        let status = self.decoder.run_on_buffers(input, output).map_err(|e| {
            let limit = 1 << self.limits.zstd_window_log.min(MAX_ZSTD_WINDOW_LOG);
            match zstd_header::window_bytes(&self.start) {
                Some(window) if window > limit => Error::ZstdWindow { window, limit },
                _ => Error::Zstd(e.to_string()),
            }
        })?;
        self.start.truncate(seen + status.bytes_read);
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.inside_frame = status.remaining != 0;
        }
        Ok(Progress { consumed: status.bytes_read, produced: status.bytes_written })
    }
}

/// Decompresses a whole small stream into memory.
///
/// # Errors
/// The stream is corrupt, or larger than `limit` bytes ([`Error::Unsupported`] names that).
pub fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(Compression::sniff(input)?)?;
    let mut out = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let mut rest = input;
    loop {
        let progress = decoder.decode(rest, &mut chunk)?;
        rest = &rest[progress.consumed..];
        out.extend_from_slice(&chunk[..progress.produced]);
        if out.len() > limit {
            return Err(Error::Unsupported("a ratio that exceeds the limit"));
        }
        if progress.consumed == 0 && progress.produced == 0 {
            decoder.finish()?;
            return Ok(out);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
            let blocks =
                found.iter().filter(|c| matches!(c.boundary, Boundary::Block { .. })).count();
            assert!(blocks > 5, "{name}: {blocks} block ends");
            assert!(
                name == "stored"
                    || found
                        .iter()
                        .any(|c| { matches!(c.boundary, Boundary::Block { bits: 1.. }) })
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
                    window::clear_unused(&mut kept, bits, rest, &data[produced..]).unwrap();
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
}
