//! The storage folder of a `distribution` registry, read in place (`registry-storage:`).
//!
//! ```text
//! docker/registry/v2/
//!   blobs/sha256/ab/ab12…/data                                     all blobs, also manifests
//!   repositories/NAME/_manifests/tags/TAG/current/link             a digest, as text
//!   repositories/NAME/_manifests/revisions/sha256/ab12…/link       the manifests of a repository
//! ```
//!
//! A `link` that is a symlink is not followed: its text stands in messages.
//!
//! The registry need not run, and does not notice. Its garbage collection may take blobs away, like
//! from everybody who uses the folder.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::archive::Files;
use super::{Error, Opened, RawDocument, Source};
use crate::digest::Digest;
use crate::oci::{Descriptor, MAX_MANIFEST_BYTES};
use crate::reference::Reference;

/// Where the registry puts its folders below the one that its configuration names.
const PREFIX: &str = "docker/registry/v2";

/// Longest text of a digest in a link, in bytes.
const MAX_LINK_BYTES: u64 = 256;

/// Names of tags or repositories that are looked at for a message.
const MAX_LISTED: usize = 200;

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
        let link = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => {
                let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
                format!("{}/revisions/{algorithm}/{hex}/link", self.manifests())
            }
            (None, tag) => {
                format!("{}/tags/{}/current/link", self.manifests(), tag.unwrap_or("latest"))
            }
        };
        let Some(section) = self.files.open_itself(&link)? else {
            return Err(self.no_such_image());
        };
        let path = self.files.path().join(&link);
        let text = section.read_all(MAX_LINK_BYTES).map_err(|e| Error::file(&path, e))?;
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map_err(|e| Error::invalid(path, e))
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

/// The names of folders in one.
fn folders(path: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(path).into_iter().flatten().take(MAX_LISTED).flatten();
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

    fn has(&self, descriptor: &Descriptor) -> bool {
        matches!(self.files.open(&Self::blob_path(&descriptor.digest)), Ok(Some(_)))
    }
}
