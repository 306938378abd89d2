//! Opening a layer: its index from the cache, from others, or made by one streamed pass.
//!
//! An index is looked for where it costs least ([`cached`], then [`IndexFinder::find`]); what has none is
//! streamed, several layers at a time (`layer::pass`), and cut into spans on the way (`layer::cut`).

mod budget;
mod cut;
mod download;
mod error;
mod opened;
mod options;
mod pass;
mod progress;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::artifact::ShownAs;
use crate::cache::{Cache, LayerName};
use crate::external::{self, Found, IndexFinder};
use crate::index::{LayerIndex, Proof};
use crate::oci::Descriptor;
use crate::resolve::ResolvedLayer;
use crate::source::Source;
use opened::{LayerKey, layer_key};
use pass::FirstPass;
use progress::Hearing;

pub use error::{Error, ErrorKind};
pub use opened::{OpenLayer, OpenedLayers};
pub use options::LayerOptions;
pub use progress::{Progress, Quiet};

/// Opens all layers of an image, base first; those that are `known` are open already.
///
/// # Errors
/// The first error of any layer; the others are stopped.
pub fn open_all(
    layers: &[ResolvedLayer],
    source: &Arc<dyn Source>,
    cache: &Cache,
    finder: &IndexFinder,
    known: &OpenedLayers,
    options: &LayerOptions,
    progress: &dyn Progress,
) -> Result<Vec<OpenLayer>, Error> {
    // One layer may stand in an image many times: it is opened once.
    let mut opened: HashMap<LayerKey, OpenLayer> = HashMap::new();
    let mut missing: Vec<&ResolvedLayer> = Vec::new();
    let mut seen = HashSet::new();
    for layer in layers {
        if seen.insert(layer_key(layer)) {
            let open = known.get(layer, finder)?;
            let cached = || cached(layer, cache, finder, options);
            match open.or_else(|| if options.again { None } else { cached() }) {
                Some(open) => drop(opened.insert(layer_key(layer), open)),
                None => missing.push(layer),
            }
        }
    }
    // When one layer fails, the others are stopped.
    let stop = AtomicBool::new(false);
    let pass = |layer: &ResolvedLayer, progress: &dyn Progress| {
        let hearing = Hearing { progress, stop: &stop };
        let budget = finder.budget();
        let pass = FirstPass { layer, source, cache, budget, options, hearing };
        let index = pass.run().map_err(|mut e| {
            let unproven = LayerOptions { prove: false, ..options.clone() };
            let is_known = || cached(layer, cache, finder, &unproven).is_some();
            if matches!(e.kind, ErrorKind::Offline) && options.prove && is_known() {
                e.kind = ErrorKind::OfflineUnproven;
            }
            e
        })?;
        OpenLayer::new(index, own_name(layer), layer)
    };
    if !options.prove {
        let find = |layer: &ResolvedLayer| match find(layer, cache, finder)? {
            // The smallest come along with the indexes of the others.
            None if layer.descriptor.size < external::MIN_LAYER_BYTES => {
                pass(layer, &Quiet).map(Some)
            }
            found => Ok(found),
        };
        for (layer, found) in in_parallel(&missing, options.parallel(), &stop, &find)? {
            found.map(|open| opened.insert(layer_key(layer), open));
        }
        missing.retain(|layer| !opened.contains_key(&layer_key(layer)));
    }
    let sizes = missing.iter().map(|layer| layer.descriptor.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    progress.start(layers.len(), missing.len(), bytes);
    // Large layers first, so that none of them is left to run alone at the end.
    missing.sort_by_key(|layer| std::cmp::Reverse(layer.descriptor.size));
    let pass = |layer: &ResolvedLayer| pass(layer, progress);
    for (layer, open) in in_parallel(&missing, options.parallel(), &stop, &pass)? {
        opened.insert(layer_key(layer), open);
    }
    layers
        .iter()
        .map(|layer| {
            let digest = layer.descriptor.digest;
            let open = opened.get(&layer_key(layer)).cloned();
            open.ok_or(Error { digest, kind: ErrorKind::Worker })
        })
        .collect()
}

/// Does something for each layer, on up to `parallel` threads, until it fails for one: then `stop` is
/// set for the others.
fn in_parallel<'a, T: Send>(
    layers: &[&'a ResolvedLayer],
    parallel: usize,
    stop: &AtomicBool,
    act: &(dyn Fn(&ResolvedLayer) -> Result<T, Error> + Sync),
) -> Result<Vec<(&'a ResolvedLayer, T)>, Error> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, layers.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = act(layer);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        next.store(layers.len(), Ordering::Relaxed);
                    }
                    // The receiver lives until all threads have ended.
                    let _ = sender.send(result.map(|value| (*layer, value)));
                }
            });
        }
    });
    drop(sender);
    receiver.into_iter().collect()
}

/// The name of the index that a first pass over a layer makes.
fn own_name(layer: &ResolvedLayer) -> LayerName {
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::Blob(layer.descriptor.digest),
        ShownAs::File(_) => LayerName::File(layer.descriptor.digest),
    }
}

/// The name of that index where a registry has sent all of the layer.
fn sent_name(layer: &ResolvedLayer, registry: &str) -> LayerName {
    let digest = layer.descriptor.digest;
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::sent(digest, registry),
        ShownAs::File(_) => LayerName::sent(digest, &format!("{registry}\0file")),
    }
}

/// An index that others made, from outside of the cache.
fn find(
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
