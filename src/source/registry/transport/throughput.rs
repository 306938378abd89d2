//! How long asking takes here, and how fast answers come.
//!
//! The code that decides how much to fetch at once needs both: what is too small pays a round trip too
//! often, what is too large is bytes that no reader wanted. Both are averages in which old answers
//! fade, since a link changes in the hours that a mount lives.
//!
//! The speed is that of one body, whose reader may be the slower end: time between two reads
//! counts as long as it is short, because nothing says whether the network was waiting meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::source::Throughput;

/// What is assumed before the first answer: a registry on the same continent, reached from a usual
/// line.
const ASSUMED: Throughput =
    Throughput { round_trip: Duration::from_millis(100), bytes_per_second: 10 << 20 };

/// The weight of the last answer in the average of round trips is one in so many (as for TCP's own,
/// RFC 6298).
const ROUND_TRIP_WEIGHT: u32 = 8;

/// Bytes after which older ones count half: the speed is that of the last few MiB.
const FADING_BYTES: u64 = 8 << 20;

/// Fewer bytes than these say nothing of the speed: they came along with the header.
const MIN_BYTES: u64 = 64 << 10;

/// Longest pause between two reads of a body that counts as time of the link.
pub(in crate::source::registry) const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Measures one registry, the storage behind it included.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct Meter(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    round_trip: Option<Duration>,
    bytes: u64,
    time: Duration,
}

impl Meter {
    /// Notes the time from asking to the header of an answer.
    pub(in crate::source::registry) fn round_trip(&self, time: Duration) {
        let mut sums = self.lock();
        sums.round_trip = Some(match sums.round_trip {
            Some(average) => average - average / ROUND_TRIP_WEIGHT + time / ROUND_TRIP_WEIGHT,
            None => time,
        });
    }

    /// Notes that a part of a body took so long to come.
    pub(in crate::source::registry) fn body(&self, bytes: u64, time: Duration) {
        let mut sums = self.lock();
        sums.bytes = sums.bytes.saturating_add(bytes);
        sums.time = sums.time.saturating_add(time);
        if sums.bytes > FADING_BYTES {
            sums.bytes /= 2;
            sums.time /= 2;
        }
    }

    pub(in crate::source::registry) fn throughput(&self) -> Throughput {
        let sums = self.lock();
        let nanoseconds = sums.time.as_nanos().max(1);
        let bytes_per_second = match sums.bytes < MIN_BYTES {
            true => ASSUMED.bytes_per_second,
            false => {
                let speed = u128::from(sums.bytes) * 1_000_000_000 / nanoseconds;
                u64::try_from(speed).unwrap_or(u64::MAX).max(1)
            }
        };
        let round_trip = sums.round_trip.unwrap_or(ASSUMED.round_trip);
        Throughput { round_trip, bytes_per_second }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_the_link() {
        let meter = Meter::default();
        assert_eq!(meter.throughput(), ASSUMED);
        let ms = Duration::from_millis;
        meter.round_trip(ms(40));
        meter.body(1 << 10, ms(1));
        let link = Throughput { round_trip: ms(40), ..ASSUMED };
        assert_eq!(meter.throughput(), link, "a KiB says nothing of the speed");
        for _ in 0..100 {
            meter.body(1 << 20, ms(1000));
        }
        let slow = meter.throughput().bytes_per_second;
        assert!(slow.abs_diff(1 << 20) < 50_000, "{slow}");
        for _ in 0..100 {
            meter.body(1 << 20, ms(10));
            meter.round_trip(ms(8));
        }
        let link = meter.throughput();
        assert!(link.bytes_per_second.abs_diff(100 << 20) < 5 << 20, "{link:?}");
        assert!(link.round_trip.abs_diff(ms(8)) < ms(1), "{link:?}");
    }
}
