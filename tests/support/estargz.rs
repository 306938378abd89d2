//! Writes whole layers as stargz-snapshotter does: eStargz, its predecessor stargz, and its own
//! dialect of zstd:chunked, which differs in the compression and at the end only.
//!
//! From docs/estargz.md and the behaviour of its writer: before the content of every file (and of
//! every chunk of a large one) a new member begins, which lasts until the next content; with a
//! minimum size small files share one, found by an inner offset.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use crate::support::image::sha256;
use crate::support::tarball::{BLOCK, Entry, Kind, TarWriter};

pub const JSON_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The contents of a landmark.
const LANDMARK: [u8; 1] = [0x0f];

/// A finished layer. Tests that need a lie change the fields.
#[derive(Clone, Debug)]
pub struct Written {
    pub blob: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
    /// The tar that the blob unpacks to.
    pub tar: Vec<u8>,
    pub diff_id: String,
    /// The JSON of the TOC.
    pub json: Vec<u8>,
}

/// Changes the JSON before it is written, with digests that fit the change.
pub type Edit<'a> = &'a dyn Fn(&mut Value);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// gzip with the footer of 51 bytes.
    Estargz,
    /// gzip with the footer of 47 bytes.
    Legacy,
    /// gzip with the footer of 46 bytes, which says that the TOC is elsewhere.
    External,
    /// zstd with the footer of 40 bytes.
    Zstd,
}

/// How to write. Starts as what `ctr-remote image optimize` does but for a small chunk size.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    pub form: Form,
    /// Content of a file per chunk, in bytes.
    pub chunk_size: usize,
    /// Uncompressed bytes that a member has at least before the next begins.
    pub min_member: usize,
    /// Whether to put `.no.prefetch.landmark` first.
    pub landmark: bool,
    pub edit: Option<Edit<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let form = Form::Estargz;
        Options { form, chunk_size: 1000, min_member: 0, landmark: true, edit: None }
    }
}

/// Writes a layer.
pub fn write(entries: &[Entry], options: &Options) -> Written {
    let mut members =
        Members { blob: Vec::new(), tar: Vec::new(), open: Vec::new(), start: 0, options };
    let landmark = options.landmark.then(|| Entry::file(".no.prefetch.landmark", LANDMARK));
    let mut rows = Vec::new();
    for entry in landmark.iter().chain(entries) {
        let mut writer = TarWriter::new();
        writer.entry(entry);
        let encoded = writer.finish_without_end();
        let Kind::File(data) = &entry.kind else {
            members.open.extend_from_slice(&encoded);
            rows.push(row(entry));
            continue;
        };
        let header = encoded.len() - data.len().next_multiple_of(BLOCK);
        members.open.extend_from_slice(&encoded[..header]);
        let mut next = row(entry);
        next.insert("digest".into(), json!(sha256(data)));
        if data.is_empty() {
            rows.push(next);
            continue;
        }
        for (number, chunk) in data.chunks(options.chunk_size).enumerate() {
            let (offset, inner_offset) = members.begin_content();
            members.open.extend_from_slice(chunk);
            put(&mut next, "offset", offset);
            put(&mut next, "innerOffset", inner_offset);
            put(&mut next, "chunkOffset", number * options.chunk_size);
            // Only full chunks state their size.
            if chunk.len() == options.chunk_size {
                put(&mut next, "chunkSize", chunk.len());
            }
            next.insert("chunkDigest".into(), json!(sha256(chunk)));
            rows.push(next);
            next = Map::new();
            next.insert("name".into(), json!(name(entry)));
            next.insert("type".into(), json!("chunk"));
        }
        members.open.extend_from_slice(&encoded[header + data.len()..]);
    }
    members.close();
    let mut json = json!({ "version": 1, "entries": rows });
    if let Some(edit) = options.edit {
        edit(&mut json);
    }
    let json = serde_json::to_vec_pretty(&json).unwrap();
    let mut annotations = BTreeMap::from([(JSON_DIGEST.to_owned(), sha256(&json))]);
    let toc_at = members.blob.len();
    if options.form == Form::Zstd {
        let compressed = zstd::encode_all(&json[..], 3).unwrap();
        let numbers = [toc_at + 8, compressed.len(), json.len(), 1];
        let position = numbers.map(|n| n.to_string()).join(":");
        for (key, value) in [("checksum", sha256(&compressed)), ("position", position)] {
            annotations.insert(format!("io.containers.zstd-chunked.manifest-{key}"), value);
        }
        let mut footer: Vec<u8> = numbers.iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
        footer.extend_from_slice(b"GnUlInUx");
        members.blob.extend(skippable(&compressed));
        members.blob.extend(skippable(&footer));
    } else {
        let mut writer = TarWriter::new();
        writer.entry(&Entry::file("stargz.index.json", &json));
        members.open = writer.finish();
        members.close();
        members.blob.extend(footer(options.form, toc_at));
    }
    let Members { blob, tar, .. } = members;
    Written { blob, annotations, diff_id: sha256(&tar), tar, json }
}

/// Writes an eStargz layer of these members, with a table whose rows are made of their offsets: for
/// tars that [`write`] can't make.
pub fn compose(members: &[Vec<u8>], rows: &dyn Fn(&[usize]) -> Vec<Value>) -> Written {
    let options = Options::default();
    let mut written = Members {
        blob: Vec::new(),
        tar: Vec::new(),
        open: Vec::new(),
        start: 0,
        options: &options,
    };
    let mut offsets = Vec::new();
    for member in members {
        offsets.push(written.start);
        written.open.clone_from(member);
        written.close();
    }
    let json = serde_json::to_vec(&json!({ "version": 1, "entries": rows(&offsets) })).unwrap();
    let toc_at = written.blob.len();
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("stargz.index.json", &json));
    written.open = writer.finish();
    written.close();
    written.blob.extend(footer(Form::Estargz, toc_at));
    let Members { blob, tar, .. } = written;
    let annotations = BTreeMap::from([(JSON_DIGEST.to_owned(), sha256(&json))]);
    Written { blob, annotations, diff_id: sha256(&tar), tar, json }
}

/// Compresses one member after the other.
struct Members<'a> {
    blob: Vec<u8>,
    tar: Vec<u8>,
    /// What goes into the next member.
    open: Vec<u8>,
    /// Where it will begin.
    start: usize,
    options: &'a Options<'a>,
}

impl Members<'_> {
    /// Where the content that comes next will be: offset of its member, and offset in that.
    fn begin_content(&mut self) -> (usize, usize) {
        if self.open.len() >= self.options.min_member {
            self.close();
        }
        (self.start, self.open.len())
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.open);
        self.tar.extend_from_slice(&data);
        self.blob.extend(match self.options.form {
            Form::Zstd => zstd::encode_all(&data[..], 3).unwrap(),
            _ => gzip(&data),
        });
        self.start = self.blob.len();
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A skippable zstd frame (RFC 8878, 3.1.2).
pub fn skippable(data: &[u8]) -> Vec<u8> {
    [&[0x50, 0x2a, 0x4d, 0x18], &(data.len() as u32).to_le_bytes()[..], data].concat()
}

/// An empty gzip member with the offset of the TOC in its extra field.
fn footer(form: Form, toc_at: usize) -> Vec<u8> {
    let extra = match form {
        Form::Legacy => format!("{toc_at:016x}STARGZ"),
        Form::External => "SG\x11\0STARGZEXTERNALTOC".to_owned(),
        _ => format!("SG\x16\0{toc_at:016x}STARGZ"),
    };
    let mut out = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, extra.len() as u8, 0];
    out.extend_from_slice(extra.as_bytes());
    out.extend_from_slice(&[1, 0, 0, 255, 255]);
    out.resize(out.len() + 8, 0);
    out
}

/// The name as the tar has it, with what is not UTF-8 lost, as in Go.
pub fn name(entry: &Entry) -> String {
    let name = String::from_utf8_lossy(&entry.path).into_owned();
    if entry.kind == Kind::Dir && !name.ends_with('/') { name + "/" } else { name }
}

/// Go leaves zeros out.
pub fn put(row: &mut Map<String, Value>, key: &str, value: impl TryInto<u64>) {
    let value = value.try_into().ok().expect("fits a field");
    if value != 0 {
        row.insert(key.to_owned(), json!(value));
    }
}

/// What of an entry is the same in all formats but the time, which this format rounds to seconds.
fn row(entry: &Entry) -> Map<String, Value> {
    let mut row = attributes(entry);
    if entry.mtime.0 != 0 {
        row.insert("modtime".into(), json!(utc(entry.mtime.0, 0)));
    }
    row
}

/// The fields of a row that have nothing to do with time and content.
pub fn attributes(entry: &Entry) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("name".into(), json!(name(entry)));
    let text = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
    let kind = match &entry.kind {
        Kind::File(data) => {
            put(&mut row, "size", data.len());
            "reg"
        }
        Kind::Dir => "dir",
        Kind::Symlink(target) => {
            row.insert("linkName".into(), text(target));
            "symlink"
        }
        Kind::Hardlink(target) => {
            row.insert("linkName".into(), text(target));
            "hardlink"
        }
        Kind::Char { major, minor } | Kind::Block { major, minor } => {
            put(&mut row, "devMajor", *major);
            put(&mut row, "devMinor", *minor);
            if matches!(entry.kind, Kind::Char { .. }) { "char" } else { "block" }
        }
        Kind::Fifo => "fifo",
    };
    row.insert("type".into(), json!(kind));
    for (key, value) in [("mode", entry.mode), ("uid", entry.uid), ("gid", entry.gid)] {
        put(&mut row, key, value);
    }
    if !entry.xattrs.is_empty() {
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (String::from_utf8_lossy(name).into_owned(), json!(base64(value)))
        };
        let map: Map<String, Value> = entry.xattrs.iter().map(pair).collect();
        row.insert("xattrs".into(), Value::Object(map));
    }
    row
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3)
            .fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= group.len() { letter.into() } else { '=' });
        }
    }
    out
}

/// A time in RFC 3339, found by counting years and months from the epoch.
pub fn utc(seconds: i64, nanoseconds: u32) -> String {
    let (mut days, clock) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let year_days = |year: i64| if is_leap(year) { 366 } else { 365 };
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += year_days(year);
    }
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    let fraction = match nanoseconds {
        0 => String::new(),
        n => format!(".{n:09}").trim_end_matches('0').to_owned(),
    };
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}
