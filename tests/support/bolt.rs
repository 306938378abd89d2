//! Writes bbolt databases, from the layout of its pages (bbolt, `internal/common/{page,meta,bucket}.go`):
//! the metadata of containerd is one.

// The tests of `src/bolt` include this alone.
#![allow(missing_docs)]

use std::collections::BTreeMap;

const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BUCKET_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 64;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// Flags of pages.
pub const BRANCH: u16 = 1;
pub const LEAF: u16 = 2;
const META: u16 = 4;

/// The flag of an element that is a bucket.
const IS_BUCKET: u32 = 1;

/// Page size of the databases made here.
pub const SIZE: usize = 1024;

/// A bucket to be written.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    pub buckets: BTreeMap<Vec<u8>, Tree>,
}

impl Tree {
    pub fn value(mut self, key: &str, value: &[u8]) -> Tree {
        self.values.insert(key.as_bytes().to_vec(), value.to_vec());
        self
    }

    pub fn bucket(mut self, key: &str, bucket: Tree) -> Tree {
        self.buckets.insert(key.as_bytes().to_vec(), bucket);
        self
    }
}

/// A database file in the making: pages from number 2 on.
#[derive(Default)]
pub struct Writer {
    pages: Vec<u8>,
}

impl Writer {
    /// Appends a page with what overflows it, and gives its number.
    pub fn append(&mut self, flags: u16, count: usize, content: &[u8]) -> u64 {
        let id = 2 + (self.pages.len() / SIZE) as u64;
        let pages = (PAGE_HEADER_BYTES + content.len()).div_ceil(SIZE);
        let end = self.pages.len() + pages * SIZE;
        self.pages.extend(header(id, flags, count, pages as u32 - 1));
        self.pages.extend_from_slice(content);
        self.pages.resize(end, 0);
        id
    }

    /// Writes a bucket, `fanout` elements a page, and gives its root.
    pub fn bucket(&mut self, tree: &Tree, fanout: usize) -> u64 {
        let elements = self.elements(tree, fanout);
        let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
        for chunk in elements.chunks(fanout) {
            level.push((chunk[0].1.clone(), self.append(LEAF, chunk.len(), &leaf(chunk))));
        }
        if level.is_empty() {
            return self.append(LEAF, 0, &[]);
        }
        while level.len() > 1 {
            level = level
                .chunks(fanout)
                .map(|chunk| (chunk[0].0.clone(), self.append(BRANCH, chunk.len(), &branch(chunk))))
                .collect();
        }
        level[0].1
    }

    /// Flags, keys and values of a bucket, in order. Small buckets of values are inline.
    fn elements(&mut self, tree: &Tree, fanout: usize) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let values = tree.values.iter().map(|(key, value)| (0, key.clone(), value.clone()));
        let mut elements: Vec<_> = values.collect();
        for (key, bucket) in &tree.buckets {
            let is_inline = bucket.buckets.is_empty() && bucket.values.len() <= 3;
            let value = match is_inline {
                true => {
                    let elements = self.elements(bucket, fanout);
                    let page = [header(0, LEAF, elements.len(), 0), leaf(&elements)].concat();
                    [vec![0; BUCKET_HEADER_BYTES], page].concat()
                }
                false => {
                    let root = self.bucket(bucket, fanout);
                    [root.to_le_bytes(), 7u64.to_le_bytes()].concat()
                }
            };
            elements.push((IS_BUCKET, key.clone(), value));
        }
        elements.sort_by(|a, b| a.1.cmp(&b.1));
        elements
    }

    pub fn finish(self, root: u64, transaction: u64) -> Vec<u8> {
        let pages = 2 + (self.pages.len() / SIZE) as u64;
        let mut file = meta(0, root, pages, transaction);
        file.extend(meta(1, root, pages, transaction - 1));
        file.extend(self.pages);
        file
    }
}

fn header(id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
    let count = (count as u16).to_le_bytes();
    [&id.to_le_bytes()[..], &flags.to_le_bytes(), &count, &overflow.to_le_bytes()].concat()
}

pub fn leaf(elements: &[(u32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (at, (flags, key, value)) in elements.iter().enumerate() {
        let position = ((elements.len() - at) * ELEMENT_BYTES + data.len()) as u32;
        for number in [*flags, position, key.len() as u32, value.len() as u32] {
            table.extend(number.to_le_bytes());
        }
        data.extend([&key[..], value].concat());
    }
    [table, data].concat()
}

pub fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (at, (key, page)) in children.iter().enumerate() {
        let position = ((children.len() - at) * ELEMENT_BYTES + data.len()) as u32;
        table.extend(position.to_le_bytes());
        table.extend((key.len() as u32).to_le_bytes());
        table.extend(page.to_le_bytes());
        data.extend(key);
    }
    [table, data].concat()
}

pub fn meta(id: u64, root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for number in [MAGIC, VERSION, SIZE as u32, 0] {
        meta.extend(number.to_le_bytes());
    }
    for number in [root, 0, u64::MAX, pages, transaction] {
        meta.extend(number.to_le_bytes());
    }
    meta.extend(fnv1a(&meta).to_le_bytes());
    let mut page = [header(id, META, 0, 0), meta].concat();
    page.resize(SIZE, 0);
    page
}

pub fn database(tree: &Tree, fanout: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    let root = writer.bucket(tree, fanout);
    writer.finish(root, 10)
}

/// Makes the checksums of both meta pages right again.
pub fn seal(mut file: Vec<u8>) -> Vec<u8> {
    for page in file.chunks_exact_mut(SIZE).take(2) {
        let (fields, checksum) =
            page[PAGE_HEADER_BYTES..][..META_BYTES].split_at_mut(META_BYTES - 8);
        checksum.copy_from_slice(&fnv1a(fields).to_le_bytes());
    }
    file
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
