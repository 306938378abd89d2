//! The program's answers to wrong use and broken surroundings: exit codes, messages on stderr, and
//! nothing left mounted.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{GOOD, good, image_of, noise};
use crate::shell::{Home, eventually, run, text, wait};
use crate::support::image::{Compression, ImageBuilder, image_index, write_oci_layout};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, TarWriter, tar};

#[test]
fn wrong_usage_is_code_2() {
    let home = Home::new();
    for words in [
        &[][..],
        &["frobnicate"],
        &["mount"],
        &["mount", "debian"],
        &["mount", "debian", "M", "more"],
        &["mount", "--no-such-flag", "debian", "M"],
        &["mount", "Debian", "M"],
        &["mount", "https://example.org/x", "M"],
        &["mount", "", "M"],
        &["mount", "debian@sha256:xyz", "M"],
        &["mount", "oci:", "M"],
        &["mount", "--platform", "a/b/c/d", "debian", "M"],
        &["mount", "--timeout", "0", "debian", "M"],
        &["mount", "--timeout", "-1", "debian", "M"],
        &["mount", "--max-layer-size", "much", "debian", "M"],
        &["cat", "debian"],
        &["umount"],
        &["umount", "--all", "M"],
        &["umount", "--all-users", "M"],
        &["mount", "--timeout", "5x", "debian", "M"],
        &["mount", "--timeout", "25h", "debian", "M"],
    ] {
        let outcome = home.run(words);
        assert_eq!(outcome.code, 2, "{words:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{words:?}: {outcome:?}");
    }
    home.run(&["mount", "debian", "M", "more"]).failed(2, &["is a directory and no image"]);
    // What is wrong with a reference quotes it, and it is quoted once.
    for (words, expected) in [
        (&["ls", "docker:/r.example/x"][..], "error: `docker:/r.example/x` lacks the slashes"),
        (&["mount", "docker:/r.example/x", "M"], "error: `docker:/r.example/x` lacks the slashes"),
        (&["doctor", "ghcr.io"], "error: `ghcr.io` names a registry"),
    ] {
        let outcome = home.run(words);
        assert!(
            outcome.code == 2 && outcome.stderr.starts_with(expected),
            "{words:?}: {outcome:?}"
        );
    }
    home.is_quiet();
}

/// A word that was meant to be a secret is one even where it is no login.
#[test]
fn logins_that_are_none_are_not_shown() {
    let home = Home::new();
    let name = "127.0.0.1:1/r:t";
    let by_flag = home.run(&["ls", "--creds", "ghp_secret", name]);
    let by_variable = run(home.ocifs(&["ls", name]).env("OCIFS_CREDS", "ghp_secret"));
    for outcome in [by_flag, by_variable] {
        outcome.failed(2, &["USER:PASSWORD"]);
        assert!(!outcome.stderr.contains("ghp_secret"), "{outcome:?}");
        assert!(outcome.stderr.ends_with('\n'), "{outcome:?}");
    }
}

#[test]
fn empty_variables_are_none() {
    let home = Home::new();
    let image = home.layout(&good());
    let mut cat = home.ocifs(&["cat", &image, "f"]);
    for name in ["OCIFS_CREDS", "OCIFS_CACHE_DIR", "OCIFS_CACHE_SIZE"] {
        cat.env(name, "");
    }
    let outcome = run(&mut cat);
    assert_eq!((outcome.code, outcome.stdout.as_bytes()), (0, GOOD), "{outcome:?}");
    assert!(home.path().join("home/.cache/ocifs").is_dir(), "the default place");
}

/// What it comes to does not depend on how much of it is read.
#[test]
fn verdicts_stand_when_nobody_listens() {
    let home = Home::new();
    let image = good();
    let name = home.layout(&image);
    let code = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        wait(&mut home.ocifs(&["verify", &name]).stdout(writer).spawn().unwrap())
    };
    assert_eq!(code(), 0);
    home.run(&["cache", "clear"]);
    let digest = &image.layer_digests()[0];
    let layer = home.path().join("layout/blobs/sha256").join(&digest["sha256:".len()..]);
    let mut bytes = fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let told = home.run(&["verify", &name]);
    assert!(told.code == 1 && told.stdout.contains("WRONG"), "{told:?}");
    assert_eq!(code(), 1);
}

#[test]
fn completions_end_with_their_reader() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut completions = home.ocifs(&["completions", "bash"]);
    let child = completions.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Variables that are set are not part of how a verb is used.
#[test]
fn usage_lines_are_the_same_whatever_is_set() {
    let home = Home::new();
    for (words, usage) in [
        (&["ls"][..], "ocifs ls [OPTIONS] REF [PATH...]"),
        (&["cat", "debian"], "ocifs cat [OPTIONS] REF PATH..."),
        (&["export"], "ocifs export [OPTIONS] REF [PATH...]"),
        (&["pull"], "ocifs pull [OPTIONS] REF"),
        (&["verify"], "ocifs verify [OPTIONS] REF"),
        (&["index", "build"], "ocifs index build [OPTIONS] REF"),
        (&["index", "push"], "ocifs index push [OPTIONS] REF"),
        (&["index", "show"], "ocifs index show [OPTIONS] REF"),
        (&["doctor", "a", "b"], "ocifs doctor [OPTIONS] [REF]"),
        (&["cache", "du", "x"], "ocifs cache du [OPTIONS]"),
        (&["cache", "gc", "x"], "ocifs cache gc [OPTIONS]"),
        (&["cache", "verify", "x"], "ocifs cache verify [OPTIONS]"),
        (&["cache", "clear", "x"], "ocifs cache clear [OPTIONS]"),
        (&["mount"], "ocifs mount [OPTIONS] [NAME=]REF... DIR"),
    ] {
        let mut command = home.ocifs(words);
        let outcome = run(command.env("OCIFS_CACHE_SIZE", "1G").env("OCIFS_CREDS", "a:b"));
        outcome.failed(2, &[]);
        let line = outcome.stderr.lines().find_map(|line| line.strip_prefix("Usage: "));
        assert_eq!(line, Some(usage), "{words:?}: {outcome:?}");
    }
}

/// A disk that is full where stdout leads to is not the cache's.
#[test]
fn what_stdout_does_not_take_is_told_as_such() {
    let home = Home::new();
    let image = home.layout(&good());
    for words in [
        &["cat", &image, "f"][..],
        &["export", &image],
        &["ls", &image],
        &["ls", "--json", &image],
        &["verify", "--json", &image],
        &["cache", "du"],
        &["index", "show", &image],
        &["doctor"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut child = home.ocifs(words).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait(&mut child), 1, "{words:?}");
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_told = stderr.contains("writing to stdout: No space left on device");
        assert!(is_told && stderr.lines().count() == 1, "{words:?}: {stderr}");
    }
}

#[test]
fn the_directory_before_the_image() {
    let home = Home::new();
    let place = home.mount_point();
    for (directory, image) in
        [(text(&place), "debian:12"), (text(&place), "oci:x"), ("m", "docker.io/library/debian")]
    {
        let mut mount = home.ocifs(&["mount", directory, image]);
        let outcome = run(mount.current_dir(home.path()));
        outcome.failed(2, &["the image comes first", &format!("ocifs mount {image} {directory}")]);
        assert!(!outcome.stderr.contains("mkdir"), "{outcome:?}");
    }
    fs::write(home.path().join("x.tar"), b"x").unwrap();
    let mut mount = home.ocifs(&["mount", text(&place), "./x.tar"]);
    run(mount.current_dir(home.path())).failed(2, &["the image comes first"]);
    // Either may be meant.
    fs::create_dir(home.path().join("debian")).unwrap();
    let outcome = run(home.ocifs(&["mount", "debian", "new"]).current_dir(home.path()));
    outcome.failed(2, &["ocifs mount new debian", "`mkdir new`"]);
    // A folder that is an image, and a directory that has still to be made.
    home.layout(&good());
    let mut mount = home.ocifs(&["mount", "layout", "nowhere"]);
    let outcome = run(mount.current_dir(home.path()));
    assert!(!outcome.stderr.contains("comes first"), "{outcome:?}");
}

#[test]
fn warnings_are_told_once() {
    let home = Home::new();
    let (image, registry) = (home.layout(&good()), Registry::start());
    registry.add_image("r", "t", &good());
    let outcome = home.run(&["--log-file", "/none/x", "mount", &image, "M"]);
    assert!(outcome.code == 0 && outcome.stderr.matches("/none/x").count() == 1, "{outcome:?}");
    home.run(&["umount", "M"]).succeeded();
    let failed = home.run(&["--log-file", "/none/x", "ls", "oci:/none/layout"]);
    assert!(failed.code == 1 && failed.stderr.matches("/none/layout").count() == 2, "{failed:?}");
    // Each image has its credentials looked up.
    let auth = home.path().join("auth.json");
    fs::write(&auth, r#"{"auths":{"x":{"auth":"*"}}}"#).unwrap();
    let name = format!("{}/r:t", registry.addr());
    let [a, b] = ["a", "b"].map(|directory| format!("{directory}={name}"));
    let mut mount = home.ocifs(&["mount", &a, &b, "M"]);
    let outcome = run(mount.env("REGISTRY_AUTH_FILE", &auth));
    assert!(outcome.code == 0 && outcome.stderr.matches("base64").count() == 1, "{outcome:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Why a read failed is told with the file's path, wherever it is told.
#[test]
fn failed_reads_are_told_by_path() {
    let home = Home::new();
    let registry = Registry::start();
    let tarball = tar(&[Entry::dir("dir"), Entry::file("dir/large", noise(1 << 20, 3))]);
    registry.add_image("r", "t", &image_of(&tarball, Compression::None));
    let name = format!("{}/r:t", registry.addr());
    home.run(&["mount", "--timeout", "5s", &name, "M"]).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    assert!(fs::read(home.mount_point().join("dir/large")).is_err());
    let status = home.status();
    let told = status["recent_errors"][0].as_str().unwrap();
    assert!(told.starts_with("reading /dir/large: ") && !told.contains("inode"), "{told}");
    home.run(&["cat", &name, "dir/large"]).failed(1, &["reading /dir/large: "]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn failures_are_code_1_on_stderr() {
    let home = Home::new();
    let image = home.layout(&good());
    let missing = format!("oci:{}/none", home.path().display());
    let file = home.path().join("file");
    fs::write(&file, b"x").unwrap();
    symlink("nowhere", home.path().join("dangling")).unwrap();
    let below = |name: &str| home.path().join(name).display().to_string();
    for (words, expected) in [
        (&["mount", &missing, "M"][..], "none"),
        (&["mount", &image, &below("none")], "No such file or directory"),
        (&["mount", &image, &below("none/none")], &format!("`mkdir -p {}`", below("none/none"))),
        (&["mount", &image, text(&file)], "not a directory"),
        (&["mount", &image, &below("file/x")], "Not a directory"),
        (&["mount", &image, &below("dangling")], &format!("`mkdir -p {}`", below("nowhere"))),
        (&["mount", "--foreground", &image, &below("none")], "No such file or directory"),
        (&["mount", "--offline", "127.0.0.1:1/r:t", "M"], "mount it once without --offline"),
        (&["mount", "127.0.0.1:1/r:t", "M"], "connection refused"),
        (&["ls", &missing], "none"),
        (&["ls", &image, "/none"], "no such file or directory"),
        (&["cat", &image, "none"], "no such file or directory"),
        (&["cat", &image, "/"], "is a directory"),
        (&["cat", &image, "f", "none"], "no such file or directory"),
        (&["export", &missing], "none"),
        (&["umount", "M"], "not a mount of ocifs"),
        (&["umount", &below("none")], "not a mount of ocifs"),
        (&["umount", "/"], "not a mount of ocifs"),
        (&["umount", "/proc"], "not a mount of ocifs"),
        (&["umount", "--lazy", "/proc"], "not a mount of ocifs"),
    ] {
        let outcome = home.run(words);
        assert!(outcome.code == 1 && outcome.stderr.contains(expected), "{words:?}: {outcome:?}");
        outcome.failed(1, &[]);
    }
    home.is_quiet();
}

/// What `umount` must not touch, though it lies where it was told to look.
#[test]
fn mounts_of_others_stay() {
    // In a namespace of its own, as `--all` would hit the mounts of other tests.
    let home = Home::new().through(&[], env!("CARGO_BIN_EXE_ocifs").into());
    let place = home.mount_point();
    let mounted = home.command("mount").args(["-t", "tmpfs", "other"]).arg(&place).status();
    assert!(mounted.unwrap().success(), "these tests run as root");
    home.run(&["umount", "M"]).failed(1, &["not a mount of ocifs"]);
    home.run(&["umount", "--lazy", "M"]).failed(1, &["not a mount of ocifs"]);
    home.run(&["umount", "--all"]);
    assert_eq!(home.mounts(), std::slice::from_ref(&place));
    // And one of others on top of ours.
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    let on_top = home.command("mount").args(["-t", "tmpfs", "other"]).arg(&place).status();
    assert!(on_top.unwrap().success());
    home.run(&["umount", "M"]).failed(1, &[]);
    assert_eq!(home.mounts().len(), 3);
}

#[test]
fn bad_images_leave_nothing_mounted() {
    let home = Home::new();
    let mut image = good();
    let digest = image.layer_digests().remove(0);
    image.blobs.get_mut(&digest).unwrap()[30] ^= 1;
    let name = home.layout(&image);
    for words in [&["mount", &name, "M"][..], &["mount", "--foreground", &name, "M"]] {
        home.run(words).failed(1, &["does not match its digest", &digest]);
        home.is_quiet();
    }
    let name = home.layout(&good());
    home.run(&["mount", &name, "M"]).succeeded();
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn what_the_mount_would_cover_is_refused() {
    let home = Home::new();
    let image = home.layout(&good());
    let below = home.mount_point().join("cache/below");
    let outcome = home.run(&["mount", "--cache-dir", text(&below), &image, "M"]);
    outcome.failed(1, &["covered by the mount", "--cache-dir"]);
    // So is an image that lies there.
    let inside = home.mount_point().join("image");
    write_oci_layout(&inside, &[(Some("t"), &good())]).unwrap();
    let image = format!("oci:{}:t", text(&inside));
    home.run(&["mount", &image, "M"]).failed(1, &["the image", "covered by the mount"]);
    home.is_quiet();
}

#[test]
fn a_busy_mount_is_not_unmounted() {
    let home = Home::new();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    let file = fs::File::open(home.mount_point().join("f")).unwrap();
    // Who holds it is named.
    let own = format!("process {} (", std::process::id());
    home.run(&["umount", "M"]).failed(1, &["busy", "--lazy", &own]);
    assert_eq!(home.mounts().len(), 1);
    home.run(&["umount", "--lazy", "M"]).succeeded();
    assert!(home.mounts().is_empty());
    drop(file);
    home.is_quiet();
}

/// Two processes with one cache that is empty at first.
#[test]
fn two_processes_fill_one_cache() {
    let home = Home::new();
    let content = noise(4 << 20, 3);
    let registry = Registry::start();
    let image = image_of(&tar(&[Entry::file("f", &content)]), Compression::Gzip);
    registry.add_image("r", "t", &image);
    let name = format!("{}/r:t", registry.addr());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let output = home.ocifs(&["cat", &name, "f"]).output().unwrap();
                assert!(output.status.success() && output.stdout == content, "{:?}", output.stderr);
            });
        }
    });
    let left = crate::fixture::files_below(&home.path().join("cache/v1/tmp"));
    assert!(left.is_empty(), "{left:?}");
    registry.clear_log();
    home.run(&["ls", &name]).succeeded();
    assert!(registry.requests().iter().all(|request| request.method == "HEAD"));
    drop(registry);
    assert_eq!(home.run(&["ls", "--offline", &name]).stdout, "f\n");
}

/// With the most talkative log a password or token shows up nowhere.
#[test]
fn secrets_are_not_logged() {
    let home = Home::new();
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry.require_bearer(Some(("me", "very-s3cret")));
    let digest = good().layer_digests().remove(0);
    let signed = format!("/v2/r/blobs/{digest}?X-Signature=s1gned");
    let docker = home.path().join("home/.docker");
    fs::create_dir(&docker).unwrap();
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "me:very-s3cret");
    let config = serde_json::json!({ "auths": { registry.addr().to_string(): { "auth": auth } } });
    fs::write(docker.join("config.json"), config.to_string()).unwrap();
    let name = format!("{}/r:t", registry.addr());
    let mut logs = Vec::new();
    for flags in ["-v", "-vv", "-vvv", "-vvvv"] {
        registry.clear_faults();
        registry.fault(("GET", &digest, Times::First(1)), Fault::Redirect(307, signed.clone()));
        let outcome = home.run(&[flags, "cat", &name, "f"]);
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{outcome:?}");
        logs.push((flags, outcome.stderr));
        fs::remove_dir_all(home.path().join("cache")).unwrap();
    }
    let tokens: Vec<String> = registry
        .requests()
        .iter()
        .filter_map(|request| request.authorization.as_deref()?.strip_prefix("Bearer "))
        .map(str::to_owned)
        .collect();
    assert!(!tokens.is_empty());
    let mut secrets = vec!["very-s3cret".to_owned(), auth, "s1gned".to_owned()];
    secrets.extend(tokens);
    let mut found = Vec::new();
    for (flags, log) in &logs {
        for secret in &secrets {
            if log.lines().any(|line| line.contains(secret)) {
                found.push(format!("{flags} shows {secret}"));
            }
            if dumped(log).contains(secret) {
                found.push(format!("{flags} dumps {secret}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What the hexadecimal dumps of a log, in groups of four digits, amount to as text.
fn dumped(log: &str) -> String {
    let groups = log.split_whitespace().filter(|word| word.len() == 4);
    let bytes = groups.filter_map(|word| u16::from_str_radix(word, 16).ok());
    let bytes: Vec<u8> = bytes.flat_map(u16::to_be_bytes).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Broken files around the program.
#[test]
fn broken_surroundings() {
    let home = Home::new();
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let name = format!("{}/r:t", registry.addr());
    let auth = home.path().join("auth.json");
    fs::write(&auth, "{").unwrap();
    let outcome = run(home.ocifs(&["ls", &name]).env("REGISTRY_AUTH_FILE", &auth));
    outcome.failed(1, &["credentials file", text(&auth), "JSON"]);
    // A pipe that no program writes to.
    let pipe = home.path().join("pipe");
    run(std::process::Command::new("mkfifo").arg(&pipe)).succeeded();
    let outcome = run(home.ocifs(&["ls", &name]).env("REGISTRY_AUTH_FILE", &pipe));
    outcome.failed(1, &["credentials file", text(&pipe), "no program writes to it"]);
    // One bad entry does not spoil the others, but it is told.
    fs::write(&auth, r#"{"auths":{"x":{"auth":"*"}}}"#).unwrap();
    let outcome = run(home.ocifs(&["ls", &name]).env("REGISTRY_AUTH_FILE", &auth));
    assert!(outcome.code == 0 && outcome.stderr.contains("base64"), "{outcome:?}");
    // No home, no cache, no place for a status socket: slower, and with a warning at most.
    let mut bare = home.ocifs(&["cat", &name, "f"]);
    bare.env_remove("HOME").env("OCIFS_CACHE_DIR", "/dev/null/x").env("XDG_RUNTIME_DIR", "/none");
    let outcome = run(&mut bare);
    assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{outcome:?}");
    let mut bare = home.ocifs(&["mount", &name, "M"]);
    let outcome = run(bare.env("XDG_RUNTIME_DIR", "/dev/null"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    let log = run(&mut home.ocifs(&["--log-file", "/none/x", "cat", &name, "f"]));
    assert!(log.code == 0 && log.stdout.as_bytes() == GOOD, "{log:?}");
}

/// Mounts that lie in each other, and one that is elsewhere than where it was made.
#[test]
fn mounts_are_named_by_where_they_are() {
    let home = Home::new();
    let tarball = tar(&[Entry::dir("below"), Entry::file("f", GOOD)]);
    let image = home.layout(&image_of(&tarball, Compression::Gzip));
    home.run(&["mount", &image, "M"]).succeeded();
    let (below, deep) = (home.mount_point().join("below"), home.mount_point().join("below/below"));
    for place in [&below, &deep] {
        home.run(&["mount", &image, text(place)]).succeeded();
    }
    home.run(&["umount", "M"]).failed(1, &["is busy", text(&deep), "unmount that first"]);
    for place in [&deep, &below] {
        home.run(&["umount", text(place)]).succeeded();
    }

    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    run(home.command("mount").arg("--bind").args([&home.mount_point(), &elsewhere])).succeeded();
    let outcome = home.run(&["umount", "M"]);
    let is_told = outcome.stderr.contains(&format!("also mounted at {}", elsewhere.display()));
    assert!(outcome.code == 0 && is_told, "{outcome:?}");
    let shown = home.run(&["status", text(&elsewhere)]).stdout;
    assert!(shown.starts_with(&format!("{}\n", elsewhere.display())), "{shown}");
    let status: serde_json::Value =
        serde_json::from_str(&home.run(&["status", "--json", text(&elsewhere)]).stdout).unwrap();
    assert_eq!(status[0]["mount_point"], text(&elsewhere));
    home.run(&["umount", text(&elsewhere)]).succeeded();
    home.is_quiet();
}

/// Folders may have any name, and JSON has to be text: whether a mount's process answers or not.
#[test]
fn names_that_are_no_text() {
    let home = Home::new();
    let image = home.layout(&good());
    let place = home.path().join(OsStr::from_bytes(b"n\xff"));
    fs::create_dir(&place).unwrap();
    run(home.ocifs(&["mount", &image]).arg(&place)).succeeded();
    let row = || {
        let shown = run(home.ocifs(&["status", "--json"]).arg(&place));
        serde_json::from_str::<serde_json::Value>(&shown.stdout).unwrap()[0].take()
    };
    // As text, and as it is.
    let is_named = |row: &serde_json::Value, key: &str| {
        assert!(row[key].as_str().unwrap().ends_with("/n\u{fffd}"), "{row}");
        let exact = row[format!("{key}_base64")].as_str().unwrap();
        assert_eq!(STANDARD.decode(exact).unwrap(), place.as_os_str().as_bytes(), "{row}");
    };
    is_named(&row(), "mount_point");
    let server = row()["pid"].as_i64().unwrap();
    let server = Pid::from_raw(server.try_into().unwrap()).unwrap();
    kill_process(server, Signal::KILL).unwrap();
    assert!(eventually(|| row()["error"].is_string()));
    is_named(&row(), "mount_point");
    run(home.ocifs(&["umount"]).arg(&place)).succeeded();
    home.is_quiet();

    // The same of a cache with a file that is not what its name says.
    let blobs = place.join("v1/blobs/sha256/00");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("0".repeat(64)), GOOD).unwrap();
    for verb in ["du", "verify", "gc", "clear"] {
        let shown = run(home.ocifs(&["cache", verb, "--json", "--cache-dir"]).arg(&place));
        let row: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        is_named(&row, "folder");
        let has_path = row["damaged"][0]["path"].is_string();
        assert_eq!(has_path, verb == "verify", "{shown:?}");
    }
}

/// What is not there is named once, with what brings it there; what is needed may be there.
#[test]
fn offline_without_a_cache() {
    let (home, registry) = (Home::new(), Registry::start());
    let layer = |path: &str| tar(&[Entry::dir("d"), Entry::file(path, GOOD)]);
    let image = ImageBuilder::new()
        .layer(&layer("d/low"), Compression::Gzip)
        .layer(&layer("d/high"), Compression::Gzip)
        .build();
    registry.add_image("r", "t", &image);
    let name = format!("{}/r:t", registry.addr());
    let advice = "not in the cache; mount it once without --offline, or `ocifs pull` it";
    for verb in ["ls", "export", "pull", "verify"] {
        let outcome = home.run(&[verb, "--offline", &name]);
        outcome.failed(1, &[]);
        assert_eq!(outcome.stderr, format!("error: {name} is {advice}\n"), "{verb}");
    }
    home.run(&["cat", &name, "d/high"]).succeeded();
    home.run(&["cat", "--offline", &name, "d/high"]).succeeded();
    let low = home.run(&["cat", "--offline", &name, "d/low"]);
    low.failed(1, &[&image.layer_digests()[0], "without --offline, or `ocifs pull` it"]);
    assert_eq!(low.stderr.matches(&name).count(), 1, "{low:?}");
}

/// Several parts of a verb may meet the same thing.
#[test]
fn a_warning_is_told_once() {
    let (home, registry) = (Home::new(), Registry::start());
    let image = good();
    registry.add_image("r", "t", &image);
    let foreign = serde_json::json!({ "os": "linux", "architecture": "s390x" });
    let (index, _) = image_index(&[(&image, foreign)]);
    registry.add_manifest("r", "i", "application/vnd.oci.image.index.v1+json", &index);
    let name = format!("{}/r:i", registry.addr());
    // Version 1 of its format.
    let config = home.path().join("registries.conf");
    fs::write(&config, "[registries.search]\nregistries = ['127.0.0.1']\n").unwrap();
    for words in [
        &["ls", &name][..],
        &["cat", &name, "f"],
        &["export", &name],
        &["verify", &name],
        &["pull", &name],
        &["index", "build", &name],
        &["index", "push", &name],
        &["index", "show", &name],
        &["doctor", &name],
        &["mount", &name, "M"],
    ] {
        let outcome = run(home.ocifs(words).env("CONTAINERS_REGISTRIES_CONF", &config));
        let mut warnings: Vec<&str> =
            outcome.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        let all = warnings.len();
        assert!(all >= 2, "{words:?}: {outcome:?}");
        warnings.sort();
        warnings.dedup();
        assert_eq!(warnings.len(), all, "{words:?}: {outcome:?}");
    }
    home.run(&["umount", "M"]).succeeded();
}

/// As people type it.
#[test]
fn a_long_listing_of_everything() {
    let home = Home::new();
    let image = home.layout(&good());
    let listed = home.run(&["ls", "-laR", &image]);
    listed.succeeded();
    let (first, rest) = listed.stdout.split_once('\n').unwrap();
    assert!(first.ends_with(" ."), "{first}");
    assert_eq!(rest, home.run(&["ls", "-lR", &image]).stdout);
}

/// Whatever an image calls its files, `ls --json` says it exactly, and says what it is.
#[test]
fn listings_in_json_lose_nothing() {
    let home = Home::new();
    let entries = [
        Entry::file(b"a\xff", "x"),
        Entry::file("b\n\u{1b}\u{fffd}", "x"),
        Entry::dir("d"),
        Entry::symlink(b"d/l", b"../t\xfe"),
        Entry::symlink("m", "a"),
    ];
    let image = home.layout(&image_of(&tar(&entries), Compression::Gzip));
    let shown = home.run(&["ls", "-R", "--json", &image]);
    shown.succeeded();
    let rows: Vec<serde_json::Value> =
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |row: &serde_json::Value, key: &str| {
        let text = row[key].as_str().map(|text| text.as_bytes().to_vec());
        let exact = row.get(format!("{key}_base64"));
        exact.map_or(text, |exact| Some(STANDARD.decode(exact.as_str().unwrap()).unwrap()))
    };
    let names: Vec<_> = rows.iter().map(|row| (name(row, "path"), name(row, "target"))).collect();
    let row =
        |path: &[u8], target: Option<&[u8]>| (Some(path.to_vec()), target.map(<[u8]>::to_vec));
    let expected = [
        row(b"a\xff", None),
        row("b\n\u{1b}\u{fffd}".as_bytes(), None),
        row(b"d", None),
        row(b"d/l", Some(b"../t\xfe")),
        row(b"m", Some(b"a")),
    ];
    assert_eq!(names, expected);
    assert_eq!(rows[0]["path"], "a\u{fffd}");
    assert!(rows[1].get("path_base64").is_none() && rows[4].get("target_base64").is_none());
    assert!(rows[0]["target"].is_null());
}

/// What was put into the cache for nothing is nobody's concern.
#[test]
fn a_layer_that_is_no_layer_is_told_once() {
    let (home, registry) = (Home::new(), Registry::start());
    let mut layer = TarWriter::new();
    for number in 0..8 {
        layer.entry(&Entry::file(format!("{number}"), noise(1 << 20, number)));
    }
    layer.pax(&[("mtime", "1e9")]).entry(&Entry::file("f", GOOD));
    registry.add_image("r", "t", &image_of(&layer.finish(), Compression::Gzip));
    let outcome = home.run(&["mount", &format!("{}/r:t", registry.addr()), "M"]);
    outcome.failed(1, &["time is malformed"]);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let spans = fs::read_dir(home.path().join("cache/v1/spans")).unwrap();
    assert_eq!(
        spans.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count()).sum::<usize>(),
        0
    );
    home.is_quiet();
}
