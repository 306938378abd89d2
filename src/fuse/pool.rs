//! Threads for reads that have to wait.
//!
//! A fixed number of workers would let a few slow layers starve all others; an unlimited number
//! would let `grep` over a dead link start thousands. So there are as many as there is work, up to a
//! limit, and they end when they are idle.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::panics::caught;
use super::suspects::part_of_answer;

/// Most threads at a time; reads beyond that wait in a queue. The kernel itself has at most
/// `max_background` and the number of reading processes under way.
const MAX_THREADS: usize = 64;

/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Default)]
struct PoolState {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Pool").field("threads", &state.threads).field("idle", &state.idle).finish()
    }
}

impl Pool {
    /// Runs a job as soon as a thread is free. Never blocks.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.queue.push_back(part_of_answer(job));
        if state.idle >= state.queue.len() || state.threads >= MAX_THREADS {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let spawned = std::thread::Builder::new().name("fetch".into()).spawn(move || shared.work());
        if let Err(e) = spawned {
            log::warn!("no thread for a read: {e}");
            let mut state = self.0.lock();
            state.threads -= 1;
            if state.threads == 0 {
                // No thread would ever take them: dropping a reply answers EIO.
                state.queue.clear();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // Its reply is dropped then, which answers EIO.
                caught(job);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                // Counted out before another thread can look.
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// More of them than there may be threads: each would cost one for ever.
    #[test]
    fn jobs_that_panic_cost_no_thread() {
        let pool = Pool::default();
        (0..2 * MAX_THREADS).for_each(|_| pool.run(|| panic!("as the test wants it")));
        let (done, wait) = mpsc::channel();
        pool.run(move || done.send(()).unwrap());
        wait.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
