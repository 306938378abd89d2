//! HTTP/1.1 as the test registry speaks it: requests, responses, and what may go wrong on the way.
//!
//! This is apart from the registry so that one file decides what to answer and this one how it
//! travels. The last byte of a request's head stays unread at first: closing a socket with unread
//! input makes the kernel send a reset, which is how [`Fault::Reset`] works without unsafe code.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::image::{Compression, compress, sha256};

/// Between two bytes of what trickles.
const SLOW: Duration = Duration::from_millis(100);

/// What is wrong with a response. Offsets count in the body that is sent.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another status, with these headers and this body; a `Transfer-Encoding` is up to the body.
    Status(u16, Vec<(String, String)>, Vec<u8>),
    /// The connection is closed after so many bytes of the body.
    Truncate(usize),
    /// All bits of the byte at this offset are inverted.
    FlipByte(usize),
    /// The same place of other content, which may end earlier: another version of what was asked for.
    Other(Arc<Vec<u8>>),
    /// The `Content-Range` is for a range that starts one byte further on.
    WrongContentRange,
    /// So many bytes of a range at most, with a `Content-Range` that says so.
    ShortRange(usize),
    /// This comes before the response.
    Preliminary(&'static str),
    /// So many bytes too much, which the `Content-Length` includes.
    ExtraBytes(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// Nothing comes for a while after so many bytes of the body.
    Stall(usize, Duration),
    /// Nothing comes until the gate is open.
    Hold(Gate),
    /// So many bytes come every 10 milliseconds.
    Drip(usize),
    /// Nothing comes any more after half of the body.
    StallHalf,
    /// After so many bytes of the body one comes every 100 milliseconds.
    Trickle(usize),
    /// After so many bytes of the head nothing comes any more.
    StallHead(usize),
    /// Of the head one byte comes every 100 milliseconds, after so many.
    TrickleHead(usize),
    /// The body is chunked, and what comes before the first chunk never ends: a byte every 100
    /// milliseconds.
    TrickleFraming,
    /// A redirect to this location, absolute or relative.
    Redirect(u16, String),
    /// The whole body with status 200, whatever range was asked for.
    IgnoreRange,
    /// A `Content-Length` that is one less than the body, which is sent in full.
    WrongLength,
    /// No `Content-Length`, but a chunked body.
    NoLength,
    /// A `Content-Encoding`. For `gzip` the body really is compressed.
    ContentEncoding(String),
    /// A `Docker-Content-Digest` of other content.
    WrongDigestHeader,
    /// Another `Content-Type`.
    ContentType(String),
    /// As from a cache that answers ranges with everything, unless asked past it.
    CachedWhole,
    /// 406, unless one line of `Accept` is this media type and nothing else.
    WantsAcceptLine(String),
    /// The connection is closed without a response.
    CloseBeforeResponse,
}

/// Holds responses back until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The head of a request, as far as the registry cares.
pub struct Request {
    pub method: String,
    /// The path with its query.
    pub target: String,
    headers: Vec<(String, String)>,
    /// The body, if it changes something.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads the head of a request but for its last byte. There is none at the end of the input.
    pub fn read(mut stream: &TcpStream) -> io::Result<Option<Request>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r") {
            if stream.read(&mut byte)? == 0 {
                return Ok(None);
            }
            // The hello of TLS, which is not spoken here.
            if head.is_empty() && byte == [0x16] {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default().to_string();
        let (method, target) = (word(), word());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_string(), value.trim().to_string()))
            .collect();
        Ok(Some(Request { method, target, headers, body: Vec::new() }))
    }

    /// Reads what is left of the request: the end of the head, and the body, which is returned.
    pub fn finish(&self, stream: &TcpStream) -> io::Result<Vec<u8>> {
        let length = self.header("content-length").and_then(|value| value.parse().ok());
        let mut rest = Vec::new();
        stream.take(1 + length.unwrap_or(0)).read_to_end(&mut rest)?;
        Ok(rest.split_off(rest.len().min(1)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Whether one of the headers of this name has exactly this value.
    pub fn has_line(&self, name: &str, value: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(other, line)| other.eq_ignore_ascii_case(name) && line == value)
    }

    pub fn is_read(&self) -> bool {
        matches!(&self.method[..], "GET" | "HEAD")
    }

    pub fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A response without its framing.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        let response = Response { status, headers: Vec::new(), body: body.into() };
        response.with("Content-Type", content_type)
    }

    /// An error in the form that the distribution API gives it.
    pub fn error(status: u16, code: &str) -> Response {
        let body = json!({ "errors": [{ "code": code, "message": "from the test registry" }] });
        Response::new(status, "application/json", body.to_string())
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Sets a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_string(), value.into()));
        self
    }
}

/// Makes those changes of a fault that concern what is sent, not how.
pub fn spoil(mut response: Response, fault: Option<&Fault>) -> Response {
    match fault {
        Some(Fault::Status(status, headers, body)) => {
            let (headers, body) = (headers.clone(), body.clone());
            return Response { status: *status, headers, body };
        }
        Some(Fault::Redirect(status, location)) => {
            return Response::new(*status, "text/plain", "").with("Location", location);
        }
        Some(Fault::FlipByte(at)) => {
            if let Some(byte) = response.body.get_mut(*at) {
                *byte = !*byte;
            }
        }
        Some(Fault::Other(other)) => {
            let start = content_range(&response).map_or(0, |(start, _, _)| start as usize);
            let place = other.iter().skip(start).chain(std::iter::repeat(&b'x'));
            response.body = place.take(response.body.len()).copied().collect();
        }
        Some(Fault::ExtraBytes(count)) => {
            response.body.resize(response.body.len() + count, b'x');
        }
        Some(Fault::WrongContentRange) => {
            if let Some((start, end, total)) = content_range(&response) {
                let value = format!("bytes {}-{}/{total}", start + 1, end + 1);
                response = response.with("Content-Range", value);
            }
        }
        Some(Fault::ShortRange(most)) => {
            if let Some((start, _, total)) = content_range(&response) {
                response.body.truncate(*most);
                let end = start + response.body.len() as u64 - 1;
                response = response.with("Content-Range", format!("bytes {start}-{end}/{total}"));
            }
        }
        Some(Fault::ContentEncoding(encoding)) => {
            if encoding == "gzip" {
                response.body = compress(&response.body, Compression::Gzip);
            }
            response = response.with("Content-Encoding", encoding);
        }
        Some(Fault::ContentType(media_type)) => {
            response = response.with("Content-Type", media_type);
        }
        Some(Fault::CachedWhole) if response.status == 200 => {
            response = response.with("Age", "7");
        }
        Some(Fault::WrongDigestHeader) => {
            response = response.with("Docker-Content-Digest", sha256(b"other content"));
        }
        _ => {}
    }
    response
}

/// Sends responses on a connection.
pub struct Wire<'a> {
    pub stream: &'a TcpStream,
    /// Counts the bytes of bodies that are sent.
    pub sent: &'a AtomicU64,
    /// Waits, and says whether to go on.
    pub pause: &'a dyn Fn(Duration) -> bool,
}

impl Wire<'_> {
    /// Sends a response the way a fault has it, and says whether the connection remains usable.
    ///
    /// For a reset the request must not have been finished.
    pub fn send(
        &self,
        response: Response,
        head_only: bool,
        fault: Option<&Fault>,
    ) -> io::Result<bool> {
        if matches!(fault, Some(Fault::CloseBeforeResponse)) {
            return Ok(false);
        }
        if let Some(Fault::Hold(gate)) = fault {
            while !gate.0.load(Ordering::SeqCst) && (self.pause)(Duration::from_millis(2)) {}
        }
        let chunked = matches!(fault, Some(Fault::NoLength | Fault::TrickleFraming));
        let length = response.body.len();
        let response = match fault {
            Some(Fault::NoLength | Fault::TrickleFraming) => {
                response.with("Transfer-Encoding", "chunked")
            }
            // A status that was spelled out with its own framing.
            _ if response.has("Transfer-Encoding") => response,
            Some(Fault::WrongLength) => {
                response.with("Content-Length", length.saturating_sub(1).to_string())
            }
            _ => response.with("Content-Length", length.to_string()),
        };
        let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
        for (name, value) in &response.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let head = [head.as_bytes(), b"\r\n"].concat();
        if let Some(Fault::Preliminary(before)) = fault {
            self.write(before.as_bytes())?;
        }
        match fault {
            Some(Fault::StallHead(after)) => {
                self.write(&head[..*after])?;
                while (self.pause)(SLOW) {}
                return Ok(false);
            }
            Some(Fault::TrickleHead(after)) => {
                self.write(&head[..*after])?;
                // So long a header that its end does not matter.
                let endless = b"X-Endless: ".iter().chain(std::iter::repeat(&b'x'));
                self.trickle(endless)?;
                return Ok(false);
            }
            _ => self.write(&head)?,
        }
        let body = if head_only { b"" } else { &response.body[..] };
        let part = |count: usize| body.split_at(count.min(body.len()));
        match fault {
            Some(Fault::Truncate(after)) => {
                self.body(part(*after).0, false)?;
                return Ok(false);
            }
            Some(Fault::Reset(after)) => {
                self.body(part(*after).0, false)?;
                // What was sent has to reach the client before the reset overtakes it.
                (self.pause)(Duration::from_millis(50));
                return Ok(false);
            }
            Some(Fault::Stall(after, duration)) => {
                self.body(part(*after).0, false)?;
                (self.pause)(*duration);
                self.body(part(*after).1, false)?;
            }
            Some(Fault::StallHalf) => {
                self.body(part(body.len() / 2).0, false)?;
                while (self.pause)(SLOW) {}
                return Ok(false);
            }
            Some(Fault::Drip(size)) => {
                for piece in body.chunks((*size).max(1)) {
                    self.body(piece, false)?;
                    (self.pause)(Duration::from_millis(10));
                }
            }
            Some(Fault::Trickle(after)) => {
                self.body(part(*after).0, false)?;
                self.trickle(part(*after).1)?;
            }
            Some(Fault::TrickleFraming) if !head_only => {
                self.trickle(b"5;x=".iter().chain(std::iter::repeat(&b'x')))?;
            }
            _ => self.body(body, chunked)?,
        }
        if chunked && !head_only {
            self.write(b"0\r\n\r\n")?;
        }
        Ok(!matches!(fault, Some(Fault::WrongLength)))
    }

    fn body(&self, bytes: &[u8], chunked: bool) -> io::Result<()> {
        for piece in bytes.chunks(64 * 1024) {
            if !(self.pause)(Duration::ZERO) {
                return Err(io::Error::other("the registry stops"));
            }
            // Counted before it is sent, since a client that has the last byte may ask at once.
            let count = piece.len() as u64;
            self.sent.fetch_add(count, Ordering::SeqCst);
            let written = if chunked {
                self.write(&[format!("{count:x}\r\n").as_bytes(), piece, b"\r\n"].concat())
            } else {
                self.write(piece)
            };
            written.inspect_err(|_| {
                self.sent.fetch_sub(count, Ordering::SeqCst);
            })?;
        }
        Ok(())
    }

    /// Sends one byte after the other, slowly, as long as the registry goes on.
    fn trickle<'b>(&self, bytes: impl IntoIterator<Item = &'b u8>) -> io::Result<()> {
        for byte in bytes {
            if !(self.pause)(SLOW) {
                return Err(io::Error::other("the registry stops"));
            }
            self.write(&[*byte])?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }
}

/// Start, end and total of a part.
fn content_range(response: &Response) -> Option<(u64, u64, String)> {
    let (_, value) = response.headers.iter().find(|(name, _)| name == "Content-Range")?;
    let (range, total) = value.trim_start_matches("bytes ").split_once('/')?;
    let (start, end) = parse_pair(range)?;
    Some((start, end, total.to_owned()))
}

fn parse_pair(range: &str) -> Option<(u64, u64)> {
    let (start, end) = range.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// The response to a request for a blob, or for a range of it.
pub fn blob(bytes: &[u8], range: Option<&str>) -> Response {
    let whole =
        Response::new(200, "application/octet-stream", bytes).with("Accept-Ranges", "bytes");
    // Several ranges at once, and what is no range of bytes, may be ignored.
    let Some((start, end)) = range
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return whole;
    };
    let (size, last) = (bytes.len(), bytes.len().saturating_sub(1));
    let (start, end) = match (start.parse::<usize>(), end.parse::<usize>()) {
        (Ok(start), Ok(end)) if start <= end => (start, end.min(last)),
        (Ok(start), Err(_)) if end.is_empty() => (start, last),
        (Err(_), Ok(count)) if start.is_empty() => {
            (if count == 0 { size } else { size.saturating_sub(count) }, last)
        }
        _ => return whole,
    };
    if start >= size {
        return Response::error(416, "RANGE_INVALID")
            .with("Content-Range", format!("bytes */{size}"));
    }
    Response { status: 206, body: bytes[start..=end].to_vec(), ..whole }
        .with("Content-Range", format!("bytes {start}-{end}/{size}"))
}

/// Resolves percent escapes, and `+` for a blank, which no path of this API contains.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
