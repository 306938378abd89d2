//! Mounting and unmounting: `mount(2)` as root, `fusermount3` for everybody else.
//!
//! Our own code, because unmounting has to be exact: only a mount that is ours, at the place where
//! it is, and lazily when it must not fail. What is mounted on is held by a descriptor
//! ([`MountPoint`]), and what is unmounted is known by its number. Mounts are looked up in
//! `/proc/self/mountinfo` (proc(5)), never by touching them: a stale mount answers every touch with
//! ENOTCONN, and one's own mount would deadlock.

mod fusermount;
mod holders;
mod ids;
mod namespace;
mod place;
mod table;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::erofs_mount;
use ids::has_capability;
pub(super) use ids::{CAP_SYS_ADMIN, INITIAL_USER_NAMESPACE, process_has_capability};
use place::Covered;
use table::rows;

pub use holders::{Holder, Process, holders};
pub use ids::{has_all_ids, is_in_user_namespace};
pub use namespace::Namespace;
pub use place::MountPoint;
pub use table::{Mounted, mounts, uppermost};

/// The file system type that `/proc/mounts` and `findmnt` show.
pub const FS_TYPE: &str = "fuse.ocifs";

/// The largest read that the kernel may send, in bytes.
pub(super) const MAX_READ_BYTES: u32 = 1 << 20;

/// Symlinks followed to find a mount point (Linux's `MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// After this time without an answer a connection is taken for dead: a mount answers such a question
/// from memory.
const SILENCE: Duration = Duration::from_secs(10);

const FUSE_DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";

/// Why a mount or unmount does not work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(
        "{FUSE_DEVICE}: {0}; the kernel needs FUSE (`modprobe fuse`), and a container `--device {FUSE_DEVICE}`"
    )]
    Device(io::Error),
    #[error(
        "{FUSE_DEVICE}: {source}: its mode is {mode:04o}; root lets all users use FUSE with `chmod 666 {FUSE_DEVICE}`, and a container's engine with `--device {FUSE_DEVICE}`"
    )]
    DeviceRefused { mode: u32, source: io::Error },
    #[error("mounting on {path}: {source}")]
    Mount { path: PathBuf, source: io::Error },
    #[error(
        "mounting on {path}: {source}: this user namespace may only mount in a mount namespace of its own (`unshare -Urm`)"
    )]
    ForeignNamespace { path: PathBuf, source: io::Error },
    #[error("mount point {path}: {source}")]
    MountPoint { path: PathBuf, source: io::Error },
    #[error("mount point {path}: {source}; `mkdir -p {path}` makes it")]
    NoMountPoint { path: PathBuf, source: io::Error },
    #[error("mount point {0} is not a directory")]
    NotADirectory(PathBuf),
    #[error(
        "mounting on {path}: {source}: root may not mount here, for lack of CAP_SYS_ADMIN; a container needs `--cap-add SYS_ADMIN --device {FUSE_DEVICE}`"
    )]
    NoCapability { path: PathBuf, source: io::Error },
    #[error(
        "{path} shows {image} already: unmount that first, choose another directory, or mount over it with --over"
    )]
    Occupied { path: PathBuf, image: String },
    #[error(
        "{FUSERMOUNT} is not installed; it lets ordinary users mount (Debian: `apt install fuse3`)"
    )]
    NoFusermount,
    #[error(
        "{FUSERMOUNT} is not installed, or lies in a folder of PATH that you may not look into; it lets ordinary users mount (Debian: `apt install fuse3`)"
    )]
    FusermountHidden,
    #[error("{FUSERMOUNT} refused: {0}")]
    Fusermount(String),
    #[error(
        "--allow-other needs the line `user_allow_other` in /etc/fuse.conf when you are not root"
    )]
    AllowOther,
    #[error("{FUSERMOUNT}: {0}")]
    Exchange(io::Error),
    #[error("{0} is not a mount of ocifs")]
    NotOurs(PathBuf),
    #[error(
        "{path} is busy: {} (end that first, or use --lazy)", of_a_busy(.holders)
    )]
    Busy { path: PathBuf, holders: Vec<Holder> },
    #[error("{path} is busy: {below} is mounted below it; unmount that first, or use --lazy")]
    MountedBelow { path: PathBuf, below: PathBuf },
    #[error("unmounting {path}: {source}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("/proc/self/mountinfo: {0}")]
    MountInfo(io::Error),
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `/proc/mounts` shows as the source: the image's reference.
    pub source: String,
    /// Let other users in.
    pub allow_other: bool,
    /// Let the kernel check the image's permission bits.
    pub default_permissions: bool,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
}

/// What uses a busy mount, in words.
fn of_a_busy(holders: &[Holder]) -> String {
    let open: Vec<String> = holders
        .iter()
        .filter(|holder| matches!(holder, Holder::Open(_)))
        .map(Holder::to_string)
        .collect();
    match open.is_empty() {
        true => "a process has a file or its working directory there".to_owned(),
        false => open.join(", "),
    }
}

/// Whether this process mounts with `mount(2)` itself. That it is root for the files of an image too, says
/// [`has_all_ids`].
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Mounts and returns the connection. The mount answers only once it is served.
///
/// # Errors
/// See [`Error`].
pub fn mount(mount_point: &MountPoint, options: &Options) -> Result<OwnedFd, Error> {
    if is_root() {
        match mount_directly(mount_point, options) {
            // Root without CAP_SYS_ADMIN: in a container, the helper may still be able to.
            Err(Error::Mount { source, .. })
                if source.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) => {}
            result => return result,
        }
    }
    fusermount::mount(mount_point, options).map_err(|e| {
        let (path, source) = (mount_point.path(), rustix::io::Errno::PERM.into());
        match e {
            e if !is_root() => e,
            // The helper is no more than its caller then, whether it is installed or not.
            _ if !has_capability(CAP_SYS_ADMIN) => Error::NoCapability { path, source },
            Error::Fusermount(_) | Error::NoFusermount | Error::FusermountHidden
                if !has_all_ids() =>
            {
                Error::ForeignNamespace { path, source }
            }
            e => e,
        }
    })
}

fn mount_directly(mount_point: &MountPoint, options: &Options) -> Result<OwnedFd, Error> {
    let device = open_device().map_err(unusable_device)?;
    let failed = |source| Error::Mount { path: mount_point.path(), source };
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

/// A new connection to the kernel.
pub(super) fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(FUSE_DEVICE, flags, Mode::empty())?)
}

/// Why the device can't be opened, and what helps.
fn unusable_device(source: io::Error) -> Error {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(FUSE_DEVICE) {
        Ok(metadata) if source.kind() == io::ErrorKind::PermissionDenied => {
            Error::DeviceRefused { mode: metadata.permissions().mode() & 0o7777, source }
        }
        _ => Error::Device(source),
    }
}

fn common_options(options: &Options) -> [(bool, &'static str); 2] {
    [(options.allow_other, "allow_other"), (options.default_permissions, "default_permissions")]
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Refuse while the mount is in use.
    Now,
    /// Detach at once; it ends when the last user is gone.
    Lazy,
    /// Detach at once, and where root does it end the connection too: processes that use it get an error.
    Abort,
}

/// How often a busy mount is tried again, and how long after. A process that had a file of it open may be
/// about to end, or one that was forked a moment ago may not have let go of it yet.
const BUSY_TRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Unmounts this mount, wherever it is now, and never another one.
///
/// # Errors
/// See [`Error`]; [`Error::NotOurs`] if it is gone, or another is mounted over it.
pub fn unmount(mounted: &Mounted, how: Unmount) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let mounted = table::again(mounted)?;
        tries += 1;
        match unmount_once(&mounted, how) {
            Err(Error::Busy { path, .. }) => match mounted_below(&path) {
                Some(below) => return Err(Error::MountedBelow { path, below }),
                None if tries <= BUSY_TRIES => thread::sleep(BUSY_PAUSE),
                None => {
                    let holders = holders(mounted.device, std::slice::from_ref(&path));
                    return Err(Error::Busy { holders, path });
                }
            },
            result => return result,
        }
    }
}

/// What has been mounted below a place last.
fn mounted_below(place: &Path) -> Option<PathBuf> {
    let mut places = rows("self").ok()?.into_iter().map(|row| row.mount_point);
    places.rfind(|other| other != place && other.starts_with(place))
}

fn unmount_once(mounted: &Mounted, how: Unmount) -> Result<(), Error> {
    let flags = match how {
        Unmount::Now => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        Unmount::Abort => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE,
    };
    let path = || mounted.mount_point.clone();
    let busy = || Error::Busy { path: path(), holders: Vec::new() };
    let place = Covered::by(mounted)?;
    match rustix::mount::unmount(&place.path, flags) {
        Ok(()) => Ok(()),
        // It may unmount what its caller has mounted, and resolves the path with the rights of its caller.
        Err(rustix::io::Errno::PERM) => fusermount::unmount(&mounted.mount_point, how),
        Err(rustix::io::Errno::BUSY) => Err(busy()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Err(Error::NotOurs(path())),
        Err(e) => Err(Error::Unmount { path: path(), source: e.into() }),
    }
}

/// The absolute path of a mount point, resolved without touching what is mounted there: only its
/// parent, and a symlink in its place, are looked at. (A stale mount cannot even be stat'ed.)
///
/// # Errors
/// The parent does not exist.
pub fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::MountPoint { path: path.to_owned(), source };
    let mut absolute = std::path::absolute(path).map_err(failed)?;
    for _ in 0..MAX_SYMLINKS {
        let is_plain = !absolute.as_os_str().as_bytes().ends_with(b"/..");
        let Some((parent, name)) = absolute.parent().zip(absolute.file_name()).filter(|_| is_plain)
        else {
            return absolute.canonicalize().map_err(failed);
        };
        let parent = parent.canonicalize().map_err(failed)?;
        let place = parent.join(name);
        match std::fs::read_link(&place) {
            Ok(target) => absolute = parent.join(target),
            Err(_) => return Ok(place),
        }
    }
    Err(failed(io::Error::from(rustix::io::Errno::LOOP)))
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
        Options { source, allow_other: false, default_permissions: false, no_exec: false };
    let connection = mount(&mount_point, &options)?;
    let missing = || Error::NotOurs(mount_point.path());
    let mounted = mount_point.uppermost()?.ok_or_else(missing)?;
    // As no process answers, only the lazy way is sure not to wait.
    let result = unmount(&mounted, Unmount::Lazy);
    drop(connection);
    result
}

/// Ends a connection whatever state it is in: all that is under way and all that comes gets an
/// error. A process that ends without this may leave a connection behind that no process answers, when a
/// thread of it waits in the kernel for a page that another request of the same connection has
/// locked (`fuse::pusher`).
///
/// # Errors
/// `/sys/fs/fuse/connections` is not mounted, or the connection is not ours.
pub fn abort(connection: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1")
}

/// Whether a mount is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is served, or this user may not ask.
    Comes,
    /// Its process has ended.
    Dead,
    /// There is a connection, and no answer: its process is stopped, or gone all but in name.
    None,
}

/// Asks whether a mount is served. The kernel is made to ask, as it would answer from its caches for a dead
/// process too.
pub fn answer(mount: &Mounted) -> Answer {
    let (sender, answer) = mpsc::channel();
    let mount_point = mount.mount_point.clone();
    // In a thread, as who waits for such an answer can't be interrupted.
    let asked = thread::Builder::new().spawn(move || {
        let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
        let mask = rustix::fs::StatxFlags::BASIC_STATS;
        let answer = rustix::fs::statx(rustix::fs::CWD, &mount_point, flags, mask);
        // A process that is just dying aborts what is under way.
        let is_dead = answer.is_err_and(|e| {
            matches!(e, rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED)
        });
        // Nobody listens any more if it took too long.
        let _ = sender.send(is_dead);
    });
    if let Err(e) = asked {
        log::warn!("no thread to ask {}: {e}", mount.mount_point.display());
        return Answer::Comes;
    }
    match answer.recv_timeout(SILENCE) {
        Ok(false) => Answer::Comes,
        Ok(true) => Answer::Dead,
        Err(_) => Answer::None,
    }
}

/// Whether no process answers for a mount of ours any more. A connection that is open and does not answer
/// is aborted: its process is gone all but in name, or stopped.
pub fn is_dead(mount: &Mounted) -> bool {
    match answer(mount) {
        Answer::Comes => false,
        Answer::Dead => true,
        Answer::None => {
            // To force it ends the connection even if the mount is busy and stays.
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::FORCE;
            let forced = rustix::mount::unmount(&mount.mount_point, flags);
            let aborted = abort(mount.connection);
            let place = mount.mount_point.display();
            log::warn!("{place} did not answer; forced: {forced:?}, aborted: {aborted:?}");
            aborted.is_ok() || matches!(forced, Ok(()) | Err(rustix::io::Errno::BUSY))
        }
    }
}

/// Makes sure that `path` is a directory where something can be mounted; a stale mount of ours
/// there is cleaned up first. Returns the directory, open: it is looked up this once.
///
/// # Errors
/// See [`Error`].
pub fn prepare(path: &Path) -> Result<MountPoint, Error> {
    let place = absolute(path).map_err(making)?;
    if let Some(mounted) = uppermost(&place)?
        && is_dead(&mounted)
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
        Error::MountPoint { path, source } if source.kind() == io::ErrorKind::NotFound => {
            Error::NoMountPoint { path, source }
        }
        error => error,
    }
}
