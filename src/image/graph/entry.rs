//! An entry of an image index, as it is shown.

use crate::digest::Digest;
use crate::oci::{Descriptor, Manifest, Platform};

/// How much is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What opening the image needs, and a list of referrers.
    Shown,
    /// Every image index as well, and entries that do not say what they are.
    Indexes,
    /// Every document that the name leads to.
    All,
}

/// An entry of an image index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The index that has it.
    pub within: Digest,
    /// How many indexes lead to that one.
    pub depth: usize,
    /// What the index says of it; or why that can't be used.
    pub descriptor: Result<Descriptor, String>,
    /// What it is for, by the index.
    pub platform: Option<Platform>,
    /// What it is.
    pub kind: EntryKind,
    /// Whether it is the image that is shown in detail.
    pub is_shown: bool,
    /// Its manifest, if that was opened.
    pub manifest: Option<Manifest>,
    /// Why its document can't be shown.
    pub error: Option<String>,
}

/// What an entry of an image index is: by its document where that was opened, or else by what the index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An image.
    Image,
    /// A further image index.
    Index,
    /// An attestation, and the manifest that it says it is about.
    Attestation(Option<Digest>),
    /// Something else.
    Artifact,
    /// The index does not say.
    Unknown,
    /// It can't be used.
    Unusable,
}
