//! What a name has turned out to mean.

use std::collections::BTreeMap;

use super::verified::Verified;
use crate::artifact::{Kind, ShownAs};
use crate::digest::{ChainId, DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig, Manifest, Platform, media_type};

/// A layer of a resolved image, or a blob of an artifact.
#[derive(Clone, Debug)]
pub struct ResolvedLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of what is in it uncompressed: of an image's layer from the verified config, of a blob that
    /// is not compressed its own. An artifact does not say it of what is.
    pub diff_id: Option<DiffId>,
    /// How it is shown.
    pub shown: ShownAs,
}

impl ResolvedLayer {
    /// Where in the tree it is shown: the path of a file, or of a directory with a slash behind it.
    pub fn shown_at(&self) -> String {
        match &self.shown {
            ShownAs::File(file) | ShownAs::Compressed(file) => {
                String::from_utf8_lossy(&file.path).into_owned()
            }
            ShownAs::Tree { below } => format!("{}/", String::from_utf8_lossy(below)),
        }
    }

    /// Whether it was made here of several blobs: the manifest does not have it.
    pub fn is_made(&self) -> bool {
        self.descriptor.media_type.is_empty() && !self.descriptor.data.is_empty()
    }

    /// What two layers with the same content have in common: the diff ID or, where it is not known, the digest of
    /// the blob.
    pub fn content_id(&self) -> DiffId {
        self.diff_id.unwrap_or(DiffId(self.descriptor.digest))
    }
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
    /// The layers, base first; of an artifact what is shown of its blobs.
    pub layers: Vec<ResolvedLayer>,
    /// What it is, if it is no container image.
    pub artifact: Option<Kind>,
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
            diff_id: Some(*diff_id),
            shown: ShownAs::ROOT,
        });
        ResolvedImage {
            name,
            digest: manifest.digest(),
            root: indexes.first().map_or(manifest.digest(), Verified::digest),
            platform,
            layers: layers.collect(),
            artifact: None,
            indexes,
            manifest,
            config,
        }
    }

    /// The same of an artifact.
    pub(super) fn of_artifact(
        kind: Kind,
        layers: Vec<ResolvedLayer>,
        image: ResolvedImage,
    ) -> ResolvedImage {
        ResolvedImage { layers, artifact: Some(kind), ..image }
    }

    /// The same image with only these of its layers.
    pub(crate) fn with_layers(&self, layers: Vec<ResolvedLayer>) -> ResolvedImage {
        ResolvedImage { layers, ..self.clone() }
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

    /// What engines call each layer together with those below; an artifact's have none.
    pub fn chain_ids(&self) -> Vec<Option<ChainId>> {
        let diff_ids = self.layers.iter().filter_map(|layer| layer.diff_id.as_ref());
        match self.artifact {
            None => ChainId::of_layers(diff_ids).into_iter().map(Some).collect(),
            Some(_) => vec![None; self.layers.len()],
        }
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
