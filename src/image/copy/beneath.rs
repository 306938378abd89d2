//! Opening directories below one, through no symlink.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

const FLAGS: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory at a path below `top`, or `top` itself for an empty one. No component may be a symlink.
pub(super) fn open(top: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(top, OsStr::from_bytes(path), FLAGS, Mode::empty(), resolve) {
        // Kernels before 5.6, and filters of system calls that do not know it; paths that are too long for one call.
        Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => step_by_step(top, path),
        Err(Errno::LOOP) => Err(io::Error::other("a symlink is in the way, and is not followed")),
        opened => Ok(opened?),
    }
}

fn step_by_step(top: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let mut dir = openat(top, ".", FLAGS, Mode::empty())?;
    let is_name = |name: &&[u8]| !matches!(*name, b"" | b".");
    for name in path.split(|byte| *byte == b'/').filter(is_name) {
        if name == b".." {
            return Err(Errno::XDEV.into());
        }
        dir = openat(&dir, OsStr::from_bytes(name), FLAGS, Mode::empty())?;
    }
    Ok(dir)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symlinks_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        symlink("/", folder.path().join("a/root")).unwrap();
        let top = OwnedFd::from(fs::File::open(folder.path()).unwrap());
        for open in [open, step_by_step] {
            for good in ["", "a", "a/b", "a//b/."] {
                assert!(open(&top, good.as_bytes()).is_ok(), "{good}");
            }
            for bad in ["link", "link/b", "a/root", "a/root/etc", "..", "a/../..", "none", "/etc"] {
                let is_step = bad == "/etc" && open(&top, b"etc").is_err();
                assert!(open(&top, bad.as_bytes()).is_err() || is_step, "{bad}");
            }
        }
    }
}
