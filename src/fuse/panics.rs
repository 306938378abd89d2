//! Panics of threads: logged with their place, counted, and never the end of a mount.
//!
//! # Problem
//!
//! A panic is a defect of this program. It ends its thread, and a mount whose threads have ended answers nobody: readers
//! hang. In the background nothing is printed anywhere, so the defect is never heard of either.
//!
//! # Design
//!
//! Panics unwind ([`caught`] stops them) where a request is answered and where a thread serves more than one thing: the
//! loops of a connection (`Guarded`), the pool, the status socket. What was to be answered is dropped
//! on the way, and dropping a reply of `fuser` answers EIO. Threads that fetch hand the end of theirs on as an error of their own
//! (`blob::fetch`). The hook of [`watch`] runs before that, for every thread, and knows the place.
//!
//! Rejected: to abort, and have another process take over. That answers the same request again, which panics again.
//!
//! Invariants: the hook takes no lock that a thread holds while it may panic. State behind a lock is whole at each point
//! where a thread may panic, so locks are taken whether they are poisoned or not.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsStr;
use std::io;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem as FuseFilesystem,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

/// Panics of this process since [`watch`].
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The last of them.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Logs and counts panics of all threads from now on, in place of what the standard library prints.
pub fn watch() {
    panic::set_hook(Box::new(|info| {
        let text = describe(info);
        COUNT.fetch_add(1, Ordering::Relaxed);
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => log::error!("{text}\n{trace}"),
            _ => log::error!("{text}"),
        }
    }));
}

/// How many panics there were since [`watch`], and the last of them with its place.
pub fn seen() -> (u64, Option<String>) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (COUNT.load(Ordering::Relaxed), last)
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = info.location().map_or("an unknown place".to_owned(), ToString::to_string);
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    format!("a defect of ocifs: thread `{name}` panicked at {place}: {message}")
}

/// Does something, and goes on if it panics: then there is no result. Whatever it has borrowed may be half changed, so it
/// is for what answers one request and hands on nothing else.
pub fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(act)).ok()
}

/// A file system of `fuser` whose panics end one request, with EIO, and not the thread that answers.
#[derive(Debug)]
pub(super) struct Guarded<F>(pub(super) F);

/// Methods of [`FuseFilesystem`] by their arguments between the request and the reply: all that there are, so that none
/// which the inner file system has is missed.
macro_rules! guard {
    ($($method:ident($($argument:ident: $type:ty),*) -> $reply:ty;)*) => {$(
        fn $method(&self, request: &Request, $($argument: $type,)* reply: $reply) {
            caught(|| self.0.$method(request, $($argument,)* reply));
        }
    )*};
}

impl<F: FuseFilesystem> FuseFilesystem for Guarded<F> {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let Guarded(inner) = self;
        let started = caught(|| inner.init(request, config));
        started.unwrap_or_else(|| Err(io::Error::other("a panic at the kernel's first request")))
    }

    fn destroy(&mut self) {
        let Guarded(inner) = self;
        caught(|| inner.destroy());
    }

    // Several at once come one by one: what fuser hands over otherwise has a private type.
    fn forget(&self, request: &Request, ino: INodeNo, lookups: u64) {
        caught(|| self.0.forget(request, ino, lookups));
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
        read(
            ino: INodeNo, file: FileHandle, offset: u64, size: u32, flags: OpenFlags,
            owner: Option<LockOwner>
        ) -> ReplyData;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_with_its_place() {
        let usual = panic::take_hook();
        watch();
        let before = seen().0;
        assert_eq!(caught(|| 1), Some(1));
        let is_last = || {
            let thread = std::thread::Builder::new().name("broken".into());
            let none = thread.spawn(|| caught(|| -> u32 { panic!("as the test wants it") }));
            assert_eq!(none.unwrap().join().unwrap(), None, "the thread goes on");
            let (count, last) = seen();
            assert!(count > before);
            last.unwrap().contains("`broken` panicked at src/fuse/panics.rs:")
        };
        // Other tests may panic in between, as they want to.
        let is_told = (0..100).any(|_| is_last());
        panic::set_hook(usual);
        assert!(is_told);
    }
}
