//! The registry protocol over HTTP (OCI distribution spec 1.1): manifests by tag or digest, blobs and
//! ranges of them, referrers, and pushing.
//!
//! # Design
//!
//! Written by hand over a synchronous HTTP client, as every lazy puller does: reads come on threads
//! that have to wait anyway, and what a file system needs (redirects followed by us so that
//! credentials stay with the registry, bodies resumed where they broke, answers checked to the
//! byte) no registry crate offers. `ureq` has the timeouts for each phase that a deadline needs and
//! brings no runtime.
//!
//! # Invariants
//!
//! - Every wait has a limit: one question with all its requests (`patience`), silence, and a body that
//!   brings too little.
//! - Credentials go to the registry and to its token server, never to where a redirect points, be it
//!   fresh or remembered. Each of several hosts for an image gets its own, and so does another registry
//!   that a redirect leads to, for reading alone.
//! - A certificate that can't be checked ends the request. What the user exempts is one host.
//! - Nothing that a server sends is trusted for size: documents are cut at a limit, bodies are
//!   counted by their reader.
//! - URLs in messages have no query: signed URLs are secrets.

mod auth;
mod auth_file;
mod body;
mod cached;
mod client;
mod credential;
mod credentials;
mod encoding;
mod error;
mod helper;
mod hosts;
mod location;
mod mirrors;
mod patience;
mod push;
mod rate_limit;
mod referrers;
mod throughput;
mod url;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ureq::http::{Method, header};

use super::image::check_range;
use super::{Content, Opened, RawDocument, Source, Throughput};
use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, media_type};
use crate::reference::Reference;
pub use auth::Challenge;
pub use auth_file::AuthFileError;
use client::{Access, Client, Common, Request, header_text};
pub use credential::Credential;
pub use credentials::{Credentials, Found};
pub use error::{Error, Failure};
pub use hosts::{
    Aliased, ConfigFiles, Error as HostsError, LoginPlace, Proxies, ProxyError, ProxyRoute, Roots,
    Route, aliased, login_places, routes,
};
use mirrors::{Mirrors, Wanted};
pub use url::is_loopback;

/// Tags listed when the wanted one does not exist.
const LISTED_TAGS: usize = 20;

/// How long the first answer may take where half the deadline is less.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Plain HTTP, for hosts other than loopback.
    pub plain_http: bool,
    /// Credentials found by the caller.
    pub credentials: Credentials,
    /// Time to resolve a name and connect; not more than half the `deadline`.
    pub connect_timeout: Duration,
    /// Time until the response's header is there, and longest silence while a body is read; not more
    /// than half the `deadline`, so that what is not answered can be asked for again.
    pub read_timeout: Duration,
    /// Time for all that it takes to answer one question: tries, hosts, tokens, and of a blob the
    /// header. Also how long a blob may take to bring as much as a link that is of use would.
    pub deadline: Duration,
    /// Check whose certificate the registry shows. Only the registry itself is ever exempt.
    pub tls_verify: bool,
    /// Where this machine's files about registries are.
    pub places: ConfigFiles,
    /// The authorities that are trusted for every host.
    pub roots: Arc<Roots>,
    /// The proxies for hosts other than loopback.
    pub proxies: Proxies,
    /// What we call ourselves.
    pub user_agent: String,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions {
            plain_http: false,
            credentials: Credentials::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            tls_verify: true,
            places: ConfigFiles::default(),
            roots: Arc::default(),
            proxies: Proxies::default(),
            user_agent: concat!("ocifs/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl RegistryOptions {
    /// The same with another deadline, from which the other limits follow.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> RegistryOptions {
        let usual = RegistryOptions::default();
        let connect_timeout = usual.connect_timeout.min(deadline / 2);
        RegistryOptions { connect_timeout, read_timeout: deadline / 2, deadline, ..self }
    }

    /// Time to resolve a name, and then to connect.
    fn connecting(&self) -> Duration {
        self.connect_timeout.min(self.deadline / 2)
    }

    /// Time until the first answer of all. It may be more than half the deadline, if that is short, as
    /// there is no second try.
    fn first_answer(&self) -> Duration {
        match self.read_timeout < self.deadline / 2 {
            true => self.read_timeout,
            false => self.silence().max(FIRST_ANSWER).min(self.deadline),
        }
    }

    /// Longest silence.
    fn silence(&self) -> Duration {
        self.read_timeout.min(self.deadline / 2)
    }
}

/// What went over the wire; shared with the code that shows it.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    body_bytes: AtomicU64,
    clock: Mutex<Option<Clock>>,
}

/// What a registry's clock showed, and this machine's at that moment.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The registry.
    pub host: String,
    /// Its time, by the header `Date`.
    pub theirs: SystemTime,
    /// This machine's time.
    pub ours: SystemTime,
}

impl Traffic {
    /// HTTP requests sent, of every kind.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of response bodies received.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// What the clock showed of the registry that answered last, if it said so.
    pub fn clock(&self) -> Option<Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the clock of a registry shows.
    fn note_clock(&self, host: &str, theirs: SystemTime) {
        let clock = Clock { host: host.to_owned(), theirs, ours: SystemTime::now() };
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }
}

/// An image in a registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Mirrors>);

impl Registry {
    /// An image by its reference. Nothing is sent yet.
    ///
    /// # Errors
    /// A file about its registry can't be used.
    pub fn new(
        reference: Reference,
        options: RegistryOptions,
        traffic: Arc<Traffic>,
    ) -> Result<Registry, HostsError> {
        Registry::with(reference, Access::Read, options, traffic)
    }

    /// The same, asking for the right to push as well.
    ///
    /// # Errors
    /// A file about its registry can't be used.
    pub fn for_pushing(
        reference: Reference,
        options: RegistryOptions,
        traffic: Arc<Traffic>,
    ) -> Result<Registry, HostsError> {
        Registry::with(reference, Access::Push, options, traffic)
    }

    fn with(
        reference: Reference,
        access: Access,
        options: RegistryOptions,
        traffic: Arc<Traffic>,
    ) -> Result<Registry, HostsError> {
        let mut hosts = hosts::for_image(&reference, &options)?;
        if access == Access::Push {
            // What is pushed goes to the registry itself.
            hosts.drain(..hosts.len().saturating_sub(1));
        }
        let common = Arc::new(Common::default());
        let clients = hosts.into_iter().map(|host| {
            let (traffic, common) = (Arc::clone(&traffic), Arc::clone(&common));
            Arc::new(Client::new(host, access, options.clone(), traffic, common))
        });
        Ok(Registry(Arc::new(Mirrors::new(reference, clients.collect()))))
    }

    /// What the image is called.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// The tags that exist, as far as one answer tells them, for a message; empty where the registry
    /// does not say.
    fn tags(&self) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Vec<String>,
        }
        let tags = self.0.ask(Wanted::Name, |client| {
            let url = client.url("tags/list");
            let answer = client.send_once(&Request::new(Method::GET, &url, "the list of tags"))?;
            client.document(answer.response, "tags")
        });
        let tags = tags.ok().and_then(|bytes| json::from_slice::<Tags>(&bytes).ok());
        tags.map(|list| list.tags).unwrap_or_default()
    }

    /// A manifest by tag or digest. Of several hosts, one that sends the right bytes is looked for.
    fn manifest(&self, reference: &str, expected: Option<Digest>) -> Result<RawDocument, Error> {
        let what = format!("manifest `{reference}`");
        let wanted = expected.map_or(Wanted::Name, Wanted::Content);
        loop {
            let (media_type, bytes) = self.0.ask(wanted, |client| {
                let url = client.url(&format!("manifests/{reference}"));
                let answer = client.send_once(&manifest_request(Method::GET, &url, &what))?;
                let media_type = header_text(&answer.response, header::CONTENT_TYPE.as_str());
                match client.document(answer.response, &what) {
                    // Another host may send all of it, or the same one the next time.
                    Err(error) if error.is_transport() => Err(error),
                    bytes => Ok((media_type, bytes)),
                }
            })?;
            if let Some(digest) = expected
                && !bytes.as_ref().is_ok_and(|bytes| digest.matches(bytes))
                && self.0.distrust(&digest)
            {
                continue;
            }
            return Ok(RawDocument { bytes: bytes?, media_type, digest: expected });
        }
    }
}

fn manifest_request<'a>(method: Method, url: &'a str, what: &'a str) -> Request<'a> {
    Request { accept: &media_type::ACCEPT, ..Request::new(method, url, what) }
}

impl Source for Registry {
    fn root(&self) -> Result<RawDocument, super::Error> {
        let reference = &self.0.reference;
        let result = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(&digest.to_string(), Some(digest)),
            (None, tag) => self.manifest(tag.unwrap_or("latest"), None),
        };
        result.map_err(|mut error| {
            if error.is_not_found() && reference.digest().is_none() {
                let mut tags = self.tags();
                tags.retain(|tag| !super::nearest::is_of_referrer(tag));
                super::nearest::sort(&mut tags, reference.tag().unwrap_or("latest"));
                let more = tags.len().saturating_sub(LISTED_TAGS);
                tags.truncate(LISTED_TAGS);
                error.available_tags(tags, more);
            }
            Box::new(error).into()
        })
    }

    fn head(&self) -> Result<Option<Digest>, super::Error> {
        let Some(tag) = self.0.reference.tag() else { return Ok(self.0.reference.digest()) };
        let what = format!("manifest `{tag}`");
        let response = self.0.ask(Wanted::Name, |client| {
            let url = client.url(&format!("manifests/{tag}"));
            let answer = client.send_once(&manifest_request(Method::HEAD, &url, &what))?;
            Ok(answer.response)
        });
        match response {
            Ok(response) => Ok(header_text(&response, "docker-content-digest")
                .and_then(|digest| digest.parse().ok())),
            // Some registries refuse HEAD, and its answers carry no reason: GET tells more.
            Err(error) if error.is_answer() => Ok(None),
            Err(error) => Err(Box::new(error).into()),
        }
    }

    fn confirm(&self, content: Content<'_>) -> Result<(), super::Error> {
        let (kind, what, accept, digest) = match content {
            Content::Document(d) => ("manifests", "manifest", &media_type::ACCEPT[..], d.digest),
            Content::Blob(d) => ("blobs", "blob", &[][..], d.digest),
        };
        let what = format!("{what} {digest}");
        let answer = self.0.ask(Wanted::Content(digest), |client| {
            let url = client.url(&format!("{kind}/{digest}"));
            client.send_once(&Request { accept, ..Request::new(Method::HEAD, &url, &what) })
        });
        match answer {
            Ok(_) => Ok(()),
            // Storage behind a registry may know no HEAD, and its answers carry no reason: GET tells more.
            Err(error) if error.is_answer() => match content {
                Content::Document(descriptor) => self.document(descriptor).map(drop),
                Content::Blob(descriptor) => {
                    self.blob(descriptor, 0..descriptor.size.min(1)).map(drop)
                }
            },
            Err(error) => Err(Box::new(error).into()),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, super::Error> {
        let digest = descriptor.digest;
        self.manifest(&digest.to_string(), Some(digest)).map_err(|e| Box::new(e.listed()).into())
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, super::Error> {
        check_range(descriptor, &range)?;
        Ok(body::open(&self.0, descriptor, range).map_err(|e| Box::new(e.listed()))?)
    }

    fn throughput(&self) -> Option<Throughput> {
        Some(self.0.origin().common.meter.throughput())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn distrust(&self, digest: &Digest) -> bool {
        self.0.distrust(digest)
    }
}
