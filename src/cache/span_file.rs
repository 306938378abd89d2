//! One span's file: the bytes, and a trailer that tells damage.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::Xxh3;

use super::read_back::{Wrong, each_chunk};
use super::recency::mark_used;
use crate::digest::SpanDigest;

/// Length of a span file's trailer: the span's digest and XXH3-64 of bytes and digest.
pub(super) const SPAN_TRAILER_BYTES: usize = 32 + 8;

/// A verified span file, open for reading.
#[derive(Debug)]
pub struct SpanFile {
    file: File,
    length: u32,
    /// When it was written last, before it was checked.
    modified: Modified,
    /// Read since it was last looked at.
    is_used: AtomicBool,
}

/// A modification time: seconds and nanoseconds.
type Modified = (i64, i64);

impl SpanFile {
    /// A span of so many bytes, if its file holds it whole: all of it is read once.
    pub(super) fn check(
        file: File,
        digest: &SpanDigest,
        length: u32,
    ) -> io::Result<Option<SpanFile>> {
        let modified = modified(&file)?;
        let file_length = u64::from(length) + SPAN_TRAILER_BYTES as u64;
        let is_as_long = file.metadata().is_ok_and(|metadata| metadata.len() == file_length);
        if !is_as_long || check_span(&file, digest, &mut |_| {}).is_err() {
            return Ok(None);
        }
        Ok(Some(SpanFile { file, length, modified, is_used: AtomicBool::new(false) }))
    }

    /// Reads exactly `buf.len()` bytes at `offset` within the span, if it is still what was checked.
    ///
    /// `false` says that it may not be, and that it has to be opened again: a process has written to it,
    /// or, which looks the same, marked it as used.
    ///
    /// # Errors
    /// I/O.
    pub fn read_at(&self, buf: &mut [u8], offset: u32) -> io::Result<bool> {
        debug_assert!(offset as usize + buf.len() <= self.length as usize);
        self.is_used.store(true, Ordering::Relaxed);
        self.file.read_exact_at(buf, u64::from(offset))?;
        // Afterwards: the time changes before the bytes do.
        Ok(modified(&self.file)? == self.modified)
    }

    /// Whether it is still in the cache. What was read since this was last asked counts as used now,
    /// and so is not the next to be evicted.
    pub fn is_kept(&self) -> bool {
        if self.is_used.swap(false, Ordering::Relaxed) {
            mark_used(&self.file);
        }
        // If that can't be told it is as good as before.
        self.file.metadata().map_or(true, |metadata| metadata.nlink() > 0)
    }
}

fn modified(file: &File) -> io::Result<Modified> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_mtime, stat.st_mtime_nsec.cast_signed()))
}

/// Binds the bytes to the name, so that a file under another file's name is found out too.
pub(super) fn span_trailer(digest: &SpanDigest, bytes: &[u8]) -> [u8; SPAN_TRAILER_BYTES] {
    let mut hasher = Xxh3::new();
    hasher.update(bytes);
    hasher.update(&digest.0);
    let mut trailer = [0; SPAN_TRAILER_BYTES];
    trailer[..32].copy_from_slice(&digest.0);
    trailer[32..].copy_from_slice(&hasher.digest().to_le_bytes());
    trailer
}

/// Checks the trailer of a span, as every process does that opens it, and shows its bytes.
pub(super) fn check_span(
    file: &File,
    digest: &SpanDigest,
    show: &mut dyn FnMut(&[u8]),
) -> Result<(), Wrong> {
    let length = file.metadata()?.len();
    let Some(length) = length.checked_sub(SPAN_TRAILER_BYTES as u64) else {
        return Err(Wrong::Damaged("it is too short".to_owned()));
    };
    let mut xxh3 = Xxh3::new();
    each_chunk(file.take(length), |chunk| {
        xxh3.update(chunk);
        show(chunk);
    })?;
    xxh3.update(&digest.0);
    let mut trailer = Vec::with_capacity(SPAN_TRAILER_BYTES + 1);
    file.take(SPAN_TRAILER_BYTES as u64 + 1).read_to_end(&mut trailer)?;
    let expected = [&digest.0[..], &xxh3.digest().to_le_bytes()].concat();
    match trailer == expected {
        true => Ok(()),
        false => Err(Wrong::Damaged("its checksum does not match".to_owned())),
    }
}
