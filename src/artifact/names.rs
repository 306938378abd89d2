//! Names of files, from what an artifact says of its blobs.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::json;
use crate::oci::{Descriptor, Manifest, annotation, media_type, parse_time};

/// A file's path in a model (model-spec, annotations.md).
const FILEPATH: &str = "org.cncf.model.filepath";

/// Its attributes, as JSON.
const METADATA: [&str; 2] =
    ["org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json"];

/// Longest name and path that Linux takes, in bytes.
const MAX_NAME_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4000;

/// Changed names that are told.
const MAX_TOLD: usize = 20;

/// Permission bits of a file that nothing is said of.
pub(super) const MODE: u16 = 0o644;

/// The title of a blob, if it has one.
pub(super) fn title(blob: &Descriptor) -> Option<&str> {
    annotation(blob, annotation::TITLE)
}

/// The path of a blob in a model.
pub(super) fn filepath(blob: &Descriptor) -> Option<&str> {
    annotation(blob, FILEPATH)
}

pub(super) fn annotation<'a>(blob: &'a Descriptor, key: &str) -> Option<&'a str> {
    blob.annotations.get(key).map(String::as_str).filter(|text| !text.is_empty())
}

/// When an artifact says that it was made, in seconds since the epoch.
pub(super) fn created(manifest: &Manifest) -> i64 {
    let created = manifest.annotations.get(annotation::CREATED);
    created.and_then(|text| parse_time(text)).map_or(0, |(seconds, _)| seconds)
}

/// What writers of models note of a file. `typeflag` and `size` are wrong for what is packed, and not read.
#[derive(Deserialize)]
#[serde(expecting = "attributes of a file")]
struct Metadata {
    #[serde(default, deserialize_with = "json::or_default")]
    mode: u32,
    #[serde(default, deserialize_with = "json::or_default")]
    mtime: String,
}

/// Permission bits of a blob's file and, if they are said, its times. The owner can always read it: writers exist
/// that note the bits of a temporary file.
pub(super) fn metadata(blob: &Descriptor) -> (u16, Option<i64>) {
    let text = METADATA.iter().find_map(|key| annotation(blob, key));
    let Some(Ok(metadata)) = text.map(serde_json::from_str::<Metadata>) else {
        return (MODE, None);
    };
    let mode = match metadata.mode & 0o777 {
        0 => MODE,
        mode => mode as u16 | 0o444,
    };
    (mode, parse_time(&metadata.mtime).map(|(seconds, _)| seconds))
}

/// The name of a blob that nothing names: its digest and, unless that is unwanted, what its media type
/// ends with.
pub(super) fn by_digest(blob: &Descriptor, is_bare: bool) -> String {
    let digest = blob.digest;
    let extension = if is_bare { "" } else { extension(&blob.media_type) };
    format!("{}-{}{extension}", digest.algorithm().name(), digest.hex())
}

/// What a file of a media type is called at its end.
pub(super) fn extension(media_type: &str) -> &'static str {
    const ENDS: [(&str, &str); 19] = [
        ("tar+gzip", ".tar.gz"),
        ("tar.gzip", ".tar.gz"),
        ("tar.gz", ".tar.gz"),
        ("tar+zstd", ".tar.zst"),
        ("tar.zstd", ".tar.zst"),
        ("tar", ".tar"),
        ("+json", ".json"),
        ("/json", ".json"),
        ("yaml", ".yaml"),
        ("wasm", ".wasm"),
        ("rego", ".rego"),
        ("safetensors", ".safetensors"),
        ("gguf", ".gguf"),
        ("+xml", ".xml"),
        ("text/plain", ".txt"),
        ("text/markdown", ".md"),
        ("application/pdf", ".pdf"),
        ("application/zip", ".zip"),
        ("jose", ".jws"),
    ];
    let essence = media_type::essence(media_type);
    ENDS.iter().find(|(end, _)| essence.ends_with(end)).map_or("", |(_, extension)| extension)
}

/// What the name of a file ends with that is compressed as its media type says.
pub(super) fn compressed_extension(media_type: &str) -> &'static str {
    match media_type::essence(media_type).ends_with("zstd") {
        true => ".zst",
        false => ".gz",
    }
}

/// A path as it can be shown: relative, without `.` and `..`, and no longer than Linux takes.
pub(super) fn clean(path: &str) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => {
                let part: Vec<u8> = part.bytes().filter(|byte| *byte != 0).collect();
                parts.push(shortened(part, MAX_NAME_BYTES));
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    // A path that is too long keeps its end, which says more.
    while parts.iter().map(|part| part.len() + 1).sum::<usize>() > MAX_PATH_BYTES {
        parts.remove(0);
    }
    parts.join(&b'/')
}

/// The first bytes of a name, cut where no character is cut.
fn shortened(mut name: Vec<u8>, most: usize) -> Vec<u8> {
    if name.len() > most {
        let is_inside = |at: &usize| name[*at] & 0xc0 == 0x80;
        let end = (0..=most).rev().find(|at| !is_inside(at)).unwrap_or(most);
        name.truncate(end);
    }
    name
}

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: HashSet<Vec<u8>>,
    directories: HashSet<Vec<u8>>,
    /// The number that a name which is taken gets next.
    next: HashMap<Vec<u8>, usize>,
    changed: Vec<(String, String)>,
}

impl Names {
    /// The path of a file that wants this one: another if it is taken, or is none. What is unpacked needs its
    /// name only if it turns out to be no tar.
    pub(super) fn take(&mut self, wanted: &str, is_spare: bool) -> Vec<u8> {
        let cleaned = clean(wanted);
        let mut path = if cleaned.is_empty() { b"unnamed".to_vec() } else { cleaned };
        while !self.is_free(&path) {
            path = self.numbered(&path);
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.directories.insert(path[..at].to_vec());
        }
        self.files.insert(path.clone());
        let usual = wanted.trim_start_matches("./").as_bytes();
        if path != usual && !is_spare && self.changed.len() < MAX_TOLD {
            self.changed.push((wanted.to_owned(), String::from_utf8_lossy(&path).into_owned()));
        }
        path
    }

    fn is_free(&self, path: &[u8]) -> bool {
        !self.files.contains(path)
            && !self.directories.contains(path)
            && self.file_above(path).is_none()
    }

    /// The end of a directory of the path that is a file.
    fn file_above(&self, path: &[u8]) -> Option<usize> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| at).find(|at| self.files.contains(&path[..*at]))
    }

    /// The path with a number behind the part that is taken.
    fn numbered(&mut self, path: &[u8]) -> Vec<u8> {
        let end = self.file_above(path).unwrap_or(path.len());
        let (taken, rest) = path.split_at(end);
        let next = self.next.entry(taken.to_vec()).or_insert(1);
        *next += 1;
        let number = format!("~{next}").into_bytes();
        let start = taken.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = shortened(taken[start..].to_vec(), MAX_NAME_BYTES - number.len());
        [&taken[..start], &name, &number, rest].concat()
    }

    /// Names that were changed: wanted, and shown.
    pub(super) fn into_changed(self) -> Vec<(String, String)> {
        self.changed
    }
}
