//! Downloading a layer: from where an interrupted pass has stopped, over as many connections as bring something.
//!
//! # Problem
//!
//! A first pass takes a blob in order, once. One connection is the simplest way, and where storage gives a
//! connection a part of the link only, the slowest. Parts that come early have to be kept until their turn, and
//! what came is not to be fetched again after an interruption.
//!
//! # Design
//!
//! A [`Download`] is a reader. It fetches what it needs next itself, as one stream: what it hands on never waits for a
//! disk. Of a large blob it asks for a beginning first, which shows whether the server knows ranges and where the
//! registry sends us. While it reads, others may fetch the parts behind it (`ahead`), into the file that is kept of the
//! download anyway ([`Partial`](crate::cache::Partial)): memory stays bounded whatever comes first. When the reader gets to a part that is there
//! or on its way it takes it from there. How many there are, and whether any, the host's
//! [`Connections`](crate::source::Connections) decide by what they gain; where one is enough the
//! reader asks for long stretches, so that a blob takes few requests.
//!
//! A part that is on its way and does not move is given up by the reader, which then fetches the rest of it itself: one
//! bad connection of several holds nothing up for long.
//!
//! Rejected: long stretches for all connections from the start. They need fewer requests, but the hashing and inflating
//! stages would have nothing to do until the first stretch is there, and everything after.
//!
//! # Invariants
//!
//! - Bytes are handed on in order, each once; what is right is decided by the hashes behind.
//! - Blobs that are small, local, or can't be kept on the disk come over one connection.

mod ahead;
mod parts;

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cache::Cache;
use crate::oci::Descriptor;
use crate::source::{self, Body, Opened, Pace, Slot, Source};
use ahead::{NOTED_BYTES, Shared, bytes_in};
use parts::{Next, Parts};

/// Smallest blob of which an interrupted download is kept, in bytes.
const MIN_KEPT_BYTES: u64 = 8 << 20;

/// Smallest blob that may come in parts, in bytes: one connection brings it in a second or two.
const MIN_PARTED_BYTES: u64 = 16 << 20;

/// The first part of a blob from a host of which nothing is known: what shows whether several connections bring more.
const FIRST_BYTES: u64 = 4 << 20;

/// How long a stretch should take to come where one connection is enough, and its bounds.
const STRETCH_TIME: Duration = Duration::from_secs(4);
const MIN_STRETCH_BYTES: u64 = 32 << 20;
const MAX_STRETCH_BYTES: u64 = 256 << 20;

/// A part that has not moved for so long, or for so many round trips, is fetched by the reader itself.
const STALL: Duration = Duration::from_secs(2);
const STALL_ROUND_TRIPS: u32 = 8;

/// How often the reader looks, while it waits.
const GLANCE: Duration = Duration::from_millis(20);

/// Bytes that are read past at a time.
const SKIPPED_BYTES: usize = 64 << 10;

/// The compressed bytes of a layer: what is kept of it, and the rest from the source.
pub(super) struct Download<'a> {
    descriptor: &'a Descriptor,
    source: &'a Arc<dyn Source>,
    /// Set when the layer is not wanted any more.
    stop: &'a AtomicBool,
    /// The next byte.
    at: u64,
    /// What the reader fetches itself.
    head: Option<Head>,
    /// Where it is kept, and comes in parts.
    shared: Option<Arc<Shared>>,
    is_resumed: bool,
    /// It comes over one connection, from one host.
    is_alone: bool,
    pace: Pace,
}

/// A body that the reader reads itself.
struct Head {
    body: Body,
    /// Bytes at its start that are known already.
    known: u64,
    /// Just past its last byte.
    end: u64,
    /// Its number among the parts.
    part: Option<u64>,
    /// What is on the disk of it and not noted there yet.
    kept: Range<u64>,
    slot: Option<Slot>,
}

/// How a layer is to be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What was kept, then the rest, in parts if that is faster.
    Usual,
    /// The same over one connection at a time, since what came in parts was wrong.
    InOrder,
    /// From its start, of which nothing was kept or will be.
    Afresh,
}

impl<'a> Download<'a> {
    /// Opens a download.
    ///
    /// # Errors
    /// What has to be fetched first can't be had.
    pub(super) fn open(
        descriptor: &'a Descriptor,
        source: &'a Arc<dyn Source>,
        cache: &Cache,
        stop: &'a AtomicBool,
        way: Way,
    ) -> Result<Download<'a>, source::Error> {
        let size = descriptor.size;
        let is_worth_it = way != Way::Afresh
            && source.is_remote()
            && size >= MIN_KEPT_BYTES
            && source.local_copy(descriptor).is_none();
        let partial = is_worth_it.then(|| cache.partial(&descriptor.digest, size)).flatten();
        let shared = partial.zip(source.connections()).map(|(partial, connections)| {
            Arc::new(Shared::new(descriptor, source, connections, partial))
        });
        let is_resumed = shared.as_ref().is_some_and(|shared| !shared.partial.kept().is_empty());
        let mut download = Download {
            descriptor,
            source,
            stop,
            at: 0,
            head: None,
            shared,
            is_resumed,
            is_alone: way == Way::InOrder || size < MIN_PARTED_BYTES,
            pace: Pace::default(),
        };
        match &download.shared {
            None => download.open_head(0..size, None)?,
            Some(shared) => {
                // What is missing first is asked for at once: if it can't be had, nothing has to be hashed.
                let first = shared.partial.kept().from(0).map_or(0, |kept| kept.end);
                if is_resumed {
                    log::info!("blob {}: going on at {first} bytes", descriptor.digest);
                }
                let missing = shared.parts().next(0);
                if let Next::Missing(range) = missing {
                    download.fetch_next(range)?;
                }
            }
        }
        Ok(download)
    }

    /// Whether some of it was kept by an earlier pass.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Nothing of it has to be kept any longer.
    pub(super) fn finish(self) {
        if let Some(shared) = &self.shared {
            shared.partial.finish();
        }
    }

    /// Fetches what is missing next, or the beginning of it.
    fn fetch_next(&mut self, missing: Range<u64>) -> Result<(), source::Error> {
        let Some(shared) = self.shared.clone() else { return self.open_head(missing, None) };
        let part = {
            let mut parts = shared.parts();
            let most = self.stretch_bytes(&shared, &parts);
            let end = missing.end.min(missing.start.saturating_add(most));
            parts.claim(missing.start..end)
        };
        let result = self.open_head(part.range, Some(part.number));
        if result.is_err() {
            shared.parts().release(part.number);
        }
        result
    }

    /// How much the reader asks for at once.
    fn stretch_bytes(&self, shared: &Shared, parts: &Parts) -> u64 {
        if self.is_alone {
            return u64::MAX;
        }
        match shared.connections.is_one_enough() {
            true => {
                let link = self.source.throughput();
                let bytes = link.map_or(0, |link| bytes_in(link.bytes_per_second, STRETCH_TIME));
                bytes.clamp(MIN_STRETCH_BYTES, MAX_STRETCH_BYTES)
            }
            // Where it comes too fast to be measured, one connection will do.
            false if shared.connections.allowed() == 1 => FIRST_BYTES.max(2 * self.at),
            false => shared.part_bytes(parts),
        }
    }

    /// Opens a body for a range, which the reader reads itself.
    fn open_head(&mut self, range: Range<u64>, part: Option<u64>) -> Result<(), source::Error> {
        let stop = self.stop;
        let slot = self.source.connections();
        let slot = slot.and_then(|slots| slots.enter(|| !stop.load(Ordering::Relaxed)));
        let Opened { body, start, end } = self.source.blob(self.descriptor, range.clone())?;
        if let Some(shared) = self.shared.as_ref().filter(|_| end > range.end) {
            // All of it, from a server that knows no ranges.
            self.is_alone = true;
            let mut parts = shared.parts();
            parts.stop_ahead();
            if let Some(number) = part {
                parts.extend(number, end);
            }
        }
        let known = range.start.saturating_sub(start);
        self.head = Some(Head { body, known, end, part, kept: range.start..range.start, slot });
        Ok(())
    }

    /// Reads from the body that the reader has open, which is closed at its end; nothing then.
    fn read_head(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(head) = &mut self.head else { return Ok(0) };
        head.skip_known()?;
        // What comes behind the blob's end is for a verifying reader to refuse.
        let left = match head.end == self.descriptor.size {
            true => u64::MAX,
            false => head.end - self.at,
        };
        let room = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = if room == 0 { 0 } else { head.body.read(&mut buf[..room])? };
        if n == 0 {
            self.close_head();
            return Ok(0);
        }
        let (start, end) = (self.at, self.at + n as u64);
        self.at = end;
        if let Some(slot) = &mut head.slot {
            slot.brought(n as u64, self.pace.is_awaited());
        }
        if let (Some(shared), Some(number)) = (&self.shared, head.part) {
            if end <= self.descriptor.size && shared.partial.put(start, &buf[..n]) {
                head.kept.end = end;
                if end - head.kept.start >= NOTED_BYTES {
                    shared.partial.note(head.kept.clone());
                    head.kept.start = end;
                }
            }
            shared.parts().add(number, n as u64);
        }
        Ok(n)
    }

    fn close_head(&mut self) {
        let Some(mut head) = self.head.take() else { return };
        if self.at == head.end {
            // Its connection can be used again if it is seen to end here; any other outcome closes it.
            let _ = head.body.read(&mut [0]);
        }
        if let (Some(shared), Some(number)) = (&self.shared, head.part) {
            shared.partial.note(head.kept.clone());
            shared.parts().release(number);
        }
    }

    /// The next bytes, from wherever they are.
    fn next_bytes(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(head) = &self.head {
                let end = head.end;
                let n = self.read_head(buf)?;
                // A body that ends early is for a verifying reader to refuse as well.
                if n > 0 || self.at < end {
                    return Ok(n);
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("it is not wanted any more"));
            }
            let Some(shared) = self.shared.clone().filter(|_| self.at < self.descriptor.size)
            else {
                return Ok(0);
            };
            let next = shared.parts().next(self.at);
            match next {
                Next::Came(range) => {
                    let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                    let room = buf.len().min(most);
                    let n = shared.partial.read_at(&mut buf[..room], self.at)?;
                    if n > 0 {
                        self.at += n as u64;
                        return Ok(n);
                    }
                    // Another program has cut the file.
                    shared.parts().lose();
                }
                Next::Coming { number, moved } if moved.elapsed() > self.stall() => {
                    log::info!("blob {}: a part does not move", self.descriptor.digest);
                    shared.parts().release(number);
                    shared.connections.refused();
                }
                Next::Coming { .. } => {
                    shared.fetch_ahead();
                    shared.wait_for(self.at, GLANCE);
                }
                Next::Missing(range) => self.fetch_next(range).map_err(io::Error::other)?,
            }
        }
    }

    /// After which time a part does not move any more.
    fn stall(&self) -> Duration {
        let link = self.source.throughput();
        link.map_or(STALL, |link| STALL.max(link.round_trip * STALL_ROUND_TRIPS))
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.pace.enter();
        let result = self.next_bytes(buf);
        self.pace.leave();
        if let Some(shared) = &self.shared {
            shared.is_awaited.store(self.pace.is_awaited(), Ordering::Relaxed);
            if result.is_ok() && !self.is_alone {
                shared.fetch_ahead();
            }
        }
        result
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        self.close_head();
        if let Some(shared) = &self.shared {
            shared.parts().close();
        }
    }
}

impl Head {
    /// Reads past what is known already.
    fn skip_known(&mut self) -> io::Result<()> {
        let mut scratch = [0; SKIPPED_BYTES];
        while self.known > 0 {
            let room = usize::try_from(self.known).map_or(SKIPPED_BYTES, |n| n.min(SKIPPED_BYTES));
            match self.body.read(&mut scratch[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.known -= n as u64,
            }
        }
        Ok(())
    }
}
