//! How much memory may be filled from a ztoc.

use super::error::Error;

/// What is made of a ztoc takes at most this many times its own size in memory. Those that exist
/// need about as much as their size; one whose tables all refer to the same strings would not.
pub const MAX_EXPANSION: usize = 4;

/// The bytes of memory that may still be filled from a buffer whose parts may share bytes.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.0 = self.0.checked_sub(bytes).ok_or(Error::Expansion)?;
        Ok(())
    }
}
