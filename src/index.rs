//! The layer index: everything about one layer except its bytes.
//!
//! # Problem
//!
//! A layer is a tar in a compressed stream: to find one file one has to read all of it. The layer
//! index is made in one pass and then answers for good: which entries are there, where their bytes
//! lie in the uncompressed tar, and which [`Span`]s of it can be had on their own.
//!
//! # Design
//!
//! Flat tables of fixed-size little-endian records ([`mod@format`]) that are copied out of the file
//! with one `memcpy` each and never parsed. Entries stay in the order of the tar, because that
//! order has meaning: later entries replace earlier ones and hard links are resolved where they
//! stand. (Rejected: a table sorted for lookup. What a path of a layer means depends on the layers
//! below it, through symlinked parents, so lookup belongs to the merged tree; sorting here would
//! only lose the order.) Paths are a table of directories, each with its parent before it, so that
//! a name is stored once and the merge resolves each directory once.
//!
//! Whiteouts and opaque marks are kept apart from entries: they act on lower layers only, wherever
//! they stand in the tar.
//!
//! # Invariants
//!
//! A [`LayerIndex`] that exists is sound: every reference between its tables is in range, every
//! directory's parent precedes it, runs and spans are ordered, disjoint and inside the layer.
//! [`LayerIndex::decode`] checks all of it, so the accessors cannot fail.

mod budget;
mod builder;
mod decode;
mod external;
pub mod format;

use std::sync::Arc;

use crate::codec::Compression;
use crate::digest::{ContentDigest, ContentHash, DiffId, Digest, SpanDigest};
use crate::extent::{CompressedOffset, Run, UncompressedOffset};
use crate::hint::Hint;
use crate::tar;

pub use budget::{Budget, Drawn};
pub use builder::{Builder, MAX_HASHED_HOLES};
pub use decode::DecodeError;
pub use external::ExternalError;
use format::{
    ChunkRecord, DirRecord, EntryRecord, RunRecord, SpanRecord, WhiteoutRecord, XattrRecord,
};

/// Entries accepted in one layer. Each costs about 100 bytes of memory.
pub const MAX_ENTRIES: usize = 16 << 20;

/// The longest path accepted, in bytes: Linux's `PATH_MAX`, past which nothing could unpack it.
pub const MAX_PATH_BYTES: usize = 4096;

/// The longest name of a file, in bytes: Linux's `NAME_MAX`.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest symlink target in bytes: what `readlink(2)` over FUSE can return.
pub const MAX_SYMLINK_BYTES: usize = 4095;

/// The longest span in uncompressed bytes: all of one is in memory while it is verified.
pub const MAX_SPAN_BYTES: u32 = 64 << 20;

/// Why a layer can't be indexed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Tar(#[from] tar::Error),
    #[error("entry with an empty name")]
    EmptyName,
    #[error("entry `{0}` climbs above the root with `..`")]
    ClimbsOut(String),
    #[error("entry `{0}`: the path is longer than 4096 bytes")]
    PathTooLong(String),
    #[error("entry `{0}`: a name in it is longer than 255 bytes")]
    NameTooLong(String),
    #[error("entry `{0}` would replace the root directory by something else")]
    RootNotDirectory(String),
    #[error("entry `{0}`: whiteouts of nothing, `.` or `..` are invalid")]
    InvalidWhiteout(String),
    #[error("symlink `{0}`: the target is empty or longer than 4095 bytes")]
    SymlinkTarget(String),
    #[error("hard link `{0}` climbs above the root with `..`")]
    LinkClimbsOut(String),
    #[error("the layer has more than {MAX_ENTRIES} entries or 4 GiB of names")]
    TooLarge,
    #[error(
        "names and attributes of the image would take more than {limit} bytes of memory, far more than \
         layers of its size should"
    )]
    Budget { limit: u64 },
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Budget { .. } => Some(Hint::AllowMoreMetadata),
            _ => None,
        }
    }
}

/// An extended attribute that every file has and none lists: `full`, `tar`, `toc` or `hint`. It is not
/// listed so that copies and archives of a mount do not take it along.
pub const PROOF_XATTR: &[u8] = b"user.ocifs.proof";

/// What of a layer was checked against digests that the manifest commits to.
///
/// Ordered: a later variant proves more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing: found through referrers, which anybody with push rights can change.
    Hint,
    /// The table of contents has a digest in the manifest; content is verified against it.
    Toc,
    /// A layer of the same diff ID was streamed, and every span digest is our own. The blob that the manifest
    /// names was not seen, nor whether there is one.
    Tar,
    /// The whole layer was streamed: blob digest or diff ID, and every span digest is our own.
    Full,
}

impl Proof {
    /// Whether the index was made here, of a layer that was streamed.
    pub fn is_own(self) -> bool {
        self >= Proof::Tar
    }

    /// The word shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Hint => "hint",
            Proof::Toc => "toc",
            Proof::Tar => "tar",
            Proof::Full => "full",
        }
    }
}

/// What the whole layer turned out to be, once it has been streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the blob.
    pub blob: Digest,
    /// Size of the blob in bytes.
    pub blob_size: u64,
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// Compression of the blob.
    pub compression: Compression,
    /// What of this was checked.
    pub proof: Proof,
}

/// How decompression can begin at a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Only by decoding the spans before it, from the nearest that can be begun at.
    Continues,
    /// Without any state: at a gzip member, a zstd frame, or anywhere in a plain tar.
    Here,
    /// Between two deflate blocks.
    Block {
        /// Upper bits of the first byte (0 to 7) that belong to this span; with 0 all of it does.
        bits: u8,
        /// Place of the window in the table of windows: offset and length in bytes.
        window: (u64, u32),
    },
}

/// How the bytes of a span are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The span's digest is that of its bytes.
    Content,
    /// It is made of these rows of the table of chunks, each with the digest of its bytes; the
    /// span's digest is [`SpanDigest::of_chunks`].
    Chunks {
        /// First row.
        first: u32,
        /// Number of rows.
        count: u32,
    },
    /// This row has the SHA-256 of the *compressed* bytes; the span's digest is
    /// [`SpanDigest::of_compressed`].
    Compressed {
        /// The row.
        chunk: u32,
    },
}

/// A run of uncompressed bytes that is fetched, verified and cached as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins in the tar.
    pub start: UncompressedOffset,
    /// Length in uncompressed bytes.
    pub length: u32,
    /// The first compressed byte that it needs. With [`Restart::Block`] and bits, neighbours share
    /// that byte.
    pub compressed_start: CompressedOffset,
    /// Just past the last one.
    pub compressed_end: CompressedOffset,
    /// How to begin there.
    pub restart: Restart,
    /// How to verify it.
    pub check: Check,
    /// Its name: what the bytes are, wherever they come from. (In a table without proof, see
    /// [`SpanTable::unproven_blob`].)
    pub digest: SpanDigest,
}

impl Span {
    /// Offset just past the span.
    pub fn end(&self) -> u64 {
        self.start.0 + u64::from(self.length)
    }
}

/// A piece of a layer to which a format of others gives a digest (eStargz and zstd:chunked: a piece
/// of a file; SOCI: a run of compressed bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the gzip member or zstd frame begins that holds it.
    pub compressed_start: CompressedOffset,
    /// Uncompressed bytes of that member before it.
    pub skip: u64,
    /// Length in uncompressed bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: [u8; 32],
}

/// Where the windows of an index are.
#[derive(Clone, Debug, PartialEq)]
pub enum Windows {
    /// Here.
    Loaded(Arc<Vec<u8>>),
    /// Left where the index came from.
    Detached,
}

/// Everything needed to fetch and verify the bytes of a layer.
#[derive(Clone, Debug)]
pub struct SpanTable {
    /// The spans, in order, without gaps.
    pub spans: Vec<Span>,
    /// The chunks that spans refer to.
    pub chunks: Vec<Chunk>,
    /// The windows that spans refer to.
    pub windows: Windows,
    /// Compression of the blob, if it is known.
    pub compression: Option<Compression>,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// What has been checked.
    pub proof: Proof,
    /// The blob, where nothing proves the table. The names of its spans are then
    /// [`SpanDigest::in_unproven`], so that no bytes of another layer are shown for those of this one.
    pub unproven_blob: Option<Digest>,
}

/// Index of a directory path in the layer's table; `ROOT_DIR` is `/`.
pub type DirId = u32;

/// The root directory's place in every layer's table of directories.
pub const ROOT_DIR: DirId = 0;

/// A directory path of the layer, existing or only named.
#[derive(Clone, Copy, Debug)]
pub struct Dir<'a> {
    /// The directory above; the root is its own parent.
    pub parent: DirId,
    /// The last component.
    pub name: &'a [u8],
    /// Whether the layer has an entry of any kind at exactly this path.
    pub has_entry: bool,
}

/// A whiteout or opaque mark.
#[derive(Clone, Copy, Debug)]
pub struct Whiteout<'a> {
    /// The directory it stands in.
    pub dir: DirId,
    /// The lower name it hides; `None` for an opaque mark, which hides all of them.
    pub name: Option<&'a [u8]>,
}

/// What an entry is, with what only that kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file.
    File {
        /// Size in bytes, holes included.
        size: u64,
        /// Position of its runs in the table of runs.
        runs: Runs,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// Another name of what `dir`/`name` is at this place of the tar.
    HardLink {
        /// Directory of the target.
        dir: DirId,
        /// Name of the target.
        name: &'a [u8],
    },
    /// A character device (major, minor).
    CharDevice(u32, u32),
    /// A block device (major, minor).
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Where the content of a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// In one piece, from here.
    Whole(UncompressedOffset),
    /// Sparse: these rows of the table of runs.
    Sparse {
        /// First row.
        first: u32,
        /// Number of rows.
        count: u32,
    },
}

/// One entry, borrowed from the index.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Directory part of the path.
    pub dir: DirId,
    /// Last component; empty for the root.
    pub name: &'a [u8],
    /// Kind and its data.
    pub kind: EntryKind<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, rounded down.
    pub mtime_seconds: i64,
    /// Nanoseconds to add.
    pub mtime_nanoseconds: u32,
    /// Never shown; only a hard link of the same layer may refer to it.
    pub hidden: bool,
    record: &'a EntryRecord,
}

/// An immutable, checked layer index.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerIndex {
    identity: Identity,
    dirs: Vec<DirRecord>,
    entries: Vec<EntryRecord>,
    whiteouts: Vec<WhiteoutRecord>,
    runs: Vec<RunRecord>,
    xattrs: Vec<XattrRecord>,
    spans: Vec<SpanRecord>,
    chunks: Vec<ChunkRecord>,
    /// Names, link targets and xattr values.
    bytes: Vec<u8>,
    /// See [`LayerIndex::missing_padding`].
    missing_padding: u32,
    tail: Tail,
}

/// The part of an index that a mount can do without.
#[derive(Clone, Debug, PartialEq)]
enum Tail {
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
    /// [`MAX_HASHED_HOLES`]. In an index that [`Proof::is_own`] it was computed here; otherwise the author of the index
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

    fn entry<'a>(&'a self, record: &'a EntryRecord) -> Entry<'a> {
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

    fn text(&self, offset: u32, length: u32) -> &[u8] {
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
