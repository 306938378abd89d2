//! The archive of a layer without what its files hold (tar-split), for engines that put it together again.
//!
//! # Problem
//!
//! An engine that pushes or saves an image writes the archives of its layers anew, byte for byte: their digests are in
//! the config. It does that from the unpacked files, and from a description that it made when it unpacked the layer
//! (`crate::source::tar_split` reads those). Of a layer that was never unpacked, there is none.
//!
//! # Design
//!
//! The layer index knows where in the tar each file's content is. All other bytes are read from the layer and stand in
//! the description; in place of a content stands the path of the file in the prefix tree of the layer, with its CRC-64, for
//! which the content has to be read too. A content that is not at its path is left in the description: files
//! that the same layer replaces, sparse ones, and what is behind a symlink, which an engine would
//! follow on the host.
//!
//! # Invariants
//!
//! - The archive that comes of it has the layer's diff ID: the description is handed out only if that is so.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::Error;
use super::prefixes::{PrefixedImage, Prefixes};
use crate::blob::{BlobReader, ReadAhead};
use crate::codec::Crc64;
use crate::digest::Hasher;
use crate::extent::UncompressedOffset;
use crate::fs::{FileKey, Filesystem};
use crate::index::{EntryKind, LayerIndex, Runs};
use crate::tree::{FileKind, Ino};

/// Bytes that are read at once, and stand in one line.
const PIECE_BYTES: u64 = 1 << 20;

/// The longest description, in bytes: of some millions of files.
const MAX_BYTES: usize = 512 << 20;

/// A line that stands for the content of a file, and one with bytes of the archive.
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// The content of a file in the tar.
struct Content {
    start: u64,
    size: u64,
    path: Vec<u8>,
}

impl Prefixes {
    /// The description of a layer of an image, compressed; `tree` is its prefix tree. `done` counts
    /// the bytes of the tar that have been read.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn tar_split(
        &self,
        image: &PrefixedImage,
        at: usize,
        tree: &Filesystem,
        done: &AtomicU64,
    ) -> Result<Vec<u8>, Error> {
        let layer = self.tar(image, at)?;
        let what = || format!("layer {}", image.layers()[at].blob);
        let number = layer.is_of_tree.then(|| image.layers()[at].number);
        let contents = contents(&layer.index, |path, key| is_there(tree, path, key, number));
        let mut writer = Writer {
            layer: layer.reader,
            deadline: image.read_deadline(),
            buf: Vec::new(),
            hasher: Hasher::new(image.layers()[at].diff_id.0.algorithm()),
            lines: GzEncoder::new(Vec::new(), Compression::fast()),
            position: 0,
            done,
        };
        let mut from = 0;
        for Content { start, size, path } in contents {
            writer.segments(from, start)?;
            writer.file(start, size, &path)?;
            from = start + size;
            if writer.lines.get_ref().len() > MAX_BYTES {
                return Err(Error::TarSplit { what: what(), why: "it has too many files" });
            }
        }
        writer.segments(from, layer.index.uncompressed_size())?;
        let padding = vec![0; layer.index.missing_padding() as usize];
        writer.segment(&padding);
        if writer.hasher.finish() != image.layers()[at].diff_id.0 {
            let why = "its bytes do not have the digest that the image's config says";
            return Err(Error::TarSplit { what: what(), why });
        }
        // Memory takes whatever is written to it.
        writer.lines.finish().map_err(Error::Probe)
    }
}

/// Where in the tar the contents are that can be found in the tree, in order.
fn contents(index: &LayerIndex, is_there: impl Fn(&[u8], (u32, u64)) -> bool) -> Vec<Content> {
    let files = (0..).zip(index.entries()).filter_map(|(number, entry)| {
        let EntryKind::File { size, runs: Runs::Whole(start) } = entry.kind else { return None };
        let path = index.path(entry.dir, entry.name);
        let is_whole = size > 0 && is_there(&path, (number, size));
        is_whole.then_some(Content { start: start.0, size, path })
    });
    let mut files: Vec<Content> = files.collect();
    files.sort_by_key(|content| content.start);
    let mut end = 0;
    // In a tar no two contents overlap; what would is left where it is.
    files.retain(|content| {
        let is_next = content.start >= end;
        end = if is_next { content.start.saturating_add(content.size) } else { end };
        is_next
    });
    files
}

/// Whether the tree has a file at a path, without a look at symlinks, and it is the one that is made from an entry. Where
/// the layer is not known to the tree by the same index (`number`), it has to have the size.
fn is_there(tree: &Filesystem, path: &[u8], entry: (u32, u64), number: Option<u32>) -> bool {
    let names = path.split(|byte| *byte == b'/');
    let found = names.into_iter().try_fold(Ino::ROOT, |dir, name| match tree.tree().kind(dir) {
        FileKind::Directory => tree.tree().lookup(dir, name),
        _ => None,
    });
    let Some(found) = found else { return false };
    match number {
        Some(number) => tree
            .shared_file(found)
            .is_some_and(|FileKey { layer, entry: from, .. }| (layer, from) == (number, entry.0)),
        None => tree.tree().content(found).is_some_and(|content| content.size == entry.1),
    }
}

struct Writer<'a> {
    layer: Arc<BlobReader>,
    deadline: std::time::Duration,
    buf: Vec<u8>,
    hasher: Hasher,
    lines: GzEncoder<Vec<u8>>,
    /// Number of the next line.
    position: u64,
    done: &'a AtomicU64,
}

impl Writer<'_> {
    /// Reads bytes of the tar.
    fn read(&mut self, start: u64, length: u64) -> Result<(), Error> {
        self.buf.resize(length as usize, 0);
        let give_up = Instant::now() + self.deadline;
        let all = |_| ReadAhead::Files(0..u64::MAX);
        self.layer.read(UncompressedOffset(start), &mut self.buf, give_up, &all)?;
        self.hasher.update(&self.buf);
        self.done.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Leaves bytes of the tar in the description.
    fn segments(&mut self, mut start: u64, end: u64) -> Result<(), Error> {
        while start < end {
            let length = (end - start).min(PIECE_BYTES);
            self.read(start, length)?;
            let payload = STANDARD.encode(&self.buf);
            self.line(json!({ "type": SEGMENT, "payload": payload }));
            start += length;
        }
        Ok(())
    }

    /// The same of bytes that are not in the layer.
    fn segment(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.hasher.update(bytes);
            self.line(json!({ "type": SEGMENT, "payload": STANDARD.encode(bytes) }));
        }
    }

    /// Names a file in place of its content.
    fn file(&mut self, start: u64, size: u64, path: &[u8]) -> Result<(), Error> {
        let (mut crc, mut at) = (Crc64::default(), 0);
        while at < size {
            let length = (size - at).min(PIECE_BYTES);
            self.read(start + at, length)?;
            crc.update(&self.buf);
            at += length;
        }
        let payload = STANDARD.encode(crc.finish().to_be_bytes());
        let mut line = json!({ "type": FILE, "size": size, "payload": payload });
        match std::str::from_utf8(path) {
            Ok(path) => line["name"] = path.into(),
            Err(_) => line["name_raw"] = STANDARD.encode(path).into(),
        }
        self.line(line);
        Ok(())
    }

    fn line(&mut self, mut line: serde_json::Value) {
        line["position"] = self.position.into();
        self.position += 1;
        // Memory takes whatever is written to it.
        let _ = writeln!(self.lines, "{line}");
    }
}
