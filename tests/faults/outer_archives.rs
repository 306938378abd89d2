//! The archive around an image, and the folder that it was unpacked to: written by tools that link, leave
//! out holes and add attributes, or to show a file from outside of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::fixture::{GOOD, Sandbox, Verdict, fails, has_words, image_of, open, opens, options};
use crate::support::image::{Built, Compression, sha256, write_oci_layout};
use crate::support::tarball::{Entry, TarWriter, octal, put, tar};

/// A layer with holes.
fn layer() -> Vec<u8> {
    tar(&[
        Entry::file("zeros", vec![0; 300_000]),
        Entry::file("f", GOOD),
        Entry::file("more", vec![0; 100_000]),
    ])
}

fn image() -> Built {
    image_of(&layer(), Compression::None)
}

fn rows(config: &str, layer: &str) -> Vec<u8> {
    json!([{ "Config": config, "RepoTags": ["app:v1"], "Layers": [layer] }])
        .to_string()
        .into_bytes()
}

/// A `docker save` archive whose layer a test writes, and whose rows name it so.
fn saved(name: &str, write: impl FnOnce(&mut TarWriter, &[u8])) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("manifest.json", rows("config.json", name)));
    writer.entry(&Entry::file("config.json", image().config));
    write(&mut writer, &layer());
    writer.finish()
}

/// The files of an OCI layout of the image.
fn layout_files() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    write_oci_layout(folder.path(), &[(Some("v1"), &image())]).unwrap();
    let paths = crate::fixture::files_below(folder.path());
    let name = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// The parts that are not only zeros, in whole blocks of a tar.
fn regions(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut regions: Vec<(u64, &[u8])> = Vec::new();
    for (at, block) in bytes.chunks(512).enumerate() {
        let at = at * 512;
        if block.iter().all(|b| *b == 0) {
            continue;
        }
        match regions.last_mut() {
            Some((start, region)) if *start as usize + region.len() == at => {
                *region = &bytes[*start as usize..at + block.len()];
            }
            _ => regions.push((at as u64, block)),
        }
    }
    regions
}

/// For closures that only write.
fn done(_: &mut TarWriter) {}

type Sparse = fn(&mut TarWriter, &str, &[u8]);

const SPARSE: [(&str, Sparse); 4] = [
    ("old GNU", |w, name, b| done(w.sparse_old_gnu(name, b.len() as u64, &regions(b)))),
    ("PAX 0.0", |w, name, b| done(w.sparse_pax_0_0(name, b.len() as u64, &regions(b)))),
    ("PAX 0.1", |w, name, b| done(w.sparse_pax_0_1(name, b.len() as u64, &regions(b)))),
    ("PAX 1.0", |w, name, b| done(w.sparse_pax_1_0(name, b.len() as u64, &regions(b)))),
];

/// Opens archives by their transport and by their path alone.
fn accepts(verdict: &mut Verdict, what: &str, transport: &str, archive: &[u8]) {
    for prefix in [transport, ""] {
        let sandbox = Sandbox::new();
        let path = sandbox.path().join("x.tar");
        fs::write(&path, archive).unwrap();
        let name = format!("{prefix}{}", path.display());
        verdict.row(&format!("{what}, {name}"), opens(&sandbox, &name, &options()));
    }
}

fn refuses(verdict: &mut Verdict, what: &str, archive: &[u8], words: &[&str]) {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("x.tar");
    fs::write(&path, archive).unwrap();
    verdict.row(what, fails(&sandbox, &path.display().to_string(), &options(), words));
}

#[test]
fn sparse_members() {
    let mut verdict = Verdict::default();
    for (what, write) in SPARSE {
        let archive = saved("x/layer.tar", |writer, layer| write(writer, "x/layer.tar", layer));
        accepts(&mut verdict, what, "docker-archive:", &archive);
        let mut writer = TarWriter::new();
        for (name, bytes) in layout_files() {
            write(&mut writer, &name, &bytes);
        }
        accepts(&mut verdict, what, "oci-archive:", &writer.finish());
    }
    // Holes cost the writer nothing.
    for (what, write) in SPARSE {
        let bomb = saved("layer.tar", |writer, _| match what {
            "old GNU" => done(writer.sparse_old_gnu("layer.tar", 1 << 32, &[(0, b"x")])),
            "PAX 0.0" => done(writer.sparse_pax_0_0("layer.tar", 1 << 32, &[(0, b"x")])),
            "PAX 0.1" => done(writer.sparse_pax_0_1("layer.tar", 1 << 32, &[(0, b"x")])),
            _ => done(writer.sparse_pax_1_0("layer.tar", 1 << 32, &[(0, b"x")])),
        });
        refuses(&mut verdict, what, &bomb, &["layer.tar", "sparse", "far more"]);
        // What is no part of the image may be as large as it likes.
        let beside = saved("layer.tar", |writer, layer| {
            writer.sparse_pax_1_0("disk.img", 1 << 32, &[(0, b"x")]);
            write(writer, "layer.tar", layer);
        });
        accepts(&mut verdict, what, "docker-archive:", &beside);
    }
    verdict.end();
}

#[test]
fn links_between_members() {
    let link = |path: &str, target: &str| Entry::symlink(path, target);
    let hard = |path: &str, target: &str| Entry::hardlink(path, target);
    let file = |path: &str| Entry::file(path, layer());
    let mut verdict = Verdict::default();
    for (what, entries) in [
        ("to a file", vec![file("a/l"), link("x", "a/l")]),
        ("before it", vec![link("x", "a/l"), file("a/l")]),
        ("to a link", vec![file("l"), link("a/b", "../m"), link("m", "l"), link("x", "a/b")]),
        ("through a directory", vec![file("store/l"), link("d", "store"), link("x", "d/l")]),
        ("twice through", vec![link("d", "e"), link("e", "./s"), file("s/l"), link("x", "d/l")]),
        ("up from a link", vec![file("s/t/l"), link("d", "s/t/u"), link("x", "d/../l")]),
        ("hard", vec![file("l"), hard("x", "l")]),
        ("hard by ./", vec![file("./l"), hard("./x", "./l")]),
        ("hard to itself", vec![file("x"), hard("x", "x")]),
        ("hard to itself by ./", vec![file("x"), hard("./x", "x")]),
        ("hard to what comes later", vec![hard("x", "l"), file("l")]),
        ("hard to a symlink", vec![file("l"), link("m", "l"), hard("x", "m")]),
        ("hard through a directory", vec![file("s/l"), link("d", "s"), hard("x", "d/l")]),
        ("a file behind a link to its folder", vec![link("d", "s"), file("d/l"), link("x", "s/l")]),
        (
            "hard to what is replaced later",
            vec![file("l"), hard("x", "l"), Entry::file("l", "other")],
        ),
        ("twice, the last counts", vec![Entry::file("x", "other"), file("x")]),
        ("a link, then a file", vec![link("x", "/etc/hostname"), file("x")]),
    ] {
        let archive = saved("x", |writer, _| {
            entries.iter().for_each(|entry| done(writer.entry(entry)));
        });
        accepts(&mut verdict, what, "docker-archive:", &archive);
    }
    let far: Vec<Entry> = (0..60).map(|n| link(&format!("l{n}"), &format!("l{}", n + 1))).collect();
    for (what, entries) in [
        ("out by ..", vec![link("x", "../x.tar")]),
        ("out by a folder", vec![link("d", ".."), link("x", "d/x.tar")]),
        ("absolute", vec![link("x", "/etc/hostname")]),
        ("absolute, though there is such a member", vec![file("etc/l"), link("x", "/etc/l")]),
        ("hard and absolute", vec![hard("x", "/etc/hostname")]),
        ("hard and out", vec![hard("x", "../../etc/hostname")]),
        ("in a circle", vec![link("x", "y"), link("y", "x")]),
        ("to itself", vec![link("x", "x")]),
        ("hard in a circle", vec![hard("x", "y"), hard("y", "x")]),
        ("a folder in a circle", vec![link("d", "d/d"), link("x", "d/l")]),
        ("deep", vec![link("x", &"d/../".repeat(150)), file("l")]),
        ("too far", [far, vec![link("x", "l0")], vec![file("l60")]].concat()),
        ("to a directory", vec![Entry::dir("d"), link("x", "d")]),
        ("a device", vec![Entry::char_device("x", 1, 5)]),
    ] {
        let archive = saved("x", |writer, _| {
            entries.iter().for_each(|entry| done(writer.entry(entry)));
        });
        refuses(&mut verdict, what, &archive, &["layer `x` is not in"]);
    }
    verdict.end();
}

#[test]
fn names_in_the_manifest_are_cleaned() {
    let mut verdict = Verdict::default();
    for name in
        ["./x/layer.tar", "x//layer.tar", "x/../x/layer.tar", "y/../x/./layer.tar", "/x/layer.tar"]
    {
        for member in ["x/layer.tar", "./x/layer.tar", "x//layer.tar", "./y/../x/layer.tar"] {
            let archive =
                saved(name, |writer, layer| done(writer.entry(&Entry::file(member, layer))));
            accepts(&mut verdict, &format!("{name} as {member}"), "docker-archive:", &archive);
        }
    }
    for name in ["../x/layer.tar", "x/../../layer.tar", "", ".", "x"] {
        let file = Entry::file("x/layer.tar", layer());
        let archive = saved(name, |writer, _| done(writer.entry(&file)));
        refuses(&mut verdict, name, &archive, &["layer `", "is not in"]);
    }
    verdict.end();
}

/// What would be wrong in a layer means nothing around it.
#[test]
fn attributes_of_members_do_not_matter() {
    let big = "r".repeat(300_000);
    let pax = |records: Vec<(&str, &str)>| {
        saved("layer.tar", |writer, layer| {
            writer.pax(&records);
            writer.entry(&Entry::file("layer.tar", layer));
        })
    };
    let odd = |typeflag: u8| {
        saved("layer.tar", |writer, layer| {
            writer.raw_header(|header| {
                put(&mut header.name, "label");
                header.typeflag = typeflag;
                octal(&mut header.size, 700);
            });
            writer.data(&[7; 700]);
            writer.entry(&Entry::file("layer.tar", layer));
        })
    };
    let header = |fill: fn(&mut crate::support::tarball::Header)| {
        saved("layer.tar", |writer, layer| {
            writer.raw_header(|header| {
                put(&mut header.name, "layer.tar");
                octal(&mut header.size, layer.len() as u64);
                fill(header);
            });
            writer.data(layer);
        })
    };
    let mut verdict = Verdict::default();
    for (what, archive) in [
        ("a large xattr", pax(vec![("SCHILY.xattr.com.apple.ResourceFork", &big)])),
        ("a long xattr name", pax(vec![(&format!("SCHILY.xattr.user.{}", "n".repeat(300)), "v")])),
        ("an owner that does not fit", pax(vec![("uid", "99999999999"), ("gid", "-1")])),
        ("a time that is none", pax(vec![("mtime", "today")])),
        ("an owner that is no number", header(|h| put(&mut h.uid, "root"))),
        ("a time that is no number", header(|h| put(&mut h.mtime, "today"))),
        ("a mode that is no number", header(|h| put(&mut h.mode, "rwx"))),
        ("a volume label", odd(b'V')),
        ("an unknown type", odd(b'Q')),
        ("a Solaris ACL", odd(b'A')),
    ] {
        accepts(&mut verdict, what, "docker-archive:", &archive);
    }
    verdict.end();
}

/// An archive of both forms is read by the one that is whole.
#[test]
fn half_of_an_image_beside_a_whole_one() {
    let files = layout_files();
    let image = image();
    let blob = |digest: &str| format!("blobs/sha256/{}", &digest[7..]);
    let config = blob(&sha256(&image.config));
    let layer = blob(&image.layer_digests()[0]);
    let manifest = blob(&image.manifest_digest);
    let index_of = |text: &str| Some(text.as_bytes().to_vec());
    let mut verdict = Verdict::default();
    for (what, gone, instead) in [
        ("everything there", "", None),
        ("no manifest", &manifest[..], None),
        ("no config", &config, None),
        ("no layer", &layer, None),
        ("no index", "index.json", None),
        ("an index of nothing", "index.json", index_of(r#"{"schemaVersion":2,"manifests":[]}"#)),
        ("an index that is none", "index.json", index_of("{")),
        ("a marker that is none", "oci-layout", index_of("{")),
    ] {
        let mut writer = TarWriter::new();
        for (name, bytes) in &files {
            match (name == gone, &instead) {
                (true, None) => {}
                (true, Some(instead)) => done(writer.entry(&Entry::file(name, instead))),
                (false, _) => done(writer.entry(&Entry::file(name, bytes))),
            }
        }
        writer.entry(&Entry::file("manifest.json", rows("c.json", "l.tar")));
        writer.entry(&Entry::file("c.json", &image.config));
        writer.entry(&Entry::file("l.tar", self::layer()));
        accepts(&mut verdict, what, "docker-archive:", &writer.finish());
    }
    // An attestation is whole and no image.
    let mut writer = TarWriter::new();
    let attested = json!({ "schemaVersion": 2, "manifests": [
        image.descriptor(),
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": crate::fixture::good().manifest_digest,
            "size": crate::fixture::good().manifest.len(),
            "platform": { "os": "unknown", "architecture": "unknown" },
            "annotations": { "vnd.docker.reference.type": "attestation-manifest" },
        },
    ]});
    for (name, bytes) in files.iter().filter(|(name, _)| *name != layer) {
        match name.as_str() {
            "index.json" => writer.entry(&Entry::file(name, attested.to_string())),
            _ => writer.entry(&Entry::file(name, bytes)),
        };
    }
    let other = tempfile::tempdir().unwrap();
    write_oci_layout(other.path(), &[(None, &crate::fixture::good())]).unwrap();
    for path in crate::fixture::files_below(&other.path().join("blobs")) {
        let name = path.strip_prefix(other.path()).unwrap().display().to_string();
        writer.entry(&Entry::file(name, fs::read(&path).unwrap()));
    }
    writer.entry(&Entry::file("manifest.json", rows("c.json", "l.tar")));
    writer.entry(&Entry::file("c.json", &image.config));
    writer.entry(&Entry::file("l.tar", self::layer()));
    accepts(&mut verdict, "an attestation", "docker-archive:", &writer.finish());
    // Where both lack something, the half with digests says what.
    let mut writer = TarWriter::new();
    for (name, bytes) in files.iter().filter(|(name, _)| *name != layer) {
        writer.entry(&Entry::file(name, bytes));
    }
    writer.entry(&Entry::file("manifest.json", rows("none.json", "l.tar")));
    refuses(&mut verdict, "neither is whole", &writer.finish(), &[&image.layer_digests()[0]]);
    verdict.end();
}

/// Go does not mind the case of a key, and old writers wrote them in any.
#[test]
fn keys_of_the_manifest_in_any_case() {
    let mut verdict = Verdict::default();
    for manifest in [
        json!([{ "config": "c", "repoTags": ["a:b"], "layers": ["l"] }]),
        json!([{ "CONFIG": "c", "LAYERS": ["l"], "RepoTags": null, "Parent": 7 }]),
        json!([{ "Parent": "", "config": "c", "Layers": ["l"] }]),
    ] {
        let archive = tar(&[
            Entry::file("manifest.json", manifest.to_string()),
            Entry::file("c", image().config),
            Entry::file("l", layer()),
        ]);
        accepts(&mut verdict, &manifest.to_string(), "docker-archive:", &archive);
    }
    for (manifest, words) in [
        (json!([{ "Layers": ["l"] }]), "missing field `Config`"),
        (json!([{ "Config": 7, "Layers": ["l"] }]), "config `7` is not in"),
        (json!([{ "Config": "c", "Layers": "l" }]), "expected a sequence"),
        (json!([{ "Config": "c", "Layers": [7] }]), "layer `7` is not in"),
        // The last of several spellings counts, as in Go.
        (
            json!([{ "Config": "c", "Layers": ["l"], "config": "other" }]),
            "config `other` is not in",
        ),
        (json!([]), "holds no image"),
        (json!([7]), "`manifest.json`"),
    ] {
        let archive = tar(&[
            Entry::file("manifest.json", manifest.to_string()),
            Entry::file("c", image().config),
            Entry::file("l", layer()),
        ]);
        refuses(&mut verdict, &manifest.to_string(), &archive, &[words]);
    }
    verdict.end();
}

const LOWER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const UPPER: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// What Docker wrote before version 1.10: two layers with IDs, and perhaps names.
fn before_1_10(repositories: Option<Value>, top: Value) -> Vec<Entry> {
    let base = tar(&[Entry::file("f", "below"), Entry::file("g", GOOD)]);
    let mut entries = vec![
        Entry::dir(format!("{UPPER}/")),
        Entry::file(format!("{UPPER}/VERSION"), "1.0"),
        Entry::file(format!("{UPPER}/json"), top.to_string()),
        Entry::file(format!("{UPPER}/layer.tar"), layer()),
        Entry::file(format!("{LOWER}/json"), json!({ "id": LOWER }).to_string()),
        Entry::file(format!("{LOWER}/layer.tar"), base),
    ];
    if let Some(repositories) = repositories {
        entries.push(Entry::file("repositories", repositories.to_string()));
    }
    entries
}

#[test]
fn what_docker_wrote_before_1_10() {
    let top = json!({
        "id": UPPER, "parent": LOWER, "created": "2015-03-20T00:00:00Z", "architecture": "amd64",
        "os": "linux", "config": { "Cmd": ["sh"] },
    });
    let named = json!({ "team/app": { "v1": UPPER, "latest": UPPER } });
    let mut verdict = Verdict::default();
    for (what, archive, selectors) in [
        (
            "named",
            before_1_10(Some(named.clone()), top.clone()),
            &["", ":team/app:v1", ":2222"][..],
        ),
        ("without a name", before_1_10(None, top.clone()), &["", ":222222222222"]),
        ("no platform", before_1_10(None, json!({ "parent": LOWER })), &[""]),
        (
            "null in the names",
            before_1_10(
                Some(json!({ "a": null, "b": { "c": null }, "team/app": { "v1": UPPER } })),
                top.clone(),
            ),
            &["", ":team/app:v1"],
        ),
        ("null for the names", before_1_10(Some(Value::Null), top.clone()), &["", ":2222"]),
        (
            "keys in another case",
            before_1_10(
                None,
                json!({ "Parent": LOWER, "OS": null, "ARCHITECTURE": "amd64", "Config": null }),
            ),
            &[""],
        ),
        (
            "values of another kind",
            before_1_10(
                None,
                json!({ "parent": LOWER, "os": 7, "architecture": ["x"], "id": {}, "created": "" }),
            ),
            &[""],
        ),
    ] {
        let sandbox = Sandbox::new();
        let path = sandbox.path().join("x.tar");
        fs::write(&path, tar(&archive)).unwrap();
        // The folder that it was unpacked to.
        let folder = sandbox.path().join("folder");
        unpack(&archive, &folder);
        for selector in selectors {
            for place in [&path, &folder] {
                for transport in ["docker-archive:", ""] {
                    let name = format!("{transport}{}{selector}", place.display());
                    verdict.row(&format!("{what} {name}"), opens(&sandbox, &name, &options()));
                }
            }
        }
        // The same image each time, so that the cache knows it.
        let id = |path: &Path| {
            let image = open(&path.display().to_string(), &sandbox.cache(), &options()).unwrap();
            (image.resolved().digest, image.resolved().platform.to_string())
        };
        assert_eq!(id(&path), id(&folder));
        assert_eq!(id(&path).1, "linux/amd64");
    }
    let other = json!({ "team/app": { "v1": UPPER, "old": LOWER } });
    for (what, repositories, top, selector, words) in [
        ("several", Some(other.clone()), top.clone(), "", &["several images", "team/app:old"][..]),
        ("no such tag", Some(other), top.clone(), ":team/app:v2", &["no image `team/app:v2`"]),
        (
            "an ID that is a path",
            Some(json!({ "a": { "b": "../x" } })),
            top.clone(),
            ":a:b",
            &["`a:b`"],
        ),
        (
            "its own parent by name",
            Some(named.clone()),
            json!({ "parent": UPPER }),
            "",
            &["too many parents"],
        ),
        (
            "a parent that is not there",
            Some(named.clone()),
            json!({ "parent": "3".repeat(64) }),
            "",
            &["is not in"],
        ),
        ("no JSON", Some(named.clone()), json!([]), "", &["json`"]),
        ("no names", Some(json!([])), top.clone(), "", &["`repositories`"]),
    ] {
        let sandbox = Sandbox::new();
        let path = sandbox.path().join("x.tar");
        fs::write(&path, tar(&before_1_10(repositories, top))).unwrap();
        let name = format!("{}{selector}", path.display());
        verdict.row(what, fails(&sandbox, &name, &options(), words));
    }
    verdict.end();
}

/// Writes files and links below a folder.
fn unpack(entries: &[Entry], folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let archive = folder.with_extension("unpacked");
    fs::write(&archive, tar(entries)).unwrap();
    ::tar::Archive::new(fs::File::open(&archive).unwrap()).unpack(folder).unwrap();
}

/// A folder that was unpacked from somewhere: what its documents name stays in it.
#[test]
fn unpacked_folders() {
    let write = |folder: &Path, name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut verdict = Verdict::default();
    for (what, rows, fill) in [
        ("plain", rows("c.json", "x/l.tar"), None),
        ("names that need cleaning", rows("./c.json", "/x//y/../l.tar"), None),
        ("a link", rows("c.json", "l.tar"), Some(("l.tar", "x/l.tar"))),
        ("a link to a folder", rows("c.json", "y/l.tar"), Some(("y", "x"))),
    ] {
        let sandbox = Sandbox::new();
        let folder = sandbox.path().join("saved");
        write(&folder, "manifest.json", &rows);
        write(&folder, "c.json", &image().config);
        write(&folder, "x/l.tar", &layer());
        if let Some((link, target)) = fill {
            symlink(target, folder.join(link)).unwrap();
        }
        for transport in ["docker-archive:", ""] {
            let name = format!("{transport}{}", folder.display());
            verdict.row(what, opens(&sandbox, &name, &options()));
        }
    }
    for (what, rows, link) in [
        ("out by ..", rows("../c.json", "l.tar"), None),
        ("out by an absolute name", rows("c.json", "/l.tar"), None),
        ("out by a link", rows("c.json", "l.tar"), Some(("l.tar", "../l.tar"))),
        ("out by a link to a folder", rows("c.json", "y/l.tar"), Some(("y", ".."))),
        ("out by the config", rows("c.json", "x/l.tar"), Some(("c.json", "../c.json"))),
        ("out by an absolute link", rows("c.json", "l.tar"), Some(("l.tar", "/etc/hostname"))),
        ("a device", rows("c.json", "device"), None),
        ("a pipe", rows("c.json", "pipe"), None),
    ] {
        let sandbox = Sandbox::new();
        let folder = sandbox.path().join("saved");
        write(sandbox.path(), "c.json", &image().config);
        write(sandbox.path(), "l.tar", &layer());
        write(&folder, "manifest.json", &rows);
        write(&folder, "x/l.tar", &layer());
        for (name, kind) in [("device", FileType::CharacterDevice), ("pipe", FileType::Fifo)] {
            mknodat(CWD, folder.join(name), kind, Mode::RUSR, makedev(1, 5)).unwrap();
        }
        if let Some((link, target)) = link {
            symlink(target, folder.join(link)).unwrap();
        }
        if link.is_none_or(|(link, _)| link != "c.json") {
            write(&folder, "c.json", &image().config);
        }
        let opened = open(&folder.display().to_string(), &sandbox.cache(), &options());
        let error = opened.err().unwrap_or_default();
        let words = match what {
            "out by .." | "out by an absolute name" => "is not in",
            "a device" | "a pipe" => "not a regular file",
            _ => "a link leads out of the folder",
        };
        verdict.row(what, has_words(&error, &[&folder.display().to_string(), words]));
    }
    verdict.end();
}
