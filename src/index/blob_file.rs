//! Indexes of blobs that are files themselves, and of tars that are shown below a directory.
//!
//! # Problem
//!
//! Artifacts have blobs that are files: a model, a policy, a signature. All that shows, compares and reads
//! layers works on layer indexes. A first pass over a model of 40 GB, to learn what its descriptor says already,
//! would be absurd.
//!
//! # Design
//!
//! An index of one file, made of the blob's digest and size. The digest of a blob is that of all its bytes, so a
//! blob of up to [`MAX_PROVEN_BYTES`] is one span, which is verified by it before any of it is shown. A larger one
//! has many spans that nothing verifies, and says so ([`Proof::Transport`]).
//!
//! Rejected: one span for the larger ones too, with which the first byte of a model costs all of it.

use std::sync::Arc;

use super::entry::ROOT_DIR;
use super::error::Error;
use super::format::{
    ChunkRecord, DirRecord, EntryRecord, KIND_FILE, KIND_HARD_LINK, NO_HASH, SpanRecord,
};
use super::layer_index::{LayerIndex, Tail};
use super::proof::{Identity, Proof};
use super::span::{Check, Chunk, MAX_SPAN_BYTES, Restart, Span};
use crate::codec::Compression;
use crate::digest::{Algorithm, ContentHash, DiffId, Digest, SpanDigest};
use crate::extent::{CompressedOffset, UncompressedOffset};

/// Most bytes of a blob that is fetched as a whole and verified before any of it is shown.
pub const MAX_PROVEN_BYTES: u64 = MAX_SPAN_BYTES as u64;

/// A span of a larger one, unless there would be too many.
const SPAN_BYTES: u64 = 1 << 20;
const MAX_SPANS: u64 = 1 << 16;

/// Most bytes of a blob that is a file: 4 TiB.
pub const MAX_FILE_BYTES: u64 = MAX_SPANS * MAX_SPAN_BYTES as u64;

impl LayerIndex {
    /// The index of a blob that is a file; which, [`LayerIndex::shown_as_file`] says.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than [`MAX_FILE_BYTES`].
    pub fn of_file(blob: Digest, size: u64) -> Result<LayerIndex, Error> {
        let sha256 = sha256_of(&blob);
        let is_proven = size == 0 || size <= MAX_PROVEN_BYTES && sha256.is_some();
        let (spans, chunks) = match sha256.filter(|_| is_proven && size > 0) {
            Some(digest) => one_span(digest, size),
            None => (plain_spans(size)?, Vec::new()),
        };
        let proof = if is_proven { Proof::Full } else { Proof::Transport };
        Ok(LayerIndex::of_spans(blob, size, &spans, chunks, proof))
    }

    /// The index of a larger one whose bytes have proven to be those of its digest, with the digests that its spans
    /// turned out to have; `None` if these are not as many as it has spans.
    pub fn of_proven_file(blob: Digest, size: u64, digests: &[SpanDigest]) -> Option<LayerIndex> {
        let mut spans = plain_spans(size).ok()?;
        if spans.len() != digests.len() {
            return None;
        }
        for (span, digest) in spans.iter_mut().zip(digests) {
            (span.check, span.digest) = (Check::Content, *digest);
        }
        let index = LayerIndex::of_spans(blob, size, &spans, Vec::new(), Proof::Full);
        // Its name is none that is shown.
        index.shown_as_file(b"blob", 0o644, 0).ok()
    }

    fn of_spans(
        blob: Digest,
        size: u64,
        spans: &[Span],
        chunks: Vec<ChunkRecord>,
        proof: Proof,
    ) -> LayerIndex {
        let sha256 = sha256_of(&blob);
        let entry = EntryRecord {
            dir: ROOT_DIR.into(),
            name_offset: 0.into(),
            name_length: 0.into(),
            kind: KIND_FILE,
            flags: 0,
            mode: 0.into(),
            xattr_count: 0.into(),
            uid: 0.into(),
            gid: 0.into(),
            mtime_seconds: 0.into(),
            mtime_nanoseconds: 0.into(),
            size: size.into(),
            data: 0.into(),
            extra: 0.into(),
            first_xattr: 0.into(),
            hash: if sha256.is_some() { 0 } else { NO_HASH }.into(),
        };
        LayerIndex {
            identity: Identity {
                blob,
                blob_size: size,
                diff_id: DiffId(blob),
                uncompressed_size: size,
                compression: Compression::None,
                proof,
            },
            dirs: vec![root()],
            entries: vec![entry],
            whiteouts: Vec::new(),
            runs: Vec::new(),
            xattrs: Vec::new(),
            spans: spans.iter().map(SpanRecord::new).collect(),
            chunks,
            bytes: Vec::new(),
            missing_padding: 0,
            outline: None,
            tail: Tail::Loaded {
                hashes: sha256.into_iter().collect(),
                windows: Arc::new(Vec::new()),
            },
        }
    }

    /// The index of a file, with this path and these attributes for it.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: no path of a plan is.
    pub fn shown_as_file(
        mut self,
        path: &[u8],
        mode: u16,
        mtime_seconds: i64,
    ) -> Result<LayerIndex, Error> {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let below = path[..start].strip_suffix(b"/").unwrap_or_default();
        let name_offset = u32::try_from(self.bytes.len()).map_err(|_| Error::TooLarge)?;
        let name_length = u16::try_from(path.len() - start).map_err(|_| Error::TooLarge)?;
        self.bytes.extend_from_slice(&path[start..]);
        for entry in &mut self.entries {
            entry.name_offset = name_offset.into();
            entry.name_length = name_length.into();
            entry.mode = mode.into();
            entry.mtime_seconds = mtime_seconds.into();
        }
        self.shown_below(below)
    }

    /// The index with all of its paths below a directory, which is a clean relative path.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: there is no room for more names.
    pub fn shown_below(mut self, directory: &[u8]) -> Result<LayerIndex, Error> {
        let parts: Vec<&[u8]> =
            directory.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let more = u32::try_from(parts.len()).map_err(|_| Error::TooLarge)?;
        if more == 0 {
            return Ok(self);
        }
        let mut dirs = vec![root()];
        for (at, part) in parts.iter().enumerate() {
            let name_offset = u32::try_from(self.bytes.len()).map_err(|_| Error::TooLarge)?;
            let name_length = u16::try_from(part.len()).map_err(|_| Error::TooLarge)?;
            self.bytes.extend_from_slice(part);
            dirs.push(DirRecord {
                parent: (at as u32).into(),
                name_offset: name_offset.into(),
                name_length: name_length.into(),
                flags: 0.into(),
            });
        }
        // What was the root is the last of them.
        let moved = |dir: u32| dir + more;
        for dir in &self.dirs[1..] {
            dirs.push(DirRecord { parent: moved(dir.parent.get()).into(), ..*dir });
        }
        self.dirs = dirs;
        // An entry of the root has no name: the directory keeps the attributes that any has.
        self.entries.retain(|entry| entry.name_length.get() > 0);
        for entry in &mut self.entries {
            entry.dir = moved(entry.dir.get()).into();
            if entry.kind == KIND_HARD_LINK {
                let data = entry.data.get();
                entry.data =
                    (u64::from(moved((data >> 32) as u32)) << 32 | data & 0xffff_ffff).into();
            }
        }
        for whiteout in &mut self.whiteouts {
            whiteout.dir = moved(whiteout.dir.get()).into();
        }
        Ok(self)
    }
}

/// The SHA-256 of a blob's content, if its digest is one.
fn sha256_of(blob: &Digest) -> Option<ContentHash> {
    match blob.algorithm() {
        Algorithm::Sha256 => blob.hash().try_into().ok(),
        Algorithm::Sha512 => None,
    }
}

fn root() -> DirRecord {
    DirRecord {
        parent: ROOT_DIR.into(),
        name_offset: 0.into(),
        name_length: 0.into(),
        flags: 0.into(),
    }
}

fn one_span(digest: ContentHash, size: u64) -> (Vec<Span>, Vec<ChunkRecord>) {
    let chunk = Chunk { compressed_start: CompressedOffset(0), skip: 0, length: size, digest };
    let span = Span {
        start: UncompressedOffset(0),
        // At most MAX_PROVEN_BYTES.
        length: size as u32,
        compressed_start: CompressedOffset(0),
        compressed_end: CompressedOffset(size),
        restart: Restart::Here,
        check: Check::Compressed { chunk: 0 },
        digest: SpanDigest::of_compressed(digest, 0, &[], size),
    };
    (vec![span], vec![ChunkRecord::new(&chunk)])
}

/// The spans of a blob of so many bytes that is not compressed, and of which no digest is known but its own.
///
/// # Errors
/// [`Error::TooLarge`] for more than [`MAX_FILE_BYTES`].
pub fn plain_spans(size: u64) -> Result<Vec<Span>, Error> {
    if size > MAX_FILE_BYTES {
        return Err(Error::TooLarge);
    }
    let length = SPAN_BYTES.max(size.div_ceil(MAX_SPANS));
    let span = |start: u64| {
        let length = length.min(size - start);
        Span {
            start: UncompressedOffset(start),
            // At most MAX_SPAN_BYTES.
            length: length as u32,
            compressed_start: CompressedOffset(start),
            compressed_end: CompressedOffset(start + length),
            restart: Restart::Here,
            check: Check::Transport,
            // It is known when the bytes have come.
            digest: SpanDigest([0; 32]),
        }
    };
    Ok((0..size).step_by(length as usize).map(span).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::index::EntryKind;

    fn paths(index: &LayerIndex) -> Vec<Vec<u8>> {
        index.entries().map(|entry| index.path(entry.dir, entry.name)).collect()
    }

    #[test]
    fn a_file_is_one_span_up_to_a_limit() {
        let blob = Digest::sha256(b"a model");
        for (size, spans, proof) in [
            (0, 0, Proof::Full),
            (1, 1, Proof::Full),
            (MAX_PROVEN_BYTES, 1, Proof::Full),
            (MAX_PROVEN_BYTES + 1, 65, Proof::Transport),
            (1 << 40, 1 << 16, Proof::Transport),
        ] {
            let index = LayerIndex::of_file(blob, size).unwrap();
            let shown = index.shown_as_file(b"a/b/model.gguf", 0o640, 7).unwrap();
            shown.check().unwrap();
            assert_eq!((shown.span_count(), shown.proof()), (spans, proof), "{size}");
            assert_eq!(paths(&shown), [b"a/b/model.gguf"]);
            let entry = shown.entry_at(0);
            assert_eq!((entry.mode, entry.mtime_seconds), (0o640, 7));
            assert!(matches!(entry.kind, EntryKind::File { size: s, .. } if s == size));
        }
        assert!(LayerIndex::of_file(blob, u64::MAX).is_err());
    }

    /// What nothing verifies can't be stored as if something did.
    #[test]
    fn bytes_without_proof_are_never_those_of_a_stored_index() {
        let index = LayerIndex::of_file(Digest::sha256(b"x"), 1 << 30).unwrap();
        assert!(LayerIndex::decode(&index.encode()).is_err());
        assert!(index.with_proof(Proof::Full).check().is_err());
        let small = LayerIndex::of_file(Digest::sha256(b"x"), 1000).unwrap();
        let small = small.shown_as_file(b"x", 0o644, 0).unwrap();
        assert_eq!(LayerIndex::decode(&small.encode()).unwrap(), small);
        assert!(small.with_proof(Proof::Transport).check().is_err());
    }
}
