//! Raw deflate (RFC 1951) that can stop at the end of a block and begin at one.
//!
//! # Problem
//!
//! A checkpoint in a gzip stream is the end of a deflate block: a bit offset, and the 32 KiB of
//! output before it, which later blocks may copy from. Making one needs a decoder that says when it
//! stands between two blocks; using one needs a decoder that takes some bits and a dictionary first.
//! This is Mark Adler's `zran` scheme.
//!
//! # Design
//!
//! zlib-rs is the fastest decoder in Rust, and its safe interface has neither ability; its zlib
//! interface (`libz-rs-sys`) has both: `Z_BLOCK`, `inflatePrime`, `inflateSetDictionary`. So this
//! module is the one place where image bytes meet `unsafe`: six calls and a `Send`, behind a type whose methods take
//! slices. Only `Z_NO_FLUSH` and `Z_BLOCK` are used (`Z_TREES` fails on stored blocks in
//! version 0.6), and the block bit of `data_type` is believed only after `Z_BLOCK`.

#![allow(unsafe_code, reason = "the zlib interface; every call is argued")]

use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, inflate, inflateEnd, inflateInit2_,
    inflatePrime, inflateReset, inflateSetDictionary, z_stream, zlibVersion,
};

use super::boundary::WINDOW_BYTES;
use super::error::Error;

/// `windowBits` of zlib for raw deflate with the largest window.
const RAW_DEFLATE: i32 = -15;

/// `data_type` of zlib after `Z_BLOCK`: unused bits of the last byte taken.
const BITS_MASK: i32 = 0x3f;
/// `data_type`: the last block of the stream is being decoded.
const LAST_BLOCK: i32 = 64;
/// `data_type`: the decoder stands behind a block.
const BEHIND_BLOCK: i32 = 128;

/// What one call of [`Inflate::run`] did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) consumed: usize,
    pub(super) produced: usize,
    /// The stream has ended.
    pub(super) ended: bool,
    /// Between two blocks: this many bits of the last byte taken belong to the next one.
    pub(super) block_end: Option<u8>,
}

/// A raw deflate decoder.
pub(super) struct Inflate {
    /// Boxed, because zlib may keep its address.
    stream: Box<z_stream>,
}

// SAFETY: the pointers in a `z_stream` are to the decoder's own state, which no other code has, and to
// the caller's buffers, which `run` takes away again before it returns. Nothing is bound to a thread.
unsafe impl Send for Inflate {}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").finish_non_exhaustive()
    }
}

impl Inflate {
    /// A decoder at the start of a stream.
    pub(super) fn new() -> Result<Inflate, Error> {
        let mut stream = Box::new(z_stream::default());
        // SAFETY: the stream is a valid `z_stream` with the library's own allocators (its default),
        // and version and size are the library's own.
        let status = unsafe {
            inflateInit2_(&mut *stream, RAW_DEFLATE, zlibVersion(), size_of::<z_stream>() as i32)
        };
        match status {
            Z_OK => Ok(Inflate { stream }),
            _ => Err(Error::Gzip("no memory for a decoder")),
        }
    }

    /// Back to the start of a stream.
    pub(super) fn reset(&mut self) {
        // SAFETY: the stream was initialised by `new`, which is the only constructor.
        let status = unsafe { inflateReset(&mut *self.stream) };
        debug_assert_eq!(status, Z_OK, "only an uninitialised stream can't be reset");
    }

    /// Begins in the middle: the upper `bits` bits of `byte` come first, and `window` is the output
    /// before. To be called on a fresh or reset decoder.
    pub(super) fn resume(&mut self, bits: u8, byte: u8, window: &[u8]) -> Result<(), Error> {
        debug_assert!(bits <= 7 && window.len() <= WINDOW_BYTES);
        if bits > 0 {
            // SAFETY: the stream is initialised; the call takes numbers only.
            let status = unsafe {
                inflatePrime(&mut *self.stream, bits.into(), i32::from(byte) >> (8 - bits))
            };
            if status != Z_OK {
                return Err(Error::Gzip("a checkpoint with impossible bits"));
            }
        }
        // SAFETY: the stream is initialised; pointer and length are of one slice, which the call
        // only reads and does not keep.
        let status = unsafe {
            inflateSetDictionary(&mut *self.stream, window.as_ptr(), window.len() as u32)
        };
        match status {
            Z_OK => Ok(()),
            _ => Err(Error::Gzip("a checkpoint with an impossible window")),
        }
    }

    /// Decompresses from `input` into `output`; with `stop` not past the end of a block.
    pub(super) fn run(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        stop: bool,
    ) -> Result<Step, Error> {
        let (available_in, available_out) = (clamp(input.len()), clamp(output.len()));
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = available_in;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = available_out;
        let flush = if stop { Z_BLOCK } else { Z_NO_FLUSH };
        // SAFETY: the stream is initialised; `next_in` is valid for reading `avail_in` bytes and
        // `next_out` for writing `avail_out` bytes, as both come from live slices of at least those
        // lengths, and the slices do not overlap (one is borrowed mutably).
        let status = unsafe { inflate(&mut *self.stream, flush) };
        let consumed = (available_in - self.stream.avail_in) as usize;
        let produced = (available_out - self.stream.avail_out) as usize;
        self.stream.next_in = std::ptr::null();
        self.stream.avail_in = 0;
        self.stream.next_out = std::ptr::null_mut();
        self.stream.avail_out = 0;
        let data_type = self.stream.data_type;
        match status {
            Z_OK | Z_BUF_ERROR | Z_STREAM_END => Ok(Step {
                consumed,
                produced,
                ended: status == Z_STREAM_END,
                block_end: (stop
                    && status == Z_OK
                    && data_type & BEHIND_BLOCK != 0
                    && data_type & LAST_BLOCK == 0
                    && data_type & BITS_MASK < 8)
                    .then_some((data_type & BITS_MASK) as u8),
            }),
            _ => Err(Error::Gzip("invalid deflate data")),
        }
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `new` and is not used again.
        unsafe { inflateEnd(&mut *self.stream) };
    }
}

/// The most that one call can take: zlib counts in 32 bits.
fn clamp(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
