//! Places where decoding can begin, and what a step of it did.

/// Size of deflate's window in bytes: what a checkpoint needs of the output before it.
pub const WINDOW_BYTES: usize = 32 << 10;

/// What one call of [`Decoder::decode`](super::Decoder::decode) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes taken.
    pub consumed: usize,
    /// Output bytes written.
    pub produced: usize,
}

/// A place of a stream where decoding can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Before a gzip member or a zstd frame, or anywhere in a plain tar: nothing is needed.
    Start,
    /// Between two deflate blocks.
    Block {
        /// Upper bits of the byte before (0 to 7) that belong to the next block.
        bits: u8,
    },
}
