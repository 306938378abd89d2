//! A failed request in the user's words: one line that says what failed and what helps.

use std::fmt;

use ureq::Timeout;

use super::{Error, Failure, Sought};
use crate::source::MIN_BYTES_PER_SECOND;
use crate::source::registry::hosts;

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
            Failure::Limited { status: 503, left } => write!(
                f,
                "the registry has asked for a pause (503): retry in {} s",
                left.as_secs() + 1
            ),
            Failure::Limited { status, left } => write!(
                f,
                "rate limited ({status}): retry in {} s, or log in",
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
                        "not found: {repository} does not exist there, or the name, tag or digest is misspelt"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        let words =
            [0, 999, 1000, 1_500_000, 3_000_000_000, u64::MAX].map(|n| Bytes(n).to_string());
        assert_eq!(words.join(" "), "0 bytes 999 bytes 1.0 KB 1.5 MB 3.0 GB 18446744.1 TB");
    }
}
