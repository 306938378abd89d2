//! Writes tar archives byte by byte, well-formed or broken.
//!
//! Layers in tests have to contain things that no packaging tool writes on request: duplicate
//! names, children before parents, wrong checksums, four encodings of sparse files, base-256
//! numbers. This writer is made from the definitions of the formats (POSIX.1-2001 `pax`, and the
//! header layouts in the GNU tar manual), with two levels:
//!
//! * [`tar`] takes a list of abstract [`Entry`] values, which the reference model of image
//!   semantics takes too, and stores each as plainly as its values allow: a ustar header, preceded
//!   by a pax extended header for what does not fit.
//! * [`TarWriter`] appends single headers and data blocks, and checks nothing.

/// The size of a tar block. Headers are one block, and data is padded to whole blocks.
pub const BLOCK: usize = 512;

/// The greatest number that fits seven octal digits.
const MAX_OCTAL_8: u64 = 0o7777777;
/// The greatest number that fits eleven octal digits.
const MAX_OCTAL_12: u64 = 0o77777777777;

/// One member of a layer, independent of how it is encoded.
///
/// A whiteout has no kind of its own: it is an empty file at `.wh.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as stored, not normalised. Directories get a trailing slash when written.
    pub path: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds, where the nanoseconds always count forward.
    pub mtime: (i64, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The type of an [`Entry`], with what is particular to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File(Vec<u8>),
    Dir,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

impl Entry {
    /// An entry with usual permissions for its kind, owned by root, dated to the epoch.
    pub fn new(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
        let mode = match kind {
            Kind::Dir => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        };
        let path = path.as_ref().to_vec();
        Entry { path, kind, mode, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    pub fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
        Entry::new(path, Kind::File(data.as_ref().to_vec()))
    }

    pub fn dir(path: impl AsRef<[u8]>) -> Entry {
        Entry::new(path, Kind::Dir)
    }

    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
        Entry::new(path, Kind::Symlink(target.as_ref().to_vec()))
    }

    pub fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
        Entry::new(path, Kind::Hardlink(target.as_ref().to_vec()))
    }

    pub fn char_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
        Entry::new(path, Kind::Char { major, minor })
    }

    pub fn block_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
        Entry::new(path, Kind::Block { major, minor })
    }

    pub fn fifo(path: impl AsRef<[u8]>) -> Entry {
        Entry::new(path, Kind::Fifo)
    }

    pub fn mode(mut self, mode: u32) -> Entry {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Entry {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn mtime(mut self, seconds: i64, nanoseconds: u32) -> Entry {
        self.mtime = (seconds, nanoseconds);
        self
    }

    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Entry {
        self.xattrs.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

/// An archive of `entries` in their order, with the two zero blocks at its end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut writer = TarWriter::new();
    for entry in entries {
        writer.entry(entry);
    }
    writer.finish()
}

/// The fields of a header block, in the order and with the sizes of the ustar layout.
///
/// The fields are bytes, so that a test can put anything there. [`put`], [`octal`] and [`base256`]
/// fill them in the regular ways. The old GNU layout keeps its own fields where `prefix` is.
#[derive(Clone, Debug)]
pub struct Header {
    pub name: [u8; 100],
    pub mode: [u8; 8],
    pub uid: [u8; 8],
    pub gid: [u8; 8],
    pub size: [u8; 12],
    pub mtime: [u8; 12],
    pub typeflag: u8,
    pub linkname: [u8; 100],
    pub magic: [u8; 6],
    pub version: [u8; 2],
    pub uname: [u8; 32],
    pub gname: [u8; 32],
    pub devmajor: [u8; 8],
    pub devminor: [u8; 8],
    pub prefix: [u8; 155],
    pub padding: [u8; 12],
    /// Writes a checksum that is off by one.
    pub break_checksum: bool,
}

impl Header {
    /// The header of an empty regular file without a name, in the ustar format.
    fn ustar() -> Header {
        let mut header = Header {
            name: [0; 100],
            mode: [0; 8],
            uid: [0; 8],
            gid: [0; 8],
            size: [0; 12],
            mtime: [0; 12],
            typeflag: b'0',
            linkname: [0; 100],
            magic: *b"ustar\0",
            version: *b"00",
            uname: [0; 32],
            gname: [0; 32],
            devmajor: [0; 8],
            devminor: [0; 8],
            prefix: [0; 155],
            padding: [0; 12],
            break_checksum: false,
        };
        octal(&mut header.mode, 0o644);
        for field in [&mut header.uid, &mut header.gid] {
            octal(field, 0);
        }
        octal(&mut header.size, 0);
        octal(&mut header.mtime, 0);
        header
    }

    /// Makes this a header of Unix V7, from before there was a magic.
    pub fn v7(&mut self) -> &mut Header {
        (self.magic, self.version) = ([0; 6], [0; 2]);
        self
    }

    /// Makes this a header of the old GNU format, which ends its magic in two blanks.
    pub fn gnu(&mut self) -> &mut Header {
        (self.magic, self.version) = (*b"ustar ", *b" \0");
        self
    }

    fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK);
        for field in [&self.name[..], &self.mode, &self.uid, &self.gid, &self.size, &self.mtime] {
            block.extend_from_slice(field);
        }
        // The checksum counts its own field as blanks.
        let checksum_at = block.len();
        block.extend_from_slice(&[b' '; 8]);
        block.push(self.typeflag);
        let tail: [&[u8]; 9] = [
            &self.linkname,
            &self.magic,
            &self.version,
            &self.uname,
            &self.gname,
            &self.devmajor,
            &self.devminor,
            &self.prefix,
            &self.padding,
        ];
        for field in tail {
            block.extend_from_slice(field);
        }
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let sum = sum + u64::from(self.break_checksum);
        block[checksum_at..checksum_at + 8].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Fills a text field: the bytes, cut to the size of the field, and zeros after them.
pub fn put(field: &mut [u8], bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let length = bytes.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Fills a numeric field with octal digits and a final zero byte; the number must fit.
pub fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let digits = format!("{value:0width$o}");
    assert_eq!(digits.len(), width, "{value} does not fit {width} octal digits");
    put(field, digits);
}

/// Fills a numeric field in the GNU binary form: big-endian two's complement, whose first byte is
/// 0x80 for numbers from zero and 0xff for negative ones.
pub fn base256(field: &mut [u8], value: i64) {
    let length = field.len();
    let bytes = i128::from(value).to_be_bytes();
    field.copy_from_slice(&bytes[bytes.len() - length..]);
    field[0] |= 0x80;
}

/// Appends single blocks to an archive, in whatever order the test asks for.
#[derive(Debug, Default)]
pub struct TarWriter {
    out: Vec<u8>,
}

impl TarWriter {
    pub fn new() -> TarWriter {
        TarWriter::default()
    }

    /// Appends a header block, a ustar header of an empty file as far as `f` leaves it alone.
    pub fn raw_header(&mut self, f: impl FnOnce(&mut Header)) -> &mut TarWriter {
        let mut header = Header::ustar();
        f(&mut header);
        self.out.extend_from_slice(&header.to_block());
        self
    }

    /// Appends bytes, padded with zeros to whole blocks.
    pub fn data(&mut self, bytes: &[u8]) -> &mut TarWriter {
        self.out.extend_from_slice(bytes);
        self.out.resize(self.out.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// Appends a pax extended header for the next entry. Keys may repeat.
    pub fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, records: &[(K, V)]) -> &mut TarWriter {
        self.meta(b'x', b"PaxHeaders/entry", &pax_records(records), false)
    }

    /// Appends a pax extended header for all following entries.
    pub fn pax_global<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        records: &[(K, V)],
    ) -> &mut TarWriter {
        self.meta(b'g', b"PaxHeaders/global", &pax_records(records), false)
    }

    /// Appends the GNU entry that carries the name of the next entry.
    pub fn gnu_long_name(&mut self, name: &[u8]) -> &mut TarWriter {
        self.meta(b'L', b"././@LongLink", &[name, b"\0"].concat(), true)
    }

    /// Appends the GNU entry that carries the link target of the next entry.
    pub fn gnu_long_link(&mut self, target: &[u8]) -> &mut TarWriter {
        self.meta(b'K', b"././@LongLink", &[target, b"\0"].concat(), true)
    }

    fn meta(&mut self, typeflag: u8, name: &[u8], data: &[u8], gnu: bool) -> &mut TarWriter {
        self.raw_header(|header| {
            if gnu {
                header.gnu();
            }
            put(&mut header.name, name);
            header.typeflag = typeflag;
            octal(&mut header.size, data.len() as u64);
        });
        self.data(data)
    }

    /// Appends an entry in ustar format, after a pax extended header if it needs one.
    pub fn entry(&mut self, entry: &Entry) -> &mut TarWriter {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut header = Header::ustar();

        let mut path = entry.path.clone();
        if entry.kind == Kind::Dir && path.last().is_some_and(|&last| last != b'/') {
            path.push(b'/');
        }
        match split_path(&path) {
            Some((prefix, name)) if path.is_ascii() => {
                put(&mut header.prefix, prefix);
                put(&mut header.name, name);
            }
            _ => {
                // Readers without pax see the start of the name, as with other writers.
                put(&mut header.name, &path);
                records.push((b"path".to_vec(), path));
            }
        }

        let (typeflag, link): (u8, &[u8]) = match &entry.kind {
            Kind::File(_) => (b'0', b""),
            Kind::Hardlink(target) => (b'1', target),
            Kind::Symlink(target) => (b'2', target),
            Kind::Char { .. } => (b'3', b""),
            Kind::Block { .. } => (b'4', b""),
            Kind::Dir => (b'5', b""),
            Kind::Fifo => (b'6', b""),
        };
        header.typeflag = typeflag;
        put(&mut header.linkname, link);
        if link.len() > header.linkname.len() || !link.is_ascii() {
            records.push((b"linkpath".to_vec(), link.to_vec()));
        }
        if let Kind::Char { major, minor } | Kind::Block { major, minor } = entry.kind {
            octal_or_base256(&mut header.devmajor, major);
            octal_or_base256(&mut header.devminor, minor);
        }
        let data: &[u8] = if let Kind::File(data) = &entry.kind { data } else { b"" };
        octal(&mut header.size, data.len() as u64);
        octal_or_base256(&mut header.mode, entry.mode);

        for (key, field, id) in
            [("uid", &mut header.uid, entry.uid), ("gid", &mut header.gid, entry.gid)]
        {
            if u64::from(id) <= MAX_OCTAL_8 {
                octal(field, id.into());
            } else {
                records.push((key.into(), id.to_string().into_bytes()));
            }
        }
        let (seconds, nanoseconds) = entry.mtime;
        let whole = u64::try_from(seconds).unwrap_or(0).min(MAX_OCTAL_12);
        octal(&mut header.mtime, whole);
        if i64::try_from(whole) != Ok(seconds) || nanoseconds != 0 {
            records.push((b"mtime".to_vec(), pax_time(seconds, nanoseconds).into_bytes()));
        }
        for (name, value) in &entry.xattrs {
            records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
        }

        if !records.is_empty() {
            self.pax(&records);
        }
        self.out.extend_from_slice(&header.to_block());
        self.data(data)
    }

    /// Where the next block will stand.
    pub fn position(&self) -> u64 {
        self.out.len() as u64
    }

    /// The archive, ended by two zero blocks.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.resize(self.out.len() + 2 * BLOCK, 0);
        self.out
    }

    /// The archive as it is, without the blocks that mark its end.
    pub fn finish_without_end(self) -> Vec<u8> {
        self.out
    }
}

/// A path as prefix and name of a ustar header, or `None` where it does not fit.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash between the two is not stored, and neither part may be empty.
    (1..path.len() - 1)
        .filter(|&slash| path[slash] == b'/' && slash <= 155 && path.len() - slash - 1 <= 100)
        .map(|slash| (&path[..slash], &path[slash + 1..]))
        .next()
}

fn octal_or_base256(field: &mut [u8], value: u32) {
    if u64::from(value) <= MAX_OCTAL_8 {
        octal(field, value.into());
    } else {
        base256(field, value.into());
    }
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_records<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: &[(K, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let (key, value) = (key.as_ref(), value.as_ref());
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        out.extend_from_slice(format!("{length} ").as_bytes());
        out.extend_from_slice(&[key, b"=", value, b"\n"].concat());
    }
    out
}

/// A time as a decimal fraction. Before the epoch the fraction counts back from the next second.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, fraction) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    if fraction == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction:09}") }
}
