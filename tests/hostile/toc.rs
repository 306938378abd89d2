//! Tables of contents of eStargz and zstd:chunked: by a dishonest writer, and damaged on the way.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use ocifs::digest::{DiffId, Digest};
use ocifs::index::{Budget, LayerIndex};
use ocifs::oci::Descriptor;
use ocifs::toc::{self, Error, Toc, TocAnnotation};
use serde_json::json;

use super::{SMALL, Target, Verdict, layer_index};
use crate::support::estargz::{self, Form, Written};
use crate::support::image::{Compression, compress, sha256};
use crate::support::tarball::{self, Entry};
use crate::support::zstd_chunked;

/// The JSON, under digests that fit it, in all forms.
pub const JSON: Target =
    Target { name: "toc", valid: valid_json, check: check_json, most_memory: 2 * SMALL };

/// Blobs, under the digests of undamaged ones: what is read is right, or there is an error.
pub const BLOB: Target =
    Target { name: "toc_blob", valid: valid_blobs, check: check_blob, most_memory: 2 * SMALL };

/// The layers that damage is done to, and what is to be read of them.
static LAYERS: LazyLock<Vec<(Written, TocAnnotation, Toc)>> = LazyLock::new(|| {
    let entries = entries();
    let estargz = |form, min_member| {
        estargz::write(&entries, &estargz::Options { form, min_member, ..Default::default() })
    };
    let layers = [
        estargz(Form::Estargz, 0),
        estargz(Form::Legacy, 3000),
        estargz(Form::Zstd, 0),
        zstd_chunked::write(&entries, &zstd_chunked::Options::default()),
        zstd_chunked::write(&entries, &zstd_chunked::Options { old: true, ..Default::default() }),
    ];
    let read = |layer: Written| {
        let promise = toc::promise(&descriptor(&layer)).expect("the writer annotates");
        let toc = read_blob(&promise, &layer.blob).expect("it is undamaged");
        (layer, promise, toc)
    };
    layers.map(read).into()
});

fn entries() -> Vec<Entry> {
    let content = |length: usize| (0..length).map(|at| (at % 251 + 1) as u8).collect::<Vec<u8>>();
    vec![
        Entry::dir("usr").mode(0o1777).mtime(1_700_000_000, 0),
        Entry::file("usr/tool", content(2500)).mode(0o4755).mtime(-315_619_199, 0),
        Entry::file("usr/small", "small").xattr("user.b", "v").owner(1000, 4_294_967_294),
        Entry::file("usr/empty", ""),
        Entry::hardlink("usr/other", "usr/tool"),
        Entry::symlink("bin", "usr/bin"),
        Entry::char_device("null", 1, 3),
        Entry::block_device("sda", 259, 1_048_575),
        Entry::fifo("pipe"),
        Entry::file("usr/.wh.gone", ""),
        Entry::file("usr/holes", [&content(1100)[..], &[0; 3000], b"x"].concat()),
    ]
}

/// The descriptor of a layer, as its writer annotates it.
pub fn descriptor(layer: &Written) -> Descriptor {
    let (digest, size) = (sha256(&layer.blob), layer.blob.len());
    let value = json!({ "digest": digest, "size": size, "annotations": layer.annotations });
    serde_json::from_value(value).unwrap()
}

fn part(blob: &[u8], range: &Range<u64>) -> Vec<u8> {
    blob[range.start as usize..range.end as usize].to_vec()
}

/// Opens a layer as its user has to: fetch, find, fetch, read.
pub fn read_blob(promise: &TocAnnotation, blob: &[u8]) -> Result<Toc, Error> {
    let size = blob.len() as u64;
    let tail = promise.first_fetch(size);
    let place = toc::find(promise, &part(blob, &tail), tail.start, size)?;
    toc::read(promise, &place, &part(blob, &place), toc::MAX_TOC_BYTES)
}

fn valid_blobs() -> Vec<Vec<u8>> {
    LAYERS.iter().map(|(layer, ..)| layer.blob.clone()).collect()
}

fn check_blob(blob: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for (_, promise, expected) in LAYERS.iter() {
        if let Ok(toc) = read_blob(promise, blob) {
            assert!(toc.entries == expected.entries, "another table of contents than was promised");
            verdict = Verdict::Accepted;
        }
    }
    verdict
}

fn valid_json() -> Vec<Vec<u8>> {
    LAYERS.iter().map(|(layer, ..)| layer.json.clone()).collect()
}

/// The size of a blob that has the contents of all files here in front of its TOC, in bytes.
const CONTENT_BYTES: u64 = 1 << 20;

fn check_json(json: &[u8]) -> Verdict {
    let compressed = zstd::bulk::compress(json, 1).expect("there is memory");
    let place = CONTENT_BYTES..CONTENT_BYTES + compressed.len() as u64;
    let chunked = TocAnnotation::ZstdChunked {
        manifest: place.clone(),
        json_bytes: json.len() as u64,
        digest: Digest::sha256(&compressed),
        json: Some(Digest::sha256(json)),
    };
    let read = toc::read(&chunked, &place, &compressed, toc::MAX_TOC_BYTES);
    let tar = tarball::tar(&[Entry::file("stargz.index.json", json)]);
    let gzip = compress(&tar, Compression::Gzip);
    let stargz = TocAnnotation::Estargz { json: Digest::sha256(json) };
    let gzip_place = CONTENT_BYTES..CONTENT_BYTES + gzip.len() as u64;
    let in_tar = toc::read(&stargz, &gzip_place, &gzip, toc::MAX_TOC_BYTES);
    assert_eq!(in_tar.as_ref().ok(), read.as_ref().ok(), "the wrapping makes a difference");
    let verdict = Verdict::from(&read);
    if let Ok(toc) = read {
        check_toc(&toc, place.end);
        check_index(&chunked, toc, place.end);
    }
    verdict
}

/// A TOC holds together whatever its writer says.
pub fn check_toc(toc: &Toc, blob_size: u64) {
    let mut end = 0;
    for pair in toc.chunks.windows(2) {
        assert!(pair[0].compressed.start <= pair[1].compressed.start);
    }
    for chunk in &toc.chunks {
        assert_eq!(chunk.start.0, end);
        assert!(chunk.length > 0);
        end += chunk.length;
        assert!(chunk.compressed.start < chunk.compressed.end);
        assert!(chunk.compressed.end <= blob_size);
    }
    assert_eq!(toc.content_bytes, end);
    for found in &toc.entries {
        let mut last = 0;
        for run in &found.entry.runs {
            assert!(run.file_offset >= last && run.length > 0);
            last = run.file_end();
            assert!(last <= found.entry.size);
            assert!(run.start.checked_add(run.length).unwrap().0 <= toc.content_bytes);
        }
    }
}

/// So does the layer index that is made of it.
fn check_index(promise: &TocAnnotation, toc: Toc, blob_size: u64) {
    let value = json!({ "digest": sha256(b"layer"), "size": blob_size });
    let descriptor: Descriptor = serde_json::from_value(value).expect("it is a descriptor");
    let diff_id = DiffId(Digest::sha256(b"tar"));
    let budget = Arc::new(Budget::of(1 << 30));
    if let Ok(index) = LayerIndex::from_toc(promise, toc, &descriptor, diff_id, &budget) {
        layer_index::check(&index);
        layer_index::check(&index.without_bookkeeping(promise));
    }
}
