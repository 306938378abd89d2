//! The inode numbers of one FUSE connection, and the volumes that they lead to.
//!
//! # Problem
//!
//! A connection has one range of inode numbers, and what it serves has numbers of its own: those of a tree
//! ([`Tree::shown`](crate::tree::Tree::shown)), made from paths and contents. A number may come back long after it
//! was handed out, in an NFS file handle even after the mount has ended, so any number must be safe to look up.
//!
//! # Design
//!
//! A number has 64 bits: the upper 32 are the number of the volume, the lower 32 the number in it. The volume with the
//! root has number 0, so that its numbers stay within 32 bits, for the reasons that `tree::numbers` gives.
//!
//! A space has one volume, because every mount has one: several images of a mount are one joined tree
//! ([`join`](crate::tree::join)). Files that are equal in two images are one inode there, which two volumes can't
//! have. The FUSE adapter nevertheless asks for the volume of each inode and keeps no file system of its own, so
//! that what a number means is said here and nowhere else.
//!
//! (Rejected: a volume for each image of a mount. Its numbers would need no joined tree, but `diff -r` of two versions
//! would read every equal file twice, and the kernel would cache it twice.)
//!
//! # Invariants
//!
//! - The root is 1. A number of a volume that the space does not have is not found.

use std::sync::Arc;

use crate::fs::{Error, Filesystem};
use crate::tree::{Ino, Shown};

/// Lower bits of a number: the number in the volume.
const VOLUME_SHIFT: u32 = 32;

/// The volume with the root.
const ROOT: u32 = 0;

/// A file system in a [`Space`].
#[derive(Clone, Debug)]
pub struct Volume {
    number: u32,
    filesystem: Arc<Filesystem>,
}

impl Volume {
    /// Its names, attributes and bytes.
    pub fn filesystem(&self) -> &Arc<Filesystem> {
        &self.filesystem
    }

    /// How one of its inodes is known in the space.
    pub fn shown(&self, ino: Ino) -> Shown {
        let Shown { number, generation } = self.filesystem.tree().shown(ino);
        Shown { number: u64::from(self.number) << VOLUME_SHIFT | number, generation }
    }
}

/// What one FUSE connection serves.
#[derive(Debug)]
pub struct Space {
    root: Volume,
}

impl Space {
    /// Of one file system, which has the root.
    pub fn new(root: Arc<Filesystem>) -> Space {
        Space { root: Volume { number: ROOT, filesystem: root } }
    }

    /// The volume that has the root.
    pub fn root(&self) -> &Volume {
        &self.root
    }

    /// The volume and the inode that are [shown](Volume::shown) with a number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn find(&self, number: u64) -> Result<(&Volume, Ino), Error> {
        if number >> VOLUME_SHIFT != u64::from(self.root.number) {
            return Err(Error::NotFound);
        }
        let number = number & u64::from(u32::MAX);
        let ino = self.root.filesystem.tree().ino_of(number).ok_or(Error::NotFound)?;
        Ok((&self.root, ino))
    }
}
