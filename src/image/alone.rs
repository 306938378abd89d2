//! One layer of an image alone.

use super::Error;
use super::opening::Opening;
use crate::index::LayerIndex;
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::tree::{self, Origins, Tree};

/// A layer that is open, and what it brings.
pub(super) struct Alone {
    pub(super) open: OpenLayer,
    pub(super) tree: Tree,
    pub(super) origins: Origins,
}

/// Opens the layer at a position of an image; no other is fetched.
///
/// # Errors
/// It can't be had or unpacked.
pub(super) fn open(
    opening: &Opening<'_>,
    at: usize,
    progress: &dyn Progress,
) -> Result<Alone, Error> {
    let layer = std::slice::from_ref(&opening.resolved.layers[at]);
    let mut open = opening.layers(layer, &OpenedLayers::default(), progress)?;
    let open = open.pop().expect("one layer was to be opened");
    let (tree, origins) = tree_of(opening, at, &open, None)?;
    Ok(Alone { open, tree, origins })
}

/// What an open layer at this position brings, with the entries of `beside`, and what that is made from.
pub(super) fn tree_of(
    opening: &Opening<'_>,
    at: usize,
    open: &OpenLayer,
    beside: Option<&LayerIndex>,
) -> Result<(Tree, Origins), Error> {
    let tree = tree::layer_alone(&open.index, beside, opening.finder.budget());
    Ok(tree.map_err(|error| error.of_layer(at))?)
}
