//! Tables of contents that layers carry: eStargz and zstd:chunked.
//!
//! # Problem
//!
//! Some layers are written so that each file can be fetched alone: every file (or chunk of one)
//! begins a gzip member or zstd frame of its own, and a table of contents at the end of the blob
//! says where. With it a layer is usable after one or two small requests instead of a whole pass.
//!
//! # Why it can be trusted
//!
//! The layer's descriptor in the manifest names a digest of the TOC ([`promise()`]), and the TOC a
//! digest of every chunk. A TOC without a digest in the descriptor is not looked for at all. What
//! the chain does *not* say is that the TOC and the tar inside the layer agree: a dishonest writer
//! can show one thing to readers of the TOC and another to those who unpack the tar. Both are what
//! the author of the manifest signed up for, but the diff ID proves only the tar.
//!
//! # Formats
//!
//! - eStargz (containerd/stargz-snapshotter, docs/estargz.md), with the footer of its predecessor
//!   stargz as well. The TOC is `stargz.index.json` in a tar in a gzip member.
//! - zstd:chunked as `stargz-snapshotter` and old releases of Podman and Buildah annotate it, and
//!   as containers/storage does today. The TOC is a zstd frame inside a skippable frame. Its place
//!   is taken from the annotations, never from the footer, which nothing protects. The tar-split
//!   part, which rebuilds the tar's headers, is not read.
//!
//! # Design
//!
//! No I/O: the caller asks where to look ([`TocAnnotation::first_fetch`], [`find()`]), brings the bytes,
//! and [`read()`] checks and parses them. A TOC does not say where a file lies in the tar, so
//! offsets are *virtual*: the contents of all files one after the other, in the order of their
//! compressed places. Rejected: computing the tar's offsets by guessing the sizes of headers, which
//! only the writer's tar library knows; and one offset space per file, which neither runs nor spans
//! could express.
//!
//! Go's JSON writer turns bytes that are not UTF-8 into U+FFFD, so a TOC cannot say such names. A
//! TOC in which that character occurs is refused ([`Fault::LossyName`]); the layer's tar has the
//! true name. Users' names, access and change times are not read.
//!
//! # Invariants
//!
//! - Digests are checked before a byte is parsed, and sizes before anything is allocated by them.
//! - The chunks of a [`Toc`] cover `0..content_bytes` exactly; they are ordered by `start` and by
//!   compressed place, lie before the TOC, and those of one member do not overlap.
//! - Every run of an entry lies in `0..content_bytes` and in the file; all of a file is in runs or
//!   in holes that the TOC names.

mod annotation;
mod error;
mod find;
mod footer;
mod read;
mod rows;
mod table;

pub use annotation::{TocAnnotation, promise};
pub use error::{Error, Fault, MAX_ROWS, MAX_TOC_BYTES};
pub use find::find;
pub use read::read;
pub use table::{Chunk, MAX_SKIP_BYTES, Toc, TocEntry};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
