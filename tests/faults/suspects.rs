//! Requests that end every worker, and workers that hang.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::process::{Signal, kill_process};

use crate::fixture::{name_in, noise};
use crate::shell::{Home, eventually_within};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::survival::{status, worker};

const EIO: i32 = 5;

/// Longest that anything takes here.
const SOON: Duration = Duration::from_secs(30);

/// A worker is killed, as by a fault of its own, each time it has begun to read one file.
#[test]
fn what_ends_each_worker_is_refused_in_the_end() {
    let (home, registry) = (Home::new(), Registry::start());
    let [bad, good] = [1, 2].map(|seed| noise(1 << 20, seed));
    let layer = |name, content| tar(&[Entry::file(name, content)]);
    let built = ImageBuilder::new()
        .layer(&layer("bad", &bad), Compression::Gzip)
        .layer(&layer("good", &good), Compression::Gzip)
        .build();
    registry.add_image("r", "t", &built);
    let log = home.path().join("log");
    let words = ["mount", "--log-file", log.to_str().unwrap(), &name_in(&registry), "M"];
    assert_eq!(home.run(&words).code, 0);
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    let (gate, blob) = (Gate::default(), built.layer_digests()[0].clone());
    registry.fault(("GET", &blob, Times::Always), Fault::Hold(gate.clone()));
    let place = home.mount_point();
    let path = place.join("bad");
    let reader = thread::spawn(move || fs::read(path));
    let asked = || registry.requests().iter().filter(|r| r.path.ends_with(&blob)).count();
    let (mut seen, mut deaths) = (0, 0);
    while !reader.is_finished() {
        assert!(eventually_within(SOON, || asked() > seen || reader.is_finished()), "{deaths}");
        seen = asked();
        if reader.is_finished() {
            break;
        }
        kill_process(worker(&home), Signal::ABORT).unwrap();
        deaths += 1;
        assert!(deaths < 8, "it goes on for ever");
        assert_eq!(fs::read(place.join("good")).unwrap(), good, "others do not notice");
        fadvise(fs::File::open(place.join("good")).unwrap(), 0, None, Advice::DontNeed).unwrap();
    }
    assert_eq!(reader.join().unwrap().unwrap_err().raw_os_error(), Some(EIO));
    assert!(deaths >= 3, "{deaths}");
    gate.open();
    registry.clear_faults();
    // That file is refused as long as the mount lasts, and nothing else is.
    assert_eq!(fs::read(place.join("bad")).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(fs::read(place.join("good")).unwrap(), good);
    let told = status(&home);
    assert!(told["refused"]["count"].as_u64() >= Some(1), "{told}");
    let last = told["refused"]["last"].as_str().unwrap();
    assert!(last.contains("read of /bad"), "{told}");
    assert!(home.run(&["status", "M"]).stdout.contains("  refused   "));
    assert!(fs::read_to_string(&log).unwrap().contains(last));
    home.run(&["umount", "M"]).succeeded();
    assert_eq!(home.run(&["mount", &name_in(&registry), "M"]).code, 0);
    assert!(fs::read(place.join("bad")).unwrap() == bad);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Nothing of it runs while requests wait: another one takes over. (A signal has stopped it; for its readers that is
/// the same.)
#[test]
fn a_worker_that_hangs_is_replaced() {
    let home = Home::new();
    let image = home.layout(&crate::fixture::good());
    home.run(&["mount", "--timeout", "1", "--prefetch=off", &image, "M"]).succeeded();
    let hung = worker(&home);
    kill_process(hung, Signal::STOP).unwrap();
    let path = home.mount_point().join("unknown");
    let asked = thread::spawn(move || fs::metadata(path).unwrap_err().raw_os_error());
    assert!(eventually_within(Duration::from_secs(400), || asked.is_finished()));
    assert_eq!(asked.join().unwrap(), Some(2));
    let told = status(&home);
    assert_eq!(told["restarts"], 1, "{told}");
    assert_ne!(worker(&home), hung);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A registry that sends a little now and then keeps its readers waiting, and is no reason to kill anything.
#[test]
fn a_worker_that_waits_is_left_alone() {
    let (home, registry) = (Home::new(), Registry::start());
    let content = noise(400_000, 1);
    let built =
        ImageBuilder::new().layer(&tar(&[Entry::file("f", &content)]), Compression::Gzip).build();
    registry.add_image("r", "t", &built);
    let words = ["mount", "--timeout", "100", "--prefetch=off", &name_in(&registry), "M"];
    assert_eq!(home.run(&words).code, 0);
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(10_000));
    assert!(fs::read(home.mount_point().join("f")).unwrap() == content);
    assert_eq!(status(&home)["restarts"], 0);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
