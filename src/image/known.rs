//! The names of an image as far as this machine knows them: for completion, which must be quick and quiet.

use std::sync::Arc;

use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::index::LayerIndex;
use crate::reference::ImageName;
use crate::tree::{self, Tree};

/// The merged names of an image if all of its layers have an index in the cache. No layer is opened or streamed, and
/// the network is not used.
///
/// # Errors
/// See [`Error`].
pub fn known_tree(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<Option<Tree>, Error> {
    let options = ImageOptions { offline: true, ..options.clone() };
    let opening = Opening::new(name, cache, &options)?;
    let Some(open) = opening.all_cached() else { return Ok(None) };
    let indexes: Vec<&LayerIndex> = open.iter().map(|open| open.index.as_ref()).collect();
    Ok(Some(tree::merge(&indexes, opening.finder.budget())?))
}
