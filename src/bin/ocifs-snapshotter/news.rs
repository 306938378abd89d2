//! Images as they come, for what works in the background.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Images that have come, or come again.
#[derive(Debug, Default)]
pub(crate) struct News {
    images: Mutex<HashSet<String>>,
    wake: Notify,
}

impl News {
    pub(crate) fn add(&self, image: &str) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned());
        self.wake.notify_one();
    }

    /// Waits for the next one.
    pub(crate) async fn come(&self) {
        self.wake.notified().await;
    }

    /// Those that have come since this was called last.
    pub(crate) fn take(&self) -> HashSet<String> {
        mem::take(&mut self.images.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
