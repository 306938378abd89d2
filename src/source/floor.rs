//! When a transfer that still moves is as dead as one that does not.
//!
//! A limit on silence alone never ends a transfer of ten bytes a second, nor one that sends a part
//! and goes silent each time it is resumed. So a transfer has to bring a minimum of *new* bytes in a
//! while, and its silences are added up: only time in which something came makes up for them, since half
//! of what is left can be sent quickly many times. Only time spent waiting counts: a reader that is busy elsewhere stalls nothing. Transfers of
//! one image share a link and may share the count of what has come; then only all of them together have
//! to be fast enough.

use std::time::Duration;

/// Fewest bytes a second that count as progress. The slowest links in use, GPRS and 56k modems, bring
/// 4,000 or more; package managers draw the line at the same number (`minrate` of dnf).
pub(crate) const MIN_BYTES_PER_SECOND: u64 = 1000;

/// Watches one transfer.
#[derive(Debug)]
pub(super) struct Floor {
    /// How long progress may take.
    limit: Duration,
    /// Time waited since the last progress.
    waited: Duration,
    /// What had come then.
    mark: u64,
    /// Time waited for nothing, that was not made up for.
    silence: Duration,
}

impl Floor {
    /// A transfer that begins when `brought` bytes have come in all.
    pub(super) fn new(limit: Duration, brought: u64) -> Floor {
        Floor { limit, waited: Duration::ZERO, mark: brought, silence: Duration::ZERO }
    }

    /// Time left until the transfer is dead, if nothing more comes.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited.max(self.silence))
    }

    /// The longest wait for progress.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Notes a wait in which `came` bytes came, after which `brought` have come in all. Whether there was
    /// enough progress since the last time that there was; then the next may take `limit`.
    pub(super) fn waited(
        &mut self,
        time: Duration,
        came: u64,
        brought: u64,
        limit: Duration,
    ) -> bool {
        self.waited += time;
        self.silence = match came {
            0 => self.silence + time,
            _ => self.silence.saturating_sub(time),
        };
        let is_enough = brought.saturating_sub(self.mark) >= bytes_in(self.limit);
        if is_enough {
            *self = Floor { silence: self.silence, ..Floor::new(limit, brought) };
        }
        is_enough
    }

    /// Whether the transfer is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.waited.max(self.silence) >= self.limit
    }
}

/// Bytes that have to come in a time.
fn bytes_in(time: Duration) -> u64 {
    let bytes = time.as_millis().saturating_mul(MIN_BYTES_PER_SECOND.into()) / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a transfer that brings `bytes` in each `pause` lives for ten limits.
    fn lives(bytes: u64, pause: Duration) -> bool {
        let limit = Duration::from_secs(10);
        let mut floor = Floor::new(limit, 0);
        let mut time = Duration::ZERO;
        let mut brought = 0;
        while time < limit * 10 {
            time += pause;
            brought += bytes;
            floor.waited(pause, bytes, brought, limit);
            if floor.is_dead() {
                return false;
            }
        }
        true
    }

    #[test]
    fn trickles_die_and_slow_links_live() {
        let ms = Duration::from_millis;
        assert!(lives(200, ms(1)), "200 KB/s");
        assert!(lives(2000, ms(1000)), "2 KB/s");
        assert!(lives(12_000, ms(9_000)), "1.3 KB/s, in bursts");
        assert!(!lives(10, ms(1000)), "10 bytes a second");
        assert!(!lives(900, ms(1000)), "just too little");
        assert!(!lives(0, ms(1)), "silence");
    }

    /// Half of what is left comes quickly each time, and then nothing for half the limit.
    #[test]
    fn silences_add_up() {
        let limit = Duration::from_secs(10);
        let mut floor = Floor::new(limit, 0);
        let mut silences = 0;
        let (mut brought, mut left) = (0, 1u64 << 40);
        while !floor.is_dead() {
            left /= 2;
            brought += left;
            floor.waited(Duration::from_millis(1), left, brought, limit);
            floor.waited(limit / 2, 0, brought, limit);
            silences += 1;
        }
        assert_eq!(silences, 3, "a little of the first was made up for");
        // A link that is silent now and then, and works for longer between.
        let mut floor = Floor::new(limit, 0);
        for minute in 1..100 {
            floor.waited(limit / 2, 0, brought, limit);
            for _ in 0..10 {
                brought += 2000;
                floor.waited(limit / 10, 2000, brought, limit);
            }
            assert!(!floor.is_dead(), "{minute}");
        }
    }

    #[test]
    fn time_elsewhere_does_not_count() {
        let limit = Duration::from_secs(10);
        let mut floor = Floor::new(limit, 0);
        for brought in 1..1000 {
            floor.waited(Duration::from_millis(1), 1, brought, limit);
        }
        assert!(!floor.is_dead() && floor.left() < limit);
    }
}
