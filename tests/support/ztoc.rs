//! Writes SOCI's ztocs, true or lying.
//!
//! The FlatBuffer is written by hand, front to back: a vtable, its table, and then what the table
//! refers to, so that every offset points forward. (The library of FlatBuffers writes back to
//! front, and readers cannot tell.) As there, fields with default values are left out.

use std::collections::BTreeMap;

use flate2::{Compress, FlushCompress};
use sha2::{Digest, Sha256};

use crate::support::deflate::{Boundary, walk};
use crate::support::image::sha256;
use crate::support::tarball::{Entry, Kind, TarWriter};

/// Bytes of a window.
pub const WINDOW: usize = 32768;

/// Bytes of a checkpoint: in, out, bits and window.
pub const POINT: usize = 17 + WINDOW;

/// A ztoc, field by field.
#[derive(Clone, Debug)]
pub struct Ztoc {
    pub version: String,
    pub compressed_size: i64,
    pub uncompressed_size: i64,
    pub metadata: Vec<Metadata>,
    /// 1 is gzip, 2 is none.
    pub algorithm: i8,
    pub max_span_id: i32,
    pub span_digests: Vec<String>,
    pub checkpoints: Vec<u8>,
}

/// An entry of a ztoc.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub name: Vec<u8>,
    pub kind: String,
    pub offset: i64,
    pub size: i64,
    pub link_name: Vec<u8>,
    pub mode: i64,
    pub uid: u32,
    pub gid: u32,
    pub mod_time: String,
    pub device: (i64, i64),
    /// All PAX records, by key.
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct Point {
    pub at: i64,
    pub out: i64,
    pub bits: u8,
    pub window: Vec<u8>,
}

/// Which boundaries between blocks become checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    /// Those of soci-snapshotter: the first after more than a span.
    Soci,
    /// Only those on a whole byte.
    Aligned,
}

/// A tar and what a ztoc says of its entries.
pub fn tar_with_metadata(entries: &[Entry]) -> (Vec<u8>, Vec<Metadata>) {
    let mut writer = TarWriter::new();
    let metadata = entries.iter().map(|entry| {
        writer.entry(entry);
        let size = if let Kind::File(data) = &entry.kind { data.len() as u64 } else { 0 };
        Metadata::new(entry, writer.position() - size.next_multiple_of(512), size)
    });
    let metadata = metadata.collect();
    (writer.finish(), metadata)
}

impl Metadata {
    fn new(entry: &Entry, offset: u64, size: u64) -> Metadata {
        let none: &[u8] = b"";
        let (kind, link_name, device) = match &entry.kind {
            Kind::File(_) => ("reg", none, (0, 0)),
            Kind::Dir => ("dir", none, (0, 0)),
            Kind::Symlink(target) => ("symlink", &target[..], (0, 0)),
            Kind::Hardlink(target) => ("hardlink", &target[..], (0, 0)),
            Kind::Char { major, minor } => ("char", none, (*major, *minor)),
            Kind::Block { major, minor } => ("block", none, (*major, *minor)),
            Kind::Fifo => ("fifo", none, (0, 0)),
        };
        let mut name = entry.path.clone();
        if entry.kind == Kind::Dir && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let xattrs = entry.xattrs.iter();
        let mut pax: Vec<(Vec<u8>, Vec<u8>)> = xattrs
            .map(|(name, value)| ([b"SCHILY.xattr.", &name[..]].concat(), value.clone()))
            .collect();
        // What has been applied to the fields already, and must not count again.
        for (key, value) in
            [("path", "elsewhere"), ("size", "7"), ("mtime", "7.5"), ("comment", "")]
        {
            pax.push((key.into(), value.into()));
        }
        pax.sort();
        Metadata {
            name,
            kind: kind.to_owned(),
            offset: offset as i64,
            size: size as i64,
            link_name: link_name.to_vec(),
            mode: entry.mode.into(),
            uid: entry.uid,
            gid: entry.gid,
            mod_time: rfc3339(entry.mtime.0, entry.mtime.1),
            device: (device.0.into(), device.1.into()),
            pax,
        }
    }
}

impl Ztoc {
    /// The ztoc of a gzip layer, with spans of more than `span` bytes.
    pub fn gzip(metadata: &[Metadata], blob: &[u8], span: usize, points: Points) -> Ztoc {
        let (tar, boundaries) = walk(blob);
        let mut chosen: Vec<Boundary> = Vec::new();
        for boundary in boundaries {
            let due = match chosen.last() {
                None => true,
                Some(last) => boundary.out == 0 || boundary.out - last.out > span,
            };
            if due && (points == Points::Soci || boundary.bit.is_multiple_of(8)) {
                chosen.push(boundary);
            }
        }
        let points: Vec<Point> = chosen.iter().map(|boundary| Point::new(&tar, boundary)).collect();
        let ends = points[1..].iter().map(|next| next.at as usize).chain([blob.len()]);
        let digests = points.iter().zip(ends).map(|(point, end)| {
            let shared = usize::from(point.bits > 0);
            sha256(&blob[point.at as usize - shared..end])
        });
        Ztoc {
            version: "0.9".to_owned(),
            compressed_size: blob.len() as i64,
            uncompressed_size: tar.len() as i64,
            metadata: metadata.to_vec(),
            algorithm: 1,
            max_span_id: points.len() as i32 - 1,
            span_digests: digests.collect(),
            checkpoints: checkpoints(points.len() as i32, span as i64, &points),
        }
    }

    /// The ztoc of a plain tar.
    pub fn plain(metadata: &[Metadata], tar: &[u8], span: usize) -> Ztoc {
        Ztoc {
            version: "0.9".to_owned(),
            compressed_size: tar.len() as i64,
            uncompressed_size: tar.len() as i64,
            metadata: metadata.to_vec(),
            algorithm: 2,
            max_span_id: tar.len().div_ceil(span) as i32 - 1,
            span_digests: tar.chunks(span).map(sha256).collect(),
            checkpoints: tar_zinfo(2, span as i64, tar.len() as i64),
        }
    }

    /// Leaves the first checkpoint out, as the first encoding does; its place stays in the count.
    pub fn without_first_checkpoint(mut self) -> Ztoc {
        self.checkpoints.drain(12..12 + POINT);
        self
    }

    /// The FlatBuffer, as soci-snapshotter writes it.
    pub fn encode(&self) -> Vec<u8> {
        flatbuffer(&self.value(), false)
    }

    /// The FlatBuffer, as a writer would that stores equal strings once.
    pub fn encode_shared(&self) -> Vec<u8> {
        flatbuffer(&self.value(), true)
    }

    fn value(&self) -> Value {
        let metadata = self.metadata.iter().map(Metadata::value).collect();
        let digests = self.span_digests.iter().map(|digest| text(digest)).collect();
        let info = Value::Table(vec![
            Value::I8(if self.algorithm == 1 { 0 } else { self.algorithm }),
            Value::I32(self.max_span_id),
            Value::Vector(digests),
            Value::Bytes(self.checkpoints.clone()),
        ]);
        Value::Table(vec![
            text(&self.version),
            text("a test"),
            Value::I64(self.compressed_size),
            Value::I64(self.uncompressed_size),
            Value::Table(vec![Value::Vector(metadata)]),
            info,
        ])
    }
}

impl Metadata {
    fn value(&self) -> Value {
        let record = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Value::Table(vec![Value::Bytes(key.clone()), Value::Bytes(value.clone())])
        };
        Value::Table(vec![
            Value::Bytes(self.name.clone()),
            text(&self.kind),
            Value::I64(self.offset),
            Value::I64(self.size),
            Value::Bytes(self.link_name.clone()),
            Value::I64(self.mode),
            Value::I32(self.uid as i32),
            Value::I32(self.gid as i32),
            text("user"),
            text("group"),
            text(&self.mod_time),
            Value::I64(self.device.0),
            Value::I64(self.device.1),
            Value::Vector(self.pax.iter().map(record).collect()),
        ])
    }
}

impl Point {
    fn new(tar: &[u8], boundary: &Boundary) -> Point {
        let at = boundary.bit.div_ceil(8);
        let before = &tar[boundary.out.saturating_sub(WINDOW)..boundary.out];
        let mut window = vec![0; WINDOW - before.len()];
        window.extend_from_slice(before);
        let bits = (8 * at - boundary.bit) as u8;
        Point { at: at as i64, out: boundary.out as i64, bits, window }
    }
}

/// The checkpoints of a gzip layer.
pub fn checkpoints(count: i32, span: i64, points: &[Point]) -> Vec<u8> {
    let mut out = [&count.to_le_bytes()[..], &span.to_le_bytes()].concat();
    for point in points {
        out.extend_from_slice(&point.at.to_le_bytes());
        out.extend_from_slice(&point.out.to_le_bytes());
        out.push(point.bits);
        out.extend_from_slice(&point.window);
    }
    out
}

/// The checkpoints of a plain tar.
pub fn tar_zinfo(version: i32, span: i64, size: i64) -> Vec<u8> {
    flatbuffer(&Value::Table(vec![Value::I32(version), Value::I64(span), Value::I64(size)]), false)
}

/// A gzip member whose deflate stream is flushed, and so comes to a whole byte, after every
/// `every` bytes; the blocks behind refer back to those before.
pub fn gzip_flushed(data: &[u8], every: usize) -> Vec<u8> {
    let mut encoder = Compress::new(flate2::Compression::default(), false);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut pieces = data.chunks(every).peekable();
    while let Some(piece) = pieces.next() {
        let flush =
            if pieces.peek().is_some() { FlushCompress::Sync } else { FlushCompress::Finish };
        let end = encoder.total_in() + piece.len() as u64;
        out.reserve(2 * piece.len() + 1000);
        encoder.compress_vec(piece, &mut out, flush).expect("compress into memory");
        assert_eq!(encoder.total_in(), end, "there was room for all of it");
    }
    let mut crc = flate2::Crc::new();
    crc.update(data);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

/// A value of a FlatBuffer.
#[derive(Clone, Debug)]
pub enum Value {
    I8(i8),
    I32(i32),
    I64(i64),
    /// A string or a vector of bytes.
    Bytes(Vec<u8>),
    /// A vector of tables or strings.
    Vector(Vec<Value>),
    /// The fields in the order of the schema.
    Table(Vec<Value>),
}

fn text(text: &str) -> Value {
    Value::Bytes(text.into())
}

/// A buffer with `root` as its root table. With `share`, equal strings stand in it once.
pub fn flatbuffer(root: &Value, share: bool) -> Vec<u8> {
    let mut writer = Writer { out: vec![0; 4], shared: share.then(BTreeMap::new) };
    let at = writer.value(root);
    writer.refer(0, at);
    // Offsets point forward, so that what is shared comes last.
    for (bytes, places) in writer.shared.take().unwrap_or_default() {
        let at = writer.bytes(&bytes);
        places.into_iter().for_each(|place| writer.refer(place, at));
    }
    writer.out
}

struct Writer {
    out: Vec<u8>,
    /// Strings still to be written, with the places that refer to them.
    shared: Option<BTreeMap<Vec<u8>, Vec<usize>>>,
}

impl Writer {
    /// Appends a value that is referred to, and what it refers to; returns where it begins.
    fn value(&mut self, value: &Value) -> usize {
        match value {
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Vector(elements) => {
                self.pad(4);
                let at = self.out.len();
                self.out.extend_from_slice(&(elements.len() as u32).to_le_bytes());
                self.out.resize(self.out.len() + 4 * elements.len(), 0);
                for (number, element) in elements.iter().enumerate() {
                    self.child(at + 4 + 4 * number, element);
                }
                at
            }
            Value::Table(fields) => self.table(fields),
            scalar => panic!("{scalar:?} stands in its table"),
        }
    }

    /// Appends what the place `from` refers to.
    fn child(&mut self, from: usize, value: &Value) {
        if let (Value::Bytes(bytes), Some(shared)) = (value, &mut self.shared) {
            shared.entry(bytes.clone()).or_default().push(from);
            return;
        }
        let at = self.value(value);
        self.refer(from, at);
    }

    fn bytes(&mut self, bytes: &[u8]) -> usize {
        self.pad(4);
        let at = self.out.len();
        self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.out.extend_from_slice(bytes);
        self.out.push(0);
        at
    }

    fn table(&mut self, fields: &[Value]) -> usize {
        // The place of each field in the table, behind the distance to the vtable. The table
        // begins on a multiple of 8, so that places are as aligned as what stands there.
        let mut length = 4;
        let mut places = Vec::new();
        for field in fields {
            let (width, default) = match field {
                Value::I8(value) => (1, *value == 0),
                Value::I32(value) => (4, *value == 0),
                Value::I64(value) => (8, *value == 0),
                _ => (4, false),
            };
            if default {
                places.push(0);
                continue;
            }
            let place = usize::next_multiple_of(length, width);
            places.push(place);
            length = place + width;
        }
        let vtable_length = 4 + 2 * places.len();
        self.pad(2);
        while !(self.out.len() + vtable_length).is_multiple_of(8) {
            self.out.push(0);
        }
        self.out.extend_from_slice(&(vtable_length as u16).to_le_bytes());
        self.out.extend_from_slice(&(length as u16).to_le_bytes());
        for place in &places {
            self.out.extend_from_slice(&(*place as u16).to_le_bytes());
        }
        let at = self.out.len();
        self.out.resize(at + length, 0);
        self.out[at..at + 4].copy_from_slice(&(vtable_length as i32).to_le_bytes());
        for (field, place) in fields.iter().zip(places) {
            let to = at + place;
            match field {
                _ if place == 0 => {}
                Value::I8(value) => self.out[to] = *value as u8,
                Value::I32(value) => self.out[to..to + 4].copy_from_slice(&value.to_le_bytes()),
                Value::I64(value) => self.out[to..to + 8].copy_from_slice(&value.to_le_bytes()),
                child => self.child(to, child),
            }
        }
        at
    }

    fn refer(&mut self, from: usize, to: usize) {
        self.out[from..from + 4].copy_from_slice(&((to - from) as u32).to_le_bytes());
    }

    fn pad(&mut self, alignment: usize) {
        self.out.resize(self.out.len().next_multiple_of(alignment), 0);
    }
}

/// A time in UTC as Go writes it, by counting years and months.
fn rfc3339(seconds: i64, nanoseconds: u32) -> String {
    let (mut days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += 365 + i64::from(leap(year));
    }
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{nanoseconds:09}");
    let fraction = if nanoseconds == 0 { "" } else { fraction.trim_end_matches('0') };
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The SHA-256 hash of `data`.
pub fn hash(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}
