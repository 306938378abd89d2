//! The blocks that a tar is made of.

use super::error::Error;

/// Size of a tar block in bytes.
pub const BLOCK_BYTES: usize = 512;

/// `size` rounded up to whole blocks. The caller has checked that it fits.
pub(super) fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES as u64)
}

/// The same, if it fits.
pub(super) fn checked_padded(size: u64, at: u64) -> Result<u64, Error> {
    size.checked_next_multiple_of(BLOCK_BYTES as u64).ok_or(Error::Size { at, size })
}
