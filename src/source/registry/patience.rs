//! How long is waited for the hosts of one image.
//!
//! # Problem
//!
//! One question may take several requests: tries, hosts, a token, redirects. And one command asks several
//! questions, some of which it can do without: if a table of contents can't be had, the layer is streamed.
//! If each of them waited as long as it may, a server that says nothing would hold a command for a
//! multiple of what the user allows.
//!
//! # Design
//!
//! A question has one deadline, whatever it takes ([`until`]). It belongs to the thread that asks rather
//! than to the parameters of each function: there is exactly one at any time, and none of the requests on
//! the way can forget it.
//!
//! Questions of one image share a [`Patience`], which is a circuit breaker with a memory of one number:
//! after one that was waited for in vain the next has a quarter of the time, and so on, until something
//! comes. All of them together then wait for 4/3 of what one may. After a while without questions there
//! is full patience again.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Each wait in vain divides what the next may take by this ...
const IMPATIENCE: u32 = 4;

/// ... down to this part of the whole: a second or two of the usual minute, in which a server that works
/// again can show that it does.
const LEAST: u32 = 32;

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does something with a deadline for all requests of this thread; of two that apply, the earlier one
/// counts.
pub(super) fn until<T>(deadline: Instant, act: impl FnOnce() -> T) -> T {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            UNTIL.set(self.0);
        }
    }
    let outer = UNTIL.get();
    let _restore = Restore(outer);
    UNTIL.set(Some(outer.map_or(deadline, |outer| outer.min(deadline))));
    act()
}

/// The deadline of what this thread asks for; after `usual`, if there is none.
pub(super) fn deadline(usual: Duration) -> Instant {
    UNTIL.get().unwrap_or_else(|| Instant::now() + usual)
}

/// Time left until then. Never nothing, which would mean something else to some.
pub(super) fn left(usual: Duration) -> Duration {
    let left = deadline(usual).saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

/// How long the next question may take.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<InVain>);

/// Waits since something came.
#[derive(Debug, Default)]
struct InVain {
    times: u32,
    last: Option<Instant>,
}

impl Patience {
    /// How long a question may take that may usually take `whole`.
    pub(super) fn limit(&self, whole: Duration) -> Duration {
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
    pub(super) fn served(&self) {
        *self.lock() = InVain::default();
    }

    /// Notes a wait in vain since then. Those that waited at the same time count once.
    pub(super) fn in_vain(&self, since: Instant) {
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
    fn the_earlier_deadline_counts() {
        let (soon, late) = (Instant::now(), Instant::now() + WHOLE);
        until(late, || {
            until(soon, || assert_eq!(deadline(WHOLE), soon));
            assert_eq!(deadline(WHOLE), late);
            until(late + WHOLE, || assert_eq!(deadline(WHOLE), late));
        });
        assert!(deadline(WHOLE) > late, "there is none any more");
    }

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
