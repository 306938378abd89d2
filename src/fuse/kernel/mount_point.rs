//! The directory that is mounted on, held by a descriptor.
//!
//! # Problem
//!
//! Minutes may pass between the check of a mount point and the mount: the image is fetched. If the mount point
//! were looked up by its path again, the owner of a folder in that path could put a symlink there meanwhile, and
//! root would mount where that leads.
//!
//! # Design
//!
//! The path is looked up once, symlinks in it included: [`MountPoint::open`]. From then on the directory is the one
//! that the descriptor holds, wherever it is moved: it is mounted on through `/proc/self/fd`, and its path is what the
//! kernel says it is. The descriptor has to be closed before what was mounted can be unmounted from below it, so a
//! mount is found afterwards by the number that the kernel gave it ([`Mounted::id`]), and never by the path alone.
//!
//! `fusermount3` takes paths only. It is started in the directory and told `.`, which it resolves anew; what is left
//! to a race there is done with the rights of its caller, as it mounts only where the caller may write.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::Error;
use super::mountinfo::{Mounted, uppermost};

/// Symlinks followed to find a mount point (Linux's `MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// Times that a directory is looked up among the mounts while it is being moved.
const TRIES: usize = 8;

/// A directory to mount on.
#[derive(Debug)]
pub struct MountPoint {
    directory: OwnedFd,
    /// Its path when it was opened.
    opened_as: PathBuf,
}

impl MountPoint {
    /// Opens a directory, following symlinks.
    ///
    /// # Errors
    /// It can't be reached, or is no directory ([`Error::NotADirectory`]).
    pub(super) fn open(path: &Path) -> Result<MountPoint, Error> {
        let failed = |e: rustix::io::Errno| match e {
            // And not a folder above it.
            rustix::io::Errno::NOTDIR if path.exists() => Error::NotADirectory(path.to_owned()),
            e => Error::MountPoint { path: path.to_owned(), cause: e.into() },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        // A mount that no process serves any more can be opened so far, and not be mounted on by ordinary users.
        rustix::fs::fstat(&directory).map_err(failed)?;
        MountPoint::new(directory, path)
    }

    /// The directory of a descriptor that was received from another process.
    ///
    /// # Errors
    /// It is no directory any more.
    pub fn from_descriptor(directory: OwnedFd) -> Result<MountPoint, Error> {
        MountPoint::new(directory, Path::new("/"))
    }

    fn new(directory: OwnedFd, path: &Path) -> Result<MountPoint, Error> {
        let failed = |source| Error::MountPoint { path: path.to_owned(), cause: source };
        let opened_as = path_of(directory.as_fd()).map_err(failed)?;
        Ok(MountPoint { directory, opened_as })
    }

    /// Its path: where it is now, or where it was if it has been deleted.
    pub fn path(&self) -> PathBuf {
        path_of(self.as_fd()).unwrap_or_else(|_| self.opened_as.clone())
    }

    /// A path for the kernel, which leads to this directory alone, and is to be followed.
    pub(in crate::fuse) fn link(&self) -> PathBuf {
        link(self.as_fd())
    }

    /// The mount here, if it is one of ocifs and nothing has been mounted over it.
    ///
    /// # Errors
    /// `/proc` is not there, or the directory does not stay where it is.
    pub fn uppermost(&self) -> Result<Option<Mounted>, Error> {
        for _ in 0..TRIES {
            let path = self.path();
            let mounted = uppermost(&path)?;
            if self.path() == path {
                return Ok(mounted);
            }
        }
        let source = io::Error::other("it is being moved");
        Err(Error::MountPoint { path: self.path(), cause: source })
    }
}

impl AsFd for MountPoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// A path by which this process reaches what it has open.
fn link(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The path of a directory, where it is now.
fn path_of(directory: BorrowedFd<'_>) -> io::Result<PathBuf> {
    if rustix::fs::fstat(directory).is_ok_and(|stat| stat.st_nlink == 0) {
        return Err(io::ErrorKind::NotFound.into());
    }
    std::fs::read_link(link(directory))
}

/// The number of the mount that a file is on (proc(5)). Nothing is asked of what is mounted.
fn mount_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A place where one certain mount is uppermost, for umount(2) with `UMOUNT_NOFOLLOW`.
pub(super) struct Covered {
    /// Held so that the path leads nowhere else.
    _parent: Option<OwnedFd>,
    pub(super) path: PathBuf,
}

impl Covered {
    /// Where a mount was last seen. What is there now may be another, so it is not to be unmounted.
    pub(super) fn unchecked(mounted: &Mounted) -> Covered {
        Covered { _parent: None, path: mounted.mount_point.clone() }
    }

    /// Finds a mount. What its path leads to is looked at once: the name in the folder that this holds can be given
    /// to nothing else while something is mounted there (rename(2): EBUSY).
    ///
    /// # Errors
    /// [`Error::NotOurs`]: it is not uppermost there any more.
    pub(super) fn by(mounted: &Mounted) -> Result<Covered, Error> {
        let place = &mounted.mount_point;
        let not_ours = || Error::NotOurs(place.clone());
        let Some((parent, name)) = place.parent().zip(place.file_name()) else {
            return Ok(Covered { _parent: None, path: place.clone() });
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path, flags| rustix::fs::open(path, flags, Mode::empty());
        let parent = open(parent, flags).map_err(|_| not_ours())?;
        let path = link(parent.as_fd()).join(name);
        // Closed again at once: what is open is busy.
        let there = open(&path, flags | OFlags::NOFOLLOW).map_err(|_| not_ours())?;
        match mount_of(there.as_fd()) {
            Ok(id) if id != mounted.id => Err(not_ours()),
            Ok(_) => Ok(Covered { _parent: Some(parent), path }),
            Err(source) => Err(Error::Unmount { path: place.clone(), cause: source }),
        }
    }
}

/// The absolute path of a mount point, resolved without touching what is mounted there: only its
/// parent, and a symlink in its place, are looked at. (A stale mount cannot even be stat'ed.)
///
/// # Errors
/// The parent does not exist.
pub fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::MountPoint { path: path.to_owned(), cause: source };
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
