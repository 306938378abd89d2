//! FUSE requests in, answers of [`crate::fs`] out.

use std::cell::{Cell, LazyCell};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem as FuseFilesystem,
    FopenFlags, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answers;
use super::browsed::{self, Browsed};
use super::caller::{self, Callers};
use super::gate::Gate;
use super::guarded::Watched;
use super::guide::Guide;
use super::kernel;
use super::options::{Ownership, ServeOptions};
use super::pool::Pool;
use super::reply::{ECHOES, FOREVER, refused, xattr_answer};
use super::requests::{Requests, count};
use super::session::MAX_BACKGROUND;
use crate::fs::{self, Filesystem};
use crate::space::{Found, Later, Space, Volume};
use crate::tree::{BLOCK_BYTES, Ino, Tree};

/// lseek(2), in the numbers of Linux.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Begins the names of access control lists.
const ACLS: &[u8] = b"system.posix_acl_";

thread_local! {
    /// What is read on its way to the kernel: no longer than the kernel asks for, at most
    /// [`kernel::MAX_READ_BYTES`].
    static CONTENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A space, for `fuser`.
#[derive(Debug)]
pub(super) struct Adapter {
    space: Space,
    ownership: Ownership,
    requests: Arc<Requests>,
    callers: Callers,
    has_sparse_files: bool,
    /// Whether the kernel checks permissions.
    default_permissions: bool,
    /// Whether the kernel checks access control lists.
    acl: bool,
    /// Whether the kernel does not let ACLs be read, as in a user namespace where it does not check them.
    hides_acls: bool,
    /// Whether the kernel insists on opening directories.
    opens_directories: bool,
    pool: Pool,
    guide: Option<Arc<Guide>>,
    gate: Arc<Gate>,
    /// Where names are looked up.
    browsed: Option<Browsed>,
}

impl Adapter {
    pub(super) fn new(
        space: Space,
        options: &ServeOptions,
        requests: &Arc<Requests>,
        guide: Option<Guide>,
        gate: &Arc<Gate>,
    ) -> Adapter {
        // Of images that will be opened nothing is known.
        let tree = space.root().map(|root| root.filesystem().tree());
        let default_permissions = options.default_permissions;
        // An ACL that names users whom the namespace lacks would make a file unusable.
        let has_xattrs = tree.is_none_or(Tree::has_xattrs);
        let acl = has_xattrs && default_permissions && kernel::has_all_ids();
        let browsed = space.directories();
        Adapter {
            callers: Callers::new(),
            has_sparse_files: tree.is_none_or(Tree::has_sparse_files),
            browsed: browsed.map(|found| Browsed::new(found, options.ownership, requests)),
            default_permissions,
            acl,
            hides_acls: !acl && kernel::is_in_user_namespace(),
            opens_directories: false,
            space,
            ownership: options.ownership,
            requests: Arc::clone(requests),
            pool: Pool::default(),
            guide: guide.map(Arc::new),
            gate: Arc::clone(gate),
        }
    }

    /// What a number leads to; what may have to be waited for is answered elsewhere.
    fn find(&self, ino: INodeNo) -> Result<Found<'_>, fs::Error> {
        self.space.find(ino.0)
    }

    /// Where names are looked up; only that has inodes that are there later.
    fn browsed(&self) -> &Browsed {
        self.browsed.as_ref().expect("names are looked up")
    }

    /// Counts a request: those of the prefetcher by themselves, as no reader waits for them.
    fn count(&self, request: &Request, counter: &AtomicU64) {
        let is_ahead = self.guide.as_ref().is_some_and(|guide| guide.asks(request.pid()));
        count(if is_ahead { &self.requests.ahead } else { counter });
    }
}

impl Watched for Adapter {
    fn place(&self, ino: INodeNo) -> String {
        match self.find(ino) {
            Ok(Found::File(volume, file)) => {
                format!("/{}", String::from_utf8_lossy(&volume.filesystem().tree().path(file)))
            }
            _ => format!("inode {}", ino.0),
        }
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }
}

/// What becomes of a read.
enum Reading {
    /// It is there, in the buffer.
    Ready { file: Ino, length: usize },
    /// It has to be fetched.
    Missing { filesystem: Arc<Filesystem>, file: Ino, length: usize },
    /// It is in memory.
    Document(Arc<[u8]>),
    /// Its volume has to be opened.
    Later(Later),
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

    fn forget(&self, _req: &Request, _ino: INodeNo, _lookups: u64) {
        self.gate.pass();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(req, &self.requests.lookup);
        match self.find(parent) {
            Ok(Found::File(volume, dir)) => {
                answers::lookup(self.ownership, &volume, dir, name, reply);
            }
            Ok(Found::Document(..) | Found::Symlink(..)) => reply.error(Errno::ENOTDIR),
            Ok(Found::Later(parent)) => self.browsed().lookup(parent, name.to_owned(), reply),
            Err(e) => reply.error(refused("lookup", &e)),
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.count(req, &self.requests.getattr);
        match self.find(ino) {
            Ok(Found::File(volume, ino)) => {
                reply.attr(&FOREVER, &answers::attr_of(self.ownership, &volume, ino));
            }
            Ok(Found::Document(number, _)) => self.browsed().document(number, reply),
            Ok(Found::Symlink(number, _)) => self.browsed().symlink(number, reply),
            Ok(Found::Later(of)) => self.browsed().getattr(of, reply),
            Err(e) => reply.error(refused("getattr", &e)),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.count(req, &self.requests.readlink);
        self.guide.as_ref().inspect(|guide| guide.followed(req.pid()));
        let answer =
            |volume: &Volume, ino, reply: ReplyData| match volume.filesystem().read_link(ino) {
                Ok(target) => reply.data(target),
                Err(e) => reply.error(refused("readlink", &e)),
            };
        match self.find(ino) {
            Ok(Found::File(volume, ino)) => answer(&volume, ino, reply),
            Ok(Found::Later(Later::Closed { volume, number })) => {
                self.browsed().opened(volume, number, reply, answer, ReplyData::error);
            }
            Ok(Found::Symlink(_, target)) => reply.data(&target),
            Ok(Found::Document(..) | Found::Later(Later::Directory(_) | Later::Document(_))) => {
                reply.error(Errno::EINVAL);
            }
            Err(e) => reply.error(refused("readlink", &e)),
        }
    }

    fn open(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(req, &self.requests.open);
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(req, &self.requests.opendir);
        if let Ok(Found::Later(Later::Directory(_))) = self.find(ino) {
            // What is listed there changes.
            return reply.opened(FileHandle(0), FopenFlags::empty());
        }
        match self.opens_directories || self.browsed.is_some() {
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
        let found = self.find(ino).and_then(|found| {
            let (volume, ino) = match found {
                Found::File(volume, ino) => (volume, ino),
                Found::Document(_, bytes) => return Ok(Reading::Document(bytes)),
                Found::Symlink(..) => return Err(fs::Error::WrongKind),
                Found::Later(later) => return Ok(Reading::Later(later)),
            };
            let file = volume.filesystem().file(ino)?;
            let length = file.readable(offset, size as usize);
            content.resize(length.max(content.len()), 0);
            let is_ready = file.read_local(offset, &mut content[..length]);
            Ok(match is_ready {
                true => Reading::Ready { file: ino, length },
                false => Reading::Missing {
                    filesystem: Arc::clone(volume.filesystem()),
                    file: ino,
                    length,
                },
            })
        });
        // Before the answer: its reader is the next to want a processor.
        let (pid, guide) = (req.pid(), self.guide.as_ref().filter(|_| offset == 0));
        match found {
            Ok(Reading::Ready { file, length }) => {
                guide.inspect(|guide| guide.read(pid, file));
                reply.data(&content[..length]);
            }
            Ok(Reading::Missing { .. }) if self.requests.is_echo(ino, offset) => {
                reply.error(Errno::EIO);
            }
            Ok(Reading::Document(bytes)) => reply.data(browsed::part(&bytes, offset, size)),
            Ok(Reading::Later(Later::Document(number))) => {
                self.browsed().read_unmade(number, offset, size, reply);
            }
            Ok(Reading::Later(Later::Directory(_))) => reply.error(Errno::EISDIR),
            Ok(Reading::Later(Later::Closed { volume, number })) => {
                let requests = Arc::clone(&self.requests);
                let answer = move |volume: &Volume, file, reply: ReplyData| {
                    let filesystem = volume.filesystem();
                    let read = filesystem.file(file).and_then(|file| {
                        let mut buf = vec![0; file.readable(offset, size as usize)];
                        file.read(offset, &mut buf, filesystem.deadline())?;
                        Ok(buf)
                    });
                    match read {
                        Ok(buf) => reply.data(&buf),
                        Err(e) => reply.error(requests.not_had(&e)),
                    }
                };
                self.browsed().opened(volume, number, reply, answer, ReplyData::error);
            }
            Ok(Reading::Missing { filesystem, file, length }) => {
                let requests = Arc::clone(&self.requests);
                let guide = guide.cloned();
                // Waiting for a free thread counts too.
                let give_up = filesystem.deadline();
                let waiting = requests.wait(&filesystem, file, offset);
                let browsed = self.browsed.clone();
                self.pool.run(move || {
                    let _waiting = waiting;
                    let mut buf = vec![0; length];
                    let read = filesystem.file(file);
                    let read = read.and_then(|file| file.read(offset, &mut buf, give_up));
                    let read = read.or_else(|e| {
                        let others = browsed.iter().flat_map(|b| b.others(ino, &filesystem));
                        let mut others = others.filter_map(|(other, file)| {
                            other.file(file).and_then(|f| f.read(offset, &mut buf, give_up)).ok()
                        });
                        others.next().ok_or(e)
                    });
                    match read {
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
        reply: ReplyDirectory,
    ) {
        self.count(req, &self.requests.readdir);
        match self.find(ino) {
            Ok(Found::File(volume, dir)) => {
                answers::read_dir(self.ownership, &volume, dir, offset, reply);
            }
            Ok(Found::Document(..) | Found::Symlink(..)) => reply.error(Errno::ENOTDIR),
            Ok(Found::Later(dir)) => self.browsed().read_dir(dir, offset, reply),
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
        let (volume, dir) = match self.find(ino) {
            Ok(Found::File(volume, dir)) => (volume, dir),
            Ok(Found::Document(..) | Found::Symlink(..)) => return reply.error(Errno::ENOTDIR),
            Ok(Found::Later(dir)) => return self.browsed().read_dir_plus(dir, offset, reply),
            Err(e) => return reply.error(refused("readdirplus", &e)),
        };
        if let Err(e) = answers::read_dir_plus(self.ownership, &volume, dir, offset, &mut reply) {
            return reply.error(refused("readdirplus", &e));
        }
        let told = self.guide.as_ref().filter(|_| offset == 0);
        told.inspect(|guide| guide.before_listing(req.pid(), dir));
        reply.ok();
        told.inspect(|guide| guide.after_listing(dir));
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.count(req, &self.requests.statfs);
        let totals = self.space.root().map(|root| root.filesystem().totals());
        let (bytes, inodes) = totals.map_or((0, 0), |totals| (totals.bytes, totals.inodes));
        let block = BLOCK_BYTES as u32;
        reply.statfs(bytes.div_ceil(BLOCK_BYTES), 0, 0, inodes, 0, block, 255, block);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.count(req, &self.requests.xattr);
        let name = name.as_bytes().to_owned();
        let answer = move |volume: &Volume, ino, reply| match volume.filesystem().xattr(ino, &name)
        {
            Ok(value) => xattr_answer(reply, size, &value),
            Err(e) => reply.error(refused("getxattr", &e)),
        };
        match self.find(ino) {
            Ok(Found::File(volume, ino)) => answer(&volume, ino, reply),
            // What is none of an image's, and images that were not entered yet.
            Ok(
                Found::Document(..)
                | Found::Symlink(..)
                | Found::Later(Later::Directory(_) | Later::Document(_)),
            ) => reply.error(Errno::ENODATA),
            Ok(Found::Later(later)) if self.browsed().is_plain_root(later) => {
                reply.error(Errno::ENODATA);
            }
            Ok(Found::Later(Later::Closed { volume, number })) => {
                self.browsed().opened(volume, number, reply, answer, ReplyXattr::error);
            }
            Err(e) => reply.error(refused("getxattr", &e)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.count(req, &self.requests.xattr);
        let hides_acls = self.hides_acls;
        let answer = move |volume: &Volume, ino, gets_trusted: &dyn Fn() -> bool, reply| {
            let is_shown = |name: &[u8]| match name.starts_with(caller::TRUSTED) {
                true => gets_trusted(),
                false => !(hides_acls && name.starts_with(ACLS)),
            };
            xattr_answer(reply, size, &volume.filesystem().xattr_names(ino, is_shown));
        };
        match self.find(ino) {
            Ok(Found::File(volume, ino)) => {
                let gets_trusted = LazyCell::new(|| self.callers.get_trusted(req.pid()));
                answer(&volume, ino, &|| *gets_trusted, reply);
            }
            Ok(
                Found::Document(..)
                | Found::Symlink(..)
                | Found::Later(Later::Directory(_) | Later::Document(_)),
            ) => xattr_answer(reply, size, &[]),
            Ok(Found::Later(later)) if self.browsed().is_plain_root(later) => {
                xattr_answer(reply, size, &[]);
            }
            Ok(Found::Later(Later::Closed { volume, number })) => {
                // Once it is open the caller may be gone.
                let gets_trusted = self.callers.get_trusted(req.pid());
                let answer =
                    move |volume: &Volume, ino, reply| answer(volume, ino, &|| gets_trusted, reply);
                self.browsed().opened(volume, number, reply, answer, ReplyXattr::error);
            }
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
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let answer = move |volume: &Volume, ino, reply| {
            let found = volume.filesystem().file(ino).and_then(|file| file.seek(seek, offset));
            sought(found, reply);
        };
        match self.find(ino) {
            Ok(Found::File(volume, ino)) => answer(&volume, ino, reply),
            // All of it is data.
            Ok(Found::Document(_, bytes)) => {
                let found = match (seek, offset < bytes.len() as u64) {
                    (_, false) => Err(fs::Error::Beyond),
                    (fs::Seek::Data, true) => Ok(offset),
                    (fs::Seek::Hole, true) => Ok(bytes.len() as u64),
                };
                sought(found, reply);
            }
            Ok(Found::Symlink(..) | Found::Later(Later::Directory(_) | Later::Document(_))) => {
                reply.error(Errno::EINVAL);
            }
            Ok(Found::Later(Later::Closed { volume, number })) => {
                self.browsed().opened(volume, number, reply, answer, ReplyLseek::error);
            }
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

/// Answers where something was found.
fn sought(found: Result<u64, fs::Error>, reply: ReplyLseek) {
    match found.map(i64::try_from) {
        Ok(Ok(found)) => reply.offset(found),
        Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
        Err(e) => reply.error(refused("lseek", &e)),
    }
}
