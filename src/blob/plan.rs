//! How much to fetch when a span is missing.
//!
//! # Problem
//!
//! A read of one file wants one span; `grep -r` wants the rest of the layer, and asking for it span
//! by span would cost a round trip each. Nothing announces which of the two it is.
//!
//! # Design
//!
//! As a kernel does for files: a miss just behind what was fetched last continues a *run*, and each
//! step of a run fetches many times as much as the one before, until everything that is left comes
//! in one stream. Three rules keep it from fetching what nobody wants:
//!
//! - a run stops where the caller's *scope* ends: the end of the file that is read in sequence, or
//!   of the directory that is being walked, as far as it lies in this layer;
//! - it stops before a stretch that is at hand already, if reading past that costs more than a
//!   further request ([`gap_bytes`]);
//! - the first step takes neighbours only as far as they cost next to nothing.
//!
//! Several runs are remembered, because several readers may walk at once. (Rejected: a fixed chunk
//! size, which is wrong by an order of magnitude on one link or the other; and readahead by time,
//! which needs a clock where counting does.)

use std::ops::Range;
use std::time::Duration;

use crate::index::{Restart, Span};
use crate::source::Link;

/// Runs remembered for each layer.
const MAX_RUNS: usize = 8;

/// Spans that the steps of a run fetch, the last of them until the end.
const STEPS: [usize; 3] = [1, 16, 128];

/// What a link is taken for before it has been measured: 100 Mbit/s at 20 ms.
const UNKNOWN_LINK: Link =
    Link { round_trip: Duration::from_millis(20), bytes_per_second: 100_000_000 / 8 };

/// Limits of [`gap_bytes`]: measurements of short answers are rough.
const GAP_BYTES: Range<u64> = (64 << 10)..(1 << 20);

/// Compressed bytes that can as well be fetched as left out: they come in the time that another
/// request would take.
pub(super) fn gap_bytes(link: Option<Link>) -> u64 {
    let link = link.unwrap_or(UNKNOWN_LINK);
    let bytes = link.bytes_per_second as f64 * link.round_trip.as_secs_f64();
    (bytes as u64).clamp(GAP_BYTES.start, GAP_BYTES.end)
}

/// A sequence of misses.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The span just past what was fetched.
    end: usize,
    steps: usize,
}

/// The runs of a layer, the latest last.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

/// What the planner has to know of the world.
pub(super) struct Situation<'a> {
    pub(super) spans: &'a [Span],
    pub(super) gap_bytes: u64,
    /// Whether a span is at hand or on its way.
    pub(super) is_at_hand: &'a dyn Fn(usize) -> bool,
    /// Just past the last span that the read needs, which may reach over several.
    pub(super) needed_end: usize,
    /// Uncompressed offset at which the scope of the reader ends.
    pub(super) scope_end: &'a dyn Fn() -> u64,
}

impl Runs {
    /// The spans to fetch now that `at` is missing. They contain `at` and begin where decoding can.
    pub(super) fn plan(&mut self, at: usize, situation: &Situation<'_>) -> Range<usize> {
        let spans = situation.spans;
        let distance = |from: usize, to: usize| {
            spans[to].compressed_start.0.saturating_sub(spans[from].compressed_start.0)
        };
        let known = self.0.iter().rposition(|run| {
            run.end <= at && run.end < spans.len() && distance(run.end, at) <= situation.gap_bytes
        });
        let (from, steps) = match known.map(|place| self.0.remove(place)) {
            // What lies between is not worth a request of its own later.
            Some(run) => (run.end, run.steps + 1),
            None => (at, 0),
        };
        let from = (from..=at).find(|span| !(situation.is_at_hand)(*span)).unwrap_or(at);
        let scope_end = if steps == 0 { 0 } else { (situation.scope_end)() };
        let most = STEPS.get(steps).map_or(spans.len(), |count| (at + count).min(spans.len()));
        let wanted = spans[at..most].partition_point(|span| span.start.0 < scope_end);
        // A read over a boundary is one step, not two of a run.
        let mut end = (at + wanted).max(at + 1).max(situation.needed_end);
        if steps == 0 {
            // A quarter of a round trip's worth of neighbours costs next to nothing.
            while end < spans.len()
                && spans[end].compressed_end.0 - spans[at].compressed_start.0
                    <= situation.gap_bytes / 4
            {
                end += 1;
            }
        }
        let end = self.before_known_stretch(at + 1..end, situation);
        if self.0.len() == MAX_RUNS {
            self.0.remove(0);
        }
        self.0.push(Run { end, steps });
        begin_of(spans, from)..end
    }

    /// Where to stop in `range`: before a stretch that is at hand and too long to be read past.
    fn before_known_stretch(&self, range: Range<usize>, situation: &Situation<'_>) -> usize {
        let mut stretch: Option<usize> = None;
        let end = range.end;
        for at in range {
            if !(situation.is_at_hand)(at) {
                stretch = None;
                continue;
            }
            let first = *stretch.get_or_insert(at);
            let bytes = situation.spans[at].compressed_end.0
                - situation.spans[first]
                    .compressed_start
                    .0
                    .min(situation.spans[at].compressed_end.0);
            if bytes > situation.gap_bytes {
                return first;
            }
        }
        stretch.unwrap_or(end)
    }
}

/// The nearest span up to `at` at which decoding can begin.
pub(super) fn begin_of(spans: &[Span], at: usize) -> usize {
    (0..=at).rev().find(|at| spans[*at].restart != Restart::Continues).unwrap_or(0)
}

/// The span behind `at` at which decoding can begin next.
pub(super) fn group_end(spans: &[Span], at: usize) -> usize {
    let next = (at + 1..spans.len()).find(|at| spans[*at].restart != Restart::Continues);
    next.unwrap_or(spans.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::SpanDigest;
    use crate::extent::{CompressedOffset, UncompressedOffset};
    use crate::index::Check;

    /// Spans of 1 MiB that compress to 256 KiB.
    fn spans(count: u64, restart: impl Fn(u64) -> Restart) -> Vec<Span> {
        (0..count)
            .map(|n| Span {
                start: UncompressedOffset(n << 20),
                length: 1 << 20,
                compressed_start: CompressedOffset(n << 18),
                compressed_end: CompressedOffset((n + 1) << 18),
                restart: restart(n),
                check: Check::Content,
                digest: SpanDigest([0; 32]),
            })
            .collect()
    }

    fn plan(
        runs: &mut Runs,
        spans: &[Span],
        at: usize,
        scope_end: u64,
        at_hand: &[usize],
    ) -> Range<usize> {
        runs.plan(
            at,
            &Situation {
                spans,
                gap_bytes: 300 << 10,
                is_at_hand: &|span| at_hand.contains(&span),
                needed_end: at + 1,
                scope_end: &|| scope_end,
            },
        )
    }

    #[test]
    fn a_run_grows_until_everything_comes() {
        let spans = spans(1000, |_| Restart::Here);
        let mut runs = Runs::default();
        assert_eq!(plan(&mut runs, &spans, 5, u64::MAX, &[]), 5..6);
        assert_eq!(plan(&mut runs, &spans, 6, u64::MAX, &[]), 6..22);
        // A gap of one span is fetched along.
        assert_eq!(plan(&mut runs, &spans, 23, u64::MAX, &[]), 22..151);
        assert_eq!(plan(&mut runs, &spans, 151, u64::MAX, &[]), 151..1000);
    }

    #[test]
    fn scattered_reads_fetch_one_span() {
        let spans = spans(1000, |_| Restart::Here);
        let mut runs = Runs::default();
        for at in [900, 3, 500, 77, 12, 300, 640, 8, 250, 999] {
            assert_eq!(plan(&mut runs, &spans, at, u64::MAX, &[]), at..at + 1);
        }
    }

    #[test]
    fn a_run_stays_in_its_scope() {
        let spans = spans(1000, |_| Restart::Here);
        let mut runs = Runs::default();
        plan(&mut runs, &spans, 5, 0, &[]);
        assert_eq!(plan(&mut runs, &spans, 6, 8 << 20, &[]), 6..8);
        assert_eq!(plan(&mut runs, &spans, 8, (40 << 20) + 1, &[]), 8..41);
        // A scope that ends before the span itself: the span is fetched all the same.
        assert_eq!(plan(&mut runs, &spans, 41, 1, &[]), 41..42);
    }

    #[test]
    fn what_is_at_hand_is_not_fetched_again() {
        let spans = spans(100, |_| Restart::Here);
        let mut runs = Runs::default();
        plan(&mut runs, &spans, 5, 0, &[]);
        // One span at hand is read past, two are not, and none at the end.
        assert_eq!(plan(&mut runs, &spans, 6, u64::MAX, &[8, 12, 13]), 6..12);
        assert_eq!(plan(&mut runs, &spans, 14, u64::MAX, &[12, 13]), 14..15);
        let mut runs = Runs::default();
        plan(&mut runs, &spans, 5, 0, &[]);
        assert_eq!(plan(&mut runs, &spans, 6, 10 << 20, &[9]), 6..9);
    }

    #[test]
    fn decoding_begins_where_it_can() {
        let restart =
            |n: u64| if n.is_multiple_of(10) { Restart::Here } else { Restart::Continues };
        let spans = spans(100, restart);
        assert_eq!(plan(&mut Runs::default(), &spans, 27, 0, &[]), 20..28);
        assert_eq!(plan(&mut Runs::default(), &spans, 30, 0, &[]), 30..31);
    }

    #[test]
    fn gaps_follow_the_link() {
        let link = |ms, mbit: u64| {
            let bytes_per_second = mbit * 1_000_000 / 8;
            Some(Link { round_trip: Duration::from_millis(ms), bytes_per_second })
        };
        assert_eq!(gap_bytes(link(20, 100)), 250_000);
        assert_eq!(gap_bytes(link(1, 1000)), 125_000);
        assert_eq!(gap_bytes(link(0, 10_000)), 64 << 10);
        assert_eq!(gap_bytes(link(500, 10_000)), 1 << 20);
        assert_eq!(gap_bytes(None), 250_000);
    }
}
