//! The JSON of a TOC: rows to entries and chunks.
//!
//! Both formats share it (stargz-snapshotter, estargz/types.go; containers/storage,
//! pkg/chunked/internal/minimal/compression.go). Rows are taken one at a time, so that memory goes
//! by what is kept of them and not by what JSON can claim in a few bytes. As Go reads it: `null`
//! stands for any missing value, and unknown fields are passed over.
//!
//! A regular file is a `reg` row and, if it has several chunks, a `chunk` row for each further one.
//! A chunk without a size reaches to the end of the file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::error::{Error, Fault, MAX_ROWS};
use super::table::{Chunk, MAX_SKIP_BYTES, Toc, TocEntry};
use crate::codec::plausible_uncompressed_bytes;
use crate::digest::{Algorithm, Digest};
use crate::extent::{Run, UncompressedOffset};
use crate::oci::parse_time;
use crate::tar::{self, FileType};

/// The largest xattr value that Linux takes (`XATTR_SIZE_MAX`).
const MAX_XATTR_VALUE_BYTES: usize = 65536;

/// The longest xattr name that Linux takes (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME_BYTES: usize = 255;

/// Extended attributes accepted for one entry, as in tars.
const MAX_XATTRS: usize = 1024;

/// What Go puts in the place of bytes that are not UTF-8.
const REPLACEMENT: char = '\u{fffd}';

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One row as written. Go leaves zero values out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    size: Option<i64>,
    modtime: Option<String>,
    link_name: Option<String>,
    /// The mode field of the tar header, often with the bits of the file's type.
    mode: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    dev_major: Option<i64>,
    dev_minor: Option<i64>,
    /// Values in base64.
    xattrs: Option<BTreeMap<String, Option<String>>>,
    digest: Option<String>,
    offset: Option<i64>,
    inner_offset: Option<i64>,
    end_offset: Option<i64>,
    chunk_offset: Option<i64>,
    chunk_size: Option<i64>,
    chunk_digest: Option<String>,
    chunk_type: Option<String>,
}

/// Parses a whole TOC. Content has to end before `content_end`, an offset in the blob.
pub(super) fn parse(json: &[u8], content_end: u64) -> Result<Toc, Error> {
    let mut collector = Collector {
        content_end,
        version: 0,
        rows: 0,
        entries: Vec::new(),
        pieces: Vec::new(),
        open: None,
        refused: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = Document(&mut collector).deserialize(&mut deserializer);
    if let Err(error) = parsed.and_then(|()| deserializer.end()) {
        return Err(collector.refused.unwrap_or(Error::Json(error)));
    }
    collector.finish()
}

/// Collects rows.
struct Collector {
    content_end: u64,
    version: i64,
    rows: usize,
    entries: Vec<TocEntry>,
    pieces: Vec<Piece>,
    /// The file whose chunks are being read.
    open: Option<OpenFile>,
    /// Why the parser was stopped.
    refused: Option<Error>,
}

/// A regular file with the chunks that were read of it.
struct OpenFile {
    name: String,
    entry: usize,
    size: u64,
    digest: Option<[u8; 32]>,
    end_offset: u64,
    chunks: Vec<ChunkRow>,
}

/// The chunk part of a row.
struct ChunkRow {
    file_offset: u64,
    /// 0: to the end of the file.
    length: u64,
    offset: u64,
    inner_offset: u64,
    digest: Option<[u8; 32]>,
    zeros: bool,
}

/// A chunk before its place in the virtual space is known.
struct Piece {
    entry: usize,
    file_offset: u64,
    length: u64,
    /// Place in the blob.
    start: u64,
    /// Where the TOC says that it ends in the blob, or 0.
    end: u64,
    skip: u64,
    digest: [u8; 32],
}

impl Collector {
    fn row(&mut self, mut row: Row) -> Result<(), Error> {
        self.rows += 1;
        if self.rows > MAX_ROWS {
            return Err(Error::TooManyRows);
        }
        let name = row.name.take().unwrap_or_default();
        if row.kind.as_deref() != Some("chunk") {
            self.close()?;
            return self.entry(&name, row).map_err(|fault| refusal(&name, fault));
        }
        // stargz leaves the names of chunks out of account, so they may be missing.
        let file = self.open.as_mut().filter(|file| name.is_empty() || file.name == name);
        let file = file.ok_or(Fault::Stray);
        let chunk = file.and_then(|file| Ok((file, ChunkRow::new(&row)?)));
        let (file, chunk) = chunk.map_err(|fault| refusal(&name, fault))?;
        file.chunks.push(chunk);
        Ok(())
    }

    /// A row that begins an entry.
    fn entry(&mut self, name: &str, row: Row) -> Result<(), Fault> {
        let kind = match row.kind.as_deref().unwrap_or_default() {
            "reg" => FileType::File,
            "dir" => FileType::Directory,
            "symlink" => FileType::Symlink,
            "hardlink" => FileType::HardLink,
            "char" => FileType::CharDevice,
            "block" => FileType::BlockDevice,
            "fifo" => FileType::Fifo,
            other => return Err(Fault::Type(shortened(other))),
        };
        let link_target = match kind {
            FileType::Symlink | FileType::HardLink => row.link_name.as_deref().unwrap_or_default(),
            _ => "",
        };
        if name.contains(REPLACEMENT) || link_target.contains(REPLACEMENT) {
            return Err(Fault::LossyName);
        }
        let device = match kind {
            FileType::CharDevice | FileType::BlockDevice => {
                (number(row.dev_major, "devMajor")?, number(row.dev_minor, "devMinor")?)
            }
            _ => (0, 0),
        };
        let (mtime_seconds, mtime_nanoseconds) = match row.modtime.as_deref() {
            // stargz leaves the epoch itself out.
            None | Some("") => (0, 0),
            Some(text) => parse_time(text).ok_or_else(|| Fault::Time(shortened(text)))?,
        };
        let is_file = kind == FileType::File;
        let size = if is_file { number(row.size, "size")? } else { 0 };
        let digest = if is_file { sha256(row.digest.as_deref())? } else { None };
        let entry = tar::Entry {
            path: name.as_bytes().to_vec(),
            kind,
            mode: (row.mode.unwrap_or(0) & 0o7777) as u32,
            uid: number(row.uid, "uid")?,
            gid: number(row.gid, "gid")?,
            mtime_seconds,
            mtime_nanoseconds,
            size,
            link_target: link_target.as_bytes().to_vec(),
            device,
            xattrs: xattrs(row.xattrs.as_ref())?,
            runs: Vec::new(),
            sparse: false,
        };
        let index = self.entries.len();
        self.entries.push(TocEntry { entry, content_hash: digest.filter(|_| size > 0) });
        if is_file {
            let chunks = if size > 0 { vec![ChunkRow::new(&row)?] } else { Vec::new() };
            let end_offset = number(row.end_offset, "endOffset")?;
            let name = name.to_owned();
            self.open = Some(OpenFile { name, entry: index, size, digest, end_offset, chunks });
        }
        Ok(())
    }

    /// All chunks of the open file have come.
    fn close(&mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(file) => self.chunks_of(&file).map_err(|fault| refusal(&file.name, fault)),
            None => Ok(()),
        }
    }

    fn chunks_of(&mut self, file: &OpenFile) -> Result<(), Fault> {
        let size = file.size;
        let is_only = file.chunks.len() == 1;
        let mut file_offset = 0;
        let mut previous = None;
        for (at, chunk) in file.chunks.iter().enumerate() {
            if chunk.file_offset != file_offset {
                return Err(Fault::ChunkOffset { expected: file_offset, got: chunk.file_offset });
            }
            let rest = size - file_offset;
            let length = if chunk.length == 0 { rest } else { chunk.length };
            if length == 0 || length > rest {
                return Err(Fault::Sizes { size });
            }
            file_offset += length;
            if chunk.zeros {
                continue;
            }
            // The first member of a blob begins with a tar header.
            let (start, skip) = (chunk.offset, chunk.inner_offset);
            if (start, skip) == (0, 0) {
                return Err(Fault::NoPlace);
            }
            if start >= self.content_end {
                return Err(Fault::Place(start));
            }
            if skip > MAX_SKIP_BYTES {
                return Err(Fault::Skip(skip));
            }
            if previous >= Some((start, skip)) {
                return Err(Fault::Order);
            }
            previous = Some((start, skip));
            if is_only && file.digest.zip(chunk.digest).is_some_and(|(a, b)| a != b) {
                return Err(Fault::Contradiction);
            }
            let digest = chunk.digest.or(file.digest.filter(|_| is_only));
            let digest = digest.ok_or(Fault::NoDigest)?;
            let end = match file.chunks.get(at + 1) {
                // Chunks may share a member, and holes need not have a place.
                Some(next) if next.offset > start && next.offset <= self.content_end => next.offset,
                Some(_) => 0,
                None => file.end_offset,
            };
            if end != 0 && (end <= start || end > self.content_end) {
                return Err(Fault::Place(end));
            }
            let (entry, file_offset) = (file.entry, chunk.file_offset);
            if is_only {
                self.entries[entry].content_hash = Some(digest);
            }
            self.pieces.push(Piece { entry, file_offset, length, start, end, skip, digest });
        }
        if file_offset != size {
            return Err(Fault::Sizes { size });
        }
        Ok(())
    }

    fn refusal(&self, piece: &Piece, fault: Fault) -> Error {
        let path = &self.entries[piece.entry].entry.path;
        refusal(&String::from_utf8_lossy(path), fault)
    }

    /// Lays the content out in the order of the blob.
    fn finish(mut self) -> Result<Toc, Error> {
        self.close()?;
        if self.version != 1 {
            return Err(Error::Version(self.version));
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by_key(|piece| (piece.start, piece.skip));
        for pair in pieces.windows(2) {
            let end = pair[0].skip.checked_add(pair[0].length);
            if pair[0].start == pair[1].start && end.is_none_or(|end| end > pair[1].skip) {
                return Err(self.refusal(&pair[1], Fault::Overlap));
            }
        }
        // Without a word on it a member ends at the latest where the next one begins.
        let (mut member, mut next_member) = (self.content_end, self.content_end);
        for piece in pieces.iter_mut().rev() {
            if piece.start != member {
                (member, next_member) = (piece.start, member);
            }
            if piece.end > next_member {
                return Err(self.refusal(piece, Fault::Overlap));
            }
            if piece.end == 0 {
                piece.end = next_member;
            }
        }
        let compressed = self.content_end;
        let plausible = plausible_uncompressed_bytes(compressed);
        let mut chunks = Vec::with_capacity(pieces.len());
        let mut content_bytes = 0u64;
        for piece in pieces {
            let (start, length) = (UncompressedOffset(content_bytes), piece.length);
            content_bytes = content_bytes.saturating_add(length);
            if content_bytes > plausible {
                return Err(Error::Implausible { bytes: content_bytes, compressed });
            }
            // The pieces of a file come in its order.
            let runs = &mut self.entries[piece.entry].entry.runs;
            add_run(runs, piece.file_offset, start, length);
            let (compressed, skip, digest) = (piece.start..piece.end, piece.skip, piece.digest);
            chunks.push(Chunk { start, length, compressed, skip, digest });
        }
        for TocEntry { entry, .. } in &mut self.entries {
            let whole = entry.runs.first().map_or(0, |run| run.length);
            entry.sparse = whole != entry.size;
        }
        Ok(Toc { entries: self.entries, chunks, content_bytes })
    }
}

/// Appends to the last run where the new bytes continue it.
fn add_run(runs: &mut Vec<Run>, file_offset: u64, start: UncompressedOffset, length: u64) {
    if let Some(last) = runs.last_mut()
        && last.file_end() == file_offset
        && last.start.checked_add(last.length) == Some(start)
    {
        last.length += length;
        return;
    }
    runs.push(Run { file_offset, start, length });
}

impl ChunkRow {
    fn new(row: &Row) -> Result<ChunkRow, Fault> {
        let zeros = match row.chunk_type.as_deref() {
            None | Some("") => false,
            Some("zeros") => true,
            Some(other) => return Err(Fault::ChunkType(shortened(other))),
        };
        Ok(ChunkRow {
            file_offset: number(row.chunk_offset, "chunkOffset")?,
            length: number(row.chunk_size, "chunkSize")?,
            offset: number(row.offset, "offset")?,
            inner_offset: number(row.inner_offset, "innerOffset")?,
            digest: sha256(row.chunk_digest.as_deref())?,
            zeros,
        })
    }
}

fn number<T: TryFrom<i64>>(value: Option<i64>, field: &'static str) -> Result<T, Fault> {
    let value = value.unwrap_or(0);
    T::try_from(value).map_err(|_| Fault::Range { field, value })
}

fn sha256(text: Option<&str>) -> Result<Option<[u8; 32]>, Fault> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let digest: Digest = text.parse().map_err(Fault::Digest)?;
    if digest.algorithm() != Algorithm::Sha256 {
        return Err(Fault::NotSha256);
    }
    Ok(digest.hash().try_into().ok())
}

/// In the order of their names, as Go writes maps.
fn xattrs(map: Option<&BTreeMap<String, Option<String>>>) -> Result<Xattrs, Fault> {
    let Some(map) = map else { return Ok(Vec::new()) };
    let is_shown =
        |(name, _): &(&String, _)| name.is_empty() || tar::is_linux_xattr(name.as_bytes());
    if map.iter().filter(is_shown).count() > MAX_XATTRS {
        return Err(Fault::Xattr("more than 1024 of them"));
    }
    let decode = |(name, value): (&String, &Option<String>)| {
        if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES || name.contains('\0') {
            return Err(Fault::Xattr("a name is empty, too long or has a NUL"));
        }
        if name.contains(REPLACEMENT) {
            return Err(Fault::LossyName);
        }
        let value = STANDARD.decode(value.as_deref().unwrap_or_default());
        let value = value.map_err(|_| Fault::Xattr("a value is not base64"))?;
        if value.len() > MAX_XATTR_VALUE_BYTES {
            return Err(Fault::Xattr("a value is larger than 64 KiB"));
        }
        Ok((name.as_bytes().to_vec(), value))
    };
    map.iter().filter(is_shown).map(decode).collect()
}

fn refusal(name: &str, fault: Fault) -> Error {
    Error::Row { name: shortened(name), fault }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The top level of the JSON.
struct Document<'a>(&'a mut Collector);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => self.0.version = map.next_value::<Option<i64>>()?.unwrap_or(0),
                // Go takes the last of two lists, others the first.
                "entries" if seen => return Err(A::Error::duplicate_field("entries")),
                "entries" => {
                    seen = true;
                    map.next_value_seed(Rows(self.0))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The list of rows.
struct Rows<'a>(&'a mut Collector);

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Row>()? {
            if let Err(error) = self.0.row(row) {
                self.0.refused = Some(error);
                return Err(A::Error::custom("a row was refused"));
            }
        }
        Ok(())
    }
}
