//! The content-addressed store on disk, shared by every mount of a user.
//!
//! ```text
//! ROOT/v1/
//!   blobs/sha256/ab/ab12…     manifests, image indexes, configs: the bytes, named by digest
//!   spans/cd/cd34…            uncompressed spans by their digest: the bytes and a trailer
//!   streams/01/0123…          the same, where losing one costs streaming its layer again
//!   layers/sha256-ef56…       layer indexes by blob digest
//!   diffs/sha256-0978…        the same files by diff ID
//!   foreign/sha256-90ab…      those out of formats of others, by blob and what binds them
//!   hints/sha256-ef56…        those that nothing binds, by blob, repository and manifest
//!   refs/7a…                  what a tag meant when it was last asked for (JSON)
//!   tag-lists/3d…             the tags that a repository had when they were last listed (JSON)
//!   partial/sha256-54dc…      downloads that can be resumed
//!   tmp/                      files that are being written
//! ```
//!
//! # Design
//!
//! A file is written under a temporary name and renamed: a name that exists is whole. Reading and
//! writing take no locks: two processes that write the same name write the same bytes, and a file
//! that is removed stays readable for a process that has it open. (Downloads that can be resumed are the
//! exception: they are appended to, by one process at a time.) The version is in the path, so an
//! old program and a new one never read each other's files.
//!
//! Spans are stored uncompressed, one file each: a second `grep -r` over an image is then a read
//! and not an inflate, and the neighbours of a small file are cached with it. (Considered and left: one
//! sparse file a layer, whose holes another process could read as zeros; a file a file, which
//! makes a first pass 50,000 small creates.) They take the most room, so they are what is evicted
//! first when the cache exceeds its [`Limit`]; layer indexes follow, and documents stay.
//!
//! # Invariants
//!
//! - **The cache can only help.** No error in here fails a mount: reads say "not there", writes
//!   are logged and dropped, and a disk that refuses is left alone for a while.
//! - What is read back is checked: blobs against their digest, spans against the checksum in their
//!   trailer, layer indexes by their own. A file that fails is removed and fetched again. A span stays
//!   open for long; it is as it was checked as long as nobody writes to it, which its modification
//!   time tells after each read. (Computing the checksum for each would cost more than the read.)
//! - Nothing is written here that has not been verified by the caller, but for downloads, which
//!   say so.
//! - Only this user and root can have put there what is read (`store`).

mod arrived;
mod documents;
mod evict;
mod evictor;
mod folder;
mod inspect;
mod inventory;
mod layer_indexes;
mod layout;
mod limit;
mod partial;
mod read_back;
mod recency;
mod refusals;
mod removed;
mod span_file;
mod spans;
mod store;
mod tag_lists;
mod tags;
mod walk;

#[cfg(test)]
mod evict_tests;
#[cfg(test)]
mod tests;

pub use arrived::ArrivedSpans;
pub use folder::Cache;
pub use inspect::{CheckLayer, Count, Damage, Usage, Verified};
pub use inventory::{Held, Holds};
pub use layout::{Asked, FileKind, LayerName};
pub use limit::Limit;
pub use partial::Partial;
pub use removed::Removed;
pub use span_file::SpanFile;
pub use spans::Cost;
pub use tag_lists::TagListRecord;
pub use tags::TagRecord;
