//! Layer indexes for others: built, described, and pushed beside the image.

use std::collections::HashSet;
use std::sync::Arc;

use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::digest::Digest;
use crate::index_artifact::{self, Packed};
use crate::layer::{OpenedLayers, Progress};
use crate::oci::{Descriptor, EMPTY_CONTENT, media_type};
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::source::registry::{self, Registry, Session};

/// The layer indexes of an image, ready to travel.
#[derive(Debug)]
pub struct Publication {
    /// The image that they are of.
    pub image: ResolvedImage,
    /// The indexes with their blobs, base layer first, each distinct layer once.
    pub indexes: Vec<(Packed, Vec<u8>)>,
    /// Compressed size of the layers they are of, in bytes.
    pub layer_bytes: u64,
}

/// Indexes every layer of an image, streaming those that have not been proven here. Only the indexes
/// are kept.
///
/// # Errors
/// See [`Error`].
pub fn build_indexes(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    progress: &dyn Progress,
) -> Result<Publication, Error> {
    let options = ImageOptions { prove: true, ..options.clone() };
    let mut opening = Opening::new(name, cache, &options)?;
    // Who builds for others need not be one who reads.
    opening.options.keep_spans = false;
    let open = opening.layers(&opening.resolved.layers, &OpenedLayers::default(), progress)?;
    let mut seen = HashSet::new();
    let mut indexes = Vec::new();
    let mut layer_bytes = 0;
    for (layer, open) in opening.resolved.layers.iter().zip(&open) {
        if seen.insert(layer.descriptor.digest) {
            indexes.push(Packed::pack(&open.index)?);
            layer_bytes += layer.descriptor.size;
        }
    }
    Ok(Publication { image: opening.resolved, indexes, layer_bytes })
}

/// Pushes indexes to the registry of their image, as a referrer of its manifest; the digest of the
/// artifact.
///
/// # Errors
/// The image is in no registry, or the registry refuses.
pub fn push_indexes(
    publication: &Publication,
    name: &ImageName,
    options: &ImageOptions,
) -> Result<Digest, Error> {
    let ImageName::Registry(reference) = name else {
        return Err(Error::NoRegistry(name.to_string()));
    };
    let session = Session::default();
    let registry = Registry::for_pushing(reference.clone(), &options.registry, &session)
        .map_err(|e| Error::Source(e.into()))?;
    let pushed = |e: registry::Error| Error::Source(Box::new(e).into());
    let empty = Digest::sha256(EMPTY_CONTENT);
    registry.push_blob(&empty, EMPTY_CONTENT).map_err(pushed)?;
    for (packed, blob) in &publication.indexes {
        registry.push_blob(&packed.blob.digest, blob).map_err(pushed)?;
    }
    let image = &publication.image;
    let subject = Descriptor {
        media_type: image.media_type().to_owned(),
        size: image.size(),
        ..Descriptor::of_manifest(image.digest)
    };
    let packed: Vec<Packed> = publication.indexes.iter().map(|(p, _)| p.clone()).collect();
    let manifest = index_artifact::manifest(&subject, &packed)?;
    registry.push_manifest(&manifest, media_type::OCI_MANIFEST, Some(&subject)).map_err(pushed)
}

/// The layer indexes that there are for an image.
#[derive(Clone, Debug)]
pub struct KnownIndexes {
    /// The image.
    pub image: ResolvedImage,
    /// For each layer, base first, what the cache has.
    pub cached: Vec<Option<CachedIndex>>,
    /// What `ocifs index push` has left in the registry.
    pub pushed: Vec<Packed>,
}

/// A layer index in the cache.
#[derive(Clone, Copy, Debug)]
pub struct CachedIndex {
    /// What has been checked.
    pub proof: crate::index::Proof,
    /// Number of entries.
    pub entries: usize,
    /// Number of spans.
    pub spans: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the windows of its checkpoints.
    pub window_bytes: u64,
}

/// Says which layer indexes there are for an image, without making any.
///
/// # Errors
/// The image can't be resolved.
pub fn known_indexes(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<KnownIndexes, Error> {
    let opening = Opening::new(name, cache, options)?;
    let cached = opening.resolved.layers.iter().map(|layer| {
        let open = opening.cached(layer)?;
        Some(CachedIndex {
            proof: open.index.proof(),
            entries: open.index.entries().len(),
            spans: open.index.span_count(),
            bytes: open.index.encode().len() as u64,
            window_bytes: open.index.window_bytes(),
        })
    });
    let cached = cached.collect();
    let pushed = opening.finder.pushed();
    Ok(KnownIndexes { cached, pushed, image: opening.resolved })
}
