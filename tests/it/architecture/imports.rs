//! Which file uses what of which other file, read from the sources.
//!
//! Paths are followed to the file that they end in, through re-exports: `super::Error` leads to `error.rs` where the
//! parent says `pub use error::Error`. What a file re-exports and the modules that it declares are no imports of
//! its own. Code of unit tests does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path: `["fuse", "kernel"]` is `crate::fuse::kernel`.
type ModulePath = Vec<String>;

/// The files below a folder, by the modules that they are.
pub struct Sources {
    modules: BTreeMap<ModulePath, File>,
}

struct File {
    path: PathBuf,
    code: String,
    /// Names that it hands on, and what they stand for.
    exports: HashMap<String, ModulePath>,
    /// Modules whose items it hands on without naming them.
    globs: Vec<ModulePath>,
}

/// A `use` declaration, flattened.
struct Use {
    path: Vec<String>,
    alias: String,
    is_export: bool,
}

impl Sources {
    /// Reads a folder whose file `root` is the crate's.
    pub fn read(folder: &Path, root: &str) -> Sources {
        let mut sources = Sources { modules: BTreeMap::new() };
        let mut todo = vec![folder.to_owned()];
        while let Some(place) = todo.pop() {
            for entry in fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                let relative = path.strip_prefix(folder).unwrap();
                match path.is_dir() {
                    true if relative == Path::new("bin") => {}
                    true => todo.push(path),
                    // Definitions of messages lie among them.
                    false if path.extension().is_none_or(|end| end != "rs") => {}
                    false => {
                        let mut module: ModulePath = relative
                            .with_extension("")
                            .iter()
                            .map(|name| name.to_str().unwrap().to_owned())
                            .collect();
                        if module == [root] {
                            module.clear();
                        }
                        if module.last().is_some_and(|name| name == "tests") {
                            continue;
                        }
                        let code = code(&fs::read_to_string(&path).unwrap());
                        let path = relative.to_owned();
                        let (exports, globs) = (HashMap::new(), Vec::new());
                        sources.modules.insert(module, File { path, code, exports, globs });
                    }
                }
            }
        }
        let all: Vec<ModulePath> = sources.modules.keys().cloned().collect();
        for module in all {
            let found: Vec<Use> = uses(&sources.modules[&module].code).collect();
            for Use { path, alias, .. } in found.into_iter().filter(|found| found.is_export) {
                let Some(mut target) = sources.absolute(&module, &path) else { continue };
                let file = sources.modules.get_mut(&module).unwrap();
                match alias.as_str() {
                    "*" => {
                        target.pop();
                        file.globs.push(target);
                    }
                    _ => drop(file.exports.insert(alias, target)),
                }
            }
        }
        sources
    }

    /// A path as seen from a module; `None` if it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            name => {
                let child = [module, &[name.to_owned()]].concat();
                if !self.modules.contains_key(&child) {
                    return None;
                }
                child
            }
        };
        for name in rest {
            match name.as_str() {
                "super" => drop(base.pop()),
                name => base.push(name.to_owned()),
            }
        }
        Some(base)
    }

    /// The module whose file defines what a path names.
    fn file_of(&self, path: &[String]) -> Option<ModulePath> {
        let mut module = Vec::new();
        for (at, name) in path.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let file = &self.modules[&module];
            if let Some(target) = file.exports.get(name).filter(|target| target[..] != path[..]) {
                return self.file_of(&[&target[..], &path[at + 1..]].concat());
            }
            if name.starts_with(char::is_uppercase)
                && let Some(glob) = file.globs.first()
            {
                return Some(glob.clone());
            }
            break;
        }
        Some(module)
    }

    /// For each file, the files that it uses something of.
    pub fn edges(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut edges: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for (module, file) in &self.modules {
            let targets = edges.entry(&file.path).or_default();
            for path in self.paths(module, &file.code) {
                if let Some(target) = self.file_of(&path)
                    && target != *module
                {
                    targets.insert(&self.modules[&target].path);
                }
            }
        }
        edges
    }

    /// What each file names of the crate, by its path as it stands there: uses, re-exports and paths in code.
    pub fn names(&self) -> Vec<(&Path, ModulePath)> {
        let mut found = Vec::new();
        for (module, file) in &self.modules {
            let uses = uses(&file.code).filter_map(|found| self.absolute(module, &found.path));
            let all = uses.chain(self.paths(module, &file.code));
            found.extend(all.map(|path| (file.path.as_path(), path)));
        }
        found
    }

    /// The number of lines of code in each file, without those that are empty, comments or unit tests.
    pub fn lines(&self) -> Vec<(usize, &Path)> {
        let count = |file: &File| file.code.lines().filter(|line| !line.trim().is_empty()).count();
        self.modules.values().map(|file| (count(file), file.path.as_path())).collect()
    }

    /// All paths of a file that begin in the crate.
    fn paths(&self, module: &[String], code: &str) -> Vec<ModulePath> {
        let mut found = Vec::new();
        let mut aliases: HashMap<String, ModulePath> = HashMap::new();
        for Use { path, alias, is_export } in uses(code) {
            let Some(target) = self.absolute(module, &path) else { continue };
            // What is used by that name further down is an import all the same.
            if !is_export {
                // A module by itself is none: what of it is used stands further down.
                match self.modules.contains_key(&target) {
                    true => {}
                    false => found.push(target.clone()),
                }
            }
            if alias != "*" {
                aliases.insert(alias, target);
            }
        }
        let without_uses: String = statements(code).filter(|s| !is_use(s)).collect();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in without_uses.split(|c| !is_part(c)) {
            let path: Vec<String> = word.split("::").map(str::to_owned).collect();
            if path.len() < 2 || path.iter().any(|part| part.is_empty() || part.contains(':')) {
                let first = path.first().and_then(|first| aliases.get(first));
                found.extend(first.filter(|_| path.len() == 1).cloned());
                continue;
            }
            match aliases.get(&path[0]) {
                Some(target) => found.push([&target[..], &path[1..]].concat()),
                None => found.extend(self.absolute(module, &path)),
            }
        }
        // A declaration of a type or function may have the name of an alias of nothing: these are no modules.
        found.retain(|path| !self.modules.contains_key(path));
        found
    }
}

/// Code without comments, texts and unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\n#[allow").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut out = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        // A text between quotes names nothing.
        for (at, part) in line.split('"').enumerate() {
            if at % 2 == 0 {
                out.push_str(part);
            }
            out.push(' ');
        }
        out.push('\n');
    }
    out
}

/// Pieces of code up to each semicolon or brace that opens a block of code.
fn statements(code: &str) -> impl Iterator<Item = String> {
    let mut found = vec![String::new()];
    let mut in_use = false;
    for c in code.chars() {
        let last = found.last_mut().unwrap();
        last.push(c);
        if c == '{' && !in_use {
            in_use = is_use(last);
        }
        if c == ';' || (!in_use && matches!(c, '{' | '}')) {
            in_use = false;
            found.push(String::new());
        }
    }
    found.into_iter()
}

fn is_use(statement: &str) -> bool {
    declaration(statement).is_some()
}

/// What stands behind `use`, and whether it is handed on.
fn declaration(statement: &str) -> Option<(&str, bool)> {
    let mut text = statement.trim_start();
    while text.starts_with("#[") || text.starts_with("#![") {
        text = text.split_once(']')?.1.trim_start();
    }
    let (text, is_export) = match text.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => (rest.split_once(')')?.1, true),
        Some(rest) => (rest, true),
        None => (text, false),
    };
    text.trim_start().strip_prefix("use ").map(|rest| (rest, is_export))
}

fn uses(code: &str) -> impl Iterator<Item = Use> {
    let mut found = Vec::new();
    for statement in statements(code) {
        if let Some((tree, is_export)) = declaration(&statement) {
            let tree: String =
                tree.trim_end_matches(';').split_whitespace().collect::<Vec<_>>().join(" ");
            flatten(&[], &tree, is_export, &mut found);
        }
    }
    found.into_iter()
}

/// Takes `a::{b, c as d}` apart.
fn flatten(prefix: &[String], tree: &str, is_export: bool, out: &mut Vec<Use>) {
    let tree = tree.trim();
    let words = |text: &str| -> Vec<String> {
        let parts = text.split("::").map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    if let Some((head, rest)) = tree.split_once('{') {
        let prefix = [prefix, &words(head)].concat();
        let (mut depth, mut start) = (0, 0);
        let inner = rest.strip_suffix('}').unwrap_or(rest);
        for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inner[start..at].trim().is_empty() {
                        flatten(&prefix, &inner[start..at], is_export, out);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let mut path = [prefix, &words(path)].concat();
    if path.last().is_some_and(|name| name == "self") && path.len() > 1 {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        out.push(Use { path, alias: alias.unwrap_or(last), is_export });
    }
}

/// Files that use each other, directly or through others: each set is one circle.
pub fn circles<'a>(edges: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<Vec<&'a Path>> {
    let reach = |from: &'a Path| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(at) = todo.pop() {
            todo.extend(edges.get(at).into_iter().flatten().filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        edges.keys().map(|file| (*file, reach(file))).collect();
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for (file, targets) in &reached {
        if targets.contains(file) && !done.contains(file) {
            let mutual = |other: &&&Path| reached[**other].contains(file);
            let circle: Vec<&Path> = targets.iter().filter(mutual).copied().collect();
            done.extend(circle.iter().copied());
            found.push(circle);
        }
    }
    found
}
