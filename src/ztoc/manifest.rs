//! SOCI index manifests: OCI image manifests that list the ztocs of an image's layers.

use serde::Deserialize;

use super::Error;
use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, Document, MAX_LAYERS, media_type};

/// Config media type, and so artifact type, of SOCI indexes that refer to an image as its subject.
pub const ARTIFACT_TYPE_V1: &str = "application/vnd.amazon.soci.index.v1+json";

/// Config media type, and so artifact type, of SOCI indexes that an image refers to.
pub const ARTIFACT_TYPE_V2: &str = "application/vnd.amazon.soci.index.v2+json";

/// Annotation of an image manifest: the digest of its SOCI index (version 2).
pub const INDEX_DIGEST_ANNOTATION: &str = "com.amazon.soci.index-digest";

/// Annotation of a SOCI index' descriptor in an OCI image index: the digest of the image manifest
/// it belongs to (version 2).
pub const MANIFEST_DIGEST_ANNOTATION: &str = "com.amazon.soci.image-manifest-digest";

/// Media type of ztocs; other layers of a SOCI index are not ztocs (prefetch lists are known).
const ZTOC_MEDIA_TYPE: &str = "application/octet-stream";

/// Annotations of a ztoc's descriptor.
const LAYER_DIGEST: &str = "com.amazon.soci.image-layer-digest";
const SPAN_SIZE: &str = "com.amazon.soci.span-size";
const DISABLE_XATTRS: &str = "com.amazon.soci.disable-xattrs";

/// A SOCI index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SociIndex {
    /// Which of the two ways it is bound to its image.
    pub version: SociVersion,
    /// The ztocs, in the order of the image's layers; small layers have none.
    pub layers: Vec<SociLayer>,
}

/// How a SOCI index and its image know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SociVersion {
    /// The index names the image as its subject and is found by the referrers API. Nothing that
    /// the image's digest covers speaks of the index: a user who can write to the repository can add
    /// one.
    V1 {
        /// Digest of the image manifest.
        subject: Option<Digest>,
    },
    /// The image's manifest names the index ([`INDEX_DIGEST_ANNOTATION`]), so the image's digest
    /// covers both.
    V2,
}

/// The ztoc of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SociLayer {
    /// Digest of the layer as it is stored.
    pub layer: Digest,
    /// Where the ztoc is. Its size is not checked against [`super::MAX_ZTOC_BYTES`].
    pub ztoc: Descriptor,
    /// Least number of uncompressed bytes of its spans but the last, if stated: deflate blocks
    /// make them longer.
    pub span_bytes: Option<u64>,
    /// The layer has no xattrs and no opaque directories.
    pub disable_xattrs: bool,
}

/// The one field that an image has no use for.
#[derive(Deserialize)]
struct WithSubject {
    #[serde(default)]
    subject: Option<Descriptor>,
}

impl SociIndex {
    /// Parses a SOCI index manifest.
    ///
    /// # Errors
    /// It is not an OCI image manifest, is of another type, or has a ztoc that says of no layer
    /// that it belongs to it.
    pub fn parse(manifest: &[u8]) -> Result<SociIndex, Error> {
        let parsed = match Document::parse(manifest, Some(media_type::OCI_MANIFEST))? {
            Document::Manifest(parsed) => parsed,
            Document::Index(_) => return Err(Error::NotSoci(media_type::OCI_INDEX.to_owned())),
        };
        let version = match parsed.config.media_type.as_str() {
            ARTIFACT_TYPE_V1 => {
                let with: WithSubject =
                    json::from_slice(manifest).map_err(crate::oci::Error::Json)?;
                SociVersion::V1 { subject: with.subject.map(|subject| subject.digest) }
            }
            ARTIFACT_TYPE_V2 => SociVersion::V2,
            other => return Err(Error::NotSoci(other.to_owned())),
        };
        let ztocs = parsed.layers.into_iter().filter(|l| l.media_type == ZTOC_MEDIA_TYPE);
        let layers = ztocs.map(layer).collect::<Result<Vec<SociLayer>, Error>>()?;
        if layers.len() > MAX_LAYERS {
            return Err(crate::oci::Error::TooManyLayers(layers.len()).into());
        }
        Ok(SociIndex { version, layers })
    }

    /// The ztoc of a layer, if it has one.
    pub fn layer(&self, digest: &Digest) -> Option<&SociLayer> {
        self.layers.iter().find(|layer| layer.layer == *digest)
    }
}

fn layer(ztoc: Descriptor) -> Result<SociLayer, Error> {
    let annotation = |name: &str| ztoc.annotations.get(name).map(String::as_str);
    let wrong = |name: &'static str| Error::Annotation {
        ztoc: ztoc.digest,
        name,
        value: super::shortened(annotation(name).unwrap_or_default().as_bytes()),
    };
    let layer = annotation(LAYER_DIGEST).and_then(|digest| digest.parse().ok());
    let layer = layer.ok_or_else(|| wrong(LAYER_DIGEST))?;
    let span_bytes = match annotation(SPAN_SIZE) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| wrong(SPAN_SIZE))?),
    };
    let disable_xattrs = annotation(DISABLE_XATTRS) == Some("true");
    Ok(SociLayer { layer, span_bytes, disable_xattrs, ztoc })
}
