//! Images, opened: from a name to names, attributes and bytes that can be looked at.
//!
//! ```text
//! Image::open         name -> source -> resolve -> external::IndexFinder, layer::open_all -> tree::merge -> Filesystem
//! Excerpt::open       the same, layers from the top down until questions are answered
//! ImageSet::add       the same for each, common layers once; finish: tree::join -> Filesystem
//! LayeredImage::open  as Image::open, but layer indexes are kept, and what became of each name
//! layer_usage, room    what layers and directories take; wasted_paths: what of it for nothing
//! LayerStack::open    the same without a tree, as of each layer, to go from one to the other, and glimpses meanwhile
//! history, which      how an image was made; where a path comes from
//! known_tree          names alone, if the cache has all of them: for completion
//! diff                what differs between two of them, by digest
//! inspect, blob       what an image is made of, by its documents alone; single blobs
//! Structure::open     the same as files, and each layer, platform and referrer, each opened by itself
//! Prefixes::open      the tree of the lowest layers of an image, merged when it is asked for
//! tags                the tags of a repository, and what they mean
//! attestations        what is attested of an image, and how far that was checked
//! verify, probe       what of an image is right; how its registry answers
//! build_indexes ...   layer indexes for others
//! CachedImages        which images the cache holds
//! ```
//!
//! None of this needs a kernel: listing, reading and exporting work on an [`Image`] or an [`Excerpt`] alone. A
//! [`View`] is what a mount shows, one image or a set. Nothing of a layer is shown before its first pass has
//! proven it, because an image that is not whole never becomes an [`Image`]; unless an index says what is in it, or the user
//! asks for large layers by their headers alone ([`ImageOptions::headers`]).
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use ocifs::cache::Cache;
//! use ocifs::image::{Image, ImageOptions};
//! use ocifs::layer::Quiet;
//! use ocifs::tree::Symlinks;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Arc::new(Cache::open("/var/cache/ocifs".as_ref()));
//! let image = Image::open(&"debian:12".parse()?, &cache, &ImageOptions::default(), &Quiet)?;
//! let files = image.filesystem();
//! let file = files.tree().resolve(b"etc/os-release", Symlinks::Follow)?;
//! let file = files.file(file)?;
//! let mut bytes = vec![0; file.readable(0, 4096)];
//! file.read(0, &mut bytes, Instant::now() + Duration::from_secs(60))?;
//! # Ok(())
//! # }
//! ```

mod access;
mod accounts;
mod alone;
mod attest;
mod blob;
mod cached;
mod copy;
mod diff;
mod error;
mod excerpt;
mod exclude;
mod glimpses;
mod graph;
mod history;
mod indexes;
mod known;
mod labels;
mod layer_choice;
mod layer_stack;
mod layer_usage;
mod layered;
mod locate;
mod opening;
mod options;
mod parallel;
mod prefixes;
mod probe;
mod process;
mod room;
mod set;
mod sharing;
mod structure;
mod tag;
mod tag_order;
mod tags;
mod tar_split;
mod together;
mod user;
mod verify;
mod view;
mod waste;
mod which;
mod whole;

pub use accounts::{ACCOUNT_FILES, accounts};
pub use attest::{
    Attached, Attestation, AttestationKind, Attestations, Package, Sbom, Subject, attestations,
};
pub use blob::{BlobName, NamedBlob, find_blob, find_rest_of_blob};
pub use cached::{CachedImage, CachedImages};
pub use copy::{Copied, Copy, CopyError, CopyOptions, Destination};
pub use diff::{Diff, FileChange, LayerCounts, common_layers, diff};
pub use error::Error;
pub use excerpt::Excerpt;
pub use glimpses::Wishes;
pub use graph::{
    Depth, Entry, EntryKind, Graph, InspectedImage, InspectedLayer, Referrer, Wanted, document,
    inspect,
};
pub use history::{History, LayersToOpen, Step, StepLayer, history, steps_of};
pub use indexes::{
    CachedIndex, KnownIndexes, Publication, build_indexes, known_indexes, push_indexes,
};
pub use known::known_tree;
pub use layer_choice::{LayerChoice, LayerChoiceError};
pub use layer_stack::{LayerFile, LayerStack, Onlooker, Wasted, WastedFile, instructions};
pub use layer_usage::{LayerUsage, layer_usage};
pub use layered::LayeredImage;
pub use opening::{named_document, resolve, resolve_in};
pub use options::{Exclusion, ImageOptions, LayoutPlatforms, Opened, Selection};
pub use prefixes::{PrefixLayer, PrefixedImage, Prefixes};
pub use probe::{Probe, probe};
pub use process::{Process, ProcessError, ProcessOptions};
pub use room::{Room, room_of_layer, room_of_tree};
pub use set::ImageSet;
pub use sharing::{LayerNumbers, Scope};
pub use structure::{Part, Structure};
pub use tags::{
    TagGroup, TagList, TagsRequest, remembered_tags, repositories_in, tag_names_in, tags,
};
pub use together::Failure;
pub use user::{User, UserError};
pub use verify::{LayerVerification, ProvenBefore, Verification, verify};
pub use view::{Shown, View};
pub use waste::{WastedPath, wasted_paths};
pub use which::{PathOrigin, PathOrigins, PathVersion, which};
pub use whole::{Common, Image};
