//! Patience with the hosts of one image: less after each wait in vain.
//!
//! One command asks several questions, some of which it can do without: if a table of contents can't be had,
//! the layer is streamed. If each of them waited as long as it may, a server that says nothing would hold a
//! command for a multiple of what the user allows.
//!
//! So questions of one image share a [`Patience`], which is a circuit breaker with a memory of one number:
//! after one that was waited for in vain the next has a quarter of the time, and so on, until something
//! comes. All of them together then wait for 4/3 of what one may. After a while without questions there
//! is full patience again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Each wait in vain divides what the next may take by this ...
const IMPATIENCE: u32 = 4;

/// ... down to this part of the whole: a second or two of the usual minute, in which a server that works
/// again can show that it does.
const LEAST: u32 = 32;

/// How long the next question may take.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct Patience(Mutex<InVain>);

/// Waits since something came.
#[derive(Debug, Default)]
struct InVain {
    times: u32,
    last: Option<Instant>,
}

impl Patience {
    /// How long a question may take that may usually take `whole`.
    pub(in crate::source::registry) fn limit(&self, whole: Duration) -> Duration {
        let in_vain = self.lock();
        match in_vain.last {
            Some(last) if last.elapsed() < whole => {
                let divisor = IMPATIENCE.saturating_pow(in_vain.times).min(LEAST);
                whole / divisor
            }
            _ => whole,
        }
    }

    /// Notes that something has come that was asked for.
    pub(in crate::source::registry) fn served(&self) {
        *self.lock() = InVain::default();
    }

    /// Notes a wait in vain since then. Those that waited at the same time count once.
    pub(in crate::source::registry) fn in_vain(&self, since: Instant) {
        let mut in_vain = self.lock();
        if in_vain.last.is_none_or(|last| last <= since) {
            in_vain.times = in_vain.times.saturating_add(1);
            in_vain.last = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, InVain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Duration = Duration::from_secs(64);

    #[test]
    fn waits_in_vain_get_shorter() {
        let patience = Patience::default();
        assert_eq!(patience.limit(WHOLE), WHOLE);
        let since = Instant::now();
        patience.in_vain(since);
        patience.in_vain(since - Duration::from_secs(1));
        assert_eq!(patience.limit(WHOLE), WHOLE / 4, "they waited at the same time");
        (0..9).for_each(|_| patience.in_vain(Instant::now()));
        assert_eq!(patience.limit(WHOLE), WHOLE / LEAST);
        assert_eq!(patience.limit(Duration::ZERO), Duration::ZERO, "a while has passed");
        patience.served();
        assert_eq!(patience.limit(WHOLE), WHOLE);
    }
}
