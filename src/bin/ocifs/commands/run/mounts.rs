//! Mounts that are made on descriptors, so that no path of an image is looked up by the kernel.

#![allow(unsafe_code, reason = "one call; see there")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use crate::render::errors::AnyError;

/// Says what failed.
pub(super) fn failed<E: Into<io::Error>>(what: impl fmt::Display) -> impl FnOnce(E) -> AnyError {
    move |error| format!("{what}: {}", error.into()).into()
}

/// What a mount does not allow (mount_setattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits(u64);

impl Limits {
    pub(super) const READ_ONLY: Limits = Limits(libc::MOUNT_ATTR_RDONLY);
    pub(super) const NO_DEVICES: Limits = Limits(libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID);

    pub(super) const fn and(self, other: Limits) -> Limits {
        Limits(self.0 | other.0)
    }
}

/// A copy of the mounts at a path and below it, which is mounted nowhere yet.
pub(super) fn copy(path: &Path) -> io::Result<OwnedFd> {
    copy_at(CWD, path)
}

/// The same, with the path from a directory.
pub(super) fn copy_at(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(directory, path, flags)?)
}

/// Mounts a copy at a place.
pub(super) fn attach(copy: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(copy, "", place, "", flags)?)
}

/// Limits a mount, and what is mounted below it if that is wanted too.
pub(super) fn limit(mounted: BorrowedFd<'_>, limits: Limits, recursive: bool) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: limits.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads a path that ends with a zero and a structure of the size that it is told, which live
    // longer than the call, and writes nothing. rustix has no function for it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a new file system at a place.
pub(super) fn fresh(
    kind: &str,
    place: BorrowedFd<'_>,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    Ok(mount(kind, path_of(place), kind, flags, options.as_c_str())?)
}

/// A path that leads to what is open and nothing else.
pub(super) fn path_of(open: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()))
}
