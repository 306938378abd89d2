//! The index of a plain tar held in memory.

use ocifs::codec::Compression;
use ocifs::digest::{DiffId, Digest, SpanDigest};
use ocifs::extent::{CompressedOffset, UncompressedOffset};
use ocifs::index::{Builder, Check, Identity, LayerIndex, Proof, Restart, Span};
use ocifs::tar::Parser;

/// Indexes a tar, fed in pieces of an odd size.
pub fn index(tar: &[u8]) -> Result<LayerIndex, String> {
    index_in_pieces(tar, 997)
}

/// Indexes a tar, fed in pieces of `step` bytes.
pub fn index_in_pieces(tar: &[u8], step: usize) -> Result<LayerIndex, String> {
    let mut builder = Builder::new();
    let mut parser = Parser::new();
    for piece in tar.chunks(step) {
        parser.feed(piece, &mut builder).map_err(|e: ocifs::index::Error| e.to_string())?;
    }
    parser.finish().map_err(|e| e.to_string())?;
    if !tar.is_empty() {
        builder.span(&Span {
            start: UncompressedOffset(0),
            length: tar.len() as u32,
            compressed_start: CompressedOffset(0),
            compressed_end: CompressedOffset(tar.len() as u64),
            restart: Restart::Here,
            check: Check::Content,
            digest: SpanDigest::of(tar),
        });
    }
    let digest = Digest::sha256(tar);
    let identity = Identity {
        blob: digest,
        blob_size: tar.len() as u64,
        diff_id: DiffId(digest),
        uncompressed_size: tar.len() as u64,
        compression: Compression::None,
        proof: Proof::Full,
    };
    let index = builder.finish(identity).map_err(|e| e.to_string())?;
    // Every index that is made here also goes through the file format.
    let decoded = LayerIndex::decode(&index.encode()).expect("what was written can be read");
    assert!(decoded == index, "decoding changed the index");
    Ok(decoded)
}
