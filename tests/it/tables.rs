//! The tables that people see, on terminals of 80 and 200 columns: `tests/snapshots/tables`.
//!
//! The image has names, labels, instructions and packages that would command the terminal. `snapshots` says how the
//! files are written again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::snapshots::check;
use crate::support::content::{Content, for_platform, provenance, spdx, statement};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

const COLUMNS: [usize; 2] = [80, 200];

/// Clears the screen (as C0 and as C1), turns the direction of text, and ends the line.
const EVIL: &str = "\u{1b}[2J\u{9b}2J\u{202e}\u{7}\r\n";

const COMMANDS: [(&str, &str); 15] = [
    ("history", "history --all-layers oci:layout:1.1"),
    ("which", "which oci:layout:1.1 etc/app.conf gone.txt usr/bin/tool"),
    ("diff", "diff oci:layout:1.0 oci:layout:1.1"),
    ("diff-stat", "diff --stat oci:layout:1.0 oci:layout:1.1"),
    ("diff-documents", "diff --layers --config oci:layout:1.0 oci:layout:1.1"),
    ("inspect", "inspect oci:layout:1.1"),
    ("tags", "tags oci:layout"),
    ("tags-long", "tags --long --all oci:layout"),
    ("attest", "attest oci:layout:1.1"),
    ("attest-packages", "attest --packages oci:layout:1.1"),
    ("du", "du oci:layout:1.1 /etc /usr"),
    ("du-layers", "du --layers oci:layout:1.1"),
    ("du-check", "du --check max-wasted=1%,max-size=1G oci:layout:1.1"),
    ("ls-long", "ls -l oci:layout:1.1 / /etc"),
    ("ls-long-human", "ls -lhR oci:layout:1.1"),
];

fn image(version: &str) -> Built {
    let long = "a-directory-with-a-long-name/".repeat(6);
    let base = tar(&[
        Entry::dir("etc").mode(0o755),
        Entry::file("etc/app.conf", "debug = true"),
        Entry::file("gone.txt", vec![b'x'; 123_456]),
        Entry::file(format!("{long}file.txt"), "far below"),
    ]);
    let top = tar(&[
        Entry::file("etc/app.conf", format!("version = {version}")),
        Entry::file(format!("etc/evil{EVIL}.conf"), version),
        Entry::file("usr/bin/tool", format!("#!/bin/sh\necho {version}\n")).mode(0o755),
        Entry::symlink("usr/bin/link", format!("tool{EVIL}")),
        Entry::file(".wh.gone.txt", ""),
    ]);
    let created = "1980-01-01T00:00:00Z";
    let script =
        "RUN /bin/sh -c apt-get update && apt-get install --no-install-recommends ".repeat(3);
    ImageBuilder::new()
        .layer(&base, Compression::None)
        .layer(&top, Compression::None)
        .config("created", created)
        .config("author", format!("An author{EVIL} of {version}"))
        .config(
            "config",
            json!({
                "Labels": { "org.example.evil": format!("label{EVIL}{version}"), format!("key{EVIL}"): "x".repeat(300) },
                "Env": ["PATH=/usr/bin", format!("VERSION={version}{EVIL}")],
                "Cmd": ["tool", format!("{EVIL}{version}")],
            }),
        )
        .config(
            "history",
            json!([
                { "created": created, "created_by": format!("ADD rootfs.tar / # {script}") },
                { "created": created, "created_by": format!("ENV EVIL={EVIL}"), "empty_layer": true },
                { "created": created, "created_by": format!("COPY {EVIL} {version} /"), "comment": EVIL },
            ]),
        )
        .build()
}

fn layout(folder: &Path) {
    let mut content = Content::default();
    for version in ["1.0", "1.1"] {
        let built = image(version);
        let image = for_platform(content.image(&built), "amd64");
        let mut sbom = spdx();
        let packages = sbom["packages"].as_array_mut().unwrap();
        packages.push(
            json!({ "name": format!("evil{EVIL}"), "versionInfo": EVIL, "SPDXID": "SPDXRef-evil" }),
        );
        let statements: [Value; 2] = [
            statement(&image, "https://spdx.dev/Document", &sbom),
            statement(&image, "https://slsa.dev/provenance/v1", &provenance()),
        ];
        let attestation = content.attestation(&image, &statements);
        let index = content.index(&[image, attestation]);
        content.tag(version, &index);
        if version == "1.1" {
            for tag in ["latest", "stable", "a-tag-that-is-long-for-a-tag-and-still-allowed"] {
                content.tag(tag, &index);
            }
            (0..40).for_each(|patch| content.tag(&format!("1.1.{patch}"), &index));
        }
    }
    content.write_layout(folder).unwrap();
}

/// What a command prints on a terminal of that width.
fn on_terminal(home: &Path, columns: usize, line: &str) -> String {
    let program = env!("CARGO_BIN_EXE_ocifs");
    let script = format!(
        "stty cols {columns} rows 24; exec {program} {line} --platform linux/amd64 2>errors"
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &script, "/dev/null"]).current_dir(home);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
    command.env("NO_COLOR", "1").env("TERM", "xterm").env("TZ", "UTC");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Its end would be typed.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let errors = fs::read_to_string(home.join("errors")).unwrap();
    let finds = line.starts_with("diff ") || line.contains("--check");
    let is_done = output.status.success() || finds && output.status.code() == Some(1);
    assert!(is_done, "{line}: {output:?} {errors}");
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}

/// A text whose ages do not grow: `46 years` counts from 1980.
fn ageless(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        if words[at].starts_with("years") && words[at - 1].parse::<u32>().is_ok() {
            words[at - 1] = "NN".to_owned();
        }
    }
    words.join(" ")
}

#[test]
fn tables_fit_the_terminal_and_do_not_command_it() {
    let home = tempfile::tempdir().unwrap();
    layout(&home.path().join("layout"));
    let mut wrong = Vec::new();
    for columns in COLUMNS {
        for (name, line) in COMMANDS {
            let said = on_terminal(home.path(), columns, line);
            assert!(said.lines().count() > 1, "{line}: {said:?}");
            // Names stand there in full.
            let is_whole = name.starts_with("ls-");
            for row in said.lines() {
                let commands = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
                if row.contains(commands) {
                    wrong.push(format!("{columns}: {line}: {row:?}"));
                }
                if !is_whole && row.width() > columns {
                    wrong.push(format!("{columns}: {line}: {} columns: {row}", row.width()));
                }
            }
            check(&format!("tables/{name}-{columns}.txt"), &ageless(&said), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
