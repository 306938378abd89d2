//! Writing and reading the file format, with every check that makes a [`LayerIndex`] sound.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::entry::ROOT_DIR;
use super::error::{MAX_ENTRIES, MAX_NAME_BYTES, MAX_SYMLINK_BYTES};
use super::format::{self, CHECKSUM_BYTES, FileHeader, MAGIC, SECTIONS, VERSION};
use super::layer_index::{LayerIndex, Tail};
use super::proof::{Identity, Proof};
use super::span::MAX_SPAN_BYTES;
use crate::codec::Compression;
use crate::digest::{ContentHash, DiffId, SpanDigest};

/// Why bytes are not a layer index. The remedy is always the same: build it again.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum DecodeError {
    #[error("not a layer index")]
    Magic,
    #[error("layer index of format version {0}")]
    Version(u32),
    #[error("the layer index is truncated or has the wrong length")]
    Length,
    #[error("the layer index is damaged: its checksum does not match")]
    Checksum,
    #[error("the layer index is inconsistent: {0}")]
    Inconsistent(&'static str),
}

use DecodeError::Inconsistent;

/// Longest stored window: 32 KiB that zstd could not make smaller.
const MAX_WINDOW_BYTES: u32 = 40 << 10;

/// Most bytes of a member that are decoded in vain to get at a chunk inside of it.
const MAX_CHUNK_SKIP: u64 = 256 << 20;

/// Sections of the head; the others are the tail.
const HEAD_SECTIONS: usize = SECTIONS - 2;

/// What the fixed part of a file says.
pub(super) struct Header {
    /// An index with empty tables, and a tail that is elsewhere.
    pub(super) index: LayerIndex,
    pub(super) counts: Counts,
}

/// How many records each section has.
pub(super) struct Counts {
    pub(super) dirs: u64,
    pub(super) entries: u64,
    pub(super) whiteouts: u64,
    pub(super) runs: u64,
    pub(super) xattrs: u64,
    pub(super) spans: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    hashes: u64,
    windows: u64,
}

impl Header {
    pub(super) fn parse(header: &FileHeader) -> Result<Header, DecodeError> {
        if header.magic != MAGIC {
            return Err(DecodeError::Magic);
        }
        if header.version.get() != VERSION {
            return Err(DecodeError::Version(header.version.get()));
        }
        let [dirs, entries, whiteouts, runs, xattrs, spans, chunks, bytes, hashes, windows] =
            header.counts.map(|count| count.get());
        let counts = Counts {
            dirs,
            entries,
            whiteouts,
            runs,
            xattrs,
            spans,
            chunks,
            bytes,
            hashes,
            windows,
        };
        let identity = Identity {
            blob: header.blob.get().ok_or(Inconsistent("unknown digest algorithm"))?,
            blob_size: header.blob_size.get(),
            diff_id: DiffId(header.diff_id.get().ok_or(Inconsistent("unknown digest algorithm"))?),
            uncompressed_size: header.uncompressed_size.get(),
            compression: match header.compression {
                0 => Compression::None,
                1 => Compression::Gzip,
                2 => Compression::Zstd,
                _ => return Err(Inconsistent("unknown compression")),
            },
            proof: match header.proof {
                0 => Proof::Hint,
                1 => Proof::Toc,
                2 => Proof::Full,
                _ => return Err(Inconsistent("unknown proof")),
            },
        };
        let index = LayerIndex {
            identity,
            dirs: Vec::new(),
            entries: Vec::new(),
            whiteouts: Vec::new(),
            runs: Vec::new(),
            xattrs: Vec::new(),
            spans: Vec::new(),
            chunks: Vec::new(),
            bytes: Vec::new(),
            missing_padding: header.missing_padding.get(),
            outline: None,
            tail: Tail::Detached { hashes, windows },
        };
        Ok(Header { index, counts })
    }
}

impl LayerIndex {
    /// The index as a file: head and, if it is here, tail.
    pub fn encode(&self) -> Vec<u8> {
        // In one piece from the start: windows of a large layer are some MiB.
        let tail_bytes = match &self.tail {
            Tail::Loaded { hashes, windows } => {
                hashes.as_bytes().len() + windows.len() + CHECKSUM_BYTES
            }
            Tail::Detached { .. } => 0,
        };
        let mut out = self.head(tail_bytes);
        self.append_tail(&mut out);
        out
    }

    /// The head: all that a mount needs.
    pub fn encode_head(&self) -> Vec<u8> {
        self.head(0)
    }

    /// The head, with room for so many bytes more.
    fn head(&self, more: usize) -> Vec<u8> {
        let compression = match self.identity.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
        };
        let proof = match self.identity.proof {
            // Never stored: it is made of the descriptor alone.
            Proof::Transport | Proof::Hint => 0,
            Proof::Toc => 1,
            // What is stored is about the blob that it was made of.
            Proof::Tar | Proof::Full => 2,
        };
        let (hashes, windows) = match &self.tail {
            Tail::Loaded { hashes, windows } => (hashes.len() as u64, windows.len() as u64),
            Tail::Detached { hashes, windows } => (*hashes, *windows),
        };
        let sections: [(usize, &[u8]); HEAD_SECTIONS] = [
            (self.dirs.len(), self.dirs.as_bytes()),
            (self.entries.len(), self.entries.as_bytes()),
            (self.whiteouts.len(), self.whiteouts.as_bytes()),
            (self.runs.len(), self.runs.as_bytes()),
            (self.xattrs.len(), self.xattrs.as_bytes()),
            (self.spans.len(), self.spans.as_bytes()),
            (self.chunks.len(), self.chunks.as_bytes()),
            (self.bytes.len(), &self.bytes),
        ];
        let mut counts = [0.into(); SECTIONS];
        for (count, (records, _)) in counts.iter_mut().zip(&sections) {
            *count = (*records as u64).into();
        }
        counts[HEAD_SECTIONS] = hashes.into();
        counts[HEAD_SECTIONS + 1] = windows.into();
        let header = FileHeader {
            magic: MAGIC,
            version: VERSION.into(),
            compression,
            proof,
            reserved: 0.into(),
            missing_padding: self.missing_padding.into(),
            blob: format::DigestField::new(self.identity.blob),
            diff_id: format::DigestField::new(self.identity.diff_id.0),
            blob_size: self.identity.blob_size.into(),
            uncompressed_size: self.identity.uncompressed_size.into(),
            counts,
        };
        let bytes: usize = sections.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(size_of::<FileHeader>() + bytes + CHECKSUM_BYTES + more);
        out.extend_from_slice(header.as_bytes());
        for (_, bytes) in sections {
            out.extend_from_slice(bytes);
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// The tail; empty if it is not here.
    pub fn encode_tail(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_tail(&mut out);
        out
    }

    fn append_tail(&self, out: &mut Vec<u8>) {
        let Tail::Loaded { hashes, windows } = &self.tail else { return };
        let start = out.len();
        out.extend_from_slice(hashes.as_bytes());
        out.extend_from_slice(windows);
        let checksum = blake3::hash(&out[start..]);
        out.extend_from_slice(checksum.as_bytes());
    }

    /// Where in [`LayerIndex::encode_tail`] the windows begin.
    pub fn windows_offset(&self) -> u64 {
        let hashes = match &self.tail {
            Tail::Loaded { hashes, .. } => hashes.len() as u64,
            Tail::Detached { hashes, .. } => *hashes,
        };
        hashes * size_of::<ContentHash>() as u64
    }

    /// Reads an index, with or without its tail, and checks that it is sound.
    ///
    /// Time and memory are linear in `file`, whatever it claims.
    ///
    /// # Errors
    /// Another version, damage, or a reference out of range.
    pub fn decode(file: &[u8]) -> Result<LayerIndex, DecodeError> {
        let (header, _) = FileHeader::read_from_prefix(file).map_err(|_| DecodeError::Length)?;
        let Header { mut index, counts } = Header::parse(&header)?;
        let mut rest = file.get(size_of::<FileHeader>()..).ok_or(DecodeError::Length)?;
        index.dirs = section(&mut rest, counts.dirs)?;
        index.entries = section(&mut rest, counts.entries)?;
        index.whiteouts = section(&mut rest, counts.whiteouts)?;
        index.runs = section(&mut rest, counts.runs)?;
        index.xattrs = section(&mut rest, counts.xattrs)?;
        index.spans = section(&mut rest, counts.spans)?;
        index.chunks = section(&mut rest, counts.chunks)?;
        index.bytes = section(&mut rest, counts.bytes)?;
        let head_bytes = file.len() - rest.len();
        check_sum(&mut rest, &file[..head_bytes])?;
        if !rest.is_empty() {
            let tail = rest;
            let hashes = section(&mut rest, counts.hashes)?;
            let windows = section(&mut rest, counts.windows)?;
            let tail_bytes = tail.len() - rest.len();
            check_sum(&mut rest, &tail[..tail_bytes])?;
            index.tail = Tail::Loaded { hashes, windows: Arc::new(windows) };
        }
        if !rest.is_empty() {
            return Err(DecodeError::Length);
        }
        index.check()?;
        Ok(index)
    }

    /// Proves the invariants that the accessors rely on.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        self.check_tables(self.entries.len() as u64)?;
        self.entries.iter().try_for_each(|entry| self.check_entry(entry))
    }

    /// The same of all tables but that of the entries, of which there are so many.
    pub(super) fn check_tables(&self, entries: u64) -> Result<(), DecodeError> {
        self.check_spans()?;
        if self.dirs.is_empty() || entries > MAX_ENTRIES as u64 {
            return Err(Inconsistent("no root or too many entries"));
        }
        // A tail that is elsewhere is known by these numbers alone.
        let most_windows = self.spans.len() as u64 * u64::from(MAX_WINDOW_BYTES);
        if self.hash_count() > entries || self.window_bytes() > most_windows {
            return Err(Inconsistent("an impossible tail"));
        }
        for (at, dir) in self.dirs.iter().enumerate() {
            let parent = dir.parent.get() as usize;
            if at != ROOT_DIR as usize && parent >= at {
                return Err(Inconsistent("a directory before its parent"));
            }
            if at == ROOT_DIR as usize && parent != at {
                return Err(Inconsistent("the root has a parent"));
            }
            let is_root = at == ROOT_DIR as usize;
            self.check_name(dir.name_offset.get(), dir.name_length.get().into(), is_root)?;
        }
        for whiteout in &self.whiteouts {
            self.check_dir(whiteout.dir.get())?;
            self.check_name(whiteout.name_offset.get(), whiteout.name_length.get(), true)?;
        }
        for xattr in &self.xattrs {
            self.check_text(xattr.name_offset.get(), xattr.name_length.get())?;
            self.check_text(xattr.value_offset.get(), xattr.value_length.get())?;
        }
        Ok(())
    }

    pub(super) fn check_entry(&self, entry: &format::EntryRecord) -> Result<(), DecodeError> {
        let is_root_name = entry.name_length.get() == 0;
        if is_root_name && (entry.dir.get() != ROOT_DIR || entry.kind != format::KIND_DIRECTORY) {
            return Err(Inconsistent("an entry without a name"));
        }
        self.check_dir(entry.dir.get())?;
        self.check_name(entry.name_offset.get(), entry.name_length.get().into(), true)?;
        if entry.mtime_nanoseconds.get() >= 1_000_000_000 || entry.mode.get() > 0o7777 {
            return Err(Inconsistent("mode or time out of range"));
        }
        let xattrs_end = u64::from(entry.first_xattr.get()) + u64::from(entry.xattr_count.get());
        if xattrs_end > self.xattrs.len() as u64 {
            return Err(Inconsistent("xattrs out of range"));
        }
        let hash = entry.hash.get();
        if hash != format::NO_HASH && u64::from(hash) >= self.hash_count() {
            return Err(Inconsistent("content hash out of range"));
        }
        let data = entry.data.get();
        let (high, low, extra) = ((data >> 32) as u32, data as u32, entry.extra.get());
        let size = entry.size.get();
        match entry.kind {
            format::KIND_FILE if size > i64::MAX as u64 => Err(Inconsistent("absurd file size")),
            format::KIND_FILE if entry.flags & format::ENTRY_SPARSE != 0 => {
                self.check_runs(low, extra, size)
            }
            format::KIND_FILE => match data.checked_add(size) {
                Some(end) if end <= self.identity.uncompressed_size => Ok(()),
                _ => Err(Inconsistent("content past the end of the layer")),
            },
            format::KIND_SYMLINK if extra as usize > MAX_SYMLINK_BYTES || extra == 0 => {
                Err(Inconsistent("symlink target too long or empty"))
            }
            format::KIND_SYMLINK => self.check_text(low, extra),
            format::KIND_HARD_LINK => {
                self.check_dir(high)?;
                self.check_name(low, extra, true)
            }
            format::KIND_DIRECTORY
            | format::KIND_CHAR_DEVICE
            | format::KIND_BLOCK_DEVICE
            | format::KIND_FIFO => Ok(()),
            _ => Err(Inconsistent("unknown kind of entry")),
        }
    }

    fn check_runs(&self, first: u32, count: u32, size: u64) -> Result<(), DecodeError> {
        let end = u64::from(first) + u64::from(count);
        let runs = self.runs.get(first as usize..end as usize);
        let mut file_end = 0;
        for run in runs.ok_or(Inconsistent("runs out of range"))? {
            let (offset, start, length) =
                (run.file_offset.get(), run.start.get(), run.length.get());
            let within =
                |from: u64, limit: u64| from.checked_add(length).is_some_and(|end| end <= limit);
            if offset < file_end
                || !within(offset, size)
                || !within(start, self.identity.uncompressed_size)
            {
                return Err(Inconsistent("a run out of order or out of range"));
            }
            file_end = offset + length;
        }
        Ok(())
    }

    fn hash_count(&self) -> u64 {
        match &self.tail {
            Tail::Loaded { hashes, .. } => hashes.len() as u64,
            Tail::Detached { hashes, .. } => *hashes,
        }
    }

    fn check_spans(&self) -> Result<(), DecodeError> {
        let mut end = 0;
        let mut compressed_start = 0;
        for (at, record) in self.spans.iter().enumerate() {
            let window_end =
                record.window_offset.get().checked_add(record.window_length.get().into());
            let begins = record.compressed_start.get();
            if record.restart > format::RESTART_BLOCK
                || record.check > format::CHECK_TRANSPORT
                || record.bits > 7
                || record.window_length.get() > MAX_WINDOW_BYTES
                || window_end.is_none_or(|end| end > self.window_bytes())
                || (at == 0 && record.restart == format::RESTART_CONTINUES)
            {
                return Err(Inconsistent("a malformed span"));
            }
            if begins < compressed_start
                || record.compressed_end.get() < begins
                || record.compressed_end.get() > self.identity.blob_size
            {
                return Err(Inconsistent("a span outside of the blob"));
            }
            compressed_start = begins;
            if record.start.get() != end
                || record.length.get() == 0
                || record.length.get() > MAX_SPAN_BYTES
            {
                return Err(Inconsistent("spans with gaps"));
            }
            self.check_chunks(record)?;
            end = record
                .start
                .get()
                .checked_add(record.length.get().into())
                .ok_or(Inconsistent("absurd span"))?;
        }
        if end != self.identity.uncompressed_size {
            return Err(Inconsistent("spans do not cover the layer"));
        }
        Ok(())
    }

    fn check_chunks(&self, span: &format::SpanRecord) -> Result<(), DecodeError> {
        // Bytes that nothing verifies are those of an index that says so, which no stored one does.
        if (span.check == format::CHECK_TRANSPORT) != (self.proof() == Proof::Transport) {
            return Err(Inconsistent("spans that are verified in another way than is said"));
        }
        if matches!(span.check, format::CHECK_CONTENT | format::CHECK_TRANSPORT) {
            return Ok(());
        }
        let first = span.first_chunk.get() as usize;
        let end = first.saturating_add(span.chunk_count.get() as usize);
        let chunks = self.chunks.get(first..end).ok_or(Inconsistent("chunks out of range"))?;
        let name = match (span.check, chunks) {
            (format::CHECK_COMPRESSED, [chunk]) => {
                if span.restart == format::RESTART_CONTINUES {
                    return Err(Inconsistent("a span whose compressed bytes are not its own"));
                }
                let Tail::Loaded { windows, .. } = &self.tail else {
                    return Err(Inconsistent("spans of compressed bytes without their windows"));
                };
                // In range: checked by the caller.
                let window = span.window_offset.get() as usize;
                let window = &windows[window..window + span.window_length.get() as usize];
                let length = u64::from(span.length.get());
                SpanDigest::of_compressed(chunk.digest, span.bits, window, length)
            }
            (format::CHECK_CHUNKS, chunks) => {
                let mut length = 0u64;
                let mut place = (span.compressed_start.get(), 0);
                for chunk in chunks {
                    length = length.saturating_add(chunk.length.get());
                    let next = (chunk.compressed_start.get(), chunk.skip.get());
                    if next < place || next.0 > span.compressed_end.get() {
                        return Err(Inconsistent("a chunk outside of its span"));
                    }
                    if chunk.skip.get() > MAX_CHUNK_SKIP {
                        return Err(Inconsistent("a chunk too far inside of its member"));
                    }
                    place = (next.0, next.1.saturating_add(chunk.length.get()));
                }
                if length != u64::from(span.length.get()) {
                    return Err(Inconsistent("chunks do not cover their span"));
                }
                let rows = chunks.iter().map(|c| (c.digest, c.length.get()));
                SpanDigest::of_chunks(rows)
            }
            _ => return Err(Inconsistent("chunks out of range")),
        };
        if name.0 != span.digest {
            return Err(Inconsistent("a span with a wrong name"));
        }
        Ok(())
    }

    fn check_dir(&self, dir: u32) -> Result<(), DecodeError> {
        if (dir as usize) < self.dirs.len() {
            Ok(())
        } else {
            Err(Inconsistent("no such directory"))
        }
    }

    fn check_name(&self, offset: u32, length: u32, may_be_empty: bool) -> Result<(), DecodeError> {
        self.check_text(offset, length)?;
        let name = self.text(offset, length);
        if name.len() > MAX_NAME_BYTES
            || (name.is_empty() && !may_be_empty)
            || matches!(name, b"." | b"..")
            || name.iter().any(|b| *b == 0 || *b == b'/')
        {
            return Err(Inconsistent("an impossible name"));
        }
        Ok(())
    }

    fn check_text(&self, offset: u32, length: u32) -> Result<(), DecodeError> {
        if u64::from(offset) + u64::from(length) > self.bytes.len() as u64 {
            return Err(Inconsistent("text out of range"));
        }
        Ok(())
    }
}

/// Takes a checksum off the front of `rest`, which must be that of `bytes`.
fn check_sum(rest: &mut &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
    let (sum, after) = rest.split_at_checked(CHECKSUM_BYTES).ok_or(DecodeError::Length)?;
    *rest = after;
    match blake3::hash(bytes).as_bytes() == sum {
        true => Ok(()),
        false => Err(DecodeError::Checksum),
    }
}

/// Splits `count` records off the front of `rest`.
fn section<T>(rest: &mut &[u8], count: u64) -> Result<Vec<T>, DecodeError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned + Copy,
{
    let length = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size_of::<T>()))
        .filter(|length| *length <= rest.len())
        .ok_or(DecodeError::Length)?;
    let (section, after) = rest.split_at(length);
    *rest = after;
    <[T]>::ref_from_bytes(section).map(<[T]>::to_vec).map_err(|_| DecodeError::Length)
}
