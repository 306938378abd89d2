//! PAX extended headers: `LENGTH KEY=VALUE\n` records.
//!
//! An empty value takes back an earlier record of that key and leaves the header's own field alone,
//! as Go reads it. Values may hold any byte but, for names, NUL.

use super::entry::is_linux_xattr;
use super::sparse::MAX_SPARSE_RUNS;

/// Prefix of extended attributes, set by star, GNU tar, Go and libarchive alike.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The largest xattr value that Linux takes (`XATTR_SIZE_MAX`).
const MAX_XATTR_VALUE_BYTES: usize = 65536;

/// Extended attributes accepted for one entry; listing them all is limited to 64 KiB by Linux.
const MAX_XATTRS: usize = 1024;

/// The records that mean something to us.
#[derive(Debug, Default)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    /// Seconds rounded down, nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_major: Option<Vec<u8>>,
    sparse_minor: Option<Vec<u8>>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<Vec<u8>>,
    sparse_real_size: Option<Vec<u8>>,
    sparse_map: Option<Vec<u8>>,
    sparse_blocks: Option<Vec<u8>>,
    /// Alternating offsets and lengths of format 0.0.
    sparse_pairs: Vec<u64>,
}

/// What PAX records say of a sparse file.
#[derive(Debug)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: u64,
    pub(super) map: Option<Vec<(u64, u64)>>,
    /// Format 1.0: the map stands in front of the content.
    pub(super) map_in_content: bool,
}

impl PaxRecords {
    /// Parses the data of an extended header; `of_names` leaves out what is not about names and contents.
    pub(super) fn parse(mut data: &[u8], of_names: bool) -> Result<PaxRecords, &'static str> {
        let mut records = PaxRecords::default();
        while !data.is_empty() {
            let (record, rest) = split_record(data)?;
            let (key, value) = key_value(record)?;
            let is_of_names = matches!(key, b"path" | b"linkpath" | b"size");
            if !of_names || is_of_names || key.starts_with(b"GNU.sparse.") {
                records.set(key, value)?;
            }
            data = rest;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            if !name.is_empty() && !is_linux_xattr(name) {
                return Ok(());
            }
            if name.is_empty() || name.len() > 255 || name.contains(&0) {
                return Err("an xattr name is empty, too long or has a NUL");
            }
            if value.len() > MAX_XATTR_VALUE_BYTES {
                return Err("an xattr is larger than 64 KiB");
            }
            if self.xattrs.len() >= MAX_XATTRS {
                return Err("more than 1024 xattrs");
            }
            self.xattrs.retain(|(other, _)| other != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        match key {
            b"GNU.sparse.offset" => {
                if !self.sparse_pairs.len().is_multiple_of(2) {
                    return Err("two sparse offsets in a row");
                }
                self.sparse_pairs.push(unsigned(value).ok_or("a sparse offset is no number")?);
                return Ok(());
            }
            b"GNU.sparse.numbytes" => {
                if self.sparse_pairs.len().is_multiple_of(2) {
                    return Err("a sparse length without its offset");
                }
                self.sparse_pairs.push(unsigned(value).ok_or("a sparse length is no number")?);
                return Ok(());
            }
            _ => {}
        }
        // An empty value takes back what came before it.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let name = || if value.contains(&0) { Err("a name has a NUL") } else { Ok(text()) };
        let number = || match value {
            b"" => Ok(None),
            value => signed(value).map(Some).ok_or("a number is malformed"),
        };
        let a_time = || match value {
            b"" => Ok(None),
            value => time(value).map(Some).ok_or("a time is malformed"),
        };
        match key {
            b"path" => self.path = name()?,
            b"linkpath" => self.link_path = name()?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = a_time()?,
            // Of no use, but Go refuses what is malformed here too.
            b"atime" | b"ctime" => drop(a_time()?),
            b"uname" | b"gname" => drop(name()?),
            b"GNU.sparse.major" => self.sparse_major = text(),
            b"GNU.sparse.minor" => self.sparse_minor = text(),
            b"GNU.sparse.name" => self.sparse_name = name()?,
            b"GNU.sparse.size" => self.sparse_size = text(),
            b"GNU.sparse.realsize" => self.sparse_real_size = text(),
            b"GNU.sparse.map" => self.sparse_map = text(),
            b"GNU.sparse.numblocks" => self.sparse_blocks = text(),
            _ => {}
        }
        Ok(())
    }

    /// The sparse description, if these records make the file a sparse one; `stored` is the size
    /// of the entry, which the real size defaults to.
    pub(super) fn sparse(&self, stored: u64) -> Result<Option<PaxSparse>, &'static str> {
        let map_in_content = match (self.sparse_major.as_deref(), self.sparse_minor.as_deref()) {
            (Some(b"1"), Some(b"0")) => true,
            (Some(b"0"), Some(b"0" | b"1")) => false,
            // An unknown version is an ordinary file to every reader.
            (Some(_), _) | (_, Some(_)) => return Ok(None),
            (None, None) if self.sparse_map.is_some() || !self.sparse_pairs.is_empty() => false,
            (None, None) => return Ok(None),
        };
        let real_size = match self.sparse_size.as_ref().or(self.sparse_real_size.as_ref()) {
            Some(text) => unsigned(text).ok_or("the real size is no number")?,
            None => stored,
        };
        let map = if map_in_content { None } else { Some(self.sparse_map()?) };
        Ok(Some(PaxSparse { name: self.sparse_name.clone(), real_size, map, map_in_content }))
    }

    /// The map of format 0.0, or else of 0.1. Both come with a count of its runs, which has to be right,
    /// as in Go.
    fn sparse_map(&self) -> Result<Vec<(u64, u64)>, &'static str> {
        let map = match (&self.sparse_pairs, &self.sparse_map) {
            (numbers, Some(text)) if numbers.is_empty() => map_0_1(text)?,
            (numbers, _) => pairs(numbers)?,
        };
        let count = self.sparse_blocks.as_deref().and_then(unsigned);
        match count.ok_or("the count of runs is no number")? {
            count if count == map.len() as u64 => Ok(map),
            _ => Err("the count of runs is another than that of the map"),
        }
    }
}

/// Checks the form of records whose meaning is of no use, as Go does.
pub(super) fn check(mut data: &[u8]) -> Result<(), &'static str> {
    let mut sparse_numbers = 0u64;
    while !data.is_empty() {
        let (record, rest) = split_record(data)?;
        let (key, value) = key_value(record)?;
        match key {
            b"path" | b"linkpath" | b"uname" | b"gname" if value.contains(&0) => {
                return Err("a name has a NUL");
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let is_due = (key == b"GNU.sparse.offset") == sparse_numbers.is_multiple_of(2);
                if !is_due || value.contains(&b',') {
                    return Err("a sparse map is out of order");
                }
                sparse_numbers += 1;
            }
            _ => {}
        }
        data = rest;
    }
    Ok(())
}

/// Splits the first record off `data`: what is between its length and its newline, and the rest.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let space = data.iter().position(|b| *b == b' ').ok_or("no length")?;
    let length = unsigned(&data[..space]).and_then(|n| usize::try_from(n).ok());
    let length = length.ok_or("the length is no number")?;
    if length > data.len() || length <= space + 1 {
        return Err("the length does not fit");
    }
    let (record, rest) = data.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or("no newline at the end")?;
    Ok((record, rest))
}

fn key_value(record: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let equals = record.iter().position(|b| *b == b'=').ok_or("no `=`")?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("an empty key or one with a NUL");
    }
    Ok((key, value))
}

/// The map of format 0.1: `offset,length,offset,length,…`.
fn map_0_1(text: &[u8]) -> Result<Vec<(u64, u64)>, &'static str> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Option<Vec<u64>> = text.split(|b| *b == b',').map(unsigned).collect();
    pairs(&numbers.ok_or("the map holds something that is no number")?)
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, &'static str> {
    if !numbers.len().is_multiple_of(2) {
        return Err("an offset without its length");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// How many lines a map of format 1.0 has, from its first block: a count, then that many offsets
/// and lengths, a decimal line each.
pub(super) fn sparse_map_lines(blocks: &[u8]) -> Result<usize, &'static str> {
    let count = blocks.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = unsigned(count).and_then(|n| usize::try_from(n).ok());
    match count.ok_or("the count is no number")? {
        count if count > MAX_SPARSE_RUNS => Err("more than 65536 runs"),
        count => Ok(1 + 2 * count),
    }
}

/// The map of format 1.0 from blocks that hold all its lines.
pub(super) fn sparse_map_1_0(blocks: &[u8]) -> Result<Vec<(u64, u64)>, &'static str> {
    let lines = sparse_map_lines(blocks)?;
    let numbers: Option<Vec<u64>> =
        blocks.split(|b| *b == b'\n').take(lines).skip(1).map(unsigned).collect();
    pairs(&numbers.ok_or("the map holds something that is no number")?)
}

fn unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => i64::try_from(unsigned(digits)?).ok().map(|n| -n),
        None => i64::try_from(unsigned(text.strip_prefix(b"+").unwrap_or(text))?).ok(),
    }
}

/// `[-]seconds[.fraction]` as (seconds rounded down, nanoseconds); digits past the ninth are cut.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let negative = text.starts_with(b"-");
    let dot = text.iter().position(|b| *b == b'.');
    let seconds = signed(&text[..dot.unwrap_or(text.len())])?;
    let mut nanoseconds = 0u32;
    let fraction = dot.map_or(&b""[..], |dot| &text[dot + 1..]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |b| u32::from(b - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    if negative && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            (&b"12"[..], Some((12, 0))),
            (b"12.5", Some((12, 500_000_000))),
            (b"12.0000000019", Some((12, 1))),
            (b"-1", Some((-1, 0))),
            (b"-1.5", Some((-2, 500_000_000))),
            (b"-0.25", Some((-1, 750_000_000))),
            (b"12.", Some((12, 0))),
            (b"", None),
            (b"+5.5", Some((5, 500_000_000))),
            (b"+-5", None),
            (b"-+5", None),
            (b"1e9", None),
            (b"1.-5", None),
            (b"99999999999999999999", None),
        ] {
            assert_eq!(time(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn records() {
        let parse = |text: &'static [u8]| {
            let (record, rest) = split_record(text)?;
            key_value(record).map(|(key, value)| [key, value, rest])
        };
        assert_eq!(parse(b"6 a=b\n"), Ok([&b"a"[..], b"b", b""]));
        assert_eq!(parse(b"6 a=\0\nrest"), Ok([&b"a"[..], b"\0", b"rest"]));
        for bad in
            [&b"6 a=b"[..], b"5 a=b\n", b"7 a=b\n", b"a=b\n", b"3 \n", b" 6 a=b\n", b"6 =ab\n"]
        {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
