//! Mounts that live long: tags that move, and everything around that ends and begins again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::Cache;
use ocifs::image::ImageOptions;

use crate::fixture::{GOOD, HANG, good, image_of, name_in, noise, open, options, read};
use crate::shell::Home;
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// A mount shows what its tag meant when it was made. Who asks for its status is told that it has
/// moved, and nobody else asks.
#[test]
fn a_tag_moves() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    let name = name_in(&registry);
    home.run(&["mount", &name, "M"]).succeeded();
    let status = || home.status();
    assert_eq!(status()["tag"]["moved"], false);
    assert!(!home.run(&["status", "M"]).stdout.contains("tag "));

    let newer = image_of(&tar(&[Entry::file("f", "newer bytes")]), Compression::Gzip);
    registry.add_image("r", "t", &newer);
    registry.clear_log();
    let now = status();
    assert_eq!((&now["tag"]["moved"], now["image"].as_str()), (&true.into(), Some(&name[..])));
    assert_ne!(now["tag"]["digest"], now["digest"]);
    let asked = registry.requests();
    assert_eq!((asked.len(), &asked[0].method[..]), (1, "HEAD"), "{asked:?}");
    let text = home.run(&["status", "M"]).stdout;
    assert!(text.contains("moved: it is sha256:"), "{text}");
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);

    // A registry that does not say leaves it open, and is not waited for.
    registry.fault(("HEAD", "", Times::Always), Fault::Status(405, Vec::new(), Vec::new()));
    assert!(status()["tag"].is_null());
    registry.clear_faults();
    registry.fault(("HEAD", "", Times::Always), Fault::Stall(0, HANG));
    assert_eq!(status()["image"].as_str(), Some(&name[..]));
    drop(registry);
    assert!(status()["tag"].is_null());
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Tokens end every moment, so do the URLs of a storage, and the registry is started again and
/// again: no read brings wrong bytes, and none fails that had a registry to ask.
#[test]
fn tokens_urls_and_registries_end() {
    // More than what is remembered without a cache.
    const FILES: u64 = 20;
    const RESTARTS: u64 = 5;
    let content = |n: u64| noise(2 << 20, n + 1);
    let built = (0..FILES)
        .map(|n| tar(&[Entry::file(format!("f{n}"), content(n))]))
        .fold(ImageBuilder::new(), |builder, layer| builder.layer(&layer, Compression::None))
        .build();
    let storage = Registry::start();
    storage.add_image("stored", "t", &built);
    let start = |port: u16| {
        let registry = Registry::start_on(port);
        registry.add_image("r", "t", &built);
        registry.require_bearer(None);
        // ReferrerIndexes as a second, and believed for a minute: the registry tells when it is over.
        registry.set_token_lifetime(Duration::from_millis(1500));
        for (n, digest) in built.layer_digests().iter().enumerate() {
            // Every other URL ends before it can be used twice.
            let query = if n % 2 == 0 { "Expires=1" } else { "signature=x" };
            let url = format!("http://{}/v2/stored/blobs/{digest}?{query}", storage.addr());
            let path = format!("/v2/r/blobs/{digest}");
            registry.fault(("GET", &path, Times::Always), Fault::Redirect(307, url));
        }
        registry
    };
    let mut registry = start(0);
    let port = registry.addr().port();
    // Next to nothing is kept: reads ask.
    let options = ImageOptions { read_deadline: Duration::from_secs(10), ..options() };
    let image = open(&name_in(&registry), &Arc::new(Cache::none()), &options).unwrap();
    let (image, over) = (Arc::new(image), Arc::new(AtomicBool::new(false)));
    // Odd while there is no registry.
    let outages = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3u64)
        .map(|thread| {
            let (image, over) = (Arc::clone(&image), Arc::clone(&over));
            let outages = Arc::clone(&outages);
            thread::spawn(move || {
                let mut good_reads = 0;
                for step in 0.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let n = (step * (thread + 1)) % FILES;
                    let before = outages.load(Ordering::SeqCst);
                    match read(&image, &format!("f{n}")) {
                        Ok(bytes) => {
                            assert!(bytes == content(n), "wrong bytes in f{n}");
                            good_reads += 1;
                        }
                        Err(e) => {
                            let after = outages.load(Ordering::SeqCst);
                            assert!(before % 2 == 1 || after != before, "f{n}: {e}");
                        }
                    }
                }
                good_reads
            })
        })
        .collect();
    let expired = Fault::Status(403, Vec::new(), b"<Code>ExpiredToken</Code>".to_vec());
    for round in 0..RESTARTS {
        thread::sleep(Duration::from_millis(1000));
        // A URL that was good until now.
        storage.fault(("GET", &built.layer_digests()[1], Times::First(1)), expired.clone());
        thread::sleep(Duration::from_millis(1000));
        outages.fetch_add(1, Ordering::SeqCst);
        drop(registry);
        thread::sleep(Duration::from_millis(300 * round));
        registry = start(port);
        outages.fetch_add(1, Ordering::SeqCst);
    }
    thread::sleep(Duration::from_millis(2000));
    over.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let reads: Vec<i32> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(started.elapsed() < HANG, "a reader hangs");
    assert!(reads.iter().all(|count| *count > 0), "{reads:?}");
    let requests = registry.requests();
    assert!(requests.iter().any(|request| request.path.starts_with("/token")), "{requests:?}");
}
