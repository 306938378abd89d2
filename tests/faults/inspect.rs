//! `ocifs inspect` and `ocifs blob`: what is asked for, and what becomes of documents that are made to do harm.

use serde_json::{Value, json};

use crate::fixture::noise;
use crate::shell::{Home, Outcome};
use crate::support::content::{Content, for_platform, image_for, multi};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::{Fault, Referrers, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// A home, and a repository in a registry.
pub struct Repository {
    pub home: Home,
    pub registry: Registry,
}

impl Repository {
    pub fn new(content: &Content) -> Repository {
        let registry = Registry::start();
        content.serve(&registry, "r");
        Repository { home: Home::new(), registry }
    }

    /// The name of the repository, with something behind it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/r{rest}", self.registry.addr())
    }

    /// Runs the program on it; the registry's log begins anew.
    pub fn run(&self, verb: &str, rest: &str, flags: &[&str]) -> Outcome {
        self.registry.clear_log();
        self.home.run(&[&[verb, &self.name(rest)], flags].concat())
    }

    /// What `--json` prints.
    #[track_caller]
    pub fn json(&self, verb: &str, rest: &str, flags: &[&str]) -> Value {
        let outcome = self.run(verb, rest, &[flags, &["--json"]].concat());
        assert_eq!(outcome.code, 0, "{outcome:?}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// What was asked for since: method, and path below the repository.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.registry.requests().into_iter();
        let short = |path: &str| path.split("/v2/r/").last().unwrap_or_default().to_owned();
        requests.map(|request| format!("{} {}", request.method, short(&request.path))).collect()
    }
}

fn multi_platform() -> (Repository, Value, [Built; 2]) {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("1.4", &index);
    (Repository::new(&content), index, images)
}

#[track_caller]
fn is_not_asked(repository: &Repository, images: &[Built]) {
    for layer in images.iter().flat_map(Built::layer_digests) {
        assert!(!repository.asked().iter().any(|path| path.contains(&layer)), "{layer}");
    }
}

/// `skopeo inspect` asks five times: whether there is a registry, for the index, the manifest, the config and the tags.
#[test]
fn no_more_is_asked_for_than_skopeo_does() {
    let (repository, index, images) = multi_platform();
    let name = ["--platform", "linux/amd64"];
    let digest = index["digest"].as_str().unwrap();
    let (manifest, config) = (&images[0].manifest_digest, images[0].config_digest());
    let document = repository.json("inspect", ":1.4", &name);
    let documents = [
        "GET manifests/1.4".to_owned(),
        format!("GET manifests/{manifest}"),
        format!("GET blobs/{config}"),
    ];
    let referrers = [
        format!("GET referrers/{digest}"),
        // The registry has no such API.
        format!("GET manifests/{}", digest.replace(':', "-")),
    ];
    assert_eq!(repository.asked(), [&documents[..], &referrers[..]].concat());
    assert_eq!(document["root"]["digest"], digest);
    assert_eq!(document["digest"], manifest[..]);
    assert_eq!(document["image_id"], config);
    assert_eq!(document["layers"].as_array().unwrap().len(), 2);
    assert_eq!(document["layers"][1]["diff_id"], images[0].diff_ids()[1]);
    assert_eq!(document["entries"].as_array().unwrap().len(), 4);
    assert_eq!(document["entries"][2]["about"], manifest[..]);
    assert_eq!(document["created"], 1_704_164_646);
    assert_eq!(document["config"]["env"], json!(["PATH=/bin", "A=b"]));
    assert_eq!(document["config"]["labels"]["org.opencontainers.image.version"], "1.4");

    // The second time, one question says that nothing has changed.
    repository.json("inspect", ":1.4", &name);
    let again = [&["HEAD manifests/1.4".to_owned()], &referrers[..]].concat();
    assert_eq!(repository.asked(), again);
    // And offline there is none.
    let document = repository.json("inspect", ":1.4", &["--offline", name[0], name[1]]);
    assert_eq!((repository.asked().len(), &document["referrers"]), (0, &Value::Null));
}

#[test]
fn everything_is_opened_where_that_is_wanted_and_no_layer() {
    let (repository, index, images) = multi_platform();
    repository.registry.set_referrers(Referrers::Filtered);
    let document = repository.json("inspect", ":1.4", &["--all", "--platform", "linux/amd64"]);
    is_not_asked(&repository, &images);
    let entries = document["entries"].as_array().unwrap();
    assert_eq!(entries[1]["manifest"]["config"]["digest"], images[1].config_digest());
    assert_eq!(document["layers"][0]["shared"], 1, "arm64 has it as well");
    assert_eq!(document["layers"][1]["shared"], 0);
    assert_eq!(document["referrers"], json!([]));
    assert_eq!(document["left_out"], 0);
    assert_eq!(entries[0]["within"], index["digest"]);

    // What the cache has of a layer is told.
    repository.run("pull", ":1.4", &["--platform", "linux/amd64"]).succeeded();
    let document = repository.json("inspect", ":1.4", &["--platform", "linux/amd64"]);
    assert_eq!(document["layers"][0]["proof"], "full");
}

#[test]
fn raw_documents_are_those_of_the_registry_to_the_byte() {
    let (repository, index, images) = multi_platform();
    let platform = ["--platform", "linux/arm64"];
    for (flags, digest) in [
        (&["--raw"][..], index["digest"].as_str().unwrap()),
        (&["--raw", platform[0], platform[1]], &images[1].manifest_digest),
        (&["--config", platform[0], platform[1]], &images[1].config_digest()),
    ] {
        let outcome = repository.run("inspect", ":1.4", flags);
        outcome.succeeded();
        assert_eq!(sha256(outcome.stdout.as_bytes()), digest, "{flags:?}");
        if let Some((&"--raw", flags)) = flags.split_first() {
            let outcome = repository.run("inspect", ":1.4", &[&["--digest"], flags].concat());
            assert_eq!((outcome.code, outcome.stdout), (0, format!("{digest}\n")), "{flags:?}");
        }
    }
    // One that lies is not printed.
    for (path, flags) in [
        (images[0].manifest_digest.clone(), &["--raw", "--platform", "linux/amd64"][..]),
        (images[0].config_digest(), &["--config", "--platform", "linux/amd64"]),
    ] {
        let (repository, ..) = multi_platform();
        repository.registry.fault(("GET", &path, Times::Always), Fault::FlipByte(9));
        repository.run("inspect", ":1.4", flags).failed(1, &["match"]);
    }
}

#[test]
fn several_images_for_a_platform_and_indexes_in_indexes() {
    let mut content = Content::default();
    let images = ["amd64", "arm64"].map(image_for);
    let other = ImageBuilder::new().platform("linux", "amd64", None);
    let other = other.layer(&tar(&[Entry::file("f", "x")]), Compression::Gzip).build();
    let inner = [&images[1], &other].map(|image| content.image(image));
    let inner = [for_platform(inner[0].clone(), "arm64"), for_platform(inner[1].clone(), "amd64")];
    let nested = content.index(&inner);
    let first = for_platform(content.image(&images[0]), "amd64");
    let broken = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "md5:abc", "size": 1,
        "platform": { "os": "linux", "architecture": "s390x" },
    });
    let root = content.index(&[first, nested.clone(), broken]);
    content.tag("t", &root);
    let repository = Repository::new(&content);

    // Not opened, as amd64 is found without it.
    let document = repository.json("inspect", ":t", &["--platform", "linux/amd64"]);
    let kinds = |document: &Value| -> Vec<String> {
        let entries = document["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&document), ["image", "index", "unusable"]);
    // On the way to the image.
    let document = repository.json("inspect", ":t", &["--platform", "linux/arm64"]);
    assert_eq!(kinds(&document), ["image", "index", "image", "image", "unusable"]);
    assert_eq!(document["entries"][2]["within"], nested["digest"]);
    assert_eq!(document["digest"], images[1].manifest_digest);
    // `@digest` chooses among those for one platform.
    let document = repository.json("inspect", &format!("@{}", other.manifest_digest), &[]);
    assert_eq!(
        (&document["digest"], &document["entries"]),
        (&json!(other.manifest_digest), &json!([]))
    );
    repository
        .run("inspect", ":t", &["--platform", "linux/riscv64"])
        .failed(1, &["no image for linux/riscv64", "linux/amd64", "--platform"]);
}

#[test]
fn what_is_no_image_is_shown_as_what_it_is() {
    let mut content = Content::default();
    let blob = content.blob("application/example", b"hello");
    let artifact =
        content.artifact("application/vnd.example", &Value::Null, std::slice::from_ref(&blob));
    content.tag("artifact", &artifact);
    let mut windows = content.image(&image_for("amd64"));
    windows["platform"] = json!({ "os": "windows", "architecture": "s390x" });
    let other = for_platform(content.image(&image_for("arm64")), "mips");
    let index = content.index(&[windows, other]);
    content.tag("index", &index);
    let repository = Repository::new(&content);
    let words = "no image for";
    let outcome = repository.run("inspect", ":index", &["--json"]);
    assert!(outcome.code == 0 && outcome.stderr.contains(words), "{outcome:?}");
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["digest"], Value::Null);
    assert!(document["no_image"].as_str().unwrap().contains(words), "{document}");
    let outcome = repository.run("inspect", ":artifact", &["--json"]);
    assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{outcome:?}");
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["artifact"], json!({ "kind": "files", "type": "application/vnd.example" }));
    assert_eq!(document["layers"][0]["digest"], blob["digest"]);
    let outcome = repository.run("inspect", ":artifact", &[]);
    assert!(outcome.stdout.contains(blob["digest"].as_str().unwrap()), "{outcome:?}");
}

/// A config whose labels are megabytes, whose history is null, and whose texts command terminals.
#[test]
fn hostile_configs() {
    let labels: serde_json::Map<String, Value> = (0..20_000)
        .map(|n| (format!("label{n}\u{1b}[2J"), json!("x\u{9b}31m\ny".repeat(40))))
        .collect();
    let run = json!({
        "Labels": labels, "Env": [null, 7, "A=\u{202e}b"], "Cmd": "sh\u{7}", "User": "\u{1b}]0;x\u{7}",
        "Entrypoint": null, "ExposedPorts": [], "Volumes": 3, "WorkingDir": {},
    });
    let image = ImageBuilder::new().platform("linux", "amd64", None);
    let image = image.config("config", run).config("history", Value::Null);
    let image = image.config("created", "never\u{1b}").config("author", json!({}));
    let image = image.layer(&tar(&[Entry::file("f", "x")]), Compression::Gzip).build();
    assert!(image.config.len() > 5 << 20);
    let mut content = Content::default();
    let descriptor = content.image(&image);
    content.tag("t", &descriptor);
    let repository = Repository::new(&content);
    for flags in [&[][..], &["--dot"], &["--json"]] {
        let outcome = repository.run("inspect", ":t", flags);
        outcome.succeeded();
        let is_obeyed = |c: char| c.is_control() && !"\n\t".contains(c) || c == '\u{202e}';
        assert!(!outcome.stdout.contains(is_obeyed), "{flags:?}");
        assert!(outcome.stdout.len() < 16 << 20, "{flags:?}");
    }
    let document = repository.json("inspect", ":t", &[]);
    assert_eq!(document["config"]["labels"].as_object().unwrap().len(), 20_000);
    assert_eq!(document["config"]["cmd"], json!(["sh\u{7}"]));
    assert_eq!((&document["created"], &document["author"]), (&Value::Null, &Value::Null));
}

#[test]
fn indexes_without_end_are_opened_so_far() {
    let mut content = Content::default();
    let image = for_platform(content.image(&image_for("amd64")), "amd64");
    // Each names the one below it twice, and many manifests that are not there.
    let mut nested = content.index(std::slice::from_ref(&image));
    for _ in 0..12 {
        nested = content.index(&[nested.clone(), nested]);
    }
    let absent = |n: u32| {
        let digest = sha256(&n.to_le_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let row = json!({ "mediaType": media_type, "digest": digest, "size": 10 });
        for_platform(row, "mips")
    };
    let mut rows: Vec<Value> = (0..2000).map(absent).collect();
    rows.extend([image, nested]);
    let root = content.index(&rows);
    content.tag("t", &root);
    let repository = Repository::new(&content);
    let outcome =
        repository.run("inspect", ":t", &["--all", "--json", "--platform", "linux/amd64"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("were not opened"), "{}", outcome.stderr);
    assert!(repository.asked().len() < 800, "{}", repository.asked().len());
}

#[test]
fn blobs_by_digest_and_by_its_start() {
    let (repository, index, images) = multi_platform();
    let image = &images[0];
    let statement = {
        let entry = repository.json("inspect", ":1.4", &["--all"])["entries"][2].take();
        entry["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned()
    };
    let index = index["digest"].as_str().unwrap();
    let config = image.config_digest();
    for digest in [index, &image.manifest_digest, &config, &images[1].config_digest(), &statement] {
        for name in [digest, digest.trim_start_matches("sha256:"), &digest[..20]] {
            let outcome = repository.run("blob", ":1.4", &[name]);
            outcome.succeeded();
            assert_eq!(sha256(outcome.stdout.as_bytes()), digest, "{name}");
        }
    }
    // What no document of the image names, and the repository has.
    repository.registry.add_blob("r", &sha256(b"unlisted"), b"unlisted");
    let outcome = repository.run("blob", ":1.4", &[&sha256(b"unlisted")]);
    assert_eq!(outcome.stdout, "unlisted");
    for (name, code, words) in [
        (&sha256(b"absent")[..], 1, &["know", "blob"][..]),
        ("0000000000", 1, &["0000000000"]),
        ("abc", 2, &["at least 6 digits"]),
        ("no-digest", 2, &["no-digest"]),
    ] {
        repository.run("blob", ":1.4", &[name]).failed(code, words);
    }
}

/// What is there already is not fetched again.
#[test]
fn the_rest_of_a_blob() {
    for length in [100_000, 9 << 20] {
        let layer = tar(&[Entry::file("f", noise(length, 1))]);
        let image = ImageBuilder::new().layer(&layer, Compression::None).build();
        let mut content = Content::default();
        let descriptor = content.image(&image);
        content.tag("t", &descriptor);
        let repository = Repository::new(&content);
        let (digest, size) = (&image.layer_digests()[0], layer.len());
        let path = repository.home.path().join("blob");
        let run = |from: usize| {
            let _ = std::fs::remove_dir_all(repository.home.path().join("cache"));
            repository.registry.clear_log();
            let from = from.to_string();
            let words = ["blob", "--from", &from, &repository.name(":t"), digest];
            let mut command = repository.home.ocifs(&words);
            command.stdout(std::fs::File::create(&path).unwrap());
            let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.code(), said, std::fs::read(&path).unwrap())
        };
        for from in [1, size / 2, size - 1, size] {
            let (code, said, written) = run(from);
            assert!(
                code == Some(0) && said.is_empty() && written == layer[from..],
                "{from}: {said}"
            );
        }
        let (code, said, written) = run(size + 1);
        assert!(code == Some(1) && written.is_empty() && said.contains("was asked for"), "{said}");
        if length < 9 << 20 {
            continue;
        }
        run(size - 1000);
        let asked = repository.registry.requests();
        let sent = asked.iter().filter(|logged| logged.path.contains(digest.as_str()));
        assert_eq!(sent.map(|logged| logged.body_bytes_sent).sum::<u64>(), 1000, "{asked:?}");
        // Where a registry sends all of it, what is there is passed over.
        repository.registry.fault(("GET", digest, Times::Always), Fault::IgnoreRange);
        let (code, said, written) = run(size / 2);
        assert!(code == Some(0) && written == layer[size / 2..], "{said}");
        // A length is all that can be wrong.
        repository.registry.clear_faults();
        repository.registry.fault(("GET", digest, Times::Always), Fault::Truncate(1000));
        let (code, said, written) = run(size / 2);
        assert!(code == Some(1) && written.len() < size / 2, "{said}");
    }
}

#[test]
fn a_wrong_blob_is_not_written_whole() {
    for (length, most) in [(100_000, 0), (9 << 20, (9 << 20) - 1)] {
        let layer = tar(&[Entry::file("f", noise(length, 1))]);
        let image = ImageBuilder::new().layer(&layer, Compression::None).build();
        let mut content = Content::default();
        let descriptor = content.image(&image);
        content.tag("t", &descriptor);
        let repository = Repository::new(&content);
        let digest = &image.layer_digests()[0];
        let path = repository.home.path().join("blob");
        let run = || {
            // What came once is not asked for again.
            let _ = std::fs::remove_dir_all(repository.home.path().join("cache"));
            let mut command = repository.home.ocifs(&["blob", &repository.name(":t"), digest]);
            command.stdout(std::fs::File::create(&path).unwrap());
            let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.code(), said, std::fs::read(&path).unwrap())
        };
        let (code, said, written) = run();
        assert!(code == Some(0) && said.is_empty() && written == layer, "{said}");
        for fault in [Fault::FlipByte(length - 10), Fault::FlipByte(10)] {
            repository.registry.fault(("GET", digest, Times::Always), fault);
            let (code, said, written) = run();
            assert!(code == Some(1) && said.contains(digest) && said.contains("match"), "{said}");
            assert!(written.len() <= most && written.len() < layer.len(), "{}", written.len());
            repository.registry.clear_faults();
        }
    }
}

/// Every form of an image is looked at as one of a registry is.
#[test]
fn forms_of_files() {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("1.4", &index);
    let home = Home::new();
    let layout = home.path().join("layout");
    content.write_layout(&layout).unwrap();
    let archive = home.path().join("archive.tar");
    let packed = std::process::Command::new("tar")
        .arg("-C")
        .arg(&layout)
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let [layout, archive] = [layout, archive].map(|path| path.display().to_string());
    for name in [format!("oci:{layout}"), layout, format!("oci-archive:{archive}:1.4"), archive] {
        let shown = home.run(&["inspect", "--platform", "linux/amd64", "--json", &name]);
        let document: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(document["root"]["digest"], index["digest"], "{name}");
        assert_eq!(document["image_id"], images[0].config_digest(), "{name}");
        assert_eq!(document["referrers"], json!([]), "{name}");
        let raw = home.run(&["inspect", "--raw", &name]).stdout;
        assert_eq!(sha256(raw.as_bytes()), index["digest"], "{name}");
        let config = images[1].config_digest();
        let blob = home.run(&["blob", &name, &config[7..19]]).stdout;
        assert_eq!(sha256(blob.as_bytes()), config, "{name}");
    }
}
