//! Proving a layer that was shown by its headers, while it is in use.
//!
//! # Problem
//!
//! A tar that is shown before it is verified stays unproven for as long as nobody reads all of it, and few do. But
//! who asked not to wait at the mount has not asked for less proof in the end.
//!
//! # Design
//!
//! A thread of the mount's has each such layer proven ([`BlobReader::prove`]): what is here is hashed where it
//! is, and what is missing is fetched in order, piece by piece, as if ahead of a walk (`blob::ahead`). A piece is
//! begun only while no reader of the mount waits for anything, and it is short: so a reader waits for one piece
//! at most. It comes over one connection. What readers fetch in the meantime counts as well and is not fetched again.
//!
//! What comes is kept for readers: the layer has to fit into the cache, and the first span that is not kept ends it.
//!
//! Rejected: one request for all of it, which is paused while others read. Servers end what does not move; and it
//! would bring again what readers have brought.
//!
//! # Invariants
//!
//! - Each byte is fetched once, by a reader or for the proof.
//! - It ends with its [`Walk`], within a piece.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::error::Error;
use super::proving::{Proving, Wrong};
use super::reader::BlobReader;
use super::walk::Walk;

/// Bytes of a piece: a fifth of a second at 300 Mbit/s, and less than what would come over several connections.
const PIECE_BYTES: u64 = 8 << 20;

/// How often it is looked whether readers have what they wait for, and whether a piece is here.
const GLANCE: Duration = Duration::from_millis(50);

/// Pieces in a row that fail until it is given up, and the pauses after them, which double.
const MAX_FAILURES: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// Why a layer was not proven.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Unproven {
    #[error("the {0} bytes of it that are not here do not fit into half of the cache's limit")]
    NoRoom(u64),
    #[error("the cache did not keep what came")]
    NotKept,
    #[error("what is missing of it did not come")]
    Missing,
    #[error("nothing is fetched offline")]
    Offline,
    #[error("it was stopped, or its server sends everything where a part is asked for")]
    Stopped,
    #[error(transparent)]
    Wrong(Error),
}

impl BlobReader {
    /// Whether it is shown by its headers, and not known yet to be right or wrong.
    pub fn is_being_proven(&self) -> bool {
        self.with_headers().is_some_and(|proving| proving.outcome().is_none())
    }

    fn with_headers(&self) -> Option<&Proving> {
        self.proving.as_ref().filter(|proving| proving.outline().is_some())
    }

    /// Takes note of what other images have found out of a layer that is shown by its headers.
    pub fn learn(&self) {
        if let Some(proving) = self.with_headers() {
            proving.learn(&self.table.spans, &self.shared);
        }
    }

    /// Hashes what is here of a blob that is not proven yet, from where hashing has come to.
    ///
    /// # Errors
    /// That was the last of it, and it is wrong.
    pub(super) fn prove_kept(&self) -> Result<(), Error> {
        let Some(proving) = &self.proving else { return Ok(()) };
        loop {
            match proving.take_kept(&self.table.spans, &self.shared) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Wrong) => return self.found_wrong().map_or(Ok(()), Err),
            }
        }
    }

    /// Proves a layer that is shown by its headers, until the walk ends.
    ///
    /// # Errors
    /// See [`Unproven`].
    pub fn prove(self: &Arc<Self>, walk: &Walk) -> Result<(), Unproven> {
        self.learn();
        let Some(proving) = self.with_headers() else { return Ok(()) };
        let (mut failures, mut is_possible) = (0, false);
        loop {
            // A span at a time, so that an end of the walk is seen. What is wrong is told below.
            while walk.is_on() && proving.take_kept(&self.table.spans, &self.shared) == Ok(true) {}
            if let Some(error) = self.found_wrong() {
                return Err(Unproven::Wrong(error));
            }
            if !self.is_being_proven() {
                return Ok(());
            }
            if !walk.is_on() {
                return Err(Unproven::Stopped);
            }
            if !is_possible {
                self.check_possible()?;
                is_possible = true;
            }
            let next = proving.next();
            let piece = next..self.piece_end(next);
            self.bring_piece(&piece, walk);
            if !walk.is_on() && self.is_being_proven() && self.is_lost(piece) {
                return Err(Unproven::NotKept);
            }
            failures = if proving.next() > next || self.is_here(next) { 0 } else { failures + 1 };
            if failures > MAX_FAILURES {
                return Err(Unproven::Missing);
            }
            if failures > 0 {
                pause(PAUSE * 2u32.pow(failures - 1), walk);
            }
        }
    }

    /// Whether it can be proven here: there is a source, and room for what is missing.
    fn check_possible(&self) -> Result<(), Unproven> {
        if self.access.source.is_offline() {
            return Err(Unproven::Offline);
        }
        let spans = self.table.spans.iter().enumerate();
        let missing = spans.filter(|(at, _)| !self.is_here(*at));
        let missing = missing.map(|(_, span)| u64::from(span.length)).sum();
        match self.shared.cache().can_hold(missing) {
            true => Ok(()),
            false => Err(Unproven::NoRoom(missing)),
        }
    }

    /// The end of a piece that begins with a span: as long as it may be, up to what is here.
    fn piece_end(&self, start: usize) -> usize {
        let spans = &self.table.spans;
        let most = spans[start].start.0 + PIECE_BYTES;
        let rest = start + 1..spans.len();
        rest.into_iter()
            .find(|at| spans[*at].end() > most || self.is_here(*at))
            .unwrap_or(spans.len())
    }

    /// Brings a piece, when no reader waits; returns when it is here, or failed, or a reader has brought its first span.
    fn bring_piece(self: &Arc<Self>, piece: &Range<usize>, walk: &Walk) {
        while self.shared.has_waiting() && walk.is_on() {
            thread::sleep(GLANCE);
        }
        let mut in_flight = self.in_flight();
        let carries = |at| in_flight.carries(at);
        let end = piece.clone().find(|at| carries(*at)).unwrap_or(piece.end);
        if end > piece.start
            && walk.is_on()
            && let Err(e) = self.spawn(&mut in_flight, piece.start..end, Some(walk.clone()))
        {
            log::debug!("{}: nothing is fetched for its proof: {e}", self.what);
        }
        while walk.is_on() && in_flight.carries_any(piece) {
            in_flight = self.wait(in_flight, GLANCE);
        }
    }

    /// Whether a span of a piece has come and was not kept.
    fn is_lost(&self, piece: Range<usize>) -> bool {
        piece.into_iter().any(|at| self.named(at).is_some() && !self.is_here(at))
    }
}

fn pause(time: Duration, walk: &Walk) {
    for _ in 0..time.as_millis() / GLANCE.as_millis() {
        if !walk.is_on() {
            return;
        }
        thread::sleep(GLANCE);
    }
}
