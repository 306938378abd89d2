//! What goes when the cache is larger than it may be, and in which order.
//!
//! In this order go: old temporary files and downloads, other downloads that no process appends to,
//! spans, those spans that only streaming a whole layer brings back, and layer indexes. Losing a layer
//! index costs streaming its layer, so a small limit leaves [`MIN_INDEX_BYTES`] of them.

use std::collections::HashMap;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::layout::{FileKind, REJECTED, span_name};
use super::recency::MAX_TEMPORARY_AGE;
use super::removed::Removed;
use super::store::Store;
use super::walk::{self, Content};
use crate::digest::SpanDigest;

/// Layer indexes, with the documents beside them, that a limit leaves however small it is: those of an
/// image of half a million files. Without it a cache that is to hold no content (`0`) would stream
/// each layer at every mount.
pub(super) const MIN_INDEX_BYTES: u64 = 64 << 20;

/// A span that could go.
struct Candidate {
    kind: FileKind,
    used: SystemTime,
    digest: SpanDigest,
    bytes: u64,
}

/// A layer index that could go, with all its names.
#[derive(Default)]
struct IndexCandidate {
    used: Option<SystemTime>,
    names: Vec<PathBuf>,
    bytes: u64,
}

/// How far to evict, in bytes of the whole cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    /// Nothing but what is stale goes as long as the cache is no larger.
    pub(super) above: u64,
    /// What is left then, if downloads and spans are enough for that.
    pub(super) down_to: u64,
    /// Where layer indexes cease to go.
    pub(super) down_to_with_indexes: u64,
}

/// Evicts down to nine tenths of the limit if the cache exceeds it.
pub(super) fn evict_to_limit(store: &Store, limit: u64) -> Removed {
    let down_to = limit - limit / 10;
    let down_to_with_indexes = down_to.max(MIN_INDEX_BYTES);
    evict(store, Goal { above: limit, down_to, down_to_with_indexes })
}

/// Removes temporary files and downloads that no process can still want, and what else it takes to reach
/// the goal, the least recently used first.
pub(super) fn evict(store: &Store, goal: Goal) -> Removed {
    let Goal { above, down_to, down_to_with_indexes } = goal;
    let mut removed = Removed::default();
    let mut spans = Vec::new();
    let mut downloads = Vec::new();
    let mut indexes: HashMap<(u64, u64), IndexCandidate> = HashMap::new();
    let mut total = 0u64;
    walk::walk(store, &mut |found| {
        let bytes = if found.seen { 0 } else { found.bytes };
        total = total.saturating_add(bytes);
        match (found.kind, &found.content) {
            (kind @ (FileKind::Spans | FileKind::Streams), Content::Span(digest)) => {
                spans.push(Candidate { kind, used: found.modified, digest: *digest, bytes });
            }
            (FileKind::Partial, _) => {
                downloads.push((found.modified, found.path.to_owned(), bytes));
            }
            // That a table was rejected stays known.
            (FileKind::LayerIndexes, _) if found.bytes > REJECTED.len() as u64 => {
                let index = indexes.entry(found.inode).or_default();
                index.used = Some(found.modified);
                index.names.push(found.path.to_owned());
                index.bytes += bytes;
            }
            (FileKind::Temporary, _) => {
                let stale = found.age() > MAX_TEMPORARY_AGE;
                if stale && removed.note(found.path, Some(bytes), found.remove()) {
                    total -= bytes;
                }
            }
            _ => {}
        }
    });
    let full = total > above;
    downloads.sort_unstable();
    for (modified, path, bytes) in downloads {
        let stale = modified.elapsed().is_ok_and(|age| age > MAX_TEMPORARY_AGE);
        if (stale || full && total > down_to)
            && let Some(result) = remove_if_idle(store, &path)
            && removed.note(&path, Some(bytes), result)
        {
            total -= bytes;
        }
    }
    if full {
        // The dear ones last.
        spans.sort_unstable_by_key(|span| (span.kind, span.used));
        for span in spans {
            if total <= down_to {
                break;
            }
            let path = span_name(span.kind, &span.digest);
            if removed.note(&path, Some(span.bytes), store.remove(&path)) {
                total -= span.bytes;
            }
        }
    }
    if full && total > down_to_with_indexes {
        let mut indexes: Vec<IndexCandidate> = indexes.into_values().collect();
        indexes.sort_unstable_by_key(|index| index.used);
        for IndexCandidate { names, bytes, .. } in indexes {
            if total <= down_to_with_indexes {
                break;
            }
            // Its room is free when the last of its names goes.
            let Some((last, others)) = names.split_last() else { continue };
            let is_only_named_so =
                others.iter().all(|name| removed.note(name, None, store.remove(name)));
            if is_only_named_so && removed.note(last, Some(bytes), store.remove(last)) {
                total -= bytes;
            }
        }
    }
    removed.left = total;
    removed
}

/// Removes a download unless a process appends to it.
pub(super) fn remove_if_idle(store: &Store, name: &Path) -> Option<io::Result<()>> {
    let file = match store.read(name) {
        Ok(file) => file,
        Err(e) => return Some(Err(e)),
    };
    match file.try_lock() {
        // Removed while locked: a process that opens it next sees that it lost its name.
        Ok(()) => Some(store.remove(name)),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(e)) => Some(Err(e)),
    }
}
