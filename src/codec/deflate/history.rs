//! What matches copy from: the output so far, in the caller's buffer and before it.
//!
//! # Design
//!
//! The caller's buffer is the window, so that nothing is copied but where a buffer ends: the last
//! [`WINDOW_BYTES`] of it are kept here then, and serve the matches that reach before the next one. All
//! of these take the way through [`History::copy`], which can note the bytes that they needed: that is
//! what a checkpoint at the start of the buffer has to keep, and it costs nothing behind the first
//! [`WINDOW_BYTES`].
//!
//! # Invariants
//!
//! A match reaches as far back as zlib lets it: to the start of the stream, or of the window that it was
//! begun with.

use crate::codec::boundary::WINDOW_BYTES;

/// The output before the place where a decoder stands.
#[derive(Debug, Default)]
pub(in crate::codec) struct History {
    /// Where the stream begins in the caller's buffer, zero if it began before; `None` until the first
    /// byte of a stream is asked for.
    start: Option<usize>,
    /// The output of this stream before the buffer, the last [`WINDOW_BYTES`] of it at least.
    before: Vec<u8>,
    /// Of the last [`WINDOW_BYTES`] before the buffer those that were copied, and zeros.
    used: Option<Vec<u8>>,
}

impl History {
    /// Forgets all: another stream begins.
    pub(super) fn reset(&mut self) {
        self.start = None;
        self.before.clear();
    }

    /// A stream is begun in its middle, behind this output.
    pub(super) fn resume(&mut self, window: Vec<u8>) {
        self.start = Some(0);
        self.before = window;
    }

    /// Where the stream begins in the caller's buffer, of which the first `filled` bytes are output.
    pub(super) fn start(&mut self, filled: usize) -> usize {
        *self.start.get_or_insert(filled)
    }

    /// Another buffer follows `output`, the last one's.
    pub(in crate::codec) fn next_buffer(&mut self, output: &[u8]) {
        let Some(start) = self.start.replace(0) else {
            self.start = None;
            return;
        };
        let output = &output[start..];
        let output = &output[output.len().saturating_sub(WINDOW_BYTES)..];
        if output.len() == WINDOW_BYTES {
            self.before.clear();
        } else if self.before.len() + output.len() > 2 * WINDOW_BYTES {
            let kept = self.before.len() - WINDOW_BYTES;
            self.before.drain(..kept);
        }
        self.before.extend_from_slice(output);
    }

    /// Notes from here on what is copied from before the buffer.
    pub(in crate::codec) fn note_used(&mut self) {
        self.used = Some(vec![0; WINDOW_BYTES]);
    }

    /// What was copied from before the buffer since [`History::note_used`].
    pub(in crate::codec) fn take_used(&mut self) -> Option<Vec<u8>> {
        self.used.take()
    }

    /// Copies a match of any kind to `at`; false if it reaches too far back. There is room for it.
    #[inline(never)]
    pub(super) fn copy(
        &mut self,
        output: &mut [u8],
        at: usize,
        distance: usize,
        length: usize,
    ) -> bool {
        let start = self.start.unwrap_or_default();
        let (mut at, mut length) = (at, length);
        if let Some(back @ 1..) = distance.checked_sub(at - start) {
            if back > self.before.len().min(WINDOW_BYTES) {
                return false;
            }
            let count = back.min(length);
            let from = self.before.len() - back;
            let bytes = &self.before[from..from + count];
            output[at..at + count].copy_from_slice(bytes);
            if let Some(used) = &mut self.used {
                used[WINDOW_BYTES - back..][..count].copy_from_slice(bytes);
            }
            at += count;
            length -= count;
        }
        repeat(output, at, distance, length);
        true
    }
}

/// Copies a match that lies in the buffer.
#[inline(always)]
fn repeat(output: &mut [u8], at: usize, distance: usize, length: usize) {
    if length == 0 {
        return;
    }
    let from = at - distance;
    if distance >= length {
        output.copy_within(from..from + length, at);
    } else if distance == 1 {
        let byte = output[from];
        output[at..at + length].fill(byte);
    } else {
        // What is there is a pattern, and so is what was copied, twice as long each time.
        let mut done = 0;
        while done < length {
            let count = (distance + done).min(length - done);
            output.copy_within(from..from + count, at + done);
            done += count;
        }
    }
}
