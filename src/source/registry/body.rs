//! The body of a blob, resumed where a connection broke.
//!
//! A layer may take minutes to come; a connection that breaks in the middle must not cost what is
//! already there. The reader asks again for the rest with a range. A server that answers the whole
//! blob instead (200) is read past what is known. Every answer is checked: a 206 must be for exactly
//! the bytes asked for.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use ureq::http::{Method, Response, StatusCode, header};
use ureq::{Body as HttpBody, BodyReader};

use super::error::{Error, Failure};
use super::{Client, FIRST_PAUSE, MAX_TRIES, Request, header_text, jittered};
use crate::digest::Digest;
use crate::image::Descriptor;

/// Bytes that count as progress between two broken connections.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Reads a blob from some offset to its end.
#[derive(Debug)]
pub(super) struct BlobReader {
    client: Arc<Client>,
    digest: Digest,
    size: u64,
    /// Offset in the blob of the next byte to come.
    at: u64,
    body: Body,
    /// Times the connection broke since the last [`PROGRESS_BYTES`].
    failures: u32,
    /// Where the first of these was.
    failed_at: u64,
}

struct Body(BodyReader<'static>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl BlobReader {
    pub(super) fn open(
        client: Arc<Client>,
        descriptor: &Descriptor,
        start: u64,
    ) -> Result<BlobReader, Error> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        let body = Body(request(&client, digest, size, start)?);
        Ok(BlobReader { client, digest, size, at: start, body, failures: 0, failed_at: start })
    }

    /// Asks again for what is missing.
    fn resume(&mut self, error: io::Error) -> io::Result<()> {
        // A server that sends a byte and hangs up gets no second life for that byte.
        if self.failures == 0 || self.at - self.failed_at >= PROGRESS_BYTES {
            self.failures = 0;
            self.failed_at = self.at;
        }
        self.failures += 1;
        if self.failures >= MAX_TRIES {
            return Err(error);
        }
        log::info!("blob {} broke off at {} bytes ({error}); resuming", self.digest, self.at);
        thread::sleep(jittered(FIRST_PAUSE * self.failures));
        self.body =
            Body(request(&self.client, self.digest, self.size, self.at).map_err(io::Error::other)?);
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let broken = match self.body.0.read(buf) {
                // A body that ends early is a broken connection; one that is too long is for
                // the verifying reader to refuse.
                Ok(0) if self.at < self.size => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection closed early")
                }
                Ok(n) => {
                    self.at += n as u64;
                    self.client.traffic.body_bytes.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // All is there; how the connection ended is no matter, the digest decides.
                Err(_) if self.at >= self.size => return Ok(0),
                Err(e) => e,
            };
            self.resume(broken)?;
        }
    }
}

fn request(
    client: &Client,
    digest: Digest,
    size: u64,
    start: u64,
) -> Result<BodyReader<'static>, Error> {
    let what = format!("blob {digest}");
    let path = format!("blobs/{digest}");
    let request = Request { method: Method::GET, path: &path, accept: None, start, what: &what };
    let response = client.send(&request)?;
    let url = client.url(&path);
    let wrong = |why: String| Error::new(&what, &url, Failure::Answer(why));
    let skip = check(&response, size, start).map_err(wrong)?;
    let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let skipped = io::copy(&mut (&mut reader).take(skip), &mut io::sink());
    match skipped {
        Ok(n) if n == skip => Ok(reader),
        Ok(_) => Err(wrong("the answer is shorter than what is known already".to_owned())),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// Checks an answer's header against the request: how many bytes of the body to skip.
fn check(response: &Response<HttpBody>, size: u64, start: u64) -> Result<u64, String> {
    if let Some(encoding) = header_text(response, header::CONTENT_ENCODING.as_str())
        && !encoding.eq_ignore_ascii_case("identity")
    {
        // Some servers label a gzip layer so; its bytes are right all the same, and the digest
        // decides. Nothing here decodes.
        log::debug!("the server labels the blob with Content-Encoding {encoding}");
    }
    let is_html = header_text(response, header::CONTENT_TYPE.as_str())
        .is_some_and(|t| t.starts_with("text/html"));
    if is_html {
        return Err(
            "a web page came instead of the blob: a login portal or a broken redirect".into()
        );
    }
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = header_text(response, header::CONTENT_RANGE.as_str());
            let range = range.ok_or("a partial answer without Content-Range")?;
            let expected = [
                format!("bytes {start}-{}/{size}", size.saturating_sub(1)),
                format!("bytes {start}-{}/*", size.saturating_sub(1)),
            ];
            match expected.contains(&range) {
                true => Ok(0),
                false => Err(format!("asked for {}, got `{range}`", expected[0])),
            }
        }
        _ => {
            let length = header_text(response, header::CONTENT_LENGTH.as_str());
            match length.and_then(|l| l.parse::<u64>().ok()) {
                Some(length) if length != size => Err(format!(
                    "the server says it has {length} bytes, its descriptor says {size}"
                )),
                _ => Ok(start),
            }
        }
    }
}
