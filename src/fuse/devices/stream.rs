//! How a device is read: onwards, or from its end.
//!
//! Only what the kernel does not have is asked for, so all that is seen of a reader is where it begins to
//! read on, and where it comes to what was not brought.

use std::ops::Range;

use crate::tree::Ino;

/// Readers of a device that are told apart: those who go on, and those who come from the end, of whom one `rg` is
/// as many as it has threads.
const READERS: usize = 8;
const DESCENTS: usize = 32;

/// Reads further down, each near the one before, until a reader is taken to read from the end.
const SURE: u32 = 4;

/// How far from what was read before such a read begins.
const NEAR_BYTES: u64 = 256 << 10;

/// What is brought at a time before a reader that reads from the end: at first, and as it goes on.
const FIRST_BYTES: u64 = 1 << 20;
const MOST_BYTES: u64 = 4 << 20;

/// How a device is read.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Those who read it last, in a ring.
    readers: [Reader; READERS],
    next: usize,
    /// Those who may read it from the end; the latest last.
    descents: Vec<Descent>,
    /// The file that was missed last.
    missed: Option<Ino>,
}

/// Reads of which each began where the one before ended.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    begin: u64,
    /// Where the last read began, and where it ended.
    last: u64,
    end: u64,
}

/// Reads of which each began below the ones before.
#[derive(Debug)]
struct Descent {
    /// Where the lowest began, and how far down all has been brought.
    low: u64,
    floor: u64,
    reads: u32,
    /// How much was brought last.
    bytes: u64,
}

impl Stream {
    /// Notes a read. If it goes on where another one ended, what its reader has passed: the kernel reads ahead when
    /// a reader has come to what it read before.
    pub(super) fn read(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let goes_on = |reader: &Reader| reader.end == range.start && range.start > 0;
        if let Some(reader) = self.readers.iter_mut().find(|reader| goes_on(reader)) {
            let passed = reader.begin..reader.last;
            (reader.last, reader.end) = (range.start, range.end);
            return Some(passed);
        }
        self.next = (self.next + 1) % READERS;
        self.readers[self.next] = Reader { begin: range.start, last: range.start, end: range.end };
        None
    }

    /// Notes where a read begins that does not go on. If a reader comes from the end, what is to be brought before.
    pub(super) fn descend(&mut self, start: u64) -> Option<Range<u64>> {
        let mut descent = match self.descents.iter().rposition(|descent| descent.is_near(start)) {
            Some(at) => self.descents.remove(at),
            None => {
                self.descents.drain(..(self.descents.len() + 1).saturating_sub(DESCENTS));
                Descent { low: start, floor: start, reads: 0, bytes: 0 }
            }
        };
        let below = descent.read(start);
        self.descents.push(descent);
        below
    }

    /// Notes that a file is missed. The one that a reader has come to.
    pub(super) fn miss(&mut self, file: Ino, goes_on: bool) -> Option<Ino> {
        let before = self.missed.replace(file);
        if goes_on { before } else { Some(file) }
    }
}

impl Descent {
    fn is_near(&self, start: u64) -> bool {
        (self.floor.saturating_sub(NEAR_BYTES)..self.low.saturating_add(NEAR_BYTES))
            .contains(&start)
    }

    fn read(&mut self, start: u64) -> Option<Range<u64>> {
        if start >= self.low {
            return None;
        }
        self.reads = self.reads.saturating_add(1);
        self.low = start;
        self.floor = self.floor.min(start);
        // There is enough before it still.
        if self.reads < SURE || self.low - self.floor > self.bytes / 2 {
            return None;
        }
        self.bytes = (self.bytes * 2).clamp(FIRST_BYTES, MOST_BYTES);
        let end = self.floor;
        self.floor = end.saturating_sub(self.bytes);
        (self.floor < end).then_some(self.floor..end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::Budget;
    use crate::tree;

    #[test]
    fn reads_that_go_on() {
        let mut stream = Stream::default();
        // No read ends at the start of a device.
        assert_eq!(stream.read(0..4096), None);
        assert_eq!(stream.read(4096..16384), Some(0..0));
        assert_eq!(stream.read(4096..16384), None, "that was read on already");
        // Two readers, and more than are told apart.
        assert_eq!(stream.read(1 << 30..2 << 30), None);
        assert_eq!(stream.read(16384..32768), Some(0..4096));
        assert_eq!(stream.read(2 << 30..3 << 30), Some(1 << 30..1 << 30));
        assert_eq!(stream.read(32768..40960), Some(0..16384));
        (10..10 + READERS as u64)
            .for_each(|n| assert_eq!(stream.read(n << 40..(n << 40) + 1), None));
        assert_eq!(stream.read(40960..65536), None);
    }

    #[test]
    fn what_was_read_ahead_counts_when_somebody_comes_to_it() {
        let tree = tree::merge(&[], &Arc::new(Budget::growing())).unwrap();
        let ino = tree.ino(1).unwrap();
        let mut stream = Stream::default();
        assert_eq!(stream.miss(ino, true), None);
        assert_eq!(stream.miss(ino, true), Some(ino));
        let mut stream = Stream::default();
        assert_eq!(stream.miss(ino, false), Some(ino));
    }

    #[test]
    fn who_reads_from_the_end_is_gone_before() {
        const FILE: u64 = 8 << 10;
        let mut stream = Stream::default();
        let mut at = 100 << 20;
        let mut step = |stream: &mut Stream, bytes: u64| {
            at -= bytes;
            (stream.descend(at), at)
        };
        for _ in 0..SURE {
            assert_eq!(step(&mut stream, FILE).0, None);
        }
        let (below, low) = step(&mut stream, FILE);
        assert_eq!(below, Some(low - FIRST_BYTES..low));
        // Then no more until he is in the middle of that, and more at a time.
        let mut floor = low - FIRST_BYTES;
        for (brought, next) in [(1, 2), (2, 4), (4, 4), (4, 4)] {
            let middle = floor + brought * FIRST_BYTES / 2;
            loop {
                let (below, low) = step(&mut stream, FILE);
                if low <= middle {
                    assert_eq!(below, Some(floor - next * FIRST_BYTES..floor));
                    break;
                }
                assert_eq!(below, None);
            }
            floor -= next * FIRST_BYTES;
        }
        // For a reader that is faster than that, what lies before its own place is brought.
        let (below, low) = step(&mut stream, 6 * FIRST_BYTES + FILE);
        assert_eq!(below, Some(low - MOST_BYTES..low));
        let (below, low) = step(&mut stream, low);
        assert_eq!((below, low), (None, 0), "that is far away");
    }

    #[test]
    fn neither_walks_nor_jumps_are_from_the_end() {
        let mut stream = Stream::default();
        assert!((0..1000).all(|n| stream.descend(n << 12).is_none()));
        // Neighbours that change places.
        assert!((0..1000).all(|n| stream.descend((1000 + (n ^ 1)) << 12).is_none()));
        let far = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        assert!((0..1000).all(|n| stream.descend(far(n)).is_none()));
    }

    #[test]
    fn two_may_read_from_the_end() {
        let mut stream = Stream::default();
        let mut found = [false; 2];
        for n in 0..10 {
            for (reader, top) in [1 << 30, 2 << 30].into_iter().enumerate() {
                found[reader] |= stream.descend(top - n * 4096).is_some();
            }
        }
        assert_eq!(found, [true; 2]);
        // At the start of the device nothing is left.
        let mut stream = Stream::default();
        let mut ranges = (0..10).rev().filter_map(|n| stream.descend(n * 4096));
        assert_eq!((ranges.next(), ranges.next()), (Some(0..5 * 4096), None));
    }
}
