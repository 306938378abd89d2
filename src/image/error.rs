//! Why an image can't be opened.

use std::io;

use crate::digest::Digest;
use crate::hint::Hint;
use crate::index::DecodeError;
use crate::reference::DirectoryName;
use crate::{blob, fs, index, index_artifact, layer, resolve, source, tree};

/// Why an image can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    #[error(transparent)]
    Layer(#[from] layer::Error),
    #[error(transparent)]
    Tree(#[from] tree::Error),
    #[error(transparent)]
    Artifact(#[from] index_artifact::Error),
    #[error(transparent)]
    Read(#[from] blob::Error),
    #[error(transparent)]
    File(#[from] fs::Error),
    #[error("{0} is not in a registry: there is nowhere to push to")]
    NoRegistry(String),
    #[error(
        "{0} has no tags: it is not a registry, an OCI layout, an archive of `docker save` or the storage of a registry"
    )]
    NoTags(String),
    #[error("{0} has no tag that is a version, such as 1.4 or v1.4.2")]
    NoVersion(String),
    #[error("neither the documents of the image nor its repository know a blob {0}")]
    NoSuchBlob(String),
    #[error("blob {digest} has {size} bytes, and its rest from byte {from} on was asked for")]
    BlobIsShorter { digest: Digest, size: u64, from: u64 },
    #[error("`{start}` is the start of several digests: {found}")]
    AmbiguousBlob { start: String, found: String },
    #[error(
        "{missing} of {bytes} uncompressed bytes did not stay in the cache: its limit or its disk is too small"
    )]
    NotKept { missing: u64, bytes: u64 },
    #[error("two images would have the directory `{0}`")]
    DirectoryTaken(DirectoryName),
    #[error("there is no layer `{choice}`: the layers are numbered 0 to {}", layers.saturating_sub(1))]
    NoLayer { choice: String, layers: usize },
    #[error("the lowest {count} layers were asked for, and the image has {has}")]
    TooFewLayers { count: usize, has: usize },
    #[error("several layers have a digest or diff ID that begins with `{choice}`")]
    SeveralLayers { choice: String },
    #[error("the base {name}: {cause}")]
    Base { name: String, cause: Box<Error> },
    #[error("what the base has can't be left out: {0}")]
    Exclude(DecodeError),
    #[error("it is no container image, but of another kind: {kind}")]
    NoContainerImage { kind: &'static str },
    #[error("{what} can't be described for an engine: {why}")]
    TarSplit { what: String, why: &'static str },
    #[error("a text can't be shown as a file: {0}")]
    Text(index::Error),
    #[error("reading a few bytes of a layer: {0}")]
    Probe(io::Error),
}

impl Error {
    /// Whether it says that there is no image of this name.
    pub fn is_missing(&self) -> bool {
        match self {
            Error::Source(error) | Error::Resolve(resolve::Error::Source(error)) => {
                error.is_missing()
            }
            _ => false,
        }
    }

    /// Whether what the name leads to was read, and has no image that is wanted: for another platform, as a rule.
    pub fn is_no_image(&self) -> bool {
        matches!(self, Error::Resolve(error) if error.is_no_image())
    }

    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Source(error) => error.hint(),
            Error::Resolve(error) => error.hint(),
            Error::Layer(error) => error.kind.hint(),
            Error::Tree(error) => error.hint(),
            Error::Read(error) => error.hint(),
            Error::File(error) => error.hint(),
            Error::Base { cause, .. } => cause.hint(),
            Error::NotKept { .. } => Some(Hint::EnlargeCache),
            Error::Probe(error) => source::hint_of(error),
            _ => None,
        }
    }
}
