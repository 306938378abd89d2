//! Databases of rpm, in the three formats that it has had.
//!
//! | file | format | written by |
//! |---|---|---|
//! | `rpmdb.sqlite` | [SQLite](crate::packages::sqlite), table `Packages` | rpm 4.16 and later: Fedora, RHEL 9 and 10 with their relatives |
//! | `Packages.db` | ndb, rpm's own | SUSE |
//! | `Packages` | a hash table of Berkeley DB | rpm before 4.16: RHEL 8 and before, Amazon Linux 2 |
//!
//! What each keeps of a package is its header (`header`); all else in a database is made of these. A key of a
//! signature is there as the package `gpg-pubkey`, as `rpm -qa` shows it too.
//!
//! Checksums of ndb are not looked at: that the bytes are the image's is known already.

mod bdb;
mod header;
mod ndb;

use super::error::Error;
use super::image_file::Bytes;
use super::inventory::Entry;
use super::limits::MAX_PACKAGES;
use super::prefix::Prefix;
use super::sqlite::Database;

/// Packages that are being read.
#[derive(Default)]
struct Headers {
    entries: Vec<Entry>,
}

impl Headers {
    fn add(&mut self, blob: &mut dyn Prefix) -> Result<(), Error> {
        if self.entries.len() == MAX_PACKAGES {
            return Err(Error::TooManyPackages);
        }
        self.entries.push(header::read(blob)?);
        Ok(())
    }
}

/// Reads one header.
///
/// # Errors
/// It is corrupt, or lacks what every package has.
pub fn header(bytes: &[u8]) -> Result<Entry, Error> {
    let mut bytes = bytes;
    header::read(&mut bytes)
}

/// Reads `rpmdb.sqlite`, with the write-ahead log `rpmdb.sqlite-wal`.
///
/// # Errors
/// It is corrupt, or can't be read.
pub fn sqlite<B: Bytes + ?Sized>(file: &B, wal: Option<&B>) -> Result<Vec<Entry>, Error> {
    let database = Database::open(file, wal)?;
    let root = database.table("Packages")?;
    let root = root.ok_or(Error::Corrupt("it has no table `Packages`"))?;
    let mut headers = Headers::default();
    database.rows(root, &mut |row| {
        let blob = row.blob(1)?;
        headers.add(&mut blob.ok_or(Error::Corrupt("a package has no header"))?)
    })?;
    Ok(headers.entries)
}

/// Reads `Packages.db`.
///
/// # Errors
/// It is corrupt, or can't be read.
pub fn ndb<B: Bytes + ?Sized>(file: &B) -> Result<Vec<Entry>, Error> {
    let mut headers = Headers::default();
    ndb::read(file, &mut |blob| headers.add(blob))?;
    Ok(headers.entries)
}

/// Reads `Packages`.
///
/// # Errors
/// It is corrupt, no hash table, or can't be read.
pub fn bdb<B: Bytes + ?Sized>(file: &B) -> Result<Vec<Entry>, Error> {
    let mut headers = Headers::default();
    bdb::read(file, &mut |blob| headers.add(blob))?;
    Ok(headers.entries)
}
