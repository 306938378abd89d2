//! The direction of dependencies, read from the sources.
//!
//! A module may import modules of strictly lower rungs. The table is the one of `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

const RUNGS: [&[&str]; 12] = [
    &["digest", "extent", "bounded", "json"],
    &["reference", "oci", "tar", "codec", "bolt"],
    &["toc", "ztoc"],
    &["source", "cache", "index"],
    &["resolve", "blob", "artifact"],
    &["external"],
    &["tree", "content", "layer"],
    &["prefetch"],
    &["fs", "erofs"],
    &["image"],
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
