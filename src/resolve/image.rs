//! What a name has turned out to mean.

use std::collections::BTreeMap;

use super::verified::Verified;
use crate::digest::{DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig, Manifest, Platform, media_type};

/// A layer of a resolved image.
#[derive(Clone, Debug)]
pub struct ResolvedLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the tar in it, from the verified config.
    pub diff_id: DiffId,
}

/// An image whose documents have all been verified.
///
/// Of the image indexes only the bytes are kept: what they say was needed to choose among their entries, of
/// which there may be thousands.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The name as the user gave it, in full.
    pub name: String,
    /// Digest of the image manifest.
    pub digest: Digest,
    /// Digest of what the name itself means: the manifest, or the image index it is from.
    pub root: Digest,
    /// The platform that the config names, in its normal form.
    pub platform: Platform,
    /// The layers, base first.
    pub layers: Vec<ResolvedLayer>,
    indexes: Vec<Verified<()>>,
    manifest: Verified<Manifest>,
    config: Verified<ImageConfig>,
}

impl ResolvedImage {
    /// An image of these documents; `indexes` lead from the name down to the manifest.
    pub(super) fn new(
        name: String,
        indexes: Vec<Verified<()>>,
        manifest: Verified<Manifest>,
        config: Verified<ImageConfig>,
    ) -> ResolvedImage {
        let mut platform = config.value().platform.clone();
        platform.normalise();
        let diff_ids = &config.value().rootfs.diff_ids;
        let layers = manifest.value().layers.iter().zip(diff_ids);
        let layers = layers.map(|(descriptor, diff_id)| ResolvedLayer {
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
        });
        ResolvedImage {
            name,
            digest: manifest.digest(),
            root: indexes.first().map_or(manifest.digest(), Verified::digest),
            platform,
            layers: layers.collect(),
            indexes,
            manifest,
            config,
        }
    }

    /// The image indexes that lead to the manifest, from the one that the name means down; none if the name
    /// means the manifest.
    pub fn indexes(&self) -> &[Verified<()>] {
        &self.indexes
    }

    /// The image manifest.
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// The image config.
    pub fn config(&self) -> &Verified<ImageConfig> {
        &self.config
    }

    /// Digest of the config: the image ID.
    pub fn image_id(&self) -> Digest {
        self.config.digest()
    }

    /// Size of the image manifest in bytes.
    pub fn size(&self) -> u64 {
        self.manifest.size()
    }

    /// Media type of the image manifest.
    pub fn media_type(&self) -> &str {
        self.manifest.value().media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST)
    }

    /// Annotations of the image manifest.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.manifest.value().annotations
    }
}
