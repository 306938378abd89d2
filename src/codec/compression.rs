//! How a stream is compressed.

use super::error::Error;

/// Bytes that [`Compression::sniff`] wants to see.
pub const SNIFF_BYTES: usize = 4;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// Recognises the compression by the first bytes of the blob, of which there may be fewer
    /// than [`SNIFF_BYTES`] only if the blob is that short.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bzip2 and xz, which `docker load` once took but no layer media
    /// type has, and for lz4.
    pub fn sniff(start: &[u8]) -> Result<Compression, Error> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(Error::Unsupported("bzip2")),
            [0xfd, b'7', b'z', b'X', ..] => return Err(Error::Unsupported("xz")),
            [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Error::Unsupported("lz4")),
            _ => Compression::None,
        })
    }

    /// The name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}
