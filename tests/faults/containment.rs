//! What serves a mount has given up what it does not need, and what it needs others do for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fixture::{GOOD, good, image_of, name_in, noise};
use crate::shell::{Home, eventually_within, run};
use crate::support::image::{Compression, write_oci_layout};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// `CAP_DAC_READ_SEARCH` of capabilities(7).
const READ_SEARCH: u64 = 1 << 2;

/// A line of `/proc/PID/status`.
fn line_of(pid: u64, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// The process that serves, once one does.
fn worker_of(home: &Home) -> u64 {
    let mut worker = None;
    let is_there = || {
        let status = home.run(&["status", "--json", "M"]).stdout;
        let rows: Value = serde_json::from_str(&status).unwrap_or_default();
        worker = rows[0]["worker"].as_u64();
        worker.is_some()
    };
    assert!(eventually_within(Duration::from_secs(20), is_there), "no worker");
    worker.unwrap()
}

fn is_contained(home: &Home) {
    let worker = worker_of(home);
    assert_eq!(line_of(worker, "NoNewPrivs"), "1");
    assert_eq!(line_of(worker, "Seccomp"), "2", "a filter");
    let capabilities = u64::from_str_radix(&line_of(worker, "CapEff"), 16).unwrap();
    assert_eq!(capabilities & !READ_SEARCH, 0, "{capabilities:x}");
    // All of its threads: those that answer are started afterwards.
    for task in fs::read_dir(format!("/proc/{worker}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(
            status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"),
            "{status}"
        );
    }
}

#[test]
fn workers_are_contained() {
    let home = Home::new();
    let image = home.layout(&good());
    for (words, file) in [
        (&["mount"][..], "f"),
        (&["mount", "--kernel-metadata"], "f"),
        (&["mount", "--prefetch=off"], "f"),
        (&["mount", "--prefetch=push"], "f"),
        (&["mount", "--layout"], "rootfs/f"),
    ] {
        let words = [words, &[&image, "M"]].concat();
        home.run(&words).succeeded();
        is_contained(&home);
        assert_eq!(fs::read(home.mount_point().join(file)).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

#[test]
fn workers_of_archives_on_standard_input_are_contained() {
    let home = Home::new();
    write_oci_layout(&home.path().join("layout"), &[(None, &good())]).unwrap();
    let script = format!(
        "tar -C {layout} -c . | {ocifs} mount - {place}",
        layout = home.path().join("layout").display(),
        ocifs = env!("CARGO_BIN_EXE_ocifs"),
        place = home.mount_point().display(),
    );
    run(home.command("sh").args(["-ec", &script])).succeeded();
    is_contained(&home);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    // What came there is gone: no other process can show it, and the mount ends with this one.
    kill_process(Pid::from_raw(worker_of(&home) as i32).unwrap(), Signal::KILL).unwrap();
    assert!(eventually_within(Duration::from_secs(20), || home.serving().is_empty()));
    let told = home.run(&["status", "M"]);
    assert!(told.code == 1 && told.stdout.contains("dead"), "{told:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// The same with a process that gives the kernel what it has not asked for yet.
#[test]
fn what_is_not_replaced_ends_in_time() {
    let files = (0..600).map(|n| Entry::file(format!("{}/{n}", n / 40), noise(3000, n)));
    let home = Home::new();
    let image = home.layout(&image_of(&tar(&files.collect::<Vec<_>>()), Compression::Gzip));
    for moment in [0, 5, 20, 50] {
        home.run(&["mount", "--prefetch=push", &image, "M"]).succeeded();
        let worker = Pid::from_raw(worker_of(&home) as i32).unwrap();
        let walk = [run_on(&home, "grep"), run_on(&home, "tar")];
        thread::sleep(Duration::from_millis(moment));
        kill_process(worker, Signal::KILL).unwrap();
        // A thread of it may wait for what it would have answered itself.
        let soon = Duration::from_secs(60);
        assert!(eventually_within(soon, || home.serving().is_empty()), "{moment}");
        for walk in walk {
            assert!(eventually_within(soon, || walk.is_finished()), "{moment}");
        }
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

/// A walk over the mount, whatever comes of it.
fn run_on(home: &Home, tool: &str) -> thread::JoinHandle<()> {
    let mut command = home.command(tool);
    match tool {
        "grep" => command.args(["-r", "nobody has this"]),
        _ => command.args(["-cf", "/dev/null"]),
    };
    command.arg(home.mount_point());
    thread::spawn(move || drop(command.output().unwrap()))
}

/// What is browsed is read by a process that is contained before any image has a name.
#[test]
fn workers_of_browsed_registries_are_contained() {
    for home in [Home::new(), home_of_nobody()] {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        home.run(&["browse", "M"]).succeeded();
        is_contained(&home);
        let file = home.mount_point().join(name_in(&registry).replace(":t", "/:t")).join("f");
        let read = run(home.command("cat").arg(&file));
        assert_eq!(read.stdout.as_bytes(), GOOD, "{read:?}");
        is_contained(&home);
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

#[test]
fn workers_of_ordinary_users_are_contained() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    is_contained(&home);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// From inside: a process that is contained as workers are tries what one that strangers have taken over would.
#[test]
fn from_inside_all_is_refused_that_is_not_needed() {
    let expected = [
        "reading outside its folders",
        "writing outside its folders",
        "running programs",
        "sockets of other programs",
        "listening",
        "signals to other processes",
        "looking into other processes",
        "unmounting",
        "changing modes",
        "making devices and pipes",
    ];
    for home in [Home::new(), home_of_nobody()] {
        let folder = home.path().join("home");
        let folder = folder.to_str().unwrap();
        let tried = home.run(&["probe-containment", folder]);
        let report: Value = serde_json::from_str(&tried.stdout).unwrap();
        assert_eq!(report["is_whole"], true, "{report}");
        assert_eq!(report["has_what_it_needs"], true, "{report}");
        let tried = report["tried"].as_array().unwrap();
        let names: Vec<&str> = tried.iter().filter_map(|row| row[0].as_str()).collect();
        assert_eq!(names, expected);
        assert!(tried.iter().all(|row| row[1] == true), "{report}");
        let doctor = home.run(&["doctor"]);
        let is_told = doctor.stdout.lines().any(|l| l.starts_with("ok     containment"));
        assert!(is_told, "{doctor:?}");
    }
}

/// In a user namespace, as in a container without rights of its own.
#[test]
fn workers_in_user_namespaces_are_contained() {
    let home = Home::new();
    let image = home.layout(&good());
    let script = format!(
        "{ocifs} mount {image} {place} && cat {place}/f && {ocifs} doctor | grep containment && {ocifs} umount {place}",
        ocifs = env!("CARGO_BIN_EXE_ocifs"),
        place = home.mount_point().display(),
    );
    let mut command = home.command("unshare");
    let outcome = run(command.args(["-Urm", "sh", "-ec", &script]));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("ok     containment"), "{outcome:?}");
}

/// A login is searched for when a registry asks, by another process: from a file that is written anew while the worker,
/// which may not open it, serves; and by a helper, which it may not run.
#[test]
fn workers_do_not_read_files_of_credentials() {
    let large = noise(3 << 20, 1);
    for (by_helper, verb) in
        [(false, "mount"), (true, "mount"), (false, "browse"), (true, "browse")]
    {
        let (home, registry) = (Home::new(), Registry::start());
        registry.add_image(
            "r",
            "t",
            &image_of(&tar(&[Entry::file("f", &large)]), Compression::Gzip),
        );
        let docker = home.path().join("home/.docker");
        fs::create_dir_all(&docker).unwrap();
        let host = registry.addr().to_string();
        let set = |password: &str| {
            registry.require_basic("me", password);
            let login = format!("me:{password}");
            let config = match by_helper {
                true => {
                    let script = format!(
                        "#!/bin/sh\necho $PPID >> {}/asked\necho '{{\"Username\":\"me\",\"Secret\":\"{password}\"}}'\n",
                        home.path().display()
                    );
                    let program = home.path().join("docker-credential-test");
                    fs::write(&program, script).unwrap();
                    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
                    json!({ "credsStore": "test" })
                }
                false => json!({ "auths": { &host: { "auth": BASE64_STANDARD.encode(login) } } }),
            };
            fs::write(docker.join("config.json"), config.to_string()).unwrap();
        };
        set("first");
        let mut command = home.command(env!("CARGO_BIN_EXE_ocifs"));
        let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
        let (name, place) = (name_in(&registry), home.mount_point());
        command.env("PATH", path).args([verb, "--cache-size=0"]);
        let file = match verb {
            "mount" => {
                command.arg(&name);
                place.join("f")
            }
            _ => place.join(name.replace(":t", "/:t")).join("f"),
        };
        run(command.arg(&place)).succeeded();
        if verb == "browse" {
            // With the first login.
            assert!(fs::metadata(&file).unwrap().is_file());
        }
        set("second");
        assert_eq!(fs::read(&file).unwrap(), large, "{by_helper}");
        let worker = worker_of(&home).to_string();
        if by_helper {
            let asked = fs::read_to_string(home.path().join("asked")).unwrap();
            assert!(
                asked.lines().count() >= 2 && asked.lines().all(|pid| pid != worker),
                "{asked}"
            );
        }
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// A worker may write to the folder that was there, and to none at its place. So another one is started.
#[test]
fn a_cache_that_was_removed_is_made_again() {
    let home = Home::new();
    let image = home.layout(&good());
    let cache = home.path().join("the-cache");
    home.run(&["mount", "--cache-dir", cache.to_str().unwrap(), &image, "M"]).succeeded();
    let before = worker_of(&home);
    fs::remove_dir_all(&cache).unwrap();
    let is_there = || cache.join("v1").is_dir();
    assert!(eventually_within(Duration::from_secs(40), is_there), "no cache");
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    assert_ne!(worker_of(&home), before);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Verbs that read and print are contained, and print what they print otherwise.
#[test]
fn verbs_that_print_are_contained() {
    let home = Home::new();
    let image = home.layout(&good());
    let layer = &good().layer_digests()[0];
    let docker = home.path().join("home/.docker");
    fs::create_dir_all(&docker).unwrap();
    for words in [
        &["ls", "-l", &image][..],
        &["cat", &image, "f"],
        &["find", &image],
        &["du", &image],
        &["du", "--layers", &image],
        &["which", &image, "f"],
        &["history", &image],
        &["inspect", &image],
        &["tags", &image],
        &["verify", &image],
        &["diff", &image, &image],
        &["export", &image, "f"],
        &["export", &image],
        &["blob", &image, layer],
        &["pull", &image],
        &["index", "build", &image],
        &["index", "show", &image],
    ] {
        let config = docker.join("config.json");
        fs::write(&config, "{}").unwrap();
        let contained = home.run(&[&["-vv"], words].concat());
        assert!(contained.stderr.contains("contained: Landlock yes, seccomp yes"), "{contained:?}");
        fs::write(&config, r#"{"credsStore":"none"}"#).unwrap();
        let with_helper = home.run(&[&["-vv"], words].concat());
        let is_contained = with_helper.stderr.contains("contained: Landlock yes");
        assert!(is_contained, "{with_helper:?}");
        assert_eq!((contained.code, &contained.stdout), (0, &with_helper.stdout), "{words:?}");
    }
}

/// A registry's login comes from a helper, which is run by another process.
#[test]
fn verbs_with_credential_helpers_are_contained() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    registry.require_basic("me", "secret");
    let docker = home.path().join("home/.docker");
    fs::create_dir_all(&docker).unwrap();
    fs::write(docker.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let helper = home.path().join("docker-credential-test");
    let script = "#!/bin/sh\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let name = name_in(&registry);
    for words in [
        &["cat", &name, "f"][..],
        &["export", &name],
        &["diff", &name, &name],
        &["pull", &name],
        &["tags", name.strip_suffix(":t").unwrap()],
        &["cp", &name, "/f", "OUT"],
    ] {
        let out = home.path().join("out");
        let out = out.to_str().unwrap();
        let words = words.iter().map(|word| if *word == "OUT" { out } else { *word });
        let words: Vec<&str> = ["-vv"].into_iter().chain(words).collect();
        let outcome = run(home.ocifs(&words).env("PATH", &path));
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert!(outcome.stderr.contains("contained: Landlock yes, seccomp yes"), "{outcome:?}");
        assert!(outcome.stderr.contains("docker-credential-test"), "where it is from: {outcome:?}");
        fs::remove_dir_all(home.path().join("cache")).unwrap();
    }
    // What goes wrong there is told as ever.
    fs::write(&helper, "#!/bin/sh\necho no keyring >&2\nexit 1\n").unwrap();
    let outcome = run(home.ocifs(&["ls", &name]).env("PATH", &path));
    assert!(outcome.code == 1 && outcome.stderr.contains("no keyring"), "{outcome:?}");
    home.is_quiet();
}

/// Files are made in the place that was named, with all that they have, and nowhere else.
#[test]
fn copying_is_contained() {
    let mut fifo = Entry::fifo("d/pipe");
    fifo.mode = 0o640;
    let built = image_of(
        &tar(&[Entry::dir("d"), Entry::file("d/f", GOOD), Entry::symlink("d/link", "f"), fifo]),
        Compression::Gzip,
    );
    for home in [Home::new(), home_of_nobody()] {
        let image = home.layout(&built);
        let to = home.path().join("home");
        let outcome = home.run(&["-vv", "cp", &image, "/d", to.to_str().unwrap()]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert!(outcome.stderr.contains("contained: Landlock yes, seccomp yes"), "{outcome:?}");
        assert_eq!(fs::read(to.join("d/f")).unwrap(), GOOD);
        assert_eq!(fs::read_link(to.join("d/link")).unwrap().to_str(), Some("f"));
        let mode = fs::symlink_metadata(to.join("d/pipe")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }
}
