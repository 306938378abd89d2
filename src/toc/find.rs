//! Where the TOC of a layer is.

use std::ops::Range;

use super::annotation::TocAnnotation;
use super::error::{Error, MAX_TOC_BYTES};
use super::footer::{self, Footer};

/// Where the compressed TOC lies in a blob of `blob_size` bytes. `tail` is a part of the blob that
/// begins at `tail_start`: the one of [`TocAnnotation::first_fetch`], or any that ends where that ends.
///
/// # Errors
/// There is no TOC, or not in the blob, or it is too large.
pub fn find(
    promise: &TocAnnotation,
    tail: &[u8],
    tail_start: u64,
    blob_size: u64,
) -> Result<Range<u64>, Error> {
    let (place, json_bytes, end) = match promise {
        TocAnnotation::Estargz { .. } => {
            if tail_start.checked_add(tail.len() as u64) != Some(blob_size) {
                return Err(Error::NotTheEnd);
            }
            let footer = footer::read(tail).ok_or(match tail.len() {
                short if short < footer::BYTES && tail_start > 0 => Error::NotTheEnd,
                _ => Error::NoFooter,
            })?;
            let Footer { bytes, toc } = footer;
            let end = blob_size - bytes as u64;
            (toc.ok_or(Error::ExternalToc)?..end, 0, end)
        }
        TocAnnotation::ZstdChunked { manifest, json_bytes, .. } => {
            (manifest.clone(), *json_bytes, blob_size)
        }
    };
    if place.start >= place.end || place.end > end {
        return Err(Error::Place(place));
    }
    if place.end - place.start > MAX_TOC_BYTES || json_bytes > MAX_TOC_BYTES {
        return Err(Error::TooLarge);
    }
    Ok(place)
}
