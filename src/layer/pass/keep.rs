//! Stage 4: checks the gzip members that end in spans, describes the spans, and keeps them.

use std::sync::mpsc::{Receiver, SyncSender};

use crate::blob;
use crate::cache::Cache;
use crate::codec::{self, Compression, MemberEnd, MemberSum, window};
use crate::digest::SpanDigest;
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::index::{Check, Restart, Span};
use crate::layer::cut::{Begin, Piece, give_back};
use crate::layer::error::ErrorKind;

/// Describes spans, and keeps them.
pub(super) struct Keeper<'a> {
    /// None where only the index is wanted.
    pub(super) cache: Option<&'a Cache>,
    /// Whether spans that are in the cache are compared.
    pub(super) checks: bool,
    /// Those that were not in the cache before.
    pub(super) written: &'a mut Vec<SpanDigest>,
}

impl Keeper<'_> {
    /// The spans of a layer, and the stored windows that they refer to.
    ///
    /// # Errors
    /// A gzip member is not what its checksum says, or there is no memory.
    pub(super) fn keep(
        self,
        pieces: &Receiver<Piece>,
        used: &SyncSender<Vec<u8>>,
    ) -> Result<(Vec<Span>, Vec<u8>), ErrorKind> {
        let (mut spans, mut windows) = (Vec::new(), Vec::new());
        let (mut start, mut sum) = (0, MemberSum::default());
        for Piece { buffer, length, compressed, begin, members, compression } in pieces {
            let bytes = &buffer[..length];
            if compression == Compression::Gzip {
                check_members(&mut sum, bytes, &members)?;
            }
            if bytes.is_empty() {
                continue;
            }
            let digest = SpanDigest::of(bytes);
            let restart = match begin {
                Begin::Continues => Restart::Continues,
                Begin::Here => Restart::Here,
                Begin::Block { bits, window } => {
                    let stored = window::pack(&window)?;
                    let place = (windows.len() as u64, stored.len() as u32);
                    windows.extend_from_slice(&stored);
                    Restart::Block { bits, window: place }
                }
            };
            let span = Span {
                start: UncompressedOffset(start),
                length: length as u32,
                compressed_start: CompressedOffset(compressed.start),
                compressed_end: CompressedOffset(compressed.end),
                restart,
                check: Check::Content,
                digest,
            };
            if let Some(cache) = self.cache.filter(|_| self.checks) {
                replace_other(cache, &digest, bytes);
            }
            if self.cache.is_some_and(|cache| cache.put_span(&digest, bytes, blob::cost(restart))) {
                self.written.push(digest);
            }
            spans.push(span);
            start += length as u64;
            give_back(buffer, used);
        }
        Ok((spans, windows))
    }
}

/// Takes more output of gzip members, and checks those that end in it.
fn check_members(
    sum: &mut MemberSum,
    bytes: &[u8],
    members: &[(usize, MemberEnd)],
) -> Result<(), codec::Error> {
    let mut from = 0;
    for (until, end) in members {
        sum.update(&bytes[from..*until]);
        sum.check(*end)?;
        from = *until;
    }
    sum.update(&bytes[from..]);
    Ok(())
}

/// Removes a span from the cache that is not what has come.
fn replace_other(cache: &Cache, digest: &SpanDigest, bytes: &[u8]) {
    let Some(file) = cache.span(digest, bytes.len() as u32) else { return };
    let mut cached = vec![0; bytes.len()];
    // A file whose bytes changed while they were read is not the same either.
    if !matches!(file.read_at(&mut cached, 0), Ok(true)) || cached != bytes {
        log::warn!("a span in the cache was not what its layer holds; it is replaced");
        cache.withdraw_span(digest);
    }
}
