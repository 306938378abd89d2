//! Where images come from: the outer I/O edge.
//!
//! A [`Source`] stands for one image name. It may return anything: nothing that comes from here is
//! trusted until [`resolve`](crate::resolve) or [`blob`](crate::blob) have checked it against a
//! digest, and those two are the only callers. A source is an immutable view; it keeps no content.
//!
//! Local sources know their documents exactly. A registry has one more ability, [`Source::head`]:
//! to say which digest a tag has now without sending the document, which is what lets a second
//! mount of an image cost a single request.

pub mod archive;
pub mod directory;
pub mod docker_archive;
pub mod layout;
pub mod registry;

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::codec;
use crate::digest::Digest;
use crate::image::Descriptor;
use crate::tar;

/// Why a source could not deliver.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
    #[error("{path} is not a readable tar archive")]
    Tar {
        path: PathBuf,
        #[source]
        source: tar::Error,
    },
    #[error("{path} can't be decompressed")]
    Codec {
        path: PathBuf,
        #[source]
        source: codec::Error,
    },
    #[error("there is no image `{wanted}` in {path}; {}", listed(.available))]
    NoSuchImage { path: PathBuf, wanted: String, available: Vec<String> },
    #[error("{path} holds several images: say which one; {}", listed(.available))]
    Ambiguous { path: PathBuf, available: Vec<String> },
    #[error("{path} holds no image")]
    Empty { path: PathBuf },
    #[error("{what} is not in {path}")]
    Missing { path: PathBuf, what: String },
    #[error(transparent)]
    Registry(#[from] Box<registry::Error>),
}

/// At most this many names are listed in a message.
const LISTED_NAMES: usize = 20;

fn listed(names: &[String]) -> String {
    match names {
        [] => "its images have no names: use a digest (`@sha256:…`)".to_owned(),
        names if names.len() > LISTED_NAMES => {
            format!(
                "there are {} and {} more",
                names[..LISTED_NAMES].join(", "),
                names.len() - LISTED_NAMES
            )
        }
        names => format!("there is {}", names.join(", ")),
    }
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { path: path.into(), source }
    }

    pub(crate) fn invalid(path: impl Into<PathBuf>, what: impl fmt::Display) -> Error {
        Error::Invalid { path: path.into(), what: what.to_string() }
    }
}

/// A manifest, image index or config as it came, unverified.
#[derive(Clone, Debug)]
pub struct RawDocument {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The media type that was announced with it, if any.
    pub media_type: Option<String>,
    /// The digest that the source says it has; the caller checks it.
    pub digest: Option<Digest>,
}

/// The unverified bytes of a blob from some offset on.
pub type Body = Box<dyn Read + Send>;

/// One image, wherever it lies.
pub trait Source: fmt::Debug + Send + Sync {
    /// The document that the image name means.
    ///
    /// # Errors
    /// It can't be had.
    fn root(&self) -> Result<RawDocument, Error>;

    /// The digest of the document that [`Source::root`] would return, without fetching it;
    /// `None` where that saves nothing or the server can't say.
    ///
    /// # Errors
    /// The source can't be reached or refuses.
    fn head(&self) -> Result<Option<Digest>, Error> {
        Ok(None)
    }

    /// A further document by descriptor.
    ///
    /// # Errors
    /// It can't be had.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error>;

    /// The bytes of a blob from `start` on.
    ///
    /// # Errors
    /// It can't be had. Failures in the middle come as [`io::Error`] from the reader.
    fn blob(&self, descriptor: &Descriptor, start: u64) -> Result<Body, Error>;

    /// Whether the blob is there at all. Archives of multi-platform images are often partial.
    fn has(&self, _descriptor: &Descriptor) -> bool {
        true
    }

    /// Whether reading costs a network: such blobs are worth remembering by tag.
    fn is_remote(&self) -> bool {
        false
    }
}
