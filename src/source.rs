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
pub mod containerd;
pub mod containers_storage;
pub mod directory;
pub mod docker_archive;
pub mod docker_daemon;
mod floor;
pub mod layout;
pub mod local_copies;
mod magic;
mod nearest;
pub mod on_disk;
pub mod registry;
pub mod registry_storage;
mod stream;
mod tar_split;

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::codec;
use crate::digest::Digest;
use crate::hint::Hint;
use crate::oci::Descriptor;
use crate::tar;

pub(crate) use floor::MIN_BYTES_PER_SECOND;

/// Why a source could not deliver.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, r#source: io::Error },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
    #[error("{path} is not a readable tar archive: {source}")]
    Tar { path: PathBuf, r#source: tar::Error },
    #[error("{path} can't be decompressed: {source}")]
    Codec { path: PathBuf, r#source: codec::Error },
    #[error("there is no image `{wanted}` in {path}; {}", listed(&nearest_first(.available, .wanted)))]
    NoSuchImage { path: PathBuf, wanted: String, available: Vec<String> },
    #[error("{path} holds several images: say which one; {}", listed(.available))]
    Ambiguous { path: PathBuf, available: Vec<String> },
    #[error("{}", nowhere(.tried, .registry.as_deref()))]
    Nowhere { tried: Vec<String>, registry: Option<String> },
    #[error("{path} holds no image")]
    Empty { path: PathBuf },
    #[error("{what} is not in {path}")]
    Missing { path: PathBuf, what: String },
    #[error("{what} is not in {path}: {why}")]
    Dropped { path: PathBuf, what: String, why: String },
    #[error("{path}: {source}; {why}")]
    Denied { path: PathBuf, r#source: io::Error, why: &'static str },
    #[error("blob {digest} has {size} bytes: there is no range {start}..{end} in it")]
    Range { digest: Digest, size: u64, start: u64, end: u64 },
    #[error(transparent)]
    Registry(#[from] Box<registry::Error>),
    #[error(transparent)]
    Hosts(#[from] registry::HostsError),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::File { source, .. } | Error::Denied { source, .. } => hint_of(source),
            Error::Codec { source, .. } => source.hint(),
            Error::Registry(error) => error.hint(),
            _ => None,
        }
    }
}

/// What helps where reading from a source failed: the error may carry one of ours.
pub fn hint_of(error: &io::Error) -> Option<Hint> {
    let inner = error.get_ref()?;
    if let Some(error) = inner.downcast_ref::<registry::Error>() {
        return error.hint();
    }
    if let Some(error) = inner.downcast_ref::<codec::Error>() {
        return error.hint();
    }
    if let Some(error) = inner.downcast_ref::<Error>() {
        return error.hint();
    }
    if let Some(error) = inner.downcast_ref::<io::Error>() {
        return hint_of(error);
    }
    inner.is::<docker_daemon::Silent>().then_some(Hint::AllowMoreTime)
}

/// At most this many names are listed in a message.
const LISTED_NAMES: usize = 20;

fn nearest_first(names: &[String], wanted: &str) -> Vec<String> {
    let is_image = |name: &&String| {
        !nearest::is_of_referrer(name.rsplit_once(':').map_or(name, |(_, tag)| tag))
    };
    let mut names: Vec<String> = names.iter().filter(is_image).cloned().collect();
    nearest::sort(&mut names, wanted);
    names
}

fn listed(names: &[String]) -> String {
    match names {
        [] => {
            "its images have no names: use a digest (`@sha256:…`) or a position (`@0`)".to_owned()
        }
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

fn nowhere(tried: &[String], registry: Option<&str>) -> String {
    let text = match tried {
        [path] => format!("there is no file or folder `{path}`"),
        paths => {
            let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
            format!("there is no file or folder {}", paths.join(" or "))
        }
    };
    match registry {
        Some(name) => format!("{text}; an image of Docker Hub would be `{name}`"),
        None => text,
    }
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { path: path.into(), source }
    }

    /// Whether what was asked for is not there, though everything else may be.
    pub fn is_missing(&self) -> bool {
        match self {
            Error::Missing { .. } | Error::Dropped { .. } => true,
            Error::Registry(e) => e.is_not_found(),
            _ => false,
        }
    }

    /// Whether it is that a file or folder does not exist.
    fn is_not_there(&self) -> bool {
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Error::File { source, .. } if kinds.contains(&source.kind()))
    }

    /// A file that can't be opened; `why` says who may.
    fn denied_or(path: impl Into<PathBuf>, source: io::Error, why: &'static str) -> Error {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { path, source, why },
            _ => Error::File { path, source },
        }
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

/// The unverified bytes of a part of a blob: what was asked for, or more.
pub struct Opened {
    /// The bytes. A whole blob that was asked for may turn out longer than its descriptor says,
    /// for a verifying reader to refuse; any other body ends at `end` at the latest. Where a local
    /// file is too short, it ends earlier.
    pub body: Body,
    /// Offset in the blob of the first byte of `body`: what was asked for, or 0 where a server
    /// ignored the range and sends everything.
    pub start: u64,
    /// Just past the last byte that will come: the end asked for, or the blob's size.
    pub end: u64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opened { body: _, start, end } = self;
        f.debug_struct("Opened").field("start", start).field("end", end).finish_non_exhaustive()
    }
}

/// What fetching costs, as measured over the last answers (moving averages).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Time from asking to the first byte of an answer.
    pub round_trip: Duration,
    /// Bytes a second of one body.
    pub bytes_per_second: u64,
}

/// Refuses a range that is not within a blob.
fn check_range(descriptor: &Descriptor, range: &Range<u64>) -> Result<(), Error> {
    let (digest, size) = (descriptor.digest, descriptor.size);
    let Range { start, end } = *range;
    match start <= end && end <= size {
        true => Ok(()),
        false => Err(Error::Range { digest, size, start, end }),
    }
}

/// Where stores of other programs are looked for when the user does not say.
#[derive(Clone, Debug)]
pub struct LocalStores {
    /// Roots of containerd.
    pub containerd: Vec<PathBuf>,
    /// Roots of containerd from whose stores blobs are taken that an image in a registry has.
    pub content_stores: Vec<PathBuf>,
    /// Roots of containers-storage.
    pub containers_storage: Vec<PathBuf>,
    /// Sockets of Docker engines.
    pub docker_sockets: Vec<PathBuf>,
}

impl Default for LocalStores {
    fn default() -> LocalStores {
        LocalStores {
            containerd: containerd::USUAL_ROOTS.map(PathBuf::from).to_vec(),
            content_stores: containerd::USUAL_ROOTS.map(PathBuf::from).to_vec(),
            containers_storage: vec![PathBuf::from(containers_storage::USUAL_ROOT)],
            docker_sockets: docker_daemon::USUAL_SOCKETS.map(PathBuf::from).to_vec(),
        }
    }
}

/// What a source may be asked for by digest.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A manifest or an image index.
    Document(&'a Descriptor),
    /// A config or a layer.
    Blob(&'a Descriptor),
}

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

    /// The bytes of a blob in `range`, or more: see [`Opened`].
    ///
    /// # Errors
    /// They can't be had, or the range is not within the size that the descriptor says. Failures
    /// in the middle come as [`io::Error`] from the reader.
    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error>;

    /// What fetching costs here, measured or, as long as nothing was fetched, assumed; `None` for
    /// local sources.
    fn throughput(&self) -> Option<Throughput> {
        None
    }

    /// Asks the place itself whether it has this content and lets us read it, without fetching it. There
    /// is nothing to ask where this process reads files, as their permissions say it.
    ///
    /// # Errors
    /// It does not, or can't be asked.
    fn confirm(&self, _content: Content<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the blob is there at all. Archives of multi-platform images are often partial.
    fn has(&self, _descriptor: &Descriptor) -> bool {
        true
    }

    /// The root of the store on this machine that a blob is read from instead of from where the image
    /// is, if there is one that has it.
    fn local_copy(&self, _descriptor: &Descriptor) -> Option<PathBuf> {
        None
    }

    /// Takes note that what came for a digest is not what it should be. Whether another host can be
    /// asked for it: asking again then goes there.
    fn distrust(&self, _digest: &Digest) -> bool {
        false
    }

    /// Whether reading costs a network: such blobs are worth remembering by tag.
    fn is_remote(&self) -> bool {
        false
    }
}
