//! containerd's content store, read in place (`containerd:`).
//!
//! ```text
//! ROOT/io.containerd.content.v1.content/blobs/sha256/ab12…     blobs as they were pulled
//! ROOT/io.containerd.metadata.v1.bolt/meta.db                  names, a bbolt database:
//!   v1/NAMESPACE/images/NAME/target/{digest,mediatype,size}    what an image's name means
//! ```
//!
//! Names are what clients make of them: full references mostly, and for Kubernetes also
//! `sha256:CONFIG`. The first component of what a user types is a namespace if the store has one of
//! that name with such an image; otherwise all of it is looked for in every namespace, and has to mean
//! one thing.
//!
//! The database is read without its lock, which the daemon holds as long as it runs; see
//! [`bolt`] for why that is right. Blobs may go at any time: when the image is removed, or
//! because the daemon was told to keep no blob that it has unpacked (`discard_unpacked_layers`).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::archive::{Files, open_regular};
use super::{Error, Opened, RawDocument, Source};
use crate::bolt::{self, Bucket, Pages, Snapshot};
use crate::digest::Digest;
use crate::oci::{Descriptor, MAX_MANIFEST_BYTES};
use crate::reference::Reference;

/// Where containerd keeps its content: alone or under Docker, and of k3s, RKE2, k0s and MicroK8s.
pub(super) const USUAL_ROOTS: [&str; 6] = [
    "/var/lib/containerd",
    "/var/lib/rancher/k3s/agent/containerd",
    "/var/lib/rancher/rke2/agent/containerd",
    "/var/lib/k0s/containerd",
    "/var/snap/microk8s/common/var/lib/containerd",
    "/var/lib/docker/containerd/daemon",
];

const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// Where the content is below the root.
pub const CONTENT_FOLDER: &str = "io.containerd.content.v1.content";

/// How often a database that changes while it is read is read again, and the pause in between.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Names that are kept of one store, for matching and for messages.
const MAX_NAMES: usize = 100_000;

/// Longest name of an image or namespace, in bytes; others are not in use. A reference has 400 at most.
const MAX_NAME_BYTES: usize = 1024;

/// An image that containerd has.
#[derive(Debug)]
pub struct Containerd {
    files: Files,
    /// Its name there.
    name: String,
    target: Digest,
}

/// A name in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    namespace: String,
    name: String,
    target: Digest,
}

impl Entry {
    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Containerd {
    /// Opens the first of several stores that has the image.
    ///
    /// # Errors
    /// There is no store, none has the image, or what was typed means several.
    pub fn open(roots: &[PathBuf], image: &str) -> Result<Containerd, Error> {
        let mut failure = None;
        for root in roots {
            let entries = match entries(&root.join(DATABASE)) {
                Ok(entries) => entries,
                Err(e) if e.is_not_there() => continue,
                Err(e) => {
                    failure.get_or_insert(e);
                    continue;
                }
            };
            match choose(&entries, image, root) {
                Ok(entry) => {
                    log::info!("containerd: {} in {}", entry.full_name(), root.display());
                    let files = Files::Folder(root.join(CONTENT_FOLDER));
                    return Ok(Containerd {
                        files,
                        name: entry.name.clone(),
                        target: entry.target,
                    });
                }
                Err(e @ Error::Ambiguous { .. }) => return Err(e),
                Err(e) => drop(failure.get_or_insert(e)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let places: Vec<String> = roots.iter().map(|r| r.display().to_string()).collect();
            let what = format!(
                "there is no containerd here, looked for `{DATABASE}` in {}; name its root: \
                 containerd:ROOT//{image}",
                places.join(", ")
            );
            Error::invalid("containerd", what)
        }))
    }

    /// Says why a blob may be missing, and where else it is.
    fn explained(&self, error: Error) -> Error {
        match error {
            Error::Missing { path, what } => Error::Dropped {
                path,
                what,
                why: format!(
                    "containerd has not pulled it, or dropped it after unpacking \
                     (`discard_unpacked_layers`); take the image from its registry: `{}`",
                    self.name
                ),
            },
            error => error,
        }
    }
}

/// The names of all images in the stores that can be read, each behind its namespace.
pub(super) fn names(roots: &[PathBuf]) -> Vec<String> {
    let stores = roots.iter().map(|root| root.join(DATABASE));
    let found = stores.flat_map(|database| match entries(&database) {
        Ok(entries) => entries,
        Err(e) if e.is_not_there() => Vec::new(),
        Err(e) => {
            log::info!("{}: its images can't be listed: {e}", database.display());
            Vec::new()
        }
    });
    found.map(|entry| entry.full_name()).collect()
}

/// Where a blob is below the folder of the content.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// All names of images in a database.
fn entries(path: &Path) -> Result<Vec<Entry>, Error> {
    let denied = "containerd's store belongs to root: run this as root";
    let file = open_regular(path).map_err(|e| Error::denied_or(path, e, denied))?;
    let mut failure = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        let read = Snapshot::open(&file).and_then(|snapshot| {
            let entries = read_entries(&snapshot)?;
            Ok((entries, snapshot.is_newest()))
        });
        match read {
            Ok((entries, true)) => return Ok(entries),
            Ok((_, false)) => failure = "it changes all the time".to_owned(),
            Err(e) => failure = e.to_string(),
        }
    }
    Err(Error::invalid(path, failure))
}

fn read_entries<P: Pages + ?Sized>(snapshot: &Snapshot<'_, P>) -> Result<Vec<Entry>, bolt::Error> {
    let mut found = Vec::new();
    let sub = |bucket: &Bucket, key: &[u8]| {
        Ok::<_, bolt::Error>(snapshot.get(bucket, key)?.and_then(bolt::Item::bucket))
    };
    let Some(v1) = sub(&snapshot.root(), b"v1")? else { return Ok(found) };
    snapshot.for_each(&v1, &mut |namespace, item| {
        let Some(bucket) = item.bucket().filter(|_| namespace.len() <= MAX_NAME_BYTES) else {
            return Ok(true);
        };
        let Some(images) = sub(&bucket, b"images")? else { return Ok(true) };
        let namespace = String::from_utf8_lossy(namespace).into_owned();
        snapshot.for_each(&images, &mut |name, item| {
            let Some(image) = item.bucket().filter(|_| name.len() <= MAX_NAME_BYTES) else {
                return Ok(true);
            };
            let Some(target) = sub(&image, b"target")? else { return Ok(true) };
            let digest = snapshot.get(&target, b"digest")?.and_then(bolt::Item::value);
            let digest = digest.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
            if let (Some(target), Ok(name)) = (digest, std::str::from_utf8(name)) {
                let (namespace, name) = (namespace.clone(), name.to_owned());
                found.push(Entry { namespace, name, target });
            }
            Ok(found.len() < MAX_NAMES)
        })?;
        Ok(found.len() < MAX_NAMES)
    })?;
    Ok(found)
}

/// The entry that a user means.
fn choose<'a>(entries: &'a [Entry], image: &str, root: &Path) -> Result<&'a Entry, Error> {
    if let Some((first, rest)) = image.split_once('/') {
        let here: Vec<&Entry> = entries.iter().filter(|entry| entry.namespace == first).collect();
        if let Some(entry) = matching(&here, rest).first() {
            return Ok(entry);
        }
    }
    let found = matching(&entries.iter().collect::<Vec<_>>(), image);
    let names = |entries: &[&Entry]| {
        let mut names: Vec<String> = entries.iter().map(|entry| entry.full_name()).collect();
        names.sort();
        names
    };
    match found.first() {
        None => Err(Error::NoSuchImage {
            path: root.to_owned(),
            wanted: image.to_owned(),
            available: names(&entries.iter().collect::<Vec<_>>()),
        }),
        Some(first) if found.iter().all(|entry| entry.target == first.target) => Ok(first),
        Some(_) => Err(Error::Ambiguous { path: root.to_owned(), available: names(&found) }),
    }
}

/// The entries of exactly this name, or else of what it means as a reference or digest.
fn matching<'a>(entries: &[&'a Entry], image: &str) -> Vec<&'a Entry> {
    let exact: Vec<&Entry> = entries.iter().copied().filter(|e| e.name == image).collect();
    if !exact.is_empty() {
        return exact;
    }
    let digest = image.parse::<Digest>().ok();
    let wanted = image.parse::<Reference>().ok();
    let is_meant = |entry: &&Entry| {
        if digest.is_some() {
            return digest == Some(entry.target);
        }
        let Some(wanted) = &wanted else { return false };
        let Ok(name) = entry.name.parse::<Reference>() else { return false };
        let is_repository =
            (name.registry(), name.repository()) == (wanted.registry(), wanted.repository());
        is_repository
            && match wanted.digest() {
                Some(digest) => digest == entry.target,
                None => wanted.tag() == name.tag(),
            }
    };
    entries.iter().copied().filter(is_meant).collect()
}

impl Source for Containerd {
    fn root(&self) -> Result<RawDocument, Error> {
        let bytes = self.files.read(&blob_path(&self.target), MAX_MANIFEST_BYTES);
        let bytes = bytes.map_err(|e| self.explained(e))?;
        Ok(RawDocument { bytes, media_type: None, digest: Some(self.target) })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let bytes = self.files.read(&blob_path(&descriptor.digest), MAX_MANIFEST_BYTES);
        Ok(RawDocument {
            bytes: bytes.map_err(|e| self.explained(e))?,
            media_type: Some(descriptor.media_type.clone()).filter(|t| !t.is_empty()),
            digest: Some(descriptor.digest),
        })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        let opened = self.files.blob(&blob_path(&descriptor.digest), descriptor, range);
        opened.map_err(|e| self.explained(e))
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        matches!(self.files.open(&blob_path(&descriptor.digest)), Ok(Some(_)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bolt::tests::writer::{Tree, database};

    fn entry(namespace: &str, name: &str, content: &str) -> Entry {
        let target = Digest::sha256(content.as_bytes());
        Entry { namespace: namespace.to_owned(), name: name.to_owned(), target }
    }

    #[test]
    fn endless_names_are_left_out() {
        let digest = Digest::sha256(b"").to_string();
        let image = || {
            let target = Tree::default().value("digest", digest.as_bytes());
            Tree::default().bucket("target", target)
        };
        let endless = "n".repeat(MAX_NAME_BYTES + 1);
        let images = Tree::default().bucket("app", image()).bucket(&endless, image());
        let namespace = || Tree::default().bucket("images", images.clone());
        let namespaces = Tree::default().bucket("default", namespace());
        let namespaces = namespaces.bucket(&endless, namespace());
        let file = database(&Tree::default().bucket("v1", namespaces), 10);
        let found = read_entries(&Snapshot::open(&file[..]).unwrap()).unwrap();
        let names: Vec<String> = found.iter().map(Entry::full_name).collect();
        assert_eq!(names, ["default/app"]);
    }

    #[test]
    fn what_a_name_means() {
        let entries = [
            entry("default", "docker.io/library/debian:12", "a"),
            entry("k8s.io", "docker.io/library/debian:12", "b"),
            entry("k8s.io", "docker.io/library/alpine:3", "c"),
            entry("moby", "docker.io/library/alpine:3", "c"),
            entry("k8s.io", "sha256:1234", "d"),
            entry("docker.io", "odd", "e"),
        ];
        let full = |text: &str| {
            let chosen = choose(&entries, text, Path::new("/store"));
            chosen.map(Entry::full_name).map_err(|e| e.to_string())
        };
        let of = |text: &str, expected: &str| assert_eq!(full(text).unwrap(), expected, "{text}");
        of("k8s.io/debian:12", "k8s.io/docker.io/library/debian:12");
        of("default/docker.io/library/debian:12", "default/docker.io/library/debian:12");
        of("alpine:3", "k8s.io/docker.io/library/alpine:3");
        of("docker.io/library/alpine:3", "k8s.io/docker.io/library/alpine:3");
        of("sha256:1234", "k8s.io/sha256:1234");
        of("k8s.io/sha256:1234", "k8s.io/sha256:1234");
        of("docker.io/odd", "docker.io/odd");
        of("odd", "docker.io/odd");
        of(&Digest::sha256(b"d").to_string(), "k8s.io/sha256:1234");
        of(&format!("debian@{}", Digest::sha256(b"a")), "default/docker.io/library/debian:12");
        let error = full("debian:12").unwrap_err();
        assert!(error.contains("several images"), "{error}");
        assert!(error.contains("default/docker.io/library/debian:12, k8s.io/"), "{error}");
        let error = full("moby/debian:12").unwrap_err();
        assert!(error.contains("no image `moby/debian:12`"), "{error}");
    }
}
