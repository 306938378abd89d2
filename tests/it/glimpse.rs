//! A glimpse lists a few directories of an image, and in these it has what the whole has: names, what is known of them, and
//! what each layer did to them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ocifs::index::{Budget, DecodeError, EntryKind, IndexFile, LayerIndex, NameSet};
use ocifs::tree::{self, AsOf, Facts, Glimpse, Place, Places, Provenance, Survey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::index;
use crate::model::generators;
use crate::support::tarball::{Entry, tar};

fn budget() -> Arc<Budget> {
    Arc::new(Budget::of(u64::MAX))
}

fn file_of(index: &LayerIndex) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&index.encode()).unwrap();
    file.rewind().unwrap();
    file
}

/// What the layers are known to hold; one that is the same as another is one file.
fn survey(indexes: &[Option<Arc<LayerIndex>>]) -> Survey {
    let mut survey = Survey::default();
    for index in indexes {
        let place = index.as_ref().map(|index| {
            survey
                .files
                .push(IndexFile::open(file_of(index), u64::MAX, &mut survey.names).unwrap());
            survey.files.len() - 1
        });
        survey.layers.push(place);
    }
    survey
}

/// What is known of a place: whether it is there, facts without the number of its entry, what it is made from, and what it holds if it
/// is a symlink.
type Known = (bool, Facts, Option<String>, Option<Vec<u8>>);

/// The names of a directory.
fn listed(
    provenance: &Provenance,
    indexes: &[Arc<LayerIndex>],
    layer: usize,
    path: &[u8],
) -> BTreeMap<Vec<u8>, Known> {
    let as_of = AsOf::new(provenance, indexes, layer);
    let Some(dir) = as_of.find(path) else { return BTreeMap::new() };
    let known = |place: Place| {
        let mut facts = as_of.facts(place);
        facts.file.1 = 0;
        let origin = as_of.origin(place);
        let entry = origin.entry.map(|entry| {
            let entry = indexes[origin.layer].entry_at(entry);
            format!(
                "{:?} {:?}",
                entry.kind,
                indexes[origin.layer].xattrs(&entry).collect::<Vec<_>>()
            )
        });
        (place.is_there(), facts, entry, as_of.target(place).map(<[u8]>::to_vec))
    };
    as_of
        .children(dir)
        .into_iter()
        .map(|place| (as_of.name(place).to_vec(), known(place)))
        .collect()
}

/// Layers, causes and ends of the versions of a path.
fn versions(provenance: &Provenance, path: &[u8]) -> Vec<String> {
    let versions = provenance.versions(path).into_iter();
    versions
        .map(|v| format!("{} {} {} {:?}", v.layer, v.origin.layer, v.is_update, v.end))
        .collect()
}

/// Compares a glimpse of some directories with the whole; how many entries it took, of how many.
fn check(stack: &[Vec<Entry>], opened: &[Vec<u8>]) -> Result<(usize, usize), TestCaseError> {
    let indexes: Result<Vec<_>, _> = stack.iter().map(|layer| index(&tar(layer))).collect();
    let Ok(indexes) = indexes else { return Ok((0, 0)) };
    let indexes: Vec<Arc<LayerIndex>> = indexes.into_iter().map(Arc::new).collect();
    let plain: Vec<&LayerIndex> = indexes.iter().map(Arc::as_ref).collect();
    let Ok(whole) = tree::provenance(&plain, &budget()) else { return Ok((0, 0)) };
    let known: Vec<_> = indexes.iter().cloned().map(Some).collect();
    let Glimpse { indexes: taken, provenance } = survey(&known)
        .glimpse(opened, &budget())
        .map_err(|e| TestCaseError::fail(e.to_string()))?;
    for dir in opened.iter().map(Vec::as_slice).chain([&b""[..]]) {
        let text = String::from_utf8_lossy(dir);
        for layer in 0..indexes.len() {
            let expected = listed(&whole, &indexes, layer, dir);
            prop_assert_eq!(
                &listed(&provenance, &taken, layer, dir),
                &expected,
                "{} {}",
                layer,
                text
            );
            for name in expected.keys() {
                let path = if dir.is_empty() { name.clone() } else { [dir, name].join(&b'/') };
                prop_assert_eq!(versions(&provenance, &path), versions(&whole, &path));
            }
        }
    }
    let count =
        |indexes: &[Arc<LayerIndex>]| indexes.iter().map(|index| index.entries().len()).sum();
    Ok((count(&taken), count(&indexes)))
}

fn run<S: Strategy>(strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    if let Err(e) = TestRunner::new(config).run(&strategy, check) {
        panic!("{e}");
    }
}

fn directory() -> impl Strategy<Value = &'static str> {
    select(&["", "a", "b", "a/c", "a/l", "l", "l/c", "m", "b/m"][..])
}

fn below(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Files of one directory, one behind the other, as tars have them; or something that decides where paths lead.
fn members() -> impl Strategy<Value = Vec<Entry>> {
    let file = || select(&["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"][..]);
    let linked = || select(&["f0", "f1"][..]);
    let target = select(&["a", "b", "a/c", "/", "..", ".", "/b/m", "c", "missing"][..]);
    let attributes = (select(&[0o600, 0o644, 0o755][..]), 0..3u32);
    let files = (directory(), vec((file(), "[xy]{0,3}"), 1..7)).prop_map(|(dir, files)| {
        files.into_iter().map(|(name, text)| Entry::file(below(dir, name), text)).collect()
    });
    let other = prop_oneof![
        2 => (directory(), file()).prop_map(|(dir, name)| Entry::dir(below(dir, name))),
        3 => directory().prop_map(Entry::dir),
        3 => (select(&["l", "a/l", "m", "b/m"][..]), target)
            .prop_map(|(path, target)| Entry::symlink(path, target)),
        1 => (directory(), file(), directory(), linked())
            .prop_map(|(dir, name, to, other)| Entry::hardlink(below(dir, name), below(to, other))),
        1 => (select(&["l", "a/l"][..]), select(&["m", "b/m"][..]))
            .prop_map(|(path, other)| Entry::hardlink(path, other)),
        2 => (directory(), file())
            .prop_map(|(dir, name)| Entry::file(below(dir, &format!(".wh.{name}")), "")),
        1 => select(&[".wh.a", ".wh.b", "a/.wh.c", ".wh.l", "b/.wh.m"][..])
            .prop_map(|path| Entry::file(path, "")),
        1 => directory().prop_map(|dir| Entry::file(below(dir, ".wh..wh..opq"), "")),
        1 => linked().prop_map(|name| Entry::file(format!(".wh..wh.plnk/{name}"), "hidden")),
        1 => (directory(), file(), linked())
            .prop_map(|(dir, name, to)| Entry::hardlink(below(dir, name), format!(".wh..wh.plnk/{to}"))),
    ];
    let members = prop_oneof![1 => files, 1 => other.prop_map(|entry| vec![entry])];
    (members, attributes).prop_map(|(members, (mode, uid)): (Vec<Entry>, _)| {
        members.into_iter().map(|entry| Entry { mode, uid, ..entry }).collect()
    })
}

#[test]
fn directories_that_are_listed_are_those_of_the_whole() {
    let layer = vec(members(), 1..12).prop_map(|members| members.concat());
    let stacks = vec(layer, 1..4).prop_map(generators::tamed);
    let opened = vec(directory().prop_map(|dir| dir.as_bytes().to_vec()), 0..3);
    let (taken, of) = (Cell::new(0), Cell::new(0));
    run((stacks, opened), |(stack, opened)| {
        let (some, all) = check(&stack, &opened)?;
        taken.set(taken.get() + some);
        of.set(of.get() + all);
        Ok(())
    });
    assert!(of.get() > 20_000 && taken.get() * 10 < of.get() * 8, "{taken:?} of {of:?} were taken");
}

#[test]
fn names_that_collide() {
    let opened =
        vec(select(&["a", "b", "a/b", "c"][..]).prop_map(|dir| dir.as_bytes().to_vec()), 0..3);
    run((generators::stacks(), opened), |(stack, opened)| check(&stack, &opened).map(drop));
}

/// Most of an image of many files is left out, wherever links lead.
#[test]
fn what_is_not_listed_is_not_taken() {
    let mut base = vec![Entry::symlink("link", "dir0"), Entry::file("top", "1")];
    for dir in 0..20 {
        base.push(Entry::dir(format!("dir{dir}")));
        base.extend((0..50).map(|file| Entry::file(format!("dir{dir}/file{file}"), "1")));
    }
    base.push(Entry::hardlink("dir1/link", "dir2/file0"));
    let top = vec![Entry::file("link/new", "2"), Entry::file("dir0/.wh.file3", "")];
    let stack = [base, top];
    let (taken, of) = check(&stack, &[]).unwrap();
    assert!(of == 1024 && taken < 120, "{taken} of {of}");
    let (taken, _) = check(&stack, &[b"dir0".to_vec()]).unwrap();
    assert!((100..170).contains(&taken), "{taken} of {of}");
}

/// Layers that are not known are as if they were not there, and links into them are names without content.
#[test]
fn layers_may_be_missing() {
    let base = [Entry::dir("etc"), Entry::file("etc/passwd", "root")];
    let top = [Entry::file("etc/motd", "hi"), Entry::hardlink("etc/shadow", "etc/passwd")];
    let indexes = [&base[..], &top[..]].map(|layer| Arc::new(index(&tar(layer)).unwrap()));
    let known = [None, Some(Arc::clone(&indexes[1]))];
    let Glimpse { indexes, provenance } =
        survey(&known).glimpse(&[b"etc".to_vec()], &budget()).unwrap();
    let shown = listed(&provenance, &indexes, 1, b"etc");
    assert_eq!(shown.keys().collect::<Vec<_>>(), [b"motd".as_slice(), b"shadow"]);
    assert!(listed(&provenance, &indexes, 0, b"").is_empty());
    assert_eq!(shown[&b"shadow"[..]].1.size, 0);
}

#[test]
fn it_takes_no_more_than_its_budget() {
    let layer: Vec<Entry> = (0..2000).map(|file| Entry::file(format!("file{file}"), "1")).collect();
    let known = [Some(Arc::new(index(&tar(&layer)).unwrap()))];
    let error = survey(&known).glimpse(&[], &Arc::new(Budget::of(100_000))).unwrap_err();
    assert!(error.to_string().contains("100000") || error.to_string().contains("KiB"), "{error}");
}

fn sample() -> LayerIndex {
    let sparse = Entry::file("d/f", "content").xattr("user.a", "1");
    let layer = [Entry::dir("d"), sparse, Entry::symlink("l", "d"), Entry::file("d/.wh.x", "")];
    index(&tar(&layer)).unwrap()
}

/// All entries of a file are those of the index, whose tail is elsewhere.
#[test]
fn a_file_has_the_tables_of_its_index() {
    let sample = sample();
    let mut names = NameSet::default();
    let mut file = IndexFile::open(file_of(&sample), u64::MAX, &mut names).unwrap();
    assert_eq!((file.entry_count(), file.index().entries().len()), (3, 0));
    file.select(&mut |_| true).unwrap();
    assert_eq!(*file.index(), LayerIndex::decode(&sample.encode_head()).unwrap());
    file.select(&mut |entry| matches!(entry.kind, EntryKind::Symlink(_))).unwrap();
    assert_eq!(file.index().entries().len(), 1);
    assert!(names.may_have(b"d") && !names.may_have(b"f") && !names.may_have(b"l"));
    let most = IndexFile::open(file_of(&sample), 10, &mut names);
    assert!(matches!(most, Err(DecodeError::Length)));
}

/// No damage of the head is overlooked, be it there before or after the file was read through.
#[test]
fn damage_is_found() {
    let sample = sample();
    let bytes = sample.encode();
    let head = sample.encode_head().len();
    for (at, byte) in bytes.iter().enumerate().take(head) {
        let file = file_of(&sample);
        file.write_all_at(&[byte ^ 1], at as u64).unwrap();
        let opened = IndexFile::open(file, u64::MAX, &mut NameSet::default());
        assert!(opened.is_err(), "byte {at}");
    }
    for length in 0..head {
        let file = file_of(&sample);
        file.set_len(length as u64).unwrap();
        assert!(
            IndexFile::open(file, u64::MAX, &mut NameSet::default()).is_err(),
            "{length} bytes"
        );
    }
    let file = file_of(&sample);
    let again = file.try_clone().unwrap();
    let mut opened = IndexFile::open(file, u64::MAX, &mut NameSet::default()).unwrap();
    // In the last entry, whose record is before the other tables.
    let name = bytes.windows(8).position(|window| window == 7u64.to_le_bytes()).unwrap();
    again.write_all_at(&[8], name as u64).unwrap();
    assert_eq!(opened.select(&mut |_| true), Err(DecodeError::Checksum));
}
