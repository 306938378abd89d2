//! Image manifests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::ImageConfig;
use super::descriptor::{self, Descriptor, Entry, Unusable};
use super::error::{Error, MAX_LAYERS};
use super::image_index::Entries;
use super::media_type::{self, Layer};
use super::read::read;
use crate::json;

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
    /// What it says it is about.
    pub subject: Option<Descriptor>,
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
    #[serde(default, deserialize_with = "layers")]
    layers: Entries,
    #[serde(default, deserialize_with = "json::or_default")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "json::or_default")]
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "descriptor::annotations")]
    annotations: BTreeMap<String, String>,
}

/// Layers; CNAB writes `null` for none.
fn layers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
    Ok(Option::<Entries>::deserialize(deserializer)?.unwrap_or_default())
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        let document: ManifestDocument = read(bytes).map_err(Error::Json)?;
        let ManifestDocument { media_type, config, layers, artifact_type, subject, annotations } =
            document;
        let named = |what: String| move |e: Box<Unusable>| Error::Named { what, why: e.why };
        let config = config.map_err(named("the config".to_owned()))?;
        let layers = layers.0.into_iter().enumerate();
        let layers = layers.map(|(at, layer)| layer.map_err(named(format!("layer {}", at + 1))));
        let layers = layers.collect::<Result<Vec<Descriptor>, Error>>()?;
        Ok(Manifest { media_type, config, layers, artifact_type, subject, annotations })
    }

    /// What it is: its artifact type, or else the type of its config.
    pub fn kind(&self) -> &str {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.unwrap_or(&self.config.media_type)
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
        Error::Artifact(self.kind().to_owned())
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
            // CNAB falls back to the type of an image's config.
            Err(Error::Config(error)) if self.layers.is_empty() => Err(Error::NoImageConfig(error)),
            config => config,
        }
    }
}
