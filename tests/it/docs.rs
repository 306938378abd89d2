//! What the documentation says of the program and of the tests, held against them.
//!
//! (That its commands do what it says is `manual` in `tests/faults`.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ocifs::reference::TRANSPORTS;

use crate::support::markdown::{Page, handbook, page, repository};

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
        "unit" => &["src", "src/bin/ocifs", "src/bin/ocifs-snapshotter"],
        "engines" => &["tests/engines"],
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
    let mut names = BTreeSet::new();
    for (path, least) in [("docs/threat-model.md", 100), ("docs/reliability.md", 30)] {
        let spans = page(path).spans().into_iter();
        let here: BTreeSet<String> =
            spans.filter(|span| span.contains("::") && !span.contains("TEST")).collect();
        assert!(here.len() > least, "{path}: {here:?}");
        names.extend(here);
    }
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

/// Links in the repository lead to a file that is there, and to a heading of it.
#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for page in handbook().into_iter().chain(["CONTRIBUTING.md", "CHANGELOG.md"].map(page)) {
        let folder = page.path.parent().unwrap().to_owned();
        for link in page.links().into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let place = match file {
                "" => repository().join(&page.path),
                file => repository().join(&folder).join(file),
            };
            assert!(place.exists(), "{}: {link}", page.path.display());
            if !anchor.is_empty() {
                let target = Page { text: fs::read_to_string(&place).unwrap(), path: place };
                let anchors = target.anchors();
                assert!(anchors.iter().any(|each| each == anchor), "{link}: {anchors:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} links");
}

/// Files of the repository that the text names are there.
#[test]
fn files_that_are_named_exist() {
    let places = ["src/", "tests/", "scripts/", "docs/", "findings/", ".ci/"];
    let mut checked = 0;
    for page in handbook().into_iter().chain([page("CONTRIBUTING.md")]) {
        // What stands for a name is in capitals.
        let stands_for = |word: &str| word.contains("NAME") || word.contains("VERB");
        for span in page.spans() {
            let path = span.split(' ').next().unwrap_or_default();
            if places.iter().any(|place| path.starts_with(place)) && !stands_for(path) {
                let is_there = repository().join(path).exists();
                assert!(is_there, "{}: {path}", page.path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked} files");
}

fn ocifs(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ocifs")).args(words).output().unwrap()
}

/// The words of each command in a text that calls the program.
fn calls(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default());
    let ends = [';', '|', '&', '>', '<', '(', ')', '\''];
    let commands = lines.flat_map(|line| line.split(ends)).map(|command| {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let start = usize::from(words.first().is_some_and(|word| word == "$"));
        words[start..].to_vec()
    });
    commands.filter(|words| words.first().is_some_and(|word| word == "ocifs")).collect()
}

/// Every call of the program in the documentation is one that the program understands: its verb, flags, their
/// values, and references. (`--help` ends it once all words before it were read.)
#[test]
fn calls_are_understood() {
    // What stands for something else.
    const STANDS_FOR: [(&str, &str); 6] = [
        ("REF", "debian"),
        ("REPO", "debian"),
        ("DIR", "m"),
        ("PATH", "f"),
        ("DIGEST", "0123456789ab"),
        ("\"$id\"", "0123456789ab"),
    ];
    let mut checked = 0;
    for page in handbook().into_iter().chain([page("CONTRIBUTING.md")]) {
        let blocks = page.blocks();
        let blocks = blocks.iter().filter(|block| matches!(block.language, "sh" | "console"));
        let texts = blocks.map(|block| block.text.to_owned()).chain(page.spans());
        for call in texts.flat_map(|text| calls(&text)) {
            let words = call[1..].iter().map(|word| {
                let stands = STANDS_FOR.iter().find(|(name, _)| name == word);
                stands.map_or(word.trim_matches('"'), |(_, text)| text)
            });
            let mut words: Vec<&str> = words.collect();
            // Behind the image it would be a word of the program.
            let end = if words.first() == Some(&"run") { 1 } else { words.len() };
            words.insert(end, "--help");
            let output = ocifs(&words);
            assert!(output.status.success(), "{}: {words:?}: {output:?}", page.path.display());
            // It is the help for this verb.
            let help = String::from_utf8(output.stdout).unwrap();
            if let Some(verb) = words.iter().find(|word| !word.starts_with('-')) {
                let usage = format!("Usage: ocifs {verb} ");
                assert!(help.contains(&usage), "{}: {words:?}", page.path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked} calls");
}

#[test]
fn calls_that_are_wrong_are_found() {
    let found = calls("cd x && ocifs ls a # ocifs ls b\n$ ocifs cat \\\n b | wc");
    assert_eq!(found, [vec!["ocifs", "ls", "a"], vec!["ocifs", "cat", "b"]]);
    for wrong in [
        &["ls", "--no-such-flag"][..],
        &["no-such-verb"],
        &["ls", "--timeout", "x"],
        &["ls", "ghcr.io"],
    ] {
        assert!(!ocifs(&[wrong, &["--help"]].concat()).status.success(), "{wrong:?}");
    }
}

/// The long flags of all verbs, as `-h` lists them.
fn flags() -> BTreeSet<String> {
    let verbs = |words: &[&str]| -> Vec<String> {
        let help = String::from_utf8(ocifs(words).stdout).unwrap();
        let list = help.split("Commands:\n").nth(1).unwrap_or_default().lines();
        let names = list
            .take_while(|line| line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let mut found = BTreeSet::new();
    for verb in verbs(&["-h"]) {
        let inner = verbs(&[&verb, "-h"]);
        let inner = inner.iter().map(String::as_str).map(|name| vec![verb.as_str(), name, "-h"]);
        for words in inner.chain([vec![verb.as_str(), "-h"]]) {
            let help = String::from_utf8(ocifs(&words).stdout).unwrap();
            for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
                let mut words = line.split([' ', '[', '.', ',']);
                found.extend(words.find(|word| word.starts_with("--")).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn every_flag_is_described() {
    let flags = flags();
    assert!(flags.len() > 35 && flags.contains("--max-size"), "{flags:?}");
    let text: String = handbook().into_iter().map(|page| page.text).collect();
    let is_named = |flag: &String| {
        text.match_indices(flag).any(|(at, _)| {
            !text[at + flag.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-')
        })
    };
    // They are called `-v` and `--help` in the text, as by all programs.
    let usual = ["--version", "--verbose"];
    let missing: Vec<_> =
        flags.iter().filter(|flag| !is_named(flag) && !usual.contains(&flag.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What the sources say, without line ends: a long string has some.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&sources(&path)),
            false => text.push_str(&fs::read_to_string(&path).unwrap()),
        }
    }
    let lines: Vec<&str> = text.lines().map(|line| line.trim().trim_end_matches('\\')).collect();
    lines.concat().replace('`', "").replace("{FUSERMOUNT}", "fusermount3")
}

/// The messages that the page of troubles explains are those of the program.
#[test]
fn messages_are_those_of_the_program() {
    const OF_THE_KERNEL: [&str; 3] = [
        "Input/output error",
        "Transport endpoint is not connected",
        "/dev/fuse: Permission denied",
    ];
    let (page, sources) = (page("docs/troubleshooting.md"), sources(&repository().join("src")));
    let rows = page.text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| line.split(" | ").next().unwrap());
    let messages: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(messages.len() > 25, "{messages:?}");
    let messages = messages.into_iter().filter(|message| !OF_THE_KERNEL.contains(message));
    let parts = messages.flat_map(|message| message.split('\u{2026}').map(str::trim));
    let parts = parts.filter(|part| part.len() > 3 && *part != "/dev/fuse:");
    let missing: Vec<&str> = parts.filter(|part| !sources.contains(part)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The table of references has each transport, written as `--help` has it, in that order.
#[test]
fn the_table_of_references_has_all_transports() {
    let page = page("docs/images-and-stores.md");
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let is_form =
        |row: &&str| TRANSPORTS.iter().any(|each| row.starts_with(&format!("{}:", each.word)));
    let written: Vec<&str> = rows.filter(is_form).collect();
    assert_eq!(written, TRANSPORTS.map(|transport| transport.form));
}
