//! Stage 2: decompresses the blob into spans.
//!
//! Checksums of gzip members are left to the stage that keeps spans. One that is wrong counts for more
//! than what this stage finds wrong behind it, as if it had been checked here.

use std::sync::mpsc::{Receiver, SyncSender};

use super::stopped::Stopped;
use crate::codec::{self, Compression};
use crate::layer::cut::{Cutter, Piece};
use crate::layer::error::ErrorKind;

/// Decompresses, and cuts the output into spans. How it is compressed is looked for if it is not known.
pub(super) fn inflate(
    chunks: &Receiver<Vec<u8>>,
    spans: &SyncSender<Piece>,
    used: &Receiver<Vec<u8>>,
    known: Option<Compression>,
    limits: codec::Limits,
    limit: Option<u64>,
) -> Result<Compression, Stopped> {
    let chunk = chunks.recv().unwrap_or_default();
    // Chunks are full but for the last: a first one shorter than the magic is the whole blob.
    let sniffed = known.map_or_else(|| Compression::sniff(&chunk), Ok);
    let compression = sniffed.map_err(ErrorKind::from)?;
    let mut cutter = Cutter::new(compression, limits, used)?;
    let done = decode(&mut cutter, chunk, chunks, spans, limit);
    if let Err(Stopped::Error(_)) = &done
        && let Some(piece) = cutter.unchecked()
    {
        // If it is not taken, the next stage has an error of its own.
        let _ = spans.send(piece);
    }
    done.map(|()| compression)
}

/// Decodes to the end of the blob, of which `chunk` is the first.
fn decode(
    cutter: &mut Cutter<'_>,
    mut chunk: Vec<u8>,
    chunks: &Receiver<Vec<u8>>,
    spans: &SyncSender<Piece>,
    limit: Option<u64>,
) -> Result<(), Stopped> {
    let mut total = 0u64;
    loop {
        let mut unread = &chunk[..];
        loop {
            let (progress, piece) = cutter.decode(unread)?;
            unread = &unread[progress.consumed..];
            total += progress.produced as u64;
            let blob = cutter.consumed();
            let limit = limit.unwrap_or(codec::plausible_uncompressed_bytes(blob));
            if total > limit {
                // Members that have ended in it may be wrong too.
                piece.map(|piece| spans.send(piece));
                return Err(ErrorKind::TooLarge { limit, blob }.into());
            }
            let is_stuck = progress.consumed == 0 && progress.produced == 0;
            match piece {
                Some(piece) => spans.send(piece).map_err(|_| Stopped::Receiver)?,
                None if is_stuck => break,
                None => {}
            }
        }
        chunk = match chunks.recv() {
            Ok(chunk) => chunk,
            Err(_) => break,
        };
    }
    if let Some(last) = cutter.finish()? {
        spans.send(last).map_err(|_| Stopped::Receiver)?;
    }
    Ok(())
}
