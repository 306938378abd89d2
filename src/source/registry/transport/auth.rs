//! Authentication: challenges (RFC 9110, 11.6.1), Basic, and Bearer tokens (distribution project,
//! "Token Authentication Specification").
//!
//! A request is sent first without anything; the registry's 401 says what it wants. A password
//! goes out only in answer to such a challenge, and only to the registry itself or to the token
//! server it names. What is asked of that one, and what its answers mean, is in [`token_server`]. A registry
//! that another one redirects to is authenticated with by itself ([`elsewhere`]).

mod authorization;
mod elsewhere;
mod login;
mod refusal;
pub(in crate::source::registry) mod repository_auth;
mod scopes;
mod token_server;

use std::sync::Arc;

use ureq::Body as HttpBody;
use ureq::http::{Response, Uri};

use super::encoding;
use super::error_body::server_words;
use super::redirect::Redirects;
use super::request::{Answer, MAX_REDIRECTS, Request};
use super::response::{MAX_ERROR_BODY_BYTES, asked_to_wait, content_encoding, error_body};
use crate::reference::Reference;
use crate::source::registry::error::{Error, Failure};
use crate::source::registry::hosts;
use elsewhere::Elsewhere;
use refusal::Refusal;
use repository_auth::RepositoryAuth;

/// [`Redirects`], with what each registry on the way wants to be authorised by.
#[derive(Debug)]
pub(in crate::source::registry) struct Authorized {
    redirects: Redirects,
    /// The image, as it is called at the host.
    reference: Reference,
    own: Arc<RepositoryAuth>,
    /// Authentication with other registries that this one redirects to.
    elsewhere: Elsewhere,
}

impl Authorized {
    pub(in crate::source::registry) fn new(
        redirects: Redirects,
        reference: Reference,
        own: Arc<RepositoryAuth>,
    ) -> Authorized {
        Authorized { redirects, reference, own, elsewhere: Elsewhere::default() }
    }

    /// What is authorised.
    pub(in crate::source::registry) fn redirects(&self) -> &Redirects {
        &self.redirects
    }

    /// Sends a request, and once more for each registry on the way that says what it wants to let us.
    pub(in crate::source::registry) fn authorize(
        &self,
        request: &Request<'_>,
    ) -> Result<Answer, Error> {
        let messages = self.redirects.messages();
        let mut reauthorised: Vec<Arc<RepositoryAuth>> = Vec::new();
        let mut refused_at = None;
        loop {
            let header = |url: &Uri, is_registry| self.header(request, url, is_registry);
            let answer = self.redirects.follow_redirects(request, refused_at.as_ref(), header)?;
            if answer.response.status().is_success() {
                let auth = self.at(request, &answer.url, answer.is_registry);
                if let (Some(sent), Some(auth)) = (&answer.sent, auth) {
                    auth.accepted(sent);
                }
                return Ok(answer);
            }
            let Answer { response, url, is_registry, sent, .. } = answer;
            let refusal = refusal::of(&response, &url, sent);
            let auth = self.refusing(request, &url, is_registry, refusal.as_ref());
            let mut error = self.error(request, response, &url).elsewhere(auth.is_none());
            let Some(auth) = auth else { return Err(error) };
            let may_hide = refusal.as_ref().is_some_and(|refusal| refusal.may_hide);
            // What the user says to send there is sent already.
            let is_said = is_registry && messages.has_own_authorization();
            let is_moot = request.may_be_absent || is_said || error.wants_tls() || !auth.may_hide();
            let is_moot = may_hide && is_moot;
            if let Some(refusal) = refusal.filter(|_| !is_moot)
                && !reauthorised.iter().any(|before| Arc::ptr_eq(before, &auth))
                && reauthorised.len() < MAX_REDIRECTS
            {
                match auth.answer(messages, &refusal) {
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

    /// What to send in the `Authorization` header to a URL.
    pub(in crate::source::registry) fn header(
        &self,
        request: &Request<'_>,
        url: &Uri,
        is_registry: bool,
    ) -> Result<Option<String>, Error> {
        let auth = self.at(request, url, is_registry);
        auth.map_or(Ok(None), |auth| auth.header(self.redirects.messages()))
    }

    /// Authentication for a request to a URL: that of the registry, or of another one that has sent a
    /// challenge; `None` for storage.
    fn at(
        &self,
        request: &Request<'_>,
        url: &Uri,
        is_registry: bool,
    ) -> Option<Arc<RepositoryAuth>> {
        match is_registry {
            true => Some(Arc::clone(&self.own)),
            false => self.elsewhere.known(url).filter(|_| request.is_reading()),
        }
    }

    /// Authentication with the registry that refuses a request; `None` for the storage that a registry
    /// redirects to, which gets no credentials.
    fn refusing(
        &self,
        request: &Request<'_>,
        url: &Uri,
        is_registry: bool,
        refusal: Option<&Refusal>,
    ) -> Option<Arc<RepositoryAuth>> {
        let known = self.at(request, url, is_registry);
        let (None, true, Some(refusal)) = (&known, request.is_reading(), refusal) else {
            return known;
        };
        // A blob at a URL with a query is one of storage, signed.
        let is_signed =
            request.blob.is_some() && url.query().is_some_and(|q| !q.starts_with("ns="));
        let messages = self.redirects.messages();
        let from = messages.schemes().origin().filter(|_| !is_signed)?;
        let options = messages.limited().http().options();
        self.elsewhere.refusing(url, refusal, from, &self.reference, options)
    }

    /// Turns an answer that is no success into an error with the server's own words.
    fn error(&self, request: &Request<'_>, response: Response<HttpBody>, url: &Uri) -> Error {
        let status = response.status();
        let retry_after = asked_to_wait(&response);
        let encoding = content_encoding(&response);
        let text = error_body(&mut response.into_body());
        let text = encoding::decoded(text, encoding.as_deref(), MAX_ERROR_BODY_BYTES);
        let (code, message) = server_words(&text);
        let page = || hosts::page_words(status.as_u16(), &text).map(str::to_owned);
        let message = message.or_else(page);
        let failure = Failure::Status { status: status.as_u16(), code, message, retry_after };
        Error::new(request.what, url, failure)
            .in_repository(self.reference.registry(), self.reference.repository())
    }
}
