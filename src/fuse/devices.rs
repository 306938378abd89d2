//! A FUSE file system of a few large files: the devices of an EROFS image.
//!
//! It has no place in the file system: the kernel's EROFS opens its files, by number (`fuse::erofs_mount`), and
//! so does a prefetcher. A read covers whole blocks and as many files of the image as lie in them; each
//! is read as over the plain mount, with the same caches and deadlines. The kernel keeps what it was
//! given and reads ahead as in any file.
//!
//! # Reading ahead
//!
//! So it also asks for files that no program wants, behind the end of a directory for example. If those
//! counted as read, a walk over a directory would be taken for one over everything, and all of the
//! layer be fetched. But a read that does not go on where another ended begins with what a program
//! wants; and the kernel reads on only when a reader has come to what it asked for before. So what
//! is missed in a read that goes on counts only when the next one is missed. To tell that, requests
//! have to be seen in the order in which the kernel sent them, so one thread takes them all in where
//! something may be missed.
//!
//! # Ahead of walks
//!
//! Where all is in the cache the kernel reads far ahead, and still a walk has one processor do most of the work:
//! EROFS copies each file from the cache of the device into its own as the walk comes to it. So the files of a
//! *stretch* that the kernel has read ahead are shown to a prefetcher ([`super::prefetcher`]), who opens them
//! just before. It must not come to where the kernel notices that a reader goes on, which is where a
//! stretch begins: then the kernel would read ahead for the prefetcher, and how far the walk is would not be
//! known any more.
//!
//! # Ahead of readers from the end
//!
//! `rg` reads first what it has listed last. Each file lies before the one that was read just now, so the kernel
//! reads nothing ahead and asks for every one. That is seen (`stream`), and the prefetcher has the kernel
//! read what lies before, from the devices themselves and a megabyte at a time. Such readers have all
//! processors busy: what counts is that nothing is done file by file. A file in the middle of what is brought is left
//! out; when it is asked for, its reader has come there.
//!
//! The prefetcher finds the devices by a descriptor that this process has of their folder. While that is open,
//! this file system would not end with EROFS. So devices are opened and closed with a request each, and when
//! EROFS has closed the last one, the folder is closed too, and the prefetcher killed. (If this process is
//! stopped, the end of a mount waits until it goes on or is killed.)
//!
//! (Rejected: a thread of this process that has the kernel read ahead. To open a device it would wait for an
//! answer, and a thread that waits for this process must not be part of it. A file of EROFS that no directory has
//! and that is all of a device: everything would be copied twice. To open the files there one by one, as those of
//! a stretch are: a quarter of the READs stays, and half of the time that can be gained.)

mod stream;

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem as FuseFilesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request,
};

use super::gate::Gate;
use super::guarded::Watched;
use super::pool::Pool;
use super::prefetcher::{DeviceRange, Prefetcher};
use super::reply::{self, FOREVER, refused};
use super::requests::{Requests, Waiting, count};
use super::session::MAX_BACKGROUND;
use crate::erofs::{BLOCK_BYTES, Device, Devices, Piece};
use crate::fs::{self, Filesystem};
use crate::tree::Ino;
use stream::Stream;

/// Threads that read requests from the kernel, if not all of the image is in the cache.
pub(super) const LOOP_THREADS: usize = 1;

/// The number of the first file; the root directory is 1.
const FIRST: u64 = 2;

/// The same, and once more by EROFS.
const ECHOES: u32 = reply::ECHOES + 1;

/// What is read at a time for a reader that has gone on for a while: half of a stretch or more.
const MIN_STRETCH_BYTES: u32 = 512 << 10;

/// The part of a stretch that is left to the walk.
const LEFT: u64 = 8;

/// Files that a walk has read one after the other. (One large file is read as far ahead, and over its end.)
const SURE: usize = 4;

/// The largest file that is left to a reader that reads a device from its end.
const MAX_LEFT_BYTES: usize = 64 << 10;

/// Open files: those of everybody, and the prefetcher's.
const USED: FileHandle = FileHandle(0);
const BROUGHT: FileHandle = FileHandle(1);

#[derive(Debug)]
pub(super) struct DeviceServer(Arc<Shared>, Pool);

/// What prefetching takes.
#[derive(Debug, Default)]
pub(super) struct Prefetching {
    prefetcher: OnceLock<Prefetcher>,
    folder: Mutex<Folder>,
}

/// The root of the file system, where the prefetcher finds the devices. It is kept only while EROFS
/// has them open, as nothing ends while there is a way to them.
#[derive(Debug, Default)]
struct Folder {
    /// How many are open.
    open: usize,
    root: Option<OwnedFd>,
}

impl Prefetching {
    /// Keeps the root of the file system, unless EROFS has gone again; and who will ask for it, if he can be started.
    pub(super) fn keep(&self, root: OwnedFd, start: impl FnOnce() -> Option<Prefetcher>) {
        let mut folder = self.folder();
        if folder.open == 0 {
            return;
        }
        if let Some(prefetcher) = start() {
            folder.root = Some(root);
            // This is the only place that sets it.
            drop(self.prefetcher.set(prefetcher));
        }
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read needs, here or on a thread of the pool.
#[derive(Debug)]
struct Shared {
    filesystem: Arc<Filesystem>,
    devices: Devices,
    /// One for each device.
    streams: Vec<Mutex<Stream>>,
    requests: Arc<Requests>,
    prefetching: Arc<Prefetching>,
    gate: Arc<Gate>,
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
    /// If its reader goes on below, what it comes to there.
    below: Option<Range<u64>>,
    /// What a reader has come to, once a file of it is missed. Of several in one read, the others are
    /// ahead of the first.
    reached: Option<Ino>,
    is_missed: bool,
}

impl DeviceServer {
    pub(super) fn new(
        filesystem: Arc<Filesystem>,
        devices: Devices,
        requests: Arc<Requests>,
        prefetching: Arc<Prefetching>,
        gate: &Arc<Gate>,
    ) -> DeviceServer {
        let gate = Arc::clone(gate);
        let streams = devices.iter().map(|_| Mutex::default()).collect();
        DeviceServer(
            Arc::new(Shared { filesystem, devices, streams, requests, prefetching, gate }),
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

    fn begin(
        &self,
        ino: u64,
        file: FileHandle,
        offset: u64,
        size: u32,
        is_ahead: bool,
    ) -> Result<Reading, fs::Error> {
        let left = self.device(ino)?.bytes().saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(size as usize);
        let (mut passed, mut below) = (None, None);
        if file != BROUGHT {
            let mut stream = self.stream(ino);
            passed = stream.read(offset..offset + length as u64);
            if passed.is_none() && !is_ahead {
                below = stream.descend(offset);
            }
        }
        Ok(Reading {
            ino,
            offset,
            buf: vec![0; length],
            done: 0,
            passed,
            below,
            reached: None,
            is_missed: false,
        })
    }

    /// Reads on; false where something has to be fetched and no deadline is given.
    fn read(&self, reading: &mut Reading, give_up: Option<Instant>) -> Result<bool, fs::Error> {
        let Reading { ino, offset, buf, done, passed, reached, is_missed, .. } = reading;
        let device = self.device(*ino)?;
        for piece in device.pieces(self.filesystem.tree(), *offset, buf.len()).skip(*done) {
            let part = &mut buf[piece.at..piece.at + piece.length];
            let file = self.filesystem.file(piece.ino)?;
            if !file.read_local(piece.offset, part) {
                if !std::mem::replace(is_missed, true) {
                    *reached = self.stream(*ino).miss(piece.ino, passed.is_some());
                }
                let Some(give_up) = give_up else { return Ok(false) };
                file.read_for(reached.take(), piece.offset, part, give_up)?;
            }
            *done += 1;
        }
        Ok(true)
    }

    /// Notes that a read has to wait, for the first file that is missed.
    fn wait(&self, reading: &Reading) -> Option<Waiting> {
        let device = self.device(reading.ino).ok()?;
        let mut pieces = device.pieces(self.filesystem.tree(), reading.offset, reading.buf.len());
        let missed = pieces.nth(reading.done)?;
        Some(self.requests.wait(&self.filesystem, missed.ino, missed.offset))
    }

    /// Says who comes to what next, if a read tells it.
    fn show(&self, client: u32, reading: &Reading) {
        let (Some(prefetcher), Ok(device)) =
            (self.prefetching.prefetcher.get(), self.device(reading.ino))
        else {
            return;
        };
        if let Some(below) = &reading.below {
            let number = (reading.ino - FIRST) as usize;
            prefetcher.descends(client, || self.stretches(number, device, below.clone()));
        }
        let length = reading.buf.len() as u64;
        let Some(passed) = &reading.passed else { return };
        if length < MIN_STRETCH_BYTES.into() || device.files_in(passed.clone()) < SURE {
            return;
        }
        let left = length / LEFT;
        let pieces = self.pieces(device, reading.offset + left..reading.offset + length);
        prefetcher
            .shown(client, pieces.filter(|piece| self.is_whole(piece)).map(|piece| piece.ino));
    }

    /// What is to be brought of a range before a reader comes to it from its end: all but a file in the
    /// middle, which tells when the reader is there.
    fn stretches(&self, number: usize, device: &Device, range: Range<u64>) -> Vec<DeviceRange> {
        let middle = range.start + (range.end - range.start) / 2;
        let first_half = self.pieces(device, range.start..middle);
        let is_left = |piece: &Piece| piece.length <= MAX_LEFT_BYTES && self.is_whole(piece);
        let left = first_half.filter(is_left).last().map_or(middle..middle, |piece| {
            let start = range.start + piece.at as u64;
            start..start + (piece.length as u64).next_multiple_of(BLOCK_BYTES)
        });
        // What is nearer comes first.
        let parts = [left.end..range.end, range.start..left.start];
        let stretch = |range: Range<u64>| {
            let part = |piece: Piece| (piece.ino, piece.offset..piece.offset + piece.length as u64);
            let parts = self.pieces(device, range.clone()).map(part).collect();
            DeviceRange { device: number, range, parts }
        };
        parts.into_iter().filter(|part| !part.is_empty()).map(stretch).collect()
    }

    fn pieces<'a>(
        &'a self,
        device: &'a Device,
        range: Range<u64>,
    ) -> impl Iterator<Item = Piece> + 'a {
        let length = range.end.saturating_sub(range.start);
        device.pieces(self.filesystem.tree(), range.start, length as usize)
    }

    /// Whether it is all of a file.
    fn is_whole(&self, piece: &Piece) -> bool {
        let size = self.filesystem.tree().attributes(piece.ino).size;
        piece.offset == 0 && piece.length as u64 == size
    }

    /// Whether the process with this number is the prefetcher.
    fn is_ahead(&self, pid: u32) -> bool {
        self.prefetching.prefetcher.get().is_some_and(|prefetcher| prefetcher.asks(pid))
    }
}

/// What of a device is one matter, as a power of two of bytes: a device has many files.
const PART_BITS: u32 = 22;

impl Watched for DeviceServer {
    fn part(&self, offset: u64) -> u64 {
        offset >> PART_BITS
    }

    fn place(&self, ino: INodeNo) -> String {
        format!("some bytes of device {}", ino.0)
    }

    fn requests(&self) -> &Requests {
        &self.0.requests
    }
}

impl FuseFilesystem for DeviceServer {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if config.set_max_background(MAX_BACKGROUND).is_err() {
            log::info!("the kernel keeps its own settings");
        }
        Ok(())
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _lookups: u64) {
        self.0.gate.pass();
    }

    fn lookup(&self, req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_ahead = self.0.is_ahead(req.pid());
        count(if is_ahead { &self.0.requests.ahead } else { &self.0.requests.lookup });
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        let ino = number.and_then(|number| number.checked_add(FIRST));
        match ino.ok_or(fs::Error::NotFound).and_then(|ino| self.0.attr(ino)) {
            Ok(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
            Err(e) => reply.error(refused("lookup", &e)),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        count(&self.0.requests.getattr);
        match self.0.attr(ino.0) {
            Ok(attr) => reply.attr(&FOREVER, &attr),
            Err(e) => reply.error(refused("getattr", &e)),
        }
    }

    fn open(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let is_ahead = self.0.is_ahead(req.pid());
        count(if is_ahead { &self.0.requests.ahead } else { &self.0.requests.open });
        if !is_ahead {
            self.0.prefetching.folder().open += 1;
        }
        reply.opened(
            if is_ahead { BROUGHT } else { USED },
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        );
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        file: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        if file == USED {
            let mut folder = self.0.prefetching.folder();
            folder.open = folder.open.saturating_sub(1);
            // EROFS has gone.
            let root = if folder.open == 0 { folder.root.take() } else { None };
            drop(folder);
            if let (Some(root), Some(prefetcher)) = (root, self.0.prefetching.prefetcher.get()) {
                drop(root);
                // It may have devices open, and be stopped.
                prefetcher.end();
            }
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let is_ahead = file == BROUGHT || self.0.is_ahead(req.pid());
        count(if is_ahead { &self.0.requests.ahead } else { &self.0.requests.read });
        let begun = self.0.begin(ino.0, file, offset, size, is_ahead).and_then(|mut reading| {
            let is_done = self.0.read(&mut reading, None)?;
            Ok((reading, is_done))
        });
        match begun {
            Ok((reading, true)) => {
                reply.data(&reading.buf);
                // Now that the kernel has the bytes.
                self.0.show(req.pid(), &reading);
            }
            // Not there any more. No reader waits for all of it: one that wants a part asks for that.
            Ok((_, false)) if file == BROUGHT => reply.error(Errno::EIO),
            Ok((_, false)) if self.0.requests.is_echo(ino, offset) => {
                reply.error(Errno::EIO);
            }
            Ok((mut reading, false)) => {
                let shared = Arc::clone(&self.0);
                // Waiting for a free thread counts too.
                let give_up = shared.filesystem.deadline();
                let waiting = shared.wait(&reading);
                self.1.run(move || {
                    let _waiting = waiting;
                    match shared.read(&mut reading, Some(give_up)) {
                        Ok(_) => reply.data(&reading.buf),
                        Err(e) => {
                            let range = offset..offset + u64::from(size);
                            reply.error(shared.requests.failed(ino, range, ECHOES, &e));
                        }
                    }
                });
            }
            Err(e) => reply.error(refused("read", &e)),
        }
    }
}
