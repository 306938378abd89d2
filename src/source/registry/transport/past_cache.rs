//! Caches that keep a blob from being asked for in parts.
//!
//! A cache in front of a registry may hold all of a blob and send all of it to who asks for a range
//! (haproxy 2.6 does), though the registry behind it knows ranges. A request that says `no-cache` goes
//! past it. That is tried once for a host, when such an answer comes, and done from then on if it helps:
//! servers without a cache, or with one that knows ranges, get no request more.

use std::sync::atomic::{AtomicU8, Ordering};

use ureq::Body as HttpBody;
use ureq::http::{Response, header};

use super::response::header_text;

/// Headers by which caches say whether they had it.
const HITS: [&str; 5] =
    ["x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status", "cache-status"];

const NEEDED: u8 = 1;
const USELESS: u8 = 2;

/// Whether ranges have to be asked for past a cache.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct PastCache(AtomicU8);

impl PastCache {
    pub(in crate::source::registry) fn is_needed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NEEDED
    }

    /// Whether asking past the cache may bring the range that this answer ignores. Says so once.
    pub(in crate::source::registry) fn may_help(&self, response: &Response<HttpBody>) -> bool {
        let change =
            |state| self.0.compare_exchange(0, state, Ordering::Relaxed, Ordering::Relaxed);
        is_from_cache(response) && change(NEEDED).is_ok()
    }

    /// Notes whether it did.
    pub(in crate::source::registry) fn note(&self, helps: bool) {
        self.0.store(if helps { NEEDED } else { USELESS }, Ordering::Relaxed);
    }
}

/// Whether an answer was not made for this request (RFC 9111, 5.1), by its own words.
fn is_from_cache(response: &Response<HttpBody>) -> bool {
    let says_hit = |name: &&str| {
        header_text(response, name).is_some_and(|value| value.to_ascii_lowercase().contains("hit"))
    };
    response.headers().contains_key(header::AGE) || HITS.iter().any(says_hit)
}
