//! A walk that fetches go ahead of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A walk that fetches go ahead of, shared by all of them.
#[derive(Clone, Debug)]
pub struct Walk(Arc<AtomicBool>);

impl Walk {
    /// A walk that goes on.
    pub fn begin() -> Walk {
        Walk(Arc::new(AtomicBool::new(true)))
    }

    /// Ends it, and with it what is fetched ahead of it.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it has not ended.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
