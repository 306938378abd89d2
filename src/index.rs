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
//! A blob that is a file itself, as artifacts have them, has an index too, of one entry: it is made of the
//! descriptor alone ([`LayerIndex::of_file`]), and nothing is read for it.
//!
//! # Invariants
//!
//! A [`LayerIndex`] that exists is sound: every reference between its tables is in range, every
//! directory's parent precedes it, runs and spans are ordered, disjoint and inside the layer.
//! [`LayerIndex::decode`] checks all of it, so the accessors cannot fail.

mod blob_file;
mod budget;
mod builder;
mod decode;
mod entry;
mod error;
mod external;
pub mod format;
mod headers;
mod index_file;
mod layer_index;
mod name_set;
mod outline;
mod proof;
mod span;

pub use blob_file::{MAX_FILE_BYTES, MAX_PROVEN_BYTES, plain_spans};
pub use budget::{Budget, Drawn, NODE_BYTES};
pub use builder::{Builder, MAX_HASHED_HOLES};
pub use decode::DecodeError;
pub use entry::{Dir, DirId, Entry, EntryKind, ROOT_DIR, Runs, Whiteout};
pub use error::{Error, MAX_ENTRIES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINK_BYTES};
pub use external::ExternalError;
pub use headers::PlainTarError;
pub use index_file::IndexFile;
pub use layer_index::LayerIndex;
pub use name_set::NameSet;
pub use outline::Outline;
pub use proof::{Identity, PROOF_XATTR, Proof};
pub use span::{Check, Chunk, MAX_SPAN_BYTES, Restart, Span, SpanTable, Windows};
