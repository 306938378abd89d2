//! Taking the JSON of a TOC out of what it is packed in, and checking it.

use std::ops::Range;

use super::annotation::{TOC_NAME, TocAnnotation};
use super::error::{Error, MAX_TOC_BYTES};
use super::rows;
use super::table::Toc;
use crate::codec::{self, Compression, Decoder};
use crate::digest::{self, Digest};
use crate::tar;

/// Checks and parses the TOC: `bytes` are those of the blob at `place`, which came from [`find()`](super::find()).
///
/// # Errors
/// The bytes are not those that the descriptor promised, what they say can't be true, or the JSON has
/// more than `most` bytes.
pub fn read(
    promise: &TocAnnotation,
    place: &Range<u64>,
    bytes: &[u8],
    most: u64,
) -> Result<Toc, Error> {
    let most = most.min(MAX_TOC_BYTES);
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge);
    }
    let json = match promise {
        TocAnnotation::Estargz { json: expected } => {
            let json = toc_of_tar(bytes, most)?;
            check(*expected, &json)?;
            json
        }
        TocAnnotation::ZstdChunked { json_bytes, digest, json: expected, .. } => {
            check(*digest, bytes)?;
            let json = zstd_frame(bytes, *json_bytes, most)?;
            if let Some(expected) = expected {
                check(*expected, &json)?;
            }
            json
        }
    };
    // Content lies before its TOC in every format.
    rows::parse(&json, place.start)
}

fn check(expected: Digest, bytes: &[u8]) -> Result<(), Error> {
    let mut hasher = digest::Hasher::new(expected.algorithm());
    hasher.update(bytes);
    match hasher.finish() {
        got if got == expected => Ok(()),
        got => Err(Error::Digest { expected, got }),
    }
}

fn zstd_frame(bytes: &[u8], expected: u64, most: u64) -> Result<Vec<u8>, Error> {
    if Compression::sniff(bytes)? != Compression::Zstd {
        return Err(Error::NotZstd);
    }
    if expected > most {
        return Err(Error::TooLarge);
    }
    let json = codec::decompress(bytes, usize::try_from(expected).map_err(|_| Error::TooLarge)?)?;
    match json.len() as u64 {
        got if got == expected => Ok(json),
        got => Err(Error::Length { expected, got }),
    }
}

/// The JSON of an eStargz layer: the only file of a compressed tar.
fn toc_of_tar(bytes: &[u8], most: u64) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(Compression::Gzip)?;
    let mut parser = tar::Parser::new();
    let mut file = TocFile::default();
    let mut output = vec![0; 64 << 10];
    let (mut rest, mut total) = (bytes, 0);
    loop {
        let progress = decoder.decode(rest, &mut output)?;
        if progress.consumed == 0 && progress.produced == 0 {
            break;
        }
        rest = &rest[progress.consumed..];
        total += progress.produced as u64;
        if total > most {
            return Err(Error::TooLarge);
        }
        parser.feed(&output[..progress.produced], &mut file)?;
    }
    decoder.finish()?;
    parser.finish()?;
    file.json.ok_or(Error::TarContent)
}

/// Takes the TOC out of its tar.
#[derive(Default)]
struct TocFile {
    json: Option<Vec<u8>>,
}

impl tar::Sink for TocFile {
    type Error = Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), Error> {
        let is_toc = entry.path == TOC_NAME && entry.kind == tar::FileType::File && !entry.sparse;
        if !is_toc || self.json.is_some() {
            return Err(Error::TarContent);
        }
        self.json = Some(Vec::new());
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(json) = &mut self.json {
            json.extend_from_slice(bytes);
        }
    }

    fn end(&mut self) {}
}
