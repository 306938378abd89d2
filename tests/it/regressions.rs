//! The corpus of real-world bugs, each as the smallest image that shows it.
//!
//! Every case names the report it comes from. The expected tree is written by hand; the real
//! implementation and the reference model both have to give it.

use crate::layers::{index, real};
use crate::model::reference::{self, show};
use crate::support::tarball::{Entry, TarWriter, tar};

fn f(path: &str, data: &str) -> Entry {
    Entry::file(path, data)
}

fn d(path: &str) -> Entry {
    Entry::dir(path)
}

fn s(path: &str, target: &str) -> Entry {
    Entry::symlink(path, target)
}

fn h(path: &str, target: &str) -> Entry {
    Entry::hardlink(path, target)
}

fn check(report: &str, stack: &[Vec<Entry>], expected: &str) {
    let model = reference::apply(stack).unwrap_or_else(|e| panic!("{report}: model: {e:?}"));
    let real = real(stack).unwrap_or_else(|e| panic!("{report}: {e}"));
    assert_eq!(show(&model), expected, "{report}: the model");
    assert_eq!(real, model, "{report}: shows {}", show(&real));
}

#[test]
fn hard_links() {
    check(
        "docker2aci#98, anchore/stereoscope#670: the target is deleted above",
        &[vec![f("a", "1"), h("b", "a")], vec![f(".wh.a", "")]],
        "b=1",
    );
    check(
        "the target is replaced above: the link keeps the old content",
        &[vec![f("a", "1"), h("b", "a")], vec![f("a", "2")]],
        "a=2 b=1",
    );
    check(
        "buildah#6297: a chain of links",
        &[vec![f("a", "1"), h("b", "a"), h("c", "b"), h("d/e", "c")]],
        "a=1x4 b=1x4 c=1x4 d/ d/e=1x4",
    );
    check(
        "a link to a file of a lower layer",
        &[vec![f("a", "1")], vec![h("b", "a")]],
        "a=1x2 b=1x2",
    );
    check(
        "google/crfs#20: link counts, also of links to symlinks",
        &[vec![s("a", "x"), h("b", "a")]],
        "a->xx2 b->xx2",
    );
    check(
        "the layer hides the target of its own link",
        &[vec![f("a", "1")], vec![f(".wh.a", ""), h("b", "a")]],
        "b=1",
    );
    check(
        "AUFS keeps the content of links in hidden files",
        &[vec![f(".wh..wh.plnk/1.2", "1"), h("a", ".wh..wh.plnk/1.2"), h("b", ".wh..wh.plnk/1.2")]],
        "a=1x2 b=1x2",
    );
}

#[test]
fn whiteouts_and_opaque_marks() {
    check(
        "moby#17819, umoci#232: a whiteout behind an entry of the same layer",
        &[vec![f("a", "1")], vec![f("a", "2"), f(".wh.a", "")]],
        "a=2",
    );
    check(
        "an opaque mark last in the tar",
        &[vec![d("d"), f("d/a", "1")], vec![d("d"), f("d/b", "2"), f("d/.wh..wh..opq", "")]],
        "d/ d/b=2",
    );
    check(
        "anchore/stereoscope#694: an opaque directory over a lower symlink",
        &[
            vec![d("real"), f("real/keep", "1"), s("d", "real")],
            vec![d("d"), f("d/.wh..wh..opq", ""), f("d/new", "2")],
        ],
        "d/ d/new=2 real/ real/keep=1",
    );
    check(
        "a whiteout through a lower symlink that stays",
        &[vec![f("real/a", "1"), s("d", "real")], vec![f("d/.wh.a", "")]],
        "d->real real/",
    );
    check(
        "implied parents, then a whiteout of them",
        &[vec![f("a/b/c", "1")], vec![f("a/.wh.b", ""), f("a/d", "2")]],
        "a/ a/d=2",
    );
    check(
        "a whiteout of a directory that the layer fills again",
        &[vec![f("d/a", "1"), f("d/b", "2")], vec![f("d/c", "3"), f(".wh.d", "")]],
        "d/ d/c=3",
    );
    check(
        ".wh..wh.plnk and names below .wh.x are never shown",
        &[vec![f(".wh..wh.plnk/x", "1"), f(".wh.x/y", "2"), f(".wh..wh.aufs", ""), f("a", "3")]],
        "a=3",
    );
    check("a device 0:0 is a device", &[vec![Entry::char_device("a", 0, 0)]], "a:c0.0");
    for name in [".wh.", ".wh..", ".wh..."] {
        let error = real(&[vec![f(name, "")]]).expect_err(name);
        assert!(error.contains("whiteout"), "{error}");
    }
}

#[test]
fn types_and_parents() {
    check(
        "directory, file, directory over three layers",
        &[vec![f("a/x", "1")], vec![f("a", "2")], vec![f("a/y", "3")]],
        "a/ a/y=3",
    );
    check(
        "an entry below a symlinked parent",
        &[vec![d("usr"), d("usr/lib"), s("lib", "usr/lib")], vec![f("lib/x", "1")]],
        "lib->usr/lib usr/ usr/lib/ usr/lib/x=1",
    );
    check(
        "below an absolute symlink that leaves and comes back",
        &[vec![d("a"), s("l", "/../../a")], vec![f("l/x", "1")]],
        "a/ a/x=1 l->/../../a",
    );
    check(
        "a directory over a symlink to one replaces the symlink",
        &[vec![f("real/x", "1"), s("l", "real")], vec![d("l"), f("l/y", "2")]],
        "l/ l/y=2 real/ real/x=1",
    );
    check(
        "the same name twice in one tar: the last wins",
        &[vec![f("a", "1"), d("b"), f("a", "2"), f("b", "3")]],
        "a=2 b=3",
    );
    check(
        "children before their directory",
        &[vec![f("a/b", "1"), d("a").mode(0o700)]],
        "a/ a/b=1",
    );
    let error = real(&[vec![f("a", "1"), f("a/b", "2")]]).expect_err("a file as a parent");
    assert!(error.contains("to be a directory"), "{error}");
    let error = real(&[vec![s("a", "b"), s("b", "a"), f("a/x", "")]]).expect_err("a loop");
    assert!(error.contains("symbolic links"), "{error}");
}

#[test]
fn the_root_directory() {
    let tree = real(&[vec![f("a", "")]]).unwrap();
    assert_eq!((tree[&b""[..]].mode, tree[&b""[..]].mtime), (0o755, (0, 0)), "no entry for it");
    let tree = real(&[vec![d("./").mode(0o700).owner(1, 2).mtime(3, 4)]]).unwrap();
    let root = &tree[&b""[..]];
    assert_eq!((root.mode, root.uid, root.gid, root.mtime), (0o700, 1, 2, (3, 4)));
}

#[test]
fn sparse_files_in_all_four_encodings() {
    let real_size = 1_000_000;
    let regions: Vec<(u64, Vec<u8>)> =
        (0..30).map(|n: u8| (u64::from(n) * 20_480, vec![n + 1; 512])).collect();
    let regions: Vec<(u64, &[u8])> = regions.iter().map(|(at, data)| (*at, &data[..])).collect();
    let mut expected = vec![0; real_size as usize];
    for (at, data) in &regions {
        expected[*at as usize..][..data.len()].copy_from_slice(data);
    }
    type Write = fn(&mut TarWriter, &[(u64, &[u8])]);
    let encodings: [(&str, Write); 4] = [
        ("old GNU", |w, r| {
            w.sparse_old_gnu("file", 1_000_000, r);
        }),
        ("PAX 0.0", |w, r| {
            w.sparse_pax_0_0("file", 1_000_000, r);
        }),
        ("PAX 0.1", |w, r| {
            w.sparse_pax_0_1("file", 1_000_000, r);
        }),
        ("PAX 1.0", |w, r| {
            w.sparse_pax_1_0("file", 1_000_000, r);
        }),
    ];
    for (name, write) in encodings {
        let mut writer = TarWriter::new();
        write(&mut writer, &regions);
        // What follows must be found behind the stored content.
        writer.entry(&f("after", "x"));
        let tars = [writer.finish()];
        let tree = crate::layers::merge(&tars).unwrap_or_else(|e| panic!("{name}: {e}"));
        let nodes = crate::layers::snapshot(&tree, &tars);
        assert!(nodes[&b"file"[..]].content == expected, "{name}");
        assert_eq!(nodes[&b"after"[..]].content, b"x", "{name}");
        let file = tree.attributes(tree.lookup(ocifs::tree::Ino::ROOT, b"file").unwrap());
        assert_eq!((file.size, file.blocks), (real_size, 32), "{name}: holes take no blocks");
    }
}

#[test]
fn odd_names_and_sizes() {
    let long = "n".repeat(255);
    let deep = vec!["d"; 2000].join("/");
    let name = b"caf\xe9 \xff\n".to_vec();
    let tree = real(&[vec![
        f(&long, "1"),
        f(&deep, "2"),
        Entry::file(&name, "3").xattr("user.x", [0u8, 255, 10]),
    ]])
    .unwrap();
    assert_eq!(tree[long.as_bytes()].content, b"1");
    assert_eq!(tree[deep.as_bytes()].content, b"2");
    let value = &tree[&name].xattrs[&b"user.x"[..]];
    assert_eq!(value, &[0, 255, 10]);
    for (path, words) in [("n".repeat(256), "255"), (vec!["dd"; 2000].join("/"), "4096")] {
        let error = index(&tar(&[f(&path, "")])).expect_err("too long");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_empty_layer_is_a_layer() {
    assert_eq!(show(&real(&[vec![], vec![f("a", "1")], vec![]]).unwrap()), "a=1");
    index(b"").expect("not even an end marker");
}

#[test]
fn a_stack_of_many_layers() {
    let mut stack: Vec<Vec<Entry>> =
        (0..500).map(|n: u32| vec![f("last", &n.to_string()), f(&format!("l{n}"), "")]).collect();
    stack.push(vec![f(".wh.l0", "")]);
    let tree = real(&stack).unwrap();
    assert_eq!(tree[&b"last"[..]].content, b"499");
    assert_eq!(tree.len(), 1 + 1 + 499);
}
