//! What decompressing may cost.

/// The largest zstd window accepted by default, as a power of two: 128 MiB, which is zstd's own limit,
/// and with four layers unpacked side by side half a gigabyte of memory.
pub const DEFAULT_ZSTD_WINDOW_LOG: u32 = 27;

/// The largest zstd window that can be decoded, as a power of two: 2 GiB (`zstd --long=31`).
pub const MAX_ZSTD_WINDOW_LOG: u32 = 31;

/// What decoding a stream may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest zstd window, as a power of two, at most [`MAX_ZSTD_WINDOW_LOG`].
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { zstd_window_log: DEFAULT_ZSTD_WINDOW_LOG }
    }
}

/// Any stream may unpack to this many bytes ...
const FREE_UNCOMPRESSED_BYTES: u64 = 1 << 30;

/// ... and beyond that to this many times what has been read of it. Real layers stay below 20;
/// deflate can reach 1032, zstd far more.
const MAX_RATIO: u64 = 200;

/// The most that may come out of a stream of which `compressed` bytes have been read. Counted by
/// what has come and not by a size that is claimed, so that a bomb ends early.
pub fn plausible_uncompressed_bytes(compressed: u64) -> u64 {
    compressed.saturating_mul(MAX_RATIO).max(FREE_UNCOMPRESSED_BYTES)
}
