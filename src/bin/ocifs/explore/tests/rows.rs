//! What the tree's pane shows is what the image has: names as `ocifs ls -R` lists them, marks as `ocifs which` tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocifs::image::LayerStack;
use ocifs::index::{Budget, LayerIndex};
use ocifs::tree::{Change, Ino, Order, merge};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::fixture::{Member, User, file, layers};
use crate::explore::subject::Subject;

const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    "a/a",
    "a/b",
    "b/a",
    "b/b",
    "a/.wh.b",
    "b/.wh.a",
    ".wh.a",
    ".wh.b",
    "a/.wh..wh..opq",
];

fn member() -> impl Strategy<Value = Member> {
    (0..NAMES.len(), 0..3, "[xy]").prop_map(|(name, kind, text)| match (NAMES[name], kind) {
        (name, _) if name.contains(".wh.") => file(name, ""),
        (name, 0) => Member::Dir(name),
        (name, _) => file(name, text),
    })
}

fn check(stack: Vec<Vec<Member>>) -> Result<(), TestCaseError> {
    let mut user = User::new((80, 24), &[layers(&stack)]);
    // What unpacking fails with.
    if user.ended.is_some() {
        return Ok(());
    }
    let subject = user.subject();
    let Subject::Image(image) = &*subject else { panic!("one image was opened") };
    for layer in (0..stack.len()).rev() {
        user.press("g");
        // Each directory is opened once one has come to it.
        let mut at = 0;
        while at < user.model.tree.rows.len() {
            user.press("*j");
            at += 1;
        }
        let changes: BTreeMap<Vec<u8>, Change> = changed(image, layer).into_iter().collect();
        let there = paths_as_of(image, layer);
        let paths = there.iter().chain(changes.keys());
        let mut paths: Vec<&Vec<u8>> = paths.filter(|path| !path.is_empty()).collect();
        paths.sort_by_key(|path| path.split(|byte| *byte == b'/').collect::<Vec<_>>());
        paths.dedup();
        let row = |path: &Vec<u8>| {
            let sign = match changes.get(path) {
                Some(Change::Added) => '+',
                Some(Change::Changed) => '~',
                Some(Change::Removed) => '-',
                None => ' ',
            };
            format!("{sign}{}", String::from_utf8_lossy(path))
        };
        let expected: Vec<String> = paths.into_iter().map(row).collect();
        prop_assert_eq!(user.rows(), expected, "layer {}", layer);
        user.press("[");
    }
    Ok(())
}

fn changed(image: &LayerStack, layer: usize) -> Vec<(Vec<u8>, Change)> {
    let indexes: Vec<&LayerIndex> = image.indexes().iter().map(Arc::as_ref).collect();
    image.provenance().changed_paths(layer, &indexes)
}

/// The paths that a merge of the layers up to this one has.
fn paths_as_of(image: &LayerStack, layer: usize) -> Vec<Vec<u8>> {
    let indexes: Vec<&LayerIndex> = image.indexes()[..=layer].iter().map(Arc::as_ref).collect();
    let budget = Arc::new(Budget::of(u64::MAX));
    let tree = merge(&indexes, &budget).unwrap();
    let mut paths = Vec::new();
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, _)) = walk.next() {
        paths.push(path.to_vec());
    }
    paths
}

#[test]
fn rows_are_the_names_of_the_tree_and_marks_are_its_changes() {
    let stacks = prop::collection::vec(prop::collection::vec(member(), 1..7), 1..4);
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    if let Err(e) = TestRunner::new(config).run(&stacks, check) {
        panic!("{e}");
    }
}
