//! What takes room and what wastes it, held against sums over all paths.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use ocifs::image::{Room, WastedPath, room_of_layer, room_of_tree, wasted_paths};
use ocifs::index::{Budget, EntryKind, LayerIndex};
use ocifs::tree::{self, Ino, Merged, UsageCount, UsageRow};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::index;
use crate::model::generators;
use crate::support::tarball::{Entry, tar};

fn merged(layers: &[&LayerIndex]) -> Option<Merged> {
    tree::merge_with_provenance(layers, &Arc::new(Budget::of(u64::MAX))).ok()
}

fn bytes_of(kind: EntryKind<'_>) -> u64 {
    if let EntryKind::File { size, .. } = kind { size } else { 0 }
}

/// All rooms at and below one, by path. A layer may have several entries of a path.
fn by_path(room: &Room) -> BTreeMap<Vec<u8>, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![room];
    while let Some(room) = todo.pop() {
        *found.entry(room.path.clone()).or_default() += room.bytes;
        assert!(room.children.iter().map(|child| child.bytes).sum::<u64>() <= room.bytes);
        assert!(room.children.is_sorted_by_key(|child| std::cmp::Reverse(child.bytes)));
        assert!(room.is_directory || room.children.is_empty());
        todo.extend(&room.children);
    }
    found
}

/// What the layer holds below each directory, and in each file.
fn expected_of_layer(index: &LayerIndex) -> BTreeMap<Vec<u8>, u64> {
    let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::from([(Vec::new(), 0)]);
    for entry in index.entries() {
        let (path, bytes) = (index.path(entry.dir, entry.name), bytes_of(entry.kind));
        if bytes > 0 {
            *expected.entry(Vec::new()).or_default() += bytes;
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                *expected.entry(path[..end].to_vec()).or_default() += bytes;
            }
        }
    }
    expected
}

/// Paths whose versions are hidden, by the rows of a table with whole paths.
fn expected_waste(layers: &[&LayerIndex], merged: &Merged) -> BTreeMap<Vec<u8>, (u64, u64)> {
    let mut expected: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for (origin, _) in merged.provenance.hidden() {
        let entry = layers[origin.layer].entry_at(origin.entry.unwrap());
        let bytes = bytes_of(entry.kind);
        if bytes > 0 {
            let path = layers[origin.layer].path(entry.dir, entry.name);
            let (sum, versions) = expected.entry(path).or_default();
            (*sum, *versions) = (*sum + bytes, *versions + 1);
        }
    }
    expected
}

/// Random layers are so small that everything is worth a part.
#[test]
fn sums_are_those_of_all_paths() {
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let seen = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&generators::stacks(), |stack| {
            let tars = stack.iter().map(|layer| index(&tar(layer))).collect::<Result<Vec<_>, _>>();
            let Ok(indexes) = tars else { return Ok(()) };
            let layers: Vec<&LayerIndex> = indexes.iter().collect();
            let Some(merged) = merged(&layers) else { return Ok(()) };
            for layer in &layers {
                let mut expected = expected_of_layer(layer);
                expected.retain(|path, _| path.iter().filter(|byte| **byte == b'/').count() < 6);
                prop_assert_eq!(by_path(&room_of_layer(layer, &|_| false)), expected);
            }
            let all: u64 = merged
                .provenance
                .hidden()
                .iter()
                .map(|(origin, _)| {
                    let hidden = |at| origin.entry == Some(at);
                    room_of_layer(layers[origin.layer], &hidden).hidden
                })
                .sum();
            prop_assert_eq!(
                all,
                expected_waste(&layers, &merged).values().map(|(sum, _)| sum).sum::<u64>()
            );
            let waste = expected_waste(&layers, &merged);
            let found = wasted_paths(&layers, &merged.provenance, usize::MAX);
            seen.set(seen.get() + found.len());
            prop_assert!(found.is_sorted_by_key(|wasted| std::cmp::Reverse(wasted.bytes)));
            let found = found.into_iter().map(|w| (w.path, (w.bytes, w.versions)));
            prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), waste);
            let mut usage = BTreeMap::new();
            let mut count = UsageCount::new(&merged.tree, false);
            let mut tell = |row: UsageRow<'_>| {
                usage.insert(row.path[1..].to_vec(), row.usage.allocated);
                Ok::<(), Infallible>(())
            };
            let Ok(_) = count.walk(Ino::ROOT, b"/", &mut tell);
            for (path, bytes) in by_path(&room_of_tree(&merged.tree)) {
                prop_assert_eq!(usage.get(&path), Some(&bytes), "{:?}", path);
            }
            Ok(())
        })
        .unwrap();
    assert!(seen.get() > 100, "only {} paths wasted something", seen.get());
}

#[test]
fn what_is_small_or_deep_is_counted_with_its_directory() {
    let large = Entry::file("a/large", vec![1; 100_000]);
    let small = (0..50).map(|at| Entry::file(format!("a/small-{at}"), [1]));
    let deep = Entry::file("b/c/d/e/f/g/h/i", vec![1; 50_000]);
    let files: Vec<Entry> = [large, deep].into_iter().chain(small).collect();
    let index = index(&tar(&files)).unwrap();
    let rooms = by_path(&room_of_layer(&index, &|_| false));
    let row = |path: &str| rooms.get(path.as_bytes()).copied();
    assert_eq!((row(""), row("a"), row("a/large")), (Some(150_050), Some(100_050), Some(100_000)));
    assert_eq!(
        (row("a/small-1"), row("b/c/d/e/f/g"), row("b/c/d/e/f/g/h")),
        (None, Some(50_000), None)
    );
    let merged = merged(&[&index]).unwrap();
    let rooms = by_path(&room_of_tree(&merged.tree));
    assert!(rooms.contains_key(&b"b/c/d/e/f/g"[..]) && !rooms.contains_key(&b"b/c/d/e/f/g/h"[..]));
}

#[test]
fn versions_of_a_path_are_one_row() {
    let layer = |bytes: usize| index(&tar(&[Entry::file("x/y/f", vec![1; bytes])])).unwrap();
    let deep = "d/".repeat(500);
    let other = index(&tar(&[Entry::file(format!("{deep}f"), [1; 7])])).unwrap();
    let gone = index(&tar(&[Entry::file(".wh.d", "")])).unwrap();
    let (first, second, third) = (layer(10), layer(20), layer(30));
    let layers = [&first, &other, &second, &gone, &third];
    let merged = merged(&layers).unwrap();
    let found = wasted_paths(&layers, &merged.provenance, 5);
    let deep = WastedPath {
        path: format!("{deep}f").into_bytes(),
        bytes: 7,
        versions: 1,
        layer: 1,
        hidden_in: 3,
    };
    let again =
        WastedPath { path: b"x/y/f".to_vec(), bytes: 30, versions: 2, layer: 0, hidden_in: 4 };
    assert_eq!(found, [again.clone(), deep]);
    assert_eq!(wasted_paths(&layers, &merged.provenance, 1), [again]);
}
