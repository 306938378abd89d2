//! The differences of two trees: random stacks of layers against the model.

use std::collections::BTreeMap;

use ocifs::tree::{Aspects, compare};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::layers::{content, merge};
use crate::model::reference::{Node, NodeKind};
use crate::model::{generators, reference};
use crate::support::tarball::{Entry, tar};

/// In what the model's files differ.
fn aspects(was: &Node, is: &Node) -> Aspects {
    let kind = was.kind != is.kind;
    let owner = (was.uid, was.gid) != (is.uid, is.gid);
    let (mode, time) = (was.mode != is.mode, was.mtime != is.mtime);
    let of_all = Aspects { kind, mode, owner, time, ..Aspects::default() };
    if kind {
        return of_all;
    }
    Aspects {
        content: was.kind == NodeKind::File && was.content != is.content,
        target: was.target != is.target,
        device: was.rdev != is.rdev,
        xattrs: was.xattrs != is.xattrs,
        ..of_all
    }
}

type Expected = BTreeMap<Vec<u8>, (bool, bool, Aspects)>;

fn expected(old: &reference::Tree, new: &reference::Tree) -> Expected {
    let paths = old.keys().chain(new.keys()).cloned();
    let row = |path: Vec<u8>| {
        let (was, is) = (old.get(&path), new.get(&path));
        let aspects = match (was, is) {
            (Some(was), Some(is)) => aspects(was, is),
            _ => Aspects::default(),
        };
        let differs = was.is_none() || is.is_none() || aspects.any();
        differs.then_some((path, (was.is_some(), is.is_some(), aspects)))
    };
    paths.filter_map(row).collect()
}

fn check(old: &[Vec<Entry>], new: &[Vec<Entry>]) -> Result<(), TestCaseError> {
    let (Ok(old_model), Ok(new_model)) = (reference::apply(old), reference::apply(new)) else {
        return Ok(());
    };
    let tars = |stack: &[Vec<Entry>]| stack.iter().map(|layer| tar(layer)).collect::<Vec<_>>();
    let (old_tars, new_tars) = (tars(old), tars(new));
    let (old, new) = (merge(&old_tars).unwrap(), merge(&new_tars).unwrap());
    let mut asked = 0;
    let found = compare(&old, &new, &mut |was, is| {
        asked += 1;
        assert_eq!(old.attributes(was).size, new.attributes(is).size, "others are not asked about");
        Ok::<_, std::convert::Infallible>(
            content(&old, &old_tars, was) == content(&new, &new_tars, is),
        )
    });
    let found = found.unwrap();
    let paths: Vec<&Vec<u8>> = found.iter().map(|difference| &difference.path).collect();
    for pair in paths.windows(2) {
        let parts =
            |path: &'_ [u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        prop_assert!(pair[0].is_empty() || parts(pair[0]) < parts(pair[1]), "in order, each once");
    }
    let found: Expected = found
        .into_iter()
        .map(|d| (d.path, (d.old.is_some(), d.new.is_some(), d.aspects)))
        .collect();
    prop_assert_eq!(found, expected(&old_model, &new_model));
    Ok(())
}

#[test]
fn differences_are_those_of_the_model() {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let pairs = (generators::stacks(), generators::stacks());
    let result = TestRunner::new(config).run(&pairs, |(old, new)| {
        check(&old, &new)?;
        // What versions of one image look like: the one has more layers.
        let more: Vec<Vec<Entry>> = old.iter().chain(&new).cloned().collect();
        check(&old, &more)?;
        check(&more, &old)?;
        check(&old, &old)
    });
    if let Err(TestError::Fail(reason, (old, new))) = &result {
        panic!("{reason}\n{}\n{}", generators::render(old), generators::render(new));
    }
    result.expect("the generator works");
}
