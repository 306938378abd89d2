//! What was observed of the hosts of one image.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::patience::Patience;
use super::throughput::Meter;
use crate::source::Connections;

/// What the clients of all hosts of one image know together.
#[derive(Debug)]
pub(in crate::source::registry) struct Observed {
    /// There was an answer once: a host that does not answer now may be starting again.
    has_answered: AtomicBool,
    pub(in crate::source::registry) meter: Meter,
    pub(in crate::source::registry) patience: Patience,
    /// Bytes of blobs that have come, without those that came again.
    pub(in crate::source::registry) brought: AtomicU64,
    /// The connections to its registry, those of other images included.
    pub(in crate::source::registry) connections: Arc<Connections>,
}

impl Observed {
    /// Nothing yet.
    pub(in crate::source::registry) fn new(connections: Arc<Connections>) -> Observed {
        let (has_answered, meter, patience, brought) = Default::default();
        Observed { has_answered, meter, patience, brought, connections }
    }

    /// Whether any of the hosts has answered.
    pub(in crate::source::registry) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Notes an answer, whatever it says.
    pub(in crate::source::registry) fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }
}
