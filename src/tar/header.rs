//! One 512-byte header block: ustar, GNU, star and V7 fields.
//!
//! Field places are those of POSIX ustar (pax(1), "ustar Interchange Format") and of GNU tar's
//! `struct oldgnu_header`. Numbers are octal text or, with the top bit set, base-256 in two's
//! complement (GNU).

use std::ops::Range;

use super::block::BLOCK_BYTES;
use super::entry::FileType;
use super::error::Error;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPEFLAG: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC_AND_VERSION: Range<usize> = 257..265;
const DEV_MAJOR: Range<usize> = 329..337;
const DEV_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_ATIME: Range<usize> = 476..488;
const STAR_CTIME: Range<usize> = 488..500;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_ATIME: Range<usize> = 345..357;
const GNU_CTIME: Range<usize> = 357..369;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
const GNU_EXTENSION_SPARSE: Range<usize> = 0..504;
const GNU_EXTENSION_IS_EXTENDED: usize = 504;
/// One (offset, length) pair of a GNU sparse map: two numeric fields of 12 bytes.
const SPARSE_PAIR_BYTES: usize = 24;

/// Numbers that every header has, and those of formats with device numbers; with their names. Go
/// refuses a header in which one of them is no number, whatever its type and its PAX records.
const NUMBERS: [(Range<usize>, &str); 5] =
    [(SIZE, "size"), (MODE, "mode"), (UID, "uid"), (GID, "gid"), (MTIME, "mtime")];
const DEVICE_NUMBERS: [(Range<usize>, &str); 2] =
    [(DEV_MAJOR, "devmajor"), (DEV_MINOR, "devminor")];
const STAR_NUMBERS: [(Range<usize>, &str); 2] = [(STAR_ATIME, "atime"), (STAR_CTIME, "ctime")];

/// The fields of a header block.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) typeflag: u8,
    /// Name with the ustar prefix in front.
    pub(super) path: Vec<u8>,
    pub(super) link_name: Vec<u8>,
    pub(super) is_gnu: bool,
    block: Vec<u8>,
    has_devices: bool,
}

impl Header {
    /// Reads a header block; of a layer (`!of_names`) every number in it has to be one.
    pub(super) fn parse(block: &[u8], at: u64, of_names: bool) -> Result<Header, Error> {
        check_sum(block).ok_or(Error::Checksum { at })?;
        let magic = &block[MAGIC_AND_VERSION];
        let gnu = magic == b"ustar  \0";
        let ustar = magic.starts_with(b"ustar\0");
        let star = ustar && &block[STAR_TRAILER] == b"tar\0";
        let has_devices = gnu || ustar;
        let numbers = NUMBERS
            .into_iter()
            .chain(DEVICE_NUMBERS.into_iter().filter(|_| has_devices))
            .chain(STAR_NUMBERS.into_iter().filter(|_| star));
        for (range, field) in numbers.filter(|_| !of_names) {
            number(&block[range]).ok_or(Error::Number { at, field })?;
        }
        let prefix = if star {
            until_nul(&block[STAR_PREFIX])
        } else if ustar || (gnu && gnu_with_prefix(block)) {
            until_nul(&block[PREFIX])
        } else {
            b""
        };
        let name = until_nul(&block[NAME]);
        let path = match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, name].join(&b'/'),
        };
        Ok(Header {
            typeflag: block[TYPEFLAG],
            path,
            link_name: until_nul(&block[LINK_NAME]).to_vec(),
            is_gnu: gnu,
            block: block.to_vec(),
            has_devices,
        })
    }

    pub(super) fn kind(&self, at: u64) -> Result<FileType, Error> {
        Ok(match self.typeflag {
            // '7' is a contiguous file, which POSIX lets everybody treat as a regular one.
            0 | b'0' | b'7' | b'S' => FileType::File,
            b'1' => FileType::HardLink,
            b'2' => FileType::Symlink,
            b'3' => FileType::CharDevice,
            b'4' => FileType::BlockDevice,
            b'5' => FileType::Directory,
            b'6' => FileType::Fifo,
            other => return Err(Error::UnknownType { at, kind: char::from(other) }),
        })
    }

    fn field(&self, range: Range<usize>, field: &'static str, at: u64) -> Result<i64, Error> {
        number(&self.block[range]).ok_or(Error::Number { at, field })
    }

    pub(super) fn mode(&self, at: u64) -> Result<u32, Error> {
        // Writers differ in what they put above the permission bits, so those are cut off here.
        self.field(MODE, "mode", at).map(|mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self, at: u64) -> Result<i64, Error> {
        self.field(UID, "uid", at)
    }

    pub(super) fn gid(&self, at: u64) -> Result<i64, Error> {
        self.field(GID, "gid", at)
    }

    pub(super) fn mtime(&self, at: u64) -> Result<i64, Error> {
        self.field(MTIME, "mtime", at)
    }

    pub(super) fn size_field(&self, at: u64) -> Result<u64, Error> {
        let value = self.field(SIZE, "size", at)?;
        u64::try_from(value).map_err(|_| Error::Range { at, field: "size", value })
    }

    pub(super) fn device(&self, at: u64) -> Result<(u32, u32), Error> {
        if !self.has_devices {
            return Ok((0, 0));
        }
        let part = |range, field| {
            let value = self.field(range, field, at)?;
            u32::try_from(value).map_err(|_| Error::Range { at, field, value })
        };
        Ok((part(DEV_MAJOR, "devmajor")?, part(DEV_MINOR, "devminor")?))
    }
}

/// Go before 1.8 wrote a ustar prefix into GNU headers, over the access and change times. Such a
/// header is known by times that are no numbers.
fn gnu_with_prefix(block: &[u8]) -> bool {
    let time_is_odd =
        |range: Range<usize>| block[range.start] != 0 && number(&block[range]).is_none();
    block[TYPEFLAG] != b'S'
        && (time_is_odd(GNU_ATIME) || time_is_odd(GNU_CTIME))
        && until_nul(&block[PREFIX]).is_ascii()
}

/// The sum of all bytes with the checksum field taken as spaces. Some old writers summed signed
/// bytes, and every reader accepts those too.
fn check_sum(block: &[u8]) -> Option<()> {
    let stored = number(&block[CHECKSUM])?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    (stored == unsigned || stored == signed).then_some(())
}

/// What an old GNU sparse header says.
#[derive(Debug)]
pub(super) struct GnuSparse {
    pub(super) real_size: u64,
    /// The first pairs of the map: (offset, length).
    pub(super) map: Vec<(u64, u64)>,
    /// Whether extension blocks with more of it follow.
    pub(super) extended: bool,
}

pub(super) fn gnu_sparse(block: &[u8]) -> Result<GnuSparse, &'static str> {
    let real_size = number(&block[GNU_REAL_SIZE])
        .and_then(|n| u64::try_from(n).ok())
        .ok_or("the real size is not a number")?;
    let mut map = Vec::new();
    sparse_pairs(&block[GNU_SPARSE], &mut map)?;
    Ok(GnuSparse { real_size, map, extended: block[GNU_IS_EXTENDED] != 0 })
}

/// Adds the pairs of an extension block to `map`; true if another block follows.
pub(super) fn sparse_extension(
    block: &[u8],
    map: &mut Vec<(u64, u64)>,
) -> Result<bool, &'static str> {
    sparse_pairs(&block[GNU_EXTENSION_SPARSE], map)?;
    Ok(block[GNU_EXTENSION_IS_EXTENDED] != 0)
}

fn sparse_pairs(bytes: &[u8], map: &mut Vec<(u64, u64)>) -> Result<(), &'static str> {
    for pair in bytes.chunks_exact(SPARSE_PAIR_BYTES) {
        // An empty offset field ends the map.
        if pair[0] == 0 {
            break;
        }
        let value = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok());
        let (offset, length) = pair.split_at(SPARSE_PAIR_BYTES / 2);
        let pair = value(offset).zip(value(length)).ok_or("an offset is not a number")?;
        map.push(pair);
    }
    Ok(())
}

/// The bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A numeric field: octal text, blank for zero, or base-256.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let trim = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !trim(b)).unwrap_or(field.len());
    let digits = until_nul(&field[start..]);
    let digits = digits.trim_ascii_end();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big-endian, with the marker bit taken out of the first byte.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    // The six value bits of the first byte, sign-extended.
    let first = if negative { i64::from(field[0] as i8) } else { i64::from(field[0] & 0x3f) };
    field[1..]
        .iter()
        .try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

/// Whether a block may be the first of a tar that has something in it: a header whose checksum holds.
pub fn is_header(block: &[u8]) -> bool {
    block.len() == BLOCK_BYTES
        && block.iter().any(|b| *b != 0)
        && Header::parse(block, 0, true).is_ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"00006448", None),
            (b"-1      ", None),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x01", Some(1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x02\0\0\0\0\0\0\0", Some(0x0200_0000_0000_0000)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
