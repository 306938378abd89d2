//! Verified bytes of a layer, span by span.
//!
//! # Problem
//!
//! A read wants some bytes of the uncompressed tar of a layer, now, and never wrong ones. When the
//! span that holds them is not in the cache, it has to come from the source, at the price of that
//! span and not of the layer, and no reader may wait longer than the deadline. When everything is
//! read, it has to cost no more than a download.
//!
//! # Design
//!
//! [`Spans`] is shared by all layers of a mount: the cache, the open span files, and what is on its
//! way in memory (`blob::memory`). [`BlobReader`] is one layer. A span is looked for in that order; what is missing is
//! brought by a *fetch*, a thread with one request for a row of spans (`blob::plan` says how many). It
//! decodes, verifies and keeps each of them (`blob::stream`) and hands those to their readers that are
//! waited for. A span that is on its way is not sent for again: its readers just wait.
//! Readers only ever wait on a condition with their own deadline, whatever the source does.
//!
//! A server that ignores the range and sends everything is taken at its word: that fetch serves
//! the layer from its start to its end, and nothing of what comes is thrown away.
//!
//! Where decoding can't begin again for long (a zstd layer of one frame), a fetch that has brought
//! what it was sent for lingers: a reader that wants something further on has it go on, instead of
//! streaming everything before it once more.
//!
//! Some fetches have no reader yet: they bring the beginnings of layers that a walk will come to
//! (`blob::ahead`).
//!
//! A fetch that is far ahead of all readers pauses, and one that no reader follows ends: `grep -r`
//! that was interrupted must not download the rest of the image.
//!
//! What nothing verifies as it comes is verified once all of it has (`blob::proving`), and all of it is fetched for that
//! where the user asked to be shown it before (`blob::background`).
//!
//! Reading is by `pread` into the caller's buffer: a mapped file that is damaged or truncated
//! behind our back would be a SIGBUS.
//!
//! # Invariants
//!
//! - No byte leaves here that was not checked against the layer index, or read from a file whose
//!   checksum this process has seen to be right.
//! - What only an index without proof says of a layer is read from that layer's blob, or from a file of
//!   the cache that was: its spans have names of their own.
//! - Bytes that do not match are fetched once more, and from a place that needs no checkpoint; if
//!   they are wrong again the reader gets an error, and an index that was only a hint is dropped.
//! - [`BlobReader::read_local`] never waits for the network.
//! - [`BlobReader::read`] returns by its deadline; a fetch that dies wakes all that wait for it.

mod access;
mod ahead;
mod arrived;
mod background;
mod error;
mod fetch;
mod in_flight;
mod link;
mod memory;
mod plan;
mod proving;
mod read;
mod reader;
mod spans;
mod stream;
mod used;
mod walk;
mod whole;

pub use access::{Access, WindowSource};
pub use arrived::arrived_spans;
pub use background::Unproven;
pub use error::Error;
pub use plan::ReadAhead;
pub use reader::BlobReader;
pub use spans::{Spans, cost};
pub use walk::Walk;
