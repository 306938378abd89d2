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
//! Where names are looked up when they are asked for (`ocifs browse`), the volume with the root is made of
//! [`Directories`] instead of a tree, and each image is a volume of its own, numbered from 1. Its inodes wait for it to be
//! opened. What an image's numbers are does not depend on when that was, so that an image can be closed
//! while the kernel remembers files of it. Files that several of these volumes have are one inode all the same, with a number
//! that is made from what the file is (`space::volume`). Numbers of volumes, directories and layers are given in the order in
//! which they are named, and written down for the process that may take over ([`Journal`]).
//!
//! (Rejected: a volume for each image of a mount. Its numbers would need no joined tree, but `diff -r` of two versions
//! would read every equal file twice, and the kernel would cache it twice.)
//!
//! # Invariants
//!
//! - The root is 1. A number of a volume that the space does not have is not found.

mod archives;
mod directories;
mod entered;
mod holders;
mod journal;
mod layout;
mod local;
mod names;
mod numbers;
mod registries;
mod slot;
mod store;
mod volume;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

pub use archives::Archives;
use directories::VOLUME_SHIFT;
pub use directories::{Directories, Named, Node, SeenRoot};
pub use journal::Journal;
pub use layout::{Layout, LayoutError};
pub use registries::{Opener, Registries};
pub use store::{Store, StoreImage};
use volume::Files;
pub use volume::Volume;

use crate::fs::{Error, Filesystem};
use crate::tree::Ino;

/// The volume with the root.
const ROOT: u32 = 0;

/// What a number leads to.
#[derive(Debug)]
pub enum Found<'a> {
    /// A file of a volume.
    File(Cow<'a, Volume>, Ino),
    /// A file whose bytes are in memory: its number, and they.
    Document(u32, Arc<[u8]>),
    /// A symbolic link: its number, and its target.
    Symlink(u32, Arc<[u8]>),
    /// Something that may have to be waited for.
    Later(Later),
}

/// What is not at once there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// A directory whose names are looked up.
    Directory(u32),
    /// An inode of a volume that is not open.
    Closed {
        /// The volume.
        volume: u32,
        /// The inode's number in it.
        number: u32,
    },
    /// A file whose bytes have to be made.
    Document(u32),
}

/// What one FUSE connection serves.
#[derive(Debug)]
pub struct Space(Root);

#[derive(Debug)]
enum Root {
    Volume(Volume),
    Directories(Arc<dyn Directories>),
}

impl Space {
    /// Of one file system, which has the root.
    pub fn new(root: Arc<Filesystem>) -> Space {
        Space(Root::Volume(Volume::new(ROOT, root)))
    }

    /// Of directories whose names are looked up.
    pub fn of_directories(directories: Arc<dyn Directories>) -> Space {
        Space(Root::Directories(directories))
    }

    /// The volume that has the root, if it is one.
    pub fn root(&self) -> Option<&Volume> {
        match &self.0 {
            Root::Volume(volume) => Some(volume),
            Root::Directories(_) => None,
        }
    }

    /// The directories whose names are looked up, if there are any.
    pub fn directories(&self) -> Option<&Arc<dyn Directories>> {
        match &self.0 {
            Root::Volume(_) => None,
            Root::Directories(directories) => Some(directories),
        }
    }

    /// What is [shown](Volume::shown) with a number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn find(&self, number: u64) -> Result<Found<'_>, Error> {
        // Both parts have 32 bits.
        let (volume, number) = ((number >> VOLUME_SHIFT) as u32, number as u32);
        match &self.0 {
            Root::Volume(root) if volume == root.number() => {
                Ok(Found::File(Cow::Borrowed(root), root.ino(number)?))
            }
            Root::Volume(_) => Err(Error::NotFound),
            Root::Directories(directories) if volume == ROOT => {
                match directories.node(number).ok_or(Error::NotFound)? {
                    Node::Directory => Ok(Found::Later(Later::Directory(number))),
                    Node::Document(bytes) => Ok(Found::Document(number, bytes)),
                    Node::Symlink(target) => Ok(Found::Symlink(number, target)),
                    Node::Unmade => Ok(Found::Later(Later::Document(number))),
                }
            }
            Root::Directories(directories) => {
                let opened = match Files::of_volume(volume) {
                    Some(files) => directories.opened_with(files.layer, number)?,
                    None => directories.opened(volume)?,
                };
                match opened {
                    Some(filesystem) => {
                        let volume = Volume::new(volume, filesystem);
                        let ino = volume.ino(number)?;
                        Ok(Found::File(Cow::Owned(volume), ino))
                    }
                    None => Ok(Found::Later(Later::Closed { volume, number })),
                }
            }
        }
    }
}

/// A file by its number in those open volumes that have it, but for one that could not read it.
pub fn others(
    directories: &dyn Directories,
    number: u64,
    failed: &Arc<Filesystem>,
) -> Vec<(Arc<Filesystem>, Ino)> {
    let (volume, entry) = ((number >> VOLUME_SHIFT) as u32, number as u32);
    let Some(Files { layer, .. }) = Files::of_volume(volume) else { return Vec::new() };
    let all = directories.all_opened_with(layer, entry).into_iter();
    let others = all.filter(|filesystem| !Arc::ptr_eq(filesystem, failed));
    others
        .filter_map(|other| Some((Arc::clone(&other), other.file_made_from(layer, entry)?)))
        .collect()
}

/// Whether this is the root of a volume.
pub fn is_root(volume: u32, number: u32) -> bool {
    // The numbers of files that volumes share are entries of layers.
    u64::from(number) == Ino::ROOT.number() && Files::of_volume(volume).is_none()
}

/// The inode that is [`Later::Closed`], of a volume that is opened for it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Name`], [`Error::Late`].
pub fn open(
    directories: &dyn Directories,
    volume: u32,
    number: u32,
    give_up: Instant,
) -> Result<(Volume, Ino), Error> {
    let filesystem = match Files::of_volume(volume) {
        Some(files) => directories.open_with(files.layer, number, give_up)?,
        None => directories.open(volume, give_up)?,
    };
    let volume = Volume::new(volume, filesystem);
    let ino = volume.ino(number)?;
    Ok((volume, ino))
}
