//! First passes of images that are opened independently of each other, in one process.
//!
//! # Problem
//!
//! Images whose directories are entered one by one know nothing of each other. A layer that two of them have would be
//! streamed twice at the same time, and sixty-four of them would have several hundred passes run at once.
//!
//! # Design
//!
//! A pass takes a turn before it begins. There are as many as [`Turns`] was made with, and one for each layer: who comes
//! second waits for the first. Who has a turn looks into the cache once more: another pass over the layer may have ended
//! since it was last looked for, whether it had to be waited for or not.
//!
//! Rejected: a lock for all images of a host. One large layer keeps all other images of its registry waiting.
//!
//! # Invariants
//!
//! - No pass waits for a turn while it has one, so that some pass always goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::opened::LayerKey;

/// How often a pass that waits looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// Turns of first passes.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    /// The layers that are passed over now.
    taken: Mutex<HashSet<LayerKey>>,
    left: Condvar,
}

/// The turn of one pass, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    layer: LayerKey,
}

impl Turns {
    /// At most so many passes at the same time, which is at least one.
    pub fn new(most: usize) -> Arc<Turns> {
        Arc::new(Turns { most: most.max(1), taken: Mutex::default(), left: Condvar::new() })
    }

    /// Waits for the turn of a layer, or until it is not wanted any more.
    pub(super) fn take(self: &Arc<Self>, layer: LayerKey, stop: &AtomicBool) -> Option<Turn> {
        let mut taken = self.taken();
        loop {
            if !taken.contains(&layer) && taken.len() < self.most {
                taken.insert(layer.clone());
                return Some(Turn { turns: Arc::clone(self), layer });
            }
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let waited = self.left.wait_timeout(taken, GLANCE);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A thread that panicked left nothing half done in there.
    fn taken(&self) -> MutexGuard<'_, HashSet<LayerKey>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken().remove(&self.layer);
        self.turns.left.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::artifact::ShownAs;
    use crate::digest::Digest;

    fn key(n: u8) -> LayerKey {
        (Digest::sha256(&[n]), None, ShownAs::Tree { below: Vec::new() })
    }

    #[test]
    fn so_many_at_the_same_time_and_one_of_each_layer() {
        let (turns, stop) = (Turns::new(2), AtomicBool::new(false));
        let first = turns.take(key(1), &stop).unwrap();
        let stopped = AtomicBool::new(true);
        assert!(turns.take(key(1), &stopped).is_none(), "that layer is under way");
        let other = turns.take(key(2), &stop).unwrap();
        assert!(turns.take(key(3), &stopped).is_none(), "there are two");
        drop(other);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turns.take(key(1), &stop).is_some());
            let third = turns.take(key(3), &stop);
            // It has to wait, and must have begun to.
            std::thread::sleep(2 * GLANCE);
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().unwrap());
            drop(third);
        });
        assert!(turns.taken().is_empty());
    }
}
