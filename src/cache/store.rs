//! The version's folder, held open: every file of the cache is reached from its descriptor.
//!
//! # Problem
//!
//! What the cache hands out is believed: a span is checked against an unkeyed checksum, a layer
//! index against its own. A user who can write into the folder can therefore show chosen bytes under
//! any digest, and a symlink in it can lead the writes of root to another place.
//!
//! # Design
//!
//! The folder is used only if it belongs to the effective user, or to root, and neither group nor
//! others may write to it. A file in it counts only under the same owner. The folder is opened
//! once, and files are opened, renamed and removed relative to that descriptor, one path component
//! at a time with `O_NOFOLLOW`, so what was checked is what is used. (`openat2` with
//! `RESOLVE_NO_SYMLINKS` does that in one call, but kernels before 5.6 and the seccomp filters of
//! older engines lack it, and opening a span is dwarfed by reading it.) The path *to* the folder may
//! contain symlinks: the user chose it.
//!
//! Rejected: a keyed checksum. The key has to be readable by the user, so it keeps out no user whom
//! the permission bits let in; and images that several users share would be stored once for each.
//!
//! # Invariants
//!
//! - Nothing is opened, made or removed through a symlink at or below the version's folder.
//! - A file that a user other than the owner of the folder and root put there is never read.
//! - A user may delete the folder while it is in use: the next write makes and checks it again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, linkat, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Not through a symlink, and without waiting for the other end of a FIFO.
pub(super) const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Folders of the cache are the user's alone.
const FOLDER_MODE: Mode = Mode::RWXU;

/// Finished files are not written again.
const FILE_MODE: Mode = Mode::RUSR;

/// Permission bits that let users other than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Temporary names tried before giving up: two processes in different PID namespaces may share a
/// folder, and then the first names of both are the same.
const TEMPORARY_NAMES: usize = 1000;

/// Why the folder is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("it belongs to user {owner}, and this is user {user}: what it holds can't be trusted")]
    Owner { owner: u32, user: u32 },
    #[error(
        "other users may write to it (mode {mode:04o}): what it holds can't be trusted; remove it, or \
         choose another folder"
    )]
    Writable { mode: u32 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        match refused {
            Refused::Io(error) => error,
            refused => io::Error::new(io::ErrorKind::PermissionDenied, refused.to_string()),
        }
    }
}

/// The version's folder.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    root: RwLock<Arc<OwnedFd>>,
}

impl Store {
    /// Opens the folder, which must exist.
    ///
    /// # Errors
    /// It can't be opened, or is not to be trusted.
    pub fn open(path: PathBuf) -> Result<Store, Refused> {
        let root = RwLock::new(Arc::new(open_trusted(&path)?));
        Ok(Store { path, root })
    }

    /// Where the folder is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself.
    pub fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a file to read. The name, here and below, is relative to the folder.
    ///
    /// # Errors
    /// There is none, it is no regular file, or it belongs to another user.
    pub fn read(&self, name: &Path) -> io::Result<File> {
        open(&self.root(), name)
    }

    /// Whether a regular file has this name.
    pub fn exists(&self, name: &Path) -> bool {
        let stat = statat(self.root(), name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// There is none, or it can't be removed.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        remove(&self.root(), name)
    }

    /// Makes a folder, and those above it, below the version's folder.
    ///
    /// # Errors
    /// It can't be made, or something else has its name.
    pub fn make_folder(&self, name: &Path) -> io::Result<()> {
        self.folder(name).map(drop)
    }

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    /// It can't be written; nothing is left behind.
    pub fn write(&self, name: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let temporary = self.folder(Path::new("tmp"))?;
        let (from, mut file) = create_temporary(&temporary)?;
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let result = written.and_then(|()| {
            let (folder, to) = self.folder_and_name(name)?;
            Ok(renameat(&temporary, &*from, &folder, to)?)
        });
        if result.is_err()
            && let Err(e) = unlinkat(&temporary, &*from, AtFlags::empty())
        {
            log::debug!("removing {from} from the cache: {e}");
        }
        result
    }

    /// Gives a file another name instead of its own.
    ///
    /// # Errors
    /// There is no such file, or the other name can't be had.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from) = below(&self.root(), from)?;
        let (to_folder, to) = self.folder_and_name(to)?;
        Ok(renameat(&from_folder, from, &to_folder, to)?)
    }

    /// Gives a file another name beside its own.
    ///
    /// # Errors
    /// There is no such file, or the other name can't be had or exists.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from) = below(&self.root(), from)?;
        let (to_folder, to) = self.folder_and_name(to)?;
        Ok(linkat(&from_folder, from, &to_folder, to, AtFlags::empty())?)
    }

    /// Opens a file to read and write, and makes it if there is none.
    ///
    /// # Errors
    /// It can't be made, is no regular file, or belongs to another user.
    pub fn update(&self, name: &Path) -> io::Result<File> {
        let (folder, name) = self.folder_and_name(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE;
        checked(openat(&folder, name, flags | FILE, Mode::RUSR | Mode::WUSR)?)
    }

    /// Whether a file is the one that has this name.
    pub fn is_named(&self, file: &File, name: &Path) -> bool {
        let named = statat(self.root(), name, AtFlags::SYMLINK_NOFOLLOW);
        match (fstat(file), named) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    fn folder_and_name<'n>(&self, name: &'n Path) -> io::Result<(OwnedFd, &'n std::ffi::OsStr)> {
        let last = name.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.folder(name.parent().unwrap_or(Path::new("")))?, last))
    }

    /// Opens a folder and makes it if need be, even if the user has deleted the whole cache.
    fn folder(&self, name: &Path) -> io::Result<OwnedFd> {
        match make(&self.root(), name) {
            Err(Errno::NOENT) => {
                make_root(&self.path)?;
                let root = Arc::new(open_trusted(&self.path)?);
                let made = make(&root, name)?;
                *self.root.write().unwrap_or_else(PoisonError::into_inner) = root;
                Ok(made)
            }
            other => Ok(other?),
        }
    }
}

/// Makes the version's folder.
///
/// # Errors
/// It can't be made.
pub(super) fn make_root(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE.as_raw_mode()).create(path)
}

fn open_trusted(path: &Path) -> Result<OwnedFd, Refused> {
    let root = openat(CWD, path, FOLDER, Mode::empty()).map_err(io::Error::from)?;
    let stat = fstat(&root).map_err(io::Error::from)?;
    let (owner, user) = (stat.st_uid, geteuid().as_raw());
    if !is_trusted(owner) {
        return Err(Refused::Owner { owner, user });
    }
    let mode = stat.st_mode & 0o7777;
    match mode & WRITABLE_BY_OTHERS {
        0 => Ok(root),
        _ => Err(Refused::Writable { mode }),
    }
}

/// Whether a user may put into the cache what this process shows: root can change its memory as well.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Opens a folder below another one, and makes what is missing.
fn make(root: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    let mut folder = root.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    for part in name {
        folder = match openat(&folder, part, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&folder, part, FOLDER_MODE) {
                    // Another process may have been first.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                openat(&folder, part, FOLDER, Mode::empty())?
            }
            other => other?,
        };
    }
    Ok(folder)
}

/// A new file with a name that no other process has.
fn create_temporary(folder: &OwnedFd) -> io::Result<(String, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TEMPORARY_NAMES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".tmp-{}-{number}", std::process::id());
        match openat(folder, &*name, flags, FILE_MODE) {
            Ok(file) => return Ok((name, file.into())),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no temporary name is free"))
}

/// Opens a file below an open folder, to read.
///
/// # Errors
/// There is none, it is no regular file, or it belongs to another user.
pub(super) fn open(root: &OwnedFd, name: &Path) -> io::Result<File> {
    let (folder, name) = below(root, name)?;
    checked(openat(&folder, name, FILE, Mode::empty())?)
}

/// Removes a file below an open folder.
///
/// # Errors
/// There is none, or it can't be removed.
pub(super) fn remove(root: &OwnedFd, name: &Path) -> io::Result<()> {
    let (folder, name) = below(root, name)?;
    Ok(unlinkat(&folder, name, AtFlags::empty())?)
}

/// An open file, if it is a regular one that this user or root made.
///
/// # Errors
/// It is not.
pub(super) fn checked(file: OwnedFd) -> io::Result<File> {
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    match is_trusted(stat.st_uid) {
        true => Ok(file.into()),
        false => {
            let text = format!("it belongs to user {}", stat.st_uid);
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

fn below<'n>(root: &OwnedFd, name: &'n Path) -> io::Result<(OwnedFd, &'n std::ffi::OsStr)> {
    let last = name.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut folder = root.try_clone()?;
    for part in name.parent().into_iter().flatten() {
        folder = openat(&folder, part, FOLDER, Mode::empty())?;
    }
    Ok((folder, last))
}
