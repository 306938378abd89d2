//! A request as an HTTP message to one place: its header, and what the user's files add to it.

use std::ops::Range;
use std::sync::Arc;

use ureq::Body as HttpBody;
use ureq::http::{HeaderName, HeaderValue, Method, Request as Message, Response, Uri, header};

use super::challenge::{Challenge, challenges};
use super::http::Waits;
use super::past_cache::PastCache;
use super::rate_limit::RateLimited;
use super::request::Request;
use super::response::{date, drain};
use super::scheme::Schemes;
use crate::source::registry::error::{Error, Failure};

/// What sends the requests of one host's API.
#[derive(Debug)]
pub(in crate::source::registry) struct Messages {
    limited: RateLimited,
    schemes: Arc<Schemes>,
    /// The registry's name, for its clock.
    name: String,
    /// Where the API begins.
    path: String,
    /// What the host wants to be told besides.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What became of asking the host for ranges past its cache.
    past_cache: PastCache,
}

impl Messages {
    pub(in crate::source::registry) fn new(
        limited: RateLimited,
        schemes: Arc<Schemes>,
        name: String,
        path: String,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Messages {
        Messages { limited, schemes, name, path, headers, past_cache: PastCache::default() }
    }

    /// What the messages go through.
    pub(in crate::source::registry) fn limited(&self) -> &RateLimited {
        &self.limited
    }

    pub(in crate::source::registry) fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    pub(in crate::source::registry) fn past_cache(&self) -> &PastCache {
        &self.past_cache
    }

    /// Whether the user's settings say by what a request to the registry is authorised.
    pub(in crate::source::registry) fn has_own_authorization(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == header::AUTHORIZATION)
    }

    /// Sends a request to one place, the registry itself or another one, with this value of the
    /// `Authorization` header.
    pub(in crate::source::registry) fn send_to(
        &self,
        url: &Uri,
        is_registry: bool,
        request: &Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<HttpBody>, Error> {
        let mut message = Message::builder().method(request.method.clone()).uri(url);
        for accept in request.accept {
            message = message.header(header::ACCEPT, *accept);
        }
        if let Some(Range { start, end }) = request.range {
            let last = end.saturating_sub(1);
            message = message.header(header::RANGE, format!("bytes={start}-{last}"));
            if self.past_cache.is_needed() {
                message = message.header(header::CACHE_CONTROL, "no-cache");
            }
        }
        let own = self.headers.iter().filter(|_| is_registry);
        // What the user says to send there counts before what was found for it.
        let is_said = is_registry && self.has_own_authorization();
        if let Some(authorization) = authorization.filter(|_| !is_said) {
            message = message.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in own {
            message = message.header(name, value);
        }
        let invalid = |_| Error::new(request.what, url, Failure::Url);
        let response = match request.payload {
            Some((bytes, media_type)) => {
                let message = message.header(header::CONTENT_TYPE, media_type).body(bytes);
                let waits = Waits::Upload(bytes.len() as u64);
                self.limited.round_trip_in_turn(request.what, message.map_err(invalid)?, waits)?
            }
            None => {
                let waits = if request.blob.is_some() { Waits::Blob } else { Waits::Document };
                let message = message.body(()).map_err(invalid)?;
                self.limited.round_trip_in_turn(request.what, message, waits)?
            }
        };
        self.limited.http().observed().answered();
        if is_registry && let Some(now) = date(&response) {
            self.limited.http().traffic().note_clock(&self.name, now);
        }
        Ok(response)
    }

    /// What the root of the API asks for, where nothing else said it; `elsewhere` is that of another
    /// registry.
    pub(in crate::source::registry) fn root_challenges(
        &self,
        elsewhere: Option<&str>,
    ) -> Result<Vec<Challenge>, Error> {
        let own = || format!("{}{}/", self.schemes.base(), self.path);
        let url = elsewhere.map_or_else(own, str::to_owned);
        let request = Request::new(Method::GET, &url, "the registry's API");
        let uri = url.parse().map_err(|_| Error::new(request.what, &url, Failure::Url))?;
        let response = self.send_to(&uri, elsewhere.is_none(), &request, None)?;
        let challenges = challenges(&response);
        drain(response);
        Ok(challenges)
    }
}
