//! How many connections to one host transfer large amounts at the same time.
//!
//! # Problem
//!
//! Storage behind a registry often gives one connection less than the link could bring, so that several are faster.
//! Where the link is the bound, more of them bring nothing and take from others; and a host that answers 429 or
//! breaks off wants fewer.
//!
//! # Design
//!
//! [`Connections`] of a host are shared by all layers and images of a session. A transfer that its reader waits for
//! takes a [`Slot`] as soon as there is one ([`Connections::enter`]); what is fetched ahead of a reader takes one only
//! as long as fewer are open than are allowed ([`Connections::try_enter`]). That number follows what was
//! measured: bytes a second while a known number of connections brought some. More are tried as
//! long as readers wait for the network and processors could take more, and kept if they bring a fifth more; if not, it is as before for a
//! while. Later fewer are tried, and kept if they bring nearly as much: what looked like a gain may have been a connection that
//! was still growing. A refusal leaves one.
//!
//! Rejected: a fixed number, as parallel pulls of others have it: eight connections to a server that counts requests
//! or limits their rate are how clients get themselves locked out.
//!
//! # Invariants
//!
//! - Never do first passes, or what is fetched ahead, make more connections than the limit. Only reads of mounted files are
//!   not held up by it.
//! - A reader that waits for a slot has it before anything that is fetched ahead.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections to one host, unless the user says something else.
pub const DEFAULT_CONNECTIONS: usize = 8;

/// How many times as many are tried next.
const STEP: usize = 3;

/// The gain that is worth more connections: that of the second and third, which is three times as much where each is
/// slow, and that of further ones. And the loss that fewer may bring.
const FIRST_GAIN: f64 = 1.5;
const GAIN: f64 = 1.25;
const LOSS: f64 = 0.93;

/// Bytes a second that are as much as processors can take: no more connections are tried then.
const ENOUGH: f64 = 150e6;

/// How long a number of connections is measured, at least; longer, while it brings next to nothing.
const MIN_WINDOW: Duration = Duration::from_millis(60);
const MAX_WINDOW: Duration = Duration::from_secs(1);

/// How long more connections are tried.
const TRIAL: Duration = Duration::from_millis(100);

/// Bytes of each connection that say something of its speed.
const TELLING_BYTES: u64 = 256 << 10;

/// How long a number is kept that was found good; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long there is one connection after a refusal.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// How often a reader that waits for a slot looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// The connections to one host.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Slots that are taken.
    open: usize,
    /// Those over which something has come.
    bringing: usize,
    /// Readers that wait for one.
    waiting: usize,
    /// How many may be open for something to be fetched ahead.
    allowed: usize,
    step: Step,
    /// Fewer were tried last, and were too few.
    are_few: bool,
    /// More were tried last, and brought nothing: the link is the bound, or what takes the bytes.
    are_enough: bool,
    pause: Duration,
    /// What has come since `since`, over as many connections as bring something now.
    since: Instant,
    bytes: u64,
    trial: Trial,
}

/// What has come since more connections were allowed.
#[derive(Debug)]
struct Trial {
    since: Instant,
    bytes: u64,
    /// The most that brought something at the same time.
    most: usize,
}

impl Trial {
    fn new(now: Instant) -> Trial {
        Trial { since: now, bytes: 0, most: 0 }
    }
}

/// What is to be found out next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// What the present number brings.
    Measure,
    /// Whether more bring more than `before` did, at `rate` bytes a second.
    More { before: usize, rate: f64 },
    /// Whether fewer bring as much.
    Fewer { before: usize, rate: f64 },
    /// Nothing until then.
    Wait { until: Instant },
}

/// The right to have one connection transfer much.
#[derive(Debug)]
pub struct Slot {
    connections: Arc<Connections>,
    has_brought: bool,
    /// It is for something that a reader waits for.
    is_awaited: bool,
}

impl Connections {
    /// At most `limit` of them, which is at least one.
    pub fn new(limit: usize) -> Connections {
        let state = State {
            open: 0,
            bringing: 0,
            waiting: 0,
            allowed: 1,
            step: Step::Measure,
            are_few: false,
            are_enough: false,
            pause: FIRST_PAUSE,
            since: Instant::now(),
            bytes: 0,
            trial: Trial::new(Instant::now()),
        };
        Connections { limit: limit.max(1), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A slot for something that a reader waits for; `None` if that is not wanted any more before there is one.
    pub fn enter(self: &Arc<Self>, is_wanted: impl Fn() -> bool) -> Option<Slot> {
        let mut state = self.state();
        state.waiting += 1;
        while state.open >= self.limit && is_wanted() {
            let waited = self.changed.wait_timeout(state, GLANCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
        (state.open < self.limit).then(|| self.take(&mut state, true))
    }

    /// A slot for a read of a mounted file, which is never held up; there may be more than the limit then.
    pub fn enter_at_once(self: &Arc<Self>) -> Slot {
        self.take(&mut self.state(), true)
    }

    /// A slot for something that is fetched ahead of readers, if there may be one more.
    pub fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state();
        let may = state.waiting == 0 && state.open < state.allowed.min(self.limit);
        may.then(|| self.take(&mut state, false))
    }

    /// How many may be open now.
    pub fn allowed(&self) -> usize {
        self.state().allowed.min(self.limit)
    }

    /// Whether one connection was found to be as good as several, or there may be no other.
    pub fn is_one_enough(&self) -> bool {
        let state = self.state();
        let is_settled = matches!(state.step, Step::Wait { until } if until > Instant::now());
        self.limit == 1 || state.allowed == 1 && is_settled
    }

    /// Notes that the host refused a request, or broke off what it sent.
    pub fn refused(&self) {
        self.state().refused(Instant::now());
    }

    fn take(self: &Arc<Self>, state: &mut State, is_awaited: bool) -> Slot {
        state.open += 1;
        Slot { connections: Arc::clone(self), has_brought: false, is_awaited }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Notes that bytes have come, and whether readers have to wait for the network or the network for them.
    pub fn brought(&mut self, bytes: u64, is_awaited: bool) {
        let (now, limit) = (Instant::now(), self.connections.limit);
        let mut state = self.connections.state();
        if !std::mem::replace(&mut self.has_brought, true) {
            if state.bringing == 0 {
                // Nothing was tried while nothing came.
                state.trial = Trial::new(now);
            }
            state.bringing += 1;
            state.restart(now);
        }
        state.brought(now, bytes, is_awaited, limit);
    }

    /// Whether what was fetched ahead of readers may go on with something else.
    pub fn may_go_on(&self) -> bool {
        let state = self.connections.state();
        state.waiting == 0 && state.open <= state.allowed
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.open -= 1;
        if self.has_brought {
            state.bringing -= 1;
            state.restart(Instant::now());
        }
        if self.is_awaited && state.are_enough {
            // As many as there were readers filled the link: those that are left do, too.
            state.allowed = state.allowed.min(state.open.max(1));
        }
        drop(state);
        self.connections.changed.notify_all();
    }
}

impl State {
    fn restart(&mut self, now: Instant) {
        (self.since, self.bytes) = (now, 0);
    }

    fn brought(&mut self, now: Instant, bytes: u64, is_awaited: bool, limit: usize) {
        self.bytes += bytes;
        if let Step::More { before, rate } = self.step {
            self.try_out(now, bytes, before, rate, limit);
            return;
        }
        let window = now.saturating_duration_since(self.since);
        let telling = TELLING_BYTES * self.bringing as u64;
        if window < MIN_WINDOW || self.bytes < telling && window < MAX_WINDOW {
            return;
        }
        let rate = self.bytes as f64 / window.as_secs_f64();
        let number = self.bringing;
        self.restart(now);
        match self.step {
            Step::Wait { until } if now < until => {}
            Step::Wait { .. } if !self.are_few && self.allowed > 1 && number >= self.allowed => {
                self.step = Step::Fewer { before: self.allowed, rate };
                self.allowed = self.allowed.div_ceil(STEP);
            }
            Step::Wait { .. } | Step::Measure => {
                self.try_more(number, rate, is_awaited, limit, now);
            }
            // It is measured on its own.
            Step::More { .. } => {}
            Step::Fewer { before, .. } if number > self.allowed || before <= number => {}
            Step::Fewer { before, rate: most } => {
                if rate < most * LOSS {
                    (self.allowed, self.are_few, self.are_enough) = (before, true, false);
                    self.pause = MAX_PAUSE;
                }
                self.settle(now);
            }
        }
    }

    /// Whether more connections than `before` bring more than `least` bytes a second: all that comes for a while
    /// counts, as their parts may be shorter than that.
    fn try_out(&mut self, now: Instant, bytes: u64, before: usize, least: f64, limit: usize) {
        self.trial.bytes += bytes;
        self.trial.most = self.trial.most.max(self.bringing);
        let passed = now.saturating_duration_since(self.trial.since);
        if passed < TRIAL {
            return;
        }
        let rate = self.trial.bytes as f64 / passed.as_secs_f64();
        let most = self.trial.most;
        self.trial = Trial::new(now);
        self.restart(now);
        // There was nothing that they could have been used for.
        if most <= before {
            return;
        }
        if rate < least * gain_of(before) {
            (self.allowed, self.are_few, self.are_enough) = (before, false, true);
            self.settle(now);
            return;
        }
        self.are_enough = false;
        match most >= self.allowed && self.allowed < limit {
            true => self.try_more(self.allowed, rate, true, limit, now),
            false => self.settle(now),
        }
        // There is nothing more to try.
        if self.step == (Step::More { before, rate: least }) {
            self.settle(now);
        }
    }

    fn try_more(&mut self, number: usize, rate: f64, is_awaited: bool, limit: usize, now: Instant) {
        if is_awaited && rate < ENOUGH && number >= self.allowed && number < limit {
            self.allowed = limit.min(number * STEP);
            self.step = Step::More { before: number, rate };
            self.trial = Trial::new(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        self.step = Step::Wait { until: now + self.pause };
        self.pause = MAX_PAUSE.min(self.pause * 2);
    }

    fn refused(&mut self, now: Instant) {
        self.allowed = 1;
        self.pause = self.pause.max(PAUSE_AFTER_REFUSAL);
        self.settle(now);
    }
}

/// What more than so many connections have to bring.
fn gain_of(before: usize) -> f64 {
    if before == 1 { FIRST_GAIN } else { GAIN }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A host behind a link: each connection gets at most `each` bytes a second, and all of them `link`.
    struct Link {
        each: f64,
        link: f64,
        state: State,
        now: Instant,
    }

    impl Link {
        fn new(each: f64, link: f64) -> Link {
            let state = Connections::new(1).state.into_inner().unwrap();
            Link { each, link, state, now: Instant::now() }
        }

        /// Lets one reader and as many others as may transfer for a while; how many there are at the end.
        fn run(&mut self, time: Duration, limit: usize, is_awaited: bool) -> usize {
            self.transfer(time, 1, limit, is_awaited)
        }

        /// The same of several readers.
        fn run_with(&mut self, time: Duration, readers: usize, limit: usize) {
            self.transfer(time, readers, limit, true);
        }

        fn transfer(
            &mut self,
            time: Duration,
            readers: usize,
            limit: usize,
            is_awaited: bool,
        ) -> usize {
            let tick = Duration::from_millis(10);
            for _ in 0..time.as_millis() / tick.as_millis() {
                let number = self.state.allowed.min(limit).max(readers);
                if number != self.state.bringing {
                    self.state.bringing = number;
                    self.state.restart(self.now);
                }
                self.now += tick;
                let bytes = (self.each * number as f64).min(self.link) * tick.as_secs_f64();
                self.state.brought(self.now, bytes as u64, is_awaited, limit);
            }
            self.state.allowed
        }
    }

    const SHORT: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn as_many_as_bring_something() {
        let mut slow_each = Link::new(15e6, 125e6);
        assert_eq!(slow_each.run(SHORT, 8, true), 8);
        assert_eq!(slow_each.run(LONG, 8, true), 8);
        let mut narrow = Link::new(125e6, 12e6);
        assert_eq!(narrow.run(SHORT, 8, true), 1);
        assert_eq!(narrow.run(LONG, 8, true), 1);
        assert_eq!(Link::new(15e6, 40e6).run(SHORT, 8, true), 3, "three fill it");
        assert_eq!(Link::new(15e6, 1e9).run(LONG, 4, true), 4, "there is a limit");
        assert_eq!(Link::new(15e6, 1e9).run(LONG, 1, true), 1);
        assert_eq!(Link::new(15e6, 1e9).run(LONG, 8, false), 1, "no reader waits");
    }

    #[test]
    fn a_gain_that_was_none_is_given_up() {
        let mut link = Link::new(5e6, 1e9);
        assert_eq!(link.run(SHORT, 8, true), 8);
        // The connections have grown, and one is as good as all.
        (link.each, link.link) = (1e9, 50e6);
        assert!(link.run(LONG, 8, true) < 8);
    }

    /// Several layers fill the link; what is left of them at the end does so as well.
    #[test]
    fn as_many_as_readers_are_enough_where_the_link_is_full() {
        let connections = Arc::new(Connections::new(8));
        let mut slots: Vec<Slot> = (0..4).map(|_| connections.enter(|| true).unwrap()).collect();
        slots.iter_mut().for_each(|slot| slot.brought(1, true));
        let mut link = Link::new(100e6, 100e6);
        std::mem::swap(&mut link.state, &mut connections.state());
        link.run_with(SHORT, 4, 8);
        std::mem::swap(&mut link.state, &mut connections.state());
        assert_eq!(connections.allowed(), 4);
        while slots.len() > 1 {
            slots.pop();
        }
        assert_eq!(connections.allowed(), 1);
        assert!(connections.is_one_enough() && connections.try_enter().is_none());
    }

    #[test]
    fn a_refusal_leaves_one() {
        let mut link = Link::new(15e6, 1e9);
        assert_eq!(link.run(SHORT, 8, true), 8);
        link.state.refused(link.now);
        assert_eq!(link.run(PAUSE_AFTER_REFUSAL - SHORT, 8, true), 1);
        assert_eq!(link.run(LONG, 8, true), 8, "later there may be more");
    }

    #[test]
    fn slots_are_limited_and_readers_come_first() {
        let connections = Arc::new(Connections::new(2));
        let first = connections.enter(|| true).unwrap();
        assert!(connections.try_enter().is_none(), "one is allowed until more are tried");
        connections.state().allowed = 2;
        let mut second = connections.try_enter().unwrap();
        assert!(second.may_go_on());
        second.brought(1, true);
        assert!(connections.enter(|| false).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connections.enter(|| true));
            while second.may_go_on() {
                std::thread::yield_now();
            }
            drop(second);
            assert!(waiting.join().unwrap().is_some());
        });
        drop(first);
        let state = connections.state();
        assert_eq!((state.open, state.bringing, state.waiting), (0, 0, 0));
    }
}
