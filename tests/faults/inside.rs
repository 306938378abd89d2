//! Looking inside images: what is fetched for it, one layer alone, and mistakes.

use serde_json::Value;

use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn image(layers: &[&[Entry]]) -> Built {
    let add =
        |builder: ImageBuilder, layer: &&[Entry]| builder.layer(&tar(layer), Compression::Gzip);
    layers.iter().fold(ImageBuilder::new(), add).build()
}

/// A secret that is deleted, a directory that is emptied, a link to a lower file.
fn with_secret() -> Built {
    image(&[
        &[
            Entry::dir("etc"),
            Entry::file("etc/passwd", "root:x:0:0:root:/:/bin/sh\napp:x:1000:5::/:\n"),
            Entry::file("etc/group", "root:x:0:\nstaff:x:5:\n"),
            Entry::file("etc/key", "secret").mode(0o600).owner(1000, 5).mtime(1_700_000_000, 0),
            Entry::dir("cut"),
            Entry::file("cut/old", "old"),
            Entry::file("tool", "tool").owner(77, 77),
        ],
        &[
            Entry::file("etc/.wh.key", ""),
            Entry::file("etc/key", "replaced"),
            Entry::file("cut/.wh..wh..opq", ""),
            Entry::file("cut/new", "new"),
            Entry::hardlink("etc/tool", "tool"),
        ],
        &[Entry::file("etc/.wh.key", ""), Entry::file(".wh.none", "")],
    ])
}

/// An image in a registry, and a user.
struct Setup {
    home: Home,
    registry: Registry,
    image: Built,
    name: String,
}

impl Setup {
    fn new(image: Built) -> Setup {
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        let name = format!("{}/r:t", registry.addr());
        Setup { home: Home::new(), registry, image, name }
    }

    /// What `ocifs VERB FLAGS REF WORDS` prints.
    #[track_caller]
    fn run(&self, verb: &[&str], words: &[&str]) -> String {
        let outcome = self.home.run(&[verb, &[&self.name], words].concat());
        outcome.succeeded();
        outcome.stdout
    }

    #[track_caller]
    fn fails(&self, verb: &[&str], words: &[&str], code: i32, said: &[&str]) {
        self.home.run(&[verb, &[&self.name], words].concat()).failed(code, said);
    }

    /// The layers that were asked for since the log was cleared.
    fn asked_for(&self) -> Vec<usize> {
        let log = self.registry.requests();
        let digests = self.image.layer_digests();
        let is_asked = |at: &usize| log.iter().any(|request| request.path.ends_with(&digests[*at]));
        (0..digests.len()).filter(is_asked).collect()
    }
}

#[test]
fn a_layer_alone_needs_no_other() {
    for at in 0..3 {
        let setup = Setup::new(with_secret());
        let number = at.to_string();
        setup.run(&["ls", "-R", "--layer", &number], &[]);
        assert_eq!(setup.asked_for(), [at]);
        setup.registry.clear_log();
        setup.run(&["find", "--layer", &number], &[]);
        assert!(setup.asked_for().is_empty());
    }
}

#[test]
fn a_layer_alone_has_what_is_deleted_later() {
    let setup = Setup::new(with_secret());
    setup.fails(&["cat"], &["/etc/key"], 1, &["no such file"]);
    assert_eq!(setup.run(&["cat", "--layer", "0"], &["/etc/key"]), "secret");
    assert_eq!(setup.run(&["cat", "--layer", "1"], &["etc/key"]), "replaced");
    let names = |layer| setup.run(&["ls", "-R", "--layer", layer], &[]);
    assert_eq!(names("1"), "cut\ncut/.wh..wh..opq\ncut/new\netc\netc/.wh.key\netc/key\netc/tool\n");
    assert_eq!(names("2"), ".wh.none\netc\netc/.wh.key\n");
    let all = setup.run(&["ls", "-aR", "--layer", "2"], &[]);
    assert_eq!(all, format!(".\n{}", names("2")));
    let long = setup.run(&["ls", "-l", "--layer", "1"], &["etc"]);
    assert_eq!(
        long,
        "w---------   -     -     -          -                - .wh.key\n\
         -rw-r--r--   1     0     0          8 1970-01-01 00:00 key\n\
         hrw-r--r--   1     0     0          - 1970-01-01 00:00 tool link to tool\n"
    );
    let found = setup.run(&["find", "--layer", "1"], &["-type", "w", "-o", "-type", "h"]);
    assert_eq!(found, "/cut/.wh..wh..opq\n/etc/.wh.key\n/etc/tool\n");
    assert_eq!(setup.run(&["find", "--layer", "1"], &["-type", "f"]), "/cut/new\n/etc/key\n");
    assert_eq!(setup.run(&["find", "--layer", "1"], &["-empty"]), "");
    setup.fails(
        &["cat", "--layer", "1"],
        &["etc/tool"],
        1,
        &["etc/tool", "link to /tool", "lower layer"],
    );
    setup.fails(&["cat", "--layer", "1"], &["etc/.wh.key"], 1, &["whiteout"]);
    setup.fails(&["cat", "--layer", "2"], &["etc/passwd"], 1, &["no such file"]);
    let rows: Vec<Value> = setup
        .run(&["ls", "-R", "--json", "--layer", "1"], &[])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<&str> = rows.iter().map(|row| row["type"].as_str().unwrap()).collect();
    let expected = ["directory", "opaque", "file", "directory", "whiteout", "file", "hardlink"];
    assert_eq!(types, expected);
    assert!(rows[1]["mtime"].is_null() && rows[6]["target"] == "tool", "{rows:#?}");
}

#[test]
fn layers_are_named_by_number_and_by_digest() {
    let setup = Setup::new(with_secret());
    let (digests, diff_ids) = (setup.image.layer_digests(), setup.image.diff_ids());
    for name in
        [&digests[1][..], &digests[1][7..], &digests[1][7..19], &diff_ids[1], &diff_ids[1][..20]]
    {
        assert_eq!(setup.run(&["cat", "--layer", name], &["/etc/key"]), "replaced", "{name}");
    }
    setup.fails(&["ls", "--layer", "3"], &[], 1, &["no layer `3`", "0 to 2"]);
    setup.fails(&["ls", "--layer", "00000000"], &[], 1, &["no layer `00000000`"]);
    setup.fails(&["ls", "--layer", "sha256:0000"], &[], 1, &["no layer `sha256:0000`"]);
    setup.fails(&["ls", "--layer", "top"], &[], 2, &["--layer", "number"]);
    // The same layer twice is one.
    let layer: &[Entry] = &[Entry::file("f", "f")];
    let twice = Setup::new(image(&[layer, &[], layer]));
    let digest = twice.image.layer_digests()[0].clone();
    assert_eq!(twice.run(&["cat", "--layer", &digest[7..17]], &["f"]), "f");
}

/// Names and attributes of an image that was seen are answered without a byte of a layer.
#[test]
fn what_was_seen_is_not_asked_for_again() {
    let setup = Setup::new(with_secret());
    setup.run(&["find"], &[]);
    assert_eq!(setup.asked_for(), [0, 1, 2]);
    for (verb, words) in [
        (&["find"][..], &["-size", "+0", "-ls"][..]),
        (&["find", "--json"], &["-newer", "/tool", "-o", "-perm", "/7"]),
        (&["find", "--layer", "0"], &["-name", "key"]),
        (&["ls", "-lR"], &[]),
        (&["ls", "-ld"], &["etc", "cut"]),
    ] {
        setup.registry.clear_log();
        setup.run(verb, words);
        assert!(setup.asked_for().is_empty(), "{verb:?}");
        assert_eq!(
            setup
                .home
                .run(&[&verb[..1], &["--offline"], &verb[1..], &[&setup.name], words].concat())
                .code,
            0
        );
    }
}

/// Users and groups have the names that the image gives them.
#[test]
fn owners_by_the_names_of_the_image() {
    let setup = Setup::new(with_secret());
    let find = |words: &[&str]| setup.run(&["find", "--layer", "0"], words);
    assert_eq!(find(&["-user", "app"]), "/etc/key\n");
    assert_eq!(find(&["-group", "staff", "-user", "1000"]), "/etc/key\n");
    assert_eq!(find(&["-nouser"]), "/tool\n");
    assert_eq!(find(&["-nogroup", "-uid", "+76"]), "/tool\n");
    // Those of the machine are nothing to it.
    setup.fails(&["find"], &["-user", "daemon"], 1, &["no user `daemon`", "/etc/passwd"]);
    setup.fails(&["find"], &["-group", "nogroup"], 1, &["no group `nogroup`"]);
    setup.fails(&["find"], &["-newer", "none"], 1, &["none", "no such file"]);
}

#[test]
fn mistakes_in_expressions_are_wrong_usage() {
    let setup = Setup::new(image(&[&[Entry::file("f", "f")]]));
    setup.fails(&["find"], &["-nmae", "x"], 2, &["no predicate `-nmae`", "Usage: ocifs find"]);
    setup.fails(&["find"], &["/", "-exec", "rm", ";"], 2, &["`-exec` runs nothing"]);
    setup.fails(&["find"], &["f", "--json"], 2, &["before REF"]);
    let outcome = setup.home.run(&["find", &setup.name, "none", "f"]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (1, "f\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("none: no such file"), "{outcome:?}");
}

#[test]
fn paths_that_are_missing_are_told_and_the_rest_listed() {
    let setup = Setup::new(image(&[&[Entry::file("f", "f"), Entry::dir("d")]]));
    let outcome = setup.home.run(&["ls", &setup.name, "none", "f", "d", "f/x"]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (1, "f\n\nd:\n"), "{outcome:?}");
    for word in ["none: no such file", "f/x: a component"] {
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}

/// What layers take, and what of it is hidden.
#[test]
fn layers_that_hide_content() {
    let setup = Setup::new(with_secret());
    setup.run(&["ls"], &[]);
    setup.registry.clear_log();
    let rows: Vec<Value> = setup
        .run(&["du", "--layers", "--json"], &[])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let column = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).collect::<Vec<_>>();
    // `secret` and `old`; `replaced`; nothing.
    assert_eq!(column("hidden"), [9, 8, 0]);
    assert_eq!(column("hidden_files"), [2, 1, 0]);
    assert_eq!(column("compressed"), setup.image.layer_sizes());
    assert_eq!(rows[1]["digest"], setup.image.layer_digests()[1]);
    let table = setup.run(&["du", "--layers"], &[]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().all(|line| line.split('\t').count() == 7), "{table}");
    assert_eq!(setup.run(&["du", "-s", "-b"], &["/cut"]), "4099\t/cut\n");
    setup.fails(&["du"], &["none"], 1, &["none: no such file"]);
    assert!(setup.asked_for().is_empty());
}
