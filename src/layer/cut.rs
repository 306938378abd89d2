//! Where spans begin: the output of a decompressor is cut at places where decoding can begin again.
//!
//! A span ends at the first place where decoding can begin again after 2.5 MiB of output or 512 KiB
//! of input: the end of a deflate block, a gzip member or a zstd frame. A member or frame ends it from
//! half of that on, because it needs no window. Where nothing comes for 4 MiB the span ends anyway,
//! and the next one can only be had by decoding this one first ([`Begin::Continues`]): a zstd
//! layer of a single frame is one long row of these. The
//! windows then take about half a percent of a gzip layer, and a cold read fetches half a megabyte;
//! at half the distance both numbers change places. (Placing checkpoints just before files was
//! measured and left: it saves 3 % of what is decoded at this distance.)

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::error::ErrorKind;
use crate::codec::{self, Boundary, Compression, Decoder, MemberEnd, WINDOW_BYTES};

/// A span ends at the first boundary after so many uncompressed bytes ...
const SPAN_BYTES: usize = 5 << 19;

/// ... or so many compressed ones: what a cold read of a small file has to fetch.
const SPAN_COMPRESSED_BYTES: u64 = 512 << 10;

/// Length of a span of a plain tar, where every place is a boundary.
const PLAIN_SPAN_BYTES: usize = 512 << 10;

/// Longest span. Deflate blocks of real layers are below 1.5 MiB.
const MAX_SPAN_BYTES: usize = 4 << 20;

/// A span as it leaves the decompressor.
pub(super) struct Piece {
    /// [`MAX_SPAN_BYTES`], of which `length` are the span's.
    pub(super) buffer: Arc<Vec<u8>>,
    pub(super) length: usize,
    /// First compressed byte needed, and just past the last.
    pub(super) compressed: Range<u64>,
    pub(super) begin: Begin,
    /// The gzip members that end in the span, and how many of its bytes come before that.
    pub(super) members: Vec<(usize, MemberEnd)>,
    pub(super) compression: Compression,
}

/// How a piece can be begun at.
pub(super) enum Begin {
    Continues,
    Here,
    /// Behind a deflate block.
    Block {
        bits: u8,
        /// The output before, with zeros for all bytes that nothing refers to.
        window: Vec<u8>,
    },
}

/// Returns a buffer for further use, if no other stage holds it.
pub(super) fn give_back(buffer: Arc<Vec<u8>>, used: &SyncSender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(buffer) {
        // If the queue is full there are buffers enough.
        let _ = used.try_send(buffer);
    }
}

/// Cuts a stream into spans at places where decoding can begin again.
pub(super) struct Cutter<'a> {
    decoder: Decoder,
    compression: Compression,
    used: &'a Receiver<Vec<u8>>,
    /// The span that is being filled.
    bytes: Vec<u8>,
    filled: usize,
    /// Where its compressed bytes begin, and how.
    compressed_start: u64,
    begin: Begin,
    /// The members that have ended in it.
    members: Vec<(usize, MemberEnd)>,
    /// Compressed bytes taken in all.
    consumed: u64,
    /// The compressed offset just past the last byte that gave output.
    compressed_end: u64,
}

impl Cutter<'_> {
    pub(super) fn new(
        compression: Compression,
        limits: codec::Limits,
        used: &Receiver<Vec<u8>>,
    ) -> Result<Cutter<'_>, ErrorKind> {
        let mut decoder = Decoder::within(limits, compression)?;
        // There is a stage with more time for them.
        decoder.leave_checks();
        Ok(Cutter {
            decoder,
            compression,
            used,
            bytes: vec![0; MAX_SPAN_BYTES],
            filled: 0,
            compressed_start: 0,
            begin: Begin::Here,
            members: Vec::new(),
            consumed: 0,
            compressed_end: 0,
        })
    }

    /// Compressed bytes taken in all.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The last span, if there is one, at the end of the stream. It is empty if only the end of a member
    /// has come behind the last cut.
    pub(super) fn finish(&mut self) -> Result<Option<Piece>, ErrorKind> {
        self.decoder.finish()?;
        let is_empty = self.filled == 0 && self.members.is_empty();
        Ok((!is_empty).then(|| self.cut(Begin::Continues)))
    }

    /// What was decoded before an error, if the end of a member is in it: its checksum may be wrong, and
    /// that is what went wrong first.
    pub(super) fn unchecked(&mut self) -> Option<Piece> {
        (!self.members.is_empty()).then(|| self.cut(Begin::Continues))
    }

    /// Decodes some of `input`; a span, if one became complete.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
    ) -> Result<(codec::Progress, Option<Piece>), ErrorKind> {
        if self.compression == Compression::None {
            let room = &mut self.bytes[self.filled..PLAIN_SPAN_BYTES];
            let progress = self.decoder.decode(input, room)?;
            self.filled += progress.produced;
            self.consumed += progress.consumed as u64;
            self.compressed_end = self.consumed;
            let is_full = self.filled == PLAIN_SPAN_BYTES;
            return Ok((progress, is_full.then(|| self.cut(Begin::Here))));
        }
        let due_in = (self.compressed_start + SPAN_COMPRESSED_BYTES).saturating_sub(self.consumed);
        let is_due = self.filled >= SPAN_BYTES || due_in == 0;
        // Ends of blocks before are none of this cutter's business.
        self.decoder.stop_at_blocks(is_due);
        let (input, room) = match is_due {
            true => (input, MAX_SPAN_BYTES),
            false => (&input[..input.len().min(due_in as usize)], SPAN_BYTES),
        };
        let progress = self.decoder.decode_behind(input, &mut self.bytes[..room], self.filled)?;
        self.filled += progress.produced;
        self.consumed += progress.consumed as u64;
        if progress.produced > 0 {
            self.compressed_end = self.consumed;
        }
        self.members.extend(self.decoder.member_end().map(|end| (self.filled, end)));
        let half = self.filled >= SPAN_BYTES / 2
            || self.consumed - self.compressed_start >= SPAN_COMPRESSED_BYTES / 2;
        let next = match self.decoder.boundary() {
            _ if self.filled == 0 => None,
            Some(Boundary::Start) if half || is_due => Some(Begin::Here),
            Some(Boundary::Block { bits }) if is_due && self.filled >= WINDOW_BYTES => {
                Some(Begin::Block { bits, window: Vec::new() })
            }
            _ if self.filled == MAX_SPAN_BYTES => Some(Begin::Continues),
            _ => None,
        };
        Ok((progress, next.map(|next| self.cut(next))))
    }

    /// Ends the span; `next` is how the following one can be begun at.
    fn cut(&mut self, next: Begin) -> Piece {
        let shares_byte = matches!(next, Begin::Block { bits: 1.., .. });
        let next_start = self.consumed - u64::from(shares_byte);
        let needs_window = matches!(next, Begin::Block { .. });
        let mut begin = std::mem::replace(&mut self.begin, next);
        if let Begin::Block { window, .. } = &mut begin {
            // All of it that is needed was noted while this span was decoded.
            *window = self.decoder.take_window().unwrap_or_default();
        }
        let length = std::mem::take(&mut self.filled);
        self.decoder.next_buffer(&self.bytes[..length]);
        if needs_window {
            self.decoder.note_window();
        }
        let fresh = self.used.try_recv().unwrap_or_else(|_| vec![0; MAX_SPAN_BYTES]);
        let buffer = Arc::new(std::mem::replace(&mut self.bytes, fresh));
        let start = std::mem::replace(&mut self.compressed_start, next_start);
        let compressed = start..self.compressed_end.max(start);
        let members = std::mem::take(&mut self.members);
        Piece { buffer, length, compressed, begin, members, compression: self.compression }
    }
}
