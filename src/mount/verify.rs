//! Checking an image whole: what is not proven is streamed, and what others say of a layer is held
//! against its tar.

use std::sync::Arc;

use super::{Error, ImageOptions, Opening};
use crate::cache::Cache;
use crate::digest::{DiffId, Digest};
use crate::foreign::Difference;
use crate::layer::{self, Progress};
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;

/// What came out of verifying an image.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The image; its manifest and config have the right digests.
    pub image: ResolvedImage,
    /// The layers, base first.
    pub layers: Vec<LayerVerification>,
}

/// What came out of verifying a layer.
#[derive(Clone, Debug)]
pub struct LayerVerification {
    /// The blob.
    pub digest: Digest,
    /// What the config says of the tar in it.
    pub diff_id: DiffId,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Number of entries, if the layer could be read.
    pub entries: usize,
    /// What is wrong with it: the digest of the blob, the diff ID, the stream or the tar.
    pub error: Option<String>,
    /// Where a table of contents in the layer, or an index that somebody made of it, tells something
    /// else than the tar: a split view.
    pub differences: Vec<Difference>,
}

impl Verification {
    /// Whether everything is as the manifest says, and as every table of contents says.
    pub fn is_good(&self) -> bool {
        self.layers.iter().all(|layer| layer.error.is_none() && layer.differences.is_empty())
    }
}

/// Verifies an image: blob digests, diff IDs, and every table of contents against the tar.
///
/// # Errors
/// The image can't be resolved. What is wrong with layers is in the result.
pub fn verify(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    progress: &dyn Progress,
) -> Result<Verification, Error> {
    let options = ImageOptions { prove: true, ..options.clone() };
    let opening = Opening::new(name, cache, &options)?;
    // All at once, as that is fastest; one by one if not all are good, to know each.
    let layers = &opening.resolved.layers;
    let together = opening.layers(layers, progress).ok();
    let mut verified = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let open = match &together {
            Some(open) => Ok(open[at].clone()),
            None => {
                opening.layers(std::slice::from_ref(layer), &layer::Quiet).and_then(|mut open| {
                    let digest = layer.descriptor.digest;
                    open.pop().ok_or(layer::Error { digest, kind: layer::ErrorKind::Worker })
                })
            }
        };
        let mut result = LayerVerification {
            digest: layer.descriptor.digest,
            diff_id: layer.diff_id,
            size: layer.descriptor.size,
            entries: 0,
            error: None,
            differences: Vec::new(),
        };
        match open {
            Ok(open) => {
                result.entries = open.index.entries().len();
                match opening.finder.differences(layer, &open.index) {
                    Ok(differences) => result.differences = differences,
                    Err(e) => result.error = Some(e.to_string()),
                }
            }
            Err(e) => result.error = Some(e.kind.to_string()),
        }
        verified.push(result);
    }
    Ok(Verification { image: opening.resolved, layers: verified })
}
