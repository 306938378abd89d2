//! What a user does with the cache as a whole: size it, shrink it, check it, clear it.
//!
//! All of it is safe beside mounts that use the cache: they fetch again what they miss.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::documents::MAX_BLOB_BYTES;
use super::evict::{self, Goal};
use super::folder::Cache;
use super::layer_indexes::MAX_LAYER_INDEX_BYTES;
use super::layout::{FileKind, LayerName, REJECTED};
use super::limit::Limit;
use super::read_back::{Wrong, each_chunk, read_whole};
use super::removed::Removed;
use super::span_file::{SPAN_TRAILER_BYTES, check_span};
use super::store::Store;
use super::tag_lists::TagListRecord;
use super::tags::TagRecord;
use super::walk::{self, Content, Found};
use crate::digest::{Digest, Hasher, SpanDigest};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Files; one of several names counts once.
    pub files: u64,
    /// Their lengths.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What the cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// By kind; all kinds are there.
    pub kinds: BTreeMap<FileKind, Count>,
    /// In all.
    pub total: Count,
}

/// A file that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, absolute if the cache's folder is.
    pub path: PathBuf,
    /// What it was for.
    pub kind: FileKind,
    /// What is wrong with it.
    pub why: String,
}

/// What checking everything has found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Files that were read back; one of several names counts once.
    pub checked: Count,
    /// Those of them that only a checksum could be held against: spans whose digest is not that of
    /// their bytes, because a table in a format of others binds them in another way.
    pub by_checksum: Count,
    /// Files that are damaged, and removed if that was possible.
    pub damaged: Vec<Damage>,
    /// The first file that could not be read or removed, and why.
    pub failed: Option<(PathBuf, io::Error)>,
}

/// Checks a layer index: which of its spans have the digest of their bytes, or what is wrong.
pub type CheckLayer<'a> = dyn Fn(&LayerName, &[u8]) -> Result<Vec<SpanDigest>, String> + 'a;

impl Cache {
    /// The cache in a folder as it is: nothing is made, swept or written. For the methods that
    /// look at the cache as a whole.
    pub fn open_existing(folder: &Path, limit: Limit) -> Cache {
        Cache::with(folder, limit)
    }

    /// The limit in bytes; `None` without one.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Sums up what the cache holds.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        usage.kinds.extend(FileKind::ALL.map(|kind| (kind, Count::default())));
        self.walk(&mut |found| {
            if !found.seen {
                usage.kinds.entry(found.kind).or_default().add(found.bytes);
                usage.total.add(found.bytes);
            }
        })?;
        Ok(usage)
    }

    /// Evicts as far as the limit asks for, and sweeps what killed processes have left behind.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn collect_to_limit(&self) -> io::Result<Removed> {
        let (store, limit) = (self.usable()?, self.limit.unwrap_or(u64::MAX));
        Ok(store.map_or_else(Removed::default, |store| evict::evict_to_limit(store, limit)))
    }

    /// Evicts until at most `bytes` are left, whatever the limit is, layer indexes last, and sweeps what
    /// killed processes have left behind.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn collect(&self, bytes: u64) -> io::Result<Removed> {
        let store = self.usable()?;
        let goal = Goal { above: bytes, down_to: bytes, down_to_with_indexes: bytes };
        Ok(store.map_or_else(Removed::default, |store| evict::evict(store, goal)))
    }

    /// Removes everything that is ours.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn clear(&self) -> io::Result<Removed> {
        let mut removed = Removed::default();
        self.walk(&mut |found| {
            let bytes = (!found.seen).then_some(found.bytes);
            let gone =
                found.kind != FileKind::Other && removed.note(found.path, bytes, found.remove());
            if !gone {
                removed.left = removed.left.saturating_add(bytes.unwrap_or(0));
            }
        })?;
        Ok(removed)
    }

    /// Reads everything back and removes what is damaged. `check_layer` knows layer indexes;
    /// `advance` hears of the bytes that are done with.
    ///
    /// A span must have the digest that is its name, where a layer index says that it is one of its
    /// bytes. (Opening a span compares its checksum only, because it has to be fast.) Downloads and
    /// temporary files are not looked at: the program that goes on with them checks them.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn verify(
        &self,
        check_layer: &CheckLayer<'_>,
        advance: &mut dyn FnMut(u64),
    ) -> io::Result<Verified> {
        let mut verified = Verified::default();
        let mut of_bytes = HashSet::new();
        // A layer index has several names, each of which is checked.
        let mut counted = HashSet::new();
        let root = self.usable()?.map(|store| store.path().to_owned()).unwrap_or_default();
        // Layer indexes first: they tell how the others are checked.
        for of_indexes in [true, false] {
            self.walk(&mut |found| {
                if matches!(found.content, Content::Layer(_)) != of_indexes {
                    return;
                }
                let result = check(found, check_layer, &mut of_bytes, advance);
                let is_checked = matches!(result, Some(Ok(_) | Err(Wrong::Damaged(_))));
                if is_checked && counted.insert(found.inode) {
                    verified.checked.add(found.bytes);
                    if matches!(result, Some(Ok(Held::Checksum))) {
                        verified.by_checksum.add(found.bytes);
                    }
                }
                match result {
                    None | Some(Ok(_) | Err(Wrong::Gone)) => {}
                    Some(Err(Wrong::Unreadable(e))) => {
                        verified.failed.get_or_insert((root.join(found.path), e));
                    }
                    Some(Err(Wrong::Damaged(why))) => {
                        let path = root.join(found.path);
                        match found.remove() {
                            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                                verified.failed.get_or_insert((path.clone(), e));
                            }
                            _ => {}
                        }
                        verified.damaged.push(Damage { path, kind: found.kind, why });
                    }
                }
            })?;
        }
        Ok(verified)
    }

    fn walk(&self, visit: &mut dyn FnMut(&Found<'_>)) -> io::Result<()> {
        if let Some(store) = self.usable()? {
            walk::walk(store, visit);
        }
        Ok(())
    }

    /// The folder; `None` if there is none.
    ///
    /// # Errors
    /// It is there and not to be trusted, or can't be opened.
    pub(super) fn usable(&self) -> io::Result<Option<&Store>> {
        match &self.refused {
            Some(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, why.clone())),
            None => Ok(self.store.as_deref()),
        }
    }
}

/// What a file that is in order was held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Digest,
    Checksum,
}

/// Checks one file; `None` if there is nothing to check it by. `of_bytes` collects the spans whose
/// digest is that of their bytes.
fn check(
    found: &Found<'_>,
    check_layer: &CheckLayer<'_>,
    of_bytes: &mut HashSet<SpanDigest>,
    advance: &mut dyn FnMut(u64),
) -> Option<Result<Held, Wrong>> {
    let open = || found.open().map_err(Wrong::from);
    Some(match &found.content {
        Content::Unknown => return None,
        Content::Span(digest) => open().and_then(|file| {
            let mut hasher = SpanDigest::hasher();
            check_span(&file, digest, &mut |chunk| {
                hasher.update(chunk);
                advance(chunk.len() as u64);
            })?;
            advance(SPAN_TRAILER_BYTES as u64);
            match hasher.finish() == *digest {
                true => Ok(Held::Digest),
                false if of_bytes.contains(digest) => Err(mismatch()),
                false => Ok(Held::Checksum),
            }
        }),
        Content::Blob(digest) => {
            open().and_then(|file| check_blob(&file, digest, advance)).map(|()| Held::Digest)
        }
        Content::Layer(name) => open().and_then(|file| {
            let bytes = read_whole(&file, MAX_LAYER_INDEX_BYTES)?;
            advance(bytes.len() as u64);
            // Its place is kept for a layer index that was rejected.
            if bytes != REJECTED {
                of_bytes.extend(check_layer(name, &bytes).map_err(Wrong::Damaged)?);
            }
            Ok(Held::Digest)
        }),
        Content::Tag(name) => open().and_then(|file| {
            check_record(&file, name, |record: TagRecord| record.reference, advance)
        }),
        Content::TagList(name) => open().and_then(|file| {
            check_record(&file, name, |record: TagListRecord| record.repository, advance)
        }),
    })
}

/// Whether a record is about what its file is called after.
fn check_record<T: DeserializeOwned>(
    file: &File,
    name: &str,
    subject: impl FnOnce(T) -> String,
    advance: &mut dyn FnMut(u64),
) -> Result<Held, Wrong> {
    let bytes = read_whole(file, MAX_BLOB_BYTES)?;
    advance(bytes.len() as u64);
    let record: T = serde_json::from_slice(&bytes)
        .map_err(|e| Wrong::Damaged(format!("not the record of a tag: {e}")))?;
    match Digest::sha256(subject(record).as_bytes()).hex() == *name {
        true => Ok(Held::Digest),
        false => Err(Wrong::Damaged("it is about another tag".to_owned())),
    }
}

fn mismatch() -> Wrong {
    Wrong::Damaged("its content does not match its digest".to_owned())
}

fn check_blob(file: &File, digest: &Digest, advance: &mut dyn FnMut(u64)) -> Result<(), Wrong> {
    let mut hasher = Hasher::new(digest.algorithm());
    each_chunk(file, |chunk| {
        hasher.update(chunk);
        advance(chunk.len() as u64);
    })?;
    match hasher.finish() == *digest {
        true => Ok(()),
        false => Err(mismatch()),
    }
}
