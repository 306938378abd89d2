//! `kill -9` at any moment, round after round on the same cache: of the worker, the supervisor, or the command
//! itself, while a layer is passed over, spans are written, evicted, or indexes pushed.
//!
//! Whatever was killed, the next mount is made as if nothing had been, shows every byte as it is, and `cache verify`
//! finds nothing; nothing is left mounted or running. Ten rounds by default; `OCIFS_STORM=500` (`scripts/storm`)
//! makes as many, and `OCIFS_TEST_SEED` others.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{name_in, noise, within};
use crate::shell::{Home, eventually_within};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::kernel::note;
use crate::support::registry::{Fault, Referrers, Registry, Times};
use crate::support::tarball::{Entry, tar};

const ROUNDS: u64 = 10;

/// How long anything may take before it hangs, on a machine that is busy.
const HANG: Duration = Duration::from_secs(90);

/// Bytes that the cache of a round may have in which is evicted: a third of the image.
const SMALL_CACHE: &str = "2500000";

/// What is under way when the kill comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// The first use of the image, to the moment when it is mounted.
    FirstPass,
    /// Reads of a mount that fetch and write spans.
    SpanWrites,
    /// The same with a cache that is too small, while another process shrinks it further.
    Evictions,
    Push,
    Pull,
    Export,
    Gc,
}

const ACTIVITIES: [Activity; 7] = [
    Activity::FirstPass,
    Activity::SpanWrites,
    Activity::Evictions,
    Activity::Push,
    Activity::Pull,
    Activity::Export,
    Activity::Gc,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Supervisor,
    Command,
}

const VICTIMS: [Victim; 3] = [Victim::Worker, Victim::Supervisor, Victim::Command];

fn contents() -> BTreeMap<String, Vec<u8>> {
    let file = |n: u64| {
        let length = if n.is_multiple_of(20) { 1_300_000 } else { 700 * n as usize };
        (format!("{}/{n}", n % 4), noise(length, n + 1))
    };
    (0..60).map(file).collect()
}

fn image() -> Built {
    let contents = contents();
    let layer = |part: usize| {
        let files = contents.iter().skip(part).step_by(2);
        tar(&files.map(|(path, content)| Entry::file(path, content.clone())).collect::<Vec<_>>())
    };
    ImageBuilder::new()
        .layer(&layer(0), Compression::Gzip)
        .layer(&layer(1), Compression::None)
        .build()
}

/// Reads all of a mount; what is not as it should be.
fn compare(top: &Path, sums: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut names = 0;
    for folder in fs::read_dir(top)? {
        names += fs::read_dir(folder?.path())?.count();
    }
    for (path, sum) in sums {
        if sha256(&fs::read(top.join(path))?) != *sum {
            wrong.push(path.clone());
        }
    }
    if names != sums.len() {
        wrong.push(format!("{names} names"));
    }
    Ok(wrong)
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

struct Storm {
    home: Home,
    registry: Registry,
    name: String,
    sums: Arc<BTreeMap<String, String>>,
    /// How often something was killed that ran, by what it was.
    killed: BTreeMap<String, u32>,
}

impl Storm {
    fn new() -> Storm {
        let (home, registry) = (Home::new(), Registry::start());
        registry.add_image("r", "t", &image());
        registry.set_referrers(Referrers::Filtered);
        let sums = contents().into_iter().map(|(path, content)| (path, sha256(&content)));
        let (name, sums) = (name_in(&registry), Arc::new(sums.collect()));
        Storm { home, registry, name, sums, killed: BTreeMap::new() }
    }

    fn start(&self, words: &[&str]) -> Child {
        let mut command = self.home.ocifs(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn forget(&self, kinds: &[&str]) {
        for kind in kinds {
            let _ = fs::remove_dir_all(self.home.path().join("cache/v1").join(kind));
        }
    }

    /// Kills what it can find of a kind; the command, if there is none.
    fn kill(&mut self, victim: Victim, command: &mut Child, activity: Activity) {
        let found = match victim {
            Victim::Worker => self.home.workers(),
            Victim::Supervisor => self.home.serving(),
            Victim::Command => Vec::new(),
        };
        let own = Pid::from_child(command);
        let pids = if found.is_empty() { vec![own] } else { found };
        let kills = pids.iter().filter(|pid| kill_process(**pid, Signal::KILL).is_ok()).count();
        if kills > 0 {
            let what = if pids == [own] { Victim::Command } else { victim };
            *self.killed.entry(format!("{what:?} in {activity:?}")).or_default() += 1;
        }
    }

    /// Reads all of the mount on a thread, whatever comes of it.
    fn reader(&self) -> thread::JoinHandle<io::Result<Vec<String>>> {
        let (top, sums) = (self.home.mount_point(), Arc::clone(&self.sums));
        thread::spawn(move || compare(&top, &sums))
    }

    /// Runs a command to its end, which has to be a good one.
    fn run(&self, words: &[&str]) -> Result<(), String> {
        let mut command = self.home.ocifs(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let has_ended = eventually_within(HANG, || child.try_wait().unwrap().is_some());
        if !has_ended {
            let state = self.state(Pid::from_child(&child));
            let _ = child.kill();
            return Err(format!("{words:?} does not end: {state}"));
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() { Ok(()) } else { Err(format!("{words:?}: {output:?}")) }
    }

    /// Where the threads of processes wait.
    fn state(&self, command: Pid) -> String {
        let all =
            [vec![command], self.home.serving(), self.home.workers(), self.home.prefetchers()];
        let mut told = format!("mounts {:?}", self.home.mounts());
        for pid in all.concat() {
            let folder = format!("/proc/{}", pid.as_raw_nonzero());
            let words = fs::read_to_string(format!("{folder}/cmdline")).unwrap_or_default();
            told += &format!("\n{pid:?} {}", words.replace('\0', " "));
            for task in fs::read_dir(format!("{folder}/task")).into_iter().flatten().flatten() {
                let text = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
                told += &format!(
                    "\n  {} {}: {}",
                    text("comm").trim(),
                    text("wchan"),
                    text("stack").replace('\n', " ")
                );
            }
        }
        told
    }

    fn mount(&self, flags: &[&str]) -> Result<(), String> {
        self.run(&[&["mount"], flags, &[&self.name, "M"]].concat())
    }

    fn round(&mut self, dice: &mut Dice) -> Result<(), String> {
        let activity = ACTIVITIES[dice.below(ACTIVITIES.len() as u64) as usize];
        let victim = VICTIMS[dice.below(VICTIMS.len() as u64) as usize];
        // Slow enough for a kill to come in between.
        self.registry.fault(
            ("GET", "/blobs/", Times::Always),
            Fault::Drip(20_000 + dice.below(200_000) as usize),
        );
        let moment = Duration::from_millis(dice.below(700));
        let name = self.name.clone();
        let mut reader = None;
        let mut command = match activity {
            Activity::FirstPass => {
                self.forget(&["spans", "layers", "diffs", "sent"]);
                let ahead = ["--prefetch=off", "--prefetch=push"][dice.below(2) as usize];
                self.start(&["mount", ahead, &name, "M"])
            }
            Activity::SpanWrites => {
                self.mount(&[])?;
                self.forget(&["spans"]);
                reader = Some(self.reader());
                self.start(&["ls", "-lR", &name])
            }
            Activity::Evictions => {
                self.mount(&["--cache-size", SMALL_CACHE])?;
                self.forget(&["spans"]);
                reader = Some(self.reader());
                self.start(&["cache", "gc", "--max-size", "1M"])
            }
            Activity::Push => {
                self.forget(&["layers", "diffs"]);
                self.start(&["index", "push", &name])
            }
            Activity::Pull => {
                self.forget(&["spans", "layers", "diffs"]);
                self.start(&["pull", &name])
            }
            Activity::Export => {
                self.forget(&["spans"]);
                self.start(&["export", "--output", "/dev/null", &name])
            }
            Activity::Gc => self.start(&["cache", "gc", "--max-size", "1M"]),
        };
        thread::sleep(moment);
        self.kill(victim, &mut command, activity);
        let row = format!("{activity:?}, {victim:?} after {moment:?}");
        // The command ends, killed or not, and so do those who read.
        let ended = eventually_within(HANG, || command.try_wait().unwrap().is_some());
        if !ended {
            let _ = command.kill();
            return Err(format!("{row}: the command does not end"));
        }
        if let Some(reader) = reader {
            let result = within(HANG, move || reader.join().unwrap());
            match result {
                Ok(wrong) if !wrong.is_empty() => return Err(format!("{row}: wrong: {wrong:?}")),
                // Without a supervisor there is nobody to ask.
                Err(e) if victim != Victim::Supervisor => {
                    return Err(format!("{row}: a reader: {e}"));
                }
                Ok(_) | Err(_) => {}
            }
        }
        self.registry.clear_faults();
        self.is_whole(activity).map_err(|e| format!("{row}: {e}"))
    }

    /// What comes after is as if nothing had been.
    fn is_whole(&self, activity: Activity) -> Result<(), String> {
        self.mount(&[])?;
        let reader = self.reader();
        let wrong =
            within(HANG, move || reader.join().unwrap()).map_err(|e| format!("reading: {e}"))?;
        if !wrong.is_empty() {
            return Err(format!("wrong: {wrong:?}"));
        }
        self.run(&["cache", "verify"])?;
        if activity == Activity::Push {
            self.run(&["index", "push", &self.name])?;
        }
        // A mount that was begun by who was killed may have come below or above this one.
        let quiet = || {
            (self.home.mounts(), self.home.serving(), self.home.workers(), self.home.prefetchers())
        };
        let is_gone = || {
            if !self.home.mounts().is_empty() {
                // It may be busy for a moment yet.
                let _ = self.run(&["umount", "M"]);
            }
            quiet() == (vec![], vec![], vec![], vec![])
        };
        if !eventually_within(HANG, is_gone) {
            return Err(format!("left: {:?}", quiet()));
        }
        let names = fs::read_dir(self.home.mount_point()).unwrap().count();
        if names == 0 { Ok(()) } else { Err("the mount point is not empty".to_owned()) }
    }
}

#[test]
fn whatever_is_killed_nothing_is_wrong_afterwards() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("OCIFS_STORM").unwrap_or(ROUNDS);
    let seed = number("OCIFS_TEST_SEED").unwrap_or(1);
    let mut storm = Storm::new();
    let mut dice = Dice(seed);
    for round in 1..=rounds {
        if let Err(why) = storm.round(&mut dice) {
            panic!("round {round} of seed {seed}: {why}");
        }
        if round.is_multiple_of(50) {
            note(&format!("kill storm: {round} rounds"));
        }
    }
    let kills: u32 = storm.killed.values().sum();
    assert!(u64::from(kills) >= rounds / 3, "{kills} kills came in time: {:?}", storm.killed);
    // Temporary files of who was killed are swept when they are old; nothing else may stay.
    let left = fs::read_dir(storm.home.path().join("run")).map_or(0, Iterator::count);
    note(&format!(
        "kill storm: {rounds} rounds, {kills} kills ({:?}), 0 wrong bytes, 0 damaged files, 0 stuck, {left} files \
         in the runtime folder",
        storm.killed
    ));
}
