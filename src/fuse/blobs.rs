//! A FUSE file system of a few large files: the devices of an EROFS image.
//!
//! It has no place in the file system: only the kernel's EROFS opens its files, by number
//! (`fuse::metadata`). A read covers whole blocks and as many files of the image as lie in them; each
//! is read as over the plain mount, with the same caches and deadlines. The kernel keeps what it was
//! given and reads ahead as in any file.
//!
//! # Reading ahead
//!
//! So it also asks for files that nobody wants, behind the end of a directory for example. If those
//! counted as read, a walk over a directory would be taken for one over everything, and all of the
//! layer be fetched. But a read that does not go on where another ended begins with what somebody
//! wants; and the kernel reads on only when somebody has come to what it asked for before. So what
//! is missed in a read that goes on counts only when the next one is missed. To tell that, requests
//! have to be seen in the order in which the kernel sent them, so one thread takes them all in where
//! something may be missed.
//!
//! # Before walks
//!
//! Where all is in the cache the kernel reads far ahead, and still a walk has one processor do most of the work:
//! EROFS copies each file from the cache of the device into its own as the walk comes to it. So the files of a
//! *stretch* that the kernel has read ahead are shown to a forerunner ([`super::forerunner`]), who opens them
//! just before. It must not come to where the kernel notices that a reader goes on, which is where a
//! stretch begins: then the kernel would read ahead for the forerunner, and how far the walk is would not be
//! known any more.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use super::forerunner::Forerunner;
use super::pool::Pool;
use super::{
    Errno, FOREVER, FileAttr, FileHandle, FileType, FuseFilesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MAX_BACKGROUND, OpenFlags, ReplyAttr, ReplyData, ReplyEntry,
    ReplyOpen, Request, Requests, count,
};
use crate::erofs::{BLOCK_BYTES, Device, Devices};
use crate::fs::{self, Filesystem};
use crate::tree::Ino;

/// Threads that read requests from the kernel, if not all of the image is in the cache.
pub(super) const LOOP_THREADS: usize = 1;

/// The number of the first file; the root directory is 1.
const FIRST: u64 = 2;

/// The same, and once more by EROFS.
const ECHOES: u32 = super::ECHOES + 1;

/// What is read at a time by somebody who has gone on for a while: half of a stretch or more.
const MIN_STRETCH_BYTES: u32 = 512 << 10;

/// The part of a stretch that is left to the walk.
const LEFT: u64 = 8;

/// Readers of a device that are told apart.
const READERS: usize = 8;

/// Files that somebody has read one after the other who walks. (One large file is read as far ahead, and over its
/// end.)
const SURE: usize = 4;

#[derive(Debug)]
pub(super) struct Blobs(Arc<Shared>, Pool);

/// What a read needs, here or on a thread of the pool.
#[derive(Debug)]
struct Shared {
    filesystem: Arc<Filesystem>,
    devices: Devices,
    /// One for each device.
    streams: Vec<Mutex<Stream>>,
    requests: Arc<Requests>,
    /// Who goes before walks, once there is something to walk over.
    forerunner: Arc<OnceLock<Forerunner>>,
}

/// How a device is read.
#[derive(Debug, Default)]
struct Stream {
    /// Those who read it last, in a ring.
    readers: [Reader; READERS],
    next: usize,
    /// The file that was missed last.
    missed: Option<Ino>,
}

/// Reads of which each began where the one before ended.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    begin: u64,
    /// Where the last read began, and where it ended.
    last: u64,
    end: u64,
}

impl Stream {
    /// Notes a read. If it goes on where another one ended, what its reader has passed: the kernel reads ahead when
    /// somebody has come to what it read before.
    fn read(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let goes_on = |reader: &Reader| reader.end == range.start && range.start > 0;
        if let Some(reader) = self.readers.iter_mut().find(|reader| goes_on(reader)) {
            let passed = reader.begin..reader.last;
            (reader.last, reader.end) = (range.start, range.end);
            return Some(passed);
        }
        self.next = (self.next + 1) % READERS;
        self.readers[self.next] = Reader { begin: range.start, last: range.start, end: range.end };
        None
    }

    /// Notes that a file is missed. The one that a reader has come to.
    fn miss(&mut self, file: Ino, goes_on: bool) -> Option<Ino> {
        let before = self.missed.replace(file);
        if goes_on { before } else { Some(file) }
    }
}

/// A read that is under way.
struct Reading {
    ino: u64,
    offset: u64,
    /// What was asked for, as far as the device goes; zeros where no file lies.
    buf: Vec<u8>,
    /// How many pieces of it have been read.
    done: usize,
    /// If it begins where another read ended, what its reader has passed.
    passed: Option<Range<u64>>,
    /// What somebody has come to, once a file of it is missed. Of several in one read, the others are
    /// ahead of the first.
    reached: Option<Ino>,
    is_missed: bool,
}

impl Blobs {
    pub(super) fn new(
        filesystem: Arc<Filesystem>,
        devices: Devices,
        requests: Arc<Requests>,
        forerunner: Arc<OnceLock<Forerunner>>,
    ) -> Blobs {
        let streams = devices.iter().map(|_| Mutex::default()).collect();
        Blobs(
            Arc::new(Shared { filesystem, devices, streams, requests, forerunner }),
            Pool::default(),
        )
    }
}

impl Shared {
    fn device(&self, ino: u64) -> Result<&Device, fs::Error> {
        let number = ino.checked_sub(FIRST).and_then(|number| usize::try_from(number).ok());
        number.and_then(|number| self.devices.get(number)).ok_or(fs::Error::NotFound)
    }

    /// The stream of a device that there is.
    fn stream(&self, ino: u64) -> MutexGuard<'_, Stream> {
        self.streams[(ino - FIRST) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, ino: u64) -> Result<FileAttr, fs::Error> {
        let (kind, size) = match ino {
            1 => (FileType::Directory, 0),
            ino => (FileType::RegularFile, self.device(ino)?.bytes()),
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o500,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        })
    }

    fn begin(&self, ino: u64, offset: u64, size: u32) -> Result<Reading, fs::Error> {
        let left = self.device(ino)?.bytes().saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(size as usize);
        let passed = self.stream(ino).read(offset..offset + length as u64);
        Ok(Reading {
            ino,
            offset,
            buf: vec![0; length],
            done: 0,
            passed,
            reached: None,
            is_missed: false,
        })
    }

    /// Reads on; false where something has to be fetched and nobody says until when that may take.
    fn read(&self, reading: &mut Reading, give_up: Option<Instant>) -> Result<bool, fs::Error> {
        let Reading { ino, offset, buf, done, passed, reached, is_missed } = reading;
        let device = self.device(*ino)?;
        for piece in device.pieces(self.filesystem.tree(), *offset, buf.len()).skip(*done) {
            let part = &mut buf[piece.at..piece.at + piece.length];
            if !self.filesystem.read_local(piece.ino, piece.offset, part)? {
                if !std::mem::replace(is_missed, true) {
                    *reached = self.stream(*ino).miss(piece.ino, passed.is_some());
                }
                let Some(give_up) = give_up else { return Ok(false) };
                self.filesystem.read_for(reached.take(), piece.ino, piece.offset, part, give_up)?;
            }
            *done += 1;
        }
        Ok(true)
    }

    /// Says who comes to what next, if a read tells it.
    fn show(&self, client: u32, reading: &Reading) {
        let Some(forerunner) = self.forerunner.get() else { return };
        let length = reading.buf.len() as u64;
        let (Some(passed), Ok(device)) = (&reading.passed, self.device(reading.ino)) else {
            return;
        };
        if length < MIN_STRETCH_BYTES.into() || device.files_in(passed.clone()) < SURE {
            return;
        }
        let tree = self.filesystem.tree();
        let left = length / LEFT;
        let pieces = device.pieces(tree, reading.offset + left, (length - left) as usize);
        let whole = pieces.filter(|piece| {
            piece.offset == 0 && piece.length as u64 == tree.attributes(piece.ino).size
        });
        forerunner.shown(client, whole.map(|piece| piece.ino));
    }
}

impl FuseFilesystem for Blobs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let opens = config.add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT).is_err();
        if config.set_max_background(MAX_BACKGROUND).is_err() || opens {
            log::info!("the kernel keeps its own settings");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        count(&self.0.requests.lookup);
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        let ino = number.and_then(|number| number.checked_add(FIRST));
        match ino.ok_or(fs::Error::NotFound).and_then(|ino| self.0.attr(ino)) {
            Ok(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
            Err(e) => reply.error(super::refused("lookup", &e)),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        count(&self.0.requests.getattr);
        match self.0.attr(ino.0) {
            Ok(attr) => reply.attr(&FOREVER, &attr),
            Err(e) => reply.error(super::refused("getattr", &e)),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        count(&self.0.requests.open);
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let is_ahead = self.0.forerunner.get().is_some_and(|forerunner| forerunner.asks(req.pid()));
        count(if is_ahead { &self.0.requests.ahead } else { &self.0.requests.read });
        let begun = self.0.begin(ino.0, offset, size).and_then(|mut reading| {
            let is_done = self.0.read(&mut reading, None)?;
            Ok((reading, is_done))
        });
        match begun {
            Ok((reading, true)) => {
                reply.data(&reading.buf);
                // Now that it is at hand.
                self.0.show(req.pid(), &reading);
            }
            Ok((_, false)) if self.0.requests.is_echo(ino, offset) => {
                reply.error(Errno::EIO);
            }
            Ok((mut reading, false)) => {
                let shared = Arc::clone(&self.0);
                // Waiting for a free thread counts too.
                let give_up = shared.filesystem.deadline();
                self.1.run(move || match shared.read(&mut reading, Some(give_up)) {
                    Ok(_) => reply.data(&reading.buf),
                    Err(e) => {
                        let range = offset..offset + u64::from(size);
                        reply.error(shared.requests.failed(ino, range, ECHOES, &e));
                    }
                });
            }
            Err(e) => reply.error(super::refused("read", &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn reads_that_go_on() {
        let mut stream = Stream::default();
        // The start of a device is nobody's end.
        assert_eq!(stream.read(0..4096), None);
        assert_eq!(stream.read(4096..16384), Some(0..0));
        assert_eq!(stream.read(4096..16384), None, "that was read on already");
        // Two readers, and more than are told apart.
        assert_eq!(stream.read(1 << 30..2 << 30), None);
        assert_eq!(stream.read(16384..32768), Some(0..4096));
        assert_eq!(stream.read(2 << 30..3 << 30), Some(1 << 30..1 << 30));
        assert_eq!(stream.read(32768..40960), Some(0..16384));
        (10..10 + READERS as u64)
            .for_each(|n| assert_eq!(stream.read(n << 40..(n << 40) + 1), None));
        assert_eq!(stream.read(40960..65536), None);
    }

    #[test]
    fn what_was_read_ahead_counts_when_somebody_comes_to_it() {
        let tree = tree::merge(&[]).unwrap();
        let ino = tree.ino(1).unwrap();
        let mut stream = Stream::default();
        assert_eq!(stream.miss(ino, true), None);
        assert_eq!(stream.miss(ino, true), Some(ino));
        let mut stream = Stream::default();
        assert_eq!(stream.miss(ino, false), Some(ino));
    }
}
