//! Debian's containerd with a root of its own, called by `ctr`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::plugin::{Plugin, START, image, layer_requests, log_of, need_root_and_fuse};
use crate::shell::{Home, Outcome, eventually, eventually_within, run, wait};
use crate::support::registry::Registry;

/// A daemon with its folders in a home.
pub struct Containerd<'a> {
    home: &'a Home,
    child: Child,
}

impl<'a> Containerd<'a> {
    /// With the snapshotter of the home as its plugin. Sandboxes are made from the image `pause:1` of the registry.
    pub fn start(home: &'a Home, registry: &Registry) -> Containerd<'a> {
        Containerd::start_with(home, registry, &[])
    }

    /// The same, with images of others as well.
    pub fn start_with(home: &'a Home, registry: &Registry, others: &[&Registry]) -> Containerd<'a> {
        let mirror = |registry: &&Registry| {
            let address = registry.addr();
            format!("mirrors.\"{address}\".endpoint = [\"http://{address}\"]\n")
        };
        let mirrors: String = [registry].iter().chain(others).map(mirror).collect();
        Containerd::start_to(home, registry, &mirrors)
    }

    /// The same, led to registries by a folder of `hosts.toml`.
    pub fn start_led_by(home: &'a Home, registry: &Registry, hosts: &Path) -> Containerd<'a> {
        Containerd::start_to(home, registry, &format!("config_path = {hosts:?}\n"))
    }

    /// Sandboxes are made from an image of a registry, and `hosts` say how registries are reached.
    fn start_to(home: &'a Home, registry: &Registry, hosts: &str) -> Containerd<'a> {
        let (folder, registry) = (home.path().display().to_string(), registry.addr());
        let config = home.path().join("containerd.toml");
        // What users are told to write.
        let example =
            include_str!("../../packaging/debian/ocifs-snapshotter/examples/containerd-1.toml");
        let socket = "/run/ocifs-snapshotter/snapshotter.sock";
        assert!(example.contains(socket));
        let example = example.replace(socket, &format!("{folder}/s.sock"));
        let text = format!(
            r#"
root = "{folder}/root"
state = "{folder}/state"
{example}
[grpc]
  address = "{folder}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{registry}/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
{hosts}
"#
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::options().create(true).append(true).open(home.path().join("c.log"));
        let mut command = home.command("containerd");
        command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(log.unwrap());
        let child = command.spawn().expect("`containerd` is missing: install containerd");
        let containerd = Containerd { home, child };
        let answers = || containerd.ctr(&["version"]).code == 0;
        assert!(eventually_within(START, answers), "{}", containerd.log());
        containerd
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join("c.sock")
    }

    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.home.path().join("c.log")).unwrap_or_default();
        format!("{log}\n{}", log_of(self.home))
    }

    /// Runs `ctr` to its end.
    pub fn ctr(&self, words: &[&str]) -> Outcome {
        let mut command = self.home.command("ctr");
        run(command.arg("--address").arg(self.socket()).args(words))
    }

    /// The same, which has to succeed; what it prints.
    #[track_caller]
    pub fn told(&self, words: &[&str]) -> String {
        let outcome = self.ctr(words);
        assert_eq!(outcome.code, 0, "{words:?}: {outcome:?}\n{}", self.log());
        outcome.stdout
    }

    /// Ends it as a service manager does; containers run on.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait(&mut self.child);
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // It has ended where the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            end_shims(self.home);
        }
    }
}

/// Ends what a test that failed has left running.
fn end_shims(home: &Home) {
    let socket = home.path().join("c.sock");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && words.contains("containerd-shim")
            && words.contains(socket.to_str().unwrap())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The name of a container that no other test has: runc keeps them all in one folder, whichever containerd it is run by.
pub fn container_id(home: &Home) -> String {
    let name = home.path().file_name().unwrap().to_str().unwrap().replace('.', "");
    format!("ocifs-{name}")
}

fn reference(registry: &Registry, name: &str) -> String {
    format!("{}/{name}", registry.addr())
}

/// `ctr pull` of 1.6 gives no labels: containerd downloads and unpacks, into snapshots like its own.
#[test]
fn ctr_pulls_runs_and_removes() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("ctr"));
    registry.add_image("app", "1", &image);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let (name, id) = (reference(&registry, "app:1"), container_id(&home));
    containerd.told(&["images", "pull", "--plain-http", "--snapshotter", "ocifs", &name]);
    assert_eq!(layer_requests(&registry, &image), 2);
    let run = |words: &[&str]| {
        let all = ["run", "--rm", "--snapshotter", "ocifs", &name, &id];
        containerd.told(&[&all[..], words].concat())
    };
    assert_eq!(run(&["/bin/tool", "cat", "/d/layer"]), "second of ctr");
    assert_eq!(run(&["/bin/tool", "write", "/d/layer", "mine"]), "");
    assert_eq!(run(&["/bin/tool", "cat", "/d/layer"]), "second of ctr");
    let missing = containerd.ctr(&[
        "run",
        "--rm",
        "--snapshotter",
        "ocifs",
        &name,
        &id,
        "/bin/tool",
        "cat",
        "/d/gone",
    ]);
    assert_ne!(missing.code, 0, "{missing:?}");
    let snapshots = containerd.told(&["snapshots", "--snapshotter", "ocifs", "list"]);
    assert_eq!(snapshots.matches("Committed").count(), 2, "{snapshots}");
    let usage = containerd.told(&["snapshots", "--snapshotter", "ocifs", "usage"]);
    assert!(usage.contains("KiB") || usage.contains("MiB"), "{usage}");
    // Garbage collection removes what no image needs.
    containerd.told(&["images", "remove", "--sync", &name]);
    assert!(is_empty(&plugin.root().join("snapshots")), "{}", containerd.log());
    containerd.stop();
    plugin.stop();
}

/// What is unpacked survives restarts, and the socket may be gone for a while.
#[test]
fn ctr_over_restarts_of_either_side() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("either"));
    registry.add_image("app", "1", &image);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let (name, id) = (reference(&registry, "app:1"), container_id(&home));
    containerd.told(&["images", "pull", "--plain-http", "--snapshotter", "ocifs", &name]);
    for round in 0..2 {
        plugin.kill();
        assert!(UnixStream::connect(home.path().join("s.sock")).is_err());
        if round == 1 {
            containerd.stop();
        }
        plugin = Plugin::start(&home);
        if round == 1 {
            containerd = Containerd::start(&home, &registry);
        }
        let run = || {
            let words = ["run", "--rm", "--snapshotter", "ocifs", &name, &id];
            let outcome = containerd.ctr(&[&words[..], &["/bin/tool", "cat", "/d/layer"]].concat());
            (outcome.code == 0).then_some(outcome.stdout)
        };
        // containerd tries again after a while of its own.
        let mut said = None;
        assert!(
            eventually_within(START, || {
                said = run();
                said.is_some()
            }),
            "{}",
            containerd.log()
        );
        assert_eq!(said.unwrap(), "second of either");
    }
    containerd.stop();
    plugin.stop();
}

/// A database that can't be read keeps nobody from other snapshotters, and works again once it is away.
#[test]
fn other_snapshotters_work_beside_a_database_that_does_not() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("beside"));
    registry.add_image("app", "1", &image);
    let root = home.path().join("snapshotter");
    fs::create_dir(&root).unwrap();
    let database = root.join("snapshots.redb");
    fs::write(&database, "something else").unwrap();
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let (name, id) = (reference(&registry, "app:1"), container_id(&home));
    let pull = |snapshotter: &str| {
        containerd.ctr(&["images", "pull", "--plain-http", "--snapshotter", snapshotter, &name])
    };
    let refused = pull("ocifs");
    assert!(refused.code != 0 && refused.stderr.contains("is damaged"), "{refused:?}");
    let run = |snapshotter: &str| {
        let words = ["run", "--rm", "--snapshotter", snapshotter, &name, &id];
        containerd.told(&[&words[..], &["/bin/tool", "cat", "/d/layer"]].concat())
    };
    for snapshotter in ["native", "ocifs"] {
        if snapshotter == "ocifs" {
            fs::rename(&database, root.join("away")).unwrap();
        }
        assert_eq!(pull(snapshotter).code, 0, "{snapshotter}: {}", containerd.log());
        assert_eq!(run(snapshotter), "second of beside", "{snapshotter}");
    }
    containerd.stop();
    plugin.stop();
}

pub fn is_empty(folder: &Path) -> bool {
    eventually(|| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()))
}

/// What a command would say, to fail early where a program is missing.
#[test]
fn the_runtime_is_there() {
    let found = Command::new("runc").arg("--version").output();
    assert!(found.is_ok_and(|output| output.status.success()), "`runc` is missing: install runc");
}
