//! The entries of a ztoc as entries of a tar.

use super::budget::Budget;
use super::error::{Error, MAX_ENTRIES, shortened};
use super::flatbuffer::{Table, Vector};
use crate::extent::{Run, UncompressedOffset};
use crate::oci::days_from_epoch;
use crate::tar::{self, BLOCK_BYTES, FileType};

/// Fields of the table `FileMetadata`; `uname` (8) and `gname` (9) are of no use to a file system.
const NAME: usize = 0;
const TYPE: usize = 1;
const UNCOMPRESSED_OFFSET: usize = 2;
const UNCOMPRESSED_SIZE: usize = 3;
const LINK_NAME: usize = 4;
const MODE: usize = 5;
const UID: usize = 6;
const GID: usize = 7;
const MOD_TIME: usize = 10;
const DEV_MAJOR: usize = 11;
const DEV_MINOR: usize = 12;
const XATTRS: usize = 13;

/// Fields of the table `Xattr`.
const KEY: usize = 0;
const VALUE: usize = 1;

/// Prefix of the PAX records that are extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Prefix of the PAX records that make a file sparse (GNU tar manual, "Storing Sparse Files").
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// The largest xattr value that Linux takes (`XATTR_SIZE_MAX`).
const MAX_XATTR_VALUE_BYTES: usize = 65536;
/// The longest xattr name that Linux takes (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME_BYTES: usize = 255;
/// Extended attributes of one entry, as for the tars themselves.
const MAX_XATTRS: usize = 1024;

/// An extended attribute: name and value.
type Xattr = (Vec<u8>, Vec<u8>);

/// What one entry takes in memory besides its names.
const ENTRY_BYTES: usize = size_of::<tar::Entry>() + size_of::<Run>();
/// What one PAX record takes in memory at most besides its text.
const RECORD_BYTES: usize = size_of::<Xattr>();

/// Reads all entries of a tar of `tar_bytes`.
pub(super) fn parse(
    metadata: Vector<'_>,
    tar_bytes: u64,
    budget: &mut Budget,
) -> Result<Vec<tar::Entry>, Error> {
    let count = metadata.len();
    if count > MAX_ENTRIES {
        return Err(Error::TooManyEntries(count));
    }
    budget.take(count.saturating_mul(ENTRY_BYTES))?;
    let mut entries = Vec::with_capacity(count);
    // Where the next header may begin.
    let mut free = 0;
    for table in metadata.tables() {
        let table = table?;
        let name = table.bytes(NAME)?;
        let entry = entry(table, name, &mut free, tar_bytes, budget)
            .map_err(|reason| reason.for_entry(name))?;
        entries.push(entry);
    }
    Ok(entries)
}

/// What is wrong, with the entry or with the buffer it stands in.
enum Reason {
    Entry(&'static str),
    Type(Vec<u8>),
    Sparse,
    Buffer(Error),
}

impl From<Error> for Reason {
    fn from(error: Error) -> Reason {
        Reason::Buffer(error)
    }
}

impl Reason {
    fn for_entry(self, name: &[u8]) -> Error {
        let name = shortened(name);
        match self {
            Reason::Entry(what) => Error::Entry { name, what },
            Reason::Type(kind) => Error::UnknownType { name, kind: shortened(&kind) },
            Reason::Sparse => Error::Sparse { name },
            Reason::Buffer(error) => error,
        }
    }
}

fn entry(
    table: Table<'_>,
    name: &[u8],
    free: &mut u64,
    tar_bytes: u64,
    budget: &mut Budget,
) -> Result<tar::Entry, Reason> {
    let kind = match table.bytes(TYPE)? {
        b"reg" => FileType::File,
        b"hardlink" => FileType::HardLink,
        b"symlink" => FileType::Symlink,
        b"char" => FileType::CharDevice,
        b"block" => FileType::BlockDevice,
        b"dir" => FileType::Directory,
        b"fifo" => FileType::Fifo,
        other => return Err(Reason::Type(other.to_vec())),
    };
    // Some writers give links the size of their target; only files have content.
    let size = match kind {
        FileType::File => table.size(UNCOMPRESSED_SIZE, "uncompressed_size")?,
        _ => 0,
    };
    let start = table.size(UNCOMPRESSED_OFFSET, "uncompressed_offset")?;
    *free = place(*free, start, size, tar_bytes).map_err(Reason::Entry)?;
    let (mtime_seconds, mtime_nanoseconds) = rfc3339(table.bytes(MOD_TIME)?)
        .ok_or(Reason::Entry("its modification time is not in RFC 3339 form"))?;
    let link_target = match kind {
        FileType::HardLink | FileType::Symlink => table.bytes(LINK_NAME)?,
        _ => &[],
    };
    if name.contains(&0) || link_target.contains(&0) {
        return Err(Reason::Entry("its name or link target contains a NUL"));
    }
    budget.take(name.len() + link_target.len())?;
    let device = |id| {
        let number = u32::try_from(table.i64(id)?);
        number.map_err(|_| Reason::Entry("its device numbers are out of range"))
    };
    let device = match kind {
        FileType::CharDevice | FileType::BlockDevice => (device(DEV_MAJOR)?, device(DEV_MINOR)?),
        _ => (0, 0),
    };
    let runs = match size {
        0 => Vec::new(),
        length => vec![Run { file_offset: 0, start: UncompressedOffset(start), length }],
    };
    Ok(tar::Entry {
        path: name.to_vec(),
        kind,
        // The field is the tar header's, with whatever its writer put above the permissions.
        mode: (table.i64(MODE)? & 0o7777) as u32,
        uid: table.u32(UID)?,
        gid: table.u32(GID)?,
        mtime_seconds,
        mtime_nanoseconds,
        size,
        link_target: link_target.to_vec(),
        device,
        xattrs: xattrs(table.vector(XATTRS)?, kind, budget)?,
        runs,
        sparse: false,
    })
}

/// Checks where the content of an entry lies: behind a header of its own, which begins at `free` or
/// later, and inside the tar. Returns where the next header may begin.
fn place(free: u64, start: u64, size: u64, tar_bytes: u64) -> Result<u64, &'static str> {
    let block = BLOCK_BYTES as u64;
    if !start.is_multiple_of(block) {
        return Err("its offset is not a multiple of 512");
    }
    if free.checked_add(block).is_none_or(|first| start < first) {
        return Err("it overlaps the entry before it, or is out of order");
    }
    match start.checked_add(size) {
        Some(end) if end <= tar_bytes => {
            end.checked_next_multiple_of(block).ok_or("it is too large")
        }
        _ => Err("it reaches past the end of the layer"),
    }
}

/// The extended attributes among the PAX records of an entry, sorted. The other records have been applied
/// to its fields, except for a sparse map, for which a ztoc has no field.
fn xattrs(records: Vector<'_>, kind: FileType, budget: &mut Budget) -> Result<Vec<Xattr>, Reason> {
    let mut xattrs: Vec<Xattr> = Vec::new();
    budget.take(records.len().saturating_mul(RECORD_BYTES))?;
    for record in records.tables() {
        let record = record?;
        let key = record.bytes(KEY)?;
        if key.starts_with(SPARSE_PREFIX) && kind == FileType::File {
            return Err(Reason::Sparse);
        }
        let Some(name) = key.strip_prefix(XATTR_PREFIX) else { continue };
        if !name.is_empty() && !tar::is_linux_xattr(name) {
            continue;
        }
        let value = record.bytes(VALUE)?;
        if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES || name.contains(&0) {
            return Err(Reason::Entry("an xattr name is empty, too long or has a NUL"));
        }
        if value.len() > MAX_XATTR_VALUE_BYTES {
            return Err(Reason::Entry("an xattr is larger than 64 KiB"));
        }
        if xattrs.len() >= MAX_XATTRS {
            return Err(Reason::Entry("it has more than 1024 xattrs"));
        }
        budget.take(name.len() + value.len())?;
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    xattrs.sort_unstable();
    if xattrs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Reason::Entry("it has two xattrs of one name"));
    }
    Ok(xattrs)
}

/// A time as Go's `time.RFC3339Nano` writes it, in any zone: seconds since the epoch, rounded
/// down, and nanoseconds. Years are four digits, so 0 to 9999; stricter than [`parse_time`](crate::oci::parse_time).
fn rfc3339(text: &[u8]) -> Option<(i64, u32)> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |value, digit| match digit {
            b'0'..=b'9' => Some(value * 10 + i64::from(digit - b'0')),
            _ => None,
        })
    };
    let (fixed, rest) = text.split_at_checked(b"2006-01-02T15:04:05".len())?;
    let separators = [fixed[4], fixed[7], fixed[10], fixed[13], fixed[16]];
    if separators != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(&fixed[..4])?, number(&fixed[5..7])?, number(&fixed[8..10])?);
    let hour = number(&fixed[11..13]).filter(|hour| *hour < 24)?;
    let minute = number(&fixed[14..16]).filter(|minute| *minute < 60)?;
    let second = number(&fixed[17..]).filter(|second| *second < 60)?;

    let digits = match rest.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|b| b.is_ascii_digit()).count(),
        None => 0,
    };
    let (fraction, zone) = match digits {
        0 => (&b""[..], rest),
        1..=9 => (&rest[1..=digits], &rest[digits + 1..]),
        _ => return None,
    };
    let scale = 10i64.pow(9 - fraction.len() as u32);
    let nanoseconds = u32::try_from(number(fraction)? * scale).ok()?;

    let ahead = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h @ .., b':', m1, m2] if h.len() == 2 => {
            let hours = number(h).filter(|hours| *hours < 24)?;
            let minutes = number(&[*m1, *m2]).filter(|minutes| *minutes < 60)?;
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = days_from_epoch(year, month, day)?;
    Some((days * 86400 + hour * 3600 + minute * 60 + second - ahead, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2006-01-02T15:04:05.999999999Z", Some((1_136_214_245, 999_999_999))),
            ("2006-01-02T15:04:05.5+07:00", Some((1_136_189_045, 500_000_000))),
            ("2006-01-02T15:04:05-00:30", Some((1_136_216_045, 0))),
            ("1969-12-31T23:59:58.5Z", Some((-2, 500_000_000))),
            ("1969-12-31T23:59:59.000000001Z", Some((-1, 1))),
            ("1970-01-01T01:00:00+01:00", Some((0, 0))),
            ("1900-03-01T00:00:00Z", Some((-2_203_891_200, 0))),
            ("1901-12-13T20:45:52Z", Some((i64::from(i32::MIN), 0))),
            ("2000-02-29T00:00:00Z", Some((951_782_400, 0))),
            ("2038-01-19T03:14:08Z", Some((1 << 31, 0))),
            ("2100-12-31T23:59:59Z", Some((4_133_980_799, 0))),
            ("0000-01-01T00:00:00Z", Some((-62_167_219_200, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("9999-12-31T23:59:59Z", Some((253_402_300_799, 0))),
            // What Go writes, without an error, for a year that has not four digits.
            ("", None),
            ("10000-01-01T00:00:00Z", None),
            ("-001-01-01T00:00:00Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("2001-04-31T00:00:00Z", None),
            ("2001-00-01T00:00:00Z", None),
            ("2001-13-01T00:00:00Z", None),
            ("2001-01-00T00:00:00Z", None),
            ("2001-01-01T24:00:00Z", None),
            ("2001-01-01T00:60:00Z", None),
            ("2001-01-01T00:00:60Z", None),
            ("2001-01-01 00:00:00Z", None),
            ("2001-01-01T00:00:00", None),
            ("2001-01-01T00:00:00z", None),
            ("2001-01-01T00:00:00.Z", None),
            ("2001-01-01T00:00:00.1234567890Z", None),
            ("2001-01-01T00:00:00+0100", None),
            ("2001-01-01T00:00:00+24:00", None),
            ("2001-01-01T00:00:00+01:60", None),
            ("2001-01-01T00:00:00Zx", None),
            ("+001-01-01T00:00:00Z", None),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), expected, "{text}");
        }
    }
}
