//! Redirects, followed by us: credentials stay with the registry that they are for, and a registry that
//! anyone can run sends us to no address in here.

use std::time::Instant;

use ureq::http::Uri;

use super::message::Messages;
use super::request::{Answer, MAX_REDIRECTS, Request};
use super::response::{drain, location};
use crate::source::registry::error::{Error, Failure};
use crate::source::registry::url::{may_lead_to, redirect_target, same_origin, without_query};

/// [`Messages`], sent on to where the registry says.
#[derive(Debug)]
pub(in crate::source::registry) struct Redirects {
    messages: Messages,
}

impl Redirects {
    pub(in crate::source::registry) fn new(messages: Messages) -> Redirects {
        Redirects { messages }
    }

    /// What sends a request to one place.
    pub(in crate::source::registry) fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The registry's own answer, or that of where it redirects to. It begins where the request goes, or
    /// where a redirect has led before (`first`); `authorization` says what goes to each place, and is told
    /// whether that is the registry itself.
    pub(in crate::source::registry) fn follow_redirects(
        &self,
        request: &Request<'_>,
        first: Option<&Uri>,
        authorization: impl Fn(&Uri, bool) -> Result<Option<String>, Error>,
    ) -> Result<Answer, Error> {
        let asked = Instant::now();
        let failed = |url: &str| Error::new(request.what, &url, Failure::Url);
        let schemes = self.messages.schemes();
        let origin = schemes.origin().cloned().ok_or_else(|| failed(schemes.base()))?;
        let parse = || request.url.parse().map_err(|_| failed(request.url));
        let mut url = first.cloned().map_or_else(parse, Ok)?;
        let is_reading = request.is_reading();
        for _ in 0..=MAX_REDIRECTS {
            if !may_lead_to(&origin, &url) {
                return Err(Error::new(request.what, &url, Failure::LeadsInside));
            }
            let is_registry = same_origin(&origin, &url);
            let sent = authorization(&url, is_registry)?;
            let response = self.messages.send_to(&url, is_registry, request, sent.as_deref())?;
            let status = response.status();
            if !status.is_redirection() {
                return Ok(Answer { response, url, is_registry, sent, asked });
            }
            let location = location(&response);
            drain(response);
            // The other redirects turn what is sent into a GET.
            let keeps_method = matches!(status.as_u16(), 307 | 308);
            url = location
                .filter(|_| is_reading || keeps_method)
                .and_then(|location| redirect_target(&url, &location))
                .ok_or_else(|| Error::new(request.what, &url, Failure::Redirect))?;
            log::debug!("redirected to {}", without_query(&url));
        }
        Err(Error::new(request.what, &url, Failure::TooManyRedirects))
    }
}
