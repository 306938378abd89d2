//! The programs and devices by which a file system comes to the kernel.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

/// The file system type that `/proc/mounts` and `findmnt` show.
pub const FS_TYPE: &str = "fuse.ocifs";

/// The largest read that the kernel may send, in bytes.
pub(in crate::fuse) const MAX_READ_BYTES: u32 = 1 << 20;

pub(super) const FUSE_DEVICE: &str = "/dev/fuse";
pub(super) const FUSERMOUNT: &str = "fusermount3";

/// A new connection to the kernel.
pub(in crate::fuse) fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(FUSE_DEVICE, flags, Mode::empty())?)
}
