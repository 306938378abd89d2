//! Downloads that can be resumed.
//!
//! # Problem
//!
//! A layer's blob is written to a file as it comes in. If the process ends before the blob does, the next one
//! feeds what is there through its hashes first and asks the source for the rest. Parts of a blob may
//! come at the same time, each over a connection of its own, and none of them is to be fetched twice.
//!
//! # Design
//!
//! Each byte of the blob lies at its own offset. As long as they come in order, the length of the file says what is
//! there. Before the first byte that is out of order is written, the file becomes a map of itself: behind
//! the place of the blob's last byte come rows of two numbers, the start and the end of a part that is there
//! ([`Partial::note`]). So a file is longer than its blob if and only if it has rows, and there is no second file that
//! could be lost or be of another download.
//!
//! Rejected: asking the file system for holes, which some round to blocks and others do not know.
//!
//! # Invariants
//!
//! - What is in the file is a guess: the caller's hashes decide. So a torn tail does no harm.
//! - A part is noted after it was written.
//! - One process at a time has the file, by a lock on it; for the others there is none.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::evictor::Evictor;
use super::folder::Cache;
use super::store::Store;
use crate::digest::Digest;
use crate::extents::Extents;

/// The part of the limit that one download may take: four layers are fetched at once, and none of
/// them can be evicted meanwhile.
const MAX_PART_OF_LIMIT: u64 = 4;

/// Attempts to open a file that others remove meanwhile.
const TRIES: usize = 3;

/// Bytes of a row.
const ROW_BYTES: usize = 16;

/// Rows that are read: of a blob of 64 GiB in parts of a MiB.
const MAX_ROWS: usize = 1 << 16;

/// A download, locked for this process. Dropped unfinished it stays for the next time.
#[derive(Debug)]
pub struct Partial {
    file: File,
    store: Arc<Store>,
    /// Its name in the store.
    name: PathBuf,
    /// Bytes of the blob.
    size: u64,
    state: Mutex<State>,
    evictor: Arc<Evictor>,
}

#[derive(Debug)]
struct State {
    /// What is there and will be found again.
    noted: Extents,
    /// Bytes that lie in the file from its start on without a gap, while it has no rows.
    in_order: u64,
    /// Rows that it has, if any.
    rows: Option<usize>,
    /// Bytes that were written.
    written: u64,
    /// Nothing more is written.
    is_closed: bool,
}

impl Cache {
    /// The download of a blob of `size` bytes, new or as it was left; `None` if another process is at it or if
    /// nothing can be kept.
    pub fn partial(&self, digest: &Digest, size: u64) -> Option<Partial> {
        let store = self.store.as_ref().filter(|_| self.is_writable())?;
        let evictor = Arc::clone(self.evictor.as_ref()?);
        if evictor.limit() == Some(0) {
            return None;
        }
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let name: PathBuf = ["partial", &name].iter().collect();
        for _ in 0..TRIES {
            let opened = store
                .update(&name)
                .and_then(|file| file.try_lock().map(|()| file).map_err(Into::into));
            let file = match opened {
                Ok(file) => file,
                Err(e) => {
                    log::debug!("{}: {e}", store.path().join(&name).display());
                    return None;
                }
            };
            // Between opening and locking another process may have removed it.
            if store.is_named(&file, &name) {
                let state = Mutex::new(State::of(&file, size).ok()?);
                let store = Arc::clone(store);
                return Some(Partial { file, store, name, size, state, evictor });
            }
        }
        None
    }
}

impl State {
    /// What a file holds of a blob.
    fn of(file: &File, size: u64) -> io::Result<State> {
        let length = file.metadata()?.len();
        let mut noted = Extents::default();
        let rows = match length.checked_sub(size) {
            None | Some(0) => {
                noted.add(0..length);
                None
            }
            Some(bytes) => {
                let rows = usize::try_from(bytes).unwrap_or(usize::MAX) / ROW_BYTES;
                let mut bytes = vec![0; rows.min(MAX_ROWS) * ROW_BYTES];
                file.read_exact_at(&mut bytes, size)?;
                let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
                for row in bytes.chunks_exact(ROW_BYTES) {
                    let (start, end) = row.split_at(ROW_BYTES / 2);
                    let (start, end) = (number(start), number(end));
                    // Anything else is no row of ours.
                    if start < end && end <= size {
                        noted.add(start..end);
                    }
                }
                Some(rows)
            }
        };
        Ok(State { written: noted.bytes(), noted, in_order: length, rows, is_closed: false })
    }
}

impl Partial {
    /// What was there when it was opened, and was noted since.
    pub fn kept(&self) -> Extents {
        self.state().noted.clone()
    }

    /// Writes bytes of the blob, which begin at `at`. Whether they are there now; once that has failed, no other
    /// bytes are.
    pub fn put(&self, at: u64, bytes: &[u8]) -> bool {
        let end = at.saturating_add(bytes.len() as u64);
        let mut state = self.state();
        let written = state.written.saturating_add(bytes.len() as u64);
        let most = self.evictor.limit().map_or(u64::MAX, |limit| limit / MAX_PART_OF_LIMIT);
        let is_admitted = end <= self.size
            && !state.is_closed
            && written <= most
            && self.evictor.admit(bytes.len() as u64);
        if !is_admitted {
            state.is_closed = true;
            return false;
        }
        let is_in_order = state.rows.is_none() && at == state.in_order;
        let mapped =
            if is_in_order || state.rows.is_some() { Ok(()) } else { self.map(&mut state) };
        state.written = written;
        if is_in_order {
            // Under the lock, as the file's length tells what is there.
            let result = self.file.write_all_at(bytes, at);
            state.in_order = if result.is_ok() { end } else { at };
            return self.check(state, result);
        }
        drop(state);
        let result = mapped.and_then(|()| self.file.write_all_at(bytes, at));
        self.check(self.state(), result)
    }

    /// Notes that a part is there, which was written.
    pub fn note(&self, part: Range<u64>) {
        let mut state = self.state();
        if part.is_empty() || state.noted.holds(&part) {
            return;
        }
        state.noted.add(part.clone());
        if let Some(rows) = state.rows {
            if rows >= MAX_ROWS {
                return;
            }
            let result = self.write_row(rows, &part);
            state.rows = Some(rows + 1);
            self.check(state, result);
        }
    }

    /// Reads bytes that are there, from `at` on; how many.
    ///
    /// # Errors
    /// They can't be read.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buf, at)
    }

    /// Removes the file: the download is complete, or what was there turned out to be wrong.
    pub fn finish(&self) {
        self.state().is_closed = true;
        self.remove();
    }

    /// Gives the file rows, of which the first is what is there in order.
    fn map(&self, state: &mut State) -> io::Result<()> {
        let in_order = 0..state.in_order;
        self.write_row(0, &in_order)?;
        state.noted.add(in_order);
        state.rows = Some(1);
        Ok(())
    }

    fn write_row(&self, number: usize, part: &Range<u64>) -> io::Result<()> {
        let row = [part.start.to_le_bytes(), part.end.to_le_bytes()].concat();
        self.file.write_all_at(&row, self.size + (number * ROW_BYTES) as u64)
    }

    /// Closes the download if something could not be written.
    fn check(&self, mut state: MutexGuard<'_, State>, result: io::Result<()>) -> bool {
        let Err(e) = result else { return true };
        let path = self.store.path().join(&self.name);
        if !state.is_closed {
            log::info!("the download is kept no further: {}: {e}", path.display());
        }
        state.is_closed = true;
        if state.rows.is_none()
            && let Err(e) = self.file.set_len(state.in_order)
        {
            log::debug!("{}: {e}", path.display());
        }
        false
    }

    fn remove(&self) {
        // If the cache was cleared the name may be another's by now.
        if self.store.is_named(&self.file, &self.name)
            && let Err(e) = self.store.remove(&self.name)
        {
            log::debug!("{}: {e}", self.store.path().join(&self.name).display());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Partial {
    /// Removes a file of no use.
    fn drop(&mut self) {
        let state = self.state();
        let is_empty = state.noted.is_empty() && (state.rows.is_some() || state.in_order == 0);
        drop(state);
        if is_empty {
            self.remove();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::Limit;

    const SIZE: u64 = 100;

    fn content(partial: &Partial) -> Vec<(u64, Vec<u8>)> {
        let kept = partial.kept();
        let parts = kept.iter().map(|part| {
            let mut bytes = vec![0; (part.end - part.start) as usize];
            let n = partial.read_at(&mut bytes, part.start).unwrap();
            assert_eq!(n, bytes.len());
            (part.start, bytes)
        });
        parts.collect()
    }

    fn files(folder: &std::path::Path) -> Vec<PathBuf> {
        let folder = fs::read_dir(folder.join("v1/partial")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_download_is_resumed_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, other) = (Cache::open(folder.path()), Cache::open(folder.path()));
        let digest = Digest::sha256(b"blob");
        let partial = cache.partial(&digest, SIZE).unwrap();
        assert!(partial.kept().is_empty());
        assert!(partial.put(0, b"one ") && partial.put(4, b"two"));
        assert!(other.partial(&digest, SIZE).is_none(), "it is locked");
        assert!(other.partial(&Digest::sha256(b"another"), SIZE).is_some());
        drop(partial);

        let partial = other.partial(&digest, SIZE).unwrap();
        assert_eq!(content(&partial), [(0, b"one two".to_vec())]);
        assert!(partial.put(7, b" three"));
        drop(partial);
        let partial = cache.partial(&digest, SIZE).unwrap();
        assert_eq!(content(&partial), [(0, b"one two three".to_vec())]);
        partial.finish();
        drop(partial);
        assert!(files(folder.path()).is_empty(), "finished and empty downloads leave nothing");
    }

    #[test]
    fn parts_may_come_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, digest) = (Cache::open(folder.path()), Digest::sha256(b"blob"));
        let partial = cache.partial(&digest, SIZE).unwrap();
        assert!(partial.put(0, b"start"));
        assert!(partial.put(50, b"middle") && partial.put(94, b"ending"));
        partial.note(50..56);
        partial.note(94..100);
        // What was not noted is not there; what came in order before the rows is.
        assert!(partial.put(70, b"lost"));
        drop(partial);
        let partial = cache.partial(&digest, SIZE).unwrap();
        let parts = [(0, b"start".to_vec()), (50, b"middle".to_vec()), (94, b"ending".to_vec())];
        assert_eq!(content(&partial), parts);
        assert!(partial.put(5, &[b'x'; 45]));
        partial.note(5..50);
        drop(partial);
        let partial = cache.partial(&digest, SIZE).unwrap();
        assert_eq!(partial.kept().iter().collect::<Vec<_>>(), [0..56, 94..100]);
        assert!(!partial.put(95, &[0; 6]), "it has no more bytes");
        drop(partial);
        // A torn row, and rows that are none.
        let path = files(folder.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([u64::MAX.to_le_bytes(), 7u64.to_le_bytes()].concat());
        bytes.extend([60u64.to_le_bytes(), 101u64.to_le_bytes()].concat());
        bytes.extend([1, 2, 3]);
        fs::write(&path, bytes).unwrap();
        let partial = cache.partial(&digest, SIZE).unwrap();
        assert_eq!(partial.kept().iter().collect::<Vec<_>>(), [0..56, 94..100]);
    }

    #[test]
    fn a_cleared_download_is_not_mixed_up_with_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let digest = Digest::sha256(b"blob");
        let first = cache.partial(&digest, SIZE).unwrap();
        assert!(first.put(0, b"first"));
        fs::remove_dir_all(folder.path().join("v1/partial")).unwrap();
        let second = cache.partial(&digest, SIZE).unwrap();
        assert!(second.put(0, b"second") && first.put(5, b" goes on"));
        first.finish();
        drop((first, second));
        let third = cache.partial(&digest, SIZE).unwrap();
        assert_eq!(content(&third), [(0, b"second".to_vec())]);
    }

    #[test]
    fn a_download_ends_where_the_limit_does_and_has_no_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"blob");
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(4000));
        let partial = cache.partial(&digest, 1 << 20).unwrap();
        assert!(partial.put(0, &[1; 900]));
        assert!(!partial.put(900, &[2; 900]) && !partial.put(900, &[3; 10]));
        drop(partial);
        let partial = cache.partial(&digest, 1 << 20).unwrap();
        assert_eq!(content(&partial), [(0, vec![1; 900])]);
        let nothing = Cache::open_limited(folder.path(), Limit::Bytes(0));
        assert!(nothing.partial(&Digest::sha256(b"another"), SIZE).is_none());
        assert!(Cache::none().partial(&digest, SIZE).is_none());
    }
}
