//! Files of artifacts that are made of blobs: several of a Compose project joined, one of a model decompressed.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::artifacts::{Blob, EMPTY, Setup};
use crate::fixture::noise;
use crate::lazy_walks::forget_spans;
use crate::shell::text;
use crate::support::image::{Compression, OCI_MANIFEST, compress, sha256};
use crate::support::registry::{Fault, Times};

const COMPOSE_FILE: &str = "application/vnd.docker.compose.file+yaml";
const COMPOSE_ENV: &str = "application/vnd.docker.compose.envfile";

const BASE: &[u8] = b"services:\n  web:\n    extends:\n      file: 0a.yaml\n      service: web\n";
const EXTENDED: &[u8] = b"services:\n  web:\n    image: web:1\n    env_file: 0b.env";
const PROD: &[u8] = b"services:\n  web:\n    restart: always\n";

/// What `docker compose -f oci://…` writes of these, as docker/compose f729794 does it in `pkg/remote/oci.go`.
const JOINED: &[u8] = b"services:\n  web:\n    extends:\n      file: 0a.yaml\n      service: web\n\
\n---\nservices:\n  web:\n    restart: always\n";

fn project() -> [Blob<'static>; 4] {
    let file = |bytes, name: &str, more: &[&str]| {
        let mut annotations = json!({ "com.docker.compose.file": name });
        more.iter().for_each(|key| annotations[*key] = json!("true"));
        Blob { bytes, media_type: COMPOSE_FILE, annotations }
    };
    [
        file(BASE, "compose.yaml", &[]),
        file(EXTENDED, "0a.yaml", &["com.docker.compose.extends"]),
        file(PROD, "compose.prod.yaml", &[]),
        Blob {
            bytes: b"A=1\n",
            media_type: COMPOSE_ENV,
            annotations: json!({ "com.docker.compose.envfile": "0b.env" }),
        },
    ]
}

/// Has the descriptors hold the blobs, as Compose does, or blobs be missing.
fn rewrite(setup: &Setup, change: impl Fn(&mut Value)) {
    let mut manifest: Value =
        serde_json::from_slice(&setup.registry.manifest("r", "t").unwrap()).unwrap();
    manifest["layers"].as_array_mut().unwrap().iter_mut().for_each(change);
    let manifest = manifest.to_string().into_bytes();
    setup.registry.add_manifest("r", "t", OCI_MANIFEST, &manifest);
}

#[test]
fn files_of_a_compose_project_are_joined_as_compose_does() {
    let setup = Setup::new("application/vnd.docker.compose.project", EMPTY, &project());
    let all =
        ["0a.yaml", "0b.env", "compose.yaml", "parts/compose.prod.yaml", "parts/compose.yaml"];
    let mut listed = setup.listed(&[]);
    listed.sort();
    assert_eq!(listed, all);
    setup.run(&["mount"], &["M"]).succeeded();
    let at = |path: &str| setup.home.mount_point().join(path);
    assert_eq!(fs::read(at("compose.yaml")).unwrap(), JOINED);
    let metadata = fs::metadata(at("compose.yaml")).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode()), (JOINED.len() as u64, 0o100_644));
    assert_eq!(fs::read(at("parts/compose.yaml")).unwrap(), BASE);
    assert_eq!(fs::read(at("0a.yaml")).unwrap(), EXTENDED);
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
    // The files as they are.
    let mut files = setup.listed(&["--as", "files"]);
    files.sort();
    assert_eq!(files, ["0a.yaml", "0b.env", "compose.prod.yaml", "compose.yaml"]);
    assert_eq!(setup.run(&["cat", "--as=files"], &["compose.yaml"]).stdout.as_bytes(), BASE);
    // All verbs know it, and it is like any other file: proven, and there without a network.
    setup.run(&["verify"], &[]).succeeded();
    setup.run(&["pull"], &[]).succeeded();
    setup.run(&["mount", "--proof", "full", "--offline"], &["M"]).succeeded();
    assert_eq!(fs::read(at("compose.yaml")).unwrap(), JOINED);
    setup.home.run(&["umount", "M"]).succeeded();
    let copy = setup.home.path().join("copy");
    setup.run(&["cp", "--offline"], &["compose.yaml", text(&copy)]).succeeded();
    assert_eq!(fs::read(&copy).unwrap(), JOINED);
    let inspected = setup.run(&["inspect"], &[]);
    assert!(inspected.code == 0 && inspected.stdout.contains("Compose project"), "{inspected:?}");
}

/// Compose puts a copy of each file into the manifest.
#[test]
fn what_descriptors_hold_is_not_asked_for() {
    let setup = Setup::new("application/vnd.docker.compose.project", EMPTY, &project());
    let blobs = project();
    rewrite(&setup, |layer| {
        let blob = blobs.iter().find(|blob| layer["digest"] == sha256(blob.bytes)).unwrap();
        layer["data"] = STANDARD.encode(blob.bytes).into();
    });
    let read = |path| setup.run(&["cat"], &[path]).stdout.into_bytes();
    assert_eq!(read("compose.yaml"), JOINED);
    assert_eq!(read("parts/compose.prod.yaml"), PROD);
    assert_eq!(read("0b.env"), b"A=1\n");
    assert_eq!(setup.cost(), (0, 0));
    // Nor where the registry is to say what may be read.
    setup.run(&["ls", "--check-access"], &[]).succeeded();
    // A copy that is none is not believed.
    rewrite(&setup, |layer| layer["data"] = STANDARD.encode(b"evil: true\n").into());
    setup.home.run(&["cache", "clear"]).succeeded();
    assert_eq!(read("compose.yaml"), JOINED);
    assert_eq!(read("0a.yaml"), EXTENDED);
}

/// Where a part is missing, the others are there as they are.
#[test]
fn a_project_with_a_part_missing() {
    let setup = Setup::new("application/vnd.docker.compose.project", EMPTY, &project());
    let path = format!("/blobs/{}", sha256(PROD));
    setup.registry.fault(("GET", &path, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    let outcome = setup.run(&["cat"], &["parts/compose.yaml"]);
    assert_eq!(outcome.stdout.as_bytes(), BASE, "{outcome:?}");
    assert!(outcome.stderr.contains("`compose.yaml` is not shown"), "{outcome:?}");
    assert_eq!(setup.run(&["cat"], &["compose.yaml"]).code, 1);
    assert_eq!(setup.run(&["cat"], &["parts/compose.prod.yaml"]).code, 1);
}

const MODEL: (&str, &[u8]) = ("application/vnd.cncf.model.config.v1+json", b"{}");
const FILEPATH: &str = "org.cncf.model.filepath";

/// Bytes that compress a little.
fn weights(bytes: usize) -> Vec<u8> {
    noise(bytes, 3).into_iter().map(|byte| byte & 0x3f).collect()
}

#[test]
fn files_of_a_model_are_decompressed() {
    let weights = weights(9 << 20);
    let (gzip, zstd) =
        (compress(&weights, Compression::Gzip), compress(b"{\"a\":1}", Compression::Zstd));
    let noted = r#"{"name":"w","mode":384,"mtime":"2024-05-06T07:08:09Z","typeflag":0}"#;
    let blobs = [
        Blob {
            bytes: &gzip,
            media_type: "application/vnd.cncf.model.weight.v1.raw+gzip",
            annotations: json!({ FILEPATH: "w/model.bin", "org.cncf.model.file.metadata+json": noted }),
        },
        Blob {
            bytes: &zstd,
            media_type: "application/vnd.cncf.model.weight.config.v1.raw+zstd",
            annotations: json!({ FILEPATH: "config.json" }),
        },
        // The type says nothing of the bytes.
        Blob {
            bytes: b"plain",
            media_type: "application/vnd.cncf.model.doc.v1.raw+gzip",
            annotations: json!({ FILEPATH: "README" }),
        },
    ];
    let setup = Setup::new("application/vnd.cncf.model.manifest.v1+json", MODEL, &blobs);
    let mut listed = setup.listed(&[]);
    listed.sort();
    assert_eq!(listed, ["README", "config.json", "w/model.bin"]);
    let mut files = setup.listed(&["--as", "files"]);
    files.sort();
    assert_eq!(files, ["README.gz", "config.json.zst", "w/model.bin.gz"]);
    setup.run(&["mount"], &["M"]).succeeded();
    let at = |path: &str| setup.home.mount_point().join(path);
    let metadata = fs::metadata(at("w/model.bin")).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode()), (9 << 20, 0o100_644));
    assert!(fs::read(at("w/model.bin")).unwrap() == weights);
    assert_eq!(fs::read(at("config.json")).unwrap(), b"{\"a\":1}");
    assert_eq!(fs::read(at("README")).unwrap(), b"plain");
    let status = setup.home.status();
    let layers = status["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["proof"] == "full"), "{status}");
    setup.home.run(&["umount", "M"]).succeeded();
    // Once what was decompressed has left the cache, a read in the middle costs a part of the blob.
    forget_spans(&setup.home.path().join("cache"));
    setup.registry.clear_log();
    setup.run(&["mount"], &["M"]).succeeded();
    assert_eq!(fs::metadata(at("w/model.bin")).unwrap().len(), 9 << 20);
    assert_eq!(setup.cost(), (1, 5), "the beginning of what was not compressed after all");
    let mut part = vec![0; 4096];
    fs::File::open(at("w/model.bin")).unwrap().read_exact_at(&mut part, 6 << 20).unwrap();
    assert!(part == weights[6 << 20..(6 << 20) + 4096]);
    let (_, bytes) = setup.cost();
    assert!(bytes > 0 && bytes < gzip.len() as u64 / 2, "{bytes} of {}", gzip.len());
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
    setup.run(&["verify"], &[]).succeeded();
    let damaged = setup.home.run(&["cache", "verify"]);
    assert!(damaged.stdout.contains("nothing is damaged"), "{damaged:?}");
    // Digests of contents are those of the files, so versions are compared without reading any.
    let which = setup.run(&["which", "--json"], &["w/model.bin"]);
    assert!(which.stdout.contains(&sha256(&weights)["sha256:".len()..]), "{which:?}");
}

/// What unpacks to absurdly much, is cut short, or is not what its digest says is never shown.
#[test]
fn compressed_files_that_are_wrong() {
    let weights = weights(300_000);
    let gzip = compress(&weights, Compression::Gzip);
    let media_type = "application/vnd.cncf.model.weight.v1.raw+gzip";
    let setup = |bytes: &[u8]| {
        let annotations = json!({ FILEPATH: "model.bin" });
        let blobs = [Blob { bytes, media_type, annotations }];
        Setup::new("application/vnd.cncf.model.manifest.v1+json", MODEL, &blobs)
    };
    let cut = setup(&gzip[..gzip.len() - 20]);
    let outcome = cut.run(&["cat"], &["model.bin"]);
    assert!(outcome.code == 1 && outcome.stdout.is_empty(), "{outcome:?}");
    let other = setup(&gzip);
    let mut wrong = gzip.clone();
    wrong[200_000] ^= 1;
    other.registry.add_blob("r", &sha256(&gzip), &wrong);
    let outcome = other.run(&["cat"], &["model.bin"]);
    assert!(outcome.code == 1 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("does not match its digest"), "{outcome:?}");
    let bomb = setup(&compress(&vec![0; 64 << 20], Compression::Gzip));
    bomb.run(&["cat", "--max-layer-size=1M"], &["model.bin"]).failed(1, &["1048576"]);
}
