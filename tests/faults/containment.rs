//! What serves a mount has given up what it does not need, and what it needs others do for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::fixture::{GOOD, good, image_of, name_in, noise};
use crate::shell::{Home, eventually_within, run};
use crate::support::image::Compression;
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
    for words in [&["mount"][..], &["mount", "--kernel-metadata"], &["mount", "--prefetch=off"]] {
        let words = [words, &[&image, "M"]].concat();
        home.run(&words).succeeded();
        is_contained(&home);
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
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
    for by_helper in [false, true] {
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
        let words = ["mount", "--cache-size=0", &name_in(&registry), "M"];
        let words = words.map(|word| {
            if word == "M" { home.mount_point().display().to_string() } else { word.to_owned() }
        });
        run(command.env("PATH", path).args(words)).succeeded();
        set("second");
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), large, "{by_helper}");
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

/// Verbs that read and print are contained, and print what they print otherwise: where a helper is named, they are not.
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
        let free = home.run(&[&["-vv"], words].concat());
        // The image is none of a registry: no credential could be asked for.
        let is_contained = free.stderr.contains("contained: Landlock yes");
        assert!(is_contained, "{free:?}");
        assert_eq!((contained.code, &contained.stdout), (0, &free.stdout), "{words:?}");
    }
    // Of a registry one may be asked for, by a program that a contained process could not run.
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let name = name_in(&registry);
    let free = home.run(&["-vv", "cat", &name, "f"]);
    assert!(
        free.stdout.as_bytes() == GOOD && !free.stderr.contains("contained: Landlock"),
        "{free:?}"
    );
    fs::write(docker.join("config.json"), "{}").unwrap();
    let contained = home.run(&["-vv", "ls", &name]);
    assert!(contained.stderr.contains("contained: Landlock yes, seccomp yes"), "{contained:?}");
}
