//! Blobs are asked for where the registry has sent us before, as long as that holds.

use std::time::Instant;

use super::auth::Authorized;
use super::locations::Locations;
use super::request::{Answer, Request};
use super::response::is_page;
use crate::digest::Digest;
use crate::source::registry::error::Error;
use crate::source::registry::url::without_query;

/// [`Authorized`], with a memory of where blobs lie.
#[derive(Debug)]
pub(in crate::source::registry) struct Located {
    authorized: Authorized,
    known: Locations,
}

impl Located {
    pub(in crate::source::registry) fn new(authorized: Authorized) -> Located {
        Located { authorized, known: Locations::default() }
    }

    /// What asks the registry.
    pub(in crate::source::registry) fn authorized(&self) -> &Authorized {
        &self.authorized
    }

    /// Asks where a blob is known to lie, or else the registry.
    pub(in crate::source::registry) fn send_directly(
        &self,
        request: &Request<'_>,
    ) -> Result<Answer, Error> {
        let Some(digest) = request.blob else { return self.authorized.authorize(request) };
        let answer = match self.at_known_location(digest, request) {
            Some(answer) => answer,
            None => {
                let answer = self.authorized.authorize(request)?;
                if !answer.is_registry && !is_page(&answer.response) {
                    self.known.remember(digest, answer.url.clone());
                }
                answer
            }
        };
        let http = self.authorized.redirects().messages().limited().http();
        http.observed().meter.round_trip(answer.asked.elapsed());
        Ok(answer)
    }

    /// Asks where the registry sent us for this blob before. Whatever is no success there may just
    /// mean that the URL has expired: the registry is asked then, as if nothing had been known.
    fn at_known_location(&self, digest: Digest, request: &Request<'_>) -> Option<Answer> {
        let url = self.known.get(&digest)?;
        let asked = Instant::now();
        // It is never the registry itself, whose credentials it does not get.
        let sent = self.authorized.header(request, &url, false).ok().flatten();
        let messages = self.authorized.redirects().messages();
        let response = messages.send_to(&url, false, request, sent.as_deref());
        if let Ok(response) = response
            && response.status().is_success()
            && !is_page(&response)
        {
            return Some(Answer { response, url, is_registry: false, sent: None, asked });
        }
        log::debug!("{} has expired", without_query(&url));
        self.known.forget(&digest);
        None
    }

    /// Forgets where a blob lies, after an answer from there that could not be right.
    pub(in crate::source::registry) fn forget(&self, digest: &Digest) {
        self.known.forget(digest);
    }
}
