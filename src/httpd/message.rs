//! Requests and answers (RFC 9112), as far as they count here.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or another one, in upper case.
    pub method: String,
    /// The path, without what follows a `?`; as it was sent, with its escapes.
    pub path: String,
    /// Whom the client means, as it was told of this address; empty if it does not say.
    pub host: String,
    /// What the client calls itself; empty if it does not say.
    pub user_agent: String,
}

impl Request {
    /// Of its head; `None` if that is not HTTP/1.
    pub(super) fn parse(head: &[u8]) -> Option<Request> {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let line = std::str::from_utf8(lines.next()?).ok()?;
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = words[..] else { return None };
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let headers: Vec<(&str, &str)> = lines
            .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let header = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| (*value).to_owned()).unwrap_or_default()
        };
        let (host, user_agent) = (header("host"), header("user-agent"));
        Some(Request { method: method.to_owned(), path, host, user_agent })
    }

    /// Whether only the head of the answer is wanted.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether the client means an address, or `localhost`, and no name that a stranger may have given to this machine: a browser
    /// lets a web page read what is answered under the page's own name.
    pub fn means_an_address(&self) -> bool {
        let host = self.host.as_str();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        host.is_empty()
            || host.parse::<SocketAddr>().is_ok()
            || bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
    }

    /// Whether something is to be read.
    pub fn is_reading(&self) -> bool {
        self.is_head() || self.method == "GET"
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The code and its phrase: `200 OK`.
    pub status: &'static str,
    /// Headers beside those of the connection and the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body; not sent where only the head was asked for.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// All of it.
    Bytes(Vec<u8>),
    /// What a reader gives.
    Stream {
        /// Fails, or ends too early, if what it gives is not right.
        reader: Box<dyn Read + Send>,
        /// How much it gives, in bytes.
        length: u64,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length())
    }
}

impl Body {
    fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream { length, .. } => *length,
        }
    }
}

impl Response {
    /// An answer in words.
    pub fn text(status: &'static str, text: impl Into<String>) -> Response {
        let headers = vec![("Content-Type", "text/plain".to_owned())];
        Response { status, headers, body: Body::Bytes(text.into().into_bytes()) }
    }

    /// What stands before the body.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        // A value that strangers have written may not make a header of its own.
        let is_plain = |value: &str| !value.bytes().any(|byte| byte.is_ascii_control());
        for (name, value) in self.headers.iter().filter(|(_, value)| is_plain(value)) {
            head += &format!("{name}: {value}\r\n");
        }
        head + &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.length())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some(("GET", "/metrics"))),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", Some(("GET", "/metrics"))),
            ("HEAD /v2/ HTTP/1.1\r\n\r\n", Some(("HEAD", "/v2/"))),
            ("GET /metrics HTTP/2\r\n\r\n", None),
            ("GET /metrics", None),
            ("", None),
            ("\0\u{1}\n\n", None),
        ] {
            let parsed = Request::parse(head.as_bytes());
            let parsed = parsed.as_ref().map(|r| (r.method.as_str(), r.path.as_str()));
            assert_eq!(parsed, expected, "{head:?}");
        }
        assert_eq!(Request::parse(b"GET /\xff HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn clients_say_who_they_are() {
        let agent = |head: &str| Request::parse(head.as_bytes()).unwrap().user_agent;
        assert_eq!(agent("GET / HTTP/1.1\r\nHost: x\r\nuser-agent:  a/1 b\r\n\r\n"), "a/1 b");
        assert_eq!(agent("GET / HTTP/1.1\r\n\r\n"), "");
    }

    #[test]
    fn hosts_that_are_addresses() {
        for (host, expected) in [
            ("127.0.0.1:5001", true),
            ("127.0.0.1", true),
            ("[::1]:5001", true),
            ("[::1]", true),
            ("localhost:5001", true),
            ("LOCALHOST", true),
            ("", true),
            ("evil.example:5001", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example:5001", false),
            ("localhost.evil.example", false),
            ("[::1].evil.example", false),
        ] {
            let head = format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let request = Request::parse(head.as_bytes()).unwrap();
            assert_eq!(request.means_an_address(), expected, "{host}");
        }
    }

    #[test]
    fn heads_of_answers() {
        let mut answer = Response::text("404 Not Found", "none\n");
        answer.headers.push(("X", "a\r\nY: b".to_owned()));
        assert_eq!(
            answer.head(),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        );
    }
}
