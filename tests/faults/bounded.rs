//! What a mount takes of the machine while much is asked of it and little can be had, and machines that stand still
//! or change their time: docs/reliability.md names these tests.

use std::fs::{self, FileTimes};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use ocifs::cache::Limit;
use rustix::process::{Signal, kill_process};

use crate::fixture::{Sandbox, image_of, name_in, noise, open, options, read, within};
use crate::shell::{Home, eventually_within, text};
use crate::support::image::{Built, Compression};
use crate::support::kernel::note;
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

const FILES: u64 = 420;

/// Threads of a worker: 64 for reads that wait, and those that fetch, serve the kernel, its status and its clock.
const MAX_THREADS: usize = 64 + 40;

/// Descriptors of a worker that may keep 512 files open.
const MAX_DESCRIPTORS: usize = 512 + 100;

const HANG: Duration = Duration::from_secs(60);

/// Small files, each far enough from the next to be fetched by itself.
fn image() -> Built {
    let file = |n| Entry::file(format!("f{n}"), content(n));
    image_of(&tar(&(0..FILES).map(file).collect::<Vec<_>>()), Compression::None)
}

fn content(number: u64) -> Vec<u8> {
    noise(60_000, number + 1)
}

/// A mount whose layer index is there, and nothing of the contents.
fn mounted(flags: &[&str]) -> (Home, Registry, Built) {
    let (home, registry, built) = (Home::new(), Registry::start(), image());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    // That takes a while, which is told.
    assert_eq!(home.run(&["pull", &name]).code, 0);
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    home.run(&[&["mount", "--prefetch=off"], flags, &[&name, "M"]].concat()).succeeded();
    (home, registry, built)
}

fn unmount(home: &Home) {
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// The most memory of its own that serving [`MANY_FILES`] takes, in KiB. What opening them takes for a moment is given back.
const MAX_OWN_KIB: u64 = 8 << 10;
const MANY_FILES: usize = 30_000;

/// Beside that a process has those parts of the program in memory that it has run, which all mounts share.
#[test]
fn a_cached_mount_of_many_files_is_small() {
    let file = |n: usize| {
        let path = format!("usr/lib/python3/dist-packages/package-{}/module_{n}.py", n / 50);
        Entry::file(path, format!("# module {n}\n"))
    };
    let home = Home::new();
    let entries: Vec<Entry> = (0..MANY_FILES).map(file).collect();
    let image = home.layout(&image_of(&tar(&entries), Compression::Gzip));
    // The first use takes more for a while.
    assert_eq!(home.run(&["pull", &image]).code, 0);
    home.run(&["mount", "--prefetch=off", &image, "M"]).succeeded();
    let own = || -> u64 {
        let pid = home.workers()[0].as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = own();
    assert_eq!(
        home.command("du").arg("-s").arg(home.mount_point()).output().unwrap().status.code(),
        Some(0)
    );
    let after = own();
    note(&format!(
        "memory of a cached mount of {MANY_FILES} files: {before} KiB, {after} KiB after a walk"
    ));
    assert!(before.max(after) <= MAX_OWN_KIB, "{before} KiB, {after} KiB after a walk");
    unmount(&home);
}

/// Descriptors and threads of the worker.
fn taken(home: &Home) -> (usize, usize) {
    let pid = home.workers()[0].as_raw_nonzero();
    let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    (count("fd"), count("task"))
}

#[test]
fn descriptors_and_threads_while_many_wait() {
    let (home, registry, built) = mounted(&["--timeout", "6"]);
    let before = taken(&home);
    let silence = Fault::Stall(1000, HANG);
    registry.fault(("GET", &built.layer_digests()[0], Times::Always), silence);
    let readers: Vec<_> = (0..FILES / 2)
        .map(|n| {
            let path = home.mount_point().join(format!("f{}", 2 * n));
            thread::spawn(move || fs::read(path).is_ok())
        })
        .collect();
    let mut most = (0, 0);
    while !readers.iter().all(thread::JoinHandle::is_finished) {
        let (descriptors, threads) = taken(&home);
        most = (most.0.max(descriptors), most.1.max(threads));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(most.1 > before.1 + 8, "nobody waited: {before:?} {most:?}");
    assert!(most.0 <= MAX_DESCRIPTORS && most.1 <= MAX_THREADS, "{most:?}");
    // Those that wait for nothing end.
    registry.clear_faults();
    let is_back = || taken(&home).1 <= before.1 + 4;
    assert!(eventually_within(HANG, is_back), "{before:?}, now {:?}", taken(&home));
    for number in 0..FILES {
        assert!(
            fs::read(home.mount_point().join(format!("f{number}"))).unwrap() == content(number)
        );
    }
    assert!(taken(&home).0 <= MAX_DESCRIPTORS, "{:?}", taken(&home));
    unmount(&home);
}

/// Every read fails, and programs go on trying.
#[test]
fn a_log_is_bounded() {
    const READS: u64 = 1500;
    const MAX_LINES: usize = 1010;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (home, registry, built) = mounted(&["--log-file", text(&log)]);
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    registry.fault(("GET", &built.layer_digests()[0], Times::Always), gone);
    for number in 0..READS {
        let path = home.mount_point().join(format!("f{}", number % FILES));
        fs::read(path).unwrap_err();
    }
    let told = fs::read_to_string(&log).unwrap();
    let lines = told.lines().count();
    assert!((900..=MAX_LINES).contains(&lines), "{lines} lines");
    assert!(told.contains("more are left out"), "{}", told.lines().last().unwrap());
    // What failed a moment ago is asked for again.
    registry.clear_faults();
    for number in 0..FILES {
        let path = home.mount_point().join(format!("f{number}"));
        assert!(fs::read(path).unwrap() == content(number), "f{number}");
    }
    unmount(&home);
}

/// As a machine that sleeps: the processes stand still, and no connection is left when they go on.
#[test]
fn a_machine_that_slept() {
    let (home, registry, built) = mounted(&["--timeout", "10"]);
    let read_file = |number: u64| fs::read(home.mount_point().join(format!("f{number}")));
    assert!(read_file(0).unwrap() == content(0));
    let processes = [home.serving(), home.workers()].concat();
    for kept in [false, true] {
        // With a read under way.
        let path = home.mount_point().join(if kept { "f400" } else { "f200" });
        registry
            .fault(("GET", &built.layer_digests()[0], Times::First(1)), Fault::Stall(100, HANG));
        let reader = thread::spawn(move || fs::read(path));
        thread::sleep(Duration::from_millis(200));
        for pid in &processes {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        registry.hang_up();
        thread::sleep(Duration::from_secs(if kept { 12 } else { 1 }));
        for pid in &processes {
            kill_process(*pid, Signal::CONT).unwrap();
        }
        registry.clear_faults();
        let result = within(HANG, move || reader.join().unwrap());
        // One that slept past its deadline may be told so.
        assert!(kept || result.is_ok(), "{result:?}");
        assert!(result.is_err() || result.unwrap() == content(if kept { 400 } else { 200 }));
        let next = if kept { 401 } else { 201 };
        assert!(read_file(next).unwrap() == content(next));
    }
    assert_eq!(home.status()["restarts"], 0);
    unmount(&home);
}

/// The cache knows when its files were used by their times, which may lie in the future or long ago once the clock
/// was set.
#[test]
fn the_clock_jumps() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let registry = Registry::start();
    registry.add_image("r", "t", &image());
    let name = name_in(&registry);
    let now = SystemTime::now();
    for time in [now + 30 * YEAR, now - 30 * YEAR, SystemTime::UNIX_EPOCH] {
        let sandbox = Sandbox::new();
        let image = open(&name, &sandbox.cache(), &options()).unwrap();
        let all = || -> Vec<PathBuf> {
            ["spans", "layers", "diffs", "blobs", "refs"]
                .into_iter()
                .flat_map(|k| sandbox.cached(k))
                .collect()
        };
        assert!(!all().is_empty());
        for path in all() {
            let file = fs::File::open(path).unwrap();
            file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
        }
        // What is open, and what is opened now.
        for image in [image, open(&name, &sandbox.cache(), &options()).unwrap()] {
            for number in (0..FILES).step_by(7) {
                assert!(read(&image, &format!("f{number}")).unwrap() == content(number));
            }
        }
        // What has times of the future is evicted, too.
        let limit = 1 << 20;
        let cache = sandbox.cache_limited(Limit::Bytes(limit));
        cache.collect_to_limit().unwrap();
        assert!(cache.usage().unwrap().total.bytes <= limit, "{:?}", cache.usage());
        let image = open(&name, &cache, &options()).unwrap();
        assert!(read(&image, "f3").unwrap() == content(3));
    }
}
