//! What an image is made of, from its name down, by its documents alone.
//!
//! # Problem
//!
//! A name means a manifest, or an image index that names manifests for platforms, attestations about them, and
//! further indexes; artifacts elsewhere in the repository refer to any of these. People who look at an image want to
//! see all of that, and of one platform everything; they want it at once, from a registry that counts requests.
//!
//! # Design
//!
//! No layer is read. By default ([`Depth::Shown`]) those documents are fetched that opening the image needs (the
//! indexes that lead to it, its manifest, its config), and one list of referrers, that of what the name means. Of all
//! other platforms an index says digest, size and platform, which is what is shown of them. That is no more than
//! `skopeo inspect` asks for: it fetches the same documents, and the list of tags instead of that of referrers.
//! [`Depth::All`] opens every index and manifest, side by side, and asks for the referrers of each image, too.
//!
//! All documents come through [`Documents`]: verified against the digest that led to them, and kept in the cache. What
//! an index says of an entry is called a fact only once that document was opened: an entry that is marked as an image
//! may turn out to be none ([`EntryKind`]). Lists of referrers are not bound to anything, and descriptors in them are
//! shown as what the registry says.
//!
//! A name that means no image, or none for this machine, is not refused: what it does mean is shown, and
//! [`Graph::no_image`] says why there is no more. A platform that the user asks for has to be there.
//!
//! # Rejected
//!
//! Opening all platforms by default, as `docker buildx imagetools inspect` does: twenty requests for an image of ten
//! platforms, to show sizes that were not asked for.
//!
//! # Invariants
//!
//! - At most `MAX_DOCUMENTS` (512) documents are opened, and no index twice; what was left out is counted.

mod entries;
mod entry;

use std::sync::Arc;

use super::locate::open_source;
use super::opening::Opening;
use super::{Error, ImageOptions, parallel};
use crate::cache::Cache;
use crate::digest::{ChainId, Digest};
use crate::index::Proof;
use crate::oci::{ConfigDetails, Descriptor, Document, Manifest, Platform};
use crate::reference::ImageName;
use crate::resolve::{self, Documents, ResolvedImage, Verified};
use crate::source::Source;
use crate::source::registry::Session;
use entries::Walk;

pub use entry::{Depth, Entry, EntryKind};

/// Images whose referrers are asked for, a request or two each.
const MAX_SUBJECTS: usize = 128;

/// What a name means, from there down.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The name in full.
    pub name: String,
    /// What the name means: a manifest, or an image index.
    pub root: Verified<Document>,
    /// The entries of the image indexes that were opened: those of an index behind its own entry.
    pub entries: Vec<Entry>,
    /// The image that is shown in detail: that for the platform.
    pub image: Option<InspectedImage>,
    /// Why there is none.
    pub no_image: Option<String>,
    /// Artifacts that refer to what the name means, or to its images; `None` if they were not or can't be listed.
    pub referrers: Option<Vec<Referrer>>,
    /// Documents that were not opened, as there are too many.
    pub left_out: usize,
}

/// The image that is shown in detail.
#[derive(Clone, Debug)]
pub struct InspectedImage {
    /// Its documents.
    pub resolved: ResolvedImage,
    /// What its config tells people.
    pub details: ConfigDetails,
    /// Its layers, base first.
    pub layers: Vec<InspectedLayer>,
}

/// A layer of the image that is shown in detail.
#[derive(Clone, Debug)]
pub struct InspectedLayer {
    /// The name that engines give to it and all below it.
    pub chain_id: Option<ChainId>,
    /// What was checked of its index, if the cache has one.
    pub proof: Option<Proof>,
    /// Other images of the graph that have it, of those whose manifests were opened.
    pub shared: usize,
}

/// An artifact that says it refers to something of the graph.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// What it refers to.
    pub subject: Digest,
    /// Its manifest, as the list has it: nothing of this is verified.
    pub descriptor: Descriptor,
}

/// Looks at what a name means.
///
/// # Errors
/// It can't be had, or there is no image for the platform that was asked for.
pub fn inspect(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    depth: Depth,
) -> Result<Graph, Error> {
    let session = Session::default();
    let source = open_source(name, cache, options, &session)?;
    let resolve_options = options.of_resolving();
    let documents = Documents::new(source.as_ref(), cache, &resolve_options);
    let (mut graph, resolved) = documents_of(name, documents, options, depth)?;
    graph.list_referrers(&source, resolved.as_ref(), options, depth);
    if let Some(resolved) = resolved {
        let source = Arc::clone(&source);
        let opening = Opening::of_resolved(name, resolved, source, cache, options, &session)?;
        graph.image = Some(inspected(opening, &graph.entries));
    }
    Ok(graph)
}

/// The graph without what its image is made of and what refers to it, and the image.
pub(super) fn documents_of(
    name: &ImageName,
    documents: Documents<'_>,
    options: &ImageOptions,
    depth: Depth,
) -> Result<(Graph, Option<ResolvedImage>), Error> {
    let root = documents.root(name)?;
    let (resolved, no_image) = match resolve::resolve_from(root.clone(), name, &documents) {
        Ok(resolved) => (Some(resolved), None),
        Err(error) if error.is_no_image() && options.platform.is_none() => {
            (None, Some(error.to_string()))
        }
        Err(error) => return Err(error.into()),
    };
    let graph = of_root(name.to_string(), root, resolved.as_ref(), documents, options, depth);
    Ok((Graph { no_image, ..graph }, resolved))
}

/// The graph of a document that is there, and of the image in it, without what that is made of and refers to it.
pub(super) fn of_root(
    name: String,
    root: Verified<Document>,
    image: Option<&ResolvedImage>,
    documents: Documents<'_>,
    options: &ImageOptions,
    depth: Depth,
) -> Graph {
    let mut walk = Walk::new(documents, image, depth);
    walk.document(&root);
    let (entries, left_out) = walk.finish(options.parallel_layers);
    Graph { name, root, entries, image: None, no_image: None, referrers: None, left_out }
}

/// The images that an index leads to, each with what it is for as far as an index says; nothing is asked of an image
/// that an index says to be one.
pub(super) fn images_of(
    documents: Documents<'_>,
    root: &Verified<Document>,
    width: usize,
) -> Vec<(Descriptor, Option<Platform>)> {
    let mut walk = Walk::new(documents, None, Depth::Indexes);
    walk.document(root);
    let (entries, left_out) = walk.finish(width);
    if left_out > 0 {
        log::warn!("{left_out} entries of image indexes were not looked at: there are too many");
    }
    let images = entries.into_iter().filter(|entry| entry.kind == EntryKind::Image);
    images.filter_map(|entry| Some((entry.descriptor.ok()?, entry.platform))).collect()
}

/// The image that is shown in detail.
fn inspected(opening: Opening<'_>, entries: &[Entry]) -> InspectedImage {
    let layers = &opening.resolved.layers;
    let layers = layers.iter().zip(opening.resolved.chain_ids()).map(|(layer, chain_id)| {
        let has = |manifest: &Manifest| {
            manifest.layers.iter().any(|other| other.digest == layer.descriptor.digest)
        };
        let others = entries.iter().filter(|entry| !entry.is_shown);
        InspectedLayer {
            chain_id,
            proof: opening.cached(layer).map(|open| open.index.proof()),
            shared: others.filter_map(|entry| entry.manifest.as_ref()).filter(|m| has(m)).count(),
        }
    });
    let layers = layers.collect();
    // That it is an object was seen when it was resolved.
    let details = ConfigDetails::parse(opening.resolved.config().bytes()).unwrap_or_default();
    InspectedImage { details, layers, resolved: opening.resolved }
}

impl Graph {
    /// Lists the referrers of what the name means, and with everything, of every image.
    pub(super) fn list_referrers(
        &mut self,
        source: &Arc<dyn Source>,
        image: Option<&ResolvedImage>,
        options: &ImageOptions,
        depth: Depth,
    ) {
        let Some(repository) = Arc::clone(source).repository() else { return };
        let mut subjects = vec![self.root.digest()];
        if depth == Depth::All {
            let images = self.entries.iter().filter(|entry| entry.kind == EntryKind::Image);
            let images = images.filter_map(|entry| Some(entry.descriptor.as_ref().ok()?.digest));
            let shown = image.map(|image| image.digest);
            for digest in shown.into_iter().chain(images).take(MAX_SUBJECTS) {
                if !subjects.contains(&digest) {
                    subjects.push(digest);
                }
            }
        }
        let lists = parallel::map(&subjects, options.parallel_layers, |subject| {
            repository.referrers(subject, None)
        });
        let mut found = Vec::new();
        for (subject, list) in subjects.into_iter().zip(lists) {
            match list {
                Ok(list) => {
                    let row = |descriptor| Referrer { subject, descriptor };
                    found.extend(list.into_iter().map(row));
                }
                Err(e) => {
                    log::warn!("the referrers of {subject} can't be listed: {e}");
                    return;
                }
            }
        }
        self.referrers = Some(found);
    }
}

/// One document of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What the name means: a manifest, of an image or not, or an image index.
    Root,
    /// The manifest of the image.
    Manifest,
    /// Its config.
    Config,
}

/// One document of what a name means, and no more requests than that needs.
///
/// # Errors
/// It can't be had.
pub fn document(
    name: &ImageName,
    wanted: Wanted,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<Verified<()>, Error> {
    let source = open_source(name, cache, options, &Session::default())?;
    let resolve_options = options.of_resolving();
    let documents = Documents::new(source.as_ref(), cache, &resolve_options);
    let root = documents.root(name)?;
    if wanted == Wanted::Root {
        return Ok(root.without_value());
    }
    let image = resolve::resolve_from(root, name, &documents)?;
    Ok(match wanted {
        Wanted::Config => image.config().clone().without_value(),
        _ => image.manifest().clone().without_value(),
    })
}
