//! The server.
//!
//! # Design
//!
//! Only the first line of a request counts; the rest of its head is read so that the answer is not lost when the connection is
//! closed. (Rejected: a library for HTTP servers. They bring threads, routes and TLS for one constant path; who wants more
//! than loopback puts a proxy in front.)
//!
//! # Invariants
//!
//! - A request has [`PATIENCE`] and [`MAX_HEAD_BYTES`], and there are [`MAX_CONNECTIONS`] at a time.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Address;

/// How long a client may take for its request, and again for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Clients at the same time; others are closed at once.
const MAX_CONNECTIONS: usize = 8;

/// The media type of the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nobody can be answered at an address.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct ListenError {
    address: String,
    cause: io::Error,
}

/// An address that is listened on.
#[derive(Debug)]
pub struct Listener(Bound);

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens. A socket that a process which was killed has left is replaced.
    ///
    /// # Errors
    /// The address can't be had.
    pub fn bind(address: &Address) -> Result<Listener, ListenError> {
        let bound = match address {
            Address::Tcp(host) => TcpListener::bind(host).map(Bound::Tcp),
            Address::Unix(path) => {
                remove_dead_socket(path).and_then(|()| UnixListener::bind(path)).map(Bound::Unix)
            }
        };
        let failed = |cause| ListenError { address: address.to_string(), cause };
        let listener = Listener(bound.map_err(failed)?);
        if let Bound::Tcp(listener) = &listener.0
            && let Ok(at) = listener.local_addr()
        {
            log::info!("metrics at http://{at}/metrics");
        }
        Ok(listener)
    }

    /// Serves what `text` returns, or the words of its error, until the process ends.
    pub fn serve(&self, text: impl Fn() -> Result<String, String> + Sync) {
        match &self.0 {
            Bound::Tcp(listener) => accept(|| listener.accept().map(|(stream, _)| stream), &text),
            Bound::Unix(listener) => accept(|| listener.accept().map(|(stream, _)| stream), &text),
        }
    }
}

/// Removes a socket that nobody listens on any more, as a process that was killed leaves it.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    match is_socket && UnixStream::connect(path).is_err_and(refused) {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Something that a request comes over.
trait Connection: Read + Write + Send {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl Connection for UnixStream {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

fn accept<C: Connection>(
    next: impl Fn() -> io::Result<C>,
    text: &(impl Fn() -> Result<String, String> + Sync),
) {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        loop {
            let mut connection = match next() {
                Ok(connection) => connection,
                Err(e) => {
                    // Of one client that is gone again, or too few descriptors for a moment.
                    log::warn!("accepting a connection: {e}");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let open = &open;
            let answer = move || {
                if let Err(e) = answer(&mut connection, text) {
                    log::info!("a request for metrics: {e}");
                }
                open.fetch_sub(1, Ordering::SeqCst);
            };
            if let Err(e) =
                thread::Builder::new().name("metrics".into()).spawn_scoped(scope, answer)
            {
                log::warn!("no thread for a request: {e}");
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })
}

/// Reads a request and answers it.
fn answer(
    connection: &mut impl Connection,
    text: &impl Fn() -> Result<String, String>,
) -> io::Result<()> {
    let head = read_head(connection)?;
    let (status, media_type, body) = match wanted(&head) {
        Wanted::Metrics => match text() {
            Ok(text) => ("200 OK", MEDIA_TYPE, text),
            Err(e) => ("500 Internal Server Error", "text/plain", format!("{e}\n")),
        },
        Wanted::Other => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        Wanted::Method => ("405 Method Not Allowed", "text/plain", "GET /metrics\n".to_owned()),
        Wanted::Nonsense => ("400 Bad Request", "text/plain", "this is HTTP\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    connection.set_timeouts(PATIENCE)?;
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())?;
    connection.flush()
}

/// The head of a request, or what came of it.
fn read_head(connection: &mut impl Connection) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_timeouts(left)?;
        match connection.read(&mut buffer)? {
            0 => break,
            n => head.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(head)
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Metrics,
    /// Another path.
    Other,
    /// Another method.
    Method,
    /// It is no HTTP.
    Nonsense,
}

fn wanted(head: &[u8]) -> Wanted {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Wanted::Nonsense };
    if !version.starts_with(b"HTTP/1.") {
        return Wanted::Nonsense;
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics" | b"/") => Wanted::Metrics,
        (b"GET", _) => Wanted::Other,
        _ => Wanted::Method,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Wanted::Metrics),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", Wanted::Metrics),
            ("GET /other HTTP/1.1\r\n\r\n", Wanted::Other),
            ("POST /metrics HTTP/1.1\r\n\r\n", Wanted::Method),
            ("GET /metrics HTTP/2\r\n\r\n", Wanted::Nonsense),
            ("GET /metrics", Wanted::Nonsense),
            ("", Wanted::Nonsense),
            ("\0\u{1}\n\n", Wanted::Nonsense),
        ] {
            assert_eq!(wanted(head.as_bytes()), expected, "{head:?}");
        }
    }
}
