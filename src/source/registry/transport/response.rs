//! What the header of an answer says, and bodies that are short.

use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use ureq::Body as HttpBody;
use ureq::http::{Response, header};

use super::deadline;
use crate::digest::Digest;
use crate::source::registry::url::escaped;

/// Bytes of an error body that are read for its message.
pub(in crate::source::registry) const MAX_ERROR_BODY_BYTES: u64 = 64 << 10;

/// How long the pieces of such bodies are waited for, and of those that are read to keep a connection.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// Longest body of a redirect or a challenge that is read to keep its connection; for more, a new
/// connection is cheaper (Go's HTTP client has the same limit).
const MAX_DRAINED_BYTES: u64 = 2 << 10;

/// So much of a server's `Content-Encoding` is told.
const MAX_ENCODING_CHARS: usize = 40;

/// Reads the body of an error for its message, as far as it comes soon.
pub(in crate::source::registry) fn error_body(body: &mut HttpBody) -> Vec<u8> {
    read_soon(body, MAX_ERROR_BODY_BYTES)
}

/// Reads so much of a body as comes soon.
fn read_soon(body: &mut HttpBody, limit: u64) -> Vec<u8> {
    let until = Instant::now() + deadline::left(ERROR_BODY_TIME).min(ERROR_BODY_TIME);
    let mut reader = body.with_config().limit(limit).reader();
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while Instant::now() < until {
        match reader.read(&mut piece) {
            Ok(length) if length > 0 => text.extend_from_slice(&piece[..length]),
            // What has come may hold the message.
            Ok(_) | Err(_) => break,
        }
    }
    text
}

pub(in crate::source::registry) fn header_text(
    response: &Response<HttpBody>,
    name: &str,
) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The digest that an answer says its document, or the one that was asked about, has.
pub(in crate::source::registry) fn digest_in_header(
    response: &Response<HttpBody>,
) -> Option<Digest> {
    header_text(response, "docker-content-digest")?.parse().ok()
}

/// Where an answer sends us, as it says it: not all servers escape what has to be.
pub(in crate::source::registry) fn location(response: &Response<HttpBody>) -> Option<String> {
    let value = response.headers().get(header::LOCATION)?;
    Some(escaped(value.as_bytes()))
}

/// What time it is by the clock of the server: an answer may be from a cache before it (RFC 9111, 5.1).
pub(in crate::source::registry) fn date(response: &Response<HttpBody>) -> Option<SystemTime> {
    let date = header_text(response, header::DATE.as_str())?;
    let age = header_text(response, header::AGE.as_str());
    let age = age.and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    let date = httpdate::parse_http_date(&date).ok()?;
    date.checked_add(Duration::from_secs(age.into()))
}

/// What an answer asks to wait: a date is counted from the server's own clock, if it says what time it is there, as ours may be
/// another.
pub(in crate::source::registry) fn asked_to_wait(response: &Response<HttpBody>) -> Option<String> {
    let text = header_text(response, header::RETRY_AFTER.as_str())?;
    let until = httpdate::parse_http_date(text.trim()).ok();
    Some(match until.zip(date(response)) {
        Some((until, now)) => {
            let left = until.duration_since(now).unwrap_or_default();
            left.as_secs().to_string()
        }
        None => text,
    })
}

/// How a body is said to be encoded, if it is.
pub(in crate::source::registry) fn content_encoding(
    response: &Response<HttpBody>,
) -> Option<String> {
    let encoding = header_text(response, header::CONTENT_ENCODING.as_str())?;
    let is_encoded = !encoding.eq_ignore_ascii_case("identity");
    is_encoded.then(|| encoding.chars().take(MAX_ENCODING_CHARS).collect())
}

/// Whether an answer is a web page: a login portal's, say.
pub(in crate::source::registry) fn is_page(response: &Response<HttpBody>) -> bool {
    header_text(response, header::CONTENT_TYPE.as_str())
        .is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with("text/html"))
}

/// Reads a body that is not wanted, if it is short: then its connection can be used again.
pub(in crate::source::registry) fn drain(response: Response<HttpBody>) {
    let mut body = response.into_body();
    if body.content_length().is_some_and(|length| length <= MAX_DRAINED_BYTES) {
        // What fails here fails for the next request on this connection, if there is one.
        read_soon(&mut body, MAX_DRAINED_BYTES + 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_by_the_clock_of_the_server() {
        let asked = |headers: &[(&str, &str)]| {
            let mut response = Response::builder();
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            asked_to_wait(&response.body(HttpBody::builder().data("")).unwrap())
        };
        let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
        for (headers, expected) in [
            (&[][..], None),
            (&[("retry-after", "7"), ("date", date)], Some("7")),
            (&[("retry-after", later), ("date", date)], Some("30")),
            (&[("retry-after", date), ("date", later)], Some("0")),
            (&[("retry-after", later), ("date", date), ("age", "10")], Some("20")),
            (&[("retry-after", later)], Some(later)),
            (&[("retry-after", later), ("date", "now")], Some(later)),
        ] {
            assert_eq!(asked(headers).as_deref(), expected, "{headers:?}");
        }
    }
}
