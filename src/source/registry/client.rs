//! One request to a registry: sent, authorised, redirected, tried again.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderName, HeaderValue, Method, Response, Uri, header};
use ureq::{Agent, AsSendBody, Body as HttpBody};

use super::cached::PastCache;
use super::encoding;
use super::error::{Error, Failure, pause_of};
use super::hosts::{self, Agents, Host, Refused};
use super::location::Locations;
use super::patience::{self, Patience};
use super::rate_limit::RateLimits;
use super::throughput::Meter;
use super::url::{encoded, escaped, may_lead_to, redirect_target, same_origin};
use super::{RegistryOptions, Traffic, auth, error};
use crate::digest::Digest;
use crate::oci::MAX_MANIFEST_BYTES;
use crate::reference::Reference;
use crate::source::MIN_BYTES_PER_SECOND;

/// Redirects followed for one request.
pub(super) const MAX_REDIRECTS: usize = 10;

/// Tries of one request, the first included.
pub(super) const MAX_TRIES: u32 = 5;

/// Tries of one that is answered with something that is not HTTP. The first may have met what a former
/// answer left behind on its connection; the next will be told the same again.
const MALFORMED_TRIES: u32 = 2;

/// First pause between tries; it doubles each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A wait in vain that is told where it was shorter is only logged.
const TOLD: Duration = Duration::from_secs(3);

/// Longest pause between two tries that nobody has asked for.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Bytes of an error body that are read for its message.
const MAX_ERROR_BODY_BYTES: u64 = 64 << 10;

/// How long the pieces of such bodies are waited for, and of those that are read to keep a connection.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// Longest body of a redirect or a challenge that is read to keep its connection; for more, a new
/// connection is cheaper (Go's HTTP client has the same limit).
const MAX_DRAINED_BYTES: u64 = 2 << 10;

/// So much of a server's `Content-Encoding` is told.
const MAX_ENCODING_CHARS: usize = 40;

/// What talks to one registry about one repository.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) reference: Reference,
    agents: Agents,
    /// Schemes and host of the API, and which of them is used.
    bases: Vec<String>,
    scheme: AtomicUsize,
    /// The server has answered, so that its scheme is the right one.
    is_settled: AtomicBool,
    /// Where the API begins.
    path: String,
    /// The registry that the host stands in for, if it has to be told.
    namespace: Option<String>,
    /// What the host wants to be told besides.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// It may say what a tag means.
    pub(super) resolves: bool,
    /// It may be asked for content by digest.
    pub(super) pulls: bool,
    auth: Arc<auth::Auth>,
    /// Authentication with other registries that this one redirects to.
    elsewhere: auth::Elsewhere,
    locations: Locations,
    rate_limits: RateLimits,
    pub(super) common: Arc<Common>,
    /// Something that was asked of this host has come.
    has_served: AtomicBool,
    /// What became of asking it for ranges past its cache.
    pub(super) past_cache: PastCache,
    pub(super) traffic: Arc<Traffic>,
    pub(super) options: RegistryOptions,
}

/// What the clients of all hosts for one image know together.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// There was an answer once: who does not answer now may be starting again.
    has_answered: AtomicBool,
    pub(super) meter: Meter,
    pub(super) patience: Patience,
    /// Bytes of blobs that have come, without those that came again.
    pub(super) brought: AtomicU64,
}

/// A request before it is sent: what stays the same over redirects and tries.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Where it goes first: for all but uploads something of the repository, see [`Client::url`].
    pub(super) url: &'a str,
    /// The media types that are understood. Each goes on a line of its own, as old registries and
    /// proxies do not take a list apart.
    pub(super) accept: &'a [&'a str],
    /// The blob that is read, if it is one: it may lie elsewhere, and may take long.
    pub(super) blob: Option<Digest>,
    /// Bytes wanted; all if not said.
    pub(super) range: Option<Range<u64>>,
    /// What is sent, and its media type.
    pub(super) payload: Option<(&'a [u8], &'a str)>,
    /// That it does not exist is as good an answer as any.
    pub(super) may_be_absent: bool,
    /// What is asked for, in the user's words.
    pub(super) what: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: &'a str, what: &'a str) -> Request<'a> {
        let (blob, range, payload, may_be_absent) = (None, None, None, false);
        Request { method, url, accept: &[], blob, range, payload, may_be_absent, what }
    }

    /// Whether it changes nothing.
    fn is_reading(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// What is asked of a registry: the actions that a token has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Push,
}

/// An answer, and who gave it.
pub(super) struct Answer {
    pub(super) response: Response<HttpBody>,
    pub(super) url: Uri,
    /// It is the registry's own, not that of where it redirects to.
    is_registry: bool,
    /// The value of the `Authorization` header that it answers to.
    sent: Option<String>,
}

impl Client {
    pub(super) fn new(
        host: Host,
        access: Access,
        options: RegistryOptions,
        traffic: Arc<Traffic>,
        common: Arc<Common>,
    ) -> Client {
        let Host { reference, bases, path, namespace, headers, resolves, pulls, agents } = host;
        let (registry, repository) = (reference.registry(), reference.repository());
        let auth = auth::Auth::new(registry, repository, access, options.credentials.clone());
        Client {
            reference,
            agents,
            bases,
            scheme: AtomicUsize::new(0),
            is_settled: AtomicBool::new(false),
            path,
            namespace,
            headers,
            resolves,
            pulls,
            auth: Arc::new(auth),
            elsewhere: auth::Elsewhere::default(),
            locations: Locations::default(),
            rate_limits: RateLimits::default(),
            common,
            has_served: AtomicBool::new(false),
            past_cache: PastCache::default(),
            traffic,
            options,
        }
    }

    /// Scheme and host of the API.
    fn base(&self) -> &str {
        let scheme = self.scheme.load(Ordering::Relaxed);
        self.bases.get(scheme).map_or("", String::as_str)
    }

    /// The host's name.
    pub(super) fn name(&self) -> &str {
        self.reference.registry()
    }

    /// Whether the API is asked without TLS.
    fn is_plain(&self) -> bool {
        !self.base().starts_with("https")
    }

    /// Goes on to the other scheme after an error that may be due to the first one. Whether there is
    /// one.
    fn try_other_scheme(&self, error: &Error) -> bool {
        let is_open = self.bases.len() > 1 && !self.is_settled.load(Ordering::Relaxed);
        let may_help = if self.is_plain() { error.wants_tls() } else { error.is_transport() };
        let changes = is_open && may_help && self.scheme.load(Ordering::Relaxed) == 0;
        if changes {
            self.scheme.store(1, Ordering::Relaxed);
        }
        changes
    }

    /// Does something in the scheme that the server speaks. Where it may be either, that is found out
    /// here: so URLs have to be made in `act`, as the second time they are other ones.
    pub(super) fn in_its_scheme<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut result = act();
        if let Err(error) = &result
            && self.try_other_scheme(error)
        {
            let other = act();
            // That it speaks TLS it has said; that it speaks plain HTTP was a guess.
            let is_better = match &other {
                Ok(_) => true,
                Err(error) => error.is_answer() || !self.is_plain(),
            };
            match is_better {
                true => result = other,
                false => self.scheme.store(0, Ordering::Relaxed),
            }
        }
        if result.is_ok() {
            self.is_settled.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Does something with this host alone until it succeeds or fails for good: see
    /// [`Client::in_its_scheme`] and [`Client::retrying`].
    pub(super) fn ask<T>(&self, mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.retrying(|| self.in_its_scheme(&mut act))
    }

    /// Does something until it succeeds or fails for good, with one deadline for all of it. A host that
    /// has served us before and does not answer is waited for until then: it is being restarted.
    /// It must be something that may be done again after it had gone well, as the answer may have been
    /// lost.
    pub(super) fn retrying<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.common.patience.limit(self.options.deadline);
        let since = Instant::now();
        let result = patience::until(since + limit, || self.until_deadline(&mut act));
        if result.is_err() && since.elapsed() >= limit / 2 {
            self.common.patience.in_vain(since);
        }
        result
    }

    fn until_deadline<T>(&self, act: &mut impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let (since, deadline) = (Instant::now(), patience::deadline(self.options.deadline));
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match act() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or_else(|| jittered(pause));
            let late = Instant::now() + wait > deadline;
            let may_pass = error.is_temporary()
                || error.is_unreachable() && self.common.has_answered.load(Ordering::Relaxed);
            let is_restarting = error.is_gone() && self.has_served.load(Ordering::Relaxed);
            let tries = if error.is_malformed() { MALFORMED_TRIES } else { MAX_TRIES };
            let is_too_often = attempt >= tries && !is_restarting;
            if !may_pass || is_too_often || late {
                return Err(error);
            }
            // A user who has waited for so long wants to know for what.
            let level = match error.is_timeout() && since.elapsed() >= TOLD {
                true => log::Level::Warn,
                false => log::Level::Info,
            };
            log::log!(level, "{error}; trying again in {} ms", wait.as_millis());
            thread::sleep(wait);
            pause = MAX_PAUSE.min(pause * 2);
        }
        unreachable!("the loop returns at the deadline")
    }

    /// Sends a request once, not counting what authentication and redirects need.
    pub(super) fn send_once(&self, request: &Request<'_>) -> Result<Answer, Error> {
        if let Some(answer) = self.ask_known_location(request) {
            return Ok(answer);
        }
        let mut reauthorised: Vec<Arc<auth::Auth>> = Vec::new();
        let mut refused_at = None;
        loop {
            let asked = Instant::now();
            let Answer { response, url, is_registry, sent } =
                self.exchange(request, refused_at.as_ref())?;
            let status = response.status();
            if status.is_success() {
                self.has_served.store(true, Ordering::Relaxed);
                if request.method == Method::HEAD {
                    self.common.patience.served();
                }
                if let (Some(sent), Some(auth)) = (&sent, self.auth_at(request, &url)) {
                    auth.accepted(sent);
                }
                if let Some(digest) = request.blob {
                    self.common.meter.round_trip(asked.elapsed());
                    if !is_registry && !is_page(&response) {
                        self.locations.remember(digest, url.clone());
                    }
                }
                return Ok(Answer { response, url, is_registry, sent });
            }
            let refusal = auth::refusal(&response, &url, sent);
            let auth = self.refusing(request, &url, refusal.as_ref());
            let mut error = self.refusal(request, response, &url).elsewhere(auth.is_none());
            let Some(auth) = auth else { return Err(error) };
            let may_hide = refusal.as_ref().is_some_and(|refusal| refusal.may_hide);
            // What the user says to send there is sent already.
            let is_said = is_registry && self.has_own_authorization();
            let is_moot = request.may_be_absent || is_said || error.wants_tls() || !auth.may_hide();
            let is_moot = may_hide && is_moot;
            if let Some(refusal) = refusal.filter(|_| !is_moot)
                && !reauthorised.iter().any(|before| Arc::ptr_eq(before, &auth))
                && reauthorised.len() < MAX_REDIRECTS
            {
                match auth.answer(self, &refusal) {
                    Ok(true) => {
                        reauthorised.push(auth);
                        // The registry that redirected us there need not be asked again.
                        refused_at = (!is_registry).then_some(url);
                        continue;
                    }
                    Ok(false) => {}
                    // Without a login, that it is not there may be all there is to say.
                    Err(why) if may_hide && auth.sought().source.is_none() => log::info!("{why}"),
                    Err(why) => error = why,
                }
            }
            // What was looked for meanwhile is part of the story.
            let error = error.with_sought(auth.sought());
            return Err(match auth.elsewhere() {
                Some(repository) => error.redirected_to(&repository, &self.reference),
                None => error,
            });
        }
    }

    /// Authentication for a request to a URL: that of the registry, or of another one that has sent a
    /// challenge; `None` for storage.
    fn auth_at(&self, request: &Request<'_>, url: &Uri) -> Option<Arc<auth::Auth>> {
        match self.is_own(url) {
            true => Some(Arc::clone(&self.auth)),
            false => self.elsewhere.known(url).filter(|_| request.is_reading()),
        }
    }

    /// Authentication with the registry that refuses a request; `None` for the storage that a registry
    /// redirects to, which gets no credentials.
    fn refusing(
        &self,
        request: &Request<'_>,
        url: &Uri,
        refusal: Option<&auth::Refusal>,
    ) -> Option<Arc<auth::Auth>> {
        let known = self.auth_at(request, url);
        let (None, true, Some(refusal)) = (&known, request.is_reading(), refusal) else {
            return known;
        };
        // A blob at a URL with a query is one of storage, signed.
        let is_signed =
            request.blob.is_some() && url.query().is_some_and(|q| !q.starts_with("ns="));
        let from = self.base().parse().ok().filter(|_| !is_signed)?;
        self.elsewhere.refusing(url, refusal, &from, &self.reference, &self.options)
    }

    /// Whether the user's settings say by what a request to the registry is authorised.
    fn has_own_authorization(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == header::AUTHORIZATION)
    }

    /// Whether a URL is one of the registry itself.
    fn is_own(&self, url: &Uri) -> bool {
        self.base().parse().is_ok_and(|base| same_origin(&base, url))
    }

    /// What the root of the API asks for, where nothing else said it; `elsewhere` is that of another
    /// registry.
    pub(super) fn root_challenges(
        &self,
        elsewhere: Option<&str>,
    ) -> Result<Vec<auth::Challenge>, Error> {
        let own = || format!("{}{}/", self.base(), self.path);
        let url = elsewhere.map_or_else(own, str::to_owned);
        let request = Request::new(Method::GET, &url, "the registry's API");
        let uri = url.parse().map_err(|_| Error::new(request.what, &url, Failure::Url))?;
        let response = self.call(&request, &uri, elsewhere.is_none(), None)?;
        let challenges = auth::challenges(&response);
        drain(response);
        Ok(challenges)
    }

    /// Asks where the registry sent us for this blob before. Whatever is no success there may just
    /// mean that the URL has expired: the registry is asked then, as if nothing had been known.
    fn ask_known_location(&self, request: &Request<'_>) -> Option<Answer> {
        let digest = request.blob?;
        let url = self.locations.get(&digest)?;
        let asked = Instant::now();
        // It is never the registry itself, whose credentials it does not get.
        let auth = self.auth_at(request, &url);
        let sent = auth.as_ref().and_then(|auth| auth.header(self).ok().flatten());
        let response = self.call(request, &url, false, sent.as_deref());
        if let Ok(response) = response
            && response.status().is_success()
            && !is_page(&response)
        {
            self.common.meter.round_trip(asked.elapsed());
            return Some(Answer { response, url, is_registry: false, sent: None });
        }
        log::debug!("{} has expired", error::without_query(&url));
        self.locations.forget(&digest);
        None
    }

    /// Forgets where a blob lies, after an answer from there that could not be right.
    pub(super) fn forget_location(&self, digest: &Digest) {
        self.locations.forget(digest);
    }

    /// One round: the registry's own answer, or that of where it redirects to. It begins where the
    /// request goes, or where a redirect has led before.
    fn exchange(&self, request: &Request<'_>, first: Option<&Uri>) -> Result<Answer, Error> {
        let parse = |url: &str| {
            url.parse::<Uri>().map_err(|_| Error::new(request.what, &url, Failure::Url))
        };
        let origin = parse(self.base())?;
        let mut url = first.cloned().map_or_else(|| parse(request.url), Ok)?;
        let is_reading = request.is_reading();
        for _ in 0..=MAX_REDIRECTS {
            if !may_lead_to(&origin, &url) {
                return Err(Error::new(request.what, &url, Failure::LeadsInside));
            }
            let is_registry = same_origin(&origin, &url);
            let auth = self.auth_at(request, &url);
            let sent = auth.map_or(Ok(None), |auth| auth.header(self))?;
            let response = self.call(request, &url, is_registry, sent.as_deref())?;
            let status = response.status();
            if !status.is_redirection() {
                return Ok(Answer { response, url, is_registry, sent });
            }
            let location = location(&response);
            drain(response);
            // The other redirects turn what is sent into a GET.
            let keeps_method = matches!(status.as_u16(), 307 | 308);
            url = location
                .filter(|_| is_reading || keeps_method)
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
        is_registry: bool,
        authorization: Option<&str>,
    ) -> Result<Response<HttpBody>, Error> {
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url);
        for accept in request.accept {
            builder = builder.header(header::ACCEPT, *accept);
        }
        if let Some(Range { start, end }) = request.range {
            let last = end.saturating_sub(1);
            builder = builder.header(header::RANGE, format!("bytes={start}-{last}"));
            if self.past_cache.is_needed() {
                builder = builder.header(header::CACHE_CONTROL, "no-cache");
            }
        }
        let own = self.headers.iter().filter(|_| is_registry);
        // What the user says to send there counts before what was found for it.
        let is_said = is_registry && self.has_own_authorization();
        if let Some(authorization) = authorization.filter(|_| !is_said) {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in own {
            builder = builder.header(name, value);
        }
        let invalid = |_| Error::new(request.what, url, Failure::Url);
        let response = match request.payload {
            Some((bytes, media_type)) => {
                let http = builder.header(header::CONTENT_TYPE, media_type).body(bytes);
                let http = http.map_err(invalid)?;
                self.exchange_one(request.what, &request.method, url, |agent| {
                    self.run(agent, http, request)
                })?
            }
            None => {
                let http = builder.body(()).map_err(invalid)?;
                self.exchange_one(request.what, &request.method, url, |agent| {
                    self.run(agent, http, request)
                })?
            }
        };
        self.common.has_answered.store(true, Ordering::Relaxed);
        if is_registry && let Some(now) = date(&response) {
            self.traffic.note_clock(self.name(), now);
        }
        Ok(response)
    }

    /// Sends something once its host may be asked, and heeds the host's wish to be left alone: every
    /// request goes through here, those to token servers too.
    pub(super) fn exchange_one(
        &self,
        what: &str,
        method: &Method,
        url: &Uri,
        send: impl FnOnce(&Agent) -> Result<Response<HttpBody>, ureq::Error>,
    ) -> Result<Response<HttpBody>, Error> {
        let failed = |failure| Error::new(what, url, failure).through(self.agents.route(url));
        let host = url.authority().map_or("", |authority| authority.as_str());
        let pass = self.rate_limits.enter(host, patience::deadline(self.options.deadline));
        let pass = pass.map_err(|left| failed(Failure::Limited(left)))?;
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        log::debug!("{method} {}", error::without_query(url));
        let agent = self.agent(url)?;
        let response = send(&agent).map_err(|e| {
            failed(match hosts::refused(&e) {
                Some(Refused::LeadsInside) => Failure::LeadsInside,
                Some(Refused::NotLoopback) => Failure::NotLoopback,
                None => Failure::Transport(e.into()),
            })
        })?;
        log::debug!("{} {}", response.status(), error::without_query(url));
        let pause = header_text(&response, header::RETRY_AFTER.as_str());
        match response.status().as_u16() {
            429 => pass.close(pause.and_then(|text| pause_of(&text))),
            503 if pause.is_some() => pass.close(pause.and_then(|text| pause_of(&text))),
            _ => drop(pass),
        }
        Ok(response)
    }

    /// Whether the host of a URL wants to be left alone for now.
    pub(super) fn must_wait(&self, url: &Uri) -> bool {
        url.authority().is_some_and(|host| self.rate_limits.is_closed(host.as_str()))
    }

    /// The HTTP client for a URL: with the certificates and the proxy for its host.
    fn agent(&self, url: &Uri) -> Result<Agent, Error> {
        self.agents
            .agent(url)
            .map_err(|e| Error::new("connecting", url, Failure::Hosts(Arc::new(e))))
    }

    fn run(
        &self,
        agent: &Agent,
        http: ureq::http::Request<impl AsSendBody>,
        request: &Request<'_>,
    ) -> Result<Response<HttpBody>, ureq::Error> {
        let left = patience::left(self.options.deadline);
        let (connecting, silence) = (self.options.connecting(), self.options.silence());
        // The first answer is not asked for again, and may take longer: it wakes caches and servers.
        let header = match self.common.has_answered.load(Ordering::Relaxed) {
            true => silence.min(left),
            false => self.options.first_answer().min(left),
        };
        let config = agent.configure_request(http).timeout_recv_response(Some(header));
        let config = match (request.blob, request.payload) {
            // A document has to come in time.
            (None, None) => config.timeout_global(Some(left)).timeout_per_read(Some(header)),
            // What is sent may take as long as it keeps going.
            (None, Some((bytes, _))) => {
                let at_least = bytes.len() as u64 / MIN_BYTES_PER_SECOND;
                config
                    .timeout_send_body(Some(left + Duration::from_secs(at_least)))
                    .timeout_recv_body(Some(silence.min(left)))
            }
            // So may a blob that comes, which its reader watches.
            (Some(_), _) => config
                .timeout_resolve(Some(connecting.min(left)))
                .timeout_connect(Some(connecting.min(left)))
                .timeout_per_read(Some(
                    silence.min(self.common.patience.limit(self.options.deadline)),
                )),
        };
        agent.run(config.build())
    }

    /// The URL of something of the repository.
    pub(super) fn url(&self, path: &str) -> String {
        let (base, api, repository) = (self.base(), &self.path, self.reference.repository());
        let url = format!("{base}{api}/{repository}/{path}");
        match &self.namespace {
            Some(namespace) => {
                let and = if path.contains('?') { '&' } else { '?' };
                format!("{url}{and}ns={}", encoded(namespace))
            }
            None => url,
        }
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
        let url = &self.base();
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(Error::new(what, url, Failure::DocumentTooLarge));
            }
            Err(e) => return Err(Error::new(what, url, Failure::Transport(e.into()))),
        };
        self.common.patience.served();
        self.traffic.body_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
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

    /// Turns an answer that is no success into an error with the server's own words.
    fn refusal(&self, request: &Request<'_>, response: Response<HttpBody>, url: &Uri) -> Error {
        let status = response.status();
        let retry_after = header_text(&response, header::RETRY_AFTER.as_str());
        let encoding = content_encoding(&response);
        let text = error_body(&mut response.into_body());
        let text = encoding::decoded(text, encoding.as_deref(), MAX_ERROR_BODY_BYTES);
        let (code, message) = error::server_words(&text);
        let page = || hosts::page_words(status.as_u16(), &text).map(str::to_owned);
        let message = message.or_else(page);
        let failure = Failure::Status { status: status.as_u16(), code, message, retry_after };
        Error::new(request.what, url, failure)
            .in_repository(self.reference.registry(), self.reference.repository())
    }
}

/// Reads the body of an error for its message, as far as it comes soon.
pub(super) fn error_body(body: &mut HttpBody) -> Vec<u8> {
    read_soon(body, MAX_ERROR_BODY_BYTES)
}

/// Reads so much of a body as comes soon.
fn read_soon(body: &mut HttpBody, limit: u64) -> Vec<u8> {
    let until = Instant::now() + patience::left(ERROR_BODY_TIME).min(ERROR_BODY_TIME);
    let mut reader = body.with_config().limit(limit).reader();
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while Instant::now() < until {
        match reader.read(&mut piece) {
            Ok(length) if length > 0 => text.extend_from_slice(&piece[..length]),
            // What has come may hold the message.
            Ok(_) | Err(_) => break,
        }
    }
    text
}

pub(super) fn header_text(response: &Response<HttpBody>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Where an answer sends us, as it says it: not all servers escape what has to be.
pub(super) fn location(response: &Response<HttpBody>) -> Option<String> {
    let value = response.headers().get(header::LOCATION)?;
    Some(escaped(value.as_bytes()))
}

/// What time it is by the clock of the server: an answer may be from a cache before it (RFC 9111, 5.1).
fn date(response: &Response<HttpBody>) -> Option<SystemTime> {
    let date = header_text(response, header::DATE.as_str())?;
    let age = header_text(response, header::AGE.as_str());
    let age = age.and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    let date = httpdate::parse_http_date(&date).ok()?;
    date.checked_add(Duration::from_secs(age.into()))
}

/// How a body is said to be encoded, if it is.
pub(super) fn content_encoding(response: &Response<HttpBody>) -> Option<String> {
    let encoding = header_text(response, header::CONTENT_ENCODING.as_str())?;
    let is_encoded = !encoding.eq_ignore_ascii_case("identity");
    is_encoded.then(|| encoding.chars().take(MAX_ENCODING_CHARS).collect())
}

/// Whether an answer is a web page: a login portal's, say.
pub(super) fn is_page(response: &Response<HttpBody>) -> bool {
    header_text(response, header::CONTENT_TYPE.as_str())
        .is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with("text/html"))
}

/// Reads a body that nobody wants, if it is short: then its connection can be used again.
pub(super) fn drain(response: Response<HttpBody>) {
    let mut body = response.into_body();
    if body.content_length().is_some_and(|length| length <= MAX_DRAINED_BYTES) {
        // What fails here fails for the next request on this connection, if there is one.
        read_soon(&mut body, MAX_DRAINED_BYTES + 1);
    }
}

/// Half of `pause` and a random part of the other half, so that many clients do not come back at
/// the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    pause / 2 + pause.mul_f64((random % 1000) as f64 / 2000.0)
}
