//! A database and its tables.

use super::pages::Pages;
use super::table::{Visit, scan};
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;

/// The page where the table of tables begins.
const SCHEMA: u32 = 1;

/// A database.
#[derive(Debug)]
pub struct Database<'a, B: ?Sized>(Pages<'a, B>);

impl<'a, B: Bytes + ?Sized> Database<'a, B> {
    /// Opens a database with its write-ahead log, the file beside it that has `-wal` behind its name.
    ///
    /// # Errors
    /// It is none, is of a kind that rpm does not make, or can't be read.
    pub fn open(file: &'a B, wal: Option<&'a B>) -> Result<Database<'a, B>, Error> {
        Pages::open(file, wal).map(Database)
    }

    /// The root page of a table.
    ///
    /// # Errors
    /// The schema can't be read.
    pub fn table(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut root = None;
        self.rows(SCHEMA, &mut |row| {
            if row.is_text(0, b"table")? && row.is_text(1, name.as_bytes())? {
                let page = row.integer(3)?.and_then(|page| u32::try_from(page).ok());
                root = Some(page.ok_or(Error::Corrupt("a table has no root page"))?);
            }
            Ok(())
        })?;
        Ok(root)
    }

    /// Hands on the rows of a table, in the order of their numbers.
    ///
    /// # Errors
    /// Corrupt pages, or what `visit` returns.
    pub fn rows(&self, root: u32, visit: &mut Visit<'_, B>) -> Result<(), Error> {
        scan(&self.0, root, visit)
    }
}
