//! Why layers don't make a tree.

use crate::hint::Hint;
use crate::index;

/// Steps through symlink targets and through paths that are walked again, in one merge: far above any
/// real image, and a second's work.
pub(super) const MAX_STEPS: u64 = 50_000_000;

/// Names made in one merge, those included that later layers remove: ten times the largest image
/// heard of, and a bound on memory.
pub(super) const MAX_NODES: usize = 16 << 20;

/// Why layers don't make a tree. `layer` is the position in the image, 0 is the base.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(
        "layer {layer}: `{path}` needs `{blocker}` to be a directory, but the layer made it something else"
    )]
    NotADirectory { layer: usize, path: String, blocker: String },
    #[error("layer {layer}: hard link `{path}`: its target `{target}` does not exist")]
    LinkTarget { layer: usize, path: String, target: String },
    #[error("layer {layer}: hard link `{path}`: its target `{target}` is a directory")]
    LinkToDirectory { layer: usize, path: String, target: String },
    #[error("layer {layer}: `{path}`: too many levels of symbolic links")]
    SymlinkLoop { layer: usize, path: String },
    #[error("layer {layer}: finding where its paths lead takes more than {MAX_STEPS} steps")]
    TooManySteps { layer: usize },
    #[error("layer {layer}: `{path}` leads through a symlink with a name longer than 255 bytes")]
    NameTooLong { layer: usize, path: String },
    #[error(
        "layer {layer}: the path of `{path}` is longer than 4096 bytes with its symlinks followed"
    )]
    PathTooLong { layer: usize, path: String },
    #[error("there are more than {MAX_NODES} names in an image, or 4 GiB of text in all of them")]
    TooLarge,
    #[error(transparent)]
    Budget(#[from] index::Error),
}

impl Error {
    /// The same of the layer at this position of an image.
    pub fn of_layer(mut self, number: usize) -> Error {
        match &mut self {
            Error::NotADirectory { layer, .. }
            | Error::LinkTarget { layer, .. }
            | Error::LinkToDirectory { layer, .. }
            | Error::SymlinkLoop { layer, .. }
            | Error::TooManySteps { layer }
            | Error::NameTooLong { layer, .. }
            | Error::PathTooLong { layer, .. } => *layer = number,
            Error::TooLarge | Error::Budget(_) => {}
        }
        self
    }

    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Budget(error) => error.hint(),
            _ => None,
        }
    }
}
