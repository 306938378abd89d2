//! How much of each span readers have asked for.
//!
//! What is fetched ahead is guessed from this (`blob::plan`), and a guess needs no exact number: reads that
//! come twice count twice, two at once may count past the limit, and the order of requests is that in
//! which threads take them up.

use std::sync::atomic::{AtomicU32, Ordering};

/// A tar has data in blocks of 512 bytes, each file behind a header of one, or three with its PAX
/// records: small files that are all read make up their span.
const BLOCK_BYTES: u32 = 512;
const HEADER_BYTES: u32 = 3 * BLOCK_BYTES;

/// Counts for each span of a layer.
#[derive(Debug)]
pub(super) struct Used(Vec<AtomicU32>);

impl Used {
    pub(super) fn new(spans: usize) -> Used {
        Used((0..spans).map(|_| AtomicU32::new(0)).collect())
    }

    /// Notes that a part of a span of `span_bytes` is read.
    pub(super) fn note(&self, at: usize, bytes: usize, span_bytes: u32) {
        let count = &self.0[at];
        if count.load(Ordering::Relaxed) < span_bytes {
            // No part is longer than a span, and no span than some MiB.
            let bytes = (bytes as u32).next_multiple_of(BLOCK_BYTES) + HEADER_BYTES;
            count.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of a span that were read, headers between them included; about, and perhaps more than it has.
    pub(super) fn bytes(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed).into()
    }
}
