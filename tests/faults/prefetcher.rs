//! The prefetcher, a process that runs ahead of walks: when there is one, what it may do, and that nothing depends
//! on it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fixture::{files_below, image_of, noise, within};
use crate::kernel_metadata;
use crate::pressure;
use crate::shell::{Home, eventually, eventually_within, run, text};
use crate::support::image::{Built, Compression};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const DIRS: u64 = 60;
const FILES: u64 = 20;

/// How long any of this may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

fn content(dir: u64, file: u64) -> Vec<u8> {
    noise(500 + 400 * file as usize, dir * FILES + file + 1)
}

fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for dir in 0..DIRS {
        entries.push(Entry::dir(format!("{dir:02}")));
        entries.push(Entry::symlink(format!("{dir:02}/link"), "00"));
        let files = (0..FILES).map(|file| (format!("{dir:02}/{file:02}"), content(dir, file)));
        entries.extend(files.map(|(name, content)| Entry::file(name, content)));
    }
    entries
}

fn image() -> Built {
    image_of(&tar(&entries()), Compression::Gzip)
}

/// Reads everything, not faster than the prefetcher can get ahead of it.
fn walk(top: &Path) -> io::Result<()> {
    for dir in 0..DIRS {
        let path = top.join(format!("{dir:02}"));
        assert_eq!(fs::read_dir(&path)?.count() as u64, FILES + 1);
        for file in 0..FILES {
            assert!(
                fs::read(path.join(format!("{file:02}")))? == content(dir, file),
                "{dir} {file}"
            );
            thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(fs::read_link(path.join("link"))?, Path::new("00"));
    }
    Ok(())
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Begins a walk in another thread, and waits until a prefetcher runs ahead of it.
fn begin(home: &Home) -> (thread::JoinHandle<io::Result<()>>, Pid) {
    let top = home.mount_point();
    // The root is listed, as by all who find their way themselves.
    assert_eq!(fs::read_dir(&top).unwrap().count() as u64, DIRS);
    let walker = thread::spawn(move || walk(&top));
    (walker, prefetcher_of(home))
}

/// Waits until a prefetcher runs ahead of a walk that has begun.
fn prefetcher_of(home: &Home) -> Pid {
    let processors = thread::available_parallelism().unwrap().get();
    let is_there = eventually(|| !home.prefetchers().is_empty());
    assert!(
        is_there,
        "no prefetcher for the walk: there must be two processors, here {processors}"
    );
    home.prefetchers()[0]
}

#[test]
fn it_is_started_by_a_walk_and_ends_with_the_mount() {
    let home = Home::new();
    home.run(&["mount", "--creds", "user:secret", &home.layout(&image()), "M"]).succeeded();
    let top = home.mount_point();
    assert_eq!(fs::read_dir(top.join("03")).unwrap().count() as u64, FILES + 1);
    assert_eq!(fs::read(top.join("03/04")).unwrap(), content(3, 4));
    assert_eq!(home.prefetchers(), [], "nobody walks");

    let (walker, prefetcher) = begin(&home);
    let proc = Path::new("/proc").join(prefetcher.as_raw_nonzero().to_string());
    let files = fs::read_dir(proc.join("fd")).unwrap().flatten();
    let open: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    // With the device open it would keep the mount alive, and itself waiting, when its server is killed.
    assert!(!open.is_empty() && open.iter().all(|path| path != Path::new("/dev/fuse")), "{open:?}");
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"");
    walker.join().unwrap().unwrap();
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn what_it_has_read_a_walk_need_not_ask_for() {
    let home = Home::new();
    let layout = home.layout(&image());
    // How far it gets ahead depends on when it runs.
    let enough = (0..3).any(|_| {
        let _kept = pressure::keep_caches();
        home.run(&["mount", &layout, "M"]).succeeded();
        begin(&home).0.join().unwrap().unwrap();
        let status = home.status();
        let requests = &status["requests"];
        assert!(count(&status["ahead"]) > 0, "{status}");
        assert!(count(&requests["readdirplus"]) <= 2 * (1 + DIRS), "{status}");
        assert_eq!(count(&requests["lookup"]), 0, "{status}");
        home.run(&["umount", "M"]).succeeded();
        count(&requests["read"]) <= DIRS * FILES / 2
    });
    assert!(enough);
    home.is_quiet();

    home.run(&["mount", "--prefetch=off", &layout, "M"]).succeeded();
    walk(&home.mount_point()).unwrap();
    let status = home.status();
    assert_eq!(count(&status["requests"]["read"]), DIRS * FILES);
    assert_eq!((count(&status["ahead"]), home.prefetchers()), (0, Vec::new()));
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Flags of the mounts over which a prefetcher runs ahead of walks.
fn ways() -> Vec<&'static [&'static str]> {
    let kernel_metadata: &[&str] = &["--kernel-metadata"];
    if kernel_metadata::can() { vec![&[], kernel_metadata] } else { vec![&[]] }
}

/// Ended, stopped or killed in the middle of a walk, it does not matter.
#[test]
fn nothing_depends_on_it() {
    let home = Home::new();
    let layout = home.layout(&image());
    let signals = [Signal::TERM, Signal::KILL, Signal::STOP];
    let cases = ways().into_iter().flat_map(|way| signals.map(|signal| (way, signal)));
    for (way, signal) in cases {
        home.run(&[&["mount"], way, &[&layout, "M"]].concat()).succeeded();
        let (walker, prefetcher) = begin(&home);
        kill_process(prefetcher, signal).unwrap();
        within(LIMIT, || walker.join().unwrap()).unwrap();
        let top = home.mount_point();
        within(LIMIT, move || walk(&top)).unwrap();
        if signal == Signal::STOP {
            kill_process(prefetcher, Signal::CONT).unwrap();
        }
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// One that is stopped while it is in the mount does not keep that in use for ever.
#[test]
fn one_that_is_stuck_is_killed() {
    let home = Home::new();
    let layout = home.layout(&image());
    let is_seen = (0..TRIES).any(|_| {
        home.run(&["mount", &layout, "M"]).succeeded();
        let (walker, prefetcher) = begin(&home);
        is_killed_if_stuck(&home, walker, prefetcher)
    });
    assert!(is_seen, "it was never seen in the mount");
}

/// Nor if what it is told is long: the server that sends it does not wait for room in the pipe either.
#[test]
fn one_that_is_stuck_among_long_paths_is_killed() {
    let home = Home::new();
    // With the place of the mount they are below PATH_MAX.
    let top = format!("{}/", "x".repeat(200)).repeat(18);
    let dirs: Vec<_> = (0..2000).map(|dir| format!("{top}{dir:04}")).collect();
    let layer = tar(&dirs.iter().map(Entry::dir).collect::<Vec<_>>());
    let layout = home.layout(&image_of(&layer, Compression::Gzip));
    let is_seen = (0..TRIES).any(|_| {
        home.run(&["mount", &layout, "M"]).succeeded();
        let (mount_point, dirs) = (home.mount_point(), dirs.clone());
        assert_eq!(fs::read_dir(mount_point.join(&top)).unwrap().count(), 2000);
        let walker = thread::spawn(move || {
            dirs.into_iter().try_for_each(|dir| {
                thread::sleep(Duration::from_micros(200));
                fs::read_dir(mount_point.join(dir)).map(|names| assert_eq!(names.count(), 0))
            })
        });
        let prefetcher = prefetcher_of(&home);
        is_killed_if_stuck(&home, walker, prefetcher)
    });
    assert!(is_seen, "it was never seen in the mount");
}

/// Stops it when it has such a file open, which is so most of the time that it works. (The walk must not be over.)
fn stop_where(prefetcher: Pid, is_there: impl Fn(&Path) -> bool) -> bool {
    let fds = format!("/proc/{}/fd", prefetcher.as_raw_nonzero());
    (0..1000).any(|_| {
        kill_process(prefetcher, Signal::STOP).unwrap();
        let files = fs::read_dir(&fds).into_iter().flatten().flatten();
        let mut files = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_stopped = files.any(|path| is_there(&path));
        if !is_stopped {
            kill_process(prefetcher, Signal::CONT).unwrap();
        }
        is_stopped
    })
}

/// How often a walk is begun anew in which the prefetcher was not caught: on a busy machine it may get no processor.
const TRIES: usize = 10;

/// Stops the prefetcher in the mount and sees to it that it is killed for that. Whether it could be caught there.
fn is_killed_if_stuck(
    home: &Home,
    walker: thread::JoinHandle<io::Result<()>>,
    prefetcher: Pid,
) -> bool {
    let top = home.mount_point();
    let is_stuck = stop_where(prefetcher, |path| path.starts_with(&top));
    walker.join().unwrap().unwrap();
    assert!(!is_stuck || eventually_within(LIMIT, || home.prefetchers().is_empty()), "it stays");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    is_stuck
}

/// A mount that a process was using until now can be unmounted: the prefetcher does not go on without it.
#[test]
fn a_mount_is_free_when_its_walker_has_ended() {
    for way in ways() {
        is_free_when_its_walker_has_ended(way);
    }
}

fn is_free_when_its_walker_has_ended(way: &[&str]) {
    let home = Home::new();
    let layout = home.layout(&image());
    let mut seen = 0;
    let mut is_free = |round: u64| {
        home.run(&[&["mount"], way, &[&layout, "M"]].concat()).succeeded();
        let mut find = Command::new("grep");
        find.args(["-r", "nobody has this"]).arg(home.mount_point()).stdout(Stdio::null());
        let mut find = find.spawn().unwrap();
        let is_seen = || !home.prefetchers().is_empty() || find.try_wait().unwrap().is_some();
        assert!(eventually(is_seen));
        thread::sleep(Duration::from_millis(round));
        seen += home.prefetchers().len();
        find.kill().unwrap();
        find.wait().unwrap();
        // Not ours, which tries more than once.
        let is_free = run(Command::new("umount").arg(text(&home.mount_point()))).code == 0;
        if !is_free {
            home.run(&["umount", "M"]).succeeded();
        }
        home.is_quiet();
        is_free
    };
    let busy = (0..20).filter(|round| !is_free(*round)).count();
    assert!(seen >= 5, "no prefetcher for these walks: {way:?}");
    // It is looked whether the walker lives before each step, but a busy machine may pause in one.
    assert!(busy <= 10, "{busy} of 20");
}

/// The prefetcher reads only what is in the cache.
#[test]
fn nothing_is_fetched_for_it() {
    let home = Home::new();
    let registry = Registry::start();
    // A megabyte for each directory but the first, all of which lies in one span.
    let content = |dir| noise(if dir == 0 { 1000 } else { 50 << 10 }, dir);
    let entries = (0..DIRS).flat_map(|dir| {
        let names = (0..FILES).map(move |file| format!("{dir:02}/{file:02}"));
        let files = names.map(move |name| Entry::file(name, content(dir)));
        std::iter::once(Entry::dir(format!("{dir:02}"))).chain(files)
    });
    let layer = tar(&entries.collect::<Vec<_>>());
    let built = image_of(&layer, Compression::None);
    registry.add_image("r", "t", &built);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["ls", &name]).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    home.run(&["mount", &name, "M"]).succeeded();
    let top = home.mount_point();
    assert_eq!(fs::read_dir(&top).unwrap().count() as u64, DIRS);
    assert_eq!(fs::read(top.join("00/00")).unwrap(), content(0));
    let before = registry.requests().len();
    for dir in 0..DIRS {
        let path = top.join(format!("{dir:02}"));
        assert_eq!(fs::read_dir(&path).unwrap().count() as u64, FILES);
        // It looks like a walk that reads, but all that it reads is in the cache.
        let near = top.join(format!("00/{:02}", (1 + dir) % FILES));
        assert_eq!(fs::read(near).unwrap(), content(0));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(eventually(|| count(&home.status()["ahead"]) > 0), "no prefetcher for this walk");
    // The question what the tag means now is the status's.
    let of_layer = registry.requests().into_iter().skip(before);
    let of_layer: Vec<_> = of_layer.filter(|request| request.path.contains("/blobs/")).collect();
    assert!(of_layer.is_empty(), "{of_layer:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// An image that is mounted over the program's own folder may have a program of the same name.
#[test]
fn it_is_never_a_program_of_the_image() {
    let home = Home::new();
    let own = home.mount_point();
    let program = own.join("ocifs");
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), &program).unwrap();
    let mark = home.path().join("trapped");
    let trap = format!("#!/bin/sh\ntouch '{}'\n", mark.display());
    let mut entries = entries();
    entries.push(Entry::file("ocifs", trap).mode(0o755));
    let layout = home.layout(&image_of(&tar(&entries), Compression::Gzip));
    let mut mount = home.command(&program);
    assert_eq!(run(mount.args(["mount", &layout, text(&home.mount_point())])).code, 0);
    assert_eq!(fs::read_dir(home.mount_point()).unwrap().count() as u64, DIRS + 1);
    walk(&home.mount_point()).unwrap();
    assert!(eventually(|| mark.exists() || !home.prefetchers().is_empty()));
    assert!(!mark.exists(), "the image's program was started");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// What it takes with the names and attributes in the kernel.
fn needs() -> String {
    let processors = thread::available_parallelism().unwrap();
    format!("two processors, here {processors}, and a writable /sys/class/bdi/*/read_ahead_kb")
}

const LARGE: usize = 20 << 10;

/// Mounts with the names and attributes in the kernel: a directory of 400 files, 8 MiB.
fn with_kernel_metadata(home: &Home, flags: &[&str]) {
    let file = |n: usize| Entry::file(format!("{n:03}"), noise(LARGE, n as u64));
    let layer = tar(&(0..400).map(file).collect::<Vec<_>>());
    let layout = home.layout(&image_of(&layer, Compression::None));
    home.run(&[&["mount", "--kernel-metadata"], flags, &[&layout, "M"]].concat()).succeeded();
}

/// Reads these files one after the other.
fn read_files(top: &Path, files: Range<usize>) {
    for n in files {
        assert!(fs::read(top.join(format!("{n:03}"))).unwrap() == noise(LARGE, n as u64), "{n}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Which of these files have something in the page cache: mmap(2), mincore(2).
fn resident(top: &Path, files: Range<usize>) -> Vec<bool> {
    let (mmap, mincore) = match std::env::consts::ARCH {
        "x86_64" => (9, 27),
        "aarch64" => (222, 232),
        other => panic!("the numbers of system calls on {other}"),
    };
    let script = format!(
        "for (@ARGV) {{ \
             open(F, '<', $_) or die; my $bytes = -s F; my $pages = \"\\0\" x (1 + $bytes / 4096); \
             my $at = syscall({mmap}, 0, $bytes, 1, 1, fileno(F), 0); die $! if $at == -1; \
             die $! if syscall({mincore}, $at, $bytes, $pages); print $pages =~ /\\x01/ ? 1 : 0; \
         }}"
    );
    let paths = files.map(|n| top.join(format!("{n:03}")));
    let shown = run(Command::new("perl").args(["-e", &script]).args(paths));
    assert_eq!(shown.code, 0, "{shown:?}");
    shown.stdout.chars().map(|each| each == '1').collect()
}

/// There it sees only stretches of contents, and reads in the files that begin there.
#[test]
fn names_and_attributes_may_be_the_kernels() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    // The kernel reads about a megabyte ahead, which is 50 files.
    let (reads, near, far) = (0..200, 200..300, 380..400);
    let top = home.mount_point();
    // How far the prefetcher gets ahead depends on when it runs.
    let is_ahead = (0..3).any(|_| {
        let _kept = pressure::keep_caches();
        with_kernel_metadata(&home, &[]);
        read_files(&top, reads.clone());
        let mut files = Vec::new();
        let is_ahead = eventually_within(Duration::from_secs(1), || {
            files = resident(&top, near.clone());
            !home.prefetchers().is_empty() && files.contains(&true)
        });
        // Neither the reader nor the prefetcher has come there.
        assert!(!resident(&top, far.clone()).contains(&true));
        // The beginning of a stretch, an eighth of a megabyte, is left to the reader.
        let parts: Vec<_> = files.split(|is_resident| *is_resident).map(<[bool]>::len).collect();
        assert!(!is_ahead || parts[..parts.len() - 1].iter().any(|left| *left > 3), "{files:?}");
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
        is_ahead
    });
    assert!(is_ahead, "no prefetcher got ahead of the reader: {}", needs());

    with_kernel_metadata(&home, &["--prefetch=off"]);
    let _kept = pressure::keep_caches();
    read_files(&top, 0..200);
    assert_eq!(resident(&top, 199..200), [true]);
    assert!(!resident(&top, near).contains(&true));
    assert_eq!(home.prefetchers(), []);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A reader that begins with the last file, as `rg` does, has the kernel ask for each, unless the prefetcher brings
/// many at once.
#[test]
fn many_files_are_brought_before_who_reads_from_the_end() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    let top = home.mount_point();
    let read_all = || {
        let status = home.status();
        (0..400).rev().for_each(|n| read_files(&top, n..n + 1));
        let reads = |status: &Value| count(&status["requests"]["read"]);
        let status_now = home.status();
        (reads(&status_now) - reads(&status), count(&status_now["ahead"]))
    };
    // How soon the prefetcher brings them depends on when it runs.
    let is_little = (0..3).any(|_| {
        let _kept = pressure::keep_caches();
        with_kernel_metadata(&home, &[]);
        let (reads, ahead) = read_all();
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
        // 8 MiB in parts of a megabyte, which files that are left to the reader cut in two.
        assert!(ahead <= 40, "{ahead}");
        ahead > 0 && reads <= 100
    });
    assert!(is_little, "no prefetcher got ahead of the reader: {}", needs());

    let _kept = pressure::keep_caches();
    with_kernel_metadata(&home, &["--prefetch=off"]);
    let (reads, ahead) = read_all();
    assert!(reads >= 390 && ahead == 0, "{reads} {ahead}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Reads from the last of these files to the first, in another thread, until that does not work any more. How many
/// were right.
fn read_from_the_end(top: &Path, files: Range<usize>) -> thread::JoinHandle<usize> {
    let top = top.to_owned();
    thread::spawn(move || {
        let files = files.rev().map(|n| (n, fs::read(top.join(format!("{n:03}")))));
        let read = files.map_while(|(n, content)| {
            thread::sleep(Duration::from_micros(200));
            Some((n, content.ok()?))
        });
        read.inspect(|(n, content)| assert!(*content == noise(LARGE, *n as u64), "{n}")).count()
    })
}

/// What is gone or damaged since it was mounted is fetched for its readers, as ever, and not before they come.
#[test]
fn what_is_brought_is_never_fetched() {
    if !kernel_metadata::can() {
        return;
    }
    let registry = Registry::start();
    let file = |n: usize| Entry::file(format!("{n:03}"), noise(LARGE, n as u64));
    let layer = tar(&(0..1000).map(file).collect::<Vec<_>>());
    registry.add_image("r", "t", &image_of(&layer, Compression::None));
    let name = format!("{}/r:t", registry.addr());
    let damages: [fn(&Path); 2] = [
        |file| fs::remove_file(file).unwrap(),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            fs::write(file, bytes).unwrap();
        },
    ];
    for (case, damage) in damages.into_iter().enumerate() {
        let bytes = [&["--prefetch=off"][..], &[]].map(|flags| {
            let home = Home::new();
            home.run(&["pull", &name]).succeeded();
            home.run(&[&["mount", "--kernel-metadata"], flags, &[&name, "M"]].concat()).succeeded();
            files_below(&home.path().join("cache/v1/spans")).iter().for_each(|file| damage(file));
            let before = registry.requests().len();
            let read = read_from_the_end(&home.mount_point(), 960..1000);
            assert_eq!(within(LIMIT, || read.join().unwrap()), 40, "{case}");
            // By then the prefetcher has brought what it was told to.
            thread::sleep(Duration::from_millis(50));
            let requests = registry.requests().split_off(before);
            home.run(&["umount", "M"]).succeeded();
            home.is_quiet();
            requests.iter().map(|request| request.body_bytes_sent).sum::<u64>()
        });
        assert!(bytes[0] > 0 && bytes[1] <= bytes[0], "{case}: {bytes:?}");
    }
}

/// Whatever ends in the middle of that, it leaves nothing behind.
#[test]
fn what_is_brought_keeps_nothing_alive() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    let top = home.mount_point();
    // Devices have no place in the file system, but a name.
    let is_device = |path: &Path| path == Path::new("/0");
    for signal in [Signal::TERM, Signal::KILL, Signal::STOP] {
        let mut is_there = false;
        for _ in 0..20 {
            with_kernel_metadata(&home, &[]);
            let reader = read_from_the_end(&top, 0..400);
            let prefetcher = prefetcher_of(&home);
            is_there = stop_where(prefetcher, is_device);
            kill_process(prefetcher, signal).unwrap();
            assert_eq!(within(LIMIT, || reader.join().unwrap()), 400);
            let begun = Instant::now();
            home.run(&["umount", "M"]).succeeded();
            home.is_quiet();
            // It is not waited for.
            assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
            if is_there {
                break;
            }
        }
        assert!(is_there, "it was never seen to have a device open");
    }
}

/// The same when nobody answers any more.
#[test]
fn nobody_waits_for_a_server_that_is_killed() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    let top = home.mount_point();
    let (mut seen, mut cut) = (0, 0);
    for round in 0..20 {
        with_kernel_metadata(&home, &[]);
        let reader = read_from_the_end(&top, 0..400);
        thread::sleep(Duration::from_millis(3 * round));
        seen += home.prefetchers().len();
        // A prefetcher that is just started has the words of its server until it runs its own program.
        let mut servers = Vec::new();
        assert!(eventually(|| {
            servers = home.serving();
            servers.len() == 1
        }));
        kill_process(servers[0], Signal::KILL).unwrap();
        cut += usize::from(within(LIMIT, || reader.join().unwrap()) < 400);
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
    assert!(seen >= 5 && cut >= 5, "{seen} {cut}");
}

/// The kernel reads far ahead in one large file, too, and over its end.
#[test]
fn who_reads_one_large_file_does_not_walk() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    let large = noise(6 << 20, 1);
    let small = (0..200).map(|n| Entry::file(format!("small/{n}"), noise(LARGE, n)));
    let entries: Vec<_> =
        std::iter::once(Entry::file("large", large.clone())).chain(small).collect();
    let layout = home.layout(&image_of(&tar(&entries), Compression::None));
    home.run(&["mount", "--kernel-metadata", &layout, "M"]).succeeded();
    assert!(fs::read(home.mount_point().join("large")).unwrap() == large);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(home.prefetchers(), []);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Where something may have to be fetched, the kernel reads less far ahead, and no prefetcher runs ahead of walks.
#[test]
fn what_is_not_in_the_cache_is_left_alone() {
    if !kernel_metadata::can() {
        return;
    }
    let home = Home::new();
    let layout = home.layout(&image());
    home.run(&["mount", "--kernel-metadata", &layout, "M"]).succeeded();
    walk(&home.mount_point()).unwrap();
    home.run(&["umount", "M"]).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    home.run(&["mount", "--kernel-metadata", &layout, "M"]).succeeded();
    walk(&home.mount_point()).unwrap();
    assert_eq!(home.prefetchers(), []);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
