//! What of a mount outlives the process that serves it.
//!
//! # Problem
//!
//! A process that goes on with the mount of another has to show the same: the kernel remembers numbers, names and
//! attributes for as long as the mount lasts. What its name means by now may be another image.
//!
//! # Design
//!
//! With the connection go the digests that the names of the images had meant, so that no tag is asked for again; which
//! layers are shown as a table of contents says they are, so that they still are when a pass of our own is known by then; and a
//! checksum of the tree ([`Tree::checksum`](crate::tree::Tree::checksum)), or of the lists of a store, against which the new process holds its own.
//!
//! # Invariants
//!
//! - A tree with another checksum is not served.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::fuse::Connection;
use crate::fuse::kernel::Mounted;
use crate::image::Opened;

/// What of a mount outlives the process that serves it.
#[derive(Debug)]
pub struct Kept {
    pub(super) connection: Connection,
    pub(super) mounted: Mounted,
    images: Vec<Opened>,
    checksum: u64,
}

/// The same without the descriptor.
#[derive(Deserialize, Serialize)]
struct Record {
    init: Vec<u8>,
    mounted: Mounted,
    images: Vec<Opened>,
    checksum: u64,
}

impl Kept {
    /// Of images, with the checksum of what is shown of them.
    pub(super) fn new(
        connection: Connection,
        mounted: Mounted,
        (images, checksum): (Vec<Opened>, u64),
    ) -> Kept {
        Kept { connection, mounted, images, checksum }
    }

    /// What another process hands over: a descriptor, and [`Kept::to_bytes`].
    ///
    /// # Errors
    /// It is something else.
    pub fn from_parts(device: OwnedFd, bytes: &[u8]) -> io::Result<Kept> {
        let Record { init, mounted, images, checksum } = serde_json::from_slice(bytes)?;
        Ok(Kept { connection: Connection::new(device, init), mounted, images, checksum })
    }

    /// All but the descriptor, for another process of the same program.
    ///
    /// # Errors
    /// None that is expected.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let record = Record {
            init: self.connection.init().to_owned(),
            mounted: self.mounted.clone(),
            images: self.images.clone(),
            checksum: self.checksum,
        };
        Ok(serde_json::to_vec(&record)?)
    }

    /// The same with what is shown by now.
    pub fn renew(&mut self, (images, checksum): (Vec<Opened>, u64)) {
        (self.images, self.checksum) = (images, checksum);
    }

    /// The connection to the kernel.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The mount.
    pub fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    /// The same where something else than the mount itself is what is seen: an overlay over it.
    pub fn shown_as(mut self, mounted: Mounted) -> Kept {
        self.mounted = mounted;
        self
    }

    /// What the names of the images were found to be, in their order.
    pub fn images(&self) -> &[Opened] {
        &self.images
    }

    /// Whether something with this checksum is what is mounted.
    pub fn is_of(&self, checksum: u64) -> bool {
        checksum == self.checksum
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
