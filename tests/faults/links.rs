//! Links that lead nowhere, in circles or out of the image, and entries in each other's way.

use crate::fixture::{
    GOOD, Sandbox, Verdict, accepts, exists, image_of, name_in, open, options, read,
};
use crate::fixture::{has_words, refuses};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, Kind, tar};

/// The error of opening an image that fails only when its layers are merged. Each layer is fine by
/// itself, so that they stay in the cache.
fn merge_error(layers: &[Vec<Entry>]) -> Result<String, String> {
    let builder = ImageBuilder::new();
    let builder = layers.iter().fold(builder, |b, l| b.layer(&tar(l), Compression::Gzip));
    let registry = Registry::start();
    registry.add_image("r", "t", &builder.build());
    match open(&name_in(&registry), &Sandbox::new().cache(), &options()) {
        Ok(_) => Err("it was opened".to_owned()),
        Err(error) => Ok(error),
    }
}

/// What a row is about, its layers, and the words of the error.
type Row<'a> = (&'a str, Vec<Vec<Entry>>, &'a [&'a str]);

#[test]
fn layers_that_contradict_themselves() {
    let file = |path: &str, bytes: &[u8]| Entry::file(path, bytes);
    let (dir, hard) =
        (|path: &str| Entry::dir(path), |path: &str, to: &str| Entry::hardlink(path, to));
    let loops =
        |path: &str| vec![Entry::symlink("a", "b"), Entry::symlink("b", "a"), file(path, GOOD)];
    let rows: Vec<Row<'_>> = vec![
        ("link to nothing", vec![vec![hard("l", "nothing")]], &["`nothing` does not exist"]),
        ("link to itself", vec![vec![hard("l", "l")]], &["does not exist"]),
        ("link before its target", vec![vec![hard("l", "f"), file("f", GOOD)]], &["not exist"]),
        ("link to a directory", vec![vec![dir("d"), hard("l", "d")]], &["`d` is a directory"]),
        ("link to the root", vec![vec![hard("l", "/")]], &["is a directory"]),
        ("link to a lower directory", vec![vec![dir("d")], vec![hard("l", "d")]], &["directory"]),
        ("circle above a file", vec![loops("a/f")], &["too many levels"]),
        ("circle to itself", vec![vec![Entry::symlink("a", "a"), file("a/f", GOOD)]], &["levels"]),
        (
            "circle of a lower layer",
            vec![vec![Entry::symlink("a", "a/b")], vec![file("a/f", GOOD)]],
            &["layer 1", "too many levels"],
        ),
        (
            "growing circle",
            vec![vec![Entry::symlink("a", "a/a/a/a"), file("a/f", GOOD)]],
            &["too many levels"],
        ),
        ("below a file", vec![vec![file("f", b"x"), file("f/g", GOOD)]], &["`f` to be a dir"]),
        ("below a fifo", vec![vec![Entry::fifo("p"), file("p/q/g", GOOD)]], &["to be a directory"]),
        (
            "below a link to a file",
            vec![vec![file("f", b"x"), Entry::symlink("l", "f"), file("l/g", GOOD)]],
            &["to be a directory"],
        ),
        (
            "through a name that is too long",
            vec![vec![Entry::symlink("l", "n".repeat(300)), file("l/g", GOOD)]],
            &["longer than 255 bytes"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, layers, words) in rows {
        verdict.row(what, merge_error(&layers).and_then(|error| has_words(&error, words)));
    }
    verdict.end();
}

#[test]
fn hard_links_out_of_the_image() {
    for target in ["../etc/passwd", "a/../../b", "/.."] {
        let archive = tar(&[Entry::hardlink("l", target)]);
        let image = image_of(&archive, Compression::Gzip);
        refuses(&image, &options(), &["hard link `l`", "climbs"]).unwrap();
    }
}

/// Symlinks may say anything; following them ends inside the image or in an error.
#[test]
fn symlinks_stay_inside() {
    let image = accepts(&tar(&[
        Entry::file("etc/passwd", GOOD),
        Entry::symlink("up", "../../../../etc/passwd"),
        Entry::symlink("absolute", "/etc/passwd"),
        Entry::symlink("host", "/proc/self/root/etc/passwd"),
        Entry::symlink("circle", "circle"),
        Entry::symlink("long", "./".repeat(2000)),
        Entry::symlink("escape", "../../.."),
        Entry::file("escape/landed", GOOD),
    ]))
    .unwrap();
    for path in ["up", "absolute", "../../etc/passwd", "landed", "escape/etc/passwd"] {
        assert_eq!(read(&image, path).unwrap(), GOOD, "{path}");
    }
    for (path, words) in [("host", "no such file"), ("circle", "too many levels")] {
        assert!(read(&image, path).unwrap_err().contains(words), "{path}");
    }
    assert!(exists(&image, "circle") && exists(&image, "long/etc"));
}

/// A million steps through symlinks for each of many entries would take for ever.
#[test]
fn symlink_mazes_end_soon() {
    // Each level doubles the steps: 2^60 of them for the last one.
    let mut entries: Vec<Entry> = vec![Entry::dir("l0")];
    for level in 1..60 {
        let target = format!("l{0}/../l{0}", level - 1);
        entries.push(Entry::symlink(format!("l{level}"), target));
    }
    entries.push(Entry::file("l59/f", GOOD));
    let error = merge_error(&[entries]).unwrap();
    assert!(error.contains("too many levels"), "{error}");
    // Long targets for many entries, each of which stays below the limit of a path.
    let mut entries = vec![Entry::symlink("a", format!("{}b", "./".repeat(2000)))];
    for at in 1..200 {
        let target = format!(
            "{}a{}",
            "./".repeat(2000),
            if at == 1 { String::new() } else { (at - 1).to_string() }
        );
        entries.push(Entry::symlink(format!("a{at}"), target));
    }
    entries.extend((0..2000).map(|n| Entry::file(format!("a199/{n}"), b"")));
    match merge_error(&[entries]) {
        Ok(error) => assert!(error.contains("too many levels"), "{error}"),
        Err(opened) => assert_eq!(opened, "it was opened"),
    }
}

/// A later layer may put anything in the place of anything.
#[test]
fn kinds_replace_each_other() {
    let kinds = [
        Kind::File(b"x".to_vec()),
        Kind::Dir,
        Kind::Symlink(b"elsewhere".to_vec()),
        Kind::Char { major: 1, minor: 3 },
        Kind::Fifo,
    ];
    let registry = Registry::start();
    for lower in &kinds {
        for upper in &kinds {
            let image = ImageBuilder::new()
                .layer(&tar(&[Entry::new("p", lower.clone())]), Compression::None)
                .layer(&tar(&[Entry::new("p", upper.clone())]), Compression::None)
                .layer(&tar(&[Entry::file("p/f", GOOD)]), Compression::None)
                .build();
            registry.add_image("r", "t", &image);
            let image = open(&name_in(&registry), &Sandbox::new().cache(), &options()).unwrap();
            assert_eq!(read(&image, "p/f").unwrap(), GOOD, "{lower:?} below {upper:?}");
        }
    }
}

/// A deep tree neither overflows a stack nor takes long.
#[test]
fn deep_and_wide_trees() {
    let deep = "d/".repeat(2000);
    let mut entries = vec![Entry::file(format!("{deep}f"), GOOD)];
    entries.extend((0..20_000).map(|n| Entry::file(format!("wide/{n}"), b"")));
    let image = accepts(&tar(&entries)).unwrap();
    assert_eq!(read(&image, &format!("{deep}f")).unwrap(), GOOD);
    assert!(exists(&image, "wide/19999"));
}
