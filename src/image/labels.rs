//! What files of a layer say of it, if they are to say where they are from.

use std::sync::Arc;

use super::history::instructions_of_layers;
use crate::fs::LayerLabel;
use crate::layer::OpenLayer;
use crate::resolve::ResolvedImage;

/// The labels of all layers of an image, base first.
pub(super) fn of_layers(image: &ResolvedImage, open: &[OpenLayer]) -> Vec<LayerLabel> {
    let layers = image.layers.iter().zip(open).zip(instructions_of_layers(image));
    layers
        .map(|((layer, open), step)| LayerLabel {
            blob: layer.descriptor.digest,
            diff_id: layer.diff_id,
            created_by: step.map(|step| step.created_by),
            index: Arc::clone(&open.index),
        })
        .collect()
}
