//! What talks to one host about one repository: it knows the URLs of the repository and reads its documents.
//! How a request gets there and an answer comes back is in [`transport`](super::transport).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ureq::Body as HttpBody;
use ureq::http::{Method, Response};

use super::error::{Error, Failure};
use super::hosts::Host;
use super::options::RegistryOptions;
use super::session::Session;
use super::traffic::Traffic;
use super::transport::auth::Authorized;
use super::transport::encoding;
use super::transport::http::Http;
use super::transport::location::Located;
use super::transport::message::Messages;
use super::transport::observed::Observed;
use super::transport::past_cache::PastCache;
use super::transport::rate_limit::RateLimited;
use super::transport::redirect::Redirects;
use super::transport::request::{Access, Answer, Request};
use super::transport::response::content_encoding;
use super::transport::retry::Retries;
use super::transport::scheme::Schemes;
use super::url::encoded;
use crate::digest::Digest;
use crate::oci::{MAX_MANIFEST_BYTES, media_type};
use crate::reference::Reference;

/// The client for one host and one repository.
#[derive(Debug)]
pub(super) struct Client {
    /// The image, as it is called there.
    reference: Reference,
    /// Where the API begins.
    path: String,
    /// The registry that the host stands in for, if it has to be told.
    namespace: Option<String>,
    /// It may say what a tag means.
    pub(super) resolves: bool,
    /// It may be asked for content by digest.
    pub(super) pulls: bool,
    retries: Retries,
    schemes: Arc<Schemes>,
    located: Located,
    pub(super) observed: Arc<Observed>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) options: RegistryOptions,
    /// It has shown that it has no API for referrers.
    pub(super) lacks_referrers: AtomicBool,
}

impl Client {
    pub(super) fn new(
        host: Host,
        access: Access,
        options: &RegistryOptions,
        session: &Session,
        observed: &Arc<Observed>,
    ) -> Client {
        let agents = session.agents(&host, options);
        let auth = session.auth(&host, &agents, access, options);
        let Host { reference, bases, path, namespace, headers, resolves, pulls, .. } = host;
        let (observed, traffic) = (Arc::clone(observed), Arc::clone(session.traffic()));
        let schemes = Arc::new(Schemes::new(bases));
        let http = Http::new(agents, options.clone(), Arc::clone(&observed), Arc::clone(&traffic));
        let limited = RateLimited::new(http, Arc::clone(session.limits()));
        let name = reference.registry().to_owned();
        let messages = Messages::new(limited, Arc::clone(&schemes), name, path.clone(), headers);
        let authorized = Authorized::new(Redirects::new(messages), reference.clone(), auth);
        Client {
            reference,
            path,
            namespace,
            resolves,
            pulls,
            retries: Retries::new(options.deadline, Arc::clone(&observed)),
            schemes,
            located: Located::new(authorized),
            observed,
            traffic,
            options: options.clone(),
            lacks_referrers: AtomicBool::new(false),
        }
    }

    /// The host's name.
    pub(super) fn name(&self) -> &str {
        self.reference.registry()
    }

    /// The URL of something of the repository.
    pub(super) fn url(&self, path: &str) -> String {
        self.api_url(&format!("{}/{path}", self.reference.repository()))
    }

    /// The URL of something of the registry.
    pub(super) fn api_url(&self, path: &str) -> String {
        let (base, api) = (self.schemes.base(), &self.path);
        let url = format!("{base}{api}/{path}");
        match &self.namespace {
            Some(namespace) => {
                let and = if path.contains('?') { '&' } else { '?' };
                format!("{url}{and}ns={}", encoded(namespace))
            }
            None => url,
        }
    }

    /// Does something with this host alone until it succeeds or fails for good, in the scheme that it
    /// speaks.
    pub(super) fn retry_in_its_scheme<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.retry(|| self.in_its_scheme(&mut act))
    }

    /// See [`Retries::retry`].
    pub(super) fn retry<T>(&self, act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.retries.retry(act)
    }

    /// See [`Schemes::in_its_scheme`].
    pub(super) fn in_its_scheme<T>(
        &self,
        act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.schemes.in_its_scheme(act)
    }

    /// Sends a request once, not counting what authentication and redirects need.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let answer = self.located.send_directly(request)?;
        self.retries.served();
        if request.method == Method::HEAD {
            self.observed.patience.served();
        }
        Ok(answer)
    }

    /// Forgets where a blob lies, after an answer from there that could not be right.
    pub(super) fn forget_location(&self, digest: &Digest) {
        self.located.forget(digest);
    }

    /// What became of asking the host for ranges past its cache.
    pub(super) fn past_cache(&self) -> &PastCache {
        self.located.authorized().redirects().messages().past_cache()
    }

    /// Reads a document, cut at the limit.
    pub(super) fn document(
        &self,
        response: Response<HttpBody>,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let encoding = content_encoding(&response);
        let mut body = response.into_body();
        let bytes = body.with_config().limit(MAX_MANIFEST_BYTES + 1).read_to_vec();
        let url = &self.schemes.base();
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(Error::new(what, url, Failure::DocumentTooLarge));
            }
            Err(e) => return Err(Error::new(what, url, Failure::Transport(e.into()))),
        };
        self.observed.patience.served();
        self.traffic.count_body(bytes.len() as u64);
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::new(what, url, Failure::DocumentTooLarge));
        }
        let bytes = encoding::decoded(bytes, encoding.as_deref(), MAX_MANIFEST_BYTES);
        // What is only labelled so is JSON all the same.
        if let Some(encoding) = encoding
            && !bytes.trim_ascii_start().starts_with(b"{")
        {
            let why = format!(
                "it came encoded (`Content-Encoding: {encoding}`), which was not asked for and is not \
                 understood: something between here and the registry does that"
            );
            return Err(Error::new(what, url, Failure::Answer(why)));
        }
        Ok(bytes)
    }
}

/// A request for a manifest in any of the forms that are understood.
pub(super) fn manifest_request<'a>(method: Method, url: &'a str, what: &'a str) -> Request<'a> {
    Request { accept: &media_type::ACCEPT, ..Request::new(method, url, what) }
}
