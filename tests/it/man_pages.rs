//! The manual pages that `scripts/dist` puts into packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The pages by name, written with variables set that the program knows.
fn pages(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocifs"));
    command.arg("man-pages").arg(folder.path()).env_clear().envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    names
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

/// There is one for each help text: `tests/snapshots/help` has those.
#[test]
fn each_verb_has_a_page() {
    let pages = pages(&[]);
    let help = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/help");
    let texts = fs::read_dir(help).unwrap().map(|entry| entry.unwrap().file_name());
    let mut expected: Vec<String> =
        texts.map(|name| name.into_string().unwrap().replace(".txt", ".1")).collect();
    expected.sort();
    assert_eq!(pages.keys().cloned().collect::<Vec<_>>(), expected);
    let mount = &pages["ocifs-mount.1"];
    for words in [".TH ocifs-mount 1", "ocifs 0.", "OCIFS_CACHE_DIR", "\\-\\-allow\\-other"] {
        assert!(mount.contains(words), "no `{words}` in {mount}");
    }
}

#[test]
fn pages_depend_on_nothing_around() {
    let here = [("COLUMNS", "30"), ("OCIFS_CACHE_DIR", "/srv/cache"), ("OCIFS_PROOF", "full")];
    assert_eq!(pages(&here), pages(&[]));
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocifs"));
    let output = command.args(["man-pages", "/nonexistent/folder"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("/nonexistent/folder/ocifs"), "{stderr}");
}
