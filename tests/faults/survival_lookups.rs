//! Workers of `ocifs browse` and `mount --layout` that die: what was looked up keeps its numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::external_fixture::{entries, image, ways};
use crate::fixture::{image_of, name_in};
use crate::shell::{Home, eventually_within, names};
use crate::support::content::{Content, multi};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Referrers, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::survival::{files, kill_worker, kills, layers, status, storm_below, worker};

/// A registry that lists its repositories, browsed.
struct Browsed {
    home: Home,
    registry: Registry,
}

impl Browsed {
    fn new() -> Browsed {
        let browsed = Browsed { home: Home::new(), registry: Registry::start() };
        browsed.registry.set_catalog(true);
        browsed.home.run(&["browse", "M"]).succeeded();
        browsed
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.mount_point().join(self.registry.addr().to_string()).join(path)
    }

    fn end(self) {
        self.home.run(&["umount", "M"]).succeeded();
        self.home.is_quiet();
    }
}

fn with_layers() -> Built {
    let add = |builder: ImageBuilder, layer: &Vec<u8>| builder.layer(layer, Compression::Gzip);
    layers().iter().fold(ImageBuilder::new(), add).build()
}

fn small(word: &str) -> Built {
    let entries =
        [Entry::dir("d"), Entry::file("d/word", word), Entry::file(word, word.repeat(99))];
    image_of(&tar(&entries), Compression::Gzip)
}

fn number(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

#[test]
fn who_browses_does_not_notice_that_workers_are_killed() {
    let browsed = Browsed::new();
    browsed.registry.add_image("team/app", "1.0", &with_layers());
    for tag in ["a", "b", "c"] {
        browsed.registry.add_image("other", tag, &small(tag));
    }
    let top = browsed.at("");
    storm_below(&browsed.home, &top, kills(), |_| kill_worker(&browsed.home));
    // By names that no list has, too.
    assert_eq!(fs::read(browsed.at("other:a/d/word")).unwrap(), b"a");
    browsed.end();
}

/// Spans are fetched, and images opened, while workers die.
#[test]
fn who_browses_does_not_notice_that_workers_are_killed_as_they_fetch() {
    let browsed = Browsed::new();
    browsed.registry.add_image("team/app", "1.0", &with_layers());
    let home = &browsed.home;
    storm_below(home, &browsed.at(""), 6, |_| {
        let _ = fs::remove_dir_all(home.path().join("cache/v1/spans"));
        thread::sleep(Duration::from_millis(30));
        kill_worker(home);
    });
    browsed.end();
}

#[test]
fn who_looks_at_a_layout_does_not_notice_that_workers_are_killed() {
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    content.tag("t", &index);
    for flags in [&["--platform", "linux/amd64"][..], &["--platform", "all"]] {
        let (home, registry) = (Home::new(), Registry::start());
        registry.set_referrers(Referrers::Filtered);
        content.serve(&registry, "r");
        let name = name_in(&registry);
        home.run(&[&["mount", "--layout"], flags, &[&name, "M"]].concat()).succeeded();
        storm_below(&home, &home.mount_point(), kills(), |_| kill_worker(&home));
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// Each number is remembered as soon as it was answered, by whichever process.
#[test]
fn numbers_of_names_that_are_just_looked_up() {
    let browsed = Browsed::new();
    let (seen, is_over) = (Mutex::new(BTreeMap::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        for reader in 0..4 {
            let (seen, is_over, browsed) = (&seen, &is_over, &browsed);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let path = browsed.at(&format!("new{reader}-{}/x{n}", n % 7));
                    let number = number(&path);
                    seen.lock().unwrap().insert(path, number);
                }
            });
        }
        for round in 0..8 {
            let before = worker(&browsed.home);
            thread::sleep(Duration::from_millis(100 + 37 * round));
            kill_process(before, Signal::KILL).unwrap();
        }
        assert!(eventually_within(Duration::from_secs(20), || {
            status(&browsed.home)["restarts"].as_u64() >= Some(8)
        }));
        is_over.store(true, Ordering::Relaxed);
    });
    kill_worker(&browsed.home);
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 100, "{}", seen.len());
    for (path, before) in &seen {
        assert_eq!(number(path), *before, "{}", path.display());
    }
    let distinct: BTreeSet<u64> = seen.values().copied().collect();
    assert_eq!(distinct.len(), seen.len());
    browsed.end();
}

/// A tag that has moved while no process served; files of the image that it meant stay what they are.
#[test]
fn tags_that_have_moved_or_gone() {
    let browsed = Browsed::new();
    for tag in ["moves", "goes"] {
        browsed.registry.add_image("app", tag, &small("one"));
    }
    for tag in ["moves", "goes"] {
        assert_eq!(fs::read(browsed.at(&format!("app/:{tag}/d/word"))).unwrap(), b"one");
    }
    let before = files(&browsed.at("app"));
    browsed.registry.add_image("app", "moves", &small("two"));
    kill_worker(&browsed.home);
    // For a minute it means what it meant, and what was opened by it is that for ever.
    assert!(files(&browsed.at("app")) == before);
    assert_eq!(names(&browsed.at("app/:moves")), ["d", "one"]);
    browsed.end();
}

/// Another process opens an image as it was opened, whatever is known of it by now.
#[test]
fn what_a_table_of_contents_showed_is_shown_again() {
    let way = &ways()[0];
    let layer = (way.write)(&entries(1), None);
    let built = image([way.layer(&layer)]);
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    for is_layout in [false, true] {
        let top = match is_layout {
            true => {
                home.run(&["mount", "--layout", &name, "M"]).succeeded();
                home.mount_point()
            }
            false => {
                home.run(&["browse", "M"]).succeeded();
                home.mount_point().join(name.replace(":t", "/:t"))
            }
        };
        let before = files(&top);
        assert!(before.len() > 5, "{before:?}");
        home.run(&["pull", "--proof=full", &name]).succeeded();
        kill_worker(&home);
        assert!(files(&top) == before, "{is_layout}");
        home.run(&["umount", "M"]).succeeded();
        home.run(&["cache", "clear", "--yes"]);
        fs::remove_dir_all(home.path().join("cache")).unwrap();
    }
    home.is_quiet();
}

/// What can't be shown as it was is an error, of that part alone.
#[test]
fn what_has_become_another_is_not_shown() {
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    content.tag("t", &index);
    let (home, registry) = (Home::new(), Registry::start());
    registry.set_referrers(Referrers::Filtered);
    content.serve(&registry, "r");
    let name = name_in(&registry);
    let platform = ["--platform", "linux/amd64"];
    home.run(&[&["mount", "--layout"], &platform[..], &[&name, "M"]].concat()).succeeded();
    let referrers = home.mount_point().join("referrers");
    let before = files(&home.mount_point());
    let artifact = content.artifact("application/x.note", &index, &[]);
    content.tag("note", &artifact);
    content.serve(&registry, "r");
    kill_worker(&home);
    // A name that the kernel does not know.
    let error = fs::metadata(referrers.join("unknown")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    let told = home.status()["recent_errors"].to_string();
    assert!(told.contains("as it was shown before"), "{told}");
    let is_else = |path: &Path| !path.starts_with(&referrers);
    for (path, (number, _)) in before.iter().filter(|(path, _)| is_else(path)) {
        assert_eq!(fs::symlink_metadata(path).unwrap().ino(), *number, "{}", path.display());
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Neither the lists nor the images that were seen are asked for again if the registry is away.
#[test]
fn a_registry_that_is_away_meanwhile() {
    let browsed = Browsed::new();
    browsed.registry.add_image("app", "1", &small("one"));
    let before = files(&browsed.at("app"));
    browsed.registry.fault(("", "/v2/", Times::Always), Fault::CloseBeforeResponse);
    kill_worker(&browsed.home);
    assert!(files(&browsed.at("app")) == before);
    let told = status(&browsed.home);
    assert_eq!(told["restarts"], 1, "{told}");
    browsed.end();
}
