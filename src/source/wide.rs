//! A long range of a blob over several connections, for a reader that takes it in order.
//!
//! # Problem
//!
//! A walk over an indexed image reads long stretches of its layers, and where storage gives a connection a part of the
//! link only, one connection is the bound.
//!
//! # Design
//!
//! [`open_wide`] gives a body as [`Source::blob`] does. Its reader reads one stream; while it waits for the network, and as
//! long as the host's [`Connections`] allow it, the parts behind are fetched by threads into memory, a few MiB in all.
//! A part that fails, or does not move, is asked for again by the reader itself, from where it has come to: so
//! there are no other errors than those of one stream. Dropping the body ends all of them.
//!
//! Where one connection is enough, or the range is short, there is one request, as ever.
//!
//! Rejected: several fetches that decode side by side. They would be as many places at which a walk has to be found
//! again when it stops, and one thread decodes faster than several connections bring.
//!
//! # Invariants
//!
//! - Bytes come in order, each once, whatever becomes of parts.
//! - At most [`MAX_AHEAD_BYTES`] wait in memory.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::connections::{Connections, Slot};
use super::error::Error;
use super::image::{Body, Opened, Source};
use super::pace::Pace;
use crate::oci::Descriptor;

/// Shortest range that may come in parts, in bytes.
const MIN_WIDE_BYTES: u64 = 12 << 20;

/// Bytes that may wait in memory.
const MAX_AHEAD_BYTES: u64 = 24 << 20;

/// The first part from a host of which nothing is known.
const FIRST_BYTES: u64 = 4 << 20;

/// Bounds of a part, and the time that it should take to come. As many as there are connections as a rule fit
/// beside each other into what may wait.
const PART_BYTES: Range<u64> = (2 << 20)..(3 << 20);
const PART_TIME: Duration = Duration::from_millis(200);

const CHUNK_BYTES: usize = 128 << 10;

/// A part that has not moved for so long is asked for again.
const STALL: Duration = Duration::from_secs(2);

/// Opens a range of a blob, which may come over several connections.
///
/// # Errors
/// As those of [`Source::blob`].
pub fn open_wide(
    source: &Arc<dyn Source>,
    descriptor: &Descriptor,
    range: Range<u64>,
) -> Result<Opened, Error> {
    let is_long = range.end - range.start >= MIN_WIDE_BYTES;
    let connections = source.connections().filter(|connections| {
        is_long && !connections.is_one_enough() && source.local_copy(descriptor).is_none()
    });
    let Some(connections) = connections else { return source.blob(descriptor, range) };
    let Range { start, end } = range;
    let mut wide = WideBody {
        source: Arc::clone(source),
        connections: Arc::clone(connections),
        descriptor: descriptor.clone(),
        at: start,
        end,
        claimed: start,
        first_bytes: FIRST_BYTES,
        pace: Pace::default(),
        head: None,
        ahead: VecDeque::new(),
    };
    let opened = wide.open_head()?;
    if opened.start != start || opened.end > wide.claimed {
        // All of it, from a server that knows no ranges.
        return Ok(opened);
    }
    wide.head =
        Some(Head { body: opened.body, end: opened.end, slot: connections.enter_at_once() });
    Ok(Opened { body: Box::new(wide), start, end })
}

/// Reads a range in order.
struct WideBody {
    source: Arc<dyn Source>,
    connections: Arc<Connections>,
    descriptor: Descriptor,
    /// The next byte.
    at: u64,
    end: u64,
    /// Up to here everything has come or is on its way.
    claimed: u64,
    /// Bytes to ask for next, as long as nothing is known of the host.
    first_bytes: u64,
    pace: Pace,
    head: Option<Head>,
    /// What others fetch, in order: from the end of the head on.
    ahead: VecDeque<Part>,
}

/// What the reader reads itself.
struct Head {
    body: Body,
    end: u64,
    slot: Slot,
}

/// What another thread fetches.
struct Part {
    end: u64,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that were taken.
    taken: usize,
    /// No more come.
    has_ended: bool,
    /// No more are wanted.
    is_closed: bool,
    moved: Option<Instant>,
}

impl WideBody {
    /// Asks for the next bytes, of which others fetch none.
    fn open_head(&mut self) -> Result<Opened, Error> {
        let most = match self.ahead.front() {
            Some(part) => part.end,
            None if self.connections.is_one_enough() => self.end,
            None if self.connections.allowed() == 1 => {
                // Where it comes too fast to be measured, one connection will do.
                self.first_bytes *= 2;
                self.end.min(self.at + self.first_bytes / 2)
            }
            None => self.end.min(self.at + self.part_bytes()),
        };
        self.claimed = self.claimed.max(most);
        self.source.blob(&self.descriptor, self.at..most)
    }

    fn part_bytes(&self) -> u64 {
        let rate = self.source.throughput().map_or(u64::MAX, |link| link.bytes_per_second);
        let bytes = rate.saturating_mul(PART_TIME.as_millis() as u64) / 1000;
        bytes.clamp(PART_BYTES.start, PART_BYTES.end)
    }

    /// Has others fetch what comes behind, as far as that may be.
    fn fetch_ahead(&mut self) {
        while self.claimed < self.end
            && self.claimed - self.at + self.part_bytes() <= MAX_AHEAD_BYTES
            && let Some(slot) = self.connections.try_enter()
        {
            let range = self.claimed..self.end.min(self.claimed + self.part_bytes());
            let shared = Arc::new(Shared::default());
            let part = Part { end: range.end, shared: Arc::clone(&shared) };
            let (source, descriptor) = (Arc::clone(&self.source), self.descriptor.clone());
            let thread = thread::Builder::new().name("fetch ahead".into());
            let fetch = move || shared.fetch(&*source, &descriptor, range, slot);
            if let Err(e) = thread.spawn(fetch) {
                log::debug!("blob {}: nothing is fetched ahead: {e}", self.descriptor.digest);
                return;
            }
            self.claimed = part.end;
            self.ahead.push_back(part);
        }
    }

    /// Reads what the reader has open; nothing at its end.
    fn read_head(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(head) = &mut self.head else { return Ok(0) };
        let left = usize::try_from(head.end - self.at).unwrap_or(usize::MAX);
        let room = buf.len().min(left);
        let n = if room == 0 { 0 } else { head.body.read(&mut buf[..room])? };
        match n {
            0 => {
                if let Some(mut head) = self.head.take() {
                    // Its connection can be used again if it is seen to end here.
                    let _ = head.body.read(&mut [0]);
                }
            }
            n => head.slot.brought(n as u64, self.pace.is_awaited()),
        }
        Ok(n)
    }
}

impl Read for WideBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pace.enter();
        let result = self.next_bytes(buf);
        self.pace.leave();
        result
    }
}

impl WideBody {
    /// The next bytes, from any of the connections.
    fn next_bytes(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at < self.end && !buf.is_empty() {
            if self.head.is_some() {
                let n = self.read_head(buf)?;
                self.at += n as u64;
                self.fetch_ahead();
                if n > 0 {
                    return Ok(n);
                }
            } else if let Some(part) = self.ahead.front()
                && let Some(n) = part.shared.take(buf)
            {
                self.at += n as u64;
                if self.at == part.end {
                    self.ahead.pop_front();
                }
                self.fetch_ahead();
                return Ok(n);
            } else {
                // What did not come of the part, or what nobody fetches.
                let opened = self.open_head().map_err(io::Error::other)?;
                self.ahead.pop_front();
                let (mut body, slot) = (opened.body, self.connections.enter_at_once());
                // All of it may come, if the server has forgotten how to send ranges.
                io::copy(&mut body.by_ref().take(self.at - opened.start), &mut io::sink())?;
                let end = opened.end.min(self.end);
                self.claimed = self.claimed.max(end);
                self.ahead.retain(|part| part.end > end);
                self.head = Some(Head { body, end, slot });
            }
        }
        Ok(0)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
    }
}

impl Shared {
    /// Fetches a part.
    fn fetch(&self, source: &dyn Source, blob: &Descriptor, range: Range<u64>, mut slot: Slot) {
        if let Err(why) = self.fetch_all(source, blob, range, &mut slot) {
            log::info!("blob {}: ahead of what is read: {why}", blob.digest);
            if let Some(connections) = source.connections() {
                connections.refused();
            }
        }
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    fn fetch_all(
        &self,
        source: &dyn Source,
        blob: &Descriptor,
        range: Range<u64>,
        slot: &mut Slot,
    ) -> Result<(), String> {
        self.state().moved = Some(Instant::now());
        let opened = source.blob_ahead(blob, range.clone()).map_err(|e| e.to_string())?;
        if opened.start != range.start {
            return Err("the server knows no ranges".to_owned());
        }
        let (mut body, mut left) = (opened.body, range.end - range.start);
        while left > 0 {
            let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
            let n = match body.read(&mut chunk) {
                Ok(0) => return Err("it ended too early".to_owned()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.to_string()),
            };
            chunk.truncate(n);
            left -= n as u64;
            slot.brought(n as u64, true);
            let mut state = self.state();
            if state.is_closed {
                return Ok(());
            }
            state.chunks.push_back(chunk);
            state.moved = Some(Instant::now());
            drop(state);
            self.changed.notify_all();
        }
        let _ = body.read(&mut [0]);
        Ok(())
    }

    /// Takes what has come, waiting for it; `None` if no more comes.
    fn take(&self, buf: &mut [u8]) -> Option<usize> {
        let mut state = self.state();
        loop {
            let taken = state.taken;
            if let Some(chunk) = state.chunks.front() {
                let n = buf.len().min(chunk.len() - taken);
                buf[..n].copy_from_slice(&chunk[taken..taken + n]);
                let is_empty = taken + n == chunk.len();
                state.taken = if is_empty { 0 } else { taken + n };
                if is_empty {
                    state.chunks.pop_front();
                }
                return Some(n);
            }
            let is_stalled = state.moved.is_some_and(|moved| moved.elapsed() > STALL);
            if state.has_ended || is_stalled {
                return None;
            }
            let waited = self.changed.wait_timeout(state, STALL / 4);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
