//! Files of an image as bytes at offsets.
//!
//! A database of some hundred megabytes is neither read whole nor kept: it is read in blocks, of which the last few
//! stay. Blocks are larger than pages, as each read of the file system below looks for its place in a layer.

use std::cell::RefCell;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::error::Error;
use crate::fs::{File, Filesystem};
use crate::tree::Ino;

/// Largest database that is read, in bytes. That of a whole Linux distribution has 300 MB with its indexes; images
/// have tens.
pub const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// Bytes of a block.
const BLOCK_BYTES: usize = 128 << 10;

/// Blocks that are kept: 4 MiB.
const BLOCKS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// What a database is read from.
pub trait Bytes {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills a buffer from an offset on.
    ///
    /// # Errors
    /// There are not so many, or they can't be had.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error>;
}

const TOO_SHORT: Error = Error::Corrupt("it ends too early");

impl Bytes for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(TOO_SHORT)?);
        Ok(())
    }
}

/// A regular file of an image.
#[derive(Debug)]
pub(super) struct ImageFile<'a> {
    files: &'a Filesystem,
    file: File<'a>,
    size: u64,
    blocks: RefCell<LruCache<u64, Vec<u8>>>,
}

impl<'a> ImageFile<'a> {
    /// A file that has no more than `limit` bytes.
    ///
    /// # Errors
    /// It is larger, or no regular file.
    pub(super) fn open(files: &'a Filesystem, ino: Ino, limit: u64) -> Result<Self, Error> {
        let file = files.file(ino).map_err(|_| Error::NotAFile)?;
        let size = files.tree().attributes(ino).size;
        match size <= limit {
            true => Ok(ImageFile { files, file, size, blocks: LruCache::new(BLOCKS).into() }),
            false => Err(Error::TooLarge { limit }),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It can't be had.
    pub(super) fn read_all(&self) -> Result<Vec<u8>, Error> {
        self.read_first(u64::MAX)
    }

    /// As much of it as there is, up to a number of bytes.
    ///
    /// # Errors
    /// It can't be had.
    pub(super) fn read_first(&self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let size = self.size.min(limit);
        while (bytes.len() as u64) < size {
            let start = bytes.len();
            let length = (size - start as u64).min(BLOCK_BYTES as u64);
            bytes.resize(start + length as usize, 0);
            self.read(&mut bytes[start..], start as u64)?;
        }
        Ok(bytes)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let deadline = self.files.deadline();
        self.file.read(offset, buffer, deadline).map_err(Error::Access)
    }
}

impl Bytes for ImageFile<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Error> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(TOO_SHORT);
        }
        let mut blocks = self.blocks.borrow_mut();
        while !buffer.is_empty() {
            let (number, skipped) = (offset / BLOCK_BYTES as u64, offset % BLOCK_BYTES as u64);
            let block = blocks.try_get_or_insert(number, || {
                let start = number * BLOCK_BYTES as u64;
                let mut block = vec![0; (self.size - start).min(BLOCK_BYTES as u64) as usize];
                self.read(&mut block, start)?;
                Ok::<_, Error>(block)
            })?;
            let part = &block[skipped as usize..];
            let length = part.len().min(buffer.len());
            buffer[..length].copy_from_slice(&part[..length]);
            (buffer, offset) = (&mut buffer[length..], offset + length as u64);
        }
        Ok(())
    }
}
