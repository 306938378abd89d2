//! Descriptors: how one document names another, or a blob.
//!
//! An image index may name things that can't be used here, such as an attestation by a digest of
//! another algorithm (the specification lets one index mix them). They spoil nothing as long as
//! they are not chosen, so each entry is a [`Descriptor`] or [`Unusable`].

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use serde::{Deserialize, Deserializer};

use super::media_type;
use super::platform::Platform;
use crate::digest::Digest;
use crate::json::{self, Attempt};

/// Content of the empty descriptor ([`media_type::OCI_EMPTY`]): the config of artifacts that have none
/// (image-spec 1.1, manifest.md, "Guidance for an Empty Descriptor").
pub const EMPTY_CONTENT: &[u8] = b"{}";

/// A reference from one document to another, with its size and digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "AnyDescriptor")]
pub struct Descriptor {
    /// Media type; may be empty in old image indexes.
    pub media_type: String,
    /// Digest of the blob as it is stored.
    pub digest: Digest,
    /// Size of the blob as it is stored, in bytes.
    pub size: u64,
    /// The platform, in an image index.
    pub platform: Option<Platform>,
    /// The artifact type, in an image index or referrers list.
    pub artifact_type: Option<String>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where else the blob is, outside of its registry.
    pub urls: Vec<String>,
    /// A copy of the blob in base64, of small ones.
    pub data: String,
    /// A field of Ollama alone: the blob's path in the model.
    pub name: String,
}

/// A descriptor of something that can't be had or verified, and what it says of it.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// Why, as a sentence of its own: the digest algorithm is not supported, or a field is wrong.
    pub why: String,
    /// The platform, in an image index.
    pub platform: Option<Platform>,
    /// The artifact type.
    pub artifact_type: Option<String>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// An entry of an image index.
pub type Entry = Result<Descriptor, Box<Unusable>>;

/// A descriptor as it is written, right or not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a descriptor")]
struct AnyDescriptor {
    #[serde(default, deserialize_with = "json::or_default")]
    media_type: String,
    #[serde(default = "no_digest")]
    digest: Attempt<Digest>,
    #[serde(default = "no_size")]
    size: Attempt<u64>,
    #[serde(default, deserialize_with = "json::or_default")]
    platform: Option<Platform>,
    #[serde(default, deserialize_with = "json::or_default")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "json::or_default")]
    urls: Vec<String>,
    #[serde(default, deserialize_with = "json::or_default")]
    data: String,
    #[serde(default, deserialize_with = "json::or_default")]
    name: String,
}

fn no_digest() -> Attempt<Digest> {
    Attempt(Err("a descriptor has no field `digest`".to_owned()))
}

fn no_size() -> Attempt<u64> {
    Attempt(Err("a descriptor has no field `size`".to_owned()))
}

/// Annotations are text; what else may stand there is left out.
pub(super) fn annotations<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let found = BTreeMap::<String, Attempt<String>>::deserialize(deserializer).unwrap_or_default();
    Ok(found.into_iter().filter_map(|(key, value)| Some((key, value.0.ok()?))).collect())
}

impl TryFrom<AnyDescriptor> for Descriptor {
    type Error = Box<Unusable>;

    fn try_from(any: AnyDescriptor) -> Result<Descriptor, Box<Unusable>> {
        let AnyDescriptor { platform, artifact_type, annotations, .. } = any;
        match (any.digest.0, any.size.0) {
            (Ok(digest), Ok(size)) => {
                let (media_type, urls, data, name) = (any.media_type, any.urls, any.data, any.name);
                Ok(Descriptor {
                    media_type,
                    digest,
                    size,
                    platform,
                    artifact_type,
                    annotations,
                    urls,
                    data,
                    name,
                })
            }
            (Err(why), _) | (_, Err(why)) => {
                Err(Box::new(Unusable { why, platform, artifact_type, annotations }))
            }
        }
    }
}

/// Reads an entry, which may be anything.
pub(super) fn entry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
    let Attempt(any) = Attempt::<AnyDescriptor>::deserialize(deserializer)?;
    Ok(any.map_or_else(|why| Err(Box::new(Unusable::without_fields(why))), Descriptor::try_from))
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
            name: String::new(),
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

    /// Whether this is marked as being about an image, as BuildKit marks its attestations.
    pub fn is_about_another(&self) -> bool {
        is_attestation(self.platform.as_ref(), &self.annotations)
    }

    /// What this says that it attests, if it is marked so as BuildKit marks its attestations.
    pub fn attested(&self) -> Option<Digest> {
        let named = self.annotations.get(REFERENCE_DIGEST).filter(|_| self.is_about_another());
        named.and_then(|digest| digest.parse().ok())
    }

    /// Whether this is the type of an image index.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&media_type::essence(&self.media_type))
    }

    /// Whether this has a type of its own. It may be an image nonetheless: tools exist that give one
    /// to every entry of an index.
    pub fn is_typed(&self) -> bool {
        is_typed(self.artifact_type.as_deref())
    }
}

impl Unusable {
    fn without_fields(why: String) -> Unusable {
        let annotations = BTreeMap::new();
        Unusable { why, platform: None, artifact_type: None, annotations }
    }

    /// Whether what it names may be an image.
    pub fn may_be_image(&self) -> bool {
        !is_attestation(self.platform.as_ref(), &self.annotations)
            && !is_typed(self.artifact_type.as_deref())
    }
}

/// BuildKit's mark of an attestation among the images of an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// The manifest that it is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

fn is_attestation(platform: Option<&Platform>, annotations: &BTreeMap<String, String>) -> bool {
    platform.is_some_and(Platform::is_unknown)
        && annotations.get(REFERENCE_TYPE).is_some_and(|t| t == "attestation-manifest")
}

fn is_typed(artifact_type: Option<&str>) -> bool {
    let essence = media_type::essence(artifact_type.unwrap_or_default());
    !essence.is_empty() && !media_type::is_config(&essence)
}
