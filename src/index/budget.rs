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
//! holds of an entry counts several times. The limit grows with what was read:
//! [`BYTES_PER_BLOB_BYTE`] for each byte of the blobs, and [`FREE_BYTES`] besides. An entry of a
//! real layer takes 15 compressed bytes at least, and draws some 300, so a real image never comes near
//! the limit. A layer draws while its tar or its table of contents is read, so that nothing is built
//! that is refused later; a layer that fails gives back what it drew.
//!
//! What counts as read never is the size that a descriptor claims ([`Budget::has_read`]):
//!
//! - of a layer that is streamed, the bytes that were decompressed so far;
//! - of a layer that was streamed before, all of its blob, whose size was checked then;
//! - of a layer that is opened by way of a table of contents, a ztoc or a pushed index, the bytes of
//!   that as they came. An entry takes 15 of them at least there too. That a source confirms the size of
//!   the layer's blob counts for nothing: a sparse file has any size, and a registry says what it likes;
//! - of such an index in the cache, how small it can be compressed, if it does not fit otherwise: how much
//!   came for it is not kept, and no fewer bytes can say the same.
//!
//! Each blob counts once, however often an image lists it. What a layer draws is not all that a
//! second listing of it costs: the merge has to make its names again, below other directories if a symlink
//! was changed in between, so it draws [`NODE_BYTES`] for each row of a layer that it applies
//! once more, and for each directory that it makes where a symlink leads, which no row stands for. Rejected:
//! using the nodes of names that were replaced again, which helps only where the names are the same.
//!
//! Each image of a mount has a budget of its own, and draws for all of its layers, also for those that
//! an image before has opened: an image is shown beside others if it is shown alone.
//!
//! Rejected: a limit for each layer, because an image may have a thousand; a limit on the process's
//! memory, because it does not tell which image is to blame.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::Error;
use crate::digest::Digest;

/// What an image may draw however small its layers are: about 200,000 entries.
const FREE_BYTES: u64 = 64 << 20;

/// What it may draw besides, for each byte of its blobs that was read.
const BYTES_PER_BLOB_BYTE: u64 = 64;

/// What the rows of a layer index cost in it and in a merged tree, with their tables for lookups.
pub(super) const DIR_BYTES: u64 = 160;
pub(super) const ENTRY_BYTES: u64 = 240;
pub(super) const WHITEOUT_BYTES: u64 = 32;
pub(super) const RUN_BYTES: u64 = 48;
pub(super) const XATTR_BYTES: u64 = 48;
pub(super) const CHUNK_BYTES: u64 = 64;

/// What a name costs that a merge makes and no layer has drawn for.
pub const NODE_BYTES: u64 = 160;

/// What a byte of text costs: names are in the index and in the tree.
pub(super) const TEXT_BYTES: u64 = 2;

/// Bytes of memory that the metadata of an image may take.
#[derive(Debug)]
pub struct Budget {
    /// The limit, if it does not grow.
    fixed: Option<u64>,
    /// How many bytes of which blob were read.
    read: Mutex<HashMap<Digest, u64>>,
    /// The sum of them.
    read_bytes: AtomicU64,
    drawn: AtomicU64,
}

impl Budget {
    /// The budget of an image of which nothing was read yet.
    pub fn growing() -> Budget {
        Budget {
            fixed: None,
            read: Mutex::default(),
            read_bytes: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        }
    }

    /// A budget of so many bytes, whatever is read.
    pub fn of(limit: u64) -> Budget {
        Budget { fixed: Some(limit), ..Budget::growing() }
    }

    /// All of it, in bytes, by what was read so far.
    pub fn limit(&self) -> u64 {
        self.limit_with(0)
    }

    /// What the limit is when so many bytes more were read.
    pub fn limit_with(&self, more: u64) -> u64 {
        let read = self.read_bytes.load(Ordering::Relaxed).saturating_add(more);
        let grown = FREE_BYTES.saturating_add(read.saturating_mul(BYTES_PER_BLOB_BYTE));
        self.fixed.unwrap_or(grown)
    }

    /// How many bytes have to be read for metadata of so many bytes.
    pub fn enough_for(metadata_bytes: u64) -> u64 {
        metadata_bytes.div_ceil(BYTES_PER_BLOB_BYTE)
    }

    /// Notes that so many bytes of a blob have been read in all. The same again does not count.
    pub fn has_read(&self, blob: Digest, bytes: u64) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read.entry(blob).or_default();
        let more = bytes.saturating_sub(*before);
        *before += more;
        self.read_bytes.fetch_add(more, Ordering::Relaxed);
    }

    /// Draws on the budget.
    ///
    /// # Errors
    /// There is not so much left.
    fn draw(&self, bytes: u64) -> Result<(), Error> {
        let before = self.drawn.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.limit();
        match before.saturating_add(bytes) > limit {
            false => Ok(()),
            true => {
                self.drawn.fetch_sub(bytes, Ordering::Relaxed);
                Err(Error::Budget { limit })
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
    fn it_grows_with_what_was_read() {
        let [one, other] = [b"1", b"2"].map(|text| Digest::sha256(text));
        let budget = Budget::growing();
        assert_eq!(budget.limit(), FREE_BYTES);
        assert_eq!(budget.limit_with(u64::MAX), u64::MAX);
        budget.has_read(one, 1 << 20);
        budget.has_read(one, 1 << 10);
        budget.has_read(one, 1 << 20);
        assert_eq!(budget.limit(), FREE_BYTES + (64 << 20), "a blob counts once");
        budget.has_read(other, 1 << 20);
        assert_eq!(budget.limit(), FREE_BYTES + (128 << 20));
        let fixed = Budget::of(100);
        fixed.has_read(one, 1 << 20);
        assert_eq!(fixed.limit(), 100);
        assert_eq!(Budget::enough_for(65), 2);
    }
}
