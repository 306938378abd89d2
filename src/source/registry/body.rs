//! The body of a blob or of a range of one, resumed where a connection broke.
//!
//! A layer may take minutes to come; a connection that breaks in the middle must not cost what is
//! already there. The reader asks again for the rest with a range. Every answer is checked: a 206
//! must be for the bytes asked for, or for the first of them: a server may have its reasons to send
//! a part only (RFC 9110, 15.3.7), and is asked for the rest. A server that answers a first request
//! for a range with the whole blob (200), as caches do that are just fetching it, is taken at its
//! word: what it sends is the body, from byte 0. Only when something broke is it read past what is
//! known.
//!
//! Resuming must not go on for ever: a transfer that brings too little new in a while is given up
//! ([`Floor`]), however it does so.
//!
//! Exactly one range is asked for: several at once are answered in full, wrongly or not at all by
//! S3, Google's storage and zot.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{Method, Response, StatusCode, Uri, header};
use ureq::{Body as HttpBody, BodyReader};

use super::client::Client;
use super::error::{Error, Failure};
use super::mirrors::{Mirrors, Wanted};
use super::transport::deadline;
use super::transport::jitter::jittered;
use super::transport::request::{Answer, Request};
use super::transport::response::{content_encoding, header_text, is_page};
use super::transport::retry::{FIRST_PAUSE, MAX_TRIES};
use super::transport::throughput::MAX_PAUSE;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::source::Opened;
use crate::source::floor::Floor;

const PARTIAL: StatusCode = StatusCode::PARTIAL_CONTENT;

/// Bytes that are read past at a time.
const SKIPPED_BYTES: usize = 64 << 10;

/// Bytes that make up for broken connections.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A server that sends less than this of what it is asked for, and says so, is taken for one that breaks off: there would
/// be a request for each byte otherwise.
const MIN_PART_BYTES: u64 = 16 << 10;

/// What is done about requests that are refused and connections that break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// A reader waits: they are tried again, as long as that may help.
    Patient,
    /// None does.
    Once,
}

/// Opens a range of a blob, which must be within its size.
pub(super) fn open(
    hosts: &Arc<Mirrors>,
    descriptor: &Descriptor,
    range: Range<u64>,
    effort: Effort,
) -> Result<Opened, Error> {
    let Range { start, end } = range;
    let wanted = end;
    let Descriptor { digest, size, .. } = *descriptor;
    if start == end && size > 0 {
        return Ok(Opened { body: Box::new(io::empty()), start, end });
    }
    let is_whole = start == 0 && end == size;
    let (is_for_one, answer) = match effort {
        Effort::Patient => (hosts.is_for_one(&digest), fetch(hosts, digest, size, &range)?),
        Effort::Once => {
            let wanted = Wanted::Content(digest);
            let ask = |client: &Arc<Client>| fetch_from(client, digest, size, &range);
            let answer = hosts.try_hosts_once(wanted, ask)?;
            hosts.sends_part(&digest, &answer.client);
            (false, answer)
        }
    };
    let Range { start, end: body_end } = answer.range;
    // Of a part that is shorter the rest is asked for later.
    let end = body_end.max(wanted);
    let observed = &answer.client.observed;
    let limit = observed.patience.limit(answer.client.options.deadline);
    let floor = Floor::new(limit, observed.brought.load(Ordering::Relaxed));
    let reader = BlobReader {
        hosts: Arc::clone(hosts),
        client: answer.client,
        from: answer.from,
        floor,
        digest,
        size,
        end,
        is_whole,
        is_for_one,
        effort,
        at: start,
        taken_over_at: start,
        body: Some(answer.body),
        body_end,
        ending: answer.ending,
        oddity: answer.oddity,
        last_read: Instant::now(),
        failures: 0,
        failed_at: start,
    };
    Ok(Opened { body: Box::new(reader), start, end })
}

/// What comes after the last byte wanted of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nothing: the server said how long the body is, so there is no waiting for its end.
    Length,
    /// An end that has to be read.
    Mark,
    /// More of the blob.
    More,
}

/// Reads a range of a blob to its end.
struct BlobReader {
    hosts: Arc<Mirrors>,
    /// The one that sends now.
    client: Arc<Client>,
    /// Where it sends it from.
    from: Uri,
    floor: Floor,
    digest: Digest,
    size: u64,
    /// Just past the last byte wanted.
    end: u64,
    /// The whole blob was asked for: what comes after `end` is for the verifying reader to refuse.
    is_whole: bool,
    /// All of it has to come from the one that sends now.
    is_for_one: bool,
    effort: Effort,
    /// Offset in the blob of the next byte to come.
    at: u64,
    /// The first byte from the one that sends now.
    taken_over_at: u64,
    /// Gone when all has been read.
    body: Option<BodyReader<'static>>,
    /// Just past the last byte that it is said to bring.
    body_end: u64,
    ending: Ending,
    /// What it may be instead of the blob, by its header.
    oddity: Option<String>,
    last_read: Instant,
    /// Times the connection broke since the last [`PROGRESS_BYTES`].
    failures: u32,
    /// Where the first of these was.
    failed_at: u64,
}

impl BlobReader {
    /// Asks again for what is missing, if it can be of use until there is an answer. Without an error the server has sent a
    /// part of what was asked for, as it said.
    fn resume(&mut self, mut error: Option<io::Error>) -> io::Result<()> {
        loop {
            let since = Instant::now();
            match error {
                Some(error) => self.pause_after(error)?,
                None => self.finish(),
            }
            let rest = self.at..self.end;
            let (client, digest, size) = (&self.client, self.digest, self.size);
            let answer = deadline::until(since + self.floor.left(), || match self.is_for_one {
                true => client.retry(|| fetch_from(client, digest, size, &rest)),
                false => fetch(&self.hosts, digest, size, &rest),
            });
            let answer = match answer {
                Ok(answer) => answer,
                // It may have had no time left: what has used it up is part of the story.
                Err(error) if error.is_timeout() && !error.is_from(&self.from) => {
                    return Err(self.stalled(vec![error]));
                }
                Err(error) => return Err(self.ended(error)),
            };
            self.note_wait(since, 0)?;
            let since = Instant::now();
            match self.take_over(answer) {
                // What comes again is no progress, and no standstill either.
                Ok(()) => return Ok(()),
                Err(again) => error = Some(again),
            }
            self.note_wait(since, 0)?;
        }
    }

    /// Notes that something was waited for since then, and how much of it came; the error, if it has been
    /// in vain for too long.
    fn note_wait(&mut self, since: Instant, came: usize) -> io::Result<()> {
        let Client { observed, options, .. } = &*self.client;
        let brought = observed.brought.load(Ordering::Relaxed);
        if self.floor.waited(since.elapsed(), came as u64, brought, options.deadline) {
            observed.patience.served();
        }
        match self.floor.is_dead() {
            true => Err(self.stalled(Vec::new())),
            false => Ok(()),
        }
    }

    /// Too little came for too long; also from others, if any were asked.
    fn stalled(&mut self, others: Vec<Error>) -> io::Error {
        let limit = self.floor.limit();
        let observed = &self.client.observed;
        if let Some(begun) = Instant::now().checked_sub(limit) {
            observed.patience.in_vain(begun);
        }
        self.body = None;
        let error = Error::new(&what(&self.digest), &self.from, Failure::Stalled(limit));
        self.ended(error.after(others))
    }

    /// What came was not the blob, and this is what it was.
    fn odd(&mut self) -> io::Error {
        self.body = None;
        self.client.forget_location(&self.digest);
        let why = self.oddity.clone().unwrap_or_default();
        io::Error::other(Error::new(&what(&self.digest), &self.from, Failure::Answer(why)))
    }

    /// Why it goes on no more.
    fn failed(&self, failure: Failure) -> io::Error {
        self.ended(Error::new(&what(&self.digest), &self.from, failure))
    }

    /// The same with how far it has come.
    fn ended(&self, error: Error) -> io::Error {
        io::Error::other(error.with_came(self.at, self.size))
    }

    /// Counts a broken connection, and waits a moment; the error, if there were too many.
    fn pause_after(&mut self, error: io::Error) -> io::Result<()> {
        // A server that sends a byte and hangs up gets no second life for that byte.
        if self.failures == 0 || self.at - self.failed_at >= PROGRESS_BYTES {
            self.failures = 0;
            self.failed_at = self.at;
        }
        self.failures += 1;
        self.client.observed.connections.refused();
        if self.failures >= MAX_TRIES || self.effort == Effort::Once {
            self.body = None;
            return Err(self.failed(Failure::BrokeOff(Arc::new(error))));
        }
        log::info!("blob {} broke off at {} bytes ({error}); resuming", self.digest, self.at);
        self.body = None;
        // Who answers and breaks off may do so each time.
        if !self.is_for_one {
            let has_sent = self.at > self.taken_over_at;
            self.hosts.broke_off(&self.digest, &self.client, has_sent);
        }
        thread::sleep(jittered(FIRST_PAUSE * self.failures));
        Ok(())
    }

    /// Goes on with another answer, which may begin before what is missing.
    fn take_over(&mut self, answer: RangeAnswer) -> io::Result<()> {
        let mut body = answer.body;
        let skip = self.at - answer.range.start;
        skip_known(&mut body, skip, self.floor.limit())?;
        self.client = answer.client;
        self.from = answer.from;
        self.taken_over_at = self.at;
        self.oddity = answer.oddity;
        self.body_end = answer.range.end;
        self.ending = if answer.range.end > self.end { Ending::More } else { answer.ending };
        self.body = Some(body);
        self.last_read = Instant::now();
        Ok(())
    }

    fn count(&mut self, bytes: usize, asked: Instant) {
        let now = Instant::now();
        let pause = asked.duration_since(self.last_read);
        let since = if pause > MAX_PAUSE { asked } else { self.last_read };
        self.last_read = now;
        let bytes = bytes as u64;
        self.at += bytes;
        self.client.observed.meter.body(bytes, now.duration_since(since));
        self.client.observed.brought.fetch_add(bytes, Ordering::Relaxed);
        if self.at >= self.end {
            self.client.observed.patience.served();
        }
        self.client.traffic.count_body(bytes);
    }

    /// Lets go of a body of which all that was wanted has come. Its connection can be used again
    /// if it is seen to end there.
    fn finish(&mut self) {
        if let Some(mut body) = self.body.take()
            && self.ending != Ending::More
        {
            // Any other outcome closes it.
            let _ = body.read(&mut [0]);
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            // Of what comes now, or of all if nothing does.
            let end = self.body.as_ref().map_or(self.end, |_| self.end.min(self.body_end));
            if self.at >= end && self.at < self.end {
                let is_little = self.at - self.taken_over_at < MIN_PART_BYTES;
                self.resume(
                    is_little
                        .then(|| io::Error::other("the server sends next to nothing at a time")),
                )?;
                continue;
            }
            let left = end - self.at.min(end);
            let room = match self.is_whole && end == self.end {
                true => buf.len(),
                false => buf.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            };
            if room == 0 {
                self.finish();
                return Ok(0);
            }
            let Some(body) = &mut self.body else {
                return match self.at >= self.end {
                    true => Ok(0),
                    false => Err(io::Error::other("it broke off before and can't be resumed")),
                };
            };
            let asked = Instant::now();
            let broken = match body.read(&mut buf[..room]) {
                // Something else than the blob, which ends where it should.
                Ok(0)
                    if self.at < self.end
                        && self.ending != Ending::Length
                        && self.oddity.is_some() =>
                {
                    return Err(self.odd());
                }
                // A body that ends early is a broken connection; a whole blob that is too long is
                // for the verifying reader to refuse.
                Ok(0) if self.at < self.end => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection closed early")
                }
                Ok(n) => {
                    self.count(n, asked);
                    if self.at > self.size && self.oddity.is_some() {
                        return Err(self.odd());
                    }
                    if self.at < self.end {
                        self.note_wait(asked, n)?;
                    }
                    if self.at == self.end && self.ending == Ending::Length {
                        // Many readers stop here, as they know the length.
                        self.finish();
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // All is there; how the connection ended is no matter, the digest decides.
                Err(_) if self.at >= self.end => return Ok(0),
                Err(e) => e,
            };
            self.note_wait(asked, 0)?;
            self.resume(Some(broken))?;
        }
    }
}

/// Reads past what is known already, unless that comes too slowly.
fn skip_known(body: &mut BodyReader<'static>, length: u64, limit: Duration) -> io::Result<()> {
    let mut floor = Floor::new(limit, 0);
    let mut scratch = vec![0; SKIPPED_BYTES];
    let mut skipped = 0;
    while skipped < length {
        let asked = Instant::now();
        let room =
            usize::try_from(length - skipped).map_or(SKIPPED_BYTES, |n| n.min(SKIPPED_BYTES));
        match body.read(&mut scratch[..room]) {
            Ok(0) => {
                let message = "the answer is shorter than what is known already";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            Ok(n) => {
                skipped += n as u64;
                floor.waited(asked.elapsed(), n as u64, skipped, limit);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if floor.is_dead() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly"));
        }
    }
    Ok(())
}

/// What a server sends for a range, checked.
struct RangeAnswer {
    /// Whose it is.
    client: Arc<Client>,
    /// Where it comes from.
    from: Uri,
    body: BodyReader<'static>,
    /// The part of the blob that comes.
    range: Range<u64>,
    ending: Ending,
    oddity: Option<String>,
}

fn fetch(
    hosts: &Mirrors,
    digest: Digest,
    size: u64,
    range: &Range<u64>,
) -> Result<RangeAnswer, Error> {
    hosts.try_hosts(Wanted::Content(digest), |client| fetch_from(client, digest, size, range))
}

/// Asks one host, once.
fn fetch_from(
    client: &Arc<Client>,
    digest: Digest,
    size: u64,
    range: &Range<u64>,
) -> Result<RangeAnswer, Error> {
    let what = what(&digest);
    let is_whole = range.start == 0 && range.end == size;
    let url = client.url(&format!("blobs/{digest}"));
    let request = Request {
        blob: Some(digest),
        range: Some(range.clone()).filter(|_| !is_whole),
        ..Request::new(Method::GET, &url, &what)
    };
    let Answer { mut response, url: mut from, .. } = match client.send(&request) {
        // There are such bytes: the server can't send parts, or what it has is shorter, which its length then tells.
        Err(refusal) if request.range.is_some() && refusal.status() == Some(416) => {
            log::info!("{}: it refuses a range: asking for all of {digest}", client.name());
            client.send(&Request { range: None, ..request.clone() }).map_err(|_| refusal)?
        }
        answer => answer?,
    };
    if request.range.is_some()
        && response.status() == StatusCode::OK
        && client.past_cache().may_help(&response)
    {
        log::info!("{}: a cache ignores ranges; asking past it", client.name());
        let again = client.send(&request);
        let helps = again.as_ref().is_ok_and(|answer| answer.response.status() == PARTIAL);
        client.past_cache().note(helps);
        // Both are right; who has to take all of it takes what has begun to come.
        if let (true, Ok(answer)) = (helps, again) {
            (response, from) = (answer.response, answer.url);
        }
    }
    let range = check(&response, size, range).map_err(|why| {
        client.forget_location(&digest);
        Error::new(&what, &url, Failure::Answer(why))
    })?;
    let oddity = oddity(&response);
    let body = response.into_body();
    let ending = body.content_length().map_or(Ending::Mark, |_| Ending::Length);
    let body = body.into_with_config().limit(u64::MAX).reader();
    Ok(RangeAnswer { client: Arc::clone(client), from, body, range, ending, oddity })
}

fn what(digest: &Digest) -> String {
    format!("blob {digest}")
}

/// What an answer that is not the blob may be, by its labels. They alone say nothing: servers of static
/// files label blobs as they like, and the digest decides.
fn oddity(response: &Response<HttpBody>) -> Option<String> {
    if is_page(response) {
        let words = "a web page came instead of the blob: a login portal or a broken redirect";
        return Some(words.to_owned());
    }
    let encoding = content_encoding(response)?;
    Some(format!("it came as `Content-Encoding: {encoding}`, which was not asked for"))
}

/// Checks an answer's header against the request: which part of the blob it brings.
fn check(
    response: &Response<HttpBody>,
    size: u64,
    asked: &Range<u64>,
) -> Result<Range<u64>, String> {
    if let Some(encoding) = content_encoding(response) {
        // Some servers label a gzip layer so; its bytes are right all the same, and the digest
        // decides. Nothing here decodes.
        log::debug!("the server labels the blob with Content-Encoding {encoding}");
    }
    let length = header_text(response, header::CONTENT_LENGTH.as_str());
    let length = length.and_then(|length| length.trim().parse::<u64>().ok());
    if response.status() != PARTIAL {
        return match length {
            Some(length) if length != size => {
                let odd = oddity(response).map(|odd| format!(" ({odd})")).unwrap_or_default();
                Err(format!(
                    "the server says it has {length} bytes, its descriptor says {size}{odd}"
                ))
            }
            _ => Ok(0..size),
        };
    }
    let Range { start, end } = *asked;
    let wanted = format!("asked for bytes {start}-{}/{size}", end.saturating_sub(1));
    let values = response.headers().get_all(header::CONTENT_RANGE);
    let values: Vec<String> =
        values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    let [value] = &values[..] else {
        let got = match &values[..] {
            [] => {
                let kind = header_text(response, header::CONTENT_TYPE.as_str()).unwrap_or_default();
                format!("a partial answer without Content-Range (of type `{}`)", printable(&kind))
            }
            several => format!("several ranges (`{}`)", printable(&several.join("`, `"))),
        };
        return Err(format!("{wanted}, got {got}"));
    };
    let Some(end) = range_end(value, size, asked) else {
        return Err(format!("{wanted}, got `{}`", printable(value)));
    };
    match length {
        Some(length) if length != end - start => {
            Err(format!("{wanted}, got `{}`, said to have {length} bytes", printable(value)))
        }
        _ => Ok(start..end),
    }
}

/// Where a `Content-Range` ends, if it is for these bytes of a blob of that size, or for the first of them.
fn range_end(value: &str, size: u64, asked: &Range<u64>) -> Option<u64> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total_fits = total == "*" || total.parse() == Ok(size);
    let number = |text: &str| text.parse::<u64>().ok();
    let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
    let is_part = first == asked.start && first < end && end <= asked.end;
    (unit.eq_ignore_ascii_case("bytes") && total_fits && is_part).then_some(end)
}

/// Server text for a message: bounded, and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (right, end) in [
            ("bytes 10-19/100", 20),
            ("bytes 10-19/*", 20),
            ("Bytes  10-19/100", 20),
            ("bytes 10-18/100", 19),
            ("bytes 10-10/100", 11),
        ] {
            assert_eq!(range_end(right, 100, &(10..20)), Some(end), "{right}");
        }
        for wrong in [
            "",
            "bytes",
            "bytes */100",
            "10-19/100",
            "bytes=10-19/100",
            "bytes 10-19",
            "bytes 10-20/100",
            "bytes 9-18/100",
            "bytes 10-9/100",
            "bytes 10-19/101",
            "bytes 10-19/",
            "bytes 10-18446744073709551615/100",
            "items 10-19/100",
            "bytes 10-19/100, bytes 10-19/100",
        ] {
            assert_eq!(range_end(wrong, 100, &(10..20)), None, "{wrong}");
        }
    }
}
