//! A part of a blob being decoded, span after span, each verified before it is handed on.
//!
//! One [`Stream`] is one answer of a source. Whatever the answer covers is decoded in order; what a
//! span needs to begin with comes from the layer index, and what it must turn out to be, too. Three
//! kinds of verification meet here (see [`Check`]): our own digests and those of chunks are over
//! decoded bytes, SOCI's are over compressed ones and are checked before anything is decoded.

use std::io::{self, Read};
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::error::{Error, Fault};
use crate::codec::{Boundary, Compression, Decoder, Limits, SNIFF_BYTES, window};
use crate::digest::{Digest, SpanDigest};
use crate::index::{Check, Chunk, Restart, Span};
use crate::source::{Body, Opened};

/// Bytes read from a source at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What a stream has to know of its layer.
pub(super) struct Layer<'a> {
    pub(super) what: &'a str,
    /// Sniffed if it is not known; the stream then begins at the blob's start.
    pub(super) compression: Option<Compression>,
    pub(super) limits: Limits,
    pub(super) spans: &'a [Span],
    pub(super) chunks: &'a [Chunk],
    /// See [`SpanTable::unproven_blob`](crate::index::SpanTable::unproven_blob).
    pub(super) unproven_blob: Option<Digest>,
    /// The stored window of the span at which the stream begins, and of any other.
    pub(super) window: &'a dyn Fn(&Span) -> Result<Vec<u8>, Error>,
}

/// Where the decoder stands.
enum Position {
    /// Nowhere: the next span has to be begun.
    Lost,
    /// At the start of this span.
    AtSpan(usize),
    /// In the member that begins at `member`, this many uncompressed bytes on.
    InMember { member: u64, offset: u64 },
}

/// Spans being decoded from one answer.
pub(super) struct Stream {
    body: Body,
    /// Blob offset of the first unread byte of `input`.
    at: u64,
    input: Vec<u8>,
    unread: Range<usize>,
    /// The byte before: neighbours may share one.
    last_byte: Option<u8>,
    decoder: Option<Decoder>,
    position: Position,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(opened: Opened) -> Stream {
        Stream {
            body: opened.body,
            at: opened.start,
            input: vec![0; CHUNK_BYTES],
            unread: 0..0,
            last_byte: None,
            decoder: None,
            position: Position::Lost,
        }
    }

    /// Decodes and verifies a span, which must not lie before the last one.
    pub(super) fn take_span(&mut self, layer: &Layer<'_>, number: usize) -> Result<Vec<u8>, Fault> {
        let span = &layer.spans[number];
        let bytes = match span.check {
            Check::Content => self.take_content(layer, number)?,
            Check::Chunks { first, count } => {
                self.take_chunks(layer, span, first as usize..(first + count) as usize)?
            }
            Check::Compressed { chunk } => {
                self.take_compressed(layer, span, &layer.chunks[chunk as usize])?
            }
            Check::Transport => self.take_unverified(layer, number)?,
        };
        Ok(bytes)
    }

    fn take_content(&mut self, layer: &Layer<'_>, number: usize) -> Result<Vec<u8>, Fault> {
        let span = &layer.spans[number];
        let bytes = self.take_unverified(layer, number)?;
        let digest = SpanDigest::of(&bytes);
        let name = layer.unproven_blob.map_or(digest, |blob| digest.in_unproven(&blob));
        if name != span.digest {
            self.position = Position::Lost;
            return Err(mismatch(layer, span));
        }
        Ok(bytes)
    }

    fn take_unverified(&mut self, layer: &Layer<'_>, number: usize) -> Result<Vec<u8>, Fault> {
        let span = &layer.spans[number];
        if !matches!(self.position, Position::AtSpan(at) if at == number) {
            self.begin(layer, span)?;
        }
        let mut bytes = vec![0; span.length as usize];
        self.position = Position::Lost;
        self.decode(layer, span, &mut bytes)?;
        self.position = Position::AtSpan(number + 1);
        Ok(bytes)
    }

    fn take_chunks(
        &mut self,
        layer: &Layer<'_>,
        span: &Span,
        chunks: Range<usize>,
    ) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; span.length as usize];
        let mut rest = &mut bytes[..];
        for chunk in &layer.chunks[chunks] {
            // The index has checked that the chunks add up to the span.
            let (part, after) = rest.split_at_mut(chunk.length as usize);
            rest = after;
            let start = chunk.compressed_start.0;
            let here = match self.position {
                Position::InMember { member, offset }
                    if member == start && offset <= chunk.skip =>
                {
                    offset
                }
                _ => {
                    self.seek(layer, span, start)?;
                    self.decoder = Some(self.decoder_for(layer, span, Restart::Here)?);
                    0
                }
            };
            self.position = Position::Lost;
            self.skip_output(layer, span, chunk.skip - here)?;
            self.decode(layer, span, part)?;
            if Sha256::digest(&*part)[..] != chunk.digest {
                return Err(mismatch(layer, span));
            }
            self.position = Position::InMember { member: start, offset: chunk.skip + chunk.length };
        }
        Ok(bytes)
    }

    /// Verifies the compressed bytes before it decodes any of them.
    fn take_compressed(
        &mut self,
        layer: &Layer<'_>,
        span: &Span,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, Fault> {
        self.position = Position::Lost;
        let (start, end) = (span.compressed_start.0, span.compressed_end.0);
        self.seek(layer, span, start)?;
        let mut compressed = Vec::with_capacity((end - start) as usize);
        compressed.extend(self.last_byte.filter(|_| self.at == start + 1));
        while compressed.len() < (end - start) as usize {
            let input = self.input(layer, span)?;
            let n = input.len().min((end - start) as usize - compressed.len());
            compressed.extend_from_slice(&input[..n]);
            self.consume(n);
        }
        let is_plain = layer.compression == Some(Compression::None);
        if Sha256::digest(&compressed)[..] != chunk.digest {
            // A blob that is one span is a file itself, and was never indexed.
            let is_blob = is_plain && layer.spans.len() == 1;
            let what = layer.what.to_owned();
            return Err(match is_blob {
                true => Fault::Content(Error::Digest { what }),
                false => mismatch(layer, span),
            });
        }
        if is_plain && compressed.len() == span.length as usize {
            return Ok(compressed);
        }
        let mut decoder = self.decoder_for(layer, span, span.restart)?;
        let mut bytes = vec![0; span.length as usize];
        let (mut filled, mut unread) = (0, &compressed[..]);
        while filled < bytes.len() {
            let progress = decoder
                .decode(unread, &mut bytes[filled..])
                .map_err(|e| Fault::Content(Error::codec(layer.what, e)))?;
            unread = &unread[progress.consumed..];
            filled += progress.produced;
            if progress.consumed == 0 && progress.produced == 0 {
                return Err(Fault::Content(Error::short(layer.what, span)));
            }
        }
        Ok(bytes)
    }

    /// Puts a decoder at the start of a span.
    fn begin(&mut self, layer: &Layer<'_>, span: &Span) -> Result<(), Fault> {
        self.seek(layer, span, span.compressed_start.0)?;
        self.decoder = Some(self.decoder_for(layer, span, span.restart)?);
        if self.at == span.compressed_start.0 + 1
            && let (Some(byte), Some(decoder)) = (self.last_byte, &mut self.decoder)
        {
            // The shared byte went by with the span before.
            decoder
                .decode(&[byte], &mut [])
                .map_err(|e| Fault::Content(Error::codec(layer.what, e)))?;
        }
        Ok(())
    }

    /// Reads past everything before a blob offset, which may be the byte just read.
    fn seek(&mut self, layer: &Layer<'_>, span: &Span, offset: u64) -> Result<(), Fault> {
        while self.at < offset {
            let left = offset - self.at;
            let n = self.input(layer, span)?.len();
            self.consume(n.min(usize::try_from(left).unwrap_or(n)));
        }
        let shares_byte = self.at == offset + 1 && self.last_byte.is_some();
        match self.at == offset || shares_byte {
            true => Ok(()),
            // An index that goes backwards: it was checked not to, so this is a bug of ours.
            false => Err(Fault::Content(Error::short(layer.what, span))),
        }
    }

    /// Unread input; never empty.
    fn input(&mut self, layer: &Layer<'_>, span: &Span) -> Result<&[u8], Fault> {
        if self.unread.is_empty() {
            let n = read_some(&mut self.body, &mut self.input)
                .map_err(|e| Fault::Transport(Error::read(layer.what, e)))?;
            if n == 0 {
                return Err(Fault::Content(Error::short(layer.what, span)));
            }
            self.unread = 0..n;
        }
        Ok(&self.input[self.unread.clone()])
    }

    fn consume(&mut self, bytes: usize) {
        if bytes > 0 {
            self.last_byte = Some(self.input[self.unread.start + bytes - 1]);
        }
        self.unread.start += bytes;
        self.at += bytes as u64;
    }

    /// Fills `out` from the decoder.
    fn decode(&mut self, layer: &Layer<'_>, span: &Span, out: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < out.len() {
            let Some(decoder) = &mut self.decoder else {
                return Err(Fault::Content(Error::short(layer.what, span)));
            };
            let progress = decoder
                .decode(&self.input[self.unread.clone()], &mut out[filled..])
                .map_err(|e| Fault::Content(Error::codec(layer.what, e)))?;
            self.consume(progress.consumed);
            filled += progress.produced;
            if progress.consumed == 0 && progress.produced == 0 {
                // It has taken all there was.
                self.input(layer, span)?;
            }
        }
        Ok(())
    }

    fn skip_output(&mut self, layer: &Layer<'_>, span: &Span, bytes: u64) -> Result<(), Fault> {
        let mut scratch = vec![0; bytes.min(CHUNK_BYTES as u64) as usize];
        let mut left = bytes;
        while left > 0 {
            let n = left.min(scratch.len() as u64) as usize;
            self.decode(layer, span, &mut scratch[..n])?;
            left -= n as u64;
        }
        Ok(())
    }

    fn decoder_for(
        &mut self,
        layer: &Layer<'_>,
        span: &Span,
        restart: Restart,
    ) -> Result<Decoder, Fault> {
        let codec = |e| Fault::Content(Error::codec(layer.what, e));
        let compression = match layer.compression {
            Some(compression) => compression,
            None => {
                while self.unread.len() < SNIFF_BYTES {
                    let read = read_some(&mut self.body, &mut self.input[self.unread.end..])
                        .map_err(|e| Fault::Transport(Error::read(layer.what, e)))?;
                    self.unread.end += read;
                    if read == 0 {
                        break;
                    }
                }
                Compression::sniff(&self.input[self.unread.clone()]).map_err(codec)?
            }
        };
        let decoder = match restart {
            Restart::Here => Decoder::within(layer.limits, compression).map_err(codec),
            Restart::Block { bits, .. } => {
                // Without one there is still the way from a place that needs none.
                let window = (layer.window)(span).map_err(Fault::Content)?;
                let window = window::unpack(&window).map_err(codec)?;
                Decoder::resume(compression, Boundary::Block { bits }, window).map_err(codec)
            }
            Restart::Continues => Err(Fault::Content(Error::short(layer.what, span))),
        };
        decoder.map(|mut decoder| {
            // A digest decides over what comes out.
            decoder.leave_checks();
            decoder
        })
    }

    /// Reads what little is left of an answer that was for a range, so that its connection can be
    /// used again.
    pub(super) fn drain(mut self, end: u64) {
        if end.saturating_sub(self.at) <= CHUNK_BYTES as u64 {
            while matches!(read_some(&mut self.body, &mut self.input), Ok(n) if n > 0) {}
        }
    }
}

fn mismatch(layer: &Layer<'_>, span: &Span) -> Fault {
    Fault::Content(Error::Mismatch { what: layer.what.to_owned(), at: span.start })
}

fn read_some(body: &mut Body, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match body.read(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
