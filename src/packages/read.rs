//! Finding the databases in a tree, and reading all of them.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Error;
use super::image_file::{ImageFile, MAX_DATABASE_BYTES};
use super::inventory::{Entry, Inventory, Manager, Missing, Problem};
use super::python::{self, MAX_METADATA_BYTES, Says};
use super::{apk, dpkg, rpm};
use crate::fs::{self, Filesystem};
use crate::tree::{FileKind, Ino, Symlinks, Tree};

/// Largest text that is read, in bytes: the lists of files in apk's make it the longest.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Most files of `status.d` and `updates` that are read.
const MAX_FILES: usize = 10_000;

/// Most files of Python's metadata that are read. Usually none has to be.
const MAX_METADATA_FILES: usize = 1000;

/// Most problems that are kept.
const MAX_PROBLEMS: usize = 100;

const DPKG: &[u8] = b"var/lib/dpkg/status";
const DPKG_UPDATES: &[u8] = b"var/lib/dpkg/updates";
const DISTROLESS: &[u8] = b"var/lib/dpkg/status.d";
const APK: [&[u8]; 2] = [b"lib/apk/db/installed", b"usr/lib/apk/db/installed"];
const RPM: [&[u8]; 3] = [b"var/lib/rpm", b"usr/lib/sysimage/rpm", b"usr/share/rpm"];

/// What a rollback journal begins with that SQLite has not done with (fileformat2.html, 3).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Reads all packages of an image.
///
/// # Errors
/// Bytes of a database can't be had. Everything that is wrong with a database itself is a [`Problem`].
pub fn read(files: &Filesystem) -> Result<Inventory, fs::Error> {
    let mut reader = Reader { files, found: Inventory::default(), metadata_files: 0 };
    reader.dpkg()?;
    reader.apk()?;
    reader.rpm()?;
    reader.python()?;
    reader.found.packages.sort();
    Ok(reader.found)
}

struct Reader<'a> {
    files: &'a Filesystem,
    found: Inventory,
    /// How many were read.
    metadata_files: usize,
}

/// Something at a path that leads to it.
struct Place {
    path: Vec<u8>,
    ino: Ino,
}

impl<'a> Reader<'a> {
    fn dpkg(&mut self) -> Result<(), fs::Error> {
        if let Some(place) = self.find(DPKG) {
            let entries = self.dpkg_status(&place);
            self.add(About::many(Manager::Dpkg, &place.path), entries)?;
        }
        let files = self.files_in(DISTROLESS, |name| !name.ends_with(b".md5sums"));
        let about = About::many(Manager::Dpkg, DISTROLESS);
        for place in self.or_problem(about, files)?.unwrap_or_default() {
            let entries = self.read_text(&place).and_then(|text| {
                let mut status = dpkg::Status::default();
                status.read(&text)?;
                Ok(status.entries())
            });
            self.add(About::one(Manager::Dpkg, &place.path), entries)?;
        }
        Ok(())
    }

    fn dpkg_status(&self, place: &Place) -> Result<Vec<Entry>, Error> {
        let mut status = dpkg::Status::default();
        status.read(&self.read_text(place)?)?;
        for place in self.files_in(DPKG_UPDATES, |name| name.iter().all(u8::is_ascii_digit))? {
            status.read(&self.read_text(&place)?)?;
        }
        Ok(status.entries())
    }

    fn apk(&mut self) -> Result<(), fs::Error> {
        let mut seen = HashSet::new();
        for path in APK {
            let place = self.find(path).filter(|place| seen.insert(place.ino));
            if let Some(place) = place {
                let entries = self.read_text(&place).and_then(|text| apk::read(&text));
                self.add(About::many(Manager::Apk, &place.path), entries)?;
            }
        }
        Ok(())
    }

    fn rpm(&mut self) -> Result<(), fs::Error> {
        let mut seen = HashSet::new();
        for dir in RPM {
            // In the order in which rpm itself looks for them.
            let names = [&b"rpmdb.sqlite"[..], b"Packages.db", b"Packages"];
            let place = names
                .into_iter()
                .find_map(|name| self.find(&join(dir, name)).map(|place| (place, name)));
            let Some((place, name)) = place.filter(|(place, _)| seen.insert(place.ino)) else {
                continue;
            };
            let entries = match name {
                b"rpmdb.sqlite" => self.rpm_sqlite(&place),
                b"Packages.db" => self.open(place.ino).and_then(|file| rpm::ndb(&file)),
                _ => self.open(place.ino).and_then(|file| rpm::bdb(&file)),
            };
            self.add(About::many(Manager::Rpm, &place.path), entries)?;
        }
        Ok(())
    }

    fn rpm_sqlite(&self, place: &Place) -> Result<Vec<Entry>, Error> {
        let tree = self.files.tree();
        // SQLite looks beside the file itself, where that has a symlink.
        let path = match tree.resolve(&place.path, Symlinks::Keep) == Ok(place.ino) {
            true => place.path.clone(),
            false => tree.path(place.ino),
        };
        let beside = |suffix: &[u8]| {
            let found = self.find(&[&path, suffix].concat());
            found.map(|place| self.open(place.ino)).transpose()
        };
        if let Some(journal) = beside(b"-journal")?
            && journal.read_first(JOURNAL_MAGIC.len() as u64)? == JOURNAL_MAGIC
        {
            let what = "SQLite would have to undo a transaction first that has not ended";
            return Err(Error::NotSupported(what));
        }
        rpm::sqlite(&self.open(place.ino)?, beside(b"-wal")?.as_ref())
    }

    fn python(&mut self) -> Result<(), fs::Error> {
        let tree = self.files.tree();
        for site in tree.inos().filter(|dir| is_site(tree, *dir)) {
            let says =
                tree.children_by_name(site).map(|child| (child.name, python::parse(child.name)));
            let found: Vec<_> = says.filter(|(_, says)| *says != Says::Nothing).collect();
            // The path is made for those only that have something: an image may nest such directories very deep.
            if !found.is_empty() {
                self.python_site(&tree.path(site), found)?;
            }
        }
        Ok(())
    }

    /// Reads a directory with what the names in it say.
    fn python_site(&mut self, site: &[u8], found: Vec<(&[u8], Says)>) -> Result<(), fs::Error> {
        let mut entries = Vec::new();
        for (name, says) in found {
            let Some(Place { path, ino }) = self.python_metadata(site, name) else { continue };
            match says {
                Says::All(entry) => entries.push(entry),
                Says::Nothing => {}
                Says::ADistribution => {
                    let entry = self.read_python_metadata(ino);
                    let about = About::one(Manager::Python, &path);
                    entries.extend(self.or_problem(about, entry)?);
                }
            }
        }
        self.add(About::many(Manager::Python, site), Ok(entries))
    }

    /// The metadata of a distribution: a file in its directory, or of old ones that file instead of a directory.
    fn python_metadata(&self, site: &[u8], name: &[u8]) -> Option<Place> {
        let tree = self.files.tree();
        let mut path = join(site, name);
        let mut ino = tree.resolve(&path, Symlinks::Follow).ok()?;
        if tree.kind(ino) == FileKind::Directory {
            path = join(&path, python::metadata_name(name));
            ino = tree.resolve(&path, Symlinks::Follow).ok()?;
        }
        (tree.kind(ino) == FileKind::Regular).then_some(Place { path, ino })
    }

    fn read_python_metadata(&mut self, file: Ino) -> Result<Entry, Error> {
        self.metadata_files += 1;
        if self.metadata_files > MAX_METADATA_FILES {
            return Err(Error::TooManyFiles { limit: MAX_METADATA_FILES });
        }
        python::metadata(&self.open(file)?.read_first(MAX_METADATA_BYTES)?)
    }

    /// What is at a path, if anything is.
    fn find(&self, path: &[u8]) -> Option<Place> {
        // A path that leads in circles leads its manager nowhere too.
        let ino = self.files.tree().resolve(path, Symlinks::Follow).ok()?;
        Some(Place { path: path.to_vec(), ino })
    }

    /// What is in a directory under names that are wanted, in the order of the names; nothing if there is none.
    fn files_in(&self, dir: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Place>, Error> {
        let tree = self.files.tree();
        let Some(Place { ino, .. }) = self.find(dir) else { return Ok(Vec::new()) };
        let names = tree.children_by_name(ino).map(|child| child.name);
        let places =
            names.filter(|name| is_wanted(name)).filter_map(|name| self.find(&join(dir, name)));
        let places: Vec<Place> = places.take(MAX_FILES + 1).collect();
        match places.len() <= MAX_FILES {
            true => Ok(places),
            false => Err(Error::TooManyFiles { limit: MAX_FILES }),
        }
    }

    fn open(&self, file: Ino) -> Result<ImageFile<'a>, Error> {
        ImageFile::open(self.files, file, MAX_DATABASE_BYTES)
    }

    fn read_text(&self, place: &Place) -> Result<Vec<u8>, Error> {
        ImageFile::open(self.files, place.ino, MAX_TEXT_BYTES)?.read_all()
    }

    /// Keeps what was read, or why it was not.
    fn add(
        &mut self,
        about: About<'_>,
        entries: Result<Vec<Entry>, Error>,
    ) -> Result<(), fs::Error> {
        let place = Arc::from(about.path);
        let added = entries.and_then(|entries| self.found.add(about.manager, &place, entries));
        self.or_problem(about, added).map(|_| ())
    }

    /// What was read; none if there is a problem with it, which is kept.
    fn or_problem<T>(
        &mut self,
        about: About<'_>,
        read: Result<T, Error>,
    ) -> Result<Option<T>, fs::Error> {
        let why = match read {
            Ok(value) => return Ok(Some(value)),
            Err(Error::Access(e)) => return Err(e),
            Err(why) => why,
        };
        let About { manager, path, missing } = about;
        // That packages are missing is never left out.
        let is_new = missing == Missing::Many && self.found.knows(manager);
        if is_new || self.found.problems.len() < MAX_PROBLEMS {
            self.found.problems.push(Problem { manager, place: path.to_vec(), why, missing });
        }
        Ok(None)
    }
}

/// What is being read.
struct About<'a> {
    manager: Manager,
    path: &'a [u8],
    /// What is missing if it can't be.
    missing: Missing,
}

impl<'a> About<'a> {
    /// A database, which all packages are in.
    fn many(manager: Manager, path: &'a [u8]) -> About<'a> {
        About { manager, path, missing: Missing::Many }
    }

    /// A package that stands alone.
    fn one(manager: Manager, path: &'a [u8]) -> About<'a> {
        About { manager, path, missing: Missing::One }
    }
}

/// Whether Python's distributions are in a directory.
fn is_site(tree: &Tree, dir: Ino) -> bool {
    let name = tree.parent(dir).and_then(|parent| tree.name_in(parent, dir));
    dir != Ino::ROOT && name.is_some_and(python::is_site)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    [dir, name].join(&b'/')
}
