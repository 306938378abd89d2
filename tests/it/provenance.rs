//! What became of each name: compared with the trees of the layers below, which are merged without a witness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ocifs::index::{Budget, EntryKind, LayerIndex};
use ocifs::tree::{self, Cause, Change, Changes, End, Ino, Merged, Order, Tree, Version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::{index, snapshot};
use crate::model::generators;
use crate::model::reference::NodeKind;
use crate::support::tarball::{Entry, tar};

fn budget() -> Arc<Budget> {
    Arc::new(Budget::of(u64::MAX))
}

/// All paths and their inodes.
fn inos(tree: &Tree) -> BTreeMap<Vec<u8>, Ino> {
    let mut inos = BTreeMap::from([(Vec::new(), Ino::ROOT)]);
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        inos.insert(path.to_vec(), ino);
    }
    inos
}

fn paths(tree: &Tree) -> BTreeSet<Vec<u8>> {
    inos(tree).into_keys().collect()
}

/// What is wrong with the provenance of a stack, if it can be merged.
fn check(stack: &[Vec<Entry>]) -> Result<(), TestCaseError> {
    let tars: Vec<Vec<u8>> = stack.iter().map(|layer| tar(layer)).collect();
    let Ok(indexes) = tars.iter().map(|tar| index(tar)).collect::<Result<Vec<_>, _>>() else {
        return Ok(());
    };
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let Ok(Merged { tree, provenance, .. }) = tree::merge_with_provenance(&layers, &budget())
    else {
        prop_assert!(tree::merge(&layers, &budget()).is_err());
        return Ok(());
    };
    let plain = tree::merge(&layers, &budget()).unwrap();
    prop_assert_eq!(snapshot(&tree, &tars), snapshot(&plain, &tars));
    let mut below = tree::merge(&[], &budget()).unwrap();
    let mut ever = BTreeSet::new();
    for layer in 0..layers.len() {
        let with = tree::merge(&layers[..=layer], &budget()).unwrap();
        let (old, new) = (paths(&below), paths(&with));
        let of = |change: Change| -> BTreeSet<Vec<u8>> {
            let changed = provenance.changed_paths(layer, &layers).into_iter();
            changed.filter(|(_, what)| *what == change).map(|(path, _)| path).collect()
        };
        prop_assert_eq!(
            &of(Change::Added),
            &new.difference(&old).cloned().collect(),
            "layer {}",
            layer
        );
        prop_assert_eq!(
            &of(Change::Removed),
            &old.difference(&new).cloned().collect(),
            "layer {}",
            layer
        );
        let changed = of(Change::Changed);
        prop_assert!(changed.is_subset(&old) && changed.is_subset(&new));
        // Whatever looks different is told.
        let (before, after) = (snapshot(&below, &tars), snapshot(&with, &tars));
        // The root is there before the base.
        let is_told = |path: &Vec<u8>| changed.contains(path) || layer == 0 && path.is_empty();
        for path in old.intersection(&new).filter(|path| !is_told(path)) {
            let (mut was, mut is) = (before[path].clone(), after[path].clone());
            for node in [&mut was, &mut is] {
                (node.inode, node.nlink) = (0, 0);
                if node.kind == NodeKind::Dir {
                    node.mtime = (0, 0);
                }
            }
            prop_assert_eq!(was, is, "{}", String::from_utf8_lossy(path));
        }
        ever.extend(new);
        below = with;
    }
    let here = inos(&tree);
    for path in ever {
        let versions = provenance.versions(&path);
        let last = versions.last().copied();
        match here.get(&path) {
            Some(ino) => {
                prop_assert_eq!(last.map(|last| (last.ino, last.end)), Some((Some(*ino), None)));
            }
            None => prop_assert!(last.is_some_and(|last| last.ino.is_none() && last.end.is_some())),
        }
        prop_assert!(versions.is_sorted_by_key(|version| version.layer));
    }
    Ok(())
}

#[test]
fn changes_are_the_differences_of_the_trees_below() {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| check(&stack));
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
}

/// A stack in which each thing happens that can happen to a name.
fn history() -> Vec<LayerIndex> {
    let layers = [
        vec![
            Entry::dir("d"),
            Entry::file("d/kept", "1"),
            Entry::file("d/secret", "key"),
            Entry::file("d/old", "1"),
            Entry::dir("e"),
            Entry::file("e/f", "1"),
        ],
        vec![
            Entry::dir("d"),
            Entry::file("d/.wh.secret", ""),
            Entry::file("d/old", "2"),
            Entry::file("d/new", "1"),
        ],
        vec![
            Entry::dir("e"),
            Entry::file("e/.wh..wh..opq", ""),
            Entry::file("e/f", "2"),
            Entry::file(".wh.d", ""),
        ],
    ];
    layers.iter().map(|layer| index(&tar(layer)).unwrap()).collect()
}

#[test]
fn each_layer_counts_what_it_changed() {
    let indexes = history();
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let merged = tree::merge_with_provenance(&layers, &budget()).unwrap();
    let changes = merged.provenance.changes(&layers);
    assert_eq!(changes[0], Changes { added: 6, changed: 0, removed: 0 });
    assert_eq!(changes[1], Changes { added: 1, changed: 1, removed: 1 });
    assert_eq!(changes[2], Changes { added: 0, changed: 1, removed: 4 });
}

#[test]
fn a_path_has_all_of_its_versions() {
    let indexes = history();
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let merged = tree::merge_with_provenance(&layers, &budget()).unwrap();
    let versions = |path: &str| -> Vec<(usize, Option<usize>, Option<End>)> {
        let all = merged.provenance.versions(path.as_bytes()).into_iter();
        all.map(|Version { layer, origin, end, .. }| (layer, origin.entry, end)).collect()
    };
    let end = |layer, cause| Some(End { layer, cause });
    assert_eq!(versions("d/secret"), [(0, Some(2), end(1, Cause::Whiteout))]);
    assert_eq!(
        versions("/d//old"),
        [(0, Some(3), end(1, Cause::Replaced)), (1, Some(1), end(2, Cause::Whiteout))]
    );
    assert_eq!(versions("e/f"), [(0, Some(5), end(2, Cause::OpaqueMark)), (2, Some(1), None)]);
    let of_directory = versions("d");
    assert_eq!(of_directory, [(0, Some(0), None), (1, Some(0), end(2, Cause::Whiteout))]);
    assert!(versions("d/none").is_empty() && versions("none/x").is_empty());
}

#[test]
fn hidden_content_is_told_once_with_the_layer_that_hid_it() {
    let indexes = history();
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let merged = tree::merge_with_provenance(&layers, &budget()).unwrap();
    let hidden: Vec<(usize, Vec<u8>, usize)> = merged
        .provenance
        .hidden()
        .into_iter()
        .filter_map(|(origin, by)| {
            let entry = layers[origin.layer].entry_at(origin.entry?);
            let is_file = matches!(entry.kind, EntryKind::File { .. });
            is_file.then_some(())?;
            Some((origin.layer, layers[origin.layer].path(entry.dir, entry.name), by))
        })
        .collect();
    let expected = [
        (0, "d/kept", 2),
        (0, "d/secret", 1),
        (0, "d/old", 1),
        (0, "e/f", 2),
        (1, "d/old", 2),
        (1, "d/new", 2),
    ];
    assert_eq!(hidden, expected.map(|(layer, path, by)| (layer, path.as_bytes().to_vec(), by)));
}
