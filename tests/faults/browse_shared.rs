//! Files that several images of a browsed registry have: one inode, read once, whatever is open.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Advice, AtFlags, CWD, StatxFlags, fadvise, statx};

use crate::browse::Setup;
use crate::external_fixture::{self, bulk, bulk_content, ways};
use crate::fixture::noise;
use crate::lazy_walks::forget_spans;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::survival;

/// Of the layer that all images here have. Its first file is the entry with the number 1.
const SIZE: usize = 300_000;

fn base() -> Vec<u8> {
    tar(&[
        Entry::dir("etc"),
        Entry::file("etc/base", noise(SIZE, 1)).mode(0o640).mtime(1_700_000_000, 5),
        Entry::file("etc/one", "one"),
        Entry::hardlink("etc/two", "etc/one"),
        Entry::file("etc/changed", "lower"),
    ])
}

fn image(upper: &[Entry]) -> Built {
    let layers = [base(), tar(upper)];
    let add = |builder: ImageBuilder, layer: &Vec<u8>| builder.layer(layer, Compression::Gzip);
    layers.iter().fold(ImageBuilder::new(), add).build()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

/// What the program says of a file, whatever the kernel remembers.
fn asked(path: &Path) -> (u64, u32, u64) {
    let flags = AtFlags::STATX_FORCE_SYNC;
    let found = statx(CWD, path, flags, StatxFlags::BASIC_STATS).unwrap();
    (found.stx_ino, found.stx_nlink, found.stx_size)
}

/// Reads a file of which the kernel has forgotten all pages.
fn read_anew(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap();
    fadvise(file.as_fd(), 0, None, Advice::DontNeed).unwrap();
    fs::read(path).unwrap()
}

impl Setup {
    fn reads(&self) -> u64 {
        self.home.status()["requests"]["read"].as_u64().unwrap()
    }

    /// Enters more images than stay open at the same time.
    fn evict(&self) {
        for n in 0..70 {
            let own = tar(&[Entry::file("own", format!("{n}"))]);
            let built = ImageBuilder::new().layer(&own, Compression::Gzip).build();
            self.registry.add_image("others", &format!("{n}"), &built);
            let read = fs::read_to_string(self.at(&format!("others/:{n}/own"))).unwrap();
            assert_eq!(read, format!("{n}"));
        }
    }

    fn is_open(&self, path: &str) -> bool {
        let status = self.home.status();
        let images = status["images"].as_array().unwrap();
        images.iter().any(|image| image["directory"].as_str().unwrap().ends_with(path))
    }
}

#[test]
fn a_file_that_two_images_have_is_one_inode_and_read_once() {
    let setup = Setup::new(&[]);
    setup.registry.add_image("team/app", "1", &image(&[Entry::file("own", "1")]));
    let changed = [
        Entry::file("etc/changed", "upper"),
        Entry::file("copy", noise(SIZE, 1)).mode(0o640).mtime(1_700_000_000, 5),
        Entry::hardlink("three", "etc/one"),
    ];
    setup.registry.add_image("tools", "2", &image(&changed));
    let (one, two) = (setup.at("team/app/:1"), setup.at("tools/:2"));
    assert_eq!(inode(&one.join("etc/base")), inode(&two.join("etc/base")));
    assert_eq!(inode(&one.join("etc/base")), inode(&setup.at("team/app:1/etc/base")));
    assert!(fs::read(one.join("etc/base")).unwrap() == noise(SIZE, 1));
    let reads = setup.reads();
    assert!(reads > 0);
    assert!(fs::read(two.join("etc/base")).unwrap() == noise(SIZE, 1));
    assert_eq!(setup.reads(), reads, "the kernel has its pages");
    let metadata = fs::metadata(two.join("etc/base")).unwrap();
    assert_eq!((metadata.mode(), metadata.mtime_nsec()), (0o100_640, 5));
    // The same content and attributes from elsewhere are another file, and so is one with another number of names.
    assert_ne!(inode(&two.join("copy")), inode(&two.join("etc/base")));
    assert_eq!(inode(&one.join("etc/one")), inode(&one.join("etc/two")));
    assert_eq!(inode(&two.join("etc/one")), inode(&two.join("three")));
    assert_ne!(inode(&one.join("etc/one")), inode(&two.join("etc/one")));
    let links = |path: &Path| fs::metadata(path).unwrap().nlink();
    assert_eq!((links(&one.join("etc/two")), links(&two.join("etc/two"))), (2, 3));
    assert_ne!(inode(&one.join("etc/changed")), inode(&two.join("etc/changed")));
    assert_eq!(fs::read(two.join("etc/changed")).unwrap(), b"upper");
    // Directories have a parent each.
    assert_ne!(inode(&one.join("etc")), inode(&two.join("etc")));
    // As two versions of an image are compared: what both have is not read.
    let reads = setup.reads();
    let mut diff = setup.home.command("diff");
    let diff = diff.args(["-rq", "--no-dereference"]).args([&one, &two]).output().unwrap();
    let said = String::from_utf8(diff.stdout).unwrap();
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.contains("etc/changed differ"), "{said}");
    // Both of `changed`, and of `one` and `two` once with two names and once with three.
    assert!(setup.reads() - reads <= 4, "{} reads", setup.reads() - reads);
    setup.end();
}

/// A process that takes over gives layers the same numbers, and finds an image that has the file behind a number.
#[test]
fn shared_files_are_what_they_were_when_workers_die() {
    let setup = Setup::new(&[]);
    // Has the layer, and not the file.
    setup.registry.add_image("app", "0", &image(&[Entry::file("etc/.wh.base", "")]));
    setup.registry.add_image("app", "1", &image(&[Entry::file("own", "1")]));
    setup.registry.add_image("app", "2", &image(&[Entry::file("own", "2")]));
    let paths = ["app/:0/etc/one", "app/:1/etc/base", "app/:1/etc/two", "app/:1/own"];
    let paths = paths.map(|path| setup.at(path));
    let before = paths.each_ref().map(|path| asked(path));
    let held = fs::File::open(&paths[1]).unwrap();
    for round in 0..2 {
        survival::kill_worker(&setup.home);
        // By its number alone, before any image is entered again.
        fadvise(held.as_fd(), 0, None, Advice::DontNeed).unwrap();
        let mut bytes = vec![0; SIZE];
        std::os::unix::fs::FileExt::read_exact_at(&held, &mut bytes, 0).unwrap();
        assert!(bytes == noise(SIZE, 1), "round {round}");
        assert_eq!(paths.each_ref().map(|path| asked(path)), before, "round {round}");
        // One that the kernel has never heard of.
        assert_eq!(inode(&setup.at("app/:2/etc/base")), before[1].0, "round {round}");
        assert_eq!(fs::read(setup.at("app/:2/own")).unwrap(), b"2");
        assert!(read_anew(&paths[1]) == noise(SIZE, 1), "round {round}");
    }
    drop(held);
    setup.end();
}

/// Another registry may be gone tomorrow, or be slow.
#[test]
fn registries_share_nothing() {
    let setup = Setup::new(&[]);
    let other = Registry::start();
    let built = image(&[Entry::file("own", "1")]);
    setup.registry.add_image("app", "1", &built);
    other.add_image("app", "1", &built);
    let there = setup.home.mount_point().join(other.addr().to_string()).join("app/:1");
    assert_ne!(inode(&setup.at("app/:1/etc/base")), inode(&there.join("etc/base")));
    setup.end();
}

/// The kernel remembers files of images that were closed. Here all other images have another file in the place of one.
#[test]
fn closed_images_are_opened_again_for_their_files() {
    let setup = Setup::new(&[]);
    for n in 0..8 {
        let upper = [Entry::file("etc/changed", format!("upper {n}"))];
        setup.registry.add_image("app", &format!("{n}"), &image(&upper));
        assert!(fs::read(setup.at(&format!("app/:{n}/etc/base"))).unwrap() == noise(SIZE, 1));
    }
    setup.registry.add_image("app", "lower", &image(&[Entry::file("own", "x")]));
    let paths =
        ["etc/base", "etc/changed", "etc/two", "own"].map(|path| format!("app/:lower/{path}"));
    let facts = || paths.each_ref().map(|path| asked(&setup.at(path)));
    let before = facts();
    assert_eq!(before.map(|(_, nlink, _)| nlink), [1, 1, 2, 1]);
    assert_eq!(inode(&setup.at("app/:0/etc/base")), before[0].0);
    assert_ne!(inode(&setup.at("app/:0/etc/changed")), before[1].0);
    let open = paths.each_ref().map(|path| fs::File::open(setup.at(path)).unwrap());
    setup.evict();
    assert!(!setup.is_open("app/:lower") && !setup.is_open("app/:0"));
    let asked_of = |file: &fs::File| {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let found = statx(file, "", flags, StatxFlags::BASIC_STATS).unwrap();
        assert_eq!(u32::from(found.stx_mode) & 0o170_000, 0o100_000, "a regular file");
        (found.stx_ino, found.stx_nlink, found.stx_size)
    };
    // By the inodes that the kernel has, without a name being looked up: the first image that had the file is opened.
    assert_eq!(asked_of(&open[0]), before[0]);
    assert!(setup.is_open("app/:0") && !setup.is_open("app/:lower"));
    assert_eq!(open.each_ref().map(asked_of), before);
    assert!(setup.is_open("app/:lower") && !setup.is_open("app/:1"), "no image is opened in vain");
    drop(open);
    assert_eq!(facts(), before);
    let expected = [noise(SIZE, 1), b"lower".to_vec(), b"one".to_vec(), b"x".to_vec()];
    for (path, expected) in paths.iter().zip(expected) {
        assert!(read_anew(&setup.at(path)) == expected, "{path}");
    }
    for n in 0..8 {
        let read = read_anew(&setup.at(&format!("app/:{n}/etc/changed")));
        assert_eq!(read, format!("upper {n}").into_bytes());
    }
    setup.end();
}

/// A layer that is known by a table of contents has its entries in the order of that. Once it was streamed, there is an
/// index with another order, which an image that is opened again must not use.
#[test]
fn tables_of_contents_stay_those_by_which_an_image_was_opened() {
    let setup = Setup::new(&["--proof", "any"]);
    let way = &ways()[0];
    let layer = way.layer(&(way.write)(&external_fixture::entries(1), None));
    setup.registry.add_image("app", "1", &external_fixture::image([layer]));
    let paths: Vec<String> = (0..8).map(|n| format!("app/:1/{}", bulk(1, n))).collect();
    let inodes = || paths.iter().map(|path| asked(&setup.at(path)).0).collect::<Vec<_>>();
    let before = inodes();
    let open: Vec<_> = paths.iter().map(|path| fs::File::open(setup.at(path)).unwrap()).collect();
    let name = format!("{}/app:1", setup.registry.addr());
    setup.home.run(&["pull", "--proof", "full", &name]).succeeded();
    setup.evict();
    assert!(!setup.is_open("app/:1"));
    assert_eq!(inodes(), before);
    for (n, path) in paths.iter().enumerate() {
        assert!(read_anew(&setup.at(path)) == bulk_content(1, n), "{path}");
    }
    drop(open);
    setup.end();
}

/// A blob that one repository has lost comes from another one that has it.
#[test]
fn a_file_is_read_through_another_image_that_has_it() {
    let setup = Setup::new(&["--timeout", "5"]);
    let built = image(&[Entry::file("own", "1")]);
    setup.registry.add_image("lost", "1", &built);
    setup.registry.add_image("kept", "1", &built);
    let (lost, kept) = (setup.at("lost/:1/etc/base"), setup.at("kept/:1/etc/base"));
    assert_eq!(asked(&lost), asked(&kept));
    // It is asked first.
    asked(&lost);
    forget_spans(&setup.home.path().join("cache"));
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    setup.registry.fault(("GET", "/v2/lost/blobs/", Times::Always), gone);
    setup.registry.clear_log();
    assert!(read_anew(&kept) == noise(SIZE, 1));
    assert!(
        setup.registry.requests().iter().any(|request| request.path.contains("/v2/kept/blobs/"))
    );
    setup.end();
}
