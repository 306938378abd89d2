//! Inode numbers that are shown: of contents and paths, and of nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocifs::index::{Budget, LayerIndex, Proof};
use ocifs::tree::{self, Ino, Part, Sharing, Shown, Tree};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::index;
use crate::model::{generators, reference};
use crate::support::tarball::{Entry, TarWriter, tar};

fn numbered(indexes: &[LayerIndex]) -> Tree {
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let (mut tree, origins) =
        tree::merge_with_origins(&layers, &Arc::new(Budget::of(u64::MAX))).unwrap();
    tree.number(&origins, &layers);
    tree
}

/// Everything in a tree with how it is shown, by path.
fn shown(tree: &Tree) -> BTreeMap<String, Shown> {
    let mut shown = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    let mut add = |path: String, ino: Ino| {
        let is = tree.shown(ino);
        assert!(is.number < u64::from(u32::MAX), "32 bits: {is:?}");
        assert_eq!(tree.ino_of(is.number), Some(ino), "{path}");
        assert_eq!(*numbers.entry(is.number).or_insert(ino), ino, "{path} and another");
        shown.insert(path, is);
    };
    add(String::new(), Ino::ROOT);
    let mut walk = tree.walk(Ino::ROOT, tree::Order::Data);
    while let Some((path, ino)) = walk.next() {
        add(String::from_utf8_lossy(path).into_owned(), ino);
    }
    shown
}

fn of(stack: &[&[Entry]]) -> BTreeMap<String, Shown> {
    let indexes: Vec<LayerIndex> = stack.iter().map(|layer| index(&tar(layer)).unwrap()).collect();
    shown(&numbered(&indexes))
}

fn differing(a: &BTreeMap<String, Shown>, b: &BTreeMap<String, Shown>) -> Vec<String> {
    let paths = a.keys().filter(|path| b.contains_key(*path) && a[*path] != b[*path]);
    paths.cloned().collect()
}

#[test]
fn the_root_is_1_and_what_is_not_there_is_not_found() {
    let tree = numbered(&[index(&tar(&[Entry::file("f", "x")])).unwrap()]);
    assert_eq!(tree.shown(Ino::ROOT), Shown { number: 1, generation: 0 });
    let file = tree.shown(tree.lookup(Ino::ROOT, b"f").unwrap()).number;
    for number in [0, 2, file - 1, file + 1, file + (1 << 32), u64::MAX] {
        assert_eq!(tree.ino_of(number), None, "{number}");
    }
    // One that nobody numbered.
    let plain = crate::layers::merge(&[tar(&[Entry::file("f", "x")])]).unwrap();
    let ino = plain.lookup(Ino::ROOT, b"f").unwrap();
    assert_eq!(plain.shown(ino), Shown { number: ino.number(), generation: 0 });
    assert_eq!(plain.ino_of(ino.number()), Some(ino));
}

#[test]
fn what_is_the_same_has_the_same_number_whatever_is_around_it() {
    let common = |other: &str| {
        vec![
            Entry::dir("d"),
            Entry::file("d/same", "same"),
            Entry::file("d/other", other),
            Entry::file("empty", ""),
            Entry::symlink("link", "d/same"),
            Entry::char_device("null", 1, 3),
            Entry::fifo("pipe"),
            Entry::file("many", "x"),
            Entry::hardlink("names", "many"),
        ]
    };
    let one = of(&[&common("1234")]);
    // The number of the path, not of the order; times and owners are seen by themselves.
    let mut entries = common("5678");
    entries.swap(1, 2);
    entries.insert(0, Entry::file("a", "new"));
    entries[2] = Entry::file("d/other", "5678").mtime(7, 7).owner(1, 1).mode(0o600);
    let two = of(&[&entries]);
    assert_eq!(differing(&one, &two), ["d/other"]);
    // In two layers, of which the lower one has all under another name first.
    let three = of(&[&[Entry::file("d/other", "gone"), Entry::file("z", "")], &common("1234")]);
    assert_eq!(differing(&one, &three), [""; 0]);
    assert_eq!(one["many"], one["names"]);

    // Where the same is elsewhere, it is another file.
    let moved = of(&[&[Entry::file("same", "same"), Entry::file("d/same2", "same")]]);
    assert!(!one.values().any(|is| *is == moved["same"] || *is == moved["d/same2"]));
}

#[test]
fn what_a_file_is_makes_its_number() {
    let kinds = [
        Entry::file("f", "a"),
        Entry::file("f", "b"),
        Entry::file("f", ""),
        Entry::dir("f"),
        Entry::symlink("f", "a"),
        Entry::symlink("f", "b"),
        Entry::fifo("f"),
        Entry::char_device("f", 1, 3),
        Entry::char_device("f", 1, 4),
        Entry::block_device("f", 1, 3),
    ];
    let numbers: Vec<Shown> = kinds.map(|entry| of(&[&[entry]])["f"]).to_vec();
    for (at, a) in numbers.iter().enumerate() {
        for b in &numbers[..at] {
            assert!(a.number != b.number && a.generation != b.generation, "{a:?} {b:?}");
        }
    }
}

#[test]
fn every_changed_file_has_another_number() {
    let files = |version: &str| {
        let entries: Vec<Entry> = (0..20_000)
            .map(|n| Entry::file(format!("{}/{n}", n % 7), format!("{n} {version}")))
            .collect();
        entries
    };
    let (one, two) = (of(&[&files("1")]), of(&[&files("2")]));
    assert_eq!(differing(&one, &two).len(), 20_000);
}

/// Where nobody has hashed a content here, the blob and the place in it are what it is.
#[test]
fn contents_that_are_not_proven_are_their_places() {
    let entries = [Entry::file("a", "aaaa"), Entry::file("b", "bbbb")];
    let others = [Entry::file("a", "aaaa"), Entry::file("b", "cccc")];
    let of = |entries: &[Entry]| {
        let claimed = index(&tar(entries)).unwrap().with_proof(Proof::Toc);
        shown(&numbered(&[claimed]))
    };
    let (one, again, two) = (of(&entries), of(&entries), of(&others));
    assert_eq!(one, again);
    // Another blob: the first may have changed as well, for all that is known.
    assert_eq!(differing(&one, &two), ["a", "b"]);
    let proven = shown(&numbered(&[index(&tar(&entries)).unwrap()]));
    assert_ne!(one["a"], proven["a"]);
}

#[test]
fn sparse_files_have_numbers_too() {
    let of = |data: u8| {
        let mut writer = TarWriter::new();
        writer.sparse_pax_1_0("s", 9000, &[(4096, &[data; 512])]);
        writer.sparse_pax_1_0("hole", 9000, &[]);
        shown(&numbered(&[index(&writer.finish()).unwrap()]))
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1)["s"], of(2)["s"]);
}

#[test]
fn several_images_share_numbers_with_inodes() {
    let base = tar(&[Entry::file("same", "x"), Entry::file("other", "1")]);
    let versions = ["2", "3"].map(|version| tar(&[Entry::file("other", version)]));
    let indexes = [&base, &versions[0], &versions[1]].map(|tar| index(tar).unwrap());
    let join = |second: usize, sharing| {
        let part = |name: &'static str, layers: Vec<u32>| {
            let of: Vec<&LayerIndex> = layers.iter().map(|at| &indexes[*at as usize]).collect();
            let (tree, origins) =
                tree::merge_with_origins(&of, &Arc::new(Budget::of(u64::MAX))).unwrap();
            Part { name: name.as_bytes(), tree, origins, indexes: of, layers }
        };
        let parts = vec![part("v1", vec![0]), part("v2", vec![0, second as u32])];
        tree::join(parts, sharing).unwrap().0
    };
    let (one, two) = (shown(&join(1, Sharing::Equal)), shown(&join(2, Sharing::Equal)));
    assert_eq!(one["v1/same"], one["v2/same"]);
    assert_ne!(one["v1/other"], one["v2/other"]);
    assert_eq!(differing(&one, &two), ["v2/other"]);
    let apart = shown(&join(1, Sharing::Nothing));
    assert_ne!(apart["v1/same"], apart["v2/same"]);
    assert_eq!((apart["v1/same"], apart["v1"], apart[""]), (one["v1/same"], one["v1"], one[""]));
}

#[test]
fn random_trees_have_numbers() {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&generators::stacks(), |stack| {
            prop_assume!(reference::apply(&stack).is_ok());
            let stack: Vec<&[Entry]> = stack.iter().map(|layer| &layer[..]).collect();
            let new = [Entry::file("zz", "new"), Entry::dir("zzz")];
            let mut above = stack.clone();
            above.push(&new);
            // All of them are different; that is checked where they are listed.
            prop_assert_eq!(differing(&of(&stack), &of(&above)), Vec::<String>::new());
            Ok(())
        })
        .unwrap();
}
