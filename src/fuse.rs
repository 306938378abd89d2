//! The kernel's side: FUSE requests in, answers of [`crate::fs`] out. The only importer of
//! `fuser`.
//!
//! # Settings, and what each saves
//!
//! An image is immutable, so the kernel may remember everything. The first pass over a directory is
//! one or two READDIRPLUS and no LOOKUP or GETATTR at all; a second pass sends nothing.
//!
//! - `DO_READDIRPLUS` always (never `AUTO`, which stops after the first chunk): names come with
//!   attributes.
//! - Entries, attributes and absent names are valid practically for ever (`FOREVER`).
//! - OPEN and OPENDIR are answered ENOSYS once: the kernel then stops sending them, and keeps pages
//!   and directory listings as if `KEEP_CACHE` and `CACHE_DIR` had been set. FLUSH and ACCESS likewise,
//!   and LSEEK where no file of the image is sparse: the kernel then says itself that there are no holes. (Where one
//!   is, `bsdtar` costs three requests a file; `grep`, `cp` and `tar` ask only files with fewer blocks than their size has.)
//! - `CACHE_SYMLINKS`, `PARALLEL_DIROPS`; 1 MiB reads.
//! - `POSIX_ACL` where the kernel checks permissions and the image has extended attributes: ACLs
//!   then count, and the kernel remembers which files have none.
//! - Two loop threads over one descriptor: one may be held up by a page fault. A clone of the
//!   descriptor for each brought nothing (measured).
//!
//! # Extended attributes
//!
//! The kernel remembers no extended attributes, so each question for one is a request, each time. Only ENOSYS would end
//! them, where an image has none; but the kernel says EOPNOTSUPP from then on, as a file system that can't have any,
//! and not what a disk says of a file that has none: an empty list, and ENODATA. Tools take that for a
//! failure (`mkfs.erofs`, `getfattr`, containerd's copying), or warn at each file (`tar --xattrs`). So all questions
//! are answered. What walks and reads asks none (`find`, `grep -r`, `tar`, `diff -r`, `cp -r`). What asks, each time:
//!
//! - `ls -l`, two a file, for `security.selinux` and `system.posix_acl_access` (and a third of directories); `tar --xattrs`,
//!   `cp -a`, `rsync -X` and the makers of images, one for the list, which is empty for most.
//! - With `POSIX_ACL` those for ACLs come once a file. It is asked for where the kernel checks permissions and the image
//!   has any attributes. In others there would be nothing to check, and a question for each file that a user reads
//!   who does not own it, on the first pass over it.
//! - What a list has is what the caller can get: `caller`.
//!
//! (Rejected: EOPNOTSUPP for a label or an ACL where no file of an image has one. `ls` would ask once. But a disk
//! says ENODATA, and tools differ in what they make of EOPNOTSUPP.)
//!
//! # Other settings
//!
//! - `EXPORT_SUPPORT`: a file handle (name_to_handle_at(2), NFS, overlayfs with `nfs_export`) leads to its file after the
//!   kernel has dropped it from its caches too: it asks for the name `.` of it. Its number and generation are made from
//!   what it is ([`Tree::shown`](crate::tree::Tree::shown)), so that a handle from another image leads to the same file or to none.
//! - `ALLOW_IDMAP` (Linux 6.12) where the kernel checks permissions, which it asks for: the mount may be mounted
//!   once more with other owners (`MOUNT_ATTR_IDMAP` of mount_setattr(2)), as engines do for containers in user
//!   namespaces. Requests have no user and group from then on; nothing here looks at them.
//!
//! # Threads
//!
//! Loop threads answer what is in memory or in a local file. A read that has to be fetched is handed,
//! reply and all, to a pool, because a loop that waits is a mount that hangs.
//!
//! # Prefetch of walks
//!
//! What is left of the cost of a first pass is that its tool and this process wait for each other, so
//! requests are made ahead of it: by default by a process that asks as the walk will ([`prefetcher`]); on request a
//! thread gives the kernel small files instead (`fuse::pusher`).
//!
//! # What was left out
//!
//! Passthrough (Linux 6.9, root), where the kernel reads a file on disk in our place: contents lie in
//! spans of about 2 MiB that many files share, so that there is no file to hand over; and it needs an
//! OPEN for each file, which the kernel otherwise stops sending.
//!
//! # Mounting
//!
//! Where root asks for it, the kernel gets names and attributes as an image and asks for nothing but
//! blocks of contents: [`metadata`].
//!
//! Mounting is done in [`kernel`] and not by `fuser`, whose teardown in 0.18 may unmount what another
//! process has mounted there in the meantime.

mod caller;
mod devices;
pub mod erofs_mount;
mod failures;
pub mod kernel;
mod notify;
mod pool;
pub mod prefetcher;
mod pusher;

use std::cell::{Cell, LazyCell};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem as FuseFilesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};

use crate::fs::{self, Filesystem};
use crate::tree::{Attributes, BLOCK_BYTES, FileKind, Ino};
use prefetcher::Prefetcher;

/// How long the kernel may keep what it was told: longer than any machine runs.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Threads that read requests from the kernel.
const LOOP_THREADS: usize = 2;

/// Requests that the kernel may have under way in the background (readahead).
const MAX_BACKGROUND: u16 = 64;

/// lseek(2), in the numbers of Linux.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// How often the page cache makes a read again by itself that has [failed](failures).
const ECHOES: u32 = 1;

/// Reasons for EIO that are remembered.
const RECENT_ERRORS: usize = 8;

/// Begins the names of access control lists.
const ACLS: &[u8] = b"system.posix_acl_";

/// Owner and group that files are shown with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// As the image has it.
    #[default]
    Image,
    /// Everything belongs to this user and group.
    Squash {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// How a file system is served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whose the files are shown to be.
    pub ownership: Ownership,
    /// Whether it was mounted so that the kernel checks permissions.
    pub default_permissions: bool,
    /// What is done ahead of walks.
    pub prefetch: Prefetch,
}

/// How what a walk will ask for is given to the kernel before it asks.
#[derive(Clone, Debug, Default)]
pub enum Prefetch {
    /// Nothing.
    #[default]
    Off,
    /// This process gives the kernel small files before it asks for them.
    Push,
    /// A process of its own asks before the walk does.
    Process(prefetcher::Program, prefetcher::Place),
}

/// Requests that the kernel has sent, by kind.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "named after the FUSE requests they count")]
pub struct Requests {
    pub lookup: AtomicU64,
    pub getattr: AtomicU64,
    pub readlink: AtomicU64,
    pub open: AtomicU64,
    pub opendir: AtomicU64,
    pub read: AtomicU64,
    pub readdir: AtomicU64,
    pub readdirplus: AtomicU64,
    pub xattr: AtomicU64,
    pub statfs: AtomicU64,
    pub other: AtomicU64,
    /// Requests that were answered with EIO.
    pub errors: AtomicU64,
    /// Files that were given before they were asked for.
    pub pushed: AtomicU64,
    /// Requests of the prefetcher, of whatever kind, which are not among the others.
    pub ahead: AtomicU64,
    recent_errors: Mutex<VecDeque<String>>,
    failures: failures::Failures,
}

impl Requests {
    /// The last few reasons for EIO, oldest first.
    pub fn recent_errors(&self) -> Vec<String> {
        let errors = self.recent_errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().cloned().collect()
    }

    /// Logs and remembers that a read of these bytes failed, and why; what the kernel is told. It asks so many
    /// times [again](failures).
    fn failed(&self, ino: INodeNo, range: Range<u64>, echoes: u32, error: &fs::Error) -> Errno {
        self.failures.remember(ino.0, range, echoes, Instant::now());
        count(&self.errors);
        log::error!("{error}");
        let mut errors = self.recent_errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == RECENT_ERRORS {
            errors.pop_front();
        }
        errors.push_back(error.to_string());
        Errno::from_i32(error.errno().raw_os_error())
    }

    /// Whether this is only the kernel that asks [again](failures) for what has just failed.
    fn is_echo(&self, ino: INodeNo, offset: u64) -> bool {
        let is_echo = self.failures.is_echo(ino.0, offset, Instant::now());
        if is_echo {
            count(&self.errors);
        }
        is_echo
    }

    /// Names and counts, in a fixed order.
    pub fn counts(&self) -> [(&'static str, u64); 12] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("lookup", get(&self.lookup)),
            ("getattr", get(&self.getattr)),
            ("readlink", get(&self.readlink)),
            ("open", get(&self.open)),
            ("opendir", get(&self.opendir)),
            ("read", get(&self.read)),
            ("readdir", get(&self.readdir)),
            ("readdirplus", get(&self.readdirplus)),
            ("xattr", get(&self.xattr)),
            ("statfs", get(&self.statfs)),
            ("other", get(&self.other)),
            ("errors", get(&self.errors)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Serves a file system on a mounted `/dev/fuse` descriptor until it is unmounted.
///
/// Returns once the kernel has accepted the connection; the requests are answered by threads of
/// their own, which [`Server::wait`] joins.
///
/// # Errors
/// The kernel's first request does not come, or its version is too old.
pub fn serve(
    device: OwnedFd,
    filesystem: Arc<Filesystem>,
    options: &Options,
    requests: Arc<Requests>,
) -> io::Result<Server> {
    let (guide, queue) = match &options.prefetch {
        Prefetch::Off => (None, None),
        Prefetch::Push => {
            let (pusher, queue) = pusher::channel();
            (Some(Guide::Pusher(pusher)), Some(queue))
        }
        Prefetch::Process(program, place) => {
            let started = Prefetcher::start(&filesystem, program.clone(), Ok(place.clone()));
            (started.map(Guide::Prefetcher), None)
        }
    };
    // An ACL that names users whom the namespace lacks would make a file unusable.
    let acl =
        filesystem.tree().has_xattrs() && options.default_permissions && kernel::has_all_ids();
    let adapter = Adapter {
        callers: caller::Callers::new(),
        has_sparse_files: filesystem.tree().has_sparse_files(),
        default_permissions: options.default_permissions,
        acl,
        hides_acls: !acl && kernel::is_in_user_namespace(),
        opens_directories: false,
        filesystem: Arc::clone(&filesystem),
        ownership: options.ownership,
        requests: Arc::clone(&requests),
        pool: pool::Pool::default(),
        guide: guide.map(Arc::new),
    };
    let notifier = queue.is_some().then(|| notify::Notifier::new(&device)).transpose()?;
    let server = start(adapter, device, LOOP_THREADS)?;
    if let Some((queue, notifier)) = queue.zip(notifier) {
        // It ends with the session, which owns the other end of its queue.
        queue.serve(filesystem, notifier, move || count(&requests.pushed))?;
    }
    Ok(server)
}

/// Accepts a connection and answers its requests, on so many threads.
fn start(adapter: impl FuseFilesystem, device: OwnedFd, threads: usize) -> io::Result<Server> {
    let mut config = Config::default();
    config.n_threads = Some(threads);
    // The kernel decides who may come in (`allow_other`); fuser need not check again.
    let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
    let thread = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
    Ok(Server { thread })
}

thread_local! {
    /// What is read on its way to the kernel: no longer than the kernel asks for, at most
    /// [`kernel::MAX_READ_BYTES`].
    static CONTENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A served mount.
#[derive(Debug)]
pub struct Server {
    thread: std::thread::JoinHandle<io::Result<()>>,
}

impl Server {
    /// Waits until the file system has been unmounted, by this process or another.
    ///
    /// # Errors
    /// The connection broke.
    pub fn wait(self) -> io::Result<()> {
        match self.thread.join() {
            // An aborted connection (`/sys/fs/fuse/connections/N/abort`) is an end like another.
            Ok(Err(e))
                if e.raw_os_error() == Some(rustix::io::Errno::CONNABORTED.raw_os_error()) =>
            {
                Ok(())
            }
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a FUSE thread died")),
        }
    }
}

#[derive(Debug)]
struct Adapter {
    filesystem: Arc<Filesystem>,
    ownership: Ownership,
    requests: Arc<Requests>,
    callers: caller::Callers,
    has_sparse_files: bool,
    /// Whether the kernel checks permissions.
    default_permissions: bool,
    /// Whether the kernel checks access control lists.
    acl: bool,
    /// Whether the kernel does not let ACLs be read, as in a user namespace where it does not check them.
    hides_acls: bool,
    /// Whether the kernel insists on opening directories.
    opens_directories: bool,
    pool: pool::Pool,
    guide: Option<Arc<Guide>>,
}

/// Whom walks are told.
#[derive(Debug)]
enum Guide {
    Pusher(pusher::Pusher),
    Prefetcher(Prefetcher),
}

impl Guide {
    /// Whether the process with this number asks for us.
    fn asks(&self, pid: u32) -> bool {
        match self {
            Guide::Pusher(_) => false,
            Guide::Prefetcher(prefetcher) => prefetcher.asks(pid),
        }
    }

    /// The process with this number lists a directory from its start: the sooner it is known, the less
    /// the prefetcher meets it there.
    fn before_listing(&self, pid: u32, dir: Ino) {
        match self {
            Guide::Pusher(_) => {}
            Guide::Prefetcher(prefetcher) => prefetcher.listed(pid, dir),
        }
    }

    /// The kernel has the listing of a directory from its start.
    fn after_listing(&self, dir: Ino) {
        match self {
            Guide::Pusher(pusher) => pusher.listed(dir),
            Guide::Prefetcher(_) => {}
        }
    }

    /// It has read the start of a file.
    fn read(&self, pid: u32, file: Ino) {
        match self {
            Guide::Pusher(pusher) => pusher.read(file),
            Guide::Prefetcher(prefetcher) => prefetcher.read(pid, file),
        }
    }

    /// It has read a symlink.
    fn followed(&self, pid: u32) {
        match self {
            Guide::Pusher(_) => {}
            Guide::Prefetcher(prefetcher) => prefetcher.followed(pid),
        }
    }
}

impl Adapter {
    fn attr(&self, a: &Attributes) -> FileAttr {
        let mtime = system_time(a.mtime_seconds, a.mtime_nanoseconds);
        let (uid, gid) = match self.ownership {
            Ownership::Image => (a.uid, a.gid),
            Ownership::Squash { uid, gid } => (uid, gid),
        };
        FileAttr {
            ino: INodeNo(self.filesystem.tree().shown(a.ino).number),
            size: a.size,
            blocks: a.blocks,
            atime: mtime,
            mtime,
            ctime: mtime,
            crtime: mtime,
            kind: match a.kind {
                FileKind::Regular => FileType::RegularFile,
                FileKind::Directory => FileType::Directory,
                FileKind::Symlink => FileType::Symlink,
                FileKind::CharDevice => FileType::CharDevice,
                FileKind::BlockDevice => FileType::BlockDevice,
                FileKind::Fifo => FileType::NamedPipe,
            },
            perm: a.mode,
            nlink: a.nlink,
            uid,
            gid,
            rdev: a.encoded_device(),
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        }
    }

    fn generation(&self, ino: Ino) -> Generation {
        Generation(self.filesystem.tree().shown(ino).generation.into())
    }

    fn ino(&self, ino: INodeNo) -> Result<Ino, fs::Error> {
        self.filesystem.ino(ino.0)
    }

    /// Counts a request: those of the prefetcher by themselves, as no reader waits for them.
    fn count(&self, request: &Request, counter: &AtomicU64) {
        let is_ahead = self.guide.as_ref().is_some_and(|guide| guide.asks(request.pid()));
        count(if is_ahead { &self.requests.ahead } else { counter });
    }
}

/// The errno of an error that is the caller's doing.
fn refused(operation: &str, error: &fs::Error) -> Errno {
    log::debug!("{operation}: {error}");
    Errno::from_i32(error.errno().raw_os_error())
}

fn system_time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = match seconds >= 0 {
        true => UNIX_EPOCH.checked_add(whole),
        false => UNIX_EPOCH.checked_sub(whole),
    };
    base.and_then(|t| t.checked_add(Duration::from_nanos(nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

/// Methods of [`FuseFilesystem`] that change something, by the types of their arguments behind the request.
macro_rules! refuse_changes {
    ($($method:ident($($argument:ty),*) -> $reply:ty;)*) => {$(
        fn $method(&self, _: &Request, $(_: $argument,)* reply: $reply) {
            reply.error(Errno::EROFS);
        }
    )*};
}

impl FuseFilesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_EXPORT_SUPPORT,
        ];
        let acl = self.acl.then_some(InitFlags::FUSE_POSIX_ACL);
        let idmap = self.default_permissions.then_some(InitFlags::FUSE_ALLOW_IDMAP);
        for flag in wanted.into_iter().chain(acl).chain(idmap) {
            // An old kernel without one of them is slower, not wrong.
            if config.add_capabilities(flag).is_err() {
                log::info!("the kernel does not know {flag:?}");
            }
        }
        // Before Linux 5.1 a directory has to be opened.
        self.opens_directories =
            config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).is_err();
        if config.set_max_background(MAX_BACKGROUND).is_err() {
            log::info!("the kernel keeps its own limit of background requests");
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(req, &self.requests.lookup);
        let found = self.ino(parent).and_then(|dir| self.filesystem.lookup(dir, name.as_bytes()));
        match found {
            Ok(attributes) => {
                let generation = self.generation(attributes.ino);
                reply.entry(&FOREVER, &self.attr(&attributes), generation);
            }
            // An entry with inode 0 tells the kernel to remember that there is none.
            Err(fs::Error::NotFound) => {
                let mut absent = self.attr(&self.filesystem.tree().attributes(Ino::ROOT));
                absent.ino = INodeNo(0);
                reply.entry(&FOREVER, &absent, Generation(0));
            }
            Err(e) => reply.error(refused("lookup", &e)),
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.count(req, &self.requests.getattr);
        match self.ino(ino) {
            Ok(ino) => {
                let attributes = self.filesystem.tree().attributes(ino);
                reply.attr(&FOREVER, &self.attr(&attributes));
            }
            Err(e) => reply.error(refused("getattr", &e)),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.count(req, &self.requests.readlink);
        self.guide.as_ref().inspect(|guide| guide.followed(req.pid()));
        match self.ino(ino).and_then(|ino| self.filesystem.read_link(ino)) {
            Ok(target) => reply.data(target),
            Err(e) => reply.error(refused("readlink", &e)),
        }
    }

    fn open(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(req, &self.requests.open);
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(req, &self.requests.opendir);
        match self.opens_directories {
            // What later kernels take for granted when they are told that it need not be opened.
            true => {
                let keeps = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
                reply.opened(FileHandle(0), keeps);
            }
            false => reply.error(Errno::ENOSYS),
        }
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
        self.count(req, &self.requests.read);
        let mut content = CONTENT.take();
        let found = self.ino(ino).and_then(|ino| {
            let length = self.filesystem.readable(ino, offset, size as usize)?;
            content.resize(length.max(content.len()), 0);
            let is_ready = self.filesystem.read_local(ino, offset, &mut content[..length])?;
            Ok((ino, length, is_ready))
        });
        // Before the answer: its reader is the next to want a processor.
        let (pid, guide) = (req.pid(), self.guide.as_ref().filter(|_| offset == 0));
        match found {
            Ok((ino, length, true)) => {
                guide.inspect(|guide| guide.read(pid, ino));
                reply.data(&content[..length]);
            }
            Ok((_, _, false)) if self.requests.is_echo(ino, offset) => {
                reply.error(Errno::EIO);
            }
            Ok((file, length, false)) => {
                let (filesystem, requests) = (self.filesystem.clone(), self.requests.clone());
                let guide = guide.cloned();
                // Waiting for a free thread counts too.
                let give_up = filesystem.deadline();
                self.pool.run(move || {
                    let mut buf = vec![0; length];
                    match filesystem.read(file, offset, &mut buf, give_up) {
                        Ok(()) => {
                            guide.inspect(|guide| guide.read(pid, file));
                            reply.data(&buf);
                        }
                        Err(e) => {
                            let range = offset..offset + length as u64;
                            reply.error(requests.failed(ino, range, ECHOES, &e));
                        }
                    }
                });
            }
            Err(e) => reply.error(refused("read", &e)),
        }
        CONTENT.set(content);
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.count(req, &self.requests.readdir);
        let rows = self.ino(ino).and_then(|dir| self.filesystem.read_dir(dir, offset));
        match rows {
            Ok(rows) => {
                for (row, next) in rows.zip(offset + 1..) {
                    let attr = self.attr(&self.filesystem.tree().attributes(row.ino));
                    let name = OsStr::from_bytes(row.name);
                    if reply.add(attr.ino, next, attr.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(e) => reply.error(refused("readdir", &e)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.count(req, &self.requests.readdirplus);
        let rows = self.ino(ino).and_then(|dir| self.filesystem.read_dir(dir, offset));
        match rows {
            Ok(rows) => {
                for (row, next) in rows.zip(offset + 1..) {
                    let attr = self.attr(&self.filesystem.tree().attributes(row.ino));
                    let name = OsStr::from_bytes(row.name);
                    let generation = self.generation(row.ino);
                    if reply.add(attr.ino, next, name, &FOREVER, &attr, generation) {
                        break;
                    }
                }
                let dir = self.ino(ino).ok().filter(|_| offset == 0);
                let told = self.guide.as_ref().zip(dir);
                told.inspect(|(guide, dir)| guide.before_listing(req.pid(), *dir));
                reply.ok();
                told.inspect(|(guide, dir)| guide.after_listing(*dir));
            }
            Err(e) => reply.error(refused("readdirplus", &e)),
        }
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.count(req, &self.requests.statfs);
        let totals = self.filesystem.totals();
        let block = BLOCK_BYTES as u32;
        let blocks = totals.bytes.div_ceil(BLOCK_BYTES);
        reply.statfs(blocks, 0, 0, totals.inodes, 0, block, 255, block);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.count(req, &self.requests.xattr);
        let value = self.ino(ino).and_then(|ino| self.filesystem.xattr(ino, name.as_bytes()));
        match value {
            Ok(value) => xattr_answer(reply, size, value),
            Err(e) => reply.error(refused("getxattr", &e)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.count(req, &self.requests.xattr);
        let gets_trusted = LazyCell::new(|| self.callers.get_trusted(req.pid()));
        let is_shown = |name: &[u8]| match name.starts_with(caller::TRUSTED) {
            true => *gets_trusted,
            false => !(self.hides_acls && name.starts_with(ACLS)),
        };
        match self.ino(ino) {
            Ok(ino) => xattr_answer(reply, size, &self.filesystem.xattr_names(ino, is_shown)),
            Err(e) => reply.error(refused("listxattr", &e)),
        }
    }

    fn access(&self, req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.count(req, &self.requests.other);
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.count(req, &self.requests.other);
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.count(req, &self.requests.other);
        if !self.has_sparse_files {
            return reply.error(Errno::ENOSYS);
        }
        let seek = match whence {
            SEEK_DATA => fs::Seek::Data,
            SEEK_HOLE => fs::Seek::Hole,
            // The kernel answers the others itself.
            _ => return reply.error(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| fs::Error::Beyond);
        let found = offset.and_then(|offset| self.filesystem.seek(self.ino(ino)?, seek, offset));
        match found.map(i64::try_from) {
            Ok(Ok(found)) => reply.offset(found),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(e) => reply.error(refused("lseek", &e)),
        }
    }

    // What would change something comes here only after `mount -i -o remount,rw`, which changes the kernel's
    // mind about the mount and not the image.
    refuse_changes! {
        setattr(
            INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>,
            Option<TimeOrNow>, Option<SystemTime>, Option<FileHandle>, Option<SystemTime>,
            Option<SystemTime>, Option<SystemTime>, Option<BsdFileFlags>
        ) -> ReplyAttr;
        mknod(INodeNo, &OsStr, u32, u32, u32) -> ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) -> ReplyEntry;
        unlink(INodeNo, &OsStr) -> ReplyEmpty;
        rmdir(INodeNo, &OsStr) -> ReplyEmpty;
        symlink(INodeNo, &OsStr, &Path) -> ReplyEntry;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) -> ReplyEmpty;
        link(INodeNo, INodeNo, &OsStr) -> ReplyEntry;
        create(INodeNo, &OsStr, u32, u32, i32) -> ReplyCreate;
        write(INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags, Option<LockOwner>) -> ReplyWrite;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) -> ReplyEmpty;
        removexattr(INodeNo, &OsStr) -> ReplyEmpty;
        fallocate(INodeNo, FileHandle, u64, u64, i32) -> ReplyEmpty;
        copy_file_range(
            INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags
        ) -> ReplyWrite;
    }
}

/// The protocol of xattr calls: a size of 0 asks how much there is.
fn xattr_answer(reply: ReplyXattr, size: u32, value: &[u8]) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > size as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch() {
        let half = system_time(-2, 500_000_000);
        assert_eq!(UNIX_EPOCH.duration_since(half).ok(), Some(Duration::from_millis(1500)));
        assert_eq!(system_time(i64::MAX, 1_999_999_999), UNIX_EPOCH, "what does not fit");
    }
}
