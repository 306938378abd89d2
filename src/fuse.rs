//! The kernel's side: FUSE requests in, answers of [`crate::fs`] out. The only importer of
//! `fuser`.
//!
//! ```text
//! kernel        mounting and unmounting; the table of mounts
//! connection    what outlives a process          session    the threads that answer on it
//! requests      what was asked, what failed
//! adapter       requests -> space, fs         pool       reads that have to be fetched
//! guide         tells of what readers ask:       prefetcher (a process) | pusher (a thread)
//! reads         which of them wait            panics     ends one request, and not a thread
//! guarded       what fuser calls, guarded     suspects   what ends one worker after the other is refused
//! erofs_mount   names and attributes as an image that the kernel reads; devices serves its contents
//! ```
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
//! blocks of contents: [`erofs_mount`].
//!
//! Mounting is done in [`kernel`] and not by `fuser`, whose teardown in 0.18 may unmount what another
//! process has mounted there in the meantime.

mod adapter;
mod answers;
mod browsed;
mod caller;
mod connection;
mod devices;
pub mod erofs_mount;
mod failures;
mod gate;
mod guarded;
mod guide;
pub mod kernel;
mod listings;
mod notify;
mod options;
mod page_cache;
pub mod panics;
mod pool;
pub mod prefetcher;
mod pusher;
mod reads;
mod reply;
mod requests;
mod serve;
mod session;
mod suspects;

pub use connection::Connection;
pub use options::{Ownership, Prefetch, ServeOptions};
pub use page_cache::PageCache;
pub use reads::{FailedPath, ReadReport, SlowRead};
pub use requests::Requests;
pub use serve::serve;
pub use session::{Link, Server};
pub use suspects::{Death, Suspects};
