//! Panics of threads: logged with their place, counted, and never the end of a mount.
//!
//! # Problem
//!
//! A panic is a defect of this program. It ends its thread, and a mount whose threads have ended answers nobody: readers
//! hang. In the background nothing is printed anywhere, so the defect is never heard of either.
//!
//! # Design
//!
//! Panics unwind ([`caught`] stops them) where a request is answered and where a thread serves more than one thing: the
//! loops of a connection (`fuse::guarded`), the pool, the status socket. What was to be answered is dropped
//! on the way, and dropping a reply of `fuser` answers EIO. Threads that fetch hand the end of theirs on as an error of their own
//! (`blob::fetch`). The hook of [`watch`] runs before that, for every thread, and knows the place.
//!
//! Rejected: to abort, and have another process take over. That answers the same request again, which panics again.
//!
//! Invariants: the hook takes no lock that a thread holds while it may panic. State behind a lock is whole at each point
//! where a thread may panic, so locks are taken whether they are poisoned or not.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Panics of this process since [`watch`].
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The last of them.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Logs and counts panics of all threads from now on, in place of what the standard library prints.
pub fn watch() {
    panic::set_hook(Box::new(|info| {
        let text = describe(info);
        COUNT.fetch_add(1, Ordering::Relaxed);
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => log::error!("{text}\n{trace}"),
            _ => log::error!("{text}"),
        }
    }));
}

/// How many panics there were since [`watch`], and the last of them with its place.
pub fn seen() -> (u64, Option<String>) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (COUNT.load(Ordering::Relaxed), last)
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = info.location().map_or("an unknown place".to_owned(), ToString::to_string);
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    format!("a defect of ocifs: thread `{name}` panicked at {place}: {message}")
}

/// Does something, and goes on if it panics: then there is no result. Whatever it has borrowed may be half changed, so it
/// is for what answers one request and hands on nothing else.
pub fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(act)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_with_its_place() {
        let usual = panic::take_hook();
        watch();
        let before = seen().0;
        assert_eq!(caught(|| 1), Some(1));
        let is_last = || {
            let thread = std::thread::Builder::new().name("broken".into());
            let none = thread.spawn(|| caught(|| -> u32 { panic!("as the test wants it") }));
            assert_eq!(none.unwrap().join().unwrap(), None, "the thread goes on");
            let (count, last) = seen();
            assert!(count > before);
            last.unwrap().contains("`broken` panicked at src/fuse/panics.rs:")
        };
        // Other tests may panic in between, as they want to.
        let is_told = (0..100).any(|_| is_last());
        panic::set_hook(usual);
        assert!(is_told);
    }
}
