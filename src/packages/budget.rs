//! How much of a database may still be read.

use std::cell::Cell;

use super::error::Error;

/// Most bytes of one database that are read, and handed on: pages, and cells that may lie over each other. Of the
/// headers of a whole distribution less is read.
pub const MAX_READ_BYTES: u64 = 256 << 20;

/// A count of bytes, which only falls.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(MAX_READ_BYTES))
    }
}

impl Budget {
    /// Takes some of it.
    ///
    /// # Errors
    /// There is not so much left.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), Error> {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.ok_or(Error::TooMuchToRead { limit: MAX_READ_BYTES })?);
        Ok(())
    }
}
