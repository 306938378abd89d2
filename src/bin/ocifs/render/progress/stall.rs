//! Tells that nothing comes, while that lasts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Silence that is told: longer than the pauses of links that work.
const TOLD: Duration = Duration::from_secs(3);

/// Watches a position that is looked at now and then.
#[derive(Debug)]
pub(super) struct Stall(Mutex<(u64, Instant)>);

impl Stall {
    pub(super) fn new() -> Stall {
        Stall(Mutex::new((0, Instant::now())))
    }

    /// For how many seconds the position has not changed, if that is worth telling.
    pub(super) fn seconds(&self, position: u64) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != position {
            *last = (position, Instant::now());
        }
        let silence = last.1.elapsed();
        (silence >= TOLD).then_some(silence.as_secs())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_while_it_lasts() {
        let stall = Stall::new();
        assert_eq!(stall.seconds(5), None);
        let before = Instant::now().checked_sub(Duration::from_secs(12)).unwrap();
        *stall.0.lock().unwrap() = (5, before);
        assert_eq!(stall.seconds(5), Some(12));
        assert_eq!(stall.seconds(6), None);
    }
}
