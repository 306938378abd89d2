//! What holds for all files, read from the sources.
//!
//! A module of the library may import modules of strictly lower rungs; the table is the one of `src/lib.rs`. Files form
//! no circle, neither in the library nor in the program, and are short enough to hold one idea. The words of the
//! command line are the program's, and an error has its cause in one place.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use imports::{Sources, circles};

const RUNGS: [&[&str]; 13] = [
    &["digest", "extent", "extents", "bounded", "json", "hint", "httpd"],
    &["reference", "oci", "tar", "codec", "bolt", "metrics"],
    &["toc", "ztoc", "artifact"],
    &["source", "cache", "index"],
    &["resolve", "blob", "index_artifact"],
    &["external"],
    &["tree", "content", "layer"],
    &["prefetch"],
    &["fs", "erofs"],
    &["image", "packages"],
    &["space"],
    &["fuse"],
    &["mount"],
];

/// The most lines of code in a file, without unit tests, comments and empty lines; and in the half of the files that
/// are shorter.
const MAX_LINES: usize = 600;
const MAX_MEDIAN_LINES: usize = 200;

fn rung(module: &str) -> usize {
    let found = RUNGS.iter().position(|rung| rung.contains(&module));
    found.unwrap_or_else(|| panic!("module `{module}` is not in the table of rungs"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn library() -> Sources {
    Sources::read(&root(), "lib")
}

fn program() -> Sources {
    Sources::read(&root().join("bin/ocifs"), "main")
}

fn snapshotter() -> Sources {
    Sources::read(&root().join("bin/ocifs-snapshotter"), "main")
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

#[test]
fn modules_import_lower_rungs_only() {
    let library = library();
    let (mut checked, mut wrong) = (0, Vec::new());
    for (file, path) in library.names() {
        let first = file.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let Some(target) = path.first().filter(|target| module != "lib" && *target != module)
        else {
            continue;
        };
        checked += 1;
        if rung(target) >= rung(module) {
            wrong.push(format!("{}: {module} imports {}", file.display(), path.join("::")));
        }
    }
    assert!(checked > 1000, "the reader of imports found only {checked}");
    assert!(wrong.is_empty(), "imports against the direction:\n{}", wrong.join("\n"));
}

#[test]
fn files_form_no_circles() {
    for (sources, least) in [(library(), 500), (program(), 100), (snapshotter(), 20)] {
        let edges = sources.edges();
        let count: usize = edges.values().map(|targets| targets.len()).sum();
        assert!(count > least, "the reader of imports found only {count}");
        assert_eq!(circles(&edges), Vec::<Vec<&Path>>::new());
    }
}

/// gRPC comes with a great deal of code of others, and none of it is in the program that most use.
#[test]
fn only_the_snapshotter_has_a_runtime() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    sources(&root().join("bin/ocifs"), &mut files);
    let crates = ["tokio", "tonic", "prost", "redb"];
    assert!(files.len() > 300, "only {} files were found", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let uses = |name: &&str| text.contains(&format!("{name}::"));
        assert_eq!(crates.iter().find(|name| uses(name)), None, "{}", path.display());
    }
}

#[test]
fn files_hold_one_idea() {
    let (library, program, snapshotter) = (library(), program(), snapshotter());
    let mut lines = [library.lines(), program.lines(), snapshotter.lines()].concat();
    lines.sort();
    let long: Vec<_> = lines.iter().filter(|(lines, _)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "files of more than {MAX_LINES} lines of code: {long:?}");
    let (median, _) = lines[lines.len() / 2];
    assert!((1..=MAX_MEDIAN_LINES).contains(&median), "the median is {median}");
}

#[test]
fn one_module_imports_fuser() {
    let root = root();
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

/// Uses over several lines, in each other, renamed, re-exported and in code; not those of comments, texts and tests.
#[test]
fn the_reader_of_imports_reads() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "pub mod a;\npub mod b;\n");
    write("a.rs", "mod error;\nmod low;\npub use error::Error;\n// crate::b::Never\n");
    write("a/error.rs", "use std::fmt;\npub struct Error;\n");
    write("a/low.rs", "use super::Error;\nfn f() -> &'static str { \"crate::b::Never\" }\n");
    write(
        "b.rs",
        "use crate::{\n    a::{\n        self,\n        Error as E,\n    },\n};\nfn f(e: E) { a::low::f() }\n\
         #[cfg(test)]\nmod tests { use crate::c::Never; }\n",
    );
    write("c.rs", "fn f() { crate::d::g(super::d::h()) }\n");
    write("d.rs", "use crate::c::f;\npub fn g() {}\n");
    let sources = Sources::read(folder.path(), "lib");
    let edges = sources.edges();
    let edges: Vec<String> = edges
        .iter()
        .flat_map(|(from, to)| to.iter().map(|to| format!("{} {}", from.display(), to.display())))
        .collect();
    let expected =
        ["a/low.rs a/error.rs", "b.rs a/error.rs", "b.rs a/low.rs", "c.rs d.rs", "d.rs c.rs"];
    assert_eq!(edges, expected);
    assert_eq!(circles(&sources.edges()), [[Path::new("c.rs"), Path::new("d.rs")]]);
    assert!(sources.lines().contains(&(7, Path::new("b.rs"))), "{:?}", sources.lines());
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
            let variant = variant.split(");\n").next().unwrap();
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
