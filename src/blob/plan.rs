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
//! step of a run fetches more than the one before. How much more depends on what readers have made of
//! what was fetched ([`Used`](super::used::Used)), within the caller's *scope*: the file that was
//! missed before too, or the directory that holds both files.
//!
//! - A file that was read from its start, and files of which the run was read from where it began, are
//!   likely to be read to the end of the scope (`cat`, `grep -r`): each step fetches many times as much
//!   as the one before, until everything that is left comes in one stream.
//! - Anywhere else, as where a tensor is mapped out of a large file, or a program begins and takes some
//!   pages of each library, a step fetches at most as much as was read of the run, beyond the first
//!   MiB ([`FREE_BYTES`]). So a run doubles, and what was fetched in vain is less than what was read.
//!   The most is what the link brings in a second or so.
//!
//! Further rules keep it from fetching what no reader wants:
//!
//! - a run stops where the scope ends, as far as it lies in this layer;
//! - it stops before a stretch that is cached already or on its way, if reading past that costs more than a
//!   further request ([`Link::gap_bytes`]);
//! - neighbours come along as far as they cost next to nothing.
//!
//! Where it is known that the reader walks, nothing has to grow: all that it will want ([`ReadAhead::Ranges`])
//! and that hangs together comes at once, what lies before the place of the miss too. That is how a
//! layer costs few requests whose files were sorted by their first use and not by their names.
//!
//! Several runs are remembered, because several readers may walk at once. (Rejected: a fixed chunk
//! size, which is wrong by an order of magnitude on one link or the other; readahead by time,
//! which needs a clock where counting does; and steps that grow whatever was used, with which two
//! page faults in a row fetched 8 MiB.)

use std::ops::Range;

use super::link::Link;
use crate::index::{Restart, Span};

/// Runs remembered for each layer.
const MAX_RUNS: usize = 8;

/// Spans that the steps of a run through its whole scope fetch, the last of them until the end.
const STEPS: [usize; 3] = [1, 16, 128];

/// Uncompressed bytes that are read of a run before it is read ahead of at all, if spans are that large.
/// The kernel itself reads up to a quarter of a MiB around what is mapped.
const FREE_BYTES: u64 = 1 << 20;

/// The same where spans are small.
const SMALL_BYTES: u64 = 512 << 10;

/// One part of so many of what counts as read may be left out, and as much again, at most so many bytes,
/// because two requests of the kernel may overtake each other.
const LEFT_OUT: u64 = 4;
const OVERTAKEN_BYTES: u64 = 128 << 10;

/// Spans that are looked at to find one that is missing.
const MAX_LOOKS: usize = 256;

/// Of a layer at most one part in so many is fetched again to save its walks requests.
const AGAIN: u64 = 60;

/// What the reader of a layer is likely to want of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// What follows in the file that is read, which lies in this uncompressed range.
    File(Range<u64>),
    /// What follows in the files that lie in this uncompressed range.
    Files(Range<u64>),
    /// All of these uncompressed ranges, which are ordered and disjoint: it walks over them.
    Ranges(Vec<Range<u64>>),
}

/// A sequence of misses.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where its first read began in the layer.
    start: u64,
    /// The spans from the first that was fetched to just past the last.
    begin: usize,
    end: usize,
    /// The last steps of it through what is read as a whole.
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
    pub(super) link: Link,
    /// Whether a span is cached or on its way.
    pub(super) is_coming: &'a dyn Fn(usize) -> bool,
    /// Bytes that were read of a span, perhaps more than it has.
    pub(super) used: &'a dyn Fn(usize) -> u64,
    /// Where in the layer the read begins.
    pub(super) start: u64,
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
            if back > self.link.back_bytes {
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
        passed.bytes <= self.link.gap_bytes
    }

    /// Whether the uncompressed bytes of a range, which ends with a span, were read, all but a few.
    fn is_read(&self, range: Range<u64>) -> bool {
        let Some(bytes) = range.end.checked_sub(range.start).filter(|bytes| *bytes > 0) else {
            return false;
        };
        let left_out = bytes / LEFT_OUT + (bytes / LEFT_OUT).min(OVERTAKEN_BYTES);
        self.used_in(holding(self.spans, &range)) >= bytes - left_out
    }

    /// Uncompressed bytes of spans that were read.
    fn used_in(&self, spans: Range<usize>) -> u64 {
        spans.map(|at| (self.used)(at).min(self.spans[at].length.into())).sum()
    }

    /// Just past the spans from `at` on that may be fetched for a run of which so many bytes were used.
    fn affordable(&self, at: usize, used: u64) -> usize {
        let (first, bytes) = (&self.spans[at], used.saturating_sub(FREE_BYTES));
        let bytes = bytes.max(used.min(SMALL_BYTES));
        let is_affordable = |span: &Span| {
            span.end() - first.start.0 <= bytes
                && span.compressed_end.0.saturating_sub(first.compressed_start.0)
                    <= self.link.ahead_bytes
        };
        at + self.spans[at..].partition_point(is_affordable)
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
            let gap_bytes = situation.link.gap_bytes;
            run.end <= at && run.end < spans.len() && distance(run.end, at) <= gap_bytes
        });
        let run = known.map(|place| self.known.remove(place));
        // What lies between is not worth a request of its own later.
        let from = run.map_or(at, |run| run.end);
        let from = (from..=at).find(|span| !(situation.is_coming)(*span)).unwrap_or(at);
        let start = run.map_or(situation.start, |run| run.start);
        let scope = (situation.scope)(run.is_some());
        // Where what is read as a whole begins.
        let first = match &scope {
            ReadAhead::Files(files) => files.start.max(start),
            ReadAhead::File(file) => file.start,
            ReadAhead::Ranges(_) => 0,
        };
        let scope_end = match scope {
            ReadAhead::Ranges(ranges) => {
                let row = situation.missing_from(at, &ranges, spans.len(), self.again_left(spans));
                self.again_bytes += situation.again_bytes_in(row.clone());
                let before = situation.missing_before(at, &ranges, self.again_left(spans));
                let from = from.min(before);
                self.again_bytes += situation.again_bytes_in(from..at);
                let end = row.end.max(situation.needed_end);
                let steps = run.map_or(0, |run| run.steps + 1);
                self.remember(Run { start, begin: run.map_or(from, |run| run.begin), end, steps });
                return begin_of(spans, from)..end;
            }
            ReadAhead::File(scope) | ReadAhead::Files(scope) => scope.end,
        };
        let (from, most, steps) = match run {
            None => (at, at, 0),
            Some(run) if situation.is_read(first..spans[at].start.0) => {
                let steps = run.steps + 1;
                let most = STEPS.get(steps).map_or(spans.len(), |count| at + count);
                (from, most.min(spans.len()), steps)
            }
            Some(run) => {
                let used = situation.used_in(run.begin..run.end);
                let is_small = spans[at].start.0 - spans[from].start.0 <= used;
                (if is_small { from } else { at }, situation.affordable(at, used), 0)
            }
        };
        let wanted = spans[at..most].partition_point(|span| span.start.0 < scope_end);
        // A read over a boundary is one step, not two of a run.
        let mut end = (at + wanted).max(at + 1).max(situation.needed_end);
        if steps == 0 {
            // A quarter of a round trip's worth of neighbours costs next to nothing.
            while end < spans.len()
                && spans[end].compressed_end.0 - spans[at].compressed_start.0
                    <= situation.link.gap_bytes / 4
            {
                end += 1;
            }
        }
        let end = self.before_known_stretch(at + 1..end, situation);
        self.remember(Run { start, begin: run.map_or(from, |run| run.begin), end, steps });
        begin_of(spans, from)..end
    }

    /// Remembers that a row of spans is fetched ahead of a reader, so much of it again.
    pub(super) fn brought(&mut self, start: u64, spans: Range<usize>, again_bytes: u64) {
        self.again_bytes += again_bytes;
        self.remember(Run { start, begin: spans.start, end: spans.end, steps: 1 });
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
            if bytes > situation.link.gap_bytes {
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
mod tests;
