//! Uncompressed spans, by their digest.

use std::sync::Arc;

use super::folder::Cache;
use super::layout::{FileKind, SPAN_KINDS, span_name};
use super::recency::mark_used;
use super::span_file::{SpanFile, span_trailer};
use super::store::Store;
use crate::digest::SpanDigest;

/// What the loss of a span would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// It is fetched again on its own.
    Cheap,
    /// Its whole layer is streamed again: there is no checkpoint to begin at. Evicted last.
    Dear,
}

impl Cache {
    /// Opens a span and reads all of it once, which proves that it is whole.
    pub fn span(&self, digest: &SpanDigest, length: u32) -> Option<SpanFile> {
        SPAN_KINDS.into_iter().find_map(|kind| self.span_of(kind, digest, length))
    }

    fn span_of(&self, kind: FileKind, digest: &SpanDigest, length: u32) -> Option<SpanFile> {
        let name = span_name(kind, digest);
        let file = self.open_file(&name)?;
        mark_used(&file);
        let checked = SpanFile::check(file, digest, length).ok()?;
        if checked.is_none() {
            self.discard(&name, "its checksum does not match");
        }
        checked
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
    /// none. That nothing is wrong with the span itself is why no user is warned.
    pub fn withdraw_span(&self, digest: &SpanDigest) {
        for name in SPAN_KINDS.map(|kind| span_name(kind, digest)) {
            self.remove(&name, "the rest of its layer is not there", log::Level::Debug);
        }
    }
}
