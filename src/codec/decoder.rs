//! The decompressor of any layer.

use super::boundary::{Boundary, Progress, WINDOW_BYTES};
use super::compression::Compression;
use super::error::Error;
use super::gzip::Gzip;
use super::limits::Limits;
use super::member::MemberEnd;
use super::zstd_frames::Zstd;

/// A streaming decompressor.
#[derive(Debug)]
pub struct Decoder(Inner);

enum Inner {
    Plain,
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Inner::Plain => "Plain",
            Inner::Gzip(_) => "Gzip",
            Inner::Zstd(_) => "Zstd",
        })
    }
}

impl Decoder {
    /// A decoder at the start of a stream, within the default [`Limits`].
    ///
    /// # Errors
    /// The decompressor can't be set up (out of memory).
    pub fn new(compression: Compression) -> Result<Decoder, Error> {
        Decoder::within(Limits::default(), compression)
    }

    /// A decoder at the start of a stream.
    ///
    /// # Errors
    /// The decompressor can't be set up (out of memory).
    pub fn within(limits: Limits, compression: Compression) -> Result<Decoder, Error> {
        Ok(Decoder(match compression {
            Compression::None => Inner::Plain,
            Compression::Gzip => Inner::Gzip(Box::new(Gzip::new())),
            Compression::Zstd => Inner::Zstd(Box::new(Zstd::within(limits)?)),
        }))
    }

    /// A decoder that begins at a boundary. With [`Boundary::Block`] and bits, the first byte of
    /// input is the one that holds them; `window` is the output before (up to [`WINDOW_BYTES`]).
    ///
    /// # Errors
    /// Only gzip has block boundaries.
    pub fn resume(
        compression: Compression,
        boundary: Boundary,
        window: Vec<u8>,
    ) -> Result<Decoder, Error> {
        match boundary {
            Boundary::Start => Decoder::new(compression),
            Boundary::Block { bits }
                if compression == Compression::Gzip
                    && bits <= 7
                    && window.len() <= WINDOW_BYTES =>
            {
                Ok(Decoder(Inner::Gzip(Box::new(Gzip::resume(bits, window)))))
            }
            Boundary::Block { .. } => Err(Error::Gzip("an impossible checkpoint")),
        }
    }

    /// Makes [`Decoder::decode`] return at every end of a deflate block, or no longer.
    pub fn stop_at_blocks(&mut self, stop: bool) {
        if let Inner::Gzip(gzip) = &mut self.0 {
            gzip.stop = stop;
        }
    }

    /// The boundary that the decoder stands at. Ends of blocks are noticed only while
    /// [`Decoder::stop_at_blocks`] is on; [`Decoder::decode`] returns at all others.
    pub fn boundary(&self) -> Option<Boundary> {
        match &self.0 {
            Inner::Plain => Some(Boundary::Start),
            Inner::Gzip(gzip) => gzip.boundary(),
            Inner::Zstd(zstd) => (!zstd.is_inside_frame()).then_some(Boundary::Start),
        }
    }

    /// Leaves the checksums of gzip members to the caller: either [`Decoder::member_end`] is asked after
    /// each call, or what comes out is verified in another way.
    pub fn leave_checks(&mut self) {
        if let Inner::Gzip(gzip) = &mut self.0 {
            gzip.leave_checks();
        }
    }

    /// What the gzip member that ended with the last call says of its output, after
    /// [`Decoder::leave_checks`]. Members without output are checked nevertheless.
    pub fn member_end(&mut self) -> Option<MemberEnd> {
        match &mut self.0 {
            Inner::Gzip(gzip) => gzip.member_end(),
            Inner::Plain | Inner::Zstd(_) => None,
        }
    }

    /// Decompresses from `input` into `output`. What lies behind the bytes that were produced may be
    /// overwritten too.
    ///
    /// With room in `output`, `consumed == 0 && produced == 0` means that more input is needed.
    ///
    /// # Errors
    /// The stream is corrupt.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        let progress = self.decode_behind(input, output, 0)?;
        self.next_buffer(&output[..progress.produced]);
        Ok(progress)
    }

    /// As [`Decoder::decode`], into a buffer that is filled bit by bit: the first `filled` bytes of
    /// `output` are what earlier calls have put there, and the decoder looks at them again. Before
    /// there is another buffer, [`Decoder::next_buffer`] is called.
    ///
    /// # Errors
    /// The stream is corrupt.
    pub fn decode_behind(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        filled: usize,
    ) -> Result<Progress, Error> {
        match &mut self.0 {
            Inner::Plain => {
                let output = &mut output[filled..];
                let n = input.len().min(output.len());
                output[..n].copy_from_slice(&input[..n]);
                Ok(Progress { consumed: n, produced: n })
            }
            Inner::Gzip(gzip) => gzip.decode(input, output, filled),
            Inner::Zstd(zstd) => zstd.decode(input, &mut output[filled..]),
        }
    }

    /// All of the buffer that was filled last; another one follows.
    pub fn next_buffer(&mut self, output: &[u8]) {
        if let Inner::Gzip(gzip) = &mut self.0 {
            gzip.history().next_buffer(output);
        }
    }

    /// Notes which bytes of the window are copied from here on, at the start of a buffer.
    pub fn note_window(&mut self) {
        if let Inner::Gzip(gzip) = &mut self.0 {
            gzip.history().note_used();
        }
    }

    /// The window at the place of [`Decoder::note_window`], with zeros for all bytes that were not
    /// copied. It is complete when [`WINDOW_BYTES`] have come out since, or the member has ended.
    pub fn take_window(&mut self) -> Option<Vec<u8>> {
        match &mut self.0 {
            Inner::Gzip(gzip) => gzip.history().take_used(),
            Inner::Plain | Inner::Zstd(_) => None,
        }
    }

    /// The input has ended.
    ///
    /// # Errors
    /// [`Error::Truncated`] inside a member or frame.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.0 {
            Inner::Plain => Ok(()),
            Inner::Gzip(gzip) => gzip.finish(),
            Inner::Zstd(zstd) if zstd.is_inside_frame() => Err(Error::Truncated("zstd")),
            Inner::Zstd(_) => Ok(()),
        }
    }
}

/// Decompresses a whole small stream into memory.
///
/// # Errors
/// The stream is corrupt, or larger than `limit` bytes ([`Error::Unsupported`] names that).
pub fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(Compression::sniff(input)?)?;
    let mut out = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let mut rest = input;
    loop {
        let progress = decoder.decode(rest, &mut chunk)?;
        rest = &rest[progress.consumed..];
        out.extend_from_slice(&chunk[..progress.produced]);
        if out.len() > limit {
            return Err(Error::Unsupported("a ratio that exceeds the limit"));
        }
        if progress.consumed == 0 && progress.produced == 0 {
            decoder.finish()?;
            return Ok(out);
        }
    }
}
