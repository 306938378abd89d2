//! Opening the images of a store for engines: those of the command line and of a list, and later those that are added to it.
//!
//! # Design
//!
//! A process that serves a store has given up reading the files of the user before it reads the first image
//! ([`confined`](super::mount)). So what images there are, and how they are reached, is found out when it starts, and the
//! supervisor starts another one when the list has changed. That one opens first what was shown before, in the same
//! order and by the same digests, so that the kernel's numbers stay; and what is new when it serves already.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ocifs::image::{ImageOptions, Prefixes, Selection};
use ocifs::layer::{Progress, Quiet};
use ocifs::mount::{Lookups, STORE};
use ocifs::reference::ImageName;
use ocifs::space::{Store, StoreImage};

use super::open::{Wanted, failed};
use super::proof;
use crate::args::{EngineImage, EngineImages, ImageArgs, RequiredProof};
use crate::environment::{self, Settings};
use crate::render::errors::{About, AnyError};
use crate::render::progress::Bar;

/// An image with what opening it needs.
type Needed = (EngineImage, ImageName, ImageOptions);

/// Images that are opened once the store is served.
pub(super) struct Additions {
    prefixes: Arc<Prefixes>,
    store: Arc<Store>,
    required: RequiredProof,
    images: Vec<Needed>,
}

impl Additions {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The store that they are added to.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Opens them, one after the other, and says so after each that could be opened.
    pub(super) fn open(self, mut opened: impl FnMut()) {
        for needed in self.images {
            match add(&self.prefixes, &needed, self.required, &Quiet) {
                Ok(image) => {
                    log::info!("{} is in the store", needed.0.words);
                    self.store.add(image);
                    opened();
                }
                Err(error) => log::warn!("{error}"),
            }
        }
    }
}

/// Opens a store.
pub(super) fn open_store(
    asked: &EngineImages,
    args: &ImageArgs,
    wanted: Wanted<'_>,
) -> Result<(Lookups, Additions), AnyError> {
    let settings = Settings::read()?;
    let required = settings.required_proof(args)?.or(RequiredProof::Full);
    let cache = environment::cache(&args.cache_args);
    let is_first = wanted.before.is_none();
    let (images, known) = all(asked, wanted)?;
    let (mut engines, mut named) = (Vec::new(), Vec::new());
    for (at, engine) in images.into_iter().enumerate() {
        match environment::image(&engine.image, args, &settings) {
            Ok(found) => {
                engines.push(engine);
                named.push(found);
            }
            // What is shown goes on, whatever is wrong with what is new.
            Err(error) if !is_first && at >= known => log::warn!("{}: {error}", engine.words),
            Err(error) => return Err(error),
        }
    }
    for (at, (_, options)) in named.iter_mut().enumerate() {
        options.prove = required == RequiredProof::Full;
        // An engine takes a layer for the one of its digest: nothing is proven later.
        options.headers = false;
        wanted.apply(at, options);
    }
    if let Some(confine) = wanted.confine {
        confine(&mut named, &cache)?;
    }
    let options = named.first().map(|(_, options)| options.clone()).unwrap_or_default();
    let prefixes = Arc::new(Prefixes::new(&cache, &options));
    let mut needed: Vec<Needed> = engines
        .into_iter()
        .zip(named)
        .map(|(engine, (name, options))| (engine, name, options))
        .collect();
    let later = if is_first { Vec::new() } else { needed.split_off(known) };
    let now = needed.iter().map(|needed| {
        let bar = Bar::first_use(&needed.1);
        let image = add(&prefixes, needed, required, &bar)?;
        bar.ready();
        Ok(image)
    });
    let now = now.collect::<Result<Vec<_>, About>>()?;
    let store = Store::new(Arc::clone(&prefixes), now, args.timeout);
    let lookups = Lookups {
        directories: Arc::clone(&store) as _,
        source: STORE.to_owned(),
        selection: Selection::default(),
        proves_later: false,
    };
    Ok((lookups, Additions { prefixes, store, required, images: later }))
}

/// Opens an image of it.
fn add(
    prefixes: &Prefixes,
    (engine, name, options): &Needed,
    required: RequiredProof,
    progress: &dyn Progress,
) -> Result<StoreImage, About> {
    let image = prefixes.add(name, options, progress).map_err(failed(name))?;
    proof::warn(&image.resolved().name, &image.shown().proofs, required);
    let (names, words) = (vec![engine.name.clone()], engine.words.clone());
    Ok(StoreImage { image, names, words })
}

/// The images in their order, and how many of them were shown before: these are the first.
fn all(asked: &EngineImages, wanted: Wanted<'_>) -> Result<(Vec<EngineImage>, usize), AnyError> {
    let words = wanted.before.into_iter().flatten().filter_map(|opened| opened.words.as_deref());
    let known = words.map(str::parse).collect::<Result<Vec<EngineImage>, String>>()?;
    let mut listed = Vec::new();
    for line in asked.list.iter().flat_map(|list| read(list)) {
        match line {
            Ok(image) => listed.push(image),
            // What is shown goes on, whatever has become of the list.
            Err(error) if wanted.before.is_some() => log::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    let count = known.len();
    let mut images = known;
    for image in asked.images.iter().cloned().chain(listed) {
        if !images.iter().any(|other| other.words == image.words) {
            images.push(image);
        }
    }
    Ok((images, count))
}

/// The images that a file names, or what is wrong with it or with a line.
fn read(list: &Path) -> Vec<Result<EngineImage, String>> {
    let place = list.display();
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(e) => return vec![Err(format!("the list {place}: {e}"))],
    };
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let images = lines.map(|(number, line)| {
        line.parse().map_err(|why| format!("the list {place}, line {number}: {why}"))
    });
    images.collect()
}
