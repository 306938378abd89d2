//! Mounted, walked and unmounted, over and over: nothing hangs, nothing is left.
//!
//! `OCIFS_ROUNDS` says how many rounds of each kind there are.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::{files_below, noise, within};
use crate::shell::{Home, eventually_within, run, text};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

const DIRS: u64 = 12;
const FILES: u64 = 12;
const WALKERS: usize = 4;

/// How long anything here may take to come about: many rounds meet a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn content(dir: u64, file: u64) -> Vec<u8> {
    noise(100 + 3000 * file as usize, dir * FILES + file + 1)
}

fn image() -> Built {
    let layer = |dirs: std::ops::Range<u64>| {
        let entries = dirs.flat_map(|dir| {
            let files = (0..FILES).map(move |file| (format!("{dir}/{file}"), content(dir, file)));
            let files = files.map(|(name, content)| Entry::file(name, content));
            std::iter::once(Entry::dir(dir.to_string())).chain(files)
        });
        tar(&entries.collect::<Vec<_>>())
    };
    let (lower, upper) = (layer(0..DIRS / 2), layer(DIRS / 2..DIRS));
    ImageBuilder::new().layer(&lower, Compression::Gzip).layer(&upper, Compression::None).build()
}

/// Lists and reads everything in the order of the directories, counting files; what is read in full
/// has to be right.
fn walk(top: &Path, seen: &AtomicUsize) -> io::Result<()> {
    for dir in fs::read_dir(top)? {
        for entry in fs::read_dir(dir?.path())? {
            let path = entry?.path();
            let bytes = fs::read(&path)?;
            let number = |name: Option<&std::ffi::OsStr>| name.unwrap().to_str().unwrap().parse();
            let [dir, file] = [path.parent().unwrap().file_name(), path.file_name()].map(number);
            assert!(bytes == content(dir.unwrap(), file.unwrap()), "{}", path.display());
            seen.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn fusermount(home: &Home, flags: &str) -> Result<(), String> {
    let outcome = run(Command::new("fusermount3").args([flags, text(&home.mount_point())]));
    if outcome.code == 0 { Ok(()) } else { Err(outcome.stderr) }
}

/// One round. In every other one the mount is taken away in the middle of the walk: if it is in use
/// just then, at once (`-z`) or, every fourth time, when it is not any more.
fn round(home: &Home, image: &str, options: &[&str], number: usize) {
    home.run(&[&["mount"][..], options, &[image, "M"]].concat()).succeeded();
    let (top, seen) = (home.mount_point(), Arc::new(AtomicUsize::new(0)));
    let is_cut = number % 2 == 1;
    let walkers: Vec<_> = (0..WALKERS)
        .map(|_| {
            let (top, seen) = (top.clone(), Arc::clone(&seen));
            thread::spawn(move || walk(&top, &seen))
        })
        .collect();
    if is_cut {
        // At another place each time.
        let most = WALKERS * (DIRS * FILES) as usize;
        let place = number * 37 % most;
        let is_there = || seen.load(Ordering::SeqCst) >= place;
        assert!(eventually_within(LIMIT, is_there), "round {number}: the walk gets nowhere");
        let unmounted = fusermount(home, "-u");
        if unmounted.is_err() && number % 4 == 1 {
            fusermount(home, "-uz").unwrap();
        }
    }
    let results = within(LIMIT, move || {
        walkers.into_iter().map(|walker| walker.join().unwrap()).collect::<Vec<_>>()
    });
    if !is_cut {
        results.into_iter().for_each(|result| result.unwrap());
        assert_eq!(seen.load(Ordering::SeqCst), WALKERS * (DIRS * FILES) as usize);
    }
    // Between its fork and its exec, a child of another test holds all that is open here.
    let mut refusal = Ok(());
    let is_gone = || {
        refusal = if home.mounts().is_empty() { Ok(()) } else { fusermount(home, "-u") };
        home.mounts().is_empty()
    };
    assert!(eventually_within(LIMIT, is_gone), "round {number}: {refusal:?}");
    let is_quiet = || home.mounts().is_empty() && home.serving().is_empty();
    assert!(eventually_within(LIMIT, is_quiet), "round {number}: left {:?}", home.serving());
    assert_eq!(fs::read_dir(&top).unwrap().count(), 0, "the mount point is as it was");
}

fn rounds(options: &[&str]) {
    let rounds = std::env::var("OCIFS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let home = Home::new();
    let image = home.layout(&image());
    for number in 0..rounds {
        round(&home, &image, options, number);
    }
    let left = files_below(&home.path().join("run"));
    assert!(left.is_empty(), "left in the runtime folder: {left:?}");
}

#[test]
fn plain() {
    rounds(&[]);
}

#[test]
fn with_push() {
    rounds(&["--prefetch=push"]);
}
