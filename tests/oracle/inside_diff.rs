//! `ocifs diff` against two unpacked trees: what lstat(2) and diff(1) say of them, and what git makes of the patch.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::Value;

use crate::inside_find::trees;
use crate::support::tarball::Entry;
use crate::unpacked::Unpacked;

/// Pairs of trees that are compared.
const CASES: u32 = 60;

/// Paths below a directory, with what lstat(2) says.
fn files(top: &Path) -> BTreeMap<Vec<u8>, Metadata> {
    let mut files = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                todo.push(path.clone());
            }
            let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
            files.insert(name, metadata);
        }
    }
    files
}

/// In what two files differ, in the words of the JSON.
fn differs(top: [&Path; 2], path: &[u8], was: &Metadata, is: &Metadata) -> Vec<&'static str> {
    let at = |top: &Path| top.join(std::ffi::OsStr::from_bytes(path));
    let kind = |m: &Metadata| m.file_type();
    let both = |same: bool| kind(was) == kind(is) && !same;
    let content = || fs::read(at(top[0])).unwrap() == fs::read(at(top[1])).unwrap();
    let target = || fs::read_link(at(top[0])).unwrap() == fs::read_link(at(top[1])).unwrap();
    let is_device = kind(was).is_char_device() || kind(was).is_block_device();
    let is_known = [
        (kind(was) != kind(is), "type"),
        (both(!was.is_file() || kind(was) != kind(is) || content()), "content"),
        (both(!was.is_symlink() || kind(was) != kind(is) || target()), "target"),
        (both(!is_device || was.rdev() == is.rdev()), "device"),
        (was.mode() & 0o7777 != is.mode() & 0o7777, "mode"),
        ((was.uid(), was.gid()) != (is.uid(), is.gid()), "owner"),
        ((was.mtime(), was.mtime_nsec()) != (is.mtime(), is.mtime_nsec()), "mtime"),
    ];
    is_known.into_iter().filter(|(differs, _)| *differs).map(|(_, word)| word).collect()
}

/// What the program says: path to what it has been, and in what it differs. Renames are taken apart.
fn said(document: &Value) -> BTreeMap<Vec<u8>, (bool, bool, Vec<String>)> {
    use base64::Engine;
    let name = |row: &Value, key: &str| match row[format!("{key}_base64")].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        None => row[key].as_str().unwrap().as_bytes().to_vec(),
    };
    let mut rows = BTreeMap::new();
    for row in document["changes"].as_array().unwrap() {
        let path = name(row, "path");
        let words = row["differs"].as_array().unwrap().iter();
        let words = words.map(|word| word.as_str().unwrap().to_owned()).collect();
        let row = match row["change"].as_str().unwrap() {
            "added" => (false, true, words),
            "removed" => (true, false, words),
            "renamed" => {
                rows.insert(name(row, "renamed_from"), (true, false, Vec::new()));
                (false, true, Vec::new())
            }
            _ => (true, true, words),
        };
        rows.insert(path, row);
    }
    rows
}

fn check(old: &Unpacked, new: &Unpacked) -> Result<(), TestCaseError> {
    let (old_top, new_top) = (old.top(), new.top());
    let (was, is) = (files(&old_top), files(&new_top));
    let mut expected = BTreeMap::new();
    for path in was.keys().chain(is.keys()) {
        let words = match (was.get(path), is.get(path)) {
            (Some(was), Some(is)) => differs([&old_top, &new_top], path, was, is),
            _ => Vec::new(),
        };
        let (in_old, in_new) = (was.contains_key(path), is.contains_key(path));
        if !in_old || !in_new || !words.is_empty() {
            let words = words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            expected.insert(path.clone(), (in_old, in_new, words));
        }
    }
    let mut command = old.home.ocifs();
    command.args(["diff", "--json", "--metadata"]).arg(old.name()).arg(new.name());
    let output = command.output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut said = said(&document);
    // The root is the tempdir's in one of the two views.
    said.remove(&Vec::new());
    prop_assert_eq!(&said, &expected);
    let code = i32::from(!document["changes"].as_array().unwrap().is_empty());
    prop_assert_eq!(output.status.code(), Some(code));
    // What diff(1) calls the same has the same names and content. It calls no two devices or pipes the same.
    let is_special = |m: &Metadata| !(m.is_file() || m.is_dir() || m.is_symlink());
    if was.values().chain(is.values()).any(is_special) {
        return Ok(());
    }
    let mut diff = Command::new("diff");
    diff.args(["-rq", "--no-dereference"]).args([&old_top, &new_top]);
    let is_same = diff.output().unwrap().status.code() == Some(0);
    let of_content = |(_, (in_old, in_new, words)): (&Vec<u8>, &(bool, bool, Vec<String>))| {
        let is_told = |word: &String| ["type", "content", "target", "device"].contains(&&**word);
        !in_old || !in_new || words.iter().any(is_told)
    };
    prop_assert_eq!(is_same, !said.iter().any(of_content));
    Ok(())
}

#[test]
fn differences_are_those_of_the_unpacked_trees() {
    let (old, new) = (Unpacked::new(&[]), Unpacked::new(&[]));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(trees(), trees()), |(a, b)| {
        old.make(&a);
        new.make(&b);
        check(&old, &new)?;
        // Mostly the same, as versions are.
        let more: Vec<Entry> = a.iter().cloned().chain(b.into_iter().take(1)).collect();
        new.make(&more);
        check(&old, &new)
    });
    if let Err(TestError::Fail(reason, (a, b))) = &result {
        panic!("{reason}\n{a:#?}\n{b:#?}");
    }
    result.expect("the generator works");
}

/// What `git apply` makes of the patch and the old files: their content, targets and whether they may be executed.
#[test]
fn git_applies_the_patch() {
    let text = |lines: std::ops::Range<usize>, changed: &[usize]| -> Vec<u8> {
        let line = |at: usize| {
            if changed.contains(&at) { format!("new {at}\n") } else { format!("{at}\n") }
        };
        lines.map(line).collect::<String>().into_bytes()
    };
    let old = [
        Entry::dir("d"),
        Entry::file("d/changed", text(0..100, &[])),
        Entry::file("d/moved", text(200..220, &[])),
        Entry::file("d/gone", "gone\n"),
        Entry::file("no-newline", "a\nb"),
        Entry::file("executable", "#!/bin/sh\n"),
        Entry::symlink("link", "d/changed"),
        Entry::file("becomes-a-link", "text\n"),
        Entry::file("a name with \"quotes\"\tand \u{e9}", "1\n"),
        Entry::file("emptied", "x\n"),
    ];
    let new = [
        Entry::dir("d"),
        Entry::file("d/changed", text(0..100, &[0, 3, 50, 57, 99])),
        Entry::dir("e"),
        Entry::file("e/moved", text(200..220, &[])).mode(0o755),
        Entry::file("e/new", "new"),
        Entry::file("no-newline", "a\nb\n"),
        Entry::file("executable", "#!/bin/sh\n").mode(0o755),
        Entry::symlink("link", "e/new"),
        Entry::symlink("becomes-a-link", "d"),
        Entry::file("a name with \"quotes\"\tand \u{e9}", "2\n"),
        Entry::file("emptied", ""),
        Entry::file("made-empty", ""),
    ];
    let (a, b) = (Unpacked::new(&old), Unpacked::new(&new));
    let patch = a.home.ocifs().args(["diff", "--patch"]).arg(a.name()).arg(b.name()).output();
    let patch = patch.unwrap();
    assert_eq!(patch.status.code(), Some(1), "{}", String::from_utf8_lossy(&patch.stderr));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("patch");
    fs::write(&place, &patch.stdout).unwrap();
    let mut git = Command::new("git");
    git.args(["apply", "--unsafe-paths"]).arg(&place).current_dir(a.top());
    let apply = git.env("GIT_CEILING_DIRECTORIES", "/").output().unwrap();
    assert!(
        apply.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&apply.stderr),
        String::from_utf8_lossy(&patch.stdout)
    );
    let (was, is) = (files(&a.top()), files(&b.top()));
    let of_git =
        |files: &BTreeMap<Vec<u8>, Metadata>, top: &Path| -> Vec<(Vec<u8>, bool, Vec<u8>)> {
            let row = |(path, metadata): (&Vec<u8>, &Metadata)| {
                let place = top.join(std::ffi::OsStr::from_bytes(path));
                let content = match metadata.is_symlink() {
                    true => fs::read_link(place).unwrap().into_os_string().into_encoded_bytes(),
                    false => fs::read(place).unwrap(),
                };
                (path.clone(), metadata.mode() & 0o100 != 0, content)
            };
            files.iter().filter(|(_, metadata)| !metadata.is_dir()).map(row).collect()
        };
    assert_eq!(of_git(&was, &a.top()), of_git(&is, &b.top()));
}
