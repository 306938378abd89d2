//! Mounts without a place yet, and the image that one of them is of.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::error::{Error, step};
use crate::erofs::{self, Devices, Image, Uuid};
use crate::fuse::kernel::{DESCRIPTORS, EROFS_TYPE};

pub(super) fn write_image(
    image: Image<'_>,
    owner: Option<(u32, u32)>,
    uuid: Uuid,
    file: File,
) -> Result<Devices, Error> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let devices = image.write(owner, uuid, &mut out)?;
    out.flush().map_err(erofs::Error::Write)?;
    Ok(devices)
}

/// EROFS without a place yet; its devices are the files `0`, `1` ... of a folder.
pub(super) fn mount_image(
    path: &str,
    devices: usize,
    folder: &str,
    no_exec: bool,
) -> Result<OwnedFd, Error> {
    let context =
        rustix::mount::fsopen(EROFS_TYPE, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
            Errno::NODEV => Error::NoErofs,
            Errno::PERM => Error::NotPermitted,
            e => step("EROFS")(e),
        })?;
    let set = |key: &str, value: &str| {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(step("EROFS"))
    };
    set("source", path)?;
    (0..devices).try_for_each(|number| set("device", &format!("{folder}/{number}")))?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(|e| match e {
        Errno::PERM => Error::NotPermitted,
        // It wants a block device.
        Errno::NOTBLK => Error::NotFromFile,
        e => step("mounting EROFS")(e),
    })?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, no_exec);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(step("mounting EROFS"))
}

/// A new file system of a type, without a place. Options without a value are flags.
pub(super) fn detached(kind: &'static str, options: &[(&str, &str)]) -> Result<OwnedFd, Error> {
    let failed = |e| match e {
        Errno::PERM => Error::NotPermitted,
        // Before Linux 5.2.
        Errno::NOSYS => Error::NotFromFile,
        e => step(kind)(e),
    };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    for (key, value) in options {
        match *value {
            "" => rustix::mount::fsconfig_set_flag(context.as_fd(), *key),
            value => rustix::mount::fsconfig_set_string(context.as_fd(), *key, value),
        }
        .map_err(failed)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(failed)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(failed)
}

/// The path of a detached mount, for this process.
pub(super) fn place(mount: &OwnedFd) -> String {
    format!("{DESCRIPTORS}{}", mount.as_raw_fd())
}

/// The same for other processes.
pub(super) fn shown_to_others(mount: &OwnedFd) -> io::Result<PathBuf> {
    // As it is called there: `/proc` may be that of other processes.
    let own = std::fs::read_link("/proc/self")?;
    Ok(Path::new("/proc").join(own).join("fd").join(mount.as_raw_fd().to_string()))
}

/// The minor device number of a file system, which is the number of its connection over FUSE. It need
/// not be served yet.
pub(super) fn device_minor(mount: &OwnedFd) -> io::Result<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(mount, "", flags, StatxFlags::empty())?.stx_dev_minor)
}
