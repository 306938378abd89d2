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
//! [`Decoder::stop_at_blocks`] it stops at the next. zstd has no such places inside a frame: its state
//! between blocks is a window of megabytes and entropy tables that no library hands out.
//!
//! # Invariants
//!
//! - [`Decoder::decode`] makes progress or says that it needs input; it never loops for more
//!   than its buffers are long, so a bomb costs its caller exactly the output it asks for.
//! - A stream that ends inside a member or frame is [`Error::Truncated`], never a short success.
//! - zstd frames that want a larger window than [`Limits`] allow are refused. A decoder takes as much
//!   memory as the window of its frame.

mod boundary;
mod compress;
mod compression;
mod crc64;
mod decoder;
mod deflate;
mod error;
mod guess;
mod gzip;
mod limits;
mod member;
pub mod window;
mod zstd_frames;
mod zstd_header;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use boundary::{Boundary, Progress, WINDOW_BYTES};
pub use compress::compressed_bytes;
pub use compression::{Compression, SNIFF_BYTES};
pub use crc64::Crc64;
pub use decoder::{Decoder, decompress};
pub use error::Error;
pub use guess::{Guess, guess};
pub use limits::{
    DEFAULT_ZSTD_WINDOW_LOG, Limits, MAX_ZSTD_WINDOW_LOG, plausible_uncompressed_bytes,
};
pub use member::{MemberEnd, MemberSum};
