//! This machine's files about registries: where they lie, and how they are read.
//!
//! A file that may not be read is passed over with a warning, as it may be another user's; one that can't be
//! understood is an error that names it, since the user who put it there means it to be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::bounded;

/// Longest file of settings that is read.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Where files about registries may lie. By default nowhere: nothing is read.
#[derive(Clone, Debug, Default)]
pub struct ConfigFiles {
    /// Folders `certs.d`, with a folder for each host. The first that knows a host counts.
    pub certificates: Vec<PathBuf>,
    /// Files `registries.conf`. The first that exists counts.
    pub registries: Vec<PathBuf>,
    /// Folders `registries.conf.d`. All count, later ones more.
    pub registries_drop_ins: Vec<PathBuf>,
    /// The file in which podman keeps the aliases that the user has chosen. It counts before all others.
    pub short_name_aliases: Option<PathBuf>,
    /// Folders `certs.d` of containerd. The first that knows a registry counts, if `registries.conf`
    /// says nothing about it.
    pub containerd: Vec<PathBuf>,
    /// Files `daemon.json` of Docker. All count, if neither of the above says anything about a registry.
    pub docker: Vec<PathBuf>,
}

/// A file about registries that can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
    #[error("{name} is blocked by {path} (`blocked = true`)")]
    Blocked { name: String, path: PathBuf },
}

/// What is wrong in a TOML file, and where, without its text: it may hold secrets.
pub(super) fn toml_words(error: &toml::de::Error, text: &str) -> String {
    let at = error.span().and_then(|span| text.get(..span.start));
    let line = at.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

/// Reads a file of settings that is UTF-8; `None`, with a warning, if it is not for us to read.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let text = read_settings(path)?.map(String::from_utf8).transpose();
    text.map_err(|e| Error::File { path: path.to_owned(), cause: io::Error::other(e) })
}

/// Reads a file of settings; `None`, with a warning, if it is not for us to read.
pub(super) fn read_settings(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    read_if_ours(path, MAX_SETTINGS_BYTES)
}

/// Reads a file that should have no more than so many bytes; `None`, with a warning, if it is not for us to
/// read.
pub(super) fn read_if_ours(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match bounded::read_file(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            log::warn!("{}: {e}; going on without it", path.display());
            Ok(None)
        }
        Err(source) => Err(Error::File { path: path.to_owned(), cause: source }),
    }
}
