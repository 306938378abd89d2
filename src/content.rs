//! Bytes of files: from a pieces in a file to places in layers.
//!
//! A regular file is one run of its layer's tar, or several with holes between them. This module
//! cuts a read into those runs, fills holes with zeros, and leaves the rest to [`crate::blob`].

use std::sync::Arc;
use std::time::Instant;

use crate::blob::{self, BlobReader, ReadAhead};
use crate::extent::{Pieces, UncompressedOffset};

/// The contents of the layers of an image, or of several.
#[derive(Debug)]
pub struct Contents {
    layers: Vec<Arc<BlobReader>>,
}

impl Contents {
    /// The layers' readers, in the order in which the tree numbers them: base first.
    pub fn new(layers: Vec<Arc<BlobReader>>) -> Contents {
        Contents { layers }
    }

    /// The reader of a layer.
    pub fn layers(&self) -> &[Arc<BlobReader>] {
        &self.layers
    }

    /// Fills `buf` from `offset` in a file, which must be long enough, if all of it is cached;
    /// false otherwise.
    pub fn read_local(
        &self,
        layer: usize,
        pieces: Pieces<'_>,
        offset: u64,
        buf: &mut [u8],
    ) -> bool {
        let reader = &self.layers[layer];
        plan(pieces, offset, buf).all(|piece| match piece {
            Piece::Hole(part) => {
                part.fill(0);
                true
            }
            Piece::Data(start, part) => reader.read_local(start, part),
        })
    }

    /// Whether `length` bytes from `offset` in a file, which must be long enough, seem to be cached
    /// or on their way.
    pub fn is_coming(&self, layer: usize, pieces: Pieces<'_>, offset: u64, length: u64) -> bool {
        self.all(layer, pieces, offset, length, BlobReader::is_coming_at)
    }

    /// Whether `length` bytes from `offset` in a file, which must be long enough, seem to be cached.
    pub fn is_local(&self, layer: usize, pieces: Pieces<'_>, offset: u64, length: u64) -> bool {
        self.all(layer, pieces, offset, length, BlobReader::is_local)
    }

    /// Whether something holds of all places in a layer that have a part of a file.
    fn all(
        &self,
        layer: usize,
        pieces: Pieces<'_>,
        offset: u64,
        length: u64,
        holds: impl Fn(&BlobReader, UncompressedOffset, u64) -> bool,
    ) -> bool {
        let reader = &self.layers[layer];
        match pieces {
            Pieces::Whole(start) => holds(reader, UncompressedOffset(start.0 + offset), length),
            Pieces::Sparse(runs) => {
                let end = offset + length;
                let first = runs.partition_point(|run| run.file_end() <= offset);
                runs[first..].iter().take_while(|run| run.file_offset < end).all(|run| {
                    let skipped = offset.saturating_sub(run.file_offset);
                    let wanted = run.file_end().min(end) - run.file_offset - skipped;
                    holds(reader, UncompressedOffset(run.start.0 + skipped), wanted)
                })
            }
        }
    }

    /// Fills `buf` from `offset` in a file, which must be long enough, fetching what is missing,
    /// but not beyond `give_up`. `scope` says what of the layer the reader is likely to want next, and
    /// is told whether this goes on from the miss before; it is asked only when something is missing.
    ///
    /// # Errors
    /// The bytes can't be had, or not in time.
    pub fn read(
        &self,
        layer: usize,
        pieces: Pieces<'_>,
        offset: u64,
        buf: &mut [u8],
        give_up: Instant,
        scope: &dyn Fn(bool) -> ReadAhead,
    ) -> Result<(), blob::Error> {
        let reader = &self.layers[layer];
        plan(pieces, offset, buf).try_for_each(|piece| match piece {
            Piece::Hole(part) => {
                part.fill(0);
                Ok(())
            }
            Piece::Data(start, part) => reader.read(start, part, give_up, scope),
        })
    }
}

/// A part of a read.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Hole(&'a mut [u8]),
    Data(UncompressedOffset, &'a mut [u8]),
}

/// Cuts the range of `buf` at `offset` into holes and data.
fn plan<'a>(pieces: Pieces<'a>, offset: u64, buf: &'a mut [u8]) -> impl Iterator<Item = Piece<'a>> {
    let mut at = offset;
    let mut rest = buf;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let left = rest.len() as u64;
        let (length, data) = match pieces {
            Pieces::Whole(start) => (left, Some(UncompressedOffset(start.0 + at))),
            Pieces::Sparse(runs) => {
                match runs.get(runs.partition_point(|run| run.file_end() <= at)) {
                    None => (left, None),
                    Some(run) if run.file_offset > at => (left.min(run.file_offset - at), None),
                    Some(run) => {
                        let start = run.start.0 + (at - run.file_offset);
                        (left.min(run.file_end() - at), Some(UncompressedOffset(start)))
                    }
                }
            }
        };
        let (part, after) = std::mem::take(&mut rest).split_at_mut(length as usize);
        rest = after;
        at += length;
        Some(match data {
            Some(start) => Piece::Data(start, part),
            None => Piece::Hole(part),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::Run;

    #[test]
    fn sparse_reads_are_cut_at_runs() {
        let run = |file_offset, start, length| Run {
            file_offset,
            start: UncompressedOffset(start),
            length,
        };
        let runs = [run(10, 1000, 5), run(15, 2000, 5), run(30, 3000, 10)];
        let cut = |offset, length| {
            let mut buf = vec![0; length];
            let pieces = plan(Pieces::Sparse(&runs), offset, &mut buf);
            pieces
                .map(|piece| match piece {
                    Piece::Hole(part) => (None, part.len()),
                    Piece::Data(start, part) => (Some(start.0), part.len()),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(0, 10), [(None, 10)]);
        assert_eq!(cut(12, 6), [(Some(1002), 3), (Some(2000), 3)]);
        assert_eq!(
            cut(5, 100),
            [(None, 5), (Some(1000), 5), (Some(2000), 5), (None, 10), (Some(3000), 10), (None, 65)]
        );
        assert_eq!(cut(40, 1), [(None, 1)]);
        assert_eq!(cut(7, 0), []);
    }
}
