//! Manifests, image indexes and configs: OCI and Docker schema 2.
//!
//! Registries serve what their writers' JSON libraries make of the specification: `null` where an
//! empty list is meant (Go's nil slices), fields that do not belong, media types missing inside
//! and generic outside. So these types are lenient about everything that does not matter (see
//! [`json`]) and strict about what does: digests, sizes, and the number of layers. The `oci-spec`
//! crate is not used because it refuses `null` lists and unknown sub-types.
//!
//! Formats: OCI image spec 1.1 (manifest.md, image-index.md, config.md, descriptor.md) and Docker
//! image manifest V2 schema 2.

mod descriptor;
pub mod media_type;
mod platform;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::digest::{DiffId, Digest};
use crate::json;
use media_type::Layer;

pub use descriptor::{Descriptor, Entry, Unusable};
pub use platform::Platform;

/// The largest manifest or image index accepted, in bytes: the distribution project's own limit.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Layers accepted in one image. Docker stops at 127; nobody has a use for more than some hundred.
pub const MAX_LAYERS: usize = 1024;

/// The largest image config accepted, in bytes. Real ones reach some 100 KiB.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// Entries accepted in one image index. Real ones have some dozens.
const MAX_ENTRIES: usize = 10_000;

/// Fields on which it depends what is shown: no document may have two of one that differ.
const DECISIVE: &[&str] = &[
    "config",
    "diff_ids",
    "digest",
    "fsLayers",
    "layers",
    "manifests",
    "mediaType",
    "rootfs",
    "size",
];

/// Why a document is not an image we can show.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the manifest is not valid JSON of its kind: {0}")]
    Json(json::Error),
    #[error("the manifest names {what} in a way that can't be used: {why}")]
    Named { what: String, why: String },
    #[error("the image config is not valid: {0}")]
    Config(json::Error),
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
    #[error(
        "layer {digest} is {is} (media type `{media_type}`): only tars are shown, compressed with \
             gzip or zstd"
    )]
    OtherLayer { digest: Digest, media_type: String, is: &'static str },
    #[error("layer {digest} is encrypted, and decryption is not supported")]
    Encrypted { digest: Digest },
    #[error("the config lists {diff_ids} diff IDs for {layers} layers")]
    DiffIds { diff_ids: usize, layers: usize },
}

/// An image manifest, OCI or Docker schema 2.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What the document says it is.
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// What it is if not an image.
    pub artifact_type: Option<String>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An image manifest as it is written, right or not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an image manifest")]
struct ManifestDocument {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(deserialize_with = "descriptor::entry")]
    config: Entry,
    #[serde(default)]
    layers: Entries,
    #[serde(default, deserialize_with = "json::or_default")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "descriptor::annotations")]
    annotations: BTreeMap<String, String>,
}

/// An image index, or Docker's manifest list.
#[derive(Clone, Debug, Deserialize)]
pub struct ImageIndex {
    /// The manifests (or further indexes) it points to, and what can't be used of it.
    #[serde(default, rename = "manifests")]
    pub entries: Entries,
}

/// The entries of an image index, in its order.
#[derive(Clone, Debug, Default)]
pub struct Entries(pub Vec<Entry>);

impl Entries {
    /// Those that can be used.
    pub fn usable(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.iter().filter_map(|entry| entry.as_ref().ok())
    }
}

/// The part of an image config that a file system needs.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The platform it was built for.
    pub platform: Platform,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
}

/// An image config as it is written. `platform` has no place of its own there.
#[derive(Deserialize)]
#[serde(expecting = "an image config")]
struct ConfigDocument {
    #[serde(default, deserialize_with = "json::or_default")]
    os: String,
    #[serde(default, deserialize_with = "json::or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "json::or_default")]
    variant: String,
    #[serde(default, rename = "os.version", deserialize_with = "json::or_default")]
    os_version: String,
    #[serde(default, rename = "os.features", deserialize_with = "platform::features")]
    os_features: Vec<String>,
    rootfs: RootFs,
}

/// `rootfs` of an image config.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a list of layers")]
pub struct RootFs {
    /// Digests of the uncompressed layers, base first.
    #[serde(default)]
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
#[serde(rename_all = "camelCase", expecting = "a manifest or image index")]
struct Probe {
    #[serde(default, deserialize_with = "json::or_default")]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: String,
    #[serde(default, deserialize_with = "present")]
    manifests: bool,
    #[serde(default, deserialize_with = "present")]
    config: bool,
    #[serde(default, deserialize_with = "present")]
    layers: bool,
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
    /// Not JSON, schema 1, neither kind of document, or both.
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Document, Error> {
        let probe: Probe = read(bytes).map_err(Error::Json)?;
        let announced = announced.map(media_type::essence).filter(|t| media_type::is_document(t));
        let body =
            Some(media_type::essence(&probe.media_type)).filter(|t| !media_type::is_generic(t));
        if let (Some(header), Some(body)) = (&announced, &body)
            && media_type::is_document(body)
            && media_type::is_index(header) != media_type::is_index(body)
        {
            let (header, body) = (header.clone(), body.clone());
            return Err(Error::Contradiction { header, body });
        }
        let kind = body.or(announced);
        let has_content = probe.config || probe.manifests;
        if (probe.schema_version == Some(1) && !has_content)
            || probe.fs_layers
            || kind.as_deref().is_some_and(media_type::is_schema1)
        {
            return Err(Error::Schema1);
        }
        if probe.manifests && (probe.config || probe.layers) {
            // One digest must not mean two things to two readers (CVE-2021-41190).
            return Err(Error::Ambiguous);
        }
        let is_index = match kind {
            Some(t) if media_type::is_document(&t) => media_type::is_index(&t),
            Some(other) => return Err(Error::UnknownDocument(other)),
            None if probe.manifests => true,
            None if probe.config => false,
            None if probe.media_type.is_empty() => {
                return Err(Error::UnknownDocument("none".to_owned()));
            }
            None => return Err(Error::UnknownDocument(probe.media_type)),
        };
        if is_index {
            ImageIndex::parse(bytes).map(Document::Index)
        } else {
            Manifest::parse(bytes).map(Document::Manifest)
        }
    }
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        let document: ManifestDocument = read(bytes).map_err(Error::Json)?;
        let ManifestDocument { media_type, config, layers, artifact_type, annotations } = document;
        let named = |what: String| move |e: Box<Unusable>| Error::Named { what, why: e.why };
        let config = config.map_err(named("the config".to_owned()))?;
        let layers = layers.0.into_iter().enumerate();
        let layers = layers.map(|(at, layer)| layer.map_err(named(format!("layer {}", at + 1))));
        let layers = layers.collect::<Result<Vec<Descriptor>, Error>>()?;
        Ok(Manifest { media_type, config, layers, artifact_type, annotations })
    }

    /// Checks that this is a container image whose layers are file systems.
    ///
    /// A config type or a title annotation alone misleads: some artifacts carry an image's config
    /// type. An image has an image config *and* only layers of types that may be those of one. Old
    /// registries gave configs a generic type, as tools that make artifacts do; then all layers must
    /// say that they are layers, and [`Manifest::image_config`] has the last word.
    ///
    /// # Errors
    /// The sentence that says what it is instead.
    pub fn check_image(&self) -> Result<(), Error> {
        let config = media_type::essence(&self.config.media_type);
        let is_config = media_type::is_config(&config);
        let is_artifact = self.artifact_type.as_ref().is_some_and(|t| !t.is_empty());
        if !is_config && (is_artifact || !media_type::is_generic(&config)) {
            return Err(self.artifact());
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers(self.layers.len()));
        }
        for layer in &self.layers {
            if layer.size > i64::MAX as u64 {
                return Err(Error::AbsurdSize { digest: layer.digest, size: layer.size });
            }
            let (digest, media_type) = (layer.digest, layer.media_type.clone());
            let essence = media_type::essence(&media_type);
            match Layer::of(&essence) {
                Layer::Tar => {}
                // Old OCI layouts leave the type of everything empty.
                Layer::Generic if is_config || config.is_empty() && essence.is_empty() => {}
                Layer::Encrypted => return Err(Error::Encrypted { digest }),
                _ if !is_config && !config.is_empty() => return Err(self.artifact()),
                Layer::Other(is) => return Err(Error::OtherLayer { digest, media_type, is }),
                Layer::Generic | Layer::Unknown => {
                    return Err(Error::Layer { digest, media_type });
                }
            }
        }
        Ok(())
    }

    fn artifact(&self) -> Error {
        let own = self.artifact_type.clone().filter(|t| !t.is_empty());
        Error::Artifact(own.unwrap_or_else(|| self.config.media_type.clone()))
    }

    /// Parses the config of this image.
    ///
    /// # Errors
    /// It is no image config; then, where only the config could tell, this is no image.
    pub fn image_config(&self, bytes: &[u8]) -> Result<ImageConfig, Error> {
        let config = ImageConfig::parse(bytes, self.layers.len());
        let essence = media_type::essence(&self.config.media_type);
        match config {
            Err(Error::Config(_)) if !media_type::is_config(&essence) && !essence.is_empty() => {
                Err(self.artifact())
            }
            config => config,
        }
    }
}

impl ImageIndex {
    /// Parses an image index that is known to be one.
    ///
    /// # Errors
    /// It is not.
    pub fn parse(bytes: &[u8]) -> Result<ImageIndex, Error> {
        read(bytes).map_err(Error::Json)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct One(Entry);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<One, D::Error> {
                descriptor::entry(deserializer).map(One)
            }
        }
        struct Limited;
        impl<'de> Visitor<'de> for Limited {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(One(entry)) = list.next_element()? {
                    if entries.len() == MAX_ENTRIES {
                        let what = format!("more than {MAX_ENTRIES} entries are not accepted");
                        return Err(A::Error::custom(what));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(Limited)
    }
}

impl ImageConfig {
    /// Parses a config blob for an image of `layers` layers.
    ///
    /// # Errors
    /// Not an image config, or with another number of diff IDs than there are layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<ImageConfig, Error> {
        let document: ConfigDocument = read(bytes).map_err(Error::Config)?;
        let ConfigDocument { os, architecture, variant, os_version, os_features, rootfs } =
            document;
        let platform = Platform { os, architecture, variant, os_version, os_features };
        let diff_ids = rootfs.diff_ids.len();
        if diff_ids != layers {
            return Err(Error::DiffIds { diff_ids, layers });
        }
        Ok(ImageConfig { platform, rootfs })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, json::Error> {
    json::from_slice_decisive(bytes, DECISIVE)
}

/// Whether a field is there at all, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        // The number decides nothing where there is more to go by.
        for number in ["1", "0", "\"2\"", "null", "1e999"] {
            let index = format!(r#"{{"schemaVersion":{number},"manifests":[]}}"#);
            assert!(matches!(Document::parse(index.as_bytes(), None).unwrap(), Document::Index(_)));
        }
        let announced = Some("application/vnd.oci.image.index.v1+json; charset=utf-8");
        assert!(matches!(Document::parse(b"{}", announced).unwrap(), Document::Index(_)));
        for (text, announced, word) in [
            (r#"{"schemaVersion":1}"#, None, "schema 1"),
            (r#"{"fsLayers":[]}"#, None, "schema 1"),
            (r#"{"schemaVersion":2,"config":{},"FSLayers":[]}"#, None, "schema 1"),
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
            json::from_slice::<Descriptor>(text.as_bytes()).unwrap().embedded()
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
}
