//! Mounting: by mount(2) as root, by `fusermount3` otherwise.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::MountFlags;

use super::device::{FS_TYPE, FUSE_DEVICE, MAX_READ_BYTES, open_device};
use super::error::Error;
use super::fusermount;
use super::ids::{CAP_SYS_ADMIN, has_all_ids, has_capability, is_root};
use super::mount_point::{MountPoint, absolute};
use super::mountinfo::{Mounted, uppermost};
use super::options::{FuseMountOptions, Unmount, common_options};
use super::unmounting::{is_dead, unmount};

/// Mounts and returns the connection. The mount answers only once it is served.
///
/// # Errors
/// See [`Error`].
pub fn mount(mount_point: &MountPoint, options: &FuseMountOptions) -> Result<OwnedFd, Error> {
    if is_root() {
        match mount_directly(mount_point, options) {
            // Root without CAP_SYS_ADMIN: in a container, the helper may still be able to.
            Err(Error::Mount { cause: source, .. })
                if source.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) => {}
            result => return result,
        }
    }
    fusermount::mount(mount_point, options).map_err(|e| {
        let (path, source) = (mount_point.path(), rustix::io::Errno::PERM.into());
        match e {
            e if !is_root() => e,
            // The helper is no more than its caller then, whether it is installed or not.
            _ if !has_capability(CAP_SYS_ADMIN) => Error::NoCapability { path, cause: source },
            Error::Fusermount(_) | Error::NoFusermount | Error::FusermountHidden
                if !has_all_ids() =>
            {
                Error::ForeignNamespace { path, cause: source }
            }
            e => e,
        }
    })
}

fn mount_directly(mount_point: &MountPoint, options: &FuseMountOptions) -> Result<OwnedFd, Error> {
    let device = open_device().map_err(unusable_device)?;
    let failed = |source| Error::Mount { path: mount_point.path(), cause: source };
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},max_read={MAX_READ_BYTES}",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    for (wanted, option) in common_options(options) {
        if wanted {
            data.push(',');
            data.push_str(option);
        }
    }
    let data = CString::new(data).map_err(|e| failed(e.into()))?;
    let mut flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    flags.set(MountFlags::NOEXEC, options.no_exec);
    rustix::mount::mount(
        options.source.as_str(),
        mount_point.link(),
        FS_TYPE,
        flags,
        data.as_c_str(),
    )
    .map_err(|e| failed(e.into()))?;
    Ok(device)
}

/// Why the device can't be opened, and what helps.
fn unusable_device(source: io::Error) -> Error {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(FUSE_DEVICE) {
        Ok(metadata) if source.kind() == io::ErrorKind::PermissionDenied => {
            Error::DeviceRefused { mode: metadata.permissions().mode() & 0o7777, cause: source }
        }
        _ => Error::Device(source),
    }
}

/// Checks what can be checked before the image is there: the device, and the helper of ordinary
/// users.
///
/// # Errors
/// [`Error::Device`], [`Error::DeviceRefused`], [`Error::NoFusermount`], [`Error::FusermountHidden`].
pub fn check_requirements() -> Result<(), Error> {
    // The helper, too, opens it with the rights of its caller.
    drop(open_device().map_err(unusable_device)?);
    if !is_root() {
        fusermount::check()?;
    }
    Ok(())
}

/// Mounts a file system that no process serves on a directory, and takes it away again: whether the
/// system lets us.
///
/// # Errors
/// See [`Error`].
pub fn try_mount(mount_point: &Path) -> Result<(), Error> {
    check_requirements()?;
    let mount_point = MountPoint::open(mount_point)?;
    let source = "nothing".to_owned();
    let options =
        FuseMountOptions { source, allow_other: false, default_permissions: false, no_exec: false };
    let connection = mount(&mount_point, &options)?;
    let missing = || Error::NotOurs(mount_point.path());
    let mounted = mount_point.uppermost()?.ok_or_else(missing)?;
    // As no process answers, only the lazy way is sure not to wait.
    let result = unmount(&mounted, Unmount::Lazy);
    drop(connection);
    result
}

/// Makes sure that `path` is a directory where something can be mounted; a stale mount of ours
/// there is cleaned up first, unless its supervisor `lives` ([`is_dead`]). Returns the directory, open: it is looked up this once.
///
/// # Errors
/// See [`Error`].
pub fn prepare(path: &Path, lives: impl FnOnce(&Mounted) -> bool) -> Result<MountPoint, Error> {
    let place = absolute(path).map_err(making)?;
    if let Some(mounted) = uppermost(&place)?
        && is_dead(&mounted, || lives(&mounted))?
    {
        log::info!("removing the mount that a dead process left at {}", place.display());
        match unmount(&mounted, Unmount::Lazy) {
            // To find that it does not answer may have ended it.
            Err(Error::NotOurs(_)) => {}
            result => result?,
        }
    }
    // A symlink may lead to what does not exist: it is the place that would have to be made.
    MountPoint::open(&place).map_err(|e| match e {
        Error::NotADirectory(_) => Error::NotADirectory(path.to_owned()),
        e => making(e),
    })
}

/// The same error, and that what does not exist can be made.
fn making(error: Error) -> Error {
    match error {
        Error::MountPoint { path, cause: source } if source.kind() == io::ErrorKind::NotFound => {
            Error::NoMountPoint { path, cause: source }
        }
        error => error,
    }
}
