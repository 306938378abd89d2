//! The index itself: tables, and what can be asked of them.

use std::sync::Arc;

use super::budget::{self, Budget, Drawn};
use super::entry::{Dir, DirId, Entry, EntryKind, ROOT_DIR, Runs, Whiteout};
use super::error::Error;
use super::format::{
    self, ChunkRecord, DirRecord, EntryRecord, RunRecord, SpanRecord, WhiteoutRecord, XattrRecord,
};
use super::outline::Outline;
use super::proof::{Identity, Proof};
use super::span::{Restart, Span, SpanTable, Windows};
use crate::codec::Compression;
use crate::digest::{ContentDigest, ContentHash, DiffId, Digest};
use crate::extent::{CompressedOffset, Run, UncompressedOffset};

/// An immutable, checked layer index.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerIndex {
    pub(super) identity: Identity,
    pub(super) dirs: Vec<DirRecord>,
    pub(super) entries: Vec<EntryRecord>,
    pub(super) whiteouts: Vec<WhiteoutRecord>,
    pub(super) runs: Vec<RunRecord>,
    pub(super) xattrs: Vec<XattrRecord>,
    pub(super) spans: Vec<SpanRecord>,
    pub(super) chunks: Vec<ChunkRecord>,
    /// Names, link targets and xattr values.
    pub(super) bytes: Vec<u8>,
    /// See [`LayerIndex::missing_padding`].
    pub(super) missing_padding: u32,
    /// See [`LayerIndex::outline`].
    pub(super) outline: Option<Outline>,
    pub(super) tail: Tail,
}

/// The part of an index that a mount can do without.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tail {
    Loaded {
        hashes: Vec<ContentHash>,
        windows: Arc<Vec<u8>>,
    },
    /// Only their numbers are known: of hashes, and of bytes of windows.
    Detached {
        hashes: u64,
        windows: u64,
    },
}

impl LayerIndex {
    /// An index that says nothing of any name, in the place of one that is not known.
    pub fn nothing() -> LayerIndex {
        let blob = Digest::sha256(b"");
        let root = DirRecord {
            parent: ROOT_DIR.into(),
            name_offset: 0.into(),
            name_length: 0.into(),
            flags: 0.into(),
        };
        LayerIndex {
            identity: Identity {
                blob,
                blob_size: 0,
                diff_id: DiffId(blob),
                uncompressed_size: 0,
                compression: Compression::None,
                proof: Proof::Transport,
            },
            dirs: vec![root],
            entries: Vec::new(),
            whiteouts: Vec::new(),
            runs: Vec::new(),
            xattrs: Vec::new(),
            spans: Vec::new(),
            chunks: Vec::new(),
            bytes: Vec::new(),
            missing_padding: 0,
            outline: None,
            tail: Tail::Loaded { hashes: Vec::new(), windows: Arc::default() },
        }
    }

    /// Digest of the blob that the index was made from.
    pub fn blob(&self) -> Digest {
        self.identity.blob
    }

    /// Size of that blob in bytes.
    pub fn blob_size(&self) -> u64 {
        self.identity.blob_size
    }

    /// Digest of the uncompressed tar.
    pub fn diff_id(&self) -> DiffId {
        self.identity.diff_id
    }

    /// Size of the uncompressed tar in bytes.
    pub fn uncompressed_size(&self) -> u64 {
        self.identity.uncompressed_size
    }

    /// Bytes of zeros that have to stand behind the tar to give it its diff ID. Some writers drop
    /// them; everything else is as the diff ID says.
    pub fn missing_padding(&self) -> u32 {
        self.missing_padding
    }

    /// Compression of the blob.
    pub fn compression(&self) -> Compression {
        self.identity.compression
    }

    /// What has been checked.
    pub fn proof(&self) -> Proof {
        self.identity.proof
    }

    /// Number of directory paths.
    pub fn dir_count(&self) -> usize {
        self.dirs.len()
    }

    /// A directory path. Panics on an id from another index.
    pub fn dir(&self, id: DirId) -> Dir<'_> {
        let record = &self.dirs[id as usize];
        Dir {
            parent: record.parent.get(),
            name: self.text(record.name_offset.get(), u32::from(record.name_length.get())),
            has_entry: record.flags.get() & format::DIR_HAS_ENTRY != 0,
        }
    }

    /// All entries in the order of the tar.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.entries.iter().map(|record| self.entry(record))
    }

    /// All whiteouts and opaque marks.
    pub fn whiteouts(&self) -> impl ExactSizeIterator<Item = Whiteout<'_>> {
        self.whiteouts.iter().map(|record| Whiteout {
            dir: record.dir.get(),
            name: (record.name_length.get() > 0)
                .then(|| self.text(record.name_offset.get(), record.name_length.get())),
        })
    }

    /// Extended attributes of an entry in the order of the tar.
    pub fn xattrs(&self, entry: &Entry<'_>) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let first = entry.record.first_xattr.get() as usize;
        let count = usize::from(entry.record.xattr_count.get());
        self.xattrs[first..first + count].iter().map(|x| {
            let name = self.text(x.name_offset.get(), x.name_length.get());
            (name, self.text(x.value_offset.get(), x.value_length.get()))
        })
    }

    /// What a regular file holds. `None` for other kinds, where the index came without its tail, and
    /// where a table of contents does not say.
    ///
    /// It is the SHA-256 of the content but for sparse files of layers with very long holes: see
    /// [`MAX_HASHED_HOLES`](super::MAX_HASHED_HOLES). In an index that [`Proof::is_own`] it was computed here; otherwise the author of the index
    /// claims it.
    pub fn content_digest(&self, entry: &Entry<'_>) -> Option<ContentDigest> {
        if matches!(entry.kind, EntryKind::File { size: 0, .. }) {
            return Some(ContentDigest::EMPTY);
        }
        let Tail::Loaded { hashes, .. } = &self.tail else { return None };
        let hash = *hashes.get(entry.record.hash.get() as usize)?;
        Some(match entry.record.flags & format::ENTRY_BLOCKS {
            0 => ContentDigest::Sha256(hash),
            _ => ContentDigest::Blocks(hash),
        })
    }

    /// The runs of a sparse file.
    pub fn sparse_runs(&self, first: u32, count: u32) -> impl ExactSizeIterator<Item = Run> {
        self.runs[first as usize..(first + count) as usize].iter().map(|run| Run {
            file_offset: run.file_offset.get(),
            start: UncompressedOffset(run.start.get()),
            length: run.length.get(),
        })
    }

    /// Whether it says nothing of any name.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.whiteouts.is_empty()
    }

    /// What its names and attributes cost, as a [`Budget`] counts it.
    pub fn metadata_bytes(&self) -> u64 {
        let rows = [
            (self.dirs.len(), budget::DIR_BYTES),
            (self.entries.len(), budget::ENTRY_BYTES),
            (self.whiteouts.len(), budget::WHITEOUT_BYTES),
            (self.runs.len(), budget::RUN_BYTES),
            (self.xattrs.len(), budget::XATTR_BYTES),
            (self.chunks.len(), budget::CHUNK_BYTES),
            (self.bytes.len(), budget::TEXT_BYTES),
        ];
        rows.iter().map(|(count, bytes)| *count as u64 * bytes).sum()
    }

    /// Draws what it costs on a budget, for as long as the image is open.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn draw_on(&self, budget: &Arc<Budget>) -> Result<(), Error> {
        let mut drawn = Drawn::new(Arc::clone(budget));
        drawn.more(self.metadata_bytes())?;
        drawn.keep();
        Ok(())
    }

    /// Number of spans.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// A span. Panics past [`LayerIndex::span_count`].
    pub fn span(&self, at: usize) -> Span {
        self.spans[at].to_span()
    }

    /// What fetching and verifying the layer's bytes from a blob of this digest and size needs.
    ///
    /// The blob may be another than the one that was indexed, with the same tar in it. Then the
    /// spans are the same, but where they lie in it is not known: it has to be decoded from its
    /// start.
    pub fn span_table(&self, blob: Digest, blob_size: u64) -> SpanTable {
        let is_indexed = blob == self.identity.blob;
        let mut spans: Vec<Span> = self.spans.iter().map(SpanRecord::to_span).collect();
        if !is_indexed {
            for (at, span) in spans.iter_mut().enumerate() {
                span.compressed_start = CompressedOffset(0);
                span.compressed_end = CompressedOffset(blob_size);
                span.restart = if at == 0 { Restart::Here } else { Restart::Continues };
            }
        }
        let unproven_blob = (self.identity.proof == Proof::Hint).then_some(blob);
        if let Some(blob) = &unproven_blob {
            spans.iter_mut().for_each(|span| span.digest = span.digest.in_unproven(blob));
        }
        SpanTable {
            spans,
            chunks: self.chunks.iter().map(ChunkRecord::to_chunk).collect(),
            windows: match &self.tail {
                Tail::Loaded { windows, .. } => Windows::Loaded(Arc::clone(windows)),
                Tail::Detached { .. } => Windows::Detached,
            },
            compression: is_indexed.then_some(self.identity.compression),
            uncompressed_size: self.identity.uncompressed_size,
            proof: self.identity.proof,
            outline: self.outline,
            unproven_blob,
        }
    }

    /// Bytes of the windows that are stored, here or elsewhere.
    pub fn window_bytes(&self) -> u64 {
        match &self.tail {
            Tail::Loaded { windows, .. } => windows.len() as u64,
            Tail::Detached { windows, .. } => *windows,
        }
    }

    /// Whether all spans hold the tar itself, one after the other, under digests of our own: such an
    /// index is good for every blob with this tar.
    pub fn is_of_tar(&self) -> bool {
        self.spans.iter().all(|span| span.check == format::CHECK_CONTENT)
    }

    /// Whether offsets are those of the tar, and not of the contents alone, which is all that a table
    /// of contents knows.
    pub fn has_tar_offsets(&self) -> bool {
        self.spans.iter().all(|span| span.check != format::CHECK_CHUNKS)
    }

    /// The same index with less claimed of it: what comes from elsewhere proves nothing here.
    pub fn with_proof(mut self, proof: Proof) -> LayerIndex {
        self.identity.proof = proof;
        self
    }

    /// An entry by its place in the tar. Panics past the last.
    pub fn entry_at(&self, at: usize) -> Entry<'_> {
        self.entry(&self.entries[at])
    }

    pub(super) fn entry<'a>(&'a self, record: &'a EntryRecord) -> Entry<'a> {
        let data = record.data.get();
        let (high, low) = ((data >> 32) as u32, data as u32);
        let kind = match record.kind {
            format::KIND_FILE if record.flags & format::ENTRY_SPARSE != 0 => EntryKind::File {
                size: record.size.get(),
                runs: Runs::Sparse { first: low, count: record.extra.get() },
            },
            format::KIND_FILE => EntryKind::File {
                size: record.size.get(),
                runs: Runs::Whole(UncompressedOffset(data)),
            },
            format::KIND_SYMLINK => EntryKind::Symlink(self.text(low, record.extra.get())),
            format::KIND_HARD_LINK => {
                EntryKind::HardLink { dir: high, name: self.text(low, record.extra.get()) }
            }
            format::KIND_CHAR_DEVICE => EntryKind::CharDevice(high, low),
            format::KIND_BLOCK_DEVICE => EntryKind::BlockDevice(high, low),
            format::KIND_FIFO => EntryKind::Fifo,
            _ => EntryKind::Directory,
        };
        Entry {
            dir: record.dir.get(),
            name: self.text(record.name_offset.get(), u32::from(record.name_length.get())),
            kind,
            mode: record.mode.get(),
            uid: record.uid.get(),
            gid: record.gid.get(),
            mtime_seconds: record.mtime_seconds.get(),
            mtime_nanoseconds: record.mtime_nanoseconds.get(),
            hidden: record.flags & format::ENTRY_HIDDEN != 0,
            record,
        }
    }

    pub(super) fn text(&self, offset: u32, length: u32) -> &[u8] {
        &self.bytes[offset as usize..offset as usize + length as usize]
    }

    /// The path of a name in a directory, without a leading slash.
    pub fn path(&self, dir: DirId, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut at = dir;
        while at != ROOT_DIR {
            let dir = self.dir(at);
            parts.push(dir.name);
            at = dir.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The path of a directory, for messages: `a/b`, and `` for the root.
    pub fn dir_path(&self, id: DirId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT_DIR {
            let dir = self.dir(at);
            names.push(String::from_utf8_lossy(dir.name).into_owned());
            at = dir.parent;
        }
        names.reverse();
        names.join("/")
    }
}
