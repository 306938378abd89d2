//! An image between its name and its layers: resolved, and with all that opening them needs.

use std::collections::HashMap;
use std::sync::Arc;

use super::locate::open_source;
use super::tag::Tag;
use super::{Error, ImageOptions, access};
use crate::blob::{Access, BlobReader, Spans};
use crate::cache::{Asked, Cache, LayerName};
use crate::external::IndexFinder;
use crate::index::{Budget, LayerIndex};
use crate::layer::{self, ImageLayers, OpenLayer, OpenedLayers, Progress};
use crate::oci::Document;
use crate::reference::ImageName;
use crate::resolve::{self, Documents, ResolvedImage, ResolvedLayer, Verified};
use crate::source::registry::{Session, Traffic};
use crate::source::{Embedded, Source};

/// An image that is resolved, with all that opening its layers needs.
pub(super) struct Opening<'a> {
    pub(super) resolved: ResolvedImage,
    pub(super) source: Arc<dyn Source>,
    pub(super) finder: Arc<IndexFinder>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) tag: Option<Arc<Tag>>,
    pub(super) cache: &'a Arc<Cache>,
    pub(super) options: layer::LayerOptions,
}

impl<'a> Opening<'a> {
    pub(super) fn new(
        name: &ImageName,
        cache: &'a Arc<Cache>,
        options: &ImageOptions,
    ) -> Result<Opening<'a>, Error> {
        Opening::in_session(name, cache, options, &Session::default())
    }

    /// The same, sharing with others what is known of registries.
    pub(super) fn in_session(
        name: &ImageName,
        cache: &'a Arc<Cache>,
        options: &ImageOptions,
        session: &Session,
    ) -> Result<Opening<'a>, Error> {
        let source = open_source(name, cache, options, session)?;
        let resolve_options = options.of_resolving();
        let mut resolved = resolve::resolve(name, source.as_ref(), cache, &resolve_options)?;
        if let Some(count) = options.lowest_layers {
            let layers = resolved.layers.get(..count).filter(|_| count > 0);
            let layers = layers.ok_or(Error::TooFewLayers { count, has: resolved.layers.len() })?;
            resolved = resolved.with_layers(layers.to_vec());
        }
        Opening::of_resolved(name, resolved, source, cache, options, session)
    }

    /// The same of an image that is resolved, and the place that it is read from.
    pub(super) fn of_resolved(
        name: &ImageName,
        resolved: ResolvedImage,
        source: Arc<dyn Source>,
        cache: &'a Arc<Cache>,
        options: &ImageOptions,
        session: &Session,
    ) -> Result<Opening<'a>, Error> {
        let source = match resolved.layers.iter().any(|layer| !layer.descriptor.data.is_empty()) {
            true => Arc::new(Embedded::new(source)) as Arc<dyn Source>,
            false => source,
        };
        let is_told = options.check_access
            && access::confirm(&resolved, source.as_ref(), options.parallel_layers)?;
        let only_sent_by = source.sender().filter(|_| is_told).map(str::to_owned);
        let budget = options.max_metadata_bytes.map_or_else(Budget::growing, Budget::of);
        let trusted_scope = match name {
            ImageName::Registry(reference) if options.trust_referrers => {
                let (registry, repository) = (reference.registry(), reference.repository());
                let asked = if options.is_exempt { Asked::Unchecked } else { Asked::Checked };
                Some(LayerName::hint_scope(registry, repository, &resolved.digest, asked))
            }
            _ => None,
        };
        let finder = Arc::new(IndexFinder::new(
            &resolved,
            Arc::clone(&source),
            Arc::clone(&source).repository(),
            Arc::clone(cache),
            trusted_scope,
            Arc::new(budget),
        ));
        let tag = Tag::of(name, &resolved, &source);
        let options = layer::LayerOptions {
            prove: options.prove || options.check_access,
            headers: options.headers,
            again: options.again || (options.check_access && only_sent_by.is_none()),
            only_sent_by,
            claimed: options
                .before
                .as_ref()
                .map(|was| was.claimed.clone())
                .unwrap_or_default()
                .into(),
            max_uncompressed_bytes: options.max_layer_bytes,
            codec: options.codec,
            parallel: options.parallel_layers,
            order: layer::PassOrder::default(),
            keep_spans: true,
            turns: options.turns.clone(),
        };
        let traffic = Arc::clone(session.traffic());
        Ok(Opening { resolved, source, finder, traffic, tag, cache, options })
    }

    pub(super) fn layers(
        &self,
        layers: &[ResolvedLayer],
        known: &OpenedLayers,
        progress: &dyn Progress,
    ) -> Result<Vec<OpenLayer>, layer::Error> {
        layer::open_all(self.of_layers(layers), self.cache, known, progress)
    }

    /// All layers, with what opening them needs.
    pub(super) fn all_layers(&self) -> ImageLayers<'_> {
        self.of_layers(&self.resolved.layers)
    }

    fn of_layers<'b>(&'b self, layers: &'b [ResolvedLayer]) -> ImageLayers<'b> {
        let Opening { source, finder, options, .. } = self;
        ImageLayers { layers, source, finder, options }
    }

    /// The bytes of a layer by way of an index, whose name in the cache is `name`.
    pub(super) fn reader(
        &self,
        layer: &ResolvedLayer,
        index: &LayerIndex,
        name: LayerName,
        spans: &Arc<Spans>,
    ) -> Arc<BlobReader> {
        let access = Access {
            descriptor: layer.descriptor.clone(),
            source: Arc::clone(&self.source),
            codec: self.options.codec,
            windows: Some(self.finder.windows(index)),
            index_name: name,
        };
        let table = index.span_table(layer.descriptor.digest, layer.descriptor.size);
        Arc::new(BlobReader::new(table, access, Arc::clone(spans)))
    }

    /// The bytes of the topmost layers of the image, which are open. A layer that stands there many times has
    /// one reader.
    pub(super) fn readers(&self, open: &[OpenLayer], spans: &Arc<Spans>) -> Vec<Arc<BlobReader>> {
        let layers = &self.resolved.layers;
        let mut readers = HashMap::new();
        let with_layers = layers[layers.len() - open.len()..].iter().zip(open);
        with_layers
            .map(|(layer, OpenLayer { index, name })| {
                let reader = readers
                    .entry((layer.descriptor.digest, layer.diff_id, *name))
                    .or_insert_with(|| self.reader(layer, index, *name, spans));
                Arc::clone(reader)
            })
            .collect()
    }

    /// All layers, base first, if the cache has an index of each.
    pub(super) fn all_cached(&self) -> Option<Vec<OpenLayer>> {
        self.resolved.layers.iter().map(|layer| self.cached(layer)).collect()
    }

    pub(super) fn cached(&self, layer: &ResolvedLayer) -> Option<OpenLayer> {
        if self.options.again {
            return None;
        }
        layer::cached(layer, self.cache, &self.finder, &self.options)
    }
}

/// What a name means now, without opening any layer.
///
/// # Errors
/// [`Error::Source`], [`Error::Resolve`].
pub fn resolve(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<ResolvedImage, Error> {
    resolve_in(name, cache, options, &Session::default())
}

/// The same, sharing with others what is known of registries.
///
/// # Errors
/// [`Error::Source`], [`Error::Resolve`].
pub fn resolve_in(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
    session: &Session,
) -> Result<ResolvedImage, Error> {
    let source = open_source(name, cache, options, session)?;
    let resolve_options = options.of_resolving();
    Ok(resolve::resolve(name, source.as_ref(), cache, &resolve_options)?)
}

/// The document that a name means, a manifest or an image index, as its registry has it.
///
/// # Errors
/// [`Error::Source`], [`Error::Resolve`].
pub fn named_document(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<Verified<Document>, Error> {
    let source = open_source(name, cache, options, &Session::default())?;
    let resolve_options = options.of_resolving();
    Ok(Documents::new(source.as_ref(), cache, &resolve_options).root(name)?)
}
