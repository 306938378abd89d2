//! Which parts of a blob are there, which are on their way, and which is to be fetched next.
//!
//! No I/O: the state that the reader of a download and those who fetch ahead of it share.

use std::ops::Range;
use std::time::Instant;

use crate::extents::Extents;

/// The parts of a blob.
#[derive(Debug)]
pub(super) struct Parts {
    size: u64,
    came: Extents,
    coming: Vec<Coming>,
    next_number: u64,
    /// The next byte that the reader wants.
    reader_at: u64,
    /// Nothing is fetched ahead any more.
    is_closed: bool,
}

/// A part that is on its way.
#[derive(Debug)]
struct Coming {
    number: u64,
    /// What is yet to come of it.
    left: Range<u64>,
    /// When some of it came last.
    moved: Instant,
}

/// A part to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) range: Range<u64>,
}

/// What there is from an offset on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These bytes.
    Came(Range<u64>),
    /// Bytes that are on their way.
    Coming { number: u64, moved: Instant },
    /// Bytes that have to be fetched.
    Missing(Range<u64>),
}

impl Parts {
    /// The parts of a blob of which some may be there.
    pub(super) fn new(size: u64, came: Extents) -> Parts {
        Parts { size, came, coming: Vec::new(), next_number: 0, reader_at: 0, is_closed: false }
    }

    /// What there is for a reader that is at `at`.
    pub(super) fn next(&mut self, at: u64) -> Next {
        self.reader_at = at;
        if let Some(range) = self.came.from(at) {
            return Next::Came(range);
        }
        match self.coming.iter().find(|part| part.left.contains(&at)) {
            Some(part) => Next::Coming { number: part.number, moved: part.moved },
            None => Next::Missing(at..self.gap_end(at)),
        }
    }

    /// Notes that a part is being fetched.
    pub(super) fn claim(&mut self, range: Range<u64>) -> Part {
        let number = self.next_number;
        self.next_number += 1;
        self.coming.push(Coming { number, left: range.clone(), moved: Instant::now() });
        Part { number, range }
    }

    /// Notes that the next part to be fetched ahead of the reader is being fetched: at most `bytes` of it, and
    /// nothing more than `most_ahead` bytes ahead.
    pub(super) fn claim_ahead(&mut self, bytes: u64, most_ahead: u64) -> Option<Part> {
        if self.is_closed {
            return None;
        }
        let limit = self.size.min(self.reader_at.saturating_add(most_ahead));
        let mut at = self.reader_at;
        while at < limit {
            if let Some(came) = self.came.from(at) {
                at = came.end;
            } else if let Some(part) = self.coming.iter().find(|part| part.left.contains(&at)) {
                at = part.left.end;
            } else {
                let end = self.gap_end(at).min(at.saturating_add(bytes));
                return Some(self.claim(at..end));
            }
        }
        None
    }

    /// Bytes that are neither there nor on their way.
    pub(super) fn unclaimed(&self) -> u64 {
        let coming: u64 = self.coming.iter().map(|part| part.left.end - part.left.start).sum();
        self.size.saturating_sub(self.came.bytes()).saturating_sub(coming)
    }

    /// Notes that the next bytes of a part are there; false if the part is fetched by another now, or not wanted.
    pub(super) fn add(&mut self, number: u64, bytes: u64) -> bool {
        let Some(part) = self.coming.iter_mut().find(|part| part.number == number) else {
            return false;
        };
        let start = part.left.start;
        let end = part.left.end.min(start.saturating_add(bytes));
        part.left.start = end;
        part.moved = Instant::now();
        self.came.add(start..end);
        true
    }

    /// A part turns out to be longer.
    pub(super) fn extend(&mut self, number: u64, end: u64) {
        let mut coming = self.coming.iter_mut();
        if let Some(part) = coming.find(|part| part.number == number) {
            part.left.end = part.left.end.max(end.min(self.size));
        }
    }

    /// A part is not fetched any more: what has not come of it is missing.
    pub(super) fn release(&mut self, number: u64) {
        self.coming.retain(|part| part.number != number);
    }

    /// What should be there is not.
    pub(super) fn lose(&mut self) {
        self.came = Extents::default();
    }

    /// Nothing is fetched ahead any more; what is on its way may still come.
    pub(super) fn stop_ahead(&mut self) {
        self.is_closed = true;
    }

    /// Nothing is wanted any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.coming.clear();
    }

    fn gap_end(&self, at: u64) -> u64 {
        let coming = self.coming.iter().map(|part| part.left.start).filter(|start| *start > at);
        let came = self.came.next(at).unwrap_or(self.size);
        coming.min().unwrap_or(self.size).min(came).min(self.size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kept(ranges: &[Range<u64>]) -> Extents {
        let mut extents = Extents::default();
        ranges.iter().for_each(|range| extents.add(range.clone()));
        extents
    }

    #[test]
    fn a_reader_and_two_ahead_of_it() {
        let mut parts = Parts::new(100, kept(&[0..10, 60..70]));
        assert_eq!(parts.next(0), Next::Came(0..10));
        assert_eq!(parts.next(10), Next::Missing(10..60));
        let head = parts.claim(10..20);
        let one = parts.claim_ahead(25, 1000).unwrap();
        let two = parts.claim_ahead(25, 1000).unwrap();
        assert_eq!((one.range.clone(), two.range.clone()), (20..45, 45..60));
        let three = parts.claim_ahead(25, 1000).unwrap();
        assert_eq!((three.range, parts.unclaimed()), (70..95, 5));
        assert_eq!(parts.claim_ahead(25, 60), None, "it would be too far ahead");
        assert!(parts.add(head.number, 10) && parts.add(one.number, 5));
        assert_eq!(parts.next(20), Next::Came(20..25));
        assert!(matches!(parts.next(25), Next::Coming { number, .. } if number == one.number));
        parts.release(one.number);
        assert_eq!(parts.next(25), Next::Missing(25..45));
        assert!(!parts.add(one.number, 5), "another fetches it now");
        assert_eq!(parts.claim_ahead(10, 1000).unwrap().range, 25..35);
        parts.stop_ahead();
        assert_eq!(parts.claim_ahead(10, 1000), None);
        assert!(parts.add(two.number, 1));
        parts.close();
        assert!(!parts.add(two.number, 1));
    }

    #[test]
    fn what_is_lost_is_missing() {
        let mut parts = Parts::new(100, kept(&[0..20, 20..50]));
        parts.lose();
        assert_eq!(parts.next(20), Next::Missing(20..100));
        assert_eq!(parts.unclaimed(), 100);
    }
}
