//! Answers that may have to wait for a name to be looked up, or for an image to be opened.
//!
//! All of them are given by the threads of a [`Pool`], so that what waits for one host keeps nothing else waiting.
//! Names are for the kernel to remember for a moment only, so that a tag that has moved is noticed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEntry,
};

use super::answers;
use super::listings::Listings;
use super::options::Ownership;
use super::pool::Pool;
use super::requests::Requests;
use crate::fs::{self, Filesystem};
use crate::space::{self, Directories, Later, Named, Node, Volume};
use crate::tree::{BLOCK_BYTES, Ino};

/// How long the kernel may keep what a name leads to, and its attributes.
const NAMES_STAY: Duration = Duration::from_secs(1);

/// How long it may keep that there is no such name.
const ABSENT_STAYS: Duration = Duration::from_secs(2);

/// Permissions of what is none of an image's.
const DIRECTORY_MODE: u16 = 0o555;
const DOCUMENT_MODE: u16 = 0o444;
const SYMLINK_MODE: u16 = 0o777;

/// The unit of `st_blocks`.
const SECTOR_BYTES: u64 = 512;

/// Where names are looked up, and how their answers look.
#[derive(Clone, Debug)]
pub(super) struct Browsed {
    directories: Arc<dyn Directories>,
    ownership: Ownership,
    requests: Arc<Requests>,
    pool: Arc<Pool>,
    listings: Arc<Listings<Row>>,
}

/// A name, and what it leads to.
type Row = (Vec<u8>, Named);

impl Browsed {
    pub(super) fn new(
        directories: &Arc<dyn Directories>,
        ownership: Ownership,
        requests: &Arc<Requests>,
    ) -> Browsed {
        Browsed {
            directories: Arc::clone(directories),
            ownership,
            requests: Arc::clone(requests),
            pool: Arc::default(),
            listings: Arc::default(),
        }
    }

    /// Does something as soon as a thread is free, with the time until which it may wait.
    fn later(&self, work: impl FnOnce(&Browsed, Instant) + Send + 'static) {
        let (own, give_up) = (self.clone(), Instant::now() + self.directories.timeout());
        self.pool.run(move || work(&own, give_up));
    }

    /// Does something with an inode of a volume, once that is open.
    pub(super) fn opened<R: Send + 'static>(
        &self,
        volume: u32,
        number: u32,
        reply: R,
        work: impl FnOnce(&Volume, Ino, R) + Send + 'static,
        refuse: impl FnOnce(R, Errno) + Send + 'static,
    ) {
        self.later(move |own, give_up| {
            match space::open(own.directories.as_ref(), volume, number, give_up) {
                Ok((volume, ino)) => work(&volume, ino, reply),
                Err(e) => refuse(reply, own.failed(&e)),
            }
        });
    }

    pub(super) fn lookup(&self, parent: Later, name: OsString, reply: ReplyEntry) {
        let ownership = self.ownership;
        match parent {
            Later::Document(_) => reply.error(Errno::ENOTDIR),
            Later::Closed { volume, number } => self.opened(
                volume,
                number,
                reply,
                move |volume, dir, reply| answers::lookup(ownership, volume, dir, &name, reply),
                ReplyEntry::error,
            ),
            Later::Directory(dir) => {
                self.later(move |own, give_up| match own.look_up(dir, &name, give_up) {
                    Ok(named) => {
                        reply.entry(&own.stay(named), &own.attr_of(named), Generation(0));
                    }
                    Err(fs::Error::NotFound) => {
                        let root = own.attr(Named::Directory(1));
                        let absent = FileAttr { ino: INodeNo(0), ..root };
                        reply.entry(&ABSENT_STAYS, &absent, Generation(0));
                    }
                    Err(e) => reply.error(own.failed(&e)),
                })
            }
        }
    }

    /// What a name leads to; what has its attributes only when it is there, is.
    fn look_up(&self, dir: u32, name: &OsStr, give_up: Instant) -> Result<Named, fs::Error> {
        let named = self.directories.lookup(dir, name.as_bytes(), give_up)?;
        match named {
            Named::Volume(volume) if self.directories.shows_roots() => {
                self.directories.open(volume, give_up)?;
            }
            Named::Document(id) if matches!(self.directories.node(id), Some(Node::Unmade)) => {
                self.directories.make(id, give_up)?;
            }
            _ => {}
        }
        Ok(named)
    }

    /// A file in other open volumes that have it than the one that could not read it.
    pub(super) fn others(
        &self,
        number: INodeNo,
        failed: &Arc<Filesystem>,
    ) -> Vec<(Arc<Filesystem>, Ino)> {
        space::others(self.directories.as_ref(), number.0, failed)
    }

    /// Whether it is the root of an image that is known to have no extended attributes, or was not entered yet and is
    /// shown as a directory of no image.
    pub(super) fn is_plain_root(&self, of: Later) -> bool {
        let Later::Closed { volume, number } = of else { return false };
        let seen = self.directories.seen_root(volume);
        let is_plain = !self.directories.shows_roots() && seen.is_none_or(|root| !root.has_xattrs);
        space::is_root(volume, number) && is_plain
    }

    pub(super) fn getattr(&self, of: Later, reply: ReplyAttr) {
        let ownership = self.ownership;
        match of {
            Later::Directory(dir) => reply.attr(&NAMES_STAY, &self.attr(Named::Directory(dir))),
            Later::Document(id) => {
                self.later(move |own, give_up| match own.directories.make(id, give_up) {
                    Ok(_) => own.document(id, reply),
                    Err(e) => reply.error(own.failed(&e)),
                })
            }
            // Its attributes are those of no image, or known from when it was open.
            Later::Closed { volume, number }
                if space::is_root(volume, number) && !self.directories.shows_roots() =>
            {
                let root = Named::Volume(volume);
                reply.attr(&self.stay(root), &self.attr_of(root));
            }
            Later::Closed { volume, number } => self.opened(
                volume,
                number,
                reply,
                move |volume, ino, reply| {
                    reply.attr(&NAMES_STAY, &answers::attr_of(ownership, volume, ino));
                },
                ReplyAttr::error,
            ),
        }
    }

    pub(super) fn read_dir(&self, dir: Later, offset: u64, mut reply: ReplyDirectory) {
        let ownership = self.ownership;
        match dir {
            Later::Document(_) => reply.error(Errno::ENOTDIR),
            Later::Closed { volume, number } => self.opened(
                volume,
                number,
                reply,
                move |volume, dir, reply| {
                    answers::read_dir(ownership, volume, dir, offset, reply);
                },
                ReplyDirectory::error,
            ),
            Later::Directory(id) => {
                self.later(move |own, give_up| match own.rows(id, offset, give_up) {
                    Ok(rows) => {
                        for (at, (name, named)) in from(&rows, offset) {
                            let (number, name) = (INodeNo(named.number()), OsStr::from_bytes(name));
                            if reply.add(number, at, kind(*named), name) {
                                break;
                            }
                        }
                        reply.ok();
                    }
                    Err(e) => reply.error(own.failed(&e)),
                })
            }
        }
    }

    pub(super) fn read_dir_plus(&self, dir: Later, offset: u64, mut reply: ReplyDirectoryPlus) {
        let ownership = self.ownership;
        match dir {
            Later::Document(_) => reply.error(Errno::ENOTDIR),
            Later::Closed { volume, number } => self.opened(
                volume,
                number,
                reply,
                move |volume, dir, mut reply: ReplyDirectoryPlus| match answers::read_dir_plus(
                    ownership, volume, dir, offset, &mut reply,
                ) {
                    Ok(()) => reply.ok(),
                    Err(e) => reply.error(Errno::from_i32(e.errno().raw_os_error())),
                },
                ReplyDirectoryPlus::error,
            ),
            Later::Directory(id) => {
                self.later(move |own, give_up| match own.rows(id, offset, give_up) {
                    Ok(rows) => {
                        for (at, (name, named)) in from(&rows, offset) {
                            let (name, attr) = (OsStr::from_bytes(name), own.attr_of(*named));
                            let stay = own.stay(*named);
                            if reply.add(attr.ino, at, name, &stay, &attr, Generation(0)) {
                                break;
                            }
                        }
                        reply.ok();
                    }
                    Err(e) => reply.error(own.failed(&e)),
                })
            }
        }
    }

    /// How long the kernel may keep what a name leads to: an image that is entered has other attributes then.
    fn stay(&self, named: Named) -> Duration {
        match named {
            Named::Volume(volume)
                if !matches!(self.directories.opened(volume), Ok(Some(_)))
                    && self.directories.seen_root(volume).is_none() =>
            {
                Duration::ZERO
            }
            Named::Document(id) if matches!(self.directories.node(id), Some(Node::Unmade)) => {
                Duration::ZERO
            }
            _ => NAMES_STAY,
        }
    }

    /// The attributes of a document.
    pub(super) fn document(&self, number: u32, reply: ReplyAttr) {
        reply.attr(&NAMES_STAY, &self.attr(Named::Document(number)));
    }

    /// The attributes of a symbolic link.
    pub(super) fn symlink(&self, number: u32, reply: ReplyAttr) {
        reply.attr(&NAMES_STAY, &self.attr(Named::Symlink(number)));
    }

    /// Reads a document that has to be made.
    pub(super) fn read_unmade(&self, number: u32, offset: u64, size: u32, reply: ReplyData) {
        self.later(move |own, give_up| match own.directories.make(number, give_up) {
            Ok(bytes) => reply.data(part(&bytes, offset, size)),
            Err(e) => reply.error(own.failed(&e)),
        });
    }

    /// What a directory has, with the two that each has, for a reader that goes on at an offset.
    fn rows(&self, id: u32, offset: u64, give_up: Instant) -> Result<Arc<Vec<Row>>, fs::Error> {
        self.listings.rows(id, offset, || {
            let rows = self.directories.list(id, give_up)?;
            let dots = [(b".".to_vec(), id), (b"..".to_vec(), 1)];
            let dots = dots.into_iter().map(|(name, id)| (name, Named::Directory(id)));
            Ok(dots.chain(rows).collect())
        })
    }

    /// The attributes of what is none of an image's, or of an image that is not open.
    fn attr(&self, named: Named) -> FileAttr {
        let changed = match named {
            Named::Directory(id) | Named::Document(id) => self.directories.changed(id),
            Named::Symlink(_) | Named::Volume(_) => SystemTime::UNIX_EPOCH,
        };
        let size = match named {
            Named::Document(id) => match self.directories.node(id) {
                Some(Node::Document(bytes)) => bytes.len() as u64,
                _ => 0,
            },
            Named::Symlink(id) => match self.directories.node(id) {
                Some(Node::Symlink(target)) => target.len() as u64,
                _ => 0,
            },
            Named::Directory(_) | Named::Volume(_) => BLOCK_BYTES,
        };
        let kind = kind(named);
        let is_directory = kind == FileType::Directory;
        let (uid, gid) = match self.ownership {
            Ownership::Image => {
                (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
            }
            Ownership::Squash { uid, gid } => (uid, gid),
        };
        FileAttr {
            ino: INodeNo(named.number()),
            size,
            blocks: if is_directory { 0 } else { size.div_ceil(SECTOR_BYTES) },
            atime: changed,
            mtime: changed,
            ctime: changed,
            crtime: changed,
            kind,
            perm: match kind {
                FileType::Directory => DIRECTORY_MODE,
                FileType::Symlink => SYMLINK_MODE,
                _ => DOCUMENT_MODE,
            },
            nlink: if is_directory { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        }
    }

    /// The attributes of what a name leads to: of an image, if it is open, its own.
    fn attr_of(&self, named: Named) -> FileAttr {
        if let Named::Volume(volume) = named
            && let Ok(Some(filesystem)) = self.directories.opened(volume)
        {
            return answers::attr_of(self.ownership, &Volume::new(volume, filesystem), Ino::ROOT);
        }
        if let Named::Volume(volume) = named
            && let Some(root) = self.directories.seen_root(volume)
        {
            return answers::attr(self.ownership, named.number(), &root.attributes);
        }
        self.attr(named)
    }

    fn failed(&self, error: &fs::Error) -> Errno {
        match error {
            fs::Error::Name { .. } | fs::Error::Late { .. } => self.requests.not_had(error),
            error => Errno::from_i32(error.errno().raw_os_error()),
        }
    }
}

fn kind(named: Named) -> FileType {
    match named {
        Named::Directory(_) | Named::Volume(_) => FileType::Directory,
        Named::Document(_) => FileType::RegularFile,
        Named::Symlink(_) => FileType::Symlink,
    }
}

/// What a read of so many bytes at an offset gives.
pub(super) fn part(bytes: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(size as usize).min(bytes.len());
    &bytes[start..end]
}

/// Rows from an offset on, each with the offset behind it.
fn from<T>(rows: &[T], offset: u64) -> impl Iterator<Item = (u64, &T)> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(rows.len());
    (offset + 1..).zip(&rows[start..])
}
