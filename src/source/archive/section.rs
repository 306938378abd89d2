//! A part of a file, or several with holes between them, read as one.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::Opened;
use crate::extent::Run;
use crate::oci::Descriptor;

/// A part of a file that can be read at any offset.
#[derive(Clone, Debug)]
pub struct Section {
    file: Arc<File>,
    place: SectionPlace,
    length: u64,
}

/// Where the bytes are.
#[derive(Clone, Debug)]
pub(super) enum SectionPlace {
    /// One after the other, from this offset of the file on.
    From(u64),
    /// In runs; what is between them is zeros.
    Runs(Arc<[Run]>),
}

impl Section {
    pub(super) fn new(file: Arc<File>, place: SectionPlace, length: u64) -> Section {
        Section { file, place, length }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A reader from `offset` to the end.
    pub fn reader(&self, offset: u64) -> SectionReader {
        SectionReader { section: self.clone(), at: offset.min(self.length) }
    }

    /// The whole section, if it is no longer than `limit` bytes.
    ///
    /// # Errors
    /// I/O, or longer than the limit.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.length > limit {
            let message = format!("it has {} bytes, more than the {limit} allowed", self.length);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut bytes = Vec::with_capacity(self.length as usize);
        self.reader(0).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A range of the blob of that descriptor, which lies here; it is within the size.
    pub fn opened(&self, descriptor: &Descriptor, range: Range<u64>) -> Opened {
        let Range { start, end } = range;
        let is_whole = start == 0 && end == descriptor.size;
        // Of a whole blob the verifying reader is to see all, also what is too much.
        let length = if is_whole { u64::MAX } else { end - start };
        Opened { body: Box::new(self.reader(start).take(length)), start, end }
    }

    /// Reads some bytes at an offset, at least one unless `buffer` is empty or the file too short. The
    /// caller keeps to the length.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let runs = match &self.place {
            SectionPlace::From(start) => return self.file.read_at(buffer, start + at),
            SectionPlace::Runs(runs) => runs,
        };
        let up_to = |end: u64| usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let next = runs.partition_point(|run| run.file_offset + run.length <= at);
        match runs.get(next) {
            Some(run) if run.file_offset <= at => {
                let want = up_to(run.file_offset + run.length);
                self.file.read_at(&mut buffer[..want], run.start.0 + (at - run.file_offset))
            }
            hole => {
                let want = up_to(hole.map_or(self.length, |run| run.file_offset));
                buffer[..want].fill(0);
                Ok(want)
            }
        }
    }
}

/// Reads a [`Section`] in order. Positions are its own: sections of one file do not interfere.
#[derive(Debug)]
pub struct SectionReader {
    section: Section,
    at: u64,
}

impl Read for SectionReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.section.length - self.at;
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.section.read_at(&mut buf[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
