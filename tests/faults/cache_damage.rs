//! Files of the cache that are damaged, cut, emptied, swapped or removed.
//!
//! Disks fail and people clean up: the next mount must show right bytes, fetch what is missing and
//! nothing else, and be whole again afterwards.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ocifs::image::{Image, ImageOptions};

use crate::fixture::{Sandbox, Verdict, files_below, name_in, noise, open, options, read};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// Three layers, the middle one of several spans.
fn image() -> Built {
    (0..3u64)
        .fold(ImageBuilder::new(), |builder, number| {
            let archive = tar(&[Entry::file(format!("f{number}"), content(number))]);
            builder.layer(&archive, Compression::Gzip)
        })
        .build()
}

fn content(number: u64) -> Vec<u8> {
    noise(if number == 1 { 3_500_000 } else { 50_000 }, number + 1)
}

fn check(image: &Image) -> Result<(), String> {
    for number in 0..3 {
        if read(image, &format!("f{number}"))? != content(number) {
            return Err(format!("f{number} has wrong bytes"));
        }
    }
    Ok(())
}

/// Does something to the bytes of a file, which gets a new inode: two names of it may be linked.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

type Damage = fn(&[PathBuf]);

const DAMAGES: [(&str, Damage); 7] = [
    ("flipped", |files| {
        files.iter().for_each(|f| {
            rewrite(f, |b| {
                let at = b.len() / 2;
                b[at] ^= 1
            })
        })
    }),
    ("cut", |files| files.iter().for_each(|f| rewrite(f, |b| b.truncate(b.len() / 2)))),
    ("longer", |files| files.iter().for_each(|f| rewrite(f, |b| b.push(0)))),
    ("emptied", |files| files.iter().for_each(|f| rewrite(f, Vec::clear))),
    ("zeroed", |files| files.iter().for_each(|f| rewrite(f, |b| b.fill(0)))),
    ("swapped", |files| {
        let contents: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
        for (file, content) in files.iter().zip(contents.iter().cycle().skip(1)) {
            rewrite(file, |bytes| bytes.clone_from(content));
        }
    }),
    ("removed", |files| files.iter().for_each(|f| fs::remove_file(f).unwrap())),
];

/// Kinds of files that are damaged together, and how many requests for layers that costs at most.
/// (A damaged span is found when it is read, so each costs one.)
const KINDS: [(&[&str], usize); 6] = [
    (&["spans"], 24),
    (&["layers"], 0),
    (&["diffs"], 0),
    (&["layers", "diffs"], 3),
    (&["blobs"], 0),
    (&["refs"], 0),
];

fn layer_requests(registry: &Registry, built: &Built) -> usize {
    let layers = built.layer_digests();
    let log = registry.requests();
    log.iter().filter(|request| layers.iter().any(|l| request.path.contains(&l[..]))).count()
}

#[test]
fn damaged_files_are_replaced() {
    let (registry, built) = (Registry::start(), image());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    let mut verdict = Verdict::default();
    for (kinds, most) in KINDS {
        for (how, damage) in DAMAGES {
            let sandbox = Sandbox::new();
            check(&open(&name, &sandbox.cache(), &options()).unwrap()).unwrap();
            kinds.iter().for_each(|kind| damage(&sandbox.cached(kind)));
            registry.clear_log();
            let what = format!("{kinds:?} {how}");
            let opened = open(&name, &sandbox.cache(), &options());
            verdict.row(&what, opened.and_then(|image| check(&image)));
            let fetched = layer_requests(&registry, &built);
            let count = |right| match right {
                true => Ok(()),
                false => Err(format!("{fetched} requests for layers")),
            };
            verdict.row(&what, count(fetched <= most));
            // All is whole again: one question to the registry, and no blob.
            registry.clear_log();
            let opened = open(&name, &sandbox.cache(), &options());
            verdict.row(&what, opened.and_then(|image| check(&image)));
            let log = registry.requests();
            let quiet = log.iter().all(|request| request.method == "HEAD") && log.len() == 1;
            let requests: Vec<String> =
                log.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
            verdict.row(
                &format!("{what}, afterwards"),
                match quiet {
                    true => Ok(()),
                    false => Err(requests.join(", ")),
                },
            );
        }
    }
    verdict.end();
}

/// One damaged span of several costs itself and leaves the others alone.
#[test]
fn one_damaged_span_costs_one_request() {
    let (registry, built, sandbox) = (Registry::start(), image(), Sandbox::new());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    open(&name, &sandbox.cache(), &options()).unwrap();
    let spans = sandbox.cached("spans");
    let largest = spans.iter().max_by_key(|path| fs::metadata(path).unwrap().size());
    rewrite(largest.unwrap(), |bytes| bytes[5] ^= 1);
    registry.clear_log();
    check(&open(&name, &sandbox.cache(), &options()).unwrap()).unwrap();
    assert_eq!(layer_requests(&registry, &built), 1);
    assert_eq!(sandbox.cached("spans"), spans);
}

/// Damage while the image is open, to spans that were not read before and to some that were.
#[test]
fn damage_to_an_open_image() {
    for read_before in [false, true] {
        for (how, damage) in DAMAGES {
            let (registry, sandbox) = (Registry::start(), Sandbox::new());
            registry.add_image("r", "t", &image());
            let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
            if read_before {
                check(&image).unwrap();
            }
            damage(&sandbox.cached("spans"));
            check(&image).unwrap_or_else(|e| panic!("{how}, {read_before}: {e}"));
        }
    }
}

/// Files that are cut in place, below an open descriptor.
#[test]
fn open_files_are_cut() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image());
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    check(&image).unwrap();
    for path in sandbox.cached("spans") {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
    }
    check(&image).unwrap();
}

/// Bytes that are overwritten in place, below an open descriptor whose span had been checked.
#[test]
fn open_files_are_overwritten() {
    let (registry, sandbox, built) = (Registry::start(), Sandbox::new(), image());
    registry.add_image("r", "t", &built);
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    check(&image).unwrap();
    registry.clear_log();
    let spans = sandbox.cached("spans");
    for path in &spans {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&noise(1000, 77), file.metadata().unwrap().len() / 3).unwrap();
    }
    check(&image).unwrap();
    assert!(layer_requests(&registry, &built) > 0);
    assert_eq!(sandbox.cached("spans"), spans);

    // To mark them as used is to write to them as well, and costs no request.
    registry.clear_log();
    for path in &spans {
        fs::File::open(path).unwrap().set_modified(SystemTime::now()).unwrap();
    }
    check(&image).unwrap();
    assert_eq!(layer_requests(&registry, &built), 0);
}

#[test]
fn the_cache_is_deleted_below_an_open_image() {
    for read_before in [false, true] {
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        registry.add_image("r", "t", &image());
        let name = name_in(&registry);
        let image = open(&name, &sandbox.cache(), &options()).unwrap();
        if read_before {
            check(&image).unwrap();
        }
        fs::remove_dir_all(sandbox.path().join("cache")).unwrap();
        check(&image).unwrap();
        check(&image).unwrap();
        check(&open(&name, &sandbox.cache(), &options()).unwrap()).unwrap();
    }
}

/// A tag that the cache knows is believed only offline, and a wrong one only as far as its digest
/// leads to an image.
#[test]
fn references_that_point_elsewhere() {
    let (registry, built, sandbox) = (Registry::start(), image(), Sandbox::new());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    open(&name, &sandbox.cache(), &options()).unwrap();
    let reference = sandbox.cached("refs").remove(0);
    let text = fs::read_to_string(&reference).unwrap();
    let config = sha256(&built.config);
    for other in [
        text.replace(&built.manifest_digest, &sha256(b"nowhere")),
        text.replace(&built.manifest_digest, &config),
        text.replace("/r:t", "/r:other"),
        "[]".repeat(10),
        "{".to_owned(),
    ] {
        rewrite(&reference, |bytes| *bytes = other.clone().into_bytes());
        let offline = ImageOptions { offline: true, ..options() };
        let error = open(&name, &sandbox.cache(), &offline).unwrap_err();
        assert!(!error.is_empty());
        check(&open(&name, &sandbox.cache(), &options()).unwrap()).unwrap();
        check(&open(&name, &sandbox.cache(), &offline).unwrap()).unwrap();
    }
}

/// Offline nothing can be fetched: a damaged span is an error with the remedy, not a wrong byte.
#[test]
fn damage_offline() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &image());
    let name = name_in(&registry);
    open(&name, &sandbox.cache(), &options()).unwrap();
    drop(registry);
    let offline = ImageOptions { offline: true, ..options() };
    check(&open(&name, &sandbox.cache(), &offline).unwrap()).unwrap();
    for path in sandbox.cached("spans") {
        rewrite(&path, |bytes| bytes[0] ^= 1);
    }
    let image = open(&name, &sandbox.cache(), &offline).unwrap();
    let error = check(&image).unwrap_err();
    assert!(error.contains("GoOnline"), "{error}");
    for (kind, words) in
        [("layers", ""), ("diffs", "not in the cache"), ("refs", "not in the cache")]
    {
        fs::remove_dir_all(sandbox.path().join("cache/v1").join(kind)).unwrap();
        let result = open(&name, &sandbox.cache(), &offline);
        assert_eq!(result.is_ok(), words.is_empty(), "{kind}");
        if let Err(error) = result {
            assert!(error.contains(words) && error.contains("GoOnline"), "{error}");
        }
    }
    assert!(files_below(&sandbox.path().join("cache/v1/tmp")).is_empty());
}
