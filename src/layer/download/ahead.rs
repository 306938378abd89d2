//! Fetching parts of a blob ahead of its reader, each over a connection of its own, onto the disk.
//!
//! A thread fetches one part after the other as long as the host's [`Connections`]
//! allow it. If one fails, nothing is lost: what came is there, and the rest is missing again, for the
//! reader to ask for itself when it gets there. So errors are told by the reader alone.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::parts::{Next, Part, Parts};
use crate::cache::Partial;
use crate::oci::Descriptor;
use crate::source::{Connections, Slot, Source};

/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// Bytes after which it is noted on the disk that they are there.
pub(super) const NOTED_BYTES: u64 = 1 << 20;

/// Smallest and largest part.
const MIN_PART_BYTES: u64 = 2 << 20;
const MAX_PART_BYTES: u64 = 16 << 20;

/// How long a part should take to come, at least: in time, and in round trips, of which each part costs one.
const PART_TIME: Duration = Duration::from_millis(300);
const PART_ROUND_TRIPS: u32 = 20;

/// Bytes ahead of the reader that may lie on the disk.
const MAX_AHEAD_BYTES: u64 = 192 << 20;

/// What the reader of a download and those ahead of it share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) descriptor: Descriptor,
    pub(super) source: Arc<dyn Source>,
    pub(super) connections: Arc<Connections>,
    pub(super) partial: Partial,
    parts: Mutex<Parts>,
    changed: Condvar,
    /// The reader waits for the network rather than the network for it.
    pub(super) is_awaited: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        descriptor: &Descriptor,
        source: &Arc<dyn Source>,
        connections: &Arc<Connections>,
        partial: Partial,
    ) -> Shared {
        let parts = Mutex::new(Parts::new(descriptor.size, partial.kept()));
        Shared {
            descriptor: descriptor.clone(),
            source: Arc::clone(source),
            connections: Arc::clone(connections),
            partial,
            parts,
            changed: Condvar::new(),
            is_awaited: AtomicBool::new(true),
        }
    }

    pub(super) fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the reader know that something has changed.
    fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits while what the reader wants is on its way, but not for long.
    pub(super) fn wait_for(&self, at: u64, time: Duration) {
        let mut parts = self.parts();
        if matches!(parts.next(at), Next::Coming { .. }) {
            drop(self.changed.wait_timeout(parts, time));
        }
    }

    /// Bytes of the next part. The last ones are shared out, so that they come at the same time.
    pub(super) fn part_bytes(&self, parts: &Parts) -> u64 {
        let bytes = self.source.throughput().map_or(MAX_PART_BYTES, |link| {
            let time = PART_TIME.max(link.round_trip * PART_ROUND_TRIPS);
            bytes_in(link.bytes_per_second, time)
        });
        let share = parts.unclaimed().div_ceil(self.connections.allowed() as u64);
        bytes.min(MAX_PART_BYTES).min(share).max(MIN_PART_BYTES)
    }

    /// Has as many parts fetched ahead as may be.
    pub(super) fn fetch_ahead(self: &Arc<Self>) {
        while !self.connections.is_one_enough()
            && let Some(slot) = self.connections.try_enter()
        {
            let Some(part) = self.claim() else { return };
            let (shared, number) = (Arc::clone(self), part.number);
            let thread = thread::Builder::new().name("fetch ahead".into());
            if let Err(e) = thread.spawn(move || shared.run(slot, part)) {
                log::debug!("blob {}: nothing is fetched ahead: {e}", self.descriptor.digest);
                self.parts().release(number);
                return;
            }
        }
    }

    fn claim(&self) -> Option<Part> {
        let mut parts = self.parts();
        let bytes = self.part_bytes(&parts);
        parts.claim_ahead(bytes, MAX_AHEAD_BYTES)
    }

    /// Fetches a part, and further ones as long as that is wanted.
    fn run(&self, mut slot: Slot, mut part: Part) {
        loop {
            let result = self.fetch(&mut slot, &part);
            self.parts().release(part.number);
            self.notify();
            match result {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    let digest = self.descriptor.digest;
                    log::info!("blob {digest}: ahead of what is read: {why}");
                    self.connections.refused();
                    return;
                }
            }
            if !slot.may_go_on() {
                return;
            }
            let Some(next) = self.claim() else { return };
            part = next;
        }
    }

    /// Fetches a part; whether there may be others.
    fn fetch(&self, slot: &mut Slot, part: &Part) -> Result<bool, String> {
        let Part { number, ref range } = *part;
        let opened = self.source.blob_ahead(&self.descriptor, range.clone());
        let opened = opened.map_err(|e| e.to_string())?;
        if opened.start != range.start {
            // All of it, from a server that knows no ranges.
            self.parts().stop_ahead();
            return Ok(false);
        }
        let mut body = opened.body.take(range.end - range.start);
        let (mut at, mut noted) = (range.start, range.start);
        let mut chunk = vec![0; CHUNK_BYTES];
        let result = loop {
            let n = match body.read(&mut chunk) {
                Ok(0) if at < range.end => break Err("it ended too early".to_owned()),
                Ok(0) => break Ok(true),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => break Err(e.to_string()),
            };
            if !self.partial.put(at, &chunk[..n]) {
                // The reader goes on without.
                self.parts().stop_ahead();
                break Ok(false);
            }
            at += n as u64;
            slot.brought(n as u64, self.is_awaited.load(Ordering::Relaxed));
            if !self.parts().add(number, n as u64) {
                break Ok(false);
            }
            self.notify();
            if at - noted >= NOTED_BYTES {
                self.partial.note(noted..at);
                noted = at;
            }
        };
        self.partial.note(noted..at);
        result
    }
}

/// Bytes that come in a time.
pub(super) fn bytes_in(bytes_per_second: u64, time: Duration) -> u64 {
    let bytes = u128::from(bytes_per_second) * time.as_millis() / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
