//! An image of a Docker engine, asked over its socket (`docker-daemon:`).
//!
//! # Design
//!
//! What Docker keeps on disk is its own business (and that of its storage driver), but `GET
//! /images/ID/get` gives what `docker save` writes. That stream has no ranges, so it is taken once,
//! into a temporary file, and read there like any archive, for as long as this source is open. It is
//! taken only when something is wanted that the cache does not have: the caller may remember the
//! [`Documents`] of an image by its ID, and the content of its layers is in the cache like that
//! of any other image.
//!
//! A name is turned into an ID first, so that it does not come to mean another image in between.

mod http;

pub(in crate::source) use http::Silent;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::archive::Archive;
use super::{Error, Opened, RawDocument, Source, docker_archive};
use crate::bounded;
use crate::digest::Digest;
use crate::json::{self, Attempt};
use crate::oci::{Descriptor, Document, MAX_CONFIG_BYTES, Manifest, media_type};

/// Where an engine listens if nothing else is said.
pub(super) const USUAL_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Largest answer to something small, in bytes. The list of images is the longest.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Images of an index whose documents are remembered: each may take megabytes.
const MAX_REMEMBERED: usize = 16;

const DENIED: &str = "an engine's socket is for root and the group `docker`";

/// The documents of an image, which lead to everything else.
#[derive(Clone, Debug)]
pub struct Documents {
    /// What the name means: a manifest, or an index of what the engine has of it.
    pub root: Vec<u8>,
    /// Manifests and configs below it.
    pub others: Vec<Vec<u8>>,
}

/// An image that an engine has.
#[derive(Debug)]
pub struct DockerDaemon {
    socket: PathBuf,
    spool: PathBuf,
    id: Digest,
    /// How long an answer may take.
    timeout: Duration,
    /// What the name means, if the caller remembered it.
    root: Option<Vec<u8>>,
    archive: Mutex<Option<Arc<dyn Source>>>,
}

/// What an engine says of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: Digest,
}

/// What an engine says when something is wrong.
#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// A row of an engine's list of images.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    repo_tags: Vec<String>,
}

impl DockerDaemon {
    /// Asks the first engine that listens for an image; `spool` is a folder for temporary files. An
    /// answer may take as long as `timeout`, and half as long again if it is an image: old engines
    /// unpack all of it to a temporary folder before they send anything.
    ///
    /// # Errors
    /// No engine answers, or it does not have the image.
    pub fn open(
        sockets: &[PathBuf],
        image: &str,
        spool: PathBuf,
        timeout: Duration,
    ) -> Result<DockerDaemon, Error> {
        let places: Vec<String> = sockets.iter().map(|s| s.display().to_string()).collect();
        let Some(socket) = sockets.iter().find(|socket| socket.exists()) else {
            let what = format!(
                "no engine listens at {}; start one, or say where it is with DOCKER_HOST=unix://…",
                places.join(", ")
            );
            return Err(Error::invalid("docker-daemon", what));
        };
        // The letters of a reference need no escapes in a path.
        let id = match ask(socket, &format!("/images/{image}/json"), timeout)? {
            Ok(bytes) => {
                let inspected: Inspected = json::from_slice(&bytes)
                    .map_err(|e| Error::invalid(socket, format!("the engine's answer: {e}")))?;
                inspected.id
            }
            Err((404, _)) => {
                let (path, wanted) = (socket.clone(), image.to_owned());
                return Err(Error::NoSuchImage { path, wanted, available: names(socket, timeout) });
            }
            Err((status, message)) => return Err(refused(socket, status, &message)),
        };
        let (socket, archive) = (socket.clone(), Mutex::default());
        Ok(DockerDaemon { socket, spool, id, timeout, root: None, archive })
    }

    /// The image's ID, which names its content.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The same with the root of its [`Documents`] as they were found the last time for this ID.
    pub fn remembering(mut self, root: Vec<u8>) -> DockerDaemon {
        self.root = Some(root);
        self
    }

    /// Takes the image from the engine for its documents; `None` if they are so nested or so many that
    /// it is not worth it, or not bound to the ID, under which others would find them.
    ///
    /// # Errors
    /// It does not give it.
    pub fn documents(&self) -> Result<Option<Documents>, Error> {
        let archive = self.archive()?;
        let root = archive.root()?;
        let is_named = self.id.matches(&root.bytes);
        let mut others = Vec::new();
        let root = match Document::parse(&root.bytes, root.media_type.as_deref()) {
            // Classic engines call an image by its config.
            Ok(Document::Manifest(manifest)) if is_named || manifest.config.digest == self.id => {
                others.extend(config(archive.as_ref(), &manifest)?);
                root.bytes
            }
            Ok(Document::Index(index)) if is_named => {
                let mut present = Vec::new();
                for (at, entry) in index.entries.0.iter().enumerate() {
                    let Ok(descriptor) = entry else { continue };
                    if !archive.has(descriptor) {
                        continue;
                    }
                    if present.len() >= MAX_REMEMBERED {
                        return Ok(None);
                    }
                    let bytes = archive.document(descriptor)?.bytes;
                    let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None) else {
                        return Ok(None);
                    };
                    present.push(at);
                    others.extend(config(archive.as_ref(), &manifest)?);
                    others.push(bytes);
                }
                let Some(root) = only(&root.bytes, &present) else { return Ok(None) };
                root
            }
            _ => return Ok(None),
        };
        Ok(Some(Documents { root, others }))
    }

    /// The image as an archive, taken from the engine unless that is done.
    fn archive(&self) -> Result<Arc<dyn Source>, Error> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(archive) = &*archive {
            return Ok(Arc::clone(archive));
        }
        let file = self.fetch()?;
        let opened = Archive::open_file_at(file, &self.socket, &self.spool)?;
        let opened = docker_archive::open_archive(opened, None)?;
        *archive = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn fetch(&self) -> Result<File, Error> {
        let target = format!("/images/{}/get", self.id);
        let spooled = |e| Error::file(&self.spool, e);
        let mut answer = http::get(&self.socket, &target, self.timeout + self.timeout / 2)
            .map_err(|e| unanswered(&self.socket, e))?;
        if answer.status != 200 {
            let message = complaint(&mut answer.body);
            return Err(refused(&self.socket, answer.status, &message));
        }
        log::info!("taking image {} from {}", self.id, self.socket.display());
        let mut file = tempfile::tempfile_in(&self.spool).map_err(spooled)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = answer.body.read(&mut buffer).map_err(|e| unanswered(&self.socket, e))?;
            if n == 0 {
                break;
            }
            file.write_all(&buffer[..n]).map_err(spooled)?;
        }
        file.rewind().map_err(spooled)?;
        Ok(file)
    }
}

/// The config of a manifest, if it is what its descriptor says.
fn config(archive: &dyn Source, manifest: &Manifest) -> Result<Option<Vec<u8>>, Error> {
    let Descriptor { digest, size, .. } = manifest.config;
    if size > MAX_CONFIG_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // A whole blob may be longer than it should be.
    let body = archive.blob(&manifest.config, 0..size)?.body;
    let read = body.take(size + 1).read_to_end(&mut bytes).is_ok();
    Ok(Some(bytes).filter(|bytes| read && digest.matches(bytes)))
}

/// An index with only some of its entries, by position.
fn only(index: &[u8], present: &[usize]) -> Option<Vec<u8>> {
    let index: serde_json::Value = json::from_slice(index).ok()?;
    let entries = index.get("manifests")?.as_array()?;
    let entries: Vec<_> = present.iter().filter_map(|at| entries.get(*at)).collect();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    Some(index.to_string().into_bytes())
}

/// An answer that is small: its bytes, or status and message.
type Small = Result<Vec<u8>, (u16, String)>;

fn ask(socket: &Path, target: &str, timeout: Duration) -> Result<Small, Error> {
    let failed = |e| unanswered(socket, e);
    let mut answer = http::get(socket, target, timeout).map_err(failed)?;
    if answer.status != 200 {
        return Ok(Err((answer.status, complaint(&mut answer.body))));
    }
    bounded::read_all(answer.body, MAX_ANSWER_BYTES).map(Ok).map_err(failed)
}

/// The names of an engine's images, for a message.
fn names(socket: &Path, timeout: Duration) -> Vec<String> {
    let Ok(Ok(bytes)) = ask(socket, "/images/json", timeout) else { return Vec::new() };
    let rows: Vec<Attempt<Listed>> = json::from_slice(&bytes).unwrap_or_default();
    let rows = rows.into_iter().filter_map(|row| row.0.ok());
    let mut names: Vec<String> = rows.flat_map(|row| row.repo_tags).collect();
    names.sort();
    names
}

/// The names of the images of the first engine that listens; none if none does.
pub(super) fn all_names(sockets: &[PathBuf], timeout: Duration) -> Vec<String> {
    let socket = sockets.iter().find(|socket| socket.exists());
    socket.map_or_else(Vec::new, |socket| names(socket, timeout))
}

fn complaint(body: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A reason that can't be read is none.
    let _ = body.take(64 << 10).read_to_end(&mut bytes);
    match json::first_value::<Complaint>(&bytes) {
        Ok(complaint) if !complaint.message.is_empty() => complaint.message,
        _ => String::from_utf8_lossy(&bytes).chars().take(200).collect(),
    }
}

fn refused(socket: &Path, status: u16, message: &str) -> Error {
    Error::invalid(socket, format!("the engine answers with status {status}: {message}"))
}

fn unanswered(socket: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            Error::invalid(socket, "no engine listens there; start it, or set DOCKER_HOST")
        }
        io::ErrorKind::UnexpectedEof => Error::invalid(socket, "the engine hung up"),
        _ => Error::denied_or(socket, error, DENIED),
    }
}

impl Source for DockerDaemon {
    fn root(&self) -> Result<RawDocument, Error> {
        match &self.root {
            Some(root) => Ok(RawDocument { bytes: root.clone(), media_type: None, digest: None }),
            None => self.archive()?.root(),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        self.archive()?.document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.archive()?.blob(descriptor, range)
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        // What is remembered lists only what was there.
        self.root.is_some() || self.archive().is_ok_and(|archive| archive.has(descriptor))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Every blob is far longer than its descriptor says.
    #[derive(Debug, Default)]
    struct Endless(Arc<AtomicU64>);

    struct Counted(Arc<AtomicU64>);

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let before = self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            if before > 64 << 20 { Ok(0) } else { Ok(buffer.len()) }
        }
    }

    impl Source for Endless {
        fn root(&self) -> Result<RawDocument, Error> {
            unreachable!("it is not asked")
        }

        fn document(&self, _: &Descriptor) -> Result<RawDocument, Error> {
            unreachable!("it is not asked")
        }

        fn blob(&self, _: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
            let Range { start, end } = range;
            Ok(Opened { body: Box::new(Counted(Arc::clone(&self.0))), start, end })
        }
    }

    #[test]
    fn a_config_is_read_no_further_than_it_should_be() {
        let digest = Digest::sha256(b"{}");
        let text = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":2}}}}"#);
        let Ok(Document::Manifest(manifest)) = Document::parse(text.as_bytes(), None) else {
            panic!("it is a manifest");
        };
        let source = Endless::default();
        assert_eq!(config(&source, &manifest).unwrap(), None);
        assert!(source.0.load(Ordering::Relaxed) < 1 << 20, "{source:?}");
    }
}
