//! Images with layer indexes that others made, and what an opened image shows.
//!
//! Layers here are large enough that an index is worth its request, and of several spans.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{Image, ImageOptions};
use ocifs::index::Proof;
use ocifs::tree::{Attributes, FileKind, Ino, Order, Symlinks};

use crate::fixture::{Sandbox, name_in, noise, open, options, with_hint};
use crate::support::estargz::{self, Form, Written};
use crate::support::image::{Built, ImageBuilder, Layer, sha256};
use crate::support::registry::{Logged, Registry};
use crate::support::tarball::Entry;
use crate::support::zstd_chunked;

/// Files of [`entries`] that do not compress, and their length in bytes.
pub const BULK_FILES: usize = 48;
pub const BULK_BYTES: usize = 40_000;

/// So many of [`entries`] are just large enough.
pub const FEW: usize = 20;

/// Names that writers of eStargz add for themselves.
pub const BOOKKEEPING: [&str; 2] = [".no.prefetch.landmark", "stargz.index.json"];

/// Content without zeros, some of which compresses.
pub fn text(length: usize, seed: u64) -> Vec<u8> {
    let words = noise(length, seed);
    words.iter().map(|b| if b % 3 == 0 { b'e' } else { b'a' + b % 16 }).collect()
}

/// Every kind of entry in 2 MB that hardly compress, different for each seed.
pub fn entries(seed: u64) -> Vec<Entry> {
    let name = |name: &str| format!("{name}{seed}");
    let mut entries = vec![
        Entry::dir("usr").mode(0o1777).mtime(1_700_000_000, 0),
        Entry::dir(name("usr/bin")).owner(1000, 4_294_967_294),
        Entry::file(name("usr/tool"), text(90_000, seed)).mode(0o4755).mtime(-315_619_199, 0),
        Entry::file(name("usr/small"), name("small")).xattr("user.b", "v").xattr("user.a", [0, 9]),
        Entry::file(name("usr/empty"), ""),
        Entry::hardlink(name("usr/other"), name("usr/tool")).mode(0o4755).mtime(-315_619_199, 0),
        Entry::symlink(name("bin"), name("usr/bin")),
        Entry::char_device(name("null"), 1, 3),
        Entry::block_device(name("sda"), 259, 1_048_575),
        Entry::fifo(name("pipe")),
        Entry::dir(name("bulk")),
    ];
    for number in 0..BULK_FILES {
        let content = noise(BULK_BYTES, seed << 16 | number as u64);
        entries.push(Entry::file(bulk(seed, number), content).mtime(number as i64, 0));
    }
    entries.push(Entry::file(
        name("holes"),
        [&text(5000, seed)[..], &[0; 70_000], &text(300, seed + 1)].concat(),
    ));
    entries.push(Entry::file(name("zeros"), [0; 3000]));
    entries
}

/// The name of a file of [`entries`] that does not compress.
pub fn bulk(seed: u64, number: usize) -> String {
    format!("bulk{seed}/{number:03}")
}

/// What it holds.
pub fn bulk_content(seed: u64, number: usize) -> Vec<u8> {
    noise(BULK_BYTES, seed << 16 | number as u64)
}

/// The same with whiteouts of what the entries of the seed before have.
pub fn upper_entries(seed: u64) -> Vec<Entry> {
    let mut entries = entries(seed);
    entries.push(Entry::file(format!(".wh.pipe{}", seed - 1), ""));
    entries.push(Entry::file(format!("usr/bin{}/.wh..wh..opq", seed - 1), ""));
    entries
}

/// A way to write layers with a TOC.
pub struct Way {
    pub what: &'static str,
    /// What comes after `tar` in the media type.
    pub suffix: &'static str,
    pub write: fn(&[Entry], Option<estargz::Edit>) -> Written,
}

/// What most tests here write with.
const ESTARGZ: estargz::Options = estargz::Options {
    form: Form::Estargz,
    chunk_size: 1 << 20,
    min_member: 0,
    landmark: true,
    edit: None,
};

/// Every way to write layers with a TOC.
pub fn ways() -> [Way; 8] {
    let gzip = |what, write| Way { what, suffix: "gzip", write };
    let zstd = |what, write| Way { what, suffix: "zstd", write };
    [
        gzip("eStargz", |entries, edit| {
            estargz::write(entries, &estargz::Options { edit, ..ESTARGZ })
        }),
        gzip("eStargz, several files a member", |entries, edit| {
            let options = estargz::Options { min_member: 150_000, edit, ..ESTARGZ };
            estargz::write(entries, &options)
        }),
        gzip("eStargz, several chunks a file", |entries, edit| {
            let options = estargz::Options { chunk_size: 16_000, edit, ..ESTARGZ };
            estargz::write(entries, &options)
        }),
        gzip("eStargz, legacy footer", |entries, edit| {
            let options = estargz::Options { form: Form::Legacy, edit, ..ESTARGZ };
            estargz::write(entries, &options)
        }),
        zstd("zstd:chunked of stargz", |entries, edit| {
            let options = estargz::Options { form: Form::Zstd, edit, ..ESTARGZ };
            estargz::write(entries, &options)
        }),
        zstd("zstd:chunked", |entries, edit| {
            let options = zstd_chunked::Options { old: false, chunk_size: 16_000, edit };
            zstd_chunked::write(entries, &options)
        }),
        zstd("zstd:chunked, whole files", |entries, edit| {
            let options = zstd_chunked::Options { old: false, chunk_size: 1 << 20, edit };
            zstd_chunked::write(entries, &options)
        }),
        zstd("zstd:chunked of 2022", |entries, edit| {
            let options = zstd_chunked::Options { old: true, chunk_size: 16_000, edit };
            zstd_chunked::write(entries, &options)
        }),
    ]
}

impl Way {
    pub fn is_zstd(&self) -> bool {
        self.suffix == "zstd"
    }

    /// Whether the tool that writes so adds files of its own.
    pub fn is_stargz(&self) -> bool {
        self.what.starts_with("eStargz") || self.what.ends_with("stargz")
    }

    pub fn layer(&self, written: &Written) -> Layer {
        let layer = Layer::from_blob(written.blob.clone(), self.suffix, &written.tar);
        layer.annotations(&written.annotations)
    }

    /// The same layer of which nobody says that it has a TOC.
    pub fn unannotated(&self, written: &Written) -> Layer {
        Layer::from_blob(written.blob.clone(), self.suffix, &written.tar)
    }
}

pub fn image(layers: impl IntoIterator<Item = Layer>) -> Built {
    layers.into_iter().fold(ImageBuilder::new(), ImageBuilder::push_layer).build()
}

/// An image in a registry, and a cache.
pub struct Served {
    pub registry: Registry,
    pub sandbox: Sandbox,
    pub name: String,
}

impl Served {
    pub fn new(built: &Built) -> Served {
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        registry.add_image("r", "t", built);
        let name = name_in(&registry);
        Served { registry, sandbox, name }
    }

    /// Opens it with the log of requests emptied before.
    pub fn open(&self) -> Image {
        self.open_with(&options())
    }

    #[track_caller]
    pub fn open_with(&self, options: &ImageOptions) -> Image {
        self.registry.clear_log();
        open(&self.name, &self.sandbox.cache(), options).unwrap()
    }

    /// The requests since the image was opened last.
    pub fn asked(&self) -> Vec<Logged> {
        self.registry.requests()
    }

    /// The requests for a blob, and the bytes of it that were sent.
    pub fn asked_of(&self, digest: &str) -> (usize, u64) {
        let asked: Vec<Logged> =
            self.asked().into_iter().filter(|request| request.path.ends_with(digest)).collect();
        (asked.len(), asked.iter().map(|request| request.body_bytes_sent).sum())
    }

    /// A cache that nobody has used before.
    pub fn empty_cache(&mut self) {
        self.sandbox = Sandbox::new();
    }
}

/// Options that trust referrers.
pub fn trusting() -> ImageOptions {
    ImageOptions { trust_referrers: true, ..options() }
}

/// Options that take nothing on trust.
pub fn proving() -> ImageOptions {
    ImageOptions { prove: true, ..options() }
}

/// Opens with a cache that is used once.
pub fn open_fresh(name: &str, options: &ImageOptions) -> Image {
    let sandbox = Sandbox::new();
    open(name, &sandbox.cache(), options).unwrap()
}

/// What is shown of a path.
#[derive(Clone, PartialEq)]
pub struct Shown {
    attributes: Attributes,
    /// The first path of the same inode.
    same_as: String,
    target: Option<Vec<u8>>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    content: Result<Vec<u8>, String>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content.as_ref().map(|bytes| sha256(bytes));
        let Shown { attributes, same_as, target, xattrs, .. } = self;
        write!(f, "{attributes:?} {same_as} {target:?} {xattrs:?} {content:?}")
    }
}

/// Everything that an image shows, by path; content that can't be read by its error.
pub fn shown(image: &Image) -> BTreeMap<String, Shown> {
    let tree = image.filesystem().tree();
    let mut found = BTreeMap::new();
    let mut firsts: BTreeMap<Ino, String> = BTreeMap::new();
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        let path = String::from_utf8(path.to_vec()).unwrap();
        let same_as = firsts.entry(ino).or_insert_with(|| path.clone()).clone();
        let content = match tree.kind(ino) {
            FileKind::Regular => read_at(image, ino, 0, usize::MAX),
            _ => Ok(Vec::new()),
        };
        // Numbers go by the order of the layers, blocks by whether holes are known.
        let attributes = Attributes { ino: Ino::ROOT, blocks: 0, ..tree.attributes(ino) };
        let target = tree.symlink(ino).map(<[u8]>::to_vec);
        let xattrs = tree.xattrs(ino).map(|(name, value)| (name.to_vec(), value.to_vec()));
        // A table has them in a map.
        let mut xattrs: Vec<_> = xattrs.collect();
        xattrs.sort();
        found.insert(path, Shown { attributes, same_as, target, xattrs, content });
    }
    found
}

/// Compares what two images show, path by path.
#[track_caller]
pub fn same(what: &str, one: &BTreeMap<String, Shown>, other: &BTreeMap<String, Shown>) {
    for (path, shown) in one {
        assert_eq!(Some(shown), other.get(path), "{what}: {path}");
    }
    let more: Vec<&String> = other.keys().filter(|path| !one.contains_key(*path)).collect();
    assert!(more.is_empty(), "{what}: {more:?}");
}

/// Reads a part of a file.
pub fn read_at(image: &Image, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>, String> {
    let filesystem = image.filesystem();
    let file = filesystem.file(ino).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; file.readable(offset, length)];
    let read = file.read(offset, &mut bytes, filesystem.deadline());
    read.map(|()| bytes).map_err(|e| with_hint(&e, e.hint()))
}

/// Reads 4 KiB from the middle of a file that does not compress, and checks them.
#[track_caller]
pub fn read_4k(image: &Image, seed: u64, number: usize) {
    let path = bulk(seed, number);
    let ino = image.filesystem().tree().resolve(path.as_bytes(), Symlinks::Follow).unwrap();
    let bytes = read_at(image, ino, 20_000, 4096).unwrap();
    assert!(bytes == bulk_content(seed, number)[20_000..24_096], "{path}");
}

/// The proof of each layer, by name.
pub fn proofs(image: &Image) -> Vec<&'static str> {
    image.proofs().iter().copied().map(Proof::name).collect()
}

/// Opens an image with some cache.
pub fn open_in(cache: &Arc<Cache>, name: &str, options: &ImageOptions) -> Image {
    open(name, cache, options).unwrap()
}
