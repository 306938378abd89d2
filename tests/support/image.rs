//! Builds container images out of layer archives, and writes them in every form an image has.
//!
//! An image is made in memory first ([`ImageBuilder`] to [`Built`]): a manifest, a config and
//! blobs by digest. The writers, which live in [`formats`](crate::support::formats), then lay out
//! the same bytes. Descriptors may be overridden field by field, since a broken image is one whose
//! descriptor and blob disagree.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression as Level, Crc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use crate::support::formats::{
    push, push_index, write_dir, write_docker_archive_legacy, write_docker_archive_modern,
    write_docker_archive_skopeo, write_oci_archive, write_oci_index_layout, write_oci_layout,
};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// How a layer archive is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    /// A sequence of gzip members, each holding this many bytes of the archive.
    GzipMultiMember(usize),
    Zstd,
    /// A sequence of zstd frames, each holding this many bytes of the archive.
    ZstdManyFrames(usize),
    /// Two zstd frames with skippable frames before, between and after them.
    ZstdSkippable,
}

/// Compresses an archive.
pub fn compress(data: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => data.to_vec(),
        Compression::Gzip => gzip(data),
        Compression::GzipMultiMember(size) => data.chunks(size).flat_map(gzip).collect(),
        Compression::Zstd => zstd_frame(data),
        Compression::ZstdManyFrames(size) => data.chunks(size).flat_map(zstd_frame).collect(),
        Compression::ZstdSkippable => {
            let (first, second) = data.split_at(data.len() / 2);
            [
                skippable_frame(0, b"before"),
                zstd_frame(first),
                skippable_frame(7, b""),
                zstd_frame(second),
                skippable_frame(15, &[0xfd; 1000]),
            ]
            .concat()
        }
    }
}

/// One gzip member whose header has every optional field: FEXTRA, FNAME, FCOMMENT and FHCRC.
pub fn gzip_all_fields(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0b11110, 0, 0, 0, 0, 0, 255];
    // The extra field holds one subfield: two letters, its length, its data.
    let extra = b"XX\x04\x00\x00\x01\x02\x03";
    out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
    out.extend_from_slice(extra);
    out.extend_from_slice(b"layer.tar\0a comment\0");
    let header_crc = crc32(&out) as u16;
    out.extend_from_slice(&header_crc.to_le_bytes());
    let mut encoder = DeflateEncoder::new(out, Level::default());
    encoder.write_all(data).expect("compress into memory");
    let mut out = encoder.finish().expect("compress into memory");
    out.extend_from_slice(&crc32(data).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::default());
    encoder.write_all(data).expect("compress into memory");
    encoder.finish().expect("compress into memory")
}

fn zstd_frame(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("compress into memory")
}

fn skippable_frame(nibble: u32, data: &[u8]) -> Vec<u8> {
    let magic = 0x184d_2a50 + nibble;
    [&magic.to_le_bytes()[..], &(data.len() as u32).to_le_bytes(), data].concat()
}

fn crc32(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

/// The digest of `data` as `sha256:` and hexadecimal digits.
pub fn sha256(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer of an image to be built, true to its content until a field is overridden.
#[derive(Clone, Debug)]
pub struct Layer {
    blob: Vec<u8>,
    /// What comes after `tar` in the media type.
    suffix: &'static str,
    diff_id: String,
    digest: String,
    size: u64,
    media_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

impl Layer {
    pub fn new(tar: &[u8], compression: Compression) -> Layer {
        let suffix = match compression {
            Compression::None => "",
            Compression::Gzip | Compression::GzipMultiMember(_) => "gzip",
            _ => "zstd",
        };
        Layer::from_blob(compress(tar, compression), suffix, tar)
    }

    /// A layer whose blob the test made itself, such as by [`gzip_all_fields`]. The suffix is
    /// `gzip`, `zstd` or nothing.
    pub fn from_blob(blob: Vec<u8>, suffix: &'static str, tar: &[u8]) -> Layer {
        let (digest, size) = (sha256(&blob), blob.len() as u64);
        let (diff_id, annotations) = (sha256(tar), BTreeMap::new());
        Layer { blob, suffix, diff_id, digest, size, media_type: None, annotations }
    }

    pub fn media_type(mut self, media_type: &str) -> Layer {
        self.media_type = Some(media_type.to_string());
        self
    }

    /// Sets the annotations of the layer's descriptor.
    pub fn annotations(mut self, annotations: &BTreeMap<String, String>) -> Layer {
        self.annotations = annotations.clone();
        self
    }

    /// Claims another digest. The blob is stored under it with its real content.
    pub fn digest(mut self, digest: &str) -> Layer {
        self.digest = digest.to_string();
        self
    }

    pub fn size(mut self, size: u64) -> Layer {
        self.size = size;
        self
    }

    pub fn diff_id(mut self, diff_id: &str) -> Layer {
        self.diff_id = diff_id.to_string();
        self
    }
}

/// Collects layers and configuration. Starts as an OCI image without layers for linux/amd64.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    layers: Vec<Layer>,
    config: Map<String, Value>,
    annotations: Map<String, Value>,
    docker_schema2: bool,
}

impl Default for ImageBuilder {
    fn default() -> ImageBuilder {
        ImageBuilder::new()
    }
}

impl ImageBuilder {
    pub fn new() -> ImageBuilder {
        let (config, annotations) = (Map::new(), Map::new());
        ImageBuilder { layers: Vec::new(), config, annotations, docker_schema2: false }
            .config("architecture", "amd64")
            .config("os", "linux")
            .config("config", json!({}))
    }

    /// Adds a layer on top.
    pub fn layer(self, tar: &[u8], compression: Compression) -> ImageBuilder {
        self.push_layer(Layer::new(tar, compression))
    }

    /// Adds a layer on top, which may have overrides.
    pub fn push_layer(mut self, layer: Layer) -> ImageBuilder {
        self.layers.push(layer);
        self
    }

    /// Sets the platform that the config states.
    pub fn platform(self, os: &str, architecture: &str, variant: Option<&str>) -> ImageBuilder {
        let builder = self.config("os", os).config("architecture", architecture);
        match variant {
            Some(variant) => builder.config("variant", variant),
            None => builder,
        }
    }

    /// Sets a top-level key of the config JSON; `rootfs` overrides the list of diff ids.
    pub fn config(mut self, key: &str, value: impl Into<Value>) -> ImageBuilder {
        self.config.insert(key.to_string(), value.into());
        self
    }

    /// Sets an annotation of the manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> ImageBuilder {
        self.annotations.insert(key.to_string(), value.into());
        self
    }

    /// Uses the media types of Docker's schema 2 instead of OCI's.
    pub fn docker_schema2(mut self, docker: bool) -> ImageBuilder {
        self.docker_schema2 = docker;
        self
    }

    pub fn build(&self) -> Built {
        let (manifest_type, config_type) = match self.docker_schema2 {
            true => (DOCKER_MANIFEST, DOCKER_CONFIG),
            false => (OCI_MANIFEST, OCI_CONFIG),
        };
        let mut config = self.config.clone();
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| &layer.diff_id[..]).collect();
        config.entry("rootfs").or_insert_with(|| json!({ "type": "layers", "diff_ids": diff_ids }));
        let config = Value::Object(config).to_string().into_bytes();

        let mut blobs = BTreeMap::from([(sha256(&config), config.clone())]);
        let mut layers = Vec::new();
        for layer in &self.layers {
            blobs.insert(layer.digest.clone(), layer.blob.clone());
            let media_type = layer.media_type.clone().unwrap_or_else(|| {
                match (self.docker_schema2, layer.suffix) {
                    (true, "") => DOCKER_LAYER.to_string(),
                    (true, suffix) => format!("{DOCKER_LAYER}.{suffix}"),
                    (false, "") => OCI_LAYER.to_string(),
                    (false, suffix) => format!("{OCI_LAYER}+{suffix}"),
                }
            });
            let mut descriptor = json!({
                "mediaType": media_type, "digest": layer.digest, "size": layer.size,
            });
            if !layer.annotations.is_empty() {
                descriptor["annotations"] = json!(layer.annotations);
            }
            layers.push(descriptor);
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {
                "mediaType": config_type, "digest": sha256(&config), "size": config.len(),
            },
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = Value::Object(self.annotations.clone());
        }
        let manifest = manifest.to_string().into_bytes();
        Built {
            manifest_media_type: manifest_type.to_string(),
            manifest_digest: sha256(&manifest),
            manifest,
            config,
            blobs,
        }
    }
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Built {
    pub manifest: Vec<u8>,
    pub manifest_media_type: String,
    pub manifest_digest: String,
    pub config: Vec<u8>,
    /// The config and the layers by the digests that the manifest claims.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Built {
    /// The digests of the layers, base first, as the manifest claims them.
    pub fn layer_digests(&self) -> Vec<String> {
        let manifest: Value = serde_json::from_slice(&self.manifest).expect("parse own manifest");
        let layers = manifest["layers"].as_array().expect("own manifest has layers");
        layers.iter().map(|layer| text(&layer["digest"])).collect()
    }

    /// The digest of the config, as the manifest claims it.
    pub fn config_digest(&self) -> String {
        let manifest: Value = serde_json::from_slice(&self.manifest).expect("parse what we wrote");
        manifest["config"]["digest"].as_str().unwrap_or_default().to_owned()
    }

    /// The sizes of the layers' blobs in bytes, base first, as the manifest claims them.
    pub fn layer_sizes(&self) -> Vec<u64> {
        let manifest: Value = serde_json::from_slice(&self.manifest).expect("parse own manifest");
        let layers = manifest["layers"].as_array().expect("own manifest has layers");
        layers.iter().map(|layer| layer["size"].as_u64().expect("a size")).collect()
    }

    /// The descriptor of the manifest.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.manifest_media_type,
            "digest": self.manifest_digest,
            "size": self.manifest.len(),
        })
    }

    /// The digests of the uncompressed layers, base first, as the config claims them.
    pub fn diff_ids(&self) -> Vec<String> {
        let config: Value = serde_json::from_slice(&self.config).expect("parse own config");
        let ids = config["rootfs"]["diff_ids"].as_array().expect("own config has diff ids");
        ids.iter().map(text).collect()
    }
}

/// An OCI image index over `images`, with the platform object of each, and its digest.
pub fn image_index(images: &[(&Built, Value)]) -> (Vec<u8>, String) {
    index_of_type(OCI_INDEX, images)
}

/// A Docker manifest list over `images`, with the platform object of each, and its digest.
pub fn manifest_list(images: &[(&Built, Value)]) -> (Vec<u8>, String) {
    index_of_type(DOCKER_LIST, images)
}

fn index_of_type(media_type: &str, images: &[(&Built, Value)]) -> (Vec<u8>, String) {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(built, platform)| {
            let mut descriptor = built.descriptor();
            descriptor["platform"] = platform.clone();
            descriptor
        })
        .collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type, "manifests": manifests,
    });
    let bytes = index.to_string().into_bytes();
    let digest = sha256(&bytes);
    (bytes, digest)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a JSON string").to_string()
}
