//! Holding back requests to a host that limits their rate: that answers 429, or 503 with `Retry-After`.
//!
//! A mount reads on many threads. When a registry answers 429 to one of them, the others would run
//! into the same answer, each with tries of its own, which is how clients get themselves locked
//! out. So the first such answer holds back all threads until the time that the host says. Then one
//! asks again; when it is answered, all may.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long requests are held back from a host that does not say.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);

/// Longest that requests are held back, whatever the host says: then one thread asks again.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The hosts that limit the rate, and until when no request goes to them.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct RateLimits {
    limited: Mutex<HashMap<String, RateLimit>>,
    changed: Condvar,
}

#[derive(Debug)]
struct RateLimit {
    /// What the host has answered.
    status: u16,
    ends: Instant,
    /// A thread is asking the host, to learn whether it holds.
    is_tried: bool,
}

/// Why a host may not be asked before a deadline.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source::registry) struct HeldBack {
    /// What the host has answered last.
    pub(in crate::source::registry) status: u16,
    /// How much longer it is to be left alone.
    pub(in crate::source::registry) left: Duration,
}

/// The right to ask a host once.
#[derive(Debug)]
pub(in crate::source::registry) struct Pass<'a> {
    rate_limits: &'a RateLimits,
    host: &'a str,
    is_first: bool,
}

impl RateLimits {
    /// Whether a host limits the rate, or has just been asked whether it still does.
    pub(in crate::source::registry) fn is_limited(&self, host: &str) -> bool {
        self.lock().contains_key(host)
    }

    /// Waits until the host may be asked, unless that is beyond the deadline.
    pub(in crate::source::registry) fn enter<'a>(
        &'a self,
        host: &'a str,
        deadline: Instant,
    ) -> Result<Pass<'a>, HeldBack> {
        let mut limited = self.lock();
        loop {
            let Some(limit) = limited.get_mut(host) else {
                return Ok(Pass { rate_limits: self, host, is_first: false });
            };
            let now = Instant::now();
            let left = limit.ends.saturating_duration_since(now);
            if left.is_zero() && !limit.is_tried {
                limit.is_tried = true;
                return Ok(Pass { rate_limits: self, host, is_first: true });
            }
            if limit.ends > deadline || now >= deadline {
                return Err(HeldBack { status: limit.status, left });
            }
            let wait = if limit.is_tried { deadline - now } else { left };
            let waited = self.changed.wait_timeout(limited, wait);
            limited = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, RateLimit>> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The host limits the rate, by this answer: holds back all requests to it, for so long if it says.
    pub(in crate::source::registry) fn limit(mut self, status: u16, pause: Option<Duration>) {
        let ends = Instant::now() + pause.unwrap_or(DEFAULT_PAUSE).min(MAX_PAUSE);
        let mut limited = self.rate_limits.lock();
        let limit = limited.entry(self.host.to_owned()).or_insert(RateLimit {
            status,
            ends,
            is_tried: false,
        });
        (limit.status, limit.ends) = (status, limit.ends.max(ends));
        if self.is_first {
            limit.is_tried = false;
        }
        self.is_first = false;
        drop(limited);
        self.rate_limits.changed.notify_all();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_first {
            self.rate_limits.lock().remove(self.host);
            self.rate_limits.changed.notify_all();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn one_asks_when_the_time_is_over() {
        let rate_limits = RateLimits::default();
        let (first, second) =
            (rate_limits.enter("a", soon()).unwrap(), rate_limits.enter("a", soon()).unwrap());
        first.limit(429, Some(Duration::ZERO));
        drop(second);
        let trying = rate_limits.enter("a", soon()).unwrap();
        assert!(rate_limits.enter("a", Instant::now()).is_err(), "the second waits for the first");
        assert!(rate_limits.enter("b", Instant::now()).is_ok(), "other hosts are not concerned");
        trying.limit(429, Some(Duration::ZERO));
        drop(rate_limits.enter("a", soon()).unwrap());
        let open =
            [rate_limits.enter("a", soon()).unwrap(), rate_limits.enter("a", soon()).unwrap()];
        assert!(open.iter().all(|pass| !pass.is_first));
    }

    #[test]
    fn a_limit_beyond_the_deadline_is_told_at_once() {
        let rate_limits = RateLimits::default();
        rate_limits.enter("a", soon()).unwrap().limit(503, Some(LONG));
        let held = rate_limits.enter("a", soon()).unwrap_err();
        assert_eq!(held.status, 503);
        assert!(held.left > Duration::from_secs(50) && held.left <= MAX_PAUSE, "{held:?}");
    }

    #[test]
    fn those_who_wait_follow_the_first() {
        let rate_limits = RateLimits::default();
        rate_limits.enter("a", soon()).unwrap().limit(429, Some(Duration::ZERO));
        let first = rate_limits.enter("a", soon()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| rate_limits.enter("a", soon()).map(|pass| pass.is_first));
            drop(first);
            assert_eq!(waiting.join().unwrap(), Ok(false));
        });
    }
}
