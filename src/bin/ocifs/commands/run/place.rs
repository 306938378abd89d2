//! Places in the root of an image, found as the image's own programs would find them.
//!
//! # Problem
//!
//! Directories and files of this machine are mounted into the tree of an image before its root becomes that of the process. A
//! stranger has made the tree: `/etc/resolv.conf`, `/proc` or `/dev` may be a symlink to `/etc/shadow` or to `../../etc`, which
//! the kernel would follow from the root that there still is.
//!
//! # Design
//!
//! Each component is opened by itself, from the directory before it, and never followed; what is a symlink is read, and its
//! components come next. The directories on the way are kept in a list that `..` goes back in, and an absolute
//! symlink goes back to the first of: the root. What is not there is made. The result is a descriptor, and mounts are made on
//! descriptors.
//!
//! (Rejected: `openat2` with `RESOLVE_IN_ROOT`, which finds what is there, and leaves making the rest to a loop like this one.
//! To do all of it after pivot_root(2), where sources of mounts would have no paths any more.)

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

/// Symlinks followed on the way (Linux's `MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// What is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Finds a place below a directory, which is the root of the path, and makes what is missing.
///
/// # Errors
/// Something on the way is no directory, or the place is of the other kind.
pub(super) fn place(root: BorrowedFd<'_>, path: &[u8], kind: Kind) -> io::Result<OwnedFd> {
    let mut todo: VecDeque<Vec<u8>> = components(path).collect();
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut symlinks = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            way.pop();
            continue;
        }
        let above = way.last().map_or(root, AsFd::as_fd);
        let is_last = todo.is_empty();
        let here = match open(above, &name) {
            Err(Errno::NOENT) => make(above, &name, if is_last { kind } else { Kind::Directory })?,
            result => result?,
        };
        if FileType::from_raw_mode(fstat(&here)?.st_mode) == FileType::Symlink {
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&here, "", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                way.clear();
            }
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(name);
            }
            continue;
        }
        way.push(here);
    }
    let found = match way.pop() {
        Some(found) => found,
        None => root.try_clone_to_owned()?,
    };
    let is_directory = FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory;
    match (kind, is_directory) {
        (Kind::Directory, true) | (Kind::File, false) => Ok(found),
        (Kind::Directory, false) => Err(Errno::NOTDIR.into()),
        (Kind::File, true) => Err(Errno::ISDIR.into()),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.map(<[u8]>::to_vec)
}

fn open(above: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make(above: BorrowedFd<'_>, name: &[u8], kind: Kind) -> Result<OwnedFd, Errno> {
    match kind {
        Kind::Directory => mkdirat(above, name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(openat(above, name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    open(above, name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use rustix::fs::{CWD, openat};

    use super::*;

    #[test]
    fn no_symlink_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (name, target) in [
            ("abs", "/etc"),
            ("up", "../../../../etc"),
            ("out", "../outside"),
            ("chain", "abs/../up/new"),
            ("loop", "loop"),
            ("etc/resolv.conf", "../run/stub/resolv.conf"),
            ("dots", "../.."),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let directory = openat(CWD, &root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let path = |fd: &OwnedFd| {
            use std::os::fd::AsRawFd;
            fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
        };
        let root = root.canonicalize().unwrap();
        use Kind::{Directory, File};
        for (text, kind, expected) in [
            ("/abs", Directory, "etc"),
            ("up", Directory, "etc"),
            ("/out", Directory, "outside"),
            ("/chain", Directory, "etc/new"),
            ("/etc/resolv.conf", File, "run/stub/resolv.conf"),
            ("/dots", Directory, ""),
            ("/../../..", Directory, ""),
            ("//a/./b/../c/", Directory, "a/c"),
            ("/file", File, "file"),
            ("/abs/x", File, "etc/x"),
        ] {
            let found = place(directory.as_fd(), text.as_bytes(), kind).unwrap();
            let expected: PathBuf = root.join(expected).components().collect();
            assert_eq!(path(&found), expected, "{text}");
        }
        for (text, kind, expected) in [
            ("/loop", Directory, Errno::LOOP),
            ("/file", Directory, Errno::NOTDIR),
            ("/file/x", File, Errno::NOTDIR),
            ("/etc", File, Errno::ISDIR),
        ] {
            let error = place(directory.as_fd(), text.as_bytes(), kind).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(expected), "{text}");
        }
        assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    }
}
