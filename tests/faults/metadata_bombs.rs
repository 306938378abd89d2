//! Layers of a few hundred KB whose names, sparse maps or attributes would take gigabytes of memory, or
//! minutes.
//!
//! Each is listed, mounted and verified by processes that may have 256 MiB, stacks of threads included, and
//! a small cache. It is refused in time with the flag that raises the limit, or shown.

use std::fs;
use std::process::Command;

use ocifs::image::{ImageOptions, ImageSet};
use ocifs::index::Proof;
use ocifs::layer::Quiet;
use ocifs::tree::Sharing;

use crate::fixture::{Sandbox, files_below, noise, open, options};
use crate::shell::{Home, Outcome, run, text};
use crate::support::estargz;
use crate::support::image::{Built, Compression, ImageBuilder, Layer, write_oci_layout};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, TarWriter, tar};

const FLAG: &str = "--max-metadata-size";

/// What the cache may have, and how far a process may exceed that, as the library documents it.
const CACHE_BYTES: u64 = 32 << 20;
const SLACK: u64 = 4 << 20;

const VERBS: [&[&str]; 3] = [&["ls"], &["mount"], &["verify"]];

/// A tar of so many files, each in a directory of its own that is 2,000 deep.
fn deep(files: usize) -> Vec<Entry> {
    let below = vec!["d"; 2000].join("/");
    (0..files).map(|number| Entry::file(format!("{number}/{below}"), "")).collect()
}

fn zstd(tar: &[u8]) -> Layer {
    Layer::new(tar, Compression::Zstd)
}

fn image(layers: impl IntoIterator<Item = Layer>) -> Built {
    layers.into_iter().fold(ImageBuilder::new(), ImageBuilder::push_layer).build()
}

/// A command for an image, in a process of bounded memory with a bounded cache. A process that serves a mount
/// inherits both.
fn limited(home: &Home, verb: &[&str], name: &str) -> Command {
    let mut command = home.command("prlimit");
    command.env("OCIFS_CACHE_SIZE", CACHE_BYTES.to_string());
    command.arg("--data=268435456").arg(env!("CARGO_BIN_EXE_ocifs")).args(verb).arg(name);
    if verb == ["mount"] {
        command.arg(home.mount_point());
    }
    command
}

#[track_caller]
fn cache_is_small(what: &str, home: &Home) {
    let bytes: u64 = files_below(&home.path().join("cache"))
        .iter()
        .filter_map(|path| Some(fs::symlink_metadata(path).ok()?.len()))
        .sum();
    assert!(bytes <= CACHE_BYTES + SLACK, "{what}: {bytes} bytes in the cache");
}

#[track_caller]
fn is_bomb(what: &str, built: &Built) {
    // What is there, and not what the manifest claims.
    let size: usize = built.blobs.values().map(Vec::len).sum();
    assert!(size < 2 << 20, "{what}: {size} bytes are no bomb");
}

/// An image that has to be refused, whatever is done with it.
fn is_refused(what: &str, built: &Built) {
    is_refused_with(FLAG, what, built);
}

/// The same, with other words.
fn is_refused_with(words: &str, what: &str, built: &Built) {
    is_bomb(what, built);
    let home = Home::new();
    let name = home.layout(built);
    // The second time, nothing of the first may have been kept that costs as much.
    for verb in VERBS.iter().chain(&VERBS) {
        let outcome = run(&mut limited(&home, verb, &name));
        // `verify` says what is wrong with a layer in its report.
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.code == 1 && said.contains(words), "{what}, {verb:?}: {outcome:?}");
        cache_is_small(what, &home);
    }
    home.is_quiet();
    let indexes = home.path().join("cache/v1/layers");
    assert_eq!(files_below(&indexes).len(), 0, "{what}: an index is kept");
}

/// An image that is shown, with so many names in its root.
fn is_shown(what: &str, built: &Built, names: usize) {
    is_bomb(what, built);
    for verb in VERBS {
        let home = Home::new();
        let name = home.layout(built);
        let outcome: Outcome = run(&mut limited(&home, verb, &name));
        assert_eq!(outcome.code, 0, "{what}, {verb:?}: {outcome:?}");
        match verb {
            ["ls"] => assert_eq!(outcome.stdout.lines().count(), names, "{what}"),
            ["mount"] => {
                assert_eq!(fs::read_dir(home.mount_point()).unwrap().count(), names, "{what}");
                home.run(&["umount", text(&home.mount_point())]).succeeded();
                home.is_quiet();
            }
            _ => assert!(outcome.stdout.contains("ok: all of"), "{what}: {outcome:?}"),
        }
        cache_is_small(what, &home);
    }
}

#[test]
fn deep_directories() {
    is_refused("one layer", &image([zstd(&tar(&deep(3000)))]));
    // Each for itself is small enough; opened side by side they are not.
    let layers = (0..8).map(|layer| {
        let below = vec!["d"; 1900].join("/");
        let name = |number: usize| format!("{layer}/{number}/{below}");
        zstd(&tar(&(0..80).map(|number| Entry::file(name(number), "")).collect::<Vec<_>>()))
    });
    let built = image(layers);
    let home = Home::new();
    let name = home.layout(&built);
    let outcome = home.run(&["ls", &name]);
    assert!(outcome.code == 1 && outcome.stderr.contains(FLAG), "{outcome:?}");
}

#[test]
fn sparse_maps() {
    let byte: &[u8] = b"x";
    let regions: Vec<(u64, &[u8])> = (0..60_000).map(|at| (at * 2, byte)).collect();
    let mut writer = TarWriter::new();
    for number in 0..40 {
        writer.sparse_pax_1_0(&format!("f{number}"), 120_000, &regions);
    }
    is_refused("sparse maps", &image([zstd(&writer.finish())]));
}

#[test]
fn attributes() {
    let value = |number: usize| [format!("{number:08}").as_bytes(), &[b'v'; 50_000]].concat();
    let file = |number: usize, value: Vec<u8>| {
        Entry::file(format!("f{number}"), "").xattr("user.x", value)
    };
    let many: Vec<Entry> = (0..1500).map(|number| file(number, value(number))).collect();
    is_refused("values that differ", &image([zstd(&tar(&many))]));
    // A value that many have is kept once.
    let same: Vec<Entry> = (0..1500).map(|number| file(number, value(0))).collect();
    let home = Home::new();
    home.run(&["ls", &home.layout(&image([zstd(&tar(&same))]))]).succeeded();
}

#[test]
fn tables_of_contents() {
    let mut entries = deep(3000);
    // Of smaller layers no table is looked for.
    entries.push(Entry::file("noise", noise(300 << 10, 1)));
    let refused = |form, compression| {
        let options = estargz::Options {
            form,
            chunk_size: 1 << 20,
            min_member: 0,
            landmark: true,
            edit: None,
        };
        let written = estargz::write(&entries, &options);
        let layer = Layer::from_blob(written.blob.clone(), compression, &written.tar)
            .annotations(&written.annotations);
        is_refused(&format!("a table of contents, {form:?}"), &image([layer]));
    };
    refused(estargz::Form::Zstd, "zstd");
    refused(estargz::Form::Estargz, "gzip");
}

/// Each of the entries names a directory that is thousands deep.
#[test]
fn hard_links_and_whiteouts() {
    let below = vec!["d"; 2000].join("/");
    let target = Entry::file(format!("{below}/f"), "");
    let links = (0..15_000).map(|n| Entry::hardlink(format!("l{n}"), format!("{below}/f")));
    let whiteouts = (0..15_000).map(|n| Entry::file(format!("{below}/.wh.{n}"), ""));
    let upper: Vec<Entry> = links.chain(whiteouts).collect();
    let built = image([zstd(&tar(&[target])), zstd(&tar(&upper))]);
    is_shown("hard links and whiteouts", &built, 15_001);
}

/// An index that was made under a higher limit is not used under a lower one.
#[test]
fn the_limit_holds_for_the_cache_too() {
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    write_oci_layout(&layout, &[(None, &image([zstd(&tar(&deep(20)))]))]).unwrap();
    let name = format!("oci:{}", layout.display());
    let with = |limit| ImageOptions { max_metadata_bytes: Some(limit), ..options() };
    let (low, high) = (with(1 << 20), with(100 << 20));
    assert!(open(&name, &sandbox.cache(), &low).unwrap_err().contains("AllowMoreMetadata"));
    open(&name, &sandbox.cache(), &high).unwrap();
    assert!(open(&name, &sandbox.cache(), &low).unwrap_err().contains("AllowMoreMetadata"));
    open(&name, &sandbox.cache(), &options()).unwrap();
}

/// Names that compress to a few bytes each.
fn many(names: usize) -> Vec<Entry> {
    (0..names).map(|number| Entry::file(format!("{number:06}"), "")).collect()
}

/// What is said of a layer that is not as long as its manifest claims. That is told first, but what came of
/// it must not have taken more memory than there is.
const SHORT: &str = "is truncated";

/// The size of a layer in the manifest is a claim: what counts is what comes.
#[test]
fn sizes_that_lie() {
    const LIE: u64 = 1 << 50;
    let names = tar(&deep(9000));
    is_refused_with(SHORT, "a claimed size", &image([zstd(&names).size(LIE)]));
    // A layer that lies earns nothing for another one, whichever of them is told of.
    let both = image([zstd(&tar(&many(10))).size(LIE), zstd(&names)]);
    is_refused_with("sha256:", "beside another layer", &both);

    let registry = Registry::start();
    registry.add_image("bomb", "t", &image([zstd(&names).size(LIE)]));
    // Without a length, what the server says of the range shows it.
    registry.fault(("GET", "/blobs/", Times::Always), Fault::NoLength);
    let name = format!("{}/bomb:t", registry.addr());
    for verb in VERBS {
        let home = Home::new();
        let outcome = run(&mut limited(&home, verb, &name));
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            outcome.code == 1 && said.contains("asked for bytes 0-4194303/"),
            "{verb:?}: {outcome:?}"
        );
    }
}

/// A table of contents says where it lies in a layer, of which nothing else comes.
#[test]
fn tables_of_contents_in_layers_of_any_size() {
    let mut entries = deep(3000);
    entries.push(Entry::file("noise", noise(300 << 10, 1)));
    let options = estargz::Options {
        form: estargz::Form::Zstd,
        chunk_size: 1 << 20,
        min_member: 0,
        landmark: true,
        edit: None,
    };
    let written = estargz::write(&entries, &options);
    let layer = Layer::from_blob(written.blob.clone(), "zstd", &written.tar)
        .annotations(&written.annotations)
        .size(1 << 50);
    is_refused_with(SHORT, "a table of contents and a claimed size", &image([layer]));
}

/// A layer is opened once however often it stands in an image; its names are made each time.
#[test]
fn the_same_layer_many_times() {
    let layer = zstd(&tar(&many(150_000)));
    let is_refused = |what: &str, built: &Built| {
        is_bomb(what, built);
        let home = Home::new();
        let name = home.layout(built);
        for verb in [&["ls"], &["mount"], &["ls"]] {
            let outcome = run(&mut limited(&home, verb, &name));
            assert!(outcome.code == 1 && outcome.stderr.contains(FLAG), "{what}: {outcome:?}");
        }
        // Of the topmost layers alone, too.
        let outcome = run(limited(&home, &["cat"], &name).arg("/missing"));
        assert!(outcome.code == 1 && outcome.stderr.contains(FLAG), "{what}: {outcome:?}");
        home.is_quiet();
    };
    is_refused("over itself", &image(vec![layer.clone(); 100]));
    // Each time the names are below another directory.
    let turns = (0..50).flat_map(|number| {
        let link = tar(&[Entry::dir(format!("{number}")), Entry::symlink("s", number.to_string())]);
        let names: Vec<Entry> =
            (0..75_000).map(|number| Entry::file(format!("s/{number:06}"), "")).collect();
        [zstd(&link), zstd(&tar(&names))]
    });
    is_refused("behind a symlink that turns", &image(turns));
    is_shown("a few times", &image(vec![zstd(&tar(&many(20_000))); 3]), 20_000);
}

/// Directories that do not exist are made where symlinks lead to.
#[test]
fn symlinks_to_deep_directories() {
    let below = vec!["d"; 1900].join("/");
    let entries = (0..8000).flat_map(|number| {
        let target = format!("t{number}/{below}");
        [Entry::symlink(format!("s{number}"), target), Entry::file(format!("s{number}/f"), "")]
    });
    let entries: Vec<Entry> = entries.collect();
    let built = image([zstd(&tar(&entries))]);
    is_bomb("symlinks", &built);
    let home = Home::new();
    let outcome = run(&mut limited(&home, &["ls"], &home.layout(&built)));
    assert!(outcome.code == 1 && outcome.stderr.contains(FLAG), "{outcome:?}");
}

/// Each image of a mount draws for all of its layers.
#[test]
fn layers_of_another_image_count() {
    let names = zstd(&tar(&many(150_000)));
    let more = zstd(&tar(&deep(90)));
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    let images = [
        (Some("one"), &image([names.clone()])),
        (Some("more"), &image([more.clone()])),
        (Some("both"), &image([names, more])),
    ];
    write_oci_layout(&layout, &images).unwrap();
    let with = |limit| ImageOptions { max_metadata_bytes: Some(limit), ..options() };
    let add = |set: &mut ImageSet, tag: &str, limit| {
        let name = format!("oci:{}:{tag}", layout.display()).parse().unwrap();
        let added = set.add(format!("{tag}-{limit}").parse().unwrap(), &name, &with(limit), &Quiet);
        added.map_err(|e| format!("{:?}", e.hint()))
    };
    let cache = sandbox.cache();
    let mut set = ImageSet::new(&cache, &options());
    let limit = 60 << 20;
    add(&mut set, "one", limit).unwrap();
    add(&mut set, "more", limit).unwrap();
    assert!(add(&mut set, "both", limit).unwrap_err().contains("AllowMoreMetadata"));
    add(&mut set, "both", 2 * limit).unwrap();
    set.finish(Sharing::Equal).unwrap();
}

/// Of a layer that was opened by way of its table of contents, only that has come. It is enough for the next
/// time, too, when the index is in the cache.
#[test]
fn large_tables_of_contents_come_from_the_cache() {
    let file = |number: usize| Entry::file(format!("{number:06}"), format!("content {number}"));
    let entries: Vec<Entry> = (0..250_000).map(file).collect();
    let options = estargz::Options {
        form: estargz::Form::Estargz,
        chunk_size: 1 << 20,
        min_member: 1 << 20,
        landmark: true,
        edit: None,
    };
    let written = estargz::write(&entries, &options);
    let layer = Layer::from_blob(written.blob.clone(), "gzip", &written.tar)
        .annotations(&written.annotations);
    let sandbox = Sandbox::new();
    let registry = Registry::start();
    registry.add_image("large", "t", &image([layer]));
    let name = format!("{}/large:t", registry.addr());
    let proofs = |offline| {
        let options = ImageOptions { offline, ..crate::fixture::options() };
        open(&name, &sandbox.cache(), &options).unwrap().proofs().to_vec()
    };
    assert_eq!(proofs(false), [Proof::Toc]);
    assert_eq!(proofs(true), [Proof::Toc]);
    // It is more than an image may draw of which nothing has come.
    let small = ImageOptions { max_metadata_bytes: Some(64 << 20), ..crate::fixture::options() };
    assert!(open(&name, &sandbox.cache(), &small).unwrap_err().contains("AllowMoreMetadata"));
}
