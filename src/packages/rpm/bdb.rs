//! Hash tables of Berkeley DB, in which rpm kept its packages until version 4.16.
//!
//! Numbers are in the order of bytes of the machine that wrote them (rpm, `lib/backend/bdb_ro.c`; Berkeley DB,
//! `dbinc/db_page.h`):
//!
//! ```text
//! meta     page 0: 8 bytes, page u32, magic u32, version u32, page size u32, encryption u8, kind u8 at 25, …, last page u32
//!          at 32, …, last bucket u32 at 72, …, 32 × u32 at 96: what is added to the number of a bucket for its page, for each power of two
//! page     8 bytes, its number u32, previous u32, next u32, items u16, end of free room or bytes used u16, level u8, kind u8;
//!          then the offsets of items, u16 each, which end where the one before begins
//! item     kind u8: 1 bytes; 3 three bytes, first page u32, length u32
//! ```
//!
//! The items of a bucket, on a page and those that are next to it, are keys and values in turn: the number of a package,
//! and its header. The key 0 has the next number. Long values are in chains of pages of their own.
//!
//! Values can't be reached by their keys here: all are wanted. A table that is a tree would be a database that no rpm
//! wrote, and an encrypted one can't be read by rpm either.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::packages::budget::Budget;
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::array;
use crate::packages::prefix::{Prefix, wanted};

const META_BYTES: usize = 512;
const MAGIC: u32 = 0x0006_1561;
const TREE_MAGIC: u32 = 0x0005_3162;
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;

const PAGE_HEAD_BYTES: usize = 26;

/// Kinds of pages.
const UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const META: u8 = 8;
const SORTED: u8 = 13;

/// Kinds of items.
const BYTES: u8 = 1;
const ELSEWHERE: u8 = 3;
const ELSEWHERE_BYTES: usize = 12;

/// Hands on the headers, in the order of the table.
pub(super) fn read<B: Bytes + ?Sized>(
    file: &B,
    visit: &mut dyn FnMut(&mut dyn Prefix) -> Result<(), Error>,
) -> Result<(), Error> {
    let table = Table::open(file)?;
    for bucket in 0..=table.last_bucket {
        let mut next = table.page_of(bucket)?;
        while next != 0 {
            let page = table.new_page(next)?;
            if !matches!(page.kind(), UNSORTED | SORTED) {
                return Err(page.corrupt("it is not one of a bucket"));
            }
            let items = usize::from(page.short(20));
            for at in (1..items).step_by(2) {
                let (key, value) = (page.item(at - 1)?, page.item(at)?);
                if key != [BYTES, 0, 0, 0, 0] {
                    visit(&mut Value::new(&table, &page, value)?)?;
                }
            }
            next = page.number(16);
        }
    }
    Ok(())
}

/// The order of bytes in numbers.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn number(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = array(bytes, at).unwrap_or_default();
        if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn short(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = array(bytes, at).unwrap_or_default();
        if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

/// A table.
struct Table<'a, B: ?Sized> {
    file: &'a B,
    order: Order,
    page_bytes: usize,
    last_page: u32,
    last_bucket: u32,
    /// What is added to the number of a bucket for its page, for each power of two.
    spares: [u32; 32],
    budget: Budget,
    /// Pages that were read: each has one place.
    visited: RefCell<HashSet<u32>>,
}

impl<'a, B: Bytes + ?Sized> Table<'a, B> {
    fn open(file: &'a B) -> Result<Table<'a, B>, Error> {
        let mut meta = [0; META_BYTES];
        if file.size() < META_BYTES as u64 {
            return Err(Error::Corrupt("it is too short for a Berkeley DB"));
        }
        file.read_exact_at(&mut meta, 0)?;
        let order = Order { is_big: meta[12] == 0 };
        let number = |at: usize| order.number(&meta, at);
        match number(12) {
            MAGIC => {}
            TREE_MAGIC => return Err(Error::NotSupported("a Berkeley DB that is a tree")),
            _ => return Err(Error::Corrupt("it is not a Berkeley DB")),
        }
        if !VERSIONS.contains(&number(16)) {
            return Err(Error::NotSupported("another version of Berkeley DB"));
        }
        if meta[24] != 0 {
            return Err(Error::NotSupported("an encrypted Berkeley DB"));
        }
        let page_bytes = number(20) as usize;
        if !(512..=65536).contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(Error::Corrupt("its pages have an impossible size"));
        }
        let (last_page, last_bucket) = (number(32), number(72));
        if meta[25] != META || u64::from(last_page) >= file.size() / page_bytes as u64 {
            return Err(Error::Corrupt("it has fewer pages than it says"));
        }
        if last_bucket > last_page {
            return Err(Error::Corrupt("it has more buckets than pages"));
        }
        let spares = std::array::from_fn(|at| number(96 + 4 * at));
        let (budget, visited) = (Budget::default(), RefCell::default());
        Ok(Table { file, order, page_bytes, last_page, last_bucket, spares, budget, visited })
    }

    fn page_of(&self, bucket: u32) -> Result<u32, Error> {
        let power = (u32::BITS - bucket.leading_zeros()) as usize;
        let spare = self.spares.get(power).and_then(|spare| spare.checked_add(bucket));
        spare.ok_or(Error::Corrupt("a bucket has no page"))
    }

    fn new_page(&self, number: u32) -> Result<Page, Error> {
        let corrupt = |what| Err(Error::Page { page: number, what });
        if number == 0 || number > self.last_page {
            return corrupt("there is no such page");
        }
        if !self.visited.borrow_mut().insert(number) {
            return corrupt("it is in two places");
        }
        self.budget.spend(self.page_bytes as u64)?;
        let mut bytes = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut bytes, u64::from(number) * self.page_bytes as u64)?;
        let page = Page { own: number, order: self.order, bytes };
        match page.number(8) == number {
            true => Ok(page),
            false => corrupt("it has the number of another page"),
        }
    }
}

struct Page {
    own: u32,
    order: Order,
    bytes: Vec<u8>,
}

impl Page {
    fn corrupt(&self, what: &'static str) -> Error {
        Error::Page { page: self.own, what }
    }

    fn kind(&self) -> u8 {
        self.bytes[25]
    }

    fn number(&self, at: usize) -> u32 {
        self.order.number(&self.bytes, at)
    }

    fn short(&self, at: usize) -> u16 {
        self.order.short(&self.bytes, at)
    }

    /// An item, with its kind in front.
    fn item(&self, at: usize) -> Result<&[u8], Error> {
        let offset = |at: usize| usize::from(self.short(PAGE_HEAD_BYTES + at * 2));
        let end = if at == 0 { self.bytes.len() } else { offset(at - 1) };
        let item = self.bytes.get(offset(at)..end).filter(|item| !item.is_empty());
        item.ok_or_else(|| self.corrupt("an item lies outside of it"))
    }
}

/// A value, on the page of its bucket or elsewhere.
struct Value<'a, B: ?Sized> {
    table: &'a Table<'a, B>,
    bytes: Vec<u8>,
    size: u64,
    next: u32,
}

impl<'a, B: Bytes + ?Sized> Value<'a, B> {
    fn new(table: &'a Table<'a, B>, page: &Page, item: &[u8]) -> Result<Value<'a, B>, Error> {
        match item {
            [BYTES, bytes @ ..] => {
                table.budget.spend(bytes.len() as u64)?;
                Ok(Value { table, bytes: bytes.to_vec(), size: bytes.len() as u64, next: 0 })
            }
            [ELSEWHERE, ..] if item.len() == ELSEWHERE_BYTES => {
                let number = |at| page.order.number(item, at);
                let size = u64::from(number(8));
                Ok(Value { table, bytes: Vec::new(), size, next: number(4) })
            }
            _ => Err(page.corrupt("an item is of a kind that rpm does not use")),
        }
    }
}

impl<B: Bytes + ?Sized> Prefix for Value<'_, B> {
    fn first(&mut self, length: usize) -> Result<&[u8], Error> {
        let wanted = wanted(length, self.size)?;
        while self.bytes.len() < wanted {
            let page = self.table.new_page(self.next)?;
            if page.kind() != OVERFLOW {
                return Err(page.corrupt("it is not one of a long value"));
            }
            let content =
                page.bytes.get(PAGE_HEAD_BYTES..PAGE_HEAD_BYTES + usize::from(page.short(22)));
            let content = content.filter(|content| !content.is_empty());
            self.bytes.extend_from_slice(content.ok_or_else(|| page.corrupt("it has no content"))?);
            self.next = page.number(16);
        }
        Ok(&self.bytes[..wanted])
    }
}
