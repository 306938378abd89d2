//! How long a server asks to wait (`Retry-After`; RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime};

/// Longest `Retry-After` that is believed. No request waits beyond its deadline anyway.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a `Retry-After` means: seconds, or a date.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let pause = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}
