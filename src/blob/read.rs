//! Reading a layer, and waiting for what is not local.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::Error;
use super::in_flight::InFlight;
use super::link::Link;
use super::plan::{self, ReadAhead, Situation};
use super::reader::BlobReader;
use super::spans::copy_part;
use crate::extent::UncompressedOffset;
use crate::index::{Check, Restart};
use crate::source::MIN_BYTES_PER_SECOND;

/// Fetches of one layer at the same time: readers at so many places do not wait for each other.
const MAX_FETCHES: usize = 8;

/// What a read needs of a layer.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// Uncompressed offset of the first byte that is missing.
    start: u64,
    /// Just past the last span.
    end: usize,
}

/// Which bytes end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Those that seem to be local by now, too.
    Local,
    /// Only what a fetch brings: what seemed to be local could not be read.
    Fetched,
}

impl BlobReader {
    /// Fills `buf` from `start` if everything is cached; false if something is not, or if the
    /// range reaches past the layer. Never waits for a source.
    pub fn read_local(&self, start: UncompressedOffset, buf: &mut [u8]) -> bool {
        if self.found_wrong().is_some() {
            return false;
        }
        self.pieces(start, buf).all(|(at, offset, part)| {
            let hit = at.is_some_and(|at| {
                self.reader_at.store(at, Ordering::Relaxed);
                self.read_here(at, offset, part)
            });
            if let Some(at) = at.filter(|_| hit) {
                self.shared.note_hit();
                self.used.note(at, part.len(), self.table.spans[at].length);
            }
            hit
        })
    }

    /// Fills `buf` from `start`, fetching what is missing, but not beyond `give_up`. `scope` says
    /// what the reader is likely to want next; it is asked only if need be, and is told whether this
    /// miss goes on from the one before.
    ///
    /// # Errors
    /// See [`Error`]; `buf` is then of no use.
    pub fn read(
        self: &Arc<Self>,
        start: UncompressedOffset,
        buf: &mut [u8],
        give_up: Instant,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Result<(), Error> {
        let end = start.0.saturating_add(buf.len() as u64);
        let needed_end = self.table.spans.partition_point(|span| span.start.0 < end);
        for (at, offset, part) in self.pieces(start, buf) {
            let at = at.ok_or_else(|| Error::Short { what: self.what.clone(), at: start })?;
            self.reader_at.store(at, Ordering::Relaxed);
            self.used.note(at, part.len(), self.table.spans[at].length);
            if let Some(error) = self.found_wrong() {
                return Err(error);
            }
            if self.read_here(at, offset, part) {
                self.shared.note_hit();
                continue;
            }
            self.shared.note_miss();
            let span = &self.table.spans[at];
            let need = Need { start: span.start.0 + u64::from(offset), end: needed_end };
            let mut came = self.fetch(at, need, Trust::Local, give_up, scope)?;
            if came.is_none() && !self.read_here(at, offset, part) {
                came = self.fetch(at, need, Trust::Fetched, give_up, scope)?;
            }
            if let Some(bytes) = came {
                copy_part(&bytes, offset, part);
                self.note_handed_over(at, part.len());
            }
        }
        Ok(())
    }

    /// Brings every span into the cache that is not there yet, in order; stops where it fails.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch_all(
        self: &Arc<Self>,
        read_timeout: Duration,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        for (at, span) in self.table.spans.iter().enumerate() {
            self.reader_at.store(at, Ordering::Relaxed);
            self.used.note(at, span.length as usize, span.length);
            if self.read_here(at, 0, &mut [0]) {
                self.shared.note_hit();
                self.keep(at);
            } else {
                self.shared.note_miss();
                let scope = |_| ReadAhead::Files(0..u64::MAX);
                // No reader waits for this one span: it may come as slowly as its source lets it.
                let slowest =
                    Duration::from_secs(plan::compressed_bytes(span) / MIN_BYTES_PER_SECOND);
                let need = Need { start: span.start.0, end: at + 1 };
                let give_up = Instant::now() + read_timeout + slowest;
                self.fetch(at, need, Trust::Local, give_up, &scope)?;
            }
            progress(span.length.into());
        }
        self.prove_kept()
    }

    /// Puts a span into the cache that was taken out of it, and that is here all the same: in memory, or open.
    fn keep(&self, at: usize) {
        let span = self.named(at).filter(|_| !self.is_kept(at));
        let mut bytes = vec![0; span.as_ref().map_or(0, |span| span.length as usize)];
        if let Some(span) = span
            && self.shared.read(&span, 0, &mut bytes)
        {
            self.shared.keep(&span, &bytes);
        }
    }

    /// Notes that a reader has had a part of a span that has just come.
    fn note_handed_over(&self, at: usize, bytes: usize) {
        if let Some(span) = self.named(at) {
            self.shared.note_handed_over(&span, bytes);
        }
    }

    /// Cuts a range at span boundaries: (span, offset in it, part of the buffer).
    fn pieces<'a>(
        &'a self,
        start: UncompressedOffset,
        buf: &'a mut [u8],
    ) -> impl Iterator<Item = (Option<usize>, u32, &'a mut [u8])> {
        let spans = &self.table.spans;
        let mut at = spans.partition_point(|span| span.end() <= start.0);
        let mut offset = start.0;
        let mut rest = buf;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some(span) = spans.get(at) else {
                return Some((None, 0, std::mem::take(&mut rest)));
            };
            let within = (offset - span.start.0) as u32;
            let length = rest.len().min((span.length - within) as usize);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            offset += length as u64;
            at += 1;
            Some((Some(at - 1), within, part))
        })
    }

    /// Waits for a span that was not local, and sees to it that a fetch brings it, and what else
    /// the read needs. `None` if it has become local since the caller looked, and that is trusted.
    fn fetch(
        self: &Arc<Self>,
        at: usize,
        need: Need,
        trust: Trust,
        give_up: Instant,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Result<Option<Arc<Vec<u8>>>, Error> {
        if self.access.source.is_offline() {
            return Err(Error::Offline(self.what.clone()));
        }
        let _waiting = self.shared.begin_waiting();
        let mut in_flight = self.in_flight();
        *in_flight.wanted.entry(at).or_default() += 1;
        // What ails an old fetch, a connection that was forgotten or a server that was down, may be over.
        let mut may_try_again = in_flight.is_on_old_fetch(at);
        let result = loop {
            match in_flight.arrived.get(&at) {
                Some(Err(Error::Source(_) | Error::Read { .. })) if may_try_again => {
                    may_try_again = false;
                    in_flight.arrived.remove(&at);
                }
                Some(result) => break result.clone().map(Some),
                None => {}
            }
            // A fetch may have passed it between the caller's look and this one. To send for it again
            // could cost the whole layer, where the source knows no ranges.
            if trust == Trust::Local && !in_flight.carries(at) && self.is_here(at) {
                break Ok(None);
            }
            if !in_flight.carries(at) && in_flight.fetches.len() < MAX_FETCHES {
                let plan = self.plan(&mut in_flight, at, need, scope);
                if in_flight.extend(plan::begin_of(&self.table.spans, at), at, plan.end) {
                    self.arrival.notify_all();
                } else if let Err(e) = self.spawn(&mut in_flight, plan, None) {
                    break Err(Error::read(&self.what, e));
                }
            }
            let Some(left) = give_up.checked_duration_since(Instant::now()) else {
                break Err(Error::Deadline(self.what.clone()));
            };
            in_flight = self.wait(in_flight, left);
        };
        if let Some(count) = in_flight.wanted.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                in_flight.wanted.remove(&at);
                in_flight.arrived.remove(&at);
            }
        }
        result
    }

    /// What to fetch for a span that is missing and not on its way.
    fn plan(
        &self,
        in_flight: &mut InFlight,
        at: usize,
        need: Need,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Range<usize> {
        let spans = &self.table.spans;
        if in_flight.suspects.contains(&at) {
            // Its checkpoint may be wrong: from a place that needs none, and no further.
            let here = |at: &usize| spans[*at].restart == Restart::Here;
            let check = spans[at].check;
            return match check {
                Check::Content => (0..=at).rev().find(here).unwrap_or(0)..at + 1,
                Check::Chunks { .. } | Check::Compressed { .. } | Check::Transport => at..at + 1,
            };
        }
        let mut runs = std::mem::take(&mut in_flight.runs);
        let scope = |goes_on| self.affordable(scope(goes_on), goes_on);
        let plan = runs.plan(
            at,
            &Situation {
                spans,
                link: Link::new(self.access.source.throughput()),
                is_coming: &|at| self.is_coming(in_flight, at),
                used: &|at| self.used.bytes(at),
                start: need.start,
                needed_end: need.end,
                scope: &scope,
            },
        );
        in_flight.runs = runs;
        // Another fetch that is ahead is left to its work.
        let next = in_flight.fetches.iter().map(|fetch| fetch.left.start).filter(|from| *from > at);
        plan.start..plan.end.min(next.min().unwrap_or(plan.end))
    }

    /// The scope of a walk brings bytes in another order than they are read in. Where they may not be
    /// kept until then, it counts as a guess.
    fn affordable(&self, scope: ReadAhead, goes_on: bool) -> ReadAhead {
        match scope {
            ReadAhead::Ranges(ranges)
                if !self.shared.cache().has_room(self.table.uncompressed_size / 4) =>
            {
                let (first, last) = (ranges.first(), ranges.last());
                let range = first.zip(last).map_or(0..0, |(first, last)| first.start..last.end);
                ReadAhead::Files(if goes_on { range } else { 0..0 })
            }
            scope => scope,
        }
    }
}
