//! rpm's own database of packages, in which SUSE's distributions keep theirs.
//!
//! All numbers are little-endian (rpm, `lib/backend/ndb/rpmpkg.c`):
//!
//! ```text
//! file     head, slots up to the end of a number of pages of 4096 bytes, then blobs in blocks of 16 bytes
//! head     "RpmP", version u32, generation u32, pages of slots u32, next package u32, 12 bytes
//! slot     "Slot", package u32, first block u32 or 0 if it is free, number of blocks u32
//! blob     "BlbS", package u32, generation u32, length u32; the header; then checksum u32, length u32, "BlbE"
//! ```

use crate::packages::budget::Budget;
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::le32;
use crate::packages::prefix::{Prefix, wanted};

const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";

const PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK_BYTES: u64 = 16;
/// The head takes the place of the first slots.
const HEAD_BYTES: usize = 32;
const BLOB_HEAD_BYTES: usize = 16;
const BLOB_TAIL_BYTES: u64 = 12;

/// The least that is read of a blob at a time, in bytes.
const STEP_BYTES: usize = 4096;

/// Hands on the headers, in the order of their slots.
pub(super) fn read<B: Bytes + ?Sized>(
    file: &B,
    visit: &mut dyn FnMut(&mut dyn Prefix) -> Result<(), Error>,
) -> Result<(), Error> {
    const SHORT: Error = Error::Corrupt("it is too short for a database of packages");
    let budget = Budget::default();
    let mut page = [0; PAGE_BYTES];
    if file.size() < PAGE_BYTES as u64 {
        return Err(SHORT);
    }
    file.read_exact_at(&mut page, 0)?;
    if !page.starts_with(MAGIC) {
        return Err(Error::Corrupt("it is not a database of packages"));
    }
    if le32(&page, 4) != Some(0) {
        return Err(Error::NotSupported("a newer format of rpm's databases"));
    }
    let slot_pages = u64::from(le32(&page, 12).unwrap_or_default());
    if slot_pages * PAGE_BYTES as u64 > file.size() {
        return Err(SHORT);
    }
    for number in 0..slot_pages {
        budget.spend(PAGE_BYTES as u64)?;
        file.read_exact_at(&mut page, number * PAGE_BYTES as u64)?;
        let slots = &page[if number == 0 { HEAD_BYTES } else { 0 }..];
        for slot in slots.chunks_exact(SLOT_BYTES) {
            let number = |at: usize| le32(slot, at).unwrap_or_default();
            let (package, first, blocks) = (number(4), number(8), number(12));
            if !slot.starts_with(SLOT_MAGIC) {
                return Err(Error::Corrupt("a slot is none"));
            }
            if first != 0 {
                let start = u64::from(first) * BLOCK_BYTES;
                let size = u64::from(blocks) * BLOCK_BYTES;
                if start < slot_pages * PAGE_BYTES as u64 {
                    return Err(Error::Corrupt("a package lies among the slots"));
                }
                visit(&mut Blob::open(file, &budget, package, start, size)?)?;
            }
        }
    }
    Ok(())
}

/// A header in the file.
struct Blob<'a, B: ?Sized> {
    file: &'a B,
    budget: &'a Budget,
    start: u64,
    size: u64,
    bytes: Vec<u8>,
}

impl<'a, B: Bytes + ?Sized> Blob<'a, B> {
    /// What begins at an offset and has a number of bytes with what is before and behind it.
    fn open(
        file: &'a B,
        budget: &'a Budget,
        package: u32,
        start: u64,
        outer_size: u64,
    ) -> Result<Blob<'a, B>, Error> {
        let mut head = [0; BLOB_HEAD_BYTES];
        budget.spend(head.len() as u64)?;
        file.read_exact_at(&mut head, start)?;
        if !head.starts_with(BLOB_MAGIC) || le32(&head, 4) != Some(package) || package == 0 {
            return Err(Error::Corrupt("a slot leads to no package of its number"));
        }
        let size = u64::from(le32(&head, 12).unwrap_or_default());
        let needed = BLOB_HEAD_BYTES as u64 + size + BLOB_TAIL_BYTES;
        if needed.next_multiple_of(BLOCK_BYTES) != outer_size {
            return Err(Error::Corrupt("a package has another size than its slot says"));
        }
        let start = start + BLOB_HEAD_BYTES as u64;
        Ok(Blob { file, budget, start, size, bytes: Vec::new() })
    }
}

impl<B: Bytes + ?Sized> Prefix for Blob<'_, B> {
    fn first(&mut self, length: usize) -> Result<&[u8], Error> {
        let wanted = wanted(length, self.size)?;
        let known = self.bytes.len();
        if known < wanted {
            let more = (wanted - known).max(STEP_BYTES);
            let left = usize::try_from(self.size - known as u64).unwrap_or(usize::MAX);
            let more = more.min(left);
            self.budget.spend(more as u64)?;
            self.bytes.resize(known + more, 0);
            self.file.read_exact_at(&mut self.bytes[known..], self.start + known as u64)?;
        }
        Ok(&self.bytes[..wanted])
    }
}
