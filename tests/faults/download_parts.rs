//! Large layers over several connections: what is asked for, how often, and what may go wrong with a part.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ocifs::image::ImageOptions;
use ocifs::source::registry::RegistryOptions;

use crate::fixture::{Sandbox, image_of, name_in, noise, open, read};
use crate::lazy::{range_of, wide};
use crate::support::image::{Built, Compression};
use crate::support::registry::{Fault, Logged, Registry, Times};
use crate::support::tarball::{Entry, tar};

const SIZE: usize = 24 << 20;

/// Bytes of a body that come every 10 milliseconds: a connection that brings 4 MB/s.
const DRIP: usize = 40_000;

fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| noise(SIZE, 7))
}

fn image() -> &'static Built {
    static IMAGE: OnceLock<Built> = OnceLock::new();
    IMAGE.get_or_init(|| image_of(&tar(&[Entry::file("f", content())]), Compression::Gzip))
}

fn layer() -> &'static str {
    static LAYER: OnceLock<String> = OnceLock::new();
    LAYER.get_or_init(|| image().layer_digests().remove(0))
}

fn size() -> u64 {
    image().layer_sizes()[0]
}

/// A registry whose connections are slow, one by one.
fn slow_each() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", image());
    registry.fault(("GET", layer(), Times::Always), Fault::Drip(DRIP));
    registry
}

/// The same with a fault of some of the first requests for the layer.
fn with_fault(times: Times, fault: Fault) -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", image());
    registry.fault(("GET", layer(), times), fault);
    registry.fault(("GET", layer(), Times::Always), Fault::Drip(3 * DRIP));
    registry
}

fn with_connections(connections: usize) -> ImageOptions {
    let options = wide();
    let registry = RegistryOptions { connections, ..options.registry };
    ImageOptions { registry, ..options }
}

fn of_layer(registry: &Registry) -> Vec<Logged> {
    let mut log = registry.requests();
    log.retain(|request| request.path.contains(layer()));
    log
}

fn bytes(log: &[Logged]) -> u64 {
    log.iter().map(|request| request.body_bytes_sent).sum()
}

/// Whether ranges are the whole blob, each byte once.
fn are_all_once(log: &[Logged]) -> bool {
    let mut ranges: Vec<Range<u64>> = log.iter().map(|request| range_of(request, size())).collect();
    ranges.sort_by_key(|range| range.start);
    let ends = ranges.iter().map(|range| range.end);
    let starts = std::iter::once(0).chain(ends);
    let is_gapless = ranges.iter().zip(starts).all(|(range, start)| range.start == start);
    is_gapless && ranges.last().is_some_and(|last| last.end == size())
}

#[track_caller]
fn opens_right(registry: &Registry, sandbox: &Sandbox, options: &ImageOptions) {
    let image = open(&name_in(registry), &sandbox.cache(), options).unwrap();
    assert!(read(&image, "f").unwrap() == content());
    assert!(sandbox.cached("partial").is_empty());
}

#[test]
fn several_connections_where_each_is_slow() {
    let (registry, sandbox) = (slow_each(), Sandbox::new());
    opens_right(&registry, &sandbox, &wide());
    let log = of_layer(&registry);
    assert!(are_all_once(&log), "{log:?}");
    assert_eq!(bytes(&log), size());
    let most = registry.most_bodies();
    assert!((3..=8).contains(&most), "{most} at a time");
    assert!(log.len() <= 24, "{} requests for {} bytes", log.len(), size());
}

#[test]
fn the_limit_holds_for_all_layers_together() {
    let layers = (1..4).map(|seed| tar(&[Entry::file(format!("f{seed}"), noise(9 << 20, seed))]));
    let image = layers.fold(crate::support::image::ImageBuilder::new(), |image, layer| {
        image.layer(&layer, Compression::Gzip)
    });
    let image = image.build();
    for connections in [1, 2, 5] {
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        registry.add_image("r", "t", &image);
        registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(4 * DRIP));
        let image =
            open(&name_in(&registry), &sandbox.cache(), &with_connections(connections)).unwrap();
        let most = registry.most_bodies();
        assert!(most <= connections, "{most} of {connections}");
        for seed in 1..4 {
            assert!(read(&image, &format!("f{seed}")).unwrap() == noise(9 << 20, seed));
        }
    }
}

#[test]
fn after_a_refusal_there_is_one_connection() {
    for (status, header) in [(429, Some("1")), (429, None), (503, Some("0")), (503, None)] {
        let headers = header.map(|text| ("Retry-After".to_owned(), text.to_owned()));
        let refusal = || Fault::Status(status, headers.clone().into_iter().collect(), Vec::new());
        let registry = Registry::start();
        registry.add_image("r", "t", image());
        for number in 2..=4 {
            registry.fault(("GET", layer(), Times::Nth(number)), refusal());
        }
        registry.fault(("GET", layer(), Times::Always), Fault::Drip(2 * DRIP));
        let sandbox = Sandbox::new();
        opens_right(&registry, &sandbox, &wide());
        let log = of_layer(&registry);
        let refused = log.iter().filter(|request| request.status == status).count();
        let most = registry.most_bodies();
        // Those that were asked for at the same time as the first that was refused.
        assert!((1..=3).contains(&refused) && most <= 2, "{status}: {refused} {most} {log:?}");
        assert_eq!(bytes(&log), size(), "{status}");
    }
}

#[test]
fn what_is_wrong_with_a_part_costs_that_part() {
    const WAIT: Duration = Duration::from_secs(60);
    // A silent host is waited for by a reader alone.
    let options =
        ImageOptions { registry: wide().registry.with_deadline(Duration::from_secs(4)), ..wide() };
    let error = |status| Fault::Status(status, Vec::new(), b"no".to_vec());
    let faults: [(&str, Fault); 11] = [
        ("truncated", Fault::Truncate(100_000)),
        ("reset", Fault::Reset(100_000)),
        ("no answer", Fault::CloseBeforeResponse),
        ("404", error(404)),
        ("403", error(403)),
        ("500", error(500)),
        ("another range", Fault::WrongContentRange),
        ("too much", Fault::ExtraBytes(10)),
        ("the whole blob", Fault::IgnoreRange),
        ("silence", Fault::Stall(100_000, WAIT)),
        ("a silent head", Fault::StallHead(10)),
    ];
    // The reader's own requests are the first and, mostly, the second.
    for (at, (what, fault)) in faults.iter().enumerate() {
        for number in [2, 3 + at % 2] {
            let registry = with_fault(Times::Nth(number), fault.clone());
            let (sandbox, since) = (Sandbox::new(), Instant::now());
            opens_right(&registry, &sandbox, &options);
            let log = of_layer(&registry);
            // The rest of the part comes again, in full if a server sends everything.
            let again = if *what == "the whole blob" { size() } else { 4 << 20 };
            assert!(bytes(&log) <= size() + again, "{what}, {number}: {log:?}");
            assert!(since.elapsed() < WAIT, "{what}, {number}");
        }
    }
}

/// It is found out in the end which makes the whole blob wrong; then all comes again, from one place.
#[test]
fn a_part_that_lies() {
    for number in [1, 2, 3, 5] {
        let registry = with_fault(Times::Nth(number), Fault::FlipByte(1000));
        let sandbox = Sandbox::new();
        let error = open(&name_in(&registry), &sandbox.cache(), &wide()).unwrap_err();
        assert!(error.contains("does not match"), "{number}: {error}");
        assert!(sandbox.cached("partial").is_empty() && sandbox.cached("layers").is_empty());
        opens_right(&registry, &sandbox, &wide());
    }
}

/// The process ends, or the registry does, in the middle of several parts.
#[test]
fn every_part_that_came_is_kept() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", image());
    // The reader's second request fails for good, when others have begun.
    registry.fault(("GET", layer(), Times::First(4)), Fault::Drip(DRIP));
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    registry.fault(("GET", layer(), Times::Always), gone);
    open(&name_in(&registry), &sandbox.cache(), &wide()).unwrap_err();
    let first = bytes(&of_layer(&registry));
    registry.clear_faults();
    registry.clear_log();
    registry.fault(("GET", layer(), Times::Always), Fault::Drip(DRIP));
    opens_right(&registry, &sandbox, &wide());
    let second = bytes(&of_layer(&registry));
    assert!(first > 4 << 20, "{first}");
    // What was on its way when the command ended is not noted to the last byte.
    assert!(first + second <= size() + (4 << 20), "{first} + {second} of {}", size());
}

#[test]
fn a_server_without_ranges_sends_it_once() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", image());
    registry.fault(("GET", layer(), Times::Always), Fault::IgnoreRange);
    opens_right(&registry, &sandbox, &wide());
    let log = of_layer(&registry);
    assert_eq!((log.len(), bytes(&log)), (1, size()), "{log:?}");
}
