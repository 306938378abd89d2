//! The spans of a ztoc, from its checkpoints and digests.
//!
//! Layout of a gzip layer's checkpoints (soci-snapshotter, `gzip_zinfo.c`), packed, little-endian:
//!
//! ```text
//! count i32 | span size i64 | per point: in i64, out i64, bits u8, window 32768 bytes
//! ```
//!
//! Those of a plain tar are a FlatBuffer, the table `TarZinfo { version: int, span_size: long,
//! size: long }`: spans of one size.

use std::ops::Range;

use super::budget::Budget;
use super::error::{Error, shortened};
use super::flatbuffer::{Table, Vector};
use crate::codec::WINDOW_BYTES;
use crate::digest::{Algorithm, Digest};
use crate::extent::UncompressedOffset;

/// A run of a layer that can be fetched, verified and decompressed alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZtocSpan<'a> {
    /// Where its bytes begin in the tar.
    pub start: UncompressedOffset,
    /// Length in the tar.
    pub length: u64,
    /// Its bytes in the blob, from the first that it has for itself.
    pub compressed: Range<u64>,
    /// How many of the topmost bits of the byte before `compressed.start` belong to it, 0 to 7.
    pub bits: u8,
    /// SHA-256 of the bytes of [`ZtocSpan::verified_range`].
    pub digest: [u8; 32],
    /// The uncompressed bytes before `start`, zeros first if there are fewer. `None` for what needs
    /// none: the start of a layer, and plain tars.
    pub window: Option<&'a [u8; WINDOW_BYTES]>,
}

impl ZtocSpan<'_> {
    /// The bytes of the blob that the digest covers: `compressed`, and the byte before it if that
    /// one is shared.
    pub fn verified_range(&self) -> Range<u64> {
        // A checkpoint with bits lies behind the gzip header.
        self.compressed.start - u64::from(self.bits > 0)..self.compressed.end
    }
}

/// Count and span size in front of the points.
const HEADER_BYTES: usize = 12;

/// A point: `in`, `out`, `bits` and the window.
const POINT_BYTES: usize = 8 + 8 + 1 + WINDOW_BYTES;

/// The shortest gzip header (RFC 1952), and where the first encoding takes deflate data to begin.
const GZIP_HEADER_BYTES: u64 = 10;

/// The version of `TarZinfo`; there has been no other.
const TAR_VERSION: i32 = 2;

/// What a ztoc says of the layer's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) compressed: u64,
    pub(super) uncompressed: u64,
}

/// The digests of the spans, which are `max_span_id + 1` many.
pub(super) fn digests(
    texts: Vector<'_>,
    max_span_id: i32,
    budget: &mut Budget,
) -> Result<Vec<[u8; 32]>, Error> {
    if i64::from(max_span_id) + 1 != texts.len() as i64 {
        return Err(wrong("the number of span digests is not the number of spans"));
    }
    budget.take(texts.len().saturating_mul(size_of::<ZtocSpan<'_>>() + 32))?;
    texts.strings().map(|text| digest(text?)).collect()
}

fn digest(text: &[u8]) -> Result<[u8; 32], Error> {
    let digest = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Digest>().ok());
    digest
        .filter(|digest| digest.algorithm() == Algorithm::Sha256)
        .and_then(|digest| digest.hash().try_into().ok())
        .ok_or_else(|| Error::SpanDigest(shortened(text)))
}

/// A place where raw inflating can begin.
struct Point<'a> {
    /// The first whole byte.
    compressed: u64,
    /// The offset in the tar.
    uncompressed: u64,
    bits: u8,
    window: Option<&'a [u8; WINDOW_BYTES]>,
}

/// Spans of a gzip layer, and whether the first checkpoint was left out.
pub(super) fn gzip<'a>(
    blob: &'a [u8],
    digests: &[[u8; 32]],
    sizes: Sizes,
) -> Result<(Vec<ZtocSpan<'a>>, bool), Error> {
    let (points, implied) = points(blob)?;
    if points.len() != digests.len() {
        return Err(wrong("the number of checkpoints is not the number of spans"));
    }
    for (at, point) in points.iter().enumerate() {
        let ordered = match at.checked_sub(1).map(|before| &points[before]) {
            None => {
                point.uncompressed == 0 && point.bits == 0 && point.compressed >= GZIP_HEADER_BYTES
            }
            Some(before) => {
                // The writer sets a point at every block that ends before the tar's first byte.
                let at_start = before.uncompressed == 0 && point.uncompressed == 0;
                point.compressed > before.compressed
                    && (point.uncompressed > before.uncompressed || at_start)
            }
        };
        if !ordered {
            return Err(wrong("a checkpoint is out of order"));
        }
        if point.bits > 7 {
            return Err(wrong("a checkpoint has more than 7 bits"));
        }
        if point.compressed >= sizes.compressed {
            return Err(wrong("a checkpoint lies past the end of the layer"));
        }
    }
    let mut spans = Vec::with_capacity(points.len());
    for (at, (point, digest)) in points.iter().zip(digests).enumerate() {
        let next = points.get(at + 1);
        let end = next.map_or(sizes.uncompressed, |next| next.uncompressed.min(sizes.uncompressed));
        let length = end.saturating_sub(point.uncompressed);
        if length == 0 {
            continue;
        }
        spans.push(ZtocSpan {
            start: UncompressedOffset(point.uncompressed),
            length,
            compressed: point.compressed..next.map_or(sizes.compressed, |next| next.compressed),
            bits: point.bits,
            digest: *digest,
            window: point.window.filter(|_| point.uncompressed > 0),
        });
    }
    Ok((spans, implied))
}

/// The checkpoints of either encoding, unchecked but for their number.
fn points(blob: &[u8]) -> Result<(Vec<Point<'_>>, bool), Error> {
    let (header, rest) = blob.split_at_checked(HEADER_BYTES).ok_or_else(|| wrong("too short"))?;
    let count = i32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| wrong("there is no checkpoint"))?;
    let stored = rest.len() / POINT_BYTES;
    let implied = stored + 1 == count;
    if !rest.len().is_multiple_of(POINT_BYTES) || !(implied || stored == count) {
        return Err(wrong("their length does not fit their number"));
    }
    let mut points = Vec::with_capacity(count);
    if implied {
        let compressed = GZIP_HEADER_BYTES;
        points.push(Point { compressed, uncompressed: 0, bits: 0, window: None });
    }
    for point in rest.chunks_exact(POINT_BYTES) {
        points.push(decode(point).ok_or_else(|| wrong("a checkpoint has a negative offset"))?);
    }
    Ok((points, implied))
}

fn decode(point: &[u8]) -> Option<Point<'_>> {
    let (compressed, rest) = point.split_first_chunk::<8>()?;
    let (uncompressed, rest) = rest.split_first_chunk::<8>()?;
    let (bits, window) = rest.split_first()?;
    Some(Point {
        compressed: u64::try_from(i64::from_le_bytes(*compressed)).ok()?,
        uncompressed: u64::try_from(i64::from_le_bytes(*uncompressed)).ok()?,
        bits: *bits,
        window: Some(window.try_into().ok()?),
    })
}

/// Spans of a plain tar. They cover all of the blob, which `sizes.uncompressed` need not.
pub(super) fn plain(
    blob: &[u8],
    digests: &[[u8; 32]],
    sizes: Sizes,
) -> Result<Vec<ZtocSpan<'static>>, Error> {
    let table = Table::root(blob)?;
    if table.i32(0)? != TAR_VERSION {
        return Err(wrong("unknown version of a tar's spans"));
    }
    let (span_bytes, size) = (table.size(1, "span_size")?, table.size(2, "size")?);
    if size != sizes.compressed || sizes.uncompressed > size {
        return Err(wrong("the sizes of the tar contradict each other"));
    }
    if span_bytes == 0 || size.div_ceil(span_bytes) != digests.len() as u64 {
        return Err(wrong("the span size does not fit the number of spans"));
    }
    let span = |(at, digest): (u64, &[u8; 32])| {
        // Less than `size`, as there are so many digests.
        let start = at * span_bytes;
        let length = span_bytes.min(size - start);
        ZtocSpan {
            start: UncompressedOffset(start),
            length,
            compressed: start..start + length,
            bits: 0,
            digest: *digest,
            window: None,
        }
    };
    Ok((0..).zip(digests).map(span).collect())
}

fn wrong(what: &'static str) -> Error {
    Error::Checkpoints(what)
}
