//! Headers of packages.
//!
//! ```text
//! header   number of index entries u32, bytes of data u32, the index, the data; all big-endian
//! entry    tag u32, type u32, offset in the data u32, count u32
//! ```
//!
//! (rpm, `docs/manual/format_v4.md` and `lib/header.c`; in databases the magic in front is left out.) Tags and their data
//! stand in the order of their numbers, those of files far behind the name. What was added at installation comes
//! last and replaces what has the same tag, so of several entries the last counts.

use crate::packages::error::Error;
use crate::packages::inventory::Entry;
use crate::packages::limits::MAX_FIELD_BYTES;
use crate::packages::numbers::be32;
use crate::packages::prefix::Prefix;

const HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 16;

/// Most entries and bytes of data (`HEADER_TAGS_MAX`, `HEADER_DATA_MAX`).
const MAX_ENTRIES: u32 = 0xffff;
const MAX_DATA_BYTES: u32 = 0x0fff_ffff;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCHITECTURE: u32 = 1022;

/// Types of data. Those of texts; of several, the first counts.
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Offsets in the data.
#[derive(Default)]
struct Places {
    name: Option<u32>,
    version: Option<u32>,
    release: Option<u32>,
    epoch: Option<u32>,
    architecture: Option<u32>,
}

/// Reads a header, as far as it is needed.
pub(super) fn read(header: &mut dyn Prefix) -> Result<Entry, Error> {
    const SHORT: Error = Error::Corrupt("a header ends too early");
    let head = header.first(HEAD_BYTES)?;
    let (entries, data_bytes) = be32(head, 0).zip(be32(head, 4)).ok_or(SHORT)?;
    if entries > MAX_ENTRIES || data_bytes > MAX_DATA_BYTES {
        return Err(Error::Corrupt("a header has an impossible size"));
    }
    let data_start = HEAD_BYTES + entries as usize * ENTRY_BYTES;
    let index = header.first(data_start)?.get(HEAD_BYTES..data_start).ok_or(SHORT)?;
    let mut places = Places::default();
    for entry in index.chunks_exact(ENTRY_BYTES) {
        let number = |at: usize| be32(entry, at).unwrap_or_default();
        let (kind, offset) = (number(4), number(8));
        let is_text = matches!(kind, STRING | STRING_ARRAY | I18N_STRING);
        let place = match number(0) {
            NAME if is_text => &mut places.name,
            VERSION if is_text => &mut places.version,
            RELEASE if is_text => &mut places.release,
            ARCHITECTURE if is_text => &mut places.architecture,
            EPOCH if kind == INT32 => &mut places.epoch,
            _ => continue,
        };
        if offset >= data_bytes || number(12) == 0 {
            return Err(Error::Corrupt("an entry of a header lies outside of its data"));
        }
        *place = Some(offset);
    }
    let mut data = Data { header, start: data_start, size: data_bytes as usize };
    let name = data.text(places.name)?;
    let mut version = match places.epoch {
        Some(place) => match data.number(place)? {
            0 => Vec::new(),
            epoch => format!("{epoch}:").into_bytes(),
        },
        None => Vec::new(),
    };
    let (upstream, release) = (data.text(places.version)?, data.text(places.release)?);
    if upstream.is_empty() || release.is_empty() {
        return Err(Error::Corrupt("a package has no version"));
    }
    version.extend([&upstream[..], b"-", &release].concat());
    Entry::new(&name, &version, &data.text(places.architecture)?)
}

/// The data of a header.
struct Data<'a> {
    header: &'a mut dyn Prefix,
    start: usize,
    size: usize,
}

impl Data<'_> {
    /// Bytes of it, fewer where it ends.
    fn bytes(&mut self, offset: u32, length: usize) -> Result<&[u8], Error> {
        let end = self.size.min((offset as usize).saturating_add(length));
        let bytes = self.header.first(self.start + end)?;
        Ok(bytes.get(self.start + offset as usize..).unwrap_or_default())
    }

    fn text(&mut self, place: Option<u32>) -> Result<Vec<u8>, Error> {
        let Some(place) = place else { return Ok(Vec::new()) };
        let bytes = self.bytes(place, MAX_FIELD_BYTES + 1)?;
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) => Ok(bytes[..end].to_vec()),
            None if bytes.len() > MAX_FIELD_BYTES => Err(Error::LongField),
            None => Err(Error::Corrupt("a text of a header has no end")),
        }
    }

    fn number(&mut self, place: u32) -> Result<u32, Error> {
        be32(self.bytes(place, 4)?, 0).ok_or(Error::Corrupt("a number of a header has no end"))
    }
}
