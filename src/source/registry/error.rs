//! A request that failed: what was asked of whom, what came back, and what that means for asking again.
//!
//! How it is told is in [`words`].

mod words;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;

use super::hosts::{self, Route};
use super::retry_after;
use super::url::{without_query, without_secrets};
use crate::hint::Hint;
use crate::reference::Reference;

/// A request that failed: what was asked of whom, what came back, and what helps.
#[derive(Clone, Debug)]
pub struct Error {
    what: String,
    url: String,
    repository: Option<String>,
    tags: Option<(Vec<String>, usize)>,
    sought: Box<Sought>,
    /// Not the registry has answered, but where it redirects to.
    is_elsewhere: bool,
    /// A document of the registry names what was asked for.
    is_listed: bool,
    /// The proxy between, for people.
    proxy: Option<Box<str>>,
    failure: Failure,
    /// What other hosts had said to the same question.
    before: Vec<Error>,
    /// How much of a blob had come before, and of how much.
    came: Option<Box<(u64, u64)>>,
}

/// Where credentials were looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Sought {
    /// The registry, as its name is given to `docker login`.
    pub(super) host: String,
    /// Where those that were sent are from.
    pub(super) source: Option<String>,
    /// All places, in order.
    pub(super) searched: Vec<String>,
    /// There may be some, which are not sent in plain HTTP.
    pub(super) is_withheld: bool,
    /// The registry says at the root of its API alone that it wants some.
    pub(super) may_hide: bool,
}

/// How a request failed.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "told by their messages below")]
pub enum Failure {
    Url,
    Redirect,
    TooManyRedirects,
    DocumentTooLarge,
    Transport(Arc<ureq::Error>),
    Status {
        status: u16,
        code: Option<String>,
        message: Option<String>,
        retry_after: Option<String>,
    },
    /// A server that anyone can run sends us to an address in this network.
    LeadsInside,
    /// A name of this machine leads to another one, to which plain HTTP is not spoken.
    NotLoopback,
    /// A file about this host can't be used.
    Hosts(Arc<hosts::Error>),
    /// The server has asked for no more requests, with this status, for so long yet.
    Limited {
        status: u16,
        left: Duration,
    },
    /// The server wants authentication of a kind that we do not speak.
    Challenge(String),
    /// The token server's answer is of no use.
    Token(String),
    /// A blob came more slowly, for so long, than any link that is of use.
    Stalled(Duration),
    /// The connection broke in the middle of a blob, again and again.
    BrokeOff(Arc<io::Error>),
    /// A blob answer that contradicts the request or the descriptor.
    Answer(String),
}

impl Error {
    pub(super) fn new(what: &str, url: &impl fmt::Display, failure: Failure) -> Error {
        let url = without_secrets(&url.to_string());
        let (what, sought) = (what.to_owned(), Box::default());
        let (repository, tags, proxy) = (None, None, None);
        let (is_elsewhere, is_listed) = (false, false);
        let (before, came) = (Vec::new(), None);
        Error {
            what,
            url,
            repository,
            tags,
            sought,
            is_elsewhere,
            is_listed,
            proxy,
            failure,
            before,
            came,
        }
    }

    /// Tells which proxy it went through, if any.
    pub(super) fn through(self, route: Route) -> Error {
        let proxy = match route {
            Route::Proxy(proxy) => Some(proxy.to_string().into()),
            Route::Direct | Route::Loopback | Route::Exempt(_) => None,
        };
        Error { proxy, ..self }
    }

    /// Tells where credentials were looked for.
    pub(super) fn with_sought(self, sought: Sought) -> Error {
        Error { sought: Box::new(sought), ..self }
    }

    /// Tells whether it was the registry itself that answered.
    pub(super) fn elsewhere(self, is_elsewhere: bool) -> Error {
        Error { is_elsewhere, ..self }
    }

    /// Tells that a document of the registry names what was asked for.
    pub(super) fn listed(self) -> Error {
        Error { is_listed: true, ..self }
    }

    pub(super) fn in_repository(mut self, registry: &str, repository: &str) -> Error {
        self.repository = Some(format!("{registry}/{repository}"));
        self
    }

    /// Tells that another registry is meant, to which this one redirects.
    pub(super) fn redirected_to(mut self, repository: &str, from: &Reference) -> Error {
        let (registry, own) = (from.registry(), from.repository());
        self.repository = Some(format!("{repository} (to which {registry}/{own} redirects)"));
        self
    }

    pub(super) fn available_tags(&mut self, tags: Vec<String>, more: usize) {
        self.tags = (!tags.is_empty()).then_some((tags, more));
    }

    /// This error, with those of the hosts that had been asked before.
    pub(super) fn after(self, before: Vec<Error>) -> Error {
        Error { before, ..self }
    }

    /// Tells how much of a blob had come, and of how much.
    pub(super) fn with_came(self, bytes: u64, of: u64) -> Error {
        Error { came: Some(Box::new((bytes, of))), ..self }
    }

    /// Whether there was no answer, as connecting failed or what came was none.
    pub(super) fn is_transport(&self) -> bool {
        matches!(self.failure, Failure::Transport(_))
    }

    /// Whether the server could not be reached or does not work at all, or limits requests.
    pub(super) fn is_outage(&self) -> bool {
        self.is_down()
            || matches!(self.failure, Failure::Limited { .. })
            || self.status() == Some(429)
    }

    /// Whether the server could not be reached or does not work at all.
    fn is_down(&self) -> bool {
        let is_transport = self.is_transport() && !self.is_malformed();
        is_transport || matches!(self.status(), Some(502..=504))
    }

    /// Whether no host serves for now, and none of them has said that there is no such thing.
    pub(super) fn is_gone(&self) -> bool {
        self.is_down() && !self.before.iter().any(Error::is_not_found)
    }

    /// Whether a server that was asked over TLS does not speak it.
    pub(super) fn is_not_tls(&self) -> bool {
        matches!(&self.failure, Failure::Transport(error) if hosts::is_not_tls(error))
    }

    /// Whether a server that was asked in plain HTTP says that it speaks TLS, or must not be asked so.
    pub(super) fn wants_tls(&self) -> bool {
        match &self.failure {
            Failure::NotLoopback => true,
            Failure::Status { status: 400, message: Some(message), .. } => {
                message == hosts::SPEAKS_TLS
            }
            _ => false,
        }
    }

    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        let own = match &self.failure {
            Failure::NotLoopback => Some(Hint::SpeakPlainHttp),
            Failure::Stalled(_) => Some(Hint::AllowMoreTime),
            Failure::Transport(error) => match &**error {
                ureq::Error::Timeout(_) => Some(Hint::AllowMoreTime),
                error => hosts::hint(error),
            },
            Failure::Status { message: Some(message), .. } if message == hosts::CLIENT_WANTED => {
                Some(Hint::GiveClientCertificate)
            }
            _ => None,
        };
        own.or_else(|| self.before.iter().find_map(Error::hint))
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match &self.failure {
            Failure::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the registry has answered at all.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.failure, Failure::Status { .. } | Failure::Challenge(_))
    }

    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_temporary(&self) -> bool {
        // An answer of the last host, the registry itself, decides.
        if !self.is_answer() && self.before.iter().any(Error::is_temporary) {
            return true;
        }
        match &self.failure {
            Failure::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 499 | 500 | 502..=504 | 520..=527)
            }
            Failure::Transport(error) if hosts::is_lasting(error) => false,
            Failure::Transport(error) => match &**error {
                // No program listens, or the name does not exist: asking again changes nothing as a rule.
                ureq::Error::Io(e) => e.kind() != std::io::ErrorKind::ConnectionRefused,
                ureq::Error::Protocol(_) | ureq::Error::BodyStalled => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether it is about what was asked for there.
    pub(super) fn is_from(&self, url: &Uri) -> bool {
        self.url == without_query(url)
    }

    /// Whether it was waited for in vain.
    pub(super) fn is_timeout(&self) -> bool {
        matches!(&self.failure, Failure::Transport(error)
            if matches!(**error, ureq::Error::Timeout(_)))
    }

    /// Whether what came is not HTTP.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(&self.failure, Failure::Transport(error)
            if matches!(**error, ureq::Error::Protocol(_)))
    }

    /// Whether no server was there to be asked, or none answered in time: as it is where the network drops
    /// what is sent, or forgot a connection that was used before.
    pub(super) fn is_unreachable(&self) -> bool {
        let Failure::Transport(error) = &self.failure else { return false };
        match &**error {
            ureq::Error::Io(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
            ureq::Error::HostNotFound | ureq::Error::Timeout(_) => true,
            _ => false,
        }
    }

    /// What the server asks to wait, bounded.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Failure::Status { retry_after: Some(text), .. } = &self.failure else { return None };
        retry_after::parse(text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The transport's error is part of the sentence above.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_not_printed() {
        let error = Error::new("blob", &"https://cdn/x?X-Amz-Signature=secret", Failure::Redirect);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
