//! Downloads that can be resumed.
//!
//! A layer's blob is appended to a file as it streams in. If the process ends before the blob does,
//! the next one feeds what is there through its hashes first and asks the source for the rest.
//!
//! # Invariants
//!
//! - What is in the file is a guess: the caller's hashes decide. So a torn tail does no harm.
//! - The file is a beginning without gaps: once an append has failed there is no other.
//! - One process at a time has the file, by a lock on it; for the others there is none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::evictor::Evictor;
use super::folder::Cache;
use super::store::Store;
use crate::digest::Digest;

/// The part of the limit that one download may take: four layers are fetched at once, and none of
/// them can be evicted meanwhile.
const MAX_PART_OF_LIMIT: u64 = 4;

/// Attempts to open a file that others remove meanwhile.
const TRIES: usize = 3;

/// A download, locked for this process. Dropped unfinished it stays for the next time.
#[derive(Debug)]
pub struct Partial {
    file: File,
    store: Arc<Store>,
    /// Its name in the store.
    name: PathBuf,
    length: u64,
    /// Nothing more is appended.
    closed: bool,
    evictor: Arc<Evictor>,
}

impl Cache {
    /// The download of a blob, new or as it was left; `None` if another process is at it or if
    /// nothing can be kept.
    pub fn partial(&self, digest: &Digest) -> Option<Partial> {
        let store = self.store.as_ref().filter(|_| self.is_writable())?;
        let evictor = Arc::clone(self.evictor.as_ref()?);
        if evictor.limit() == Some(0) {
            return None;
        }
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let name: PathBuf = ["partial", &name].iter().collect();
        for _ in 0..TRIES {
            let opened = store
                .append(&name)
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
                let length = file.metadata().ok()?.len();
                let store = Arc::clone(store);
                return Some(Partial { file, store, name, length, closed: false, evictor });
            }
        }
        None
    }
}

impl Partial {
    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A reader of the bytes that are there now.
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn reader(&self) -> io::Result<impl Read + Send + use<>> {
        Ok(PartialReader { file: self.file.try_clone()?, at: 0, end: self.length })
    }

    /// Appends the next bytes of the blob; does nothing once that has failed.
    pub fn append(&mut self, bytes: &[u8]) {
        let length = self.length.saturating_add(bytes.len() as u64);
        let most = self.evictor.limit().map_or(u64::MAX, |limit| limit / MAX_PART_OF_LIMIT);
        if self.closed || length > most || !self.evictor.admit(bytes.len() as u64) {
            self.closed = true;
            return;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.length = length,
            Err(e) => {
                log::info!(
                    "the download is kept no further: {}: {e}",
                    self.store.path().join(&self.name).display()
                );
                self.closed = true;
                if let Err(e) = self.file.set_len(self.length) {
                    log::debug!("{}: {e}", self.store.path().join(&self.name).display());
                }
            }
        }
    }

    /// Removes the file: the download is complete, or what was there turned out to be wrong.
    pub fn finish(mut self) {
        self.length = 0;
    }
}

impl Drop for Partial {
    /// Removes a file of no use.
    fn drop(&mut self) {
        // If the cache was cleared the name may be another's by now.
        if self.length == 0
            && self.store.is_named(&self.file, &self.name)
            && let Err(e) = self.store.remove(&self.name)
        {
            log::debug!("{}: {e}", self.store.path().join(&self.name).display());
        }
    }
}

/// Reads by position: appending goes on beside it.
#[derive(Debug)]
struct PartialReader {
    file: File,
    at: u64,
    end: u64,
}

impl Read for PartialReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::Limit;

    fn content(partial: &Partial) -> Vec<u8> {
        let mut bytes = Vec::new();
        partial.reader().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_download_is_resumed_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, other) = (Cache::open(folder.path()), Cache::open(folder.path()));
        let digest = Digest::sha256(b"blob");
        let mut partial = cache.partial(&digest).unwrap();
        assert!(partial.is_empty());
        partial.append(b"one ");
        let mut reader = partial.reader().unwrap();
        partial.append(b"two");
        let mut early = Vec::new();
        reader.read_to_end(&mut early).unwrap();
        assert_eq!(early, b"one ", "a reader ends where it was made");
        drop(reader);
        assert!(other.partial(&digest).is_none(), "it is locked");
        assert!(other.partial(&Digest::sha256(b"another")).is_some());
        drop(partial);

        let mut partial = other.partial(&digest).unwrap();
        assert_eq!((partial.len(), content(&partial)), (7, b"one two".to_vec()));
        partial.append(b" three");
        assert_eq!(content(&partial), b"one two three");
        partial.finish();
        let left: Vec<_> = fs::read_dir(folder.path().join("v1/partial")).unwrap().collect();
        assert!(left.is_empty(), "finished and empty downloads leave nothing: {left:?}");
    }

    #[test]
    fn a_cleared_download_is_not_mixed_up_with_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let digest = Digest::sha256(b"blob");
        let mut first = cache.partial(&digest).unwrap();
        first.append(b"first");
        fs::remove_dir_all(folder.path().join("v1/partial")).unwrap();
        let mut second = cache.partial(&digest).unwrap();
        second.append(b"second");
        first.append(b" goes on");
        first.finish();
        drop(second);
        assert_eq!(content(&cache.partial(&digest).unwrap()), b"second");
    }

    #[test]
    fn a_download_ends_where_the_limit_does_and_has_no_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"blob");
        let cache = Cache::open_limited(folder.path(), Limit::Bytes(4000));
        let mut partial = cache.partial(&digest).unwrap();
        partial.append(&[1; 900]);
        partial.append(&[2; 900]);
        partial.append(&[3; 10]);
        assert_eq!(content(&partial), [1; 900]);
        let nothing = Cache::open_limited(folder.path(), Limit::Bytes(0));
        assert!(nothing.partial(&Digest::sha256(b"another")).is_none());
        assert!(Cache::none().partial(&digest).is_none());
    }
}
