//! JSON from a registry: manifests, image indexes, configs, and artifacts beside an image.

use std::sync::LazyLock;

use ocifs::digest::Digest;
use ocifs::index::Proof;
use ocifs::index_artifact::{self, Packed};
use ocifs::oci::{Descriptor, Document, ImageConfig, ImageIndex, Platform, media_type};
use ocifs::toc;
use ocifs::ztoc::SociIndex;
use serde_json::json;

use super::{SMALL, Target, Verdict, layer_index};
use crate::support::image::{Built, Compression, ImageBuilder, Layer, image_index, manifest_list};
use crate::support::tarball::{Entry, tar};
use crate::support::zstd_chunked;

/// Image manifests and image indexes.
pub const MANIFEST: Target =
    Target { name: "manifest", valid: valid_manifests, check: check_manifest, most_memory: SMALL };

/// Image configs.
pub const CONFIG: Target =
    Target { name: "config", valid: valid_configs, check: check_config, most_memory: SMALL };

/// Manifests that list the ztocs of an image.
pub const SOCI_INDEX: Target =
    Target { name: "soci_index", valid: valid_soci, check: check_soci, most_memory: SMALL };

/// Manifests that list our own layer indexes.
pub const ARTIFACT: Target =
    Target { name: "artifact", valid: valid_artifacts, check: check_artifact, most_memory: SMALL };

/// Our own layer index as it travels.
pub const ARTIFACT_HEAD: Target =
    Target { name: "artifact_head", valid: valid_heads, check: check_head, most_memory: 4 * SMALL };

/// The most that a compressed head may unpack to, in bytes.
const MAX_HEAD_BYTES: u64 = 8 << 20;

fn image() -> Built {
    let entries = [Entry::dir("usr"), Entry::file("usr/file", [5; 2000])];
    let chunked = zstd_chunked::write(&entries, &zstd_chunked::Options::default());
    let annotated = Layer::from_blob(chunked.blob.clone(), "zstd", &chunked.tar);
    ImageBuilder::new()
        .layer(&tar(&entries), Compression::Gzip)
        .push_layer(annotated.annotations(&chunked.annotations))
        .platform("linux", "arm", Some("v7"))
        .annotation("org.opencontainers.image.ref.name", "v1")
        .build()
}

fn valid_manifests() -> Vec<Vec<u8>> {
    let image = image();
    let docker = ImageBuilder::new().docker_schema2(true).layer(b"", Compression::Gzip).build();
    let of = |variant: &str| json!({ "os": "linux", "architecture": "arm", "variant": variant });
    let (index, _) = image_index(&[(&image, of("v7")), (&docker, of("v8"))]);
    let (list, _) = manifest_list(&[(&docker, of("v8"))]);
    let inline = json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": media_type::OCI_CONFIG, "digest": image.config_digest(), "size": 3,
            "data": "e30K", "urls": ["https://example.com/x"], "platform": null,
        },
        "layers": null,
    });
    vec![image.manifest, docker.manifest, index, list, inline.to_string().into_bytes()]
}

const ANNOUNCED: [Option<&str>; 6] = [
    None,
    Some(media_type::OCI_MANIFEST),
    Some(media_type::OCI_INDEX),
    Some(media_type::DOCKER_MANIFEST),
    Some(media_type::DOCKER_LIST),
    Some("application/json; charset=utf-8"),
];

fn check_manifest(bytes: &[u8]) -> Verdict {
    let _ = ImageIndex::parse(bytes);
    let mut verdict = Verdict::Refused;
    for announced in ANNOUNCED {
        let Ok(document) = Document::parse(bytes, announced) else { continue };
        verdict = Verdict::Accepted;
        match document {
            Document::Manifest(manifest) => {
                let _ = manifest.image_config(bytes);
                let is_image = manifest.check_image().is_ok();
                for layer in &manifest.layers {
                    // What is computed with sizes relies on this.
                    assert!(!is_image || layer.size <= i64::MAX as u64, "{layer:?}");
                    check_descriptor(layer);
                }
                check_descriptor(&manifest.config);
            }
            Document::Index(index) => {
                index.entries.usable().for_each(check_descriptor);
                for unusable in index.entries.0.iter().filter_map(|entry| entry.as_ref().err()) {
                    let _ = (unusable.to_string(), unusable.may_be_image());
                }
            }
        }
    }
    verdict
}

/// What a descriptor has embedded is what its digest says, and what it promises lies in its blob.
fn check_descriptor(descriptor: &Descriptor) {
    if let Some(bytes) = descriptor.embedded() {
        assert!(descriptor.digest.matches(&bytes) && bytes.len() as u64 == descriptor.size);
    }
    if let Some(promise) = toc::promise(descriptor) {
        let fetch = promise.first_fetch(descriptor.size);
        assert!(fetch.start <= fetch.end && fetch.end <= descriptor.size, "{fetch:?}");
        let tail = vec![0; (fetch.end - fetch.start).min(1 << 10) as usize];
        let start = fetch.end - tail.len() as u64;
        if let Ok(place) = toc::find(&promise, &tail, start, descriptor.size) {
            assert!(place.start < place.end && place.end <= descriptor.size, "{place:?}");
        }
    }
    let platform = descriptor.platform.clone().unwrap_or_default();
    let _ = (Platform::host().rank(&platform), Platform::host().relaxed_rank(&platform));
    let _ = (descriptor.is_about_another(), descriptor.is_typed());
}

fn valid_configs() -> Vec<Vec<u8>> {
    let full = json!({
        "os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["win32k"],
        "variant": null, "created": "2024-01-01T00:00:00Z", "config": { "Env": ["A=b"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{:064x}", 7)] },
    });
    vec![image().config, full.to_string().into_bytes()]
}

fn check_config(bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for layers in 0..4 {
        if let Ok(mut config) = ImageConfig::parse(bytes, layers) {
            assert_eq!(config.rootfs.diff_ids.len(), layers);
            config.platform.normalise();
            let _ = (config.platform.to_string(), config.platform.rank(&config.platform));
            verdict = Verdict::Accepted;
        }
    }
    verdict
}

fn valid_soci() -> Vec<Vec<u8>> {
    let digest = |n: u8| format!("sha256:{n:064x}");
    let index = |version: u8| {
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": format!("application/vnd.amazon.soci.index.v{version}+json"),
                "digest": digest(1), "size": 2,
            },
            "layers": [
                {
                    "mediaType": "application/octet-stream", "digest": digest(2), "size": 1_227_144,
                    "annotations": {
                        "com.amazon.soci.disable-xattrs": "true",
                        "com.amazon.soci.image-layer-digest": digest(3),
                        "com.amazon.soci.span-size": "4194304",
                    },
                },
                { "mediaType": "application/vnd.amazon.soci.prefetch.v1+json", "digest": digest(4), "size": 9 },
            ],
            "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": digest(5), "size": 1246 },
        })
    };
    [1, 2].map(|version| index(version).to_string().into_bytes()).into()
}

fn check_soci(bytes: &[u8]) -> Verdict {
    let parsed = SociIndex::parse(bytes);
    for layer in parsed.iter().flat_map(|index| &index.layers) {
        check_descriptor(&layer.ztoc);
    }
    Verdict::from(&parsed)
}

fn valid_artifacts() -> Vec<Vec<u8>> {
    let packed = [layer_index::sample(), layer_index::sample_of_spans()]
        .map(|index| Packed::pack(&index).expect("there is memory").0);
    let subject = Descriptor::of_manifest(Digest::sha256(b"image"));
    vec![index_artifact::manifest(&subject, &packed).expect("it can be written")]
}

fn check_artifact(bytes: &[u8]) -> Verdict {
    let parsed = index_artifact::parse(bytes);
    for packed in parsed.iter().flatten() {
        assert!((1..=packed.blob.size).contains(&packed.head_bytes), "{packed:?}");
        check_descriptor(&packed.blob);
    }
    Verdict::from(&parsed)
}

/// The head as it is before it is compressed: few changes of a compressed one can be unpacked.
fn valid_heads() -> Vec<Vec<u8>> {
    vec![layer_index::sample().encode_head()]
}

fn check_head(head: &[u8]) -> Verdict {
    let packed =
        zstd::bulk::compress(&layer_index::seal(head.to_vec()), 1).expect("there is memory");
    let (described, layer) = &*HEAD;
    let described = Packed { head_digest: Digest::sha256(&packed), ..described.clone() };
    let unpacked = described.unpack(&packed, layer, MAX_HEAD_BYTES);
    if let Ok(index) = &unpacked {
        assert_eq!((index.proof(), index.blob()), (Proof::Hint, layer.digest));
        assert_eq!(index.blob_size(), layer.size);
        layer_index::check(index);
    }
    Verdict::from(&unpacked)
}

/// What is announced of the head, and the layer.
static HEAD: LazyLock<(Packed, Descriptor)> = LazyLock::new(|| {
    let index = layer_index::sample();
    let (packed, _) = Packed::pack(&index).expect("there is memory");
    let value = json!({ "digest": index.blob().to_string(), "size": index.blob_size() });
    (packed, serde_json::from_value(value).expect("it is a descriptor"))
});
