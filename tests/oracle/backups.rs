//! Backup tools and `git` over two versions of an image that are mounted at one place: what has changed is read again,
//! though its size and time are the same, and what has not is not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{has_kernel_metadata, program, run};
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// Writes an image whose only layer is another in each version, in another order, and with files that come and go.
fn version(folder: &Path, version: u8) -> String {
    let mut entries = vec![Entry::dir("d").mtime(1000, 0)];
    for n in 0..200 {
        entries.push(Entry::file(format!("d/{n}"), format!("unchanged {n}")).mtime(1000, 0));
    }
    if version.is_multiple_of(2) {
        entries[1..].reverse();
        entries.insert(1, Entry::file("a-new-one", "x").mtime(1000, 0));
    }
    entries.push(Entry::file("changed", format!("version {version}")).mtime(1000, 0));
    entries.push(Entry::hardlink("d/changed too", "changed"));
    entries.push(Entry::symlink("link", "changed").mtime(1000, 0));
    // Tools are careful with what is as new as anything that they have seen.
    entries.push(Entry::file("newest", "x").mtime(2000, 0));
    let folder = folder.join(version.to_string());
    write_oci_layout(&folder, &[(None, &gzip_image(&[tar(&entries)]))]).unwrap();
    format!("oci:{}", folder.display())
}

#[test]
fn borg_reads_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let repository = folder.path().join("repository");
    let borg = |words: &[&str], at: &Path| {
        let mut borg = program("borg", "borgbackup");
        borg.args(words).current_dir(at).env("BORG_BASE_DIR", folder.path());
        borg.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        let output = run(borg.env("BORG_REPO", &repository));
        (output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    borg(&["init", "--encryption=none"], folder.path());
    for (number, image) in [1, 2, 2, 1].into_iter().enumerate() {
        let reference = version(folder.path(), image);
        let mounted = home.mount_at(place.clone(), &[], &reference);
        let archive = format!("::{number}");
        let (_, listed) = borg(&["create", "--list", "--filter=AM", &archive, "."], &place);
        let mut read: Vec<&str> = listed.lines().collect();
        read.sort();
        // Files that are as new as the newest are always read.
        read.retain(|line| !line.ends_with(" newest"));
        // Of two names it reads one.
        let names = [" d/changed too", " changed"];
        let name = |line: &str| names.iter().any(|name| line.ends_with(name));
        let read: Vec<&str> =
            read.into_iter().map(|line| if name(line) { &line[..1] } else { line }).collect();
        match number {
            0 => assert_eq!(read.len(), 201, "{listed}"),
            1 => assert_eq!(read, ["A a-new-one", "M"], "{listed}"),
            2 => assert_eq!(read, [""; 0], "{listed}"),
            _ => assert_eq!(read, ["M"], "{listed}"),
        }
        let restored = tempfile::tempdir().unwrap();
        borg(&["extract", &archive], restored.path());
        let content = fs::read(restored.path().join("changed")).unwrap();
        assert_eq!(content, format!("version {image}").as_bytes());
        drop(mounted);
    }
}

#[test]
fn git_sees_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let git = |words: &[&str]| {
        let mut git = program("git", "git");
        git.arg("--git-dir").arg(folder.path().join("repository")).arg("--work-tree").arg(&place);
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(words);
        let git = git.env("HOME", folder.path()).current_dir(&place);
        String::from_utf8(run(git).stdout).unwrap()
    };
    run(program("git", "git").args(["init", "--bare", "-q"]).arg(folder.path().join("repository")));
    git(&["config", "core.bare", "false"]);
    for (image, expected) in [(1, ""), (2, "a-new-one\nchanged\nd/changed too\n"), (2, "")] {
        let mounted = home.mount_at(place.clone(), &[], &version(folder.path(), image));
        git(&["add", "--all"]);
        let changed = git(&["diff", "--cached", "--name-only"]);
        git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        if image != 1 {
            assert_eq!(changed, expected);
        }
        drop(mounted);
    }
}

/// Over `--kernel-metadata` numbers are places, but the file system has an identity.
#[test]
fn an_image_has_one_identity_as_a_file_system() {
    if !has_kernel_metadata() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let identity = |image: u8| {
        let mounted = home.mount_with(&["--kernel-metadata"], &version(folder.path(), image));
        let output = run(Command::new("stat").args(["-f", "-c", "%i"]).arg(mounted.path()));
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, two) = (identity(1), identity(2));
    assert!(one != two && one != "0\n", "{one} {two}");
    assert_eq!(identity(1), one);
}

/// As far as images are the same, and from mount to mount.
#[test]
fn numbers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let number = |image: u8, path: &str| {
        let mounted = home.mount(&version(folder.path(), image));
        fs::symlink_metadata(mounted.path().join(path)).unwrap().ino()
    };
    for path in ["", "d", "d/7", "link", "newest"] {
        assert_eq!(number(1, path), number(2, path), "{path}");
    }
    assert_eq!(number(1, "changed"), number(1, "d/changed too"));
    assert_ne!(number(1, "changed"), number(2, "changed"));
}
