//! Where blobs really lie: the last URL of a registry's redirect, for as long as it holds.
//!
//! Most registries answer a request for a blob with a redirect to a signed URL of some storage. A
//! file system that reads ranges would pay that detour with each read, so the URL is kept and asked
//! directly the next time. How long it is valid stands in the queries of the usual signatures;
//! where it does not, a short time is assumed. A URL that ends sooner costs one request in vain:
//! the client that uses one asks the registry again when it does not succeed.
//!
//! URLs in here are secrets while they hold: nothing prints them.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use ureq::http::Uri;

use crate::digest::Digest;
use crate::oci::MAX_LAYERS;

/// How long a URL is used that does not say how long it holds.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// Longest time that a URL is used, whatever it says: asking again is cheap.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Shortest margin to the end of a URL: clocks differ, and requests take time.
const MIN_MARGIN: Duration = Duration::from_secs(10);

/// The locations of the blobs of one repository.
pub(in crate::source::registry) struct Locations(Mutex<LruCache<Digest, Location>>);

#[derive(Clone)]
struct Location {
    url: Uri,
    until: Instant,
}

impl Default for Locations {
    fn default() -> Locations {
        // The blobs of one image are what is read at a time.
        Locations(Mutex::new(LruCache::new(
            NonZeroUsize::new(MAX_LAYERS).unwrap_or(NonZeroUsize::MIN),
        )))
    }
}

impl fmt::Debug for Locations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().iter().map(|(digest, _)| digest)).finish()
    }
}

impl Locations {
    /// The URL of a blob, if one is known that should still hold.
    pub(in crate::source::registry) fn get(&self, digest: &Digest) -> Option<Uri> {
        let mut known = self.lock();
        let location = known.get(digest)?;
        if location.until > Instant::now() {
            return Some(location.url.clone());
        }
        known.pop(digest);
        None
    }

    /// Keeps the URL where a blob was just found.
    pub(in crate::source::registry) fn remember(&self, digest: Digest, url: Uri) {
        let until = Instant::now() + lifetime(url.query().unwrap_or_default(), SystemTime::now());
        self.lock().put(digest, Location { url, until });
    }

    pub(in crate::source::registry) fn forget(&self, digest: &Digest) {
        self.lock().pop(digest);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Digest, Location>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a URL with this query may be used from `now` on.
fn lifetime(query: &str, now: SystemTime) -> Duration {
    let Some(end) = expiry(query) else { return DEFAULT_LIFETIME };
    let left = end.duration_since(now).unwrap_or_default();
    left.saturating_sub(MIN_MARGIN.max(left / 10)).min(MAX_LIFETIME)
}

/// When a signed URL ends, in the words of its signer.
fn expiry(query: &str) -> Option<SystemTime> {
    let value = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(wanted));
        values.next().map(|(_, value)| value.replace("%3A", ":").replace("%3a", ":"))
    };
    // AWS signature version 4, and Google's of the same form: a beginning and some seconds.
    for (date, seconds) in [("X-Amz-Date", "X-Amz-Expires"), ("X-Goog-Date", "X-Goog-Expires")] {
        if let (Some(date), Some(seconds)) = (value(date), value(seconds)) {
            let seconds = Duration::from_secs(seconds.parse().ok()?);
            return iso_date(&date)?.checked_add(seconds);
        }
    }
    // AWS signature version 2, CloudFront, and Google's old one: seconds since 1970.
    if let Some(seconds) = value("Expires") {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?));
    }
    // Azure's shared access signature, "signed expiry".
    value("se").and_then(|date| iso_date(&date))
}

/// Reads a UTC date of ISO 8601, with or without separators: `20240102T030405Z`,
/// `2024-01-02T03:04:05Z`, and what Azure allows besides: no seconds, no time, a fraction.
fn iso_date(text: &str) -> Option<SystemTime> {
    let text = text.split_once('.').map_or(text, |(seconds, _)| seconds);
    let text = text.strip_suffix('Z').unwrap_or(text);
    let digits = text.replace(['-', ':', 'T'], "");
    if digits.len() > 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize, length: usize| digits.get(at..at + length)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 2)?, number(6, 2)?);
    let (hour, minute) = (number(8, 2).unwrap_or(0), number(10, 2).unwrap_or(0));
    let second = number(12, 2).unwrap_or(0);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 {
        return None;
    }
    // Days since 1970-01-01 in the Gregorian calendar, counted in years that begin with March, so
    // that the day that is sometimes there is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// 2024-02-29 12:34:56 UTC, from `date -u -d '2024-02-29 12:34:56' +%s`.
    const LEAP_DAY: u64 = 1_709_210_096;

    fn unix(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("20240229T123456Z", LEAP_DAY),
            ("2024-02-29T12:34:56Z", LEAP_DAY),
            ("2024-02-29T12:34:56.0000000Z", LEAP_DAY),
            ("2024-02-29T12:34Z", LEAP_DAY - 56),
            ("2024-02-29", LEAP_DAY - 56 - 34 * 60 - 12 * 3600),
            ("1970-01-01", 0),
            ("2000-03-01", 951_868_800),
            ("2100-03-01", 4_107_542_400),
            ("2024-12-31T23:59:59Z", 1_735_689_599),
        ] {
            assert_eq!(iso_date(text), Some(unix(seconds)), "{text}");
        }
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2024-01-00",
            "tomorrow",
            "2024-01-01T25:00Z",
            "1969-12-31",
            "99999999999999999999",
            "2024-01-01T00:00:00+01:00",
        ] {
            assert_eq!(iso_date(text), None, "{text}");
        }
    }

    #[test]
    fn expiries_of_signed_urls() {
        for (query, end) in [
            (
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20240229T123456Z&X-Amz-Expires=600&x=y",
                Some(LEAP_DAY + 600),
            ),
            ("x-amz-expires=1&x-amz-date=20240229T123456Z", Some(LEAP_DAY + 1)),
            ("X-Goog-Date=20240229T123456Z&X-Goog-Expires=900", Some(LEAP_DAY + 900)),
            ("Expires=1709210096&Signature=a%2Bb&Key-Pair-Id=K", Some(LEAP_DAY)),
            ("se=2024-02-29T12%3A34%3A56Z&sig=abc%3D&sp=r", Some(LEAP_DAY)),
            ("sig=1", None),
            ("", None),
            ("X-Amz-Expires=600", None),
            ("X-Amz-Date=20240229T123456Z&X-Amz-Expires=18446744073709551615", None),
            ("X-Amz-Date=20240229T123456Z&X-Amz-Expires=-1", None),
            ("Expires=Thu%2C+01+Dec+1994", None),
        ] {
            assert_eq!(expiry(query), end.map(unix), "{query}");
        }
    }

    #[test]
    fn lifetimes_end_early() {
        let lasting = |seconds: u64| {
            lifetime(&format!("Expires={}", LEAP_DAY + seconds), unix(LEAP_DAY)).as_secs()
        };
        assert_eq!(lasting(600), 540);
        assert_eq!(lasting(30), 20);
        assert_eq!(lasting(5), 0);
        assert_eq!(lasting(1 << 30), 3600);
        assert_eq!(lifetime("Expires=1", unix(LEAP_DAY)), Duration::ZERO);
        assert_eq!(lifetime("", unix(LEAP_DAY)), DEFAULT_LIFETIME);
    }

    #[test]
    fn locations_are_forgotten_and_not_printed() {
        let locations = Locations::default();
        let digest = Digest::sha256(b"x");
        locations.remember(digest, "https://cdn/x?sig=secret".parse().unwrap());
        assert_eq!(locations.get(&digest).unwrap().host(), Some("cdn"));
        assert_eq!(locations.get(&Digest::sha256(b"y")), None);
        assert!(!format!("{locations:?}").contains("secret"));
        locations.forget(&digest);
        assert_eq!(locations.get(&digest), None);
        locations.remember(digest, "https://cdn/x?Expires=1".parse().unwrap());
        assert_eq!(locations.get(&digest), None, "it has ended long ago");
    }
}
