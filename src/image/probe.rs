//! What can be known of an image before any of its layers is read.

use std::io::Read;

use super::locate::open_source;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::reference::ImageName;
use crate::resolve::{self, ResolvedImage};
use crate::source::registry::Session;

/// Bytes of a blob that are asked for to see whether ranges of it can be had.
const PROBED_BYTES: u64 = 512;

/// The answers of an image's source.
#[derive(Debug)]
pub struct Probe {
    /// What the name means there, now.
    pub image: ResolvedImage,
    /// Whether the source sent just the part of the largest layer that it was asked for; `None` if the
    /// image has no layer that is large enough to tell.
    pub sends_ranges: Option<bool>,
}

/// Resolves an image and asks for a few bytes of its largest layer, with nothing from any cache. What is
/// known of the network after that, be it a failure, is in the session's traffic.
///
/// # Errors
/// [`Error::Source`], [`Error::Resolve`].
pub fn probe(name: &ImageName, options: &ImageOptions, session: &Session) -> Result<Probe, Error> {
    let cache = Cache::none();
    let options = &options.asking_only_where_it_is();
    let source = open_source(name, &cache, options, session)?;
    let resolve_options = resolve::ResolveOptions {
        platform: options.platform.clone(),
        ..resolve::ResolveOptions::default()
    };
    let image = resolve::resolve(name, source.as_ref(), &cache, &resolve_options)?;
    let layers = image.layers.iter().map(|layer| &layer.descriptor);
    let largest = layers.max_by_key(|descriptor| descriptor.size);
    let sends_ranges = match largest.filter(|layer| layer.size > 2 * PROBED_BYTES) {
        Some(layer) => {
            let start = layer.size - PROBED_BYTES;
            let mut opened = source.blob(layer, start..layer.size)?;
            let mut byte = [0];
            let read = opened.body.read(&mut byte).map_err(Error::Probe)?;
            Some(opened.start == start && read == 1)
        }
        None => None,
    };
    Ok(Probe { image, sends_ranges })
}
