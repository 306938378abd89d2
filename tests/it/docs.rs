//! What the documentation says of the program and of the tests, held against them.
//!
//! (That its commands do what it says is `manual` in `tests/oracle`.)

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::markdown::{page, repository};

/// Why a test that the documentation names is none: no such tier, file or function.
fn missing(name: &str) -> Option<String> {
    let Some((tier, path)) = name.split_once(' ') else {
        return Some(format!("`{name}` has no tier"));
    };
    let Some((module, function)) = path.rsplit_once("::") else {
        return Some(format!("`{name}` has no module"));
    };
    let file = format!("{}.rs", module.replace("::", "/"));
    let folders: &[&str] = match tier {
        "unit" => &["src", "src/bin/ocifs"],
        "faults" => &["tests/faults"],
        "it" => &["tests/it"],
        "oracle" => &["tests/oracle"],
        _ => return Some(format!("`{name}`: there is no tier `{tier}`")),
    };
    let files: Vec<PathBuf> =
        folders.iter().map(|folder| repository().join(folder).join(&file)).collect();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let mut is_test = false;
    for text in texts {
        for line in text.lines().map(str::trim_start) {
            if line.starts_with(&format!("fn {function}(")) && is_test {
                return None;
            }
            // Other attributes may stand between the two.
            is_test = line == "#[test]" || is_test && line.starts_with("#[");
        }
    }
    Some(format!("`{name}`: no such test in {file}"))
}

#[test]
fn tests_that_are_named_exist() {
    let page = page("docs/threat-model.md");
    let names: BTreeSet<String> = page
        .spans()
        .into_iter()
        .filter(|span| span.contains("::") && !span.contains("TEST"))
        .collect();
    assert!(names.len() > 100, "{names:?}");
    let wrong: Vec<String> = names.iter().filter_map(|name| missing(name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tests_that_are_none_are_found() {
    assert_eq!(missing("it docs::tests_that_are_named_exist"), None);
    for wrong in [
        "it docs::no_such_test",
        "it docs::missing",
        "faults docs::tests_that_are_named_exist",
        "unit no::such_module",
        "docs::tests_that_are_named_exist",
        "it main",
        "tests docs::tests_that_are_named_exist",
    ] {
        assert!(missing(wrong).is_some(), "{wrong}");
    }
}
