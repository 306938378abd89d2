use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;
use crate::oci::Document;

fn manifest(document: &Value) -> Manifest {
    match Document::parse(document.to_string().as_bytes(), None).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    }
}

/// A descriptor of something of its own.
fn blob(number: usize, media_type: &str, annotations: Value) -> Value {
    let digest = Digest::sha256(&number.to_le_bytes()).to_string();
    json!({ "mediaType": media_type, "digest": digest, "size": 1000, "annotations": annotations })
}

fn titled(number: usize, media_type: &str, title: &str) -> Value {
    blob(number, media_type, json!({ "org.opencontainers.image.title": title }))
}

const MODEL: &str = "org.cncf.model.filepath";

fn artifact(artifact_type: &str, config_type: &str, layers: Vec<Value>) -> Manifest {
    let config = blob(9999, config_type, json!({}));
    let artifact_type = (!artifact_type.is_empty()).then_some(artifact_type);
    manifest(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config,
        "layers": layers,
    }))
}

/// What is shown: `path`, or `directory/` of what is unpacked.
fn shown(manifest: &Manifest, config: &[u8], view: ArtifactView) -> Vec<String> {
    let plan = plan(manifest, config, view);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let row = |planned: &Planned| match &planned.shown {
        ShownAs::Tree { below } => format!("{}/", text(below)),
        ShownAs::File(file) => text(&file.path),
        ShownAs::Compressed(file) => format!("{} decompressed", text(&file.path)),
    };
    plan.blobs.iter().map(row).collect()
}

#[test]
fn each_kind_as_its_tool_leaves_it() {
    let layer_tar = "application/vnd.oci.image.layer.v1.tar";
    let chart = br#"{"name":"shop","version":"1.2.3+b"}"#;
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let model = "application/vnd.docker.ai.model.config.v0.1+json";
    let gguf = "application/vnd.docker.ai.gguf.v3";
    let ollama = |kind: &str| format!("application/vnd.ollama.image.{kind}");
    let named = |number, kind: &str, name: &str| {
        let mut tensor = blob(number, &ollama(kind), json!({}));
        tensor["name"] = json!(name);
        tensor
    };
    type Row<'a> = (&'a str, Manifest, &'a [u8], Kind, Vec<&'a str>);
    let rows: Vec<Row<'_>> = vec![
        (
            "helm, provenance first",
            artifact(
                "",
                helm,
                vec![
                    blob(1, "application/vnd.cncf.helm.chart.provenance.v1.prov", json!({})),
                    blob(2, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", json!({})),
                ],
            ),
            chart,
            Kind::HelmChart,
            vec!["shop-1.2.3+b.tgz.prov", "/"],
        ),
        (
            "oras: files and a folder",
            artifact(
                "application/vnd.example.v1",
                "application/vnd.oci.empty.v1+json",
                vec![
                    titled(1, layer_tar, "docs/a.txt"),
                    blob(
                        2,
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                        json!({ "org.opencontainers.image.title": "folder",
                                "io.deis.oras.content.unpack": "true" }),
                    ),
                    titled(3, "application/vnd.oci.image.layer.v1.tar+gzip", "kept.tar.gz"),
                ],
            ),
            b"{}",
            Kind::Files,
            vec!["docs/a.txt", "/", "kept.tar.gz"],
        ),
        (
            "oras of Python: a folder has no mark",
            artifact(
                "",
                "application/vnd.unknown.config.v1+json",
                vec![
                    titled(1, layer_tar, "a.txt"),
                    titled(2, "application/vnd.oci.image.layer.v1.tar+gzip", "folder"),
                ],
            ),
            b"{}",
            Kind::OrasPython,
            vec!["a.txt", "/"],
        ),
        (
            "compose",
            artifact(
                "application/vnd.docker.compose.project",
                "application/vnd.oci.empty.v1+json",
                vec![
                    blob(
                        1,
                        "application/vnd.docker.compose.file+yaml",
                        json!({ "com.docker.compose.file": "compose.yaml" }),
                    ),
                    blob(
                        2,
                        "application/vnd.docker.compose.file+yaml",
                        json!({ "com.docker.compose.file": "compose.yaml",
                                "com.docker.compose.extends": "true" }),
                    ),
                    blob(
                        3,
                        "application/vnd.docker.compose.envfile",
                        json!({ "com.docker.compose.envfile": "web.env" }),
                    ),
                ],
            ),
            b"{}",
            Kind::ComposeProject,
            vec!["compose.yaml", "compose.yaml~2", "web.env"],
        ),
        (
            "compose: files that complement each other make one, and are there as well",
            artifact(
                "",
                "application/vnd.docker.compose.config.empty.v1+json",
                vec![
                    compose_file(1, "compose.yaml", false),
                    compose_file(2, "0a.yaml", true),
                    compose_file(3, "compose.prod.yaml", false),
                    blob(
                        4,
                        "application/vnd.docker.compose.envfile",
                        json!({ "com.docker.compose.envfile": "0b.env" }),
                    ),
                ],
            ),
            b"{}",
            Kind::ComposeProject,
            vec!["parts/compose.yaml", "0a.yaml", "parts/compose.prod.yaml", "0b.env"],
        ),
        (
            "Docker's models: one file, several",
            artifact(
                "",
                model,
                vec![
                    blob(1, gguf, json!({})),
                    blob(2, "application/vnd.docker.ai.license", json!({})),
                    blob(3, "application/vnd.docker.ai.mmproj", json!({})),
                    blob(4, "application/vnd.docker.ai.vllm.config.tar", json!({})),
                ],
            ),
            b"{}",
            Kind::DockerModel,
            vec!["model.gguf", "LICENSE", "model.mmproj", "/"],
        ),
        (
            "shards in the order of the layers",
            artifact("", model, vec![blob(1, gguf, json!({})), blob(2, gguf, json!({}))]),
            b"{}",
            Kind::DockerModel,
            vec!["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"],
        ),
        (
            "ModelPack",
            artifact(
                "application/vnd.cncf.model.manifest.v1+json",
                "application/vnd.cncf.model.config.v1+json",
                vec![
                    blob(
                        1,
                        "application/vnd.cncf.model.weight.v1.raw",
                        json!({ MODEL: "weights/model.safetensors" }),
                    ),
                    blob(2, "application/vnd.cncf.model.doc.v1.tar", json!({ MODEL: "docs" })),
                    blob(
                        3,
                        "application/vnd.cncf.model.weight.config.v1.raw+zstd",
                        json!({ MODEL: "config.json" }),
                    ),
                ],
            ),
            b"{}",
            Kind::ModelPack,
            vec!["weights/model.safetensors", "/", "config.json decompressed"],
        ),
        (
            "KitOps, a file that is compressed",
            artifact(
                "",
                "application/vnd.kitops.modelkit.config.v1+json",
                vec![blob(
                    1,
                    "application/vnd.kitops.modelkit.model.v1.raw+gzip",
                    json!({ MODEL: "a/model.bin" }),
                )],
            ),
            b"{}",
            Kind::KitOps,
            vec!["a/model.bin decompressed", "Kitfile"],
        ),
        (
            "KitOps: its config is the Kitfile",
            artifact(
                "",
                "application/vnd.kitops.modelkit.config.v1+json",
                vec![blob(1, "application/vnd.kitops.modelkit.model.v1.tar+gzip", json!({}))],
            ),
            b"{}",
            Kind::KitOps,
            vec!["/", "Kitfile"],
        ),
        (
            "Ollama",
            artifact(
                "",
                media_type::DOCKER_CONFIG,
                vec![
                    blob(1, &ollama("model"), json!({})),
                    blob(2, &ollama("license"), json!({})),
                    blob(3, &ollama("license"), json!({})),
                    blob(4, &ollama("params"), json!({})),
                    named(5, "tensor", "text_encoder/a.weight"),
                    named(6, "json", "config.json"),
                ],
            ),
            b"{}",
            Kind::Ollama,
            vec![
                "model.gguf",
                "license-00001-of-00002.txt",
                "license-00002-of-00002.txt",
                "params.json",
                "text_encoder/a.weight.safetensors",
                "config.json",
            ],
        ),
        (
            "Tekton: two resources of one name",
            artifact(
                "",
                media_type::DOCKER_CONFIG,
                vec![
                    blob(
                        1,
                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        json!({ "dev.tekton.image.kind": "task", "dev.tekton.image.name": "build" }),
                    ),
                    blob(
                        2,
                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        json!({ "dev.tekton.image.kind": "Pipeline", "dev.tekton.image.name": "build" }),
                    ),
                ],
            ),
            b"{}",
            Kind::Tekton,
            vec!["task/", "pipeline/"],
        ),
        (
            "Wasm without a title, and with one",
            artifact(
                "",
                "application/vnd.wasm.config.v0+json",
                vec![
                    blob(1, "application/wasm", json!({})),
                    titled(2, "application/wasm", "hello.wasm"),
                ],
            ),
            b"{}",
            Kind::Wasm,
            vec!["module.wasm", "hello.wasm"],
        ),
        (
            "BuildKit's attestations of before 0.31",
            artifact(
                "",
                media_type::OCI_CONFIG,
                vec![blob(
                    1,
                    "application/vnd.in-toto+json",
                    json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" }),
                )],
            ),
            b"{}",
            Kind::Attestation,
            vec!["slsa.dev-provenance-v0.2.intoto.json"],
        ),
        (
            "no files: the config is what there is",
            artifact(
                "application/vnd.example.v1",
                "application/vnd.example.config.v1+json",
                vec![blob(1, "application/vnd.oci.empty.v1+json", json!({}))],
            ),
            b"{}",
            Kind::Files,
            vec!["config.json"],
        ),
        (
            "a dev container feature is a plain tar that is called .tgz",
            artifact(
                "",
                "application/vnd.devcontainers",
                vec![titled(
                    1,
                    "application/vnd.devcontainers.layer.v1+tar",
                    "devcontainer-feature-go.tgz",
                )],
            ),
            b"{}",
            Kind::Devcontainer,
            vec!["/"],
        ),
    ];
    for (what, manifest, config, kind, expected) in rows {
        assert_eq!(plan(&manifest, config, ArtifactView::Usual).kind, kind, "{what}");
        assert_eq!(shown(&manifest, config, ArtifactView::Usual), expected, "{what}");
    }
}

fn compose_file(number: usize, name: &str, is_extended: bool) -> Value {
    let mut annotations = json!({ "com.docker.compose.file": name });
    if is_extended {
        annotations["com.docker.compose.extends"] = json!("true");
    }
    blob(number, "application/vnd.docker.compose.file+yaml", annotations)
}

#[test]
fn compose_files_make_one() {
    let config = "application/vnd.oci.empty.v1+json";
    let layers = vec![
        compose_file(1, "compose.yaml", false),
        compose_file(2, "0a.yaml", true),
        compose_file(3, "compose.prod.yaml", false),
    ];
    let project = artifact("application/vnd.docker.compose.project", config, layers);
    let joined = plan(&project, b"{}", ArtifactView::Usual).joined.unwrap();
    assert_eq!((&joined.file.path[..], joined.file.mode), (&b"compose.yaml"[..], 0o644));
    let blobs = [b"a: 1".to_vec(), b"b: 2\n".to_vec()];
    assert_eq!(joined.bytes(&blobs), b"a: 1\n---\nb: 2\n");
    for view in [ArtifactView::Files, ArtifactView::Raw, ArtifactView::Unpacked] {
        assert_eq!(plan(&project, b"{}", view).joined, None);
    }
    let names = ["compose.yaml", "0a.yaml", "compose.prod.yaml"];
    assert_eq!(shown(&project, b"{}", ArtifactView::Files), names);
}

#[test]
fn what_stays_compressed_says_so() {
    let layer = |number, end: &str, name: &str| {
        let media_type = format!("application/vnd.cncf.model.weight.v1.raw+{end}");
        blob(number, &media_type, json!({ MODEL: name }))
    };
    let layers = vec![layer(1, "gzip", "a"), layer(2, "zstd", "b/c.bin")];
    let config = "application/vnd.cncf.model.config.v1+json";
    let model = artifact("application/vnd.cncf.model.manifest.v1+json", config, layers);
    assert_eq!(shown(&model, b"{}", ArtifactView::Files), ["a.gz", "b/c.bin.zst"]);
    let unpacked = shown(&model, b"{}", ArtifactView::Unpacked);
    assert_eq!(unpacked, ["a decompressed", "b/c.bin decompressed"]);
    assert!(shown(&model, b"{}", ArtifactView::Raw)[0].starts_with("sha256-"));
}

#[test]
fn layers_may_be_null() {
    let config = blob(1, "application/vnd.cnab.config.v1+json", json!({}));
    let manifest =
        manifest(&json!({ "schemaVersion": 2, "config": config, "layers": Value::Null }));
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Usual), ["bundle.json"]);
}

#[test]
fn views() {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = artifact(
        "application/vnd.example.v1",
        "application/vnd.oci.empty.v1+json",
        vec![titled(1, gzip, "a.tar.gz"), blob(2, gzip, json!({}))],
    );
    let digest = |number: usize| Digest::sha256(&number.to_le_bytes()).hex();
    let (first, second) = (format!("sha256-{}", digest(1)), format!("sha256-{}", digest(2)));
    let ended = format!("{second}.tar.gz");
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Raw), [first, second]);
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Files), ["a.tar.gz", &ended]);
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Usual), ["a.tar.gz", &ended]);
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Unpacked), ["/", "/"]);
}

/// Podman 5.4 gives every layer the title of the last; others write what no file system takes.
#[test]
fn names_are_clean_and_all_different() {
    let titles = [
        ("a", "a"),
        ("a", "a~2"),
        ("a", "a~3"),
        ("a/b", "a~4/b"),
        ("x/y", "x/y"),
        ("x", "x~2"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd~2"),
        ("./c//d/.", "c/d"),
        ("n\0ul", "nul"),
        ("..", "unnamed"),
        ("e/../f", "f"),
    ];
    let layers: Vec<Value> =
        titles.iter().enumerate().map(|(at, (title, _))| titled(at, "text/plain", title)).collect();
    let config = "application/vnd.oci.empty.v1+json";
    let manifest = artifact("application/vnd.example.v1", config, layers);
    let plan = plan(&manifest, b"{}", ArtifactView::Usual);
    let expected: Vec<&str> = titles.iter().map(|(_, path)| *path).collect();
    assert_eq!(shown(&manifest, b"{}", ArtifactView::Usual), expected);
    let told: Vec<&str> = plan.renamed.iter().map(|(_, shown)| shown.as_str()).collect();
    let changed = titles.iter().filter(|(title, path)| title != path && *title != "./c//d/.");
    assert!(changed.clone().all(|(_, path)| told.contains(path)), "{told:?}");
    // The same blob under the same title twice is one file.
    let twice = vec![titled(1, "text/plain", "a"), titled(1, "text/plain", "a")];
    let twice = artifact("application/vnd.example.v1", config, twice);
    assert_eq!(shown(&twice, b"{}", ArtifactView::Usual), ["a"]);
    let long = "é".repeat(200);
    let long = artifact("application/vnd.example.v1", config, vec![titled(1, "text/plain", &long)]);
    assert_eq!(shown(&long, b"{}", ArtifactView::Usual), ["é".repeat(127)]);
}

/// Ten thousand blobs of one title take no longer than ten thousand of their own.
#[test]
fn many_blobs_of_one_title() {
    let layers = (0..10_000).map(|at| titled(at, "text/plain", "same")).collect();
    let config = "application/vnd.oci.empty.v1+json";
    let manifest = artifact("application/vnd.example.v1", config, layers);
    let shown = shown(&manifest, b"{}", ArtifactView::Usual);
    assert_eq!(
        (shown.len(), shown[0].as_str(), shown[9999].as_str()),
        (10_000, "same", "same~10000")
    );
}

#[test]
fn attributes_that_a_model_notes() {
    let noted = r#"{"name":"m","mode":384,"uid":0,"mtime":"2024-05-06T07:08:09Z","typeflag":0}"#;
    let layer = blob(
        1,
        "application/vnd.cncf.model.weight.v1.raw",
        json!({
            MODEL: "m", "org.cncf.model.file.metadata+json": noted,
        }),
    );
    let plain = blob(2, "application/vnd.cncf.model.weight.v1.raw", json!({ MODEL: "n" }));
    let model = "application/vnd.cncf.model.manifest.v1+json";
    let manifest = artifact(model, "application/vnd.cncf.model.config.v1+json", vec![layer, plain]);
    let plan = plan(&manifest, b"{}", ArtifactView::Usual);
    let [first, second] = [0, 1].map(|at| plan.blobs[at].otherwise.clone());
    // The bits of a temporary file keep no user out.
    assert_eq!((first.mode, first.mtime_seconds), (0o644, 1_714_979_289));
    assert_eq!((second.mode, second.mtime_seconds), (0o644, 0));
}

#[test]
fn images_are_no_artifacts() {
    let layer = || blob(1, media_type::OCI_LAYER, json!({}));
    let image = artifact("", media_type::OCI_CONFIG, vec![layer()]);
    assert!(!is_artifact(&image) && image.check_image().is_ok());
    // A type of its own makes it none as long as its layers are unnamed.
    assert!(!is_artifact(&artifact("application/vnd.x", media_type::OCI_CONFIG, vec![layer()])));
    let named = vec![titled(1, media_type::OCI_LAYER, "file.bin")];
    assert!(is_artifact(&artifact("application/vnd.x", media_type::OCI_CONFIG, named.clone())));
    // Homebrew gives the layers of an image titles.
    assert!(!is_artifact(&artifact("", media_type::OCI_CONFIG, named)));
}
