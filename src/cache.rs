//! The content-addressed store on disk, shared by every mount of a user.
//!
//! ```text
//! ROOT/v1/
//!   blobs/sha256/ab/ab12…     manifests, image indexes, configs: the bytes, named by digest
//!   spans/cd/cd34…            uncompressed spans, named by BLAKE3: the bytes and a trailer
//!   layers/sha256-ef56…       layer indexes by blob digest
//!   diffs/sha256-0978…        the same files by diff ID
//!   refs/7a…                  what a tag meant when it was last asked for (JSON)
//!   tmp/                      files that are being written
//! ```
//!
//! # Design
//!
//! A file is written under a temporary name and renamed: a name that exists is whole. There are no
//! locks: two processes that write the same name write the same bytes, and a file that is removed
//! stays readable for whoever has it open. The version is in the path, so an old program and a new
//! one never read each other's files.
//!
//! Spans are stored uncompressed, one file each: a second `grep -r` over an image is then a read
//! and not an inflate, and the neighbours of a small file are at hand. (Considered and left: one
//! sparse file a layer, whose holes another process could read as zeros; a file a file, which
//! makes a first pass 50,000 small creates.)
//!
//! # Invariants
//!
//! - **The cache can only help.** No error in here fails a mount: reads say "not there", writes
//!   are logged and dropped, and a full disk turns writing off.
//! - What is read back is checked: blobs against their digest, spans against the checksum in their
//!   trailer, layer indexes by their own. A file that fails is removed and fetched again.
//! - Nothing is written here that has not been verified by the caller.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::digest::{DiffId, Digest, SpanDigest};

/// Length of a span file's trailer: the span's digest and XXH3-64 of bytes and digest.
const SPAN_TRAILER_BYTES: usize = 32 + 8;

/// Age from which a temporary file is nobody's: writing one takes seconds.
const MAX_TEMPORARY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Largest layer index that is read back, in bytes.
const MAX_LAYER_INDEX_BYTES: u64 = 4 << 30;

/// Largest document that is read back, in bytes.
const MAX_BLOB_BYTES: u64 = 64 << 20;

/// The store. Cheap to share by reference; all methods take `&self`.
#[derive(Debug)]
pub struct Cache {
    /// The `v1` folder; `None` for a cache that holds nothing.
    root: Option<PathBuf>,
    /// Set when the disk is full or read-only: reading goes on.
    write_off: AtomicBool,
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
}

/// The two names of a layer index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerName {
    /// By the blob it was made from.
    Blob(Digest),
    /// By the tar in it, whatever the blob's compression.
    DiffId(DiffId),
}

/// A verified span file, open for reading.
#[derive(Debug)]
pub struct SpanFile {
    file: File,
    length: u32,
}

impl SpanFile {
    /// Reads exactly `buf.len()` bytes at `offset` within the span.
    ///
    /// # Errors
    /// I/O.
    pub fn read_at(&self, buf: &mut [u8], offset: u32) -> io::Result<()> {
        debug_assert!(offset as usize + buf.len() <= self.length as usize);
        self.file.read_exact_at(buf, u64::from(offset))
    }
}

impl Cache {
    /// Opens the cache in a folder and makes it if need be. A folder that can't be used gives a
    /// cache that holds nothing, with a warning in the log.
    pub fn open(folder: &Path) -> Cache {
        let root = folder.join("v1");
        let made = ["blobs", "spans", "layers", "diffs", "refs", "tmp"]
            .iter()
            .try_for_each(|name| make_folder(&root.join(name)));
        let write_off = match made {
            Ok(()) => false,
            Err(e) => {
                log::warn!("cache folder {} can't be written: {e}", folder.display());
                true
            }
        };
        sweep(&root.join("tmp"));
        let root = root.is_dir().then_some(root);
        Cache { root, write_off: AtomicBool::new(write_off) }
    }

    /// A cache that holds nothing and keeps nothing.
    pub fn none() -> Cache {
        Cache { root: None, write_off: AtomicBool::new(true) }
    }

    /// Whether anything can be kept.
    pub fn is_writable(&self) -> bool {
        self.root.is_some() && !self.write_off.load(Ordering::Relaxed)
    }

    /// A folder for temporary files on the cache's disk, if there is one.
    pub fn temporary_folder(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("tmp")).filter(|_| self.is_writable())
    }

    /// A document by digest, checked.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.blob_path(digest)?;
        let bytes = read_limited(&path, MAX_BLOB_BYTES)?;
        if !digest.matches(&bytes) {
            self.discard(&path, "its digest does not match");
            return None;
        }
        Some(bytes)
    }

    /// Keeps a document that the caller has verified.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) {
        if let Some(path) = self.blob_path(digest) {
            self.put(&path, &[bytes]);
        }
    }

    /// A layer index under one of its names, undecoded.
    pub fn layer_index(&self, name: &LayerName) -> Option<Vec<u8>> {
        read_limited(&self.layer_path(name)?, MAX_LAYER_INDEX_BYTES)
    }

    /// Keeps a layer index under both names.
    pub fn put_layer_index(&self, blob: &Digest, diff_id: &DiffId, bytes: &[u8]) {
        let names = [LayerName::Blob(*blob), LayerName::DiffId(*diff_id)];
        let [Some(layer), Some(diff)] = names.map(|name| self.layer_path(&name)) else {
            return;
        };
        if self.put(&layer, &[bytes]) && !diff.exists() && fs::hard_link(&layer, &diff).is_err() {
            // No hard links on this file system, or another process was first.
            self.put(&diff, &[bytes]);
        }
    }

    /// Removes a layer index that turned out to be of no use from under one of its names.
    pub fn discard_layer_index(&self, name: &LayerName, why: &str) {
        if let Some(path) = self.layer_path(name) {
            self.discard(&path, why);
        }
    }

    /// Removes the index of a layer under both of its names.
    pub fn discard_index_of(&self, blob: &Digest, diff_id: &DiffId, why: &str) {
        self.discard_layer_index(&LayerName::Blob(*blob), why);
        self.discard_layer_index(&LayerName::DiffId(*diff_id), why);
    }

    /// What a reference meant when it was last resolved.
    pub fn tag(&self, reference: &str) -> Option<TagRecord> {
        let bytes = read_limited(&self.tag_path(reference)?, MAX_BLOB_BYTES)?;
        let record: TagRecord = serde_json::from_slice(&bytes).ok()?;
        (record.reference == reference).then_some(record)
    }

    /// Remembers what a reference means now.
    pub fn put_tag(&self, reference: &str, digest: Digest) {
        let checked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let record = TagRecord { reference: reference.to_owned(), digest, checked };
        if let (Some(path), Ok(bytes)) = (self.tag_path(reference), serde_json::to_vec(&record)) {
            self.put(&path, &[&bytes]);
        }
    }

    /// Opens a span and reads all of it once, which proves that it is whole: the open file and
    /// its bytes.
    pub fn span(&self, digest: &SpanDigest, length: u32) -> Option<(SpanFile, Vec<u8>)> {
        let path = self.span_path(digest)?;
        let file = File::open(&path).ok()?;
        let mut bytes = Vec::with_capacity(length as usize + SPAN_TRAILER_BYTES + 1);
        let limit = u64::from(length) + SPAN_TRAILER_BYTES as u64 + 1;
        let read = (&file).take(limit).read_to_end(&mut bytes);
        let whole = read.is_ok() && bytes.len() == length as usize + SPAN_TRAILER_BYTES;
        if !whole || bytes[length as usize..] != span_trailer(digest, &bytes[..length as usize]) {
            self.discard(&path, "its checksum does not match");
            return None;
        }
        bytes.truncate(length as usize);
        Some((SpanFile { file, length }, bytes))
    }

    /// Keeps a span that the caller has verified; true if it was not there before and is now.
    pub fn put_span(&self, digest: &SpanDigest, bytes: &[u8]) -> bool {
        match self.span_path(digest) {
            Some(path) if !path.exists() => self.put(&path, &[bytes, &span_trailer(digest, bytes)]),
            _ => false,
        }
    }

    /// Whether a span seems to be there.
    pub fn has_span(&self, digest: &SpanDigest) -> bool {
        self.span_path(digest).is_some_and(|path| path.exists())
    }

    /// Removes a span.
    pub fn discard_span(&self, digest: &SpanDigest, why: &str) {
        if let Some(path) = self.span_path(digest) {
            self.discard(&path, why);
        }
    }

    fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        let hex = digest.hex();
        let folder = self.root.as_ref()?.join("blobs").join(digest.algorithm().name());
        Some(folder.join(&hex[..2]).join(&hex))
    }

    fn span_path(&self, digest: &SpanDigest) -> Option<PathBuf> {
        let hex = digest.hex();
        Some(self.root.as_ref()?.join("spans").join(&hex[..2]).join(&hex))
    }

    fn layer_path(&self, name: &LayerName) -> Option<PathBuf> {
        let (folder, digest) = match name {
            LayerName::Blob(digest) => ("layers", digest),
            LayerName::DiffId(DiffId(digest)) => ("diffs", digest),
        };
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        Some(self.root.as_ref()?.join(folder).join(name))
    }

    fn tag_path(&self, reference: &str) -> Option<PathBuf> {
        let name = Digest::sha256(reference.as_bytes()).hex();
        Some(self.root.as_ref()?.join("refs").join(name))
    }

    /// Writes a file whole or not at all; true if it is there now.
    fn put(&self, path: &Path, parts: &[&[u8]]) -> bool {
        let Some(root) = self.root.as_ref().filter(|_| self.is_writable()) else { return false };
        match write_new(root, path, parts) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("not cached: {}: {e}", path.display());
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

    fn discard(&self, path: &Path, why: &str) {
        log::warn!("removing {} from the cache: {why}", path.display());
        if let Err(e) = fs::remove_file(path)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{}: {e}", path.display());
        }
    }
}

fn write_new(root: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.permissions(fs::Permissions::from_mode(0o400));
    let folder = root.join("tmp");
    let mut file = match builder.tempfile_in(&folder) {
        // The user has deleted the cache under us, which is allowed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_folder(&folder)?;
            builder.tempfile_in(&folder)?
        }
        other => other?,
    };
    for part in parts {
        file.write_all(part)?;
    }
    let file = file.into_temp_path();
    match fs::rename(&file, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_folder(path.parent().unwrap_or(root))?;
            fs::rename(&file, path)?;
        }
        other => other?,
    }
    // The name is gone: there is nothing left to delete.
    let _ = file.keep();
    Ok(())
}

/// Removes what killed processes were writing, once nobody can still be writing it.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|m| m.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > MAX_TEMPORARY_AGE)
            && let Err(e) = fs::remove_file(entry.path())
        {
            log::debug!("{}: {e}", entry.path().display());
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn read_limited(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    if length > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
    use super::*;

    #[test]
    fn what_is_put_is_read_back_and_damage_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let bytes = vec![7; 100_000];
        let (digest, other) = (SpanDigest::of(&bytes), SpanDigest::of(b"other"));
        assert!(cache.put_span(&digest, &bytes) && !cache.put_span(&digest, &bytes));
        let (file, read) = cache.span(&digest, 100_000).unwrap();
        assert_eq!(read, bytes);
        let mut part = [0; 5];
        file.read_at(&mut part, 99_995).unwrap();
        assert_eq!(part, [7; 5]);

        let path = cache.span_path(&digest).unwrap();
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
        let wrong = cache.span_path(&other).unwrap();
        make_folder(wrong.parent().unwrap()).unwrap();
        fs::write(&wrong, &whole).unwrap();
        assert!(cache.span(&other, 100_000).is_none());

        let blob = Digest::sha256(b"{}");
        cache.put_blob(&blob, b"{}");
        assert_eq!(cache.blob(&blob).unwrap(), b"{}");
        let path = cache.blob_path(&blob).unwrap();
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
        cache.put_tag("a/b:c", digest);
        assert_eq!(cache.tag("a/b:c").unwrap().digest, digest);
        let diff_id = DiffId(Digest::sha256(b"y"));
        cache.put_layer_index(&digest, &diff_id, b"index");
        let names = [LayerName::Blob(digest), LayerName::DiffId(diff_id)];
        assert!(names.iter().all(|name| cache.layer_index(name).unwrap() == b"index"));
        cache.discard_layer_index(&names[0], "test");
        assert!(cache.layer_index(&names[0]).is_none());
        assert!(cache.layer_index(&names[1]).is_some(), "the other name is another file");
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
            assert!(!cache.put_span(&digest, b"x") && cache.span(&digest, 1).is_none());
            assert!(!cache.is_writable());
        }
    }
}
