//! A sans-I/O tar parser: pushed bytes in, entries and content out.
//!
//! # Why not a library
//!
//! The `tar` crate wants to own a reader and knows one of the four sparse encodings; `tar-core`
//! is sans-I/O but keeps an entry's whole metadata contiguous in the caller's buffer, refuses
//! negative times and drops fractions of seconds. The index builder needs the exact place of
//! every content byte, nanoseconds, and the decisions of Go's `archive/tar`, because that is what
//! Docker, containerd, podman and umoci apply layers with: an archive they refuse is refused, one
//! they read is read the same way. (The `tar` crate writes our exports and checks this parser in
//! tests.)
//!
//! # Formats
//!
//! V7, POSIX ustar, GNU (base-256 numbers, long names, sparse), star, and PAX extended headers
//! (POSIX.1-2001 pax(1)), with xattrs as `SCHILY.xattr.*` and sparse files in the old GNU, PAX 0.0,
//! 0.1 and 1.0 encodings (GNU tar manual, "Storing Sparse Files"). Global PAX headers have to be well
//! formed and mean nothing, as in Docker and containerd. Other extensions of PAX records are ignored,
//! and so are xattrs that no Linux file can have ([`is_linux_xattr`]).
//!
//! # Invariants
//!
//! - Memory is bounded: at most [`MAX_METADATA_BYTES`] of extension data and
//!   [`MAX_SPARSE_RUNS`] sparse runs at a time, whatever the input claims.
//! - Every [`Run`] of a file lies inside the file and runs are ordered and disjoint.
//! - The content bytes of an entry reach the [`Sink`] exactly once and in order.

mod header;
mod pax;

use crate::extent::{Run, UncompressedOffset};
use header::Header;
use pax::PaxRecords;

/// Size of a tar block in bytes.
pub const BLOCK_BYTES: usize = 512;

/// Extension data (PAX records, GNU long names) accepted for one entry: what Go accepts.
pub const MAX_METADATA_BYTES: u64 = 1 << 20;

/// Sparse runs accepted for one file. An extractor would need as many seeks.
pub const MAX_SPARSE_RUNS: usize = 1 << 16;

/// Whether a block may be the first of a tar that has something in it: a header whose checksum holds.
pub fn is_header(block: &[u8]) -> bool {
    block.len() == BLOCK_BYTES
        && block.iter().any(|b| *b != 0)
        && Header::parse(block, 0, true).is_ok()
}

/// Why a tar stream is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("tar header at offset {at}: the checksum does not match")]
    Checksum { at: u64 },
    #[error("tar header at offset {at}: field `{field}` is not a number")]
    Number { at: u64, field: &'static str },
    #[error("tar header at offset {at}: {field} is {value}, which does not fit")]
    Range { at: u64, field: &'static str, value: i64 },
    #[error("tar header at offset {at}: unsupported entry type {kind:?}")]
    UnknownType { at: u64, kind: char },
    #[error("tar header at offset {at}: the extension data is larger than 1 MiB")]
    MetadataTooLarge { at: u64 },
    #[error("tar header at offset {at}: malformed PAX record: {what}")]
    Pax { at: u64, what: &'static str },
    #[error("tar header at offset {at}: invalid sparse map: {what}")]
    Sparse { at: u64, what: &'static str },
    #[error("tar entry at offset {at}: content of {size} bytes reaches past any possible archive")]
    Size { at: u64, size: u64 },
    #[error("the tar ends inside an entry, at offset {at}")]
    Truncated { at: u64 },
    #[error("tar header at offset {at}: a lone zero block stands inside the archive")]
    LoneZeroBlock { at: u64 },
}

/// Whether Linux has a place for an xattr of this name. Archives made on macOS carry others, of any
/// length; the engines pass over what the file system does not support.
pub fn is_linux_xattr(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"security.", b"system."]
        .iter()
        .any(|namespace| name.len() > namespace.len() && name.starts_with(namespace))
}

/// What kind of file an entry describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came earlier.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry with all extension headers applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as stored, not normalised.
    pub path: Vec<u8>,
    /// The kind of file.
    pub kind: Kind,
    /// Permission bits including setuid, setgid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: whole seconds since the epoch, rounded down.
    pub mtime_seconds: i64,
    /// Nanoseconds to add to `mtime_seconds`.
    pub mtime_nanoseconds: u32,
    /// Size of the file's content in bytes, holes included; 0 unless a regular file.
    pub size: u64,
    /// Target of a hard or symbolic link, as stored.
    pub link_target: Vec<u8>,
    /// Device numbers (major, minor).
    pub device: (u32, u32),
    /// Extended attributes in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content lies.
    pub runs: Vec<Run>,
    /// Whether the content was stored with a sparse map.
    pub sparse: bool,
}

/// Receives what the parser finds.
pub trait Sink {
    /// The error type of the receiver.
    type Error: From<Error>;

    /// An entry begins; for a regular file its content follows.
    ///
    /// # Errors
    /// Whatever the receiver refuses; the parser then stops.
    fn entry(&mut self, entry: Entry) -> Result<(), Self::Error>;

    /// Content bytes of the last entry (stored bytes: holes of sparse files do not come).
    fn content(&mut self, bytes: &[u8]);

    /// The content of the last entry is complete.
    fn end(&mut self);
}

#[derive(Debug)]
enum State {
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

/// An entry whose sparse map is not complete yet.
#[derive(Debug)]
struct Pending {
    entry: Entry,
    /// Stored bytes of the content, without the map.
    stored: u64,
    /// (offset in file, length)
    map: Vec<(u64, u64)>,
}

/// How much of a PAX 1.0 sparse map has come, so that it is parsed once and not at every block.
#[derive(Clone, Copy, Debug, Default)]
struct MapLines {
    seen: usize,
    wanted: Option<usize>,
}

/// The parser: push bytes with [`Parser::feed`], then call [`Parser::finish`].
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Offset in the tar of the next byte to come.
    position: u64,
    /// Offset of the header of the entry that is being parsed, for messages.
    entry_at: u64,
    buffer: Vec<u8>,
    extensions: Extensions,
    /// Only names and contents matter: what else is wrong with an entry is passed over.
    of_names: bool,
}

/// Extension headers waiting for their entry.
#[derive(Debug, Default)]
struct Extensions {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: u64,
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
            state: State::Header,
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
                State::Done => input.len(),
                State::Content { left, padding } => {
                    let n = input.len().min(to_usize(*left));
                    sink.content(&input[..n]);
                    *left -= n as u64;
                    if *left == 0 {
                        sink.end();
                        self.state = skip(*padding);
                    }
                    n
                }
                State::Skip { bytes } => {
                    let n = input.len().min(to_usize(*bytes));
                    *bytes -= n as u64;
                    if *bytes == 0 {
                        self.state = State::Header;
                    }
                    n
                }
                State::Extension { size, .. } => {
                    let want = to_usize(*size) - self.buffer.len();
                    let n = input.len().min(want);
                    self.buffer.extend_from_slice(&input[..n]);
                    n
                }
                State::Header
                | State::HeaderAfterZero
                | State::GnuSparse { .. }
                | State::PaxSparseMap { .. } => {
                    let n = input.len().min(BLOCK_BYTES - self.buffer.len() % BLOCK_BYTES);
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
            State::Content { left, padding } => {
                let n = (*left).min(limit);
                *left -= n;
                if *left == 0 {
                    sink.end();
                    self.state = skip(*padding);
                }
                n
            }
            State::Skip { bytes } => {
                let n = (*bytes).min(limit);
                *bytes -= n;
                if *bytes == 0 {
                    self.state = State::Header;
                }
                n
            }
            // Past the end there is nothing whose position counts.
            State::Done => return limit,
            _ => 0,
        };
        self.position += skipped;
        skipped
    }

    /// Whether the map of a sparse file is to come, in front of its content.
    pub fn wants_sparse_map(&self) -> bool {
        matches!(self.state, State::PaxSparseMap { .. })
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
            State::Done | State::Skip { .. } => Ok(()),
            State::Header | State::HeaderAfterZero if self.buffer.is_empty() => Ok(()),
            _ => Err(Error::Truncated { at: self.position }),
        }
    }

    /// Acts on a completed block, if there is one.
    fn step<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        match std::mem::replace(&mut self.state, State::Header) {
            State::Header if self.buffer.len() == BLOCK_BYTES => self.header(false, sink),
            State::HeaderAfterZero if self.buffer.len() == BLOCK_BYTES => self.header(true, sink),
            State::Extension { kind, size } if self.buffer.len() as u64 == size => {
                let data = std::mem::take(&mut self.buffer);
                self.state = skip(padded(size) - size);
                Ok(self.extension(kind, data)?)
            }
            State::GnuSparse { mut pending } if self.buffer.len() == BLOCK_BYTES => {
                let block = std::mem::take(&mut self.buffer);
                let more = header::sparse_extension(&block, &mut pending.map)
                    .map_err(|what| Error::Sparse { at: self.entry_at, what })?;
                self.check_runs(pending.map.len())?;
                if more {
                    self.state = State::GnuSparse { pending };
                    return Ok(());
                }
                self.begin_sparse(*pending, sink)
            }
            State::PaxSparseMap { mut pending, mut lines }
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
                    self.state = State::PaxSparseMap { pending, lines };
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
            self.state = if after_zero { State::Done } else { State::HeaderAfterZero };
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
                    self.extension(kind, Vec::new())?;
                } else {
                    self.state = State::Extension { kind, size };
                }
                Ok(())
            }
            _ => self.file(&header, &block, sink),
        }
    }

    fn extension(&mut self, kind: u8, data: Vec<u8>) -> Result<(), Error> {
        let pax = |what| Error::Pax { at: self.entry_at, what };
        match kind {
            b'x' => {
                let records = PaxRecords::parse(&data, self.of_names).map_err(pax)?;
                self.extensions.pax = Some(records);
            }
            b'g' => {
                pax::check(&data).map_err(pax)?;
                // It is an entry of its own: what follows is counted anew.
                self.extensions = Extensions::default();
            }
            b'L' => self.extensions.long_name = Some(header::until_nul(&data).to_vec()),
            _ => self.extensions.long_link = Some(header::until_nul(&data).to_vec()),
        }
        Ok(())
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
        let pax = extensions.pax.unwrap_or_default();
        let of_names = self.of_names;
        let kind = match header.kind(at) {
            Err(Error::UnknownType { .. }) if of_names => {
                self.state = skip(checked_padded(header.size_field(at)?, at)?);
                return Ok(());
            }
            kind => kind?,
        };
        let number = |field: &'static str, value: Option<i64>, own: Result<i64, Error>| {
            let value = match value {
                Some(value) => value,
                None => or_nothing(of_names, own)?,
            };
            or_nothing(
                of_names,
                u32::try_from(value).map_err(|_| Error::Range { at, field, value }),
            )
        };
        let (seconds, nanoseconds) = match pax.mtime {
            Some(time) => time,
            None => (or_nothing(of_names, header.mtime(at))?, 0),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => or_nothing(of_names, header.device(at))?,
            _ => (0, 0),
        };
        let mut entry = Entry {
            path: pax.path.clone().unwrap_or_else(|| header.path.clone()),
            kind,
            mode: or_nothing(of_names, header.mode(at))? & 0o7777,
            uid: number("uid", pax.uid, header.uid(at))?,
            gid: number("gid", pax.gid, header.gid(at))?,
            mtime_seconds: seconds,
            mtime_nanoseconds: nanoseconds,
            size: 0,
            link_target: pax.link_path.clone().unwrap_or_else(|| header.link_name.clone()),
            device,
            xattrs: pax.xattrs.clone(),
            runs: Vec::new(),
            sparse: false,
        };
        // The order in which Go applies them: a GNU long name wins over a PAX path.
        if let Some(name) = extensions.long_name.filter(|name| !name.is_empty()) {
            entry.path = name;
        }
        if let Some(link) = extensions.long_link.filter(|link| !link.is_empty()) {
            entry.link_target = link;
        }
        // "A legacy archive uses a trailing slash for directories" (V7 had no type for them).
        if header.typeflag == 0 && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File {
            // Only regular files have content, whatever the size field of a link says.
            entry.link_target.truncate(match entry.kind {
                Kind::Symlink | Kind::HardLink => usize::MAX,
                _ => 0,
            });
            sink.entry(entry)?;
            sink.end();
            self.state = State::Header;
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
                self.state = State::GnuSparse { pending: Box::new(pending) };
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
                    self.state = State::PaxSparseMap { pending: Box::new(pending), lines };
                    return Ok(());
                }
                self.check_runs(pending.map.len())?;
                self.begin_sparse(pending, sink)
            }
        }
    }

    fn check_runs(&self, runs: usize) -> Result<(), Error> {
        if runs > MAX_SPARSE_RUNS {
            return Err(Error::Sparse { at: self.entry_at, what: "more than 65536 runs" });
        }
        Ok(())
    }

    /// The sparse map is complete and the stored content begins at the current position.
    fn begin_sparse<S: Sink>(&mut self, pending: Pending, sink: &mut S) -> Result<(), S::Error> {
        let Pending { mut entry, stored, map } = pending;
        let sparse = |what| Error::Sparse { at: self.entry_at, what };
        self.check_runs(map.len())?;
        let mut start = self.position;
        let mut previous_end = 0;
        for (file_offset, length) in map {
            let end = file_offset.checked_add(length).filter(|end| *end <= entry.size);
            let end = end.ok_or_else(|| sparse("a run reaches past the end of the file"))?;
            if file_offset < previous_end {
                Err(sparse("runs overlap or are out of order"))?;
            }
            previous_end = end;
            if length > 0 {
                entry.runs.push(Run { file_offset, start: UncompressedOffset(start), length });
                start = start
                    .checked_add(length)
                    .ok_or_else(|| sparse("the runs are larger than any archive"))?;
            }
        }
        if start - self.position != stored {
            Err(sparse("the runs do not add up to the stored content"))?;
        }
        entry.sparse = true;
        sink.entry(entry)?;
        self.content(stored, sink);
        Ok(())
    }

    fn content<S: Sink>(&mut self, stored: u64, sink: &mut S) {
        if stored == 0 {
            sink.end();
            self.state = State::Header;
        } else {
            self.state = State::Content { left: stored, padding: padded(stored) - stored };
        }
    }
}

/// A field that does not matter where only names do.
fn or_nothing<T: Default>(of_names: bool, field: Result<T, Error>) -> Result<T, Error> {
    if of_names { Ok(field.unwrap_or_default()) } else { field }
}

/// The state that skips `bytes`; `Skip` itself always has at least one byte to go.
fn skip(bytes: u64) -> State {
    if bytes == 0 { State::Header } else { State::Skip { bytes } }
}

/// `size` rounded up to whole blocks. The caller has checked that it fits.
fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES as u64)
}

fn checked_padded(size: u64, at: u64) -> Result<u64, Error> {
    size.checked_next_multiple_of(BLOCK_BYTES as u64).ok_or(Error::Size { at, size })
}

/// A count of bytes as an index; what does not fit is larger than any buffer anyway.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
