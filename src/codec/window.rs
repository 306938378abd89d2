//! Windows of checkpoints: only the bytes that are needed, compressed.
//!
//! # Problem
//!
//! A checkpoint needs the 32 KiB of output before it, and a layer has one for every MiB: 3 % of the
//! layer, mostly for nothing, since the blocks that follow copy from about a tenth of these bytes.
//!
//! # Design
//!
//! Only the next 32 KiB of output can reach into a window. They are decoded twice, with dictionaries
//! of our own making instead of the window, one that spells the low byte of each position and one
//! that spells the high bits, and whose top bit is wrong on purpose. A byte of the second run that
//! differs from the true output was copied from the window, and the two runs together say from
//! where. All other bytes become zeros, which compress to nothing. This is exact, and needs only
//! the public interface of a decoder. (A bitmap of used bytes and the bytes themselves came out
//! larger than zeros left to zstd.)
//!
//! A window needs no digest: if it is wrong, the span that is decoded with it is, and that has one.

use super::boundary::WINDOW_BYTES;
use super::error::Error;
use super::inflate::Inflate;

/// Level that windows are compressed at: beyond it 60 times the work saves a tenth.
const ZSTD_LEVEL: i32 = 3;

/// Replaces all bytes of `window` by zeros that decoding does not need.
///
/// `compressed` are the bytes from the checkpoint on, the first one of which holds the `bits` if
/// there are any, and `truth` is what they decode to: each long enough for 32 KiB of output, or to
/// the end of the member.
///
/// # Errors
/// `compressed` is no deflate data.
pub fn clear_unused(
    window: &mut [u8],
    bits: u8,
    compressed: &[u8],
    truth: &[u8],
) -> Result<(), Error> {
    let truth = &truth[..truth.len().min(WINDOW_BYTES)];
    let low: Vec<u8> = (0..window.len()).map(|i| i as u8).collect();
    let high: Vec<u8> =
        window.iter().enumerate().map(|(i, byte)| (i >> 8) as u8 & 0x7f | (!byte & 0x80)).collect();
    let low = decode(bits, compressed, &low, truth.len())?;
    let high = decode(bits, compressed, &high, truth.len())?;
    let mut used = vec![false; window.len()];
    for ((low, high), truth) in low.iter().zip(&high).zip(truth) {
        if high != truth {
            let at = usize::from(high & 0x7f) << 8 | usize::from(*low);
            if let Some(used) = used.get_mut(at) {
                *used = true;
            }
        }
    }
    for (byte, used) in window.iter_mut().zip(used) {
        if !used {
            *byte = 0;
        }
    }
    Ok(())
}

fn decode(bits: u8, compressed: &[u8], window: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut inflate = Inflate::new()?;
    let first = usize::from(bits > 0);
    let byte = compressed.first().copied().unwrap_or_default();
    inflate.resume(bits, byte, window)?;
    let mut out = vec![0; limit];
    let (mut filled, mut unread) = (0, compressed.get(first..).unwrap_or_default());
    while filled < limit {
        let step = inflate.run(unread, &mut out[filled..], false)?;
        unread = &unread[step.consumed..];
        filled += step.produced;
        if step.ended || (step.consumed == 0 && step.produced == 0) {
            break;
        }
    }
    out.truncate(filled);
    Ok(out)
}

/// A window as it is stored: nothing if it is all zeros.
///
/// # Errors
/// Out of memory.
pub fn pack(window: &[u8]) -> Result<Vec<u8>, Error> {
    if window.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    zstd::bulk::compress(window, ZSTD_LEVEL).map_err(|e| Error::Zstd(e.to_string()))
}

/// The window from its stored form, which may be anything.
///
/// # Errors
/// It is not a stored window.
pub fn unpack(stored: &[u8]) -> Result<Vec<u8>, Error> {
    if stored.is_empty() {
        return Ok(vec![0; WINDOW_BYTES]);
    }
    zstd::bulk::decompress(stored, WINDOW_BYTES).map_err(|e| Error::Zstd(e.to_string()))
}
