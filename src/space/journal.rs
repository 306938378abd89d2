//! What the numbers of looked-up names mean, for the next process that serves them.
//!
//! # Problem
//!
//! Directories, images and parts of images get their numbers in the order in which they are named ([`Directories`]). The
//! kernel remembers these numbers for as long as a mount lasts. A process that takes over from a dead one has to know
//! what each of them means, also those that were given a moment before.
//!
//! # Design
//!
//! A name is written down before its number is answered: as a record behind the others, in a file that lies in memory and
//! has no name (memfd_create(2)). The supervisor keeps its descriptor, reads nothing of it, and hands it to each worker.
//! Records say what was named, and numbers follow from their order. So a worker that takes over does again what they say,
//! without the network. A file of the system's memory needs no folder, is gone with the mount, and only
//! these processes can reach it.
//!
//! Of an image that was entered the record also says how it was opened, its checksum, and the attributes of its root:
//! those are shown without opening it again, and other ones would be a change for a `tar` that is about to read it.
//!
//! The file has its full length from the beginning and is sealed, so that no worker can make it larger; pages that
//! nothing was written to take no memory. When it is full, no further names are there.
//!
//! A process that is killed while it writes leaves a record whose checksum is wrong. The kernel was not told of that
//! one: it is written over.
//!
//! To number something else in order, add a kind of [`Record`], write it where the number is given (under the lock under which
//! it is given), and do it again where the others are.
//!
//! (Rejected: numbers that follow from names by a hash. A number does not lead back to its name, which has to be
//! known to answer for it; and of two names with one hash the first would have it, so that the order would count after all.
//! Telling the supervisor each name and waiting for its answer: it would parse what strangers have named, and hold
//! it in its own memory. A file beside the status socket: it would be left behind by a crash, in a folder that a worker
//! may not write to.)
//!
//! # Invariants
//!
//! - Nothing that the kernel was told is missing from it.
//! - One process at a time writes to it.
//!
//! [`Directories`]: super::Directories

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::entered::Entered;
use crate::digest::Digest;

/// Room for records, in bytes: some hundred for each of a million names would be more, and nobody has seen as many.
const MAX_BYTES: u64 = 64 << 20;

/// Longest record, in bytes: the platforms of an image index, a few hundred bytes each.
const MAX_RECORD_BYTES: usize = 4 << 20;

/// What stands before a record: its length and its checksum.
const HEAD_BYTES: usize = 2 * size_of::<u32>();

/// What was named, or found out of something that has a number.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Record {
    /// A directory in another one.
    Directory { above: u32, name: String, changed: SystemTime },
    /// An image, by its name in full; what that means, if it was asked.
    Image { name: String, digest: Option<Digest> },
    /// An image's name means nothing any more.
    Gone { volume: u32 },
    /// What a directory lists has changed: the tags of a repository, by a checksum of their names.
    Changed { directory: u32, tags: Option<u64>, changed: SystemTime },
    /// A layer got the next number, by a digest of what it is.
    Layer { layer: Digest },
    /// An image was opened.
    Opened { volume: u32, entered: Entered },
    /// The parts of an image were listed for a directory.
    Parts { directory: u32 },
    /// The same of the images of an index.
    Platforms { directory: u32, images: Vec<PlatformRecord> },
}

/// An image of an index.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PlatformRecord {
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: u64,
}

/// What was named so far, in order.
#[derive(Debug)]
pub struct Journal {
    file: File,
    end: Mutex<End>,
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    at: u64,
    /// Whether nothing of another record is there.
    is_clean: bool,
}

impl Journal {
    /// An empty one.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> io::Result<Journal> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"ocifs-names", flags)?;
        rustix::fs::ftruncate(&file, MAX_BYTES)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Journal::of(file))
    }

    /// One that another process hands over.
    pub fn of(file: OwnedFd) -> Journal {
        Journal { file: file.into(), end: Mutex::default() }
    }

    /// Does with all records, in order, what is to be done with them, from where it was called last. What is added from now
    /// on goes behind them.
    ///
    /// # Errors
    /// One says nothing that can be done.
    pub(super) fn replay<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(bytes) = self.record_at(end.at)? {
            each(serde_json::from_slice(&bytes).map_err(io::Error::from)?)?;
            end.at += (HEAD_BYTES + bytes.len()) as u64;
        }
        Ok(())
    }

    /// Removes what is left of a record that was not written whole, which must not be taken for one that follows the next.
    fn clean(&self, end: End) -> io::Result<()> {
        let torn = HEAD_BYTES + self.head_at(end.at)?.map_or(0, |(length, _)| length);
        let torn = (MAX_BYTES - end.at).min(torn as u64) as usize;
        self.file.write_all_at(&vec![0; torn], end.at)
    }

    /// The length and the checksum of a record, if one begins there.
    fn head_at(&self, at: u64) -> io::Result<Option<(usize, u32)>> {
        let mut head = [0; HEAD_BYTES];
        if at + HEAD_BYTES as u64 > MAX_BYTES {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, at)?;
        let [length, sum] = [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|n| head[at + n])));
        let length = (length as usize).min(MAX_RECORD_BYTES);
        Ok((length > 0).then_some((length, sum)))
    }

    fn record_at(&self, at: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((length, sum)) = self.head_at(at)? else { return Ok(None) };
        let begin = at + HEAD_BYTES as u64;
        if begin + length as u64 > MAX_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, begin)?;
        Ok((checksum(&bytes) == sum).then_some(bytes))
    }

    /// Writes one down; false if there is no room for it.
    pub(super) fn add(&self, record: &Record) -> bool {
        let added = serde_json::to_vec(record).map_err(io::Error::from);
        added.and_then(|bytes| self.append(&bytes)).unwrap_or_else(|e| {
            log::warn!("writing down a name: {e}");
            false
        })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<bool> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let length = (HEAD_BYTES + bytes.len()) as u64;
        if bytes.len() > MAX_RECORD_BYTES || end.at + length > MAX_BYTES {
            return Ok(false);
        }
        if !end.is_clean {
            self.clean(*end)?;
            end.is_clean = true;
        }
        let head = [(bytes.len() as u32).to_le_bytes(), checksum(bytes).to_le_bytes()];
        self.file.write_all_at(&[&head.concat(), bytes].concat(), end.at)?;
        end.at += length;
        Ok(true)
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gone(volume: u32) -> Record {
        Record::Gone { volume }
    }

    fn volumes(journal: &Journal) -> Vec<u32> {
        let mut volumes = Vec::new();
        let read = journal.replay(|record| {
            match record {
                Record::Gone { volume } => volumes.push(volume),
                other => panic!("{other:?}"),
            }
            Ok::<_, io::Error>(())
        });
        read.unwrap();
        volumes
    }

    /// As another process has it.
    fn again(journal: &Journal) -> Journal {
        Journal::of(journal.file.try_clone().unwrap().into())
    }

    #[test]
    fn another_process_goes_on() {
        let journal = Journal::new().unwrap();
        assert!(volumes(&journal).is_empty());
        assert!(journal.add(&gone(1)) && journal.add(&gone(2)));
        let next = again(&journal);
        assert_eq!(volumes(&next), [1, 2]);
        assert!(next.add(&gone(3)));
        assert_eq!(volumes(&again(&journal)), [1, 2, 3]);
        // One that has read before goes on where it was.
        let first = again(&journal);
        assert_eq!(volumes(&first), [1, 2, 3]);
        assert!(next.add(&gone(4)));
        assert_eq!(volumes(&first), [4]);
    }

    #[test]
    fn what_was_not_written_whole_was_not_written() {
        let text = serde_json::to_vec(&gone(77)).unwrap();
        let head = [(text.len() as u32).to_le_bytes(), checksum(&text).to_le_bytes()].concat();
        let whole = [head, text].concat();
        for written in 0..whole.len() {
            let journal = Journal::new().unwrap();
            assert!(journal.add(&gone(1)));
            let end = journal.end.lock().unwrap().at;
            journal.file.write_all_at(&whole[..written], end).unwrap();
            let next = again(&journal);
            assert_eq!(volumes(&next), [1], "{written}");
            assert!(next.add(&gone(2)));
            assert_eq!(volumes(&again(&journal)), [1, 2], "{written}");
        }
    }

    #[test]
    fn it_does_not_grow() {
        let journal = Journal::new().unwrap();
        journal.end.lock().unwrap().at = MAX_BYTES - 4;
        assert!(!journal.add(&gone(1)));
        assert!(rustix::fs::ftruncate(&journal.file, MAX_BYTES + 1).is_err());
        let name = "x".repeat(MAX_RECORD_BYTES);
        journal.end.lock().unwrap().at = 0;
        assert!(!journal.add(&Record::Image { name, digest: None }));
        // Nor is what stands there believed.
        journal.file.write_all_at(&[255; 64], 0).unwrap();
        assert!(volumes(&again(&journal)).is_empty());
    }
}
