//! What an image's directory is called in a mount of several.

use std::fmt;
use std::str::FromStr;

use super::image_name::ImageName;
use super::registry::Reference;
use crate::digest::Digest;

/// The name of the directory that an image has in a mount of several: a single component of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryName(String);

/// Why a text can't be the name of a directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` can't be the name of a directory: not empty, `.` or `..`, no `/`, at most 255 bytes"
)]
pub struct DirectoryNameError(String);

impl DirectoryName {
    /// The longest in bytes: Linux's `NAME_MAX`.
    const MAX_BYTES: usize = 255;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DirectoryName {
    type Err = DirectoryNameError;

    fn from_str(text: &str) -> Result<DirectoryName, DirectoryNameError> {
        let is_bad = matches!(text, "" | "." | "..")
            || text.contains(['/', '\0'])
            || text.len() > DirectoryName::MAX_BYTES;
        if is_bad {
            return Err(DirectoryNameError(text.to_owned()));
        }
        Ok(DirectoryName(text.to_owned()))
    }
}

impl fmt::Display for DirectoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hexadecimal digits of a digest that stand in the name of a directory.
const SHORT_DIGEST: usize = 12;

impl ImageName {
    /// A short name for a directory: the last component of the repository or path, and the tag after
    /// a dash; of a digest the first 12 digits. `python-app-v1`, `debian-latest`, `app-0123456789ab`.
    ///
    /// What else can't stand in a name becomes a dash. Different images may have the same name; `None`
    /// if there is nothing to make one of (`oci:..`).
    pub fn directory_name(&self) -> Option<DirectoryName> {
        let of = |reference: &Reference| {
            let name = reference.repository().rsplit('/').next().unwrap_or_default();
            let digest = reference.digest().map(|digest| digest.to_string());
            (name.to_owned(), digest.or_else(|| reference.tag().map(str::to_owned)))
        };
        let (name, selector) = match self {
            ImageName::Registry(reference) => of(reference),
            ImageName::Stored(stored) => match stored.image().parse::<Reference>() {
                Ok(reference) => of(&reference),
                Err(_) => (stored.image(), None),
            },
            ImageName::Local(local) => {
                let name = local.path.file_name()?.to_string_lossy().into_owned();
                (name, local.selector.clone())
            }
        };
        let name = match selector.as_deref().map(|s| (s, s.parse::<Digest>())) {
            None => name,
            Some((text, Ok(_))) => {
                let hex = text.split_once(':').map_or(text, |(_, hex)| hex);
                format!("{name}-{}", hex.get(..SHORT_DIGEST).unwrap_or(hex))
            }
            Some((text, Err(_))) => format!("{name}-{text}"),
        };
        let no_dash = |c: char| c == '/' || c == ':' || c == '@' || c.is_control();
        name.replace(no_dash, "-").parse().ok()
    }
}
