//! Images on disk: a folder, an archive or a stream, and which of its images.
//!
//! `oci:PATH[:REF]` and its like say the shape; a path alone (`./x.tar`, `/srv/layout/`, `-`) does not, and
//! the shape is recognised when it is opened. Paths may have colons in them, as archives are named after images
//! (`ubuntu:22.04.tar`). A text alone does not say where such a path ends, so parsing takes
//! skopeo's rule (at the first colon), and [`LocalSource::readings`] are all the ways to read it, for
//! a caller that can look which of the paths exists.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::ParseError;
use crate::digest::Digest;

/// A file or folder with images in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalSource {
    /// How the images are laid out there.
    pub layout: LocalLayout,
    /// The folder or archive; `-` is standard input.
    pub path: PathBuf,
    /// Which image, when the user said so; without it there must be exactly one.
    pub selector: Option<String>,
}

/// The shapes in which images lie on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalLayout {
    /// `oci:` an OCI image layout in a folder.
    OciLayout,
    /// `oci-archive:` a tar of an OCI image layout.
    OciArchive,
    /// `docker-archive:` the output of `docker save`, old or new.
    DockerArchive,
    /// `dir:` skopeo's folder with `manifest.json` and blobs by hex name.
    Dir,
    /// A path alone: any of these, recognised by its content.
    ByContent,
}

impl LocalLayout {
    /// The transport word before the colon; nothing for a path alone.
    pub fn transport(self) -> &'static str {
        match self {
            LocalLayout::OciLayout => "oci",
            LocalLayout::OciArchive => "oci-archive",
            LocalLayout::DockerArchive => "docker-archive",
            LocalLayout::Dir => "dir",
            LocalLayout::ByContent => "",
        }
    }

    /// Whether it may come as a stream.
    fn is_archive(self) -> bool {
        matches!(
            self,
            LocalLayout::OciArchive | LocalLayout::DockerArchive | LocalLayout::ByContent
        )
    }
}

/// Names under which a process finds its standard input.
const STANDARD_INPUT: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Ends of the names of archives.
const ARCHIVE_SUFFIXES: [&str; 8] =
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".tar.bz2", ".oci"];

/// Whether a text is a path by how it begins: nothing in a registry is named so.
pub(super) fn is_path(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    let first =
        if text.contains('/') { first } else { text.split([':', '@']).next().unwrap_or("") };
    match first {
        "" => text.starts_with('/'),
        "." | ".." | "~" => true,
        "-" => !text.contains('/'),
        _ => false,
    }
}

impl LocalSource {
    /// Parses what stands behind the colon of a transport, or a path alone.
    pub(super) fn parse(layout: LocalLayout, rest: &str) -> Result<LocalSource, ParseError> {
        // skopeo's rule: the path ends at the first colon. `dir:` has no selector.
        let (path, selector) = match (layout, rest.split_once(':')) {
            (LocalLayout::Dir, _) | (_, None) => (rest, None),
            (_, Some((path, selector))) => (path, Some(selector)),
        };
        let source = LocalSource::split(layout, path, selector);
        if source.path.as_os_str().is_empty() {
            return Err(ParseError::MissingPath { transport: layout.transport() });
        }
        Ok(source)
    }

    /// A text without a transport that does not begin like a path, read as one all the same: `x.tar`,
    /// `build/layout:v1`.
    pub fn bare(text: &str) -> LocalSource {
        let (path, selector) = match text.split_once(':') {
            Some((path, selector)) => (path, Some(selector)),
            None => (text, None),
        };
        LocalSource::split(LocalLayout::ByContent, path, selector)
    }

    /// A digest is written after an at sign: `oci:PATH@sha256:…`.
    fn split(layout: LocalLayout, path: &str, selector: Option<&str>) -> LocalSource {
        let (path, selector) = match (path.rsplit_once('@'), selector) {
            (Some((before, algorithm @ ("sha256" | "sha512"))), Some(hex)) => {
                (before, Some(format!("{algorithm}:{hex}")))
            }
            (_, selector) => (path, selector.filter(|s| !s.is_empty()).map(without_at)),
        };
        LocalSource { layout, path: PathBuf::from(path), selector }
    }

    /// All ways to read the path and the selector as a path and a selector, the longest path first.
    pub fn readings(&self) -> Vec<LocalSource> {
        let text = self.rest();
        let mut readings = vec![LocalSource::split(self.layout, &text, None)];
        if self.layout != LocalLayout::Dir {
            let colons = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
            readings.extend(
                colons.map(|(path, rest)| LocalSource::split(self.layout, path, Some(rest))),
            );
        }
        readings.retain(|reading| !reading.path.as_os_str().is_empty());
        readings
    }

    /// Whether it comes on standard input.
    pub fn is_standard_input(&self) -> bool {
        self.layout.is_archive() && STANDARD_INPUT.iter().any(|name| self.path == Path::new(name))
    }

    /// Whether the path was written as a registry's image could be.
    pub fn is_bare(&self) -> bool {
        self.layout == LocalLayout::ByContent
            && self.path.to_str().is_some_and(|path| !is_path(path) && !path.is_empty())
    }

    /// Whether the path is called what archives are called.
    pub fn has_archive_name(&self) -> bool {
        let name = self.path.to_string_lossy().to_ascii_lowercase();
        ARCHIVE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
    }

    /// Path and selector as they are written.
    fn rest(&self) -> String {
        let path = self.path.display();
        let Some(selector) = &self.selector else { return path.to_string() };
        let is_digest = selector.split_once(':').is_some_and(|(algorithm, hex)| {
            matches!(algorithm, "sha256" | "sha512") && !hex.is_empty()
        });
        format!("{path}{}{selector}", if is_digest { '@' } else { ':' })
    }
}

impl fmt::Display for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layout {
            LocalLayout::ByContent if self.is_bare() => write!(f, "./{}", self.rest()),
            LocalLayout::ByContent => f.write_str(&self.rest()),
            layout => write!(f, "{}:{}", layout.transport(), self.rest()),
        }
    }
}

/// A selector; a digest may have an at sign before it, as a position has: `@sha256:…`.
fn without_at(selector: &str) -> String {
    let digest = selector.strip_prefix('@').filter(|rest| rest.parse::<Digest>().is_ok());
    digest.unwrap_or(selector).to_owned()
}
