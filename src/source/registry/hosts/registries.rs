//! `registries.conf`, version 2, as podman, buildah, skopeo and CRI-O read it
//! (containers-registries.conf(5)): which registries are mirrored, moved, blocked or reached without
//! checks, by the longest prefix of the image's name.
//!
//! ```toml
//! credential-helpers = ["secretservice", "containers-auth.json"]     # where logins are; files by default
//!
//! [[registry]]
//! prefix = "registry.example/team"        # or "*.example"; the location, if it is not said
//! location = "moved.example/elsewhere"    # takes the place of the prefix
//! insecure = false
//! blocked = false
//!
//! [[registry.mirror]]                     # asked before the location, in this order
//! location = "mirror.example/team"
//! pull-from-mirror = "digest-only"        # or "tag-only", "all"
//! ```
//!
//! A file in a `registries.conf.d` replaces what was said before for the same prefix, and so it is with
//! the aliases ([`aliases`](super::aliases)) and the list of credential helpers. Version 1 is passed over with a warning.
//! `unqualified-search-registries` is not used: a short name without an alias means Docker Hub here, as
//! it does for Docker and containerd, and never whichever of several registries has something of
//! that name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::aliases::Aliases;
use super::files::{Error, read_text, toml_words};
use crate::source::registry::url::without_port;

/// The rules of all files together.
#[derive(Debug, Default)]
pub(super) struct Registries {
    rules: Vec<Rule>,
    pub(super) aliases: Aliases,
    /// Where logins are, and the file that says so.
    pub(super) helpers: (Vec<String>, PathBuf),
}

/// What is said of the images below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    prefix: String,
    /// Where they really are; `None` if they are where their name says.
    location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    mirrors: Vec<Mirror>,
    /// The file that says so.
    pub(super) path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    use_for: UseFor,
}

/// Which references a mirror is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UseFor {
    All,
    Digests,
    Tags,
}

/// A place that has a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// `host[:port]/path`.
    pub(super) name: String,
    pub(super) insecure: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    registry: Vec<RegistryTable>,
    aliases: BTreeMap<String, String>,
    credential_helpers: Vec<String>,
    /// Version 1.
    registries: Option<toml::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl Registries {
    /// Reads the first of `files` that exists, and then what is in `folders`.
    ///
    /// # Errors
    /// A file can't be read or understood.
    pub(super) fn read(files: &[PathBuf], folders: &[PathBuf]) -> Result<Registries, Error> {
        let mut all = Registries::default();
        let first = files.iter().find(|path| path.exists()).cloned();
        let drop_ins = folders.iter().flat_map(|folder| drop_ins(folder));
        for path in first.into_iter().chain(drop_ins) {
            let Some(text) = read_text(&path)? else { continue };
            all.add(&text, &path).map_err(|what| Error::Invalid { path: path.clone(), what })?;
        }
        Ok(all)
    }

    /// Adds what a file says.
    fn add(&mut self, text: &str, path: &Path) -> Result<(), String> {
        let file: File = toml::from_str(text).map_err(|e| toml_words(&e, text))?;
        if file.registries.is_some() {
            if !file.registry.is_empty() || !file.aliases.is_empty() {
                return Err("it mixes version 1 of the format with version 2".to_owned());
            }
            log::warn!("{} is of version 1 of its format and not used", path.display());
            return Ok(());
        }
        for table in file.registry {
            let rule = table.rule(path)?;
            self.rules.retain(|known| known.prefix != rule.prefix);
            self.rules.push(rule);
        }
        let helpers = file.credential_helpers.into_iter().filter(|name| !name.is_empty());
        let helpers: Vec<String> = helpers.collect();
        if !helpers.is_empty() {
            self.helpers = (helpers, path.to_owned());
        }
        self.aliases.add(file.aliases, path)
    }

    /// The rule for an image by its name, `host[:port]/path`, and its `:tag` or `@digest`.
    pub(super) fn rule(&self, name: &str, version: &str) -> Option<&Rule> {
        let length = |rule: &&Rule| matched(&rule.prefix, name, version);
        let rules = self.rules.iter().filter(|rule| length(rule).is_some());
        rules.max_by_key(|rule| (length(rule), rule.prefix.len()))
    }
}

/// The files of a folder that count, in the order of their names.
fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "conf") && path.is_file())
        .collect();
    paths.sort();
    paths
}

impl RegistryTable {
    fn rule(self, path: &Path) -> Result<Rule, String> {
        let location = trimmed(&self.location)?;
        let prefix = match trimmed(&self.prefix)? {
            prefix if prefix.is_empty() => location.clone(),
            prefix => prefix,
        };
        if prefix.is_empty() {
            return Err("a [[registry]] has neither a prefix nor a location".to_owned());
        }
        if prefix.contains('*') && (!prefix.starts_with("*.") || prefix.matches('*').count() > 1) {
            return Err(format!("the prefix `{prefix}` may have `*.` at its beginning only"));
        }
        if location.contains('*') {
            return Err(format!("the location `{location}` may not have a `*`"));
        }
        let mirrors = self.mirror.into_iter().map(|mirror| {
            let location = trimmed(&mirror.location)?;
            let use_for = match (mirror.pull_from_mirror.as_str(), self.mirror_by_digest_only) {
                ("", false) | ("all", false) => UseFor::All,
                ("", true) | ("digest-only", false) => UseFor::Digests,
                ("tag-only", false) => UseFor::Tags,
                (_, true) => {
                    return Err(format!(
                        "`{prefix}` has both mirror-by-digest-only and pull-from-mirror"
                    ));
                }
                (other, false) => {
                    return Err(format!(
                        "pull-from-mirror = `{other}` is none of all, digest-only, tag-only"
                    ));
                }
            };
            match location.is_empty() || location.contains('*') {
                true => Err(format!("a mirror of `{prefix}` has no location, or one with a `*`")),
                false => Ok(Mirror { location, insecure: mirror.insecure, use_for }),
            }
        });
        Ok(Rule {
            mirrors: mirrors.collect::<Result<_, _>>()?,
            location: Some(location).filter(|location| !location.is_empty()),
            insecure: self.insecure,
            blocked: self.blocked,
            path: path.to_owned(),
            prefix,
        })
    }
}

/// A prefix or location without a slash at its end.
fn trimmed(text: &str) -> Result<String, String> {
    match text.contains("://") {
        true => Err(format!("`{text}` must be without `https://`")),
        false => Ok(text.trim_end_matches('/').to_owned()),
    }
}

/// How much of an image's name a prefix is, if it is one. It ends where a part of the name does.
fn matched(prefix: &str, name: &str, version: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host_end = name.find('/').unwrap_or(name.len());
        let (host_part, path) = domain.split_once('/').unwrap_or((domain, ""));
        let host = &name[..host_end];
        // A port is no part of the domain.
        let bare = without_port(host);
        let wanted = if host_part.contains(':') { host } else { bare };
        let is_below = wanted.strip_suffix(host_part).is_some_and(|below| !below.is_empty());
        if !is_below {
            return None;
        }
        if path.is_empty() {
            return Some(host_end);
        }
        let rest = name.get(host_end + 1..)?.strip_prefix(path)?;
        return (rest.is_empty() || rest.starts_with('/')).then(|| name.len() - rest.len());
    }
    match name.strip_prefix(prefix) {
        Some("") => Some(name.len()),
        Some(rest) if rest.starts_with('/') => Some(prefix.len()),
        // A rule for one tag or digest.
        _ => (prefix.strip_prefix(name) == Some(version) && !version.is_empty())
            .then_some(name.len()),
    }
}

impl Rule {
    /// The locations of an image, best first. The last is its own.
    pub(super) fn locations(&self, name: &str, version: &str) -> Vec<Location> {
        let length = matched(&self.prefix, name, version).unwrap_or(0);
        let moved = |location: &str| format!("{location}{}", &name[length..]);
        let is_wanted = |mirror: &&Mirror| match mirror.use_for {
            UseFor::All => true,
            UseFor::Digests => version.starts_with('@'),
            UseFor::Tags => !version.starts_with('@'),
        };
        let mirrors = self.mirrors.iter().filter(is_wanted);
        let mut locations: Vec<Location> = mirrors
            .map(|mirror| Location { name: moved(&mirror.location), insecure: mirror.insecure })
            .collect();
        let own = self.location.as_deref().map_or_else(|| name.to_owned(), moved);
        locations.push(Location { name: own, insecure: self.insecure });
        locations
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Registries, String> {
        let mut all = Registries::default();
        all.add(text, Path::new("registries.conf")).map(|()| all)
    }

    /// The places of an image, `!` before the insecure ones.
    fn places(all: &Registries, name: &str, version: &str) -> Vec<String> {
        let Some(rule) = all.rule(name, version) else { return Vec::new() };
        let places = rule.locations(name, version).into_iter();
        places.map(|p| format!("{}{}", if p.insecure { "!" } else { "" }, p.name)).collect()
    }

    #[test]
    fn the_longest_prefix_counts() {
        let all = parse(
            r#"
            [[registry]]
            location = "a.example"
            [[registry]]
            prefix = "a.example/x"
            location = "moved.example"
            [[registry]]
            prefix = "a.example/x/y"
            location = "c.example/deep"
            insecure = true
            [[registry]]
            prefix = "*.b.example"
            location = "mirror.example/b"
            [[registry]]
            prefix = "*.c.b.example"
            [[registry]]
            prefix = "one.b.example"
            location = "one.example"
            [[registry]]
            prefix = "a.example/tagged:v1"
            location = "d.example/v1"
            [[registry]]
            prefix = "*.w.example/team"
            location = "e.example/team"
            "#,
        )
        .unwrap();
        for (name, version, expected) in [
            ("a.example/z", ":v", &["a.example/z"][..]),
            ("a.example/x", ":v", &["moved.example"]),
            ("a.example/x/z", ":v", &["moved.example/z"]),
            ("a.example/x/y", ":v", &["!c.example/deep"]),
            ("a.example/x/y/z", "@sha256:0", &["!c.example/deep/z"]),
            ("a.example/xx", ":v", &["a.example/xx"]),
            ("a.example:5000/x", ":v", &[]),
            ("a.example.org/x", ":v", &[]),
            ("na.example/x", ":v", &[]),
            ("s.b.example/x", ":v", &["mirror.example/b/x"]),
            ("s.t.b.example:5000/x/y", ":v", &["mirror.example/b/x/y"]),
            ("s.c.b.example/x", ":v", &["s.c.b.example/x"]),
            ("one.b.example/x", ":v", &["one.example/x"]),
            ("b.example/x", ":v", &[]),
            ("nb.example/x", ":v", &[]),
            ("evil.example/s.b.example/x", ":v", &[]),
            ("a.example/tagged", ":v1", &["d.example/v1"]),
            ("a.example/tagged", ":v2", &["a.example/tagged"]),
            ("s.w.example/team/x", ":v", &["e.example/team/x"]),
            ("s.w.example/teams/x", ":v", &[]),
        ] {
            assert_eq!(places(&all, name, version), expected, "{name}{version}");
        }
    }

    #[test]
    fn mirrors_come_first_and_in_order() {
        let all = parse(
            r#"
            [[registry]]
            prefix = "docker.io/library"
            location = "docker.io/library"
            [[registry.mirror]]
            location = "one.example/hub"
            [[registry.mirror]]
            location = "two.example:5000"
            insecure = true
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "three.example/"
            pull-from-mirror = "tag-only"
            [[registry]]
            location = "q.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.example"
            "#,
        )
        .unwrap();
        let (tag, digest) = (":v", "@sha256:0");
        let own = "docker.io/library/debian";
        let (one, two) = ("one.example/hub/debian", "!two.example:5000/debian");
        assert_eq!(places(&all, own, tag), [one, "three.example/debian", own]);
        assert_eq!(places(&all, own, digest), [one, two, own]);
        assert_eq!(places(&all, "q.example/x", tag), ["q.example/x"]);
        assert_eq!(places(&all, "q.example/x", digest), ["m.example/x", "q.example/x"]);
        assert!(places(&all, "docker.io/org/app", tag).is_empty());
    }

    #[test]
    fn later_files_replace_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        for (name, text) in [
            ("main", "[[registry]]\nlocation = 'a'\nblocked = true"),
            ("unused", "[[registry]]\nlocation = 'unused'"),
            ("conf.d/20.conf", "[[registry]]\nlocation = 'b'\ninsecure = true"),
            ("conf.d/10.conf", "[[registry]]\nlocation = 'a'\n[[registry]]\nlocation = 'b'"),
            ("conf.d/30.conf", "[aliases]\nx = 'a.example/x'"),
            ("conf.d/40.txt", "nonsense ["),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let files = [path("absent"), path("main"), path("unused")];
        let all = Registries::read(&files, &[path("none"), path("conf.d")]).unwrap();
        assert!(!all.rule("a/x", "").unwrap().blocked);
        assert!(all.rule("b/x", "").unwrap().insecure);
        assert!(all.rule("unused/x", "").is_none());
        fs::write(path("conf.d/50.conf"), "nonsense [").unwrap();
        let error = Registries::read(&files, &[path("conf.d")]).unwrap_err().to_string();
        assert!(error.contains("50.conf") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_last_list_of_helpers_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let places = |main: &str, drop_in: &str| {
            fs::create_dir_all(path("conf.d")).unwrap();
            fs::write(path("main"), main).unwrap();
            fs::write(path("conf.d/10.conf"), drop_in).unwrap();
            let (registries, drop_ins) = (vec![path("main")], vec![path("conf.d")]);
            let places = super::super::ConfigFiles {
                registries,
                registries_drop_ins: drop_ins,
                ..Default::default()
            };
            let found = super::super::HostsConfig::new(places).login_places().unwrap().into_iter();
            let shown = found.map(|place| match place {
                super::super::LoginPlace::Files => "files".to_owned(),
                super::super::LoginPlace::Helper(name, file) => {
                    format!("{name} of {}", file.file_name().unwrap().to_string_lossy())
                }
            });
            shown.collect::<Vec<_>>()
        };
        assert_eq!(places("", ""), ["files"]);
        assert_eq!(places("credential-helpers = []", ""), ["files"]);
        assert_eq!(places("credential-helpers = ['a', '']", ""), ["a of main", "files"]);
        let both = "credential-helpers = ['a', 'containers-auth.json', 'b']";
        assert_eq!(places(both, ""), ["a of main", "files", "b of main"]);
        assert_eq!(places(both, "credential-helpers = ['c']"), ["c of 10.conf", "files"]);
        assert_eq!(
            places(both, "[aliases]\nx = 'r.example/x'"),
            ["a of main", "files", "b of main"]
        );
    }

    #[test]
    fn what_is_not_understood() {
        let v1 = "[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\n";
        assert!(parse(v1).unwrap().rules.is_empty());
        assert!(parse("unqualified-search-registries = ['a', 'b']\nshort-name-mode = 'x'").is_ok());
        for (text, word) in [
            (&format!("{v1}[[registry]]\nlocation='a'")[..], "version 1"),
            (&format!("{v1}[aliases]\na = 'b.example/c'"), "version 1"),
            ("[aliases]\na = 'b'", "registry"),
            ("[aliases]\na = 1", "line 2"),
            ("[[registry]]\ninsecure = true", "neither a prefix"),
            ("[[registry]]\nlocation = 'https://a'", "must be without"),
            ("[[registry]]\nprefix = 'a.*.b'\nlocation = 'c'", "at its beginning"),
            ("[[registry]]\nprefix = '*.*.b'\nlocation = 'c'", "at its beginning"),
            ("[[registry]]\nlocation = 'a.*'", "may"),
            ("[[registry]]\nlocation = 'a'\n[[registry.mirror]]\ninsecure = true", "no location"),
            ("[[registry]]\nlocation = 'a'\n[[registry.mirror]]\nlocation = 'http://b'", "without"),
            (
                "[[registry]]\nlocation = 'a'\n[[registry.mirror]]\nlocation = 'b'\n\
                 pull-from-mirror = 'never'",
                "none of all",
            ),
            (
                "[[registry]]\nlocation = 'a'\nmirror-by-digest-only = true\n\
                 [[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'all'",
                "both",
            ),
            ("[[registry]]\nlocation = 1", "line 2"),
            ("registry = 1", "line 1"),
            ("credential-helpers = 'a'", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(
            prefix in "[a-z*./:]{0,12}", location in "[a-z*./:]{0,12}", mirror in "[a-z./]{0,8}",
            name in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}(:5)?(/[a-z]{1,3}){1,3}", junk in "\\PC{0,60}"
        ) {
            let _ = parse(&junk);
            let text = format!(
                "[[registry]]\nprefix = '{prefix}'\nlocation = '{location}'\n\
                 [[registry.mirror]]\nlocation = '{mirror}'"
            );
            if let Ok(all) = parse(&text)
                && let Some(rule) = all.rule(&name, ":v")
            {
                prop_assert!(!rule.locations(&name, ":v").is_empty());
            }
        }
    }
}
