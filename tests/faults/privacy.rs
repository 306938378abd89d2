//! What others on the machine see of the program and can make it do: log files, environments, names on terminals.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::fixture::{GOOD, good, image_of, name_in};
use crate::shell::{Home, eventually, run, text};
use crate::support::image::Compression;
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const PASSWORD: &str = "very-s3cret";

fn read(pid: Pid, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{}/{file}", pid.as_raw_pid())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn log_files_are_regular_and_private() {
    let home = Home::new();
    let image = home.layout(&good());
    let at = |name: &str| home.path().join(name);
    let list = |log: &str| home.run(&["--log-file", log, "-v", "ls", &image]);
    list(text(&at("new"))).succeeded();
    let mode = fs::metadata(at("new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // One that is there keeps its mode, and what it has.
    fs::write(at("old"), "before\n").unwrap();
    fs::set_permissions(at("old"), fs::Permissions::from_mode(0o640)).unwrap();
    list(text(&at("old"))).succeeded();
    assert!(fs::read_to_string(at("old")).unwrap().starts_with("before\n"));
    assert_eq!(fs::metadata(at("old")).unwrap().permissions().mode() & 0o777, 0o640);

    fs::write(at("victim"), "").unwrap();
    symlink("victim", at("link")).unwrap();
    symlink("absent", at("dangling")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for log in
        ["link", "dangling", "fifo", "m"].map(at).iter().map(|p| text(p)).chain(["/dev/null"])
    {
        let outcome = list(log);
        let words = format!("warning: log file {log}: ");
        assert!(outcome.code == 0 && outcome.stderr.contains(&words), "{log}: {outcome:?}");
    }
    assert!(fs::read(at("victim")).unwrap().is_empty() && !at("absent").exists());
}

/// A pipe that brings a text.
fn piped(text: &str) -> std::io::PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let text = text.to_owned();
    // Who does not read to its end closes it.
    std::thread::spawn(move || writer.write_all(text.as_bytes()));
    reader
}

/// The process that serves has the login, and neither its words nor its environment do.
#[test]
fn logins_of_mounts_in_the_background() {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry.require_basic("me", PASSWORD);
    let login = format!("me:{PASSWORD}");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &login);
    let padding = " ".repeat(100_000);
    let file = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}{padding}"#, registry.addr());
    for way in ["--creds", "OCIFS_CREDS", "DOCKER_AUTH_CONFIG", "--authfile"] {
        let home = Home::new();
        let mut mount = home.ocifs(&["mount", "--plain-http", &name_in(&registry), "M"]);
        match way {
            "--creds" => mount.args([way, &login]),
            "OCIFS_CREDS" => mount.env(way, &login),
            // Read once, by the process that is started first; and one of the places that come after it.
            "--authfile" => {
                let other = home.path().join("other.json");
                fs::write(&other, "{}").unwrap();
                mount.arg(way).arg(other).args([way, "/dev/stdin"]).stdin(piped(&file))
            }
            _ => mount.env(way, &file),
        };
        run(&mut mount).succeeded();
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD, "{way}");
        for pid in [home.serving(), home.workers(), home.prefetchers()].concat() {
            for text in [PASSWORD, &encoded] {
                assert!(!read(pid, "environ").contains(text), "{way}");
                assert!(!read(pid, "cmdline").contains(text), "{way}");
            }
            assert!(["ocifs\n", "ocifs-worker\n"].contains(&&read(pid, "comm")[..]));
        }
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
    // Without a mount, too.
    let home = Home::new();
    let mut list =
        home.ocifs(&["ls", "--plain-http", "--authfile", "/dev/stdin", &name_in(&registry)]);
    run(list.stdin(piped(&file))).succeeded();
    // One that is wrong is told by the process that serves.
    let home = Home::new();
    let mut mount = home.ocifs(&["mount", "--plain-http", &name_in(&registry), "M"]);
    let outcome = run(mount.env("OCIFS_CREDS", "me:wrong"));
    outcome.failed(1, &["--creds"]);
    assert!(!outcome.stderr.contains("wrong"), "{outcome:?}");
}

/// A login, and less care with TLS, are said of one registry, and not of all that a mount shows images of.
#[test]
fn flags_of_one_registry_do_not_spread() {
    let registries = [Registry::start(), Registry::start()];
    for registry in &registries {
        registry.add_image("r", "t", &good());
        registry.require_basic("me", PASSWORD);
    }
    let names = registries.each_ref().map(name_in);
    let [first, second] = names.each_ref();
    let mut words = vec!["mount".to_owned(), format!("a={first}"), format!("b={second}")];
    words.push("M".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let login = format!("me:{PASSWORD}");
    for way in ["--creds", "OCIFS_CREDS", "--plain-http", "--tls-verify=false"] {
        let home = Home::new();
        let mut mount = home.ocifs(&words);
        let (mount, named, helps) = match way {
            "--creds" => (mount.args([way, &login]), way, "podman login"),
            "OCIFS_CREDS" => (mount.env(way, &login), way, "podman login"),
            "--plain-http" => (mount.arg(way), way, "registries.conf"),
            _ => (mount.arg(way), way, "certs.d"),
        };
        let addresses = registries.each_ref().map(|registry| registry.addr().to_string());
        let outcome = run(mount);
        outcome.failed(2, &[named, helps, &addresses[0], &addresses[1]]);
        assert!(!outcome.stderr.contains(PASSWORD), "{outcome:?}");
        assert!(registries.iter().all(|registry| registry.requests().is_empty()), "{way}");
        home.is_quiet();
    }
    // Two images of one registry, whose name an alias and a local image do not make two.
    let home = Home::new();
    let folder = home.path().join("home/.config/containers");
    fs::create_dir_all(&folder).unwrap();
    let aliases = format!("[aliases]\n\"short\" = \"{}/r\"\n", registries[0].addr());
    fs::write(folder.join("registries.conf"), aliases).unwrap();
    let local = format!("c={}", home.layout(&good()));
    let named = format!("a={first}");
    let words = ["mount", "--creds", &login, &named, "b=short:t", &local, "M"];
    home.run(&words).succeeded();
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read(home.mount_point().join(name).join("f")).unwrap(), GOOD, "{name}");
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Nor of all that others may name later: by a path, by a line of a list, by what an engine pulls.
#[test]
fn flags_of_one_registry_are_refused_where_any_may_be_asked() {
    let login = format!("me:{PASSWORD}");
    let home = Home::new();
    let list = home.path().join("list");
    fs::write(&list, "").unwrap();
    let list = text(&list);
    let verbs: [&[&str]; 3] = [
        &["browse", "M"],
        &["store", "M", "--list", list],
        &["mirror", "127.0.0.1:0", "--store", "M", "--list", list],
    ];
    for verb in verbs {
        for way in ["--creds", "OCIFS_CREDS", "--plain-http", "--tls-verify=false"] {
            let mut command = home.ocifs(verb);
            let (command, named, helps) = match way {
                "--creds" => (command.args([way, &login]), way, "podman login"),
                "OCIFS_CREDS" => (command.env(way, &login), way, "podman login"),
                "--plain-http" => (command.arg(way), way, "registries.conf"),
                _ => (command.arg(way), way, "certs.d"),
            };
            let outcome = run(command);
            outcome.failed(2, &[named, helps, "is for one registry"]);
            assert!(!outcome.stderr.contains(PASSWORD), "{outcome:?}");
            home.is_quiet();
        }
    }
}

/// Root without CAP_SYS_PTRACE, as in a container, does not look into what root serves there.
#[test]
fn what_root_serves_is_not_dumped() {
    const CONTAINED: [&str; 3] = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"];
    let home = Home::new().with_prefix(&CONTAINED);
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    // (On newer kernels `environ` is shown to other capabilities as well.)
    let look = |pid: u32| run(home.command("readlink").arg("-v").arg(format!("/proc/{pid}/exe")));
    let outcome = look(home.serving()[0].as_raw_pid() as u32);
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    let mut other = home.command("sleep").arg("60").spawn().unwrap();
    let is_shown = eventually(|| look(other.id()).stdout.contains("sleep"));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(is_shown, "what is dumpable is shown");
    // All the same it goes on and off as ever.
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A helper that takes too long is ended with its children, those that it has left to themselves too.
#[test]
fn helpers_are_ended_with_their_children() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    registry.require_basic("me", PASSWORD);
    let docker = home.path().join("home/.docker");
    fs::create_dir(&docker).unwrap();
    let config = json!({ "credsStore": "slow" });
    fs::write(docker.join("config.json"), config.to_string()).unwrap();
    let helper = home.path().join("docker-credential-slow");
    let pids = home.path().join("pids");
    let script = format!(
        "#!/bin/sh\nsleep 600 & echo $! >> {0}\n(sleep 601 & echo $! >> {0})\nsleep 602\n",
        text(&pids)
    );
    // Written by a process of its own: one that is open for writing here could not be started.
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    run(Command::new("sh").args(["-c", write]).arg(&helper).arg(script)).succeeded();
    let path = format!("{}:{}", text(&home.path()), std::env::var("PATH").unwrap());
    // On a terminal it stays in our group, to ask there.
    let mut list = home.command("setsid");
    list.arg("--wait").arg(env!("CARGO_BIN_EXE_ocifs")).args(["ls", "--plain-http"]);
    list.args(["--timeout", "2s", &name_in(&registry)]).env("PATH", path);
    run(&mut list).failed(1, &["docker-credential-slow", "no answer"]);
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    let is_alive = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Who has taken over an orphan may not have waited for it yet.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(eventually(|| !pids.lines().any(is_alive)), "{pids}");
}

/// In JSON nothing stands that a terminal obeys, and names are what they are.
#[test]
fn json_does_not_command_the_terminal() {
    let home = Home::new();
    let names = ["a\u{9b}2J", "b\u{7f}", "c\u{202e}exe", "d\u{fc}"];
    let entries = names.map(|name| Entry::file(name, "x"));
    let image = home.layout(&image_of(&tar(&entries), Compression::Gzip));
    let shown = home.run(&["ls", "--json", &image]);
    shown.succeeded();
    let is_obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(!shown.stdout.contains(is_obeyed), "{}", shown.stdout.escape_debug());
    let rows = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(rows.map(|row| row["path"].clone()).collect::<Vec<_>>(), names);
}
