//! Entries whose names no file system could hold, or that try to get out of the image.

use crate::fixture::{GOOD, Verdict, accepts, exists, image_of, options, read, refuses};
use crate::support::image::Compression;
use crate::support::tarball::{Entry, TarWriter, put, tar};

fn file(path: &str) -> Vec<u8> {
    tar(&[Entry::file(path, GOOD)])
}

/// An archive of an entry with this name and these other entries before it.
fn after(first: &[Entry], last: Entry) -> Vec<u8> {
    tar(&[first, &[last]].concat())
}

#[test]
fn impossible_names_are_refused() {
    let deep = "d/".repeat(2500);
    let gnu_long = |name: &[u8]| {
        let mut writer = TarWriter::new();
        writer.gnu_long_name(name).entry(&Entry::file("short", GOOD));
        writer.finish()
    };
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("..", file(".."), &["climbs above the root"]),
        ("../f", file("../f"), &["../f", "climbs above the root"]),
        ("a/../../f", file("a/../../f"), &["climbs above the root"]),
        ("/../f", file("/../f"), &["climbs above the root"]),
        ("./../etc/passwd", file("./../etc/passwd"), &["climbs above the root"]),
        ("long ../", gnu_long(&b"../".repeat(100)), &["climbs above the root"]),
        ("empty", file(""), &["empty name"]),
        ("256 bytes", file(&"n".repeat(256)), &["longer than 255 bytes"]),
        ("256 bytes inside", file(&format!("a/{}/b", "n".repeat(256))), &["255 bytes"]),
        ("5000 bytes deep", file(&deep), &["longer than 4096 bytes"]),
        ("5000 bytes by GNU", gnu_long(&b"e/".repeat(2500)), &["longer than 4096 bytes"]),
        ("5000 bytes flat", file(&"n".repeat(5000)), &["bytes"]),
        ("target of 5000 bytes", tar(&[Entry::symlink("l", "t".repeat(5000))]), &["4095 bytes"]),
        ("empty target", tar(&[Entry::symlink("l", "")]), &["target is empty"]),
        ("root as a file", file("/"), &["root directory"]),
        ("root as a file by .", file("."), &["root directory"]),
        ("root as a file by a/..", file("a/.."), &["root directory"]),
        ("root as a symlink", tar(&[Entry::symlink("./", "etc")]), &["root directory"]),
        ("root as a device", tar(&[Entry::char_device(".", 1, 3)]), &["root directory"]),
        ("whiteout of nothing", file(".wh."), &["whiteouts of nothing"]),
        ("whiteout of .", file(".wh.."), &["whiteouts of nothing"]),
        ("whiteout of ..", file(".wh..."), &["whiteouts of nothing"]),
        ("whiteout of .. below", file("a/.wh..."), &["whiteouts of nothing"]),
        ("whiteout that climbs", file("../.wh.f"), &["climbs above the root"]),
    ];
    let mut verdict = Verdict::default();
    for (what, archive, words) in rows {
        verdict.row(what, refuses(&image_of(&archive, Compression::Gzip), &options(), words));
    }
    verdict.end();
}

#[test]
fn odd_names_are_cleaned_or_kept() {
    let long = "n".repeat(255);
    let deep = format!("{}f", "d/".repeat(2047));
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("absolute", file("/etc/f"), "etc/f"),
        ("many slashes", file("///etc//.//f"), "etc/f"),
        (".. inside", file("a/b/../../etc/f"), "etc/f"),
        ("255 bytes", file(&long), &long),
        ("4095 bytes", file(&deep), &deep),
        ("backslash", file("a\\..\\f"), "a\\..\\f"),
        ("newline", file("a\nb"), "a\nb"),
        ("three dots", file("..."), "..."),
        ("drive letter", file("C:/f"), "C:/f"),
        ("blank", file(" "), " "),
        (
            "whiteout of three dots",
            after(&[Entry::file(".wh....", b"")], Entry::file("f", GOOD)),
            "f",
        ),
        (
            "directory again",
            after(&[Entry::dir("a"), Entry::dir("a")], Entry::file("a/f", GOOD)),
            "a/f",
        ),
        ("child first", tar(&[Entry::file("a/f", GOOD), Entry::dir("a")]), "a/f"),
        ("root directory", after(&[Entry::dir("./")], Entry::file("f", GOOD)), "f"),
        ("file again", after(&[Entry::file("f", b"old")], Entry::file("f", GOOD)), "f"),
        ("not UTF-8", tar(&[Entry::file("f", GOOD), Entry::file(b"\xff\xfe", b"x")]), "f"),
    ];
    let mut verdict = Verdict::default();
    for (what, archive, path) in rows {
        let result = accepts(&archive).and_then(|image| read(&image, path));
        verdict.good(what, result);
    }
    verdict.end();
}

/// A name in a header is its bytes up to the first NUL; what is behind is not part of anything.
#[test]
fn header_names_end_at_a_nul() {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| put(&mut header.name, "visible\0../../etc/passwd"));
    let image = accepts(&writer.finish()).unwrap();
    assert!(exists(&image, "visible") && !exists(&image, "etc"));
}

/// Names that differ only in what a case-folding or normalising file system would confuse.
#[test]
fn similar_names_stay_apart() {
    let names = ["F", "f", "\u{e9}", "e\u{301}", "f ", "f."];
    let entries: Vec<Entry> = names.iter().map(|name| Entry::file(name, name)).collect();
    let image = accepts(&tar(&entries)).unwrap();
    for name in names {
        assert_eq!(read(&image, name).unwrap(), name.as_bytes());
    }
}
