//! Stage 1: reads the blob.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use crate::digest::{VerifyError, VerifyingReader};
use crate::layer::download::Download;
use crate::layer::error::ErrorKind;
use crate::layer::progress::Hearing;
use crate::oci::Descriptor;
use crate::source;

/// Bytes of the blob handed on at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// Reads the blob to its end, whatever becomes of the chunks, because only its digest
/// tells a broken layer from a broken download.
pub(super) fn fetch(
    mut reader: VerifyingReader<&mut Download<'_>>,
    descriptor: &Descriptor,
    chunks: &SyncSender<Vec<u8>>,
    Hearing { progress, stop }: Hearing<'_>,
) -> Result<(), ErrorKind> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match reader.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    progress.advance(n as u64);
                    if stop.load(Ordering::Relaxed) {
                        return Err(ErrorKind::Read(io::Error::other("another layer has failed")));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(match e.downcast::<VerifyError>() {
                        Ok(verify) => verify.into(),
                        Err(e) => match e.downcast::<source::Error>() {
                            Ok(e) => ErrorKind::of_blob(e, descriptor),
                            Err(e) => ErrorKind::Read(e),
                        },
                    });
                }
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        // A stage that stopped says why itself.
        let _ = chunks.send(chunk);
    }
}
