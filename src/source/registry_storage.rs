//! The storage folder of a `distribution` registry, read in place (`registry-storage:`).
//!
//! ```text
//! docker/registry/v2/
//!   blobs/sha256/ab/ab12…/data                                     all blobs, also manifests
//!   repositories/NAME/_manifests/tags/TAG/current/link             a digest, as text
//!   repositories/NAME/_manifests/tags/TAG/index/sha256/ab12…/link  what the tag has meant
//!   repositories/NAME/_manifests/revisions/sha256/ab12…/link       the manifests of a repository
//! ```
//!
//! A `link` that is a symlink is not followed: its text stands in messages.
//!
//! The registry need not run, and does not notice. Its garbage collection may take blobs away, like
//! from everybody who uses the folder.

use std::cmp::Reverse;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::archive::Files;
use super::referrers_tag::referrers_tag;
use super::{Error, Named, Opened, RawDocument, Repository, Revision, Source, Tags};
use crate::digest::Digest;
use crate::oci::{Descriptor, Document, ImageIndex, MAX_MANIFEST_BYTES};
use crate::reference::{Reference, is_tag};

/// Where the registry puts its folders below the one that its configuration names.
const PREFIX: &str = "docker/registry/v2";

/// Longest text of a digest in a link, in bytes.
const MAX_LINK_BYTES: u64 = 256;

/// Names of tags or repositories that are looked at for a message.
const MAX_LISTED: usize = 200;

/// Tags that are listed.
const MAX_TAGS: usize = 100_000;

/// Manifests of a repository, or meanings of a tag, that are looked at.
const MAX_REVISIONS: usize = 1000;

/// An image in a registry's storage.
#[derive(Debug)]
pub struct RegistryStorage {
    files: Files,
    image: Reference,
}

impl RegistryStorage {
    /// Opens the folder, which may be given with or without `docker/registry/v2`. Only repository,
    /// tag and digest of the reference count.
    ///
    /// # Errors
    /// It is no such folder.
    pub fn open(path: &Path, image: Reference) -> Result<RegistryStorage, Error> {
        let is_storage = |folder: &PathBuf| folder.join("repositories").is_dir();
        let Some(folder) = [path.join(PREFIX), path.to_owned()].into_iter().find(is_storage) else {
            let what = format!("not the storage of a registry: it has no `{PREFIX}/repositories`");
            return Err(Error::invalid(path, what));
        };
        Ok(RegistryStorage { files: Files::Folder(folder), image })
    }

    fn manifests(&self) -> String {
        format!("repositories/{}/_manifests", self.image.repository())
    }

    /// The digest that the name means.
    fn digest(&self) -> Result<Digest, Error> {
        let place = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => {
                let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
                format!("revisions/{algorithm}/{hex}")
            }
            (None, tag) => format!("tags/{}/current", tag.unwrap_or("latest")),
        };
        self.link(&place)?.ok_or_else(|| self.no_such_image())
    }

    /// The digest that a link holds; `None` if it is not there.
    fn link(&self, place: &str) -> Result<Option<Digest>, Error> {
        let link = format!("{}/{place}/link", self.manifests());
        let Some(section) = self.files.open_itself(&link)? else { return Ok(None) };
        let path = self.files.path().join(&link);
        let text = section.read_all(MAX_LINK_BYTES).map_err(|e| Error::file(&path, e))?;
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map(Some).map_err(|e| Error::invalid(path, e))
    }

    /// A descriptor for a blob by its digest; `None` if it is not there.
    fn of_digest(&self, digest: &Digest) -> Result<Option<Descriptor>, Error> {
        let section = self.files.open(&Self::blob_path(digest))?;
        // What it is, it says itself.
        Ok(section.map(|section| Descriptor {
            media_type: String::new(),
            size: section.len(),
            ..Descriptor::of_manifest(*digest)
        }))
    }

    /// The manifests of the repository.
    fn revisions_of_all(&self) -> Vec<Digest> {
        let folder = self.files.path().join(self.manifests()).join("revisions/sha256");
        let names = folders_up_to(&folder, MAX_REVISIONS);
        names.filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect()
    }

    fn no_such_image(&self) -> Error {
        let root = self.files.path().to_owned();
        let repository = self.image.repository();
        let wanted = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, tag) => format!("{repository}:{}", tag.unwrap_or("latest")),
        };
        let mut available: Vec<String> = folders(&root.join(self.manifests()).join("tags"))
            .map(|tag| format!("{repository}:{tag}"))
            .collect();
        if available.is_empty() {
            available = repositories(&root.join("repositories"));
        }
        available.sort();
        Error::NoSuchImage { path: root, wanted, available }
    }

    fn blob_path(digest: &Digest) -> String {
        let hex = digest.hex();
        format!("blobs/{}/{}/{hex}/data", digest.algorithm().name(), &hex[..2])
    }
}

/// The names of folders in one, for a message.
fn folders(path: &Path) -> impl Iterator<Item = String> {
    folders_up_to(path, MAX_LISTED)
}

/// The names of so many folders in one.
fn folders_up_to(path: &Path, most: usize) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(path).into_iter().flatten().take(most).flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The names of some repositories, which may lie in each other.
fn repositories(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo: Vec<String> = folders(root).collect();
    for _ in 0..MAX_LISTED {
        let Some(name) = todo.pop() else { break };
        for folder in folders(&root.join(&name)) {
            match folder.as_str() {
                "_manifests" => found.push(name.clone()),
                folder if folder.starts_with('_') => {}
                folder => todo.push(format!("{name}/{folder}")),
            }
        }
    }
    found
}

impl Source for RegistryStorage {
    fn root(&self) -> Result<RawDocument, Error> {
        let digest = self.digest()?;
        let bytes = self.files.read(&Self::blob_path(&digest), MAX_MANIFEST_BYTES)?;
        Ok(RawDocument { bytes, media_type: None, digest: Some(digest) })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        Ok(RawDocument {
            bytes: self.files.read(&Self::blob_path(&descriptor.digest), MAX_MANIFEST_BYTES)?,
            media_type: Some(descriptor.media_type.clone()).filter(|t| !t.is_empty()),
            digest: Some(descriptor.digest),
        })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.files.blob(&Self::blob_path(&descriptor.digest), descriptor, range)
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Some(self)
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        matches!(self.files.open(&Self::blob_path(&descriptor.digest)), Ok(Some(_)))
    }
}

impl Repository for RegistryStorage {
    fn named(&self, name: Named<'_>) -> Result<RawDocument, Error> {
        let digest = match name {
            Named::Digest(digest) => Some(*digest),
            Named::Tag(tag) => self.link(&format!("tags/{tag}/current"))?,
        };
        let missing = || {
            let what = match name {
                Named::Digest(digest) => format!("manifest `{digest}`"),
                Named::Tag(tag) => format!("manifest `{tag}`"),
            };
            Error::Missing { path: self.files.path().to_owned(), what }
        };
        let found = digest.map(|digest| self.of_digest(&digest)).transpose()?.flatten();
        self.document(&found.ok_or_else(missing)?)
    }

    fn tags(&self) -> Result<Tags, Error> {
        let folder = self.files.path().join(self.manifests()).join("tags");
        let names: Vec<String> =
            folders_up_to(&folder, MAX_TAGS).filter(|tag| is_tag(tag)).collect();
        let is_cut = names.len() == MAX_TAGS;
        let cut = is_cut.then(|| format!("it has {MAX_TAGS} tags or more"));
        match names.is_empty() && !folder.is_dir() {
            true => Err(self.no_such_image()),
            false => Ok(Tags { names, cut }),
        }
    }

    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        let digest = self.link(&format!("tags/{tag}/current"))?;
        digest.map_or(Ok(None), |digest| self.of_digest(&digest))
    }

    fn revisions(&self, tag: &str) -> Result<Vec<Revision>, Error> {
        let place = format!("tags/{tag}/index/sha256");
        let folder = self.files.path().join(self.manifests()).join(&place);
        let mut found = Vec::new();
        for name in folders_up_to(&folder, MAX_REVISIONS) {
            let Some(digest) = self.link(&format!("{place}/{name}"))? else { continue };
            let written = fs::symlink_metadata(folder.join(&name).join("link"));
            let written = written.and_then(|link| link.modified()).ok();
            let pushed = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let pushed = pushed.and_then(|since| i64::try_from(since.as_secs()).ok());
            found.push(Revision { digest, pushed });
        }
        found.sort_by_key(|revision| (Reverse(revision.pushed), revision.digest));
        Ok(found)
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let is_of_type = |own: &Option<String>| match (own.as_deref(), artifact_type) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let mut found = Vec::new();
        for digest in self.revisions_of_all() {
            let Some(descriptor) = self.of_digest(&digest)? else { continue };
            let Ok(document) = self.document(&descriptor) else { continue };
            let Ok(document) = Document::parse(&document.bytes, None) else { continue };
            let is_about = document.subject().is_some_and(|of| of.digest == *subject);
            let own = match &document {
                Document::Manifest(manifest) => Some(manifest.kind().to_owned()),
                Document::Index(index) => index.artifact_type.clone(),
            };
            if is_about && is_of_type(&own) {
                let media_type = document.media_type().to_owned();
                found.push(Descriptor { media_type, artifact_type: own, ..descriptor });
            }
        }
        if let Some(list) = self.link(&format!("tags/{}/current", referrers_tag(subject)))?
            && let Some(list) = self.of_digest(&list)?
            && let Ok(list) = ImageIndex::parse(&self.document(&list)?.bytes)
        {
            for listed in list.entries.usable().filter(|listed| is_of_type(&listed.artifact_type)) {
                if found.iter().all(|known: &Descriptor| known.digest != listed.digest) {
                    found.push(listed.clone());
                }
            }
        }
        Ok(found)
    }

    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>, Error> {
        self.of_digest(digest)
    }
}
