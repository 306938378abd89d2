//! bbolt databases, read only: where containerd keeps the names of its images.
//!
//! # Format
//!
//! A file of pages (bbolt, `internal/common/{page,meta,bucket}.go`), all numbers little-endian on the
//! machines that we run on:
//!
//! ```text
//! page     id u64, flags u16, count u16, overflow u32, then its content; `overflow` more pages belong to it
//! meta     pages 0 and 1, the valid one with the higher transaction counts:
//!          magic u32, version u32, page size u32, flags u32, root bucket (page u64, sequence u64),
//!          freelist u64, number of pages u64, transaction u64, FNV-1a of all that u64
//! branch   count × (key position u32, key length u32, page u64), keys; positions count from the element
//! leaf     count × (flags u32, position u32, key length u32, value length u32), keys and values
//! bucket   a value with flag 1: root page u64, sequence u64; where the root is 0, a leaf page follows inline
//! ```
//!
//! # A database in use
//!
//! Its owner holds an exclusive lock for as long as it runs, so none is taken here. It never changes
//! pages in place: a transaction writes to free pages, then its meta page. What a snapshot consists of
//! becomes free with the next transaction and may be overwritten in the one after. So what was read
//! through a [`Snapshot`] holds if it [is still the newest](Snapshot::is_newest) afterwards; otherwise
//! it may be anything, and the caller reads again.
//!
//! # Invariants
//!
//! - Every number is checked before it is used, every page against its own id and kind. Reading ends
//!   after [`MAX_READ_BYTES`] and [`MAX_DEPTH`], whatever the pages say.

#[cfg(test)]
pub(crate) mod tests;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most bytes read through one snapshot: of pages, and of the keys and values handed on.
pub const MAX_READ_BYTES: u64 = 256 << 20;

/// Most levels of pages below the root of a bucket.
pub const MAX_DEPTH: usize = 32;

const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 64;
const ELEMENT_BYTES: usize = 16;
const BUCKET_HEADER_BYTES: usize = 16;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// Page sizes: those of the systems that write databases, and those that bbolt tries.
const PAGE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
const IS_BUCKET: u32 = 1;

/// Why a database can't be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("reading it: {0}")]
    Io(io::Error),
    #[error("it is not a bbolt database: neither of its meta pages is valid")]
    NoMeta,
    #[error("page {page} is corrupt: {what}")]
    Corrupt { page: u64, what: &'static str },
    #[error("more than {MAX_READ_BYTES} bytes of it would have to be read")]
    TooLarge,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// Where a database is read from.
pub trait Pages {
    /// Fills a buffer from an offset on.
    ///
    /// # Errors
    /// I/O, or the end of the file.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Pages for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Pages for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    page_bytes: u64,
    root: u64,
    /// Pages that the file has.
    pages: u64,
    transaction: u64,
}

impl Meta {
    /// The content of a meta page, if it is whole.
    fn parse(page: &[u8]) -> Option<Meta> {
        let meta = page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + META_BYTES)?;
        let page_bytes = u64::from(u32_at(meta, 8)?);
        let is_valid = u16_at(page, 8)? & META != 0
            && u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && u64_at(meta, 56)? == fnv1a(&meta[..56])
            && PAGE_BYTES.contains(&page_bytes)
            && page_bytes.is_power_of_two();
        is_valid.then_some(Meta {
            page_bytes,
            root: u64_at(meta, 16)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        })
    }

    /// The newest valid one of a file.
    fn newest(file: &(impl Pages + ?Sized)) -> Result<Meta, Error> {
        let at = |offset: u64| {
            let mut page = [0; PAGE_HEADER_BYTES + META_BYTES];
            match file.read_exact_at(&mut page, offset) {
                Ok(()) => Ok(Meta::parse(&page)),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(e) => Err(e),
            }
        };
        let first = at(0)?;
        let mut newest = first;
        // Where the second is depends on what the first says, if that is valid.
        let mut size = first.map_or(*PAGE_BYTES.start(), |meta| meta.page_bytes);
        while PAGE_BYTES.contains(&size) {
            let second = at(size)?.filter(|second| second.page_bytes == size);
            newest = newest.into_iter().chain(second).max_by_key(|meta| meta.transaction);
            if newest.is_some() {
                break;
            }
            size *= 2;
        }
        newest.ok_or(Error::NoMeta)
    }
}

/// A database as its newest transaction left it.
#[derive(Debug)]
pub struct Snapshot<'a, P: ?Sized> {
    file: &'a P,
    meta: Meta,
    /// Bytes that may still be read.
    budget: Cell<u64>,
}

/// A bucket: keys with values, some of which are buckets again.
#[derive(Clone, Debug)]
pub struct Bucket(Root);

#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    /// A leaf page that is no page of the file.
    Inline(Vec<u8>),
}

/// Takes a key and what it has, and says whether it wants more.
pub type Visit<'a> = dyn FnMut(&[u8], Item) -> Result<bool, Error> + 'a;

/// What a key has.
#[derive(Clone, Debug)]
pub enum Item {
    /// Bytes.
    Value(Vec<u8>),
    /// A bucket.
    Bucket(Bucket),
}

impl Item {
    /// The bytes, if it is no bucket.
    pub fn value(self) -> Option<Vec<u8>> {
        match self {
            Item::Value(bytes) => Some(bytes),
            Item::Bucket(_) => None,
        }
    }

    /// The bucket, if it is one.
    pub fn bucket(self) -> Option<Bucket> {
        match self {
            Item::Bucket(bucket) => Some(bucket),
            Item::Value(_) => None,
        }
    }
}

impl<'a, P: Pages + ?Sized> Snapshot<'a, P> {
    /// Opens a database.
    ///
    /// # Errors
    /// It is none, or can't be read.
    pub fn open(file: &'a P) -> Result<Snapshot<'a, P>, Error> {
        let meta = Meta::newest(file)?;
        Ok(Snapshot { file, meta, budget: Cell::new(MAX_READ_BYTES) })
    }

    /// Whether no transaction has ended since, so that all that was read is right.
    pub fn is_newest(&self) -> bool {
        Meta::newest(self.file).is_ok_and(|meta| meta == self.meta)
    }

    /// The outermost bucket.
    pub fn root(&self) -> Bucket {
        Bucket(Root::Page(self.meta.root))
    }

    /// What a key of a bucket has.
    ///
    /// # Errors
    /// I/O, or corrupt pages.
    pub fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Item>, Error> {
        let mut page = self.page_of(bucket)?;
        for _ in 0..MAX_DEPTH {
            if page.is_leaf()? {
                for at in 0..page.count {
                    let element = page.leaf_element(at)?;
                    if element.key == key {
                        self.spend(element.value.len() as u64)?;
                        return page.item(&element).map(Some);
                    }
                }
                return Ok(None);
            }
            // The last child that begins at or before the key; the first where none does.
            let mut child = None;
            for at in 0..page.count {
                let (first, id) = page.branch_element(at)?;
                if child.is_some() && first > key {
                    break;
                }
                child = Some(id);
            }
            let Some(child) = child else { return Ok(None) };
            page = self.page(child)?;
        }
        Err(page.corrupt("the tree is too deep"))
    }

    /// Calls `visit` for each key of a bucket, in their order, until it says `false`.
    ///
    /// # Errors
    /// I/O, or corrupt pages.
    pub fn for_each(&self, bucket: &Bucket, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut todo = vec![(self.page_of(bucket)?, 0)];
        while let Some((page, at)) = todo.pop() {
            if page.is_leaf()? {
                for at in 0..page.count {
                    let element = page.leaf_element(at)?;
                    // Elements may lie over each other: what is handed on is more than was read.
                    self.spend(element.key.len() as u64 + element.value.len() as u64)?;
                    if !visit(element.key, page.item(&element)?)? {
                        return Ok(());
                    }
                }
            } else if at < page.count {
                let (_, child) = page.branch_element(at)?;
                todo.push((page, at + 1));
                if todo.len() > MAX_DEPTH {
                    return Err(Error::Corrupt { page: child, what: "the tree is too deep" });
                }
                todo.push((self.page(child)?, 0));
            }
        }
        Ok(())
    }

    fn page_of(&self, bucket: &Bucket) -> Result<Page, Error> {
        match &bucket.0 {
            Root::Page(id) => self.page(*id),
            Root::Inline(bytes) => {
                self.spend(bytes.len() as u64)?;
                Page::parse(0, bytes.clone())
            }
        }
    }

    fn page(&self, id: u64) -> Result<Page, Error> {
        let corrupt = |what| Error::Corrupt { page: id, what };
        let size = self.meta.page_bytes;
        let offset = id.checked_mul(size).filter(|_| (2..self.meta.pages).contains(&id));
        let offset = offset.ok_or_else(|| corrupt("there is no such page"))?;
        let mut bytes = vec![0; size as usize];
        self.spend(size)?;
        self.file.read_exact_at(&mut bytes, offset)?;
        if u64_at(&bytes, 0) != Some(id) {
            return Err(corrupt("it has the number of another page"));
        }
        let overflow = u64::from(u32_at(&bytes, 12).unwrap_or_default());
        if overflow > 0 {
            if overflow >= self.meta.pages - id {
                return Err(corrupt("it goes on past the end"));
            }
            self.spend(overflow * size)?;
            bytes.resize(((overflow + 1) * size) as usize, 0);
            self.file.read_exact_at(&mut bytes[size as usize..], offset + size)?;
        }
        Page::parse(id, bytes)
    }

    fn spend(&self, bytes: u64) -> Result<(), Error> {
        self.budget.set(self.budget.get().checked_sub(bytes).ok_or(Error::TooLarge)?);
        Ok(())
    }
}

/// A branch or leaf page with what overflows it.
#[derive(Debug)]
struct Page {
    id: u64,
    flags: u16,
    count: usize,
    bytes: Vec<u8>,
}

impl Page {
    fn parse(id: u64, bytes: Vec<u8>) -> Result<Page, Error> {
        let header = u16_at(&bytes, 8).zip(u16_at(&bytes, 10));
        let (flags, count) = header.ok_or(Error::Corrupt { page: id, what: "it is too short" })?;
        Ok(Page { id, flags, count: usize::from(count), bytes })
    }

    fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { page: self.id, what }
    }

    fn is_leaf(&self) -> Result<bool, Error> {
        match self.flags {
            LEAF => Ok(true),
            BRANCH => Ok(false),
            _ => Err(self.corrupt("it is neither branch nor leaf")),
        }
    }

    /// Bytes at a position that counts from the start of an element.
    fn slice(&self, element: usize, position: u32, length: u32) -> Option<&[u8]> {
        let start = element.checked_add(usize::try_from(position).ok()?)?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    /// The first key below a child, and its page.
    fn branch_element(&self, at: usize) -> Result<(&[u8], u64), Error> {
        let element = PAGE_HEADER_BYTES + at * ELEMENT_BYTES;
        let parse = || {
            let position = u32_at(&self.bytes, element)?;
            let key = self.slice(element, position, u32_at(&self.bytes, element + 4)?)?;
            Some((key, u64_at(&self.bytes, element + 8)?))
        };
        parse().ok_or_else(|| self.corrupt("an element lies outside of it"))
    }

    fn leaf_element(&self, at: usize) -> Result<Element<'_>, Error> {
        let element = PAGE_HEADER_BYTES + at * ELEMENT_BYTES;
        let number = |field: usize| u32_at(&self.bytes, element + field * 4);
        let parse = || {
            let (flags, position) = (number(0)?, number(1)?);
            let (key_bytes, value_bytes) = (number(2)?, number(3)?);
            let key = self.slice(element, position, key_bytes)?;
            let value = self.slice(element, position.checked_add(key_bytes)?, value_bytes)?;
            Some(Element { is_bucket: flags & IS_BUCKET != 0, key, value })
        };
        parse().ok_or_else(|| self.corrupt("an element lies outside of it"))
    }

    fn item(&self, element: &Element<'_>) -> Result<Item, Error> {
        let value = element.value;
        if !element.is_bucket {
            return Ok(Item::Value(value.to_vec()));
        }
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_HEADER_BYTES);
        Ok(Item::Bucket(Bucket(
            match root.ok_or_else(|| self.corrupt("a bucket has no header"))? {
                0 => Root::Inline(value[BUCKET_HEADER_BYTES..].to_vec()),
                id => Root::Page(id),
            },
        )))
    }
}

/// A key of a leaf page, and its value as it stands there.
struct Element<'a> {
    is_bucket: bool,
    key: &'a [u8],
    value: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// FNV-1a with 64 bits, as Go's `hash/fnv`.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
