//! The write-ahead log of a database.
//!
//! ```text
//! head     magic u32, version u32, page size u32, checkpoint u32, salts 2 × u32, checksums 2 × u32 of these 24 bytes
//! frame    page number u32, pages of the database u32 if a transaction ends here or else 0, salts, checksums; the page
//! ```
//!
//! A log counts from its head up to the last end of a transaction before the first frame that is not right: one with
//! other salts is of an earlier use of the file, and one whose checksums do not continue those before it was not written
//! to its end (fileformat2.html, 4; `walIndexRecover` of SQLite). rpm leaves a log with content where it was killed, or where
//! the image was made while rpm ran; else it is empty.

use std::collections::HashMap;

use crate::packages::budget::Budget;
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::be32;

const HEAD_BYTES: usize = 32;
const FRAME_HEAD_BYTES: usize = 24;

/// Its last bit says in which order of bytes the checksums are made.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// What a log has that counts.
#[derive(Debug)]
pub(super) struct Wal<'a, B: ?Sized> {
    file: &'a B,
    /// Where the newest of each page is.
    places: HashMap<u32, u64>,
    pages: u32,
}

impl<'a, B: Bytes + ?Sized> Wal<'a, B> {
    /// Reads a log; none if nothing in it counts.
    pub(super) fn open(
        file: &'a B,
        page_bytes: usize,
        budget: &Budget,
    ) -> Result<Option<Wal<'a, B>>, Error> {
        let size = file.size();
        if size <= HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0)?;
        let number = |at: usize| be32(&head, at).unwrap_or_default();
        let mut sums = Checksums { is_big: number(0) & 1 == 1, values: (0, 0) };
        sums.add(&head[..24]);
        if number(0) & !1 != MAGIC || sums.values != (number(24), number(28)) {
            return Ok(None);
        }
        if number(4) != VERSION {
            return Err(Error::NotSupported("a newer format of SQLite's write-ahead logs"));
        }
        if number(8) as usize != page_bytes {
            return Err(Error::Corrupt("its log is of another database"));
        }
        let mut wal = Wal { file, places: HashMap::new(), pages: 0 };
        // Of the transaction that has not ended yet.
        let mut pending = Vec::new();
        let mut frame = vec![0; FRAME_HEAD_BYTES + page_bytes];
        let mut place = HEAD_BYTES as u64;
        while size - place >= frame.len() as u64 {
            budget.spend(frame.len() as u64)?;
            file.read_exact_at(&mut frame, place)?;
            let number = |at: usize| be32(&frame, at).unwrap_or_default();
            sums.add(&frame[..8]);
            sums.add(&frame[FRAME_HEAD_BYTES..]);
            let is_whole = sums.values == (number(16), number(20));
            if frame[8..16] != head[16..24] || !is_whole || number(0) == 0 {
                break;
            }
            pending.push((number(0), place + FRAME_HEAD_BYTES as u64));
            if number(4) != 0 {
                wal.places.extend(pending.drain(..));
                wal.pages = number(4);
            }
            place += frame.len() as u64;
        }
        Ok(Some(wal).filter(|wal| wal.pages != 0))
    }

    /// How many pages the database has.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Fills a page; false if the log does not have it.
    pub(super) fn read(&self, number: u32, page: &mut [u8]) -> Result<bool, Error> {
        match self.places.get(&number) {
            Some(place) => self.file.read_exact_at(page, *place).map(|()| true),
            None => Ok(false),
        }
    }
}

/// The checksums of all that came so far.
struct Checksums {
    is_big: bool,
    values: (u32, u32),
}

impl Checksums {
    /// Adds bytes, a multiple of eight.
    fn add(&mut self, bytes: &[u8]) {
        let number = match self.is_big {
            true => u32::from_be_bytes,
            false => u32::from_le_bytes,
        };
        let (mut first, mut second) = self.values;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(number([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(number([e, f, g, h])).wrapping_add(first);
        }
        self.values = (first, second);
    }
}
