//! The `ocifs` program with a home of its own, and what is mounted and running on its behalf.
//!
//! A [`Home`] leaves nothing behind: what a failed test has left mounted or running below its
//! folder is ended when it is dropped, and only that.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::environment;
use crate::support::image::{Built, write_oci_layout};

/// What a process is called that serves for another.
const WORKER: &str = "ocifs-worker";

/// How long a command may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code, or the signal as a negative number.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Checks for success without a word, but for what is told of every image that is shown by a table of
    /// contents: the tests of `proof` are about that.
    #[track_caller]
    pub fn succeeded(&self) {
        let is_usual = |line: &str| line.contains("`--proof any` silences this");
        assert!(self.code == 0 && self.stderr.lines().all(is_usual), "{self:?}");
    }

    /// Checks for a failure that is told on stderr alone, with these words.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stdout.is_empty() && self.stderr.contains("error: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in {self:?}");
        }
    }
}

pub struct Home {
    folder: TempDir,
    program: PathBuf,
    /// The words in front of the program's, such as those that make it another user's.
    prefix: Vec<String>,
    /// A process that holds the mount namespace in which all this happens.
    namespace: Option<Child>,
}

impl Home {
    pub fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "run", "m"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Home {
            folder,
            program: env!("CARGO_BIN_EXE_ocifs").into(),
            prefix: Vec::new(),
            namespace: None,
        }
    }

    /// The same with words in front of the program's.
    pub fn with_prefix(mut self, words: &[&str]) -> Home {
        self.prefix = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The same for a program elsewhere, started through other words, in a mount namespace where
    /// every user may open `/dev/fuse`. Not all machines are set up like that.
    pub fn through(mut self, prefix: &[&str], program: PathBuf) -> Home {
        // The copies of other tests' mounts would keep those alive.
        let script = "umount --all --lazy --types fuse.ocifs,erofs; \
                      mknod -m 666 \"$1\" c 10 229 && mount --bind \"$1\" /dev/fuse && \
                      touch \"$2\" && exec sleep 600";
        let (device, ready) = (self.path().join("fuse"), self.path().join("ready"));
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        let holder = holder.args([&device, &ready]).stdout(Stdio::null()).spawn().unwrap();
        let id = holder.id().to_string();
        self.namespace = Some(holder);
        assert!(eventually(|| ready.exists()), "these tests run as root");
        let words = ["nsenter", "--mount", "-t", &id, "--"];
        self.prefix = words.iter().chain(prefix).map(|word| (*word).to_owned()).collect();
        self.program = program;
        self
    }

    pub fn path(&self) -> PathBuf {
        // Mount points are listed by their real path.
        self.folder.path().canonicalize().unwrap()
    }

    /// A folder to mount on.
    pub fn mount_point(&self) -> PathBuf {
        self.path().join("m")
    }

    /// Writes an image as a layout into the home; its name.
    pub fn layout(&self, image: &Built) -> String {
        let path = self.path().join("layout");
        write_oci_layout(&path, &[(None, image)]).unwrap();
        format!("oci:{}", path.display())
    }

    /// Writes the user's settings; their place.
    pub fn configure(&self, text: &str) -> PathBuf {
        let folder = self.path().join("home/.config/ocifs");
        fs::create_dir_all(&folder).unwrap();
        let settings = folder.join("config.toml");
        fs::write(&settings, text).unwrap();
        settings
    }

    /// A command in this home's environment, behind the prefix.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_behind(&self.prefix, program)
    }

    /// The same for root, in the mount namespace of the home.
    pub fn command_of_root(&self, program: impl AsRef<OsStr>) -> Command {
        let holder = self.namespace.as_ref().unwrap().id().to_string();
        let words = ["nsenter", "--mount", "-t", &holder, "--"].map(str::to_owned);
        self.command_behind(&words, program)
    }

    fn command_behind(&self, prefix: &[String], program: impl AsRef<OsStr>) -> Command {
        let mut words: Vec<&OsStr> = prefix.iter().map(OsStr::new).collect();
        words.push(program.as_ref());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        environment::only(&mut command, &self.path()).stdin(Stdio::null());
        command
    }

    /// The program with these words, `M` standing for the mount point.
    pub fn ocifs(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.program);
        for word in words {
            match *word {
                "M" => command.arg(self.mount_point()),
                word => command.arg(word),
            };
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Outcome {
        run(&mut self.ocifs(words))
    }

    /// What is mounted below the home, by any program.
    pub fn mounts(&self) -> Vec<PathBuf> {
        // Other tests mount on what is no text.
        let (bytes, home) = (fs::read(self.mountinfo()).unwrap(), self.path());
        let text = String::from_utf8_lossy(&bytes);
        let places = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        places.filter(|place| place.starts_with(&home)).collect()
    }

    fn mountinfo(&self) -> String {
        let holder = self.namespace.as_ref().map(|holder| holder.id().to_string());
        format!("/proc/{}/mountinfo", holder.unwrap_or("self".to_owned()))
    }

    /// The processes of this home that a mount, or a program of an image, lives as long as.
    pub fn serving(&self) -> Vec<Pid> {
        let is_verb = |word: &&str| matches!(*word, "mount" | "run" | "store" | "browse");
        self.processes(|words| words[0] != WORKER && words.iter().any(is_verb))
    }

    /// The processes that serve for those.
    pub fn workers(&self) -> Vec<Pid> {
        self.processes(|words| words[0] == WORKER)
    }

    /// What `status` says of the mount at `M`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let shown = self.run(&["status", "--json", "M"]);
        shown.succeeded();
        serde_json::from_str::<serde_json::Value>(&shown.stdout).unwrap()[0].take()
    }

    /// The prefetchers: processes that run ahead of walks over mounts below here.
    pub fn prefetchers(&self) -> Vec<Pid> {
        self.processes(|words| words.contains(&"prefetch"))
    }

    /// Processes of ours that name this folder and have such words.
    fn processes(&self, is_meant: impl Fn(&[&str]) -> bool) -> Vec<Pid> {
        let home = self.path();
        let home = home.to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ended meanwhile has no words, and neither has a zombie.
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            let all: Vec<&str> = words.split('\0').collect();
            if is_meant(&all) && words.contains(home) && words.contains("ocifs") {
                found.extend(Pid::from_raw(pid));
            }
        }
        found
    }

    /// Waits until nothing is mounted and nobody serves.
    #[track_caller]
    pub fn is_quiet(&self) {
        let left = || (self.mounts(), self.serving(), self.workers(), self.prefetchers());
        let is_quiet = || left() == (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        assert!(eventually(is_quiet), "left: {:?}", left());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // All of this fails where the test has cleaned up, which is the usual case.
        for place in self.mounts().iter().rev() {
            let mut umount = Command::new("umount");
            if let Some(holder) = &self.namespace {
                umount = Command::new("nsenter");
                umount.args(["--mount", "-t", &holder.id().to_string(), "--", "umount"]);
            }
            let _ = umount.arg("-l").arg(place).stderr(Stdio::null()).status();
        }
        for pid in [self.serving(), self.workers(), self.prefetchers()].concat() {
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(holder) = &mut self.namespace {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let rows = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        rows.map(|row| row.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a command to its end, and fails the test if there is none.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let code = wait(&mut child);
    Outcome { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut pipe = pipe.unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of a child; its exit code, or its signal as a negative number.
#[track_caller]
pub fn wait(child: &mut Child) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        }
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the command did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for something to become true, and says whether it did.
pub fn eventually(holds: impl FnMut() -> bool) -> bool {
    eventually_within(Duration::from_secs(6), holds)
}

/// The same for what may take longer.
pub fn eventually_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if holds() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    holds()
}

/// The words of a path.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
