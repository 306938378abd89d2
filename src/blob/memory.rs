//! Verified spans in memory: what is on its way to its readers.
//!
//! # Problem
//!
//! Where the cache keeps nothing (`--cache-size 0`, a disk that is full), a span that leaves the memory
//! before its readers have had it is fetched once more, and a fetch that is ahead of its readers pushes
//! out what they are about to ask for: copying a file of 200 MB fetched 1.2 GB.
//!
//! # Design
//!
//! A budget of bytes. What its readers have had leaves first, then what was longest without a reader. A
//! fetch that is ahead asks whether there is room beside what is still unread
//! ([`Memory::has_room`]), and waits for its readers if there is none: so nothing unread is pushed out
//! but what its readers have left behind.
//!
//! Rejected: the latest spans by number, which forgets what comes just ahead; and a file without a name
//! on the disk, where users who say that nothing shall be kept do not expect one.
//!
//! # Invariants
//!
//! - The spans are at most the budget, or one span.

use std::collections::HashMap;
use std::sync::Arc;

use crate::digest::SpanDigest;

/// A span of which at most one part in so many is unread counts as read: headers between files, and
/// files that the reader leaves out.
const LEFT_OUT: u32 = 4;

#[derive(Debug)]
struct Kept {
    bytes: Arc<Vec<u8>>,
    /// Bytes that no reader has had; what is read twice counts twice.
    unread: u32,
    /// The later, the larger.
    touched: u64,
}

impl Kept {
    fn is_read(&self) -> bool {
        self.unread <= self.bytes.len() as u32 / LEFT_OUT
    }

    /// Bytes that its readers are still to have.
    fn unread_bytes(&self) -> usize {
        if self.is_read() { 0 } else { self.bytes.len() }
    }
}

/// Spans in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    spans: HashMap<SpanDigest, Kept>,
    now: u64,
}

impl Memory {
    /// A span of which a reader takes so many bytes now.
    pub(super) fn read(&mut self, digest: &SpanDigest, bytes: usize) -> Option<Arc<Vec<u8>>> {
        let kept = self.spans.get_mut(digest)?;
        self.now += 1;
        kept.touched = self.now;
        // No part is longer than a span, and no span than some MiB.
        kept.unread = kept.unread.saturating_sub(bytes as u32);
        Some(Arc::clone(&kept.bytes))
    }

    pub(super) fn contains(&self, digest: &SpanDigest) -> bool {
        self.spans.contains_key(digest)
    }

    /// Whether so many bytes fit beside all that is unread.
    pub(super) fn has_room(&self, bytes: usize, budget: usize) -> bool {
        self.spans.values().map(Kept::unread_bytes).sum::<usize>() + bytes <= budget
    }

    /// Keeps a span, and at most `budget` bytes with it.
    pub(super) fn put(&mut self, digest: SpanDigest, bytes: &Arc<Vec<u8>>, budget: usize) {
        self.spans.remove(&digest);
        let mut left: usize = self.spans.values().map(|kept| kept.bytes.len()).sum();
        while left + bytes.len() > budget {
            let order = |(_, kept): &(&SpanDigest, &Kept)| (!kept.is_read(), kept.touched);
            let Some((&oldest, _)) = self.spans.iter().min_by_key(order) else { break };
            left -= self.spans.remove(&oldest).map_or(0, |kept| kept.bytes.len());
        }
        self.now += 1;
        let unread = bytes.len() as u32;
        self.spans.insert(digest, Kept { bytes: Arc::clone(bytes), unread, touched: self.now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &mut Memory, n: u8) {
        memory.put(SpanDigest([n; 32]), &Arc::new(vec![n; 100]), 400);
    }

    fn kept(memory: &Memory) -> Vec<u8> {
        (0..20).filter(|n| memory.contains(&SpanDigest([*n; 32]))).collect()
    }

    #[test]
    fn what_was_read_leaves_first() {
        let mut memory = Memory::default();
        (0..4).for_each(|n| put(&mut memory, n));
        assert!(memory.read(&SpanDigest([2; 32]), 80).is_some_and(|bytes| bytes[..] == [2; 100]));
        assert!(memory.read(&SpanDigest([1; 32]), 40).is_some());
        put(&mut memory, 4);
        assert_eq!(kept(&memory), [0, 1, 3, 4]);
        // Nothing else was read: the longest untouched one.
        put(&mut memory, 5);
        assert_eq!(kept(&memory), [1, 3, 4, 5]);
        // The two halves that were read of it make it read.
        memory.read(&SpanDigest([1; 32]), 40);
        put(&mut memory, 6);
        assert_eq!(kept(&memory), [3, 4, 5, 6]);
        assert_eq!(memory.read(&SpanDigest([1; 32]), 1), None);
    }

    #[test]
    fn the_budget_is_kept() {
        let mut memory = Memory::default();
        (0..3).for_each(|n| put(&mut memory, n));
        assert!(memory.has_room(100, 400) && !memory.has_room(101, 400));
        memory.read(&SpanDigest([0; 32]), 75);
        assert!(memory.has_room(200, 400) && !memory.has_room(201, 400));
        put(&mut memory, 0);
        assert!(!memory.has_room(200, 400), "it was put once more, and is unread");
        assert_eq!(kept(&memory), [0, 1, 2]);
        memory.put(SpanDigest([9; 32]), &Arc::new(vec![9; 1000]), 400);
        assert_eq!(kept(&memory), [9], "larger than the budget");
    }
}
