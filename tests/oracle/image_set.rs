//! Several images in one mount: each must look as it does alone, and tools must see what is one file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::mounted::{Home, Mounted};
use crate::oracle::gzip_image;
use crate::servers::{Registry, run};
use crate::snapshot::Snapshot;
use crate::support::image::push;
use crate::support::tarball::{Entry, tar};

/// Files in the layer that both versions have, and those that differ between them.
const FILES: u64 = 10 * 30;
const CHANGED: u64 = 10;

/// Pushes two versions of an image, which have their base in common; their references.
fn push_versions(registry: &Registry, name: &str) -> [String; 2] {
    let mut base = Vec::new();
    for dir in 0..10 {
        base.push(Entry::dir(format!("{dir}")).mode(0o750).owner(dir, 7).mtime(1_000_000, 42));
        for file in 0..30 {
            let content = format!("{dir} {file}\n").repeat(1 + 10 * file);
            let entry = Entry::file(format!("{dir}/{file}"), content).mtime(5, file as u32);
            base.push(entry);
        }
        base.push(Entry::file(format!("{dir}/empty"), ""));
        base.push(Entry::symlink(format!("{dir}/link"), "/1/2"));
        base.push(Entry::hardlink(format!("{dir}/hard"), format!("{dir}/2")));
        base.push(Entry::file(format!("{dir}/attribute"), "x").xattr("user.a", "1"));
    }
    let changed = |version: &str| {
        // All of one length, so that only their bytes tell them apart.
        let files = (0..10).map(|dir| Entry::file(format!("{dir}/changed"), version));
        tar(&files.collect::<Vec<_>>())
    };
    ["v1", "v2"].map(|version| {
        let image = gzip_image(&[tar(&base), changed(version)]);
        push(&image, registry.address(), name, version).unwrap();
        format!("{}/{name}:{version}", registry.address())
    })
}

fn mount_both<'a>(home: &'a Home, options: &[&str], images: &[String; 2]) -> Mounted<'a> {
    let words: Vec<&str> = options.iter().copied().chain([images[0].as_str()]).collect();
    home.mount_with(&words, &images[1])
}

fn number(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn each_image_looks_as_it_does_alone() {
    let registry = Registry::shared();
    let images = push_versions(&registry, "joint_alone");
    let home = Home::new();
    let (joint, apart) =
        (mount_both(&home, &[], &images), mount_both(&home, &["--separate-inodes"], &images));
    for (image, dir) in images.iter().zip(["joint_alone-v1", "joint_alone-v2"]) {
        let alone = Snapshot::of(home.mount(image).path());
        assert!(alone.paths().count() as u64 > FILES);
        for mounted in [&joint, &apart] {
            Snapshot::assert_same(&alone, &Snapshot::of(&mounted.path().join(dir)), dir);
        }
    }
    for mounted in [&joint, &apart] {
        let root = fs::metadata(mounted.path()).unwrap();
        let (mode, owner) = (root.mode() & 0o7777, (root.uid(), root.gid()));
        assert_eq!((mode, owner, root.nlink(), root.mtime()), (0o755, (0, 0), 4, 0));
        assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 2);
    }

    let [v1, v2] = ["v1", "v2"].map(|tag| joint.path().join(format!("joint_alone-{tag}")));
    for same in ["0/1", "3/hard", "5/empty", "9/attribute"] {
        assert_eq!(number(&v1.join(same)), number(&v2.join(same)), "{same}");
        let [a, b] = ["v1", "v2"].map(|v| apart.path().join(format!("joint_alone-{v}/{same}")));
        assert_ne!(number(&a), number(&b), "{same}");
    }
    for different in ["", "0", "0/changed", "0/link"] {
        assert_ne!(number(&v1.join(different)), number(&v2.join(different)), "{different}");
    }
}

#[test]
fn diff_reads_only_what_differs() {
    let registry = Registry::shared();
    let images = push_versions(&registry, "joint_diff");
    let home = Home::new();
    let diff = |mounted: &Mounted<'_>| {
        let count = || {
            let status = mounted.status();
            assert_eq!(status["ahead"], 0);
            status["requests"]["read"].as_u64().unwrap()
        };
        let before = count();
        let output = Command::new("diff")
            .args(["-rq", "--no-dereference", "old", "new"])
            .current_dir(mounted.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), text.lines().count() as u64), (Some(1), CHANGED));
        assert!(text.contains("Files old/3/changed and new/3/changed differ"), "{text}");
        count() - before
    };
    let named = [format!("old={}", images[0]), format!("new={}", images[1])];
    let shared = mount_both(&home, &["--prefetch=off"], &named);
    assert_eq!(diff(&shared), 2 * CHANGED);
    let apart = mount_both(&home, &["--prefetch=off", "--separate-inodes"], &named);
    assert!(diff(&apart) >= 2 * (FILES + CHANGED));

    // What others make of it: where the number of names is one, they look at inode numbers only if
    // they are given both directories.
    let lines = |words: &str| {
        let script = format!("cd '{}' && {words}", shared.path().display());
        let output = run(Command::new("bash").args(["-o", "pipefail", "-c", &script]));
        String::from_utf8(output.stdout).unwrap()
    };
    let links = |what: &str| {
        let listed = lines(&format!("tar c {what} | tar tv"));
        listed.lines().filter(|line| line.starts_with('h')).count() as u64
    };
    // Each image has ten files with a second name; besides those there are 29, an empty one and one
    // with an attribute in each of its ten directories.
    assert_eq!((links("old"), links("."), links("old new")), (10, 30, 30 + 10 * 31));
    let blocks = |what: &str| -> u64 {
        let last = lines(&format!("du -c --block-size=512 {what}"));
        last.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap()
    };
    let [one, both] = [blocks("old"), blocks("old new")];
    // A directory has 8, and so has each of the changed.
    assert_eq!(both - one, 8 * (11 + CHANGED));

    // Unpacked it is the same as copied file by file.
    let copies = tempfile::tempdir().unwrap();
    lines(&format!("tar c old new | tar x -C '{}'", copies.path().display()));
    let words = ["-r", "--no-dereference"];
    run(Command::new("diff").args(words).arg(copies.path()).arg(shared.path()));
}

#[test]
fn the_network_brings_common_layers_once() {
    let registry = Registry::shared();
    let images = push_versions(&registry, "joint_network");
    let home = Home::new();
    let network = |mounted: &Mounted<'_>| {
        let network = &mounted.status()["network"];
        ["requests", "bytes"].map(|what| network[what].as_u64().unwrap())
    };
    let joint = mount_both(&home, &[], &images);
    let alone = [Home::new(), Home::new()];
    let costs = [0, 1].map(|at| network(&alone[at].mount(&images[at])));
    let [requests, bytes] = network(&joint);
    // Manifest, config and the changed layer twice, the common one once.
    assert_eq!(requests, costs[0][0] + costs[1][0] - 1);
    assert!(bytes < costs[0][1] + 2000 + costs[1][1] / 3, "{bytes} of {costs:?}");
    // Once more it costs a question for each.
    drop(joint);
    assert_eq!(network(&mount_both(&home, &[], &images)), [2, 0]);
    assert_eq!(network(&mount_both(&home, &["--offline"], &images)), [0, 0]);
}

#[test]
fn status_shows_all_images() {
    let registry = Registry::shared();
    let images = push_versions(&registry, "joint_status");
    let home = Home::new();
    let named = [format!("a={}", images[0]), images[1].clone()];
    let joint = mount_both(&home, &["--owner-me"], &named);
    let status = joint.status();
    assert!(status.get("image").is_none() && status.get("layers").is_none());
    let shown = status["images"].as_array().unwrap();
    assert_eq!(shown.len(), 2);
    for ((row, image), name) in shown.iter().zip(&images).zip(["a", "joint_status-v2"]) {
        let alone = home.mount(image).status();
        assert!(alone.get("images").is_none() && alone.get("directory").is_none());
        assert_eq!(row["directory"], name);
        for field in ["image", "digest", "image_id", "platform", "layers"] {
            assert_eq!(row[field], alone[field], "{field}");
        }
        assert_eq!(row["layers"][0]["proof"], "full");
    }
    let text = run(home.ocifs().arg("status").arg(joint.path())).stdout;
    let text = String::from_utf8(text).unwrap();
    for word in ["directory a\n", "directory joint_status-v2\n", &images[0], &images[1]] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let source = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(joint.path()));
    let source = String::from_utf8(source.stdout).unwrap();
    assert_eq!(source.trim(), images.join(","));

    // Very many are not all named in the source, which the kernel limits.
    let many: Vec<String> = (0..80).map(|n| format!("{n}={}", images[n % 2])).collect();
    let (last, words) = many.split_last().unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let many = home.mount_with(&words, last);
    assert_eq!(many.status()["images"].as_array().unwrap().len(), 80);
    assert_eq!(fs::metadata(many.path()).unwrap().nlink(), 2 + 80);
    let numbers = (0..80).map(|n| number(&many.path().join(format!("{n}/4/7"))));
    assert_eq!(numbers.collect::<std::collections::BTreeSet<_>>().len(), 1);
    let source = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(many.path()));
    let source = String::from_utf8(source.stdout).unwrap();
    let named = source.matches("/joint_status:").count();
    assert!(source.trim().ends_with(&format!(",+{}", 80 - named)) && named > 10, "{source}");

    // One image with a name has a directory too; one without is the mount.
    let one = home.mount(&format!("x={}", images[0]));
    assert_eq!(one.status()["images"][0]["directory"], "x");
    assert!(one.path().join("x/0/1").is_file());
}
