//! Windows of checkpoints: only the bytes that are needed, compressed.
//!
//! # Problem
//!
//! A checkpoint needs the 32 KiB of output before it, and a layer has one for every MiB: 3 % of the
//! layer, mostly for nothing, since the blocks that follow copy from about a tenth of these bytes.
//!
//! # Design
//!
//! Only the next 32 KiB of output can reach into a window, and the decoder notes from where in it they
//! copied. All other bytes become zeros, which compress to nothing. (A bitmap of used bytes and the
//! bytes themselves came out larger than zeros left to zstd.)
//!
//! A window needs no digest: if it is wrong, the span that is decoded with it is, and that has one.

use super::boundary::WINDOW_BYTES;
use super::error::Error;

/// Level that windows are compressed at: beyond it 60 times the work saves a tenth.
const ZSTD_LEVEL: i32 = 3;

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
