//! Manifests, image indexes and configs: OCI and Docker schema 2.
//!
//! Registries serve what their writers' JSON libraries make of the specification: `null` where an
//! empty list is meant (Go's nil slices), fields that do not belong, media types missing inside
//! and generic outside. So these types are lenient about everything that does not matter and
//! strict about what does: digests, sizes, and the number of layers. The `oci-spec` crate is not
//! used because it refuses `null` lists and unknown sub-types.
//!
//! Formats: OCI image spec 1.1 (manifest.md, image-index.md, config.md, descriptor.md) and Docker
//! image manifest V2 schema 2.

mod platform;

use std::collections::BTreeMap;

use base64::Engine;
use serde::{Deserialize, Deserializer};

use crate::digest::{DiffId, Digest};

pub use platform::Platform;

/// The largest manifest or image index accepted, in bytes: the distribution project's own limit.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Layers accepted in one image. Docker stops at 127; nobody has a use for more than some hundred.
pub const MAX_LAYERS: usize = 1024;

/// The largest image config accepted, in bytes. Real ones reach some 100 KiB.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// Media types that decide what a document or a blob is.
#[allow(missing_docs, reason = "the values are the documentation")]
pub mod media_type {
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    pub const DOCKER_SCHEMA1_SIGNED: &str =
        "application/vnd.docker.distribution.manifest.v1+prettyjws";

    /// What a client must say it accepts; without the OCI types some registries answer 404.
    /// Schema 1 is among them so that it can be refused by name.
    pub const ACCEPT: [&str; 6] = [
        OCI_INDEX,
        OCI_MANIFEST,
        DOCKER_LIST,
        DOCKER_MANIFEST,
        DOCKER_SCHEMA1_SIGNED,
        DOCKER_SCHEMA1,
    ];
}

/// Why a document is not an image we can show.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the manifest is not valid JSON of its kind: {0}")]
    Json(#[source] serde_json::Error),
    #[error("the image config is not valid: {0}")]
    Config(#[source] serde_json::Error),
    #[error(
        "it is a Docker schema 1 image, a format that Docker and containerd dropped: \
         pull it with an old engine and push it again"
    )]
    Schema1,
    #[error("the document is neither an image manifest nor an image index (media type `{0}`)")]
    UnknownDocument(String),
    #[error("the document is both an image manifest and an image index")]
    Ambiguous,
    #[error("the image has {0} layers; more than {MAX_LAYERS} are not accepted")]
    TooManyLayers(usize),
    #[error("{digest} is said to have {size} bytes, which is absurd")]
    AbsurdSize { digest: Digest, size: u64 },
    #[error("media type `{header}` was announced, but the document says `{body}`")]
    Contradiction { header: String, body: String },
    #[error("it is not a container image but an artifact of type `{0}`")]
    Artifact(String),
    #[error("layer {digest} has media type `{media_type}`, which is not a file system layer")]
    Layer { digest: Digest, media_type: String },
    #[error("layer {digest} is encrypted, and decryption is not supported")]
    Encrypted { digest: Digest },
    #[error("the config lists {diff_ids} diff IDs for {layers} layers")]
    DiffIds { diff_ids: usize, layers: usize },
}

/// A reference from one document to another, with its size and digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type; may be empty in old image indexes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Digest of the blob as it is stored.
    pub digest: Digest,
    /// Size of the blob as it is stored, in bytes.
    pub size: u64,
    /// The platform, in an image index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The artifact type, in an image index or referrers list.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Free-form annotations.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Where else the blob is, outside of its registry.
    #[serde(default, deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// A copy of the blob in base64, of small ones.
    #[serde(default, deserialize_with = "null_is_default")]
    pub data: String,
}

impl Descriptor {
    /// The descriptor of a manifest of which only the digest is known.
    pub fn of_manifest(digest: Digest) -> Descriptor {
        Descriptor {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            digest,
            size: 0,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
            data: String::new(),
        }
    }

    /// The blob, where the descriptor itself holds all of it and nothing else.
    pub fn embedded(&self) -> Option<Vec<u8>> {
        if self.data.is_empty() {
            return None;
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.data).ok()?;
        (bytes.len() as u64 == self.size && self.digest.matches(&bytes)).then_some(bytes)
    }

    /// Whether this is something about an image rather than one: a referrer that stands in the
    /// index itself, as BuildKit's attestations and SOCI's indexes do.
    pub fn is_about_another(&self) -> bool {
        let is_attestation = self.platform.as_ref().is_some_and(Platform::is_unknown)
            && self.annotations.get(REFERENCE_TYPE).is_some_and(|t| t == "attestation-manifest");
        let of_type = self.artifact_type.as_deref().unwrap_or_default();
        is_attestation
            || !matches!(of_type, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
    }
}

/// BuildKit's mark of an attestation among the images of an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// An image manifest, OCI or Docker schema 2.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What the document says it is.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What it is if not an image.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Free-form annotations.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index, or Docker's manifest list.
#[derive(Clone, Debug, Deserialize)]
pub struct ImageIndex {
    /// The manifests (or further indexes) it points to.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
}

/// The part of an image config that a file system needs.
#[derive(Clone, Debug, Deserialize)]
pub struct ImageConfig {
    /// The platform it was built for.
    #[serde(flatten)]
    pub platform: Platform,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
}

/// `rootfs` of an image config.
#[derive(Clone, Debug, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

/// A parsed manifest document.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list of images.
    Index(ImageIndex),
}

/// What every document says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    manifests: bool,
    #[serde(default, deserialize_with = "present")]
    config: bool,
    #[serde(default, deserialize_with = "present")]
    fs_layers: bool,
}

impl Document {
    /// Parses a manifest or index. `announced` is the media type that came with it: the
    /// Content-Type header or the descriptor that led here.
    ///
    /// The document's own `mediaType` decides; where it has none (it is optional for OCI), the
    /// announced type, and where that is generic too, the fields.
    ///
    /// # Errors
    /// Not JSON, schema 1, or neither kind of document.
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Document, Error> {
        let probe: Probe = object(bytes).map_err(Error::Json)?;
        let announced = announced.map(|t| t.split(';').next().unwrap_or_default().trim());
        let announced = announced.filter(|t| is_document_type(t));
        let body = probe.media_type.as_deref().filter(|t| !t.is_empty());
        if let (Some(header), Some(body)) = (announced, body)
            && is_document_type(body)
            && is_index_type(header) != is_index_type(body)
        {
            let (header, body) = (header.to_owned(), body.to_owned());
            return Err(Error::Contradiction { header, body });
        }
        let is_schema1 =
            |t: &str| t.starts_with("application/vnd.docker.distribution.manifest.v1+");
        if probe.schema_version == Some(1)
            || probe.fs_layers
            || body.or(announced).is_some_and(is_schema1)
        {
            return Err(Error::Schema1);
        }
        if probe.manifests && probe.config {
            // One digest must not mean two things to two readers (CVE-2021-41190).
            return Err(Error::Ambiguous);
        }
        let is_index = match body.or(announced) {
            Some(t) if is_document_type(t) => is_index_type(t),
            Some(other) => return Err(Error::UnknownDocument(other.to_owned())),
            None if probe.manifests => true,
            None if probe.config => false,
            None => return Err(Error::UnknownDocument("none".to_owned())),
        };
        if is_index {
            object(bytes).map(Document::Index).map_err(Error::Json)
        } else {
            object(bytes).map(Document::Manifest).map_err(Error::Json)
        }
    }
}

fn is_document_type(media_type: &str) -> bool {
    media_type::ACCEPT.contains(&media_type)
}

fn is_index_type(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

impl Manifest {
    /// Checks that this is a container image whose layers are file systems.
    ///
    /// A config type or a title annotation alone misleads: some artifacts carry an image's config
    /// type. An image has an image config *and* only known layer types.
    ///
    /// # Errors
    /// The sentence that says what it is instead.
    pub fn check_image(&self) -> Result<(), Error> {
        let config = self.config.media_type.as_str();
        let is_config = matches!(config, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        if !is_config {
            let kind = self.artifact_type.clone().unwrap_or_else(|| config.to_owned());
            return Err(Error::Artifact(kind));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers(self.layers.len()));
        }
        for layer in &self.layers {
            if layer.size > i64::MAX as u64 {
                return Err(Error::AbsurdSize { digest: layer.digest, size: layer.size });
            }
            let (digest, media_type) = (layer.digest, layer.media_type.as_str());
            if media_type.ends_with("+encrypted") {
                return Err(Error::Encrypted { digest });
            }
            if !is_layer_type(media_type) {
                return Err(Error::Layer { digest, media_type: media_type.to_owned() });
            }
        }
        Ok(())
    }
}

/// Whether a layer of this type is a tar of files, compressed in any way.
fn is_layer_type(media_type: &str) -> bool {
    const STEMS: [&str; 4] = [
        media_type::OCI_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        media_type::DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    // Old OCI layouts leave it empty.
    media_type.is_empty()
        || STEMS.iter().any(|stem| {
            let rest = media_type.strip_prefix(stem);
            matches!(rest, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd" | "+zstd:chunked"))
        })
}

impl ImageIndex {
    /// Parses an image index that is known to be one.
    ///
    /// # Errors
    /// It is not.
    pub fn parse(bytes: &[u8]) -> Result<ImageIndex, Error> {
        object(bytes).map_err(Error::Json)
    }
}

impl ImageConfig {
    /// Parses a config blob for an image of `layers` layers.
    ///
    /// # Errors
    /// Not an image config, or with another number of diff IDs than there are layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<ImageConfig, Error> {
        let config: ImageConfig = object(bytes).map_err(Error::Config)?;
        let diff_ids = config.rootfs.diff_ids.len();
        if diff_ids != layers {
            return Err(Error::DiffIds { diff_ids, layers });
        }
        Ok(config)
    }
}

/// Parses a JSON object; serde would take a list for a struct as well, field by field.
fn object<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err(serde::de::Error::custom("it is a list, not an object")),
        _ => serde_json::from_slice(bytes),
    }
}

/// Whether a field is there at all, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Accepts `null` for a missing value.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config_type: &str, layer_type: &str) -> Manifest {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{D}","size":1}},
                "layers":[{{"mediaType":"{layer_type}","digest":"{D}","size":2,"annotations":null}}]}}"#
        );
        match Document::parse(text.as_bytes(), None).unwrap() {
            Document::Manifest(m) => m,
            Document::Index(_) => panic!("parsed as an index"),
        }
    }

    #[test]
    fn kinds_of_documents() {
        let index = br#"{"schemaVersion":2,"manifests":null}"#;
        assert!(matches!(Document::parse(index, None).unwrap(), Document::Index(_)));
        let announced = Some("application/vnd.oci.image.index.v1+json; charset=utf-8");
        assert!(matches!(Document::parse(b"{}", announced).unwrap(), Document::Index(_)));
        for (text, announced, word) in [
            (r#"{"schemaVersion":1}"#, None, "schema 1"),
            (r#"{"fsLayers":[]}"#, None, "schema 1"),
            ("{}", Some(media_type::DOCKER_SCHEMA1_SIGNED), "schema 1"),
            ("{}", None, "neither"),
            (r#"{"mediaType":"text/plain"}"#, None, "text/plain"),
            ("[", None, "JSON"),
            ("<html>", Some("text/html"), "JSON"),
        ] {
            let error = Document::parse(text.as_bytes(), announced).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let text = format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_MANIFEST);
        let error = Document::parse(text.as_bytes(), Some(media_type::OCI_INDEX)).unwrap_err();
        assert!(matches!(error, Error::Contradiction { .. }));
    }

    #[test]
    fn images_and_artifacts() {
        for (config, layer) in [
            (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip"),
            (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd"),
            (media_type::DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            (media_type::DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar"),
        ] {
            manifest(config, layer).check_image().unwrap();
        }
        for (config, layer, word) in [
            ("application/vnd.cncf.helm.config.v1+json", "x", "helm"),
            (media_type::DOCKER_CONFIG, "application/vnd.ollama.image.model", "ollama"),
            (
                media_type::OCI_CONFIG,
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                "encr",
            ),
        ] {
            let error = manifest(config, layer).check_image().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn configs() {
        let text =
            format!(r#"{{"os":"linux","architecture":"arm64","rootfs":{{"diff_ids":["{D}"]}}}}"#);
        let config = ImageConfig::parse(text.as_bytes(), 1).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm64");
        let error = ImageConfig::parse(text.as_bytes(), 2).unwrap_err().to_string();
        assert_eq!(error, "the config lists 1 diff IDs for 2 layers");
        assert!(ImageConfig::parse(b"{}", 0).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":null}}"#, 0).is_ok());
    }

    #[test]
    fn embedded_documents() {
        let with = |data: &str, size: u64| {
            let digest = Digest::sha256(b"{}");
            let text = format!(r#"{{"digest":"{digest}","size":{size},"data":{data}}}"#);
            serde_json::from_str::<Descriptor>(&text).unwrap().embedded()
        };
        assert_eq!(with("\"e30=\"", 2).as_deref(), Some(&b"{}"[..]));
        for (data, size) in [
            ("null", 2),
            ("\"\"", 2),
            ("\"e30=\"", 3),
            ("\"e30\"", 2),
            ("\"W10=\"", 2),
            ("\"?\"", 2),
        ] {
            assert_eq!(with(data, size), None, "{data}");
        }
    }

    proptest! {
        /// Documents that are almost right give an answer.
        #[test]
        fn damaged_documents_never_panic(
            which in 0usize..3,
            damage in prop::collection::vec((0usize..600, any::<u8>()), 0..6),
            announced in prop::sample::select(vec![
                None, Some(media_type::OCI_INDEX), Some(media_type::DOCKER_MANIFEST), Some("text/html"),
            ]),
        ) {
            let texts = [
                format!(
                    r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":1,"data":"e30="}},"layers":
                        [{{"mediaType":"x","digest":"{D}","size":2,"urls":["u"],"annotations":null}}]}}"#
                ),
                format!(
                    r#"{{"schemaVersion":2,"manifests":[{{"digest":"{D}","size":1,"platform":
                        {{"os":"linux","architecture":"arm","variant":null,"os.features":["x"]}}}}]}}"#
                ),
                format!(r#"{{"os":"linux","architecture":"x","rootfs":{{"diff_ids":["{D}"]}}}}"#),
            ];
            let mut bytes = texts[which].clone().into_bytes();
            for (at, byte) in damage {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            match Document::parse(&bytes, announced) {
                Ok(Document::Manifest(manifest)) => drop(manifest.check_image()),
                Ok(Document::Index(index)) => {
                    for descriptor in &index.manifests {
                        let _ = (descriptor.is_about_another(), descriptor.embedded());
                        let platform = descriptor.platform.clone().unwrap_or_default();
                        let _ = Platform::host().rank(&platform);
                        let _ = Platform::host().relaxed_rank(&platform);
                    }
                }
                Err(_) => {}
            }
            let _ = ImageConfig::parse(&bytes, 1);
        }
    }
}
