//! Something that is made when it is first asked for, however long that takes.
//!
//! # Problem
//!
//! An image is opened, or a document fetched, when a directory is entered. Several readers ask at the same time, each
//! of them has a deadline, and what they wait for may take longer than any of them waits, or fail.
//!
//! # Design
//!
//! The work is done once, on a thread of its own that no deadline ends. Who waits for it gives up when the time is over,
//! and finds it there later. A failure counts for a moment ([`FAILURE_STAYS`]), so that a walk does not try again for
//! each name.
//!
//! # Invariants
//!
//! - At most one thread does the work of a slot; no lock is held meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fs::Error;

/// How long it counts that something could not be had.
pub(super) const FAILURE_STAYS: Duration = Duration::from_secs(5);

/// Something that may be there.
#[derive(Debug)]
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    ended: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty,
    Begun,
    Full(T),
    Failed(String, Instant),
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { state: Mutex::new(State::Empty), ended: Condvar::new() }
    }
}

impl<T: Clone + Send + 'static> Slot<T> {
    /// One with something in it.
    pub(super) fn of(value: T) -> Slot<T> {
        Slot { state: Mutex::new(State::Full(value)), ended: Condvar::new() }
    }

    /// What is there now.
    pub(super) fn get(&self) -> Option<T> {
        match &*self.state() {
            State::Full(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// Empties it; what was taken from it stays what it is.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        if let State::Full(_) = *state {
            *state = State::Empty;
        }
    }

    /// What is there, or what `make` makes, which says why it can't; `name` is what it is for.
    ///
    /// # Errors
    /// [`Error::Name`], or [`Error::Late`] after `give_up`.
    pub(super) fn wait(
        self: &Arc<Self>,
        name: &str,
        give_up: Instant,
        make: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |why: &str| Error::Name { name: name.to_owned(), cause: why.to_owned() };
        let mut make = Some(make);
        let mut state = self.state();
        loop {
            match &*state {
                State::Full(value) => return Ok(value.clone()),
                State::Failed(why, when) if make.is_none() || when.elapsed() < FAILURE_STAYS => {
                    return Err(failed(why));
                }
                State::Empty | State::Failed(..) => {
                    // What was begun here and is gone was cleared again at once.
                    let Some(make) = make.take() else {
                        return Err(failed("it was closed before it could be used"));
                    };
                    *state = State::Begun;
                    let own = Arc::clone(self);
                    let work = move || {
                        // Its panic was logged; who waits must not wait for the rest of the time.
                        let made = catch_unwind(AssertUnwindSafe(make));
                        own.put(made.unwrap_or_else(|_| Err("a fault of this program".to_owned())));
                    };
                    if let Err(e) = thread::Builder::new().name("open".into()).spawn(work) {
                        let why = format!("no thread to open it: {e}");
                        *state = State::Failed(why, Instant::now());
                    }
                }
                State::Begun => {
                    let Some(left) = give_up.checked_duration_since(Instant::now()) else {
                        return Err(Error::Late { name: name.to_owned() });
                    };
                    let waited = self.ended.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn put(&self, made: Result<T, String>) {
        *self.state() = match made {
            Ok(value) => State::Full(value),
            Err(why) => State::Failed(why, Instant::now()),
        };
        self.ended.notify_all();
    }

    /// A thread that panicked left nothing half done in there.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_is_made_once_and_who_waits_too_short_finds_it_later() {
        let (slot, made) = (Arc::new(Slot::default()), Arc::new(AtomicUsize::new(0)));
        let (go, gate) = mpsc::channel::<()>();
        let make = |gate: Option<mpsc::Receiver<()>>| {
            let made = Arc::clone(&made);
            move || {
                gate.map(|gate| gate.recv());
                Ok(made.fetch_add(1, Ordering::Relaxed))
            }
        };
        let late = slot.wait("x", Instant::now(), make(Some(gate)));
        assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
        assert_eq!(slot.get(), None);
        go.send(()).unwrap();
        for _ in 0..3 {
            assert_eq!(slot.wait("x", Instant::now() + LONG, make(None)).unwrap(), 0);
        }
        slot.clear();
        assert_eq!(slot.wait("x", Instant::now() + LONG, make(None)).unwrap(), 1);
    }

    #[test]
    fn a_failure_counts_for_a_moment() {
        let slot = Arc::new(Slot::<u8>::default());
        let until = Instant::now() + LONG;
        let first = slot.wait("x", until, || Err("first".to_owned())).unwrap_err();
        let second = slot.wait("x", until, || Ok(1)).unwrap_err();
        assert_eq!((first.to_string(), second.to_string()), ("x: first".into(), "x: first".into()));
    }

    #[test]
    fn a_panic_is_a_failure() {
        let slot = Arc::new(Slot::<u8>::default());
        let panicked = slot.wait("x", Instant::now() + LONG, || panic!("on purpose"));
        assert!(matches!(panicked, Err(Error::Name { .. })), "{panicked:?}");
    }
}
