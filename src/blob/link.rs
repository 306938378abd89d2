//! What a link makes cheap: how many bytes are worth as much as something else.

use std::ops::Range;
use std::time::Duration;

use crate::source::Throughput;

/// What a link is taken for before it has been measured: 100 Mbit/s at 20 ms.
const UNMEASURED: Throughput =
    Throughput { round_trip: Duration::from_millis(20), bytes_per_second: 100_000_000 / 8 };

/// Limits of [`Link::gap_bytes`]: measurements of short answers are rough.
const GAP_BYTES: Range<u64> = (64 << 10)..(1 << 20);

/// Limits of [`Link::back_bytes`].
const BACK_BYTES: Range<u64> = (64 << 10)..(16 << 20);

/// Limits of [`Link::ahead_bytes`].
const AHEAD_BYTES: Range<u64> = (1 << 20)..(64 << 20);

/// Where an answer takes so many times as long as asking for it, more at a time is hardly faster.
const ROUND_TRIPS: f64 = 16.0;

/// Compressed bytes, as a link weighs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// What can as well be fetched as left out: it comes in the time that another request would take.
    pub(super) gap_bytes: u64,
    /// What may lie before the place of a miss, as its reader can wait for it: it comes in a second.
    pub(super) back_bytes: u64,
    /// The most that is fetched on the mere guess that a reader goes on: it comes in a second, or in the
    /// time of [`ROUND_TRIPS`] requests.
    pub(super) ahead_bytes: u64,
}

impl Link {
    pub(super) fn new(measured: Option<Throughput>) -> Link {
        let Throughput { round_trip, bytes_per_second } = measured.unwrap_or(UNMEASURED);
        let within = |bytes: u64, limits: Range<u64>| bytes.clamp(limits.start, limits.end);
        let in_seconds = |seconds: f64| (bytes_per_second as f64 * seconds) as u64;
        let round_trip = round_trip.as_secs_f64();
        Link {
            gap_bytes: within(in_seconds(round_trip), GAP_BYTES),
            back_bytes: within(bytes_per_second, BACK_BYTES),
            ahead_bytes: within(in_seconds((ROUND_TRIPS * round_trip).max(1.0)), AHEAD_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_link() {
        let link = |ms, mbit: u64| {
            let bytes_per_second = mbit * 1_000_000 / 8;
            let round_trip = Duration::from_millis(ms);
            Link::new(Some(Throughput { round_trip, bytes_per_second }))
        };
        for (link, gap_bytes, back_bytes, ahead_bytes) in [
            (link(20, 100), 250_000, 12_500_000, 12_500_000),
            (link(1, 1000), 125_000, 16 << 20, 64 << 20),
            (link(0, 10_000), 64 << 10, 16 << 20, 64 << 20),
            (link(500, 10_000), 1 << 20, 16 << 20, 64 << 20),
            (link(200, 16), 400_000, 2_000_000, 6_400_000),
            (link(20, 1), 64 << 10, 125_000, 1 << 20),
            (Link::new(None), 250_000, 12_500_000, 12_500_000),
        ] {
            assert_eq!(link, Link { gap_bytes, back_bytes, ahead_bytes });
        }
    }
}
