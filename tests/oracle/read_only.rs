//! Every attempt to change a mount fails with EROFS, root's as well.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lremovexattr, lsetxattr,
    mknodat, utimensat,
};
use rustix::io::Errno;

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::has_kernel_metadata;
use crate::snapshot::Snapshot;
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// One attempt to change something below a directory.
type Attempt = fn(&Path) -> io::Result<()>;

const ATTEMPTS: &[(&str, Attempt)] = &[
    ("create", |top| File::create(top.join("new")).map(drop)),
    ("create below", |top| File::create(top.join("dir/new")).map(drop)),
    ("open for writing", |top| OpenOptions::new().write(true).open(top.join("file")).map(drop)),
    ("open to append", |top| OpenOptions::new().append(true).open(top.join("file")).map(drop)),
    ("open for both", |top| {
        OpenOptions::new().read(true).write(true).open(top.join("file")).map(drop)
    }),
    ("open and truncate", |top| File::create(top.join("file")).map(drop)),
    ("open and truncate without creating", |top| {
        OpenOptions::new().write(true).truncate(true).open(top.join("file")).map(drop)
    }),
    ("truncate", |top| {
        // truncate(2) by path, which neither the standard library nor rustix has.
        let script = "truncate($ARGV[0], 0) or exit $!";
        let perl = Command::new("perl").args(["-e", script]).arg(top.join("file")).status()?;
        match perl.code() {
            Some(0) => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.expect("perl exits"))),
        }
    }),
    ("mkdir", |top| fs::create_dir(top.join("new"))),
    ("rmdir", |top| fs::remove_dir(top.join("dir/empty"))),
    ("unlink", |top| fs::remove_file(top.join("file"))),
    ("unlink symlink", |top| fs::remove_file(top.join("link"))),
    ("rename", |top| fs::rename(top.join("file"), top.join("new"))),
    ("rename over", |top| fs::rename(top.join("file"), top.join("other"))),
    ("rename directory", |top| fs::rename(top.join("dir"), top.join("new"))),
    ("link", |top| fs::hard_link(top.join("file"), top.join("new"))),
    ("symlink", |top| symlink("file", top.join("new"))),
    ("mknod", |top| {
        let mode = Mode::from_raw_mode(0o644);
        Ok(mknodat(CWD, top.join("new"), FileType::Fifo, mode, 0)?)
    }),
    ("chmod", |top| fs::set_permissions(top.join("file"), Permissions::from_mode(0o777))),
    ("chmod directory", |top| fs::set_permissions(top, Permissions::from_mode(0o777))),
    ("chown", |top| lchown(top.join("file"), Some(1), Some(1))),
    ("chown symlink", |top| lchown(top.join("link"), Some(1), Some(1))),
    ("setxattr", |top| Ok(lsetxattr(top.join("file"), "user.new", b"value", XattrFlags::empty())?)),
    ("replace xattr", |top| {
        Ok(lsetxattr(top.join("file"), "user.key", b"other", XattrFlags::REPLACE)?)
    }),
    ("removexattr", |top| Ok(lremovexattr(top.join("file"), "user.key")?)),
    ("utimens", |top| {
        let time = Timespec { tv_sec: 1, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, top.join("file"), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }),
];

#[test]
fn every_attempt_to_write_fails_with_erofs() {
    let image = gzip_image(&[tar(&[
        Entry::file("file", "content").xattr("user.key", "value"),
        Entry::file("other", "content"),
        Entry::symlink("link", "file"),
        Entry::dir("dir"),
        Entry::dir("dir/empty"),
    ])]);
    let layout = tempfile::tempdir().unwrap();
    write_oci_layout(layout.path(), &[(None, &image)]).unwrap();
    let home = Home::new();
    let reference = format!("oci:{}", layout.path().display());
    let ways: &[&[&str]] = &[&[], &["--kernel-metadata"]];
    for options in &ways[..if has_kernel_metadata() { 2 } else { 1 }] {
        let mounted = home.mount_with(options, &reference);
        let before = Snapshot::of(mounted.path());
        for (name, attempt) in ATTEMPTS {
            let errno = attempt(mounted.path()).err().and_then(|e| e.raw_os_error());
            assert_eq!(errno, Some(Errno::ROFS.raw_os_error()), "{name} {options:?}");
        }
        Snapshot::assert_same(&before, &Snapshot::of(mounted.path()), "after all attempts");
    }
}
