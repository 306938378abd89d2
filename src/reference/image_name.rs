//! A name as a user writes it: which of the grammars it is in.

use std::fmt;
use std::str::FromStr;

use super::error::ParseError;
use super::local::{self, LocalLayout, LocalSource};
use super::mistake;
use super::registry::Reference;
use super::stored::StoredImage;
use super::transport::{self, Place, Transport};

/// Transports of other tools that are refused by name rather than taken for a host.
const REFUSED_TRANSPORTS: [&str; 3] = ["sif", "ostree", "tarball"];

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
            return LocalSource::parse(LocalLayout::ByContent, text).map(ImageName::Local);
        }
        // `oci://` is how Helm and Flux write what skopeo writes as `docker://`. Names behind these are
        // never short: without a registry they mean Docker Hub.
        for scheme in ["docker://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return registry(rest).map(|reference| ImageName::Registry(reference.in_full()));
            }
        }
        if let Some((word, rest)) = text.split_once(':') {
            // `docker-daemon:27` could be an image of that name; there is none.
            if let Some(transport) = Transport::named(word) {
                return Ok(match transport.parse(rest)? {
                    Place::Local(local) => ImageName::Local(local),
                    Place::Stored(stored) => ImageName::Stored(stored),
                });
            }
            if let Some(mistake) = mistake::transport(word, rest) {
                return Err(mistake);
            }
            if REFUSED_TRANSPORTS.contains(&word) || mistake::is_transport(word, rest) {
                let (word, known) = (word.to_owned(), transport::known());
                return Err(ParseError::UnknownTransport { word, known });
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
