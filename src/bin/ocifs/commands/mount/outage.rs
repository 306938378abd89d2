//! How soon a worker is started again, and how long requests wait for it.
//!
//! A worker that dies is replaced at once. One that dies soon after it was there, or does not come to serve at all, will
//! do so again: then there are pauses, which become longer. And requests must not wait for ever: after a time they are
//! answered with EIO until a worker serves. That also ends what kills every worker that reads it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A worker that has served for so long has answered what was resent to it: no death of the next one is its fault.
const SOON: Duration = Duration::from_secs(1);

/// How often a worker is started again without a pause, the first pause after that, and the longest.
const AT_ONCE: u32 = 2;

/// So many deaths within such a time, however long each worker has lived, are no chance.
const MANY: usize = 3;
const IN_SHORT: Duration = Duration::from_secs(120);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The time since a worker has served for long.
#[derive(Debug)]
pub(super) struct Outage {
    /// How long requests wait.
    patience: Duration,
    since: Option<Instant>,
    /// Workers that have died since.
    deaths: u32,
    /// When the worker that there is began to serve.
    serving: Option<Instant>,
    /// When the next one is to be started.
    next: Option<Instant>,
    /// The last deaths, of workers that have lived long as well.
    last: VecDeque<Instant>,
}

impl Outage {
    /// None, with a worker that serves from now on.
    pub(super) fn none(patience: Duration, now: Instant) -> Outage {
        let last = VecDeque::new();
        Outage { patience, since: None, deaths: 0, serving: Some(now), next: None, last }
    }

    /// A worker serves.
    pub(super) fn serves(&mut self, now: Instant) {
        self.serving = Some(now);
    }

    /// The worker has died, or could not be started.
    pub(super) fn died(&mut self, now: Instant) {
        if self.serving.take().is_some_and(|begin| now.duration_since(begin) >= SOON) {
            (self.since, self.deaths) = (None, 0);
        }
        self.since.get_or_insert(now);
        self.last.retain(|died| now.duration_since(*died) < IN_SHORT);
        self.last.push_back(now);
        if self.last.len() > MANY {
            self.last.pop_front();
        }
        let pause = match self.deaths.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(doublings) => {
                FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE)
            }
        };
        self.deaths = self.deaths.saturating_add(1);
        self.next = Some(now + pause);
    }

    /// Whether workers die one after the other, so that the next one should see to what kills it.
    pub(super) fn goes_on(&self) -> bool {
        self.deaths >= AT_ONCE || self.last.len() >= MANY
    }

    /// Whether another worker is to be started now; it is said once.
    pub(super) fn starts(&mut self, now: Instant) -> bool {
        self.next.take_if(|next| *next <= now).is_some()
    }

    /// Whether a worker serves.
    pub(super) fn is_over(&self) -> bool {
        self.serving.is_some()
    }

    /// Whether requests have waited for long enough.
    pub(super) fn is_hopeless(&self, now: Instant) -> bool {
        self.serving.is_none()
            && self.since.is_some_and(|since| now.duration_since(since) >= self.patience)
    }

    /// How soon any of this changes by itself.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let end = self.since.filter(|_| self.serving.is_none() && !self.is_hopeless(now));
        let end = end.map(|since| since + self.patience);
        let next = [self.next, end].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_until_a_worker_serves_for_long() {
        let mut now = Instant::now();
        let mut outage = Outage::none(Duration::from_secs(60), now);
        let mut die = |outage: &mut Outage, lived: u64| {
            now += Duration::from_millis(lived);
            outage.died(now);
            let pause = outage.wait(now).map_or(0, |pause| pause.as_millis());
            assert_eq!(outage.starts(now), pause == 0);
            now += Duration::from_millis(pause as u64);
            if pause > 0 {
                assert!(outage.starts(now));
            }
            outage.serves(now);
            pause
        };
        let pauses: Vec<_> = [5000, 0, 30, 999, 0, 0, 0, 0, 0, 0]
            .map(|lived| die(&mut outage, lived))
            .into_iter()
            .collect();
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(die(&mut outage, 1000), 0);
    }

    #[test]
    fn patience_ends_unless_a_worker_serves() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut outage = Outage::none(Duration::from_secs(10), begin);
        assert!(outage.is_over() && !outage.is_hopeless(at(100)));
        outage.died(at(100));
        assert!(outage.starts(at(100)) && !outage.starts(at(100)));
        assert_eq!(outage.wait(at(103)), Some(Duration::from_secs(7)));
        assert!(!outage.is_hopeless(at(109)));
        assert!(outage.is_hopeless(at(110)));
        assert_eq!(outage.wait(at(110)), None);
        // What kills each worker at once counts from the first of them on.
        outage.serves(at(110));
        assert!(!outage.is_hopeless(at(110)));
        outage.died(at(110));
        assert!(outage.is_hopeless(at(110)));
        outage.serves(at(111));
        outage.died(at(113));
        assert!(!outage.is_hopeless(at(122)) && outage.is_hopeless(at(123)));
    }
}
