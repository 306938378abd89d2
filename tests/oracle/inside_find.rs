//! `ocifs find` against GNU find over the unpacked files: random trees, random expressions.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::support::tarball::{Entry, Kind};
use crate::unpacked::Unpacked;

/// Trees that are tried, with several expressions each.
const CASES: u32 = 120;

/// Names of one byte a character: of others the C library takes characters and bytes alike (`src/tree/glob.rs`).
fn component() -> impl Strategy<Value = &'static [u8]> {
    let names: Vec<&[u8]> = vec![
        b"a", b"b", b"ab", b".a", b"A", b"a.b", b"[a]", b"a*", b"-", b"a\\b", b"\xe9", b"a b", b"1",
    ];
    select(names)
}

/// Files of all kinds, each in a directory that is described too, below a root that is.
pub fn trees() -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop_oneof![
        6 => select(vec![0usize, 1, 511, 512, 513, 1024, 1025, 5000]).prop_map(|n| Kind::File(vec![b'x'; n])),
        4 => Just(Kind::Dir),
        2 => select(vec!["a", "b", "/a", "nowhere", "a*"]).prop_map(|to| Kind::Symlink(to.into())),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Char { major: 1, minor: 3 }),
        1 => Just(Kind::Block { major: 8, minor: 1 }),
    ];
    let modes = vec![0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0, 0o7777];
    let times =
        vec![(0, 0), (1000, 0), (1000, 1), (1000, 500_000_000), (1001, 0), (-5, 250_000_000)];
    let attributes =
        (select(modes), select(vec![0, 1, 1000, 65534]), select(vec![0, 5]), select(times));
    let file = (vec(component(), 1..4), kind, attributes, any::<prop::sample::Index>(), 0..8u8);
    vec(file, 0..25).prop_map(|files| {
        let mut made: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        let mut links = Vec::new();
        for (components, kind, (mode, uid, gid, (seconds, nanoseconds)), index, link) in files {
            let path = components.join(&b'/');
            let parents: Vec<Vec<u8>> =
                (1..components.len()).map(|n| components[..n].join(&b'/')).collect();
            let is_blocked = parents
                .iter()
                .any(|parent| made.get(parent).is_some_and(|entry| entry.kind != Kind::Dir));
            if is_blocked || made.contains_key(&path) {
                continue;
            }
            for parent in parents {
                made.entry(parent.clone()).or_insert_with(|| Entry::dir(parent));
            }
            let targets: Vec<&Entry> =
                made.values().filter(|entry| matches!(entry.kind, Kind::File(_))).collect();
            if link == 0 && !targets.is_empty() {
                links.push(Entry::hardlink(path.clone(), &index.get(&targets).path));
                // The name is taken.
                made.insert(path.clone(), Entry::hardlink(path, ""));
                continue;
            }
            let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
            let entry = Entry::new(path.clone(), kind)
                .mode(mode)
                .owner(uid, gid)
                .mtime(seconds, nanoseconds);
            made.insert(path, entry);
        }
        made.retain(|_, entry| !matches!(entry.kind, Kind::Hardlink(_)));
        let root = [Entry::dir("./").mtime(999, 7), Entry::file("reference", "").mtime(1000, 1)];
        root.into_iter().chain(made.into_values()).chain(links).collect()
    })
}

fn pattern() -> impl Strategy<Value = String> {
    let part = select(vec![
        "a",
        "b",
        "*",
        "?",
        ".",
        "/",
        "[ab]",
        "[!a]",
        "[^.]",
        "[a-c]",
        "[]a]",
        "[a-",
        "[",
        "]",
        "\\*",
        "\\",
        "\\[",
        "[[:alpha:]]",
        "[[:punct:]]",
        "[[:upper:]]",
        "[[:x:]]",
        "\u{e9}",
        "[\u{e0}-\u{ef}]",
        "[\\]a]",
        "[b-a]",
        "**",
        "A",
    ]);
    vec(part, 0..5).prop_map(|parts| parts.concat())
}

fn test() -> impl Strategy<Value = Vec<String>> {
    let words =
        |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let number = (select(vec!["", "+", "-"]), 0..3u32).prop_map(|(sign, n)| format!("{sign}{n}"));
    let named =
        (select(vec!["-name", "-iname", "-path", "-ipath", "-lname", "-ilname"]), pattern());
    let size = (number.clone(), select(vec!["", "c", "w", "b", "k", "M"]));
    let mode = (
        select(vec!["", "-", "/"]),
        select(vec!["644", "111", "4000", "u+x", "g=s,o+r", "a=rX", "0", "u=rw,g=u"]),
    );
    prop_oneof![
        6 => named.prop_map(move |(test, pattern)| vec![test.to_owned(), pattern]),
        2 => select(vec!["f", "d", "l", "c", "b", "p", "f,l", "d,s"]).prop_map(move |kinds| words(&["-type", kinds])),
        // Directories have the size and the links that their file system gives them.
        3 => size.prop_map(move |(number, unit)| words(&["!", "-type", "d", "-size", &(number + unit)])),
        1 => number.clone().prop_map(move |number| words(&["!", "-type", "d", "-links", &number])),
        2 => mode.prop_map(move |(kind, mode)| words(&["-perm", &format!("{kind}{mode}")])),
        1 => (select(vec!["-uid", "-gid"]), number).prop_map(move |(test, number)| words(&[test, &number])),
        1 => select(vec!["-user", "-group"]).prop_map(move |test| words(&[test, "1000"])),
        1 => Just(words(&["-newer", "reference"])),
        1 => Just(words(&["-newermt", "1970-01-01 00:16:40"])),
        1 => select(vec!["-empty", "-true", "-false", "-print", "-prune"]).prop_map(move |test| words(&[test])),
        1 => Just(words(&["-samefile", "reference"])),
        1 => select(vec!["+1", "1", "-1", "-90000"]).prop_map(move |number| words(&["-mtime", number])),
    ]
}

/// `,` is tried elsewhere: find 4.9 may exchange what stands beside it, and with it the value of both.
fn expression() -> impl Strategy<Value = Vec<String>> {
    test().prop_recursive(4, 12, 3, |inner| {
        let word = |word: &str| vec![word.to_owned()];
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| [a, b].concat()),
            2 => (inner.clone(), inner.clone()).prop_map(move |(a, b)| [a, word("-o"), b].concat()),
            1 => (inner.clone(), inner.clone()).prop_map(move |(a, b)| [a, word("-a"), b].concat()),
            2 => inner.clone().prop_map(move |a| [word("!"), word("("), a, word(")")].concat()),
            2 => inner.prop_map(move |a| [word("("), a, word(")")].concat()),
        ]
    })
}

/// Options, which count for all of the expression. Within it GNU find has nothing in their place: a `,` before one
/// stands before nothing.
fn options() -> impl Strategy<Value = Vec<String>> {
    let depth =
        |flag: &'static str| (0..4u32).prop_map(move |n| vec![flag.to_owned(), n.to_string()]);
    prop_oneof![
        3 => Just(Vec::new()),
        1 => depth("-maxdepth"),
        1 => depth("-mindepth"),
        1 => Just(vec!["-depth".to_owned()]),
        1 => (depth("-maxdepth"), depth("-mindepth")).prop_map(|(a, b)| [a, b, vec!["-depth".to_owned()]].concat()),
    ]
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn find_finds_what_find_finds() {
    let unpacked = Unpacked::new(&[]);
    let starts = select(vec![&["."][..], &["./"], &["a"], &["b", "a"], &["reference"]]);
    let searches =
        vec((starts, options(), prop_oneof![9 => expression(), 1 => Just(Vec::new())]), 6);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(trees(), searches), |(tree, searches)| {
        unpacked.make(&tree);
        for (starts, options, expression) in searches {
            let is_there = |start: &&&str| unpacked.top().join(start).symlink_metadata().is_ok();
            let words: Vec<&str> = starts.iter().filter(is_there).copied().collect();
            if words.is_empty() {
                continue;
            }
            let words: Vec<&str> = words
                .into_iter()
                .chain(options.iter().chain(&expression).map(String::as_str))
                .collect();
            let (expected, got) =
                (unpacked.other("find", &words), unpacked.ocifs(&["find"], &words));
            prop_assert_eq!(sorted(&expected), sorted(&got), "find {:?}", words);
        }
        Ok(())
    });
    match result {
        Err(TestError::Fail(why, (tree, _))) => panic!("{why}\n{tree:#?}"),
        result => result.expect("the generator works"),
    }
}

/// What is printed how, and what symlinks are.
#[test]
fn find_prints_as_find_does() {
    let unpacked = Unpacked::new(&[
        Entry::dir("./"),
        Entry::dir("usr").mtime(5, 0),
        Entry::file("usr/x", "x"),
        Entry::symlink("bin", "usr"),
        Entry::symlink("broken", "nowhere"),
        Entry::file(b"latin1-\xe9 \x1b[2J", ""),
    ]);
    for words in [
        &["bin"][..],
        &["bin/"],
        &["bin/", "-name", "bin"],
        &["usr/", "-name", "usr"],
        &["broken", "-print0"],
        &["usr", "-print", "-print0"],
        &["usr", "-depth", "-print", "-quit"],
        &["usr", "-quit"],
        &["usr", "-print", ",", "-name", "x"],
        &["usr", "-true", ",", "-false"],
        &["usr", "-false", ",", "-true"],
    ] {
        assert_eq!(unpacked.ocifs(&["find"], words), unpacked.other("find", words), "{words:?}");
    }
    for words in [["bin", "-print"], ["broken", "-print"]] {
        let expected = unpacked.other("find", &[&["-H"], &words[..]].concat());
        assert_eq!(unpacked.ocifs(&["find", "-H"], &words), expected, "{words:?}");
    }
    // Without a path it is the root, where `find` has the directory that it is in.
    assert_eq!(unpacked.ocifs(&["find"], &["-name", "x"]), "/usr/x\n");
    assert!(unpacked.ocifs(&["find"], &["/", "-maxdepth", "0"]) == "/\n");
    let long = unpacked.ocifs(&["find"], &["usr", "-maxdepth", "0", "-ls"]);
    assert!(
        long.starts_with("drwxr-xr-x   2     0     0       4096 1970-01-01 00:00 usr"),
        "{long}"
    );
}
