//! As much of an image as a few questions need.
//!
//! # Problem
//!
//! The first use of a layer streams it. A mount needs all layers; `cat` of one file often needs the
//! topmost alone.
//!
//! # Design
//!
//! Layers are opened from the top down, until [`tree::merge_upper`] says that those which are open
//! decide the questions. Layers whose index is in the cache cost nothing and are used at once. After that
//! the topmost one that is missing is opened alone, and then each time as many as have been asked for
//! before, side by side: 1, 1, 2, 4. So a file of the second layer needs two, an image of any size a
//! handful of rounds, and what is opened in vain is no more than what was needed. A
//! listing needs all layers, unless an opaque mark or something that was replaced ends it, which is rare:
//! after the topmost layer, mostly the smallest, come all others together; for one of the root directory
//! all come at once.
//!
//! # Rejected
//!
//! Opening all side by side and stopping those that turn out not to be needed: on a link that is
//! the bottleneck the small layer on top would come no sooner than the large ones, and half of each of
//! them for nothing.
//!
//! # Invariants
//!
//! - Nothing of a layer is shown before it has proven right; the layers that are not opened can't change
//!   what is shown, and are not vouched for.

use std::sync::Arc;

use super::alone::{self, Alone};
use super::opening::Opening;
use super::{Error, ImageOptions, LayerChoice, exclude};
use crate::blob::Spans;
use crate::cache::Cache;
use crate::content::Contents;
use crate::fs::Filesystem;
use crate::index::Proof;
use crate::layer::{OpenLayer, OpenedLayers, Progress};
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::tree::{self, Origins, Question, Tree, Want};

/// An image as far as some questions need it. Other answers of its file system mean nothing.
#[derive(Debug)]
pub struct Excerpt {
    resolved: ResolvedImage,
    /// What was checked of the layers that are open.
    proofs: Vec<Proof>,
    filesystem: Filesystem,
}

impl Excerpt {
    /// Resolves a name and opens as many layers, from the top down, as the questions need.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        questions: &[Question],
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Excerpt, Error> {
        let opening = Opening::new(name, cache, options)?;
        let (open, tree) = match &options.exclude {
            None => {
                let Upper { open, tree, .. } = open_upper(&opening, questions, progress)?;
                (open, tree)
            }
            // What is left out is known only of all of it.
            Some(_) => {
                let layers = &opening.resolved.layers;
                let open = opening.layers(layers, &OpenedLayers::default(), progress)?;
                let (tree, _) = exclude::merge(&opening, &open, options, progress)?;
                (open, tree)
            }
        };
        let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
        let proofs = open.iter().map(|open| open.index.proof()).collect();
        let contents = Contents::new(opening.readers(&open, &spans));
        let filesystem = Filesystem::new(tree, contents, options.read_deadline);
        Ok(Excerpt { resolved: opening.resolved, proofs, filesystem })
    }

    /// Resolves a name and opens one layer, which is shown [alone](tree::layer_alone). No other is fetched.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_layer(
        name: &ImageName,
        choice: &LayerChoice,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Excerpt, Error> {
        let opening = Opening::new(name, cache, options)?;
        let at = choice.find(&opening.resolved)?;
        let Alone { open, tree, .. } = alone::open(&opening, at, progress)?;
        let OpenLayer { index, name } = open;
        let layer = &opening.resolved.layers[at];
        let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
        let contents = Contents::new(vec![opening.reader(layer, &index, name, &spans)]);
        let proofs = vec![index.proof()];
        let filesystem = Filesystem::new(tree, contents, options.read_deadline);
        Ok(Excerpt { resolved: opening.resolved, proofs, filesystem })
    }

    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.resolved
    }

    /// What has been checked of each layer that the questions needed, the topmost layer last.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// Names, attributes and bytes that the questions are about.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }
}

/// The topmost layers of an image, as many as some questions need.
pub(super) struct Upper {
    /// The layers, the topmost last.
    pub(super) open: Vec<OpenLayer>,
    /// What they are merged to.
    pub(super) tree: Tree,
    /// What its inodes are made from.
    pub(super) origins: Origins,
}

/// Opens as many layers, from the top down, as the questions need.
pub(super) fn open_upper(
    opening: &Opening<'_>,
    questions: &[Question],
    progress: &dyn Progress,
) -> Result<Upper, Error> {
    let layers = &opening.resolved.layers;
    let mut known = OpenedLayers::default();
    let mut open: Vec<OpenLayer> = Vec::new();
    let mut asked_for = 0;
    let (tree, origins) = loop {
        // Base first, as they stand in the image.
        let missing = layers.len() - open.len();
        let mut cached = Vec::new();
        for layer in layers[..missing].iter().rev() {
            // One layer may stand in an image many times.
            let known_one = known.get(layer, &opening.finder)?;
            let Some(open) = known_one.or_else(|| opening.cached(layer)) else { break };
            known.add([(layer, &open)].into_iter());
            cached.push(open);
        }
        cached.reverse();
        open.splice(..0, cached);
        let missing = layers.len() - open.len();
        if missing == 0 {
            let indexes: Vec<_> = open.iter().map(|open| open.index.as_ref()).collect();
            break tree::merge_with_origins(&indexes, opening.finder.budget())?;
        }
        let indexes: Vec<_> = open.iter().map(|open| open.index.as_ref()).collect();
        if let Some(found) = tree::merge_upper(&indexes, questions) {
            log::info!("{missing} of {} layers are not needed", layers.len());
            break found;
        }
        let next = missing - round(questions, asked_for).min(missing);
        asked_for += missing - next;
        let opened = opening.layers(&layers[next..missing], &known, progress)?;
        known.add(layers[next..missing].iter().zip(&opened));
        open.splice(..0, opened);
    };
    Ok(Upper { open, tree, origins })
}

/// How many layers to open next, when so many have been opened for the questions.
fn round(questions: &[Question], asked_for: usize) -> usize {
    let is_listing = questions.iter().any(|question| question.want != Want::Content);
    let is_root = |question: &Question| {
        question.path.split(|b| *b == b'/').all(|name| matches!(name, b"" | b"." | b".."))
    };
    match asked_for {
        0 if is_listing && questions.iter().any(is_root) => usize::MAX,
        0 => 1,
        _ if is_listing => usize::MAX,
        _ => asked_for,
    }
}
