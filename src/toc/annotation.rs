//! What a layer's descriptor promises about a TOC.

use std::ops::Range;

use crate::digest::{ContentHash, Digest};
use crate::oci::Descriptor;

/// How much of the end of an eStargz layer is worth fetching at once, in bytes: the footer and the
/// TOC of some 5,000 files. One request for too much is cheaper than two.
const TAIL_BYTES: u64 = 512 << 10;

/// Digest of the TOC's JSON (stargz-snapshotter, estargz/types.go).
pub(super) const JSON_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The two dialects' prefixes, the later one first: containers/storage since 2023, and
/// stargz-snapshotter, whose names Podman 4 and Buildah 1.28 used too.
const ZSTD_PREFIXES: [&str; 2] =
    ["io.github.containers.zstd-chunked", "io.containers.zstd-chunked"];

/// The only type of zstd:chunked manifest: JSON as in eStargz.
const MANIFEST_TYPE: u64 = 1;

/// The name of the TOC in its tar.
pub(super) const TOC_NAME: &[u8] = b"stargz.index.json";

/// Files that stargz-snapshotter adds to the root of a layer for itself, to say how much of it to
/// prefetch.
const LANDMARKS: [&[u8]; 2] = [b".prefetch.landmark", b".no.prefetch.landmark"];

/// SHA-256 of what a landmark holds: the byte 0x0f.
const LANDMARK: ContentHash = [
    0xdc, 0x0e, 0x9c, 0x36, 0x58, 0xa1, 0xa3, 0xed, 0x1e, 0xc9, 0x42, 0x74, 0xd8, 0xb1, 0x99, 0x25,
    0xc9, 0x3e, 0x1a, 0xbb, 0x7d, 0xdb, 0xa2, 0x94, 0x92, 0x3a, 0xd9, 0xbd, 0xe3, 0x0f, 0x8c, 0xb8,
];

/// What a layer's descriptor promises about a TOC, before anything is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TocAnnotation {
    /// The footer of the blob says where it is.
    Estargz {
        /// Digest of the JSON, uncompressed.
        json: Digest,
    },
    /// The annotations say where it is.
    ZstdChunked {
        /// Place of the compressed JSON in the blob.
        manifest: Range<u64>,
        /// Length of the JSON in bytes.
        json_bytes: u64,
        /// Digest of the compressed JSON.
        digest: Digest,
        /// Digest of the JSON, uncompressed. Only stargz-snapshotter adds it.
        json: Option<Digest>,
    },
}

/// Reads what a layer's annotations promise; `None` if they name no digest, or in a form that
/// no tool writes: then there is nothing that a TOC could be checked against.
///
/// A layer with both kinds of annotation is zstd:chunked as stargz-snapshotter writes it.
pub fn promise(descriptor: &Descriptor) -> Option<TocAnnotation> {
    let annotation = |name: &str| descriptor.annotations.get(name).map(String::as_str);
    let json = annotation(JSON_DIGEST).and_then(|text| text.parse().ok());
    for prefix in ZSTD_PREFIXES {
        let digest = annotation(&format!("{prefix}.manifest-checksum"));
        let position = annotation(&format!("{prefix}.manifest-position"));
        let position = position.and_then(position_numbers);
        if let (Some(digest), Some(position)) = (digest.and_then(|d| d.parse().ok()), position) {
            let [start, length, json_bytes, MANIFEST_TYPE] = position else { return None };
            let manifest = start..start.checked_add(length)?;
            return Some(TocAnnotation::ZstdChunked { manifest, json_bytes, digest, json });
        }
    }
    json.map(|json| TocAnnotation::Estargz { json })
}

/// `offset:compressed length:length:type`, decimal.
fn position_numbers(text: &str) -> Option<[u64; 4]> {
    let numbers: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

impl TocAnnotation {
    /// The part of a blob of `blob_size` bytes to fetch first: for eStargz its end, with the
    /// footer and hopefully the TOC; for zstd:chunked exactly the TOC.
    pub fn first_fetch(&self, blob_size: u64) -> Range<u64> {
        match self {
            TocAnnotation::Estargz { .. } => blob_size.saturating_sub(TAIL_BYTES)..blob_size,
            TocAnnotation::ZstdChunked { manifest, .. } => {
                manifest.start.min(blob_size)..manifest.end.min(blob_size)
            }
        }
    }

    /// Whether a regular file in the root of the layer is one that the layer's writer added for
    /// itself, which is not part of the image: a landmark of stargz-snapshotter, or the TOC, which is
    /// a file of the tar too. `size` is in bytes, `content` the SHA-256: what else is stored under
    /// the same names is a file like any other.
    ///
    /// Only for layers with that tool's own annotation; elsewhere landmarks are files too.
    pub fn is_bookkeeping(&self, name: &[u8], size: u64, content: &ContentHash) -> bool {
        let (by_stargz, toc) = match self {
            TocAnnotation::Estargz { json } => (true, Some(json)),
            // This TOC is in no tar.
            TocAnnotation::ZstdChunked { json, .. } => (json.is_some(), None),
        };
        if name == TOC_NAME {
            return toc.is_some_and(|json| json.hash() == content);
        }
        by_stargz && LANDMARKS.contains(&name) && (size, content) == (1, &LANDMARK)
    }
}
