//! What a registry refused, in the user's words.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use ureq::Timeout;
use ureq::http::Uri;

use super::hosts::{self, Route};
use crate::hint::Hint;
use crate::json::{self, Text};
use crate::reference::Reference;
use crate::source::MIN_BYTES_PER_SECOND;

/// Longest `Retry-After` that is believed. Nobody waits beyond a deadline anyway.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

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
    /// The server has asked for no more requests, for so long yet.
    Limited(Duration),
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
        self.is_down() || matches!(self.failure, Failure::Limited(_)) || self.status() == Some(429)
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
                // Nobody listens, or the name does not exist: asking again changes nothing as a rule.
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

    /// Whether nobody was there to be asked, or nobody answered in time: as it is where the network drops
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
        pause_of(text)
    }
}

/// What a `Retry-After` means: seconds, or a date.
pub(super) fn pause_of(text: &str) -> Option<Duration> {
    let pause = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// A URL for people.
pub(super) fn without_query(url: &Uri) -> String {
    without_secrets(&url.to_string())
}

/// The URL without its query, which may hold a signature, and without a user and password.
fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

/// The body of an error (OCI distribution specification, "Error Codes").
#[derive(Deserialize)]
struct Envelope {
    /// The first is enough; like Go, [`json`] leaves alone what does not fit.
    #[serde(default, deserialize_with = "json::or_default")]
    errors: Option<(Words,)>,
}

/// What an error says, in the words of the specification or of other servers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    #[serde(deserialize_with = "json::or_default")]
    code: Text,
    #[serde(deserialize_with = "json::or_default")]
    message: Text,
    #[serde(deserialize_with = "json::or_default")]
    details: Text,
    #[serde(deserialize_with = "json::or_default")]
    detail: Text,
    #[serde(deserialize_with = "json::or_default")]
    error: Text,
}

/// The code and message of an error body: the OCI envelope or what others send instead.
pub(super) fn server_words(body: &[u8]) -> (Option<String>, Option<String>) {
    let envelope = json::first_value::<Envelope>(body).ok();
    let first = envelope.and_then(|envelope| envelope.errors).map(|(first,)| first);
    let words = first.or_else(|| json::first_value(body).ok()).unwrap_or_default();
    let Words { code, message, details, detail, error } = words;
    // Server text on a terminal: one line, no control characters, bounded.
    let shown = |text: Text| {
        let text: String = text.0.chars().filter(|c| !c.is_control()).take(300).collect();
        Some(text).filter(|text| !text.is_empty())
    };
    (shown(code), [message, details, detail, error].into_iter().find_map(shown))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}: ", self.what, self.url)?;
        self.failure_words(f)?;
        if let Some(came) = &self.came {
            let (bytes, of) = **came;
            write!(f, "; {} of {} had come", Bytes(bytes), Bytes(of))?;
        }
        for error in &self.before {
            write!(f, "; before, from {}: ", error.url)?;
            error.failure_words(f)?;
        }
        Ok(())
    }
}

impl Error {
    fn failure_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Failure::Url => f.write_str("this is not a valid URL"),
            Failure::Redirect => f.write_str(
                "the server redirects to an invalid address, to another protocol, or from https to http",
            ),
            Failure::LeadsInside => f.write_str(
                "the registry redirects to an address in this machine's own network: refused",
            ),
            Failure::NotLoopback => f.write_str(
                "the name means another machine here, to which plain HTTP is not spoken unasked",
            ),
            Failure::Hosts(error) => write!(f, "{error}"),
            Failure::TooManyRedirects => f.write_str("more than 10 redirects"),
            Failure::DocumentTooLarge => f.write_str("the document is larger than 4 MiB"),
            Failure::Transport(error) => {
                transport_words(f, error)?;
                let Some(proxy) = &self.proxy else { return Ok(()) };
                write!(f, " (asked through the proxy {proxy})")?;
                match &**error {
                    ureq::Error::ConnectProxyFailed(_) if self.url.starts_with("http://") => {
                        f.write_str(TUNNELS)
                    }
                    _ => Ok(()),
                }
            }
            Failure::Limited(left) => write!(
                f,
                "rate limited (429): retry in {} s, or log in",
                left.as_secs() + 1
            ),
            Failure::Challenge(kind) => {
                write!(f, "the registry requires authentication of an unknown kind ({kind})")
            }
            Failure::Token(why) => write!(f, "no access token: {why}"),
            Failure::Answer(what) => f.write_str(what),
            Failure::Stalled(time) => write!(
                f,
                "stalled: for {} s nothing came, or less than {MIN_BYTES_PER_SECOND} bytes a second",
                time.as_secs_f32().ceil()
            ),
            Failure::BrokeOff(error) => {
                write!(f, "the connection broke off again and again ({error}); try again later")
            }
            Failure::Status { status, code, message, .. } => {
                self.status_words(f, *status)?;
                match (code, message) {
                    (Some(code), Some(message)) => {
                        write!(f, " (the registry says {code}: {message})")
                    }
                    (Some(word), None) | (None, Some(word)) => {
                        write!(f, " (the registry says: {word})")
                    }
                    (None, None) => Ok(()),
                }
            }
        }
    }
}

impl Error {
    fn status_words(&self, f: &mut fmt::Formatter<'_>, status: u16) -> fmt::Result {
        let repository = self.repository.as_deref().unwrap_or("the repository");
        match status {
            400 | 401 | 403 if self.is_elsewhere => write!(
                f,
                "refused ({status}) by the storage that the registry redirects to: its signed URL \
                 has ended, or this machine's clock or a proxy is wrong"
            ),
            401 | 403 => {
                let Sought { host, source, searched, is_withheld, .. } = &*self.sought;
                write!(f, "access denied ({status}): ")?;
                if *is_withheld {
                    return write!(
                        f,
                        "{repository} does not exist or needs credentials, and none are sent to {host} \
                         in plain HTTP unless registries.conf or daemon.json calls it insecure"
                    );
                }
                match source {
                    Some(source) => write!(
                        f,
                        "the credentials from {source} are not accepted, or {repository} does not \
                         exist; renew them"
                    )?,
                    None => {
                        write!(f, "{repository} does not exist or needs credentials; give some")?
                    }
                }
                let host = if host.is_empty() { "REGISTRY" } else { host };
                write!(f, " with `docker login {host}` or `podman login {host}`")?;
                match (source, &searched[..]) {
                    (None, [_, ..]) => write!(f, " (looked in {})", searched.join(", ")),
                    _ => Ok(()),
                }
            }
            404 if self.is_listed => {
                write!(
                    f,
                    "not found: an image of {repository} lists it, but the registry does not have it"
                )
            }
            404 => match &self.tags {
                Some((tags, 0)) => write!(f, "not found; {repository} has {}", tags.join(", ")),
                Some((tags, more)) => {
                    write!(f, "not found; {repository} has {} and {more} more", tags.join(", "))
                }
                None => {
                    write!(
                        f,
                        "not found: {repository} does not exist there, or the name or tag is misspelt"
                    )?;
                    self.hiding_words(f)
                }
            },
            429 => f.write_str("rate limited (429): retry later, or log in"),
            500..=599 => write!(f, "the registry failed ({status})"),
            400 => {
                write!(f, "unexpected answer ({status})")?;
                self.hiding_words(f)
            }
            _ => write!(f, "unexpected answer ({status})"),
        }
    }

    /// What else it may be where the registry has asked for a login, which is not found.
    fn hiding_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sought { host, source, searched, may_hide, .. } = &*self.sought;
        match (source, &searched[..]) {
            (None, [_, ..]) if *may_hide => write!(
                f,
                "; or {host} shows it to its users alone: log in with `docker login {host}` or \
                 `podman login {host}` (looked in {})",
                searched.join(", ")
            ),
            _ => Ok(()),
        }
    }
}

/// What helps where a proxy makes no tunnel to a registry without TLS.
const TUNNELS: &str = "; plain HTTP needs a tunnel (CONNECT) as well, and many proxies make them to port \
                       443 alone: allow the registry's port there, or name its host in NO_PROXY if it \
                       can be reached directly";

fn transport_words(f: &mut fmt::Formatter<'_>, error: &ureq::Error) -> fmt::Result {
    if let Some(words) = hosts::words(error) {
        return f.write_str(&words);
    }
    match error {
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            f.write_str("connection refused: nothing listens there")
        }
        ureq::Error::HostNotFound => f.write_str("there is no host of that name"),
        // The words of the standard library for getaddrinfo(3); it has no kind of its own.
        ureq::Error::Io(e) if e.to_string().contains("failed to lookup address") => {
            f.write_str("there is no host of that name, or no name server answers")
        }
        ureq::Error::Timeout(phase) => {
            write!(f, "no answer in time ({})", phase_words(*phase))
        }
        ureq::Error::Protocol(error) => write!(f, "the answer is not valid HTTP ({error})"),
        ureq::Error::ConnectProxyFailed(why) if why.contains("407") => f.write_str(
            "the proxy requires a user and a password, or refuses these (they go into the proxy's URL)",
        ),
        ureq::Error::ConnectProxyFailed(why) => write!(f, "the proxy did not connect us: {why}"),
        error => write!(f, "{error}"),
    }
}

/// What was waited for.
fn phase_words(phase: Timeout) -> &'static str {
    match phase {
        Timeout::Resolve => "no name server did",
        Timeout::Connect => "connecting took too long",
        Timeout::SendRequest | Timeout::SendBody | Timeout::PerWrite => "sending took too long",
        Timeout::RecvResponse => "the server is silent",
        _ => "the server is silent or too slow",
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
        let mut value = self.0 as f64;
        let mut unit = "bytes";
        for next in UNITS.into_iter().take_while(|_| self.0 >= 1000) {
            if value < 1000.0 {
                break;
            }
            (value, unit) = (value / 1000.0, next);
        }
        match unit {
            "bytes" => write!(f, "{value} {unit}"),
            unit => write!(f, "{value:.1} {unit}"),
        }
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
    fn words_of_servers() {
        let oci = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"}]}"#;
        assert_eq!(server_words(oci), (Some("DENIED".into()), Some("no[31m way".into())));
        let other = br#"{"details":"token expired"}"#;
        assert_eq!(server_words(other), (None, Some("token expired".into())));
        let words = |body: &str| {
            let (code, message) = server_words(body.as_bytes());
            format!("{} {}", code.unwrap_or("-".into()), message.unwrap_or("-".into()))
        };
        for (body, expected) in [
            // As servers in other languages, and proxies, write it.
            (r#"{"Errors":[{"Code":"DENIED","Message":"no","detail":{"a":[1]}},5]}"#, "DENIED no"),
            (r#"{"errors":[{"code":401,"message":"no","detail":null}]}"#, "- no"),
            (r#"{"errors":[{"code":"DENIED","message":"","detail":"why"}]}"#, "DENIED why"),
            (r#"{"errors":null,"message":"no"}"#, "- no"),
            (r#"{"errors":[],"message":"no"}"#, "- no"),
            (r#"{"errors":"no","error":"denied"}"#, "- denied"),
            (r#"{"errors":["no"],"code":"UNKNOWN"}"#, "UNKNOWN -"),
            ("\u{feff}{\"message\":\"cut \\ud83d\"}\r\n<!-- proxy -->", "- cut \u{fffd}"),
            (r#"{"message":["no"],"error":{"code":1}}"#, "- -"),
            ("null", "- -"),
            ("[]", "- -"),
            ("<html>", "- -"),
            ("", "- -"),
        ] {
            assert_eq!(words(body), expected, "{body}");
        }
        let message = "x".repeat(1000);
        let long = format!(r#"{{"errors":[{{"message":"{message}"}},{}0]}}"#, "0,".repeat(10_000));
        assert_eq!(server_words(long.as_bytes()), (None, Some("x".repeat(300))));
    }

    #[test]
    fn bytes_for_people() {
        let words =
            [0, 999, 1000, 1_500_000, 3_000_000_000, u64::MAX].map(|n| Bytes(n).to_string());
        assert_eq!(words.join(" "), "0 bytes 999 bytes 1.0 KB 1.5 MB 3.0 GB 18446744.1 TB");
    }

    #[test]
    fn queries_are_not_printed() {
        let error = Error::new("blob", &"https://cdn/x?X-Amz-Signature=secret", Failure::Redirect);
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(without_secrets("https://me:secret@cdn/x?y"), "https://cdn/x");
    }
}
