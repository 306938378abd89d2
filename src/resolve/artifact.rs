//! What is shown of a manifest that is no container image's.

use std::collections::HashMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::documents::Documents;
use super::error::Error;
use super::image::{ResolvedImage, ResolvedLayer};
use super::verified::Verified;
use crate::artifact::{self, ArtifactView, Joined, Plan, Planned, ShownAs};
use crate::cache::{Cache, LayerName};
use crate::codec::{Compression, Decoder, SNIFF_BYTES};
use crate::digest::{DiffId, Digest};
use crate::index::{Check, LayerIndex, MAX_FILE_BYTES};
use crate::oci::{
    self, Descriptor, EMPTY_CONTENT, ImageConfig, MAX_CONFIG_BYTES, Manifest, Platform, RootFs,
};
use crate::tar::{BLOCK_BYTES, is_header};

/// Bytes that are fetched to see whether a blob is a tar: a block of zstd has up to 128 KiB.
const HEAD_BYTES: u64 = 160 << 10;

/// Most bytes of all blobs that make a file.
const MAX_JOINED_BYTES: u64 = 4 << 20;

/// More than the index of a blob that is a file has, whatever its size.
const MAX_FILE_INDEX_BYTES: u64 = 16 << 20;

/// Resolves a manifest that is to be shown by what kind of artifact it is.
///
/// # Errors
/// A document or the beginning of a blob can't be had.
pub(super) fn resolve(
    name: String,
    indexes: Vec<Verified<()>>,
    manifest: Verified<Manifest>,
    documents: &Documents<'_>,
) -> Result<ResolvedImage, Error> {
    let view = documents.options.artifacts;
    let config = config(manifest.value(), documents)?;
    let layers = manifest.value().layers.len();
    let Plan { kind, blobs, joined, renamed } =
        artifact::plan(manifest.value(), config.bytes(), view);
    if let Some(absurd) = blobs.iter().find(|blob| blob.descriptor.size > MAX_FILE_BYTES) {
        let Descriptor { digest, size, .. } = absurd.descriptor;
        let what = format!("manifest {}", manifest.digest());
        return Err(Error::Document { what, cause: oci::Error::AbsurdSize { digest, size } });
    }
    for (wanted, shown) in renamed {
        log::warn!("`{}` is shown as `{}`", wanted.escape_debug(), shown.escape_debug());
    }
    let as_image = ImageConfig::parse(config.bytes(), layers).ok();
    let diff_ids = as_image.iter().flat_map(|config| &config.rootfs.diff_ids);
    let mut diff_id_of: HashMap<Digest, DiffId> = HashMap::new();
    for (layer, diff_id) in manifest.value().layers.iter().zip(diff_ids) {
        diff_id_of.entry(layer.digest).or_insert(*diff_id);
    }
    let blobs = blobs.into_iter().map(|planned| {
        let diff_id = diff_id_of.get(&planned.descriptor.digest).copied();
        resolved(planned, diff_id, view, documents)
    });
    let mut blobs = blobs.collect::<Result<Vec<_>, Error>>()?;
    if let Some(joined) = joined {
        let path = String::from_utf8_lossy(&joined.file.path).into_owned();
        match join(joined, documents) {
            Ok(file) => blobs.push(file),
            // What it would be made of is shown as it is.
            Err(e) => log::warn!("`{path}` is not shown, which several files make: {e}"),
        }
    }
    let no_image = || ImageConfig {
        platform: Platform {
            os: "unknown".to_owned(),
            architecture: "unknown".to_owned(),
            ..Platform::default()
        },
        rootfs: RootFs { diff_ids: Vec::new() },
    };
    let config = config.read(|_| Ok::<_, Error>(as_image.unwrap_or_else(no_image)))?;
    let image = ResolvedImage::new(name, indexes, manifest, config);
    Ok(ResolvedImage::of_artifact(kind, blobs, image))
}

/// A file that is made of several blobs: it is a blob as others are, which its descriptor holds.
fn join(joined: Joined, documents: &Documents<'_>) -> Result<ResolvedLayer, Error> {
    let mut left = MAX_JOINED_BYTES;
    let fetched = joined.pieces.iter().map(|piece| {
        let blob = documents.blob(&piece.blob, left)?;
        left -= piece.blob.size;
        Ok(blob.bytes().to_vec())
    });
    let bytes = joined.bytes(&fetched.collect::<Result<Vec<_>, Error>>()?);
    let digest = Digest::sha256(&bytes);
    let descriptor = Descriptor {
        media_type: String::new(),
        size: bytes.len() as u64,
        data: BASE64.encode(&bytes),
        ..Descriptor::of_manifest(digest)
    };
    let (diff_id, shown) = (Some(DiffId(digest)), ShownAs::File(joined.file));
    Ok(ResolvedLayer { descriptor, diff_id, shown })
}

/// The config, whatever is in it.
fn config(manifest: &Manifest, documents: &Documents<'_>) -> Result<Verified<()>, Error> {
    // Not all tools push it.
    if manifest.config.digest == Digest::sha256(EMPTY_CONTENT) {
        return Ok(Verified::check(EMPTY_CONTENT.to_vec(), Some(manifest.config.digest))?);
    }
    documents.blob(&manifest.config, MAX_CONFIG_BYTES)
}

/// A blob as it turns out to be: one that is to be unpacked may be no tar.
fn resolved(
    planned: Planned,
    diff_id: Option<DiffId>,
    view: ArtifactView,
    documents: &Documents<'_>,
) -> Result<ResolvedLayer, Error> {
    let Planned { descriptor, shown, otherwise } = planned;
    let own = DiffId(descriptor.digest);
    let as_file = |descriptor| {
        let shown = ShownAs::File(otherwise);
        Ok(ResolvedLayer { descriptor, diff_id: Some(own), shown })
    };
    match shown {
        ShownAs::File(_) => return as_file(descriptor),
        ShownAs::Compressed(_) => {
            return match is_compressed(&descriptor, documents)? {
                // A config that has diff IDs has those of tars.
                true => Ok(ResolvedLayer { descriptor, diff_id: None, shown }),
                false => as_file(descriptor),
            };
        }
        ShownAs::Tree { .. } => {}
    }
    // What an image's config vouches for is a tar, whether it is looked at or not.
    if diff_id.is_some() {
        return Ok(ResolvedLayer { descriptor, diff_id, shown });
    }
    match content(&descriptor, documents)? {
        Content::Tar(compression) => {
            let diff_id = (compression == Some(Compression::None)).then_some(own);
            Ok(ResolvedLayer { descriptor, diff_id, shown })
        }
        Content::Other => {
            if view == ArtifactView::Usual {
                log::info!("blob {} is no tar: it is shown as a file", descriptor.digest);
            }
            as_file(descriptor)
        }
    }
}

/// What a blob is, as far as its beginning says.
enum Content {
    /// A tar; how it is compressed, if it was looked at.
    Tar(Option<Compression>),
    Other,
}

fn content(descriptor: &Descriptor, documents: &Documents<'_>) -> Result<Content, Error> {
    // What was passed over as a tar is one.
    if documents.cache.layer_index_time(&LayerName::Blob(descriptor.digest)).is_some() {
        return Ok(Content::Tar(None));
    }
    let head = head(descriptor, documents)?;
    let is_whole = |head: &[u8]| head.len() as u64 == descriptor.size;
    Ok(head.map_or(Content::Tar(None), |head| of_head(&head, is_whole(&head))))
}

/// Whether a blob that is said to be a compressed file is compressed; also if that can't be told.
fn is_compressed(descriptor: &Descriptor, documents: &Documents<'_>) -> Result<bool, Error> {
    if documents.cache.layer_index_time(&LayerName::Inflated(descriptor.digest)).is_some() {
        return Ok(true);
    }
    let Some(head) = head(descriptor, documents)? else { return Ok(true) };
    let found = Compression::sniff(&head[..head.len().min(SNIFF_BYTES)]);
    Ok(found.is_ok_and(|found| found != Compression::None))
}

/// The beginning of a blob; none if it can't be had without a network, which is not to be used.
fn head(descriptor: &Descriptor, documents: &Documents<'_>) -> Result<Option<Vec<u8>>, Error> {
    let (source, cache) = (documents.source, documents.cache);
    Ok(Some(match descriptor.embedded() {
        Some(bytes) => bytes,
        None if source.is_offline() => return Ok(cached_head(descriptor, cache)),
        None => {
            let most = descriptor.size.min(HEAD_BYTES);
            let body = source.blob(descriptor, 0..most)?.body;
            let mut bytes = Vec::new();
            let read = body.take(most).read_to_end(&mut bytes);
            let what = || format!("blob {}", descriptor.digest);
            read.map_err(|cause| Error::Read { what: what(), cause })?;
            bytes
        }
    }))
}

/// The beginning of a blob that was read as a file before, from its first span: that has the digest of the blob, or
/// the one that the index of a proven blob says, or the one with which it has arrived.
fn cached_head(descriptor: &Descriptor, cache: &Cache) -> Option<Vec<u8>> {
    let Descriptor { digest, size, .. } = *descriptor;
    let mut head = vec![0; usize::try_from(size.min(HEAD_BYTES)).ok()?];
    if head.is_empty() {
        return Some(head);
    }
    let file = cache.layer_index(&LayerName::File(digest), MAX_FILE_INDEX_BYTES);
    let proven = file.and_then(|file| LayerIndex::decode(&file).ok());
    let index = match proven {
        Some(index) => index,
        None => LayerIndex::of_file(digest, size).ok()?,
    };
    let first = index.span(0);
    let span = match first.check {
        Check::Transport => cache.arrived_spans(&digest, index.span_count()).digest(0)?,
        _ => first.digest,
    };
    let file = cache.span(&span, first.length)?;
    file.read_at(&mut head, 0).ok()?.then_some(head)
}

fn of_head(head: &[u8], is_whole: bool) -> Content {
    let Ok(compression) = Compression::sniff(&head[..head.len().min(SNIFF_BYTES)]) else {
        return Content::Other;
    };
    let mut block = [0; BLOCK_BYTES];
    let (mut filled, mut unread) = (0, head);
    let Ok(mut decoder) = Decoder::new(compression) else { return Content::Other };
    while filled < block.len() {
        match decoder.decode(unread, &mut block[filled..]) {
            Ok(progress) if progress.consumed == 0 && progress.produced == 0 => break,
            Ok(progress) => {
                unread = &unread[progress.consumed..];
                filled += progress.produced;
            }
            Err(_) => return Content::Other,
        }
    }
    let is_empty_tar = filled == block.len() && block.iter().all(|byte| *byte == 0);
    // A head that ends before the first block says nothing: the first pass will.
    let is_cut = filled < block.len() && !is_whole;
    match is_cut || is_empty_tar || is_header(&block[..filled]) {
        true => Content::Tar(Some(compression)),
        false => Content::Other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_beginning_says() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(3);
        header.set_cksum();
        let tar = [&header.as_bytes()[..], b"abc", &[0; 2000]].concat();
        let zstd = zstd::encode_all(&tar[..], 1).unwrap();
        let rows: [(&[u8], bool, Option<Compression>); 8] = [
            (&tar, true, Some(Compression::None)),
            (&tar[..600], false, Some(Compression::None)),
            (&[0; 1024], true, Some(Compression::None)),
            (&zstd, true, Some(Compression::Zstd)),
            (b"name: chart\n", true, None),
            (b"", true, None),
            (&[7; 4096], false, None),
            (&[0x1f, 0x8b, 9, 9, 9], true, None),
        ];
        for (at, (head, is_whole, expected)) in rows.into_iter().enumerate() {
            let got = match of_head(head, is_whole) {
                Content::Tar(compression) => compression,
                Content::Other => None,
            };
            assert_eq!(got, expected, "{at}");
        }
    }
}
