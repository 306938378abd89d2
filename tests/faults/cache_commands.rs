//! `ocifs cache`: what it says is what is there, it finds every kind of damage, and it keeps its
//! hands off files that are not the cache's.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ocifs::cache::{Asked, Cache};
use serde_json::Value;

use crate::cache_limits::Tmpfs;
use crate::fixture::{files_below, noise, open, options};
use crate::shell::{Home, Outcome, text};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// Two layers of three spans.
fn image() -> Built {
    let layer = |name: &str, seed| tar(&[Entry::file(name, noise(2_500_000, seed))]);
    ImageBuilder::new()
        .layer(&layer("a", 1), Compression::Gzip)
        .layer(&layer("b", 2), Compression::None)
        .build()
}

/// A home whose cache holds the image and the record of a tag.
fn filled() -> Home {
    let home = Home::new();
    let cache = std::sync::Arc::new(Cache::open(&home.path().join("cache")));
    open(&home.layout(&image()), &cache, &options()).unwrap();
    let digest = ocifs::digest::Digest::sha256(b"manifest");
    cache.put_tag("example.org/r:t", digest, Asked::Checked);
    cache.put_blob(&digest, b"manifest");
    home
}

fn cached(home: &Home, kind: &str) -> Vec<PathBuf> {
    files_below(&home.path().join("cache/v1").join(kind))
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// Files and bytes below a folder, one of several names once.
fn sum(folder: &Path) -> (u64, u64) {
    let mut seen = HashSet::new();
    let files = files_below(folder).into_iter().map(|path| fs::symlink_metadata(path).unwrap());
    let once: Vec<u64> =
        files.filter(|m| seen.insert((m.dev(), m.ino()))).map(|m| m.size()).collect();
    (once.len() as u64, once.iter().sum())
}

#[test]
fn du_adds_up() {
    let home = filled();
    let root = home.path().join("cache/v1");
    fs::write(root.join("tmp/.tmpx"), [0; 77]).unwrap();
    fs::write(root.join("spans/README"), [0; 13]).unwrap();
    fs::create_dir(root.join("theirs")).unwrap();
    fs::write(root.join("theirs/file"), [0; 5]).unwrap();
    let outcome = home.run(&["cache", "du", "--json", "--cache-size", "1G"]);
    outcome.succeeded();
    let row = json(&outcome);
    let both = |value: &Value| (value["files"].as_u64().unwrap(), value["bytes"].as_u64().unwrap());
    let kind = |name: &str| both(&row["kinds"][name]);
    assert_eq!(both(&row["total"]), sum(&root));
    let spans = sum(&root.join("spans"));
    assert_eq!(kind("spans"), (spans.0 - 1, spans.1 - 13));
    assert_eq!(kind("layer-indexes"), sum(&root.join("layers")), "linked names count once");
    let (blobs, refs) = (sum(&root.join("blobs")), sum(&root.join("refs")));
    assert_eq!(kind("documents"), (blobs.0 + refs.0, blobs.1 + refs.1));
    assert_eq!(kind("temporary"), (1, 77));
    assert_eq!(kind("other"), (2, 18));
    assert_eq!((kind("streams"), kind("partial")), ((0, 0), (0, 0)));
    assert_eq!(row["limit"], 1 << 30);
    assert_eq!(row["folder"], text(&home.path().join("cache")));

    let outcome = home.run(&["cache", "du", "--cache-size", "none"]);
    outcome.succeeded();
    for words in ["layer indexes", "not ours", "total", "limit", "none"] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:?}");
    }
}

#[test]
fn no_cache_is_an_empty_one_and_stays_none() {
    let home = Home::new();
    for words in [
        &["cache", "du"][..],
        &["cache", "ls"],
        &["cache", "gc"],
        &["cache", "gc", "--max-size", "0"],
        &["cache", "verify"],
        &["cache", "clear"],
    ] {
        home.run(words).succeeded();
    }
    assert!(!home.path().join("cache").exists());
    for words in [
        &["cache"][..],
        &["cache", "shrink"],
        &["cache", "gc", "--max-size", "none"],
        &["cache", "du", "--cache-size", "-1"],
    ] {
        assert_eq!(home.run(words).code, 2, "{words:?}");
    }
}

#[test]
fn gc_shrinks_to_what_it_is_told() {
    let home = filled();
    let root = home.path().join("cache/v1");
    let before = sum(&root);
    home.run(&["cache", "gc"]).succeeded();
    assert_eq!(sum(&root), before, "it is below the default limit");
    let outcome = home.run(&["cache", "gc", "--max-size", "3M", "--json"]);
    outcome.succeeded();
    let (row, after) = (json(&outcome), sum(&root));
    assert!(after.1 <= 3 << 20 && after.1 > 1 << 20, "{after:?}");
    assert_eq!(row["removed"]["files"], before.0 - after.0);
    assert_eq!(row["removed"]["bytes"], before.1 - after.1);
    assert_eq!(row["left"]["bytes"], after.1);
    let outcome = home.run(&["cache", "gc", "--cache-size", "0"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("layer indexes"), "{outcome:?}");
    assert!(cached(&home, "spans").is_empty() && cached(&home, "layers").len() == 2);
    // And it works again.
    let image = format!("oci:{}/layout", home.path().display());
    home.run(&["cat", &image, "a"]).succeeded();
    assert!(!cached(&home, "spans").is_empty());
}

/// Writes other bytes under a name, as a new file: two names of the old one may be linked.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn verify_finds_every_kind_of_damage() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, &str, Damage); 11] = [
        ("spans", "flipped", |f| f[1000] ^= 1),
        ("spans", "trailer's digest", |f| {
            let at = f.len() - 20;
            f[at] ^= 1;
        }),
        ("spans", "trailer's checksum", |f| *f.last_mut().unwrap() ^= 1),
        ("spans", "longer", |f| f.push(0)),
        ("spans", "cut", |f| f.truncate(30)),
        ("spans", "emptied", Vec::clear),
        ("blobs", "flipped", |f| f[3] ^= 1),
        ("layers", "flipped", |f| f[100] ^= 1),
        ("diffs", "cut", |f| f.truncate(200)),
        ("refs", "nonsense", |f| f.truncate(9)),
        ("refs", "of another", |f| {
            *f = String::from_utf8(f.clone()).unwrap().replace("r:t", "r:u").into_bytes();
        }),
    ];
    let home = filled();
    let keep = home.path().join("cache/v1/spans/README");
    fs::write(&keep, b"not ours").unwrap();
    let outcome = home.run(&["cache", "verify"]);
    outcome.succeeded();
    assert!(outcome.stdout.contains("nothing is damaged"), "{outcome:?}");
    for (kind, how, damage) in damages {
        let home = filled();
        let path = cached(&home, kind).remove(0);
        rewrite(&path, damage);
        let others = files_below(&home.path().join("cache")).len() - 1;
        let outcome = home.run(&["cache", "verify"]);
        assert!(outcome.code == 1 && outcome.stderr.is_empty(), "{kind} {how}: {outcome:?}");
        assert!(outcome.stdout.contains(text(&path)), "{kind} {how}: {outcome:?}");
        assert!(!path.exists(), "{kind} {how} is removed");
        assert_eq!(files_below(&home.path().join("cache")).len(), others, "{kind} {how}");
        home.run(&["cache", "verify"]).succeeded();
    }
    // A whole layer index under the name of another layer, and two damages at once.
    for kind in ["layers", "diffs"] {
        let home = filled();
        let paths = cached(&home, kind);
        let whole = fs::read(&paths[0]).unwrap();
        rewrite(&paths[1], |f| *f = whole);
        rewrite(&cached(&home, "blobs")[0], |f| f.push(b' '));
        let outcome = home.run(&["cache", "verify", "--json"]);
        assert_eq!(outcome.code, 1);
        let damaged = json(&outcome)["damaged"].clone();
        let found: HashSet<&str> =
            damaged.as_array().unwrap().iter().map(|d| d["kind"].as_str().unwrap()).collect();
        assert_eq!(found, HashSet::from(["layer-indexes", "documents"]), "{kind}: {outcome:?}");
        assert!(!paths[1].exists());
    }
    assert_eq!(fs::read(keep).unwrap(), b"not ours");
}

#[test]
fn clear_removes_what_is_ours() {
    let home = filled();
    let root = home.path().join("cache/v1");
    let (files, bytes) = sum(&root);
    for path in [root.join("spans/README"), root.join("mine"), home.path().join("cache/notes")] {
        fs::write(path, b"mine").unwrap();
    }
    let names = files_below(&root).len() as u64 - 2;
    assert!(names > files, "layer indexes have two names");
    let checked = json(&home.run(&["cache", "verify", "--json"]))["checked"].clone();
    let outcome = home.run(&["cache", "clear", "--json"]);
    outcome.succeeded();
    let row = json(&outcome);
    let counted = |count: &Value| (count["files"].as_u64(), count["bytes"].as_u64());
    assert_eq!(counted(&row["removed"]), (Some(files), Some(bytes)), "a file counts once");
    assert_eq!(counted(&checked), (Some(files), Some(bytes)));
    assert_eq!(row["left"]["bytes"], 8);
    let left = files_below(&home.path().join("cache"));
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn clear_beside_a_mount() {
    let home = Home::new();
    let name = home.layout(&image());
    home.run(&["mount", &name, "M"]).succeeded();
    let file = |name: &str| fs::read(home.mount_point().join(name)).unwrap();
    assert!(file("a") == noise(2_500_000, 1));
    let outcome = home.run(&["cache", "clear"]);
    outcome.succeeded();
    assert!(
        cached(&home, "").is_empty() && outcome.stdout.starts_with("removed 4."),
        "{outcome:?}"
    );
    assert!(file("b") == noise(2_500_000, 2), "it was not read before");
    assert!(file("a") == noise(2_500_000, 1));
    home.run(&["umount", "M"]).succeeded();
    home.run(&["mount", &name, "M"]).succeeded();
    assert!(file("a") == noise(2_500_000, 1));
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Names that are right and lead elsewhere: neither followed nor counted as ours.
#[test]
fn links_out_of_the_cache() {
    let hex = "ab".repeat(32);
    let home = filled();
    let (root, outside) = (home.path().join("cache/v1"), home.path().join("outside"));
    fs::create_dir_all(outside.join("ab")).unwrap();
    fs::write(outside.join("ab").join(&hex), b"precious").unwrap();
    fs::write(outside.join(format!("sha256-{hex}")), b"precious").unwrap();
    let target = outside.join("ab").join(&hex);
    fs::remove_dir_all(root.join("streams")).unwrap();
    fs::remove_dir_all(root.join("partial")).unwrap();
    symlink(&outside, root.join("streams")).unwrap();
    symlink(&outside, root.join("partial")).unwrap();
    fs::create_dir_all(root.join("spans/cd")).unwrap();
    fs::remove_dir_all(root.join("spans/ab")).ok();
    symlink(outside.join("ab"), root.join("spans/ab")).unwrap();
    symlink(&target, root.join("spans/cd").join("cd".repeat(32))).unwrap();
    let is_whole = || {
        let found = files_below(&outside);
        found.len() == 2 && found.iter().all(|path| fs::read(path).unwrap() == b"precious")
    };
    for words in [
        &["cache", "du"][..],
        &["cache", "verify"],
        &["cache", "gc", "--max-size", "0"],
        &["cache", "clear"],
    ] {
        let outcome = home.run(words);
        assert_eq!(outcome.code, 0, "{words:?}: {outcome:?}");
        assert!(is_whole(), "{words:?}");
    }
    // Temporary files are swept whenever the cache is opened.
    let old = fs::File::open(&target).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(48 * 3600)).unwrap();
    fs::remove_dir_all(root.join("tmp")).unwrap();
    symlink(outside.join("ab"), root.join("tmp")).unwrap();
    let outcome = home.run(&["ls", &format!("oci:{}/layout", home.path().display())]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let streams = format!("nothing is cached: cache folder {}: ", root.join("streams").display());
    assert!(outcome.stderr.contains(&streams), "{outcome:?}");
    assert!(is_whole());
    // The version's folder itself.
    let home = filled();
    let cache = home.path().join("cache");
    fs::rename(cache.join("v1"), home.path().join("moved")).unwrap();
    symlink(home.path().join("moved"), cache.join("v1")).unwrap();
    let before = files_below(&home.path().join("moved"));
    home.run(&["cache", "clear"]).failed(1, &["cache"]);
    home.run(&["cache", "gc", "--max-size", "0"]).failed(1, &["cache"]);
    assert_eq!(files_below(&home.path().join("moved")), before);
}

#[test]
fn a_cache_that_cannot_be_written() {
    let home = filled();
    let frozen = Tmpfs::new(home.path().join("frozen"), "size=50m");
    let mut copy = home.command("cp");
    copy.arg("-a").arg(home.path().join("cache/v1")).arg(&frozen.0);
    assert!(copy.status().unwrap().success());
    rewrite(&files_below(&frozen.0.join("v1/spans"))[0], |f| f[0] ^= 1);
    frozen.freeze();
    let before = sum(&frozen.0);
    let folder = text(&frozen.0).to_owned();
    let run = |words: &[&str]| home.run(&[words, &["--cache-dir", &folder]].concat());
    run(&["cache", "du"]).succeeded();
    run(&["cache", "gc"]).succeeded();
    for words in
        [&["cache", "gc", "--max-size", "0"][..], &["cache", "clear"], &["cache", "verify"]]
    {
        let outcome = run(words);
        assert!(
            outcome.code == 1 && outcome.stderr.contains("Read-only"),
            "{words:?}: {outcome:?}"
        );
        assert_eq!(sum(&frozen.0), before);
    }
}

/// A registry with two images that have their base in common.
fn two_images() -> Registry {
    let base = tar(&[Entry::file("base", noise(2_500_000, 1))]);
    let own = |seed| tar(&[Entry::file("own", noise(1_500_000, seed))]);
    let registry = Registry::start();
    for (tag, seed) in [("1", 2), ("2", 3)] {
        let image = ImageBuilder::new().layer(&base, Compression::None);
        registry.add_image("r", tag, &image.layer(&own(seed), Compression::None).build());
    }
    registry
}

/// The rows of `ls` by name, and the bytes of all files.
fn listed(home: &Home) -> (Vec<Value>, u64) {
    let outcome = home.run(&["cache", "ls", "--json"]);
    outcome.succeeded();
    let row = json(&outcome);
    let mut images = row["images"].as_array().unwrap().clone();
    images.sort_by_key(|image| image["image"].as_str().map(str::to_owned));
    (images, row["bytes"].as_u64().unwrap())
}

#[test]
fn ls_tells_images_apart_and_rm_takes_no_more_than_one() {
    let (home, registry) = (Home::new(), two_images());
    let [one, two] = ["1", "2"].map(|tag| format!("{}/r:{tag}", registry.addr()));
    home.run(&["pull", &one]).succeeded();
    home.run(&["mount", &two, "M"]).succeeded();
    let (images, bytes) = listed(&home);
    let root = home.path().join("cache/v1");
    assert_eq!(bytes, sum(&root).1, "nothing else is in there");
    let field = |image: &Value, key: &str| image[key].as_u64().unwrap();
    let names: Vec<_> = images.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(names, [&one, &two]);
    for image in &images {
        let (all, own) = (field(image, "bytes"), field(image, "own_bytes"));
        assert!((4_000_000..4_300_000).contains(&all), "{image}");
        assert!((1_500_000..1_700_000).contains(&own), "{image}");
    }
    assert_eq!(images[0]["mounts"], Value::Array(Vec::new()));
    assert_eq!(images[1]["mounts"][0]["mount_point"], text(&home.mount_point()));
    let shared = field(&images[0], "bytes") - field(&images[0], "own_bytes");
    let sum_of_all: u64 = images.iter().map(|image| field(image, "own_bytes")).sum();
    assert_eq!(shared + sum_of_all, bytes);
    let table = home.run(&["cache", "ls"]);
    table.succeeded();
    assert!(table.stdout.contains(&one) && table.stdout.contains(text(&home.mount_point())));

    // What is not there is told, and nothing is removed then.
    let none = format!("{}/r:3", registry.addr());
    home.run(&["cache", "rm", &one, &none]).failed(1, &[&none, "`ocifs cache ls`"]);
    assert_eq!(listed(&home).1, bytes);
    home.run(&["cache", "rm", "oci:layout"]).failed(1, &["oci:", "by name"]);

    // The digest means the same image as its tag.
    let digest = images[0]["digest"].as_str().unwrap();
    let by_digest = format!("{}/r@{digest}", registry.addr());
    let elsewhere = format!("{}/other@{digest}", registry.addr());
    home.run(&["cache", "rm", &elsewhere]).failed(1, &[&elsewhere]);
    let removed = home.run(&["cache", "rm", "--json", &by_digest]);
    removed.succeeded();
    assert_eq!(json(&removed)["removed"]["bytes"], images[0]["own_bytes"]);
    let (left, now) = listed(&home);
    assert_eq!((left.len(), now), (1, bytes - field(&images[0], "own_bytes")));
    assert_eq!((field(&left[0], "bytes"), field(&left[0], "own_bytes")), (now, now));
    home.run(&["cat", "--offline", &one, "own"]).failed(1, &["offline"]);
    home.run(&["ls", "--offline", &two]).succeeded();

    // A mount fetches again what it needs.
    let warned = home.run(&["cache", "rm", &two]);
    assert!(warned.code == 0 && warned.stderr.contains("fetches again"), "{warned:?}");
    assert_eq!(listed(&home).0, Vec::<Value>::new());
    assert_eq!(fs::read(home.mount_point().join("own")).unwrap(), noise(1_500_000, 3));
    assert_eq!(fs::read(home.mount_point().join("base")).unwrap(), noise(2_500_000, 1));
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A tag that has moved leaves an image without a name, and layers of layouts belong to none.
#[test]
fn ls_lists_images_that_no_tag_means() {
    let (home, registry) = (Home::new(), two_images());
    let name = format!("{}/r:1", registry.addr());
    home.run(&["pull", &name]).succeeded();
    let manifest = registry.manifest("r", "2").unwrap();
    registry.add_manifest("r", "1", crate::support::image::OCI_MANIFEST, &manifest);
    home.run(&["pull", &name]).succeeded();
    let (images, _) = listed(&home);
    assert_eq!(images.len(), 2, "{images:?}");
    assert!(images[0]["image"].is_null() && images[1]["image"] == *name);
    let nameless = format!("{}/r@{}", registry.addr(), images[0]["digest"].as_str().unwrap());
    home.run(&["cache", "rm", &nameless]).succeeded();
    assert_eq!(listed(&home).0.len(), 1);
    home.run(&["cat", "--offline", &name, "base"]).succeeded();

    let layout = home.layout(&image());
    home.run(&["pull", &layout]).succeeded();
    let outcome = home.run(&["cache", "ls", "--json"]);
    let row = json(&outcome);
    assert_eq!(row["images"].as_array().unwrap().len(), 1, "{row}");
    assert!(row["other_bytes"].as_u64().unwrap() > 5_000_000, "{row}");
}

/// Spans are known by what is in them: two layers may have some in common, of which one is a layout's.
#[test]
fn rm_leaves_what_a_layer_of_no_image_has() {
    let (home, registry) = (Home::new(), Registry::start());
    let common = || Entry::file("a", noise(8_000_000, 1));
    let [one, other] = ["1", "2"].map(|text| tar(&[common(), Entry::file("b", text)]));
    registry.add_image("r", "t", &ImageBuilder::new().layer(&one, Compression::None).build());
    let layout = home.layout(&ImageBuilder::new().layer(&other, Compression::None).build());
    let name = format!("{}/r:t", registry.addr());
    home.run(&["pull", &layout]).succeeded();
    let before = sum(&home.path().join("cache/v1/spans"));
    home.run(&["pull", &name]).succeeded();
    let (images, _) = listed(&home);
    let own = images[0]["own_bytes"].as_u64().unwrap();
    assert!(own < 4_000_000 && images[0]["bytes"].as_u64().unwrap() > 8_000_000, "{images:?}");
    home.run(&["cache", "rm", &name]).succeeded();
    assert_eq!(sum(&home.path().join("cache/v1/spans")), before);
}
