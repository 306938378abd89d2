//! How much memory the metadata of an image may take.
//!
//! # Problem
//!
//! Names, attributes and sparse maps compress a thousandfold: 184 KB of image can name fourteen million
//! directories, and each costs memory in the layer index, in the merged tree and in the kernel.
//! Bounds on single things (a path, a sparse map, the number of entries) don't help against many of
//! them.
//!
//! # Design
//!
//! One budget for an image, which all its layers draw on, also those that are opened at the same time. It
//! counts bytes as they are in memory once the image is merged, so what [`LayerIndex`](super::LayerIndex)
//! holds of an entry counts several times. What is drawn grows with what was downloaded:
//! [`BYTES_PER_BLOB_BYTE`] for each byte of the layers, and [`FREE_BYTES`] besides. An entry of a
//! real layer takes 15 compressed bytes at least, and draws some 300, so a real image never comes near
//! the limit. A layer draws while its tar or its table of contents is read, so that nothing is built
//! that is refused later; a layer that fails gives back what it drew.
//!
//! Rejected: a limit for each layer, because an image may have a thousand; a limit on the process's
//! memory, because it does not tell which image is to blame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// What an image may draw however small its layers are: about 200,000 entries.
const FREE_BYTES: u64 = 64 << 20;

/// What it may draw besides, for each byte of its layers as they are stored.
const BYTES_PER_BLOB_BYTE: u64 = 64;

/// What the rows of a layer index cost in it and in a merged tree, with their tables for lookups.
pub(super) const DIR_BYTES: u64 = 160;
pub(super) const ENTRY_BYTES: u64 = 240;
pub(super) const WHITEOUT_BYTES: u64 = 32;
pub(super) const RUN_BYTES: u64 = 48;
pub(super) const XATTR_BYTES: u64 = 48;
pub(super) const CHUNK_BYTES: u64 = 64;

/// What a byte of text costs: names are in the index and in the tree.
pub(super) const TEXT_BYTES: u64 = 2;

/// Bytes of memory that the metadata of an image may take.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    drawn: AtomicU64,
}

impl Budget {
    /// The budget of an image whose layers have so many bytes as they are stored.
    pub fn for_layers(stored_bytes: u64) -> Budget {
        let more = stored_bytes.saturating_mul(BYTES_PER_BLOB_BYTE);
        Budget::of(FREE_BYTES.saturating_add(more))
    }

    /// A budget of so many bytes.
    pub fn of(limit: u64) -> Budget {
        Budget { limit, drawn: AtomicU64::new(0) }
    }

    /// All of it, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Draws on the budget.
    ///
    /// # Errors
    /// There is not so much left.
    fn draw(&self, bytes: u64) -> Result<(), Error> {
        let before = self.drawn.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) > self.limit {
            false => Ok(()),
            true => {
                self.drawn.fetch_sub(bytes, Ordering::Relaxed);
                Err(Error::Budget { limit: self.limit })
            }
        }
    }
}

/// What one layer has drawn; given back when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct Drawn {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drawn {
    /// Nothing yet.
    pub fn new(budget: Arc<Budget>) -> Drawn {
        Drawn { budget, bytes: 0 }
    }

    /// Draws more.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn more(&mut self, bytes: u64) -> Result<(), Error> {
        self.budget.draw(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The layer is there to stay.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.budget.drawn.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_and_give_back() {
        let budget = Arc::new(Budget::of(100));
        let mut one = Drawn::new(Arc::clone(&budget));
        let mut other = Drawn::new(Arc::clone(&budget));
        one.more(60).unwrap();
        other.more(30).unwrap();
        assert_eq!(other.more(11), Err(Error::Budget { limit: 100 }));
        other.more(10).unwrap();
        drop(other);
        one.more(40).unwrap();
        one.keep();
        assert!(Drawn::new(Arc::clone(&budget)).more(1).is_err(), "kept is kept");
        assert!(Drawn::new(budget).more(u64::MAX).is_err(), "sums do not wrap");
    }

    #[test]
    fn it_grows_with_the_layers() {
        assert_eq!(Budget::for_layers(0).limit(), FREE_BYTES);
        assert_eq!(Budget::for_layers(1 << 20).limit(), FREE_BYTES + (64 << 20));
        assert_eq!(Budget::for_layers(u64::MAX).limit(), u64::MAX);
    }
}
