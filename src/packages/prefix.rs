//! Values that are read from their front, as far as they are wanted.

use super::error::Error;

/// The most of one value that is read, in bytes: what is wanted of rpm's headers, which may have hundreds of megabytes,
/// is in the first few thousand.
pub const MAX_PREFIX_BYTES: usize = 16 << 20;

/// A value of a database.
pub trait Prefix {
    /// Its first bytes: so many, or all if it has fewer.
    ///
    /// # Errors
    /// More than [`MAX_PREFIX_BYTES`] are wanted, or they can't be read.
    fn first(&mut self, length: usize) -> Result<&[u8], Error>;
}

impl Prefix for &[u8] {
    fn first(&mut self, length: usize) -> Result<&[u8], Error> {
        Ok(&self[..length.min(self.len())])
    }
}

/// How much of a value of `size` bytes there is in its first `length`.
pub(super) fn wanted(length: usize, size: u64) -> Result<usize, Error> {
    let wanted = usize::try_from(size).map_or(length, |size| size.min(length));
    match wanted <= MAX_PREFIX_BYTES {
        true => Ok(wanted),
        false => Err(Error::Corrupt("what is wanted of it lies too far inside of a value")),
    }
}
