//! What is here of a blob that is shown before it is verified, and under which digests.

use crate::cache::{ArrivedSpans, Cache, LayerName};
use crate::digest::Digest;
use crate::index::{Check, LayerIndex, Proof, Span};

/// The digests of the spans of a blob that have come: those that were noted when they did, and those of an index
/// that a process has made since of all of them, which has this name in the cache and at most so many bytes.
pub fn arrived_spans(
    cache: &Cache,
    blob: &Digest,
    spans: &[Span],
    (name, most): (&LayerName, u64),
) -> ArrivedSpans {
    let mut arrived = cache.arrived_spans(blob, spans.len());
    if let Some(index) = proven_index(cache, blob, spans, (name, most)) {
        add_all(&mut arrived, &index);
    }
    arrived
}

/// Notes that all spans of an index have come.
pub(super) fn add_all(arrived: &mut ArrivedSpans, index: &LayerIndex) {
    (0..index.span_count()).for_each(|at| arrived.set(at, index.span(at).digest));
}

/// An index of ours in the cache that proves a blob, if it has the same spans.
pub(super) fn proven_index(
    cache: &Cache,
    blob: &Digest,
    spans: &[Span],
    (name, most): (&LayerName, u64),
) -> Option<LayerIndex> {
    let index = LayerIndex::decode(&cache.layer_index(name, most)?).ok()?;
    let is_same = |(at, span): (usize, &Span)| {
        let other = index.span(at);
        other.check == Check::Content
            && (other.start, other.length) == (span.start, span.length)
            && other.compressed_start == span.compressed_start
    };
    let is_good = index.proof() == Proof::Full
        && index.blob() == *blob
        && index.span_count() == spans.len()
        && spans.iter().enumerate().all(is_same);
    is_good.then_some(index)
}
