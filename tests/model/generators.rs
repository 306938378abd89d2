//! Random stacks of layers for comparing the filesystem with the reference model.
//!
//! Names come from three letters and are at most three components deep, so that the entries of a
//! stack collide all the time: that is where the rules are hard. Left alone, such entries nearly
//! always make some layer invalid. Most stacks are therefore tamed, which takes out the entries
//! that the model refuses; the rest stay wild, to compare what is refused too.
//!
//! A stack that fails is reduced by proptest. [`render`] then turns it into code that can be
//! pasted into a test with a name.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::reference;
use crate::support::tarball::{Entry, Kind};

/// Stacks of 1 to 4 layers with up to 12 entries each, base first.
pub fn stacks() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let layers = vec(vec(draft(), 0..=12), 1..=4);
    (layers, prop::bool::weighted(0.85)).prop_map(|(drafts, tame)| {
        let stack = finish(drafts);
        if tame { tamed(stack) } else { stack }
    })
}

/// The stack as an expression, which makes it from constructors and leaves out defaults.
pub fn render(stack: &[Vec<Entry>]) -> String {
    let mut out = String::from("vec![\n");
    for layer in stack {
        out += "    vec![\n";
        for entry in layer {
            out += &format!("        {},\n", render_entry(entry));
        }
        out += "    ],\n";
    }
    out + "]"
}

fn render_entry(entry: &Entry) -> String {
    let path = literal(&entry.path);
    let (mut out, default) = match &entry.kind {
        Kind::File(data) => {
            (format!("Entry::file({path}, {})", literal(data)), Entry::file("", ""))
        }
        Kind::Dir => (format!("Entry::dir({path})"), Entry::dir("")),
        Kind::Symlink(target) => {
            (format!("Entry::symlink({path}, {})", literal(target)), Entry::symlink("", ""))
        }
        Kind::Hardlink(target) => {
            (format!("Entry::hardlink({path}, {})", literal(target)), Entry::hardlink("", ""))
        }
        Kind::Char { major, minor } => {
            (format!("Entry::char_device({path}, {major}, {minor})"), Entry::char_device("", 0, 0))
        }
        Kind::Block { major, minor } => (
            format!("Entry::block_device({path}, {major}, {minor})"),
            Entry::block_device("", 0, 0),
        ),
        Kind::Fifo => (format!("Entry::fifo({path})"), Entry::fifo("")),
    };
    if entry.mode != default.mode {
        out += &format!(".mode({:#o})", entry.mode);
    }
    if (entry.uid, entry.gid) != (default.uid, default.gid) {
        out += &format!(".owner({}, {})", entry.uid, entry.gid);
    }
    if entry.mtime != default.mtime {
        out += &format!(".mtime({}, {})", entry.mtime.0, entry.mtime.1);
    }
    for (name, value) in &entry.xattrs {
        out += &format!(".xattr({}, {})", literal(name), literal(value));
    }
    out
}

fn literal(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("b\"{}\"", bytes.escape_ascii()),
    }
}

/// An entry whose hard link target may still have to be chosen.
#[derive(Clone, Debug)]
struct Draft {
    entry: Entry,
    /// Which of the files before it a hard link is to, rather than the path it has.
    link_to: Option<Index>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let base = prop_oneof![
        24 => spelled().prop_map(Entry::dir),
        26 => (spelled(), content()).prop_map(|(path, data)| Entry::file(path, data)),
        12 => (spelled(), target()).prop_map(|(path, target)| Entry::symlink(path, target)),
        10 => (spelled(), spelled()).prop_map(|(path, other)| Entry::hardlink(path, other)),
        2 => (spelled(), 0..3u32, 0..300u32)
            .prop_map(|(path, major, minor)| Entry::char_device(path, major, minor)),
        1 => spelled().prop_map(|path| Entry::block_device(path, 8, 1)),
        2 => spelled().prop_map(Entry::fifo),
        13 => path().prop_map(|path| whiteout(&path)),
        6 => prop_oneof![2 => path(), 1 => Just(String::new())]
            .prop_map(|path| Entry::file(format!("{path}/.wh..wh..opq"), "")),
        2 => (component(), content())
            .prop_map(|(name, data)| Entry::file(format!(".wh..wh.plnk/{name}"), data)),
        1 => Just(Entry::dir("./")),
    ];
    (base, attributes(), prop::option::weighted(0.8, any::<Index>())).prop_map(
        |(entry, (mode, (uid, gid), mtime, xattrs), link_to)| {
            let mode = mode.unwrap_or(entry.mode);
            Draft { entry: Entry { mode, uid, gid, mtime, xattrs, ..entry }, link_to }
        },
    )
}

type Attributes = (Option<u32>, (u32, u32), (i64, u32), Vec<(Vec<u8>, Vec<u8>)>);

/// Attributes, where the plain ones come first, since reduction goes there.
fn attributes() -> impl Strategy<Value = Attributes> {
    let mode = prop_oneof![
        3 => Just(None),
        1 => select(&[0o600, 0o700, 0, 0o1777, 0o2750, 0o4755, 0o6711][..]).prop_map(Some),
    ];
    let owner = prop_oneof![
        3 => Just((0, 0)),
        1 => select(&[(1, 2), (1000, 1000), (65534, 65534), (3_000_000, u32::MAX - 1)][..]),
    ];
    let times = vec![(1, 0), (1_700_000_000, 123_456_789), (0, 1), (-1, 500_000_000), (-7, 0)];
    let mtime = prop_oneof![3 => Just((0, 0)), 1 => select(times)];
    let names = select(&["user.a", "user.b", "trusted.c", "security.capability"][..]);
    let values = select(vec![&b"1"[..], b"two", b"\x00\xff=\n"]);
    let xattr = (names, values).prop_map(|(name, value)| (name.into(), value.to_vec()));
    let xattrs = prop_oneof![4 => Just(Vec::new()), 1 => vec(xattr, 1..=2)];
    (mode, owner, mtime, xattrs)
}

fn component() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "c"][..])
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![3 => vec(component(), 1), 3 => vec(component(), 2), 2 => vec(component(), 3)]
        .prop_map(|components| components.join("/"))
}

/// A path in one of the spellings that mean the same.
fn spelled() -> impl Strategy<Value = String> {
    (path(), prop_oneof![6 => Just(""), 1 => select(&["./", "/", "c/../", ".//"][..])])
        .prop_map(|(path, prefix)| format!("{prefix}{path}"))
}

/// Targets of symlinks: relative, upwards, absolute, through names and back, or nowhere.
fn target() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        4 => Just(""),
        3 => select(&["/", "../", "../../", "./", "a/../", "/../"][..]),
    ];
    prop_oneof![
        12 => (prefix, path()).prop_map(|(prefix, path)| format!("{prefix}{path}")),
        1 => select(&[".", "..", "/", "a/..", "nowhere"][..]).prop_map(str::to_string),
    ]
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(String::new()), 4 => "[x-z]{1,3}"]
}

fn whiteout(path: &str) -> Entry {
    match path.rsplit_once('/') {
        Some((parent, name)) => Entry::file(format!("{parent}/.wh.{name}"), ""),
        None => Entry::file(format!(".wh.{path}"), ""),
    }
}

/// Chooses the targets of hard links among the files that come before them in the stack.
fn finish(drafts: Vec<Vec<Draft>>) -> Vec<Vec<Entry>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut stack = Vec::new();
    for drafts in drafts {
        let mut layer = Vec::new();
        for Draft { mut entry, link_to } in drafts {
            match &mut entry.kind {
                Kind::Hardlink(target) => {
                    if let Some(index) = link_to
                        && !files.is_empty()
                    {
                        *target = index.get(&files).clone();
                    }
                }
                Kind::Dir => {}
                _ => files.push(entry.path.clone()),
            }
            layer.push(entry);
        }
        stack.push(layer);
    }
    stack
}

/// The stack without the entries that make it invalid when they are added one after the other.
pub fn tamed(stack: Vec<Vec<Entry>>) -> Vec<Vec<Entry>> {
    let mut tame: Vec<Vec<Entry>> = Vec::new();
    for layer in stack {
        tame.push(Vec::new());
        for entry in layer {
            let last = tame.len() - 1;
            tame[last].push(entry);
            if reference::apply(&tame).is_err() {
                tame[last].pop();
            }
        }
    }
    tame
}
