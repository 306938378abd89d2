//! Stage 2: decompresses the blob into spans.

use std::sync::mpsc::{Receiver, SyncSender};

use super::stopped::Stopped;
use crate::codec::{self, Compression};
use crate::layer::cut::{Cutter, Piece};
use crate::layer::error::ErrorKind;

/// Decompresses, and cuts the output into spans.
pub(super) fn inflate(
    chunks: &Receiver<Vec<u8>>,
    spans: &SyncSender<Piece>,
    used: &Receiver<Vec<u8>>,
    limits: codec::Limits,
    limit: Option<u64>,
) -> Result<Compression, Stopped> {
    let mut chunk = chunks.recv().unwrap_or_default();
    // Chunks are full but for the last: a first one shorter than the magic is the whole blob.
    let compression = Compression::sniff(&chunk).map_err(ErrorKind::from)?;
    let mut cutter = Cutter::new(compression, limits, used)?;
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
    Ok(compression)
}
