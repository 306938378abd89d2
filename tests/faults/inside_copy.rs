//! Copying out of images: what is in the way, what is not allowed, and what is left when something fails.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::shell::{Home, text};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};
use crate::users::{NOBODY, home_of_nobody};

fn image(entries: &[Entry]) -> Built {
    ImageBuilder::new().layer(&tar(entries), Compression::Gzip).build()
}

fn hostile() -> Built {
    image(&[
        Entry::dir("d"),
        Entry::dir("d/sub"),
        Entry::file("d/sub/file", "of the image"),
        Entry::file("d/other", "of the image"),
        Entry::symlink("d/link", "/etc/passwd"),
        Entry::file("su", "#!").mode(0o6755).owner(0, 0),
        Entry::char_device("null", 1, 3),
        Entry::fifo("fifo"),
        Entry::file("kept", "x").xattr("user.a", "1").xattr("trusted.b", "2"),
        Entry::dir("closed").mode(0o500),
        Entry::file("closed/file", "x").mode(0o400).mtime(1_000_000_000, 7),
    ])
}

/// A directory below a home that the user of the home may write.
fn place(home: &Home, name: &str, owner: Option<u32>) -> PathBuf {
    let path = home.path().join(name);
    fs::create_dir(&path).unwrap();
    chown(&path, owner, owner).unwrap();
    path
}

/// Whatever stands in the place of a directory or file, nothing outside is written.
#[test]
fn symlinks_in_the_place_are_not_followed() {
    let home = Home::new();
    let name = home.layout(&hostile());
    let (to, outside) = (place(&home, "to", None), place(&home, "outside", None));
    fs::create_dir(to.join("d")).unwrap();
    fs::write(outside.join("file"), "others'").unwrap();
    symlink(&outside, to.join("d/sub")).unwrap();
    symlink(outside.join("file"), to.join("d/other")).unwrap();
    let outcome = home.run(&["cp", &name, "d", text(&to)]);
    outcome.failed(1, &["to/d/sub"]);
    let left = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(left(&outside.join("file")), "others'");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // The symlink in the place of a file is replaced, and all else is there.
    assert_eq!(left(&to.join("d/other")), "of the image");
    assert!(!to.join("d/other").is_symlink());
    assert_eq!(fs::read_link(to.join("d/link")).unwrap(), Path::new("/etc/passwd"));
    // The place itself may be reached through one: it was named.
    symlink(&outside, home.path().join("named")).unwrap();
    home.run(&["cp", &name, "d/other", text(&home.path().join("named"))]).succeeded();
    assert_eq!(left(&outside.join("other")), "of the image");
}

#[test]
fn what_is_in_the_way() {
    let home = Home::new();
    let name = home.layout(&hostile());
    let to = place(&home, "to", None);
    fs::write(to.join("d"), "a file").unwrap();
    home.run(&["cp", &name, "d", text(&to)]).failed(1, &["to/d"]);
    assert_eq!(fs::read(to.join("d")).unwrap(), b"a file");
    fs::create_dir(to.join("kept")).unwrap();
    home.run(&["cp", &name, "kept", text(&to)]).failed(1, &["to/kept"]);
    home.run(&["cp", &name, "kept", text(&to.join("none/x"))]).failed(1, &["none"]);
    home.run(&["cp", &name, "kept", "su", text(&to.join("new"))]).failed(1, &["no such directory"]);
    home.run(&["cp", &name, "kept", text(&to.join("new/"))]).failed(1, &["new"]);
    home.run(&["cp", &name, "none", text(&to)]).failed(1, &["none: no such file"]);
    home.run(&["cp", &name, "none*", text(&to)])
        .failed(1, &["none*: no file of the image matches"]);
    home.run(&["cp", &name, "kept", "-"]).failed(2, &["ocifs export"]);
    home.run(&["cp", &name, "kept"]).failed(2, &["DEST"]);
    let names: Vec<_> =
        fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// As root, `ocifs cp IMAGE FILE /dev/null` would otherwise leave the machine without it.
#[test]
fn devices_and_pipes_in_the_place_are_not_replaced() {
    let home = Home::new();
    let name = home.layout(&hostile());
    let to = place(&home, "to", None);
    let pipe = to.join("kept");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    symlink(&pipe, to.join("link")).unwrap();
    let is_pipe = |path: &Path| fs::metadata(path).unwrap().mode() & 0o170_000 == 0o010_000;
    for (what, to) in [("kept", &to), ("d/other", &pipe), ("d/other", &to.join("link"))] {
        home.run(&["cp", &name, what, text(to)]).failed(1, &["a device, pipe or socket"]);
    }
    assert!(is_pipe(&pipe) && to.join("link").is_symlink());
    // The like is replaced, so that a copy can be made again.
    for _ in 0..2 {
        home.run(&["cp", &name, "fifo", text(&to)]).succeeded();
    }
    home.run(&["cp", &name, "fifo", text(&pipe)]).failed(1, &["a device, pipe or socket"]);
    let mut left: Vec<_> = fs::read_dir(&to).unwrap().map(|row| row.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["fifo", "kept", "link"]);
    // A link to a file stays, as `/dev/stdout` may be one.
    fs::write(to.join("file"), "old").unwrap();
    symlink(to.join("file"), to.join("to-file")).unwrap();
    home.run(&["cp", &name, "d/other", text(&to.join("to-file"))]).succeeded();
    assert!(to.join("to-file").is_symlink());
    assert_eq!(fs::read(to.join("file")).unwrap(), b"of the image");
    // What a shell makes of a variable that is not set is not the image's root.
    let outcome = home.run(&["cp", &name, "", text(&to)]);
    outcome.failed(2, &["it is empty"]);
}

/// Files that an ordinary user copies belong to that user, without setuid and setgid bits; what can be made is made.
#[test]
fn ordinary_users_get_their_own_files() {
    let home = home_of_nobody();
    let name = home.layout(&hostile());
    let to = place(&home, "to", Some(NOBODY));
    let outcome = home.run(&["cp", &name, "/", text(&to)]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("to/null: only root can make a device"), "{outcome:?}");
    assert!(outcome.stderr.contains("1 extended attribute "), "{outcome:?}");
    let stat = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
    assert_eq!((stat("su").mode() & 0o7777, stat("su").uid()), (0o755, NOBODY));
    let closed = stat("closed/file");
    assert_eq!(
        (closed.mode() & 0o7777, closed.mtime(), closed.mtime_nsec()),
        (0o400, 1_000_000_000, 7)
    );
    assert_eq!(stat("closed").mode() & 0o7777, 0o500);
    assert!(stat("fifo").mode() & 0o170_000 == 0o010_000);
    // So that it can be removed.
    fs::set_permissions(to.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// A registry that goes away: no half of a file, no archive, and the reason.
#[test]
fn nothing_half_is_left() {
    let home = Home::new();
    let registry = Registry::start();
    let content: Vec<u8> = crate::fixture::noise(8 << 20, 3);
    let built = image(&[Entry::file("large", content), Entry::file("small", "s")]);
    registry.add_image("r", "t", &built);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["ls", &name]).succeeded();
    // What the first use has kept of the content is lost.
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap_or_default();
    let spans = crate::fixture::files_below(&home.path())
        .into_iter()
        .filter(|path| text(path).contains("/spans/"));
    spans.for_each(|path| fs::remove_file(path).unwrap());
    drop(registry);
    let to = place(&home, "to", None);
    let flags = ["--offline", "--proof", "any"];
    home.run(&[&["cp"], &flags[..], &[&name, "large", text(&to)]].concat()).failed(1, &["/large"]);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    let archive = to.join("x.tar");
    fs::write(&archive, "before").unwrap();
    let export = [&["export"], &flags[..], &[&name, "-o", text(&archive)]].concat();
    home.run(&export).failed(1, &["/large"]);
    assert_eq!(fs::read(&archive).unwrap(), b"before");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
}

#[test]
fn archives_go_where_they_are_said_to() {
    let home = Home::new();
    let name = home.layout(&image(&[Entry::file("f", "f")]));
    let to = place(&home, "to", None);
    let archive = to.join("x.tar");
    home.run(&["export", &name, "-o", text(&archive)]).succeeded();
    let whole = fs::read(&archive).unwrap();
    assert_eq!(whole.len() % 512, 0);
    let mode = fs::metadata(&archive).unwrap().mode() & 0o777;
    assert_eq!(mode & 0o600, 0o600);
    assert_ne!(mode & 0o044, 0, "others may read it, as far as the umask lets them: {mode:o}");
    // A symlink stays one; a device is written to.
    symlink("x.tar", to.join("link.tar")).unwrap();
    home.run(&["export", &name, "f", "-o", text(&to.join("link.tar"))]).succeeded();
    assert!(to.join("link.tar").is_symlink());
    assert_ne!(fs::read(&archive).unwrap(), whole);
    home.run(&["export", &name, "-o", "/dev/null"]).succeeded();
    home.run(&["export", &name, "-o", text(&to.join("none/x.tar"))]).failed(1, &["none/x.tar"]);
    home.run(&["export", &name, "none", "-o", text(&to.join("y.tar"))])
        .failed(1, &["none: no such"]);
    assert!(!to.join("y.tar").exists());
}

/// A pattern that symlinks lead round and round in the image.
#[test]
fn patterns_that_explode_are_refused() {
    let home = Home::new();
    let entries: Vec<Entry> = (0..50).map(|n| Entry::symlink(format!("l{n}"), ".")).collect();
    let name = home.layout(&image(&entries));
    let to = place(&home, "to", None);
    let pattern = "*/".repeat(40) + "*";
    home.run(&["cp", &name, &pattern, text(&to)]).failed(1, &["stands for more than"]);
    home.run(&["export", &name, &pattern, "-o", text(&to.join("x"))])
        .failed(1, &["stands for more"]);
}
