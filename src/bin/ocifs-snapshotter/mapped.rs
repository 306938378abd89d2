//! What is below a container in a user namespace, mounted once more with the owners of that namespace (`MOUNT_ATTR_IDMAP`,
//! mount_setattr(2)).
//!
//! # Design
//!
//! Each directory below such a snapshot has a mount of its own, for this snapshot: maps differ from pod to pod. They are made
//! when the mounts of the snapshot are asked for, and again if what is below has been mounted again meanwhile. An overlay has its
//! own hold on those that it was made of. They go with the snapshot.
//!
//! They are read-only, and nothing here removes more than empty directories: what is in them belongs to images and to
//! other snapshots.
//!
//! Rejected: leaving it to containerd, which does it for its own snapshotter if mounts have the options `uidmap=` and `gidmap=`.
//! Versions before 2 do not know them, and 2.1 and 2.2 do it for the folder that the directories are in, without what is
//! mounted in there: a container gets an empty directory in place of the image.

#![allow(unsafe_code, reason = "one call; see there")]

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ocifs::digest::Digest;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::idmap::IdMap;
use crate::namespace;
use crate::overlay::numbers_in;

/// The mounts, by the numbers of snapshots.
#[derive(Clone, Debug)]
pub(crate) struct MappedMounts {
    folder: PathBuf,
}

impl MappedMounts {
    pub(crate) fn new(root: &Path) -> MappedMounts {
        MappedMounts { folder: root.join("mapped") }
    }

    /// Mounts directories with other owners for a snapshot, where they are not yet; where.
    pub(crate) fn make(
        &self,
        number: u64,
        below: &[PathBuf],
        map: &IdMap,
    ) -> io::Result<Vec<PathBuf>> {
        let (folder, owners) = (self.of(number), Digest::sha256(map.lines().concat().as_bytes()));
        let mut namespace = None;
        let mut mounted = |(at, directory): (usize, &PathBuf)| {
            let place = folder.join(format!("{at}-{}", &owners.hex()[..16]));
            if !is_same(directory, &place) {
                remove(&place)?;
                fs::create_dir_all(&place)?;
                fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
                let namespace = match &namespace {
                    Some(namespace) => namespace,
                    None => namespace.insert(namespace::with(map)?),
                };
                mount_as(directory, &place, namespace.as_fd())?;
            }
            Ok(place)
        };
        let mounted = below.iter().enumerate().map(&mut mounted);
        let mounted = mounted.collect::<io::Result<Vec<PathBuf>>>();
        if mounted.is_err() {
            self.remove(number)?;
        }
        mounted
    }

    /// Unmounts those of a snapshot. Containers that run keep theirs.
    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        let folder = self.of(number);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            remove(&entry?.path())?;
        }
        fs::remove_dir(&folder)
    }

    /// The numbers of the snapshots that have some.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        numbers_in(&self.folder)
    }

    fn of(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

/// Whether a directory is what is mounted at a place, and answers.
fn is_same(directory: &Path, place: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(directory).is_some_and(|directory| identity(place) == Some(directory))
}

/// Removes a place, and what is mounted there.
fn remove(place: &Path) -> io::Result<()> {
    // After a restart of the machine nothing is.
    let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    match fs::remove_dir(place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Mounts a directory once more, read-only, with the owners of a user namespace.
fn mount_as(directory: &Path, place: &Path, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, directory, flags)?;
    set_owners(copy.as_fd(), namespace).map_err(|e| with_hint(e, directory))?;
    Ok(move_mount(&copy, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn with_hint(error: io::Error, directory: &Path) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::InvalidInput => ": that needs Linux 6.12, for images",
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("{} can't be mounted with other owners: {error}{hint}", directory.display()),
    )
}

fn set_owners(mounted: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    // SAFETY: the kernel reads a path that ends with a zero and a structure of the size that it is told, which live
    // longer than the call, and writes nothing. rustix has no function for it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
