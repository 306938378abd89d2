//! What reading a little costs: the spans under it.

use std::ops::Range;

use crate::lazy::{BIG, File, Form, Lazy, Random, range_of};

/// Neighbours of a span that is wanted may come along as far as they cost next to nothing.
const NEIGHBOURS_BYTES: u64 = 256 << 10;

/// No span of a layer that can be entered anywhere is larger.
const SPAN_BYTES: u64 = 600 << 10;

const PAGE: u64 = 4096;

/// A page at a random place of a random file.
fn page(lazy: &Lazy, random: &mut Random) -> (&'static File, Range<u64>) {
    let files = &lazy.corpus.files;
    loop {
        // The big one as often as all others together.
        let file = match random.below(2) {
            0 => lazy.corpus.file(BIG),
            _ => &files[random.below(files.len() as u64) as usize],
        };
        if file.length() > PAGE {
            let start = random.below(file.length() - PAGE);
            return (file, start..start + PAGE);
        }
    }
}

#[test]
fn a_page_costs_the_spans_under_it() {
    for form in Form::ALL {
        let mut lazy = Lazy::indexed(form);
        let mut random = Random::new(form as u64 + 1);
        for _ in 0..8 {
            lazy.start_over();
            let before = lazy.image.traffic().body_bytes();
            let (file, part) = page(&lazy, &mut random);
            lazy.check(file, part.clone());
            let start = file.content.start + part.start;
            let in_layer = start..start + PAGE;
            let share = lazy.corpus.share(file.layer, &in_layer);
            let cost = lazy.cost(file.layer);
            let spans = lazy.corpus.spans_of(file.layer, &in_layer).len();
            let what = format!("{form:?} {} {part:?}: {cost:?} for {share}", file.path);
            assert!((1..=spans).contains(&cost.requests), "{what}");
            if form == Form::OneFrame {
                // Everything before it has to come. The server writes ahead into its socket, so
                // what counts is what was taken from it.
                let end = lazy.corpus.spans_of(file.layer, &(0..in_layer.end)).last().unwrap();
                let taken = lazy.image.traffic().body_bytes() - before;
                assert!(taken <= end.compressed_end.0 + NEIGHBOURS_BYTES, "{what}: {taken}");
                continue;
            }
            assert!(cost.bytes <= share.max(NEIGHBOURS_BYTES), "{what}");
            assert!(cost.bytes <= SPAN_BYTES * spans as u64, "{what}");
            // The next one is there already.
            lazy.registry.clear_log();
            lazy.check(file, part);
            assert_eq!(lazy.registry.requests(), [], "{what}");
        }
    }
}

/// A read over the boundary of two spans is no walk: it costs both, in one request.
#[test]
fn a_page_on_a_boundary_costs_both_spans() {
    let mut lazy = Lazy::indexed(Form::Gzip);
    let big = lazy.corpus.file(BIG);
    let layer = &lazy.corpus.spans[big.layer];
    let inside = big.content.start + PAGE..big.content.end - PAGE;
    let boundaries = (0..layer.len()).filter(|at| inside.contains(&layer[*at].start.0));
    let boundaries: Vec<usize> = boundaries.step_by(3).collect();
    assert!(boundaries.len() > 2, "{boundaries:?}");
    for at in boundaries {
        lazy.start_over();
        // A miss behind it in the layer: none before it, which might be near on a slow link.
        let other = lazy.corpus.files.iter().rfind(|file| file.layer == big.layer).unwrap();
        lazy.check(other, 0..1);
        lazy.registry.clear_log();
        let start = layer[at].start.0 - PAGE / 2 - big.content.start;
        lazy.check(big, start..start + PAGE);
        let share = lazy.corpus.share(big.layer, &(layer[at].start.0 - 1..layer[at].start.0 + 1));
        let cost = lazy.cost(big.layer);
        assert_eq!((cost.requests, cost.bytes), (1, share), "{at}");
    }
}

/// Reads here and there cost no more than a download in the end, though a run may be seen in them
/// that is none, and what lies between two of its places may come again.
#[test]
fn scattered_reads_cost_one_download_at_most() {
    for form in Form::ALL {
        let lazy = Lazy::indexed(form);
        let mut random = Random::new(form as u64 + 100);
        for _ in 0..200 {
            let (file, part) = page(&lazy, &mut random);
            lazy.check(file, part);
        }
        for (layer, size) in lazy.corpus.sizes.iter().enumerate() {
            let cost = lazy.cost(layer);
            let what = format!("{form:?}: {cost:?} of {size}");
            assert!(cost.requests <= lazy.corpus.spans[layer].len(), "{what}");
            if form != Form::OneFrame {
                assert!(cost.bytes <= size * 5 / 4, "{what}");
            }
        }
    }
}

/// Reads that jump back through a file are no run: each costs a span and its neighbours.
#[test]
fn reads_that_jump_stay_small() {
    for form in [Form::Gzip, Form::SmallMembers, Form::LargeMembers, Form::Seekable, Form::Plain] {
        let lazy = Lazy::indexed(form);
        let big = lazy.corpus.file(BIG);
        for step in (0..10).rev() {
            lazy.check(big, step << 21..(step << 21) + PAGE);
        }
        let log = lazy.registry.requests();
        let size = lazy.corpus.sizes[big.layer];
        let lengths = log.iter().map(|request| range_of(request, size));
        let lengths: Vec<u64> = lengths.map(|range| range.end - range.start).collect();
        let most = lazy.corpus.largest_span(big.layer).max(NEIGHBOURS_BYTES);
        assert!(lengths.len() <= 10, "{form:?}: {lengths:?}");
        assert!(lengths.iter().all(|length| *length <= most), "{form:?}: {lengths:?} of {most}");
    }
}

/// A single frame can't be entered: reads on and on cost one stream, not one for each.
#[test]
fn a_single_frame_is_streamed_once_by_reads_in_order() {
    let lazy = Lazy::indexed(Form::OneFrame);
    let big = lazy.corpus.file(BIG);
    for step in 0..20 {
        let start = step * (1 << 20);
        lazy.check(big, start..start + PAGE);
    }
    let cost = lazy.cost(0);
    assert_eq!(cost.requests, 1, "{cost:?}");
    assert!(cost.bytes <= lazy.corpus.sizes[0], "{cost:?}");
}

#[test]
fn a_file_read_in_sequence_costs_itself() {
    for form in Form::ALL {
        let lazy = Lazy::indexed(form);
        let big = lazy.corpus.file(BIG);
        lazy.check_whole(big);
        let cost = lazy.cost(big.layer);
        if form == Form::OneFrame {
            // All that stands before it comes too.
            assert_eq!(cost.requests, 1, "{cost:?}");
            assert!(cost.bytes <= lazy.corpus.sizes[0], "{cost:?}");
            continue;
        }
        let most =
            lazy.corpus.share(big.layer, &big.content) + 2 * lazy.corpus.largest_span(big.layer);
        assert!(cost.requests <= 4, "{form:?}: {cost:?}");
        assert!(cost.bytes <= most, "{form:?}: {cost:?} of {most}");
    }
}
