//! The registry protocol: manifests by tag or digest, blobs, over HTTP (OCI distribution spec 1.1).
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
//! - Every wait has a limit: connecting, the response's header, and silence while reading a body.
//! - Credentials go to the registry and to its token server, never to where a redirect points.
//! - Nothing that a server sends is trusted for size: documents are cut at a limit, bodies are
//!   counted by their reader.
//! - URLs in messages have no query: signed URLs are secrets.

mod auth;
mod body;
mod error;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{Method, Response, StatusCode, Uri, header};
use ureq::{Agent, Body as HttpBody};

use super::{Body, RawDocument, Source};
use crate::digest::Digest;
use crate::image::{Descriptor, MAX_MANIFEST_BYTES, media_type};
use crate::reference::{DEFAULT_REGISTRY, Reference};
pub use auth::{AuthFileError, Credential, Credentials};
pub use error::{Error, Failure};

/// Where Docker Hub's API answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;

/// Tries of one request, the first included.
const MAX_TRIES: u32 = 5;

/// First pause between tries; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an error body that are read for its message.
const MAX_ERROR_BODY_BYTES: u64 = 64 << 10;

/// Tags listed when the wanted one does not exist.
const LISTED_TAGS: usize = 20;

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Plain HTTP, for hosts other than loopback.
    pub plain_http: bool,
    /// Credentials found by the caller.
    pub credentials: Credentials,
    /// Time to resolve a name and connect.
    pub connect_timeout: Duration,
    /// Time until the response's header is there, and longest silence while a body is read.
    pub read_timeout: Duration,
    /// Time for all tries of one request together, its body not included.
    pub deadline: Duration,
    /// The proxy for hosts other than loopback.
    pub proxy: Option<ureq::Proxy>,
    /// What we call ourselves.
    pub user_agent: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            plain_http: false,
            credentials: Credentials::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            proxy: None,
            user_agent: concat!("ocifs/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What went over the wire; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    body_bytes: AtomicU64,
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
}

/// An image in a registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Client>);

#[derive(Debug)]
struct Client {
    reference: Reference,
    agent: Agent,
    /// Scheme and host of the API.
    base: String,
    auth: auth::Auth,
    traffic: Arc<Traffic>,
    options: Options,
}

/// A request before it is sent: what stays the same over redirects and tries.
#[derive(Clone, Debug)]
struct Request<'a> {
    method: Method,
    /// Path below `/v2/NAME/`.
    path: &'a str,
    accept: Option<String>,
    /// First byte wanted.
    start: u64,
    /// What is asked for, in the user's words.
    what: &'a str,
}

impl Registry {
    /// An image by its reference. Nothing is sent yet.
    pub fn new(reference: Reference, options: Options, traffic: Arc<Traffic>) -> Registry {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, so that Authorization does not travel.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(&options.user_agent)
            .accept_encoding("identity")
            .proxy(options.proxy.clone().filter(|_| !is_loopback(reference.registry())))
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.read_timeout))
            .timeout_per_read(Some(options.read_timeout))
            .max_idle_connections(64)
            .max_idle_connections_per_host(16)
            // Load balancers drop silent connections after about 30 s.
            .max_idle_age(Duration::from_secs(20))
            .build()
            .new_agent();
        let auth = auth::Auth::new(&reference, options.credentials.get(reference.registry()));
        let base = base_url(reference.registry(), options.plain_http);
        Registry(Arc::new(Client { reference, agent, base, auth, traffic, options }))
    }

    /// The tags that exist, for a message; empty where the registry does not say.
    fn tags(&self) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let request = Request {
            method: Method::GET,
            path: "tags/list",
            accept: None,
            start: 0,
            what: "the list of tags",
        };
        let tags = self.0.send(&request).ok().and_then(|response| {
            let bytes = self.0.document(response, "tags").ok()?;
            serde_json::from_slice::<Tags>(&bytes).ok()?.tags
        });
        tags.unwrap_or_default()
    }

    fn manifest(&self, reference: &str, expected: Option<Digest>) -> Result<RawDocument, Error> {
        let what = format!("manifest `{reference}`");
        let path = format!("manifests/{reference}");
        let request = manifest_request(Method::GET, &path, &what);
        let response = self.0.send(&request)?;
        let media_type = header_text(&response, header::CONTENT_TYPE.as_str());
        let bytes = self.0.document(response, &what)?;
        Ok(RawDocument { bytes, media_type, digest: expected })
    }
}

fn manifest_request<'a>(method: Method, path: &'a str, what: &'a str) -> Request<'a> {
    let accept = Some(media_type::ACCEPT.join(", "));
    Request { method, path, accept, start: 0, what }
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
        let path = format!("manifests/{tag}");
        let request = manifest_request(Method::HEAD, &path, &what);
        match self.0.send(&request) {
            Ok(response) => Ok(header_text(&response, "docker-content-digest")
                .and_then(|digest| digest.parse().ok())),
            // Some registries refuse HEAD, and its answers carry no reason: GET tells more.
            Err(error) if error.is_answer() => Ok(None),
            Err(error) => Err(Box::new(error).into()),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, super::Error> {
        let digest = descriptor.digest;
        self.manifest(&digest.to_string(), Some(digest)).map_err(|e| Box::new(e).into())
    }

    fn blob(&self, descriptor: &Descriptor, start: u64) -> Result<Body, super::Error> {
        let reader = body::BlobReader::open(self.0.clone(), descriptor, start);
        Ok(Box::new(reader.map_err(Box::new)?))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl Client {
    /// Sends a request until it succeeds, or fails for good: tries, authentication, redirects.
    fn send(&self, request: &Request<'_>) -> Result<Response<HttpBody>, Error> {
        let deadline = Instant::now() + self.options.deadline;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match self.send_once(request) {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or_else(|| jittered(pause));
            let late = Instant::now() + wait > deadline;
            if !error.is_temporary() || attempt >= MAX_TRIES || late {
                return Err(error);
            }
            log::info!("{error}; trying again in {} ms", wait.as_millis());
            thread::sleep(wait);
            pause *= 2;
        }
        unreachable!("the loop returns at MAX_TRIES")
    }

    fn send_once(&self, request: &Request<'_>) -> Result<Response<HttpBody>, Error> {
        let mut reauthorised = false;
        loop {
            let (response, url, is_registry) = self.exchange(request)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let insufficient = status == StatusCode::FORBIDDEN && auth::wants_more(&response);
            // Only the registry itself may ask for credentials, not where it redirects to.
            let challenged = is_registry && (status == StatusCode::UNAUTHORIZED || insufficient);
            if challenged && !reauthorised {
                reauthorised = true;
                let challenges = auth::challenges(&response);
                drop(response);
                self.auth.answer(self, &challenges, &url)?;
                continue;
            }
            return Err(self.refusal(request, response, &url));
        }
    }

    /// One round: the registry's own answer, or that of where it redirects to; the URL it came
    /// from, and whether that is the registry.
    fn exchange(&self, request: &Request<'_>) -> Result<(Response<HttpBody>, Uri, bool), Error> {
        let url = self.url(request.path);
        let mut url: Uri = url.parse().map_err(|_| Error::new(request.what, &url, Failure::Url))?;
        let origin = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_registry = same_origin(&origin, &url);
            let authorization = is_registry.then(|| self.auth.header()).flatten();
            let response = self.call(request, &url, authorization)?;
            if !response.status().is_redirection() {
                return Ok((response, url, is_registry));
            }
            let location = header_text(&response, header::LOCATION.as_str());
            url = location
                .and_then(|location| redirect_target(&url, &location))
                .ok_or_else(|| Error::new(request.what, &url, Failure::Redirect))?;
            log::debug!("redirected to {}", error::without_query(&url));
        }
        Err(Error::new(request.what, &url, Failure::TooManyRedirects))
    }

    fn call(
        &self,
        request: &Request<'_>,
        url: &Uri,
        authorization: Option<String>,
    ) -> Result<Response<HttpBody>, Error> {
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url);
        if let Some(accept) = &request.accept {
            builder = builder.header(header::ACCEPT, accept);
        }
        if request.start > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.start));
        }
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let failed = |failure| Error::new(request.what, url, failure);
        let http = builder.body(()).map_err(|_| failed(Failure::Url))?;
        // A document has to come in one go; a blob may take as long as it keeps coming.
        let whole = (!request.path.starts_with("blobs/")).then_some(self.options.deadline);
        let http = self.agent.configure_request(http).timeout_recv_body(whole).build();
        self.count_request();
        log::debug!("{} {}", request.method, error::without_query(url));
        let response = self.agent.run(http).map_err(|e| failed(Failure::Transport(e)))?;
        log::debug!("{} {}", response.status(), error::without_query(url));
        Ok(response)
    }

    /// The URL of something of the repository.
    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.reference.repository())
    }

    fn count_request(&self) {
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads a document, cut at the limit.
    fn document(&self, response: Response<HttpBody>, what: &str) -> Result<Vec<u8>, Error> {
        let mut body = response.into_body();
        let bytes = body.with_config().limit(MAX_MANIFEST_BYTES + 1).read_to_vec();
        let url = &self.base;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(Error::new(what, url, Failure::DocumentTooLarge));
            }
            Err(e) => return Err(Error::new(what, url, Failure::Transport(e))),
        };
        self.traffic.body_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::new(what, url, Failure::DocumentTooLarge));
        }
        Ok(bytes)
    }

    /// Turns an answer that is no success into an error with the server's own words.
    fn refusal(&self, request: &Request<'_>, response: Response<HttpBody>, url: &Uri) -> Error {
        let status = response.status();
        let retry_after = header_text(&response, header::RETRY_AFTER.as_str());
        let mut body = response.into_body();
        let text = body.with_config().limit(MAX_ERROR_BODY_BYTES).read_to_vec().unwrap_or_default();
        let (code, message) = error::server_words(&text);
        let had_credentials = self.auth.has_credential();
        let failure = Failure::Status {
            status: status.as_u16(),
            code,
            message,
            retry_after,
            had_credentials,
        };
        Error::new(request.what, url, failure)
            .in_repository(self.reference.registry(), self.reference.repository())
    }
}

fn header_text(response: &Response<HttpBody>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Scheme and host of a registry's API: plain HTTP on loopback and where the user says so. There
/// is no falling back from TLS anywhere.
fn base_url(registry: &str, plain_http: bool) -> String {
    let host = match registry {
        DEFAULT_REGISTRY => DOCKER_HUB_HOST,
        host => host,
    };
    let scheme = if plain_http || is_loopback(host) { "http" } else { "https" };
    format!("{scheme}://{host}")
}

/// Whether a host means this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_ip = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_ip || name == "localhost" || name.ends_with(".localhost")
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Resolves a Location header (RFC 3986, 5.2). A registry that is asked over TLS may not send us to
/// plain HTTP.
fn redirect_target(from: &Uri, location: &str) -> Option<Uri> {
    let from_scheme = from.scheme_str()?;
    let absolute = match location {
        "" => return None,
        location if has_scheme(location) => location.to_owned(),
        location if location.starts_with("//") => format!("{from_scheme}:{location}"),
        location => {
            let (path, query) = match location.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (location, String::new()),
            };
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = match path {
                "" => from.path().to_owned(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("{folder}/{path}"),
            };
            format!("{from_scheme}://{}{}{query}", from.authority()?, without_dots(&path))
        }
    };
    let target: Uri = absolute.parse().ok()?;
    let scheme = target.scheme_str()?;
    let downgrade = from_scheme == "https" && scheme != "https";
    (!downgrade && matches!(scheme, "http" | "https") && target.host().is_some()).then_some(target)
}

/// Whether a reference is absolute: a scheme stands before any other delimiter.
fn has_scheme(location: &str) -> bool {
    let before = location.split(['/', '?', '#']).next().unwrap_or_default();
    before.strip_suffix(':').is_some_and(|s| s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Takes `.` and `..` out of an absolute path (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Half of `pause` and a random part of the other half, so that many clients do not come back at
/// the same moment.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    pause / 2 + pause.mul_f64((random % 1000) as f64 / 2000.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "a.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1", "localhost.example", "[fc00::1]", "192.168.0.1:5000"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn redirects() {
        let target = |from: &str, to: &str| {
            redirect_target(&from.parse().unwrap(), to).map(|uri| uri.to_string())
        };
        let from = "https://reg.example/v2/x/blobs/d";
        assert_eq!(target(from, "https://cdn/x?sig=1").unwrap(), "https://cdn/x?sig=1");
        assert_eq!(target(from, "/other?a=b").unwrap(), "https://reg.example/other?a=b");
        assert_eq!(target(from, "/a?o=https://b").unwrap(), "https://reg.example/a?o=https://b");
        assert_eq!(target(from, "?s=1").unwrap(), "https://reg.example/v2/x/blobs/d?s=1");
        assert_eq!(target(from, "//cdn/x").unwrap(), "https://cdn/x");
        assert_eq!(target(from, "../y?q=/../z").unwrap(), "https://reg.example/v2/x/y?q=/../z");
        assert_eq!(target(from, "./y").unwrap(), "https://reg.example/v2/x/blobs/y");
        assert_eq!(target(from, "http://cdn/x"), None);
        assert_eq!(target(from, "ftp://cdn/x"), None);
        assert_eq!(target("http://a/b", "http://cdn/x").unwrap(), "http://cdn/x");
    }
}
