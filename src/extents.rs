//! Sets of byte ranges.

use std::ops::Range;

/// Byte ranges, ordered, and joined where they touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Adds a range.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let end = self.0.partition_point(|known| known.start <= range.end);
        let start = self.0.get(first).map_or(range.start, |known| known.start.min(range.start));
        let last = end.checked_sub(1).and_then(|last| self.0.get(last));
        let last = last.map_or(range.end, |known| known.end.max(range.end));
        let joined = if first < end { start..last } else { range };
        self.0.splice(first..end, [joined]);
    }

    /// The range that holds an offset, from there on.
    pub fn from(&self, offset: u64) -> Option<Range<u64>> {
        let at = self.0.partition_point(|known| known.end <= offset);
        self.0.get(at).filter(|known| known.start <= offset).map(|known| offset..known.end)
    }

    /// The first offset of the set from `offset` on.
    pub fn next(&self, offset: u64) -> Option<u64> {
        let at = self.0.partition_point(|known| known.end <= offset);
        self.0.get(at).map(|known| known.start.max(offset))
    }

    /// Whether all of a range is in the set.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.from(range.start).is_some_and(|known| known.end >= range.end)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all of them.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a set of single offsets would be.
        #[test]
        fn ranges_are_joined(ranges in prop::collection::vec((0u64..60, 0u64..12), 0..20)) {
            let (mut extents, mut model) = (Extents::default(), [false; 80]);
            for (start, length) in ranges {
                extents.add(start..start + length);
                (start..start + length).for_each(|at| model[at as usize] = true);
                let parts: Vec<_> = extents.iter().collect();
                prop_assert!(parts.iter().all(|part| !part.is_empty()));
                prop_assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start), "{parts:?}");
            }
            let count = model.iter().filter(|is_in| **is_in).count() as u64;
            prop_assert_eq!((extents.bytes(), extents.is_empty()), (count, count == 0));
            for at in 0..80u64 {
                let run = model[at as usize..].iter().take_while(|is_in| **is_in).count() as u64;
                prop_assert_eq!(extents.from(at), (run > 0).then_some(at..at + run));
                prop_assert!(extents.holds(&(at..at + run)) && !extents.holds(&(at..at + run + 1)));
                let next = model[at as usize..].iter().position(|is_in| *is_in);
                prop_assert_eq!(extents.next(at), next.map(|n| at + n as u64));
            }
        }
    }
}
