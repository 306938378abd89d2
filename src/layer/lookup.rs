//! The index of a layer without streaming it: from the cache, or made by others.

use super::budget;
use super::error::Error;
use super::opened::OpenLayer;
use super::options::LayerOptions;
use crate::artifact::ShownAs;
use crate::cache::{Cache, LayerName};
use crate::external::{Found, IndexFinder};
use crate::index::{LayerIndex, Proof};
use crate::oci::Descriptor;
use crate::resolve::ResolvedLayer;

/// The name of the index that a first pass over a layer makes.
pub(super) fn own_name(layer: &ResolvedLayer) -> LayerName {
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::Blob(layer.descriptor.digest),
        ShownAs::File(_) => LayerName::File(layer.descriptor.digest),
    }
}

/// The name of that index where a registry has sent all of the layer.
pub(super) fn sent_name(layer: &ResolvedLayer, registry: &str) -> LayerName {
    let digest = layer.descriptor.digest;
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::sent(digest, registry),
        ShownAs::File(_) => LayerName::sent(digest, &format!("{registry}\0file")),
    }
}

/// An index that others made, from outside of the cache.
pub(super) fn find(
    layer: &ResolvedLayer,
    cache: &Cache,
    finder: &IndexFinder,
) -> Result<Option<OpenLayer>, Error> {
    let Some(Found { index, name }) = finder.find(layer) else { return Ok(None) };
    log::info!("layer {}: {} index of others", layer.descriptor.digest, index.proof().name());
    cache.put_external_index(&name, &index.encode());
    OpenLayer::new(index, name, layer).map(Some)
}

/// The index of a blob that is a file, which needs no look at it; unless all has to be proven.
fn of_file(layer: &ResolvedLayer, options: &LayerOptions) -> Option<LayerIndex> {
    let ShownAs::File(_) = &layer.shown else { return None };
    let Descriptor { digest, size, .. } = layer.descriptor;
    LayerIndex::of_file(digest, size).ok().filter(|_| !options.prove)
}

/// The index from the cache: by blob digest, or by diff ID, as the config binds that just as well
/// ([`Proof::Tar`]); or, unless everything has to be proven, one that others made. Asks nobody.
pub fn cached(
    layer: &ResolvedLayer,
    cache: &Cache,
    finder: &IndexFinder,
    options: &LayerOptions,
) -> Option<OpenLayer> {
    let (digest, diff_id) = (layer.descriptor.digest, layer.diff_id);
    let prove = options.prove;
    let is_file = matches!(layer.shown, ShownAs::File(_));
    let is_whole =
        |index: &LayerIndex| index.blob() == digest && index.blob_size() == layer.descriptor.size;
    let load = |name: LayerName, is_right: &dyn Fn(&LayerIndex) -> bool| {
        // The size that is claimed says only how much of a file is read that was admitted when it was made.
        let most = finder.budget().limit_with(layer.descriptor.size);
        let file = cache.layer_index(&name, most)?;
        match LayerIndex::decode(&file) {
            Ok(index)
                if diff_id.is_none_or(|diff_id| index.diff_id() == diff_id) && is_right(&index) =>
            {
                // Streaming the layer says what is wrong.
                budget::draw(&index, &|| file.as_slice().into(), finder.budget()).ok()?;
                // A tar that is not compressed is its own blob.
                let is_seen = index.blob() == digest || diff_id.is_some_and(|id| id.0 == digest);
                let index = match index.proof() {
                    Proof::Full if !is_seen => index.with_proof(Proof::Tar),
                    _ => index,
                };
                return OpenLayer::new(index, name, layer).ok();
            }
            Ok(_) => log::debug!("layer {digest}: the index in the cache is of another layer"),
            Err(e) => cache.discard_layer_index(&name, &e.to_string()),
        }
        None
    };
    if let Some(registry) = &options.only_sent_by {
        let is_proven = |index: &LayerIndex| index.proof() == Proof::Full && is_whole(index);
        return load(sent_name(layer, registry), &is_proven);
    }
    let is_proven = |index: &LayerIndex| {
        let is_of_tar = index.blob() != digest && index.is_of_tar() && !prove;
        index.proof() == Proof::Full && (is_whole(index) || is_of_tar)
    };
    let by_diff_id = diff_id.filter(|_| !is_file).map(LayerName::DiffId);
    let own = [Some(own_name(layer)), by_diff_id];
    let own = own.into_iter().flatten().filter(|_| prove || !options.claimed.contains(&digest));
    let own = own.into_iter().find_map(|name| load(name, &is_proven));
    if own.is_some() || prove {
        return own;
    }
    if let Some(index) = of_file(layer, options) {
        return OpenLayer::new(index, own_name(layer), layer).ok();
    }
    finder.names(layer).into_iter().find_map(|name| load(name, &is_whole))
}
