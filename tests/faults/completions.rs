//! What shells are told when Tab is pressed: as their scripts ask, and by a real bash.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::fixture::{good, image_of};
use crate::shell::{Home, run};
use crate::support::image::Compression;
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};
use serde_json::{Value, json};

/// What is offered for the last of some words.
#[track_caller]
fn offered(home: &Home, words: &[&str]) -> Vec<String> {
    let mut command = asked(home, words);
    let outcome = run(&mut command);
    assert_eq!((outcome.code, &*outcome.stderr), (0, ""), "{words:?}: {outcome:?}");
    assert!(outcome.stdout.chars().all(|c| c == '\n' || !c.is_control()), "{outcome:?}");
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// The program, asked as the scripts of bash, zsh and elvish do.
fn asked(home: &Home, words: &[&str]) -> Command {
    let mut command = home.ocifs(&["--", "ocifs"]);
    command.args(words).current_dir(home.path());
    command.env("OCIFS_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command
}

#[test]
fn mount_points_after_umount_and_status() {
    let home = Home::new();
    let name = home.layout(&good());
    let place = home.mount_point().display().to_string();
    assert!(!offered(&home, &["umount", ""]).contains(&place));
    home.run(&["mount", &name, "M"]).succeeded();
    for verb in ["umount", "unmount", "status"] {
        assert!(offered(&home, &[verb, ""]).contains(&place), "{verb}");
        assert_eq!(offered(&home, &[verb, &place[..place.len() - 1]]), [&*place], "{verb}");
    }
    assert_eq!(offered(&home, &["umount", "m"]), ["m"], "below the current directory");
    home.run(&["umount", "M"]).succeeded();
}

/// Names that a shell would not take for themselves, or that a terminal obeys, are not offered.
#[test]
fn paths_of_an_image_whose_layers_are_known() {
    let (registry, home) = (Registry::start(), Home::new());
    let mut entries = vec![
        Entry::dir("etc"),
        Entry::file("etc/passwd", b"x"),
        Entry::file("etc/profile", b"x"),
        Entry::dir("etc/\u{e4}pfel"),
        Entry::symlink("conf", "etc"),
    ];
    for name in ["$(reboot)", "a b", "a\u{1b}[2J", "a\u{9b}2J", "a\u{202e}b", "a\nb", "a*", "-x"] {
        entries.push(Entry::file(name, b"x"));
        entries.push(Entry::file(format!("etc/{name}"), b"x"));
    }
    registry.add_image("r", "t", &image_of(&tar(&entries), Compression::Gzip));
    let name = format!("{}/r:t", registry.addr());
    // Nothing is fetched for a key.
    assert_eq!(offered(&home, &["cat", &name, "/"]), [""; 0]);
    assert_eq!(registry.requests().len(), 0);
    assert!(!home.path().join("cache").exists(), "a key makes no cache");
    home.run(&["pull", &name]).succeeded();
    let before = registry.requests().len();
    for verb in ["ls", "cat", "find", "which", "du", "export"] {
        assert_eq!(offered(&home, &[verb, &name, "/etc/p"]), ["/etc/passwd", "/etc/profile"]);
        assert_eq!(offered(&home, &[verb, &name, "etc/pa"]), ["etc/passwd"]);
        assert_eq!(offered(&home, &[verb, &name, "/"]), ["/-x", "/conf/", "/etc/"], "{verb}");
        assert_eq!(offered(&home, &[verb, &name, "etc/passwd", "conf/pr"]), ["conf/profile"]);
    }
    assert_eq!(offered(&home, &["cp", &name, "conf/pa"]), ["conf/passwd"]);
    assert_eq!(offered(&home, &["cp", &name, "/etc/passwd", "./m"]), ["./m/"], "where to");
    assert_eq!(offered(&home, &["ls", "-l", &name, "/etc/\u{e4}"]), ["/etc/\u{e4}pfel/"]);
    let all = ["/etc/-x", "/etc/passwd", "/etc/profile", "/etc/\u{e4}pfel/"];
    assert_eq!(offered(&home, &["ls", &name, "/etc/"]), all);
    assert_eq!(offered(&home, &["ls", &name, "/etc/passwd/"]), [""; 0], "no directory");
    // The flags count: elsewhere nothing is known.
    let elsewhere = home.path().join("elsewhere").display().to_string();
    assert_eq!(offered(&home, &["ls", "--cache-dir", &elsewhere, &name, "/e"]), [""; 0]);
    let here = home.path().join("cache").display().to_string();
    let mut command = asked(&home, &["ls", "--cache-dir", &here, &name, "/e"]);
    assert_eq!(run(command.env_remove("OCIFS_CACHE_DIR")).stdout, "/etc/");
    assert_eq!(registry.requests().len(), before, "nothing is asked of the registry");
    // A directory of any size is offered in part.
    let files: Vec<Entry> = (0..5000).map(|n| Entry::file(format!("f{n}"), Vec::new())).collect();
    registry.add_image("r", "large", &image_of(&tar(&files), Compression::Gzip));
    let large = format!("{}/r:large", registry.addr());
    home.run(&["pull", &large]).succeeded();
    assert_eq!(offered(&home, &["ls", &large, "/f"]).len(), 500);
}

#[test]
fn references() {
    let (registry, home) = (Registry::start(), Home::new());
    let image = good();
    for tag in ["1.0", "1.1", "edge"] {
        registry.add_image("team/app", tag, &image);
    }
    let addr = registry.addr();
    // Tags are the registry's; the name alone asks for nothing.
    assert_eq!(offered(&home, &["ls", &format!("{addr}/te")]), [""; 0]);
    assert_eq!(registry.requests().len(), 0);
    let name = format!("{addr}/team/app");
    let tag = |tag: &str| format!("{name}:{tag}");
    assert_eq!(offered(&home, &["ls", &tag("1")]), [tag("1.1"), tag("1.0")]);
    assert_eq!(offered(&home, &["run", "-u", "0", &tag("e")]), [tag("edge")]);
    assert_eq!(offered(&home, &["diff", &tag("1.0"), &tag("e")]), [tag("edge")]);
    assert_eq!(
        offered(&home, &["mount", &format!("a={}", tag("e"))]),
        [format!("a={}", tag("edge"))]
    );
    // There is no cache that could remember the list.
    let asked: Vec<String> = registry.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.iter().all(|path| path.contains("tags/list")), "{asked:?}");
    assert!(asked.len() >= 3, "{asked:?}");
    // What is remembered is offered by its beginning, and where the registry does not answer.
    home.run(&["pull", &tag("edge")]).succeeded();
    registry.fault(("GET", "/tags/", Times::Always), Fault::Status(500, Vec::new(), Vec::new()));
    assert_eq!(offered(&home, &["ls", &format!("{addr}/te")]), [tag("edge")]);
    assert_eq!(offered(&home, &["ls", &tag("")]), [tag("edge")]);
    assert_eq!(offered(&home, &["tags", &format!("{addr}/te")]), [&*name]);
    registry.clear_faults();
    registry.fault(("GET", "/tags/", Times::Always), Fault::Stall(0, Duration::from_secs(10)));
    assert_eq!(offered(&home, &["ls", &tag("")]), [tag("edge")]);

    // A list that was had is kept: the registry is not asked for some minutes, and later in vain.
    registry.clear_faults();
    assert_eq!(offered(&home, &["ls", &tag("1")]), [tag("1.1"), tag("1.0")]);
    let before = registry.requests().len();
    registry.add_image("team/app", "1.2", &image);
    assert_eq!(offered(&home, &["ls", &tag("1")]), [tag("1.1"), tag("1.0")]);
    assert_eq!(registry.requests().len(), before);
    age_tag_lists(&home);
    registry.fault(("GET", "/tags/", Times::Always), Fault::Stall(0, Duration::from_secs(10)));
    assert_eq!(offered(&home, &["ls", &tag("1")]), [tag("1.1"), tag("1.0")]);
    registry.clear_faults();
    assert_eq!(offered(&home, &["ls", &tag("1")]), [tag("1.2"), tag("1.1"), tag("1.0")]);
    home.run(&["cache", "verify"]).succeeded();

    for word in ["oci:", "docker-archive:", "containerd:"] {
        assert!(offered(&home, &["ls", ""]).contains(&word.to_owned()), "{word}");
    }
    let layout = home.layout(&image);
    fs::write(home.path().join("x.tar.gz"), "").unwrap();
    fs::write(home.path().join("x.txt"), "").unwrap();
    assert_eq!(offered(&home, &["ls", "x"]), ["x.tar.gz"]);
    assert_eq!(offered(&home, &["ls", "./x"]), ["./x.tar.gz", "./x.txt"]);
    assert_eq!(offered(&home, &["ls", "docker-archive:x.tar"]), ["docker-archive:x.tar.gz"]);
    assert_eq!(offered(&home, &["ls", &layout[..layout.len() - 2]]), [format!("{layout}/")]);
    let folder = home.mount_point().display().to_string();
    let folders = offered(&home, &["mount", &layout, &folder]);
    assert_eq!(folders, [format!("{folder}/")]);
}

/// Makes the lists of tags in the cache an hour older.
fn age_tag_lists(home: &Home) {
    let lists = crate::fixture::files_below(&home.path());
    let lists: Vec<_> =
        lists.iter().filter(|path| path.to_string_lossy().contains("/tag-lists/")).collect();
    assert_eq!(lists.len(), 1);
    for list in lists {
        let mut record: Value = serde_json::from_slice(&fs::read(list).unwrap()).unwrap();
        record["checked"] = json!(record["checked"].as_u64().unwrap() - 3600);
        fs::write(list, record.to_string()).unwrap();
    }
}

/// A helper could ask for a password, or open a window.
#[test]
fn no_credential_helper_is_run() {
    let (registry, home) = (Registry::start(), Home::new());
    registry.add_image("r", "t", &good());
    let (helpers, told) = (home.path().join("helpers"), home.path().join("told"));
    fs::create_dir(&helpers).unwrap();
    let helper = helpers.join("docker-credential-asking");
    fs::write(&helper, format!("#!/bin/sh\ntouch {}\n", told.display())).unwrap();
    run(Command::new("chmod").arg("+x").arg(&helper)).succeeded();
    let docker = home.path().join("home/.docker");
    fs::create_dir_all(&docker).unwrap();
    let config = docker.join("config.json");
    fs::write(&config, r#"{"credsStore":"asking"}"#).unwrap();
    registry.require_basic("u", "p");
    let path = format!("{}:{}", helpers.display(), std::env::var("PATH").unwrap());
    let name = format!("{}/r:", registry.addr());
    let offered = || run(asked(&home, &["ls", &name]).env("PATH", &path)).stdout;
    assert_eq!((offered().as_str(), told.exists()), ("", false));
    // A login that is in the file itself counts.
    let login =
        format!(r#"{{"credsStore":"asking","auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, registry.addr());
    fs::write(&config, login).unwrap();
    assert_eq!((offered(), told.exists()), (format!("{name}t"), false));
    run(home.ocifs(&["tags", name.trim_end_matches(':')]).env("PATH", &path));
    assert!(told.exists(), "the helper works");
}

#[test]
fn what_fails_offers_nothing() {
    let home = Home::new();
    home.configure("proof = 7");
    fs::write(home.path().join("x.tar"), "no archive").unwrap();
    assert_eq!(offered(&home, &["cat", "./x.tar", "/"]), [""; 0]);
    assert_eq!(offered(&home, &["cat", "-", "/"]), [""; 0]);
    assert_eq!(offered(&home, &["cat", "Not An Image", "/"]), [""; 0]);
    assert_eq!(offered(&home, &["ls", "127.0.0.1:1/r:"]), [""; 0]);
    for (shell, index) in [("bash", "99"), ("nonsense", "1")] {
        let mut command = asked(&home, &["ls", ""]);
        command.env("OCIFS_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", index);
        let outcome = run(&mut command);
        assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (1, "", ""), "{shell}");
    }
    // Set to nothing, it means nothing.
    run(home.ocifs(&["--version"]).env("OCIFS_COMPLETE", "")).succeeded();
}

#[test]
fn scripts_are_of_what_people_use() {
    let home = Home::new();
    for (shell, word) in [
        ("bash", "complete -o"),
        ("zsh", "compdef"),
        ("fish", "complete --"),
        ("elvish", "arg-completer"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = home.run(&["completions", shell]);
        script.succeeded();
        let stdout = &script.stdout;
        assert!(stdout.contains(word) && stdout.contains("OCIFS_COMPLETE"), "{shell}: {stdout}");
        let program = env!("CARGO_BIN_EXE_ocifs");
        assert!(!stdout.contains(program), "{shell}: the program is the one of $PATH");
    }
    let verbs = offered(&home, &[""]);
    assert!(verbs.contains(&"umount".to_owned()) && !verbs.contains(&"prefetch".to_owned()));
    assert_eq!(offered(&home, &["ls", "--cache-s"]), ["--cache-size"]);
}

/// What bash makes of a line with the cursor at its end, or at `|`.
#[track_caller]
fn in_bash(home: &Home, line: &str) -> Vec<String> {
    // Readline's own words: as `COMP_WORDBREAKS` cuts them.
    let (before, after) = line.split_once('|').unwrap_or((line, ""));
    let mut words: Vec<String> = vec![String::new()];
    let mut was = ' ';
    let is_break = |c: char| matches!(c, ':' | '=');
    for c in before.chars() {
        if c != ' ' {
            if was != ' ' && is_break(was) != is_break(c) {
                words.push(String::new());
            }
            words.last_mut().unwrap().push(c);
        } else if was != ' ' {
            words.push(String::new());
        }
        was = c;
    }
    let last = words.last_mut().unwrap();
    let replaced = if last.ends_with(is_break) { String::new() } else { last.clone() };
    last.push_str(after.split(' ').next().unwrap());
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <(ocifs completions bash); COMP_LINE='{before}{after}' COMP_POINT={} \
         COMP_WORDS=({}) COMP_CWORD={}; _ocifs ocifs '{replaced}' x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        before.len(),
        quoted.join(" "),
        words.len() - 1,
    );
    let mut command = home.command("bash");
    let program = Path::new(env!("CARGO_BIN_EXE_ocifs")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let outcome = run(command.args(["--norc", "-uc", &script]).env("PATH", path));
    outcome.succeeded();
    outcome.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// It cuts words at colons, and replaces only what is behind the last.
#[test]
fn bash_completes_behind_colons() {
    let (registry, home) = (Registry::start(), Home::new());
    registry.add_image("r", "stable", &good());
    let addr = registry.addr().to_string();
    let (_, port) = addr.split_once(':').unwrap();
    home.run(&["pull", &format!("{addr}/r:stable")]).succeeded();
    assert_eq!(in_bash(&home, "ocifs umo"), ["umount"]);
    assert_eq!(in_bash(&home, &format!("ocifs ls {addr}/r:st")), ["stable"]);
    assert_eq!(in_bash(&home, &format!("ocifs ls {addr}/r:")), ["stable"]);
    assert_eq!(in_bash(&home, &format!("ocifs ls {addr}/r:st|xyz /")), ["stable"]);
    assert_eq!(in_bash(&home, &format!("ocifs ls {addr}/")), [format!("{port}/r:stable")]);
    assert_eq!(
        in_bash(&home, &format!("ocifs cat --platform=linux/amd64 {addr}/r:stable /")),
        ["/f"]
    );
    assert_eq!(in_bash(&home, &format!("ocifs mount a={addr}/r:s")), ["stable"]);
    assert_eq!(in_bash(&home, "ocifs ls oci-a"), ["oci-archive:"]);
    assert_eq!(in_bash(&home, "ocifs nonsense :"), [""; 0]);
}
