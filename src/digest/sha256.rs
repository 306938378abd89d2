//! SHA-256 of one stream, or of two at once.
//!
//! # Problem
//!
//! A first pass over a layer hashes nearly every byte twice: for the diff ID and for the digest of
//! the file that it is in. One after the other, that costs about as much as inflating.
//!
//! # Design
//!
//! [`Sha256`] is the running hash: its state, the block that is being filled, and how many bytes came.
//! [`update_both`] gives the same bytes to two of them. Where both stand at the same place in a
//! block, whole blocks go to [`compress_both`], which is about twice as fast as one hash after the
//! other on processors that have the instructions for it. That is so in a tar, where the content of
//! each file begins at a multiple of 512 bytes; parts of sparse files may begin elsewhere, and go
//! to one hash after the other.
//!
//! Blocks of one hash alone are compressed by the `sha2` crate, which picks the processor's
//! instructions at run time.
//!
//! # Rejected
//!
//! Hashing on two threads: it costs as much of the processors, of which there may be two for all
//! stages. Two different messages at once: no caller has them on one thread.
//!
//! # Invariants
//!
//! - `filled` is below the length of a block between calls.
//! - What comes out depends on the bytes alone, not on how they were cut or which way they took.

mod block;
mod compress;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

use block::{BLOCK_BYTES, Block, State};
use compress::{compress, compress_both};

/// The state before the first block (FIPS 180-4, 5.3.3).
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Where the length of the message stands in the last block.
const LENGTH_AT: usize = BLOCK_BYTES - size_of::<u64>();

/// A running SHA-256 (FIPS 180-4).
#[derive(Clone, Debug)]
pub(super) struct Sha256 {
    state: State,
    /// The block that is being filled, and how far it is.
    block: Block,
    filled: usize,
    /// Bytes that came; below 2^61, which would take decades.
    length: u64,
}

impl Sha256 {
    /// Of nothing yet.
    pub(super) fn new() -> Sha256 {
        Sha256 { state: INITIAL, block: [0; BLOCK_BYTES], filled: 0, length: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.as_chunks();
        if !blocks.is_empty() {
            compress(&mut self.state, blocks);
        }
        self.keep(rest);
    }

    /// The digest of all bytes.
    pub(super) fn finish(mut self) -> [u8; 32] {
        self.block[self.filled] = 0x80;
        self.block[self.filled + 1..].fill(0);
        if self.filled >= LENGTH_AT {
            compress(&mut self.state, &[self.block]);
            self.block = [0; BLOCK_BYTES];
        }
        self.block[LENGTH_AT..].copy_from_slice(&(self.length * 8).to_be_bytes());
        compress(&mut self.state, &[self.block]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Completes the block that was begun, as far as the bytes go; those left over.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0 {
            return bytes;
        }
        let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
        self.keep(part);
        if self.filled == BLOCK_BYTES {
            compress(&mut self.state, &[self.block]);
            self.filled = 0;
        }
        rest
    }

    /// Copies bytes that fit into the block.
    fn keep(&mut self, bytes: &[u8]) {
        self.block[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }
}

/// Gives the next bytes to two hashes, at once where they stand at the same place in a block.
pub(super) fn update_both(a: &mut Sha256, b: &mut Sha256, bytes: &[u8]) {
    if a.filled != b.filled {
        a.update(bytes);
        b.update(bytes);
        return;
    }
    a.length += bytes.len() as u64;
    b.length += bytes.len() as u64;
    a.fill(bytes);
    let bytes = b.fill(bytes);
    let (blocks, rest) = bytes.as_chunks();
    compress_both([&mut a.state, &mut b.state], blocks);
    a.keep(rest);
    b.keep(rest);
}

#[cfg(test)]
mod tests;
