//! Directories whose names are looked up when they are asked for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::fs::{Error, Filesystem};

/// Lower bits of a number: the number in the volume.
pub(super) const VOLUME_SHIFT: u32 = 32;

/// What a name in such a directory leads to: both are shown as directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Another directory.
    Directory(u32),
    /// The root of a volume.
    Volume(u32),
}

impl Named {
    /// The number that it is shown with.
    pub fn number(self) -> u64 {
        match self {
            Named::Directory(id) => id.into(),
            // The root of each volume is 1.
            Named::Volume(volume) => u64::from(volume) << VOLUME_SHIFT | 1,
        }
    }
}

/// What a directory has.
#[derive(Debug)]
pub struct Listing {
    /// Names and what they lead to, in the order of the names.
    pub rows: Vec<(Vec<u8>, Named)>,
}

/// Directories whose names are looked up, and the volumes that they lead to. The root is directory 1.
///
/// What may wait for a network is told until when.
pub trait Directories: fmt::Debug + Send + Sync {
    /// Whether there is a directory with this number.
    fn is_directory(&self, id: u32) -> bool;

    /// When its names changed last.
    fn changed(&self, id: u32) -> SystemTime;

    /// What a name leads to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`].
    fn lookup(&self, id: u32, name: &[u8], give_up: Instant) -> Result<Named, Error>;

    /// All names that are known.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`].
    fn list(&self, id: u32, give_up: Instant) -> Result<Arc<Listing>, Error>;

    /// A volume, if it is open; that it is asked for counts as use.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none with this number.
    fn opened(&self, volume: u32) -> Result<Option<Arc<Filesystem>>, Error>;

    /// A volume, which is opened.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`].
    fn open(&self, volume: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error>;

    /// How long an answer may take.
    fn timeout(&self) -> Duration;
}
