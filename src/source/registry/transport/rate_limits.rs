//! Leaving a host alone that asks for it.
//!
//! A mount reads on many threads. When a registry answers 429 to one of them, the others would run
//! into the same answer, each with tries of its own, which is how clients get themselves locked
//! out. So the first such answer closes a gate for all threads until the time that the host says.
//! Then one goes ahead; when it comes through, the gate is open for all.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a gate is closed for a host that does not say.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);

/// Longest that a gate is closed, whatever the host says: then one thread asks again.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The rate_limits before the hosts that have asked for one.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct RateLimits {
    closed: Mutex<HashMap<String, RateLimit>>,
    changed: Condvar,
}

#[derive(Debug)]
struct RateLimit {
    opens: Instant,
    /// A thread is asking the host, to learn whether it holds.
    is_tried: bool,
}

/// The right to ask a host once.
#[derive(Debug)]
pub(in crate::source::registry) struct Pass<'a> {
    rate_limits: &'a RateLimits,
    host: &'a str,
    is_first: bool,
}

impl RateLimits {
    /// Whether a host wants to be left alone, or has just been asked whether it still does.
    pub(in crate::source::registry) fn is_closed(&self, host: &str) -> bool {
        self.lock().contains_key(host)
    }

    /// Waits until the host may be asked; for how much longer it may not, if that is beyond the
    /// deadline.
    pub(in crate::source::registry) fn enter<'a>(
        &'a self,
        host: &'a str,
        deadline: Instant,
    ) -> Result<Pass<'a>, Duration> {
        let mut closed = self.lock();
        loop {
            let Some(gate) = closed.get_mut(host) else {
                return Ok(Pass { rate_limits: self, host, is_first: false });
            };
            let now = Instant::now();
            let left = gate.opens.saturating_duration_since(now);
            if left.is_zero() && !gate.is_tried {
                gate.is_tried = true;
                return Ok(Pass { rate_limits: self, host, is_first: true });
            }
            if gate.opens > deadline || now >= deadline {
                return Err(left);
            }
            let wait = if gate.is_tried { deadline - now } else { left };
            let waited = self.changed.wait_timeout(closed, wait);
            closed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, RateLimit>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Closes the gate: the host asks to be left alone, for so long if it says.
    pub(in crate::source::registry) fn close(mut self, pause: Option<Duration>) {
        let opens = Instant::now() + pause.unwrap_or(DEFAULT_PAUSE).min(MAX_PAUSE);
        let mut closed = self.rate_limits.lock();
        let gate =
            closed.entry(self.host.to_owned()).or_insert(RateLimit { opens, is_tried: false });
        gate.opens = gate.opens.max(opens);
        if self.is_first {
            gate.is_tried = false;
        }
        self.is_first = false;
        drop(closed);
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
    fn a_closed_gate_lets_one_through() {
        let rate_limits = RateLimits::default();
        let (first, second) =
            (rate_limits.enter("a", soon()).unwrap(), rate_limits.enter("a", soon()).unwrap());
        first.close(Some(Duration::ZERO));
        drop(second);
        let trying = rate_limits.enter("a", soon()).unwrap();
        assert!(rate_limits.enter("a", Instant::now()).is_err(), "the second waits for the first");
        assert!(rate_limits.enter("b", Instant::now()).is_ok(), "other hosts are not concerned");
        trying.close(Some(Duration::ZERO));
        drop(rate_limits.enter("a", soon()).unwrap());
        let open =
            [rate_limits.enter("a", soon()).unwrap(), rate_limits.enter("a", soon()).unwrap()];
        assert!(open.iter().all(|pass| !pass.is_first));
    }

    #[test]
    fn a_gate_that_stays_closed_is_told_at_once() {
        let rate_limits = RateLimits::default();
        rate_limits.enter("a", soon()).unwrap().close(Some(LONG));
        let left = rate_limits.enter("a", soon()).unwrap_err();
        assert!(left > Duration::from_secs(50) && left <= MAX_PAUSE, "{left:?}");
    }

    #[test]
    fn those_who_wait_follow_the_first() {
        let rate_limits = RateLimits::default();
        rate_limits.enter("a", soon()).unwrap().close(Some(Duration::ZERO));
        let first = rate_limits.enter("a", soon()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| rate_limits.enter("a", soon()).map(|pass| pass.is_first));
            drop(first);
            assert_eq!(waiting.join().unwrap(), Ok(false));
        });
    }
}
