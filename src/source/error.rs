//! Why a source could not deliver, in words that say on which file or image.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{docker_daemon, nearest, registry};
use crate::codec;
use crate::digest::Digest;
use crate::hint::Hint;
use crate::tar;

/// Why a source could not deliver.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
    #[error("{path} is not a readable tar archive: {cause}")]
    Tar { path: PathBuf, cause: tar::Error },
    #[error("{path} can't be decompressed: {cause}")]
    Codec { path: PathBuf, cause: codec::Error },
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
    #[error("{path}: {cause}; {why}")]
    Denied { path: PathBuf, cause: io::Error, why: &'static str },
    #[error("blob {digest} has {size} bytes: there is no range {start}..{end} in it")]
    Range { digest: Digest, size: u64, start: u64, end: u64 },
    #[error("offline, {0} is not fetched")]
    Offline(String),
    #[error(transparent)]
    Registry(#[from] Box<registry::Error>),
    #[error(transparent)]
    Hosts(#[from] registry::HostsError),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::File { cause: source, .. } | Error::Denied { cause: source, .. } => {
                hint_of(source)
            }
            Error::Codec { cause: source, .. } => source.hint(),
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
        Error::File { path: path.into(), cause: source }
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
    pub(super) fn is_not_there(&self) -> bool {
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Error::File { cause: source, .. } if kinds.contains(&source.kind()))
    }

    /// A file that can't be opened; `why` says who may.
    pub(super) fn denied_or(
        path: impl Into<PathBuf>,
        source: io::Error,
        why: &'static str,
    ) -> Error {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { path, cause: source, why },
            _ => Error::File { path, cause: source },
        }
    }

    pub(crate) fn invalid(path: impl Into<PathBuf>, what: impl fmt::Display) -> Error {
        Error::Invalid { path: path.into(), what: what.to_string() }
    }
}
