//! What `fuser` calls: every request by way of here, to the file system that answers it.
//!
//! A panic ends the request, with EIO, and not the thread ([`caught`]). And a request that has ended several processes does
//! not come to the next one ([`Suspects`]).

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem as FuseFilesystem,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::panics::caught;
use super::requests::Requests;
use super::suspects::{Entry, Subject, Suspects};

/// What a guarded file system has to tell of its requests.
pub(super) trait Watched: FuseFilesystem {
    /// The part of a file that a read at this offset is about, where files are so large that they are not one matter.
    fn part(&self, _offset: u64) -> u64 {
        0
    }

    /// What a number is, for people.
    fn place(&self, ino: INodeNo) -> String;

    /// Where what is refused is counted.
    fn requests(&self) -> &Requests;
}

/// A file system of `fuser` whose panics end one request, with EIO, and not the thread that answers; and that refuses
/// what has ended several processes.
#[derive(Debug)]
pub(super) struct Guarded<F> {
    pub(super) inner: F,
    pub(super) suspects: Option<Arc<Suspects>>,
}

impl<F: Watched> Guarded<F> {
    /// Begins to answer a request of a method about an inode; `None` if it is refused.
    fn enter(&self, method: &str, ino: INodeNo, part: u64) -> Option<Entry> {
        let Some(suspects) = &self.suspects else { return Some(Entry::Free) };
        match suspects.enter(|| Subject::new(method, ino.0, part)) {
            Entry::Refused => {
                let place = self.inner.place(ino);
                let text = format!(
                    "{method} of {place} has ended several processes that served the mount: it is refused"
                );
                self.inner.requests().refuse(text);
                None
            }
            entry => Some(entry),
        }
    }
}

/// Methods of [`FuseFilesystem`] by their arguments between the request and the reply: all that there are, so that none
/// which the inner file system has is missed.
macro_rules! guard {
    ($($method:ident($ino:ident: INodeNo $(, $argument:ident: $type:ty)*) -> $reply:ty;)*) => {$(
        fn $method(&self, request: &Request, $ino: INodeNo, $($argument: $type,)* reply: $reply) {
            match self.enter(stringify!($method), $ino, 0) {
                Some(_entry) => {
                    caught(|| self.inner.$method(request, $ino, $($argument,)* reply));
                }
                None => reply.error(Errno::EIO),
            }
        }
    )*};
}

impl<F: Watched> FuseFilesystem for Guarded<F> {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let Guarded { inner, .. } = self;
        let started = caught(|| inner.init(request, config));
        started.unwrap_or_else(|| Err(io::Error::other("a panic at the kernel's first request")))
    }

    fn destroy(&mut self) {
        let Guarded { inner, .. } = self;
        caught(|| inner.destroy());
    }

    // Several at once come one by one: what fuser hands over otherwise has a private type.
    fn forget(&self, request: &Request, ino: INodeNo, lookups: u64) {
        caught(|| self.inner.forget(request, ino, lookups));
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.enter("read", ino, self.inner.part(offset)) {
            Some(_entry) => {
                caught(|| self.inner.read(request, ino, file, offset, size, flags, owner, reply));
            }
            None => reply.error(Errno::EIO),
        }
    }

    guard! {
        lookup(parent: INodeNo, name: &OsStr) -> ReplyEntry;
        getattr(ino: INodeNo, file: Option<FileHandle>) -> ReplyAttr;
        setattr(
            ino: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>,
            atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>, ctime: Option<SystemTime>,
            file: Option<FileHandle>, crtime: Option<SystemTime>, chgtime: Option<SystemTime>,
            bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>
        ) -> ReplyAttr;
        readlink(ino: INodeNo) -> ReplyData;
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32) -> ReplyEntry;
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32) -> ReplyEntry;
        unlink(parent: INodeNo, name: &OsStr) -> ReplyEmpty;
        rmdir(parent: INodeNo, name: &OsStr) -> ReplyEmpty;
        symlink(parent: INodeNo, name: &OsStr, target: &Path) -> ReplyEntry;
        rename(
            parent: INodeNo, name: &OsStr, to: INodeNo, new_name: &OsStr, flags: RenameFlags
        ) -> ReplyEmpty;
        link(ino: INodeNo, parent: INodeNo, name: &OsStr) -> ReplyEntry;
        open(ino: INodeNo, flags: OpenFlags) -> ReplyOpen;
        write(
            ino: INodeNo, file: FileHandle, offset: u64, data: &[u8], how: WriteFlags,
            flags: OpenFlags, owner: Option<LockOwner>
        ) -> ReplyWrite;
        flush(ino: INodeNo, file: FileHandle, owner: LockOwner) -> ReplyEmpty;
        release(
            ino: INodeNo, file: FileHandle, flags: OpenFlags, owner: Option<LockOwner>, flush: bool
        ) -> ReplyEmpty;
        fsync(ino: INodeNo, file: FileHandle, data_only: bool) -> ReplyEmpty;
        opendir(ino: INodeNo, flags: OpenFlags) -> ReplyOpen;
        readdir(ino: INodeNo, file: FileHandle, offset: u64) -> ReplyDirectory;
        readdirplus(ino: INodeNo, file: FileHandle, offset: u64) -> ReplyDirectoryPlus;
        releasedir(ino: INodeNo, file: FileHandle, flags: OpenFlags) -> ReplyEmpty;
        fsyncdir(ino: INodeNo, file: FileHandle, data_only: bool) -> ReplyEmpty;
        statfs(ino: INodeNo) -> ReplyStatfs;
        setxattr(ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32) -> ReplyEmpty;
        getxattr(ino: INodeNo, name: &OsStr, size: u32) -> ReplyXattr;
        listxattr(ino: INodeNo, size: u32) -> ReplyXattr;
        removexattr(ino: INodeNo, name: &OsStr) -> ReplyEmpty;
        access(ino: INodeNo, mask: AccessFlags) -> ReplyEmpty;
        create(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32) -> ReplyCreate;
        getlk(
            ino: INodeNo, file: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32,
            pid: u32
        ) -> ReplyLock;
        setlk(
            ino: INodeNo, file: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32,
            pid: u32, sleep: bool
        ) -> ReplyEmpty;
        bmap(ino: INodeNo, block_bytes: u32, block: u64) -> ReplyBmap;
        ioctl(
            ino: INodeNo, file: FileHandle, flags: IoctlFlags, command: u32, data: &[u8], size: u32
        ) -> ReplyIoctl;
        poll(
            ino: INodeNo, file: FileHandle, notifier: PollNotifier, events: PollEvents,
            flags: PollFlags
        ) -> ReplyPoll;
        fallocate(
            ino: INodeNo, file: FileHandle, offset: u64, length: u64, mode: i32
        ) -> ReplyEmpty;
        lseek(ino: INodeNo, file: FileHandle, offset: i64, whence: i32) -> ReplyLseek;
        copy_file_range(
            ino: INodeNo, file: FileHandle, offset: u64, to: INodeNo, to_file: FileHandle,
            to_offset: u64, length: u64, flags: CopyFileRangeFlags
        ) -> ReplyWrite;
    }
}
