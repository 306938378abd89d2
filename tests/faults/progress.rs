//! What is said on stderr while layers are fetched: on a terminal, in a script, and at the end.

use std::process::Command;

use crate::fixture::{good, image_of, noise};
use crate::shell::{Home, run};
use crate::support::image::{Built, Compression};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

fn large() -> Built {
    image_of(&tar(&[Entry::file("f", noise(65 << 20, 1))]), Compression::None)
}

fn added(registry: &Registry, image: &Built) -> String {
    registry.add_image("r", "t", image);
    format!("{}/r:t", registry.addr())
}

/// Whether a line is the last one of a first use, and of so much.
fn is_ready(line: Option<&str>, fetched: &str) -> bool {
    let line = line.unwrap_or_default();
    line.starts_with("ready in ") && line.ends_with(&format!(" s, {fetched} fetched"))
}

#[test]
fn a_script_hears_of_large_downloads() {
    let (registry, home) = (Registry::start(), Home::new());
    let name = added(&registry, &large());
    for verb in ["ls", "cat", "export", "mount"] {
        let words = match verb {
            "cat" => vec![verb, &name, "f"],
            "mount" => vec![verb, &name, "M"],
            _ => vec![verb, &name],
        };
        let piped = |words: &[&str]| {
            // What is exported or read does not matter here, and is no text.
            let mut command = home.ocifs(words);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        home.run(&["cache", "clear"]);
        let cold = piped(&words);
        let mut lines = cold.lines();
        let first = format!("downloading {name}: 65.0 MiB, once");
        assert_eq!(lines.next(), Some(&first[..]), "{verb}");
        assert!(is_ready(lines.last(), "65.0 MiB"), "{verb}: {cold}");
        if verb == "mount" {
            home.run(&["umount", "M"]).succeeded();
        }
        assert_eq!(piped(&words), "", "{verb}: what is in the cache is not downloaded");
        if verb == "mount" {
            home.run(&["umount", "M"]).succeeded();
        }
    }
}

#[test]
fn small_things_are_told_when_they_take_long() {
    let (registry, home) = (Registry::start(), Home::new());
    let name = added(&registry, &good());
    home.run(&["ls", &name]).succeeded();
    let slow = image_of(&tar(&[Entry::file("f", noise(700_000, 2))]), Compression::None);
    let name = added(&registry, &slow);
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(1000));
    let outcome = home.run(&["ls", &name]);
    let mut lines = outcome.stderr.lines();
    let first = format!("downloading {name}: 686 KiB, once");
    assert_eq!((outcome.code, lines.next()), (0, Some(&first[..])), "{outcome:?}");
    assert!(is_ready(lines.next(), "686 KiB"), "{outcome:?}");
}

/// The error alone, when it does not become ready.
#[test]
fn failures_are_not_ready() {
    let (registry, home) = (Registry::start(), Home::new());
    let name = added(&registry, &large());
    registry.fault(("GET", "/blobs/", Times::Always), Fault::FlipByte(1 << 20));
    let outcome = home.run(&["export", &name]);
    outcome.failed(1, &["downloading", "does not match its digest"]);
    assert!(!outcome.stderr.contains("ready"), "{outcome:?}");
}

/// Lines that come on a terminal, without what moves the cursor and colours.
fn drawn(home: &Home, columns: usize, name: &str) -> Vec<String> {
    let ocifs = env!("CARGO_BIN_EXE_ocifs");
    let script = format!("stty cols {columns} rows 24; exec {ocifs} ls {name} >/dev/null");
    let mut command: Command = home.command("script");
    command.args(["--quiet", "--return", "--command", &script, "/dev/null"]);
    let outcome = run(command.env("TERM", "xterm"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let mut text = String::new();
    let mut rest = outcome.stdout.chars();
    while let Some(char) = rest.next() {
        match char {
            '\u{1b}' => drop(rest.find(|char| char.is_ascii_alphabetic())),
            char => text.push(char),
        }
    }
    assert!(!text.trim_end().contains('\n'), "{columns}: more than a line: {text:?}");
    text.split('\r').map(str::to_owned).filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn bars_do_not_wrap() {
    let registry = Registry::start();
    let image = image_of(&tar(&[Entry::file("f", noise(270_000, 3))]), Compression::None);
    let name = added(&registry, &image);
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(1000));
    for columns in [20, 40, 80] {
        let lines = drawn(&Home::new(), columns, &name);
        assert!(lines.len() > 2, "{columns}: {lines:?}");
        for line in &lines {
            assert!(line.trim_end().chars().count() < columns, "{columns}: {line:?}");
        }
        let title = format!("downloading {name}: 266 KiB, once");
        let shown = lines.iter().any(|line| line.contains(&title));
        assert_eq!(shown, columns == 80, "{columns}: {lines:?}");
        assert!(lines.iter().all(|line| line.contains(" %")), "{columns}: {lines:?}");
    }
}

#[test]
fn pull_and_verify_say_what_was_done() {
    let (registry, home) = (Registry::start(), Home::new());
    let image = image_of(&tar(&[Entry::file("f", noise(100_000, 4))]), Compression::Gzip);
    let name = added(&registry, &image);
    let last = |words: &[&str]| {
        let outcome = home.run(words);
        assert_eq!((outcome.code, &outcome.stderr[..]), (0, ""), "{outcome:?}");
        outcome.stdout.lines().last().unwrap_or_default().to_owned()
    };
    let pulled = last(&["pull", &name]);
    let expected = format!("{name}: 1 layer, 99.5 KiB in the cache, ");
    assert!(pulled.starts_with(&expected) && pulled.ends_with(" fetched"), "{pulled}");
    let again = last(&["pull", "--offline", &name]);
    assert_eq!(again, format!("{name}: 1 layer, 99.5 KiB in the cache"));
    let verified = last(&["verify", &name]);
    assert!(
        verified.starts_with("nothing wrong: ") && verified.contains("1 of them proven before")
    );
    let verified = last(&["verify", "--again", &name]);
    assert!(verified.starts_with("ok: all of ") && verified.ends_with(" in 1 layer, 1 entry"));
    registry.fault(("GET", "/blobs/", Times::Always), Fault::FlipByte(10_000));
    home.run(&["cache", "clear"]);
    let wrong = home.run(&["verify", &name]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(wrong.stdout.lines().last(), Some("not ok: 1 of 1 layer"), "{wrong:?}");
}
