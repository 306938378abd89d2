//! Stacks of layers: what an upper layer hides, replaces, and leaves as it is.

use crate::oracle::{Case, gzip_image};
use crate::support::tarball::{Entry, tar};

fn whiteout(path: &str) -> Entry {
    let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
    let slash = if dir.is_empty() { "" } else { "/" };
    Entry::file(format!("{dir}{slash}.wh.{name}"), "")
}

fn opaque(dir: &str) -> Entry {
    Entry::file(format!("{dir}/.wh..wh..opq"), "")
}

#[test]
fn whiteouts() {
    Case::layers(&[
        &[
            Entry::dir("d").mtime(5, 0),
            Entry::file("d/file", "x"),
            Entry::file("d/stays", "x"),
            Entry::dir("d/sub"),
            Entry::dir("d/sub/sub"),
            Entry::file("d/sub/sub/file", "x"),
            Entry::file("target", "stays"),
            Entry::symlink("link", "target"),
            Entry::fifo("fifo"),
            Entry::file("back", "first"),
            Entry::file("a", "prefix of the next"),
            Entry::file("ab", "x"),
        ],
        &[
            whiteout("d/file"),
            whiteout("d/sub"),
            whiteout("link"),
            whiteout("fifo"),
            whiteout("back"),
            whiteout("a"),
            whiteout("nothing"),
            whiteout("no/such/dir"),
        ],
        &[Entry::file("back", "again").mode(0o600), whiteout("ab"), Entry::file("abc", "x")],
    ])
    .check("whiteouts");
}

#[test]
fn whiteout_and_addition_in_one_layer() {
    let lower = [
        Entry::dir("d").mode(0o711),
        Entry::file("d/low", "x"),
        Entry::file("first", "low"),
        Entry::file("last", "low"),
        Entry::dir("e"),
        Entry::file("e/low", "x"),
    ];
    Case::layers(&[
        &lower,
        &[
            // The mark comes first, then the new content; and the other way round.
            whiteout("first"),
            Entry::file("first", "new"),
            Entry::file("last", "new"),
            whiteout("last"),
            whiteout("d"),
            Entry::dir("d").mode(0o700),
            Entry::file("d/new", "x"),
            Entry::dir("e").mode(0o700),
            Entry::file("e/new", "x"),
            whiteout("e"),
        ],
    ])
    .touched("e")
    .check("whiteout_and_addition_in_one_layer");
}

/// A whiteout means the lower directory with its attributes, wherever in the tar it stands. umoci
/// 0.4.7 goes by the order: once something is unpacked below, it keeps the lower directory.
#[test]
fn whiteout_of_a_directory_that_only_gets_new_children() {
    let lower = [
        Entry::dir("before").mode(0o700).owner(1, 2),
        Entry::file("before/low", "x"),
        Entry::dir("after").mode(0o700).owner(1, 2),
        Entry::file("after/low", "x"),
    ];
    Case::layers(&[
        &lower,
        &[
            whiteout("before"),
            Entry::file("before/new", "x"),
            Entry::file("after/new", "x"),
            whiteout("after"),
        ],
    ])
    .implied("before")
    .implied("after")
    .touched("")
    .check("whiteout_of_a_directory_that_only_gets_new_children");
}

/// umoci 0.4.7 has removed the target when it comes to the link. A whiteout acts on the lower
/// layers wherever it stands, so that the twin has it behind the link.
#[test]
fn hard_link_to_what_the_same_layer_hides() {
    let lower = [Entry::file("file", "x").mode(0o640)];
    let hidden = [whiteout("file"), Entry::hardlink("link", "file")];
    let twin = [tar(&lower), tar(&[hidden[1].clone(), hidden[0].clone()])];
    Case::layers(&[&lower, &hidden])
        .twin(gzip_image(&twin))
        .check("hard_link_to_what_the_same_layer_hides");
}

/// umoci 0.4.7 fails on this. `ocifs` lets the upper layer have its way, as if the directory had
/// an entry, which it has in the twin.
#[test]
fn lower_file_in_the_way_of_an_implied_directory() {
    let lower = tar(&[Entry::file("a", "x"), Entry::fifo("b")]);
    let children = [Entry::file("a/x", "x"), Entry::file("b/c/y", "y")];
    let parents = [Entry::dir("a"), Entry::dir("b"), Entry::dir("b/c")];
    let twin = tar(&[&parents[..], &children[..]].concat());
    Case::tars(&[lower.clone(), tar(&children)])
        .twin(gzip_image(&[lower, twin]))
        .check("lower_file_in_the_way_of_an_implied_directory");
}

#[test]
fn opaque_first_and_last() {
    let lower = [
        Entry::dir("d").mode(0o711).mtime(3, 0),
        Entry::file("d/low", "x"),
        Entry::file("d/both", "low"),
        Entry::dir("d/sub"),
        Entry::file("d/sub/low", "x"),
        Entry::dir("d/other"),
        Entry::file("d/other/low", "x"),
    ];
    let upper = [
        Entry::dir("d").mode(0o700),
        Entry::file("d/both", "new"),
        Entry::dir("d/sub"),
        Entry::file("d/sub/new", "x"),
    ];
    let first: Vec<Entry> =
        [upper[0].clone(), opaque("d")].into_iter().chain(upper[1..].to_vec()).collect();
    Case::layers(&[&lower, &first]).check("opaque_first");
    let last: Vec<Entry> = upper.iter().cloned().chain([opaque("d")]).collect();
    Case::layers(&[&lower, &last]).touched("d/sub").check("opaque_last");
}

#[test]
fn opaque_without_an_entry_for_its_directory() {
    Case::layers(&[
        &[
            Entry::dir("d").mode(0o711).owner(1, 2).mtime(3, 4).xattr("user.kept", "x"),
            Entry::file("d/low", "x"),
            Entry::file("d/file", "x"),
        ],
        &[opaque("d"), opaque("d/file"), opaque("missing"), Entry::file("d/new", "x")],
    ])
    .check("opaque_without_an_entry_for_its_directory");
}

#[test]
fn opaque_root() {
    Case::layers(&[
        &[Entry::dir("d"), Entry::file("d/low", "x"), Entry::file("file", "x")],
        &[Entry::file(".wh..wh..opq", ""), Entry::file("new", "x")],
    ])
    .check("opaque_root");
}

#[test]
fn whiteouts_in_the_lowest_layer() {
    Case::layers(&[&[whiteout("x"), Entry::dir("d"), opaque("d"), Entry::file("d/x", "x")]])
        .check("whiteouts_in_the_lowest_layer");
}

/// umoci 0.4.7 takes AUFS' own files for whiteouts and unpacks what is in its folders. Docker
/// and containerd leave them out, so that the twin has none.
#[test]
fn aufs_files() {
    let file = Entry::file("file", "x");
    let aufs = [
        Entry::file(".wh..wh.aufs", ""),
        Entry::dir(".wh..wh.orph"),
        Entry::dir(".wh..wh.plnk"),
        Entry::file(".wh..wh.plnk/12.34", "linked"),
        file.clone(),
        Entry::hardlink("hard", ".wh..wh.plnk/12.34"),
        Entry::hardlink("hard2", ".wh..wh.plnk/12.34"),
    ];
    let twin = [Entry::file("hard", "linked"), Entry::hardlink("hard2", "hard"), file];
    let twin = gzip_image(&[tar(&twin)]);
    Case::layers(&[&aufs]).twin(twin).check("aufs_files");
}

#[test]
fn hard_links_in_one_layer() {
    Case::layers(&[&[
        Entry::dir("d"),
        Entry::file("d/a", "content").mode(0o640).owner(1, 2).mtime(5, 6).xattr("user.k", "v"),
        // Neither a link's own attributes nor its size mean anything.
        Entry::hardlink("b", "d/a").mode(0o777).owner(9, 9).mtime(9, 9),
        Entry::hardlink("d/c", "b"),
        Entry::hardlink("e", "./d/../d/c"),
        Entry::symlink("symlink", "d/a"),
        Entry::hardlink("to-symlink", "symlink"),
        Entry::fifo("fifo"),
        Entry::hardlink("to-fifo", "fifo"),
        Entry::char_device("null", 1, 3),
        Entry::hardlink("to-null", "null"),
        Entry::symlink("dir-link", "d"),
        Entry::hardlink("through", "dir-link/a"),
        Entry::file("empty", ""),
        Entry::hardlink("to-empty", "empty"),
    ]])
    .check("hard_links_in_one_layer");
}

#[test]
fn hard_links_across_layers() {
    let lower = [
        Entry::dir("d"),
        Entry::file("d/a", "low").mtime(1, 0),
        Entry::hardlink("d/b", "d/a"),
        Entry::file("deleted", "kept by its other name"),
        Entry::hardlink("survivor", "deleted"),
        Entry::file("alone", "x"),
        Entry::file("replaced", "old"),
        Entry::hardlink("keeps-old", "replaced"),
        Entry::symlink("symlink", "alone"),
    ];
    Case::layers(&[
        &lower,
        &[
            Entry::hardlink("c", "d/b"),
            Entry::hardlink("d/e", "c"),
            whiteout("deleted"),
            Entry::hardlink("to-alone", "alone"),
            Entry::file("replaced", "new"),
            Entry::hardlink("to-new", "replaced"),
            Entry::hardlink("to-symlink", "symlink"),
            // The old file goes, the link takes its place.
            Entry::hardlink("survivor", "replaced"),
        ],
        &[whiteout("d"), Entry::file("c", "no longer linked"), Entry::hardlink("alone", "to-new")],
    ])
    .check("hard_links_across_layers");
}

#[test]
fn hard_link_to_a_name_that_changes_later_in_the_layer() {
    Case::layers(&[
        &[Entry::file("a", "low")],
        &[Entry::hardlink("b", "a"), Entry::file("a", "new"), Entry::hardlink("c", "a")],
    ])
    .check("hard_link_to_a_name_that_changes_later_in_the_layer");
}

/// Makes the entries of one kind at a path.
type Make = fn(&str) -> Vec<Entry>;

#[test]
fn changes_of_type() {
    let kinds: [(&str, Make); 5] = [
        ("dir", |path| {
            vec![
                Entry::dir(path).mode(0o711).owner(1, 2).mtime(3, 4),
                Entry::file(format!("{path}/below"), path),
            ]
        }),
        ("file", |path| vec![Entry::file(path, path).mode(0o640).mtime(5, 6)]),
        ("symlink", |path| vec![Entry::symlink(path, "elsewhere").mtime(7, 8)]),
        ("dirlink", |path| vec![Entry::symlink(path, "elsewhere.d").mtime(7, 8)]),
        ("fifo", |path| vec![Entry::fifo(path).mode(0o600).mtime(9, 1)]),
    ];
    let mut layers = [
        vec![Entry::file("elsewhere", "untouched"), Entry::dir("elsewhere.d")],
        Vec::new(),
        Vec::new(),
    ];
    // Every kind over every kind over every kind.
    for (bottom, first) in kinds {
        for (middle, second) in kinds {
            for (top, third) in kinds {
                let path = format!("{bottom}.{middle}.{top}");
                layers[0].extend(first(&path));
                layers[1].extend(second(&path));
                layers[2].extend(third(&path));
            }
        }
    }
    Case::layers(&[&layers[0], &layers[1], &layers[2]]).check("changes_of_type");
}

#[test]
fn directories_merge_with_the_upper_attributes() {
    Case::layers(&[
        &[
            Entry::dir("d").mode(0o700).owner(1, 1).mtime(1, 1).xattr("user.low", "1"),
            Entry::file("d/low", "x"),
            Entry::dir("kept").mode(0o701).owner(4, 4).mtime(4, 4).xattr("user.low", "1"),
        ],
        &[
            Entry::dir("d").mode(0o755).owner(2, 2).mtime(2, 2).xattr("user.high", "2"),
            Entry::file("d/high", "x"),
            Entry::file("kept/high", "x"),
        ],
    ])
    .check("directories_merge_with_the_upper_attributes");
}

#[test]
fn symlinked_parents_in_one_layer() {
    Case::layers(&[&[
        Entry::dir("usr"),
        Entry::dir("usr/lib").mtime(6, 0),
        Entry::symlink("lib", "usr/lib"),
        Entry::file("lib/a", "relative"),
        Entry::symlink("abs", "/usr/lib"),
        Entry::file("abs/b", "absolute"),
        Entry::symlink("usr/lib/up", "../../usr"),
        Entry::file("lib/up/c", "dots"),
        Entry::symlink("out", "../../../usr"),
        Entry::file("out/d", "stays inside"),
        Entry::symlink("one", "two"),
        Entry::symlink("two", "./abs/.//"),
        Entry::file("one/e", "chain"),
        Entry::dir("lib/f").mode(0o700),
        Entry::hardlink("one/g", "abs/a"),
        Entry::symlink("lib/h", "a"),
    ]])
    .check("symlinked_parents_in_one_layer");
}

#[test]
fn symlinked_parents_of_a_lower_layer() {
    Case::layers(&[
        &[
            Entry::dir("usr"),
            Entry::dir("usr/lib").mode(0o711),
            Entry::file("usr/lib/low", "x"),
            Entry::file("usr/lib/gone", "x"),
            Entry::dir("usr/share"),
            Entry::file("usr/share/low", "x"),
            Entry::symlink("lib", "usr/lib"),
            Entry::symlink("share", "/usr/../usr/share"),
            Entry::symlink("becomes-dir", "usr/lib"),
        ],
        &[
            Entry::file("lib/new", "x"),
            whiteout("lib/gone"),
            opaque("share"),
            Entry::file("share/new", "x"),
            Entry::hardlink("linked", "lib/low"),
            // A directory over a symlink replaces it, whatever it led to.
            Entry::dir("becomes-dir"),
            Entry::file("becomes-dir/x", "x"),
        ],
    ])
    .check("symlinked_parents_of_a_lower_layer");
}

#[test]
fn dangling_symlinked_parents() {
    Case::layers(&[
        &[Entry::symlink("relative", "made/here"), Entry::symlink("absolute", "/there")],
        &[Entry::file("relative/x", "x"), Entry::file("absolute/sub/y", "y")],
    ])
    .implied("made")
    .implied("made/here")
    .implied("there")
    .implied("there/sub")
    .touched("")
    .check("dangling_symlinked_parents");
}

#[test]
fn implied_parents() {
    Case::layers(&[
        &[Entry::file("a/b/c/file", "x"), Entry::dir("e/f").mode(0o700).mtime(5, 0)],
        // Described later: the description holds.
        &[Entry::file("g/h/file", "x"), Entry::dir("g").mode(0o711).owner(1, 1).mtime(7, 0)],
        // Below what is there: its attributes remain.
        &[Entry::file("e/f/new", "x"), Entry::file("a/b/new", "x")],
    ])
    .implied("a")
    .implied("a/b")
    .implied("a/b/c")
    .implied("e")
    .implied("g/h")
    .touched("")
    .check("implied_parents");
}

#[test]
fn children_before_their_directory() {
    Case::layers(&[&[
        Entry::file("d/x", "x"),
        Entry::dir("d").mode(0o750).owner(1, 2).mtime(3, 4).xattr("user.k", "v"),
        Entry::dir("e"),
        Entry::file("e/y", "y"),
    ]])
    .touched("")
    .check("children_before_their_directory");
}

#[test]
fn a_hundred_and_thirty_layers() {
    let mut layers = vec![vec![Entry::dir("d")]];
    for number in 1..130 {
        let mut layer = vec![
            Entry::file(format!("d/{number}"), number.to_string()).mtime(number, 0),
            Entry::file("changes", number.to_string()).mtime(number, 0),
        ];
        if number % 3 == 0 {
            layer.push(whiteout(&format!("d/{}", number - 2)));
        }
        layers.push(layer);
    }
    let layers: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
    Case::layers(&layers).check("a_hundred_and_thirty_layers");
}
