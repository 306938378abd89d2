//! Registries that make laziness hard: that know no ranges, or fail in the middle of a walk.

use std::time::Duration;

use crate::lazy::{BIG, Form, Lazy};
use crate::support::registry::{Fault, Times};

/// What one failure may cost besides: what was on its way when it came.
const LOST_BYTES: u64 = 1 << 20;

fn walk(lazy: &Lazy) {
    lazy.listed("").into_iter().for_each(|file| lazy.check_whole(file));
}

#[test]
fn a_server_without_ranges_sends_each_layer_once() {
    for form in [Form::Gzip, Form::SmallMembers, Form::OneFrame, Form::Plain] {
        let lazy = Lazy::indexed(form);
        lazy.registry.fault(("GET", "/blobs/", Times::Always), Fault::IgnoreRange);
        walk(&lazy);
        for (layer, size) in lazy.corpus.sizes.iter().enumerate() {
            let cost = lazy.cost(layer);
            assert_eq!((cost.requests, cost.bytes), (1, *size), "{form:?}");
        }
    }
}

#[test]
fn a_server_without_ranges_serves_a_single_read() {
    for form in [Form::Gzip, Form::LargeMembers, Form::OneFrame, Form::Seekable, Form::Plain] {
        let lazy = Lazy::indexed(form);
        lazy.registry.fault(("GET", "/blobs/", Times::Always), Fault::IgnoreRange);
        let big = lazy.corpus.file(BIG);
        for at in [15 << 20, 3 << 20, 18 << 20] {
            lazy.check(big, at..at + 4096);
        }
        let (cost, size) = (lazy.cost(big.layer), lazy.corpus.sizes[big.layer]);
        assert!(cost.requests == 1 && cost.bytes <= size, "{form:?}: {cost:?} of {size}");
    }
}

#[test]
fn failures_in_the_middle_of_a_walk_cost_little() {
    let error = || Fault::Status(500, Vec::new(), b"broken".to_vec());
    let faults: [(&str, Times, Fault, u64); 6] = [
        ("500", Times::First(2), error(), 2),
        ("500 later", Times::Nth(3), error(), 1),
        ("reset", Times::First(3), Fault::Reset(1_500_000), 3),
        ("closed", Times::First(3), Fault::Truncate(1_500_000), 3),
        ("no answer", Times::First(2), Fault::CloseBeforeResponse, 2),
        ("stall", Times::Nth(3), Fault::Stall(500_000, Duration::from_secs(60)), 1),
    ];
    for form in [Form::LargeMembers, Form::OneFrame] {
        for (what, times, fault, failures) in &faults {
            let lazy = Lazy::indexed(form);
            lazy.registry.fault(("GET", "/blobs/", *times), fault.clone());
            walk(&lazy);
            let (cost, size) = (lazy.cost(0), lazy.corpus.sizes[0]);
            let what = format!("{form:?}, {what}: {cost:?} of {size}");
            assert!(cost.requests <= 4 + *failures as usize, "{what}");
            assert!(cost.bytes <= size + failures * LOST_BYTES, "{what}");
        }
    }
}
