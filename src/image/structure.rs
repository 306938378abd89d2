//! What an image consists of, each part opened by itself.
//!
//! # Problem
//!
//! People want to look at an image as a builder sees it: its documents, each layer as it was written, the same for
//! every platform, and what others say of it; with the tools that they have for files. Most of that is never looked
//! at, and layers are large.
//!
//! # Design
//!
//! The documents that lead to the image are fetched, as for any image. Every other part is opened by a call of its
//! own: the merged tree, one layer alone, the images for other platforms (each a [`Structure`] again), what is attested,
//! what refers to it. So who shows them decides when that is, and pays for nothing that is not looked at. All parts
//! share connections, tokens, and the spans that are on their way; trees and layers alone the files that they have in
//! common ([`LayerNumbers`]).
//!
//! A layer alone is what its tar has ([`crate::tree::layer_alone`]); its whiteouts are also listed in a text beside its
//! files, which comes from memory through the same reader, checks and cache as all other bytes.
//!
//! # Rejected
//!
//! Opening all parts at once as one joined tree, as several images of a mount are: it would stream every layer of
//! every platform before the first name is shown.
//!
//! # Invariants
//!
//! - Names of parts are made of digests, platforms and types that were cleaned: none has a slash, and no two of a
//!   directory are the same.

mod attached;
mod files;
mod names;
mod texts;

use std::collections::HashSet;
use std::sync::Arc;

use super::graph;
use super::locate::open_source;
use super::opening::Opening;
use super::sharing::{LayerNumbers, Scope};
use super::{Error, Image, ImageOptions, Shown, alone};
use crate::blob::Spans;
use crate::cache::Cache;
use crate::content::Contents;
use crate::digest::Digest;
use crate::fs::{Filesystem, SharedFiles};
use crate::layer::{Quiet, Turns};
use crate::oci::{Descriptor, Document};
use crate::reference::{ImageName, Reference};
use crate::resolve::{self, Documents, ResolveOptions, ResolvedImage, Verified};
use crate::source::Source;
use crate::source::registry::{Session, Traffic};
use crate::tree::Ino;
use names::Names;

/// First passes over its layers at the same time.
const MAX_PASSES: usize = 6;

/// An image, or an image index, whose parts are opened one by one.
#[derive(Debug)]
pub struct Structure {
    name: ImageName,
    cache: Arc<Cache>,
    options: ImageOptions,
    session: Arc<Session>,
    source: Arc<dyn Source>,
    spans: Arc<Spans>,
    /// Of layers that its parts have in common, if they share files.
    numbers: Option<Arc<dyn LayerNumbers>>,
    /// What the name means that was given.
    root: Verified<Document>,
    image: Option<ResolvedImage>,
}

/// A part of a structure with the name that it is shown under.
#[derive(Clone, Debug)]
pub struct Part<T> {
    /// A file name.
    pub name: String,
    /// The part.
    pub part: T,
}

impl Structure {
    /// Fetches the documents of the image that a name means.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
    ) -> Result<Structure, Error> {
        let mut structure = Structure::of_all_platforms(name, cache, options)?;
        let resolve_options = structure.options.of_resolving();
        let root = structure.root.clone();
        let documents = structure.documents_with(&resolve_options);
        structure.image = Some(resolve::resolve_from(root, name, &documents)?);
        Ok(structure)
    }

    /// Fetches the document that a name means, whatever platforms it is for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn of_all_platforms(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
    ) -> Result<Structure, Error> {
        let session = Arc::new(Session::default());
        let source = open_source(name, cache, options, &session)?;
        let resolve_options = options.of_resolving();
        let documents = Documents::new(source.as_ref(), cache, &resolve_options);
        let root = documents.root(name)?;
        let (name, cache, mut options) = (name.clone(), Arc::clone(cache), options.clone());
        // Its images and layers are entered one by one.
        options.turns.get_or_insert_with(|| Turns::new(MAX_PASSES));
        let spans = Arc::new(Spans::new(Arc::clone(&cache), options.open_files));
        Ok(Structure {
            name,
            cache,
            options,
            session,
            source,
            spans,
            numbers: None,
            root,
            image: None,
        })
    }

    /// Has files that several parts have be known as one.
    pub fn share(&mut self, numbers: Arc<dyn LayerNumbers>) {
        self.numbers = Some(numbers);
    }

    /// The document that the name means.
    pub fn root(&self) -> Digest {
        self.root.digest()
    }

    /// The image that is meant; `None` if all platforms are.
    pub fn image(&self) -> Option<&ResolvedImage> {
        self.image.as_ref()
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        self.session.traffic()
    }

    /// The spans that all parts read from.
    pub fn spans(&self) -> &Arc<Spans> {
        &self.spans
    }

    /// The documents that lead to the image, and how it was made, as files.
    pub fn documents(&self) -> Vec<Part<Vec<u8>>> {
        let mut parts = Vec::new();
        let mut add = |name: String, bytes: &[u8]| {
            parts.push(Part { name, part: bytes.to_vec() });
        };
        let Some(image) = &self.image else {
            let name = match self.root.value() {
                Document::Index(_) => "index.json",
                Document::Manifest(_) => "manifest.json",
            };
            add(name.to_owned(), self.root.bytes());
            return parts;
        };
        for (number, index) in (1..).zip(image.indexes()) {
            let name = match number {
                1 => "index.json".to_owned(),
                number => format!("index-{number}.json"),
            };
            add(name, index.bytes());
        }
        add("manifest.json".to_owned(), image.manifest().bytes());
        add("config.json".to_owned(), image.config().bytes());
        if image.artifact.is_none() {
            add("history.txt".to_owned(), texts::history(image).as_bytes());
        }
        parts
    }

    /// The layers of the image, base first: `0-f18232174bc9`. Artifacts have none.
    pub fn layers(&self) -> Vec<String> {
        let images = self.image.iter().filter(|image| image.artifact.is_none());
        let layers = images.flat_map(|image| &image.layers).enumerate();
        layers
            .map(|(at, layer)| format!("{at}-{}", names::short(&layer.descriptor.digest)))
            .collect()
    }

    /// Whether there are images for several platforms, or may be.
    pub fn has_platforms(&self) -> bool {
        matches!(self.root.value(), Document::Index(_))
    }

    /// The images of the index, by platform.
    ///
    /// # Errors
    /// What is found out by opening further indexes can't be had.
    pub fn platforms(&self) -> Result<Vec<Part<Descriptor>>, Error> {
        let options = self.options.of_resolving();
        let documents = self.documents_with(&options);
        let mut names = Names::default();
        let images = graph::images_of(documents, &self.root, self.options.parallel_layers);
        let images = images.into_iter().map(|(descriptor, platform)| {
            let name = match platform {
                Some(platform) => names::clean(&platform.to_string()),
                None => format!("unknown-{}", names::short(&descriptor.digest)),
            };
            Part { name: names.take(name), part: descriptor }
        });
        Ok(images.collect())
    }

    /// The image of a descriptor that [`Structure::platforms`] has named.
    ///
    /// # Errors
    /// Its documents can't be had.
    pub fn of_platform(&self, descriptor: &Descriptor) -> Result<Structure, Error> {
        let name = match &self.name {
            ImageName::Registry(reference) => {
                let (registry, repository) = (reference.registry(), reference.repository());
                let by_digest = format!("{registry}/{repository}@{}", descriptor.digest);
                // It is the name that was given with another digest.
                by_digest
                    .parse::<Reference>()
                    .map_or_else(|_| self.name.clone(), ImageName::Registry)
            }
            name => name.clone(),
        };
        let options = ImageOptions { platform: None, ..self.options.clone() };
        let resolve_options = options.of_resolving();
        let documents = self.documents_with(&resolve_options);
        let image = resolve::resolve_from(documents.document(descriptor)?, &name, &documents)?;
        Ok(Structure {
            name,
            cache: Arc::clone(&self.cache),
            options,
            session: Arc::clone(&self.session),
            source: Arc::clone(&self.source),
            spans: Arc::clone(&self.spans),
            numbers: self.numbers.clone(),
            root: self.root.clone(),
            image: Some(image),
        })
    }

    /// The image as a mount of it shows it: all layers merged, or the files of an artifact. Layers that were `claimed` to be
    /// what they are shown as are shown so again.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn merged(&self, claimed: &HashSet<Digest>) -> Result<Image, Error> {
        let mut opening = self.opening()?;
        opening.options.claimed = claimed.clone().into();
        let (spans, scope) = (Arc::clone(&self.spans), self.scope());
        Image::of_opening(opening, spans, scope, &self.options, &Quiet)
    }

    /// One of [`Structure::layers`] alone, and whether it is what its author claims; if it was `claimed` before, it is
    /// shown so again.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn layer(
        &self,
        at: usize,
        claimed: &HashSet<Digest>,
    ) -> Result<(Filesystem, HashSet<Digest>), Error> {
        let mut opening = self.opening()?;
        opening.options.claimed = claimed.clone().into();
        let alone::Alone { open, mut tree, mut origins } = alone::open(&opening, at, &Quiet)?;
        let layer = &opening.resolved.layers[at];
        let is_claimed = !open.index.proof().is_own();
        let claimed = is_claimed.then_some(layer.descriptor.digest).into_iter().collect();
        let number = self.scope().and_then(|scope| scope.number(layer, &open));
        let mut numbers = vec![number];
        let mut readers = vec![opening.reader(layer, &open.index, open.name, &self.spans)];
        if let Some(list) = texts::whiteouts(&open.index) {
            let mut name = WHITEOUTS.to_owned();
            for number in 2.. {
                if tree.lookup(Ino::ROOT, name.as_bytes()).is_none() {
                    break;
                }
                name = format!("whiteouts-{number}.txt");
            }
            let (index, reader) = files::of_text(&name, list.into_bytes(), &self.spans)?;
            (tree, origins) = alone::tree_of(&opening, at, &open, Some(&index))?;
            readers.push(reader);
            numbers.push(None);
        }
        let shared = SharedFiles::new(&tree, origins, numbers);
        let filesystem = Filesystem::new(tree, Contents::new(readers), self.options.read_deadline);
        Ok((filesystem.with_shared_files(Some(shared)), claimed))
    }

    /// The image in the form in which mounts tell of theirs; its layers, if `merged` has opened them.
    pub fn shown(&self, merged: Option<&Shown>) -> Option<Shown> {
        let of_documents = || {
            Some(Shown {
                base: None,
                directory: None,
                image: self.image.clone()?,
                proofs: Vec::new(),
                readers: Vec::new(),
                source: Arc::clone(&self.source),
                tag: None,
            })
        };
        merged.cloned().or_else(of_documents)
    }

    /// Parts share the files that several of them have.
    fn scope(&self) -> Option<Scope<'_>> {
        self.numbers.as_deref().map(|numbers| Scope { numbers, name: "" })
    }

    fn opening(&self) -> Result<Opening<'_>, Error> {
        let image = self.image.clone().expect("parts are those of an image");
        let source = Arc::clone(&self.source);
        Opening::of_resolved(&self.name, image, source, &self.cache, &self.options, &self.session)
    }

    fn documents_with<'a>(&'a self, options: &'a ResolveOptions) -> Documents<'a> {
        Documents::new(self.source.as_ref(), &self.cache, options)
    }
}

/// The text beside the files of a layer that has whiteouts.
const WHITEOUTS: &str = "whiteouts.txt";
