//! Another version of the program, which takes over a mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{GOOD, good, name_in};
use crate::shell::{Home, eventually_within, run};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::survival::{files, kill_worker, layers, status, storm_below, worker};

const SOON: Duration = Duration::from_secs(60);

/// A copy of the program, in a place where it is replaced.
fn copy(home: &Home) -> PathBuf {
    let folder = home.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("ocifs");
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), &program).unwrap();
    program
}

/// Puts another file in its place, as packages do.
fn replace(program: &Path, with: impl FnOnce(&Path)) {
    let new = program.with_extension("new");
    with(&new);
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, program).unwrap();
}

fn replace_by_copy(program: &Path) {
    replace(program, |new| {
        fs::copy(env!("CARGO_BIN_EXE_ocifs"), new).unwrap();
    });
}

fn mount(home: &Home, program: &Path, words: &[&str]) {
    let outcome = run(home.command(program).args(words).arg(home.mount_point()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

fn signal(home: &Home) {
    let pid = status(home)["pid"].as_i64().unwrap() as i32;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::USR2).unwrap();
}

/// The file that a process runs.
fn file_of(pid: Pid) -> u64 {
    fs::metadata(format!("/proc/{}/exe", pid.as_raw_nonzero())).map_or(0, |file| file.ino())
}

#[test]
fn another_version_takes_over_and_readers_do_not_notice() {
    let (home, registry) = (Home::new(), Registry::start());
    let add = |builder: ImageBuilder, layer: &Vec<u8>| builder.layer(layer, Compression::Gzip);
    let built = layers().iter().fold(ImageBuilder::new(), add).build();
    registry.add_image("r", "t", &built);
    let (name, program) = (name_in(&registry), copy(&home));
    let take_over = |_: u32| {
        replace_by_copy(&program);
        let new = fs::metadata(&program).unwrap().ino();
        signal(&home);
        assert!(eventually_within(SOON, || file_of(worker(&home)) == new), "it does not take over");
    };
    mount(&home, &program, &["mount", &name]);
    storm_below(&home, &home.mount_point(), 4, take_over);
    // The next one is of that version, too, though another file is there.
    let last = fs::metadata(&program).unwrap().ino();
    replace(&program, |new| fs::write(new, "#!/bin/sh\nexit 1\n").unwrap());
    kill_worker(&home);
    assert_eq!(file_of(worker(&home)), last);
    home.run(&["umount", "M"]).succeeded();
    replace_by_copy(&program);
    // What was looked up keeps its numbers.
    mount(&home, &program, &["browse"]);
    let top = home.mount_point().join(name.replace(":t", ""));
    storm_below(&home, &top, 2, take_over);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn a_version_that_does_not_come_up_is_not_used() {
    let home = Home::new();
    let (image, program, log) = (home.layout(&good()), copy(&home), home.path().join("log"));
    mount(&home, &program, &["mount", "-v", "--log-file", log.to_str().unwrap(), &image]);
    let (before, serving) = (files(&home.mount_point()), worker(&home));
    let told = |text: &str| {
        let is_told = || fs::read_to_string(&log).unwrap().contains(text);
        assert!(eventually_within(SOON, is_told), "{}", fs::read_to_string(&log).unwrap());
    };
    signal(&home);
    told("is the one that runs");
    let broken: [&dyn Fn(&Path); 3] = [
        &|new| fs::write(new, "#!/bin/sh\nexit 1\n").unwrap(),
        &|new| fs::write(new, "no program").unwrap(),
        &|new| {
            let program = env!("CARGO_BIN_EXE_ocifs");
            let script = format!("#!/bin/sh\nOCIFS_WORKER=999 exec {program} \"$@\"\n");
            fs::write(new, script).unwrap();
        },
    ];
    for (write, text) in
        broken.into_iter().zip(["did not come", "can't be started", "did not come"])
    {
        fs::write(&log, "").unwrap();
        replace(&program, write);
        signal(&home);
        told(text);
        assert_eq!(worker(&home), serving);
    }
    assert!(files(&home.mount_point()) == before);
    assert_eq!(status(&home)["restarts"], 0);
    // It can be replaced by its own version as ever.
    kill_worker(&home);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Where the old worker has just died, the next one of its version is not started any more.
#[test]
fn one_that_takes_over_from_none_stays_the_only_one() {
    let (home, registry) = (Home::new(), Registry::start());
    let add = |builder: ImageBuilder, layer: &Vec<u8>| builder.layer(layer, Compression::Gzip);
    registry.add_image("r", "t", &layers().iter().fold(ImageBuilder::new(), add).build());
    let (program, log) = (copy(&home), home.path().join("log"));
    let log_file = log.to_str().unwrap();
    mount(&home, &program, &["mount", "-v", "--log-file", log_file, &name_in(&registry)]);
    let told = |text: &str| fs::read_to_string(&log).unwrap().matches(text).count();
    // Until the death comes between the start of the other version and its word that it is ready.
    for _ in 0..50 {
        // The more of them die, the longer the next one waits to be started.
        (0..5).for_each(|_| kill_worker(&home));
        let (old, before) = (worker(&home), told("takes over"));
        replace_by_copy(&program);
        signal(&home);
        assert!(eventually_within(SOON, || home.workers() != [old]));
        // It may be gone.
        let _ = kill_process(old, Signal::KILL);
        assert!(eventually_within(SOON, || told("takes over") > before || told("did not come") > 0));
        if told("takes over from process 0") > 0 {
            break;
        }
    }
    assert!(told("takes over from process 0") > 0);
    // By then the next one would be there.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(home.workers().len(), 1);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
