//! A sans-I/O tar parser: pushed bytes in, entries and content out.
//!
//! # Why not a library
//!
//! The `tar` crate wants to own a reader and knows one of the four sparse encodings; `tar-core`
//! is sans-I/O but keeps an entry's whole metadata contiguous in the caller's buffer, refuses
//! negative times and drops fractions of seconds. The index builder needs the exact place of
//! every content byte, nanoseconds, and the decisions of Go's `archive/tar`, because that is what
//! Docker, containerd, podman and umoci apply layers with: an archive they refuse is refused, one
//! they read is read the same way. (The `tar` crate writes our exports and checks this parser in
//! tests.)
//!
//! # Formats
//!
//! V7, POSIX ustar, GNU (base-256 numbers, long names, sparse), star, and PAX extended headers
//! (POSIX.1-2001 pax(1)), with xattrs as `SCHILY.xattr.*` and sparse files in the old GNU, PAX 0.0,
//! 0.1 and 1.0 encodings (GNU tar manual, "Storing Sparse Files"). Global PAX headers have to be well
//! formed and mean nothing, as in Docker and containerd. Other extensions of PAX records are ignored,
//! and so are xattrs that no Linux file can have ([`is_linux_xattr`]).
//!
//! # Invariants
//!
//! - Memory is bounded: at most [`MAX_METADATA_BYTES`] of extension data and
//!   [`MAX_SPARSE_RUNS`] sparse runs at a time, whatever the input claims.
//! - Every [`Run`](crate::extent::Run) of a file lies inside the file and runs are ordered and disjoint.
//! - The content bytes of an entry reach the [`Sink`] exactly once and in order.

mod block;
mod entry;
mod error;
mod extensions;
mod header;
mod parser;
mod pax;
mod sparse;

pub use block::BLOCK_BYTES;
pub use entry::{Entry, FileType, Sink, is_linux_xattr};
pub use error::Error;
pub use header::is_header;
pub use parser::{MAX_METADATA_BYTES, Parser};
pub use sparse::MAX_SPARSE_RUNS;

#[cfg(test)]
mod tests;
