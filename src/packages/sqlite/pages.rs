//! Pages of a database, the newest of each.

use std::cell::RefCell;
use std::collections::HashSet;

use super::wal::Wal;
use crate::packages::budget::Budget;
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::{be16, be32};

pub use crate::packages::budget::MAX_READ_BYTES;

/// Bytes of the header, which page 1 begins with.
pub(super) const HEADER_BYTES: usize = 100;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const UTF_8: u32 = 1;

/// The least of a page that is left for use (fileformat2.html, 1.3.4).
const MIN_USABLE_BYTES: usize = 480;

/// All pages.
#[derive(Debug)]
pub(super) struct Pages<'a, B: ?Sized> {
    file: &'a B,
    wal: Option<Wal<'a, B>>,
    page_bytes: usize,
    /// Bytes of a page that are not reserved.
    pub(super) usable: usize,
    count: u32,
    pub(super) budget: Budget,
    /// Pages that were read in this scan.
    visited: RefCell<HashSet<u32>>,
}

impl<'a, B: Bytes + ?Sized> Pages<'a, B> {
    pub(super) fn open(file: &'a B, wal: Option<&'a B>) -> Result<Pages<'a, B>, Error> {
        if file.size() < HEADER_BYTES as u64 {
            return Err(Error::Corrupt("it is too short for an SQLite database"));
        }
        let mut start = [0; HEADER_BYTES];
        file.read_exact_at(&mut start, 0)?;
        let page_bytes = page_bytes(&start)?;
        let budget = Budget::default();
        let wal = match wal {
            Some(wal) => Wal::open(wal, page_bytes, &budget)?,
            None => None,
        };
        let in_file = u32::try_from(file.size() / page_bytes as u64).unwrap_or(u32::MAX);
        let logged = wal.as_ref().map(Wal::pages);
        let count = logged.unwrap_or(in_file);
        let visited = RefCell::default();
        let mut pages = Pages { file, wal, page_bytes, usable: page_bytes, count, budget, visited };
        // The newest header may be in the log.
        let header = pages.page(1)?;
        if self::page_bytes(&header)? != page_bytes {
            return Err(Error::Corrupt("its log is of another database"));
        }
        let number = |at: usize| be32(&header, at).unwrap_or_default();
        let said = number(28);
        if logged.is_none() && said != 0 && number(24) == number(92) {
            if said > in_file {
                return Err(Error::Corrupt("it has fewer pages than it says"));
            }
            pages.count = said;
        }
        pages.usable = page_bytes - usize::from(header[20]);
        if pages.usable < MIN_USABLE_BYTES {
            return Err(Error::Corrupt("its pages have no room"));
        }
        if header[19] > 2 {
            return Err(Error::NotSupported("a newer format of SQLite"));
        }
        if !matches!(number(56), 0 | UTF_8) {
            return Err(Error::NotSupported("an SQLite database in UTF-16"));
        }
        Ok(pages)
    }

    /// Begins a scan.
    pub(super) fn begin(&self) {
        self.visited.borrow_mut().clear();
    }

    /// A page that this scan has not been to.
    pub(super) fn new_page(&self, number: u32) -> Result<Vec<u8>, Error> {
        match self.visited.borrow_mut().insert(number) {
            true => self.page(number),
            false => Err(Error::Page { page: number, what: "it is in two places" }),
        }
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, Error> {
        if number == 0 || number > self.count {
            return Err(Error::Page { page: number, what: "there is no such page" });
        }
        self.budget.spend(self.page_bytes as u64)?;
        let mut page = vec![0; self.page_bytes];
        let is_logged = match &self.wal {
            Some(wal) => wal.read(number, &mut page)?,
            None => false,
        };
        if !is_logged {
            let place = u64::from(number - 1) * self.page_bytes as u64;
            self.file.read_exact_at(&mut page, place)?;
        }
        Ok(page)
    }
}

/// The size of pages that a header names.
fn page_bytes(header: &[u8]) -> Result<usize, Error> {
    if !header.starts_with(MAGIC) {
        return Err(Error::Corrupt("it is not an SQLite database"));
    }
    let size = match be16(header, 16).unwrap_or_default() {
        1 => 65536,
        size => usize::from(size),
    };
    match (512..=65536).contains(&size) && size.is_power_of_two() {
        true => Ok(size),
        false => Err(Error::Corrupt("its pages have an impossible size")),
    }
}
