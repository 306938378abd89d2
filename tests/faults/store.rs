//! `ocifs store`: what is listed, what it costs, what is shared, and what is left when a registry or a process is gone.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use rustix::fs::listxattr;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::external_fixture;
use crate::fixture::{name_in, noise};
use crate::lazy_walks::forget_spans;
use crate::shell::{Home, eventually, eventually_within, names, text};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// Layers that hide, replace and link to what is below them.
fn layers() -> [Vec<u8>; 4] {
    [
        tar(&[
            Entry::dir("d").mode(0o711).owner(1, 2).mtime(3, 0),
            Entry::file("d/a", "lower"),
            Entry::file("d/big", noise(200_000, 1)),
            Entry::file("d/linked", "two names, later three"),
            Entry::hardlink("d/second", "d/linked"),
            Entry::symlink("usr", "d"),
            Entry::file("gone", "x"),
        ]),
        tar(&[
            Entry::file(".wh.gone", ""),
            Entry::file("d/a", "upper"),
            Entry::hardlink("d/third", "d/linked"),
            Entry::file("usr/through", "a symlink"),
        ]),
        tar(&[Entry::dir("e"), Entry::file("e/same", "one"), Entry::file("e/same", "two")]),
        tar(&[Entry::file("d/.wh..wh..opq", ""), Entry::file("d/new", "new")]),
    ]
}

fn image(tars: &[Vec<u8>]) -> Built {
    let builder = ImageBuilder::new();
    tars.iter().fold(builder, |builder, tar| builder.layer(tar, Compression::Gzip)).build()
}

/// A store of an image in a registry.
struct Fixture {
    home: Home,
    registry: Registry,
    built: Built,
}

impl Fixture {
    fn new(built: Built) -> Fixture {
        let (home, registry) = (Home::new(), Registry::start());
        registry.add_image("r", "t", &built);
        let fixture = Fixture { home, registry, built };
        fixture.mount(&[]);
        fixture
    }

    fn mount(&self, flags: &[&str]) {
        let name = name_in(&self.registry);
        self.home.run(&[&["store"], flags, &["M", &name]].concat()).succeeded();
    }

    fn umount(&self) {
        self.home.run(&["umount", "M"]).succeeded();
        self.home.is_quiet();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.mount_point().join(path)
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(path)).unwrap()).unwrap()
    }

    /// The IDs of its layers, base first.
    fn layers(&self) -> Vec<String> {
        let rows = self.json("overlay-layers/layers.json");
        let ids = rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
        ids.collect()
    }

    fn prefix(&self, at: usize) -> PathBuf {
        self.at("overlay").join(&self.layers()[at]).join("diff")
    }

    /// The requests for blobs of layers since the log was cleared.
    fn layer_requests(&self) -> usize {
        let digests = self.built.layer_digests();
        let requests = self.registry.requests();
        requests.iter().filter(|r| digests.iter().any(|digest| r.path.ends_with(digest))).count()
    }
}

#[test]
fn lists_and_links_are_those_that_engines_expect() {
    let fixture = Fixture::new(image(&layers()));
    let images = fixture.json("overlay-images/images.json");
    let [row] = &images.as_array().unwrap()[..] else { panic!("{images}") };
    let config = fixture.built.config_digest();
    let id = &config["sha256:".len()..];
    assert_eq!(row["id"], id);
    assert_eq!(row["names"], serde_json::json!([name_in(&fixture.registry)]));
    assert_eq!(row["digest"].as_str().unwrap(), fixture.built.manifest_digest);
    // Each document is where its key says, with the size that is listed.
    for (key, size) in row["big-data-sizes"].as_object().unwrap() {
        let name = match key.as_str() {
            "manifest" => key.clone(),
            key => format!("={}", STANDARD.encode(key)),
        };
        let bytes = fs::read(fixture.at("overlay-images").join(id).join(name)).unwrap();
        assert_eq!(bytes.len() as u64, size.as_u64().unwrap(), "{key}");
        if key == "manifest" {
            assert_eq!(bytes, fixture.built.manifest);
        }
    }
    let layers = fixture.json("overlay-layers/layers.json");
    let mut parent = String::new();
    for (row, tar) in layers.as_array().unwrap().iter().zip(self::layers()) {
        assert_eq!(row["parent"].as_str().unwrap_or_default(), parent);
        assert_eq!(row["diff-size"].as_u64().unwrap(), tar.len() as u64);
        parent = row["id"].as_str().unwrap().to_owned();
        let overlay = fixture.at("overlay");
        let link = fs::read_to_string(overlay.join(&parent).join("link")).unwrap();
        assert_eq!(link.len(), 26);
        let target = fs::read_link(overlay.join("l").join(&link)).unwrap();
        assert_eq!(target, Path::new("..").join(&parent).join("diff"));
        assert!(overlay.join("l").join(&link).join("d").is_dir());
        assert!(!overlay.join(&parent).join("lower").exists());
    }
    assert_eq!(row["layer"], parent);
    for lock in ["overlay-images/images.lock", "overlay-layers/layers.lock"] {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CREATE;
        rustix::fs::open(fixture.at(lock), flags, rustix::fs::Mode::RUSR).unwrap();
    }
    // Children in other stores remember both: another run has the same.
    let before = (fixture.layers(), names(&fixture.at("overlay/l")));
    fixture.umount();
    fixture.mount(&["--offline"]);
    assert_eq!((fixture.layers(), names(&fixture.at("overlay/l"))), before);
    fixture.umount();
}

#[test]
fn each_prefix_shows_its_own_tree() {
    let fixture = Fixture::new(image(&layers()));
    let tree = |at: usize| {
        let top = fixture.prefix(at);
        let mut found = Vec::new();
        let mut todo = vec![top.clone()];
        while let Some(dir) = todo.pop() {
            for name in names(&dir) {
                let path = dir.join(name);
                let metadata = path.symlink_metadata().unwrap();
                let text = match metadata.is_file() {
                    true => fs::read(&path).unwrap(),
                    false => Vec::new(),
                };
                let shown = path.strip_prefix(&top).unwrap().display().to_string();
                found.push((shown, metadata.nlink(), String::from_utf8_lossy(&text).into_owned()));
                if metadata.is_dir() {
                    todo.push(path);
                }
            }
        }
        found.retain(|(path, ..)| path != "d/big");
        found.sort();
        let rows = found.iter().map(|(path, links, text)| format!("{path} {links} {text}"));
        rows.collect::<Vec<_>>()
    };
    let linked = |links: u64| move |name: &str| format!("d/{name} {links} two names, later three");
    let (two, three) = (linked(2), linked(3));
    assert_eq!(
        tree(0),
        ["d 2 ", "d/a 1 lower", &two("linked"), &two("second"), "gone 1 x", "usr 1 "]
    );
    let second = [
        "d 2 ",
        "d/a 1 upper",
        &three("linked"),
        &three("second"),
        &three("third"),
        "d/through 1 a symlink",
        "usr 1 ",
    ]
    .map(str::to_owned);
    assert_eq!(tree(1), second);
    let third = [&second[..6], &["e 2 ".into(), "e/same 1 two".into()], &second[6..]].concat();
    assert_eq!(tree(2), third);
    assert_eq!(tree(3), ["d 2 ", "d/new 1 new", "e 2 ", "e/same 1 two", "usr 1 "]);
    // The root is that of the tree before any process has entered it.
    fixture.umount();
    fixture.mount(&[]);
    let metadata = fs::metadata(fixture.prefix(3)).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, 0));
    fixture.umount();
}

/// What a file is decides on its inode, and not in which tree it stands or which was opened first.
#[test]
fn files_are_one_inode_in_all_trees_that_have_them() {
    let built = image(&layers());
    let other = image(&[&layers()[..1], &[tar(&[Entry::file("other", "x")])]].concat());
    let fixture = Fixture::new(built);
    fixture.registry.add_image("r", "other", &other);
    let inode = |at: usize, path: &str| fs::metadata(fixture.prefix(at).join(path)).unwrap().ino();
    let check = |top_first: bool| {
        let order: Vec<usize> = if top_first { vec![2, 1, 0] } else { vec![0, 1, 2] };
        let all: HashMap<usize, [u64; 4]> = order
            .iter()
            .map(|at| (*at, ["d/big", "d/a", "d/linked", "d"].map(|path| inode(*at, path))))
            .collect();
        let [bigs, changed, linked, dirs] = [0, 1, 2, 3].map(|n| [0, 1, 2].map(|at| all[&at][n]));
        assert!(bigs[0] == bigs[1] && bigs[1] == bigs[2], "{bigs:?}");
        assert!(changed[0] != changed[1] && changed[1] == changed[2], "{changed:?}");
        assert!(linked[0] != linked[1] && linked[1] == linked[2], "two names, then three");
        assert!(dirs[0] != dirs[1] && dirs[1] != dirs[2], "directories have a parent each");
        bigs[0]
    };
    let first = check(true);
    fixture.umount();
    fixture.mount(&[]);
    assert_eq!(check(false), first, "the order in which they are opened does not count");
    fixture.umount();
    // Two images with a common layer.
    let names = [":t", ":other"].map(|tag| format!("{}/r{tag}", fixture.registry.addr()));
    fixture.home.run(&["store", "M", &names[0], &names[1]]).succeeded();
    let layers = fixture.layers();
    assert_eq!(layers.len(), 5, "the common layer is listed once");
    assert_eq!(inode(4, "d/big"), inode(2, "d/big"));
    assert_eq!(fs::read_to_string(fixture.prefix(4).join("d/a")).unwrap(), "lower");
    fixture.umount();
}

#[test]
fn what_is_known_costs_no_byte_of_a_layer_before_it_is_read() {
    let fixture = Fixture::new(image(&layers()));
    let layers = fixture.built.layer_digests().len();
    assert_eq!(fixture.layer_requests(), layers, "each is streamed once");
    fixture.umount();
    forget_spans(&fixture.home.path().join("cache"));
    fixture.registry.clear_log();
    fixture.mount(&[]);
    for at in 0..layers {
        let prefix = fixture.prefix(at);
        names(&prefix);
        fs::metadata(prefix.join("d")).unwrap();
        assert!(listxattr(&prefix, &mut Vec::<u8>::new()).is_ok());
    }
    names(&fixture.at("overlay-layers"));
    assert_eq!(fixture.layer_requests(), 0, "names and attributes are known");
    assert_eq!(fs::read(fixture.prefix(0).join("d/big")).unwrap(), noise(200_000, 1));
    assert!(fixture.layer_requests() > 0);
    fixture.registry.clear_log();
    assert_eq!(fs::read(fixture.prefix(2).join("d/big")).unwrap(), noise(200_000, 1));
    assert_eq!(fixture.layer_requests(), 0, "another tree has the same bytes");
    fixture.umount();
}

/// Puts the archive of a layer together as an engine does: from its description, and the files.
fn assembled(split: &[u8], prefix: &Path) -> (Vec<u8>, usize) {
    let mut text = String::new();
    GzDecoder::new(split).read_to_string(&mut text).unwrap();
    let (mut archive, mut files) = (Vec::new(), 0);
    for (at, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["position"], at);
        let payload = STANDARD.decode(line["payload"].as_str().unwrap()).unwrap();
        match line["type"].as_u64().unwrap() {
            2 => archive.extend(payload),
            1 => {
                let path = prefix.join(line["name"].as_str().unwrap());
                let bytes = fs::read(path).unwrap();
                assert_eq!(
                    (bytes.len() as u64, payload.len()),
                    (line["size"].as_u64().unwrap(), 8)
                );
                archive.extend(bytes);
                files += 1;
            }
            other => panic!("{other}"),
        }
    }
    (archive, files)
}

#[test]
fn archives_come_together_again() {
    let mut all = layers().to_vec();
    // Blocks behind the end, as `tar -b` and others leave them.
    all.push(
        [tar(&[Entry::file("sparse", "s"), Entry::file("z", vec![0; 3000])]), vec![0; 4096]]
            .concat(),
    );
    let fixture = Fixture::new(image(&all));
    let ids = fixture.layers();
    let split = |at: usize| {
        fs::read(fixture.at("overlay-layers").join(format!("{}.tar-split.gz", ids[at]))).unwrap()
    };
    // Files of the upper layers are found by name but for `e/same`, which the same layer replaces, and `usr/through`, which
    // would be looked for below the host's `/d` if the link were absolute.
    for (at, files) in [(0, 4), (1, 1), (2, 1), (3, 1), (4, 2)] {
        let (archive, found) = assembled(&split(at), &fixture.prefix(at));
        assert!(archive == all[at], "layer {at}");
        assert_eq!(found, files, "layer {at}");
    }
    assert_eq!(fs::metadata(fixture.at("overlay-layers/layers.json")).unwrap().nlink(), 1);
    fixture.umount();
}

#[test]
fn a_registry_that_is_gone_is_missed_by_what_is_not_here() {
    let fixture = Fixture::new(image(&layers()));
    fixture.registry.fault(("GET", "", Times::Always), Fault::Status(500, Vec::new(), Vec::new()));
    assert_eq!(fs::read(fixture.prefix(2).join("d/big")).unwrap(), noise(200_000, 1));
    let split = format!("overlay-layers/{}.tar-split.gz", fixture.layers()[0]);
    assert!(fs::metadata(fixture.at(&split)).unwrap().size() > 0);
    fixture.umount();
    forget_spans(&fixture.home.path().join("cache"));
    fixture.mount(&["--offline"]);
    let read = fs::read(fixture.prefix(2).join("d/big")).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{read}");
    let read = fs::read(fixture.at(&split)).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{read}");
    names(&fixture.prefix(3));
    fixture.umount();
}

/// What a worker shows another one shows under the same numbers, whichever trees were open.
#[test]
fn a_worker_that_dies_is_not_missed() {
    let fixture = Fixture::new(image(&layers()));
    let facts = || -> Vec<(u64, u64, i64)> {
        let paths = (0..4).flat_map(|at| {
            let prefix = fixture.prefix(at);
            [prefix.clone(), prefix.join("d"), prefix.join("d/big"), prefix.join("d/linked")]
        });
        let lists = ["overlay-images/images.json", "overlay/l"].map(|path| fixture.at(path));
        let found = paths.chain(lists).filter_map(|path| fs::metadata(path).ok());
        found.map(|found| (found.ino(), found.nlink(), found.mtime())).collect()
    };
    let before = facts();
    assert_eq!(before.len(), 16);
    let mut open = fs::File::open(fixture.prefix(1).join("d/big")).unwrap();
    for _ in 0..3 {
        let [worker] = fixture.home.workers()[..] else { panic!("one worker") };
        kill_process(worker, Signal::KILL).unwrap();
        assert!(eventually(|| !fixture.home.workers().contains(&worker)));
        // Nothing that the kernel remembers from before.
        rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut open).unwrap();
        open.read_to_end(&mut bytes).unwrap();
        assert!(bytes == noise(200_000, 1));
        assert_eq!(facts(), before);
        assert!(eventually(|| fixture.home.workers().len() == 1));
    }
    drop(open);
    fixture.umount();
}

#[test]
fn a_store_whose_processes_are_gone_gives_errors_and_no_zeros() {
    let fixture = Fixture::new(image(&layers()));
    let path = fixture.prefix(0).join("d/big");
    for pid in fixture.home.serving() {
        kill_process(pid, Signal::KILL).unwrap();
    }
    assert!(eventually(|| fixture.home.serving().is_empty()));
    assert!(fs::read(&path).is_err());
    fixture.home.run(&["umount", "M"]).succeeded();
    fixture.home.is_quiet();
    // The place can be used again.
    fixture.mount(&[]);
    assert_eq!(fs::read(&path).unwrap(), noise(200_000, 1));
    fixture.umount();
}

/// What a list names is shown, and what is added to it as well; what was there keeps its numbers.
#[test]
fn images_of_a_list_are_added_while_it_is_shown() {
    let (home, registry) = (Home::new(), Registry::start());
    let all = layers();
    let images = [image(&all[..1]), image(&all[..2]), image(&all[2..])];
    for (at, built) in images.iter().enumerate() {
        registry.add_image("r", &format!("t{at}"), built);
    }
    let name = |at: &str| format!("{}/r:{at}", registry.addr());
    let list = home.path().join("images");
    home.run(&["store", "M", "--list", text(&list)]).failed(1, &["the list", "No such file"]);
    fs::write(&list, format!("# those that we use\n\n{}\nbad REF\n", name("t0"))).unwrap();
    home.run(&["store", "M", "--list", text(&list)]).failed(1, &["line 4", "bad REF"]);
    fs::write(&list, format!("# those that we use\n\n{}\n", name("t0"))).unwrap();
    home.run(&["store", "M", "--list", text(&list), &name("t1")]).succeeded();
    let shown = || {
        let text = fs::read(home.mount_point().join("overlay-images/images.json")).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let names = rows.iter().flat_map(|row| row["names"].as_array().unwrap().clone());
        names.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(), [name("t1"), name("t0")]);
    let overlay = home.mount_point().join("overlay");
    let numbers = || -> Vec<(String, u64, u64)> {
        let rows = names(&overlay).into_iter().filter(|name| name != "l");
        let rows = rows.map(|name| {
            let diff = overlay.join(&name).join("diff");
            let big = fs::metadata(diff.join("d/big")).map_or(0, |big| big.ino());
            (name, fs::metadata(&diff).unwrap().ino(), big)
        });
        rows.collect()
    };
    let before = numbers();
    assert_eq!(before.len(), 2);
    // One that can't be had keeps the others from nothing.
    let more = format!("{}\n{}\nbad REF\n{}\n", name("t0"), name("missing"), name("t2"));
    fs::write(&list, more).unwrap();
    let limit = std::time::Duration::from_secs(40);
    let expected = [name("t1"), name("t0"), name("t2")];
    assert!(eventually_within(limit, || shown() == expected), "{:?}", shown());
    let after = numbers();
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|row| after.contains(row)), "{before:?} {after:?}");
    // The next worker has it too, under the same numbers, though the list is gone.
    fs::remove_file(&list).unwrap();
    let [worker] = home.workers()[..] else { panic!("one worker") };
    kill_process(worker, Signal::KILL).unwrap();
    assert!(eventually(|| !home.workers().contains(&worker)));
    assert_eq!(shown(), expected);
    assert_eq!(numbers(), after);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// An engine takes a layer of the store for that of another image that has its digests: so these have to be proven.
#[test]
fn layers_are_listed_under_digests_that_were_proven() {
    let way = &external_fixture::ways()[0];
    let layer = way.layer(&(way.write)(&external_fixture::entries(1), None));
    let fixture = Fixture::new(external_fixture::image([layer]));
    let row = || fixture.json("overlay-layers/layers.json")[0].take();
    let diff_id = fixture.built.diff_ids()[0].clone();
    let proven = row();
    assert_eq!(proven["diff-digest"], diff_id);
    assert_eq!(proven["compressed-diff-digest"], fixture.built.layer_digests()[0]);
    assert_eq!(proven["id"], diff_id["sha256:".len()..]);
    fixture.umount();
    // As the table of contents says, on a machine that has not streamed it.
    fs::remove_dir_all(fixture.home.path().join("cache")).unwrap();
    fixture.mount(&["--proof", "any"]);
    let claimed = row();
    assert!(claimed.get("diff-digest").is_none(), "{claimed}");
    assert!(claimed.get("compressed-diff-digest").is_none(), "{claimed}");
    assert_ne!(claimed["id"], proven["id"]);
    assert_eq!(claimed["diff-size"], -1);
    let small = fs::read_to_string(fixture.prefix(0).join("usr/small1")).unwrap();
    assert_eq!(small, "small1");
    // An archive of it is made of the layer itself.
    let split = format!("overlay-layers/{}.tar-split.gz", claimed["id"].as_str().unwrap());
    let split = fs::read(fixture.at(&split)).unwrap();
    let (archive, _) = assembled(&split, &fixture.prefix(0));
    assert_eq!(sha256(&archive), diff_id);
    fixture.umount();
}

#[test]
fn what_is_no_image_for_containers_is_refused() {
    let home = Home::new();
    let name = home.layout(&image(&layers()[..1]));
    let unnamed = home.run(&["store", "M", &name]);
    unnamed.failed(2, &["does not say what engines should call it", "NAME="]);
    let named = format!("app:1={name}");
    home.run(&["store", "M", &named]).succeeded();
    let images = fs::read_to_string(home.mount_point().join("overlay-images/images.json")).unwrap();
    assert!(images.contains(r#""names":["localhost/app:1"]"#), "{images}");
    // One store at a place.
    home.run(&["store", "M", &named]).failed(1, &["shows image-store already"]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    home.run(&["store", "M"]).failed(2, &["[NAME=]REF"]);
}
