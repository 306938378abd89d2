//! Image references: the words with which a user names an image.
//!
//! Three grammars meet here. *Registry references* are `[host[:port]/]path[:tag][@digest]` with
//! Docker's defaults (`debian` is `docker.io/library/debian:latest`); *local sources* are paths that
//! begin like one (`./x.tar`, `/srv/layout`, `-`) or are written as skopeo writes them:
//! `oci:PATH[:REF]`, `oci-archive:PATH[:REF]`, `docker-archive:PATH[:REF]` and `dir:PATH`, and so are
//! the *stores* of engines: `containerd:`, `containers-storage:`, `docker-daemon:` and
//! `registry-storage:`. Parsing does no I/O, so it knows neither aliases nor which files exist; but a name
//! that was written without a registry remembers how, for alias tables ([`Reference::short_name`]),
//! and a path with colons can be read in several ways ([`LocalSource::readings`]).
//!
//! Every way of being wrong has its own sentence, because a typo in a reference is the most common
//! error of all; and what is more probably a slip than an image of Docker Hub is refused (`mistake`).
//!
//! ```text
//! reference (ImageName) -> directory_name, mistake -> local, stored, web -> registry -> error
//! ```

mod directory_name;
mod error;
mod local;
mod mistake;
mod registry;
mod stored;
mod web;

use std::fmt;
use std::str::FromStr;

pub use directory_name::{DirectoryName, DirectoryNameError};
pub use error::ParseError;
pub use local::{Layout, LocalSource};
pub use registry::Reference;
pub use stored::StoredImage;

/// The registry that a name without a host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// Transports of other tools that are refused by name rather than taken for a host.
const FOREIGN_TRANSPORTS: [&str; 3] = ["sif", "ostree", "tarball"];

/// What a user may write wherever an image is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// An image in a registry.
    Registry(Reference),
    /// An image in a folder or archive.
    Local(LocalSource),
    /// An image in a store of another program.
    Stored(StoredImage),
}

impl FromStr for ImageName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<ImageName, ParseError> {
        if local::is_path(text) {
            return LocalSource::parse(Layout::ByContent, text).map(ImageName::Local);
        }
        // `oci://` is how Helm and Flux write what skopeo writes as `docker://`. Names behind these are
        // never short: without a registry they mean Docker Hub.
        for scheme in ["docker://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return registry(rest).map(|reference| ImageName::Registry(reference.in_full()));
            }
        }
        if let Some((word, rest)) = text.split_once(':') {
            if let Some(layout) = Layout::named(word) {
                return LocalSource::parse(layout, rest).map(ImageName::Local);
            }
            // `docker-daemon:27` could be an image of that name; nobody has one.
            if StoredImage::TRANSPORTS.contains(&word) {
                return StoredImage::parse(word, rest).map(ImageName::Stored);
            }
            if let Some(mistake) = mistake::transport(word, rest) {
                return Err(mistake);
            }
            if FOREIGN_TRANSPORTS.contains(&word) || mistake::is_transport(word, rest) {
                return Err(ParseError::UnknownTransport(word.to_owned()));
            }
        }
        registry(text).map(ImageName::Registry)
    }
}

/// A reference into a registry, unless it looks like a slip.
fn registry(text: &str) -> Result<Reference, ParseError> {
    match mistake::reference(text) {
        Some(mistake) => Err(mistake),
        None => text.parse(),
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageName::Registry(reference) => fmt::Display::fmt(reference, f),
            ImageName::Stored(stored) => fmt::Display::fmt(stored, f),
            ImageName::Local(local) => fmt::Display::fmt(local, f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
