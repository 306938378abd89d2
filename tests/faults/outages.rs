//! Images that are open while their registry goes away, comes back, is slow, or is asked by many
//! threads at once.

use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::Cache;
use ocifs::image::{Image, ImageOptions};

use crate::fixture::{GOOD, HANG, Sandbox, name_in, noise, open, options, read, within};
use crate::kernel_metadata;
use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Logged, Registry, Times};
use crate::support::tarball::{Entry, tar};

const FILES: u64 = 8;
const LENGTH: usize = 700_000;

/// Two layers of eight files, whose names say their seeds.
fn image() -> Built {
    let layer = |number: u64| {
        let file = |n| Entry::file(format!("{}", number * FILES + n), content(number * FILES + n));
        tar(&(0..FILES).map(file).collect::<Vec<_>>())
    };
    ImageBuilder::new()
        .layer(&layer(0), Compression::Gzip)
        .layer(&layer(1), Compression::Zstd)
        .build()
}

fn content(number: u64) -> Vec<u8> {
    noise(LENGTH, number + 100)
}

fn check(image: &Image, number: u64) -> Result<(), String> {
    let bytes = read(image, &number.to_string())?;
    assert!(bytes == content(number), "file {number} has wrong bytes");
    Ok(())
}

fn forget_spans(sandbox: &Sandbox) {
    fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    fs::create_dir(sandbox.path().join("cache/v1/spans")).unwrap();
}

fn fetches(log: &[Logged], digest: &str) -> usize {
    log.iter().filter(|request| request.method == "GET" && request.path.contains(digest)).count()
}

fn fetched_bytes(log: &[Logged], digest: &str) -> u64 {
    log.iter().filter(|request| request.path.contains(digest)).map(|r| r.body_bytes_sent).sum()
}

#[test]
fn the_registry_goes_away_and_comes_back() {
    let (sandbox, built) = (Sandbox::new(), image());
    let registry = Registry::start();
    registry.add_image("r", "t", &built);
    let port = registry.addr().port();
    let mut options = options();
    // An outage is waited out as long as a read may take, and then told.
    options.registry.deadline = options.read_deadline;
    let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
    drop(registry);
    (0..2 * FILES).for_each(|number| check(&image, number).unwrap());

    // The cache as another user of the machine may leave it.
    let image = {
        let registry = Registry::start_on(port);
        registry.add_image("r", "t", &built);
        open(&name_in(&registry), &sandbox.cache(), &options).unwrap()
    };
    forget_spans(&sandbox);
    let started = Instant::now();
    let error = check(&image, 3).unwrap_err();
    assert!(error.contains("refused"), "{error}");
    assert!(started.elapsed() < options.read_deadline + Duration::from_secs(2));
    let registry = Registry::start_on(port);
    registry.add_image("r", "t", &built);
    check(&image, 3).unwrap();
    check(&image, 12).unwrap();
}

/// A registry that takes the connection and says nothing is worse than one that is gone.
#[test]
fn a_silent_registry_costs_the_deadline_and_no_more() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let limit = Duration::from_secs(2);
    let mut options = options();
    options.read_deadline = limit;
    options.registry.deadline = limit;
    let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
    forget_spans(&sandbox);
    registry.fault(("", "", Times::Always), Fault::Stall(0, Duration::from_secs(60)));
    let started = Instant::now();
    check(&image, 1).unwrap_err();
    let took = started.elapsed();
    assert!(took < limit + options.registry.read_timeout + Duration::from_secs(1), "{took:?}");
    registry.clear_faults();
    check(&image, 1).unwrap();
}

/// What a network drops for a while, or sends to a connection that it has forgotten, is asked for again; but
/// only of a registry that has answered before.
#[test]
fn what_is_not_answered_in_time_is_asked_for_again() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let mut options = patient();
    options.registry.deadline = options.read_deadline;
    let silence = || Fault::Hold(Gate::default());
    registry.fault(("", "", Times::First(1)), silence());
    let error = open(&name_in(&registry), &sandbox.cache(), &options).unwrap_err();
    assert!(error.contains("no answer in time"), "{error}");
    assert_eq!(registry.requests().len(), 1);

    let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
    forget_spans(&sandbox);
    registry.clear_log();
    registry.fault(("GET", "/blobs/", Times::First(2)), silence());
    check(&image, 1).unwrap();
    let gets = registry.requests().iter().filter(|request| request.method == "GET").count();
    assert!((3..=5).contains(&gets), "{gets} requests");
}

/// A body that comes, but too slowly for the deadline.
#[test]
fn a_dripping_registry_costs_the_deadline_and_no_more() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let limit = Duration::from_secs(2);
    let options = ImageOptions { read_deadline: limit, ..options() };
    let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
    forget_spans(&sandbox);
    // 100 KiB a second: the first span takes ten.
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(1000));
    let started = Instant::now();
    let error = check(&image, 1).unwrap_err();
    let took = started.elapsed();
    assert!(error.contains("AllowMoreTime"), "{error}");
    assert!(took < limit + options.registry.read_timeout + Duration::from_secs(1), "{took:?}");
}

/// Threads behind a leader that gets nowhere give up at their own deadline.
#[test]
fn followers_do_not_hang() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let image = Arc::new(open(&name_in(&registry), &sandbox.cache(), &options()).unwrap());
    forget_spans(&sandbox);
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Stall(1000, Duration::from_secs(60)));
    let started = Instant::now();
    within(HANG, move || {
        let readers: Vec<_> = (0..8)
            .map(|number| {
                let image = Arc::clone(&image);
                thread::spawn(move || check(&image, number))
            })
            .collect();
        for reader in readers {
            reader.join().unwrap().unwrap_err();
        }
    });
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

/// Reads all files from many threads at once, in another order each.
fn read_by_many(image: Image, threads: u64) {
    let image = Arc::new(image);
    within(Duration::from_secs(60), move || {
        let start = Arc::new(Barrier::new(threads as usize));
        let readers: Vec<_> = (0..threads)
            .map(|thread| {
                let (image, start) = (Arc::clone(&image), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    for step in 0..2 * FILES {
                        let number = (step * (2 * thread + 1) + thread) % (2 * FILES);
                        check(&image, number).unwrap();
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

fn patient() -> ImageOptions {
    ImageOptions { read_deadline: Duration::from_secs(40), ..options() }
}

#[test]
fn many_readers_share_one_stream() {
    let (sandbox, registry, built) = (Sandbox::new(), Registry::start(), image());
    registry.add_image("r", "t", &built);
    let image = open(&name_in(&registry), &sandbox.cache(), &patient()).unwrap();
    forget_spans(&sandbox);
    registry.clear_log();
    read_by_many(image, 16);
    // Sixteen readers in sixteen orders: a span comes once, or again where it lay in a gap that
    // was cheaper to read past than to leave out.
    for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
        let bytes = fetched_bytes(&registry.requests(), digest);
        let most = size * 3 / 2;
        assert!((1..=most).contains(&bytes), "{bytes} bytes of {size} were fetched");
    }
}

/// The same with a connection that breaks now and then.
#[test]
fn many_readers_survive_broken_streams() {
    let (sandbox, registry, built) = (Sandbox::new(), Registry::start(), image());
    registry.add_image("r", "t", &built);
    let image = open(&name_in(&registry), &sandbox.cache(), &patient()).unwrap();
    forget_spans(&sandbox);
    registry.clear_log();
    registry.fault(("GET", "/blobs/", Times::First(6)), Fault::Reset(1_500_000));
    read_by_many(image, 16);
    for digest in built.layer_digests() {
        let count = fetches(&registry.requests(), &digest);
        assert!(count <= 40, "{digest} was fetched {count} times");
    }
}

/// Without a cache a few spans are all that is remembered. Bytes are right all the same, and one
/// reader who goes through the files in their order costs one download after the first.
#[test]
fn reading_without_a_cache() {
    let (registry, built) = (Registry::start(), image());
    registry.add_image("r", "t", &built);
    let none = Arc::new(Cache::none());
    let image = open(&name_in(&registry), &none, &patient()).unwrap();
    registry.clear_log();
    (0..2 * FILES).for_each(|number| check(&image, number).unwrap());
    for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
        let log = registry.requests();
        assert!((1..=4).contains(&fetches(&log, digest)), "{}", fetches(&log, digest));
        let bytes = fetched_bytes(&log, digest);
        assert!(bytes <= size * 11 / 10, "{bytes} bytes of {size}");
    }
}

const STALL: Fault = Fault::Stall(1000, Duration::from_secs(60));

/// Flags of a plain mount, and where this kernel can of one with its names and attributes in EROFS.
fn ways() -> Vec<&'static str> {
    let erofs = kernel_metadata::can().then_some("--kernel-metadata");
    std::iter::once("--prefetch=off").chain(erofs).collect()
}

/// A mount of files `near` and `near2` of the first layer, which are in the cache, and many of the second, `0` to
/// `99`, which are not and do not come.
fn mounted_without(flags: &[&str], fault: Fault) -> (Home, Registry) {
    let near = [Entry::file("near", GOOD), Entry::file("near2", GOOD)];
    let far: Vec<_> = (0..100).map(|n| Entry::file(n.to_string(), noise(50_000, n))).collect();
    let built = ImageBuilder::new()
        .layer(&tar(&near), Compression::None)
        .layer(&tar(&far), Compression::None)
        .build();
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &built);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["pull", &name]).succeeded();
    home.run(&[&["mount"][..], flags, &[&name, "M"]].concat()).succeeded();
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    assert_eq!(fs::read(home.mount_point().join("near")).unwrap(), GOOD);
    registry.fault(("GET", &built.layer_digests()[1], Times::Always), fault);
    (home, registry)
}

/// The kernel asks twice for what it can't have; the reader waits once.
#[test]
fn nobody_waits_twice() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    for way in ways() {
        let (home, _registry) = mounted_without(&["--timeout", "4", way], STALL);
        let started = Instant::now();
        let error = fs::read(home.mount_point().join("7")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "EIO");
        let waited = started.elapsed();
        assert!(waited >= TIMEOUT / 2 && waited < TIMEOUT * 2 - TIMEOUT / 4, "{way}: {waited:?}");
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// However soon a program tries again, the registry is asked.
#[test]
fn who_tries_again_is_not_told_what_was() {
    for way in ways() {
        let missing = Fault::Status(404, Vec::new(), Vec::new());
        let (home, registry) = mounted_without(&[way], missing);
        let read = || fs::read(home.mount_point().join("7"));
        let asked =
            |log: &[Logged]| log.iter().filter(|request| request.path.contains("/blobs/")).count();
        for _ in 0..3 {
            let before = asked(&registry.requests());
            assert_eq!(read().unwrap_err().raw_os_error(), Some(5), "EIO");
            assert!(asked(&registry.requests()) > before, "{way}: from memory");
        }
        registry.clear_faults();
        assert!(read().unwrap() == noise(50_000, 7), "{way}");
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// However many readers wait for what does not come, what is in the cache is read.
#[test]
fn those_who_wait_are_not_in_the_way() {
    let (home, _registry) = mounted_without(&["--timeout", "10", "--prefetch=off"], STALL);
    let readers: Vec<_> = (0..100)
        .map(|n| {
            let path = home.mount_point().join(n.to_string());
            thread::spawn(move || fs::read(path).unwrap_err().raw_os_error())
        })
        .collect();
    // All of them have asked, or can't.
    thread::sleep(Duration::from_secs(2));
    let near = home.mount_point().join("near2");
    assert_eq!(within(Duration::from_secs(4), move || fs::read(near).unwrap()), GOOD);
    assert!(readers.iter().any(|reader| !reader.is_finished()), "they do not wait");
    for reader in readers {
        assert_eq!(reader.join().unwrap(), Some(5), "EIO");
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
