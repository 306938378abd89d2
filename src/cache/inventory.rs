//! Each file of the cache with what it holds, so that those of one image can be told from all others.
//!
//! # Problem
//!
//! The cache knows files by digests; which of them belong to an image stands in documents and layer indexes, which modules
//! above read.
//!
//! # Design
//!
//! A walk lists every file with what its place and name say of it, and removes the files that are named
//! to it. What belongs together is decided above (`image::cached`).
//!
//! Rejected: a list of files for each image, kept as they are written. It would have to be right after a kill at any moment,
//! and what several images share would need a count.
//!
//! Invariants: listing marks nothing as used and writes nothing; what is not ours is not listed, so it can't be removed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::arrived::ArrivedSpans;
use super::documents::MAX_BLOB_BYTES;
use super::evict::remove_if_idle;
use super::folder::{Cache, read_limited};
use super::layer_indexes::MAX_LAYER_INDEX_BYTES;
use super::layout::{FileKind, REJECTED};
use super::removed::Removed;
use super::tags::TagRecord;
use super::walk::{self, Content, Found};
use crate::digest::{Digest, SpanDigest};

/// A file of the cache.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it is for.
    pub kind: FileKind,
    /// What it holds.
    pub holds: Holds,
    /// Its length; 0 for another name of a file that was listed before.
    pub bytes: u64,
    /// When it was written or, if it is a span or a layer index, last used: to some minutes.
    pub used: SystemTime,
    /// Below the version's folder.
    place: PathBuf,
}

/// What a file of the cache holds, as far as its name says it.
#[derive(Clone, Debug)]
pub enum Holds {
    /// A span.
    Span(SpanDigest),
    /// A layer index: see [`Cache::held_layer_index`].
    LayerIndex,
    /// Which spans have come of a blob that is not verified yet, and the digests of these.
    Arrived(Digest, Vec<SpanDigest>),
    /// A part of a blob, for a download that can go on.
    Download(Digest),
    /// A manifest, an image index, a config.
    Document(Digest),
    /// What a reference meant.
    Tag(TagRecord),
    /// Something that belongs to no image.
    Other,
}

impl Cache {
    /// Everything that is ours.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn inventory(&self) -> io::Result<Vec<Held>> {
        let mut all = Vec::new();
        if let Some(store) = self.usable()? {
            walk::walk(store, &mut |found| {
                if found.kind != FileKind::Other {
                    all.push(Held {
                        kind: found.kind,
                        holds: holds(found),
                        bytes: if found.seen { 0 } else { found.bytes },
                        used: found.modified,
                        place: found.path.to_owned(),
                    });
                }
            });
        }
        Ok(all)
    }

    /// The bytes of a layer index of the inventory, undecoded; `None` if it is gone, or was rejected.
    pub fn held_layer_index(&self, held: &Held) -> Option<Vec<u8>> {
        let file = self.store.as_ref()?.read(&held.place).ok()?;
        read_limited(file, MAX_LAYER_INDEX_BYTES).filter(|bytes| bytes != REJECTED)
    }

    /// Removes files of the inventory. What a process uses at the moment it keeps, or fetches again.
    ///
    /// # Errors
    /// Its folder can't be opened, or is not to be trusted.
    pub fn remove_held<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Held>,
    ) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let Some(store) = self.usable()? else { return Ok(removed) };
        for held in files {
            let result = match held.kind {
                // Otherwise the process that appends to it would lose what it has.
                FileKind::Partial => remove_if_idle(store, &held.place),
                _ => Some(store.remove(&held.place)),
            };
            if let Some(result) = result {
                removed.note(&held.place, Some(held.bytes).filter(|bytes| *bytes > 0), result);
            }
        }
        removed.left = self.usage()?.total.bytes;
        Ok(removed)
    }
}

fn holds(found: &Found<'_>) -> Holds {
    match &found.content {
        Content::Span(digest) => Holds::Span(*digest),
        Content::Layer(_) => Holds::LayerIndex,
        Content::Blob(digest) => Holds::Document(*digest),
        Content::Tag(_) => read_tag(found).map_or(Holds::Other, Holds::Tag),
        Content::TagList(_) => Holds::Other,
        Content::Unknown => match (first(found.path), walk::blob_of(found.path)) {
            (Some("arrived"), Some(blob)) => Holds::Arrived(blob, read_arrived(found)),
            (Some("partial"), Some(blob)) => Holds::Download(blob),
            (Some("foreign" | "hints" | "sent"), _) => Holds::LayerIndex,
            _ => Holds::Other,
        },
    }
}

/// The folder of a file.
fn first(path: &Path) -> Option<&str> {
    path.iter().next()?.to_str()
}

fn read_tag(found: &Found<'_>) -> Option<TagRecord> {
    let bytes = read_limited(found.open().ok()?, MAX_BLOB_BYTES)?;
    serde_json::from_slice(&bytes).ok()
}

fn read_arrived(found: &Found<'_>) -> Vec<SpanDigest> {
    let bytes = found.open().ok().and_then(|file| read_limited(file, MAX_BLOB_BYTES));
    bytes.and_then(|bytes| ArrivedSpans::known(&bytes)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cache::Asked;

    #[test]
    fn what_is_listed_can_be_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let digest = Digest::sha256(b"document");
        cache.put_blob(&digest, b"document");
        cache.put_tag("example.org/r:t", digest, Asked::Checked);
        std::fs::write(folder.path().join("v1/README"), "theirs").unwrap();
        let all = cache.inventory().unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        let is_document = |held: &&Held| matches!(&held.holds, Holds::Document(d) if *d == digest);
        let documents: Vec<&Held> = all.iter().filter(is_document).collect();
        let removed = cache.remove_held(documents).unwrap();
        assert_eq!((removed.files, removed.bytes), (1, 8));
        assert!(cache.blob(&digest).is_none() && cache.tag("example.org/r:t").is_some());
        assert!(folder.path().join("v1/README").exists());
    }

    #[test]
    fn spans_that_have_come_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let (blob, span) = (Digest::sha256(b"blob"), SpanDigest::of(b"span"));
        let mut arrived = cache.arrived_spans(&blob, 3);
        arrived.set(1, span);
        cache.put_arrived_spans(&blob, &mut arrived);
        let all = cache.inventory().unwrap();
        assert!(
            matches!(&all[..], [Held { holds: Holds::Arrived(of, spans), .. }] if *of == blob && *spans == [span]),
            "{all:?}"
        );
    }
}
