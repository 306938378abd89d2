//! Writes whole layers as containers/storage does (`podman push --compression-format
//! zstd:chunked`), and as its releases of 2022 did with other annotations.
//!
//! From pkg/chunked/compressor: a frame for each chunk of content, frames for the headers between
//! them, then skippable frames with the TOC, with what tar-split needs, and with a footer. Runs of
//! a kilobyte of zeros are chunks of their own. The real cuts of other content depend on a rolling
//! checksum; here they have a fixed distance.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::estargz::{Edit, Written, attributes, name, put, skippable, utc};
use crate::support::image::sha256;
use crate::support::tarball::{BLOCK, Entry, Kind, TarWriter};

/// Zeros that make a hole.
const HOLE: usize = 1024;

#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether to write what Buildah 1.28 wrote: annotations with stargz' names, and no tar-split.
    pub old: bool,
    /// Content of a file per chunk, in bytes.
    pub chunk_size: usize,
    pub edit: Option<Edit<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { old: false, chunk_size: 1000, edit: None }
    }
}

/// Writes a layer.
pub fn write(entries: &[Entry], options: &Options) -> Written {
    let (mut blob, mut tar, mut headers) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for entry in entries {
        let mut writer = TarWriter::new();
        writer.entry(entry);
        let encoded = writer.finish_without_end();
        tar.extend_from_slice(&encoded);
        let (seconds, nanoseconds) = entry.mtime;
        let mut first = attributes(entry);
        first.insert("modtime".into(), json!(utc(seconds, nanoseconds)));
        let type_bits = match &entry.kind {
            Kind::Dir => 0o040000,
            Kind::File(_) | Kind::Hardlink(_) => 0o100000,
            Kind::Symlink(_) => 0o120000,
            Kind::Char { .. } => 0o020000,
            Kind::Block { .. } => 0o060000,
            Kind::Fifo => 0o010000,
        };
        put(&mut first, "mode", entry.mode | type_bits);
        if options.old {
            first.insert("accesstime".into(), json!("0001-01-01T00:00:00Z"));
        }
        let data: &[u8] = if let Kind::File(data) = &entry.kind { data } else { b"" };
        if data.is_empty() {
            headers.extend_from_slice(&encoded);
            rows.push(first);
            continue;
        }
        let header = encoded.len() - data.len().next_multiple_of(BLOCK);
        headers.extend_from_slice(&encoded[..header]);
        blob.extend(frame(&std::mem::take(&mut headers)));
        let mut own = vec![first];
        let pieces = pieces(data, options.chunk_size);
        let mut at = 0;
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                let (name, kind) = (json!(name(entry)), json!("chunk"));
                own.push(Map::from_iter([("name".into(), name), ("type".into(), kind)]));
            }
            let row = &mut own[number];
            put(row, "offset", blob.len());
            if pieces.len() > 1 {
                put(row, "chunkOffset", at);
                put(row, "chunkSize", piece.len());
                row.insert("chunkDigest".into(), json!(sha256(piece)));
                if piece.len() >= HOLE && piece.iter().all(|b| *b == 0) {
                    row.insert("chunkType".into(), json!("zeros"));
                }
            }
            at += piece.len();
            blob.extend(frame(piece));
        }
        put(&mut own[0], "endOffset", blob.len());
        own[0].insert("digest".into(), json!(sha256(data)));
        rows.append(&mut own);
        headers.extend_from_slice(&encoded[header + data.len()..]);
    }
    tar.extend_from_slice(&[0; 2 * BLOCK]);
    headers.extend_from_slice(&[0; 2 * BLOCK]);
    blob.extend(frame(&headers));

    let mut json = json!({ "version": 1, "entries": rows });
    let tar_split = zstd::encode_all(&b"what rebuilds the headers"[..], 3).unwrap();
    if !options.old {
        json["tarSplitDigest"] = json!(sha256(&tar_split));
    }
    if let Some(edit) = options.edit {
        edit(&mut json);
    }
    let json = json.to_string().into_bytes();
    let compressed = frame(&json);
    let manifest = [blob.len() + 8, compressed.len(), json.len(), 1];
    blob.extend(skippable(&compressed));
    let split = [blob.len() + 8, tar_split.len(), 25];
    let text =
        |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(":");
    let prefix = match options.old {
        true => "io.containers.zstd-chunked",
        false => "io.github.containers.zstd-chunked",
    };
    let mut annotations = BTreeMap::from([
        (format!("{prefix}.manifest-checksum"), sha256(&compressed)),
        (format!("{prefix}.manifest-position"), text(&manifest)),
    ]);
    let mut numbers = manifest.to_vec();
    if !options.old {
        annotations.insert(format!("{prefix}.tarsplit-position"), text(&split));
        blob.extend(skippable(&tar_split));
        numbers.extend(split);
    }
    let mut footer: Vec<u8> = numbers.iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
    footer.extend_from_slice(if options.old { b"GnUlInUx" } else { b"GNUlInUx" });
    blob.extend(skippable(&footer));
    Written { blob, annotations, diff_id: sha256(&tar), tar, json }
}

fn frame(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

/// Cuts content at its holes and at every `size` bytes between them.
fn pieces(data: &[u8], size: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let (mut begun, mut at) = (0, 0);
    while at < data.len() {
        let zeros = data[at..].iter().take_while(|b| **b == 0).count();
        if zeros >= HOLE {
            pieces.extend(data[begun..at].chunks(size));
            pieces.push(&data[at..at + zeros]);
            begun = at + zeros;
        }
        at += zeros.max(1);
    }
    pieces.extend(data[begun..].chunks(size));
    pieces
}
