//! Whether a reader waits for the network, or the network for its reader.

use std::time::{Duration, Instant};

/// Time over which that is found out.
const WINDOW: Duration = Duration::from_millis(100);

/// What the time of a reader goes into.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    inside: Duration,
    elsewhere: Duration,
    since: Instant,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { inside: WINDOW, elsewhere: Duration::ZERO, since: Instant::now() }
    }
}

impl Pace {
    /// The reader asks for bytes.
    pub fn enter(&mut self) {
        self.elsewhere += self.since.elapsed();
        self.since = Instant::now();
    }

    /// It has them.
    pub fn leave(&mut self) {
        self.inside += self.since.elapsed();
        self.since = Instant::now();
        if self.inside + self.elsewhere > WINDOW {
            (self.inside, self.elsewhere) = (self.inside / 2, self.elsewhere / 2);
        }
    }

    /// Whether the reader waits for the network rather than the network for it.
    pub fn is_awaited(&self) -> bool {
        self.inside >= self.elsewhere
    }
}
