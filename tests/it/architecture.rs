//! What holds for all files of the library, read from the sources.
//!
//! A module may import modules of strictly lower rungs. The table is the one of `src/lib.rs`. The words of the command
//! line are the program's, and an error has its cause in one place.

use std::fs;
use std::path::{Path, PathBuf};

const RUNGS: [&[&str]; 11] = [
    &["digest", "extent", "bounded", "json", "hint"],
    &["reference", "oci", "tar", "codec", "bolt"],
    &["toc", "ztoc"],
    &["source", "cache", "index"],
    &["resolve", "blob", "artifact"],
    &["external"],
    &["tree", "content", "layer"],
    &["prefetch"],
    &["fs", "erofs"],
    &["fuse"],
    &["mount"],
];

fn rung(module: &str) -> usize {
    let found = RUNGS.iter().position(|rung| rung.contains(&module));
    found.unwrap_or_else(|| panic!("module `{module}` is not in the table of rungs"))
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("src/bin") => {}
            true => sources(&path, out),
            false => out.push(path),
        }
    }
}

/// The modules named after `crate::` in a file, with the line they are named in.
fn edges(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for rest in code.split("crate::").skip(1) {
            let word = |s: &str| {
                s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            };
            match rest.strip_prefix('{') {
                Some(list) => {
                    let list = list.split('}').next().unwrap_or_default();
                    found.extend(list.split(',').map(|item| (number + 1, word(item.trim()))));
                }
                None => found.push((number + 1, word(rest))),
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

#[test]
fn modules_import_lower_rungs_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in files {
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        for (line, target) in edges(&fs::read_to_string(&path).unwrap()) {
            checked += 1;
            if target != module && rung(&target) >= rung(module) {
                wrong.push(format!("{}:{line}: {module} imports {target}", relative.display()));
            }
        }
    }
    assert!(checked > 50, "the reader of imports found only {checked}");
    assert!(wrong.is_empty(), "imports against the direction:\n{}", wrong.join("\n"));
}

#[test]
fn one_module_imports_fuser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let importers: Vec<_> = files
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains("fuser::"))
        })
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    let wrong: Vec<_> = importers.iter().filter(|path| !path.starts_with("fuse/")).collect();
    assert!(importers.len() > 1 && wrong.is_empty(), "{importers:?}");
}

#[test]
fn the_reader_of_imports_reads() {
    let text = "use crate::digest::Digest;\nuse crate::{tar, codec::Decoder};\n// crate::mount\n";
    let names: Vec<String> = edges(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["digest", "tar", "codec"]);
}

/// The string literals of a source, with the lines they begin in.
fn literals(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut line, mut rest) = (Vec::new(), 1, text);
    while let Some(at) = rest.find(['"', '\'', '/']) {
        line += rest[..at].matches('\n').count();
        let before_word = rest[..at].ends_with('r') || rest[..at].ends_with('#');
        rest = &rest[at..];
        let length = match rest.as_bytes() {
            [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
            // A character, not a lifetime.
            [b'\'', b'\\', ..] => 2 + rest[2..].find('\'').map_or(0, |end| end.max(1) + 1),
            [b'\'', ..] => {
                let letter = rest[1..].chars().next().map_or(1, char::len_utf8);
                if rest[1 + letter..].starts_with('\'') { letter + 2 } else { 1 }
            }
            [b'"', ..] if before_word && is_raw(text, text.len() - rest.len()) => {
                let end = rest[1..].find("\"#").or_else(|| rest[1..].find('"'));
                found.push((line, rest[1..1 + end.unwrap_or(0)].to_owned()));
                end.unwrap_or(0) + 2
            }
            [b'"', ..] => {
                let (mut end, bytes) = (1, rest.as_bytes());
                while end < bytes.len() && bytes[end] != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                found.push((line, rest[1..end].to_owned()));
                end + 1
            }
            _ => 1,
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Whether the quote there begins a raw string.
fn is_raw(text: &str, quote: usize) -> bool {
    let before = text[..quote].trim_end_matches('#');
    let name = before.strip_suffix('r').or_else(|| before.strip_suffix("br"));
    name.is_some_and(|name| !name.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether a text names a flag: `--word`, alone only as an argument for another program.
fn names_flag(literal: &str) -> bool {
    let begins = |at: usize| at == 0 || !literal[..at].ends_with(|c: char| c.is_alphanumeric());
    let is_word = |at: usize| literal[at + 2..].starts_with(|c: char| c.is_ascii_lowercase());
    let mut flags = literal.match_indices("--").map(|(at, _)| at);
    flags.any(|at| begins(at) && is_word(at)) && literal.contains(' ')
}

#[test]
fn the_library_speaks_of_no_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in files {
        let relative = path.strip_prefix(&root).unwrap().display().to_string();
        for (line, literal) in literals(&fs::read_to_string(&path).unwrap()) {
            checked += 1;
            if names_flag(&literal) || literal.contains("`ocifs ") {
                wrong.push(format!("{relative}:{line}: {literal}"));
            }
        }
    }
    assert!(checked > 1000, "the reader of literals found only {checked}");
    assert!(wrong.is_empty(), "words of the program:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_literals_reads() {
    let text =
        "f(\"a\\\"b\", '\"', r#\"c \"--d\"#, \"e\"); // \"f\"\nfn g<'a>(h: &'a str) {\"i --j\"}\n";
    let found: Vec<(usize, String)> = literals(text);
    let expected = [(1, "a\\\"b"), (1, "c \"--d"), (1, "e"), (2, "i --j")];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    assert!(["--a: b", "use --a", "(--ab)  "].into_iter().all(names_flag));
    assert!(!["--version", "d---r/x y", "xn--n3h x", "a -- b"].into_iter().any(names_flag));
}

/// The text of an error either holds that of its cause, or the error has it as its source: a caller that prints both
/// would print it twice. Here all have it in their texts.
#[test]
fn errors_have_their_cause_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for variant in text.split("#[error(").skip(1) {
            checked += 1;
            // Up to the next attribute with a message, or the end of the type.
            let variant = variant.split("\n}").next().unwrap();
            let (message, fields) = variant.split_once(")]").unwrap();
            let has_source = fields.contains("#[source]")
                || fields.contains("#[from]")
                || fields.contains(" source:");
            if has_source && message.trim() != "transparent" {
                let path = path.strip_prefix(&root).unwrap().display();
                wrong.push(format!("{path}: {message}"));
            }
        }
    }
    assert!(checked > 200, "only {checked} messages were found");
    assert!(wrong.is_empty(), "causes that are in both:\n{}", wrong.join("\n"));
}
