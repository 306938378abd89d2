//! How an image was made: the instructions of its config, each with the layer that it made.
//!
//! # Problem
//!
//! A config lists its steps and its layers apart; a step says of itself that it has made no layer. Engines match
//! them by counting and print `<missing>` where that is not the whole truth. What an instruction really did to
//! the files is in the layers alone.
//!
//! # Design
//!
//! Steps are matched with layers if there are as many steps with a layer as there are layers. If there are not,
//! they are not guessed: layers come without a step, and the steps on their own. What a layer changed comes from
//! the [`Provenance`](crate::tree::Provenance) of its names, which needs all layers below it: it is told if all
//! layers have an index on this machine, or if the caller has the others streamed. Without that a history costs
//! the documents of the image and nothing of any layer.

use std::sync::Arc;

use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::digest::ChainId;
use crate::index::{LayerIndex, Proof};
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::oci::{ConfigDetails, HistoryEntry};
use crate::reference::ImageName;
use crate::resolve::{ResolvedImage, ResolvedLayer};
use crate::tree::{self, Changes, Merged};

/// Which layers are opened to see what they changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayersToOpen {
    /// Those that have an index on this machine.
    Cached,
    /// All; those without an index are streamed.
    All,
}

/// The making of an image.
#[derive(Debug)]
pub struct History {
    /// What the name resolved to.
    pub image: ResolvedImage,
    /// When the image was made, as the config says.
    pub created: Option<String>,
    /// Instructions and layers, base first.
    pub steps: Vec<Step>,
    /// Instructions that can't be matched with layers, as there are more or fewer of them.
    pub unmatched: Vec<HistoryEntry>,
    /// What was checked of the layers that were opened.
    pub proofs: Vec<Proof>,
}

/// A step in the making of an image: an instruction, a layer, or both.
#[derive(Debug)]
pub struct Step {
    /// The instruction; `None` if the config does not tell which.
    pub instruction: Option<HistoryEntry>,
    /// The layer; `None` if it made none.
    pub layer: Option<StepLayer>,
}

/// The layer of a step.
#[derive(Debug)]
pub struct StepLayer {
    /// Its position, 0 is the base.
    pub number: usize,
    /// Blob and diff ID.
    pub layer: ResolvedLayer,
    /// What engines call it together with those below, if it is of an image.
    pub chain_id: Option<ChainId>,
    /// Bytes of its tar, if the layer was opened.
    pub uncompressed_size: Option<u64>,
    /// What it changed, if all layers were opened.
    pub changes: Option<Changes>,
}

/// How an image was made.
///
/// # Errors
/// See [`Error`].
pub fn history(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    layers: LayersToOpen,
    progress: &dyn Progress,
) -> Result<History, Error> {
    let opening = Opening::new(name, cache, options)?;
    let open: Vec<Option<OpenLayer>> = match layers {
        LayersToOpen::All => {
            let layers = &opening.resolved.layers;
            let open = opening.layers(layers, &OpenedLayers::default(), progress)?;
            open.into_iter().map(Some).collect()
        }
        LayersToOpen::Cached => {
            opening.resolved.layers.iter().map(|layer| opening.cached(layer)).collect()
        }
    };
    let indexes: Option<Vec<&LayerIndex>> =
        open.iter().map(|open| open.as_ref().map(|open| open.index.as_ref())).collect();
    let changes = match indexes {
        Some(indexes) => {
            let budget = opening.finder.budget();
            let Merged { provenance, .. } = tree::merge_with_provenance(&indexes, budget)?;
            provenance.changes(&indexes).into_iter().map(Some).collect()
        }
        None => vec![None; open.len()],
    };
    let image = opening.resolved;
    let layers = image.layers.iter().zip(image.chain_ids()).zip(&open).zip(changes).enumerate();
    let layers = layers.map(|(number, (((layer, chain_id), open), changes))| StepLayer {
        number,
        layer: layer.clone(),
        chain_id,
        uncompressed_size: open.as_ref().map(|open| open.index.uncompressed_size()),
        changes,
    });
    let ConfigDetails { created, history, .. } = details_of(&image);
    let (steps, unmatched) = match_steps(history, layers.collect());
    let proofs = open.iter().flatten().map(|open| open.index.proof()).collect();
    Ok(History { image, created, steps, unmatched, proofs })
}

/// The steps in the making of an image as its documents tell them, and instructions that can't be matched with layers.
pub fn steps_of(image: &ResolvedImage) -> (Vec<Step>, Vec<HistoryEntry>) {
    let layers = image.layers.iter().zip(image.chain_ids()).enumerate();
    let layers = layers.map(|(number, (layer, chain_id))| StepLayer {
        number,
        layer: layer.clone(),
        chain_id,
        uncompressed_size: None,
        changes: None,
    });
    match_steps(details_of(image).history, layers.collect())
}

/// What the config of an image tells people.
fn details_of(image: &ResolvedImage) -> ConfigDetails {
    ConfigDetails::parse(image.config().bytes()).unwrap_or_default()
}

/// Puts instructions and layers together, if they fit; the instructions apart, if they do not.
fn match_steps(
    history: Vec<HistoryEntry>,
    layers: Vec<StepLayer>,
) -> (Vec<Step>, Vec<HistoryEntry>) {
    let is_matched = fits(&history, layers.len());
    let mut layers = layers.into_iter();
    if !is_matched {
        let apart = layers.map(|layer| Step { instruction: None, layer: Some(layer) });
        return (apart.collect(), history);
    }
    let step = |entry: HistoryEntry| {
        let layer = if entry.empty_layer { None } else { layers.next() };
        Step { instruction: Some(entry), layer }
    };
    (history.into_iter().map(step).collect(), Vec::new())
}

/// Whether as many steps of a history have a layer as there are layers.
fn fits(history: &[HistoryEntry], layers: usize) -> bool {
    history.iter().filter(|entry| !entry.empty_layer).count() == layers
}

/// The instruction that made each layer, base first, as far as the config tells.
pub(super) fn instructions_of_layers(image: &ResolvedImage) -> Vec<Option<HistoryEntry>> {
    let history = details_of(image).history;
    match fits(&history, image.layers.len()) {
        true => history.into_iter().filter(|entry| !entry.empty_layer).map(Some).collect(),
        false => vec![None; image.layers.len()],
    }
}
