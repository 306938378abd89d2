//! Rows: records that are read from their front, as far as they are wanted.

use super::pages::Pages;
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::be32;
use crate::packages::prefix::{Prefix, wanted};

/// Bytes at the start of a page of a chain: the next.
const NEXT_BYTES: usize = 4;

/// A row of a table.
#[derive(Debug)]
pub struct Row<'a, B: ?Sized> {
    pages: &'a Pages<'a, B>,
    /// What of the record was read.
    bytes: Vec<u8>,
    /// How many bytes it has in all.
    size: u64,
    /// The page where it goes on, or 0.
    next: u32,
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
struct Value {
    kind: u64,
    start: usize,
    size: usize,
}

impl<'a, B: Bytes + ?Sized> Row<'a, B> {
    /// A record of which `bytes` are in its cell.
    pub(super) fn new(pages: &'a Pages<'a, B>, bytes: Vec<u8>, size: u64, next: u32) -> Self {
        Row { pages, bytes, size, next }
    }

    /// Whether a column has this text, but for the case of letters, as SQLite compares names.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn is_text(&mut self, column: usize, text: &[u8]) -> Result<bool, Error> {
        let Some(value) = self.value(column)? else { return Ok(false) };
        if value.kind < 13 || value.kind % 2 == 0 || value.size != text.len() {
            return Ok(false);
        }
        Ok(self.bytes_of(value)?.eq_ignore_ascii_case(text))
    }

    /// The whole number in a column.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn integer(&mut self, column: usize) -> Result<Option<i64>, Error> {
        let Some(value) = self.value(column)? else { return Ok(None) };
        match value.kind {
            8 => return Ok(Some(0)),
            9 => return Ok(Some(1)),
            1..=6 => {}
            _ => return Ok(None),
        }
        let bytes = self.bytes_of(value)?;
        let sign = if bytes[0] >= 0x80 { -1 } else { 0 };
        Ok(Some(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))))
    }

    /// The bytes in a column.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn blob(&mut self, column: usize) -> Result<Option<Blob<'_, 'a, B>>, Error> {
        let value = self.value(column)?;
        let value = value.filter(|value| value.kind >= 12 && value.kind.is_multiple_of(2));
        Ok(value.map(|value| Blob { row: self, value }))
    }

    /// Where the value of a column is; none if the row has fewer columns.
    fn value(&mut self, column: usize) -> Result<Option<Value>, Error> {
        const CORRUPT: Error = Error::Corrupt("a record has no head");
        let (head_bytes, _) = varint(self.first(9)?).ok_or(CORRUPT)?;
        let head_bytes = usize::try_from(head_bytes).map_err(|_| CORRUPT)?;
        let head = self.first(head_bytes)?;
        if head.len() < head_bytes {
            return Err(CORRUPT);
        }
        let (_, mut kinds) = varint(head).ok_or(CORRUPT)?;
        let mut start = head_bytes;
        for at in 0.. {
            if kinds.is_empty() {
                break;
            }
            let (kind, rest) = varint(kinds).ok_or(CORRUPT)?;
            let size = size_of(kind).ok_or(CORRUPT)?;
            if at == column {
                return Ok(Some(Value { kind, start, size }));
            }
            start = start.checked_add(size).ok_or(CORRUPT)?;
            kinds = rest;
        }
        Ok(None)
    }

    /// All bytes of a value.
    fn bytes_of(&mut self, value: Value) -> Result<&[u8], Error> {
        const CORRUPT: Error = Error::Corrupt("a record is shorter than its values");
        let end = value.start.checked_add(value.size).ok_or(CORRUPT)?;
        self.first(end)?.get(value.start..end).ok_or(CORRUPT)
    }
}

impl<B: Bytes + ?Sized> Prefix for Row<'_, B> {
    fn first(&mut self, length: usize) -> Result<&[u8], Error> {
        let wanted = wanted(length, self.size)?;
        while self.bytes.len() < wanted {
            let page = self.pages.new_page(self.next)?;
            self.next = be32(&page, 0).unwrap_or_default();
            let left = usize::try_from(self.size - self.bytes.len() as u64).unwrap_or(usize::MAX);
            let content = &page[NEXT_BYTES..self.pages.usable];
            self.bytes.extend_from_slice(&content[..left.min(content.len())]);
        }
        Ok(&self.bytes[..wanted])
    }
}

/// Bytes of a row.
#[derive(Debug)]
pub struct Blob<'r, 'a, B: ?Sized> {
    row: &'r mut Row<'a, B>,
    value: Value,
}

impl<B: Bytes + ?Sized> Prefix for Blob<'_, '_, B> {
    fn first(&mut self, length: usize) -> Result<&[u8], Error> {
        let Value { start, size, .. } = self.value;
        let bytes = self.row.first(start.saturating_add(length.min(size)))?;
        Ok(bytes.get(start..).unwrap_or_default())
    }
}

/// How many bytes a value has (fileformat2.html, 2.1); none of those kinds that are not used.
fn size_of(kind: u64) -> Option<usize> {
    match kind {
        0 | 8 | 9 => Some(0),
        1..=4 => Some(kind as usize),
        5 => Some(6),
        6 | 7 => Some(8),
        10 | 11 => None,
        _ => usize::try_from((kind - 12) / 2).ok(),
    }
}

/// A number of one to nine bytes, and what is behind it: seven bits of each byte, and all eight of the ninth.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(8)?), &bytes[9..]))
}
