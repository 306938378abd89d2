//! Keeping what has proven right, so that the next mount shows it as proven.
//!
//! A blob that was shown before it was verified (`blob::proving`) has its spans in the cache under names that say
//! only which bytes of the blob a source has sent. Once it has proven right they are kept under their digests as
//! well, if the cache has room for that, and an index with these digests.
//!
//! Rejected: the old names for both. Another process that shows the same blob unproven writes to them.

use std::sync::Arc;
use std::thread;

use super::reader::BlobReader;
use crate::cache::Cost;
use crate::digest::SpanDigest;
use crate::index::LayerIndex;

/// Keeps the index of a blob that has proven right, and its spans by their digests, on a thread of its own.
pub(super) fn record(reader: &Arc<BlobReader>, digests: Vec<SpanDigest>) {
    let cache = reader.shared.cache();
    if !cache.has_room(reader.table.uncompressed_size.saturating_mul(2)) {
        return;
    }
    let (reader, builder) = (Arc::clone(reader), thread::Builder::new().name("record".into()));
    let record = move || {
        let (cache, access) = (reader.shared.cache(), &reader.access);
        let mut buf = Vec::new();
        for (span, digest) in reader.table.spans.iter().zip(&digests) {
            buf.resize(span.length as usize, 0);
            if !reader.shared.read(span, 0, &mut buf) || SpanDigest::of(&buf) != *digest {
                return;
            }
            cache.put_span(digest, &buf, Cost::Cheap);
        }
        let size = access.descriptor.size;
        if let Some(index) = LayerIndex::of_proven_file(access.descriptor.digest, size, &digests) {
            cache.put_external_index(&access.index_name, &index.encode());
        }
    };
    if let Err(e) = builder.spawn(record) {
        log::debug!("what was proven is not recorded: {e}");
    }
}
