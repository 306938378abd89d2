//! `ocifs mirror`: a registry on this machine that has the store show an image before an engine pulls it.
//!
//! # Problem
//!
//! An engine finds an image in a store by its name only if the store lists it. What will be asked for next week no list knows.
//!
//! # Design
//!
//! Engines ask a *mirror* first (`registries.conf`). This one resolves the name at the registry, adds the manifest to the list of
//! the store, waits until the store shows it, and only then answers with the manifest. The engine finds that its stores
//! have all the layers by now, and fetches the config.
//!
//! It is a process of its own, beside the one that serves the store, and knows that by its files alone: the list that it adds
//! to and the list of images that the store shows. Either can be replaced while the other goes on.
//!
//! A mirror that fails is passed over by engines: whatever can't be shown is answered as an error, and pulled as ever. An engine that
//! asks for a layer in spite of all gets it, verified.
//!
//! `ocifs` reads `registries.conf` as well. The process that serves the store would ask this one, which waits for it: so it has
//! nothing for clients that are `ocifs`.
//!
//! What it answers is fetched with the logins of the user who runs it, for whatever process of this machine connects. A web page may
//! not: on a loopback address, a request has to be for an address, as those of engines are, and not for a name that a page
//! gives to this machine.
//!
//! Rejected: a registry in the process that serves the store. That one has given up reading credentials before it reads what
//! strangers have made, so it can't reach a registry that it did not know when it was started.
//!
//! # Invariants
//!
//! - A manifest of an image is answered only once the store shows it.
//! - What is asked for again is not added again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::Cache;
use ocifs::digest::Digest;
use ocifs::httpd::{Body, Listener, Request, Response};
use ocifs::image::{self, BlobName, ImageOptions};
use ocifs::oci::Document;
use ocifs::reference::{ImageName, Reference};
use serde_json::Value;

use super::registries::refused_for_any;
use super::secrets::hide_secrets;
use crate::args;
use crate::environment::{self, Settings};
use crate::render::errors::{self, About, AnyError};

/// Requests at the same time. Each may wait for a first pass.
const MAX_REQUESTS: usize = 64;

/// Images whose blobs are known.
const MAX_KNOWN: usize = 256;

/// How often the store is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// How all clients of this program begin what they call themselves.
const OWN_AGENT: &str = "ocifs/";

pub(crate) fn run(args: &args::Mirror) -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    if let Some(error) = refused_for_any(&args.image_args, "whichever an engine names is asked") {
        return Ok(errors::wrong_usage(&args::usage_error("mirror", error)));
    }
    // What is wrong with the settings is said now, and not to the first engine.
    Settings::read()?;
    File::options().create(true).append(true).open(&args.list).map_err(|e| of(&args.list, e))?;
    let listener = Listener::bind(&args.address)?;
    let at = listener.tcp_address().and_then(|at| at.parse::<SocketAddr>().ok());
    let is_loopback = at.is_some_and(|at| at.ip().is_loopback());
    match listener.tcp_address() {
        Some(at) => log::info!("a mirror for engines at {at}"),
        None => log::info!("a mirror for engines at {}", args.address),
    }
    let cache = environment::cache(&args.image_args.cache_args);
    let (known, adding) = (Mutex::default(), Mutex::default());
    let mirror = Mirror { args, is_loopback, cache, known, adding };
    listener.serve(MAX_REQUESTS, |request| mirror.answer(request));
    Ok(ExitCode::SUCCESS)
}

fn of(path: &Path, error: std::io::Error) -> About {
    About::new(path.display(), error)
}

struct Mirror<'a> {
    args: &'a args::Mirror,
    /// Whether it is for programs of this machine, at an address that others have too.
    is_loopback: bool,
    cache: Arc<Cache>,
    /// Manifests that were answered, and the blobs that they name; the latest last.
    known: Mutex<VecDeque<Known>>,
    /// Held while the list is changed.
    adding: Mutex<()>,
}

struct Known {
    /// By its digest.
    image: Reference,
    blobs: Vec<Digest>,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Whether this is a registry.
    Root,
    /// A document by its name.
    Manifest(Reference),
    /// A blob of a repository, by its name without tag or digest.
    Blob(String, Digest),
}

impl Mirror<'_> {
    fn answer(&self, request: &Request) -> Response {
        if self.is_loopback && !request.means_an_address() {
            log::warn!(
                "refused: a request for {:?}, which is no address of this mirror",
                request.host
            );
            return Response::text("421 Misdirected Request", "this mirror has no name\n");
        }
        if !request.is_reading() {
            return Response::text("405 Method Not Allowed", "this mirror is read-only\n");
        }
        let answer = match wanted(&request.path) {
            Some(Wanted::Root) => Ok(registry()),
            _ if request.user_agent.starts_with(OWN_AGENT) => {
                return Response::text("404 Not Found", "this mirror is not for ocifs itself\n");
            }
            Some(Wanted::Manifest(reference)) => self.manifest(reference, request.is_head()),
            Some(Wanted::Blob(repository, digest)) => self.blob(&repository, digest),
            None => return Response::text("404 Not Found", "no such path\n"),
        };
        answer.unwrap_or_else(|error| {
            log::warn!("{}: left to the registry: {error}", request.path);
            Response::text("404 Not Found", format!("{error}\n"))
        })
    }

    fn manifest(&self, reference: Reference, is_head: bool) -> Result<Response, AnyError> {
        let (name, options) = self.options(&reference)?;
        let document = image::named_document(&name, &self.cache, &options)
            .map_err(|e| About::new(&name, e))?;
        let digest = document.digest();
        if let Document::Manifest(manifest) = document.value() {
            let exact = pinned(&reference, digest)?;
            if !is_head && manifest.check_image().is_ok() {
                self.show(&exact, digest)?;
            }
            let blobs = [&manifest.config].into_iter().chain(&manifest.layers);
            let blobs = blobs.map(|descriptor| descriptor.digest).collect();
            self.know(Known { image: exact, blobs });
        }
        let mut response = registry();
        response.headers.push(("Content-Type", document.value().media_type().to_owned()));
        response.headers.push(("Docker-Content-Digest", digest.to_string()));
        response.body = Body::Bytes(document.bytes().to_vec());
        Ok(response)
    }

    fn blob(&self, repository: &str, digest: Digest) -> Result<Response, AnyError> {
        let names_it = |known: &&Known| {
            repository_of(&known.image) == repository && known.blobs.contains(&digest)
        };
        let image = self.known().iter().rev().find(names_it).map(|known| known.image.clone());
        let image = image.ok_or("no manifest that names it was asked for here")?;
        let (name, options) = self.options(&image)?;
        let blob = image::find_blob(&name, &BlobName::Whole(digest), &self.cache, &options)
            .map_err(|e| About::new(&name, e))?;
        let mut response = registry();
        response.headers.push(("Content-Type", "application/octet-stream".to_owned()));
        response.headers.push(("Docker-Content-Digest", digest.to_string()));
        response.body = Body::Stream { length: blob.descriptor.size, reader: Box::new(blob) };
        Ok(response)
    }

    /// How an image is reached. Logins are read anew each time, as they change.
    fn options(&self, image: &Reference) -> Result<(ImageName, ImageOptions), AnyError> {
        let name = ImageName::Registry(image.clone());
        environment::image(&name, &self.args.image_args, &Settings::read()?)
    }

    /// Has the store show an image, and waits for that.
    fn show(&self, image: &Reference, digest: Digest) -> Result<(), AnyError> {
        let listed = self.args.store.join("overlay-images/images.json");
        if shows(&listed, digest)? {
            return Ok(());
        }
        self.add(&image.to_string()).map_err(|e| of(&self.args.list, e))?;
        let until = Instant::now() + self.args.wait;
        while !shows(&listed, digest)? {
            if Instant::now() > until {
                let store = self.args.store.display();
                return Err(format!(
                    "the store {store} does not show {image} after {:?}; the log of `ocifs store` may say why",
                    self.args.wait
                )
                .into());
            }
            thread::sleep(GLANCE);
        }
        log::info!("{image} is in the store");
        Ok(())
    }

    /// Adds a line to the list, if it does not have it.
    fn add(&self, line: &str) -> std::io::Result<()> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let list = fs::read_to_string(&self.args.list)?;
        if list.lines().any(|other| other.trim() == line) {
            return Ok(());
        }
        let mut file = File::options().append(true).open(&self.args.list)?;
        let begin = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
        file.write_all(format!("{begin}{line}\n").as_bytes())
    }

    fn know(&self, image: Known) {
        let mut known = self.known();
        known.retain(|other| other.image != image.image);
        if known.len() == MAX_KNOWN {
            known.pop_front();
        }
        known.push_back(image);
    }

    /// A thread that panicked left nothing half done in there.
    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry and the repository of an image.
fn repository_of(image: &Reference) -> String {
    format!("{}/{}", image.registry(), image.repository())
}

/// The manifest of this digest in the repository of a reference.
fn pinned(reference: &Reference, digest: Digest) -> Result<Reference, AnyError> {
    Ok(format!("{}@{digest}", repository_of(reference)).parse()?)
}

/// Whether a store lists an image by the digest of its manifest.
fn shows(images: &Path, digest: Digest) -> Result<bool, AnyError> {
    let bytes = fs::read(images).map_err(|e| of(images, e))?;
    let rows: Value =
        serde_json::from_slice(&bytes).map_err(|e| About::new(images.display(), e))?;
    let digest = digest.to_string();
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(rows.iter().any(|row| row["digest"] == digest.as_str()))
}

/// An answer of a registry, as yet without a body.
fn registry() -> Response {
    let headers = vec![("Docker-Distribution-API-Version", "registry/2.0".to_owned())];
    Response { status: "200 OK", headers, body: Body::Bytes(Vec::new()) }
}

/// What a path of the registry API asks for (OCI distribution specification, 1.1); the first component of a repository here
/// is the registry, with `_` before a port.
fn wanted(path: &str) -> Option<Wanted> {
    let rest = path.strip_prefix("/v2")?;
    if rest.trim_matches('/').is_empty() {
        return Some(Wanted::Root);
    }
    let (rest, last) = rest.strip_prefix('/')?.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    let (registry, repository) = repository.split_once('/')?;
    let registry = match registry.rsplit_once('_') {
        Some((host, port)) if port.parse::<u16>().is_ok() => format!("{host}:{port}"),
        _ => registry.to_owned(),
    };
    // A name without a registry would be one of Docker Hub.
    if !registry.contains(['.', ':']) && registry != "localhost" {
        return None;
    }
    let repository = format!("{registry}/{repository}");
    match kind {
        "manifests" => {
            let by = if last.contains(':') { '@' } else { ':' };
            let reference: Reference = format!("{repository}{by}{last}").parse().ok()?;
            Some(Wanted::Manifest(reference))
        }
        "blobs" => Some(Wanted::Blob(repository, last.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let digest = Digest::sha256(b"x");
        let manifest = |text: &str| Some(Wanted::Manifest(text.parse().unwrap()));
        for (path, expected) in [
            ("/v2/", Some(Wanted::Root)),
            ("/v2", Some(Wanted::Root)),
            ("/v2/docker.io/library/debian/manifests/12", manifest("docker.io/library/debian:12")),
            ("/v2/127.0.0.1_5000/app/manifests/1", manifest("127.0.0.1:5000/app:1")),
            ("/v2/localhost_80/app/manifests/1", manifest("localhost:80/app:1")),
            ("/v2/app/manifests/1", None),
            ("/v2/library/debian/manifests/12", None),
            ("/v2/r.example/app/tags/list", None),
            ("/v2/r.example/../manifests/1", None),
            ("/v2/r.example//manifests/1", None),
            ("/v2/r.example/app/manifests/", None),
            ("/v2/r.example/app/blobs/sha256:12", None),
            ("/v1/", None),
            ("", None),
        ] {
            assert_eq!(wanted(path), expected, "{path}");
        }
        let path = format!("/v2/r.example/a/b/blobs/{digest}");
        assert_eq!(wanted(&path), Some(Wanted::Blob("r.example/a/b".to_owned(), digest)));
        let path = format!("/v2/r.example/a/b/manifests/{digest}");
        assert_eq!(wanted(&path), manifest(&format!("r.example/a/b@{digest}")));
    }
}
