//! Until when an answer is waited for: one deadline for all requests that a question takes.
//!
//! One question may take several requests: tries, hosts, a token, redirects. Its deadline belongs to the thread
//! that asks rather than to the parameters of each function: there is exactly one at any time, and none of the
//! requests on the way can forget it.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does something with a deadline for all requests of this thread; of two that apply, the earlier one
/// counts.
pub(in crate::source::registry) fn until<T>(deadline: Instant, act: impl FnOnce() -> T) -> T {
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
pub(in crate::source::registry) fn deadline(usual: Duration) -> Instant {
    UNTIL.get().unwrap_or_else(|| Instant::now() + usual)
}

/// Time left until then. Never nothing, which would mean something else to some.
pub(in crate::source::registry) fn left(usual: Duration) -> Duration {
    let left = deadline(usual).saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
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
}
