//! Just enough HTTP/1.1 for an engine's socket: one GET a connection (RFC 9112).
//!
//! The HTTP client that registries are reached with knows no Unix sockets. An engine answers with a
//! length or in chunks; an answer that ends with the connection is refused, since nothing would tell
//! whether it is whole.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::source::floor::Floor;

/// Longest head of an answer, and all lines around its chunks together that are not content, in
/// bytes.
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// Longest line in front of a chunk, in bytes.
const MAX_CHUNK_LINE_BYTES: u64 = 256;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Body<BufReader<Watched>>,
}

/// Asks for a path. The answer fails when it brings too little for so long.
pub(super) fn get(socket: &Path, target: &str, limit: Duration) -> io::Result<Answer> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let agent = concat!("ocifs/", env!("CARGO_PKG_VERSION"));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: docker\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let watched = Watched { stream, floor: Floor::new(limit, 0), brought: 0 };
    let mut reader = BufReader::with_capacity(128 << 10, watched);
    let (status, framing) = head(&mut reader).map_err(named_timeout)?;
    Ok(Answer { status, body: Body { inner: reader, framing } })
}

/// Connects without waiting for room in the queue of an engine that does not answer.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &address)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What an engine sends, as long as it sends enough.
#[derive(Debug)]
pub(super) struct Watched {
    stream: UnixStream,
    floor: Floor,
    brought: u64,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = Instant::now();
        let n = self.stream.read(buffer)?;
        self.brought += n as u64;
        self.floor.waited(asked.elapsed(), n as u64, self.brought, self.floor.limit());
        match self.floor.is_dead() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(n),
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of a chunk are left; `None` before the first one.
    Chunk(Option<u64>),
    /// It has ended.
    Done,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not valid HTTP: {what}"))
}

/// The engine says nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the engine does not answer, or too slowly")]
pub(in crate::source) struct Silent;

fn named_timeout(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, Silent)
        }
        _ => e,
    }
}

/// A line without its end, which must come within `limit` bytes.
fn line(reader: &mut impl BufRead, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(limit).read_until(b'\n', &mut bytes)?;
    match bytes.strip_suffix(b"\n") {
        Some(rest) => {
            let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
            String::from_utf8(rest.to_vec()).map_err(|_| invalid("it is not text"))
        }
        None if bytes.len() as u64 == limit => Err(invalid("a line is too long")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads status and headers.
fn head(reader: &mut impl BufRead) -> io::Result<(u16, Framing)> {
    let mut budget = MAX_HEAD_BYTES;
    let mut next = |reader: &mut _| {
        let line = line(reader, budget)?;
        budget = budget.saturating_sub(line.len() as u64 + 1);
        Ok::<_, io::Error>(line)
    };
    let status = next(reader)?;
    let mut words = status.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().filter(|s| s.len() == 3).and_then(|s| s.parse().ok());
    let status = status.filter(|s| (200..600).contains(s) && version.starts_with("HTTP/1."));
    let status = status.ok_or_else(|| invalid("its first line has no status"))?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let line = next(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header has no name"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_none() => {
                let is_number = value.bytes().all(|b| b.is_ascii_digit());
                let number = value.parse().ok().filter(|_| is_number);
                length = Some(number.ok_or_else(|| invalid("its length is no number"))?);
            }
            "content-length" => return Err(invalid("it has two lengths")),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => is_chunked = true,
            "transfer-encoding" => return Err(invalid("an unknown transfer encoding")),
            _ => {}
        }
    }
    match (length, is_chunked) {
        (Some(length), false) => Ok((status, Framing::Length(length))),
        (None, true) => Ok((status, Framing::Chunk(None))),
        (Some(_), true) => Err(invalid("it has a length and chunks")),
        (None, false) => Err(invalid("it does not say where it ends")),
    }
}

/// The content of an answer. It ends where the answer says, or is an error.
#[derive(Debug)]
pub(super) struct Body<R> {
    inner: R,
    framing: Framing,
}

impl<R: BufRead> Body<R> {
    /// Goes to the content of the next chunk, or the end.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<()> {
        if !is_first && !line(&mut self.inner, MAX_CHUNK_LINE_BYTES)?.is_empty() {
            return Err(invalid("a chunk is longer than it says"));
        }
        let size = line(&mut self.inner, MAX_CHUNK_LINE_BYTES)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let is_hex = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| is_hex);
        let size = size.ok_or_else(|| invalid("the size of a chunk is no number"))?;
        if size > 0 {
            self.framing = Framing::Chunk(Some(size));
            return Ok(());
        }
        let mut budget = MAX_HEAD_BYTES;
        while budget > 0 {
            let trailer = line(&mut self.inner, budget)?;
            if trailer.is_empty() {
                self.framing = Framing::Done;
                return Ok(());
            }
            budget = budget.saturating_sub(trailer.len() as u64 + 1);
        }
        Err(invalid("its trailer is too long"))
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.framing {
            Framing::Chunk(None) => self.next_chunk(true).map_err(named_timeout)?,
            Framing::Chunk(Some(0)) => self.next_chunk(false).map_err(named_timeout)?,
            _ => {}
        }
        let left = match &mut self.framing {
            Framing::Length(left) | Framing::Chunk(Some(left)) => left,
            Framing::Chunk(None) | Framing::Done => return Ok(0),
        };
        let want = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..want]).map_err(named_timeout)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        // So small that lines and chunks are cut anywhere.
        let mut reader = BufReader::with_capacity(3, text);
        let (status, framing) = head(&mut reader)?;
        let mut bytes = Vec::new();
        Body { inner: reader, framing }.read_to_end(&mut bytes)?;
        Ok((status, bytes))
    }

    #[test]
    fn answers() {
        let ok = |text: &str| answer(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(ok("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi more"), (200, b"hi".into()));
        assert_eq!(ok("HTTP/1.1 404\ncontent-length:0\n\n"), (404, Vec::new()));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
             5\r\nhello\r\nA;x=y\r\n, 10 bytes\r\n0\r\nTrailer: x\r\n\r\nrest";
        assert_eq!(ok(chunks), (200, b"hello, 10 bytes".into()));
        // Cut anywhere, it is never taken for whole.
        let end = chunks.len() - "rest".len();
        for cut in 0..end {
            assert!(answer(&chunks.as_bytes()[..cut]).is_err(), "{:?}", &chunks[..cut]);
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let head = "HTTP/1.1 200 OK\r\n";
        for (text, word) in [
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "status"),
            ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "status"),
            ("HTTP/1.1 101 Switching\r\n\r\n".to_owned(), "status"),
            (format!("{head}\r\n"), "where it ends"),
            (format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), "two lengths"),
            (format!("{head}Content-Length: +1\r\n\r\nx"), "no number"),
            (format!("{head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "chunks"),
            (format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n"), "transfer encoding"),
            (format!("{head}nonsense\r\n\r\n"), "no name"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n"), "chunk"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n"), "longer"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n{}\r\n", "f".repeat(17)), "chunk"),
            (long, "too long"),
        ] {
            let error = answer(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{text:.60}: {error}");
        }
    }

    proptest! {
        #[test]
        fn chunks_of_any_size(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..20)) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for part in &parts {
                text.extend(format!("{:x}\r\n", part.len()).bytes());
                text.extend([&part[..], b"\r\n"].concat());
            }
            text.extend(b"0\r\n\r\n");
            prop_assert_eq!(answer(&text).unwrap(), (200, parts.concat()));
        }

        #[test]
        fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &junk[..]].concat());
            let _ = answer(&junk);
        }
    }
}
