//! Mount points that their owners exchange for something else while the image is fetched, and afterwards.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{GOOD, good, image_of, name_in};
use crate::kernel_metadata;
use crate::shell::{Home, Outcome, eventually, eventually_within, run, text};
use crate::support::image::Compression;
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// How long a command may take that waits for a mount which does not answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether anything is mounted there, or a file of the image is to be seen.
fn is_bare(home: &Home, place: &Path) -> bool {
    !home.mounts().iter().any(|mounted| mounted == place) && !place.join("f").exists()
}

/// Mounts at a place, which `change` has its way with while the layer is fetched.
fn mount_while(home: &Home, flags: &[&str], place: &Path, change: impl FnOnce()) -> Outcome {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let gate = Gate::default();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Hold(gate.clone()));
    let words = ["mount", "--plain-http", &name_in(&registry), text(place)];
    let mut command = home.ocifs(&[&words[..1], flags, &words[1..]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_fetching = || registry.requests().iter().any(|r| r.path.contains("/blobs/"));
    assert!(eventually(is_fetching), "{flags:?}: the image is being fetched");
    change();
    gate.open();
    let is_foreground = flags.contains(&"--foreground");
    if is_foreground {
        assert!(eventually(|| !home.mounts().is_empty()), "{flags:?}: it is mounted somewhere");
        thread::spawn(move || child.wait_with_output());
        return Outcome { code: 0, stdout: String::new(), stderr: String::new() };
    }
    let output = child.wait_with_output().unwrap();
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: lossy(&output.stdout),
        stderr: lossy(&output.stderr),
    }
}

/// Two processes end then, and one of them knows why. What of it is seen depends on which ends first.
#[test]
fn a_mount_that_fails_says_so_once() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    for flags in [&[][..], &["--foreground"]] {
        for _ in 0..10 {
            let outcome = home.run(&[&["mount"], flags, &[&*image, "/etc"]].concat());
            outcome.failed(1, &["/etc"]);
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        }
    }
    home.is_quiet();
}

/// The ways to mount, each with a home.
fn ways() -> Vec<(Home, Vec<&'static str>)> {
    let mut ways = vec![
        (Home::new(), vec![]),
        (Home::new(), vec!["--foreground"]),
        (Home::new(), vec!["--over"]),
        (home_of_nobody(), vec![]),
    ];
    if kernel_metadata::can() {
        ways.push((Home::new(), vec!["--kernel-metadata"]));
    }
    ways
}

#[test]
fn a_symlink_in_its_place() {
    for (home, flags) in ways() {
        let (moved, victim) = (home.path().join("moved"), home.path().join("victim"));
        fs::create_dir(&victim).unwrap();
        // An ordinary user could mount there.
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.mount_point()).unwrap());
        chown(&victim, Some(owner), Some(owner)).unwrap();
        let outcome = mount_while(&home, &flags, &home.mount_point(), || {
            fs::rename(home.mount_point(), &moved).unwrap();
            symlink(&victim, home.mount_point()).unwrap();
        });
        outcome.succeeded();
        assert!(is_bare(&home, &victim), "{flags:?}");
        assert_eq!(home.mounts(), std::slice::from_ref(&moved), "{flags:?}");
        // `status` says where it is.
        let status = home.run(&["status", text(&moved)]);
        assert!(status.stdout.contains(text(&moved)), "{flags:?}: {status:?}");
        home.run(&["umount", text(&moved)]).succeeded();
        home.is_quiet();
    }
}

/// The folder that the mount point is in.
fn folders(home: &Home) -> [PathBuf; 2] {
    let folders = ["a", "b"].map(|name| home.path().join(name));
    for folder in &folders {
        fs::create_dir_all(folder.join("m")).unwrap();
        for path in [folder.clone(), folder.join("m")] {
            let metadata = fs::metadata(home.mount_point()).unwrap();
            let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
            chown(path, Some(owner), Some(owner)).unwrap();
        }
    }
    folders
}

#[test]
fn a_symlink_for_a_folder_above() {
    for (home, flags) in ways() {
        let [folder, victim] = folders(&home);
        let moved = home.path().join("moved");
        let outcome = mount_while(&home, &flags, &folder.join("m"), || {
            fs::rename(&folder, &moved).unwrap();
            symlink(&victim, &folder).unwrap();
        });
        outcome.succeeded();
        assert!(is_bare(&home, &victim.join("m")), "{flags:?}");
        assert_eq!(home.mounts(), [moved.join("m")], "{flags:?}");
        home.run(&["umount", text(&moved.join("m"))]).succeeded();
        home.is_quiet();
    }
}

#[test]
fn deleted_meanwhile() {
    for (home, flags) in ways() {
        if flags.contains(&"--foreground") {
            continue;
        }
        let victim = home.path().join("victim");
        fs::create_dir(&victim).unwrap();
        let outcome = mount_while(&home, &flags, &home.mount_point(), || {
            fs::remove_dir(home.mount_point()).unwrap();
            symlink(&victim, home.mount_point()).unwrap();
        });
        outcome.failed(1, &[]);
        assert!(is_bare(&home, &victim), "{flags:?}");
        home.is_quiet();
    }
}

/// A symlink as the user typed it leads to the mount point.
#[test]
fn symlinks_are_followed_at_first() {
    let home = Home::new();
    let link = home.path().join("link");
    symlink("m", &link).unwrap();
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    let outcome = mount_while(&home, &[], &link, || {
        fs::remove_file(&link).unwrap();
        symlink(&other, &link).unwrap();
    });
    outcome.succeeded();
    assert_eq!(home.mounts(), [home.mount_point()]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// What is mounted is unmounted where it is now, and nothing else where it was.
#[test]
fn moved_with_the_folder_it_is_in() {
    for (home, flags) in ways() {
        let [folder, other] = folders(&home);
        let image = home.layout(&good());
        let place = folder.join("m");
        let words = [&["mount"][..], &flags, &[&image, text(&place)]].concat();
        let mut first = home.ocifs(&words);
        let first = thread::spawn(move || run(&mut first).code);
        assert!(eventually(|| home.mounts() == [place.clone()]), "{flags:?}");
        let is_foreground = flags.contains(&"--foreground");
        assert!(is_foreground || eventually(|| first.is_finished()), "{flags:?}");
        let server = home.serving();
        assert_eq!(server.len(), 1, "{flags:?}");
        // Another image at the same path.
        let layers = tar(&[Entry::file("g", GOOD)]);
        let path = home.path().join("second");
        let second = image_of(&layers, Compression::Gzip);
        crate::support::image::write_oci_layout(&path, &[(None, &second)]).unwrap();
        let second = format!("oci:{}", text(&path));
        home.run(&["mount", &second, text(&other.join("m"))]).succeeded();
        let moved = home.path().join("moved");
        fs::rename(&folder, &moved).unwrap();
        symlink(&other, &folder).unwrap();
        kill_process(server[0], Signal::TERM).unwrap();
        assert_eq!(first.join().unwrap(), 0, "{flags:?}");
        assert!(
            eventually(|| home.mounts() == [other.join("m")]),
            "{flags:?}: {:?}",
            home.mounts()
        );
        let read = run(home.command("cat").arg(other.join("m/g")));
        assert_eq!(read.stdout.as_bytes(), GOOD, "{flags:?}");
        home.run(&["umount", text(&other.join("m"))]).succeeded();
        home.is_quiet();
    }
}

/// Stops the processes of a mount, and waits until none of their threads runs.
fn stop(home: &Home) -> Vec<Pid> {
    let all = [home.serving(), home.workers()].concat();
    for process in &all {
        kill_process(*process, Signal::STOP).unwrap();
        let state = format!("/proc/{}/status", process.as_raw_nonzero());
        assert!(eventually(|| fs::read_to_string(&state).unwrap().contains("State:\tT")));
    }
    all
}

/// Lets them go on. They may have ended with their connection.
fn go_on(processes: &[Pid]) {
    for process in processes {
        let _ = kill_process(*process, Signal::CONT);
    }
}

/// While a mount is asked whether it is served, the folder that it is in is exchanged for a symlink to one with another
/// file system.
#[test]
fn a_symlink_for_a_folder_above_a_silent_mount() {
    for verb in ["umount", "mount"] {
        let home = Home::new();
        let [folder, other] = folders(&home);
        let image = home.layout(&good());
        let (place, victim) = (folder.join("m"), other.join("m"));
        home.run(&["mount", &image, text(&place)]).succeeded();
        // Not the program's mount: that of another program.
        run(home.command("mount").args(["-t", "tmpfs", "victim"]).arg(&victim)).succeeded();
        let stopped = stop(&home);
        let words = match verb {
            "umount" => vec!["umount", text(&place)],
            _ => vec!["mount", &image, text(&place)],
        };
        let mut command = home.ocifs(&words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It has found the mount by then, and waits for what does not answer.
        let asks = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
            tasks.flatten().count() > 1
        };
        assert!(eventually(asks), "{verb}");
        let moved = home.path().join("moved");
        fs::rename(&folder, &moved).unwrap();
        symlink(&other, &folder).unwrap();
        let ended = thread::spawn(move || child.wait_with_output().unwrap());
        assert!(eventually_within(LIMIT, || ended.is_finished()), "{verb}");
        let output = ended.join().unwrap();
        let mounts = home.mounts();
        assert!(mounts.contains(&victim), "{verb}: {mounts:?} {output:?}");
        let is_moved = |mount: &PathBuf| mount.starts_with(&moved);
        assert!(!mounts.iter().any(is_moved), "{verb}: it is ended: {mounts:?} {output:?}");
        go_on(&stopped);
        if verb == "mount" {
            // As if the user had said so after the exchange.
            home.run(&["umount", text(&victim)]).succeeded();
        }
        run(home.command("umount").arg(&victim)).succeeded();
        home.is_quiet();
    }
}

/// What is at a path is not looked at where that would wait for a process that is stopped.
#[test]
fn mounting_where_a_server_is_stopped() {
    let image = |home: &Home| home.layout(&good());
    for order in ["several", "image first", "directory first"] {
        let home = Home::new();
        let image = image(&home);
        // A directory that is no image.
        let other = home.path().join("run");
        home.run(&["mount", &image, "M"]).succeeded();
        let stopped = stop(&home);
        let outcome = match order {
            "image first" => home.run(&["mount", &image, "M"]),
            "directory first" => home.run(&["mount", "M", &image]),
            _ => home.run(&["mount", &image, text(&other), "M"]),
        };
        match order {
            "several" => outcome.failed(1, &["did not answer", "no image"]),
            "directory first" => outcome.failed(2, &["the image comes first"]),
            _ => {
                // A new mount removes what does not answer, and says so.
                assert!(outcome.code == 0, "{order}: {outcome:?}");
                assert!(outcome.stderr.contains("did not answer"), "{order}: {outcome:?}");
            }
        }
        go_on(&stopped);
        if order != "several" {
            home.run(&["umount", "M"]).succeeded();
        }
        home.is_quiet();
    }
}

/// A word that may be an image, and is the path of such a mount.
#[test]
fn images_called_like_a_mount_whose_server_is_stopped() {
    let home = Home::new();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    let stopped = stop(&home);
    let place = home.mount_point();
    for (name, code, words) in [
        ("m", 1, ["docker.io/library/m", "--offline"]),
        ("m:12", 1, ["docker.io/library/m:12", "--offline"]),
        ("./m", 2, ["is stopped", "ocifs umount"]),
    ] {
        let mut command = home.ocifs(&["ls", "--offline", name]);
        run(command.current_dir(place.parent().unwrap())).failed(code, &words);
    }
    go_on(&stopped);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
