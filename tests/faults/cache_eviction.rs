//! A cache that is smaller than what goes through it, alone and among processes.
//!
//! Whatever is evicted, and whenever: the bytes are right, and what is gone is fetched again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ocifs::cache::{Cache, Limit};
use ocifs::image::Image;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Sandbox, files_below, name_in, noise, open, options, read};
use crate::shell::{Home, eventually, wait};
use crate::support::image::{Built, Compression, ImageBuilder, write_oci_layout};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const MIB: u64 = 1 << 20;

/// How far a process may exceed a small limit, as the library documents it.
const SLACK: u64 = 4 * MIB;

/// An image of `files` MiB in two layers; `seed` makes it different from others.
fn image(files: u64, seed: u64) -> Built {
    let layer = |numbers: std::ops::Range<u64>| {
        let files = numbers.map(|n| Entry::file(format!("f{n}"), content(n, seed)));
        tar(&files.collect::<Vec<_>>())
    };
    ImageBuilder::new()
        .layer(&layer(0..files / 2), Compression::None)
        .layer(&layer(files / 2..files), Compression::Gzip)
        .build()
}

fn content(number: u64, seed: u64) -> Vec<u8> {
    noise(MIB as usize, 1000 * seed + number + 1)
}

/// Bytes of all files below a folder, as far as they are still there.
fn bytes_below(folder: &Path) -> u64 {
    files_below(folder)
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .map(|m| m.size())
        .sum()
}

fn check(image: &Image, files: u64) {
    for number in (0..files).chain((0..files).rev()) {
        let bytes = read(image, &format!("f{number}")).unwrap();
        assert!(bytes == content(number, 0), "f{number}");
    }
}

#[test]
fn a_cache_smaller_than_the_image() {
    let registry = Registry::start();
    registry.add_image("r", "t", &image(10, 0));
    for (limit, left) in [(0, 0), (MIB / 2, MIB / 2), (3 * MIB, 3 * MIB + SLACK)] {
        let sandbox = Sandbox::new();
        let cache = sandbox.cache_limited(Limit::Bytes(limit));
        let image = open(&name_in(&registry), &cache, &options()).unwrap();
        check(&image, 10);
        cache.settle();
        let spans = bytes_below(&sandbox.path().join("cache/v1/spans"));
        assert!(spans <= left, "{spans} bytes of spans with {limit}");
        assert!(spans > MIB || limit < MIB, "{spans} bytes of spans with {limit}");
        // The tables are kept: the layers are not passed over again.
        assert_eq!(sandbox.cached("layers").len(), 2, "{limit}");
    }
}

#[test]
fn what_was_evicted_is_fetched_again_and_only_that() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image(6, 0));
    let blobs = || registry.requests().iter().filter(|r| r.path.contains("/blobs/")).count();
    check(&open(&name_in(&registry), &sandbox.cache(), &options()).unwrap(), 6);
    let before = sandbox.cached("spans");
    registry.clear_log();
    check(&open(&name_in(&registry), &sandbox.cache(), &options()).unwrap(), 6);
    assert_eq!(blobs(), 0, "nothing was evicted");
    sandbox.cache().collect(0).unwrap();
    assert!(sandbox.cached("spans").is_empty());
    check(&open(&name_in(&registry), &sandbox.cache(), &options()).unwrap(), 6);
    assert!(blobs() > 0);
    assert_eq!(sandbox.cached("spans"), before);
}

/// What is open takes its room until it is closed, so a mount does not hold on to what is evicted.
#[test]
fn files_are_closed_after_they_were_evicted() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image(40, 0));
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    let read_some = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            assert!(read(&image, &format!("f{number}")).unwrap() == content(number, 0));
        }
    };
    let spans = sandbox.path().join("cache/v1/spans");
    let open_and_gone = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let places = links.filter_map(|link| fs::read_link(link.path()).ok());
        let ours = places.filter(|place| place.starts_with(&spans));
        ours.filter(|place| place.to_string_lossy().ends_with("(deleted)")).count()
    };
    read_some(0..20);
    sandbox.cache().collect(0).unwrap();
    let before = open_and_gone();
    assert!(before >= 30, "{before}");
    // They come from the registry, and then from new files.
    read_some(20..40);
    read_some(20..40);
    let after = open_and_gone();
    assert!(after < before / 2, "{after} of {before}");
    read_some(0..20);
}

#[test]
fn readers_do_not_notice_evictions() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image(6, 0));
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (folder, ended) = (sandbox.path().join("cache"), Arc::clone(&done));
    let evicting = thread::spawn(move || {
        let cache = Cache::open_existing(&folder, Limit::Default);
        let mut evicted = 0;
        while !ended.load(Ordering::Relaxed) {
            evicted += cache.collect(2 * MIB).unwrap().files;
        }
        evicted
    });
    (0..4).for_each(|_| check(&image, 6));
    done.store(true, Ordering::Relaxed);
    assert!(evicting.join().unwrap() > 0);
}

/// Stops a child, so that what it has written can be summed up; false if it has ended.
fn stop(child: &Child) -> bool {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    assert!(eventually(|| matches!(state(), 'T' | 'Z')));
    state() == 'T'
}

/// The bound is not one of time: it is looked at again and again while both processes stand still.
#[test]
fn two_processes_fill_one_cache() {
    const FILES: u64 = 20;
    let home = Home::new();
    let limit = 8 * MIB;
    let names: Vec<String> = (0..2)
        .map(|seed| {
            let path = home.path().join(format!("layout{seed}"));
            write_oci_layout(&path, &[(None, &image(FILES, seed))]).unwrap();
            format!("oci:{}", path.display())
        })
        .collect();
    let files: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    for round in 0..2 {
        let mut children: Vec<Child> = names
            .iter()
            .enumerate()
            .map(|(seed, name)| {
                let out = fs::File::create(home.path().join(format!("out{seed}"))).unwrap();
                let mut command = home.ocifs(&["cat", "--cache-size", "8M", name]);
                command.args(&files).stdout(out).stderr(Stdio::inherit()).spawn().unwrap()
            })
            .collect();
        loop {
            let running: Vec<bool> = children.iter().map(stop).collect();
            // A layer's file on its way from one name to the other is there once, and the
            // documents and layer indexes are small.
            let bytes = bytes_below(&home.path().join("cache"));
            assert!(bytes <= limit + 2 * SLACK + MIB, "{bytes} in round {round}");
            for child in &children {
                let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
                kill_process(pid, Signal::CONT).unwrap();
            }
            if running == [false, false] {
                break;
            }
        }
        for (seed, child) in children.iter_mut().enumerate() {
            assert_eq!(wait(child), 0);
            let out = fs::read(home.path().join(format!("out{seed}"))).unwrap();
            let right: Vec<u8> = (0..FILES).flat_map(|n| content(n, seed as u64)).collect();
            assert!(out == right, "image {seed} in round {round}");
        }
    }
    home.run(&["cache", "gc", "--cache-size", "8M"]);
    let bytes = bytes_below(&home.path().join("cache"));
    assert!(bytes <= limit && bytes > limit / 4, "{bytes}");
}
