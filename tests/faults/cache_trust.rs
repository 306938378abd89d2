//! The cache's folder and other users: what they could have written there is not shown, nothing is
//! written through what they left there, and a span that was forged is found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::fixture::{files_below, noise};
use crate::shell::{Home, wait};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

const OTHER_USER: u32 = 1234;

/// Bytes of the file `a`: one span.
const LENGTH: usize = 300_000;

/// The length of a span's trailer: 32 bytes of digest and 8 of checksum.
const TRAILER: usize = 40;

fn image() -> Built {
    let layer = tar(&[Entry::file("a", noise(LENGTH, 1))]);
    ImageBuilder::new().layer(&layer, Compression::Gzip).build()
}

/// A home whose cache holds the image, and the image's name.
fn filled() -> (Home, String) {
    let home = Home::new();
    let name = home.layout(&image());
    assert!(shows_the_image(&home, &name));
    (home, name)
}

/// Whether `cat` prints what the image has.
fn shows_the_image(home: &Home, name: &str) -> bool {
    let printed = home.path().join("printed");
    let mut cat = home.ocifs(&["cat", name, "a"]);
    let mut child = cat.stdout(fs::File::create(&printed).unwrap()).spawn().unwrap();
    assert_eq!(wait(&mut child), 0);
    fs::read(&printed).unwrap() == noise(LENGTH, 1)
}

fn spans(home: &Home) -> Vec<PathBuf> {
    files_below(&home.path().join("cache/v1/spans"))
}

/// Gives a span other bytes and the checksum that fits them.
fn forge(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len() - TRAILER;
    bytes[length / 2..length / 2 + 100].fill(0);
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[..length + 32]);
    let checksum = hasher.digest().to_le_bytes();
    bytes[length + 32..].copy_from_slice(&checksum);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn own(path: &Path, user: u32) {
    for path in files_below(path) {
        chown(path, Some(user), None).unwrap();
    }
    chown(path, Some(user), None).unwrap();
}

#[test]
fn a_folder_of_another_user_is_not_used() {
    let (home, name) = filled();
    let root = home.path().join("cache/v1");
    for span in spans(&home) {
        forge(&span);
    }
    own(&root, OTHER_USER);
    let before = files_below(&root);
    assert!(shows_the_image(&home, &name), "forged bytes were shown");
    let outcome = home.run(&["ls", &name]);
    assert_eq!(outcome.code, 0);
    let folder = root.display();
    let warning = format!("cache folder {folder} is not used: it belongs to user {OTHER_USER}");
    assert!(outcome.stderr.contains(&warning), "{outcome:?}");
    for words in [&["du"][..], &["verify"], &["gc", "--max-size", "0"], &["clear"]] {
        let outcome = home.run(&[&["cache"], words].concat());
        outcome.failed(1, &[&format!("cache folder {folder}: it belongs to user 1234")]);
    }
    assert_eq!(files_below(&root), before, "nothing is written or removed there");
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    for mode in [0o770, 0o702, 0o777, 0o1777] {
        let (home, name) = filled();
        let root = home.path().join("cache/v1");
        spans(&home).iter().for_each(|span| forge(span));
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        assert!(shows_the_image(&home, &name), "{mode:o}: forged bytes were shown");
        let outcome = home.run(&["ls", &name]);
        assert!(outcome.stderr.contains("other users may write to it"), "{mode:o}: {outcome:?}");
        home.run(&["cache", "verify"]).failed(1, &["other users may write to it"]);
        // Read permission does no harm.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = home.run(&["ls", &name]);
        assert!(outcome.stderr.is_empty(), "{mode:o}: {outcome:?}");
    }
}

#[test]
fn a_file_of_another_user_is_fetched_again() {
    let (home, name) = filled();
    for span in spans(&home) {
        forge(&span);
        chown(&span, Some(OTHER_USER), None).unwrap();
    }
    assert!(shows_the_image(&home, &name), "forged bytes were shown");
    let owners = || {
        let owner =
            |path: &PathBuf| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
        spans(&home).iter().map(owner).collect::<Vec<_>>()
    };
    assert!(!owners().is_empty() && owners().iter().all(|owner| *owner == 0), "{:?}", owners());
    let outcome = home.run(&["cache", "verify"]);
    outcome.succeeded();
}

/// The folder is the user's own, so its content is believed; but `verify` does not trust checksums.
#[test]
fn verify_finds_a_span_with_a_forged_checksum() {
    let (home, name) = filled();
    let span = spans(&home).remove(0);
    forge(&span);
    let outcome = home.run(&["cache", "verify"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("does not match its digest"), "{outcome:?}");
    assert!(!span.exists());
    assert!(shows_the_image(&home, &name));
    home.run(&["cache", "verify"]).succeeded();
}

#[test]
fn nothing_is_written_through_symlinks() {
    for part in ["tmp", "spans", "spans/XX", "layers", "refs", "partial"] {
        let (home, name) = filled();
        let root = home.path().join("cache/v1");
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let shards: Vec<PathBuf> = match part {
            "spans/XX" => {
                spans(&home).iter().map(|span| span.parent().unwrap().to_owned()).collect()
            }
            part => vec![root.join(part)],
        };
        for place in shards {
            fs::remove_dir_all(&place).ok();
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            symlink(&outside, &place).unwrap();
        }
        assert!(shows_the_image(&home, &name), "{part}");
        assert_eq!(files_below(&outside), Vec::<PathBuf>::new(), "{part}");
    }
}
