//! Walks over an indexed image where each connection is slow: several of them, each byte once, and parts that fail.

use std::time::{Duration, Instant};

use crate::lazy::{BIG, Form, Lazy, cost_of, wide};
use crate::support::registry::{Fault, Times};

/// Bytes of a body that come every 10 milliseconds: a connection that brings 4 MB/s.
const DRIP: usize = 40_000;

fn indexed() -> Lazy {
    let lazy = Lazy::open_with(Form::Plain, &wide());
    lazy.registry.clear_log();
    lazy
}

fn walk(lazy: &Lazy) {
    lazy.listed("").into_iter().for_each(|file| lazy.check_whole(file));
}

fn of_layer(lazy: &Lazy) -> (usize, u64) {
    let cost = cost_of(&lazy.registry.requests(), &lazy.corpus.digests[0]);
    (cost.requests, cost.bytes)
}

#[test]
fn a_walk_takes_several_connections() {
    let lazy = indexed();
    lazy.registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(DRIP));
    walk(&lazy);
    let (requests, bytes) = of_layer(&lazy);
    let size = lazy.corpus.sizes[0];
    let most = lazy.registry.most_bodies();
    assert!((3..=8).contains(&most), "{most} at a time");
    assert!(bytes <= size + size / 50 && requests <= 30, "{requests} requests, {bytes} of {size}");
}

#[test]
fn what_is_wrong_with_a_part_is_seen_by_no_reader() {
    const WAIT: Duration = Duration::from_secs(60);
    let error = |status| Fault::Status(status, Vec::new(), b"no".to_vec());
    // What is passing, so that it may as well be the reader's own request.
    let faults: [(&str, Fault); 7] = [
        ("truncated", Fault::Truncate(100_000)),
        ("reset", Fault::Reset(100_000)),
        ("429", error(429)),
        ("500", error(500)),
        ("the whole blob", Fault::IgnoreRange),
        ("a wrong byte", Fault::FlipByte(1000)),
        ("silence", Fault::Stall(100_000, WAIT)),
    ];
    for (at, (what, fault)) in faults.iter().enumerate() {
        // The first two requests are for one span and a short run of them.
        for number in [4 + at % 2, 7] {
            let lazy = indexed();
            lazy.registry.fault(("GET", "/blobs/", Times::Nth(number)), fault.clone());
            lazy.registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(3 * DRIP));
            let since = Instant::now();
            walk(&lazy);
            assert!(since.elapsed() < WAIT, "{what}, {number}");
            let (_, bytes) = of_layer(&lazy);
            let size = lazy.corpus.sizes[0];
            // A part that is given up comes again, and what was on its way when a span was wrong.
            assert!(bytes <= 2 * size + (4 << 20), "{what}, {number}: {bytes} of {size}");
        }
    }
}

/// What was on its way when the reader stopped ends.
#[test]
fn a_reader_that_stops_stops_the_others() {
    let lazy = indexed();
    lazy.registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(DRIP));
    let big = lazy.corpus.file(BIG);
    for at in 0..6 {
        lazy.check(big, at << 20..(at + 1) << 20);
    }
    let registry = lazy.registry;
    drop(lazy.image);
    let log = || registry.requests();
    let is_quiet = || {
        let before = log();
        std::thread::sleep(Duration::from_millis(300));
        log() == before
    };
    let until = Instant::now() + Duration::from_secs(30);
    while !is_quiet() {
        assert!(Instant::now() < until, "it goes on: {:?}", log());
    }
}
