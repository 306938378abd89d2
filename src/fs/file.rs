//! A regular file, found once: every read and seek of it works on what was found.

use std::time::Instant;

use super::error::Error;
use super::filesystem::Filesystem;
use super::seek::{self, Seek};
use crate::blob::ReadAhead;
use crate::extent::{Pieces, Run, UncompressedOffset};
use crate::prefetch;
use crate::tree::{Content, FileKind, Ino};

/// A regular file of a [`Filesystem`], and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    filesystem: &'a Filesystem,
    ino: Ino,
    content: Content<'a>,
}

impl Filesystem {
    /// The regular file with this inode.
    ///
    /// # Errors
    /// [`Error::IsADirectory`], [`Error::WrongKind`].
    pub fn file(&self, ino: Ino) -> Result<File<'_>, Error> {
        match (self.tree.content(ino), self.tree.kind(ino)) {
            (Some(content), _) => Ok(File { filesystem: self, ino, content }),
            (None, FileKind::Directory) => Err(Error::IsADirectory),
            (None, _) => Err(Error::WrongKind),
        }
    }
}

impl File<'_> {
    /// How many bytes a read of `length` at `offset` gives: fewer at the end of the file.
    pub fn readable(&self, offset: u64, length: usize) -> usize {
        let left = self.content.size.saturating_sub(offset);
        length.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Fills `buf` from `offset` if the bytes are cached; false if they have to be fetched.
    /// `buf` is as long as [`File::readable`] says.
    pub fn read_local(&self, offset: u64, buf: &mut [u8]) -> bool {
        let Content { layer, pieces, .. } = self.content;
        let Filesystem { contents, walks, .. } = self.filesystem;
        let is_local = contents.read_local(layer, pieces, offset, buf);
        if is_local {
            walks.reached(contents, layer);
        }
        is_local
    }

    /// Fills `buf` from `offset`, fetching what is missing, but not beyond `give_up`.
    /// `buf` is as long as [`File::readable`] says.
    ///
    /// # Errors
    /// [`Error::Content`].
    pub fn read(&self, offset: u64, buf: &mut [u8], give_up: Instant) -> Result<(), Error> {
        self.read_for(Some(self.ino), offset, buf, give_up)
    }

    /// The same where no reader may have asked for this file, because the kernel reads ahead in the layer.
    /// `reached` is the file of the layer that a reader is known to have come to and missed; what else
    /// is fetched depends on that one.
    ///
    /// # Errors
    /// As [`File::read`].
    pub fn read_for(
        &self,
        reached: Option<Ino>,
        offset: u64,
        buf: &mut [u8],
        give_up: Instant,
    ) -> Result<(), Error> {
        let Content { layer, pieces, .. } = self.content;
        let Filesystem { tree, contents, misses, walks, .. } = self.filesystem;
        walks.reached(contents, layer);
        let walked = match contents.is_coming(layer, pieces, offset, buf.len() as u64) {
            true => None,
            false => reached.and_then(|file| walks.missed(tree, contents, file)),
        };
        // Looked up here: the caller of `scope` holds a lock.
        let below = walked.map(|dir| prefetch::below(tree, dir, layer));
        let missed = reached.map(|file| (misses.missed(tree, file, layer), file));
        let scope = |goes_on| match (&below, missed) {
            (Some(below), _) => below.clone(),
            (None, Some((last, file))) if goes_on => prefetch::guess(tree, last, file, layer),
            _ => ReadAhead::File(0..0),
        };
        let result = contents.read(layer, pieces, offset, buf, give_up, &scope);
        result.map_err(|cause| {
            let path = String::from_utf8_lossy(&tree.path(self.ino)).into_owned();
            Error::Content { path, cause }
        })
    }

    /// The first place, from `offset` on, where there is data or a hole.
    ///
    /// # Errors
    /// [`Error::Beyond`] at the end of the file, and if there is no more data.
    pub fn seek(&self, seek: Seek, offset: u64) -> Result<u64, Error> {
        let Content { size, pieces, .. } = self.content;
        let whole = [Run { file_offset: 0, start: UncompressedOffset(0), length: size }];
        let runs = match pieces {
            Pieces::Whole(_) => &whole,
            Pieces::Sparse(runs) => runs,
        };
        seek::find(seek, runs, size, offset).ok_or(Error::Beyond)
    }
}
