//! A layer alone: compared with the reference model, which is given whiteouts as plain files.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use ocifs::index::Budget;
use ocifs::tree::{self, Ino, Mark, Order, Symlinks, Tree};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::{index, snapshot};
use crate::model::{generators, reference};
use crate::support::tarball::{Entry, Kind, tar};

fn alone(layer: &[Entry]) -> Result<(Tree, Vec<u8>), String> {
    let tar = tar(layer);
    let index = index(&tar)?;
    let tree = tree::layer_alone(&index, None, &Arc::new(Budget::of(u64::MAX)));
    tree.map(|(tree, _)| (tree, tar)).map_err(|e| e.to_string())
}

/// All paths that are marked, with what they stand for.
fn marks(tree: &Tree) -> Vec<(String, Mark<'_>)> {
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    let mut marks = Vec::new();
    while let Some((path, ino)) = walk.next() {
        marks.extend(tree.mark(ino).map(|mark| (String::from_utf8_lossy(path).into_owned(), mark)));
    }
    marks
}

fn is_whiteout(entry: &Entry) -> bool {
    let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap();
    name.starts_with(b".wh.")
        && !entry.path.windows(8).any(|part| part == b".wh..wh." && name != b".wh..wh..opq")
}

#[test]
fn layers_are_what_the_model_makes_of_them() {
    let config = Config { cases: 1500, failure_persistence: None, ..Config::default() };
    let (compared, whiteouts) = (Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| {
        let layer = &stack[0];
        let (hiding, plain): (Vec<Entry>, Vec<Entry>) =
            layer.iter().cloned().partition(is_whiteout);
        // To the model they are files with names of their own, which come last.
        let mut told = plain;
        let mut expected_marks = BTreeSet::new();
        if reference::apply(&[told.clone()]).is_err() {
            return Ok(());
        }
        for entry in hiding {
            let path = String::from_utf8(entry.path).unwrap().replace(".wh.", "WH.");
            told.push(Entry::file(&path, ""));
            if reference::apply(&[told.clone()]).is_err() {
                told.pop();
            }
        }
        let mut expected = reference::apply(&[told]).unwrap();
        expected.retain(|path, _| {
            let path = String::from_utf8(path.clone()).unwrap();
            let is_mark = path.contains("WH.");
            if is_mark {
                expected_marks.insert(path.replace("WH.", ".wh."));
            }
            !is_mark
        });
        let (tree, tar) = alone(layer).unwrap();
        let mut got = snapshot(&tree, &[tar]);
        let found: BTreeSet<String> = marks(&tree).into_iter().map(|(path, _)| path).collect();
        got.retain(|path, _| !found.contains(std::str::from_utf8(path).unwrap()));
        renumber(&mut got);
        renumber(&mut expected);
        prop_assert_eq!(&found, &expected_marks);
        prop_assert_eq!(got, expected);
        compared.set(compared.get() + 1);
        whiteouts.set(whiteouts.get() + found.len());
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(&stack[..1]));
    }
    result.unwrap();
    assert!(compared.get() > 700 && whiteouts.get() > 700, "{compared:?} {whiteouts:?}");
}

/// Inodes are numbered by their first path.
fn renumber(tree: &mut reference::Tree) {
    let mut numbers = std::collections::BTreeMap::new();
    for node in tree.values_mut() {
        let next = numbers.len();
        node.inode = *numbers.entry(node.inode).or_insert(next);
    }
}

#[test]
fn what_needs_lower_layers_is_marked() {
    let layer = [
        Entry::hardlink("below", "usr/bin/tool"),
        Entry::hardlink("again", "below"),
        Entry::file("own", "own"),
        Entry::hardlink("same", "own"),
        Entry::file("etc/.wh.gone", ""),
        Entry::file("etc/gone", "new"),
        Entry::file("etc/.wh.gone", ""),
        Entry::file("cut/.wh..wh..opq", ""),
        Entry::file("own/.wh.under-a-file", ""),
        Entry::file("twice", "first"),
        Entry::symlink("twice", "second"),
    ];
    let (tree, _) = alone(&layer).unwrap();
    let below = Mark::LinkBelow(b"usr/bin/tool");
    assert_eq!(
        marks(&tree),
        [
            ("again".to_owned(), below),
            ("below".to_owned(), below),
            ("cut/.wh..wh..opq".to_owned(), Mark::OpaqueMark),
            ("etc/.wh.gone".to_owned(), Mark::Whiteout),
        ]
    );
    let find = |path: &str| tree.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
    assert_eq!(find("again"), find("below"));
    assert_eq!(find("same"), find("own"));
    assert_eq!(tree.attributes(find("etc/gone")).size, 3);
    assert_eq!(tree.symlink(find("twice")), Some(&b"second"[..]));
    assert!(matches!(layer[0].kind, Kind::Hardlink(_)));
}

/// What a layer can't be unpacked with is told.
#[test]
fn layers_that_can_not_be_unpacked() {
    let error = alone(&[Entry::file("a", ""), Entry::file("a/b", "")]).unwrap_err();
    assert!(error.contains("`a`"), "{error}");
    let budget = Arc::new(Budget::of(10_000));
    let whiteouts: Vec<Entry> = (0..1000).map(|n| Entry::file(format!(".wh.{n}"), "")).collect();
    let index = index(&tar(&whiteouts)).unwrap();
    assert!(tree::layer_alone(&index, None, &budget).is_err());
}
