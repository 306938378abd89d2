//! An image without what its base has.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tar::Archive;

use crate::shell::{Home, Outcome};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{self, Entry};

fn base_entries() -> Vec<Entry> {
    vec![
        Entry::dir("etc"),
        Entry::file("etc/same", "same"),
        Entry::file("etc/changed", "before"),
        Entry::file("etc/mode", "m"),
        Entry::file("etc/owner", "o"),
        Entry::file("etc/touched", "t").mtime(1000, 0),
        Entry::file("etc/removed", "r"),
        Entry::symlink("etc/link", "same"),
        Entry::symlink("etc/retargeted", "same"),
        Entry::dir("lib"),
        Entry::dir("lib/deep"),
        Entry::file("lib/deep/a", "a"),
        Entry::dir("empty"),
        Entry::dir("private"),
        Entry::file("private/x", "x"),
        Entry::file("kind", "a file"),
    ]
}

fn upper_entries() -> Vec<Entry> {
    vec![
        Entry::file("etc/changed", "after!"),
        Entry::file("etc/mode", "m").mode(0o4755),
        Entry::file("etc/owner", "o").owner(7, 7),
        Entry::file("etc/touched", "t").mtime(2000, 0),
        Entry::file("etc/.wh.removed", ""),
        Entry::symlink("etc/retargeted", "link"),
        Entry::file("srv/app", "new"),
        Entry::dir("private").mode(0o700),
        Entry::file(".wh.kind", ""),
        Entry::dir("kind"),
    ]
}

struct Setup {
    home: Home,
    registry: Registry,
}

impl Setup {
    fn new() -> Setup {
        let (base, upper) = (tarball::tar(&base_entries()), tarball::tar(&upper_entries()));
        // Built anew: no layer is the same, and the files have other times.
        let rebuilt: Vec<Entry> =
            base_entries().into_iter().map(|entry| entry.mtime(77, 0)).collect();
        let image = |layers: &[&[u8]]| -> Built {
            let add = |image: ImageBuilder, tar: &&[u8]| image.layer(tar, Compression::Gzip);
            layers.iter().fold(ImageBuilder::new(), add).build()
        };
        let (registry, home) = (Registry::start(), Home::new());
        registry.add_image("base", "1", &image(&[&base]));
        registry.add_image("app", "1", &image(&[&base, &upper]));
        registry.add_image("rebuilt", "1", &image(&[&tarball::tar(&rebuilt), &upper]));
        Setup { home, registry }
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.registry.addr())
    }

    fn run(&self, verb: &str, repository: &str, words: &[&str]) -> Outcome {
        let (base, image) = (self.name("base"), self.name(repository));
        self.home.run(&[&[verb, "--exclude-base", &base, &image], words].concat())
    }
}

const LEFT: [&str; 10] = [
    "/",
    "/etc",
    "/etc/changed",
    "/etc/mode",
    "/etc/owner",
    "/etc/retargeted",
    "/kind",
    "/private",
    "/srv",
    "/srv/app",
];

#[test]
fn what_the_base_has_is_left_out() {
    let setup = Setup::new();
    for repository in ["app", "rebuilt"] {
        let outcome = setup.run("find", repository, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let mut found: Vec<&str> = outcome.stdout.lines().collect();
        found.sort_unstable();
        assert_eq!(found, LEFT, "{repository}");
        assert_eq!(setup.run("ls", repository, &["srv"]).stdout, "app\n");
        assert_eq!(setup.run("ls", repository, &["lib"]).code, 1, "{repository}");
    }
    // Of the base itself nothing is left.
    assert_eq!(setup.run("find", "base", &[]).stdout, "/\n");
}

#[test]
fn a_mount_and_an_archive_show_the_same() {
    let setup = Setup::new();
    setup.run("mount", "app", &["M"]).succeeded();
    let place = setup.home.mount_point();
    let mut names: Vec<String> = fs::read_dir(place.join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["changed", "mode", "owner", "retargeted"]);
    assert_eq!(fs::read(place.join("etc/changed")).unwrap(), b"after!");
    assert_eq!(fs::metadata(place.join("etc/mode")).unwrap().mode() & 0o7777, 0o4755);
    let status = setup.home.status();
    assert_eq!(status["options"]["exclude_base"], setup.name("base"), "{status}");
    // Said again it is there already; without the base it would be something else.
    let again = setup.run("mount", "app", &["M"]);
    assert!(again.code == 0 && again.stderr.contains("already mounted"), "{again:?}");
    setup.home.run(&["mount", &setup.name("app"), "M"]).failed(1, &["another way"]);
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
    let archive = setup.home.path().join("left.tar");
    setup.run("export", "app", &["-o", archive.to_str().unwrap()]).succeeded();
    let mut archive = Archive::new(fs::File::open(&archive).unwrap());
    let path = |entry: tar::Entry<'_, fs::File>| {
        // What has no content says so: some readers refuse a size that is blank.
        assert_eq!(entry.header().as_old().size[11], 0);
        assert!(entry.header().as_old().size[..11].iter().all(u8::is_ascii_digit));
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        format!("/{}", path.trim_start_matches('.').trim_matches('/'))
    };
    let mut paths: Vec<String> = archive.entries().unwrap().map(|e| path(e.unwrap())).collect();
    paths.sort();
    assert_eq!(paths, LEFT);
}

#[test]
fn two_versions_are_compared_without_it() {
    let setup = Setup::new();
    let base = setup.name("base");
    let words = ["diff", "--name-only", "--exclude-base", &base];
    let outcome = setup.home.run(&[&words[..], &[&base, &setup.name("app")]].concat());
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        !outcome.stdout.contains("removed") && outcome.stdout.contains("srv/app"),
        "{outcome:?}"
    );
}

#[test]
fn an_error_names_the_base() {
    let setup = Setup::new();
    let base = format!("{}/nothing:1", setup.registry.addr());
    let outcome = setup.home.run(&["find", "--exclude-base", &base, &setup.name("app")]);
    outcome.failed(1, &["the base", "/nothing:1"]);
    let outcome = setup.home.run(&["find", "--exclude-base", "a b", &setup.name("app")]);
    outcome.failed(2, &["--exclude-base"]);
    // One layer alone has nothing of a base to leave out.
    for verb in ["find", "ls", "export"] {
        setup.run(verb, "app", &["--layer", "0"]).failed(2, &["--exclude-base", "--layer"]);
    }
}
