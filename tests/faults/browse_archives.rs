//! Archives and layouts in folders of this machine, below `local/archives` of a browsed directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::shell::{Home, names, text};
use crate::support::formats::write_oci_archive;
use crate::support::image::{Built, Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

fn image(word: &str) -> Built {
    ImageBuilder::new().layer(&tar(&[Entry::file("word", word)]), Compression::Gzip).build()
}

/// A folder of a user with images in it, and with all kinds of other things.
fn folder(home: &Home) -> PathBuf {
    let folder = home.path().join("images");
    for path in ["plain/deep", "plain/empty"] {
        fs::create_dir_all(folder.join(path)).unwrap();
    }
    let [one, two] = ["one", "two"].map(image);
    write_oci_archive(&folder.join("app.tar"), &[(None, &one)]).unwrap();
    write_oci_archive(&folder.join("debian:12.tar"), &[(None, &two)]).unwrap();
    let both = [(Some("1.0"), &one), (Some("1.1"), &two)];
    write_oci_archive(&folder.join("plain/both.tar"), &both).unwrap();
    write_oci_layout(&folder.join("plain/deep/layout"), &both[..1]).unwrap();
    fs::write(folder.join("plain/notes.txt"), "no image").unwrap();
    symlink(&folder, folder.join("plain/around")).unwrap();
    symlink(folder.join("app.tar"), folder.join("plain/linked.tar")).unwrap();
    folder
}

#[test]
fn archives_in_a_folder_are_directories() {
    let home = Home::new();
    let folder = folder(&home);
    home.run(&["browse", "--archives", text(&folder), "M"]).succeeded();
    let at = |path: &str| home.mount_point().join("local/archives").join(path);
    assert!(names(&home.mount_point().join("local")).contains(&"archives".to_owned()));
    assert_eq!(names(&at("")), ["images"]);
    assert_eq!(names(&at("images")), ["app.tar", "debian:12.tar", "plain"]);
    assert_eq!(names(&at("images/plain")), ["both.tar", "deep", "empty", "linked.tar"]);
    assert!(names(&at("images/plain/empty")).is_empty());
    for (path, word) in [
        ("images/app.tar", "one"),
        ("images/debian:12.tar", "two"),
        ("images/plain/linked.tar", "one"),
        ("images/plain/deep/layout", "one"),
        // As it is typed elsewhere.
        ("images/plain/both.tar:1.0", "one"),
        ("images/plain/both.tar:1.1", "two"),
        ("images/plain/deep/layout:1.0", "one"),
    ] {
        assert_eq!(fs::read_to_string(at(path).join("word")).unwrap(), word, "{path}");
    }
    for path in ["images/plain/notes.txt", "images/plain/around", "images/none.tar:1", "other"] {
        assert_eq!(fs::metadata(at(path)).unwrap_err().raw_os_error(), Some(2), "{path}");
    }
    // Which of several is for the user to say.
    let error = fs::read_dir(at("images/plain/both.tar")).and_then(|mut rows| rows.next().unwrap());
    assert_eq!(error.unwrap_err().raw_os_error(), Some(5));
    let status = home.status();
    assert!(status.to_string().contains("both.tar"), "{status}");
    // What comes and goes there is seen.
    write_oci_archive(&folder.join("new.tar"), &[(None, &image("new"))]).unwrap();
    assert_eq!(fs::read_to_string(at("images/new.tar/word")).unwrap(), "new");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// The browsed directory may lie below the folder.
#[test]
fn a_walk_ends_where_the_browsed_directory_is() {
    let home = Home::new();
    folder(&home);
    let own = home.path();
    home.run(&["browse", "--archives", text(&own), "M"]).succeeded();
    let place = home.mount_point().join("local/archives");
    let found = Command::new("find").arg(&place).args(["-name", "word"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.lines().count(), 4, "{found}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn folders_that_can_not_be_shown() {
    let home = Home::new();
    let folder = folder(&home);
    let other = home.path().join("other/images");
    fs::create_dir_all(&other).unwrap();
    let browse = |folders: &[&str]| {
        let flags = folders.iter().flat_map(|folder| ["--archives", folder]);
        home.run(&[&["browse"], &flags.collect::<Vec<_>>()[..], &["M"]].concat())
    };
    browse(&[text(&folder), text(&other)]).failed(1, &["--archives", "would be shown as"]);
    browse(&[text(&folder.join("app.tar"))]).failed(1, &["--archives", "no folder"]);
    browse(&[text(&home.path().join("nothing"))]).failed(1, &["--archives", "No such file"]);
    home.is_quiet();
}
