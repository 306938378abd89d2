//! The parser: bytes in, entries and content out.

use super::block::{BLOCK_BYTES, checked_padded, padded};
use super::entry::{FileType, Sink};
use super::error::Error;
use super::extensions::Extensions;
use super::header::{self, Header};
use super::pax;
use super::sparse::{MapLines, Pending};
use crate::extent::{Run, UncompressedOffset};

/// Extension data (PAX records, GNU long names) accepted for one entry: what Go accepts.
pub const MAX_METADATA_BYTES: u64 = 1 << 20;

/// What the next bytes are.
#[derive(Debug)]
enum ParserState {
    /// Collecting a header block.
    Header,
    /// One zero block was seen; another one ends the archive.
    HeaderAfterZero,
    /// Collecting the data of an extension header.
    Extension { kind: u8, size: u64 },
    /// Skipping what is not ours, then back to headers.
    Skip { bytes: u64 },
    /// Collecting extension blocks of an old GNU sparse header.
    GnuSparse { pending: Box<Pending> },
    /// Collecting the map that stands in front of a PAX 1.0 sparse file's content.
    PaxSparseMap { pending: Box<Pending>, lines: MapLines },
    /// Passing content on.
    Content { left: u64, padding: u64 },
    /// Past the end marker: the rest is not interpreted.
    Done,
}

/// The parser: push bytes with [`Parser::feed`], then call [`Parser::finish`].
#[derive(Debug)]
pub struct Parser {
    state: ParserState,
    /// Offset in the tar of the next byte to come.
    position: u64,
    /// Offset of the header of the entry that is being parsed, for messages.
    entry_at: u64,
    buffer: Vec<u8>,
    extensions: Extensions,
    /// Only names and contents matter: what else is wrong with an entry is passed over.
    of_names: bool,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// A parser at the start of an archive.
    pub fn new() -> Parser {
        Parser {
            state: ParserState::Header,
            position: 0,
            entry_at: 0,
            buffer: Vec::with_capacity(BLOCK_BYTES),
            extensions: Extensions::default(),
            of_names: false,
        }
    }

    /// A parser of an archive that is not a layer but holds some: owners, times, device numbers and
    /// extended attributes do not matter there, and are nothing where they do not fit; entries of unknown
    /// types are passed over.
    pub fn of_names() -> Parser {
        Parser { of_names: true, ..Parser::new() }
    }

    /// Takes the next bytes of the archive.
    ///
    /// # Errors
    /// The input is not a tar we accept, or the sink refused an entry. The parser must not be
    /// used afterwards.
    pub fn feed<S: Sink>(&mut self, mut input: &[u8], sink: &mut S) -> Result<(), S::Error> {
        while !input.is_empty() {
            let used = match &mut self.state {
                ParserState::Done => {
                    sink.framing(input);
                    input.len()
                }
                ParserState::Content { left, padding } => {
                    let n = input.len().min(to_usize(*left));
                    sink.content(&input[..n]);
                    *left -= n as u64;
                    if *left == 0 {
                        sink.end();
                        self.state = skip(*padding);
                    }
                    n
                }
                ParserState::Skip { bytes } => {
                    let n = input.len().min(to_usize(*bytes));
                    sink.framing(&input[..n]);
                    *bytes -= n as u64;
                    if *bytes == 0 {
                        self.state = ParserState::Header;
                    }
                    n
                }
                ParserState::Extension { size, .. } => {
                    let want = to_usize(*size) - self.buffer.len();
                    let n = input.len().min(want);
                    sink.framing(&input[..n]);
                    self.buffer.extend_from_slice(&input[..n]);
                    n
                }
                ParserState::Header
                | ParserState::HeaderAfterZero
                | ParserState::GnuSparse { .. }
                | ParserState::PaxSparseMap { .. } => {
                    let n = input.len().min(BLOCK_BYTES - self.buffer.len() % BLOCK_BYTES);
                    sink.framing(&input[..n]);
                    self.buffer.extend_from_slice(&input[..n]);
                    n
                }
            };
            self.position += used as u64;
            input = &input[used..];
            self.step(sink)?;
        }
        Ok(())
    }

    /// Skips up to `limit` bytes of content or padding without seeing them, for a caller that can
    /// seek; returns how many. 0 means that the parser has to be fed.
    pub fn skip<S: Sink>(&mut self, limit: u64, sink: &mut S) -> u64 {
        let skipped = match &mut self.state {
            ParserState::Content { left, padding } => {
                let n = (*left).min(limit);
                *left -= n;
                if *left == 0 {
                    sink.end();
                    self.state = skip(*padding);
                }
                n
            }
            ParserState::Skip { bytes } => {
                let n = (*bytes).min(limit);
                *bytes -= n;
                if *bytes == 0 {
                    self.state = ParserState::Header;
                }
                n
            }
            // Past the end there is nothing whose position counts.
            ParserState::Done => return limit,
            _ => 0,
        };
        self.position += skipped;
        skipped
    }

    /// Whether the map of a sparse file is to come, in front of its content.
    pub fn wants_sparse_map(&self) -> bool {
        matches!(self.state, ParserState::PaxSparseMap { .. })
    }

    /// The input has ended.
    ///
    /// An archive may end without its two zero blocks, without the padding of its last entry, and
    /// behind extension headers that no entry follows, as Go accepts all three; not in the middle of
    /// anything else.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn finish(&self) -> Result<(), Error> {
        // Only blocks are collected in the buffer: it is empty between them.
        match self.state {
            ParserState::Done | ParserState::Skip { .. } => Ok(()),
            ParserState::Header | ParserState::HeaderAfterZero if self.buffer.is_empty() => Ok(()),
            _ => Err(Error::Truncated { at: self.position }),
        }
    }

    /// Acts on a completed block, if there is one.
    fn step<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        match std::mem::replace(&mut self.state, ParserState::Header) {
            ParserState::Header if self.buffer.len() == BLOCK_BYTES => self.header(false, sink),
            ParserState::HeaderAfterZero if self.buffer.len() == BLOCK_BYTES => {
                self.header(true, sink)
            }
            ParserState::Extension { kind, size } if self.buffer.len() as u64 == size => {
                let data = std::mem::take(&mut self.buffer);
                self.state = skip(padded(size) - size);
                Ok(self.extensions.extend(kind, &data, self.entry_at, self.of_names)?)
            }
            ParserState::GnuSparse { mut pending } if self.buffer.len() == BLOCK_BYTES => {
                let block = std::mem::take(&mut self.buffer);
                let more = header::sparse_extension(&block, &mut pending.map)
                    .map_err(|what| Error::Sparse { at: self.entry_at, what })?;
                pending.check_runs(self.entry_at)?;
                if more {
                    self.state = ParserState::GnuSparse { pending };
                    return Ok(());
                }
                self.begin_sparse(*pending, sink)
            }
            ParserState::PaxSparseMap { mut pending, mut lines }
                if self.buffer.len().is_multiple_of(BLOCK_BYTES) =>
            {
                let sparse = |what| Error::Sparse { at: self.entry_at, what };
                let used = self.buffer.len() as u64;
                if used > pending.stored || used > MAX_METADATA_BYTES {
                    Err(sparse("the map is longer than the entry"))?;
                }
                let block = &self.buffer[self.buffer.len() - BLOCK_BYTES..];
                lines.seen += block.iter().filter(|b| **b == b'\n').count();
                if lines.wanted.is_none() {
                    lines.wanted = Some(pax::sparse_map_lines(&self.buffer).map_err(sparse)?);
                }
                if lines.wanted.is_some_and(|wanted| lines.seen < wanted) {
                    self.state = ParserState::PaxSparseMap { pending, lines };
                    return Ok(());
                }
                pending.map = pax::sparse_map_1_0(&self.buffer).map_err(sparse)?;
                pending.stored -= used;
                self.buffer.clear();
                self.begin_sparse(*pending, sink)
            }
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    fn header<S: Sink>(&mut self, after_zero: bool, sink: &mut S) -> Result<(), S::Error> {
        let block = std::mem::take(&mut self.buffer);
        let at = self.position - BLOCK_BYTES as u64;
        if block.iter().all(|b| *b == 0) {
            self.state = if after_zero { ParserState::Done } else { ParserState::HeaderAfterZero };
            return Ok(());
        }
        if after_zero {
            Err(Error::LoneZeroBlock { at })?;
        }
        let header = Header::parse(&block, at, self.of_names)?;
        if self.extensions.bytes == 0 {
            self.entry_at = at;
        }
        match header.typeflag {
            kind @ (b'g' | b'x' | b'L' | b'K') => {
                let size = header.size_field(at)?;
                if kind == b'g' {
                    // What was said of the next file is forgotten, as Go does.
                    self.extensions = Extensions::default();
                    self.entry_at = at;
                }
                // Counted with its header, so that an endless chain of empty ones ends too.
                self.extensions.bytes += size.saturating_add(BLOCK_BYTES as u64);
                if size > MAX_METADATA_BYTES || self.extensions.bytes > 2 * MAX_METADATA_BYTES {
                    Err(Error::MetadataTooLarge { at })?;
                }
                if size == 0 {
                    self.extensions.extend(kind, &[], self.entry_at, self.of_names)?;
                } else {
                    self.state = ParserState::Extension { kind, size };
                }
                Ok(())
            }
            _ => self.file(&header, &block, sink),
        }
    }

    /// A header that describes a file: apply the extensions and find the content.
    fn file<S: Sink>(
        &mut self,
        header: &Header,
        block: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let at = self.entry_at;
        let extensions = std::mem::take(&mut self.extensions);
        let of_names = self.of_names;
        let kind = match header.kind(at) {
            Err(Error::UnknownType { .. }) if of_names => {
                self.state = skip(checked_padded(header.size_field(at)?, at)?);
                return Ok(());
            }
            kind => kind?,
        };
        let (mut entry, pax) = extensions.apply(header, kind, at, of_names)?;
        if entry.kind != FileType::File {
            // Only regular files have content, whatever the size field of a link says.
            entry.link_target.truncate(match entry.kind {
                FileType::Symlink | FileType::HardLink => usize::MAX,
                _ => 0,
            });
            sink.entry(entry)?;
            sink.end();
            self.state = ParserState::Header;
            return Ok(());
        }
        entry.link_target.clear();
        let stored = match pax.size {
            Some(size) => {
                u64::try_from(size).map_err(|_| Error::Range { at, field: "size", value: size })?
            }
            None => header.size_field(at)?,
        };
        checked_padded(stored, at)?;
        if self.position.checked_add(padded(stored)).is_none_or(|end| end > i64::MAX as u64) {
            Err(Error::Size { at, size: stored })?;
        }
        if header.typeflag == b'S' && !header.is_gnu {
            Err(Error::Sparse { at, what: "the header is not in GNU format" })?;
        }
        if header.typeflag == b'S' {
            let sparse = header::gnu_sparse(block).map_err(|what| Error::Sparse { at, what })?;
            entry.size = sparse.real_size;
            let pending = Pending { entry, stored, map: sparse.map };
            if sparse.extended {
                self.state = ParserState::GnuSparse { pending: Box::new(pending) };
                return Ok(());
            }
            return self.begin_sparse(pending, sink);
        }
        match pax.sparse(stored).map_err(|what| Error::Sparse { at, what })? {
            None => {
                entry.size = stored;
                let start = UncompressedOffset(self.position);
                if stored > 0 {
                    entry.runs = vec![Run { file_offset: 0, start, length: stored }];
                }
                sink.entry(entry)?;
                self.content(stored, sink);
                Ok(())
            }
            Some(sparse) => {
                if let Some(name) = sparse.name {
                    entry.path = name;
                }
                entry.size = sparse.real_size;
                let pending = Pending { entry, stored, map: sparse.map.unwrap_or_default() };
                if sparse.map_in_content {
                    let lines = MapLines::default();
                    self.state = ParserState::PaxSparseMap { pending: Box::new(pending), lines };
                    return Ok(());
                }
                pending.check_runs(at)?;
                self.begin_sparse(pending, sink)
            }
        }
    }

    /// The sparse map is complete and the stored content begins at the current position.
    fn begin_sparse<S: Sink>(&mut self, pending: Pending, sink: &mut S) -> Result<(), S::Error> {
        let stored = pending.stored;
        let entry = pending.complete(self.entry_at, self.position)?;
        sink.entry(entry)?;
        self.content(stored, sink);
        Ok(())
    }

    fn content<S: Sink>(&mut self, stored: u64, sink: &mut S) {
        if stored == 0 {
            sink.end();
            self.state = ParserState::Header;
        } else {
            self.state = ParserState::Content { left: stored, padding: padded(stored) - stored };
        }
    }
}

/// The state that skips `bytes`; `Skip` itself always has at least one byte to go.
fn skip(bytes: u64) -> ParserState {
    if bytes == 0 { ParserState::Header } else { ParserState::Skip { bytes } }
}

/// A count of bytes as an index; what does not fit is larger than any buffer anyway.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
