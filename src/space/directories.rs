//! Directories whose names are looked up when they are asked for.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::blob::Spans;
use crate::fs::{Error, Filesystem};
use crate::image::{Opened, Shown};
use crate::source::registry::Traffic;
use crate::tree::Attributes;

/// Lower bits of a number: the number in the volume.
pub(super) const VOLUME_SHIFT: u32 = 32;

/// What a name in such a directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Another directory.
    Directory(u32),
    /// A file whose bytes are in memory.
    Document(u32),
    /// A symbolic link.
    Symlink(u32),
    /// The root of a volume, which is shown as a directory.
    Volume(u32),
}

impl Named {
    /// The number that it is shown with.
    pub fn number(self) -> u64 {
        match self {
            Named::Directory(id) | Named::Document(id) | Named::Symlink(id) => id.into(),
            // The root of each volume is 1.
            Named::Volume(volume) => u64::from(volume) << VOLUME_SHIFT | 1,
        }
    }
}

/// What has a number of its own, beside volumes.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory whose names are looked up.
    Directory,
    /// A file with these bytes.
    Document(Arc<[u8]>),
    /// A file whose bytes are made when it is looked up.
    Unmade,
    /// A symbolic link to this.
    Symlink(Arc<[u8]>),
}

/// The root of a volume that was open once.
#[derive(Clone, Copy, Debug)]
pub struct SeenRoot {
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether it has extended attributes.
    pub has_xattrs: bool,
}

/// Directories whose names are looked up, and the documents and volumes that they lead to. The root is directory 1.
pub trait Directories: fmt::Debug + Send + Sync {
    /// What has this number, if anything does.
    fn node(&self, id: u32) -> Option<Node>;

    /// When its names changed last.
    fn changed(&self, id: u32) -> SystemTime;

    /// What a name leads to. What is made for that is waited for until `give_up`; a question to a registry takes
    /// what the registry's own deadline allows.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
    fn lookup(&self, id: u32, name: &[u8], give_up: Instant) -> Result<Named, Error>;

    /// All names that are known, and what they lead to, in a fixed order. It waits as [`Directories::lookup`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
    fn list(&self, id: u32, give_up: Instant) -> Result<Vec<(Vec<u8>, Named)>, Error>;

    /// A volume, if it is open; that it is asked for counts as use.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none with this number.
    fn opened(&self, volume: u32) -> Result<Option<Arc<Filesystem>>, Error>;

    /// A volume, which is opened.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
    fn open(&self, volume: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error>;

    /// An open volume that has the file which is made from an entry of a layer, by the number that volumes have agreed upon.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such layer.
    fn opened_with(&self, _layer: u32, _entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        Err(Error::NotFound)
    }

    /// All open volumes that have it, in the order in which they are to be asked.
    fn all_opened_with(&self, _layer: u32, _entry: u32) -> Vec<Arc<Filesystem>> {
        Vec::new()
    }

    /// The volumes that may have it, in the order in which they are to be opened until one does.
    fn candidates(&self, _layer: u32, _entry: u32) -> Vec<u32> {
        Vec::new()
    }

    /// One that has it; if none is open, one is opened. If one can't be, another may have it too.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
    fn open_with(
        &self,
        layer: u32,
        entry: u32,
        give_up: Instant,
    ) -> Result<Arc<Filesystem>, Error> {
        let mut failed = Error::NotFound;
        for volume in self.candidates(layer, entry) {
            match self.open(volume, give_up) {
                Ok(found) if found.file_made_from(layer, entry).is_some() => return Ok(found),
                Ok(_) => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The bytes of a document that have to be made.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
    fn make(&self, _id: u32, _give_up: Instant) -> Result<Arc<[u8]>, Error> {
        Err(Error::NotFound)
    }

    /// Whether a volume is opened when its root is looked up. Otherwise that is when it is entered, and
    /// its root has the attributes of no image before.
    fn shows_roots(&self) -> bool {
        false
    }

    /// What the root of a volume was like when it was open, in this process or another.
    fn seen_root(&self, _volume: u32) -> Option<SeenRoot> {
        None
    }

    /// How long an answer may take.
    fn timeout(&self) -> Duration;

    /// What is open, by the paths of its volumes.
    fn shown(&self) -> Vec<(String, Shown)>;

    /// The spans that all volumes read from, if they share them.
    fn spans(&self) -> Option<&Arc<Spans>> {
        None
    }

    /// What another process needs to show the same under the same numbers, beside what was
    /// [written down](super::Journal); and a checksum of what is shown from the beginning.
    fn kept(&self) -> (Vec<Opened>, u64);

    /// Hears of what another process, which served the same until now, has looked up in the meantime.
    ///
    /// # Errors
    /// It can't be done again.
    fn catch_up(&self) -> io::Result<()> {
        Ok(())
    }

    /// What goes over the network.
    fn traffic(&self) -> &Arc<Traffic>;
}
