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
//! in one stream. Three rules keep it from fetching what no reader wants:
//!
//! - a run stops where the caller's *scope* ends: the end of the file that is read in sequence, or
//!   of the directory that is being walked, as far as it lies in this layer;
//! - it stops before a stretch that is cached already or on its way, if reading past that costs more than a
//!   further request ([`gap_bytes`]);
//! - the first step takes neighbours only as far as they cost next to nothing.
//!
//! Where it is known that the reader walks, nothing has to grow: all that it will want ([`ReadAhead::Ranges`])
//! and that hangs together comes at once, what lies before the place of the miss too. That is how a
//! layer costs few requests whose files were sorted by their first use and not by their names.
//!
//! Several runs are remembered, because several readers may walk at once. (Rejected: a fixed chunk
//! size, which is wrong by an order of magnitude on one link or the other; and readahead by time,
//! which needs a clock where counting does.)

use std::ops::Range;
use std::time::Duration;

use crate::index::{Restart, Span};
use crate::source::Throughput;

/// Runs remembered for each layer.
const MAX_RUNS: usize = 8;

/// Spans that the steps of a run fetch, the last of them until the end.
const STEPS: [usize; 3] = [1, 16, 128];

/// What a link is taken for before it has been measured: 100 Mbit/s at 20 ms.
const UNMEASURED: Throughput =
    Throughput { round_trip: Duration::from_millis(20), bytes_per_second: 100_000_000 / 8 };

/// Spans that are looked at to find one that is missing.
const MAX_LOOKS: usize = 256;

/// Limits of [`gap_bytes`]: measurements of short answers are rough.
const GAP_BYTES: Range<u64> = (64 << 10)..(1 << 20);

/// Compressed bytes that can as well be fetched as left out: they come in the time that another
/// request would take.
pub(super) fn gap_bytes(link: Option<Throughput>) -> u64 {
    let link = link.unwrap_or(UNMEASURED);
    let bytes = link.bytes_per_second as f64 * link.round_trip.as_secs_f64();
    (bytes as u64).clamp(GAP_BYTES.start, GAP_BYTES.end)
}

/// Of a layer at most one part in so many is fetched again to save its walks requests.
const AGAIN: u64 = 60;

/// Limits of [`back_bytes`].
const BACK_BYTES: Range<u64> = (64 << 10)..(16 << 20);

/// Compressed bytes before the place of a miss for which its reader can wait: they come in a second.
pub(super) fn back_bytes(link: Option<Throughput>) -> u64 {
    link.unwrap_or(UNMEASURED).bytes_per_second.clamp(BACK_BYTES.start, BACK_BYTES.end)
}

/// What the reader of a layer is likely to want of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// What follows, at most up to this uncompressed offset.
    UpTo(u64),
    /// All of these uncompressed ranges, which are ordered and disjoint: it walks over them.
    Ranges(Vec<Range<u64>>),
}

/// A sequence of misses.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The span just past what was fetched.
    end: usize,
    steps: usize,
}

/// The runs of a layer.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The latest last.
    known: Vec<Run>,
    /// Compressed bytes that walks were sent again.
    again_bytes: u64,
}

/// Compressed bytes that a walk has no need of: those of the spans in a row that it is passing, and how
/// many it may still be sent that it has had already.
struct Passed {
    bytes: u64,
    again_left: u64,
}

/// What the planner has to know of the world.
pub(super) struct Situation<'a> {
    pub(super) spans: &'a [Span],
    pub(super) gap_bytes: u64,
    pub(super) back_bytes: u64,
    /// Whether a span is cached or on its way.
    pub(super) is_coming: &'a dyn Fn(usize) -> bool,
    /// Just past the last span that the read needs, which may reach over several.
    pub(super) needed_end: usize,
    /// The scope of the reader; whether it goes on from the miss before is told.
    pub(super) scope: &'a dyn Fn(bool) -> ReadAhead,
}

impl Situation<'_> {
    /// What is missing of the ranges from `at` on, as far as it hangs together and lies before the
    /// span `before`, when so many bytes may be sent again.
    pub(super) fn missing_from(
        &self,
        at: usize,
        ranges: &[Range<u64>],
        before: usize,
        again_left: u64,
    ) -> Range<usize> {
        let mut end = at + 1;
        let mut passed = Passed { bytes: 0, again_left };
        for behind in at + 1..before {
            if self.is_missing(behind, ranges) {
                end = behind + 1;
                passed.bytes = 0;
            } else if !self.can_pass(&mut passed, behind) {
                break;
            }
        }
        at..end
    }

    /// Where to begin to bring what is missing of the ranges before `at` as well, when so many
    /// bytes may be sent again.
    fn missing_before(&self, at: usize, ranges: &[Range<u64>], again_left: u64) -> usize {
        let mut begin = at;
        let mut passed = Passed { bytes: 0, again_left };
        for before in (0..at).rev() {
            let (from, to) = (&self.spans[before], &self.spans[at]);
            let back = to.compressed_start.0.saturating_sub(from.compressed_start.0);
            if back > self.back_bytes {
                break;
            }
            if self.is_missing(before, ranges) {
                begin = before;
                passed.bytes = 0;
            } else if !self.can_pass(&mut passed, before) {
                break;
            }
        }
        begin
    }

    /// Whether some of the ranges is in a span that is neither cached nor on its way.
    fn is_missing(&self, at: usize, ranges: &[Range<u64>]) -> bool {
        let span = &self.spans[at];
        let next = ranges.partition_point(|range| range.end <= span.start.0);
        ranges.get(next).is_some_and(|range| range.start < span.end()) && !(self.is_coming)(at)
    }

    /// Whether a further span can be read past for the price of a request.
    fn can_pass(&self, passed: &mut Passed, at: usize) -> bool {
        passed.bytes += compressed_bytes(&self.spans[at]);
        match passed.again_left.checked_sub(self.again_bytes_in(at..at + 1)) {
            Some(left) => passed.again_left = left,
            None => return false,
        }
        passed.bytes <= self.gap_bytes
    }

    /// Compressed bytes of spans that are cached or on their way.
    pub(super) fn again_bytes_in(&self, spans: Range<usize>) -> u64 {
        let again = spans.filter(|at| (self.is_coming)(*at));
        again.map(|at| compressed_bytes(&self.spans[at])).sum()
    }

    /// The first of the spans that are missing of the ranges, if it is not far to look for it.
    pub(super) fn first_missing(&self, ranges: &[Range<u64>]) -> Option<usize> {
        let wanted = ranges.iter().flat_map(|range| holding(self.spans, range));
        wanted.take(MAX_LOOKS).find(|at| !(self.is_coming)(*at))
    }
}

impl Runs {
    /// The spans to fetch now that `at` is missing. They contain `at` and begin where decoding can.
    pub(super) fn plan(&mut self, at: usize, situation: &Situation<'_>) -> Range<usize> {
        let spans = situation.spans;
        let distance = |from: usize, to: usize| {
            spans[to].compressed_start.0.saturating_sub(spans[from].compressed_start.0)
        };
        let known = self.known.iter().rposition(|run| {
            run.end <= at && run.end < spans.len() && distance(run.end, at) <= situation.gap_bytes
        });
        let (from, steps) = match known.map(|place| self.known.remove(place)) {
            // What lies between is not worth a request of its own later.
            Some(run) => (run.end, run.steps + 1),
            None => (at, 0),
        };
        let from = (from..=at).find(|span| !(situation.is_coming)(*span)).unwrap_or(at);
        let scope_end = match (situation.scope)(steps > 0) {
            ReadAhead::Ranges(ranges) => {
                let row = situation.missing_from(at, &ranges, spans.len(), self.again_left(spans));
                self.again_bytes += situation.again_bytes_in(row.clone());
                let before = situation.missing_before(at, &ranges, self.again_left(spans));
                let from = from.min(before);
                self.again_bytes += situation.again_bytes_in(from..at);
                let end = row.end.max(situation.needed_end);
                self.remember(Run { end, steps });
                return begin_of(spans, from)..end;
            }
            ReadAhead::UpTo(_) if steps == 0 => 0,
            ReadAhead::UpTo(end) => end,
        };
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
        self.remember(Run { end, steps });
        begin_of(spans, from)..end
    }

    /// Remembers that what lies before `end` is fetched ahead of a reader, so much of it again.
    pub(super) fn brought(&mut self, end: usize, again_bytes: u64) {
        self.again_bytes += again_bytes;
        self.remember(Run { end, steps: 1 });
    }

    /// Compressed bytes of a layer that may still be fetched again: it has a budget for all its walks,
    /// as what is fetched once is kept.
    pub(super) fn again_left(&self, spans: &[Span]) -> u64 {
        let layer = spans.last().map_or(0, |last| last.compressed_end.0);
        (layer / AGAIN).saturating_sub(self.again_bytes)
    }

    fn remember(&mut self, run: Run) {
        if self.known.len() == MAX_RUNS {
            self.known.remove(0);
        }
        self.known.push(run);
    }

    /// Where to stop in `range`: before a stretch that is cached or on its way, and too long to be read past.
    fn before_known_stretch(&self, range: Range<usize>, situation: &Situation<'_>) -> usize {
        let mut stretch: Option<usize> = None;
        let end = range.end;
        for at in range {
            if !(situation.is_coming)(at) {
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

/// Compressed size of a span.
pub(super) fn compressed_bytes(span: &Span) -> u64 {
    span.compressed_end.0.saturating_sub(span.compressed_start.0)
}

/// The spans that hold a range of uncompressed bytes.
pub(super) fn holding(spans: &[Span], range: &Range<u64>) -> Range<usize> {
    let first = spans.partition_point(|span| span.end() <= range.start);
    let end = spans.partition_point(|span| span.start.0 < range.end);
    first..end.max(first)
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
        local: &[usize],
    ) -> Range<usize> {
        plan_in(runs, spans, at, &ReadAhead::UpTo(scope_end), local)
    }

    fn plan_in(
        runs: &mut Runs,
        spans: &[Span],
        at: usize,
        scope: &ReadAhead,
        local: &[usize],
    ) -> Range<usize> {
        runs.plan(
            at,
            &Situation {
                spans,
                gap_bytes: 300 << 10,
                back_bytes: 2 << 20,
                is_coming: &|span| local.contains(&span),
                needed_end: at + 1,
                scope: &|_| scope.clone(),
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
    fn what_is_local_is_not_fetched_again() {
        let spans = spans(100, |_| Restart::Here);
        let mut runs = Runs::default();
        plan(&mut runs, &spans, 5, 0, &[]);
        // One cached span is read past, two are not, and none at the end.
        assert_eq!(plan(&mut runs, &spans, 6, u64::MAX, &[8, 12, 13]), 6..12);
        assert_eq!(plan(&mut runs, &spans, 14, u64::MAX, &[12, 13]), 14..15);
        let mut runs = Runs::default();
        plan(&mut runs, &spans, 5, 0, &[]);
        assert_eq!(plan(&mut runs, &spans, 6, 10 << 20, &[9]), 6..9);
    }

    #[test]
    fn a_walk_takes_all_that_hangs_together() {
        // As many that three of them may be fetched again.
        let spans = spans(200, |_| Restart::Here);
        let mib = |range: Range<u64>| range.start << 20..range.end << 20;
        let all = ReadAhead::Ranges(std::iter::once(0..u64::MAX).collect());
        let plan = |at, scope: &ReadAhead, local: &[usize]| {
            plan_in(&mut Runs::default(), &spans, at, scope, local)
        };
        assert_eq!(plan(3, &all, &[]), 0..200);
        // Only so much lies before it that its reader can wait for it.
        assert_eq!(plan(50, &all, &[]), 42..200);
        // One cached span is read past, two are not, and none at the ends.
        assert_eq!(plan(5, &all, &[1, 2, 4, 7, 90, 91]), 3..90);
        assert_eq!(plan(5, &all, &[4, 6]), 0..200);
        assert_eq!(plan(5, &all, &[3, 4, 6, 7]), 5..6);
        // Of a smaller layer two are too much, or one.
        assert_eq!(plan_in(&mut Runs::default(), &spans[..100], 5, &all, &[4, 6]), 5..100);
        assert_eq!(plan_in(&mut Runs::default(), &spans[..50], 5, &all, &[4, 6]), 5..6);
        // All walks together have that budget.
        let runs = &mut Runs::default();
        assert_eq!(plan_in(runs, &spans, 5, &all, &[4, 6]), 0..200);
        assert_eq!(plan_in(runs, &spans, 5, &all, &[4, 6]), 5..200);
        assert_eq!(plan_in(runs, &spans, 5, &all, &[4, 6]), 5..6);
        // What no reader will ask for is treated in the same way.
        let some = ReadAhead::Ranges(vec![mib(10..12), mib(13..14), mib(16..30)]);
        assert_eq!(plan(11, &some, &[]), 10..14);
        assert_eq!(plan(20, &some, &[29]), 16..29);
        assert_eq!(plan(50, &some, &[]), 50..51, "a scope that does not hold the miss");
        assert_eq!(plan(50, &ReadAhead::Ranges(Vec::new()), &[]), 50..51);
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
            Some(Throughput { round_trip: Duration::from_millis(ms), bytes_per_second })
        };
        assert_eq!(gap_bytes(link(20, 100)), 250_000);
        assert_eq!(gap_bytes(link(1, 1000)), 125_000);
        assert_eq!(gap_bytes(link(0, 10_000)), 64 << 10);
        assert_eq!(gap_bytes(link(500, 10_000)), 1 << 20);
        assert_eq!(gap_bytes(None), 250_000);
    }
}
