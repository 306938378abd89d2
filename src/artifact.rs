//! Which files an artifact has, by what its manifest says.
//!
//! # Problem
//!
//! A registry holds charts, models, policies and signatures beside images, each kind with rules of its own
//! for what the blobs are, what they are called, and which of them are to be unpacked. A user who mounts one
//! wants the files that the kind's own tool would leave on a disk.
//!
//! # Design
//!
//! [`plan`] is a function of the manifest and the config alone: for each blob a name and a
//! [`ShownAs`]. A kind is recognised by its artifact type, else by the type of its config, else by those of
//! its layers (`artifact::kind`); a table of rules says the rest (`artifact::rules`). What no rule knows is a
//! file with its title, or else its digest, as its name.
//!
//! The media type of a layer does not say what its bytes are: ORAS writes every plain file as
//! `application/vnd.oci.image.layer.v1.tar`. So a blob that a rule wants unpacked has a name beside that, for
//! the case that it turns out to be no tar ([`Planned::otherwise`]).
//!
//! Titles come from the artifact's publisher. They become clean relative paths (`artifact::names`); two blobs that
//! would have one name are numbered, for podman gives all layers the title of the last.
//!
//! Rejected: what `oras pull` does for everything, which leaves a chart as a `.tgz` and fails on two equal
//! titles.
//!
//! # Invariants
//!
//! - No name leads out of the tree, and no two blobs have the same one.
//! - Every blob of the manifest is planned, but for empty ones that stand for "no files".

mod compose;
mod kind;
mod names;
mod rules;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeSet;

use crate::oci::{Descriptor, Manifest, media_type};
use names::Names;

pub use kind::Kind;

/// What users may want of an artifact, whatever its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArtifactView {
    /// What the kind's own tool leaves on a disk.
    #[default]
    Usual,
    /// The blobs under their digests.
    Raw,
    /// The blobs as files with their names; nothing is unpacked.
    Files,
    /// Every blob that is a tar is unpacked.
    Unpacked,
}

impl ArtifactView {
    /// The word that users choose it with; `usual` for what is shown without one.
    pub fn name(self) -> &'static str {
        match self {
            ArtifactView::Usual => "usual",
            ArtifactView::Raw => "raw",
            ArtifactView::Files => "files",
            ArtifactView::Unpacked => "unpacked",
        }
    }
}

/// How a blob is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShownAs {
    /// It is a tar, and its entries are shown below this directory: a relative path, empty for the root.
    Tree {
        /// The directory.
        below: Vec<u8>,
    },
    /// It is a file.
    File(FileShape),
    /// It is a file that was compressed.
    Compressed(FileShape),
}

impl ShownAs {
    /// A tar at the root, as the layer of an image.
    pub const ROOT: ShownAs = ShownAs::Tree { below: Vec::new() };
}

/// What a file is called, and what attributes it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileShape {
    /// A clean relative path.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u16,
    /// Seconds since the epoch.
    pub mtime_seconds: i64,
}

/// A file that is made of several blobs, one behind the other. They are small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The file.
    pub file: FileShape,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What stands before the blob.
    pub before: &'static [u8],
    /// The blob.
    pub blob: Descriptor,
}

/// A blob that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The blob.
    pub descriptor: Descriptor,
    /// How.
    pub shown: ShownAs,
    /// What it is if it is to be unpacked or decompressed, and is not what it is said to be.
    pub otherwise: FileShape,
}

/// What is shown of an artifact.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is.
    pub kind: Kind,
    /// The blobs, in the order of the manifest.
    pub blobs: Vec<Planned>,
    /// What is made of some of them.
    pub joined: Option<Joined>,
    /// Names that were changed: as the artifact has them, and as they are shown. No more than a few.
    pub renamed: Vec<(String, String)>,
}

/// Whether a manifest is to be shown by its kind, although it would pass for an image: it says that it is
/// something else, or its layers do.
pub fn is_artifact(manifest: &Manifest) -> bool {
    let own = manifest.artifact_type.as_deref().map(media_type::essence);
    let is_typed = own.is_some_and(|own| !own.is_empty() && !media_type::is_config(&own));
    let has_titles = || manifest.layers.iter().any(|layer| names::title(layer).is_some());
    // An image with a type of its own is one still, unless its layers say that they are files.
    is_typed && has_titles() || Kind::of_layers(manifest).is_some()
}

/// Plans what is shown of an artifact. `config` is the content of its config, as far as it is known.
pub fn plan(manifest: &Manifest, config: &[u8], view: ArtifactView) -> Plan {
    let kind = Kind::of(manifest);
    let pieces = match (kind, view) {
        (Kind::ComposeProject, ArtifactView::Usual) => compose::pieces(manifest),
        _ => Vec::new(),
    };
    let rules = rules::of(kind, manifest, config, !pieces.is_empty());
    let mtime_seconds = names::created(manifest);
    let shape = |path: Vec<u8>, at: &Descriptor| {
        let (mode, own) = names::metadata(at);
        FileShape { path, mode, mtime_seconds: own.unwrap_or(mtime_seconds) }
    };
    let mut names = Names::default();
    let joined = (!pieces.is_empty()).then(|| {
        let path = names.take(compose::FILE, false);
        Joined { file: FileShape { path, mode: names::MODE, mtime_seconds }, pieces }
    });
    let mut blobs: Vec<Planned> = Vec::new();
    let mut seen = BTreeSet::new();
    let described = manifest.layers.iter().enumerate().filter(|(_, layer)| !is_nothing(layer));
    let described = described.map(|(at, layer)| (layer, rules.of_layer(at, layer)));
    let config = rules.of_config(&manifest.config).map(|rule| (&manifest.config, rule));
    for (descriptor, rule) in described.chain(config) {
        let by_digest = names::by_digest(descriptor, view == ArtifactView::Raw);
        let wanted = match view {
            ArtifactView::Raw => by_digest.clone(),
            _ => rule.name().unwrap_or(by_digest),
        };
        // What stands there twice is one file.
        if !seen.insert((descriptor.digest.to_string(), wanted.clone(), rule.is_tree())) {
            continue;
        }
        let is_compressed = rule.is_compressed() && view != ArtifactView::Raw;
        let may_be_tree = match view {
            ArtifactView::Raw | ArtifactView::Files => None,
            ArtifactView::Usual => rule.below(),
            ArtifactView::Unpacked if is_compressed => None,
            ArtifactView::Unpacked => Some(rule.below().unwrap_or_default()),
        };
        // What stays compressed says so.
        let wanted = match is_compressed && view == ArtifactView::Files {
            true => format!("{wanted}{}", names::compressed_extension(&descriptor.media_type)),
            false => wanted,
        };
        let path = names.take(&wanted, may_be_tree.is_some());
        let otherwise = shape(path, descriptor);
        let shown = match may_be_tree {
            Some(below) => ShownAs::Tree { below },
            None if is_compressed && view != ArtifactView::Files => {
                ShownAs::Compressed(otherwise.clone())
            }
            None => ShownAs::File(otherwise.clone()),
        };
        blobs.push(Planned { descriptor: descriptor.clone(), shown, otherwise });
    }
    Plan { kind, blobs, joined, renamed: names.into_changed() }
}

/// Whether a layer is the empty descriptor, which stands for "no layers" (image-spec 1.1, manifest.md,
/// "Guidance for an Empty Descriptor").
fn is_nothing(layer: &Descriptor) -> bool {
    media_type::essence(&layer.media_type) == media_type::OCI_EMPTY
}
