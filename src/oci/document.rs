//! A document that may be a manifest or an image index.

use serde::Deserialize;

use super::descriptor::Descriptor;
use super::error::Error;
use super::image_index::ImageIndex;
use super::manifest::Manifest;
use super::media_type;
use super::read::{present, read};
use crate::json;

/// The largest manifest or image index accepted, in bytes: the distribution project's own limit.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

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
    /// What it says it is, or else what such documents are.
    pub fn media_type(&self) -> &str {
        let (own, usual) = match self {
            Document::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
            Document::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        };
        own.as_deref().filter(|own| !own.is_empty()).unwrap_or(usual)
    }

    /// What it says it is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Document::Manifest(manifest) => manifest.subject.as_ref(),
            Document::Index(index) => index.subject.as_ref(),
        }
    }

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
