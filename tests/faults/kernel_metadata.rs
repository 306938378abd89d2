//! `mount --kernel-metadata` on the bad day. Three file systems hang together there, and all of them
//! have to go, whichever process or mount ends first; and where bytes can't be had, exactly those are
//! missing that are missing over the plain mount.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::fuse::erofs_mount::{self, Error};
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{files_below, image_of, noise};
use crate::pressure;
use crate::shell::{Home, eventually, eventually_within, run, wait};
use crate::signals::with_default_signals;
use crate::support::image::{Compression, ImageBuilder};
use crate::support::kernel;
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

const FLAG: &str = "--kernel-metadata";

/// How long it may take a process to end before it counts as hung.
const LIMIT: Duration = Duration::from_secs(20);

/// Whether this kernel can. Where it can't, that is said.
pub fn can() -> bool {
    let checked = erofs_mount::check();
    let is_lack = matches!(
        checked,
        Err(Error::NoErofs | Error::NotFromFile | Error::ShortReads | Error::NotPermitted)
    );
    kernel::has_kernel_metadata(checked.map_err(|e| e.to_string()), is_lack)
}

/// Files of all sizes up to 60 KiB, 12 MiB in all.
fn entries() -> Vec<Entry> {
    let file =
        |n: u64| Entry::file(format!("d{}/{n}", n / 40), noise((n as usize * 149) % 60_000, n));
    (0..400).map(file).collect()
}

fn mounted(flags: &[&str]) -> (Home, String, Pid) {
    let home = Home::new();
    let image = home.layout(&image_of(&tar(&entries()), Compression::None));
    let words: Vec<&str> = ["mount", FLAG].iter().chain(flags).copied().collect();
    let command = home.ocifs(&[&words[..], &[&image, "M"]].concat());
    run(&mut with_default_signals(&command)).succeeded();
    let serving = home.serving();
    assert_eq!(serving.len(), 1, "one process serves");
    (home, image, serving[0])
}

fn read(home: &Home, n: u64) -> std::io::Result<Vec<u8>> {
    fs::read(home.mount_point().join(format!("d{}/{n}", n / 40)))
}

#[test]
fn unmounted_by_anybody() {
    if !can() {
        return;
    }
    for words in
        [&["ocifs", "umount"][..], &["ocifs", "umount", "--lazy"], &["umount"], &["umount", "-l"]]
    {
        let (home, ..) = mounted(&[]);
        assert_eq!(read(&home, 7).unwrap(), noise(7 * 149, 7));
        assert_eq!(home.mounts(), [home.mount_point()], "users see one mount");
        match words {
            ["ocifs", rest @ ..] => home.run(&[rest, &["M"]].concat()).succeeded(),
            words => {
                run(home.command(words[0]).args(&words[1..]).arg(home.mount_point())).succeeded()
            }
        }
        home.is_quiet();
    }
}

/// EROFS opens a file of ours for each layer then, and waits for us.
#[test]
fn killed_while_it_mounts() {
    if !can() {
        return;
    }
    const ROUNDS: u32 = 60;
    let home = Home::new();
    let layer = |n: u8| tar(&[Entry::file(format!("{n}"), [n])]);
    let builder = (0..200)
        .fold(ImageBuilder::new(), |builder, n| builder.layer(&layer(n), Compression::None));
    let image = home.layout(&builder.build());
    let mut mount = home.command(env!("CARGO_BIN_EXE_ocifs"));
    mount.args(["mount", "--foreground", FLAG, &image]).arg(home.mount_point());
    mount.stdout(Stdio::null()).stderr(Stdio::null());
    home.run(&["pull", &image]).succeeded();
    let begun = Instant::now();
    let mut server = mount.spawn().unwrap();
    assert!(eventually(|| !home.mounts().is_empty()));
    let mounts_in = begun.elapsed();
    let mut cut = 0;
    for round in 0..ROUNDS {
        server.kill().unwrap();
        let ends = eventually_within(LIMIT, || server.try_wait().unwrap().is_some());
        assert!(ends, "it is killed and does not end, after {cut} rounds");
        if home.mounts().is_empty() {
            cut += 1;
        } else {
            home.run(&["umount", "M"]).succeeded();
        }
        server = mount.spawn().unwrap();
        thread::sleep(mounts_in * round / ROUNDS);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    if !home.mounts().is_empty() {
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
    assert!(cut >= ROUNDS / 4, "it was killed while it mounted {cut} times of {ROUNDS}");
}

/// There is nothing to be read, and still the mount lasts until it is unmounted.
#[test]
fn an_image_without_content() {
    if !can() {
        return;
    }
    let home = Home::new();
    let layer = tar(&[Entry::dir("d"), Entry::file("d/empty", ""), Entry::symlink("l", "d")]);
    let image = home.layout(&image_of(&layer, Compression::Gzip));
    home.run(&["mount", FLAG, &image, "M"]).succeeded();
    assert_eq!(fs::read(home.mount_point().join("l/empty")).unwrap(), b"");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(home.serving().len(), 1);
    assert_eq!(home.status()["requests"]["read"], 0);
    run(Command::new("umount").arg(home.mount_point())).succeeded();
    home.is_quiet();
}

#[test]
fn status_knows_it_like_any_other() {
    if !can() {
        return;
    }
    let (home, image, pid) = mounted(&[]);
    let status = home.run(&["status", "M"]);
    let pid = pid.as_raw_nonzero().to_string();
    assert!(status.stdout.contains(&image) && status.stdout.contains(&pid), "{status:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn ended_by_a_signal_while_it_is_in_use() {
    if !can() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let (home, _, server) = mounted(&[]);
        let mut inside =
            Command::new("sleep").arg("60").current_dir(home.mount_point()).spawn().unwrap();
        kill_process(server, signal).unwrap();
        let ended = eventually(|| home.serving().is_empty() && home.mounts().is_empty());
        inside.kill().unwrap();
        inside.wait().unwrap();
        assert!(ended, "{signal:?}: left {:?} {:?}", home.serving(), home.mounts());

        let image = home.layout(&image_of(&tar(&entries()), Compression::None));
        let command = home.ocifs(&["mount", FLAG, "--foreground", &image, "M"]);
        let mut child = with_default_signals(&command).spawn().unwrap();
        assert!(eventually(|| home.mounts().len() == 1));
        // The mount is there before the program is ready for signals.
        assert!(eventually(|| home.run(&["status", "M"]).stdout.contains("process")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(wait(&mut child), 0);
        home.is_quiet();
    }
}

#[test]
fn a_lazy_unmount_leaves_its_users_alone() {
    if !can() {
        return;
    }
    let (home, ..) = mounted(&[]);
    let file = fs::File::open(home.mount_point().join("d9/399")).unwrap();
    home.run(&["umount", "--lazy", "M"]).succeeded();
    assert!(home.mounts().is_empty());
    let content = std::io::read_to_string(std::io::BufReader::new(&file)).unwrap_err();
    // Not text, but all of it came.
    assert_eq!(content.kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(home.serving().len(), 1);
    drop(file);
    home.is_quiet();
}

#[test]
fn killed() {
    if !can() {
        return;
    }
    let kept = pressure::keep_caches();
    let (home, image, server) = mounted(&[]);
    assert_eq!(read(&home, 7).unwrap(), noise(7 * 149, 7));
    kill_process(server, Signal::KILL).unwrap();
    assert!(eventually(|| home.serving().is_empty() && home.workers().is_empty()));
    // The names are the kernel's, and so is what it has cached.
    assert_eq!(fs::read_dir(home.mount_point().join("d9")).unwrap().count(), 40);
    assert_eq!(read(&home, 7).unwrap(), noise(7 * 149, 7));
    drop(kept);
    assert!(read(&home, 399).is_err());
    let status = home.run(&["status", "M"]);
    assert!(status.code == 1 && status.stdout.contains("dead: its process"), "{status:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();

    // And where nobody cleans up, the next mount does.
    home.run(&["mount", FLAG, &image, "M"]).succeeded();
    kill_process(home.serving()[0], Signal::KILL).unwrap();
    assert!(eventually(|| home.serving().is_empty() && home.workers().is_empty()));
    home.run(&["mount", FLAG, &image, "M"]).succeeded();
    assert_eq!(home.mounts().len(), 1);
    assert_eq!(read(&home, 399).unwrap(), noise(399 * 149, 399));
    // One that lives is left alone.
    let again = home.run(&["mount", FLAG, &image, "M"]);
    assert!(again.code == 0 && again.stderr.contains("already mounted"), "{again:?}");
    home.run(&["mount", FLAG, "--over", &image, "M"]).succeeded();
    assert_eq!(home.mounts().len(), 2);
    home.run(&["umount", "M"]).succeeded();
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn ends_in_the_middle_of_a_walk() {
    if !can() {
        return;
    }
    let (home, image, _) = mounted(&[]);
    home.run(&["umount", "M"]).succeeded();
    let ends = ["TERM", "KILL", "umount"];
    for (round, end) in ends.iter().cycle().take(24).enumerate() {
        home.run(&["mount", FLAG, &image, "M"]).succeeded();
        let mut reader = Command::new("grep")
            .args(["-rq", "nobody has this"])
            .arg(home.mount_point())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(2 + round as u64));
        match *end {
            "TERM" => kill_process(home.serving()[0], Signal::TERM).unwrap(),
            "KILL" => kill_process(home.serving()[0], Signal::KILL).unwrap(),
            _ => {}
        }
        if *end != "TERM" {
            home.run(&["umount", "--lazy", "M"]).succeeded();
        }
        wait(&mut reader);
        home.is_quiet();
    }
}

/// An image in a registry that will stall, of which nothing is in the cache.
fn stalled(flags: &[&str]) -> (Home, Registry) {
    let home = Home::new();
    let registry = Registry::start();
    let image = image_of(&tar(&[Entry::file("f", noise(2 << 20, 9))]), Compression::None);
    registry.add_image("r", "t", &image);
    let name = format!("{}/r:t", registry.addr());
    let words: Vec<&str> = ["mount", FLAG].iter().chain(flags).copied().collect();
    home.run(&[&words[..], &[&name, "M"]].concat()).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Stall(1000, Duration::from_secs(60)));
    (home, registry)
}

#[test]
fn whoever_waits_for_a_stalled_registry_gets_an_error() {
    if !can() {
        return;
    }
    for signal in [Some(Signal::KILL), Some(Signal::TERM), None] {
        let (home, registry) = stalled(&["--timeout", if signal.is_none() { "1" } else { "30" }]);
        let path = home.mount_point().join("f");
        let before = registry.requests().len();
        let reader = thread::spawn(move || fs::read(path).map(|bytes| bytes.len()));
        let is_asked = || registry.requests()[before..].iter().any(|r| r.path.contains("/blobs/"));
        assert!(eventually(is_asked));
        if let Some(signal) = signal {
            kill_process(home.serving()[0], signal).unwrap();
        }
        assert!(eventually(|| reader.is_finished()), "{signal:?}");
        assert_eq!(reader.join().unwrap().unwrap_err().raw_os_error(), Some(5), "EIO");
        if signal != Some(Signal::TERM) {
            home.run(&["umount", "M"]).succeeded();
        }
        home.is_quiet();
    }
}

/// A reader that waits can be interrupted, and others go on.
#[test]
fn a_waiting_reader_can_be_killed() {
    if !can() {
        return;
    }
    let (home, _registry) = stalled(&["--timeout", "30"]);
    let mut reader = Command::new("cat")
        .arg(home.mount_point().join("f"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    reader.kill().unwrap();
    assert_eq!(wait(&mut reader), -9);
    assert!(fs::metadata(home.mount_point().join("f")).is_ok());
    home.run(&["umount", "--lazy", "M"]).succeeded();
}

/// The files that can't be read, in an order, each twice.
fn unreadable(top: &Path, order: &[u64]) -> BTreeSet<u64> {
    let read = |n: &u64| {
        let path = top.join(format!("d{}/{n}", n / 40));
        let content = fs::read(&path).or_else(|_| fs::read(&path));
        content.is_ok_and(|content| content == noise((*n as usize * 149) % 60_000, *n))
    };
    order.iter().filter(|n| !read(n)).copied().collect()
}

/// What lies beside what can't be had is readable all the same, though the kernel asks for both at
/// once.
#[test]
fn neighbours_of_what_is_missing_are_readable() {
    if !can() {
        return;
    }
    for compression in [Compression::Gzip, Compression::ZstdManyFrames(256 << 10)] {
        let home = Home::new();
        let registry = Registry::start();
        registry.add_image("r", "t", &image_of(&tar(&entries()), compression));
        let name = format!("{}/r:t", registry.addr());
        home.run(&["pull", &name]);
        let spans = files_below(&home.path().join("cache/v1/spans"));
        assert!(spans.len() >= 6, "{}", spans.len());
        spans.iter().step_by(2).for_each(|span| fs::remove_file(span).unwrap());
        let ordered: Vec<u64> = (0..400).collect();
        let mixed: Vec<u64> = (0..400).map(|n| n * 171 % 400).collect();
        let mut sets = Vec::new();
        for (flag, order) in [("--strict-modes", &ordered), (FLAG, &ordered), (FLAG, &mixed)] {
            home.run(&["mount", "--offline", flag, &name, "M"]).succeeded();
            sets.push(unreadable(&home.mount_point(), order));
            home.run(&["umount", "M"]).succeeded();
        }
        assert!(!sets[0].is_empty() && sets[0].len() < 350, "{}", sets[0].len());
        assert!(sets[1..].iter().all(|set| *set == sets[0]), "{sets:?}");
    }
}

/// What is read ahead must not cost more than over the plain mount.
#[test]
fn reads_fetch_as_much_as_over_the_plain_mount() {
    if !can() {
        return;
    }
    let home = Home::new();
    let registry = Registry::start();
    let mut entries = entries();
    entries.push(Entry::file("big", noise(12 << 20, 3)));
    registry.add_image("r", "t", &image_of(&tar(&entries), Compression::ZstdManyFrames(256 << 10)));
    let name = format!("{}/r:t", registry.addr());
    home.run(&["mount", &name, "M"]);
    home.run(&["umount", "M"]).succeeded();
    let top = home.mount_point();
    let top = top.display();
    for script in [
        format!("cat '{top}/d3/125' | wc -c"),
        format!("dd if='{top}/big' bs=4096 skip=1500 count=1 status=none | wc -c"),
        // Far from each other: what is near may be taken for the rest of a walk, if the link is fast.
        format!("cat '{top}/d1/50' '{top}/d7/300' '{top}/d4/180' | wc -c"),
        format!("cat '{top}/d4/'* | wc -c"),
    ] {
        let cost = |flag: &str| {
            fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
            home.run(&["mount", flag, &name, "M"]);
            let outcome = run(Command::new("sh").args(["-c", &script]));
            let status = home.status();
            home.run(&["umount", "M"]).succeeded();
            (outcome.stdout, status["network"]["bytes"].as_u64().unwrap())
        };
        let ((plain, plain_bytes), (kernel, kernel_bytes)) = (cost("--strict-modes"), cost(FLAG));
        assert_eq!(plain, kernel);
        // How much a miss brings depends on how fast the link was found to be, so not to the byte.
        let most = plain_bytes + plain_bytes / 2 + (300 << 10);
        assert!(kernel_bytes <= most, "{script}: {kernel_bytes}, plain {plain_bytes}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let home = Home::new();
    let outcome = home.run(&["mount", FLAG, "--prefetch=push", "oci:x", "M"]);
    outcome.failed(2, &["--prefetch=push"]);
}

/// The kernel's memory for names and attributes has a limit, which is looked at before any is taken.
#[test]
fn memory_that_cannot_be_swapped_out_is_limited() {
    if !can() {
        return;
    }
    let home = Home::new();
    // Names compress, in the kernel's memory they don't; a value that all have is there once.
    let name = |n: usize| format!("{n:04}{}", "n".repeat(200));
    let entry = |n: usize| Entry::file(name(n), "").xattr("user.label", "l".repeat(20_000));
    let layer = tar(&(0..2000).map(entry).collect::<Vec<_>>());
    let image = home.layout(&image_of(&layer, Compression::Gzip));
    let flags = ["--max-metadata-size", "1G", "--max-kernel-metadata"];
    let mount =
        |limit: &str| home.run(&[&["mount", FLAG], &flags[..], &[limit, &image, "M"]].concat());
    mount("100K").failed(3, &["memory", "--max-kernel-metadata", "mount without it"]);
    home.is_quiet();
    mount("1M").succeeded();
    let attribute = format!("--only-values --name=user.label {}", name(1999));
    let mut command = home.command("getfattr");
    let shown = run(command.args(attribute.split(' ')).current_dir(home.mount_point()));
    assert_eq!(shown.stdout.len(), 20_000, "{shown:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
