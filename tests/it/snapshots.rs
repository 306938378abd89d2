//! What the program says of itself and of common mistakes, at a fixed width, as files to review: `tests/snapshots`.
//!
//! After an intended change, `UPDATE_SNAPSHOTS=1 cargo test --test it snapshots` writes them again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::image::{Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// Runs the program in a folder that is its home, with nothing else in its environment.
fn ocifs(home: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocifs"));
    command.args(words).current_dir(home).env_clear();
    command.env("HOME", home).env("COLUMNS", "100").output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Compares what is said with a file, or writes that.
pub fn check(name: &str, said: &str, wrong: &mut Vec<String>) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots")).join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, said).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected != said {
        let mut lines = expected.lines().zip(said.lines());
        let first = lines.find(|(expected, said)| expected != said);
        wrong.push(format!("{name} differs, first where it has and the program says: {first:#?}"));
    }
}

/// The names of the verbs that a help text lists.
fn verbs(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        Some(name.to_owned()).filter(|name| !name.is_empty() && name != "help")
    });
    listed.collect()
}

#[test]
fn help_texts() {
    let home = tempfile::tempdir().unwrap();
    let (mut todo, mut seen, mut wrong) = (vec![Vec::<String>::new()], 0, Vec::new());
    while let Some(path) = todo.pop() {
        let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
        words.push("--help");
        let output = ocifs(home.path(), &words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        let help = text(output.stdout);
        todo.extend(verbs(&help).into_iter().map(|verb| [&path[..], &[verb]].concat()));
        let name = [&["ocifs".to_owned()], &path[..]].concat().join("-");
        check(&format!("help/{name}.txt"), &help, &mut wrong);
        seen += 1;
    }
    assert_eq!(seen, 37, "help texts");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let layer = tar(&[Entry::file("f", vec![b'x'; 4096])]);
    let image = ImageBuilder::new().layer(&layer, Compression::Gzip).build();
    write_oci_layout(&home.join("layout"), &[(Some("t"), &image)]).unwrap();
    fs::write(home.join("archive.tar"), "no archive").unwrap();
    fs::create_dir(home.join("M")).unwrap();
    let mut said = String::new();
    for line in [
        // Usage.
        "",
        "mout debian:12 M",
        "ls --plaform linux/arm64 debian:12",
        "ls",
        "cat debian:12",
        "mount debian:12",
        "mount x=debian:11 x=debian:12 M",
        "mount a/app:1 b/app:1 M",
        "mount M debian:12",
        "mount debian:/etc M",
        "ls debian:/etc",
        "mount --prefetch=push --kernel-metadata debian:12 M",
        "umount",
        "umount --all M",
        "verify --again --offline debian:12",
        // Values.
        "ls --platform a/b/c/d debian:12",
        "ls --timeout 0 debian:12",
        "ls --timeout 5x debian:12",
        "ls --max-layer-size much debian:12",
        "ls --max-zstd-window 4G debian:12",
        "ls --proof most debian:12",
        "ls --creds nothing debian:12",
        "cache du --cache-size -1",
        // References.
        "ls docker:/r.example/x",
        "ls ghcr.io",
        "ls Debian:12",
        "ls 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "ls debian@sha256:12",
        // Images.
        "ls ./missing.tar",
        "ls ./archive.tar",
        "ls oci:missing",
        "ls oci:layout:other",
        "ls oci:layout:t missing",
        "cat oci:layout:t missing",
        "ls --platform linux/riscv64 oci:layout:t",
        "ls --cache-dir other --max-layer-size 1K oci:layout:t",
        "ls --cache-dir other --max-metadata-size 1 oci:layout:t",
        "ls --offline 127.0.0.1:1/r:t",
        "ls --offline --check-access 127.0.0.1:1/r:t",
        "ls 127.0.0.1:1/r:t",
        "pull --cache-size 0 --cache-dir /proc/none oci:layout:t",
        "index push oci:layout:t",
        // Settings and credentials.
        "ls --authfile missing.json 127.0.0.1:1/r:t",
        "ls --content-store missing 127.0.0.1:1/r:t",
        // Mounts.
        "umount M",
        "umount missing",
        "status M",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = ocifs(home, &words);
        let code = output.status.code().unwrap();
        assert!(code != 0 && output.stdout.is_empty(), "{line}: {output:?}");
        said.push_str(&format!("$ ocifs {line}\n{}[{code}]\n\n", text(output.stderr)));
    }
    fs::create_dir_all(home.join(".config/ocifs")).unwrap();
    for settings in ["prof = \"any\"", "proof = \"most\"", "content-stores = [\"here\"]"] {
        fs::write(home.join(".config/ocifs/config.toml"), settings).unwrap();
        let output = ocifs(home, &["ls", "127.0.0.1:1/r:t"]);
        let stderr = text(output.stderr);
        said.push_str(&format!("$ # config.toml: {settings}\n{stderr}\n"));
    }
    let said = said.replace(&home.display().to_string(), "HOME");
    let mut wrong = Vec::new();
    check("errors.txt", &said, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
