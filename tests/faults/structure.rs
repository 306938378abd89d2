//! `ocifs mount --layout`: what an image consists of as files, and what that costs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::getxattr;
use serde_json::{Value, json};

use crate::fixture::{files_below, noise};
use crate::inspect::Repository;
use crate::shell::{Home, eventually_within};
use crate::support::content::{Content, for_platform, multi};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Referrers, Times};
use crate::support::tarball::{Entry, tar};

/// An image whose second layer hides names of the first.
fn with_whiteouts() -> Built {
    let base = tar(&[
        Entry::dir("etc"),
        Entry::file("etc/a", "lower"),
        Entry::file("etc/b", noise(50_000, 1)),
        Entry::dir("var"),
        Entry::file("var/c", "c"),
    ]);
    let upper = tar(&[
        Entry::file("etc/.wh.b", ""),
        Entry::file("etc/.wh.odd\nname", ""),
        Entry::file("etc/a", "upper"),
        Entry::file("var/.wh..wh..opq", ""),
        Entry::file("var/d", "d"),
    ]);
    let history = json!([
        { "created": "2026-01-02T03:04:05Z", "created_by": "ADD base /" },
        { "created_by": "ENV A=\u{1b}[31m\nB", "empty_layer": true },
        { "created_by": "RUN change" },
    ]);
    ImageBuilder::new()
        .layer(&base, Compression::Gzip)
        .layer(&upper, Compression::Gzip)
        .config("history", history)
        .build()
}

/// A repository of which one image is mounted as what it consists of.
struct Mounted {
    repository: Repository,
}

impl Mounted {
    fn new(content: &Content, flags: &[&str]) -> Mounted {
        let repository = Repository::new(content);
        repository.registry.set_referrers(Referrers::Filtered);
        let mounted = Mounted { repository };
        mounted.mount(flags);
        mounted
    }

    fn mount(&self, flags: &[&str]) {
        let name = self.repository.name(":t");
        self.repository.registry.clear_log();
        let home = &self.repository.home;
        home.run(&[&["mount", "--layout"], flags, &[&name, "M"]].concat()).succeeded();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.repository.home.mount_point().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn end(self) {
        self.repository.home.run(&["umount", "M"]).succeeded();
        self.repository.home.is_quiet();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let rows = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut names: Vec<String> =
        rows.map(|row| row.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn hex(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

const AMD64: [&str; 2] = ["--platform", "linux/amd64"];

#[test]
fn documents_cost_no_byte_of_a_layer() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("t", &index);
    let mounted = Mounted::new(&content, &AMD64);
    let documents = ["GET manifests/t", &format!("GET manifests/{}", images[0].manifest_digest)];
    let config = format!("GET blobs/{}", images[0].config_digest());
    let asked = mounted.repository.asked();
    assert_eq!(asked, [documents[0], documents[1], &config], "what opening any image needs");
    let image = ["attestations", "config.json", "history.txt", "layers", "manifest.json"];
    let root = [&image[..], &["platforms", "referrers", "rootfs"]].concat();
    let with_index = [&root[..4], &["index.json"], &root[4..]].concat();
    let mut with_index: Vec<&str> = with_index;
    with_index.sort_unstable();
    assert_eq!(names(&mounted.at("")), with_index);
    let layers: Vec<String> = images[0].layer_digests();
    let expected: Vec<String> =
        (0..).zip(&layers).map(|(at, digest)| format!("{at}-{}", hex(digest))).collect();
    assert_eq!(names(&mounted.at("layers")), expected);
    assert_eq!(names(&mounted.at("platforms")), ["linux-amd64", "linux-arm64"]);
    // As `ls -l` looks at them.
    for path in ["rootfs", "attestations", "referrers", "platforms/linux-arm64", "index.json"] {
        fs::metadata(mounted.at(path)).unwrap();
    }
    for name in &expected {
        assert!(fs::metadata(mounted.at("layers").join(name)).unwrap().is_dir());
    }
    assert_eq!(fs::read(mounted.at("manifest.json")).unwrap(), images[0].manifest);
    let config = &images[0].blobs[&images[0].config_digest()];
    assert_eq!(&fs::read(mounted.at("config.json")).unwrap(), config);
    let metadata = fs::metadata(mounted.at("config.json")).unwrap();
    assert_eq!((metadata.len(), metadata.mode()), (config.len() as u64, 0o100_444));
    let index: Value = serde_json::from_str(&mounted.text("index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
    assert_eq!(mounted.repository.asked(), asked, "none of that asks for anything");
    // The documents of another platform, when its directory is entered.
    let other = names(&mounted.at("platforms/linux-arm64"));
    assert_eq!(other, [&image[..], &["referrers", "rootfs"]].concat());
    assert_eq!(mounted.repository.asked().len(), asked.len() + 2);
    assert_eq!(
        fs::read(mounted.at("platforms/linux-arm64/manifest.json")).unwrap(),
        images[1].manifest
    );
    for digest in images.iter().flat_map(Built::layer_digests) {
        assert!(!mounted.repository.asked().iter().any(|path| path.contains(&digest)), "{digest}");
    }
    let absent = fs::metadata(mounted.at("platforms/linux-s390x")).unwrap_err();
    assert_eq!(absent.raw_os_error(), Some(2));
    let changed = fs::write(mounted.at("manifest.json"), "x").unwrap_err();
    assert_eq!(changed.raw_os_error(), Some(30));
    mounted.end();
}

#[test]
fn roots_and_layers_are_those_of_each_platform() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("t", &index);
    let mounted = Mounted::new(&content, &AMD64);
    for (path, architecture) in [
        ("rootfs", "amd64"),
        ("platforms/linux-amd64/rootfs", "amd64"),
        ("platforms/linux-arm64/rootfs", "arm64"),
    ] {
        assert_eq!(mounted.text(&format!("{path}/etc/architecture")), architecture);
        assert_eq!(mounted.text(&format!("{path}/etc/os-release")), "ID=test\n");
    }
    let upper = format!("layers/1-{}", hex(&images[0].layer_digests()[1]));
    assert_eq!(names(&mounted.at(&upper).join("etc")), ["architecture"]);
    assert_eq!(fs::read(mounted.at(&upper).join("etc/architecture")).unwrap(), b"amd64");
    // Each layer came once, whatever shows it.
    let requests = mounted.repository.registry.requests();
    for digest in images.iter().flat_map(Built::layer_digests) {
        let times = requests.iter().filter(|request| request.path.ends_with(&digest)).count();
        assert_eq!(times, 1, "{digest}");
    }
    let status = mounted.repository.home.status();
    assert_eq!(status["digest"], Value::Null, "three of them are open: {status}");
    let images_of: Vec<&str> = status["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["directory"].as_str().unwrap_or("/"))
        .collect();
    assert_eq!(images_of, ["/", "platforms/linux-amd64", "platforms/linux-arm64"]);
    // What is the same file is one inode, wherever it is shown.
    let base = format!("layers/0-{}", hex(&images[0].layer_digests()[0]));
    let inode = |path: &str| fs::metadata(mounted.at(path)).unwrap().ino();
    for path in [&base, "platforms/linux-amd64/rootfs"] {
        let file = format!("{path}/etc/os-release");
        assert_eq!(inode(&file), inode("rootfs/etc/os-release"), "{path}");
    }
    assert_eq!(inode(&format!("{upper}/etc/architecture")), inode("rootfs/etc/architecture"));
    assert_ne!(
        inode("platforms/linux-arm64/rootfs/etc/architecture"),
        inode("rootfs/etc/architecture")
    );
    // A file may be looked up in what was opened meanwhile, and has holes and attributes as in a mount.
    let file = fs::File::open(mounted.at("rootfs/etc/os-release")).unwrap();
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap(), 0);
    let document = fs::File::open(mounted.at("config.json")).unwrap();
    let length = document.metadata().unwrap().len();
    assert_eq!(rustix::fs::seek(&document, rustix::fs::SeekFrom::Hole(0)).unwrap(), length);
    assert!(rustix::fs::seek(&document, rustix::fs::SeekFrom::Data(length)).is_err());
    drop((file, document));
    mounted.end();
}

#[test]
fn layers_show_their_whiteouts() {
    let built = with_whiteouts();
    let mut content = Content::default();
    let descriptor = content.image(&built);
    content.tag("t", &descriptor);
    let mounted = Mounted::new(&content, &[]);
    let layers = built.layer_digests();
    let [base, upper] = [0, 1].map(|at| format!("layers/{at}-{}", hex(&layers[at])));
    assert_eq!(names(&mounted.at(&base)), ["etc", "var"]);
    assert_eq!(names(&mounted.at(&upper)), ["etc", "var", "whiteouts.txt"]);
    assert_eq!(names(&mounted.at(&upper).join("etc")), [".wh.b", ".wh.odd\nname", "a"]);
    let list = "whiteout\t/etc/b\nwhiteout\t/etc/odd\\nname\nopaque\t/var/\n";
    assert_eq!(mounted.text(&format!("{upper}/whiteouts.txt")), list);
    assert_eq!(mounted.text(&format!("{upper}/etc/a")), "upper");
    assert_eq!(mounted.text(&format!("{base}/etc/a")), "lower");
    let mark = |path: &str| {
        let mut value = [0; 100];
        let read = getxattr(mounted.at(&upper).join(path), "user.ocifs.mark", &mut value);
        read.map(|length| String::from_utf8(value[..length].to_vec()).unwrap())
    };
    assert_eq!(mark("etc/.wh.b").unwrap(), "whiteout");
    assert_eq!(mark("var/.wh..wh..opq").unwrap(), "opaque");
    assert!(mark("etc/a").is_err());
    assert_eq!(names(&mounted.at("rootfs/etc")), ["a"]);
    let inode = |path: &str| fs::metadata(mounted.at(path)).unwrap().ino();
    assert_eq!(inode(&format!("{upper}/etc/a")), inode("rootfs/etc/a"));
    assert_ne!(inode(&format!("{base}/etc/a")), inode("rootfs/etc/a"));
    let whiteouts = ["etc/.wh.b", "etc/.wh.odd\nname", "var/.wh..wh..opq", "whiteouts.txt"];
    let mut whiteouts = whiteouts.map(|path| inode(&format!("{upper}/{path}"))).to_vec();
    whiteouts.sort_unstable();
    whiteouts.dedup();
    assert_eq!(whiteouts.len(), 4, "what is no file of the layer is shared with nothing");
    // A line an instruction; what an image wrote does not command the terminal.
    let history = mounted.text("history.txt");
    let sizes = built.layer_sizes();
    let expected = [
        "#layer\tdigest\tbytes\tcreated\tinstruction".to_owned(),
        format!("0\t{}\t{}\t2026-01-02T03:04:05Z\tADD base /", hex(&layers[0]), sizes[0]),
        "-\t-\t-\t-\tENV A=\\x1b[31m\\nB".to_owned(),
        format!("1\t{}\t{}\t-\tRUN change", hex(&layers[1]), sizes[1]),
    ];
    assert_eq!(history.lines().collect::<Vec<_>>(), expected);
    mounted.end();
}

/// A layer may have a file of that name itself.
#[test]
fn the_list_of_whiteouts_hides_no_file() {
    let layer = tar(&[
        Entry::file("whiteouts.txt", "the image's own"),
        Entry::hardlink("whiteouts-2.txt", "whiteouts.txt"),
        Entry::file(".wh.x", ""),
    ]);
    let built = ImageBuilder::new().layer(&layer, Compression::Zstd).build();
    let mut content = Content::default();
    let descriptor = content.image(&built);
    content.tag("t", &descriptor);
    let mounted = Mounted::new(&content, &[]);
    let layer = format!("layers/0-{}", hex(&built.layer_digests()[0]));
    let expected = [".wh.x", "whiteouts-2.txt", "whiteouts-3.txt", "whiteouts.txt"];
    assert_eq!(names(&mounted.at(&layer)), expected);
    assert_eq!(mounted.text(&format!("{layer}/whiteouts.txt")), "the image's own");
    assert_eq!(mounted.text(&format!("{layer}/whiteouts-2.txt")), "the image's own");
    assert_eq!(mounted.text(&format!("{layer}/whiteouts-3.txt")), "whiteout\t/x\n");
    mounted.end();
}

#[test]
fn what_others_say_of_it() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("t", &index);
    let blob = content.blob("application/vnd.example+json", b"{\"hello\":1}");
    let mut titled = content.blob("text/plain", b"some words");
    titled["annotations"] = json!({ "org.opencontainers.image.title": "../a/words.txt" });
    content.artifact("application/vnd.example.v1", &index, &[blob, titled]);
    let mounted = Mounted::new(&content, &AMD64);
    let attestations = names(&mounted.at("attestations"));
    assert_eq!(attestations.len(), 2, "{attestations:?}");
    assert!(attestations[0].starts_with("slsa.dev-provenance-v1-"), "{attestations:?}");
    assert!(attestations[1].starts_with("spdx.dev-Document-"), "{attestations:?}");
    assert!(attestations.iter().all(|name| name.ends_with(".json")), "{attestations:?}");
    let blobs = |mounted: &Mounted| {
        mounted.repository.asked().iter().filter(|path| path.contains("GET blobs/")).count()
    };
    assert_eq!(blobs(&mounted), 1, "the config; no statement is fetched before it is read");
    let statement: Value =
        serde_json::from_str(&mounted.text(&format!("attestations/{}", attestations[1]))).unwrap();
    assert_eq!(statement["predicateType"], "https://spdx.dev/Document");
    assert_eq!(blobs(&mounted), 2);
    // Those of another platform are others.
    let other = names(&mounted.at("platforms/linux-arm64/attestations"));
    assert!(other.len() == 2 && other != attestations, "{other:?}");
    let referrers = names(&mounted.at("referrers"));
    assert_eq!(referrers.len(), 1, "{referrers:?}");
    assert!(referrers[0].starts_with("application-vnd.example.v1-"), "{referrers:?}");
    let files = mounted.at("referrers").join(&referrers[0]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(files.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["subject"]["digest"], index["digest"]);
    assert_eq!(fs::read(files.join("files/a/words.txt")).unwrap(), b"some words");
    assert_eq!(files_below(&files).len(), 3);
    for digest in images.iter().flat_map(Built::layer_digests) {
        assert!(!mounted.repository.asked().iter().any(|path| path.contains(&digest)), "{digest}");
    }
    mounted.end();
}

#[test]
fn all_platforms_are_directories() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    // The same platform twice, and an entry that says nothing.
    let again = for_platform(content.image(&with_whiteouts()), "amd64");
    let document: Value = serde_json::from_slice(content.bytes(&index).1).unwrap();
    let mut entries = document["manifests"].as_array().unwrap().clone();
    entries.push(again);
    let index = content.index(&entries);
    content.tag("t", &index);
    let mounted = Mounted::new(&content, &["--platform", "all"]);
    assert_eq!(mounted.repository.asked(), ["GET manifests/t"]);
    let expected = ["index.json", "linux-amd64", "linux-amd64-2", "linux-arm64"];
    assert_eq!(names(&mounted.at("")), expected);
    assert_eq!(mounted.repository.asked(), ["GET manifests/t"]);
    assert_eq!(mounted.text("linux-arm64/rootfs/etc/architecture"), "arm64");
    assert_eq!(mounted.text("linux-amd64-2/rootfs/etc/a"), "upper");
    assert_eq!(fs::read(mounted.at("linux-amd64/manifest.json")).unwrap(), images[0].manifest);
    // The same is mounted there; another way is refused.
    let home = &mounted.repository.home;
    let name = mounted.repository.name(":t");
    let other = home.run(&["mount", "--layout", &name, "M"]);
    other.failed(1, &["mounted in another way"]);
    mounted.end();
    let home = Home::new();
    home.run(&["mount", "--platform", "all", "r.example/x", "M"]).failed(2, &["`--layout`"]);
    home.run(&["mount", "--layout", "a:1", "b:1", "M"]).failed(2, &["shows one image"]);
}

/// The same again is no error, as with any mount.
#[test]
fn mounting_it_twice() {
    let built = with_whiteouts();
    let mut content = Content::default();
    let descriptor = content.image(&built);
    content.tag("t", &descriptor);
    let mounted = Mounted::new(&content, &[]);
    assert_eq!(mounted.text("rootfs/etc/a"), "upper");
    let name = mounted.repository.name(":t");
    let again = mounted.repository.home.run(&["mount", "--layout", &name, "M"]);
    assert!(again.code == 0 && again.stderr.contains("already mounted"), "{again:?}");
    let plain = mounted.repository.home.run(&["mount", &name, "M"]);
    plain.failed(1, &["mounted in another way"]);
    mounted.end();
}

/// `diff -r` of two layouts tells what differs, documents and layers.
#[test]
fn two_layouts_can_be_compared() {
    let home = Home::new();
    let old = home.path().join("old");
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    content.tag("t", &index);
    content.write_layout(&old).unwrap();
    let new = home.path().join("new");
    let mut content = Content::default();
    let descriptor = content.image(&with_whiteouts());
    content.tag("t", &descriptor);
    content.write_layout(&new).unwrap();
    let [from, to] = ["from", "to"].map(|name| home.path().join(name));
    for (place, layout) in [(&from, &old), (&to, &new)] {
        fs::create_dir(place).unwrap();
        let (place, name) = (place.to_str().unwrap(), format!("oci:{}:t", layout.display()));
        home.run(&["mount", "--layout", "--platform", "linux/amd64", &name, place]).succeeded();
    }
    let mut diff = home.command("diff");
    let differs = diff.arg("-rq").args([&from, &to]).output().unwrap();
    let text = String::from_utf8(differs.stdout).unwrap();
    assert_eq!(differs.status.code(), Some(1), "{text}");
    for words in ["config.json", "platforms", "rootfs/etc: architecture", "history.txt"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let same = home.command("diff").arg("-r").args([&from, &from]).output().unwrap();
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    for place in [&from, &to] {
        home.run(&["umount", place.to_str().unwrap()]).succeeded();
    }
}

/// What can't be had is an error of its directory; everything else goes on.
#[test]
fn a_part_that_cannot_be_had_is_an_error_of_its_own() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("t", &index);
    let mounted = Mounted::new(&content, &AMD64);
    let registry = &mounted.repository.registry;
    let layer = images[0].layer_digests()[1].clone();
    registry.fault(("GET", &layer, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    registry.fault(
        ("GET", &images[1].manifest_digest, Times::Always),
        Fault::Status(404, Vec::new(), Vec::new()),
    );
    let upper = format!("layers/1-{}", hex(&layer));
    for path in ["rootfs", &upper, "platforms/linux-arm64"] {
        let error = fs::read_dir(mounted.at(path)).and_then(|mut rows| rows.next().unwrap());
        assert_eq!(error.unwrap_err().raw_os_error(), Some(5), "{path}");
    }
    let lower = format!("layers/0-{}", hex(&images[0].layer_digests()[0]));
    assert_eq!(names(&mounted.at(&lower)), ["etc"]);
    assert_eq!(fs::read(mounted.at("manifest.json")).unwrap(), images[0].manifest);
    let errors = mounted.repository.home.status()["recent_errors"].to_string();
    assert!(errors.contains(&layer) && errors.contains("platforms/linux-arm64"), "{errors}");
    // It is forgotten after a while.
    registry.clear_faults();
    let is_back = || fs::read(mounted.at("rootfs/etc/architecture")).is_ok_and(|b| b == b"amd64");
    assert!(eventually_within(Duration::from_secs(20), is_back));
    mounted.end();
}

/// An artifact has files instead of a root and layers.
#[test]
fn artifacts_consist_of_files() {
    let mut content = Content::default();
    let mut words = content.blob("text/plain", b"words");
    words["annotations"] = json!({ "org.opencontainers.image.title": "words.txt" });
    let artifact = content.artifact("application/vnd.example", &Value::Null, &[words]);
    content.tag("t", &artifact);
    let mounted = Mounted::new(&content, &[]);
    let expected = ["attestations", "config.json", "files", "manifest.json", "referrers"];
    assert_eq!(names(&mounted.at("")), expected);
    assert_eq!(mounted.text("files/words.txt"), "words");
    assert_eq!(mounted.text("config.json"), "{}");
    assert!(names(&mounted.at("attestations")).is_empty());
    mounted.end();
}
