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
//! # Invariants
//!
//! - [`Decoder::decode`] makes progress or says that it needs input; it never loops for more
//!   than its buffers are long, so a bomb costs its caller exactly the output it asks for.
//! - A stream that ends inside a member or frame is [`Error::Truncated`], never a short success.
//! - zstd frames that want a window above [`MAX_ZSTD_WINDOW_LOG`] are refused.

mod gzip;

use zstd::stream::raw::{self, Operation};

/// The largest zstd window accepted, as a power of two: 128 MiB, zstd's own limit for `--long`.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Any stream may unpack to this many bytes ...
const FREE_UNCOMPRESSED_BYTES: u64 = 1 << 30;

/// ... and beyond that to this many times what has been read of it. Real layers stay below 20;
/// deflate can reach 1032, zstd far more.
const MAX_RATIO: u64 = 200;

/// The most that may come out of a stream of which `compressed` bytes have been read. Counted by
/// what has come and not by a size that somebody claims, so that a bomb ends early.
pub fn plausible_uncompressed_bytes(compressed: u64) -> u64 {
    compressed.saturating_mul(MAX_RATIO).max(FREE_UNCOMPRESSED_BYTES)
}

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
    #[error("the layer is compressed with {0}, which no image format allows")]
    Unsupported(&'static str),
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
    /// type has.
    pub fn sniff(start: &[u8]) -> Result<Compression, Error> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(Error::Unsupported("bzip2")),
            [0xfd, b'7', b'z', b'X', ..] => return Err(Error::Unsupported("xz")),
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

/// A streaming decompressor.
#[derive(Debug)]
pub struct Decoder(Inner);

enum Inner {
    Plain,
    Gzip(Box<gzip::Gzip>),
    Zstd { decoder: Box<raw::Decoder<'static>>, inside_frame: bool },
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Inner::Plain => "Plain",
            Inner::Gzip(_) => "Gzip",
            Inner::Zstd { .. } => "Zstd",
        })
    }
}

impl Decoder {
    /// A decoder at the start of a stream.
    ///
    /// # Errors
    /// The decompressor can't be set up (out of memory).
    pub fn new(compression: Compression) -> Result<Decoder, Error> {
        Ok(Decoder(match compression {
            Compression::None => Inner::Plain,
            Compression::Gzip => Inner::Gzip(Box::new(gzip::Gzip::new())),
            Compression::Zstd => {
                let error = |e: std::io::Error| Error::Zstd(e.to_string());
                let mut decoder = Box::new(raw::Decoder::new().map_err(error)?);
                decoder
                    .set_parameter(raw::DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG))
                    .map_err(error)?;
                Inner::Zstd { decoder, inside_frame: false }
            }
        }))
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
            Inner::Zstd { decoder, inside_frame } => {
                if output.is_empty() || (input.is_empty() && !*inside_frame) {
                    return Ok(Progress { consumed: 0, produced: 0 });
                }
                let status = decoder
                    .run_on_buffers(input, output)
                    .map_err(|e| Error::Zstd(e.to_string()))?;
                if status.bytes_read > 0 || status.bytes_written > 0 {
                    *inside_frame = status.remaining != 0;
                }
                Ok(Progress { consumed: status.bytes_read, produced: status.bytes_written })
            }
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
            Inner::Zstd { inside_frame: true, .. } => Err(Error::Truncated("zstd")),
            Inner::Zstd { inside_frame: false, .. } => Ok(()),
        }
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

    #[test]
    fn foreign_compressions_are_named() {
        for (start, name) in [(&b"BZh91"[..], "bzip2"), (b"\xfd7zXZ", "xz")] {
            assert!(Compression::sniff(start).unwrap_err().to_string().contains(name));
        }
    }
}
