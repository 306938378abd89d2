//! Fetching ahead of a walk, in a layer that no reader is in yet.
//!
//! # Problem
//!
//! In an image of many small layers a walk over everything waits a round trip for each of them, one
//! after the other, while the link is idle.
//!
//! # Design
//!
//! `prefetch::layers` knows that a walk goes on, and in which layers it will come, and has their
//! beginnings brought here: [`BlobReader::bring`] starts a fetch as any other, but without a
//! reader. What that means:
//!
//! - no reader waits for it, and if it fails none hears of it: a reader that comes tries itself;
//! - it brings a bounded piece, decided on before, and nothing that is cached or on its way;
//! - it ends when the walk does ([`Walk`]), unless a reader waits for what it has yet to bring;
//! - it is sent out only where the cache will keep what it brings, and the first span that was not
//!   kept ends the whole walk: nothing is fetched twice because there was no room for it.
//!
//! Once the walk has come into that piece, the rest of the layer follows without a miss
//! ([`BlobReader::bring_rest`]), so that the link has something to do while the piece is read.

use std::ops::Range;
use std::sync::Arc;

use super::in_flight::OngoingFetch;
use super::link::Link;
use super::plan::{self, ReadAhead, Situation};
use super::reader::BlobReader;
use super::walk::Walk;
use crate::extent::UncompressedOffset;
use crate::index::Span;

/// Limits of [`BlobReader::ahead_bytes`].
const AHEAD_BYTES: Range<u64> = (32 << 20)..(256 << 20);

/// About as many bytes make one compressed one.
const RATIO: u64 = 2;

/// The part of a second in which what is on its way has nearly come.
const IDLE_SOON: u64 = 4;

impl BlobReader {
    /// Uncompressed bytes that may be ahead of a walk, in all layers that it has yet to come into: what the link
    /// brings in about a second.
    pub fn ahead_bytes(&self) -> u64 {
        let bytes = self.bytes_per_second().saturating_mul(RATIO);
        bytes.clamp(AHEAD_BYTES.start, AHEAD_BYTES.end)
    }

    /// Whether `length` bytes from `start` seem to be cached or on their way; those past the layer
    /// are never.
    pub fn is_coming_at(&self, start: UncompressedOffset, length: u64) -> bool {
        let in_flight = self.in_flight();
        self.all_that_hold(start, length, |at| self.is_coming(&in_flight, at))
    }

    /// The same without what is on its way.
    pub fn is_local(&self, start: UncompressedOffset, length: u64) -> bool {
        self.all_that_hold(start, length, |at| self.is_here(at))
    }

    fn all_that_hold(
        &self,
        start: UncompressedOffset,
        length: u64,
        holds: impl FnMut(usize) -> bool,
    ) -> bool {
        let range = start.0..start.0.saturating_add(length);
        let is_inside = range.end <= self.table.uncompressed_size;
        length == 0 || is_inside && plan::holding(&self.table.spans, &range).all(holds)
    }

    /// A range of uncompressed bytes, widened to the spans that hold it.
    pub fn spans_of(&self, range: Range<u64>) -> Range<u64> {
        let spans = &self.table.spans;
        let held_by = &spans[plan::holding(spans, &range)];
        match (held_by.first(), held_by.last()) {
            (Some(first), Some(last)) => first.start.0..last.end(),
            _ => 0..0,
        }
    }

    /// Begins to fetch the first piece that is missing of some uncompressed ranges, which are ordered
    /// and disjoint, ahead of a walk that will come there: at most `most_bytes`, uncompressed.
    /// Returns how many come; 0 if there is nothing to do, or it can't be done without harm.
    pub fn bring(self: &Arc<Self>, ranges: &[Range<u64>], most_bytes: u64, walk: &Walk) -> u64 {
        let has_room = self.shared.cache().has_room(most_bytes);
        if has_room { self.begin(ranges, most_bytes, Some(walk)) } else { 0 }
    }

    /// Begins to fetch what is missing of such ranges, as far as it hangs together, for a walk that reads
    /// a part of them: what a miss would bring, before there is one. Readers are followed as from a miss.
    pub fn bring_rest(self: &Arc<Self>, ranges: &[Range<u64>]) {
        self.begin(ranges, u64::MAX, None);
    }

    /// Whether something is on its way.
    pub fn is_busy(&self) -> bool {
        !self.in_flight().fetches.is_empty()
    }

    /// Whether what is on its way has nearly come, or nothing is: the link is about to be idle.
    pub fn is_nearly_idle(&self) -> bool {
        let spans = &self.table.spans;
        let left = |fetch: &OngoingFetch| match spans.get(fetch.left.start) {
            Some(next) if fetch.left.start < fetch.limit => {
                spans[fetch.limit - 1].compressed_end.0 - next.compressed_start.0
            }
            _ => 0,
        };
        let left_bytes: u64 = self.in_flight().fetches.iter().map(left).sum();
        left_bytes <= self.bytes_per_second() / IDLE_SOON
    }

    /// What all connections bring that may be open.
    fn bytes_per_second(&self) -> u64 {
        let source = &self.access.source;
        let each = source.throughput().map_or(0, |link| link.bytes_per_second);
        let connections = source.connections().map_or(1, |connections| connections.allowed());
        each.saturating_mul(connections as u64)
    }

    fn begin(self: &Arc<Self>, ranges: &[Range<u64>], most_bytes: u64, walk: Option<&Walk>) -> u64 {
        let source = &self.access.source;
        if source.is_offline() || !source.is_remote() {
            return 0;
        }
        let mut in_flight = self.in_flight();
        // Where a reader is, it knows better; and what came wrong is for a reader to ask for again.
        if !in_flight.fetches.is_empty() || !in_flight.suspects.is_empty() {
            return 0;
        }
        let spans = &self.table.spans;
        let situation = Situation {
            spans,
            link: Link::new(source.throughput()),
            is_coming: &|at| self.is_coming(&in_flight, at),
            used: &|at| self.used.bytes(at),
            start: 0,
            needed_end: 0,
            scope: &|_| ReadAhead::Ranges(Vec::new()),
        };
        let Some(first) = situation.first_missing(ranges) else { return 0 };
        // No further than it may go: this is asked for while readers are answered.
        let most_end = spans[first].start.0.saturating_add(most_bytes);
        let before = plan::holding(spans, &(spans[first].start.0..most_end)).end;
        let row = situation.missing_from(first, ranges, before, in_flight.runs.again_left(spans));
        let Some(piece) = bounded(spans, row, most_bytes) else { return 0 };
        let bytes = spans[piece.end - 1].end() - spans[piece.start].start.0;
        let again_bytes = situation.again_bytes_in(piece.clone());
        in_flight.runs.brought(spans[first].start.0, piece.clone(), again_bytes);
        match self.spawn(&mut in_flight, piece, walk.cloned()) {
            Ok(()) => bytes,
            Err(e) => {
                log::debug!("{}: nothing is fetched ahead: {e}", self.what);
                0
            }
        }
    }
}

/// The part of a row of spans, from its start, that has at most so many uncompressed bytes and ends
/// where decoding can begin again.
fn bounded(spans: &[Span], row: Range<usize>, most_bytes: u64) -> Option<Range<usize>> {
    let begin = plan::begin_of(spans, row.start);
    let mut end = begin;
    while end < row.end {
        let next = plan::group_end(spans, end);
        if spans[next - 1].end() - spans[begin].start.0 > most_bytes {
            break;
        }
        end = next;
    }
    (end > row.start).then_some(begin..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::SpanDigest;
    use crate::extent::CompressedOffset;
    use crate::index::{Check, Restart};

    #[test]
    fn pieces_are_bounded_and_end_where_decoding_begins() {
        let span = |n: u64, restart| Span {
            start: UncompressedOffset(n << 20),
            length: 1 << 20,
            compressed_start: CompressedOffset(n << 18),
            compressed_end: CompressedOffset((n + 1) << 18),
            restart,
            check: Check::Content,
            digest: SpanDigest([0; 32]),
        };
        let here: Vec<Span> = (0..10).map(|n| span(n, Restart::Here)).collect();
        assert_eq!(bounded(&here, 2..9, 4 << 20), Some(2..6));
        assert_eq!(bounded(&here, 2..4, 4 << 20), Some(2..4));
        assert_eq!(bounded(&here, 2..4, 1), None);
        let groups = |n: u64| if n.is_multiple_of(3) { Restart::Here } else { Restart::Continues };
        let groups: Vec<Span> = (0..10).map(|n| span(n, groups(n))).collect();
        assert_eq!(bounded(&groups, 4..8, 7 << 20), Some(3..9));
        assert_eq!(bounded(&groups, 4..8, 5 << 20), Some(3..6));
        assert_eq!(bounded(&groups, 4..8, 2 << 20), None, "one group is too much");
    }
}
