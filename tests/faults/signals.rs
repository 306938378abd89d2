//! Signals, dead servers and foreign unmounts: whichever process or mount ends first, nothing is left over.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::fixture::{GOOD, good, image_of, noise};
use crate::shell::{Home, eventually, run, wait};
use crate::support::image::Compression;
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// A home with the good image mounted, and the process that serves it.
fn mounted() -> (Home, String, Pid) {
    let home = Home::new();
    let image = home.layout(&good());
    run(&mut with_default_signals(&home.ocifs(&["mount", &image, "M"]))).succeeded();
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    let serving = home.serving();
    assert_eq!(serving.len(), 1, "one process serves");
    (home, image, serving[0])
}

/// Kills the server and waits until it is gone.
fn kill_server(home: &Home, server: Pid) {
    kill_process(server, Signal::KILL).unwrap();
    // What it has started to serve may answer for a moment yet.
    assert!(eventually(|| home.serving().is_empty() && home.workers().is_empty()));
    // The kernel still has `f` in its cache; another name it has to ask for. A process that is just
    // dying aborts that with another error.
    let other = home.mount_point().join("other");
    let stale = || fs::metadata(&other).unwrap_err().raw_os_error() == Some(107);
    assert!(eventually(stale), "the mount is stale");
}

#[test]
fn umount_after_a_killed_server() {
    for flags in [&["umount", "M"][..], &["umount", "--lazy", "M"]] {
        let (home, _, server) = mounted();
        kill_server(&home, server);
        home.run(flags).succeeded();
        home.is_quiet();
    }
}

#[test]
fn mount_after_a_killed_server() {
    let (home, image, server) = mounted();
    kill_server(&home, server);
    for words in [&["status"][..], &["status", "M"], &["status", "--json", "M"]] {
        let status = home.run(words);
        let is_told = status.stdout.contains("dead") && status.stdout.contains("ocifs umount");
        assert!(status.code == 1 && status.stderr.is_empty() && is_told, "{status:?}");
    }
    home.run(&["mount", &image, "M"]).succeeded();
    assert_eq!(home.mounts().len(), 1);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Two stale mounts on one place, one over the other.
#[test]
fn mount_after_two_killed_servers() {
    let (home, image, server) = mounted();
    home.run(&["mount", "--over", &image, "M"]).succeeded();
    for server in home.serving() {
        kill_process(server, Signal::KILL).unwrap();
    }
    let are_dead = || home.serving().is_empty() && home.workers().is_empty();
    assert!(eventually(are_dead), "{server:?}");
    assert_eq!(home.mounts().len(), 2);
    // Each of them goes away by a mount. The lower one has not been looked at by the first.
    for _ in 0..2 {
        home.run(&["mount", "--over", &image, "M"]).succeeded();
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

/// A process that is only stopped is not dead, and its mount stays.
#[test]
fn status_of_a_stopped_server() {
    let (home, _, server) = mounted();
    kill_process(server, Signal::STOP).unwrap();
    let state = format!("/proc/{}/status", server.as_raw_nonzero());
    assert!(eventually(|| fs::read_to_string(&state).unwrap().contains("State:\tT")));
    let status = home.run(&["status", "--json", "M"]);
    kill_process(server, Signal::CONT).unwrap();
    assert!(status.code == 1 && status.stdout.contains(r#""state":"silent""#), "{status:?}");
    assert_eq!(home.status()["state"], "mounted");
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn termination_unmounts_even_what_is_in_use() {
    for signal in [Signal::TERM, Signal::INT] {
        let (home, _, server) = mounted();
        let mut inside =
            Command::new("sleep").arg("60").current_dir(home.mount_point()).spawn().unwrap();
        kill_process(server, signal).unwrap();
        let ended = eventually(|| home.serving().is_empty() && home.mounts().is_empty());
        inside.kill().unwrap();
        inside.wait().unwrap();
        assert!(ended, "{signal:?}: left {:?} {:?}", home.serving(), home.mounts());
        home.is_quiet();
    }
}

#[test]
fn foreground_mounts_end_by_signals_too() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let image = home.layout(&good());
        let mut command =
            with_default_signals(&home.ocifs(&["mount", "--foreground", &image, "M"]));
        let mut child = command.spawn().unwrap();
        assert!(eventually(|| home.mounts().len() == 1));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(wait(&mut child), 0);
        home.is_quiet();
    }
}

/// A terminal that is closed hangs up on what runs in it.
#[test]
fn foreground_mounts_end_with_their_terminal() {
    let home = Home::new();
    let image = home.layout(&good());
    let mut command = with_default_signals(&home.ocifs(&["mount", "--foreground", &image, "M"]));
    let mut child = command.spawn().unwrap();
    assert!(eventually(|| home.mounts().len() == 1));
    // The mount is there before the program is ready for signals.
    thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    wait(&mut child);
    home.is_quiet();
}

/// As below `nohup`, and in the background of a shell without job control.
#[test]
fn signals_that_the_caller_ignores_do_not_end_a_foreground_mount() {
    let home = Home::new();
    let image = home.layout(&good());
    let mount = home.ocifs(&["mount", "--foreground", &image, "M"]);
    let mut child = with_signals("--ignore-signal=INT,HUP", &mount).spawn().unwrap();
    let process = Pid::from_child(&child);
    // It answers on its socket once it takes signals.
    assert!(eventually(|| home.mounts().len() == 1 && home.run(&["status", "M"]).code == 0));
    for signal in [Signal::HUP, Signal::INT] {
        kill_process(process, signal).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    assert!(child.try_wait().unwrap().is_none(), "it still serves");
    kill_process(process, Signal::TERM).unwrap();
    assert_eq!(wait(&mut child), 0);
    home.is_quiet();
}

/// The terminal goes away: a mount in the background stays.
#[test]
fn hanging_up_does_not_end_a_background_mount() {
    let home = Home::new();
    let image = home.layout(&good());
    let mut child = home.ocifs(&["mount", &image, "M"]).process_group(0).spawn().unwrap();
    let group = Pid::from_child(&child);
    assert_eq!(wait(&mut child), 0);
    // The group may be empty already, which is as good.
    let _ = kill_process_group(group, Signal::HUP);
    let _ = kill_process_group(group, Signal::INT);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn unmounted_by_others() {
    for words in [&["umount"][..], &["fusermount3", "-u"], &["umount", "-l"]] {
        let (home, _, _) = mounted();
        let mut command = home.command(words[0]);
        run(command.args(&words[1..]).arg(home.mount_point())).succeeded();
        home.is_quiet();
    }
}

/// The command as a terminal would start it: who runs these tests in the background may have told them to ignore
/// Ctrl-C, and their children inherit that.
pub fn with_default_signals(command: &Command) -> Command {
    with_signals("--default-signal=INT,HUP", command)
}

/// The command as env(1) starts it with this flag.
fn with_signals(flag: &str, command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped.arg(flag).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Ctrl-C while layers are still coming: both processes end, nothing is mounted, and the next
/// mount starts from what is whole.
#[test]
fn interrupted_first_pass() {
    for signal in [Signal::INT, Signal::TERM] {
        for foreground in [false, true] {
            let home = Home::new();
            let registry = Registry::start();
            let content = noise(6 << 20, 5);
            let image = image_of(&tar(&[Entry::file("f", &content)]), Compression::None);
            registry.add_image("r", "t", &image);
            let digest = image.layer_digests().remove(0);
            registry.fault(("GET", &digest, Times::First(1)), Fault::Drip(5000));
            let name = format!("{}/r:t", registry.addr());
            let mut words = vec!["mount", &name, "M"];
            words.extend(foreground.then_some("--foreground"));
            let mut command = with_default_signals(&home.ocifs(&words));
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let fetching = || registry.requests().iter().any(|r| r.path.contains(&digest));
            assert!(eventually(fetching));
            // The first span has been written by then.
            thread::sleep(Duration::from_millis(2500));
            kill_process_group(Pid::from_child(&child), signal).unwrap();
            assert_ne!(wait(&mut child), 0);
            home.is_quiet();
            let outcome = home.run(&["mount", &name, "M"]);
            assert_eq!(outcome.code, 0, "{outcome:?}");
            assert!(fs::read(home.mount_point().join("f")).unwrap() == content);
            home.run(&["umount", "M"]).succeeded();
            home.is_quiet();
        }
    }
}

/// Only the waiting process is told to end, as `timeout` and service managers do.
#[test]
fn a_terminated_front_process_takes_its_child_along() {
    let home = Home::new();
    let registry = Registry::start();
    let image = image_of(&tar(&[Entry::file("f", noise(1 << 20, 6))]), Compression::None);
    registry.add_image("r", "t", &image);
    let gate = Gate::default();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Hold(gate.clone()));
    let name = format!("{}/r:t", registry.addr());
    let mut command = home.ocifs(&["mount", &name, "M"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(eventually(|| registry.requests().iter().any(|r| r.path.contains("/blobs/"))));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_ne!(wait(&mut child), 0);
    // The other one goes on until it has something to tell.
    gate.open();
    home.is_quiet();
}

/// The server dies while a process reads from it, and the reader is told.
#[test]
fn readers_of_a_killed_server_get_an_error() {
    let home = Home::new();
    let registry = Registry::start();
    let content = noise(2 << 20, 9);
    let image = image_of(&tar(&[Entry::file("f", &content)]), Compression::None);
    registry.add_image("r", "t", &image);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["mount", &name, "M"]).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    let fault = Fault::Stall(1000, Duration::from_secs(60));
    registry.fault(("GET", "/blobs/", Times::Always), fault);
    let path = home.mount_point().join("f");
    let reader = thread::spawn(move || fs::read(path).map(|bytes| bytes.len()));
    thread::sleep(Duration::from_millis(500));
    let server = home.serving()[0];
    kill_process(server, Signal::KILL).unwrap();
    assert!(eventually(|| reader.is_finished()));
    assert!(reader.join().unwrap().is_err());
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A mount can be ended while one of its reads waits for a registry that says nothing.
#[test]
fn termination_during_a_stalled_read() {
    let home = Home::new();
    let registry = Registry::start();
    let image = image_of(&tar(&[Entry::file("f", noise(2 << 20, 9))]), Compression::None);
    registry.add_image("r", "t", &image);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["mount", "--timeout", "30", &name, "M"]).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    let fault = Fault::Stall(1000, Duration::from_secs(60));
    registry.fault(("GET", "/blobs/", Times::Always), fault);
    let path = home.mount_point().join("f");
    let reader = thread::spawn(move || fs::read(path).map(|bytes| bytes.len()));
    thread::sleep(Duration::from_millis(500));
    kill_process(home.serving()[0], Signal::TERM).unwrap();
    let ended = eventually(|| home.mounts().is_empty() && home.serving().is_empty());
    assert!(ended, "left {:?} {:?}", home.mounts(), home.serving());
    assert!(eventually(|| reader.is_finished()));
    assert!(reader.join().unwrap().is_err());
}

/// Whether it is told to end or killed. With `--prefetch=push` a thread may wait in the kernel for a page that a
/// reader has locked: neither may be left waiting for the other by an end in order.
#[test]
fn whoever_ends_in_the_middle_of_a_walk_leaves_nobody_waiting() {
    let home = Home::new();
    let files = (0..400).map(|n| Entry::file(format!("d{}/{n}", n / 20), noise(9_000, n)));
    let image = home.layout(&image_of(&tar(&files.collect::<Vec<_>>()), Compression::None));
    home.run(&["ls", &image]).succeeded();
    let ends = [(Signal::TERM, "--prefetch=push"), (Signal::KILL, "--strict-modes")];
    for (round, (signal, flag)) in ends.iter().cycle().take(20).enumerate() {
        home.run(&["mount", flag, &image, "M"]).succeeded();
        let mut reader = Command::new("grep")
            .args(["-rq", "nobody has this"])
            .arg(home.mount_point())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(3 + 2 * round as u64));
        kill_process(home.serving()[0], *signal).unwrap();
        if *signal == Signal::KILL {
            home.run(&["umount", "--lazy", "M"]).succeeded();
        }
        let is_over = || home.serving().is_empty() && home.mounts().is_empty();
        assert!(eventually(is_over), "round {round}: {:?} {:?}", home.serving(), home.mounts());
        wait(&mut reader);
    }
    home.is_quiet();
}

/// What its process in the background has mounted meanwhile is not in the way.
#[test]
fn mount_right_after_a_killed_front_process() {
    let home = Home::new();
    let image = home.layout(&good());
    for round in 0..12 {
        let mut front = home.ocifs(&["mount", &image, "M"]).stderr(Stdio::null()).spawn().unwrap();
        while home.mounts().is_empty() && front.try_wait().unwrap().is_none() {}
        front.kill().unwrap();
        front.wait().unwrap();
        let again = home.run(&["mount", &image, "M"]);
        assert_eq!(again.code, 0, "{round}: {again:?}");
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}
