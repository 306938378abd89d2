//! Tests of the reference model: each rule on the smallest layers that show it.
//!
//! A model that is wrong makes the filesystem wrong in the same way, so what is expected here is
//! written by hand from the rules, as lines that [`show`] makes of a tree.

use super::reference::{Invalid, apply, show};
use crate::support::tarball::Entry;

type Layers = Vec<Vec<Entry>>;

fn d(path: &str) -> Entry {
    Entry::dir(path)
}

/// A file that contains its own path, as it is written here.
fn f(path: &str) -> Entry {
    Entry::file(path, path)
}

fn s(path: &str, target: &str) -> Entry {
    Entry::symlink(path, target)
}

fn h(path: &str, target: &str) -> Entry {
    Entry::hardlink(path, target)
}

fn check(cases: Vec<(&str, Layers, &str)>) {
    for (name, layers, expected) in cases {
        let shown = match apply(&layers) {
            Ok(tree) => show(&tree),
            Err(invalid) => format!("{invalid:?}"),
        };
        assert_eq!(shown, expected, "{name}");
    }
}

#[test]
fn paths_are_normalised() {
    check(vec![
        ("nothing", vec![], ""),
        ("leading", vec![vec![f("/a"), f("./b"), f(".//c")]], "a=/a b=./b c=.//c"),
        ("inner", vec![vec![f("a//b/./c")]], "a/ a/b/ a/b/c=a//b/./c"),
        ("up", vec![vec![f("x/../a")]], "a=x/../a"),
        ("trailing", vec![vec![d("a/"), f("b/")]], "a/ b=b/"),
        ("above", vec![vec![f("a/../../b")]], "AboveRoot"),
        ("empty", vec![vec![f("")]], "EmptyName"),
        ("root", vec![vec![d("./")]], ""),
        ("root as a file", vec![vec![f("a/..")]], "RootNotDirectory"),
        ("root as a link", vec![vec![s("/", "a")]], "RootNotDirectory"),
    ]);
}

#[test]
fn entries_replace_each_other() {
    check(vec![
        ("file by file", vec![vec![f("a")], vec![f("./a")]], "a=./a"),
        ("same layer", vec![vec![f("a"), f("./a")]], "a=./a"),
        ("dir keeps", vec![vec![f("a/x")], vec![d("a")]], "a/ a/x=a/x"),
        ("dir by file", vec![vec![f("a/x")], vec![f("a")]], "a=a"),
        ("file by dir", vec![vec![f("a")], vec![d("a")]], "a/"),
        ("dir by file by dir", vec![vec![f("a/x"), f("a"), d("a")]], "a/"),
        ("symlink not followed", vec![vec![d("d"), s("a", "d")], vec![d("a")]], "a/ d/"),
        ("symlink by file", vec![vec![f("t"), s("a", "t")], vec![f("a")]], "a=a t=t"),
        (
            "specials",
            vec![vec![
                Entry::char_device("c", 0, 0),
                Entry::block_device("b", 8, 1),
                Entry::fifo("p"),
            ]],
            "b:b8.1 c:c0.0 p|",
        ),
    ]);
}

#[test]
fn parents_are_resolved_and_made() {
    check(vec![
        ("missing", vec![vec![f("a/b/c")]], "a/ a/b/ a/b/c=a/b/c"),
        ("child first", vec![vec![f("a/b"), d("a")]], "a/ a/b=a/b"),
        ("lower file gives way", vec![vec![f("a")], vec![f("a/b")]], "a/ a/b=a/b"),
        ("own file does not", vec![vec![f("a"), f("a/b")]], "ParentNotDirectory"),
        (
            "own file over lower dir",
            vec![vec![d("a")], vec![f("a"), f("a/b")]],
            "ParentNotDirectory",
        ),
        ("symlink", vec![vec![d("d"), s("a", "d")], vec![f("a/b")]], "a->d d/ d/b=a/b"),
        ("own symlink", vec![vec![s("a", "d"), f("a/b")]], "a->d d/ d/b=a/b"),
        ("absolute", vec![vec![s("x/a", "/d"), f("x/a/b")]], "d/ d/b=x/a/b x/ x/a->/d"),
        ("relative", vec![vec![s("x/a", "d"), f("x/a/b")]], "x/ x/a->d x/d/ x/d/b=x/a/b"),
        ("above root", vec![vec![s("a", "../../d"), f("a/b")]], "a->../../d d/ d/b=a/b"),
        ("chain", vec![vec![s("a", "b"), s("b", "c"), f("a/x")]], "a->b b->c c/ c/x=a/x"),
        (
            "up by link",
            vec![vec![d("p/q"), s("a", "p/q/.."), f("a/x")]],
            "a->p/q/.. p/ p/q/ p/x=a/x",
        ),
        ("up after a missing one", vec![vec![s("a", "p/../q"), f("a/x")]], "a->p/../q q/ q/x=a/x"),
        ("to lower file", vec![vec![f("t"), s("a", "t")], vec![f("a/x")]], "a->t t/ t/x=a/x"),
        ("to own file", vec![vec![f("t"), s("a", "t"), f("a/x")]], "ParentNotDirectory"),
        ("to the root", vec![vec![s("a", "/"), f("a/x")]], "a->/ x=a/x"),
        ("loop", vec![vec![s("a", "b"), s("b", "a"), f("a/x")]], "TooManyLinks"),
        ("loop as last", vec![vec![s("a", "a")], vec![f("a")]], "a=a"),
    ]);
}

#[test]
fn links_are_followed_255_times() {
    let chain = |length: usize| {
        let mut layer: Vec<Entry> =
            (1..=length).map(|n| s(&format!("l{n}"), &format!("l{}", n - 1))).collect();
        layer.extend([d("l0"), f(&format!("l{length}/x"))]);
        apply(&[layer])
    };
    assert!(chain(255).expect("valid").contains_key(&b"l0/x"[..]));
    assert_eq!(chain(256), Err(Invalid::TooManyLinks));
}

#[test]
fn whiteouts_hide_what_is_below() {
    let lower = || vec![f("a/x"), f("a/y"), f("b")];
    check(vec![
        ("file", vec![lower(), vec![f(".wh.b")]], "a/ a/x=a/x a/y=a/y"),
        ("subtree", vec![lower(), vec![f(".wh.a")]], "b=b"),
        ("of nothing", vec![lower(), vec![f(".wh.c"), f("c/.wh.d")]], "a/ a/x=a/x a/y=a/y b=b"),
        ("not the own layer", vec![vec![f("a"), f(".wh.a")]], "a=a"),
        ("before entries", vec![lower(), vec![f("a/z"), f(".wh.a")]], "a/ a/z=a/z b=b"),
        ("any type", vec![lower(), vec![d("a/.wh.x"), h(".wh.b", "nowhere")]], "a/ a/y=a/y"),
        ("opaque", vec![lower(), vec![f("a/z"), f("a/.wh..wh..opq")]], "a/ a/z=a/z b=b"),
        ("opaque dir stays", vec![lower(), vec![f("a/.wh..wh..opq")]], "a/ b=b"),
        ("opaque root", vec![lower(), vec![f(".wh..wh..opq"), f("c")]], "c=c"),
        ("opaque of a file", vec![lower(), vec![f("b/.wh..wh..opq")]], "a/ a/x=a/x a/y=a/y b=b"),
        ("makes no parent", vec![vec![f("a/.wh.b")]], ""),
        ("two layers up", vec![lower(), vec![], vec![f(".wh.a")]], "b=b"),
        ("comes back", vec![lower(), vec![f(".wh.b")], vec![f("./b")]], "a/ a/x=a/x a/y=a/y b=./b"),
        (
            "lower file replaced by implied",
            vec![vec![f("a")], vec![f(".wh.a"), f("a/x")]],
            "a/ a/x=a/x",
        ),
    ]);
}

#[test]
fn whiteouts_follow_symlinks_of_lower_layers() {
    let lower = || vec![f("d/x"), f("d/y"), s("l", "d")];
    check(vec![
        ("followed", vec![lower(), vec![f("l/.wh.x")]], "d/ d/y=d/y l->d"),
        ("opaque", vec![lower(), vec![f("l/.wh..wh..opq")]], "d/ l->d"),
        ("last not followed", vec![lower(), vec![f(".wh.l")]], "d/ d/x=d/x d/y=d/y"),
        (
            "replaced by this layer",
            vec![lower(), vec![f("l/.wh.x"), d("l")]],
            "d/ d/x=d/x d/y=d/y l/",
        ),
        (
            "replaced further up",
            vec![vec![f("d/e/x"), s("l", "d")], vec![f("l/e/.wh.x"), s("l", "d")]],
            "d/ d/e/ d/e/x=d/e/x l->d",
        ),
        (
            "replaced behind a link",
            vec![vec![f("t/x"), s("d/e", "/t"), s("l", "d")], vec![f("l/e/.wh.x"), d("l/e")]],
            "d/ d/e/ l->d t/ t/x=t/x",
        ),
        ("only below", vec![lower(), vec![f("l/.wh.x"), f("l/z")]], "d/ d/y=d/y d/z=l/z l->d"),
        ("with the link", vec![lower(), vec![f(".wh.l"), f("l/.wh.x")]], "d/ d/y=d/y"),
        (
            "own symlink unseen",
            vec![vec![f("d/x")], vec![s("l", "d"), f("l/.wh.x")]],
            "d/ d/x=d/x l->d",
        ),
        ("dangling", vec![vec![s("l", "d")], vec![f("l/.wh.x")]], "l->d"),
        ("loop", vec![vec![s("l", "l")], vec![f("l/.wh.x")]], "TooManyLinks"),
    ]);
}

#[test]
fn hard_links_are_names() {
    check(vec![
        ("same layer", vec![vec![f("a"), h("b", "a")]], "a=ax2 b=ax2"),
        ("lower layer", vec![vec![f("a")], vec![h("b", "a")]], "a=ax2 b=ax2"),
        ("too early", vec![vec![h("b", "a"), f("a")]], "LinkTargetMissing"),
        ("early with lower", vec![vec![f("a")], vec![h("b", "a"), f("./a")]], "a=./a b=a"),
        ("to a directory", vec![vec![d("a"), h("b", "a")]], "LinkTargetDirectory"),
        ("to the root", vec![vec![h("b", "/")]], "LinkTargetDirectory"),
        ("above", vec![vec![h("b", "../a")]], "AboveRoot"),
        ("empty", vec![vec![h("b", "")]], "EmptyName"),
        ("missing parent", vec![vec![h("b", "x/a")]], "LinkTargetMissing"),
        ("below a file", vec![vec![f("x"), h("b", "x/a")]], "LinkTargetMissing"),
        ("spelled", vec![vec![f("a"), h("b", "/c/.././a")]], "a=ax2 b=ax2"),
        (
            "through a symlink",
            vec![vec![f("d/a"), s("l", "d"), h("b", "l/a")]],
            "b=d/ax2 d/ d/a=d/ax2 l->d",
        ),
        ("to a symlink", vec![vec![s("l", "t"), h("b", "l")]], "b->tx2 l->tx2"),
        ("to a fifo", vec![vec![Entry::fifo("p"), h("b", "p")]], "b|x2 p|x2"),
        ("to a link", vec![vec![f("a"), h("b", "a"), h("c", "b")]], "a=ax3 b=ax3 c=ax3"),
        ("itself", vec![vec![f("a"), h("a", "a")]], "a=a"),
        ("itself, from below", vec![vec![f("a")], vec![h("a", "a"), f("a/x")]], "a/ a/x=a/x"),
        (
            "itself by a symlink",
            vec![vec![f("d/a"), s("l", "d"), h("l/a", "d/a")]],
            "d/ d/a=d/a l->d",
        ),
        ("makes parents", vec![vec![f("a"), h("x/b", "a")]], "a=ax2 x/ x/b=ax2"),
    ]);
}

#[test]
fn hard_links_keep_their_inode() {
    check(vec![
        ("other replaced", vec![vec![f("a"), h("b", "a")], vec![f("./a")]], "a=./a b=a"),
        ("other hidden", vec![vec![f("a"), h("b", "a")], vec![f(".wh.a")]], "b=a"),
        ("to what is hidden", vec![vec![f("a")], vec![f(".wh.a"), h("b", "a")]], "b=a"),
        ("to itself, hidden", vec![vec![f("a")], vec![f(".wh.a"), h("a", "a")]], "a=a"),
        (
            "hidden twice named",
            vec![vec![f("a"), h("c", "a")], vec![f(".wh.a"), h("b", "a")]],
            "b=ax2 c=ax2",
        ),
        (
            "hidden, now new",
            vec![vec![f("a")], vec![f(".wh.a"), f("./a"), h("b", "a")]],
            "a=./ax2 b=./ax2",
        ),
        (
            "hidden directory",
            vec![vec![d("a")], vec![f(".wh.a"), h("b", "a")]],
            "LinkTargetDirectory",
        ),
        (
            "hidden parents stay away",
            vec![vec![f("d/a")], vec![f(".wh.d"), h("b", "d/a")]],
            "b=d/a",
        ),
        (
            "hidden two layers ago",
            vec![vec![f("a")], vec![f(".wh.a")], vec![h("b", "a")]],
            "LinkTargetMissing",
        ),
        ("replaces what holds it", vec![vec![f("d/a")], vec![h("d", "d/a")]], "d=d/a"),
        ("below its target", vec![vec![f("a")], vec![h("a/b", "a")]], "a/ a/b=a"),
        ("below its own target", vec![vec![f("a"), h("a/b", "a")]], "ParentNotDirectory"),
        (
            "a name of this layer",
            vec![vec![f("a")], vec![h("b", "a"), f("b/x")]],
            "ParentNotDirectory",
        ),
    ]);
}

#[test]
fn names_of_bookkeeping() {
    check(vec![
        ("of nothing", vec![vec![f("a/.wh.")]], "BadWhiteout"),
        ("of dot", vec![vec![f(".wh..")]], "BadWhiteout"),
        ("of dot dot", vec![vec![f(".wh...")]], "BadWhiteout"),
        ("of three dots", vec![vec![f("...")], vec![f(".wh....")]], ""),
        ("below a whiteout", vec![vec![f("a/.wh.b/c")]], ""),
        ("internal", vec![vec![f(".wh..wh.aufs"), d("a/.wh..wh.orph")]], ""),
        ("opaque inside", vec![vec![f("a")], vec![f(".wh..wh.x/.wh..wh..opq")]], "a=a"),
        (
            "plink",
            vec![vec![f(".wh..wh.plnk/1"), h("a", ".wh..wh.plnk/1"), h("b", "./.wh..wh.plnk//1")]],
            "a=.wh..wh.plnk/1x2 b=.wh..wh.plnk/1x2",
        ),
        (
            "plink once",
            vec![vec![f(".wh..wh.plnk/1"), h("a", ".wh..wh.plnk/1")]],
            "a=.wh..wh.plnk/1",
        ),
        (
            "plink of another layer",
            vec![vec![f(".wh..wh.plnk/1")], vec![h("a", ".wh..wh.plnk/1")]],
            "LinkTargetMissing",
        ),
        (
            "plink too early",
            vec![vec![h("a", ".wh..wh.plnk/1"), f(".wh..wh.plnk/1")]],
            "LinkTargetMissing",
        ),
        ("hidden link", vec![vec![h(".wh..wh.plnk/1", "nowhere")]], ""),
        ("whiteout as target", vec![vec![f(".wh.a"), h("b", ".wh.a")]], "LinkTargetMissing"),
    ]);
}

#[test]
fn attributes() {
    let tree = apply(&[
        vec![d("d").mode(0o700).xattr("user.a", "1").xattr("user.b", "2"), f("x/y")],
        vec![
            d(".").mode(0o40711).owner(1, 2).mtime(-1, 5).xattr("user.r", "3"),
            d("d").mode(0o2750).xattr("user.b", "4").xattr("user.b", "5"),
            s("s", "t").mode(0o600).owner(3, 4),
            f("f").mode(0o104755),
            h("g", "f").mode(0o600).owner(5, 6).mtime(7, 8).xattr("user.a", "1"),
        ],
    ])
    .expect("valid");
    let node = |path: &str| &tree[path.as_bytes()];
    let root = node("");
    assert_eq!((root.mode, root.uid, root.gid, root.mtime), (0o711, 1, 2, (-1, 5)));
    assert_eq!((root.xattrs[&b"user.r"[..]].as_slice(), root.nlink), (&b"3"[..], 4));
    assert_eq!((node("d").mode, node("d").xattrs.len(), node("d").nlink), (0o2750, 1, 2));
    assert_eq!(node("d").xattrs[&b"user.b"[..]], b"5");
    assert_eq!((node("s").mode, node("s").uid), (0o777, 3));
    assert_eq!((node("f").mode, node("g").mode, node("g").uid), (0o4755, 0o4755, 0));
    assert_eq!(node("f"), node("g"));
    assert_eq!((node("x").mode, node("x").mtime, node("x").nlink), (0o755, (0, 0), 2));
    assert_ne!(node("x").inode, node("d").inode);
    let empty = apply(&[]).expect("valid");
    let root = &empty[&b""[..]];
    assert_eq!((root.mode, root.uid, root.mtime, root.nlink), (0o755, 0, (0, 0), 2));
}
