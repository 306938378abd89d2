//! Stage 3: parses and hashes what is in the layer.
//!
//! Content of files is hashed for the digest of its file and for the diff ID at once, because two hashes of
//! the same bytes cost hardly more than one; the rest of the tar is for the diff ID alone. So the diff ID is
//! fed by the parser, which says of each byte which it is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::stopped::Stopped;
use crate::codec::{self, Compression};
use crate::digest::{Algorithm, ContentDigest, ContentHasher, DiffId, Digest, Hasher};
use crate::extent::{Run, UncompressedOffset};
use crate::index::{self, Budget, Builder};
use crate::layer::cut::{Piece, give_back};
use crate::layer::error::ErrorKind;
use crate::tar::{self, Parser};

/// Zeros at the end of a tar that may be missing, in bytes. Tars are padded to whole records, of 10 KiB
/// with most writers and of 64 KiB with the largest usual ones.
const MAX_MISSING_PADDING: u32 = 1 << 20;

/// Which blob is read, the budget that grows with it, and the algorithm of its diff ID.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) blob: Digest,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) algorithm: Algorithm,
}

/// Parses and hashes what is in the layer, and hands each piece on.
pub(super) fn parse(
    pieces: &Receiver<Piece>,
    kept: SyncSender<Piece>,
    used: &SyncSender<Vec<u8>>,
    Read { blob, budget, algorithm }: Read<'_>,
    has_table: bool,
) -> Result<(Builder, Hasher, u64), Stopped> {
    let builder = Builder::within(Arc::clone(budget));
    let mut hashed = Hashed { builder, diff_id: Hasher::new(algorithm) };
    let mut parser = Parser::new();
    let mut total = 0;
    let mut start = Start::default();
    let mut is_zero = true;
    for piece in pieces {
        let (buffer, length) = (Arc::clone(&piece.buffer), piece.length);
        start.note(&piece);
        budget.has_read(blob, piece.compressed.end);
        kept.send(piece).map_err(|_| Stopped::Receiver)?;
        let bytes = &buffer[..length];
        parser.feed(bytes, &mut hashed).map_err(|e| start.refusal(e))?;
        // What follows the end mark of a tar belongs to no file, but a table can show it.
        let is_empty = hashed.builder.is_empty();
        is_zero = is_zero && !(has_table && is_empty && bytes.iter().any(|b| *b != 0));
        total += length as u64;
        give_back(buffer, used);
    }
    parser.finish().map_err(|e| start.refusal(e.into()))?;
    let Hashed { builder, diff_id } = hashed;
    if builder.is_empty() && !is_zero {
        return Err(ErrorKind::NoTarBehindTable.into());
    }
    Ok((builder, diff_id, total))
}

/// Hashes a blob that is a file of so many bytes, and hands each piece on.
pub(super) fn file(
    pieces: &Receiver<Piece>,
    kept: SyncSender<Piece>,
    used: &SyncSender<Vec<u8>>,
    Read { budget, algorithm, .. }: Read<'_>,
    size: u64,
) -> Result<(Builder, Hasher, u64), Stopped> {
    let builder = Builder::within(Arc::clone(budget));
    let mut hashed = Hashed { builder, diff_id: Hasher::new(algorithm) };
    tar::Sink::entry(&mut hashed, entry_of_blob(size)).map_err(ErrorKind::from)?;
    let mut total = 0;
    for piece in pieces {
        let (buffer, length) = (Arc::clone(&piece.buffer), piece.length);
        kept.send(piece).map_err(|_| Stopped::Receiver)?;
        tar::Sink::content(&mut hashed, &buffer[..length]);
        total += length as u64;
        give_back(buffer, used);
    }
    tar::Sink::end(&mut hashed);
    let Hashed { builder, diff_id } = hashed;
    Ok((builder, diff_id, total))
}

/// Hashes what a blob that is a compressed file holds, whose size is known when all of it has gone by, and hands each
/// piece on.
pub(super) fn inflated(
    pieces: &Receiver<Piece>,
    kept: SyncSender<Piece>,
    used: &SyncSender<Vec<u8>>,
    Read { budget, algorithm, .. }: Read<'_>,
) -> Result<(Builder, Hasher, u64), Stopped> {
    let (mut content, mut diff_id) = (ContentHasher::sha256(), Hasher::new(algorithm));
    let mut total = 0;
    for piece in pieces {
        let (buffer, length) = (Arc::clone(&piece.buffer), piece.length);
        kept.send(piece).map_err(|_| Stopped::Receiver)?;
        content.data_for_both(&mut diff_id, &buffer[..length]);
        total += length as u64;
        give_back(buffer, used);
    }
    let mut builder = Builder::within(Arc::clone(budget));
    let hash = match content.finish() {
        ContentDigest::Sha256(hash) => Some(hash),
        ContentDigest::Blocks(_) => None,
    };
    builder.listed(entry_of_blob(total), hash).map_err(ErrorKind::from)?;
    Ok((builder, diff_id, total))
}

/// What a tar would say of a blob that is a file. Its name and mode are given to it where it is shown.
fn entry_of_blob(size: u64) -> tar::Entry {
    let whole = Run { file_offset: 0, start: UncompressedOffset(0), length: size };
    let runs = if size > 0 { vec![whole] } else { Vec::new() };
    tar::Entry::of_file(b"blob".to_vec(), 0o644, size, runs)
}

/// Builds the index, and hashes every byte of the tar for the diff ID.
struct Hashed {
    builder: Builder,
    diff_id: Hasher,
}

impl tar::Sink for Hashed {
    type Error = index::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), index::Error> {
        self.builder.entry(entry)
    }

    fn content(&mut self, bytes: &[u8]) {
        self.builder.content_for_both(&mut self.diff_id, bytes);
    }

    fn end(&mut self) {
        self.builder.end();
    }

    fn framing(&mut self, bytes: &[u8]) {
        self.diff_id.update(bytes);
    }
}

/// How many bytes of zeros have to stand behind a tar of `size` bytes to give it the diff ID that is
/// expected, or the diff ID that it has.
///
/// Releases of Podman and Buildah of 2023 dropped the zeros behind the end mark of a tar when they wrote
/// zstd:chunked, and kept its diff ID (containers/storage#1771). Nothing that is shown depends on them.
pub(super) fn missing_padding(
    mut hasher: Hasher,
    size: u64,
    expected: DiffId,
) -> Result<u32, DiffId> {
    const BLOCK: [u8; tar::BLOCK_BYTES] = [0; tar::BLOCK_BYTES];
    let got = DiffId(hasher.clone().finish());
    if got == expected {
        return Ok(0);
    }
    let mut missing = 0;
    // The last block may be cut short too.
    let mut next = BLOCK.len() as u32 - (size % BLOCK.len() as u64) as u32;
    while missing + next <= MAX_MISSING_PADDING {
        hasher.update(&BLOCK[..next as usize]);
        missing += next;
        if DiffId(hasher.clone().finish()) == expected {
            return Ok(missing);
        }
        next = BLOCK.len() as u32;
    }
    Err(got)
}

/// How what should be a tar begins, to say what it is instead.
#[derive(Default)]
struct Start {
    bytes: Vec<u8>,
    is_compressed: bool,
}

impl Start {
    fn note(&mut self, piece: &Piece) {
        if self.bytes.is_empty() {
            self.bytes = piece.buffer[..piece.length.min(tar::BLOCK_BYTES)].to_vec();
            self.is_compressed = piece.compression != Compression::None;
        }
    }

    /// What is wrong, in the words that help: the first block is no header, or there is not even one.
    fn refusal(&self, error: index::Error) -> ErrorKind {
        let is_no_tar = match error {
            index::Error::Tar(tar::Error::Checksum { at: 0 }) => true,
            index::Error::Tar(tar::Error::Truncated { .. }) => self.bytes.len() < tar::BLOCK_BYTES,
            _ => false,
        };
        match codec::guess(&self.bytes).filter(|_| is_no_tar) {
            Some(guess) if guess.is_compressed && self.is_compressed => {
                ErrorKind::CompressedTwice(guess.name)
            }
            Some(guess) => ErrorKind::NotTar(guess.name),
            None => error.into(),
        }
    }
}
