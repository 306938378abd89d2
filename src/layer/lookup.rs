//! The index of a layer without streaming it: from the cache, or made by others.

use std::cell::RefCell;

use super::budget;
use super::error::Error;
use super::opened::OpenLayer;
use super::options::LayerOptions;
use crate::artifact::ShownAs;
use crate::cache::{Cache, LayerName};
use crate::external::{Found, IndexFinder};
use crate::index::{IndexFile, LayerIndex, NameSet, Proof};
use crate::oci::Descriptor;
use crate::resolve::ResolvedLayer;
use crate::toc;

/// The name of the index that a first pass over a layer makes.
pub(super) fn own_name(layer: &ResolvedLayer) -> LayerName {
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::Blob(layer.descriptor.digest),
        ShownAs::File(_) => LayerName::File(layer.descriptor.digest),
        ShownAs::Compressed(_) => LayerName::Inflated(layer.descriptor.digest),
    }
}

/// The name of that index where a registry has sent all of the layer.
pub(super) fn sent_name(layer: &ResolvedLayer, registry: &str) -> LayerName {
    let digest = layer.descriptor.digest;
    match &layer.shown {
        ShownAs::Tree { .. } => LayerName::sent(digest, registry),
        ShownAs::File(_) => LayerName::sent(digest, &format!("{registry}\0file")),
        ShownAs::Compressed(_) => LayerName::sent(digest, &format!("{registry}\0inflated")),
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
    let digest = layer.descriptor.digest;
    let load = |name: LayerName, is_right: &dyn Fn(&LayerIndex) -> bool| {
        let file = cache.layer_index(&name, most_bytes(layer, finder))?;
        match LayerIndex::decode(&file) {
            Ok(index) if is_right(&index) => {
                // Streaming the layer says what is wrong.
                budget::draw(&index, &|| file.as_slice().into(), finder.budget()).ok()?;
                let is_seen = is_seen(layer, &index);
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
    let of_file = || OpenLayer::new(of_file(layer, options)?, own_name(layer), layer).ok();
    by_any_name(layer, finder, options, &load, &of_file)
}

/// What is known of a layer without opening it.
#[derive(Debug)]
pub enum Known {
    /// The cache has its index.
    File(Box<IndexFile>),
    /// It has none.
    Nothing,
    /// Its entries are not shown as they stand in an index.
    Changed,
}

/// What the cache knows of a layer, by the index that [`cached`] would take, for a look at some of its entries. Of
/// tables without entries at most `most` bytes are read, and names that paths lead through are added to `names`.
pub fn known(
    layer: &ResolvedLayer,
    cache: &Cache,
    finder: &IndexFinder,
    options: &LayerOptions,
    most: u64,
    names: &mut NameSet,
) -> Known {
    let is_plain = matches!(&layer.shown, ShownAs::Tree { below } if below.is_empty());
    if options.again || !is_plain || toc::promise(&layer.descriptor).is_some() {
        return Known::Changed;
    }
    let names = RefCell::new(names);
    let load = |name: LayerName, is_right: &dyn Fn(&LayerIndex) -> bool| {
        let file = cache.layer_index_file(&name, most_bytes(layer, finder))?;
        // What is wrong with it will be told when it is opened.
        let file = IndexFile::open(file, most, &mut names.borrow_mut()).ok()?;
        is_right(file.index()).then_some(file)
    };
    match by_any_name(layer, finder, options, &load, &|| None) {
        Some(file) if file.index().proof() == Proof::Full && !is_seen(layer, file.index()) => {
            Known::File(Box::new(file.with_proof(Proof::Tar)))
        }
        Some(file) => Known::File(Box::new(file)),
        None => Known::Nothing,
    }
}

/// How many bytes of an index are read. The size that is claimed says only how much of a file is read that was admitted when it was
/// made.
fn most_bytes(layer: &ResolvedLayer, finder: &IndexFinder) -> u64 {
    finder.budget().limit_with(layer.descriptor.size)
}

/// Whether the blob of a layer was seen when its index was made. A tar that is not compressed is its own blob.
fn is_seen(layer: &ResolvedLayer, index: &LayerIndex) -> bool {
    let digest = layer.descriptor.digest;
    index.blob() == digest || layer.diff_id.is_some_and(|id| id.0 == digest)
}

/// Takes an index from under a name, if it is right.
type Load<'a, T> = &'a dyn Fn(LayerName, &dyn Fn(&LayerIndex) -> bool) -> Option<T>;

/// Tries the names under which the cache may have the index of a layer, each with what it has to prove.
fn by_any_name<T>(
    layer: &ResolvedLayer,
    finder: &IndexFinder,
    options: &LayerOptions,
    load: Load<'_, T>,
    of_file: &dyn Fn() -> Option<T>,
) -> Option<T> {
    let (digest, diff_id) = (layer.descriptor.digest, layer.diff_id);
    let prove = options.prove;
    let is_tar = matches!(layer.shown, ShownAs::Tree { .. });
    let has_diff_id = |index: &LayerIndex| diff_id.is_none_or(|id| index.diff_id() == id);
    let is_whole = |index: &LayerIndex| {
        has_diff_id(index) && index.blob() == digest && index.blob_size() == layer.descriptor.size
    };
    if let Some(registry) = &options.only_sent_by {
        let is_proven = |index: &LayerIndex| index.proof() == Proof::Full && is_whole(index);
        return load(sent_name(layer, registry), &is_proven);
    }
    let is_proven = |index: &LayerIndex| {
        let is_of_tar = index.blob() != digest && index.is_of_tar() && !prove;
        index.proof() == Proof::Full && has_diff_id(index) && (is_whole(index) || is_of_tar)
    };
    let by_diff_id = diff_id.filter(|_| is_tar).map(LayerName::DiffId);
    let own = [Some(own_name(layer)), by_diff_id];
    let own = own.into_iter().flatten().filter(|_| prove || !options.claimed.contains(&digest));
    let own = own.into_iter().find_map(|name| load(name, &is_proven));
    if own.is_some() || prove {
        return own;
    }
    of_file().or_else(|| finder.names(layer).into_iter().find_map(|name| load(name, &is_whole)))
}
