//! `ocifs cp` and `ocifs export PATH` against GNU cp and tar over a mount, `ocifs du` against GNU du.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use crate::forms;
use crate::inside_find::trees;
use crate::mounted::Home;
use crate::servers::{need_root_and_fuse, run};
use crate::snapshot::Snapshot;
use crate::support::image::{Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, Kind, tar};

/// A user, and an image in a layout.
struct Fixture {
    home: Home,
    folder: TempDir,
    name: String,
}

impl Fixture {
    fn new(tars: &[Vec<u8>]) -> Fixture {
        need_root_and_fuse();
        let folder = tempfile::tempdir().unwrap();
        let add = |builder: ImageBuilder, tar: &Vec<u8>| builder.layer(tar, Compression::Gzip);
        let image = tars.iter().fold(ImageBuilder::new(), add).build();
        let layout = folder.path().join("layout");
        write_oci_layout(&layout, &[(Some("t"), &image)]).unwrap();
        Fixture { home: Home::new(), name: format!("oci:{}:t", layout.display()), folder }
    }

    /// A new directory.
    fn directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn cp(&self, words: &[&str], to: &Path) {
        let output = run(self.home.ocifs().args(["cp", &self.name]).args(words).arg(to));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

/// Everything, with all attributes.
#[test]
fn a_copy_of_all_equals_the_mount() {
    let fixture = Fixture::new(&forms::tars());
    let mounted = fixture.home.mount(&fixture.name);
    let expected = Snapshot::of(mounted.path());
    let (into, new) = (fixture.directory("into"), fixture.folder.path().join("new"));
    fixture.cp(&["/"], &into);
    Snapshot::assert_same(&expected, &Snapshot::of(&into), "cp / DIRECTORY");
    fixture.cp(&["/"], &new);
    Snapshot::assert_same(&expected, &Snapshot::of(&new), "cp / NEW");
    // Over what is there already.
    fixture.cp(&["/."], &into);
    Snapshot::assert_same(&expected, &Snapshot::of(&into), "cp /. DIRECTORY");
}

/// Parts of an image: what `cp -a` makes of the same words in the mount.
#[test]
fn copies_are_those_of_cp() {
    let fixture = Fixture::new(&forms::tars());
    let mounted = fixture.home.mount(&fixture.name);
    for (words, to) in [
        (&["d"][..], ""),
        (&["d"], "name"),
        (&["d/text"], ""),
        (&["d/text"], "name"),
        (&["link"], "name"),
        (&["d/.", "fifo"], ""),
        (&["hard", "d"], ""),
        (&["d", "hard", "hard.link", "link"], ""),
        (&["null", "disk", "setuid", "empty", "long.link"], ""),
    ] {
        let [ours, theirs] = ["ours", "theirs"].map(|name| fixture.directory(name));
        run(Command::new("cp")
            .arg("-a")
            .args(words)
            .arg(theirs.join(to))
            .current_dir(mounted.path()));
        fixture.cp(words, &ours.join(to));
        // The times of the places themselves are those of the copies.
        for place in [&ours, &theirs] {
            let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            fs::File::open(place).unwrap().set_times(time).unwrap();
        }
        Snapshot::assert_same(&Snapshot::of(&theirs), &Snapshot::of(&ours), &format!("{words:?}"));
    }
}

#[test]
fn patterns_stand_for_what_they_stand_for_in_a_shell() {
    let fixture = Fixture::new(&forms::tars());
    let mounted = fixture.home.mount(&fixture.name);
    for pattern in ["d/*", "*", "h*", "*/*.too", "[ls]*", "d/?e*"] {
        let ours = fixture.directory("ours");
        fixture.cp(&[pattern], &ours);
        let script = format!("printf '%s\\n' {pattern} | LC_ALL=C sort | sed 's,.*/,,'");
        let listed = run(Command::new("bash").args(["-c", &script]).current_dir(mounted.path()));
        let copied = run(Command::new("ls").args(["-1", "-U"]).arg(&ours));
        let sorted = |text: &[u8]| {
            let mut names: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&copied.stdout), sorted(&listed.stdout), "{pattern}");
    }
}

/// Holes stay holes.
#[test]
fn sparse_files_are_copied_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sparse");
    fs::write(&file, b"begin").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len(64 << 20).unwrap();
    let tar = run(Command::new("tar").args(["-cS", "-C"]).arg(folder.path()).arg("sparse")).stdout;
    let fixture = Fixture::new(&[tar]);
    let to = fixture.directory("to");
    fixture.cp(&["sparse"], &to);
    let copied = fs::metadata(to.join("sparse")).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&copied);
    assert_eq!(copied.len(), 64 << 20);
    assert!(blocks < 1024, "{blocks} blocks");
    assert!(fs::read(to.join("sparse")).unwrap().starts_with(b"begin\0"));
}

#[test]
fn a_part_exported_is_that_part() {
    let fixture = Fixture::new(&forms::tars());
    let mounted = fixture.home.mount(&fixture.name);
    let archive = fixture.folder.path().join("part.tar");
    let words = ["d", "hard", "link", "d/text", "empty"];
    let mut export = fixture.home.ocifs();
    run(export.args(["export", &fixture.name]).args(words).arg("-o").arg(&archive));
    let [ours, theirs] = ["ours", "theirs"].map(|name| fixture.directory(name));
    let unpack = |archive: &Path, to: &Path| {
        let flags = [
            "-x",
            "-p",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--warning=no-timestamp",
        ];
        run(Command::new("tar").args(flags).arg("-f").arg(archive).arg("-C").arg(to));
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        fs::File::open(to).unwrap().set_times(time).unwrap();
    };
    unpack(&archive, &ours);
    let other = fixture.folder.path().join("other.tar");
    let flags = ["--xattrs", "--xattrs-include=*", "--format=posix", "-c", "-f"];
    run(Command::new("tar")
        .args(flags)
        .arg(&other)
        .args(["d", "hard", "link", "empty"])
        .current_dir(mounted.path()));
    unpack(&other, &theirs);
    Snapshot::assert_same(&Snapshot::of(&theirs), &Snapshot::of(&ours), "export PATH");
    let listed = run(Command::new("tar").arg("-tf").arg(&archive)).stdout;
    assert_eq!(
        String::from_utf8_lossy(&listed).matches("d/text").count(),
        1,
        "once, though named twice"
    );
}

/// A layer that is exported alone is a layer again.
#[test]
fn a_layer_exported_is_that_layer() {
    let lower = [Entry::dir("d"), Entry::file("d/gone", "x"), Entry::file("kept", "kept")];
    let upper = [
        Entry::dir("d"),
        Entry::file("d/.wh.gone", ""),
        Entry::file("d/new", "new"),
        Entry::hardlink("link", "kept"),
    ];
    let fixture = Fixture::new(&[tar(&lower), tar(&upper)]);
    let archives: Vec<Vec<u8>> = ["0", "1"]
        .iter()
        .map(|layer| {
            run(fixture.home.ocifs().args(["export", "--layer", layer, &fixture.name])).stdout
        })
        .collect();
    let again = Fixture::new(&archives);
    let [mounted, other] = [&fixture, &again].map(|fixture| fixture.home.mount(&fixture.name));
    Snapshot::assert_same(&Snapshot::of(mounted.path()), &Snapshot::of(other.path()), "layers");
}

/// `ocifs du` counts what du(1) counts in the mount.
#[test]
fn du_counts_what_du_counts() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..25 {
        let tree = trees().new_tree(&mut runner).unwrap().current();
        let fixture = Fixture::new(&[tar(&tree)]);
        let mounted = fixture.home.mount(&fixture.name);
        let has_links = tree.iter().any(|entry| matches!(entry.kind, Kind::Hardlink(_)));
        for flags in [
            &["-s"][..],
            &["-s", "-b"],
            &["-a"],
            &[],
            &["-b", "-a"],
            &["-d", "1"],
            &["-c", "-d", "0"],
        ] {
            // Of a file with several names another one may come first to each.
            if has_links && !flags.contains(&"-s") {
                continue;
            }
            let ours =
                run(fixture.home.ocifs().arg("du").args(flags).args([&fixture.name, "."])).stdout;
            let theirs =
                run(Command::new("du").arg("-B1").args(flags).arg(".").current_dir(mounted.path()))
                    .stdout;
            let sorted = |text: &[u8]| {
                let mut rows: Vec<String> =
                    text.split(|b| *b == b'\n').map(|row| row.escape_ascii().to_string()).collect();
                rows.sort();
                rows
            };
            assert_eq!(sorted(&ours), sorted(&theirs), "du {flags:?}\n{tree:#?}");
        }
    }
}

/// Each file counts once over all that is named.
#[test]
fn du_counts_each_file_once() {
    let entries = [
        Entry::dir("a"),
        Entry::file("a/x", vec![b'x'; 5000]),
        Entry::dir("a/z"),
        Entry::hardlink("a/z/again", "a/x"),
        Entry::dir("c"),
        Entry::hardlink("c/too", "a/x"),
    ];
    let fixture = Fixture::new(&[tar(&entries)]);
    let mounted = fixture.home.mount(&fixture.name);
    for words in [
        &["a", "c"][..],
        &["c", "a"],
        &["a", "a/z"],
        &["a/z", "a"],
        &["c", "c"],
        &["a/x", "c"],
        &["-c", "a", "c"],
    ] {
        let ours = run(fixture.home.ocifs().args(["du", &fixture.name]).args(words)).stdout;
        let theirs =
            run(Command::new("du").arg("-B1").args(words).current_dir(mounted.path())).stdout;
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{words:?}");
    }
}
