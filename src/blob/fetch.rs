//! A thread that fetches a row of spans, with one request.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Error, Fault};
use super::in_flight::{InFlight, OngoingFetch};
use super::plan;
use super::proving::Wrong;
use super::reader::BlobReader;
use super::spans::MAX_AHEAD_BYTES;
use super::stream::{Layer, Stream};
use super::walk::Walk;
use crate::index::{Proof, Restart, Windows};
use crate::source::{Opened, open_wide};

/// How long a fetch waits for readers to catch up before it ends, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);

const GLANCE: Duration = Duration::from_millis(20);

impl BlobReader {
    /// Starts a fetch, for a reader or, without one, ahead of a walk.
    pub(super) fn spawn(
        self: &Arc<Self>,
        in_flight: &mut InFlight,
        spans: Range<usize>,
        walk: Option<Walk>,
    ) -> io::Result<()> {
        let number = in_flight.next_number;
        let reader = Arc::clone(self);
        let left = spans.clone();
        let limit = plan::group_end(&self.table.spans, spans.end - 1);
        thread::Builder::new().name("fetch".into()).spawn(move || {
            Fetch { reader: &reader, number, spans, walk, is_finished: false }.run()
        })?;
        in_flight.next_number += 1;
        in_flight.fetches.push(OngoingFetch { number, left, limit, started: Instant::now() });
        Ok(())
    }
}

/// A thread that fetches a row of spans. Dropping it, by panic too, lets everybody know.
struct Fetch<'a> {
    reader: &'a Arc<BlobReader>,
    number: u64,
    spans: Range<usize>,
    /// The walk that it is ahead of, if no reader has asked for it.
    walk: Option<Walk>,
    is_finished: bool,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if let Some(proving) = &self.reader.proving {
            proving.note(&self.reader.shared);
        }
        if !self.is_finished {
            let error = Error::Died(self.reader.what.clone());
            self.reader.finish(self.number, Some(&error).filter(|_| self.walk.is_none()));
        }
    }
}

impl Fetch<'_> {
    fn run(mut self) {
        let result = self.deliver();
        self.is_finished = true;
        let error = match result {
            Ok(()) => None,
            Err(Fault::Transport(error)) => Some(error),
            Err(Fault::Content(error)) => self.suspect(error),
        };
        if let (Some(_), Some(error)) = (&self.walk, &error) {
            log::info!("ahead of a walk: {error}");
        }
        // A reader that waits for what no reader had asked for tries it itself.
        self.reader.finish(self.number, error.as_ref().filter(|_| self.walk.is_none()));
    }

    /// The first span that was not delivered came wrong: `None` if it is worth another try.
    fn suspect(&self, error: Error) -> Option<Error> {
        let reader = self.reader;
        let has_other = reader.access.source.distrust(&reader.access.descriptor.digest);
        let mut in_flight = reader.in_flight();
        let fetch = in_flight.fetches.iter().find(|fetch| fetch.number == self.number);
        let at = fetch.map_or(0, |fetch| fetch.left.start);
        if in_flight.suspects.insert(at) || has_other {
            log::warn!("{error}; trying once more");
            return None;
        }
        in_flight.suspects.remove(&at);
        drop(in_flight);
        let is_claim = matches!(reader.table.proof, Proof::Toc | Proof::Hint);
        if is_claim && !reader.is_contradicted.swap(true, Ordering::Relaxed) {
            log::warn!("{}: its index is not used again; the next mount streams it", reader.what);
            reader.shared.cache().reject_layer_index(&reader.access.index_name);
        }
        Some(error)
    }

    fn deliver(&mut self) -> Result<(), Fault> {
        let reader = self.reader;
        let spans = &reader.table.spans;
        let mut limit = plan::group_end(spans, self.spans.end - 1);
        let range = spans[self.spans.start].compressed_start.0..spans[limit - 1].compressed_end.0;
        let first = &spans[self.spans.start];
        // The first span waits for room before its request; the others before they are taken from it.
        let mut first_room = Some(reader.shared.admit(first.length));
        // A window that is elsewhere comes at the same time as the bytes.
        let (opened, window) = match (&reader.table.windows, first.restart) {
            (Windows::Detached, Restart::Block { window: (_, 1..), .. }) => {
                thread::scope(|scope| {
                    let window = scope.spawn(|| reader.window(first));
                    let opened =
                        open_wide(&reader.access.source, &reader.access.descriptor, range.clone());
                    let died = |_| Err(Error::Died(reader.what.clone()));
                    (opened, Some(window.join().unwrap_or_else(died)))
                })
            }
            _ => (open_wide(&reader.access.source, &reader.access.descriptor, range.clone()), None),
        };
        let opened: Opened = opened.map_err(|e| Fault::Transport(Error::Source(Arc::new(e))))?;
        let is_whole = opened.start < range.start || opened.end > range.end;
        if is_whole && self.is_too_much_ahead() {
            return Ok(());
        }
        if is_whole {
            log::info!("{}: the server sends everything; so be it", reader.what);
            limit = spans.len();
            self.redirect(0..limit);
            first_room = None;
        }
        let end = opened.end;
        let layer = Layer {
            what: &reader.what,
            compression: reader.table.compression,
            limits: reader.access.codec,
            spans,
            chunks: &reader.table.chunks,
            unproven_blob: reader.table.unproven_blob,
            window: &|span| match &window {
                Some(window) if span == first => window.clone(),
                _ => reader.window(span),
            },
        };
        let mut stream = Stream::new(opened);
        let mut proven = None;
        for at in self.spans.start..limit {
            if !self.is_sent_on(at) || !self.is_followed(at, is_whole) {
                return Ok(());
            }
            // For this span only: a fetch that waits for its readers must keep no other from its room.
            let room = first_room.take();
            let _room = room.unwrap_or_else(|| reader.shared.admit(spans[at].length));
            let bytes = Arc::new(stream.take_span(&layer, at)?);
            if let Some(proving) = &reader.proving {
                let wrong = |Wrong| {
                    let digest = || Error::Digest { what: reader.what.clone() };
                    Fault::Content(reader.found_wrong().unwrap_or_else(digest))
                };
                let all = proving.take(spans, &reader.shared, at, &bytes).map_err(wrong)?;
                proven = proven.or(all);
            }
            if let Some(span) = reader.named(at) {
                reader.shared.put(&span, &bytes);
            }
            self.hand_over(at, bytes);
            if let (Some(proving), Some(index)) = (&reader.proving, proven.take()) {
                proving.record(&index, &reader.shared);
            }
            self.end_walk_if_lost(at);
        }
        stream.drain(end);
        Ok(())
    }

    /// Takes on another row of spans.
    fn redirect(&mut self, spans: Range<usize>) {
        self.spans = spans.clone();
        let mut in_flight = self.reader.in_flight();
        if let Some(fetch) = in_flight.fetches.iter_mut().find(|f| f.number == self.number) {
            fetch.limit = spans.end;
            fetch.left = spans;
        }
    }

    /// Waits, at the end of what it was sent for, for a reader that has the fetch go on; false if
    /// none does.
    fn is_sent_on(&self, at: usize) -> bool {
        let reader = self.reader;
        let until = Instant::now() + PATIENCE;
        let mut in_flight = reader.in_flight();
        loop {
            let place = in_flight.fetches.iter().position(|f| f.number == self.number);
            if place.is_none_or(|place| at < in_flight.fetches[place].left.end) {
                return place.is_some();
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                // No reader may count on it any more.
                place.map(|place| in_flight.fetches.swap_remove(place));
                return false;
            };
            in_flight = reader.wait(in_flight, left);
        }
    }

    /// Gives a span to those who wait for it.
    fn hand_over(&self, at: usize, bytes: Arc<Vec<u8>>) {
        let mut in_flight = self.reader.in_flight();
        if let Some(fetch) = in_flight.fetches.iter_mut().find(|f| f.number == self.number) {
            fetch.left.start = at + 1;
        }
        in_flight.suspects.remove(&at);
        if in_flight.wanted.contains_key(&at) {
            in_flight.arrived.insert(at, Ok(bytes));
            self.reader.arrival.notify_all();
        }
    }

    /// Waits while the span is far ahead of every reader; false if none comes.
    fn is_followed(&self, at: usize, is_whole: bool) -> bool {
        let reader = self.reader;
        let spans = &reader.table.spans;
        let is_wanted = || reader.in_flight().wanted.keys().any(|wanted| *wanted >= at);
        if let Some(walk) = &self.walk {
            return walk.is_on() || is_wanted();
        }
        let seen = || reader.reader_at.load(Ordering::Relaxed);
        let mut last_seen = seen();
        let mut since = Instant::now();
        loop {
            let now = seen();
            let distance_bytes = spans[at].start.0.saturating_sub(spans[now].start.0);
            let is_near =
                at <= now + 1 || reader.shared.may_bring_ahead(&spans[at], distance_bytes);
            // What comes once and whole is kept: to come back for it would cost all of it again.
            if is_near || is_whole || is_wanted() {
                return true;
            }
            if now != last_seen {
                (last_seen, since) = (now, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Whether it is ahead of a walk, and the server has begun to send more than should be: then the
    /// walk gets nothing ahead any more.
    fn is_too_much_ahead(&self) -> bool {
        let is_large = self.reader.table.uncompressed_size > MAX_AHEAD_BYTES;
        let walk = self.walk.as_ref().filter(|_| is_large);
        walk.inspect(|walk| walk.end()).is_some()
    }

    /// Ends the walk that it is ahead of if a span that it brought was not kept.
    fn end_walk_if_lost(&self, at: usize) {
        if let Some(walk) = &self.walk
            && !self.reader.is_kept(at)
        {
            walk.end();
        }
    }
}
