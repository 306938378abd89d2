//! Exchanges with hosts that may limit their rate: all of them wait for [`RateLimits`], those with token servers too.

use std::sync::Arc;

use ureq::http::{Request as Message, Response, Uri};
use ureq::{AsSendBody, Body as HttpBody};

use super::deadline;
use super::http::{Http, Waits};
use super::rate_limits::{HeldBack, RateLimits};
use super::response::asked_to_wait;
use crate::source::registry::error::{Error, Failure};
use crate::source::registry::retry_after;

/// [`Http`] behind the rate limits of a session.
#[derive(Debug)]
pub(in crate::source::registry) struct RateLimited {
    http: Http,
    limits: Arc<RateLimits>,
}

impl RateLimited {
    pub(in crate::source::registry) fn new(http: Http, limits: Arc<RateLimits>) -> RateLimited {
        RateLimited { http, limits }
    }

    /// What sends what is let through.
    pub(in crate::source::registry) fn http(&self) -> &Http {
        &self.http
    }

    /// Sends a message once its host may be asked, and notes whether the host limits the rate.
    pub(in crate::source::registry) fn round_trip_in_turn(
        &self,
        what: &str,
        message: Message<impl AsSendBody>,
        waits: Waits,
    ) -> Result<Response<HttpBody>, Error> {
        let url = message.uri().clone();
        let host = url.authority().map_or("", |authority| authority.as_str());
        let until = deadline::deadline(self.http.options().deadline);
        let pass = self.limits.enter(host, until);
        let pass = pass.map_err(|HeldBack { status, left }| {
            self.http.failed(what, &url, Failure::Limited { status, left })
        })?;
        let response = self.http.round_trip(what, message, waits)?;
        let pause = asked_to_wait(&response);
        let status = response.status().as_u16();
        if matches!(status, 429 | 503) {
            self.http.observed().connections.refused();
        }
        match status == 429 || (status == 503 && pause.is_some()) {
            true => pass.limit(status, pause.and_then(|text| retry_after::parse(&text))),
            false => drop(pass),
        }
        Ok(response)
    }

    /// Whether the host of a URL limits the rate now.
    pub(in crate::source::registry) fn is_limited(&self, url: &Uri) -> bool {
        url.authority().is_some_and(|host| self.limits.is_limited(host.as_str()))
    }
}
