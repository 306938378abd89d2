//! Workers that die: readers do not notice, and what can't go on ends in time.
//!
//! A *supervisor* keeps the connection to the kernel, and starts the *worker* that serves it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::external_fixture::{entries, image, ways};
use crate::fixture::{GOOD, good, image_of, name_in, noise};
use crate::kernel_metadata;
use crate::published::Published;
use crate::shell::{Home, eventually, eventually_within, run, text, wait};
use crate::signals::with_default_signals;
use crate::support::image::{Compression, ImageBuilder, sha256};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// Kills of a storm, if `OCIFS_KILLS` does not say more.
const KILLS: u32 = 20;

/// Readers of files in any order.
const READERS: u64 = 16;

/// The most memory that a supervisor has to itself, in KiB.
const MAX_PRIVATE_KIB: u64 = 2048;

const EIO: i32 = 5;

/// How many kills a storm has.
pub fn kills() -> u32 {
    std::env::var("OCIFS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// What the status says of the mount, once a worker answers.
pub fn status(home: &Home) -> Value {
    let row = || -> Option<Value> {
        let rows: Value =
            serde_json::from_str(&home.run(&["status", "--json", "M"]).stdout).ok()?;
        rows.get(0).filter(|row| row["state"] == "mounted").cloned()
    };
    let mut found = None;
    let is_there = || {
        found = row();
        found.is_some()
    };
    assert!(eventually_within(Duration::from_secs(20), is_there), "no worker answers");
    found.unwrap()
}

pub fn worker(home: &Home) -> Pid {
    Pid::from_raw(status(home)["worker"].as_i64().unwrap() as i32).unwrap()
}

/// Kills the worker, and waits until it is gone.
pub fn kill_worker(home: &Home) {
    let worker = worker(home);
    kill_process(worker, Signal::KILL).unwrap();
    assert!(eventually(|| !home.workers().contains(&worker)));
}

/// Small files and some of several spans, in two layers; 24 MB.
pub fn layers() -> Vec<Vec<u8>> {
    let layer = |number: u64| {
        let file = |n: u64| {
            let length = if n.is_multiple_of(50) { 3_000_000 } else { 500 * (n % 40) as usize };
            Entry::file(format!("{number}-{}/{n}", n / 25), noise(length, number * 1000 + n))
        };
        tar(&(0..200).map(file).collect::<Vec<_>>())
    };
    vec![layer(1), layer(2)]
}

/// The content and the number of every file below a folder.
pub fn files(top: &Path) -> BTreeMap<PathBuf, (u64, String)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let sum = match metadata.is_file() {
                true => sha256(&fs::read(&path).unwrap()),
                false => String::new(),
            };
            found.insert(path.clone(), (metadata.ino(), sum));
            folders.extend(metadata.is_dir().then_some(path));
        }
    }
    found
}

/// Reads a file that the kernel then has not cached any more.
fn read_anew(path: &Path) -> io::Result<Vec<u8>> {
    fadvise(fs::File::open(path)?, 0, None, Advice::DontNeed)?;
    fs::read(path)
}

/// What tools and readers meet while `kill` is called again and again.
pub fn storm(home: &Home, kills: u32, kill: impl FnMut(u32)) {
    storm_below(home, &home.mount_point(), kills, kill);
}

/// The same below a directory of the mount.
pub fn storm_below(home: &Home, top: &Path, kills: u32, mut kill: impl FnMut(u32)) {
    let expected = files(top);
    // A directory of a registry changes when it is listed first, and the kernel keeps its time from before for a second: `tar`
    // would take that for a change while it reads.
    thread::sleep(Duration::from_millis(1500));
    let names: Vec<&PathBuf> =
        expected.iter().filter(|(_, (_, sum))| !sum.is_empty()).map(|(path, _)| path).collect();
    let is_over = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let run_tool = |words: &[&str], code: i32| {
        while !is_over.load(Ordering::Relaxed) {
            let outcome = Command::new(words[0]).args(&words[1..]).output().unwrap();
            let told = String::from_utf8_lossy(&outcome.stderr);
            assert!(outcome.status.code() == Some(code) && told.is_empty(), "{words:?}: {told}");
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    };
    let read_files = |seed: u64| {
        let mut state = seed;
        while !is_over.load(Ordering::Relaxed) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let path = names[(state >> 33) as usize % names.len()];
            let content = read_anew(path);
            let sum = content.map(|content| sha256(&content)).map_err(|e| e.to_string());
            assert_eq!(sum.as_ref(), Ok(&expected[path].1), "{}", path.display());
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let end = Ended(&is_over);
        let top = text(top);
        scope.spawn(|| run_tool(&["grep", "-r", "nobody has this", top], 1));
        scope.spawn(|| run_tool(&["tar", "-C", top, "-cf", "/dev/null", "."], 0));
        scope.spawn(|| run_tool(&["sh", "-c", "tar -C \"$0\" -c . | cat > /dev/null", top], 0));
        scope.spawn(|| run_tool(&["find", top, "-size", "+1000000"], 0));
        for seed in 1..=READERS {
            scope.spawn(move || read_files(seed));
        }
        for number in 0..kills {
            // So long that there is no pause, and now and then less.
            let lives = if number % 5 == 4 { 20 } else { 1000 + u64::from(number * 37 % 100) };
            thread::sleep(Duration::from_millis(lives));
            kill(number);
        }
        // And some time to see what came of the last one.
        thread::sleep(Duration::from_millis(500));
        drop(end);
    });
    assert!(rounds.into_inner() > 0);
    assert_eq!(status(home)["restarts"], kills);
    assert!(files(top) == expected, "other numbers or bytes after {kills} kills");
}

/// Ends loops even if a test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_do_not_notice_that_workers_are_killed() {
    let modes: &[&[&str]] = match kernel_metadata::can() {
        true => &[&[], &["--kernel-metadata"]],
        false => &[&[]],
    };
    for flags in modes {
        let home = Home::new();
        let builder = layers()
            .into_iter()
            .fold(ImageBuilder::new(), |builder, layer| builder.layer(&layer, Compression::Gzip));
        let image = home.layout(&builder.build());
        home.run(&["pull", &image]).succeeded();
        home.run(&[&["mount"], *flags, &[&image, "M"]].concat()).succeeded();
        storm(&home, kills(), |_| kill_worker(&home));
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// While spans are fetched that are in no cache.
#[test]
fn readers_do_not_notice_that_workers_are_killed_as_they_fetch() {
    let (home, registry) = (Home::new(), Registry::start());
    let builder = layers()
        .into_iter()
        .fold(ImageBuilder::new(), |builder, layer| builder.layer(&layer, Compression::Gzip));
    registry.add_image("r", "t", &builder.build());
    home.run(&["mount", &name_in(&registry), "M"]).succeeded();
    storm(&home, 8, |_| {
        // Other processes write there.
        let _ = fs::remove_dir_all(home.path().join("cache/v1/spans"));
        thread::sleep(Duration::from_millis(30));
        kill_worker(&home);
    });
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn a_mount_in_the_foreground_goes_on_too() {
    let home = Home::new();
    let image = home.layout(&good());
    let log = home.path().join("log");
    let words = ["mount", "--foreground", "--log-file", text(&log), &image, "M"];
    let mut child = with_default_signals(&home.ocifs(&words)).spawn().unwrap();
    assert!(eventually(|| home.run(&["status", "M"]).code == 0 && home.mounts().len() == 1));
    assert_eq!(status(&home)["pid"], child.id());
    kill_worker(&home);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    let told = home.run(&["status", "M"]).stdout;
    assert!(told.contains("again 1 time"), "{told}");
    assert!(fs::read_to_string(&log).unwrap().contains("starting another"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(&mut child), 0);
    home.is_quiet();
}

/// A worker is asked for by no name: what the tag means now does not matter, nor whether there is a registry.
#[test]
fn a_tag_that_has_moved_is_not_asked_for_again() {
    let (home, registry) = (Home::new(), Registry::start());
    let old = image_of(&tar(&[Entry::file("f", GOOD), Entry::file("g", GOOD)]), Compression::Gzip);
    registry.add_image("r", "t", &old);
    let name = name_in(&registry);
    for flags in [&["--check-access"][..], &[]] {
        home.run(&[&["mount"], flags, &[&name, "M"]].concat()).succeeded();
        let (before, worker) = (status(&home), worker(&home));
        registry.add_image("r", "t", &good());
        registry.clear_log();
        kill_process(worker, Signal::KILL).unwrap();
        assert!(eventually(|| !home.workers().contains(&worker)));
        assert_eq!(fs::read(home.mount_point().join("g")).unwrap(), GOOD);
        assert!(registry.requests().is_empty(), "{:?}", registry.requests());
        let after = status(&home);
        assert_eq!((&after["digest"], &after["image"]), (&before["digest"], &before["image"]));
        assert_eq!(after["tag"]["moved"], true);
        // And the cache's tag is the newer one's business.
        home.run(&["umount", "M"]).succeeded();
        registry.add_image("r", "t", &old);
    }
    home.run(&["mount", &name, "M"]).succeeded();
    drop(registry);
    kill_worker(&home);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn a_killed_supervisor_takes_its_worker_along() {
    let home = Home::new();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    kill_worker(&home);
    kill_process(home.serving()[0], Signal::KILL).unwrap();
    assert!(eventually(|| home.serving().is_empty() && home.workers().is_empty()));
    let read = || fs::metadata(home.mount_point().join("other"));
    assert!(eventually(|| read().unwrap_err().raw_os_error() == Some(107)), "{:?}", read());
    let told = home.run(&["status", "M"]);
    assert!(told.code == 1 && told.stdout.contains("dead"), "{told:?}");
    home.run(&["mount", &image, "M"]).succeeded();
    assert_eq!(home.mounts().len(), 1);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A mount whose worker has died and can't be replaced, as there is no image any more.
fn without_worker(timeout: &str) -> (Home, String) {
    let home = Home::new();
    let image = home.layout(&good());
    home.run(&["mount", "--timeout", timeout, &image, "M"]).succeeded();
    let worker = worker(&home);
    fs::rename(home.path().join("layout"), home.path().join("away")).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    assert!(eventually(|| !home.workers().contains(&worker)));
    (home, image)
}

/// A name that the kernel does not know, so that it has to ask.
fn ask(home: &Home) -> thread::JoinHandle<Option<i32>> {
    let path = home.mount_point().join("unknown");
    thread::spawn(move || fs::metadata(path).err().and_then(|e| e.raw_os_error()))
}

#[test]
fn without_a_worker_requests_wait_only_so_long() {
    let (home, _) = without_worker("2");
    let begun = Instant::now();
    let asked: Vec<_> = (0..8).map(|_| ask(&home)).collect();
    for asked in asked {
        assert!(eventually(|| asked.is_finished()), "it waits for ever");
        assert_eq!(asked.join().unwrap(), Some(EIO));
    }
    // From then on they are answered at once.
    assert_eq!(ask(&home).join().unwrap(), Some(EIO));
    assert!(begun.elapsed() < Duration::from_secs(10));
    fs::rename(home.path().join("away"), home.path().join("layout")).unwrap();
    let read = || ask(&home).join().unwrap() == Some(2);
    assert!(eventually_within(Duration::from_secs(20), read), "no worker comes back");
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// It is not taken for dead, by those who ask for its status, mount there, or unmount it.
#[test]
fn a_mount_without_a_worker_is_not_dead() {
    let (home, image) = without_worker("60");
    let asked = ask(&home);
    let told = home.run(&["status", "--json", "M"]);
    assert!(told.code == 0 && told.stdout.contains(r#""state":"restarting""#), "{told:?}");
    let mount = home.ocifs(&["mount", &image, "M"]);
    let mut mount = with_default_signals(&mount);
    let mount = thread::spawn(move || run(&mut mount));
    thread::sleep(Duration::from_millis(500));
    fs::rename(home.path().join("away"), home.path().join("layout")).unwrap();
    assert!(eventually_within(Duration::from_secs(20), || asked.is_finished()));
    assert_eq!(asked.join().unwrap(), Some(2), "what waited is answered");
    let outcome = mount.join().unwrap();
    assert!(outcome.code == 0 && outcome.stderr.contains("already mounted"), "{outcome:?}");
    assert_eq!(home.mounts().len(), 1);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn unmounted_without_a_worker() {
    for way in ["ocifs", "ocifs --lazy", "umount -l", "TERM"] {
        let (home, _) = without_worker("60");
        let waiting = (way != "ocifs").then(|| ask(&home));
        match way {
            "ocifs" => home.run(&["umount", "M"]).succeeded(),
            "ocifs --lazy" => home.run(&["umount", "--lazy", "M"]).succeeded(),
            "TERM" => kill_process(home.serving()[0], Signal::TERM).unwrap(),
            _ => run(Command::new("umount").arg("-l").arg(home.mount_point())).succeeded(),
        }
        assert!(eventually(|| home.mounts().is_empty()), "{way}");
        // Detached from its place it lives for who waits; the end of the supervisor ends that.
        for server in home.serving() {
            let _ = kill_process(server, Signal::TERM);
        }
        if let Some(waiting) = waiting {
            assert!(eventually(|| waiting.is_finished()), "{way}");
            assert!(waiting.join().unwrap().is_some());
        }
        home.is_quiet();
    }
}

/// The cache is gone and the registry says nothing; both come back.
#[test]
fn without_cache_and_registry() {
    let (home, registry) = (Home::new(), Registry::start());
    let content = noise(1 << 20, 3);
    let image = image_of(&tar(&[Entry::file("f", &content)]), Compression::Gzip);
    registry.add_image("r", "t", &image);
    home.run(&["mount", "--timeout", "1", &name_in(&registry), "M"]).succeeded();
    let worker = worker(&home);
    registry.fault(("", "", Times::Always), Fault::Status(503, Vec::new(), Vec::new()));
    fs::remove_dir_all(home.path().join("cache")).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    let asked = ask(&home);
    assert!(eventually_within(Duration::from_secs(15), || asked.is_finished()));
    assert_eq!(asked.join().unwrap(), Some(EIO));
    registry.clear_faults();
    let is_back = || read_anew(&home.mount_point().join("f")).is_ok_and(|read| read == content);
    assert!(eventually_within(Duration::from_secs(30), is_back));
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// What would be shown is not what is mounted: the kernel has numbers and names of another image.
#[test]
fn another_image_in_its_place_is_not_shown() {
    let (home, _) = without_worker("3");
    let path = home.path().join("layout");
    let other = image_of(&tar(&[Entry::file("f", "other bytes")]), Compression::Gzip);
    crate::support::image::write_oci_layout(&path, &[(None, &other)]).unwrap();
    thread::sleep(Duration::from_secs(2));
    assert!(status_text(&home).contains("restarting"));
    let told = fs::read(home.mount_point().join("f"));
    assert!(told.is_err() || told.is_ok_and(|read| read == GOOD));
    home.run(&["umount", "--lazy", "M"]).succeeded();
    home.is_quiet();
}

fn status_text(home: &Home) -> String {
    home.run(&["status", "--json", "M"]).stdout
}

#[test]
fn supervisors_are_small() {
    let home = Home::new();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    kill_worker(&home);
    let pid = status(&home)["pid"].to_string();
    let rows = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rows.lines().filter(|row| row.starts_with("Private_"));
    let kib = private.map(|row| row.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
    let kib: u64 = kib.sum();
    assert!(kib <= MAX_PRIVATE_KIB, "{kib} KiB are private:\n{rows}");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 1, "threads");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A layer that is shown by a table of contents is proven by others meanwhile, and then known by another index.
/// It waits with the worker for nothing that each request would wake it for.
#[test]
fn requests_do_not_wake_the_supervisor() {
    let home = Home::new();
    let mut builder = ImageBuilder::new();
    for layer in layers() {
        builder = builder.layer(&layer, Compression::Zstd);
    }
    let name = home.layout(&builder.build());
    home.run(&["mount", "--prefetch=off", &name, "M"]).succeeded();
    let supervisor = status(&home)["pid"].to_string();
    let wakes = || -> u64 {
        let text = fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = wakes();
    assert!(files(&home.mount_point()).len() > 400);
    let requests = status(&home)["requests"]["read"].as_u64().unwrap();
    let woken = wakes() - before;
    assert!(requests > 400 && woken < 20, "woken {woken} times by {requests} reads");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn what_a_table_of_contents_showed_is_shown_again() {
    let way = &ways()[0];
    let layer = (way.write)(&entries(1), None);
    let setup = Published::new(&image([way.layer(&layer)]));
    let home = &setup.home;
    home.run(&["mount", "--proof=any", &setup.name, "M"]).succeeded();
    assert_eq!(status(home)["layers"][0]["proof"], "toc");
    let before = files(&home.mount_point());
    home.run(&["pull", "--proof=full", &setup.name]).succeeded();
    kill_worker(home);
    assert!(files(&home.mount_point()) == before);
    let after = status(home);
    assert_eq!((&after["layers"][0]["proof"], &after["restarts"]), (&"toc".into(), &1.into()));
    home.run(&["umount", "M"]).succeeded();
    // A mount that is new has numbers of its own by now.
    home.run(&["mount", &setup.name, "M"]).succeeded();
    assert!(files(&home.mount_point()) != before);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Of several images, one without what another has, both by tags that move.
#[test]
fn several_images_without_their_base() {
    let (home, registry) = (Home::new(), Registry::start());
    let of = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| Entry::file(*name, name.repeat(9))).collect();
        image_of(&tar(&entries), Compression::Gzip)
    };
    registry.add_image("base", "t", &of(&["a"]));
    registry.add_image("r", "t", &of(&["a", "b", "c"]));
    registry.add_image("s", "t", &of(&["a", "d"]));
    let [base, first, second] = ["base", "r", "s"].map(|at| format!("{}/{at}:t", registry.addr()));
    home.run(&["mount", "--exclude-base", &base, &first, &second, "M"]).succeeded();
    let before = files(&home.mount_point());
    assert_eq!(before.len(), 5, "{before:?}");
    for (at, names) in [("base", ["a", "b"]), ("r", ["a", "e"]), ("s", ["f", "g"])] {
        registry.add_image(at, "t", &of(&names));
    }
    let worker = worker(&home);
    registry.clear_log();
    kill_process(worker, Signal::KILL).unwrap();
    assert!(files(&home.mount_point()) == before);
    assert!(read_anew(&home.mount_point().join("r-t/c")).is_ok_and(|read| read == b"ccccccccc"));
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Mounted by `fusermount3`.
#[test]
fn mounts_of_ordinary_users_go_on_too() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    for killed in 1..=2 {
        kill_worker(&home);
        assert_eq!(status(&home)["restarts"], killed);
        let read = run(home.command("cat").arg(home.mount_point().join("f")));
        assert_eq!(read.stdout.as_bytes(), GOOD, "{read:?}");
        let missing = run(home.command("cat").arg(home.mount_point().join(killed.to_string())));
        assert!(missing.stderr.contains("No such file"), "{missing:?}");
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
