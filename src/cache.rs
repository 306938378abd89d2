//! The content-addressed store on disk, shared by every mount of a user.
//!
//! ```text
//! ROOT/v1/
//!   blobs/sha256/ab/ab12…     manifests, image indexes, configs: the bytes, named by digest
//!   spans/cd/cd34…            uncompressed spans by their digest: the bytes and a trailer
//!   streams/01/0123…          the same, where losing one costs streaming its layer again
//!   layers/sha256-ef56…       layer indexes by blob digest
//!   diffs/sha256-0978…        the same files by diff ID
//!   foreign/sha256-90ab…      those out of formats of others, by blob and what binds them
//!   hints/sha256-ef56…        those that nothing binds, by blob, repository and manifest
//!   refs/7a…                  what a tag meant when it was last asked for (JSON)
//!   partial/sha256-54dc…      downloads that can be resumed
//!   tmp/                      files that are being written
//! ```
//!
//! # Design
//!
//! A file is written under a temporary name and renamed: a name that exists is whole. Reading and
//! writing take no locks: two processes that write the same name write the same bytes, and a file
//! that is removed stays readable for a process that has it open. (Downloads that can be resumed are the
//! exception: they are appended to, by one process at a time.) The version is in the path, so an
//! old program and a new one never read each other's files.
//!
//! Spans are stored uncompressed, one file each: a second `grep -r` over an image is then a read
//! and not an inflate, and the neighbours of a small file are cached with it. (Considered and left: one
//! sparse file a layer, whose holes another process could read as zeros; a file a file, which
//! makes a first pass 50,000 small creates.) They take the most room, so they are what is evicted
//! first when the cache exceeds its [`Limit`]; layer indexes follow, and documents stay.
//!
//! # Invariants
//!
//! - **The cache can only help.** No error in here fails a mount: reads say "not there", writes
//!   are logged and dropped, and a full disk turns writing off.
//! - What is read back is checked: blobs against their digest, spans against the checksum in their
//!   trailer, layer indexes by their own. A file that fails is removed and fetched again. A span stays
//!   open for long; it is as it was checked as long as nobody writes to it, which its modification
//!   time tells after each read. (Computing the checksum for each would cost more than the read.)
//! - Nothing is written here that has not been verified by the caller, but for downloads, which
//!   say so.
//! - Only this user and root can have put there what is read (`store`).

mod evict;
mod inspect;
mod partial;
mod store;
mod walk;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use self::evict::Evictor;
use self::store::{Refused, Store};
use crate::digest::{DiffId, Digest, SpanDigest};

pub use evict::{Limit, Removed};
pub use inspect::{CheckLayer, Count, Damage, Usage, Verified};
pub use partial::Partial;
pub use walk::Kind;

/// Length of a span file's trailer: the span's digest and XXH3-64 of bytes and digest.
const SPAN_TRAILER_BYTES: usize = 32 + 8;

/// What stands for a layer index that contradicts its layer.
const REJECTED: &[u8] = b"contradicts its layer\n";

/// Age from which a temporary file or a download is nobody's: writing one takes seconds, and who
/// has not resumed a download in a day has given it up.
const MAX_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Time since a file was last marked as used before it is marked again: long enough to cost nothing
/// on a hot path, short enough for an order among the days that a cache lasts.
const RECENCY: Duration = Duration::from_secs(5 * 60);

/// Largest layer index that is read back, in bytes.
const MAX_LAYER_INDEX_BYTES: u64 = 4 << 30;

/// Largest document that is read back, in bytes.
const MAX_BLOB_BYTES: u64 = 64 << 20;

/// The limit has to be so many times what is fetched before it is wanted: evicting goes by age, and a
/// tenth of the limit at a time.
const ROOMY: u64 = 16;

/// The store. Cheap to share by reference; all methods take `&self`.
#[derive(Debug)]
pub struct Cache {
    /// The `v1` folder; `None` for a cache that holds nothing.
    store: Option<Arc<Store>>,
    /// Why the folder, which exists, is not used.
    refused: Option<String>,
    /// Set when the disk is full or read-only: reading goes on.
    write_off: AtomicBool,
    /// The limit in bytes; `None` without one.
    limit: Option<u64>,
    /// Keeps the limit; `None` for a cache that is in no folder.
    evictor: Option<Arc<Evictor>>,
}

/// What the loss of a span would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// It is fetched again on its own.
    Cheap,
    /// Its whole layer is streamed again: there is no checkpoint to begin at. Evicted last.
    Dear,
}

/// What a tag meant.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TagRecord {
    /// The full reference, to tell apart names whose hashes collide in theory only.
    pub reference: String,
    /// The digest of the manifest or image index.
    pub digest: Digest,
    /// When the registry said so: seconds since the epoch.
    pub checked: u64,
    /// How it was asked.
    #[serde(default)]
    pub asked: Asked,
}

/// How a registry was asked what a tag means. Nothing else binds a tag to a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// As this machine is set up to: over TLS, unless its settings exempt the registry.
    #[default]
    Checked,
    /// Over plain HTTP, or without a check of the certificate, because the user said so that time.
    Unchecked,
}

/// The two names of a layer index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerName {
    /// By the blob it was made from.
    Blob(Digest),
    /// By the tar in it, whatever the blob's compression.
    DiffId(DiffId),
    /// Made by others, and bound by a digest in the manifest.
    Bound {
        /// The blob.
        blob: Digest,
        /// The digest that stands in the manifest.
        bound_by: Digest,
    },
    /// Made by others, and bound by nothing.
    Hint {
        /// The blob.
        blob: Digest,
        /// What the index was found beside: see [`LayerName::hint_scope`].
        scope: Digest,
    },
}

impl LayerName {
    /// Whose word an index without proof is: of those who may push to a repository, about an image.
    /// In another repository, or for another manifest, it counts for nothing.
    pub fn hint_scope(registry: &str, repository: &str, manifest: &Digest) -> Digest {
        Digest::sha256(format!("{registry}\0{repository}\0{manifest}").as_bytes())
    }
}

/// A verified span file, open for reading.
#[derive(Debug)]
pub struct SpanFile {
    file: File,
    length: u32,
    /// When it was written last, before it was checked.
    modified: Modified,
    /// Read since it was last looked at.
    is_used: AtomicBool,
}

/// A modification time: seconds and nanoseconds.
type Modified = (i64, i64);

impl SpanFile {
    /// Reads exactly `buf.len()` bytes at `offset` within the span, if it is still what was checked.
    ///
    /// `false` says that it may not be, and that it has to be opened again: a process has written to it,
    /// or, which looks the same, marked it as used.
    ///
    /// # Errors
    /// I/O.
    pub fn read_at(&self, buf: &mut [u8], offset: u32) -> io::Result<bool> {
        debug_assert!(offset as usize + buf.len() <= self.length as usize);
        self.is_used.store(true, Ordering::Relaxed);
        self.file.read_exact_at(buf, u64::from(offset))?;
        // Afterwards: the time changes before the bytes do.
        Ok(modified(&self.file)? == self.modified)
    }

    /// Whether it is still in the cache. What was read since this was last asked counts as used now,
    /// and so is not the next to be evicted.
    pub fn is_kept(&self) -> bool {
        if self.is_used.swap(false, Ordering::Relaxed) {
            mark_used(&self.file);
        }
        // If that can't be told it is as good as before.
        self.file.metadata().map_or(true, |metadata| metadata.nlink() > 0)
    }
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
        let made = store::make_root(&folder.join("v1"));
        let cache = Cache::with(folder, limit);
        if let Some(why) = &cache.refused {
            log::warn!("cache folder {} is not used: {why}", folder.display());
            return cache;
        }
        let make = |store: &Arc<Store>| {
            FOLDERS.iter().try_for_each(|name| {
                let named = |e: io::Error| io::Error::new(e.kind(), format!("{name}: {e}"));
                store.make_folder(Path::new(name)).map_err(named)
            })
        };
        match made.and_then(|()| cache.store.as_ref().map_or(Ok(()), make)) {
            Ok(()) => cache.write_off.store(false, Ordering::Relaxed),
            Err(e) => log::warn!("cache folder {} can't be written: {e}", folder.display()),
        }
        cache.sweep();
        cache
    }

    /// The cache in a folder as it is. Nothing is written to it.
    fn with(folder: &Path, limit: Limit) -> Cache {
        let (store, refused) = match Store::open(folder.join("v1")) {
            Ok(store) => (Some(Arc::new(store)), None),
            // There is no such folder, or it could not be made.
            Err(Refused::Io(e)) if e.kind() == io::ErrorKind::NotFound => (None, None),
            Err(refused) => (None, Some(refused.to_string())),
        };
        let limit = limit.bytes(folder);
        let evictor = store.clone().map(|store| Arc::new(Evictor::new(store, limit)));
        Cache { store, refused, write_off: AtomicBool::new(true), limit, evictor }
    }

    /// A cache that holds nothing and keeps nothing.
    pub fn none() -> Cache {
        let write_off = AtomicBool::new(true);
        Cache { store: None, refused: None, write_off, limit: None, evictor: None }
    }

    /// Waits for an eviction that is under way, which dropping the cache does too.
    pub fn settle(&self) {
        if let Some(evictor) = &self.evictor {
            evictor.settle();
        }
    }

    /// Whether anything can be kept.
    pub fn is_writable(&self) -> bool {
        self.store.is_some() && !self.write_off.load(Ordering::Relaxed)
    }

    /// Whether so many bytes of spans can be kept that are not read at once: the limit is so large
    /// that none of them would have to go again before that.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.is_writable() && self.limit.is_none_or(|limit| limit / ROOMY >= bytes)
    }

    /// A folder for temporary files on the cache's disk, if there is one.
    pub fn temporary_folder(&self) -> Option<PathBuf> {
        let store = self.store.as_ref().filter(|_| self.is_writable())?;
        let folder = store.path().join("tmp");
        // A symlink is not ours, whatever it leads to.
        std::fs::symlink_metadata(&folder).is_ok_and(|m| m.is_dir()).then_some(folder)
    }

    /// A document by digest, checked.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.read(&name, MAX_BLOB_BYTES)?;
        if !digest.matches(&bytes) {
            self.discard(&name, "its digest does not match");
            return None;
        }
        Some(bytes)
    }

    /// Keeps a document that the caller has verified.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) {
        self.put(&blob_name(digest), &[bytes]);
    }

    /// A layer index under one of its names, undecoded, of at most `most` bytes; not one that was
    /// rejected.
    pub fn layer_index(&self, name: &LayerName, most: u64) -> Option<Vec<u8>> {
        let file = self.open_file(&layer_name(name))?;
        mark_used(&file);
        let bytes = read_limited(file, most.min(MAX_LAYER_INDEX_BYTES))?;
        (bytes != REJECTED).then_some(bytes)
    }

    /// When a layer index came into the cache, as far as its file system tells.
    pub fn layer_index_time(&self, name: &LayerName) -> Option<SystemTime> {
        // The time of its last change is that of its last use.
        self.open_file(&layer_name(name))?.metadata().ok()?.created().ok()
    }

    /// Keeps a layer index under both names.
    pub fn put_layer_index(&self, blob: &Digest, diff_id: &DiffId, bytes: &[u8]) {
        let [layer, diff] =
            [LayerName::Blob(*blob), LayerName::DiffId(*diff_id)].map(|name| layer_name(&name));
        if self.put(&layer, &[bytes])
            && let Some(store) = &self.store
            && !store.exists(&diff)
            && store.link(&layer, &diff).is_err()
        {
            // No hard links on this file system, or another process was first.
            self.put(&diff, &[bytes]);
        }
    }

    /// Removes a layer index that turned out to be of no use from under one of its names.
    pub fn discard_layer_index(&self, name: &LayerName, why: &str) {
        self.discard(&layer_name(name), why);
    }

    /// Keeps a layer index that others made.
    pub fn put_external_index(&self, name: &LayerName, bytes: &[u8]) {
        self.put(&layer_name(name), &[bytes]);
    }

    /// Notes that a layer index of others contradicts its layer, in its place.
    pub fn reject_layer_index(&self, name: &LayerName) {
        self.put_external_index(name, REJECTED);
    }

    /// Whether a layer index of this name was found to contradict its layer.
    pub fn is_rejected(&self, name: &LayerName) -> bool {
        // Anything longer is an index, and is not read for this.
        let bytes = self.read(&layer_name(name), REJECTED.len() as u64);
        bytes.is_some_and(|bytes| bytes == REJECTED)
    }

    /// What a reference meant when it was last resolved.
    pub fn tag(&self, reference: &str) -> Option<TagRecord> {
        let bytes = self.read(&tag_name(reference), MAX_BLOB_BYTES)?;
        let record: TagRecord = serde_json::from_slice(&bytes).ok()?;
        (record.reference == reference).then_some(record)
    }

    /// Remembers what a reference means now.
    pub fn put_tag(&self, reference: &str, digest: Digest, asked: Asked) {
        let checked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let record = TagRecord { reference: reference.to_owned(), digest, checked, asked };
        if let Ok(bytes) = serde_json::to_vec(&record) {
            self.put(&tag_name(reference), &[&bytes]);
        }
    }

    /// Opens a span and reads all of it once, which proves that it is whole.
    pub fn span(&self, digest: &SpanDigest, length: u32) -> Option<SpanFile> {
        SPAN_KINDS.into_iter().find_map(|kind| self.span_of(kind, digest, length))
    }

    fn span_of(&self, kind: Kind, digest: &SpanDigest, length: u32) -> Option<SpanFile> {
        let name = span_name(kind, digest);
        let file = self.open_file(&name)?;
        mark_used(&file);
        let modified = modified(&file).ok()?;
        let file_length = u64::from(length) + SPAN_TRAILER_BYTES as u64;
        let is_as_long = file.metadata().is_ok_and(|metadata| metadata.len() == file_length);
        if !is_as_long || inspect::check_span(&file, digest, &mut |_| {}).is_err() {
            self.discard(&name, "its checksum does not match");
            return None;
        }
        Some(SpanFile { file, length, modified, is_used: AtomicBool::new(false) })
    }

    /// Keeps a span that the caller has verified; true if it was not there before and is now.
    ///
    /// It is not kept while evicting does not keep up with writing.
    pub fn put_span(&self, digest: &SpanDigest, bytes: &[u8], cost: Cost) -> bool {
        let Some(store) = self.store.as_ref() else { return false };
        let [cheap, dear] = SPAN_KINDS.map(|kind| span_name(kind, digest));
        match cost {
            _ if store.exists(&dear) => return false,
            Cost::Cheap if store.exists(&cheap) => return false,
            // Another layer has the same span and can do without.
            Cost::Dear if store.exists(&cheap) && self.is_writable() => {
                if let Err(e) = store.rename(&cheap, &dear) {
                    log::debug!("{}: {e}", store.path().join(cheap).display());
                }
                return false;
            }
            Cost::Cheap | Cost::Dear => {}
        }
        let parts = [bytes, &span_trailer(digest, bytes)];
        let name = if cost == Cost::Cheap { cheap } else { dear };
        self.is_writable() && self.admit(&parts) && self.write(&name, &parts)
    }

    /// Whether a span seems to be there.
    pub fn has_span(&self, digest: &SpanDigest) -> bool {
        let has = |store: &Arc<Store>| {
            SPAN_KINDS.into_iter().any(|kind| store.exists(&span_name(kind, digest)))
        };
        self.store.as_ref().is_some_and(has)
    }

    /// Removes a span that was put there in vain, as the rest of its layer did not come, or the layer is
    /// none. That nothing is wrong with the span itself is why nobody is warned.
    pub fn withdraw_span(&self, digest: &SpanDigest) {
        for name in SPAN_KINDS.map(|kind| span_name(kind, digest)) {
            self.remove(&name, "the rest of its layer is not there", log::Level::Debug);
        }
    }

    /// Opens a file, and removes it if it is none or another user's.
    fn open_file(&self, name: &Path) -> Option<File> {
        match self.store.as_ref()?.read(name) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                self.discard(name, &e.to_string());
                None
            }
            Err(_) => None,
        }
    }

    /// A file of at most `limit` bytes, whole.
    fn read(&self, name: &Path, limit: u64) -> Option<Vec<u8>> {
        read_limited(self.open_file(name)?, limit)
    }

    /// Whether there is room for something that can be done without.
    fn admit(&self, parts: &[&[u8]]) -> bool {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.evictor.as_ref().is_some_and(|evictor| evictor.admit(bytes))
    }

    /// Writes a file that is kept whatever the limit; true if it is there now.
    fn put(&self, name: &Path, parts: &[&[u8]]) -> bool {
        self.is_writable() && {
            // It makes spans go.
            self.admit(parts);
            self.write(name, parts)
        }
    }

    /// Writes a file whole or not at all; true if it is there now.
    fn write(&self, name: &Path, parts: &[&[u8]]) -> bool {
        let Some(store) = self.store.as_ref().filter(|_| self.is_writable()) else { return false };
        match store.write(name, parts) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("not cached: {}: {e}", store.path().join(name).display());
                let full = [
                    io::ErrorKind::StorageFull,
                    io::ErrorKind::QuotaExceeded,
                    io::ErrorKind::ReadOnlyFilesystem,
                ];
                if full.contains(&e.kind()) {
                    log::warn!("nothing more is cached by this process");
                    self.write_off.store(true, Ordering::Relaxed);
                }
                false
            }
        }
    }

    /// Removes what is not as it was written.
    fn discard(&self, name: &Path, why: &str) {
        self.remove(name, why, log::Level::Warn);
    }

    fn remove(&self, name: &Path, why: &str, level: log::Level) {
        let Some(store) = &self.store else { return };
        let path = || store.path().join(name);
        match store.remove(name) {
            Ok(()) => log::log!(level, "removed {} from the cache: {why}", path().display()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => log::warn!("removing {} ({why}): {e}", path().display()),
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

/// The folders of this version.
const FOLDERS: [&str; 8] =
    ["blobs", "spans", "streams", "layers", "diffs", "refs", "partial", "tmp"];

/// Where a span may be, in the order in which it is looked for.
const SPAN_KINDS: [Kind; 2] = [Kind::Spans, Kind::Streams];

/// A span's file, below the version's folder.
fn span_name(kind: Kind, digest: &SpanDigest) -> PathBuf {
    let hex = digest.hex();
    let folder = if kind == Kind::Streams { "streams" } else { "spans" };
    [folder, &hex[..2], &hex].iter().collect()
}

fn blob_name(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    ["blobs", digest.algorithm().name(), &hex[..2], &hex].iter().collect()
}

fn layer_name(name: &LayerName) -> PathBuf {
    let text = |digest: &Digest| format!("{}-{}", digest.algorithm().name(), digest.hex());
    let (folder, name) = match name {
        LayerName::Blob(digest) => ("layers", text(digest)),
        LayerName::DiffId(DiffId(digest)) => ("diffs", text(digest)),
        LayerName::Bound { blob, bound_by } => ("foreign", text(&of_both(blob, bound_by))),
        LayerName::Hint { blob, scope } => ("hints", text(&of_both(blob, scope))),
    };
    [folder, &name].iter().collect()
}

fn of_both(one: &Digest, other: &Digest) -> Digest {
    Digest::sha256(&[one.hash(), other.hash()].concat())
}

fn tag_name(reference: &str) -> PathBuf {
    ["refs", &Digest::sha256(reference.as_bytes()).hex()].iter().collect()
}

fn read_limited(file: File, limit: u64) -> Option<Vec<u8>> {
    let length = file.metadata().ok()?.len();
    if length > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn modified(file: &File) -> io::Result<Modified> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_mtime, stat.st_mtime_nsec.cast_signed()))
}

/// Renews the modification time of a span or a layer index, by which the least recently used is found.
fn mark_used(file: &File) {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    // One from the future is as good as none.
    if age.is_none_or(|age| age > RECENCY)
        && let Err(e) = file.set_modified(SystemTime::now())
    {
        log::debug!("marking a file of the cache as used: {e}");
    }
}

/// Binds the bytes to the name, so that a file under another file's name is found out too.
fn span_trailer(digest: &SpanDigest, bytes: &[u8]) -> [u8; SPAN_TRAILER_BYTES] {
    let mut hasher = Xxh3::new();
    hasher.update(bytes);
    hasher.update(&digest.0);
    let mut trailer = [0; SPAN_TRAILER_BYTES];
    trailer[..32].copy_from_slice(&digest.0);
    trailer[32..].copy_from_slice(&hasher.digest().to_le_bytes());
    trailer
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_put_is_read_back_and_damage_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let bytes = vec![7; 100_000];
        let (digest, other) = (SpanDigest::of(&bytes), SpanDigest::of(b"other"));
        assert!(cache.put_span(&digest, &bytes, Cost::Cheap));
        assert!(!cache.put_span(&digest, &bytes, Cost::Cheap));
        let file = cache.span(&digest, 100_000).unwrap();
        let mut read = vec![0; 100_000];
        assert!(file.read_at(&mut read, 0).unwrap());
        assert_eq!(read, bytes);
        let mut part = [0; 5];
        assert!(file.read_at(&mut part, 99_995).unwrap());
        assert_eq!(part, [7; 5]);

        let path = folder.path().join("v1").join(span_name(Kind::Spans, &digest));
        let whole = fs::read(&path).unwrap();
        let damages: [fn(&mut Vec<u8>); 4] =
            [|f| f[50_000] ^= 1, |f| f.truncate(500), |f| f.push(0), |f| f.clear()];
        for damage in damages {
            let mut file = whole.clone();
            damage(&mut file);
            fs::remove_file(&path).ok();
            fs::write(&path, file).unwrap();
            assert!(cache.span(&digest, 100_000).is_none());
            assert!(!path.exists(), "a damaged file is removed");
        }
        // A whole file under a wrong name.
        let wrong = folder.path().join("v1").join(span_name(Kind::Spans, &other));
        fs::create_dir_all(wrong.parent().unwrap()).unwrap();
        fs::write(&wrong, &whole).unwrap();
        assert!(cache.span(&other, 100_000).is_none());

        let blob = Digest::sha256(b"{}");
        cache.put_blob(&blob, b"{}");
        assert_eq!(cache.blob(&blob).unwrap(), b"{}");
        let path = folder.path().join("v1").join(blob_name(&blob));
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"[]").unwrap();
        assert!(cache.blob(&blob).is_none() && !path.exists());
    }

    #[test]
    fn tags_and_layer_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let digest = Digest::sha256(b"x");
        assert!(cache.tag("a/b:c").is_none());
        cache.put_tag("a/b:c", digest, Asked::Checked);
        assert_eq!(cache.tag("a/b:c").unwrap().digest, digest);
        let diff_id = DiffId(Digest::sha256(b"y"));
        cache.put_layer_index(&digest, &diff_id, b"index");
        let names = [LayerName::Blob(digest), LayerName::DiffId(diff_id)];
        assert!(names.iter().all(|name| cache.layer_index(name, 1000).unwrap() == b"index"));
        cache.discard_layer_index(&names[0], "test");
        assert!(cache.layer_index(&names[0], 1000).is_none());
        assert!(cache.layer_index(&names[1], 1000).is_some(), "the other name is another file");
        let left: Vec<_> = fs::read_dir(folder.path().join("v1/tmp")).unwrap().collect();
        assert!(left.is_empty(), "no temporary file is left");
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for cache in [Cache::open(&file), Cache::none()] {
            let digest = SpanDigest::of(b"x");
            assert!(
                !cache.put_span(&digest, b"x", Cost::Cheap) && cache.span(&digest, 1).is_none()
            );
            assert!(!cache.is_writable());
        }
    }
}
