//! Layer indexes that travel: an artifact in the registry, beside the image.
//!
//! # Problem
//!
//! The first use of a layer costs its download. Another host has used it before; what it learned is a
//! hundredth of its size. The artifact puts that where the image is, so that any host mounts it
//! cold with a few requests.
//!
//! # Format
//!
//! An OCI image manifest (image-spec 1.1, manifest.md, "Guidelines for Artifact Usage"):
//!
//! ```text
//! artifactType  application/vnd.ocifs.layer-index.v1
//! config        the empty descriptor
//! subject       the image manifest
//! layers        one blob for each distinct layer of the image, of the same media type:
//!               zstd frame of the index's head | tail as it is   (see `index::format`)
//!   annotations vnd.ocifs.layer.digest    the layer's blob
//!               vnd.ocifs.head.size       length of the zstd frame in bytes
//!               vnd.ocifs.head.digest     SHA-256 of the zstd frame
//! ```
//!
//! A mount fetches only the frame, with a range, and checks it against its own digest; the tail
//! (content hashes and windows, which no compression makes smaller) stays where it is, and a cold
//! read fetches the one window that it needs. A window needs no digest of its own: what is decoded
//! with it has one.
//!
//! # Invariants
//!
//! - What is read here proves nothing ([`Proof::Hint`]), whatever it says of itself: anybody who may
//!   push can attach a referrer. It is used only where the user said so.
//! - An index for another layer, of another size or another format version, is refused.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::digest::Digest;
use crate::index::{DecodeError, LayerIndex, Proof};
use crate::json;
use crate::oci::{Descriptor, EMPTY_CONTENT, media_type};

/// The artifact's type, and that of its blobs.
pub const ARTIFACT_TYPE: &str = "application/vnd.ocifs.layer-index.v1";

const LAYER_DIGEST: &str = "vnd.ocifs.layer.digest";
const HEAD_SIZE: &str = "vnd.ocifs.head.size";
const HEAD_DIGEST: &str = "vnd.ocifs.head.digest";

/// Largest zstd frame of a head that is fetched, in bytes: 16 million entries compress to less.
const MAX_HEAD_BYTES: u64 = 1 << 30;

/// The level that heads are compressed at. At 19 it took as long as all the indexing (measured).
const ZSTD_LEVEL: i32 = 12;

/// Why an artifact is of no use.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the manifest is not valid JSON: {0}")]
    Json(json::Error),
    #[error("the manifest can't be written: {0}")]
    Write(serde_json::Error),
    #[error("the artifact is of type `{0}`, not `{ARTIFACT_TYPE}`")]
    Type(String),
    #[error("the annotation `{0}` is missing or invalid")]
    Annotation(&'static str),
    #[error("the layer index does not have the digest that its manifest gives it")]
    Digest,
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the layer index is of another layer: {0}")]
    OtherLayer(Digest),
}

impl From<json::Error> for Error {
    fn from(error: json::Error) -> Error {
        Error::Json(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Write(error)
    }
}

/// A layer index in an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The blob that holds it.
    pub blob: Descriptor,
    /// The layer it is of.
    pub layer: Digest,
    /// Length of the compressed head, at the start of the blob.
    pub head_bytes: u64,
    /// SHA-256 of the compressed head.
    pub head_digest: Digest,
}

impl Packed {
    /// Describes a packed index, and gives the blob to be stored.
    ///
    /// # Errors
    /// Out of memory.
    pub fn pack(index: &LayerIndex) -> Result<(Packed, Vec<u8>), Error> {
        let head = zstd::bulk::compress(&index.encode_head(), ZSTD_LEVEL)
            .map_err(|e| codec::Error::Zstd(e.to_string()))?;
        let (head_bytes, head_digest) = (head.len() as u64, Digest::sha256(&head));
        let mut blob = head;
        blob.extend_from_slice(&index.encode_tail());
        let annotations = [
            (LAYER_DIGEST, index.blob().to_string()),
            (HEAD_SIZE, head_bytes.to_string()),
            (HEAD_DIGEST, head_digest.to_string()),
        ];
        let descriptor = Descriptor {
            media_type: ARTIFACT_TYPE.to_owned(),
            digest: Digest::sha256(&blob),
            size: blob.len() as u64,
            platform: None,
            artifact_type: None,
            annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
            urls: Vec::new(),
            name: String::new(),
            data: String::new(),
        };
        Ok((Packed { blob: descriptor, layer: index.blob(), head_bytes, head_digest }, blob))
    }

    /// Unpacks a compressed head, which is all that a mount needs.
    ///
    /// # Errors
    /// It is not the one that was announced, not of this layer, or has more than `most` bytes.
    pub fn unpack(&self, head: &[u8], layer: &Descriptor, most: u64) -> Result<LayerIndex, Error> {
        if !self.head_digest.matches(head) {
            return Err(Error::Digest);
        }
        let limit = codec::plausible_uncompressed_bytes(head.len() as u64).min(most);
        let file = codec::decompress(head, usize::try_from(limit).unwrap_or(usize::MAX))?;
        let index = LayerIndex::decode(&file)?.with_proof(Proof::Hint);
        if index.blob() != layer.digest || index.blob_size() != layer.size {
            return Err(Error::OtherLayer(index.blob()));
        }
        Ok(index)
    }

    fn from_descriptor(blob: Descriptor) -> Result<Packed, Error> {
        let annotation = |name: &'static str| {
            blob.annotations.get(name).map(String::as_str).ok_or(Error::Annotation(name))
        };
        let digest =
            |name| annotation(name)?.parse::<Digest>().map_err(|_| Error::Annotation(name));
        let head_bytes = annotation(HEAD_SIZE)?
            .parse()
            .ok()
            .filter(|bytes| (1..=blob.size.min(MAX_HEAD_BYTES)).contains(bytes))
            .ok_or(Error::Annotation(HEAD_SIZE))?;
        Ok(Packed {
            layer: digest(LAYER_DIGEST)?,
            head_bytes,
            head_digest: digest(HEAD_DIGEST)?,
            blob,
        })
    }
}

/// What the JSON of a manifest has; other fields do not matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadManifest {
    #[serde(default)]
    artifact_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The layer indexes of an artifact.
///
/// # Errors
/// It is another artifact.
pub fn parse(manifest: &[u8]) -> Result<Vec<Packed>, Error> {
    let manifest: ReadManifest = json::from_slice(manifest)?;
    let kind = manifest.artifact_type.filter(|t| !t.is_empty());
    let kind = kind.unwrap_or(manifest.config.media_type);
    if kind != ARTIFACT_TYPE {
        return Err(Error::Type(kind));
    }
    let layers = manifest.layers.unwrap_or_default().into_iter();
    layers.filter(|d| d.media_type == ARTIFACT_TYPE).map(Packed::from_descriptor).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: WrittenDescriptor<'a>,
    layers: Vec<WrittenDescriptor<'a>>,
    subject: WrittenDescriptor<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDescriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<&'a str, &'a str>,
}

fn written(descriptor: &Descriptor) -> WrittenDescriptor<'_> {
    WrittenDescriptor {
        media_type: &descriptor.media_type,
        digest: descriptor.digest,
        size: descriptor.size,
        annotations: descriptor.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    }
}

/// The manifest of an artifact that refers to an image manifest. The same indexes give the same
/// bytes, so that pushing twice changes nothing.
///
/// # Errors
/// None that can happen; JSON of these types always works.
pub fn manifest(subject: &Descriptor, indexes: &[Packed]) -> Result<Vec<u8>, Error> {
    let empty = WrittenDescriptor {
        media_type: media_type::OCI_EMPTY,
        digest: Digest::sha256(EMPTY_CONTENT),
        size: EMPTY_CONTENT.len() as u64,
        annotations: Default::default(),
    };
    let mut subject = written(subject);
    subject.annotations.clear();
    Ok(serde_json::to_vec(&WrittenManifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        artifact_type: ARTIFACT_TYPE,
        config: empty,
        layers: indexes.iter().map(|packed| written(&packed.blob)).collect(),
        subject,
    })?)
}
