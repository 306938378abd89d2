//! Copying files of an image to a directory of this machine, as `cp -a` copies from a mount.
//!
//! # Problem
//!
//! Names, symlinks and modes come from an image that its author made to his liking, and where they are written may be
//! others' files and symlinks already. A copy must never be written outside of the place that the user named, or
//! through something that stands there; and no half of a file may stand there under its name.
//!
//! # Design
//!
//! Below the place that the user named, every directory is opened without following any symlink ([`beneath`]), and
//! everything is made under a temporary name in its directory and then renamed ([`place`]): files appear whole, and what
//! was there is replaced and not written to. Existing directories are merged into; a directory never replaces
//! something else, or the other way around, and nothing but the like a device, a pipe or a socket. Directories get their attributes last, the deepest first, so that those
//! without permission to write can be filled.
//!
//! Modes, times, extended attributes, hard links and holes are kept. Owners are kept by root; for other users files
//! are theirs, and lose setuid and setgid, which would now mean another user (as `cp -a` does it). Devices, and attributes
//! beyond `user.` and access control lists, are root's to make.
//!
//! What can't be made here is told, and the copy goes on. What can't be read from the image ends it, and so does a full
//! disk: the next file would fail in the same way, after the same time.
//!
//! (Rejected: unpacking our own tar archive by the crate `tar`. It follows symlinks that are already there, writes
//! in place, and knows neither holes nor nanoseconds.)

mod attributes;
mod beneath;
mod options;
mod place;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::fs::{self, Filesystem};
use crate::tree::{FileKind, Ino, Mark, Order};
use place::{Places, Problem};

pub use options::CopyOptions;

/// Why a copy ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum CopyError {
    #[error(transparent)]
    Read(#[from] fs::Error),
    #[error("{}: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error("{}: {what}", path.display())]
    Destination { path: PathBuf, what: &'static str },
}

/// Where copies go.
#[derive(Debug)]
pub struct Destination {
    /// As the user named it.
    path: PathBuf,
    /// The directory that copies are made in.
    directory: OwnedFd,
    /// The name that the copy gets; `None` if it keeps its own.
    name: Option<Vec<u8>>,
}

impl Destination {
    /// Looks at the place: an existing directory takes copies into it, anything else is the name of one copy.
    ///
    /// # Errors
    /// There is no directory that it could be in.
    pub fn new(path: &Path, copies: usize) -> Result<Destination, CopyError> {
        let open = |path: &Path| {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)
        };
        let destination = |directory, name| Destination { path: path.to_owned(), directory, name };
        let must_be_directory = copies != 1 || path.as_os_str().as_bytes().ends_with(b"/");
        let refused = |what| Err(CopyError::Destination { path: path.to_owned(), what });
        match open(path) {
            Ok(directory) => return Ok(destination(directory, None)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if must_be_directory {
                    return refused("no such directory");
                }
            }
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => {
                if must_be_directory {
                    return refused("not a directory");
                }
                // By way of a symlink too, as `/dev/stdout` is one.
                if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
                    return refused("a device, pipe or socket, which is not replaced");
                }
            }
            Err(cause) => return Err(CopyError::Write { path: path.to_owned(), cause }),
        }
        let Some(name) = path.file_name() else { return refused("no such directory") };
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let write = |cause| CopyError::Write { path: above.to_owned(), cause };
        Ok(destination(open(above).map_err(write)?, Some(name.as_bytes().to_vec())))
    }

    /// The path of a copy, for messages.
    fn shown(&self, path: &[u8]) -> PathBuf {
        match (&self.name, path) {
            (Some(_), b"") | (None, b"") => self.path.clone(),
            (Some(name), path) => {
                let below = path.strip_prefix(&name[..]).unwrap_or(path);
                let below = below.strip_prefix(b"/").unwrap_or(below);
                match below {
                    b"" => self.path.clone(),
                    below => self.path.join(OsStr::from_bytes(below)),
                }
            }
            (None, path) => self.path.join(OsStr::from_bytes(path)),
        }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and so on.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Extended attributes that the file system of the copies does not take.
    pub lost_attributes: u64,
}

/// A copy that is being made; hard links hold across all that is copied by it.
#[derive(Debug)]
pub struct Copy<'a> {
    filesystem: &'a Filesystem,
    destination: &'a Destination,
    options: CopyOptions,
    /// Where a file with several names was copied to, below the destination.
    first_names: HashMap<Ino, Vec<u8>>,
    copied: Copied,
}

impl<'a> Copy<'a> {
    /// A copy to a place, of nothing yet.
    pub fn new(
        filesystem: &'a Filesystem,
        destination: &'a Destination,
        options: CopyOptions,
    ) -> Copy<'a> {
        let (first_names, copied) = (HashMap::new(), Copied::default());
        Copy { filesystem, destination, options, first_names, copied }
    }

    /// What was copied.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    /// Copies a file, or a directory with all below it. `name` is what it is called in the destination, unless that
    /// has a name of its own; empty, if what is in the directory is to be in the destination itself. What can't be
    /// made is told to `problem`.
    ///
    /// # Errors
    /// What ends the copy.
    pub fn add(
        &mut self,
        ino: Ino,
        name: &[u8],
        problem: &mut dyn FnMut(&Path, &io::Error),
    ) -> Result<(), CopyError> {
        let tree = self.filesystem.tree();
        let top = self.destination.name.clone().unwrap_or_else(|| name.to_vec());
        let mut directories: Vec<(Vec<u8>, Ino)> = Vec::new();
        let mut places = Places::new(&self.destination.directory);
        let is_made = match top.is_empty() {
            true => true,
            false => self.one(&mut places, &top, ino, problem)?,
        };
        if tree.kind(ino) != FileKind::Directory || !is_made {
            return Ok(());
        }
        directories.push((top.clone(), ino));
        // Nothing is made below a directory that could not be made.
        let mut skipped: Option<Vec<u8>> = None;
        let mut walk = tree.walk(ino, Order::Data);
        while let Some((below, ino)) = walk.next() {
            let path = match top.is_empty() {
                true => below.to_vec(),
                false => [&top[..], b"/", below].concat(),
            };
            if let Some(above) = &skipped {
                if path.starts_with(above) {
                    continue;
                }
                skipped = None;
            }
            let is_made = self.one(&mut places, &path, ino, problem)?;
            if tree.kind(ino) == FileKind::Directory {
                match is_made {
                    true => directories.push((path, ino)),
                    false => skipped = Some([&path[..], b"/"].concat()),
                }
            }
        }
        for (path, ino) in directories.iter().rev() {
            let done = places.directory(path).and_then(|directory| {
                attributes::set(directory, tree, *ino, self.options).map_err(io::Error::from)
            });
            match done {
                Ok(lost) => self.copied.lost_attributes += lost,
                Err(e) => problem(&self.destination.shown(path), &e),
            }
        }
        Ok(())
    }

    /// Makes one file, or an empty directory. Whether it is there now.
    fn one(
        &mut self,
        places: &mut Places<'_>,
        path: &[u8],
        ino: Ino,
        problem: &mut dyn FnMut(&Path, &io::Error),
    ) -> Result<bool, CopyError> {
        let tree = self.filesystem.tree();
        let attributes = tree.attributes(ino);
        if let Some(Mark::LinkBelow(target)) = tree.mark(ino) {
            let target = String::from_utf8_lossy(target);
            let text = format!("a hard link to /{target}, whose content is in a lower layer");
            problem(&self.destination.shown(path), &io::Error::other(text));
            return Ok(false);
        }
        let made = match attributes.kind {
            FileKind::Directory => places.make_directory(path).map_err(Problem::Write).map(|()| 0),
            _ => places.make_file(self.filesystem, path, ino, &self.first_names, self.options),
        };
        match made {
            Ok(lost) => {
                self.copied.lost_attributes += lost;
                self.copied.files += 1;
                if attributes.kind == FileKind::Regular && !self.first_names.contains_key(&ino) {
                    self.copied.bytes += attributes.size;
                }
                if attributes.kind != FileKind::Directory && attributes.nlink > 1 {
                    self.first_names.entry(ino).or_insert_with(|| path.to_vec());
                }
                Ok(true)
            }
            Err(Problem::Read(e)) => Err(e.into()),
            Err(Problem::Write(cause)) if is_full(&cause) => {
                Err(CopyError::Write { path: self.destination.shown(path), cause })
            }
            Err(Problem::Write(e)) => {
                problem(&self.destination.shown(path), &e);
                Ok(false)
            }
        }
    }
}

/// Whether nothing more can be written, whatever it is.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
