//! The cache's folder: opening it, and going without it where it is of no use.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::evictor::Evictor;
use super::layout::FOLDERS;
use super::limit::Limit;
use super::recency::MAX_TEMPORARY_AGE;
use super::refusals::Refusals;
use super::store::{self, Refused, Store};
use super::walk;

/// The limit has to be so many times what is fetched before it is wanted: evicting goes by age, and a
/// tenth of the limit at a time.
const ROOMY: u64 = 16;

/// The store. Cheap to share by reference; all methods take `&self`.
#[derive(Debug)]
pub struct Cache {
    /// The `v1` folder; `None` for a cache that holds nothing.
    pub(super) store: Option<Arc<Store>>,
    /// Why the folder, which exists, is not used.
    pub(super) refused: Option<String>,
    /// A disk that is full or read-only is left alone for a while: reading goes on.
    refusals: Refusals,
    /// The limit in bytes; `None` without one.
    pub(super) limit: Option<u64>,
    /// Keeps the limit; `None` for a cache that is in no folder.
    pub(super) evictor: Option<Arc<Evictor>>,
}

impl Cache {
    /// [`Cache::open_limited`] with the default limit.
    pub fn open(folder: &Path) -> Cache {
        Cache::open_limited(folder, Limit::Default)
    }

    /// Opens the cache in a folder and makes it if need be. A folder that can't be used gives a
    /// cache that holds nothing, with a warning in the log.
    ///
    /// All who use a folder keep it below their own limit, so the smallest of them counts.
    pub fn open_limited(folder: &Path, limit: Limit) -> Cache {
        let root = folder.join("v1");
        let made = store::make_root(&root);
        let mut cache = Cache::with(folder, limit);
        if let Some(why) = &cache.refused {
            log::warn!("cache folder {} is not used: {why}", root.display());
            return cache;
        }
        let make = |store: &Arc<Store>| {
            FOLDERS.iter().try_for_each(|name| {
                store.make_folder(Path::new(name)).map_err(|e| (root.join(name), e))
            })
        };
        let made = made.map_err(|e| (first_missing(&root), e));
        cache.refusals = Refusals::default();
        if let Err((at, e)) = made.and_then(|()| cache.store.as_ref().map_or(Ok(()), make)) {
            log::warn!("nothing is cached: cache folder {}: {e}", at.display());
            cache.refusals.note_refused(Instant::now());
        }
        cache.sweep();
        cache
    }

    /// The cache in a folder as it is. Nothing is written to it.
    pub(super) fn with(folder: &Path, limit: Limit) -> Cache {
        let (store, refused) = match Store::open(folder.join("v1")) {
            Ok(store) => (Some(Arc::new(store)), None),
            // There is no such folder, or it could not be made.
            Err(Refused::Io(e)) if e.kind() == io::ErrorKind::NotFound => (None, None),
            Err(refused) => (None, Some(refused.to_string())),
        };
        let limit = limit.bytes(folder);
        let evictor = store.clone().map(|store| Arc::new(Evictor::new(store, limit)));
        Cache { store, refused, refusals: Refusals::for_good(), limit, evictor }
    }

    /// A cache that holds nothing and keeps nothing.
    pub fn none() -> Cache {
        let refusals = Refusals::for_good();
        Cache { store: None, refused: None, refusals, limit: None, evictor: None }
    }

    /// Waits for an eviction that is under way, which dropping the cache does too.
    pub fn settle(&self) {
        if let Some(evictor) = &self.evictor {
            evictor.settle();
        }
    }

    /// Whether anything can be kept now. What a disk has refused it may take later.
    pub fn is_writable(&self) -> bool {
        self.store.is_some() && self.refusals.allow(Instant::now())
    }

    /// Whether so many bytes of spans can be kept that are not read at once: the limit is so large
    /// that none of them would have to go again before that.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.is_writable() && self.limit.is_none_or(|limit| limit / ROOMY >= bytes)
    }

    /// Whether so many bytes of spans can be kept for a while: they take no more than half of the limit.
    pub fn can_hold(&self, bytes: u64) -> bool {
        self.is_writable() && self.limit.is_none_or(|limit| limit / 2 >= bytes)
    }

    /// A folder for temporary files on the cache's disk, if there is one.
    pub fn temporary_folder(&self) -> Option<PathBuf> {
        let store = self.store.as_ref().filter(|_| self.is_writable())?;
        let folder = store.path().join("tmp");
        // A symlink is not ours, whatever it leads to.
        std::fs::symlink_metadata(&folder).is_ok_and(|m| m.is_dir()).then_some(folder)
    }

    /// Opens a file, and removes it if it is none, another user's, or not to be read: it would be in the way.
    pub(super) fn open_file(&self, name: &Path) -> Option<File> {
        const OF_NO_USE: [io::ErrorKind; 2] =
            [io::ErrorKind::InvalidData, io::ErrorKind::PermissionDenied];
        match self.store.as_ref()?.read(name) {
            Ok(file) => Some(file),
            Err(e) if OF_NO_USE.contains(&e.kind()) => {
                self.discard(name, &e.to_string());
                None
            }
            Err(_) => None,
        }
    }

    /// A file of at most `limit` bytes, whole.
    pub(super) fn read(&self, name: &Path, limit: u64) -> Option<Vec<u8>> {
        read_limited(self.open_file(name)?, limit)
    }

    /// Whether there is room for something that can be done without.
    pub(super) fn admit(&self, parts: &[&[u8]]) -> bool {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.evictor.as_ref().is_some_and(|evictor| evictor.admit(bytes))
    }

    /// Writes a file that is kept whatever the limit; true if it is there now.
    pub(super) fn put(&self, name: &Path, parts: &[&[u8]]) -> bool {
        self.is_writable() && {
            // It makes spans go.
            self.admit(parts);
            self.write(name, parts)
        }
    }

    /// Writes a file whole or not at all; true if it is there now.
    pub(super) fn write(&self, name: &Path, parts: &[&[u8]]) -> bool {
        let Some(store) = self.store.as_ref().filter(|_| self.is_writable()) else { return false };
        match store.write(name, parts) {
            Ok(()) => {
                if self.refusals.note_written() {
                    log::info!("files are cached again in {}", store.path().display());
                }
                true
            }
            Err(e) => {
                let is_first = !is_lasting(&e) || self.refusals.note_refused(Instant::now());
                let level = if is_first { log::Level::Warn } else { log::Level::Debug };
                log::log!(level, "not cached: {}: {e}", store.path().join(name).display());
                false
            }
        }
    }

    /// Removes what is not as it was written.
    pub(super) fn discard(&self, name: &Path, why: &str) {
        self.remove(name, why, log::Level::Warn);
    }

    pub(super) fn remove(&self, name: &Path, why: &str, level: log::Level) {
        let Some(store) = &self.store else { return };
        let path = || store.path().join(name);
        match store.remove(name) {
            Ok(()) => log::log!(level, "removed {} from the cache: {why}", path().display()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                // What lies in a folder of another user stays there, each time that it is come across.
                let is_usual = e.kind() == io::ErrorKind::PermissionDenied;
                let level = if is_usual { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "removing {} ({why}): {e}", path().display());
            }
        }
    }

    /// Removes what killed processes were writing, once they can't still be writing it.
    fn sweep(&self) {
        let Some(store) = &self.store else { return };
        walk::walk_below(store, Path::new("tmp"), &mut |found| {
            if found.age() > MAX_TEMPORARY_AGE
                && let Err(e) = found.remove()
            {
                log::debug!("{}: {e}", store.path().join(found.path).display());
            }
        });
    }
}

impl Drop for Cache {
    /// A program that ends lets its eviction end: short ones would never get to it otherwise.
    fn drop(&mut self) {
        self.settle();
    }
}

/// Whether the next file will be refused like this one.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
    )
}

/// The uppermost folder of a path that does not exist, or else the folder itself.
fn first_missing(folder: &Path) -> PathBuf {
    let missing = folder.ancestors().take_while(|path| !path.exists());
    missing.last().unwrap_or(folder).to_owned()
}

pub(super) fn read_limited(file: File, limit: u64) -> Option<Vec<u8>> {
    let length = file.metadata().ok()?.len();
    if length > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
