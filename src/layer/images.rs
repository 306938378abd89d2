//! Opening the layers of images: what is known, what is in the cache, what others have indexed, headers alone if they
//! do, and a first pass over the rest, several layers at a time.
//!
//! Several images are opened as if they were one. A layer that two of them have is opened for the first; the other one takes what is known
//! then, if it may ([`OpenedLayers::get`]), or opens it itself in the next round.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::error::{Error, ErrorKind};
use super::headers::HeaderWalk;
use super::lookup::{cached, find, own_name};
use super::opened::{LayerKey, OpenLayer, OpenedLayers, layer_key};
use super::options::{LayerOptions, PassOrder};
use super::pass::FirstPass;
use super::progress::{Hearing, Progress, Uncounted};
use crate::cache::Cache;
use crate::external::{self, IndexFinder};
use crate::resolve::ResolvedLayer;
use crate::source::Source;

/// The layers of an image, and what opening them needs.
#[derive(Clone, Copy, Debug)]
pub struct ImageLayers<'a> {
    /// The layers, base first.
    pub layers: &'a [ResolvedLayer],
    /// Where their blobs are.
    pub source: &'a Arc<dyn Source>,
    /// Where indexes of others are, and the image's budget.
    pub finder: &'a IndexFinder,
    /// Limits and switches.
    pub options: &'a LayerOptions,
}

/// A layer of one of several images that can't be opened.
#[derive(Debug)]
pub struct Failure {
    /// The image's place among them.
    pub image: usize,
    /// Why.
    pub error: Error,
}

/// Opens all layers of an image, base first; those that are `known` are open already.
///
/// # Errors
/// The first error of any layer; the others are stopped.
pub fn open_all(
    image: ImageLayers<'_>,
    cache: &Cache,
    known: &OpenedLayers,
    progress: &dyn Progress,
) -> Result<Vec<OpenLayer>, Error> {
    let mut opened = open_images(&[image], cache, known, progress).map_err(|e| e.error)?;
    Ok(opened.pop().unwrap_or_default())
}

/// The same of several images, as if they were one: layers are passed over at the same time whichever image they are
/// of, and one that several images have is opened for the first of them.
///
/// # Errors
/// As of one image.
pub fn open_images(
    images: &[ImageLayers<'_>],
    cache: &Cache,
    known: &OpenedLayers,
    progress: &dyn Progress,
) -> Result<Vec<Vec<OpenLayer>>, Failure> {
    let mut opening = OpeningImages {
        images,
        cache,
        known,
        opened: Vec::new(),
        common: OpenedLayers::of_other_images(),
    };
    opening.opened.resize_with(images.len(), HashMap::new);
    loop {
        let missing = opening.take_known()?;
        if missing.is_empty() {
            return opening.finish();
        }
        opening.open(missing, progress)?;
    }
}

/// A layer of one of the images.
type LayerOf<'a> = (usize, &'a ResolvedLayer);

/// Images whose layers are being opened.
struct OpeningImages<'a> {
    images: &'a [ImageLayers<'a>],
    cache: &'a Cache,
    known: &'a OpenedLayers,
    /// By image. One layer may stand in an image many times: it is opened once.
    opened: Vec<HashMap<LayerKey, OpenLayer>>,
    /// What was opened for any of them.
    common: OpenedLayers,
}

impl<'a> OpeningImages<'a> {
    /// Takes what is open or in the cache; what has to be opened now. A layer that another image has too waits until it is open
    /// there; it is missing still if what is known of it then is for the other image only.
    fn take_known(&mut self) -> Result<Vec<LayerOf<'a>>, Failure> {
        let (mut missing, mut claimed) = (Vec::new(), HashSet::new());
        for (at, image) in self.images.iter().enumerate() {
            let ImageLayers { layers, finder, options, .. } = *image;
            let failed = |error| Failure { image: at, error };
            let mut seen = HashSet::new();
            for layer in layers {
                let key = layer_key(layer);
                if self.opened[at].contains_key(&key) || !seen.insert(key.clone()) {
                    continue;
                }
                let mut open = self.known.get(layer, finder).map_err(failed)?;
                if open.is_none() {
                    open = self.common.get(layer, finder).map_err(failed)?;
                }
                let cached = || cached(layer, self.cache, finder, options);
                match open.or_else(|| if options.again { None } else { cached() }) {
                    Some(open) => self.opened(at, layer, open),
                    None if claimed.insert(key) => missing.push((at, layer)),
                    None => {}
                }
            }
        }
        Ok(missing)
    }

    fn opened(&mut self, at: usize, layer: &ResolvedLayer, open: OpenLayer) {
        self.common.add([(layer, &open)].into_iter());
        self.opened[at].insert(layer_key(layer), open);
    }

    /// Finds or makes the indexes of layers. When one fails, the others are stopped.
    fn open(
        &mut self,
        mut missing: Vec<LayerOf<'a>>,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let (images, cache) = (self.images, self.cache);
        let stop = AtomicBool::new(false);
        let pass = |at: usize, layer: &ResolvedLayer, progress: &dyn Progress| {
            let hearing = Hearing { progress, stop: &stop };
            pass_over(images[at], layer, cache, hearing)
        };
        let walk = |at: usize, layer: &ResolvedLayer| {
            let ImageLayers { source, finder, options, .. } = images[at];
            let LayerOptions { headers, again, only_sent_by, .. } = options;
            let (source, budget, stop) = (&**source, finder.budget(), &stop);
            let walk = HeaderWalk { layer, source, cache, budget, stop };
            (*headers && !again && only_sent_by.is_none()).then(|| walk.run()).flatten()
        };
        let find = |at: usize, layer: &ResolvedLayer| {
            let found = match images[at].options.prove {
                true => return Ok(None),
                false => find(layer, cache, images[at].finder)?,
            };
            match found {
                // The smallest come along with the indexes of the others.
                None if layer.descriptor.size < external::MIN_LAYER_BYTES => {
                    pass(at, layer, &Uncounted(progress)).map(Some)
                }
                None => match walk(at, layer) {
                    Some(index) => OpenLayer::new(index, own_name(layer), layer).map(Some),
                    None => Ok(None),
                },
                found => Ok(found),
            }
        };
        let parallel = images.iter().map(|image| image.options.parallel()).min().unwrap_or(1);
        for ((at, layer), found) in in_parallel(&missing, parallel, &stop, &find)? {
            if let Some(open) = found {
                self.opened(at, layer, open);
            }
        }
        missing.retain(|(at, layer)| !self.opened[*at].contains_key(&layer_key(layer)));
        let sizes = missing.iter().map(|(_, layer)| layer.descriptor.size);
        let bytes = sizes.fold(0, u64::saturating_add);
        let layers = images.iter().map(|image| image.layers.len()).sum();
        progress.start(layers, missing.len(), bytes);
        match images.iter().all(|image| image.options.order == PassOrder::TopmostFirst) {
            true => missing.reverse(),
            false => missing.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.descriptor.size)),
        }
        let pass = |at: usize, layer: &ResolvedLayer| pass(at, layer, progress);
        for ((at, layer), open) in in_parallel(&missing, parallel, &stop, &pass)? {
            self.opened(at, layer, open);
        }
        Ok(())
    }

    /// All layers of each image, all of which are open.
    fn finish(self) -> Result<Vec<Vec<OpenLayer>>, Failure> {
        let of_image = |(image, opened): (usize, &HashMap<LayerKey, OpenLayer>)| {
            let layers = self.images[image].layers.iter();
            let open = layers.map(|layer| {
                let digest = layer.descriptor.digest;
                let open = opened.get(&layer_key(layer)).cloned();
                let error = Error { digest, kind: ErrorKind::Worker };
                open.ok_or(Failure { image, error })
            });
            open.collect()
        };
        self.opened.iter().enumerate().map(of_image).collect()
    }
}

/// Streams a layer.
fn pass_over(
    image: ImageLayers<'_>,
    layer: &ResolvedLayer,
    cache: &Cache,
    hearing: Hearing<'_>,
) -> Result<OpenLayer, Error> {
    let ImageLayers { source, finder, options, .. } = image;
    // Whether it is still wanted the pass finds out itself.
    let turns = options.turns.as_ref();
    let turn = turns.and_then(|turns| turns.take(layer_key(layer), hearing.stop));
    if turn.is_some()
        && !options.again
        && let Some(open) = cached(layer, cache, finder, options)
    {
        return Ok(open);
    }
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
}

/// Does something for each layer, on up to `parallel` threads, until it fails for one: then `stop` is
/// set for the others.
fn in_parallel<'a, T: Send>(
    layers: &[LayerOf<'a>],
    parallel: usize,
    stop: &AtomicBool,
    act: &(dyn Fn(usize, &ResolvedLayer) -> Result<T, Error> + Sync),
) -> Result<Vec<(LayerOf<'a>, T)>, Failure> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, layers.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((image, layer)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = act(*image, layer);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        next.store(layers.len(), Ordering::Relaxed);
                    }
                    let result = result.map(|value| ((*image, *layer), value));
                    // The receiver lives until all threads have ended.
                    let _ = sender.send(result.map_err(|error| Failure { image: *image, error }));
                }
            });
        }
    });
    drop(sender);
    receiver.into_iter().collect()
}
