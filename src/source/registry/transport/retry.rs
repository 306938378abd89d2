//! Trying again what fails for a moment, until a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::deadline;
use super::jitter::jittered;
use super::observed::Observed;
use crate::source::registry::error::Error;

/// Tries of one request, the first included.
pub(in crate::source::registry) const MAX_TRIES: u32 = 5;

/// Tries of one that is answered with something that is not HTTP. The first may have met what a former
/// answer left behind on its connection; the next will be told the same again.
const MALFORMED_TRIES: u32 = 2;

/// First pause between tries; it doubles each time.
pub(in crate::source::registry) const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A wait in vain that is told where it was shorter is only logged.
const TOLD: Duration = Duration::from_secs(3);

/// Longest pause between two tries that the server has not asked for.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Tries of what is asked of one host, and of those that stand in for it.
#[derive(Debug)]
pub(in crate::source::registry) struct Retries {
    /// How long one question may take.
    whole: Duration,
    observed: Arc<Observed>,
    /// Something that was asked of this host has come.
    has_served: AtomicBool,
}

impl Retries {
    pub(in crate::source::registry) fn new(whole: Duration, observed: Arc<Observed>) -> Retries {
        Retries { whole, observed, has_served: AtomicBool::new(false) }
    }

    /// Notes that something that was asked of this host has come.
    pub(in crate::source::registry) fn served(&self) {
        self.has_served.store(true, Ordering::Relaxed);
    }

    /// Does something until it succeeds or fails for good, with one deadline for all of it. A host that
    /// has served us before and does not answer is waited for until then: it is being restarted.
    /// It must be something that may be done again after it had gone well, as the answer may have been
    /// lost.
    pub(in crate::source::registry) fn retry<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.observed.patience.limit(self.whole);
        let since = Instant::now();
        let result = deadline::until(since + limit, || self.until_deadline(&mut act));
        if result.is_err() && since.elapsed() >= limit / 2 {
            self.observed.patience.in_vain(since);
        }
        result
    }

    fn until_deadline<T>(&self, act: &mut impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let (since, end) = (Instant::now(), deadline::deadline(self.whole));
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match act() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or_else(|| jittered(pause));
            let late = Instant::now() + wait > end;
            let may_pass =
                error.is_temporary() || error.is_unreachable() && self.observed.has_answered();
            let is_restarting = error.is_gone() && self.has_served.load(Ordering::Relaxed);
            let tries = if error.is_malformed() { MALFORMED_TRIES } else { MAX_TRIES };
            let is_too_often = attempt >= tries && !is_restarting;
            if !may_pass || is_too_often || late {
                return Err(error);
            }
            // A user who has waited for so long wants to know for what.
            let level = match error.is_timeout() && since.elapsed() >= TOLD {
                true => log::Level::Warn,
                false => log::Level::Info,
            };
            log::log!(level, "{error}; trying again in {} ms", wait.as_millis());
            thread::sleep(wait);
            pause = MAX_PAUSE.min(pause * 2);
        }
        unreachable!("the loop returns at the deadline")
    }
}
