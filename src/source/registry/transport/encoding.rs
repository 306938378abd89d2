//! Documents that come encoded (`Content-Encoding`, RFC 9110, 8.4).
//!
//! None is asked for, and yet caches and web servers between us and a registry compress what looks like
//! text, or label what is not compressed at all. So the label only says what may be tried: bytes that are
//! JSON as they are stay as they are. What comes out is checked against a digest like anything else.
//! Blobs are not decoded: most layers are gzip themselves, and are labelled so by some servers.

use std::io;

use flate2::read::{DeflateDecoder, ZlibDecoder};

use crate::bounded;
use crate::codec;

/// A document without the encoding that it came in, if it is one of those that are understood; bounded
/// like the document itself.
pub(in crate::source::registry) fn decoded(
    bytes: Vec<u8>,
    encoding: Option<&str>,
    limit: u64,
) -> Vec<u8> {
    let is_plain = bytes.trim_ascii_start().starts_with(b"{");
    let Some(encoding) = encoding.filter(|_| !is_plain) else { return bytes };
    let plain = match encoding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" | "zstd" => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            codec::decompress(&bytes, limit).map_err(io::Error::other)
        }
        // Meant as RFC 1950, and sent as RFC 1951 by some.
        "deflate" => bounded::read_all(ZlibDecoder::new(&bytes[..]), limit)
            .or_else(|_| bounded::read_all(DeflateDecoder::new(&bytes[..]), limit)),
        _ => return bytes,
    };
    plain.unwrap_or_else(|e| {
        log::debug!("`Content-Encoding: {encoding}`: {e}");
        bytes
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn all(mut from: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn labels_that_are_true_are_undone() {
        let text = br#"{"a":1}"#;
        let gzip = all(GzEncoder::new(&text[..], Compression::fast()));
        let zlib = all(ZlibEncoder::new(&text[..], Compression::fast()));
        let raw = all(DeflateEncoder::new(&text[..], Compression::fast()));
        for (bytes, encoding) in
            [(&gzip, "gzip"), (&gzip, "X-GZIP"), (&zlib, "deflate"), (&raw, "deflate")]
        {
            assert_eq!(decoded(bytes.clone(), Some(encoding), 100), text, "{encoding}");
            assert_eq!(decoded(bytes.clone(), Some(encoding), 3), *bytes, "it is too long");
            assert_eq!(decoded(text.to_vec(), Some(encoding), 100), text, "only labelled");
        }
        assert_eq!(decoded(gzip.clone(), None, 100), gzip);
        assert_eq!(decoded(gzip.clone(), Some("br"), 100), gzip);
        assert_eq!(decoded(b"junk".to_vec(), Some("gzip"), 100), b"junk");
    }
}
