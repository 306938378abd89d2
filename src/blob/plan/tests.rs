use super::*;
use crate::digest::SpanDigest;
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::index::Check;

const LINK: Link = Link { gap_bytes: 300 << 10, back_bytes: 2 << 20, ahead_bytes: 16 << 20 };

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
    plan_in(runs, spans, at, &ReadAhead::File(0..scope_end), local)
}

/// Of a reader who has read all that lies before.
fn plan_in(
    runs: &mut Runs,
    spans: &[Span],
    at: usize,
    scope: &ReadAhead,
    local: &[usize],
) -> Range<usize> {
    plan_used(runs, spans, at, scope, local, &|_| u64::MAX)
}

fn plan_used(
    runs: &mut Runs,
    spans: &[Span],
    at: usize,
    scope: &ReadAhead,
    local: &[usize],
    used: &dyn Fn(usize) -> u64,
) -> Range<usize> {
    runs.plan(
        at,
        &Situation {
            spans,
            link: LINK,
            is_coming: &|span| local.contains(&span),
            used,
            start: spans[at].start.0,
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
    let restart = |n: u64| if n.is_multiple_of(10) { Restart::Here } else { Restart::Continues };
    let spans = spans(100, restart);
    assert_eq!(plan(&mut Runs::default(), &spans, 27, 0, &[]), 20..28);
    assert_eq!(plan(&mut Runs::default(), &spans, 30, 0, &[]), 30..31);
}

/// What is fetched for a reader who reads everything from a place in the middle, by the count of spans.
fn steps_from(spans: &[Span], start: usize, scope: &ReadAhead) -> Vec<usize> {
    let (mut runs, mut steps) = (Runs::default(), Vec::new());
    let mut at = start;
    while at < spans.len() {
        let used = |span| if (start..at).contains(&span) { 1 << 20 } else { 0 };
        let row = plan_used(&mut runs, spans, at, scope, &[], &used);
        assert_eq!(row.start, at);
        steps.push(row.len());
        at = row.end;
    }
    steps
}

#[test]
fn a_run_in_the_middle_doubles() {
    let spans = spans(300, |_| Restart::Here);
    let file = ReadAhead::File(2 << 20..(300 << 20) + 1);
    assert_eq!(steps_from(&spans, 100, &file), [1, 1, 1, 2, 4, 8, 16, 32, 64, 64, 7]);
    // All but a little at its start was read, or all of it.
    assert_eq!(steps_from(&spans, 2, &file), [1, 16, 128, 153]);
    // A file that ends.
    let file = ReadAhead::File(2 << 20..110 << 20);
    assert_eq!(steps_from(&spans[..110], 100, &file), [1, 1, 1, 2, 4, 1]);
}

#[test]
fn small_spans_double_from_the_first_on() {
    let mut spans = spans(200, |_| Restart::Here);
    for (n, span) in spans.iter_mut().enumerate() {
        span.start = UncompressedOffset((n as u64) << 16);
        span.length = 1 << 16;
    }
    let used = |range: Range<usize>| move |span| if range.contains(&span) { 1 << 16 } else { 0 };
    let file = ReadAhead::File(0..200 << 16);
    let mut runs = Runs::default();
    let mut plan =
        |at, used: &dyn Fn(usize) -> u64| plan_used(&mut runs, &spans, at, &file, &[], used);
    assert_eq!(plan(100, &used(0..0)), 100..101);
    assert_eq!(plan(101, &used(100..101)), 101..102);
    assert_eq!(plan(102, &used(100..102)), 102..104);
    assert_eq!(plan(104, &used(100..104)), 104..108);
    assert_eq!(plan(108, &used(100..108)), 108..116);
    assert_eq!(plan(116, &used(100..116)), 116..124, "half a MiB until more was read");
    assert_eq!(plan(124, &used(100..124)), 124..132);
    assert_eq!(plan(132, &used(100..132)), 132..148, "the MiB beyond the first");
}

/// A program that takes some pages of each library, one just behind the other.
#[test]
fn a_run_of_which_little_is_used_does_not_grow() {
    let spans = spans(300, |_| Restart::Here);
    let scope = ReadAhead::Files(0..u64::MAX);
    let mut runs = Runs::default();
    for at in 100..110 {
        let used = |span| if (100..at).contains(&span) { 128 << 10 } else { 0 };
        assert_eq!(plan_used(&mut runs, &spans, at, &scope, &[], &used), at..at + 1);
    }
    // A gap is fetched along only where as much was used.
    let used = |span| if span < 110 { 1000 } else { 0 };
    assert_eq!(plan_used(&mut runs, &spans, 111, &scope, &[], &used), 111..112);
    let used = |span| if span == 109 { 1 << 20 } else { 0 };
    assert_eq!(plan_used(&mut runs, &spans, 113, &scope, &[], &used), 112..114);
}

#[test]
fn a_run_in_the_middle_is_bounded_by_the_link() {
    let spans = spans(1000, |_| Restart::Here);
    let file = ReadAhead::File(0..u64::MAX);
    let mut steps = steps_from(&spans, 300, &file);
    // Quarters of a MiB.
    assert_eq!(steps.drain(..10).collect::<Vec<_>>(), [1, 1, 1, 2, 4, 8, 16, 32, 64, 64]);
    assert!(steps.pop().is_some() && steps.iter().all(|step| *step == 64), "{steps:?}");
}

#[test]
fn two_requests_that_overtake_each_other_are_a_sequence() {
    let spans = spans(300, |_| Restart::Here);
    let file = ReadAhead::File(100 << 20..200 << 20);
    for (missing, expected) in [(0, 101..117), (380 << 10, 101..117), (390 << 10, 101..102)] {
        let mut runs = Runs::default();
        let used = |span| if span == 100 { (1 << 20) - missing } else { 0 };
        plan_used(&mut runs, &spans, 100, &file, &[], &used);
        assert_eq!(plan_used(&mut runs, &spans, 101, &file, &[], &used), expected, "{missing}");
    }
}

/// `cat *`, where the shell has another order than the layer: small files, one after the other, from
/// some place in a directory on.
#[test]
fn files_that_are_all_read_from_a_place_on_are_a_walk() {
    let spans = spans(300, |_| Restart::Here);
    let used = |span| if span == 100 { 700 << 10 } else { 0 };
    let plan = |start: u64, scope: &ReadAhead| {
        let mut runs = Runs::default();
        for at in [100, 101] {
            let row = runs.plan(
                at,
                &Situation {
                    spans: &spans,
                    link: LINK,
                    is_coming: &|_| false,
                    used: &used,
                    start: if at == 100 { start } else { spans[at].start.0 },
                    needed_end: at + 1,
                    scope: &|_| scope.clone(),
                },
            );
            if at == 101 {
                return row;
            }
        }
        unreachable!()
    };
    let files = ReadAhead::Files(50 << 20..200 << 20);
    assert_eq!(plan((100 << 20) + (300 << 10), &files), 101..117);
    assert_eq!(plan(100 << 20, &files), 101..117);
    let files = ReadAhead::Files((100 << 20) + (300 << 10)..200 << 20);
    assert_eq!(plan(100 << 20, &files), 101..117);
    let file = ReadAhead::File(50 << 20..200 << 20);
    assert_eq!(plan((100 << 20) + (300 << 10), &file), 101..102);
}
