//! Layers of a few hundred KB whose names, sparse maps or attributes would take gigabytes of memory.
//!
//! Each is listed by a process that may have 256 MiB, stacks of threads included, and is refused in time
//! with the flag that raises the limit.

use ocifs::image::ImageOptions;

use crate::fixture::{Sandbox, open, options};
use crate::shell::{Home, run};
use crate::support::estargz;
use crate::support::image::{Built, Compression, ImageBuilder, Layer, write_oci_layout};
use crate::support::tarball::{Entry, TarWriter, tar};

const FLAG: &str = "--max-metadata-size";

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

/// Lists an image in a process of bounded memory, which has to refuse it.
fn is_refused(what: &str, built: &Built) {
    let size: u64 = built.layer_sizes().iter().sum();
    assert!(size < 2 << 20, "{what}: {size} bytes are no bomb");
    let home = Home::new();
    let name = home.layout(built);
    // The second time, nothing of the first may have been kept that costs as much.
    for round in 0..2 {
        let mut limited = home.command("prlimit");
        limited.arg("--data=268435456").arg(env!("CARGO_BIN_EXE_ocifs")).args(["ls", &name]);
        let outcome = run(&mut limited);
        assert!(outcome.code == 1 && outcome.stderr.contains(FLAG), "{what}, {round}: {outcome:?}");
    }
    let indexes = home.path().join("cache/v1/layers");
    assert_eq!(crate::fixture::files_below(&indexes).len(), 0, "{what}: an index is kept");
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
    let entries = deep(3000);
    let written = estargz::write(
        &entries,
        &estargz::Options {
            form: estargz::Form::Zstd,
            chunk_size: 1 << 20,
            min_member: 0,
            landmark: true,
            edit: None,
        },
    );
    let layer = Layer::from_blob(written.blob.clone(), "zstd", &written.tar)
        .annotations(&written.annotations);
    is_refused("a table of contents", &image([layer]));
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
    assert!(open(&name, &sandbox.cache(), &low).unwrap_err().contains(FLAG));
    open(&name, &sandbox.cache(), &high).unwrap();
    assert!(open(&name, &sandbox.cache(), &low).unwrap_err().contains(FLAG));
    open(&name, &sandbox.cache(), &options()).unwrap();
}
