//! `mount --provenance`: every file says where it is from, and no copy of it takes that along.

use std::path::Path;

use rustix::io::Errno;
use serde_json::json;

use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn image(words: &str) -> Built {
    let base = [
        Entry::dir("d"),
        Entry::file("d/base", "base"),
        Entry::file("d/replaced", "old"),
        Entry::symlink("link", "d/base"),
    ];
    let upper = [Entry::file("d/replaced", "new"), Entry::hardlink("d/second", "d/base")];
    let history = json!([
        { "created_by": "ADD base" },
        { "created_by": "CMD x", "empty_layer": true },
        { "created_by": format!("RUN {words}") },
    ]);
    let image = ImageBuilder::new().layer(&tar(&base), Compression::Gzip);
    image.layer(&tar(&upper), Compression::Gzip).config("history", history).build()
}

fn attribute(file: &Path, name: &str) -> Result<String, Errno> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(file, format!("user.ocifs.{name}"), &mut value)?;
    value.truncate(length);
    Ok(String::from_utf8(value).unwrap())
}

fn listed(file: &Path) -> Vec<u8> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(file, &mut names).unwrap();
    names.truncate(length);
    names
}

fn pushed(registry: &Registry, tag: &str, image: &Built) -> String {
    registry.add_image("r", tag, image);
    format!("{}/r:{tag}", registry.addr())
}

#[test]
fn files_say_where_they_are_from() {
    let (registry, home, image) = (Registry::start(), Home::new(), image("make"));
    let name = pushed(&registry, "t", &image);
    let top = home.mount_point();
    let words = ["mount", "--provenance", &name, top.to_str().unwrap()];
    home.run(&words).succeeded();
    let (layers, diff_ids) = (image.layer_digests(), image.diff_ids());
    for (path, layer, by, content) in [
        ("d/base", 0, "ADD base", Some("base")),
        ("d/second", 0, "ADD base", Some("base")),
        ("d/replaced", 1, "RUN make", Some("new")),
        ("d", 0, "ADD base", None),
    ] {
        let file = top.join(path);
        assert_eq!(attribute(&file, "layer").as_ref(), Ok(&layers[layer]), "{path}");
        assert_eq!(attribute(&file, "diff_id").as_ref(), Ok(&diff_ids[layer]), "{path}");
        assert_eq!(attribute(&file, "created_by"), Ok(by.to_owned()), "{path}");
        let expected = content.map(|text| sha256(text.as_bytes())[7..].to_owned());
        assert_eq!(attribute(&file, "sha256").ok(), expected, "{path}");
        assert_eq!(attribute(&file, "none"), Err(Errno::NODATA));
        assert_eq!(listed(&file), b"", "{path}");
    }
    // The same again is nothing new, and without the flag it is something else.
    let again = home.run(&words);
    assert!(again.code == 0 && again.stderr.contains("is already mounted"), "{again:?}");
    home.run(&["mount", &name, top.to_str().unwrap()]).failed(1, &["mounted in another way"]);
    assert_eq!(home.status()["options"]["provenance"], true);
}

#[test]
fn without_the_flag_they_say_nothing() {
    let (registry, home) = (Registry::start(), Home::new());
    let name = pushed(&registry, "t", &image("make"));
    let top = home.mount_point();
    home.run(&["mount", &name, top.to_str().unwrap()]).succeeded();
    for attribute_name in ["layer", "diff_id", "created_by", "sha256"] {
        assert_eq!(attribute(&top.join("d/base"), attribute_name), Err(Errno::NODATA));
    }
    assert_eq!(home.status()["options"]["provenance"], false);
}

#[test]
fn in_several_images_each_file_names_a_layer_of_its_own() {
    let (registry, home) = (Registry::start(), Home::new());
    let (one, other) = (image("one"), image("other"));
    let names = [pushed(&registry, "one", &one), pushed(&registry, "other", &other)];
    let plain =
        ImageBuilder::new().layer(&tar(&[Entry::file("f", "f")]), Compression::Gzip).build();
    let third = pushed(&registry, "third", &plain);
    let top = home.mount_point();
    let words = ["mount", "--provenance", &names[0], &names[1], &third, top.to_str().unwrap()];
    home.run(&words).succeeded();
    for directory in ["r-one", "r-other"] {
        let file = top.join(directory).join("d/replaced");
        assert_eq!(attribute(&file, "layer").as_ref(), Ok(&one.layer_digests()[1]));
        assert_eq!(attribute(&file, "sha256"), Ok(sha256(b"new")[7..].to_owned()));
    }
    let file = top.join("r-third/f");
    assert_eq!(attribute(&file, "layer").as_ref(), Ok(&plain.layer_digests()[0]));
    assert_eq!(attribute(&file, "created_by"), Err(Errno::NODATA), "no history");
    assert_eq!(attribute(&top, "layer"), Err(Errno::NODATA));
}

#[test]
fn an_instruction_that_is_longer_than_any_attribute_is_cut() {
    let (registry, home) = (Registry::start(), Home::new());
    let name = pushed(&registry, "t", &image(&"\u{fc}".repeat(100_000)));
    let top = home.mount_point();
    home.run(&["mount", "--provenance", &name, top.to_str().unwrap()]).succeeded();
    let by = attribute(&top.join("d/replaced"), "created_by").unwrap();
    assert!(by.starts_with("RUN \u{fc}\u{fc}") && by.len() > 65_000, "{}", by.len());
}
