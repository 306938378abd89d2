//! What the upper layers of random stacks decide must be what the whole stack says.
//!
//! One thing may differ: a file of the topmost layer whose directories it does not describe may not be
//! there in the whole image (`tree::upper`).

use std::collections::BTreeSet;
use std::sync::Arc;

use ocifs::extent::Pieces;
use ocifs::index::{Budget, LayerIndex};
use ocifs::tree::{self, FileKind, Ino, Order, Question, Symlinks, Tree, Want};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::layers::index;
use crate::model::generators;
use crate::support::tarball::{Entry, tar};

const WANTS: [Want; 3] = [Want::Content, Want::Names, Want::Attributes];

fn indexes(stack: &[Vec<Entry>]) -> Result<Vec<LayerIndex>, String> {
    stack.iter().map(|layer| index(&tar(layer))).collect()
}

/// What a tree says of a path, layers counted from the base of the stack.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Error(String),
    Content(FileKind, Option<(usize, u64, String)>),
    Names(Vec<Vec<u8>>),
    Attributes(Vec<(Vec<u8>, String)>),
}

fn said(tree: &Tree, first: usize, question: &Question) -> Said {
    let ino = match tree.resolve(&question.path, question.last) {
        Ok(ino) => ino,
        Err(e) => return Said::Error(e.to_string()),
    };
    let content = |ino: Ino| {
        tree.content(ino).map(|content| {
            let pieces = match content.pieces {
                Pieces::Whole(start) => format!("{start:?}"),
                Pieces::Sparse(runs) => format!("{runs:?}"),
            };
            (content.layer + first, content.size, pieces)
        })
    };
    let mut rows = Vec::new();
    match tree.kind(ino) {
        FileKind::Directory => {
            let mut walk = tree.walk(ino, Order::Name);
            while let Some((path, ino)) = walk.next() {
                rows.push((path.to_vec(), ino));
            }
        }
        _ => rows.push((Vec::new(), ino)),
    }
    match question.want {
        Want::Content => Said::Content(tree.kind(ino), content(ino)),
        Want::Names => Said::Names(rows.into_iter().map(|row| row.0).collect()),
        Want::Attributes => {
            let attributes = |ino: Ino| {
                let a = ocifs::tree::Attributes { ino: Ino::ROOT, ..tree.attributes(ino) };
                let xattrs: Vec<_> = tree.xattrs(ino).collect();
                format!("{a:?} {xattrs:?} {:?} {:?}", tree.symlink(ino), content(ino))
            };
            Said::Attributes(rows.into_iter().map(|(path, ino)| (path, attributes(ino))).collect())
        }
    }
}

/// The paths of a stack, as its entries have them and as its tree has them, and some that are not there.
fn paths(stack: &[Vec<Entry>], tree: &Tree) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::from([b"/".to_vec(), b"a/../b".to_vec(), b"c/b/".to_vec()]);
    paths.extend(["a", "b", "c", "a/a", "b/c", "c/a/b"].map(|path| path.as_bytes().to_vec()));
    paths.extend(stack.iter().flatten().map(|entry| entry.path.clone()));
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        paths.insert(path.to_vec());
        if tree.kind(ino) == FileKind::Symlink {
            paths.insert([path, b"/b"].concat());
        }
    }
    paths
}

/// The stack with entries for the directories of its entries, as engines write layers: of every one, or
/// of one in so many.
fn described(stack: &[Vec<Entry>], every: usize) -> Vec<Vec<Entry>> {
    let describe = |layer: &Vec<Entry>| {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for (number, entry) in layer.iter().enumerate() {
            if number % every > 0 {
                out.push(entry.clone());
                continue;
            }
            let path = &entry.path;
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            for (at, _) in slashes {
                if seen.insert(path[..at].to_vec()) && at > 0 {
                    out.push(Entry::dir(&path[..at]));
                }
            }
            out.push(entry.clone());
        }
        out
    };
    stack.iter().map(describe).collect()
}

/// Questions of a stack that its upper layers decide, and those that were exceptions.
#[derive(Debug, Default)]
struct Count {
    decided: usize,
    exceptions: usize,
}

fn check(stack: &[Vec<Entry>], count: &mut Count) -> Result<(), String> {
    let Ok(indexes) = indexes(stack) else { return Ok(()) };
    let layers: Vec<&LayerIndex> = indexes.iter().collect();
    let Ok(whole) = tree::merge(&layers, &Arc::new(Budget::of(u64::MAX))) else { return Ok(()) };
    for path in paths(stack, &whole) {
        for (want, last) in WANTS.into_iter().flat_map(|want| {
            [Symlinks::Follow, Symlinks::Keep].into_iter().map(move |last| (want, last))
        }) {
            let question = Question { path: path.clone(), last, want };
            assert!(tree::merge_upper(&[], std::slice::from_ref(&question)).is_none());
            for first in 1..layers.len() {
                let questions = std::slice::from_ref(&question);
                let Some((upper, _)) = tree::merge_upper(&layers[first..], questions) else {
                    continue;
                };
                let (expected, got) = (said(&whole, 0, &question), said(&upper, first, &question));
                count.decided += 1;
                if expected == got {
                    continue;
                }
                let is_file = upper.resolve(&path, last).is_ok_and(|ino| {
                    upper.content(ino).is_some_and(|c| c.layer + first == layers.len() - 1)
                });
                if !is_file || !matches!(expected, Said::Error(_)) || want == Want::Attributes {
                    let path = String::from_utf8_lossy(&path);
                    return Err(format!(
                        "{path} {question:?} of {first}..:\nall: {expected:?}\nupper: {got:?}"
                    ));
                }
                count.exceptions += 1;
            }
        }
    }
    Ok(())
}

#[test]
fn what_upper_layers_decide_is_what_all_say() {
    let cases = std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let count = std::cell::RefCell::new(Count::default());
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| {
        let mut count = count.borrow_mut();
        check(&stack, &mut count).map_err(TestCaseError::fail)?;
        for every in [1, 2] {
            let described = described(&stack, every);
            check(&described, &mut count).map_err(|reason| {
                TestCaseError::fail(format!("{reason}\n{}", generators::render(&described)))
            })?;
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
    let Count { decided, exceptions } = count.into_inner();
    // Most of it is undecided: the generator's layers describe hardly any directory.
    assert!(decided as u32 > cases * 5, "only {decided} decided");
    assert!(exceptions * 100 < decided, "{exceptions} exceptions of {decided}");
}

/// What random stacks hardly ever hit: an upper entry that lands, through a symlink of a lower layer, where
/// nothing of its own path says.
#[test]
fn entries_that_land_elsewhere() {
    let (dir, link) = (Entry::dir, Entry::symlink);
    let file = |path: &str, data: &str| Entry::file(path, data);
    let stacks = [
        // In place of a file of the same layer ...
        vec![vec![dir("d"), link("l", "d")], vec![dir("d"), file("d/x", "1"), file("l/x", "2")]],
        // ... or of a directory above it ...
        vec![vec![link("l", "/")], vec![dir("d"), file("d/x", "1"), file("l/d", "2")]],
        // ... or of a hard link's target, ...
        vec![
            vec![dir("d"), link("l", "d")],
            vec![dir("d"), file("d/x", "1"), file("l/x", "2"), Entry::hardlink("h", "d/x")],
        ],
        // ... where a lower file gives way to a directory, ...
        vec![
            vec![link("l", "d/f")],
            vec![dir("d"), file("d/f", "1")],
            vec![dir("d"), file("l/x", "2")],
        ],
        // ... where a listing would be whole, ...
        vec![
            vec![dir("d"), link("l", "d")],
            vec![dir("d"), file("d/.wh..wh..opq", ""), file("d/x", "1"), file("l/y", "2")],
        ],
        // ... or where a whiteout in another directory says that there is nothing.
        vec![vec![dir("d"), link("l", "d")], vec![dir("d"), file("d/.wh.x", ""), file("l/x", "2")]],
        // A whiteout through a symlink, ...
        vec![
            vec![dir("d"), link("l", "d")],
            vec![dir("d"), file("d/x", "1")],
            vec![file("l/.wh.x", "")],
        ],
        // ... and an opaque mark.
        vec![
            vec![dir("d"), link("l", "d")],
            vec![dir("d"), dir("d/e"), file("d/e/x", "1")],
            vec![file("l/.wh..wh..opq", "")],
        ],
        // The path of an entry that is turned elsewhere by a later one: a symlink, ...
        vec![
            vec![dir("d"), dir("e"), file("e/x", "0"), link("l", "d"), link("t", "l")],
            vec![file("t/x", "1"), link("l", "e")],
        ],
        // ... a hard link to one, ...
        vec![
            vec![
                dir("d"),
                dir("e"),
                file("e/x", "0"),
                link("l", "d"),
                link("t", "l"),
                link("m", "e"),
            ],
            vec![file("t/x", "1"), Entry::hardlink("l", "m")],
        ],
        // ... a directory in place of one, ...
        vec![
            vec![
                dir("p"),
                dir("p/q"),
                dir("p/d"),
                link("s", "p/q"),
                link("t", "s/../d"),
                dir("d"),
                file("d/x", "0"),
            ],
            vec![file("t/x", "1"), dir("s")],
        ],
        // ... or another file of its name.
        vec![vec![dir("d"), link("t", "d")], vec![file("t/x", "1"), file("d/x", "2")]],
        // A hard link of a lower file to itself leaves it where it is, to give way to a directory.
        vec![vec![file("c", "")], vec![Entry::hardlink("c", "c"), dir("c/a"), dir("c")]],
        // A directory that comes behind its files takes the place of a symlink that they went through.
        vec![vec![dir("d"), link("t", "d")], vec![file("t/x", "1"), dir("t")]],
    ];
    for (number, stack) in stacks.iter().enumerate() {
        let indexes = indexes(stack).unwrap();
        let layers: Vec<&LayerIndex> = indexes.iter().collect();
        tree::merge(&layers, &Arc::new(Budget::of(u64::MAX)))
            .unwrap_or_else(|e| panic!("{number} is no image: {e}"));
        check(stack, &mut Count::default()).unwrap_or_else(|e| panic!("{number}: {e}"));
    }
}
