//! What of a layer is on its way, and who waits for it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::plan::Runs;

/// From this age on the failure of a fetch says little to a reader who has just come.
const OLD: Duration = Duration::from_millis(500);

/// What is on its way, and who waits.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) fetches: Vec<OngoingFetch>,
    /// Number of the next fetch.
    pub(super) next_number: u64,
    /// How many wait for each span.
    pub(super) wanted: HashMap<usize, usize>,
    /// Spans, or why there are none, for those who wait; the last of them takes it away.
    pub(super) arrived: HashMap<usize, Result<Arc<Vec<u8>>, Error>>,
    /// Spans that have come wrong once.
    pub(super) suspects: HashSet<usize>,
    pub(super) runs: Runs,
}

/// What a fetch still has to bring.
#[derive(Debug)]
pub(super) struct OngoingFetch {
    pub(super) number: u64,
    pub(super) left: Range<usize>,
    /// How far it can be sent on.
    pub(super) limit: usize,
    pub(super) started: Instant,
}

impl InFlight {
    pub(super) fn carries(&self, at: usize) -> bool {
        self.fetches.iter().any(|fetch| fetch.left.contains(&at))
    }

    /// Whether any span of a row is on its way.
    pub(super) fn carries_any(&self, spans: &Range<usize>) -> bool {
        let touches = |left: &Range<usize>| left.start < spans.end && spans.start < left.end;
        self.fetches.iter().any(|fetch| touches(&fetch.left))
    }

    /// Whether a span is on its way since long before now.
    pub(super) fn is_on_old_fetch(&self, at: usize) -> bool {
        let mut fetches = self.fetches.iter().filter(|fetch| fetch.left.contains(&at));
        fetches.any(|fetch| fetch.started.elapsed() > OLD)
    }

    /// Has a fetch go on that has to pass `begin..=at` anyway, if there is one.
    pub(super) fn extend(&mut self, begin: usize, at: usize, end: usize) -> bool {
        let passes = |fetch: &&mut OngoingFetch| {
            fetch.left.start >= begin && fetch.left.start <= at && at < fetch.limit
        };
        match self.fetches.iter_mut().find(passes) {
            Some(fetch) => {
                fetch.left.end = fetch.left.end.max(end.min(fetch.limit));
                true
            }
            None => false,
        }
    }
}
