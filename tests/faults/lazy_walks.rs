//! What reading everything, or one directory, costs: no more than a download of it.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ocifs::cache::Cache;
use ocifs::tree::Symlinks;

use crate::fixture::{Sandbox, name_in, noise, open, within};
use crate::lazy::{File, Form, Lazy, READ_BYTES, corpus, cost_of, patient, read_part};
use crate::shell::{Home, run};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, TarWriter};

#[test]
fn a_walk_over_everything_costs_one_download() {
    for form in Form::ALL {
        let lazy = Lazy::indexed(form);
        let files = lazy.listed("");
        assert_eq!(files.len(), lazy.corpus.files.len());
        files.into_iter().for_each(|file| lazy.check_whole(file));
        for (layer, size) in lazy.corpus.sizes.iter().enumerate() {
            let cost = lazy.cost(layer);
            assert!(cost.requests <= 4, "{form:?}: {cost:?}");
            assert!(cost.bytes <= size + size / 50, "{form:?}: {cost:?} of {size}");
        }
    }
}

/// Where the contents of a directory lie in its layer.
fn extent(files: &[&File]) -> Range<u64> {
    let start = files.iter().map(|file| file.content.start).min().unwrap();
    start..files.iter().map(|file| file.content.end).max().unwrap()
}

#[test]
fn a_walk_of_a_directory_costs_its_share() {
    let mut lazy = Lazy::indexed(Form::Gzip);
    for dir in ["usr/14", "usr/15", "usr/29", "srv/09", "srv/10"] {
        lazy.start_over();
        let files = lazy.listed(dir);
        files.iter().for_each(|file| lazy.check_whole(file));
        let layer = files[0].layer;
        let cost = lazy.cost(layer);
        let share = lazy.corpus.share(layer, &extent(&files));
        let most = share + 3 * lazy.corpus.largest_span(layer);
        assert!(cost.requests <= 4 && cost.bytes <= most, "{dir}: {cost:?} of {most}");
    }
}

#[test]
fn readers_side_by_side_share_what_comes() {
    for form in [Form::Gzip, Form::LargeMembers, Form::Seekable, Form::Plain] {
        let lazy = Arc::new(Lazy::indexed(form));
        let readers = 6;
        let start = Arc::new(Barrier::new(readers));
        let shared = Arc::clone(&lazy);
        within(Duration::from_secs(60), move || {
            let threads: Vec<_> = (0..readers)
                .map(|reader| {
                    let (lazy, start) = (Arc::clone(&shared), Arc::clone(&start));
                    thread::spawn(move || {
                        let files = lazy.listed("");
                        start.wait();
                        // Each begins somewhere else, and all read everything.
                        let from = reader * files.len() / readers;
                        files.iter().cycle().skip(from).take(files.len()).for_each(|file| {
                            lazy.check_whole(file);
                        });
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        for (layer, size) in lazy.corpus.sizes.iter().enumerate() {
            let cost = lazy.cost(layer);
            assert!(cost.bytes <= size * 11 / 10, "{form:?}: {cost:?} of {size}");
        }
    }
}

/// `grep -r` that was interrupted: what was on its way comes to an end soon.
#[test]
fn an_abandoned_walk_ends_with_its_directory() {
    let lazy = Lazy::indexed(Form::Gzip);
    let before = lazy.image.traffic().body_bytes();
    let files = lazy.listed("usr/07");
    files[..files.len() / 2].iter().for_each(|file| lazy.check_whole(file));
    thread::sleep(Duration::from_millis(300));
    let taken = lazy.image.traffic().body_bytes() - before;
    let most = lazy.corpus.share(0, &extent(&files)) + lazy.corpus.largest_span(0);
    assert!(taken <= most, "{taken} bytes of {most}");
}

/// The same where the directory is all there is: a flight does not get far ahead of its readers.
#[test]
fn an_abandoned_stream_is_not_far_ahead() {
    const AHEAD_BYTES: u64 = 64 << 20;
    const SOCKET_BYTES: u64 = 12 << 20;
    let content = noise(4 << 20, 1);
    let mut writer = TarWriter::new();
    for number in 0..28 {
        let mut content = content.clone();
        content[..8].copy_from_slice(&[number; 8]);
        content.rotate_left(usize::from(number) * 1000);
        writer.entry(&Entry::file(format!("{number:02}"), &content));
    }
    let built = ImageBuilder::new().layer(&writer.finish(), Compression::None).build();
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    drop(open(&name, &sandbox.cache(), &patient()).unwrap());
    forget_spans(&sandbox.path().join("cache"));
    let image = open(&name, &sandbox.cache(), &patient()).unwrap();
    registry.clear_log();
    let before = image.traffic().body_bytes();
    let ino = image.filesystem().tree().resolve(b"00", Symlinks::Keep).unwrap();
    let next = image.filesystem().tree().resolve(b"01", Symlinks::Keep).unwrap();
    for at in (0..4 << 20).step_by(READ_BYTES as usize) {
        read_part(&image, ino, at..at + READ_BYTES).unwrap();
        read_part(&image, next, at..at + READ_BYTES).unwrap();
    }
    thread::sleep(Duration::from_millis(1000));
    let taken = image.traffic().body_bytes() - before;
    let cost = cost_of(&registry.requests(), &built.layer_digests()[0]);
    let most = (8 << 20) + AHEAD_BYTES + (2 << 20);
    assert!(taken > 8 << 20 && taken <= most, "{taken} bytes of {most}");
    assert!(cost.bytes <= most + SOCKET_BYTES, "{cost:?}");
}

/// Removes all that is cached of the layers' bytes.
pub fn forget_spans(cache: &Path) {
    for name in ["spans", "streams"] {
        fs::remove_dir_all(cache.join("v1").join(name)).unwrap();
    }
}

/// Through the kernel, which reads ahead and in parallel, with the tools that people use.
#[test]
fn real_walks_over_a_mount_cost_one_download() {
    let corpus = corpus(Form::Gzip);
    let registry = Registry::start();
    registry.add_image("r", "t", &corpus.built);
    let (home, name) = (Home::new(), name_in(&registry));
    let place = home.mount_point();
    let place = place.to_str().unwrap();
    for script in ["grep -rc 'no line has this' \"$1\" | wc -l", "tar c -C \"$1\" . | wc -c"] {
        let cache = home.path().join("cache");
        if cache.exists() {
            forget_spans(&cache);
        } else {
            corpus.put_indexes(&Cache::open(&cache));
        }
        home.run(&["mount", &name, "M"]).succeeded();
        registry.clear_log();
        let walk = run(home.command("bash").args(["-o", "pipefail", "-c", script, "bash", place]));
        let count: usize = walk.stdout.trim().parse().unwrap_or_else(|_| panic!("{walk:?}"));
        assert!(count >= corpus.files.len(), "{walk:?}");
        let log = registry.requests();
        for (digest, size) in corpus.digests.iter().zip(&corpus.sizes) {
            let cost = cost_of(&log, digest);
            assert!(cost.requests <= 4, "{script}: {cost:?}");
            assert!(cost.bytes <= size + size / 50, "{script}: {cost:?} of {size}");
        }
        for file in corpus.files.iter().step_by(50) {
            let bytes = fs::read(home.mount_point().join(&file.path)).unwrap();
            assert!(bytes == corpus.content(file), "{} has wrong bytes", file.path);
        }
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}
