//! zlib's raw inflating, call by call: where it stops, and with what.
//!
//! The yardstick for the decoder of `ocifs::codec`. It is zlib-rs through its C interface, because its
//! safe one tells nothing of the ends of blocks.

#![allow(unsafe_code, reason = "the zlib interface; every call is argued")]

use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, inflate, inflateEnd, inflateInit2_,
    inflatePrime, inflateReset, inflateSetDictionary, z_stream, zlibVersion,
};

/// `windowBits` of zlib for raw deflate with the largest window.
const RAW_DEFLATE: i32 = -15;

/// `data_type` of zlib after `Z_BLOCK`: unused bits of the last byte taken.
const BITS_MASK: i32 = 0x3f;
/// `data_type`: the last block of the stream is being decoded.
const LAST_BLOCK: i32 = 64;
/// `data_type`: the decoder stands behind a block.
const BEHIND_BLOCK: i32 = 128;

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Input bytes taken.
    pub consumed: usize,
    /// Output bytes written.
    pub produced: usize,
    /// The stream has ended.
    pub ended: bool,
    /// Between two blocks: this many bits of the last byte taken belong to the next one.
    pub block_end: Option<u8>,
}

/// A raw deflate decoder.
pub struct Raw {
    /// Boxed, because zlib may keep its address.
    stream: Box<z_stream>,
}

impl Raw {
    /// A decoder at the start of a stream.
    pub fn new() -> Raw {
        let mut stream = Box::new(z_stream::default());
        // SAFETY: the stream is a valid `z_stream` with the library's own allocators (its default),
        // and version and size are the library's own.
        let status = unsafe {
            inflateInit2_(&mut *stream, RAW_DEFLATE, zlibVersion(), size_of::<z_stream>() as i32)
        };
        assert_eq!(status, Z_OK);
        Raw { stream }
    }

    /// Back to the start of a stream.
    pub fn reset(&mut self) {
        // SAFETY: the stream was initialised by `new`, which is the only constructor.
        assert_eq!(unsafe { inflateReset(&mut *self.stream) }, Z_OK);
    }

    /// Begins in the middle: the upper `bits` bits of `byte` come first, and `window` is the output
    /// before. To be called on a fresh or reset decoder.
    pub fn resume(&mut self, bits: u8, byte: u8, window: &[u8]) {
        if bits > 0 {
            let value = i32::from(byte) >> (8 - bits);
            // SAFETY: the stream is initialised; the call takes numbers only.
            assert_eq!(unsafe { inflatePrime(&mut *self.stream, bits.into(), value) }, Z_OK);
        }
        // SAFETY: the stream is initialised; pointer and length are of one slice, which the call
        // only reads and does not keep.
        let status = unsafe {
            inflateSetDictionary(&mut *self.stream, window.as_ptr(), window.len() as u32)
        };
        assert_eq!(status, Z_OK);
    }

    /// Decompresses from `input` into `output`, with `stop` not past the end of a block; `None` for a
    /// stream that zlib refuses.
    pub fn run(&mut self, input: &[u8], output: &mut [u8], stop: bool) -> Option<Step> {
        let (available_in, available_out) = (input.len() as u32, output.len() as u32);
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = available_in;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = available_out;
        let flush = if stop { Z_BLOCK } else { Z_NO_FLUSH };
        // SAFETY: the stream is initialised; `next_in` is valid for reading `avail_in` bytes and
        // `next_out` for writing `avail_out` bytes, as both come from live slices of those lengths, and
        // the slices do not overlap (one is borrowed mutably).
        let status = unsafe { inflate(&mut *self.stream, flush) };
        let consumed = (available_in - self.stream.avail_in) as usize;
        let produced = (available_out - self.stream.avail_out) as usize;
        self.stream.next_in = std::ptr::null();
        self.stream.avail_in = 0;
        self.stream.next_out = std::ptr::null_mut();
        self.stream.avail_out = 0;
        let data_type = self.stream.data_type;
        let is_block_end = stop
            && status == Z_OK
            && data_type & BEHIND_BLOCK != 0
            && data_type & LAST_BLOCK == 0
            && data_type & BITS_MASK < 8;
        match status {
            Z_OK | Z_BUF_ERROR | Z_STREAM_END => Some(Step {
                consumed,
                produced,
                ended: status == Z_STREAM_END,
                block_end: is_block_end.then_some((data_type & BITS_MASK) as u8),
            }),
            _ => None,
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `new` and is not used again.
        unsafe { inflateEnd(&mut *self.stream) };
    }
}

/// The window with zeros for all bytes that decoding of `length` bytes does not copy: found by decoding
/// twice behind windows of our own making, one of which spells the low byte of each position and one the
/// high bits, with a top bit that is wrong on purpose. A byte of the second run that differs from the
/// true output was copied from the window, and both together say from where.
pub fn used_of_window(window: &[u8], bits: u8, compressed: &[u8], truth: &[u8]) -> Vec<u8> {
    let truth = &truth[..truth.len().min(window.len())];
    let low: Vec<u8> = (0..window.len()).map(|at| at as u8).collect();
    let high: Vec<u8> = window
        .iter()
        .enumerate()
        .map(|(at, byte)| (at >> 8) as u8 & 0x7f | (!byte & 0x80))
        .collect();
    let low = decode(bits, compressed, &low, truth.len());
    let high = decode(bits, compressed, &high, truth.len());
    let mut used = vec![0; window.len()];
    for ((low, high), truth) in low.iter().zip(&high).zip(truth) {
        if high != truth {
            let at = usize::from(high & 0x7f) << 8 | usize::from(*low);
            used[at] = window[at];
        }
    }
    used
}

/// The first bytes behind a window, at most to the end of the stream, or to damage.
fn decode(bits: u8, compressed: &[u8], window: &[u8], limit: usize) -> Vec<u8> {
    let mut raw = Raw::new();
    raw.resume(bits, compressed.first().copied().unwrap_or_default(), window);
    let mut out = vec![0; limit];
    let (mut filled, mut unread) = (0, compressed.get(usize::from(bits > 0)..).unwrap_or_default());
    while filled < limit {
        let Some(step) = raw.run(unread, &mut out[filled..], false) else { break };
        unread = &unread[step.consumed..];
        filled += step.produced;
        if step.ended || (step.consumed == 0 && step.produced == 0) {
            break;
        }
    }
    out.truncate(filled);
    out
}
