//! Writes databases of packages: SQLite (from fileformat2.html), ndb and Berkeley DB (from the readers of rpm,
//! `lib/backend/ndb/rpmpkg.c` and `lib/backend/bdb_ro.c`), and the headers that they hold (format_v4.md).

/// Types of data in a header.
pub const INT32: u32 = 4;
pub const STRING: u32 = 6;

pub const NAME: u32 = 1000;
pub const VERSION: u32 = 1001;
pub const RELEASE: u32 = 1002;
pub const EPOCH: u32 = 1003;
pub const ARCHITECTURE: u32 = 1022;
/// What comes behind them: names of files.
pub const BASENAMES: u32 = 1117;

/// A header of entries: tag, type, data.
pub fn rpm_header(entries: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, bytes) in entries {
        if *kind == INT32 {
            while data.len() % 4 != 0 {
                data.push(0);
            }
        }
        for number in [*tag, *kind, data.len() as u32, 1] {
            index.extend(number.to_be_bytes());
        }
        data.extend_from_slice(bytes);
    }
    let sizes = [entries.len() as u32, data.len() as u32].map(u32::to_be_bytes);
    [&sizes.concat()[..], &index, &data].concat()
}

/// The header of a package of version `1.N`, release 1, with so many bytes behind what is wanted.
pub fn rpm_package(name: &str, n: u32, more: usize) -> Vec<u8> {
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    let mut entries = vec![
        (NAME, STRING, text(name)),
        (VERSION, STRING, text(&format!("1.{n}"))),
        (RELEASE, STRING, text("1")),
    ];
    if n % 2 == 1 {
        entries.push((EPOCH, INT32, n.to_be_bytes().to_vec()));
    }
    entries.push((ARCHITECTURE, STRING, text("noarch")));
    let mut files = vec![b'f'; more];
    files.push(0);
    entries.push((BASENAMES, STRING, files));
    rpm_header(&entries)
}

/// What a reader should make of it.
pub fn rpm_line(name: &str, n: u32) -> String {
    let epoch = if n % 2 == 1 { format!("{n}:") } else { String::new() };
    format!("{name} {epoch}1.{n}-1 noarch")
}

/// A value of a record.
pub enum Value {
    Null,
    Integer(u32),
    Text(&'static str),
    Blob(Vec<u8>),
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = vec![(number & 0x7f) as u8];
    let mut rest = number >> 7;
    while rest > 0 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.reverse();
    bytes
}

pub fn record(values: &[Value]) -> Vec<u8> {
    let (mut kinds, mut content) = (Vec::new(), Vec::new());
    for value in values {
        let kind = match value {
            Value::Null => 0,
            Value::Integer(number) => {
                content.extend(number.to_be_bytes());
                4
            }
            Value::Text(text) => {
                content.extend_from_slice(text.as_bytes());
                13 + 2 * text.len() as u64
            }
            Value::Blob(bytes) => {
                content.extend_from_slice(bytes);
                12 + 2 * bytes.len() as u64
            }
        };
        kinds.extend(varint(kind));
    }
    // The head counts itself, in one byte as long as it is short.
    [varint(1 + kinds.len() as u64), kinds, content].concat()
}

pub const INTERIOR: u8 = 5;
pub const LEAF: u8 = 13;

/// An SQLite database in the making.
pub struct Sqlite {
    size: usize,
    reserved: usize,
    pub pages: Vec<Vec<u8>>,
}

impl Sqlite {
    /// Pages of this size, with bytes at the end of each that belong to an extension.
    pub fn new(size: usize, reserved: usize) -> Sqlite {
        Sqlite { size, reserved, pages: vec![vec![0; size]] }
    }

    fn usable(&self) -> usize {
        self.size - self.reserved
    }

    /// Appends a page, and gives its number.
    pub fn append(&mut self, mut page: Vec<u8>) -> u32 {
        page.resize(self.size, 0xee);
        self.pages.push(page);
        self.pages.len() as u32
    }

    /// The cell of a row, and the pages that it goes on in.
    pub fn cell(&mut self, row: u64, record: &[u8]) -> Vec<u8> {
        let usable = self.usable();
        let (most, least) = (usable - 35, (usable - 12) * 32 / 255 - 23);
        let mut cell = [varint(record.len() as u64), varint(row)].concat();
        if record.len() <= most {
            cell.extend_from_slice(record);
            return cell;
        }
        let local = match least + (record.len() - least) % (usable - 4) {
            local if local <= most => local,
            _ => least,
        };
        cell.extend_from_slice(&record[..local]);
        let mut next = 0u32;
        let parts: Vec<&[u8]> = record[local..].chunks(usable - 4).collect();
        for part in parts.into_iter().rev() {
            next = self.append([&next.to_be_bytes(), part].concat());
        }
        cell.extend(next.to_be_bytes());
        cell
    }

    /// A page of a tree. The first page of a file has its header in front.
    pub fn node(&self, kind: u8, cells: &[Vec<u8>], last: u32, start: usize) -> Vec<u8> {
        let mut page = vec![0; self.usable()];
        let head = if kind == LEAF { 8 } else { 12 };
        let mut end = page.len();
        for (at, cell) in cells.iter().enumerate() {
            end -= cell.len();
            page[end..end + cell.len()].copy_from_slice(cell);
            let place = start + head + 2 * at;
            page[place..place + 2].copy_from_slice(&(end as u16).to_be_bytes());
        }
        assert!(start + head + 2 * cells.len() <= end, "too many cells");
        page[start] = kind;
        page[start + 3..start + 5].copy_from_slice(&(cells.len() as u16).to_be_bytes());
        page[start + 5..start + 7].copy_from_slice(&(end as u16).to_be_bytes());
        if kind == INTERIOR {
            page[start + 8..start + 12].copy_from_slice(&last.to_be_bytes());
        }
        page
    }

    /// A table with one row for each record, and so many children a page; gives its root.
    pub fn table(&mut self, records: &[Vec<u8>], fanout: usize) -> u32 {
        let mut leaves: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        for (at, record) in records.iter().enumerate() {
            let cell = self.cell(at as u64 + 1, record);
            let last = leaves.last().unwrap();
            let used: usize = last.iter().map(|cell| cell.len() + 2).sum();
            if used + cell.len() + 2 + 8 > self.usable() || last.len() == fanout {
                leaves.push(Vec::new());
            }
            leaves.last_mut().unwrap().push(cell);
        }
        let mut level = Vec::new();
        for cells in &leaves {
            let page = self.node(LEAF, cells, 0, 0);
            level.push(self.append(page));
        }
        // As many as fit: a child, a number and a position each.
        let fanout = fanout.clamp(2, (self.usable() - 20) / 7);
        while level.len() > 1 {
            let groups: Vec<Vec<u32>> = level.chunks(fanout).map(<[u32]>::to_vec).collect();
            level.clear();
            for group in groups {
                let (last, others) = group.split_last().unwrap();
                let cell = |child: &u32| [&child.to_be_bytes()[..], &varint(7)].concat();
                let cells: Vec<Vec<u8>> = others.iter().map(cell).collect();
                let page = self.node(INTERIOR, &cells, *last, 0);
                level.push(self.append(page));
            }
        }
        level[0]
    }

    /// Writes the first page: a schema with one table.
    pub fn finish(mut self, name: &'static str, root: u32) -> Vec<u8> {
        let schema = record(&[
            Value::Text("table"),
            Value::Text(name),
            Value::Text(name),
            Value::Integer(root),
            Value::Text("CREATE TABLE t (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)"),
        ]);
        let index = record(&[
            Value::Text("index"),
            Value::Text(name),
            Value::Text(name),
            Value::Integer(9999),
            Value::Null,
        ]);
        let cells = vec![self.cell(1, &index), self.cell(2, &schema)];
        let mut first = self.node(LEAF, &cells, 0, 100);
        first[..16].copy_from_slice(b"SQLite format 3\0");
        first[16..18].copy_from_slice(&((self.size & 0xffff).max(1) as u16).to_be_bytes());
        first[18..24].copy_from_slice(&[2, 2, self.reserved as u8, 64, 32, 32]);
        let count = self.pages.len() as u32;
        for (at, number) in [(24, 5), (28, count), (44, 4), (56, 1), (92, 5), (96, 3_040_001)] {
            first[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        first.resize(self.size, 0);
        self.pages[0] = first;
        self.pages.concat()
    }
}

/// The database of rpm with these headers.
pub fn rpm_sqlite(size: usize, headers: &[Vec<u8>], fanout: usize) -> Vec<u8> {
    let mut database = Sqlite::new(size, 0);
    let row = |header: &Vec<u8>| record(&[Value::Null, Value::Blob(header.clone())]);
    let records: Vec<Vec<u8>> = headers.iter().map(row).collect();
    let root = database.table(&records, fanout);
    database.finish("Packages", root)
}

pub const WAL_HEAD: usize = 32;
pub const FRAME_HEAD: usize = 24;

/// A frame of a write-ahead log: the page's number, the pages of the database if a transaction ends, the page.
pub type Frame = (u32, u32, Vec<u8>);

/// A write-ahead log with checksums in this order of bytes.
pub fn wal(is_big: bool, size: usize, frames: &[Frame]) -> Vec<u8> {
    let magic = 0x377f_0682 | u32::from(is_big);
    let head = [magic, 3_007_000, size as u32, 0, 0x1234_5678, 0x9abc_def0, 0, 0];
    let mut log: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
    for (page, commit, content) in frames {
        let head = [*page, *commit, 0x1234_5678, 0x9abc_def0, 0, 0];
        log.extend(head.into_iter().flat_map(u32::to_be_bytes));
        log.extend_from_slice(content);
    }
    seal_wal(log)
}

/// Makes the checksums of a log right.
pub fn seal_wal(mut log: Vec<u8>) -> Vec<u8> {
    if log.len() < WAL_HEAD {
        return log;
    }
    let is_big = log[3] & 1 == 1;
    let size = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let add = |(mut first, mut second): (u32, u32), bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            let word = |at: usize| {
                let word: [u8; 4] = pair[at..at + 4].try_into().unwrap();
                if is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
            };
            first = first.wrapping_add(word(0)).wrapping_add(second);
            second = second.wrapping_add(word(4)).wrapping_add(first);
        }
        (first, second)
    };
    let mut sums = add((0, 0), &log[..24]);
    let put = |log: &mut [u8], at: usize, sums: (u32, u32)| {
        log[at..at + 4].copy_from_slice(&sums.0.to_be_bytes());
        log[at + 4..at + 8].copy_from_slice(&sums.1.to_be_bytes());
    };
    put(&mut log, 24, sums);
    if size == 0 || size > 65536 {
        return log;
    }
    let mut at = WAL_HEAD;
    while log.len() - at >= FRAME_HEAD + size {
        sums = add(sums, &log[at..at + 8]);
        sums = add(sums, &log[at + FRAME_HEAD..at + FRAME_HEAD + size]);
        put(&mut log, at + 16, sums);
        at += FRAME_HEAD + size;
    }
    log
}

/// A `Packages.db` with these headers, every other slot of which is free.
pub fn rpm_ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let pages = (2 + 2 * headers.len()).div_ceil(PAGE / 16);
    let mut slots = Vec::new();
    let mut blobs = Vec::new();
    for (at, header) in headers.iter().enumerate() {
        let package = at as u32 + 1;
        let start = blobs.len();
        let length = header.len() as u32;
        blobs.extend_from_slice(b"BlbS");
        blobs.extend([package, 7, length].into_iter().flat_map(u32::to_le_bytes));
        blobs.extend_from_slice(header);
        let padded = (blobs.len() + 12).next_multiple_of(16) - 12;
        blobs.resize(padded, 0);
        // No reader of the tests looks at the checksum.
        blobs.extend([0, length].into_iter().flat_map(u32::to_le_bytes));
        blobs.extend_from_slice(b"BlbE");
        let (first, blocks) = (pages * PAGE + start, blobs.len() - start);
        let numbers = [package, (first / 16) as u32, (blocks / 16) as u32];
        for numbers in [[0, 0, 0], numbers] {
            slots.extend_from_slice(b"Slot");
            slots.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
        }
    }
    let head = [0, 7, pages as u32, headers.len() as u32 + 1, 0, 0, 0];
    let mut file = b"RpmP".to_vec();
    file.extend(head.into_iter().flat_map(u32::to_le_bytes));
    file.extend(slots);
    while file.len() < pages * PAGE {
        file.extend_from_slice(b"Slot\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    file.extend(blobs);
    file
}

/// A `Packages` that is a hash table with a bucket for each header and one for the next number, in this order of bytes.
/// What is longer than a page is elsewhere. The first bucket goes on on a second page.
pub fn rpm_bdb(is_big: bool, size: usize, headers: &[Vec<u8>]) -> Vec<u8> {
    let number = |n: u32| if is_big { n.to_be_bytes() } else { n.to_le_bytes() };
    let short = |n: usize| {
        let n = n as u16;
        if is_big { n.to_be_bytes() } else { n.to_le_bytes() }
    };
    let page = |own: u32, next: u32, items: usize, room: usize, kind: u8| {
        let mut page = vec![0; 8];
        for field in [own, 0, next] {
            page.extend(number(field));
        }
        page.extend(short(items));
        page.extend(short(room));
        page.extend([0, kind]);
        page
    };
    // Pages 1.. are the buckets, as `spares` is 1 everywhere; what they need more comes behind.
    let buckets = headers.len() as u32 + 1;
    let mut more: Vec<Vec<u8>> = Vec::new();
    let bucket = |own: u32, next: u32, items: &[Vec<u8>]| {
        let mut bytes = page(own, next, items.len(), 0, 13);
        let mut end = size;
        let mut tail = Vec::new();
        for item in items {
            end -= item.len();
            bytes.extend(short(end));
            tail.splice(0..0, item.iter().copied());
        }
        assert!(bytes.len() <= end, "too many items");
        bytes.resize(end, 0);
        bytes.extend(tail);
        bytes
    };
    let mut pages = Vec::new();
    let next_number = [vec![1, 0, 0, 0, 0], [&[1][..], &number(buckets)].concat()];
    for own in 1..=buckets {
        let Some(header) = headers.get(own as usize - 1) else {
            pages.push(bucket(own, 0, &next_number));
            continue;
        };
        let key = [&[1][..], &number(own)].concat();
        let value = match header.len() + 100 < size {
            true => [&[1], &header[..]].concat(),
            false => {
                let first = buckets + 1 + more.len() as u32;
                let parts: Vec<&[u8]> = header.chunks(size - 26).collect();
                for (at, part) in parts.iter().enumerate() {
                    let own = first + at as u32;
                    let next = if at + 1 < parts.len() { own + 1 } else { 0 };
                    let mut bytes = page(own, next, 1, part.len(), 7);
                    bytes.extend_from_slice(part);
                    bytes.resize(size, 0);
                    more.push(bytes);
                }
                [&[3, 0, 0, 0][..], &number(first), &number(header.len() as u32)].concat()
            }
        };
        let items = [key, value];
        match own {
            1 => {
                let next = buckets + 1 + more.len() as u32;
                more.push(bucket(next, 0, &items));
                pages.push(bucket(own, next, &[]));
            }
            _ => pages.push(bucket(own, 0, &items)),
        }
    }
    pages.extend(more);
    let mut meta = vec![0; size];
    for (at, n) in
        [(12, 0x0006_1561), (16, 9), (20, size as u32), (32, pages.len() as u32), (72, buckets - 1)]
    {
        meta[at..at + 4].copy_from_slice(&number(n));
    }
    meta[25] = 8;
    for at in 0..32 {
        meta[96 + 4 * at..100 + 4 * at].copy_from_slice(&number(1));
    }
    pages.insert(0, meta);
    pages.concat()
}
