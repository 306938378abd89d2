//! Short-name aliases: what a name without a registry means (containers-registries.conf(5),
//! "SHORT-NAME RESOLUTION").
//!
//! ```toml
//! [aliases]
//! "fedora" = "registry.fedoraproject.org/fedora"
//! "app" = ""                                      # takes back what another file says
//! ```
//!
//! The table stands in `registries.conf` and its drop-ins, which distributions ship for well-known
//! names, and in a file of its own (`short-name-aliases.conf`), where podman notes what the user has
//! chosen. A name is looked up as it was written, without tag and digest, which are kept. It has to be
//! short and its target must not be; neither may have a tag or digest. As in podman, a file with
//! one that is wrong is not used in part: it is an error, which tells all that are wrong.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{Error, read_text, toml_words};
use crate::reference::Reference;

/// Aliases by their names.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<String, Alias>);

/// What an alias stands for.
#[derive(Debug)]
pub(super) struct Alias {
    /// A repository, by whatever tag; `None` if there is to be no alias.
    pub(super) target: Option<Reference>,
    /// The file that says so.
    pub(super) path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    aliases: BTreeMap<String, String>,
}

impl Aliases {
    /// Reads a file of aliases alone, which need not exist.
    ///
    /// # Errors
    /// It can't be read or understood.
    pub(super) fn read(path: &Path) -> Result<Aliases, Error> {
        let invalid = |what| Error::Invalid { path: path.to_owned(), what };
        let mut aliases = Aliases::default();
        let text = match read_text(path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(aliases),
            Err(Error::File { cause: source, .. }) if is_absent(&source) => return Ok(aliases),
            Err(e) => return Err(e),
        };
        let file: File = toml::from_str(&text).map_err(|e| invalid(toml_words(&e, &text)))?;
        aliases.add(file.aliases, path).map_err(invalid)?;
        Ok(aliases)
    }

    /// Adds what a file says, over what was said before.
    pub(super) fn add(
        &mut self,
        table: BTreeMap<String, String>,
        path: &Path,
    ) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (name, target) in table {
            match check_name(&name).and_then(|()| parse_target(&target)) {
                Ok(target) => {
                    self.0.insert(name, Alias { target, path: path.to_owned() });
                }
                Err(why) => wrong.push(format!("the alias `{name}` = `{target}`: {why}")),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// What is said of a short name.
    pub(super) fn get(&self, name: &str) -> Option<&Alias> {
        self.0.get(name)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn check_name(name: &str) -> Result<(), String> {
    let reference: Reference = name.parse().map_err(|e| format!("{e}"))?;
    match reference.short_name() {
        None => Err("its name has a registry, so it is not short".to_owned()),
        Some(short) if short != name => Err("its name has a tag or digest".to_owned()),
        Some(_) => Ok(()),
    }
}

fn parse_target(target: &str) -> Result<Option<Reference>, String> {
    if target.is_empty() {
        return Ok(None);
    }
    let reference: Reference = target.parse().map_err(|e| format!("{e}"))?;
    // The colon of a port stands before a slash.
    let last = target.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        return Err("its target has a tag or digest, which are for the user to say".to_owned());
    }
    match reference.short_name() {
        Some(_) => Err("its target lacks the registry: write `HOST/NAME`".to_owned()),
        None => Ok(Some(reference)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::{ConfigFiles, HostsConfig};

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// What a name means and which file says so, if any does.
    fn meaning(name: &str, places: &ConfigFiles) -> Option<(String, String)> {
        let found = HostsConfig::new(places.clone()).aliased(&name.parse().unwrap()).unwrap()?;
        assert_eq!(found.reference.short_name(), None, "an alias of an alias is none");
        let file = found.path.file_name().unwrap().to_string_lossy().into_owned();
        Some((found.reference.to_string(), file))
    }

    #[test]
    fn short_names_mean_what_the_last_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        for (name, text) in [
            (
                "main",
                "unqualified-search-registries = ['search.example']\nshort-name-mode = 'enforcing'\n\
                 [aliases]\na = 'one.example/a'\nb = 'one.example:5000/x/b'\n'team/c' = 'localhost/c'\n\
                 d = 'docker.io/debian'\ne = 'one.example/e'\nf = 'one.example/f'\n",
            ),
            ("conf.d/10.conf", "[aliases]\na = 'two.example/a'\ne = ''\n"),
            ("conf.d/20.conf", "[[registry]]\nlocation = 'two.example'\n"),
            ("own", "[aliases]\nf = 'three.example/f'\nb = ''\n"),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let places = ConfigFiles {
            registries: vec![path("main")],
            registries_drop_ins: vec![path("conf.d")],
            short_name_aliases: Some(path("own")),
            ..ConfigFiles::default()
        };
        let pinned = format!("a:1@{SHA}");
        let pinned_meaning = format!("two.example/a@{SHA}");
        for (name, expected) in [
            ("a", Some(("two.example/a:latest", "10.conf"))),
            ("a:1.2", Some(("two.example/a:1.2", "10.conf"))),
            (&pinned, Some((&pinned_meaning, "10.conf"))),
            ("team/c", Some(("localhost/c:latest", "main"))),
            ("d:12", Some(("docker.io/library/debian:12", "main"))),
            ("f", Some(("three.example/f:latest", "own"))),
            // Taken back, by a later file and by the user's own.
            ("e", None),
            ("b", None),
            // Not said, not short, or not the same name.
            ("z", None),
            ("c", None),
            ("library/a", None),
            ("docker.io/library/a", None),
            ("docker.io/a", None),
        ] {
            let expected = expected.map(|(name, file)| (name.to_owned(), file.to_owned()));
            assert_eq!(meaning(name, &places), expected, "{name}");
        }
        let without = ConfigFiles { short_name_aliases: Some(path("none/none")), ..places };
        assert_eq!(meaning("b", &without).unwrap().0, "one.example:5000/x/b:latest");
        let nowhere =
            ConfigFiles { short_name_aliases: Some(path("own/none")), ..ConfigFiles::default() };
        assert_eq!(meaning("a", &nowhere), None);
    }

    #[test]
    fn every_wrong_alias_is_told() {
        let long = format!("'r.example/x@{SHA}'");
        for (name, target, words) in [
            ("a", "'b'", "lacks the registry"),
            ("a", "'b/c'", "lacks the registry"),
            ("a", "'r.example/b:v1'", "tag or digest"),
            ("a", "'r.example:5000/b:v1'", "tag or digest"),
            ("a", &long, "tag or digest"),
            ("a", "'r.example/B'", "lowercase"),
            ("a", "'r.example'", "lacks the registry"),
            ("a", "'https://r.example/b'", "leave out the scheme"),
            ("'a:v1'", "'r.example/b'", "its name has a tag"),
            ("'r.example/a'", "'r.example/b'", "not short"),
            ("'localhost/a'", "''", "not short"),
            ("'A b'", "'r.example/b'", "component"),
            ("a", "1", "line 2"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.conf");
            fs::write(&path, format!("[aliases]\n{name} = {target}\nz = 'z'\n")).unwrap();
            let own =
                ConfigFiles { short_name_aliases: Some(path.clone()), ..ConfigFiles::default() };
            let all = ConfigFiles { registries: vec![path], ..ConfigFiles::default() };
            for places in [own, all] {
                let error = HostsConfig::new(places)
                    .aliased(&"x".parse().unwrap())
                    .unwrap_err()
                    .to_string();
                assert!(error.contains("x.conf") && error.contains(words), "{name}: {error}");
                let all_told = error.contains("`z` = `z`") || target == "1";
                assert!(all_told, "{name}: {error}");
            }
        }
    }
}
