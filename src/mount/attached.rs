//! What has been mounted and is not served yet: by a process that may mount, for one that need not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::error::Error;
use super::options::MountOptions;
use crate::fuse::kernel::{self, FuseMountOptions, MountPoint, Mounted};

/// A mount that is not served yet. Without a process that does, the connection ends with it.
#[derive(Debug)]
pub struct Attached {
    pub(super) device: OwnedFd,
    pub(super) mounted: Mounted,
}

impl Attached {
    /// Mounts what `source` names on a directory.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted.
    pub fn new(
        mount_point: MountPoint,
        source: &str,
        options: &MountOptions,
    ) -> Result<Attached, Error> {
        let kernel_options = FuseMountOptions {
            source: source.to_owned(),
            allow_other: options.allow_other,
            default_permissions: options.checks_modes(),
            no_exec: options.no_exec,
        };
        let device = kernel::mount(&mount_point, &kernel_options)?;
        // Without it nothing is served, and the connection ends. What is open below the mount could not be unmounted, and
        // ends with this function.
        let mounted = found(&mount_point)?;
        Ok(Attached { device, mounted })
    }

    /// What another process hands over: a descriptor, and [`Attached::to_bytes`].
    ///
    /// # Errors
    /// It is something else.
    pub fn from_parts(device: OwnedFd, bytes: &[u8]) -> io::Result<Attached> {
        Ok(Attached { device, mounted: serde_json::from_slice(bytes)? })
    }

    /// All but the descriptor, for another process of the same program.
    ///
    /// # Errors
    /// None that is expected.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.mounted)?)
    }

    /// The same as it is to be told of, for what is mounted in a namespace of its own and shown elsewhere.
    pub fn shown_at(mut self, place: PathBuf) -> Attached {
        self.mounted.mount_point = place;
        self
    }

    /// The mount.
    pub fn mounted(&self) -> &Mounted {
        &self.mounted
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What has just been mounted on a directory.
///
/// # Errors
/// It is not there any more.
pub fn found(mount_point: &MountPoint) -> Result<Mounted, Error> {
    let gone = || {
        let source = io::Error::other("the mount is not there: it was unmounted or moved at once");
        kernel::Error::Mount { path: mount_point.path(), cause: source }
    };
    Ok(mount_point.uppermost()?.ok_or_else(gone)?)
}

/// Checks that no other image is mounted there, unless that may be.
///
/// # Errors
/// One is.
pub fn check_free(mount_point: &MountPoint, options: &MountOptions) -> Result<(), Error> {
    match mount_point.uppermost()? {
        Some(other) if !options.over => {
            let (path, image) = (other.mount_point, other.source);
            Err(kernel::Error::Occupied { path, image }.into())
        }
        _ => Ok(()),
    }
}
