//! The file with the rows of all snapshots.
//!
//! # Problem
//!
//! What containers run on must be known after a crash. And a file can be damaged, be of a newer version, or lie on a disk
//! that is full for a while; none of that may end this program, because containerd would then tell its users nothing but
//! that a socket does not answer.
//!
//! # Design
//!
//! redb: one file, transactions, written so that a crash at any moment leaves the one or the other state. Rows are
//! JSON, so that fields can be added. The file is opened when it is first used; what fails then is the answer
//! to that call, and the next one tries again. So it is after an error of the disk, after which redb does nothing until it
//! is opened anew. All of it is checked when it is opened; it is a few hundred rows.
//!
//! One call at a time: a row is looked up in microseconds, and what takes long (trees, directories) happens outside.
//!
//! (Rejected: to begin a new database where the old one is damaged. containerd knows snapshots by names
//! that this one would not have, and containers that run have their directories here.)

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Database as Redb, ReadableDatabase, TableDefinition, WriteTransaction};

/// What files of this version say of themselves.
const VERSION: u64 = 1;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const VERSION_KEY: &str = "version";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the database {0} is of version {1}, and this program reads version {VERSION}: start the newer program again"
    )]
    Newer(PathBuf, u64),
    #[error(
        "the database {0} is damaged: {1}; stop containerd, move the folder of the database away and remove the images of this snapshotter"
    )]
    Damaged(PathBuf, String),
    #[error("the database {0} is in use: another ocifs-snapshotter runs")]
    InUse(PathBuf),
    #[error("the database {0}: {1}")]
    Disk(PathBuf, String),
}

/// Makes the tables of a new file.
type Begin = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// The file.
pub(crate) struct Database {
    path: PathBuf,
    begin: Begin,
    open: Mutex<Option<Redb>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.path).finish()
    }
}

impl Database {
    pub(crate) fn new(path: &Path, begin: Begin) -> Database {
        Database { path: path.to_owned(), begin, open: Mutex::new(None) }
    }

    /// Does something with the file, which is opened if it is not.
    ///
    /// # Errors
    /// What `act` returns, or what is wrong with the file.
    pub(crate) fn with<T, E: From<Error>>(
        &self,
        act: impl FnOnce(&Redb) -> Result<Result<T, E>, redb::Error>,
    ) -> Result<T, E> {
        // What a thread that panicked has left is a transaction that was not made.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match &*open {
            Some(database) => database,
            None => open.insert(self.open()?),
        };
        // A page that makes no sense may end in a panic.
        let result = catch_unwind(AssertUnwindSafe(|| act(database)));
        let result = result.unwrap_or_else(|why| Err(redb::Error::Corrupted(panicked(&*why))));
        result.unwrap_or_else(|error| {
            *open = None;
            Err(self.error(error).into())
        })
    }

    fn open(&self) -> Result<Redb, Error> {
        let opened = catch_unwind(|| {
            let mut database = Redb::create(&self.path)?;
            database.check_integrity()?;
            let version = version(&database, self.begin)?;
            Ok::<_, redb::Error>((database, version))
        });
        let opened = opened.unwrap_or_else(|why| Err(redb::Error::Corrupted(panicked(&*why))));
        match opened.map_err(|error| self.error(error))? {
            (database, VERSION) => Ok(database),
            (_, version) => Err(Error::Newer(self.path.clone(), version)),
        }
    }

    fn error(&self, error: redb::Error) -> Error {
        let path = self.path.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen => Error::InUse(path),
            redb::Error::Io(error) if is_of_the_disk(&error) => {
                Error::Disk(path, error.to_string())
            }
            redb::Error::PreviousIo => Error::Disk(path, "writing failed before".to_owned()),
            error => Error::Damaged(path, error.to_string()),
        }
    }
}

/// Whether the system said it: what redb finds wrong with a file has no number.
fn is_of_the_disk(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some()
}

fn panicked(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref().copied()).unwrap_or("it can't be read").to_owned()
}

/// The version of a file, which is this one's if the file is new.
fn version(database: &Redb, begin: Begin) -> Result<u64, redb::Error> {
    let reading = database.begin_read()?;
    match reading.open_table(ABOUT) {
        Ok(table) => {
            let version = table.get(VERSION_KEY)?.map(|version| version.value());
            return Ok(version.unwrap_or(0));
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let writing = database.begin_write()?;
    writing.open_table(ABOUT)?.insert(VERSION_KEY, VERSION)?;
    begin(&writing)?;
    writing.commit()?;
    Ok(VERSION)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn at(path: &Path) -> Database {
        Database::new(path, |_| Ok(()))
    }

    fn touch(database: &Database) -> Result<(), Error> {
        database.with(|_| Ok(Ok(())))
    }

    #[test]
    fn a_new_file_is_made_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for _ in 0..2 {
            touch(&at(&path)).unwrap();
        }
    }

    #[test]
    fn two_programs_do_not_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let first = at(&path);
        touch(&first).unwrap();
        let second = at(&path);
        assert_eq!(touch(&second), Err(Error::InUse(path)));
        drop(first);
        touch(&second).unwrap();
    }

    #[test]
    fn newer_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let database = Redb::create(&path).unwrap();
        let writing = database.begin_write().unwrap();
        writing.open_table(ABOUT).unwrap().insert(VERSION_KEY, VERSION + 1).unwrap();
        writing.commit().unwrap();
        drop(database);
        let before = fs::read(&path).unwrap();
        let error = touch(&at(&path)).unwrap_err();
        assert_eq!(error, Error::Newer(path.clone(), VERSION + 1));
        assert_eq!(fs::read(&path).unwrap().len(), before.len());
    }

    /// Every part of the file overwritten in turn: an error, or the file is as good as before; never a panic.
    #[test]
    fn damage_is_an_error_and_ends_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        touch(&at(&path)).unwrap();
        let good = fs::read(&path).unwrap();
        let mut damaged = 0;
        for start in (0..good.len()).step_by(good.len() / 64) {
            let mut bytes = good.clone();
            let end = (start + good.len() / 64).min(bytes.len());
            bytes[start..end].fill(0xa5);
            fs::write(&path, bytes).unwrap();
            let database = at(&path);
            if let Err(error) = touch(&database) {
                assert!(matches!(error, Error::Damaged(..) | Error::Newer(..)), "{error:?}");
                damaged += 1;
                fs::write(&path, &good).unwrap();
                touch(&database).unwrap();
            }
        }
        assert!(damaged > 0);
        fs::write(&path, b"something else").unwrap();
        let error = touch(&at(&path)).unwrap_err();
        assert!(matches!(error, Error::Damaged(..)), "{error:?}");
    }
}
