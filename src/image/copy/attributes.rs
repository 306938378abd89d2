//! Owner, mode, extended attributes and times of a copy.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, lsetxattr, openat, utimensat,
};
use rustix::io::Errno;

use super::options::CopyOptions;
use crate::tree::{Attributes, Ino, Tree};

/// Bits that let others act as the owner.
const SET_ID: u16 = 0o6000;

/// Sets all attributes of a file or directory; how many extended ones its file system did not take.
pub(super) fn set(
    file: impl AsFd,
    tree: &Tree,
    ino: Ino,
    options: CopyOptions,
) -> Result<u64, Errno> {
    let a = tree.attributes(ino);
    if options.as_root {
        fchown(&file, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)))?;
    }
    // While the mode still lets us.
    let lost = each_xattr(tree, ino, options, |name, value| {
        fsetxattr(&file, name, value, XattrFlags::empty())
    })?;
    fchmod(&file, mode(&a, options))?;
    futimens(&file, &times(&a))?;
    Ok(lost)
}

/// The same of a pipe at a name in a directory.
pub(super) fn set_pipe(
    dir: &OwnedFd,
    name: &OsStr,
    tree: &Tree,
    ino: Ino,
    options: CopyOptions,
) -> Result<u64, Errno> {
    // Without a writer it does not wait for one.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    set(openat(dir, name, flags, Mode::empty())?, tree, ino, options)
}

/// The same of what can't be opened: a symlink or device at a name in a directory.
pub(super) fn set_at(
    dir: &OwnedFd,
    name: &OsStr,
    tree: &Tree,
    ino: Ino,
    options: CopyOptions,
) -> Result<u64, Errno> {
    let a = tree.attributes(ino);
    let not_followed = AtFlags::SYMLINK_NOFOLLOW;
    if options.as_root {
        chownat(dir, name, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)), not_followed)?;
    }
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.as_bytes()].concat();
    let lost = each_xattr(tree, ino, options, |name, value| {
        lsetxattr(&path[..], name, value, XattrFlags::empty())
    })?;
    if tree.symlink(ino).is_none() {
        // It is ours, under a name that only we know, and no symlink.
        rustix::fs::chmodat(dir, name, mode(&a, options), AtFlags::empty())?;
    }
    utimensat(dir, name, &times(&a), not_followed)?;
    Ok(lost)
}

/// The permission bits that a copy gets.
fn mode(a: &Attributes, options: CopyOptions) -> Mode {
    let mode = if options.as_root { a.mode } else { a.mode & !SET_ID };
    Mode::from_raw_mode(mode.into())
}

fn times(a: &Attributes) -> Timestamps {
    let time = Timespec { tv_sec: a.mtime_seconds, tv_nsec: a.mtime_nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn each_xattr(
    tree: &Tree,
    ino: Ino,
    options: CopyOptions,
    set: impl Fn(&CString, &[u8]) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let mut lost = 0;
    for (name, value) in tree.readable_xattrs(ino) {
        let is_ours = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
        if !is_ours && !options.as_root {
            lost += 1;
            continue;
        }
        let Ok(name) = CString::new(name) else { continue };
        match set(&name, value) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::TOOBIG) => {
                lost += 1;
            }
            Err(Errno::RANGE | Errno::NOSPC) if value.len() > MAX_SMALL => lost += 1,
            Err(e) => return Err(e),
        }
    }
    Ok(lost)
}

/// Values up to this many bytes are taken by every file system that takes any, unless its disk is full.
const MAX_SMALL: usize = 1024;
