//! The operations of a read-only file system, over plain values.
//!
//! This is what FUSE needs and what `ocifs ls`, `cat` and `export` use without any kernel. Only
//! [`Filesystem::read`] and [`Filesystem::read_for`] wait for a network; everything else is answered from the
//! tree in memory, and [`Filesystem::read_local`] from files of the cache.
//! There are no handles: the image cannot change, so opening is nothing to remember.

mod seek;

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::blob::{self, ReadAhead};
use crate::content::Contents;
use crate::extent::{Pieces, Run, UncompressedOffset};
use crate::hint::Hint;
use crate::index::{MAX_NAME_BYTES, Proof};
use crate::prefetch::{self, Misses, Walks};
use crate::tree::{Attributes, Content, DirEntry, FileKind, Ino, Tree};

pub use crate::index::PROOF_XATTR;
pub use seek::Seek;

/// Begins the names that Linux has a use for: what begins otherwise is not supported, by any file.
const NAMESPACES: [&[u8]; 4] = [b"trusted.", b"user.", b"security.", b"system.posix_acl_"];

/// Why an operation fails.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("no such file or directory")]
    NotFound,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("not the kind of file that this works on")]
    WrongKind,
    #[error("no such attribute")]
    NoAttribute,
    #[error("no file has attributes of this kind")]
    NoNamespace,
    #[error("there is none beyond this offset")]
    Beyond,
    #[error("a name of more than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    #[error("reading /{path}: {cause}")]
    Content { path: String, cause: blob::Error },
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Content { cause: source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Error {
    /// The errno that the kernel is told: each error has exactly one.
    pub fn errno(&self) -> rustix::io::Errno {
        use rustix::io::Errno;
        match self {
            Error::NotFound => Errno::NOENT,
            Error::NotADirectory => Errno::NOTDIR,
            Error::IsADirectory => Errno::ISDIR,
            Error::WrongKind => Errno::INVAL,
            Error::NoAttribute => Errno::NODATA,
            Error::NoNamespace => Errno::OPNOTSUPP,
            Error::Beyond => Errno::NXIO,
            Error::NameTooLong => Errno::NAMETOOLONG,
            Error::Content { .. } => Errno::IO,
        }
    }
}

/// How much there is of everything, for `statvfs(3)`.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Number of inodes.
    pub inodes: u64,
    /// Bytes of all regular files.
    pub bytes: u64,
}

/// An image as a file system, or several.
#[derive(Debug)]
pub struct Filesystem {
    tree: Tree,
    contents: Contents,
    read_timeout: Duration,
    misses: Misses,
    walks: Walks,
}

impl Filesystem {
    /// Puts names and bytes together. No read takes longer than `read_timeout`.
    pub fn new(tree: Tree, contents: Contents, read_timeout: Duration) -> Filesystem {
        let layers = contents.layers().len();
        let (misses, walks) = (Misses::new(layers), Walks::new(layers));
        Filesystem { tree, contents, read_timeout, misses, walks }
    }

    /// The names and attributes.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The bytes of the layers.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The inode that is [shown](Tree::shown) with a number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn ino(&self, number: u64) -> Result<Ino, Error> {
        self.tree.ino_of(number).ok_or(Error::NotFound)
    }

    /// The attributes of a name in a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], [`Error::NameTooLong`].
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attributes, Error> {
        // Asked for by those who have a file by its handle, directory or not.
        if name == b"." {
            return Ok(self.tree.attributes(dir));
        }
        if self.tree.kind(dir) != FileKind::Directory {
            return Err(Error::NotADirectory);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::NameTooLong);
        }
        let child = match name {
            b".." => self.tree.parent(dir),
            name => self.tree.lookup(dir, name),
        };
        child.map(|ino| self.tree.attributes(ino)).ok_or(Error::NotFound)
    }

    /// The rows of a directory from position `from` on: `.` and `..` are 0 and 1.
    ///
    /// # Errors
    /// [`Error::NotADirectory`].
    pub fn read_dir(
        &self,
        dir: Ino,
        from: u64,
    ) -> Result<impl Iterator<Item = DirEntry<'_>>, Error> {
        let parent = self.tree.parent(dir).ok_or(Error::NotADirectory)?;
        let dots = [DirEntry { name: b".", ino: dir }, DirEntry { name: b"..", ino: parent }];
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let children = self.tree.children(dir, from.saturating_sub(dots.len()));
        Ok(dots.into_iter().skip(from).chain(children))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn read_link(&self, ino: Ino) -> Result<&[u8], Error> {
        self.tree.symlink(ino).ok_or(Error::WrongKind)
    }

    /// The first place of a regular file, from `offset` on, where there is data or a hole.
    ///
    /// # Errors
    /// [`Error::Beyond`] at the end of the file, and if there is no more data; as [`Filesystem::readable`].
    pub fn seek(&self, ino: Ino, seek: Seek, offset: u64) -> Result<u64, Error> {
        let content = self.content(ino)?;
        let whole = [Run { file_offset: 0, start: UncompressedOffset(0), length: content.size }];
        let runs = match content.pieces {
            Pieces::Whole(_) => &whole,
            Pieces::Sparse(runs) => runs,
        };
        seek::find(seek, runs, content.size, offset).ok_or(Error::Beyond)
    }

    /// How many bytes a read of `length` at `offset` gives: fewer at the end of the file.
    ///
    /// # Errors
    /// [`Error::IsADirectory`], [`Error::WrongKind`].
    pub fn readable(&self, ino: Ino, offset: u64, length: usize) -> Result<usize, Error> {
        let content = self.content(ino)?;
        let left = content.size.saturating_sub(offset);
        Ok(length.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// Fills `buf` from `offset` if the bytes are cached; false if they have to be fetched.
    /// `buf` is as long as [`Filesystem::readable`] says.
    ///
    /// # Errors
    /// [`Error::IsADirectory`], [`Error::WrongKind`].
    pub fn read_local(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<bool, Error> {
        let content = self.content(ino)?;
        let is_local = self.contents.read_local(content.layer, content.pieces, offset, buf);
        if is_local {
            self.walks.reached(&self.contents, content.layer);
        }
        Ok(is_local)
    }

    /// Whether all of a regular file seems to be cached; false for anything else. Cheap, and may be
    /// wrong.
    pub fn is_local(&self, ino: Ino) -> bool {
        self.tree.content(ino).is_some_and(|content| {
            self.contents.is_local(content.layer, content.pieces, 0, content.size)
        })
    }

    /// Whether these parts of regular files all seem to be cached. Quick for those that lie together.
    pub fn are_local(&self, parts: &[(Ino, Range<u64>)]) -> bool {
        // A layer, and a range of it that is cached.
        let mut local = (usize::MAX, 0..0);
        parts.iter().all(|(ino, part)| {
            let Some(content) = self.tree.content(*ino) else { return false };
            let (layer, length) = (content.layer, part.end - part.start);
            let Pieces::Whole(start) = content.pieces else {
                return self.contents.is_local(layer, content.pieces, part.start, length);
            };
            let start = UncompressedOffset(start.0 + part.start);
            let end = start.0 + length;
            if layer == local.0 && local.1.start <= start.0 && end <= local.1.end {
                return true;
            }
            let reader = &self.contents.layers()[layer];
            local = (layer, reader.spans_of(start.0..end));
            reader.is_local(start, length)
        })
    }

    /// When a read that begins now must have been answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.read_timeout
    }

    /// Fills `buf` from `offset`, fetching what is missing, but not beyond `give_up`.
    /// `buf` is as long as [`Filesystem::readable`] says.
    ///
    /// # Errors
    /// [`Error::Content`], and as [`Filesystem::read_local`].
    pub fn read(
        &self,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
        give_up: Instant,
    ) -> Result<(), Error> {
        self.read_for(Some(ino), ino, offset, buf, give_up)
    }

    /// The same where no reader may have asked for this file, because the kernel reads ahead in the layer.
    /// `reached` is the file of the layer that a reader is known to have come to and missed; what else
    /// is fetched depends on that one.
    ///
    /// # Errors
    /// As [`Filesystem::read`].
    pub fn read_for(
        &self,
        reached: Option<Ino>,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
        give_up: Instant,
    ) -> Result<(), Error> {
        let content = self.content(ino)?;
        let Content { layer, .. } = content;
        self.walks.reached(&self.contents, layer);
        let length = buf.len() as u64;
        let walked = match self.contents.is_coming(layer, content.pieces, offset, length) {
            true => None,
            false => reached.and_then(|file| self.walks.missed(&self.tree, &self.contents, file)),
        };
        // Looked up here: the caller of `scope` holds a lock.
        let below = walked.map(|dir| prefetch::below(&self.tree, dir, layer));
        let missed = reached.map(|file| (self.misses.missed(&self.tree, file, layer), file));
        let scope = |goes_on| match (&below, missed) {
            (Some(below), _) => below.clone(),
            (None, Some((last, file))) if goes_on => prefetch::guess(&self.tree, last, file, layer),
            _ => ReadAhead::UpTo(0),
        };
        let result = self.contents.read(layer, content.pieces, offset, buf, give_up, &scope);
        result.map_err(|source| {
            let path = String::from_utf8_lossy(&self.tree.path(ino)).into_owned();
            Error::Content { path, cause: source }
        })
    }

    /// What has been checked of a file's layer; of anything else, of the layer of its image that is
    /// least checked, as all of them may have had a say in it.
    pub fn proof(&self, ino: Ino) -> Proof {
        let layers = self.contents.layers();
        let least = match (self.tree.content(ino), self.tree.layers_of(ino)) {
            (Some(content), _) => Some(layers[content.layer].proof()),
            (None, Some(own)) => own.iter().map(|layer| layers[*layer as usize].proof()).min(),
            (None, None) => layers.iter().map(|layer| layer.proof()).min(),
        };
        least.unwrap_or(Proof::Full)
    }

    /// The value of an extended attribute: one of the image's, or [`PROOF_XATTR`].
    ///
    /// # Errors
    /// [`Error::NoAttribute`], [`Error::NoNamespace`].
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<&[u8], Error> {
        if name == PROOF_XATTR {
            return Ok(self.proof(ino).name().as_bytes());
        }
        let found = self.tree.readable_xattrs(ino).find(|(other, _)| *other == name);
        found.map(|(_, value)| value).ok_or_else(|| {
            match NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
                true => Error::NoAttribute,
                false => Error::NoNamespace,
            }
        })
    }

    /// The names of those extended attributes that the kernel hands out and of which this says so, each
    /// with a NUL behind it.
    pub fn xattr_names(&self, ino: Ino, is_shown: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut names = Vec::new();
        for (name, _) in self.tree.readable_xattrs(ino).filter(|(name, _)| is_shown(name)) {
            names.extend_from_slice(name);
            names.push(0);
        }
        names
    }

    /// Totals for `statvfs`.
    pub fn totals(&self) -> Totals {
        Totals { inodes: self.tree.len() as u64, bytes: self.tree.total_size() }
    }

    fn content(&self, ino: Ino) -> Result<Content<'_>, Error> {
        self.tree.content(ino).ok_or_else(|| match self.tree.kind(ino) {
            FileKind::Directory => Error::IsADirectory,
            _ => Error::WrongKind,
        })
    }
}
