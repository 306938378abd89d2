//! Artifacts where they lie on a disk: in an OCI layout, in an archive that skopeo makes of it, and in the storage of a
//! docker-registry. Whatever holds them, all verbs show what the registry's client shows.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mounted::Home;
use crate::servers::{Registry, program, run};
use crate::snapshot::Snapshot;
use crate::support::content::{Content, EMPTY};
use crate::support::image::{Compression, OCI_MANIFEST, compress};
use crate::support::tarball::{Entry, tar};

const TITLE: &str = "org.opencontainers.image.title";

/// A Helm chart as Helm 3.9 pushes it, which says neither what the manifest nor what the artifact is.
fn chart(content: &mut Content, values: &str) -> Value {
    let files = [
        Entry::file("shop/Chart.yaml", "name: shop\nversion: 1.2.3\n"),
        Entry::file("shop/values.yaml", values),
        Entry::file("shop/templates/a.yaml", "kind: Service\n"),
    ];
    let config = br#"{"name":"shop","version":"1.2.3","apiVersion":"v2"}"#;
    let config = content.blob("application/vnd.cncf.helm.config.v1+json", config);
    let bytes = compress(&tar(&files), Compression::Gzip);
    let layer = content.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &bytes);
    content.manifest(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
    }))
}

/// Files and a folder as ORAS pushes them.
fn files(content: &mut Content, text: &str) -> Value {
    let layer_tar = "application/vnd.oci.image.layer.v1.tar";
    let mut file = content.blob(layer_tar, text.as_bytes());
    file["annotations"] = json!({ TITLE: "docs/notes.txt" });
    let folder = tar(&[Entry::dir("folder"), Entry::file("folder/a", "in a folder")]);
    let bytes = compress(&folder, Compression::Gzip);
    let mut folder = content.blob(&format!("{layer_tar}+gzip"), &bytes);
    folder["annotations"] = json!({ TITLE: "folder", "io.deis.oras.content.unpack": "true" });
    let config = content.blob(EMPTY, b"{}");
    content.manifest(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": config, "layers": [file, folder],
    }))
}

struct Places {
    registry: std::sync::Arc<Registry>,
    folder: TempDir,
}

impl Places {
    fn new() -> Places {
        let mut content = Content::default();
        let rows = [
            ("chart", chart(&mut content, "replicas: 1\n")),
            ("chart-2", chart(&mut content, "replicas: 2\n")),
            ("files", files(&mut content, "first\n")),
            ("files-2", files(&mut content, "second\n")),
        ];
        rows.iter().for_each(|(tag, descriptor)| content.tag(tag, descriptor));
        let places = Places { registry: Registry::shared(), folder: tempfile::tempdir().unwrap() };
        content.push(places.registry.address(), "artifacts/all").unwrap();
        content.write_layout(&places.at("layout")).unwrap();
        for (tag, _) in &rows {
            let copy = ["copy", "--quiet"].map(str::to_owned);
            let from = format!("oci:{}:{tag}", places.at("layout").display());
            let to = format!("oci-archive:{}:{tag}", places.at(&format!("{tag}.tar")).display());
            run(program("skopeo", "skopeo").args(copy).args([from, to]));
        }
        places
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The names of what is tagged so: first that in the registry.
    fn names(&self, tag: &str) -> [String; 4] {
        let storage = self.registry.storage();
        [
            format!("{}/artifacts/all:{tag}", self.registry.address()),
            format!("oci:{}:{tag}", self.at("layout").display()),
            format!("oci-archive:{}", self.at(&format!("{tag}.tar")).display()),
            format!("registry-storage:{}//artifacts/all:{tag}", storage.display()),
        ]
    }
}

fn stdout(command: &mut Command) -> Vec<u8> {
    run(command).stdout
}

/// The files of a tar archive that was written to a file.
fn unpacked(archive: &Path, into: &Path) -> Snapshot {
    fs::create_dir(into).unwrap();
    run(program("tar", "tar").arg("xf").arg(archive).arg("-C").arg(into));
    Snapshot::of(into)
}

#[test]
fn artifacts_on_a_disk_are_those_of_a_registry() {
    let places = Places::new();
    for (tag, path, text, other) in [
        ("chart", "shop/values.yaml", "replicas: 1\n", "replicas: 2\n"),
        ("files", "docs/notes.txt", "first\n", "second\n"),
    ] {
        let measure = Home::new();
        let [served, ..] = places.names(tag);
        let mounted = measure.mount(&served);
        let expected = Snapshot::of(mounted.path());
        let listed = stdout(measure.ocifs().args(["ls", "-lR", &served]));
        assert_eq!(fs::read_to_string(mounted.path().join(path)).unwrap(), text);
        let others = places.names(&format!("{tag}-2"));
        for (name, second) in places.names(tag).iter().zip(&others).skip(1) {
            let home = Home::new();
            let folder = tempfile::tempdir().unwrap();
            let mount = home.mount(name);
            Snapshot::assert_same(&expected, &Snapshot::of(mount.path()), name);
            assert_eq!(stdout(home.ocifs().args(["ls", "-lR", name])), listed, "{name}");
            assert_eq!(stdout(home.ocifs().args(["cat", name, path])), text.as_bytes(), "{name}");
            assert_eq!(stdout(home.ocifs().args(["cat", second, path])), other.as_bytes());
            let copy = folder.path().join("copy");
            run(home.ocifs().args(["cp", name, path]).arg(&copy));
            assert_eq!(fs::read_to_string(&copy).unwrap(), text, "{name}");
            let archive = folder.path().join("all.tar");
            run(home.ocifs().args(["export", name, "-o"]).arg(&archive));
            let exported = unpacked(&archive, &folder.path().join("all"));
            Snapshot::assert_same(&expected, &exported, &format!("an export of {name}"));
            let diff = home.ocifs().args(["diff", name, second]).output().unwrap();
            let said = String::from_utf8_lossy(&diff.stdout).into_owned();
            assert_eq!(diff.status.code(), Some(1), "{name}: {said}");
            assert!(said.contains(path) && said.lines().count() < 10, "{name}: {said}");
            assert!(home.ocifs().args(["diff", name, &served]).status().unwrap().success());
            run(home.ocifs().args(["verify", name]));
            run(home.ocifs().args(["inspect", name]));
        }
    }
}

/// A blob on a disk that is not what its digest says is never shown, and `verify` says which.
#[test]
fn damaged_blobs_of_artifacts() {
    let places = Places::new();
    let home = Home::new();
    let [_, layout, ..] = places.names("files");
    let blobs = places.at("layout/blobs/sha256");
    let is_text = |path: &std::path::PathBuf| fs::read(path).unwrap() == b"first\n";
    let blob = fs::read_dir(&blobs).unwrap().map(|row| row.unwrap().path()).find(is_text).unwrap();
    fs::write(&blob, "wrong\n").unwrap();
    let cat = home.ocifs().args(["cat", &layout, "docs/notes.txt"]).output().unwrap();
    assert!(cat.status.code() == Some(1) && cat.stdout.is_empty(), "{cat:?}");
    let folder = home.ocifs().args(["cat", &layout, "folder/a"]).output().unwrap();
    assert_eq!(folder.stdout, b"in a folder", "{folder:?}");
    let verify = home.ocifs().args(["verify", &layout]).output().unwrap();
    let said = [verify.stdout, verify.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let digest = blob.file_name().unwrap().to_str().unwrap();
    assert!(verify.status.code() == Some(1) && said.contains(digest), "{said}");
    // Missing altogether.
    fs::remove_file(&blob).unwrap();
    let ls = home.ocifs().args(["ls", "-R", &layout]).output().unwrap();
    assert!(String::from_utf8_lossy(&ls.stdout).contains("folder"), "{ls:?}");
    assert_eq!(
        home.ocifs().args(["cat", &layout, "docs/notes.txt"]).status().unwrap().code(),
        Some(1)
    );
}
