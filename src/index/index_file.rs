//! A layer index in a file, whose entries stay there.
//!
//! # Problem
//!
//! The entries of a layer of a million files take 64 MB, and to list one directory as of some layer only a few of them
//! count. Which these are is known when all names that paths lead through are known, in all layers of the image: so the entries
//! have to be looked at twice, and need not be kept.
//!
//! # Design
//!
//! [`IndexFile::open`] reads the file once, front to back as far as the checksum goes, and checks everything that
//! [`LayerIndex::decode`] checks. It keeps all tables but that of the entries, and adds to a [`NameSet`] the names that a path may lead
//! through. [`IndexFile::select`] then reads the entries again, a block at a time, and keeps those that the caller wants.
//!
//! Rejected: mapping the file into memory. What is mapped counts as memory of the process once it was touched, and another process that cuts the
//! file ends this one.
//!
//! # Invariants
//!
//! - No byte of an entry is used that has not been checked: each block is held against the checksum that it had when all of the file
//!   had its own.
//! - The tail is not read. What it has (digests of contents, windows) is as if it were elsewhere.

use std::fs::File;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::decode::{DecodeError, Header};
use super::entry::{Entry, EntryKind};
use super::format::{CHECKSUM_BYTES, EntryRecord, FileHeader};
use super::layer_index::LayerIndex;
use super::name_set::NameSet;
use super::proof::Proof;

/// Entries that are read at a time.
const BLOCK_ENTRIES: usize = 4096;

/// A layer index, of whose entries only a selection is in memory.
#[derive(Debug)]
pub struct IndexFile {
    file: File,
    /// Where the table of entries begins, and how many it has.
    start: u64,
    entries: usize,
    /// A checksum of each block of entries.
    blocks: Vec<u64>,
    /// All tables; of the entries, those that were selected.
    index: LayerIndex,
    /// What the other tables take, in bytes.
    table_bytes: u64,
}

impl IndexFile {
    /// Reads a file through and checks it. The names that a path of any layer may lead through are added to `names`: those of
    /// directories, and of the targets of symlinks and hard links. Tables without the entries may have `most` bytes.
    ///
    /// # Errors
    /// As [`LayerIndex::decode`]; or it can't be read, or has larger tables.
    pub fn open(file: File, most: u64, names: &mut NameSet) -> Result<IndexFile, DecodeError> {
        let mut header = FileHeader::new_zeroed();
        read(&file, header.as_mut_bytes(), 0)?;
        let Header { mut index, counts } = Header::parse(&header)?;
        let mut at = size_of::<FileHeader>() as u64;
        // What a file claims to have and is too short for, no memory is taken for.
        let length = file.metadata().map_err(|_| DecodeError::Length)?.len();
        let most = most.min(length);
        let mut left = most;
        index.dirs = table(&file, &mut at, counts.dirs, &mut left)?;
        let start = at;
        let entry_bytes = counts.entries.checked_mul(size_of::<EntryRecord>() as u64);
        at = entry_bytes.and_then(|bytes| at.checked_add(bytes)).ok_or(DecodeError::Length)?;
        index.whiteouts = table(&file, &mut at, counts.whiteouts, &mut left)?;
        index.runs = table(&file, &mut at, counts.runs, &mut left)?;
        index.xattrs = table(&file, &mut at, counts.xattrs, &mut left)?;
        index.spans = table(&file, &mut at, counts.spans, &mut left)?;
        index.chunks = table(&file, &mut at, counts.chunks, &mut left)?;
        index.bytes = table(&file, &mut at, counts.bytes, &mut left)?;
        index.check_tables(counts.entries)?;
        let entries = usize::try_from(counts.entries).map_err(|_| DecodeError::Length)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(header.as_bytes()).update(index.dirs.as_bytes());
        let mut blocks = Vec::new();
        each_block(&file, start, entries, &mut |_, block| {
            hasher.update(block.as_bytes());
            blocks.push(xxh3_64(block.as_bytes()));
            for record in block {
                index.check_entry(record)?;
                match index.entry(record).kind {
                    EntryKind::Symlink(target) => {
                        target.split(|byte| *byte == b'/').for_each(|name| names.add(name));
                    }
                    EntryKind::HardLink { name, .. } => names.add(name),
                    _ => {}
                }
            }
            Ok(())
        })?;
        for table in [
            index.whiteouts.as_bytes(),
            index.runs.as_bytes(),
            index.xattrs.as_bytes(),
            index.spans.as_bytes(),
            index.chunks.as_bytes(),
            &index.bytes,
        ] {
            hasher.update(table);
        }
        let mut sum = [0; CHECKSUM_BYTES];
        read(&file, &mut sum, at)?;
        if hasher.finalize().as_bytes() != &sum {
            return Err(DecodeError::Checksum);
        }
        (0..index.dir_count()).for_each(|dir| names.add(index.dir(dir as u32).name));
        Ok(IndexFile { file, start, entries, blocks, index, table_bytes: most - left })
    }

    /// What its tables but that of the entries take, in bytes.
    pub fn table_bytes(&self) -> u64 {
        self.table_bytes
    }

    /// How many entries the file has.
    pub fn entry_count(&self) -> usize {
        self.entries
    }

    /// The same with less claimed of it: see [`LayerIndex::with_proof`].
    pub fn with_proof(mut self, proof: Proof) -> IndexFile {
        self.index = self.index.with_proof(proof);
        self
    }

    /// The index, with the entries that were selected last.
    pub fn index(&self) -> &LayerIndex {
        &self.index
    }

    /// The same, without the file.
    pub fn into_index(self) -> LayerIndex {
        self.index
    }

    /// Takes those of the entries that are wanted, which is asked of each of them in their order.
    ///
    /// # Errors
    /// They can't be read again as they were.
    pub fn select(
        &mut self,
        is_wanted: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), DecodeError> {
        let IndexFile { file, start, entries, blocks, index, .. } = self;
        let mut selected = Vec::new();
        each_block(file, *start, *entries, &mut |number, block| {
            if blocks.get(number) != Some(&xxh3_64(block.as_bytes())) {
                return Err(DecodeError::Checksum);
            }
            selected.extend(block.iter().filter(|record| is_wanted(&index.entry(record))));
            Ok(())
        })?;
        index.entries = selected;
        Ok(())
    }
}

/// What is done with a block of entries, by its number.
type WithBlock<'a> = &'a mut dyn FnMut(usize, &[EntryRecord]) -> Result<(), DecodeError>;

/// Reads entries, some at a time.
fn each_block(
    file: &File,
    start: u64,
    entries: usize,
    act: WithBlock<'_>,
) -> Result<(), DecodeError> {
    let mut block = vec![EntryRecord::new_zeroed(); BLOCK_ENTRIES.min(entries)];
    let (mut at, mut left) = (start, entries);
    for number in 0.. {
        let block = &mut block[..BLOCK_ENTRIES.min(left)];
        if block.is_empty() {
            break;
        }
        read(file, block.as_mut_bytes(), at)?;
        act(number, block)?;
        at += block.as_bytes().len() as u64;
        left -= block.len();
    }
    Ok(())
}

/// Reads a table of so many records.
fn table<T>(file: &File, at: &mut u64, count: u64, left: &mut u64) -> Result<Vec<T>, DecodeError>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Clone,
{
    let bytes = count.checked_mul(size_of::<T>() as u64).ok_or(DecodeError::Length)?;
    *left = left.checked_sub(bytes).ok_or(DecodeError::Length)?;
    let mut table = vec![T::new_zeroed(); usize::try_from(count).map_err(|_| DecodeError::Length)?];
    read(file, table.as_mut_bytes(), *at)?;
    *at = at.checked_add(bytes).ok_or(DecodeError::Length)?;
    Ok(table)
}

/// Reads exactly so many bytes. That a file can't be read is as good as that it ends there.
fn read(file: &File, bytes: &mut [u8], at: u64) -> Result<(), DecodeError> {
    file.read_exact_at(bytes, at).map_err(|_| DecodeError::Length)
}
