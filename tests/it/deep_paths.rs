//! Layers of which every entry names a directory that is thousands deep.
//!
//! A merge has a bound on steps beyond one for each directory. [`MANY`] entries that walk all of [`DEPTH`]
//! directories each exceed it.

use std::sync::Arc;

use ocifs::codec::Compression;
use ocifs::digest::{DiffId, Digest};
use ocifs::index::{Budget, Builder, Identity, LayerIndex, Proof};
use ocifs::tar::{Entry, FileType, Sink};
use ocifs::tree::{self, Ino, Symlinks, Tree};

const DEPTH: usize = 2000;
const MANY: usize = 26_000;

fn entry(path: impl Into<Vec<u8>>, kind: FileType, target: &str) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_seconds: 0,
        mtime_nanoseconds: 0,
        size: 0,
        link_target: target.into(),
        device: (0, 0),
        xattrs: Vec::new(),
        runs: Vec::new(),
        sparse: false,
    }
}

fn file(path: impl Into<Vec<u8>>) -> Entry {
    entry(path, FileType::File, "")
}

fn symlink(path: impl Into<Vec<u8>>) -> Entry {
    entry(path, FileType::Symlink, ".")
}

fn links(target: &str) -> impl Iterator<Item = Entry> {
    (0..MANY).map(move |number| entry(format!("l{number}"), FileType::HardLink, target))
}

/// A layer of these entries. A tar of them would have hundreds of megabytes.
fn layer(entries: impl IntoIterator<Item = Entry>) -> LayerIndex {
    let mut builder = Builder::new();
    for entry in entries {
        builder.entry(entry).unwrap();
    }
    let digest = Digest::sha256(b"");
    let (blob_size, uncompressed_size) = (0, 0);
    let (diff_id, compression, proof) = (DiffId(digest), Compression::None, Proof::Full);
    builder
        .finish(Identity {
            blob: digest,
            blob_size,
            diff_id,
            uncompressed_size,
            compression,
            proof,
        })
        .unwrap()
}

fn merged(layers: &[LayerIndex]) -> Result<Tree, String> {
    tree::merge(&layers.iter().collect::<Vec<_>>(), &Arc::new(Budget::of(u64::MAX)))
        .map_err(|e| e.to_string())
}

fn names(tree: &Tree, path: &str) -> usize {
    tree.child_count(tree.resolve(path.as_bytes(), Symlinks::Follow).unwrap())
}

#[test]
fn each_directory_is_walked_once() {
    let deep = vec!["d"; DEPTH].join("/");
    let (target, through) = (format!("{deep}/f"), format!("s/{deep}/f"));
    let many = |below: &str| {
        let below = below.to_owned();
        (0..MANY).map(move |number| file(format!("{below}{number}")))
    };
    let nlink = |tree: &Tree, path: &str| {
        tree.attributes(tree.resolve(path.as_bytes(), Symlinks::Keep).unwrap()).nlink as usize
    };

    let tree = merged(&[layer([file(&*target)].into_iter().chain(links(&target)))]).unwrap();
    assert_eq!(nlink(&tree, &target), MANY + 1, "hard links");

    let lower = layer([file(&*target), symlink("s")]);
    let upper = layer([file(".wh.d")].into_iter().chain(links(&target)));
    let tree = merged(&[lower.clone(), upper]).unwrap();
    assert_eq!(nlink(&tree, "l0"), MANY, "hard links to what the layer hides");
    assert_eq!(tree.lookup(Ino::ROOT, b"d"), None);

    let tree = merged(&[lower.clone(), layer(links(&through))]).unwrap();
    assert_eq!(nlink(&tree, &target), MANY + 1, "hard links through a symlink");

    let tree = merged(&[lower.clone(), layer(many(&through))]).unwrap();
    assert_eq!(names(&tree, &deep), MANY + 1, "files through a symlink");

    let whiteouts = layer(many(&format!("{deep}/.wh.f")).chain([file(format!("{deep}/.wh.f"))]));
    let tree = merged(&[lower, whiteouts]).unwrap();
    assert_eq!(names(&tree, &deep), 0, "whiteouts");
}

/// Where a path that leads through a symlink has to be walked again each time, there is the bound.
#[test]
fn walks_that_are_not_remembered_are_bounded() {
    let through = format!("s/{}/f", vec!["d"; DEPTH].join("/"));
    let turning = |count: usize| {
        let turns = (0..count).map(|number| symlink(format!("s{number}")));
        let entries = turns.zip(links(&through)).flat_map(|(turn, link)| [turn, link]);
        merged(&[layer([symlink("s"), file(&*through)].into_iter().chain(entries))])
    };
    turning(1000).unwrap();
    let error = turning(MANY).unwrap_err();
    assert!(error.starts_with("layer 0: ") && error.contains("steps"), "{error}");
}
