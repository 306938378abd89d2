//! Sparse files: their maps, checked, become the runs of an entry.

use super::entry::Entry;
use super::error::Error;
use crate::extent::{Run, UncompressedOffset};

/// Sparse runs accepted for one file. An extractor would need as many seeks.
pub const MAX_SPARSE_RUNS: usize = 1 << 16;

/// An entry whose sparse map is not complete yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) entry: Entry,
    /// Stored bytes of the content, without the map.
    pub(super) stored: u64,
    /// (offset in file, length)
    pub(super) map: Vec<(u64, u64)>,
}

/// How much of a PAX 1.0 sparse map has come, so that it is parsed once and not at every block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MapLines {
    pub(super) seen: usize,
    pub(super) wanted: Option<usize>,
}

impl Pending {
    /// Whether the map is not longer than is accepted, of the entry whose header is at `at`.
    pub(super) fn check_runs(&self, at: u64) -> Result<(), Error> {
        if self.map.len() > MAX_SPARSE_RUNS {
            return Err(Error::Sparse { at, what: "more than 65536 runs" });
        }
        Ok(())
    }

    /// The entry, when the map is complete and the stored content begins at `position`.
    pub(super) fn complete(self, at: u64, position: u64) -> Result<Entry, Error> {
        self.check_runs(at)?;
        let Pending { mut entry, stored, map } = self;
        let sparse = |what| Error::Sparse { at, what };
        let mut start = position;
        let mut previous_end = 0;
        for (file_offset, length) in map {
            let end = file_offset.checked_add(length).filter(|end| *end <= entry.size);
            let end = end.ok_or_else(|| sparse("a run reaches past the end of the file"))?;
            if file_offset < previous_end {
                return Err(sparse("runs overlap or are out of order"));
            }
            previous_end = end;
            if length > 0 {
                entry.runs.push(Run { file_offset, start: UncompressedOffset(start), length });
                start = start
                    .checked_add(length)
                    .ok_or_else(|| sparse("the runs are larger than any archive"))?;
            }
        }
        if start - position != stored {
            return Err(sparse("the runs do not add up to the stored content"));
        }
        entry.sparse = true;
        Ok(entry)
    }
}
