//! Mounts that can be written: what is written, what is kept, and what is left.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::process::{Signal, kill_process};

use crate::fixture::{GOOD, good, image_of, noise};
use crate::shell::{Home, eventually, run, text};
use crate::support::image::{Built, Compression};
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

fn image() -> Built {
    let entries = [
        Entry::file("f", GOOD),
        Entry::dir("d").mode(0o750),
        Entry::file("d/x", "x"),
        Entry::file("big", noise(3 << 20, 5)),
    ];
    image_of(&tar(&entries), Compression::Gzip)
}

/// What is mounted at the mount point, of whatever kind.
fn mounts_at(home: &Home) -> Vec<PathBuf> {
    home.mounts().into_iter().filter(|place| *place == home.mount_point()).collect()
}

#[test]
fn what_is_written_is_gone_with_the_mount() {
    let home = Home::new();
    let image = home.layout(&image());
    let at = |name: &str| home.mount_point().join(name);
    for end in ["ocifs", "umount", "TERM"] {
        home.run(&["mount", "--scratch", &image, "M"]).succeeded();
        assert_eq!(mounts_at(&home).len(), 1, "{end}");
        assert_eq!(fs::read(at("f")).unwrap(), GOOD, "{end}");
        fs::write(at("f"), "new").unwrap();
        fs::write(at("d/y"), "y").unwrap();
        fs::remove_file(at("d/x")).unwrap();
        assert_eq!(fs::read(at("f")).unwrap(), b"new");
        let names: Vec<_> =
            fs::read_dir(at("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["y"]);
        let status = home.status();
        assert_eq!(
            (&status["state"], &status["writable"]),
            (&"mounted".into(), &true.into()),
            "{status}"
        );
        assert_eq!(status["mount_point"], text(&home.mount_point()), "{status}");
        match end {
            "ocifs" => home.run(&["umount", "M"]).succeeded(),
            "umount" => run(home.command("umount").arg(home.mount_point())).succeeded(),
            _ => kill_process(home.serving()[0], Signal::TERM).unwrap(),
        }
        home.is_quiet();
    }
    home.run(&["mount", &image, "M"]).succeeded();
    assert_eq!(fs::read(at("f")).unwrap(), GOOD);
    assert_eq!(home.status()["writable"], false);
    // It is not the same.
    home.run(&["mount", "--scratch", &image, "M"]).failed(1, &["mounted in another way"]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn what_is_kept_is_for_one_image() {
    let home = Home::new();
    let name = home.layout(&image());
    let upper = home.path().join("upper");
    let flags = ["mount", "--upper", text(&upper)];
    home.run(&[&flags[..], &[&name, "M"]].concat()).succeeded();
    fs::write(home.mount_point().join("f"), "new").unwrap();
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    home.run(&[&flags[..], &[&name, text(&other)]].concat()).failed(1, &["in use by another"]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();

    home.run(&[&flags[..], &[&name, "M"]].concat()).succeeded();
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), b"new");
    home.run(&["umount", "M"]).succeeded();
    fs::remove_dir_all(home.path().join("layout")).unwrap();
    let name = home.layout(&good());
    let outcome = home.run(&[&flags[..], &[&name, "M"]].concat());
    outcome.failed(1, &["was written over", "can't be used over another image"]);
    home.run(&["mount", "--upper", text(&upper), &format!("a={name}"), &format!("b={name}"), "M"])
        .failed(1, &["for one image"]);
    home.is_quiet();
}

/// Another worker goes on with the mount; without a supervisor it is dead, and can be removed.
#[test]
fn processes_may_be_killed() {
    let home = Home::new();
    let name = home.layout(&image());
    let big = home.mount_point().join("big");
    home.run(&["mount", "--scratch", &name, "M"]).succeeded();
    fs::write(home.mount_point().join("new"), "new").unwrap();
    kill_process(home.workers()[0], Signal::KILL).unwrap();
    assert_eq!(fs::read(&big).unwrap().len(), 3 << 20);
    assert_eq!(fs::read(home.mount_point().join("new")).unwrap(), b"new");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();

    for again in ["umount", "mount"] {
        home.run(&["mount", "--scratch", &name, "M"]).succeeded();
        kill_process(home.serving()[0], Signal::KILL).unwrap();
        let is_dead = || fs::read(&big).is_err_and(|e| e.kind() == io::ErrorKind::NotConnected);
        assert!(eventually(is_dead), "{:?}", fs::read(&big).map(|bytes| bytes.len()));
        let shown = home.run(&["status", "--json", "M"]);
        assert!(shown.code == 1 && shown.stdout.contains("\"state\":\"dead\""), "{shown:?}");
        if again == "mount" {
            home.run(&["mount", &name, "M"]).succeeded();
            assert_eq!(fs::read(&big).unwrap().len(), 3 << 20);
        }
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

#[test]
fn users_are_told_what_helps() {
    let home = home_of_nobody();
    let name = home.layout(&image());
    home.run(&["mount", "--scratch", &name, "M"]).failed(1, &["only root", "`ocifs run`"]);
    let home = Home::new();
    let words = ["mount", "--scratch", "--kernel-metadata", &name, "M"];
    home.run(&words).failed(2, &["cannot be used with"]);
    home.run(&["mount", "--scratch", "-", "M"]).failed(1, &["standard input"]);
    home.is_quiet();
}
