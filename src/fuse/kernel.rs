//! Mounting and unmounting: `mount(2)` as root, `fusermount3` for everybody else.
//!
//! Our own code, because unmounting has to be exact: only a mount that is ours, at the place where
//! it is, and lazily when it must not fail. Mount points are looked up in
//! `/proc/self/mountinfo` (proc(5)), never by touching them: a stale mount answers every touch with
//! ENOTCONN, and one's own mount would deadlock.

use std::ffi::{CString, OsString};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::metadata;

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
    #[error("mounting on {path}: {source}")]
    Mount { path: PathBuf, source: io::Error },
    #[error("mount point {path}: {source}")]
    MountPoint { path: PathBuf, source: io::Error },
    #[error("mount point {path}: {source}; `mkdir -p {path}` makes it")]
    NoMountPoint { path: PathBuf, source: io::Error },
    #[error("mount point {0} is not a directory")]
    NotADirectory(PathBuf),
    #[error(
        "{FUSERMOUNT} is not installed; it lets ordinary users mount (Debian: `apt install fuse3`)"
    )]
    NoFusermount,
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
        "{0} is busy: a process has a file or its working directory there (find it with `fuser -m`, or use --lazy)"
    )]
    Busy(PathBuf),
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
}

/// Whether this process mounts with `mount(2)` itself.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Mounts and returns the connection. The mount answers only once it is served.
///
/// # Errors
/// See [`Error`].
pub fn mount(mount_point: &Path, options: &Options) -> Result<OwnedFd, Error> {
    if is_root() {
        match mount_directly(mount_point, options) {
            // Root without CAP_SYS_ADMIN: in a container, the helper may still be able to.
            Err(Error::Mount { source, .. })
                if source.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) => {}
            result => return result,
        }
    }
    mount_by_helper(mount_point, options)
}

fn mount_directly(mount_point: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let device = open_device().map_err(Error::Device)?;
    let failed = |source| Error::Mount { path: mount_point.to_owned(), source };
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
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount(options.source.as_str(), mount_point, FS_TYPE, flags, data.as_c_str())
        .map_err(|e| failed(e.into()))?;
    Ok(device)
}

/// A new connection to the kernel.
pub(super) fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(FUSE_DEVICE, flags, Mode::empty())?)
}

fn common_options(options: &Options) -> [(bool, &'static str); 2] {
    [(options.allow_other, "allow_other"), (options.default_permissions, "default_permissions")]
}

/// `fusermount3` is set-uid root: it mounts and sends the connection over a socket whose number
/// it finds in its environment (fusermount3(1), libfuse `lib/mount_util.c`).
fn mount_by_helper(mount_point: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::Exchange)?;
    // The helper inherits its end; ours stays close-on-exec.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|e| Error::Exchange(e.into()))?;
    // Commas and backslashes separate and escape options.
    let source = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut list =
        format!("ro,nosuid,nodev,subtype=ocifs,fsname={source},max_read={MAX_READ_BYTES}");
    for (wanted, option) in common_options(options) {
        if wanted {
            list.push(',');
            list.push_str(option);
        }
    }
    let output = Command::new(FUSERMOUNT)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(mount_point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .output();
    drop(theirs);
    let output = match output {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoFusermount),
        Err(e) => return Err(Error::Exchange(e)),
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if text.contains("user_allow_other") {
            return Err(Error::AllowOther);
        }
        return Err(Error::Fusermount(text));
    }
    receive_descriptor(&ours)
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd, Error> {
    let mut byte = [0];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|e| Error::Exchange(e.into()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| Error::Exchange(io::Error::other("it sent no descriptor")))
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Refuse while the mount is in use.
    Now,
    /// Detach at once; it ends when the last user is gone.
    Lazy,
    /// Detach at once, and where root does it end the connection too: whoever uses it gets an error.
    Abort,
}

/// How often a busy mount is tried again, and how long after. A process that had a file of it open may be
/// about to end, or one that was forked a moment ago may not have let go of it yet.
const BUSY_TRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Unmounts what is uppermost at `mount_point`: only the mount of this connection, if the caller knows it.
/// What lies below may be anybody's.
///
/// # Errors
/// See [`Error`]; [`Error::NotOurs`] if it is not there any more.
pub fn unmount(mount_point: &Path, connection: Option<u32>, how: Unmount) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let found = || uppermost(mount_point).ok().flatten().map(|mount| mount.connection);
        if connection.is_some() && found() != connection {
            return Err(Error::NotOurs(mount_point.to_owned()));
        }
        tries += 1;
        match unmount_once(mount_point, how) {
            Err(Error::Busy(path)) => match mounted_below(&path) {
                Some(below) => return Err(Error::MountedBelow { path, below }),
                None if tries <= BUSY_TRIES => thread::sleep(BUSY_PAUSE),
                None => return Err(Error::Busy(path)),
            },
            result => return result,
        }
    }
}

/// What has been mounted below a place last.
fn mounted_below(place: &Path) -> Option<PathBuf> {
    let mut places = all_mounts().ok()?.into_iter().map(|mount| mount.mount_point);
    places.rfind(|other| other != place && other.starts_with(place))
}

fn unmount_once(mount_point: &Path, how: Unmount) -> Result<(), Error> {
    let flags = match how {
        Unmount::Now => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        Unmount::Abort => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE,
    };
    let path = || mount_point.to_owned();
    match rustix::mount::unmount(mount_point, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => unmount_by_helper(mount_point, how),
        Err(rustix::io::Errno::BUSY) => Err(Error::Busy(path())),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Err(Error::NotOurs(path())),
        Err(e) => Err(Error::Unmount { path: path(), source: e.into() }),
    }
}

fn unmount_by_helper(mount_point: &Path, how: Unmount) -> Result<(), Error> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u").stdin(Stdio::null());
    if how != Unmount::Now {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mount_point).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            match text.contains("busy") {
                true => Err(Error::Busy(mount_point.to_owned())),
                false => Err(Error::Fusermount(text)),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoFusermount),
        Err(e) => Err(Error::Exchange(e)),
    }
}

/// One mount, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub mount_point: PathBuf,
    /// The image's reference.
    pub source: String,
    /// The kernel's number of the connection: the minor device number.
    pub connection: u32,
    /// Who mounted it.
    pub user: Option<u32>,
    /// The process that serves it, if the kernel has names and attributes to itself ([`metadata`]).
    pub behind_erofs: Option<u32>,
    is_ours: bool,
}

/// All mounts of ocifs, oldest first.
///
/// # Errors
/// `/proc` is not there.
pub fn mounts() -> Result<Vec<Mounted>, Error> {
    let mut mounts = all_mounts()?;
    mounts.retain(|mount| mount.is_ours);
    Ok(mounts)
}

/// The mount at a place, if it is one of ocifs and nothing has been mounted over it.
///
/// # Errors
/// `/proc` is not there.
pub fn uppermost(mount_point: &Path) -> Result<Option<Mounted>, Error> {
    let last = all_mounts()?.into_iter().rfind(|mount| mount.mount_point == mount_point);
    Ok(last.filter(|mount| mount.is_ours))
}

fn all_mounts() -> Result<Vec<Mounted>, Error> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(Error::MountInfo)?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_mount).collect())
}

/// `36 35 98:0 /root /mount/point opts... - type source superopts` (proc(5)).
fn parse_mount(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let [kind, source, ref rest @ ..] = fields[dash + 1..] else { return None };
    let options = rest.first().map(|options| String::from_utf8_lossy(options));
    let user = options.as_deref().into_iter().flat_map(|options| options.split(','));
    let device = std::str::from_utf8(fields.get(2)?).ok()?;
    let mut mounted = Mounted {
        mount_point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
        connection: device.split_once(':')?.1.parse().ok()?,
        user: user.filter_map(|option| option.strip_prefix("user_id=")?.parse().ok()).next(),
        behind_erofs: None,
        is_ours: kind == FS_TYPE.as_bytes(),
    };
    if kind == metadata::FS_TYPE.as_bytes()
        && let Some(origin) = metadata::parse_source(&mounted.source)
    {
        // Its own device number says nothing.
        mounted.connection = origin.connection;
        (mounted.behind_erofs, mounted.is_ours) = (Some(origin.pid), true);
        mounted.source = origin.source.to_owned();
    }
    Some(mounted)
}

/// Octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
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
/// [`Error::Device`], [`Error::NoFusermount`].
pub fn check_requirements() -> Result<(), Error> {
    if !Path::new(FUSE_DEVICE).exists() {
        return Err(Error::Device(io::Error::from(rustix::io::Errno::NOENT)));
    }
    if !is_root() {
        let version = Command::new(FUSERMOUNT).arg("--version").stdin(Stdio::null()).output();
        if version.is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Err(Error::NoFusermount);
        }
    }
    Ok(())
}

/// Mounts a file system that nobody serves on a directory, and takes it away again: whether the
/// system lets us.
///
/// # Errors
/// See [`Error`].
pub fn try_mount(mount_point: &Path) -> Result<(), Error> {
    let source = "nothing".to_owned();
    let options = Options { source, allow_other: false, default_permissions: false };
    let connection = mount(mount_point, &options)?;
    // Without anybody who answers only the lazy way is sure not to wait.
    let result = unmount(mount_point, None, Unmount::Lazy);
    drop(connection);
    result
}

/// Ends a connection whatever state it is in: all that is under way and all that comes gets an
/// error. A process that ends without this may leave a connection behind that nobody answers, when a
/// thread of it waits in the kernel for a page that another request of the same connection has
/// locked (`fuse::pusher`).
///
/// # Errors
/// `/sys/fs/fuse/connections` is not mounted, or the connection is not ours.
pub fn abort(connection: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1")
}

/// Whether nobody answers for a mount of ours any more. A connection that is open and does not answer
/// is aborted: its process is gone all but in name, or stopped.
///
/// The kernel is made to ask, as it would answer from its caches for a dead process too.
pub fn is_dead(mount: &Mounted) -> bool {
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
        return false;
    }
    match answer.recv_timeout(SILENCE) {
        Ok(is_dead) => is_dead,
        Err(_) => {
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
/// there is cleaned up first. Returns the real path.
///
/// # Errors
/// See [`Error`].
pub fn prepare(path: &Path) -> Result<PathBuf, Error> {
    let place = absolute(path).map_err(making)?;
    if let Some(mounted) = uppermost(&place)?
        && is_dead(&mounted)
    {
        log::info!("removing the mount that a dead process left at {}", place.display());
        match unmount(&place, Some(mounted.connection), Unmount::Lazy) {
            // To find that it does not answer may have ended it.
            Err(Error::NotOurs(_)) => {}
            result => result?,
        }
    }
    // A symlink may lead to what does not exist: it is the place that would have to be made.
    let failed = |source| making(Error::MountPoint { path: place.clone(), source });
    let metadata = std::fs::metadata(&place).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(Error::NotADirectory(path.to_owned()));
    }
    place.canonicalize().map_err(failed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        let line = br"93 29 0:52 / /mnt/a\040b ro,nosuid,nodev shared:5 - fuse.ocifs docker.io/library/debian:12 ro,user_id=0";
        let expected = Mounted {
            mount_point: "/mnt/a b".into(),
            source: "docker.io/library/debian:12".into(),
            connection: 52,
            user: Some(0),
            behind_erofs: None,
            is_ours: true,
        };
        assert_eq!(parse_mount(line), Some(expected));
        let other = parse_mount(b"25 1 0:20 / /proc rw - proc proc rw");
        assert!(other.is_some_and(|mount| !mount.is_ours));
        assert_eq!(parse_mount(b""), None);

        let line =
            b"45 27 0:41 / /mnt/b ro - erofs /proc/self/fd/7/ocifs-52-7/docker.io/debian:12 ro,acl";
        let erofs = parse_mount(line).unwrap();
        assert_eq!((erofs.connection, erofs.source.as_str()), (52, "docker.io/debian:12"));
        assert!(erofs.is_ours && erofs.behind_erofs == Some(7));
        for other in ["/dev/loop0", "/proc/self/fd/7/image", "/proc/self/fd/7/ocifs-x/image"] {
            let other =
                parse_mount(format!("45 27 0:41 / /mnt/b ro - erofs {other} ro").as_bytes());
            assert!(other.is_some_and(|mount| !mount.is_ours));
        }
    }
}
