//! Making files in their places.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, renameat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::options::CopyOptions;
use super::{attributes, beneath};
use crate::extent::Pieces;
use crate::fs::{self, Filesystem};
use crate::tree::{FileKind, Ino};

/// Bytes read and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Which side failed.
#[derive(Debug)]
pub(super) enum Problem {
    Read(fs::Error),
    Write(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Write(error)
    }
}

impl From<Errno> for Problem {
    fn from(error: Errno) -> Problem {
        Problem::Write(error.into())
    }
}

/// The directories below a destination; the one that was used last stays open.
#[derive(Debug)]
pub(super) struct Places<'a> {
    top: &'a OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Temporary names given out.
    given: u64,
}

/// The directory part of a path, and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl<'a> Places<'a> {
    pub(super) fn new(top: &'a OwnedFd) -> Places<'a> {
        Places { top, last: None, given: 0 }
    }

    /// The directory at a path.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let opened = match self.last.take() {
            Some((last, dir)) if last == path => dir,
            _ => beneath::open(self.top, path)?,
        };
        Ok(&self.last.insert((path.to_vec(), opened)).1)
    }

    pub(super) fn make_directory(&mut self, path: &[u8]) -> io::Result<()> {
        let (above, name) = split(path);
        make_directory(self.directory(above)?, name)
    }

    /// Makes a file that is no directory; how many extended attributes were lost.
    pub(super) fn make_file(
        &mut self,
        filesystem: &Filesystem,
        path: &[u8],
        ino: Ino,
        first_names: &HashMap<Ino, Vec<u8>>,
        options: CopyOptions,
    ) -> Result<u64, Problem> {
        self.given += 1;
        let temporary = format!(".ocifs-{}-{}", std::process::id(), self.given);
        let temporary = OsString::from_vec(temporary.into_bytes());
        let (above, name) = split(path);
        // Opened anew, as the directory that was used last may be another one.
        let first = match first_names.get(&ino) {
            Some(first) => {
                let (above, name) = split(first);
                Some((beneath::open(self.top, above)?, name))
            }
            None => None,
        };
        let dir = self.directory(above)?;
        spare(dir, name, filesystem.tree().kind(ino))?;
        let made = match first {
            Some((first_dir, first_name)) => link(&first_dir, first_name, dir, &temporary)
                .map_or_else(|_| make(filesystem, dir, &temporary, ino, options), |()| Ok(0)),
            None => make(filesystem, dir, &temporary, ino, options),
        };
        let made = made.and_then(|lost| {
            renameat(dir, &temporary, dir, OsStr::from_bytes(name))?;
            Ok(lost)
        });
        // Renaming one name of a file to another one of it leaves both.
        if made.is_err() || first_names.contains_key(&ino) {
            let _ = unlinkat(dir, &temporary, AtFlags::empty());
        }
        made
    }
}

/// Makes a directory that may be there already; a symlink to one is none.
fn make_directory(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match mkdirat(dir, OsStr::from_bytes(name), Mode::RWXU) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => beneath::open(dir, name).map(drop),
        Err(e) => Err(e.into()),
    }
}

/// Refuses to replace a device, a pipe or a socket but by the like: it is no file of which there would be a newer version, and
/// other programs use it.
fn spare(dir: &OwnedFd, name: &[u8], kind: FileKind) -> Result<(), Problem> {
    let found = match statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => FileType::from_raw_mode(found?.st_mode),
    };
    let may_go = match found {
        FileType::RegularFile | FileType::Symlink | FileType::Directory => true,
        FileType::Fifo => kind == FileKind::Fifo,
        FileType::CharacterDevice => kind == FileKind::CharDevice,
        FileType::BlockDevice => kind == FileKind::BlockDevice,
        _ => false,
    };
    match may_go {
        true => Ok(()),
        false => Err(io::Error::other("a device, pipe or socket, which is not replaced").into()),
    }
}

fn link(first_dir: &OwnedFd, first: &[u8], dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    linkat(first_dir, OsStr::from_bytes(first), dir, name, AtFlags::empty())
}

fn make(
    filesystem: &Filesystem,
    dir: &OwnedFd,
    name: &OsStr,
    ino: Ino,
    options: CopyOptions,
) -> Result<u64, Problem> {
    let tree = filesystem.tree();
    let a = tree.attributes(ino);
    let node = |kind, device| mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device);
    let device = makedev(a.device.0, a.device.1);
    match a.kind {
        FileKind::Regular | FileKind::Directory => {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
            write(filesystem, ino, &file)?;
            return Ok(attributes::set(&file, tree, ino, options)?);
        }
        FileKind::Symlink => {
            let target = tree.symlink(ino).unwrap_or_default();
            symlinkat(OsStr::from_bytes(target), dir, name)?;
        }
        FileKind::Fifo => {
            node(FileType::Fifo, 0)?;
            return Ok(attributes::set_pipe(dir, name, tree, ino, options)?);
        }
        FileKind::CharDevice | FileKind::BlockDevice if !options.as_root => {
            return Err(io::Error::other("only root can make a device").into());
        }
        FileKind::CharDevice => node(FileType::CharacterDevice, device)?,
        FileKind::BlockDevice => node(FileType::BlockDevice, device)?,
    }
    Ok(attributes::set_at(dir, name, tree, ino, options)?)
}

/// Writes what is stored of a file; holes stay holes.
fn write(filesystem: &Filesystem, ino: Ino, file: &File) -> Result<(), Problem> {
    let Some(content) = filesystem.tree().content(ino) else { return Ok(()) };
    let source = filesystem.file(ino).map_err(Problem::Read)?;
    file.set_len(content.size)?;
    let mut buffer = Vec::new();
    let mut copy = |mut offset: u64, end: u64| -> Result<(), Problem> {
        while offset < end {
            let length = usize::try_from(end - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            buffer.resize(length, 0);
            source
                .read(offset, &mut buffer[..length], filesystem.deadline())
                .map_err(Problem::Read)?;
            file.write_all_at(&buffer[..length], offset)?;
            offset += length as u64;
        }
        Ok(())
    };
    match content.pieces {
        Pieces::Whole(_) => copy(0, content.size),
        Pieces::Sparse(runs) => {
            runs.iter().try_for_each(|run| copy(run.file_offset, run.file_end().min(content.size)))
        }
    }
}
