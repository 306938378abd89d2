//! Digests of what a file holds, however a layer stores it.
//!
//! # Problem
//!
//! Two descriptions of a file are compared by digest: a table of contents and a tar, or the layers of
//! two images. The digest users know is the SHA-256 of all bytes. A sparse file makes that one
//! unaffordable: a layer of two kilobytes can hold a file of sixty gigabytes, nearly all of it a
//! hole, and every zero would have to be hashed.
//!
//! # Design
//!
//! There are two forms. [`ContentDigest::Sha256`] is the SHA-256 of all bytes, holes included.
//! [`ContentDigest::Blocks`] is a BLAKE3 over the size and over every block of 4 KiB that is not all
//! zeros, with its number; a hole costs nothing however long it is. Both depend on the bytes alone:
//! where runs begin and end, and whether zeros are a hole or stored, changes neither. They are of
//! different hash functions so that no content has the digest of another in the other form.
//!
//! Rejected: a hash over the list of runs, which would have to be brought into a canonical form first
//! and would be no cheaper.

use super::sha256::{Sha256, update_both};
use super::{ContentHash, Hasher, Inner, hex};

/// Length of a block in bytes.
const BLOCK_BYTES: usize = 4096;

/// What BLAKE3 derives the key of block digests from.
const CONTEXT: &str = "ocifs 2026-11 content of a sparse file in blocks of 4096 bytes";

/// SHA-256 of nothing.
const EMPTY: ContentHash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// What a regular file holds. Digests of different forms can't be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentDigest {
    /// SHA-256 of all bytes of the file.
    Sha256(ContentHash),
    /// BLAKE3 of the size and of the blocks that are not all zeros.
    Blocks(ContentHash),
}

impl ContentDigest {
    /// That of an empty file.
    pub const EMPTY: ContentDigest = ContentDigest::Sha256(EMPTY);

    /// The SHA-256 of the content, if that is what this is.
    pub fn sha256(&self) -> Option<&ContentHash> {
        match self {
            ContentDigest::Sha256(hash) => Some(hash),
            ContentDigest::Blocks(_) => None,
        }
    }

    /// The same in hexadecimal digits, as scanners and `sha256sum` write it.
    pub fn sha256_hex(&self) -> Option<String> {
        self.sha256().map(|hash| hex(hash))
    }

    /// A hasher of the same form, for a file of `size` bytes.
    pub fn hasher(&self, size: u64) -> ContentHasher {
        match self {
            ContentDigest::Sha256(_) => ContentHasher::sha256(),
            ContentDigest::Blocks(_) => ContentHasher::blocks(size),
        }
    }

    /// Whether two digests say that two contents differ: they are of one form and not equal.
    pub fn contradicts(&self, other: &ContentDigest) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self != other
    }
}

/// Takes the content of a file, data and holes in order.
#[derive(Debug)]
pub struct ContentHasher(Form);

#[derive(Debug)]
enum Form {
    Sha256(Box<Sha256>),
    Blocks(Box<Blocks>),
}

#[derive(Debug)]
struct Blocks {
    hasher: blake3::Hasher,
    /// The block that is being filled, and how far it is.
    block: [u8; BLOCK_BYTES],
    filled: usize,
    /// Its number.
    number: u64,
}

impl ContentHasher {
    /// For [`ContentDigest::Sha256`]: time goes by the size, holes included.
    pub fn sha256() -> ContentHasher {
        ContentHasher(Form::Sha256(Box::new(Sha256::new())))
    }

    /// For [`ContentDigest::Blocks`] of a file of `size` bytes: time goes by the data.
    pub fn blocks(size: u64) -> ContentHasher {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&size.to_le_bytes());
        let block = [0; BLOCK_BYTES];
        ContentHasher(Form::Blocks(Box::new(Blocks { hasher, block, filled: 0, number: 0 })))
    }

    /// The next bytes of the file.
    pub fn data(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Form::Sha256(hasher) => hasher.update(bytes),
            Form::Blocks(blocks) => blocks.data(bytes),
        }
    }

    /// The same, where `other` takes these bytes too. Where both are SHA-256, and as many bytes have
    /// come before modulo 64, it takes hardly more time than one of them.
    pub fn data_for_both(&mut self, other: &mut Hasher, bytes: &[u8]) {
        match (&mut self.0, &mut other.0) {
            (Form::Sha256(of_file), Inner::Sha256(other)) => update_both(of_file, other, bytes),
            _ => {
                self.data(bytes);
                other.update(bytes);
            }
        }
    }

    /// The next `count` bytes of the file are zeros.
    pub fn zeros(&mut self, mut count: u64) {
        match &mut self.0 {
            Form::Sha256(hasher) => {
                const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
                while count > 0 {
                    let part = &ZEROS[..count.min(ZEROS.len() as u64) as usize];
                    hasher.update(part);
                    count -= part.len() as u64;
                }
            }
            Form::Blocks(blocks) => blocks.zeros(count),
        }
    }

    /// The digest.
    pub fn finish(self) -> ContentDigest {
        match self.0 {
            Form::Sha256(hasher) => ContentDigest::Sha256(hasher.finish()),
            Form::Blocks(mut blocks) => {
                if blocks.filled > 0 {
                    blocks.block[blocks.filled..].fill(0);
                    blocks.end_block();
                }
                ContentDigest::Blocks(*blocks.hasher.finalize().as_bytes())
            }
        }
    }
}

impl Blocks {
    fn data(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = bytes.len().min(BLOCK_BYTES - self.filled);
            let (part, rest) = bytes.split_at(length);
            self.block[self.filled..self.filled + length].copy_from_slice(part);
            self.advance(length);
            bytes = rest;
        }
    }

    fn zeros(&mut self, mut count: u64) {
        if self.filled > 0 {
            let length = count.min((BLOCK_BYTES - self.filled) as u64) as usize;
            self.block[self.filled..self.filled + length].fill(0);
            self.advance(length);
            count -= length as u64;
        }
        if count == 0 {
            return;
        }
        // At the start of a block.
        self.number += count / BLOCK_BYTES as u64;
        self.filled = (count % BLOCK_BYTES as u64) as usize;
        self.block[..self.filled].fill(0);
    }

    fn advance(&mut self, length: usize) {
        self.filled += length;
        if self.filled == BLOCK_BYTES {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        if self.block.iter().any(|byte| *byte != 0) {
            self.hasher.update(&self.number.to_le_bytes());
            self.hasher.update(&self.block);
        }
        self.number += 1;
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    /// Content as (zeros before, data) pairs and zeros at the end.
    fn digest(mut hasher: ContentHasher, parts: &[(u64, &[u8])], end: u64) -> ContentDigest {
        for (zeros, data) in parts {
            hasher.zeros(*zeros);
            hasher.data(data);
        }
        hasher.zeros(end);
        hasher.finish()
    }

    #[test]
    fn only_the_bytes_count() {
        let data: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8 + 1).collect();
        let all = [&[0; 5000][..], &data, &[0; 9000]].concat();
        let size = all.len() as u64;
        for form in [ContentHasher::sha256, || ContentHasher::blocks(24_000)] {
            let expected = digest(form(), &[(0, &all)], 0);
            let padded = [&data[..], &[0; 77]].concat();
            for (parts, end) in [
                (&[(5000, &data[..])][..], 9000),
                (&[(5000, &data[..1]), (0, &data[1..4097]), (0, &data[4097..])], 9000),
                (&[(0, &all[..3000]), (2000, &data)], 9000),
                (&[(4999, &all[4999..5001]), (0, &data[1..]), (8999, &[0])], 0),
                (&[(5000, &padded)], 9000 - 77),
            ] {
                assert_eq!(digest(form(), parts, end), expected);
            }
            // Any other byte, place or size is seen.
            let mut other = all.clone();
            for at in [0, 4999, 5000, 9000, 14_999, 15_000, 23_999] {
                other[at] ^= 1;
                assert!(digest(form(), &[(0, &other)], 0).contradicts(&expected), "{at}");
                other[at] ^= 1;
            }
            assert!(digest(form(), &[(5001, &data)], 8999).contradicts(&expected));
            let shifted = digest(form(), &[(5000 + 4096, &data)], 9000 - 4096);
            assert!(shifted.contradicts(&expected));
        }
        let zeros = |size| digest(ContentHasher::blocks(size), &[], size);
        assert!(zeros(size).contradicts(&zeros(size + 1)));
    }

    #[test]
    fn another_hash_takes_the_same_bytes() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for form in [ContentHasher::sha256, || ContentHasher::blocks(10_000)] {
                // The other one is at the same place of a block, or at none that fits.
                for before in [0, 512, 3] {
                    let (mut alone, mut both) = (form(), form());
                    let mut other = Hasher::new(algorithm);
                    other.update(&bytes[..before]);
                    let mut expected = other.clone();
                    for part in bytes.chunks(777) {
                        alone.data(part);
                        expected.update(part);
                        both.data_for_both(&mut other, part);
                    }
                    assert_eq!(both.finish(), alone.finish());
                    assert_eq!(other.finish(), expected.finish());
                }
            }
        }
    }

    #[test]
    fn the_forms_are_apart() {
        let (sha256, blocks) =
            (ContentHasher::sha256().finish(), ContentHasher::blocks(0).finish());
        assert_eq!((sha256, sha256.sha256()), (ContentDigest::EMPTY, Some(&EMPTY)));
        assert!(!sha256.contradicts(&blocks) && sha256 != blocks && blocks.sha256().is_none());
        assert_eq!(sha256.hasher(0).finish(), sha256);
        assert_eq!(blocks.hasher(0).finish(), blocks);
    }

    /// It would take minutes if zeros were hashed one by one.
    #[test]
    fn holes_cost_nothing() {
        let mut hasher = ContentHasher::blocks(u64::MAX);
        hasher.data(b"a");
        for _ in 0..1000 {
            hasher.zeros(1 << 53);
        }
        hasher.data(b"b");
        assert!(matches!(hasher.finish(), ContentDigest::Blocks(_)));
    }
}
