//! Packages of an image, and what could not be read of them.

use std::fmt;
use std::sync::Arc;

use super::error::Error;
use super::limits::{MAX_FIELD_BYTES, MAX_PACKAGES};

/// What installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Manager {
    Dpkg,
    Apk,
    Rpm,
    /// pip, uv, conda, setuptools: all that write metadata of distributions beside modules.
    Python,
}

impl Manager {
    /// As it is written: `dpkg`, `apk`, `rpm`, `python`.
    pub fn name(self) -> &'static str {
        match self {
            Manager::Dpkg => "dpkg",
            Manager::Apk => "apk",
            Manager::Rpm => "rpm",
            Manager::Python => "python",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A package, as a database has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// For what it was built, where the database says so.
    pub architecture: Option<String>,
    /// Its version, with all that the manager compares: `1:2.3-4`.
    pub version: String,
}

impl Entry {
    /// An entry out of fields; an empty architecture is none.
    ///
    /// # Errors
    /// A field is too long, or there is no name or version.
    pub(super) fn new(name: &[u8], version: &[u8], architecture: &[u8]) -> Result<Entry, Error> {
        let (name, version) = (text(name)?, text(version)?);
        if name.is_empty() {
            return Err(Error::Corrupt("a package has no name"));
        }
        if version.is_empty() {
            return Err(Error::Corrupt("a package has no version"));
        }
        let architecture = Some(text(architecture)?).filter(|text| !text.is_empty());
        Ok(Entry { name, architecture, version })
    }
}

/// A field; what is not UTF-8 in it becomes U+FFFD.
fn text(field: &[u8]) -> Result<String, Error> {
    match field.len() <= MAX_FIELD_BYTES {
        true => Ok(String::from_utf8_lossy(field).into_owned()),
        false => Err(Error::LongField),
    }
}

/// A package that is installed in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// What installed it.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// For what it was built, where the database says so.
    pub architecture: Option<String>,
    /// The path of the database that lists it, from the root and without a slash in front; of a Python distribution the
    /// directory that it is in.
    pub place: Arc<[u8]>,
    /// Its version.
    pub version: String,
}

/// How many packages may be missing because of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The one that it is about.
    One,
    /// Any of the manager.
    Many,
}

/// Something that could not be read.
#[derive(Debug)]
pub struct Problem {
    /// Whose packages are missing.
    pub manager: Manager,
    /// The path of the database, file or directory, without a slash in front.
    pub place: Vec<u8>,
    /// What it lacks.
    pub why: Error,
    /// How many packages may be missing.
    pub missing: Missing,
}

/// The packages of an image.
#[derive(Debug, Default)]
pub struct Inventory {
    /// All that were read, in order.
    pub packages: Vec<Package>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Inventory {
    /// Whether all packages of a manager are known, up to some that stand alone.
    pub fn knows(&self, manager: Manager) -> bool {
        !self.problems.iter().any(|p| p.manager == manager && p.missing == Missing::Many)
    }

    /// Adds what a database has.
    ///
    /// # Errors
    /// There are too many; none is added then.
    pub(super) fn add(
        &mut self,
        manager: Manager,
        place: &Arc<[u8]>,
        entries: Vec<Entry>,
    ) -> Result<(), Error> {
        if self.packages.len() + entries.len() > MAX_PACKAGES {
            return Err(Error::TooManyPackages);
        }
        self.packages.extend(entries.into_iter().map(|entry| {
            let Entry { name, architecture, version } = entry;
            Package { manager, name, architecture, place: Arc::clone(place), version }
        }));
        Ok(())
    }
}
