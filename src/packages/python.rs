//! Python distributions: what `pip list` would show for each directory of them.
//!
//! An installer leaves a directory `NAME-VERSION.dist-info` with a file `METADATA` beside the modules (PEP 376, PEP 427);
//! setuptools left `NAME-VERSION-pyX.Y.egg-info`, a directory with `PKG-INFO` or that file itself. In the names of these
//! a `-` of a name or version is a `_`.
//!
//! # Names instead of files
//!
//! Name and version are taken from the name of the directory where they can be told apart for certain; the metadata is
//! read where they can't: a name without a version, as of what is installed for development, or a version with a `_`, which
//! may stand for a `-`. `importlib.metadata` finds a distribution by this name too, and pip and uv refuse a wheel
//! whose directory and `METADATA` have different names. A hand-made pair that differs is shown by the name of its
//! directory.
//!
//! # Where
//!
//! In directories of the names `site-packages` and `dist-packages`, wherever they are, so those of every virtual
//! environment. What is bundled inside of a package (`pip/_vendor`, `setuptools/_vendor`) is no distribution of its
//! own. Names that begin with `~` are what pip failed to remove.

use super::error::Error;
use super::inventory::Entry;

/// How much of a file of metadata is read, in bytes. Name and version are its first lines; what follows is the
/// description of the project.
pub const MAX_METADATA_BYTES: u64 = 64 << 10;

/// What a name in a directory of distributions says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing: it is no distribution.
    Nothing,
    /// That it is one, whose name and version are in the metadata.
    ADistribution,
    /// All.
    All(Entry),
}

/// Whether directories of this name have distributions in them.
pub(super) fn is_site(name: &[u8]) -> bool {
    matches!(name, b"site-packages" | b"dist-packages")
}

/// The file of metadata inside of a directory of this name.
pub(super) fn metadata_name(name: &[u8]) -> &'static [u8] {
    if name.ends_with(b".egg-info") { b"PKG-INFO" } else { b"METADATA" }
}

/// What the name of a directory or file says.
pub(super) fn parse(name: &[u8]) -> Says {
    let is_egg = name.ends_with(b".egg-info");
    let stem = name.strip_suffix(b".dist-info").or_else(|| name.strip_suffix(b".egg-info"));
    let Some(stem) = stem.filter(|stem| !stem.starts_with(b"~")) else { return Says::Nothing };
    let Ok(mut stem) = str::from_utf8(stem) else { return Says::ADistribution };
    if is_egg && let Some((before, _python)) = stem.split_once("-py") {
        // `-py3.11`, perhaps with a platform behind it. A name has no `-`.
        stem = before;
    }
    let Some((name, version)) = stem.split_once('-') else { return Says::ADistribution };
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!');
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let is_certain = version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(is_version)
        && name.chars().all(is_name);
    match entry(name, version) {
        Ok(entry) if is_certain => Says::All(entry),
        _ => Says::ADistribution,
    }
}

/// Reads the head of a file of metadata: fields up to the first empty line.
///
/// # Errors
/// It has no name or no version.
pub fn metadata(text: &[u8]) -> Result<Entry, Error> {
    let (mut name, mut version) = (None, None);
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = || Some(String::from_utf8_lossy(line[colon + 1..].trim_ascii()));
        // The first of several counts, as it does for Python's parser of messages.
        match line[..colon].to_ascii_lowercase().as_slice() {
            b"name" if name.is_none() => name = value(),
            b"version" if version.is_none() => version = value(),
            _ => {}
        }
    }
    entry(&name.unwrap_or_default(), &version.unwrap_or_default())
}

/// An entry under the name that PEP 503 makes of a name: lower case, and one `-` for each run of `-`, `_` and `.`.
fn entry(name: &str, version: &str) -> Result<Entry, Error> {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    Entry::new(normal.as_bytes(), version.as_bytes(), b"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories() {
        for (name, expected) in [
            ("Django-4.2.11.dist-info", Some("django 4.2.11")),
            ("python_dateutil-2.8.2.dist-info", Some("python-dateutil 2.8.2")),
            ("zope.interface-5.5.2.dist-info", Some("zope-interface 5.5.2")),
            ("backports._x__y-1.dist-info", Some("backports-x-y 1")),
            ("torch-2.3.1+cu121.dist-info", Some("torch 2.3.1+cu121")),
            ("a-1!2.0rc1.post2.dev3.dist-info", Some("a 1!2.0rc1.post2.dev3")),
            ("six-1.16.0.egg-info", Some("six 1.16.0")),
            ("six-1.16.0-py3.11.egg-info", Some("six 1.16.0")),
            ("lxml-4.9.2-py3.11-linux-x86_64.egg-info", Some("lxml 4.9.2")),
            // For the metadata to say.
            ("distro_info.egg-info", None),
            ("a-1.0_1.dist-info", None),
            ("a-b-1.0.dist-info", None),
            ("a-dev.dist-info", None),
            ("a-1.0-1.dist-info", None),
            ("\u{e4}-1.0.dist-info", None),
            ("-1.0.dist-info", None),
            (".dist-info", None),
        ] {
            let said = match parse(name.as_bytes()) {
                Says::All(entry) => Some(format!("{} {}", entry.name, entry.version)),
                Says::ADistribution => None,
                Says::Nothing => panic!("{name}"),
            };
            assert_eq!(said.as_deref(), expected, "{name}");
        }
        for name in ["django", "~jango-4.2.dist-info", "a.dist-info.bak", "x.egg-link"] {
            assert_eq!(parse(name.as_bytes()), Says::Nothing, "{name}");
        }
    }

    #[test]
    fn files_of_metadata() {
        for (text, expected) in [
            ("Metadata-Version: 2.1\nName: Django\nVersion: 4.2\n\nName: b\n", "django 4.2"),
            ("name:My_Pkg\r\nVERSION:  1.0-1 \r\n\r\n", "my-pkg 1.0-1"),
            ("Name: a\nName: b\nno field\nVersion: 1", "a 1"),
            ("Name: a\n\nVersion: 1\n", "it is corrupt: a package has no version"),
            ("", "it is corrupt: a package has no name"),
        ] {
            let said = match metadata(text.as_bytes()) {
                Ok(entry) => format!("{} {}", entry.name, entry.version),
                Err(e) => e.to_string(),
            };
            assert_eq!(said, expected, "{text}");
        }
    }
}
