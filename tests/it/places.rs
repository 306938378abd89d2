//! The tree as of a layer is that of the layers up to it, its marks are the changes of the layer; and two trees side by
//! side have the names of both, marked by how they differ.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ocifs::index::{Budget, LayerIndex};
use ocifs::tree::{
    self, AsOf, Change, Facts, FileKind, Ino, Order, PlaceWalk, Places, SideBySide, Tree,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::index;
use crate::model::generators;
use crate::support::tarball::{Entry, tar};

fn budget() -> Arc<Budget> {
    Arc::new(Budget::of(u64::MAX))
}

fn indexes(stack: &[Vec<Entry>]) -> Option<Vec<Arc<LayerIndex>>> {
    stack.iter().map(|layer| index(&tar(layer)).ok().map(Arc::new)).collect()
}

fn merged(indexes: &[Arc<LayerIndex>]) -> Option<Tree> {
    let plain: Vec<&LayerIndex> = indexes.iter().map(Arc::as_ref).collect();
    tree::merge(&plain, &budget()).ok()
}

/// All paths of a tree.
fn paths(tree: &Tree) -> BTreeMap<Vec<u8>, Ino> {
    let mut paths = BTreeMap::new();
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        paths.insert(path.to_vec(), ino);
    }
    paths
}

/// Whether it is there now, what is known of it, and what it holds if it is a symlink.
type Known = (bool, Facts, Option<Vec<u8>>);

/// Places by their paths.
type Shown = BTreeMap<Vec<u8>, Known>;

/// All paths of both sides, each found again by its path.
fn places(places: &dyn Places) -> Shown {
    let mut found = BTreeMap::new();
    let mut walk = PlaceWalk::new(places, places.root());
    while let Some((above, place)) = walk.next() {
        let mut path = Vec::new();
        for dir in &above[1..] {
            path.extend_from_slice(places.name(*dir));
            path.push(b'/');
        }
        path.extend_from_slice(places.name(place));
        assert_eq!(places.find(&path), Some(place));
        let target = places.target(place).map(<[u8]>::to_vec);
        let before = found.insert(path, (place.is_there(), places.facts(place), target));
        assert!(before.is_none(), "a path is one place");
    }
    found
}

fn marks(places: &Shown) -> BTreeMap<Vec<u8>, Change> {
    let marked = |(path, (_, facts, _)): (&Vec<u8>, &Known)| Some((path.clone(), facts.change?));
    places.iter().filter_map(marked).collect()
}

fn is_same(facts: &Facts, target: Option<&[u8]>, tree: &Tree, ino: Ino) -> bool {
    let a = tree.attributes(ino);
    let has_size = matches!(a.kind, FileKind::Regular | FileKind::Symlink);
    (a.kind, a.mode, a.uid, a.gid, a.mtime_seconds)
        == (facts.kind, facts.mode, facts.uid, facts.gid, facts.mtime_seconds)
        && facts.size == if has_size { a.size } else { 0 }
        && target == tree.symlink(ino)
}

fn check(stack: &[Vec<Entry>]) -> Result<(), TestCaseError> {
    let Some(indexes) = indexes(stack) else { return Ok(()) };
    let plain: Vec<&LayerIndex> = indexes.iter().map(Arc::as_ref).collect();
    let Ok(provenance) = tree::provenance(&plain, &budget()) else {
        prop_assert!(tree::merge(&plain, &budget()).is_err());
        return Ok(());
    };
    for layer in 0..indexes.len() {
        let tree = merged(&indexes[..=layer]).unwrap();
        let as_of = AsOf::new(&provenance, &indexes, layer);
        let (shown, expected) = (places(&as_of), paths(&tree));
        let there: Vec<&Vec<u8>> =
            shown.iter().filter(|(_, shown)| shown.0).map(|(path, _)| path).collect();
        prop_assert_eq!(there, expected.keys().collect::<Vec<_>>(), "layer {}", layer);
        for (path, ino) in &expected {
            let (_, facts, target) = &shown[path];
            let text = String::from_utf8_lossy(path);
            prop_assert!(is_same(facts, target.as_deref(), &tree, *ino), "{layer} {text}");
        }
        let mut changes: BTreeMap<Vec<u8>, Change> =
            provenance.changed_paths(layer, &plain).into_iter().collect();
        let root = changes.remove(&Vec::new());
        prop_assert_eq!(marks(&shown), changes, "layer {}", layer);
        prop_assert_eq!(as_of.facts(as_of.root()).change, root);
        for (path, change) in marks(&shown) {
            let place = as_of.find(&path).unwrap();
            prop_assert!(as_of.is_touched(place), "what changed is the layer's own");
            prop_assert_eq!(as_of.path(place), path);
            prop_assert_eq!(place.is_there(), change != Change::Removed);
            prop_assert_eq!(place.was_there(), change != Change::Added);
        }
    }
    Ok(())
}

fn run<S: Strategy>(strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    if let Err(e) = TestRunner::new(config).run(&strategy, check) {
        panic!("{e}");
    }
}

#[test]
fn each_layer_has_the_tree_of_the_layers_up_to_it() {
    run(generators::stacks(), |stack| check(&stack));
}

#[test]
fn two_trees_have_the_names_of_both() {
    run((generators::stacks(), generators::stacks()), |(old, new)| {
        let trees = [&old, &new].map(|stack| indexes(stack).and_then(|stack| merged(&stack)));
        let [Some(old), Some(new)] = trees else { return Ok(()) };
        // As if all content were the same.
        let mut same = |_, _| Ok::<_, std::convert::Infallible>(true);
        let differences = tree::compare(&old, &new, &mut same).unwrap();
        let differing: HashSet<(Ino, Ino)> =
            differences.iter().filter_map(|d| Some((d.old?, d.new?))).collect();
        let side_by_side = SideBySide::new(&old, &new, &differing);
        let shown = places(&side_by_side);
        let (was, is) = (paths(&old), paths(&new));
        let all: Vec<&Vec<u8>> = was
            .keys()
            .chain(is.keys())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        prop_assert_eq!(shown.keys().collect::<Vec<_>>(), all);
        let expected: BTreeMap<Vec<u8>, Change> = differences
            .iter()
            .filter(|d| !d.path.is_empty())
            .map(|d| {
                let change = match (d.old, d.new) {
                    (None, _) => Change::Added,
                    (_, None) => Change::Removed,
                    _ => Change::Changed,
                };
                (d.path.clone(), change)
            })
            .collect();
        prop_assert_eq!(marks(&shown), expected);
        for (path, (_, facts, target)) in &shown {
            let place = side_by_side.find(path).unwrap();
            prop_assert_eq!(side_by_side.old_ino(place), was.get(path).copied());
            prop_assert_eq!(side_by_side.new_ino(place), is.get(path).copied());
            let (tree, ino) = match is.get(path) {
                Some(ino) => (&new, *ino),
                None => (&old, was[path]),
            };
            prop_assert!(is_same(facts, target.as_deref(), tree, ino));
        }
        Ok(())
    });
}
