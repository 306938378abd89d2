//! What is asked of a registry, and the answer.

use std::ops::Range;
use std::time::Instant;

use ureq::Body as HttpBody;
use ureq::http::{Method, Response, Uri};

use crate::digest::Digest;

/// Redirects followed for one request.
pub(in crate::source::registry) const MAX_REDIRECTS: usize = 10;

/// A request before it is sent: what stays the same over redirects and tries.
#[derive(Clone, Debug)]
pub(in crate::source::registry) struct Request<'a> {
    pub(in crate::source::registry) method: Method,
    /// Where it goes first: for all but uploads something of the repository, see [`Client::url`](crate::source::registry::client::Client::url).
    pub(in crate::source::registry) url: &'a str,
    /// The media types that are understood. Each goes on a line of its own, as old registries and
    /// proxies do not take a list apart.
    pub(in crate::source::registry) accept: &'a [&'a str],
    /// The blob that is read, if it is one: it may lie elsewhere, and may take long.
    pub(in crate::source::registry) blob: Option<Digest>,
    /// Bytes wanted; all if not said.
    pub(in crate::source::registry) range: Option<Range<u64>>,
    /// What is sent, and its media type.
    pub(in crate::source::registry) payload: Option<(&'a [u8], &'a str)>,
    /// That it does not exist is as good an answer as any.
    pub(in crate::source::registry) may_be_absent: bool,
    /// What is asked for, in the user's words.
    pub(in crate::source::registry) what: &'a str,
}

impl<'a> Request<'a> {
    pub(in crate::source::registry) fn new(
        method: Method,
        url: &'a str,
        what: &'a str,
    ) -> Request<'a> {
        let (blob, range, payload, may_be_absent) = (None, None, None, false);
        Request { method, url, accept: &[], blob, range, payload, may_be_absent, what }
    }

    /// Whether it changes nothing.
    pub(in crate::source::registry) fn is_reading(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// What is asked of a registry: the actions that a token has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::source::registry) enum Access {
    Read,
    Push,
    /// The list of repositories.
    Catalog,
}

/// An answer, and who gave it.
pub(in crate::source::registry) struct Answer {
    pub(in crate::source::registry) response: Response<HttpBody>,
    pub(in crate::source::registry) url: Uri,
    /// It is the registry's own, not that of where it redirects to.
    pub(in crate::source::registry) is_registry: bool,
    /// The value of the `Authorization` header that it answers to.
    pub(in crate::source::registry) sent: Option<String>,
    /// When it was asked for.
    pub(in crate::source::registry) asked: Instant,
}
