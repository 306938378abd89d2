//! Answering HTTP requests on this machine: metrics, and images for engines.
//!
//! # Problem
//!
//! Programs that are told an address expect HTTP there: Prometheus, and engines that pull through a mirror.
//!
//! # Design
//!
//! One thread for each connection, and one request for each connection. Only the first line of a request counts; the rest of
//! its head is read so that the answer is not lost when the connection is closed. A body is bytes, or a stream of known
//! length; one that ends too early closes the connection early, so that no client takes it for whole.
//!
//! Rejected: a library for HTTP servers. They bring routes, TLS and an asynchronous runtime, or more threads, for constant
//! paths on loopback; who wants more puts a proxy in front.
//!
//! # Invariants
//!
//! - The head of a request has 5 seconds and 8 KiB, each write of an answer 5 seconds, and there are as many connections at a
//!   time as the program says.

mod address;
mod message;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use address::Address;
pub use message::{Body, Request, Response};

/// How long a client may take for its request, and for taking each part of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 8 << 10;

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
        bound.map(Listener).map_err(failed)
    }

    /// The host and the port, of a TCP socket: the one that was chosen where port 0 was asked for.
    pub fn tcp_address(&self) -> Option<String> {
        match &self.0 {
            Bound::Tcp(listener) => listener.local_addr().ok().map(|at| at.to_string()),
            Bound::Unix(_) => None,
        }
    }

    /// Answers requests, at most so many at a time, until the process ends. Further connections are closed at once.
    pub fn serve(&self, most: usize, answer: impl Fn(&Request) -> Response + Sync) {
        match &self.0 {
            Bound::Tcp(listener) => {
                accept(|| listener.accept().map(|(stream, _)| stream), most, &answer)
            }
            Bound::Unix(listener) => {
                accept(|| listener.accept().map(|(stream, _)| stream), most, &answer)
            }
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

/// One of the connections that may be open, given back however it ends: an answer may panic.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(open: &AtomicUsize, most: usize) -> Option<Place<'_>> {
        let place = Place(open);
        (open.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept<C: Connection>(
    next: impl Fn() -> io::Result<C>,
    most: usize,
    answer: &(impl Fn(&Request) -> Response + Sync),
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
            let Some(place) = Place::take(&open, most) else { continue };
            let talk = move || {
                let _place = place;
                if let Err(e) = talk(&mut connection, answer) {
                    log::info!("a request over HTTP: {e}");
                }
            };
            if let Err(e) = thread::Builder::new().name("http".into()).spawn_scoped(scope, talk) {
                log::warn!("no thread for a request: {e}");
            }
        }
    })
}

/// Reads a request and answers it.
fn talk(
    connection: &mut impl Connection,
    answer: &impl Fn(&Request) -> Response,
) -> io::Result<()> {
    let request = Request::parse(&read_head(connection)?);
    let response = match &request {
        Some(request) => answer(request),
        None => Response::text("400 Bad Request", "this is HTTP\n"),
    };
    connection.set_timeouts(PATIENCE)?;
    connection.write_all(response.head().as_bytes())?;
    if !request.is_some_and(|request| request.is_head()) {
        match response.body {
            Body::Bytes(bytes) => connection.write_all(&bytes)?,
            Body::Stream { mut reader, length } => {
                let sent = io::copy(&mut reader.by_ref().take(length), connection)?;
                // A reader may have to be read to its end to say whether all of it was right.
                if sent < length || reader.read(&mut [0])? != 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_panics_takes_no_place() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.tcp_address().unwrap();
        let answer = |request: &Request| match &request.path[..] {
            "/panic" => panic!("as the test wants it"),
            _ => Response::text("200 OK", "fine\n"),
        };
        thread::spawn(move || listener.serve(1, answer));
        let ask = |path: &str| {
            let mut connection = TcpStream::connect(&at).unwrap();
            connection.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
            let mut said = String::new();
            connection.read_to_string(&mut said).unwrap();
            said
        };
        for _ in 0..3 {
            assert_eq!(ask("/panic"), "");
        }
        assert!(ask("/").ends_with("fine\n"));
    }
}
