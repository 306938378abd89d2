//! Processes that may have only so much memory: a control group of either version.
//!
//! A group is made below that of the test process, or, where version 2 forbids that, below the next
//! one above it that hands the memory controller on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The hierarchy of groups that limits memory, as this process sees it.
#[derive(Clone, Debug)]
struct Hierarchy {
    is_v2: bool,
    /// The folder of its root.
    root: PathBuf,
    /// The group of this process.
    own: PathBuf,
}

/// Why there is none that could be used: nobody limits memory here, or not us.
fn hierarchy() -> Result<Hierarchy, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    // Other tests mount on what is no text.
    let mounts = fs::read("/proc/self/mountinfo").unwrap();
    let mounts = String::from_utf8_lossy(&mounts);
    // 9:name=…,memory:/path for version 1, 0::/path for version 2
    let group = |wanted: &dyn Fn(&str, &str) -> bool| {
        let mut parts = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        parts.find_map(|part| wanted(part[0], part[1]).then(|| part[2].to_owned()))
    };
    let v1 = group(&|_, controllers| controllers.split(',').any(|name| name == "memory"));
    let (is_v2, path) = match v1 {
        Some(path) => (false, path),
        None => (true, group(&|number, _| number == "0").ok_or("there are no control groups")?),
    };
    // 30 23 0:26 /root /sys/fs/cgroup/memory rw,… shared:9 - cgroup cgroup rw,memory
    let fits = |line: &&str| {
        let (_, system) = line.split_once(" - ").unwrap_or_default();
        let options = system.rsplit(' ').next().unwrap_or_default();
        match is_v2 {
            true => system.starts_with("cgroup2 "),
            false => {
                system.starts_with("cgroup ") && options.split(',').any(|name| name == "memory")
            }
        }
    };
    let line = mounts.lines().find(fits).ok_or("no control groups are mounted")?;
    let words: Vec<&str> = line.split(' ').collect();
    let (shown, place, options) = (words[3], words[4], words[5]);
    if options.split(',').any(|option| option == "ro") {
        return Err(format!("{place} is mounted read-only"));
    }
    let own = Path::new(&path).strip_prefix(shown).unwrap_or(Path::new(""));
    let hierarchy = Hierarchy { is_v2, root: place.into(), own: Path::new(place).join(own) };
    let limits = |path: &Path| match is_v2 {
        true => has_word(&path.join("cgroup.controllers"), "memory"),
        false => path.join("memory.limit_in_bytes").exists(),
    };
    match limits(&hierarchy.own) {
        true => Ok(hierarchy),
        false => Err(format!("nobody limits memory below {}", hierarchy.own.display())),
    }
}

fn has_word(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().any(|word| word == wanted)
}

/// Why no process can be given less memory here, if so.
pub fn lack() -> Option<String> {
    hierarchy().err()
}

/// A group with a limit, gone when it is dropped.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    is_v2: bool,
}

impl MemoryGroup {
    /// Makes one whose processes have so many bytes together, the page cache that they fill included.
    pub fn new(bytes: u64) -> MemoryGroup {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ocifs-test-{}-{number}", std::process::id());
        let Hierarchy { is_v2, root, own } = hierarchy().unwrap();
        let parents = own.ancestors().take_while(|path| path.starts_with(&root));
        let hands_on = |parent: &&Path| {
            let control = parent.join("cgroup.subtree_control");
            // Refused where processes are in the group itself.
            !is_v2 || has_word(&control, "memory") || fs::write(&control, "+memory").is_ok()
        };
        let parent = parents.into_iter().find(hands_on);
        let parent =
            parent.unwrap_or_else(|| panic!("no group above {} has memory", own.display()));
        let path = parent.join(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let group = MemoryGroup { path, is_v2 };
        group.write(if is_v2 { "memory.max" } else { "memory.limit_in_bytes" }, &bytes.to_string());
        group
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// The same command, which enters the group before it begins.
    pub fn enter(&self, command: &Command) -> Command {
        let mut entering = Command::new("sh");
        entering.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        entering.arg(self.path.join("cgroup.procs"));
        entering.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entering.env(name, value),
                None => entering.env_remove(name),
            };
        }
        entering
    }

    /// How often something had to be given up for the limit.
    pub fn times_full(&self) -> u64 {
        let name = if self.is_v2 { "memory.events" } else { "memory.failcnt" };
        let text = fs::read_to_string(self.path.join(name)).unwrap();
        let count = match self.is_v2 {
            true => text.lines().find_map(|line| line.strip_prefix("max ")),
            false => Some(text.trim()),
        };
        count.unwrap().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Processes that have just ended leave it a moment later.
        for _ in 0..200 {
            match fs::remove_dir(&self.path) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}
