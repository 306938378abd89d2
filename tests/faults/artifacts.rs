//! Artifacts as files: charts, models, single files. What they cost, and what is refused.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use serde_json::{Value, json};

use crate::fixture::noise;
use crate::shell::{Home, Outcome, eventually, text};
use crate::support::image::{Compression, OCI_INDEX, OCI_MANIFEST, compress, sha256};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

const TITLE: &str = "org.opencontainers.image.title";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An artifact in a registry, and a home for those who look at it.
pub struct Setup {
    pub registry: Registry,
    pub home: Home,
    /// Digest of the config.
    config: String,
}

/// A blob and how it is described.
pub struct Blob<'a> {
    pub bytes: &'a [u8],
    pub media_type: &'a str,
    pub annotations: Value,
}

fn titled<'a>(bytes: &'a [u8], media_type: &'a str, title: &str) -> Blob<'a> {
    Blob { bytes, media_type, annotations: json!({ TITLE: title }) }
}

impl Setup {
    pub fn new(artifact_type: &str, config: (&str, &[u8]), blobs: &[Blob<'_>]) -> Setup {
        let setup =
            Setup { registry: Registry::start(), home: Home::new(), config: sha256(config.1) };
        setup.push("t", artifact_type, config, blobs);
        setup
    }

    fn push(
        &self,
        tag: &str,
        artifact_type: &str,
        (config_type, config): (&str, &[u8]),
        blobs: &[Blob<'_>],
    ) {
        let describe = |media_type: &str, bytes: &[u8], annotations: &Value| {
            self.registry.add_blob("r", &sha256(bytes), bytes);
            json!({
                "mediaType": media_type,
                "digest": sha256(bytes),
                "size": bytes.len(),
                "annotations": annotations,
            })
        };
        let layers =
            blobs.iter().map(|blob| describe(blob.media_type, blob.bytes, &blob.annotations));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": describe(config_type, config, &json!({})),
            "layers": layers.collect::<Vec<_>>(),
        });
        self.registry.add_manifest("r", tag, OCI_MANIFEST, manifest.to_string().as_bytes());
    }

    pub fn name(&self, tag: &str) -> String {
        format!("{}/r:{tag}", self.registry.addr())
    }

    /// A verb with flags on the artifact, and words behind it.
    pub fn run(&self, verb: &[&str], words: &[&str]) -> Outcome {
        let name = self.name("t");
        self.home.run(&[verb, &[&name], words].concat())
    }

    pub fn listed(&self, flags: &[&str]) -> Vec<String> {
        let outcome = self.run(&[&["find"], flags].concat(), &["-type", "f"]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.stdout.lines().map(|line| line.trim_start_matches('/').to_owned()).collect()
    }

    /// Requests for blobs but for the config, and bytes that they brought.
    pub fn cost(&self) -> (usize, u64) {
        let requests = self.registry.requests();
        let is_config = |path: &str| path.ends_with(&self.config);
        let blobs = requests
            .iter()
            .filter(|request| request.path.contains("/blobs/") && !is_config(&request.path));
        (blobs.clone().count(), blobs.map(|request| request.body_bytes_sent).sum())
    }
}

pub const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

fn chart(values: &str) -> Vec<u8> {
    let entries = [
        Entry::file("shop/Chart.yaml", "name: shop\n"),
        Entry::file("shop/values.yaml", values),
        Entry::file("shop/templates/a.yaml", "kind: Service\n"),
    ];
    compress(&tar(&entries), Compression::Gzip)
}

const CHART: (&str, &[u8]) =
    ("application/vnd.cncf.helm.config.v1+json", br#"{"name":"shop","version":"1.0.0"}"#);
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

#[test]
fn a_chart_is_unpacked_and_its_provenance_beside_it() {
    let bytes = chart("replicas: 1\n");
    let prov = "application/vnd.cncf.helm.chart.provenance.v1.prov";
    let plain = |bytes, media_type| Blob { bytes, media_type, annotations: json!({}) };
    let blobs = [plain(&b"signed"[..], prov), plain(&bytes, CHART_LAYER)];
    let setup = Setup::new("", CHART, &blobs);
    let expected =
        ["shop/Chart.yaml", "shop/templates/a.yaml", "shop/values.yaml", "shop-1.0.0.tgz.prov"];
    let mut listed = setup.listed(&[]);
    listed.sort();
    let mut expected: Vec<String> = expected.iter().map(|path| (*path).to_owned()).collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(setup.run(&["cat"], &["shop/values.yaml"]).stdout, "replicas: 1\n");
    let files = setup.listed(&["--as", "files"]);
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.contains(&"shop-1.0.0.tgz".to_owned()), "{files:?}");
    let raw = setup.listed(&["--as=raw"]);
    assert!(raw.contains(&sha256(&bytes).replace(':', "-")), "{raw:?}");
    // Over a mount, for `helm` and all others.
    setup.run(&["mount"], &["M"]).succeeded();
    let place = setup.home.mount_point();
    assert_eq!(fs::read(place.join("shop/Chart.yaml")).unwrap(), b"name: shop\n");
    assert_eq!(fs::read(place.join("shop-1.0.0.tgz.prov")).unwrap(), b"signed");
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

#[test]
fn two_versions_are_compared() {
    let old = chart("replicas: 1\n");
    let setup = Setup::new(
        "",
        CHART,
        &[Blob { bytes: &old, media_type: CHART_LAYER, annotations: json!({}) }],
    );
    let new = chart("replicas: 2\n");
    let blobs = [Blob { bytes: &new, media_type: CHART_LAYER, annotations: json!({}) }];
    setup.push("u", "", CHART, &blobs);
    let outcome = setup.home.run(&["diff", &setup.name("t"), &setup.name("u")]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("shop/values.yaml"), "{outcome:?}");
    assert!(!outcome.stdout.contains("Chart.yaml"), "{outcome:?}");
}

/// Files cost nothing until they are read, and each then itself; what is read is proven.
#[test]
fn files_are_fetched_when_they_are_read() {
    let (small, large) = (noise(100_000, 1), noise(3 << 20, 2));
    let blobs = [titled(&small, TAR, "docs/small"), titled(&large, TAR, "large.bin")];
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &blobs);
    let mut listed = setup.listed(&[]);
    listed.sort();
    assert_eq!(listed, ["docs/small", "large.bin"]);
    assert_eq!(setup.cost(), (0, 0), "listing fetches no blob");
    setup.run(&["mount"], &["M"]).succeeded();
    let place = setup.home.mount_point();
    let metadata = fs::metadata(place.join("large.bin")).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (3 << 20, 0o644));
    assert_eq!(setup.cost(), (0, 0), "nor does a mount");
    assert!(fs::read(place.join("docs/small")).unwrap() == small);
    assert_eq!(setup.cost(), (1, 100_000));
    assert!(fs::read(place.join("large.bin")).unwrap() == large);
    assert_eq!(setup.cost(), (2, 100_000 + (3 << 20)));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
    // And never again.
    let outcome =
        setup.run(&["cp", "--offline"], &["large.bin", text(&setup.home.path().join("copy"))]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(fs::read(setup.home.path().join("copy")).unwrap() == large);
}

/// A type says nothing of the bytes: what is no tar is a file after all.
#[test]
fn what_is_said_to_be_a_tar_is_looked_at() {
    let unpacked = compress(&tar(&[Entry::file("folder/a", "in a tar")]), Compression::Gzip);
    let mark = |bytes, title: &str| Blob {
        bytes,
        media_type: TAR,
        annotations: json!({ TITLE: title, "io.deis.oras.content.unpack": "true" }),
    };
    let blobs =
        [mark(&unpacked, "folder"), mark(&b"just text"[..], "text"), mark(&b""[..], "empty")];
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &blobs);
    let mut listed = setup.listed(&[]);
    listed.sort();
    assert_eq!(listed, ["empty", "folder/a", "text"]);
    assert_eq!(setup.run(&["cat"], &["folder/a"]).stdout, "in a tar");
    assert_eq!(setup.run(&["cat"], &["text"]).stdout, "just text");
    assert_eq!(setup.run(&["cat"], &["empty"]).stdout, "");
    // What has been read is there without the registry, and is what it was.
    for (path, content) in [("folder/a", "in a tar"), ("text", "just text"), ("empty", "")] {
        let outcome = setup.run(&["cat", "--offline"], &[path]);
        assert!(outcome.code == 0 && outcome.stdout == content, "{path}: {outcome:?}");
    }
}

/// The same of a blob that is too large to be proven before it is shown: half of it has come, then all.
#[test]
fn what_a_large_blob_is_is_known_without_the_registry() {
    const BYTES: usize = (64 << 20) + 777;
    let large = noise(BYTES, 9);
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &[titled(&large, "a/b", "m")]);
    let unpacked = ["--as", "unpacked"];
    setup.run(&[&["mount"], &unpacked[..]].concat(), &["M"]).succeeded();
    let path = setup.home.mount_point().join("m");
    let mut head = vec![0; 1000];
    fs::File::open(&path).unwrap().read_exact_at(&mut head, 0).unwrap();
    assert!(head == large[..1000]);
    setup.home.run(&["umount", "M"]).succeeded();
    let listed = || {
        let outcome = setup.run(&[&["find", "--offline"], &unpacked[..]].concat(), &["-type", "f"]);
        assert!(outcome.code == 0 && outcome.stdout == "/m\n", "{outcome:?}");
    };
    listed();
    let copy = setup.home.path().join("copy");
    setup.run(&[&["cp"], &unpacked[..]].concat(), &["m", text(&copy)]).succeeded();
    assert!(fs::read(&copy).unwrap() == large);
    listed();
}

/// A size that no blob has is an error of its own.
#[test]
fn absurd_sizes_are_refused() {
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &[titled(b"x", "a/b", "m")]);
    let manifest = setup.registry.manifest("r", "t").unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for size in [(4 << 40) + 1_u64, i64::MAX as u64, u64::MAX] {
        manifest["layers"][0]["size"] = size.into();
        let bytes = manifest.to_string().into_bytes();
        setup.registry.add_manifest("r", "t", OCI_MANIFEST, &bytes);
        for verb in ["ls", "verify"] {
            setup.run(&[verb], &[]).failed(1, &["is said to have", "which is absurd"]);
        }
    }
    assert_eq!(setup.cost().0, 0);
}

#[test]
fn wrong_bytes_are_never_shown() {
    let (good, other) = (noise(100_000, 3), noise(200_000, 4));
    let blobs = [titled(&good, "a/b", "good"), titled(&other, "a/b", "bad")];
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &blobs);
    let mut wrong = other.clone();
    wrong[150_000] ^= 1;
    setup.registry.add_blob("r", &sha256(&other), &wrong);
    let outcome = setup.run(&["cat"], &["bad"]);
    assert!(outcome.code == 1 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("do not match"), "{outcome:?}");
    // A blob that is missing, too: the others are there.
    let path = format!("/blobs/{}", sha256(&other));
    setup.registry.fault(("GET", &path, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    assert_eq!(setup.run(&["cat"], &["bad"]).code, 1);
    setup.run(&["cp"], &["good", text(&setup.home.path().join("copy"))]).succeeded();
    assert!(fs::read(setup.home.path().join("copy")).unwrap() == good);
}

/// More than is fetched as a whole: it is read by range, and said to be unproven.
#[test]
fn a_large_file_is_read_by_range() {
    const BYTES: usize = (64 << 20) + 12_345;
    let model = noise(BYTES, 5);
    let media_type = "application/vnd.docker.ai.gguf.v3";
    let config = ("application/vnd.docker.ai.model.config.v0.1+json", &b"{\"a\":1}"[..]);
    let setup =
        Setup::new("", config, &[Blob { bytes: &model, media_type, annotations: json!({}) }]);
    let outcome = setup.run(&["mount"], &["M"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("proof `transport`"), "{outcome:?}");
    assert_eq!(setup.cost(), (0, 0));
    let path = setup.home.mount_point().join("model.gguf");
    let read_middle = || {
        let mut middle = vec![0; 4096];
        fs::File::open(&path).unwrap().read_exact_at(&mut middle, 40 << 20).unwrap();
        assert!(middle == model[40 << 20..(40 << 20) + 4096]);
        setup.cost()
    };
    let (requests, bytes) = read_middle();
    assert!(requests <= 2 && bytes <= 2 << 20, "{requests} {bytes}");
    // What has come is there in the next mount, too.
    setup.home.run(&["umount", "M"]).succeeded();
    assert_eq!(setup.run(&["mount"], &["M"]).code, 0);
    assert_eq!(read_middle(), (requests, bytes));
    let status = setup.home.status();
    assert_eq!(status["layers"][0]["proof"], "transport", "{status}");
    assert!(fs::read(&path).unwrap() == model);
    let (_, bytes) = setup.cost();
    assert!(bytes <= BYTES as u64 + (2 << 20), "{bytes}");
    // Who has read all of it has it proven, now and in the next mount.
    assert_eq!(setup.home.status()["layers"][0]["proof"], "full");
    let indexes = setup.home.path().join("cache/v1/files");
    assert!(eventually(|| fs::read_dir(&indexes).is_ok_and(|mut files| files.next().is_some())));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.registry.clear_log();
    setup.run(&["mount"], &["M"]).succeeded();
    assert!(fs::read(&path).unwrap() == model);
    assert_eq!(setup.cost(), (0, 0));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.run(&["cache", "clear"]).succeeded();
    // A user who wants it proven first waits for all of it, once.
    setup.registry.clear_log();
    let outcome = setup.run(&["mount", "--proof=full"], &["M"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("transport"), "{outcome:?}");
    assert_eq!(setup.cost().1, BYTES as u64);
    assert_eq!(setup.home.status()["layers"][0]["proof"], "full");
    assert!(fs::read(&path).unwrap() == model);
    setup.home.run(&["umount", "M"]).succeeded();
    assert_eq!(setup.cost().1, BYTES as u64, "what was proven is kept");
    setup.home.is_quiet();
}

#[test]
fn a_large_file_that_is_wrong_is_not_shown_as_proven() {
    const BYTES: usize = (64 << 20) + 1000;
    let model = noise(BYTES, 6);
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &[titled(&model, "a/b", "m")]);
    let mut wrong = model.clone();
    wrong[BYTES - 1] ^= 1;
    setup.registry.add_blob("r", &sha256(&model), &wrong);
    let outcome = setup.run(&["mount", "--proof", "full"], &["M"]);
    outcome.failed(1, &["does not match"]);
    assert_eq!(setup.run(&["verify"], &[]).code, 1);
    // Shown by range it is as it is sent, but who reads all of it learns that it is wrong.
    let outcome = setup.run(&["mount"], &["M"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let path = setup.home.mount_point().join("m");
    for _ in 0..2 {
        let error = fs::read(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    }
    let status = setup.home.status();
    assert_eq!(status["layers"][0]["proof"], "transport");
    assert!(status["recent_errors"].to_string().contains("do not match its digest"), "{status}");
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

#[test]
fn verbs_that_look_at_what_an_artifact_is() {
    let bytes = noise(50_000, 7);
    let blobs = [titled(&bytes, "a/b", "x"), titled(b"y", "a/b", "x")];
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &blobs);
    let outcome = setup.run(&["ls"], &[]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (0, "x\nx~2\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("`x` is shown as `x~2`"), "{outcome:?}");
    let outcome = setup.run(&["inspect", "--json"], &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["artifact"], json!({ "kind": "files", "type": "application/vnd.example.v1" }));
    assert_eq!(found["layers"][1]["shown_at"], "x~2");
    for verb in ["verify", "pull"] {
        let outcome = setup.run(&[verb], &[]);
        assert_eq!(outcome.code, 0, "{verb}: {outcome:?}");
    }
    let outcome = setup.run(&["export", "--offline"], &[]);
    assert!(outcome.code == 0 && outcome.stdout.len() > 50_000, "{outcome:?}");
    for verb in ["history", "du", "which"] {
        let words: &[&str] = if verb == "which" { &["x"] } else { &[] };
        let outcome = setup.run(&[verb], words);
        assert_eq!(outcome.code, 0, "{verb}: {outcome:?}");
    }
}

/// An artifact's publisher gives names; none leads out of the mount, and too many are refused.
#[test]
fn titles_lead_nowhere() {
    let titles =
        ["../../etc/passwd", "/root/.ssh/authorized_keys", "a/../../b", "..", "/c\u{1b}[2J"];
    let contents: Vec<Vec<u8>> = (0..titles.len()).map(|n| format!("{n}").into_bytes()).collect();
    let blobs: Vec<Blob<'_>> =
        contents.iter().zip(titles).map(|(bytes, title)| titled(bytes, "a/b", title)).collect();
    let setup = Setup::new("application/vnd.example.v1", EMPTY, &blobs);
    setup.run(&["mount"], &["M"]);
    let place = setup.home.mount_point();
    assert_eq!(fs::read(place.join("etc/passwd")).unwrap(), b"0");
    assert_eq!(fs::read(place.join("root/.ssh/authorized_keys")).unwrap(), b"1");
    assert_eq!(fs::read(place.join("b")).unwrap(), b"2");
    assert_eq!(fs::read(place.join("unnamed")).unwrap(), b"3");
    setup.home.run(&["umount", "M"]).succeeded();
    let outcome = setup.run(&["ls"], &[]);
    // Told names do not command a terminal.
    assert!(
        outcome.stderr.contains("shown as `c") && !outcome.stderr.contains('\u{1b}'),
        "{outcome:?}"
    );
    let content = "the same";
    let many: Vec<Blob<'_>> = (0..10_001)
        .map(|_| Blob { bytes: content.as_bytes(), media_type: "a/b", annotations: json!({}) })
        .collect();
    setup.push("many", "application/vnd.example.v1", EMPTY, &many);
    setup.home.run(&["ls", &setup.name("many")]).failed(1, &["more than 10000 entries"]);
    setup.home.is_quiet();
}

/// An index of several artifacts, as `podman manifest add --artifact` makes it: none is picked silently.
#[test]
fn several_artifacts_in_one_index() {
    let plain = "text/plain";
    let setup = Setup::new("application/x-sbom", EMPTY, &[titled(b"one", plain, "one.txt")]);
    setup.push("u", "application/x-policy", EMPTY, &[titled(b"two", plain, "two.txt")]);
    let entries = ["t", "u"].map(|tag| {
        let bytes = setup.registry.manifest("r", tag).unwrap();
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        json!({
            "mediaType": OCI_MANIFEST,
            "digest": sha256(&bytes),
            "size": bytes.len(),
            "artifactType": document["artifactType"],
        })
    });
    let push = |tag: &str, entries: &[Value]| {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        setup.registry.add_manifest("r", tag, OCI_INDEX, index.to_string().as_bytes());
    };
    push("both", &entries);
    push("single", &entries[1..]);
    let refused = setup.home.run(&["ls", &setup.name("both")]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for (entry, kind) in entries.iter().zip(["application/x-sbom", "application/x-policy"]) {
        let digest = entry["digest"].as_str().unwrap();
        let listed = format!("{digest} ({kind})");
        assert!(refused.stderr.contains(&listed), "{listed}: {}", refused.stderr);
        let by_digest = format!("{}/r@{digest}", setup.registry.addr());
        assert_eq!(setup.home.run(&["ls", &by_digest]).code, 0);
    }
    let single = setup.home.run(&["ls", &setup.name("single")]);
    assert_eq!((single.code, single.stdout.trim()), (0, "two.txt"), "{single:?}");
}
