//! Raw deflate (RFC 1951) that can stop at the end of a block and begin at one.
//!
//! # Problem
//!
//! A checkpoint in a gzip stream is the end of a deflate block: a bit offset, and what the blocks behind
//! it copy of the 32 KiB of output before. Making one needs a decoder that says when it stands between
//! two blocks; using one needs a decoder that takes some bits and a window first. This is Mark Adler's
//! `zran` scheme, and the libraries that have it have it behind pointers. Inflating is also the larger
//! half of what a first pass costs.
//!
//! # Design
//!
//! A decoder of our own, without `unsafe`. [`Inflate`] is exact: it takes no bit that it does not need,
//! so that it stands at the end of a block without looking for it, and goes on from any cut of the input
//! or the output. Where both are plenty, the loop of [`fast`] decodes whole symbols. The output that
//! matches copy from is in the caller's buffer and in [`history`], which also notes what of a window was
//! used. Codes are tables ([`table`]), read from a block's [`header`].
//!
//! # Rejected
//!
//! zlib-rs: a tenth slower, a third on streams of igzip; what is needed of it only its C interface has,
//! six unsafe calls on bytes of images; and windows had to be found out by decoding twice more.
//! Instructions of newer processors (BMI2) by dispatch at run time: within the noise of this loop, which
//! waits for tables and for mispredicted branches.
//!
//! # Invariants
//!
//! - Each call takes, gives and refuses what zlib's `inflate` does with the same buffers, to the byte:
//!   spans are cut by that, and an index of a layer must stay the same. With no room left that includes
//!   the end of the block, the next header, and one symbol that waits for room.
//! - The end of the last block of a stream is none where decoding can begin.
//! - Damage is an error, and neither memory nor work are more than the buffers given.

mod bits;
mod codes;
mod fast;
mod header;
mod history;
mod stream;
mod table;

pub(super) use history::History;
pub(super) use stream::Inflate;
