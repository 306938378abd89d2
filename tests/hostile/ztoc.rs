//! SOCI's ztocs.

use std::sync::{Arc, LazyLock};

use ocifs::codec::Compression;
use ocifs::digest::{DiffId, Digest};
use ocifs::index::{Budget, LayerIndex, Proof};
use ocifs::oci::Descriptor;
use ocifs::tar;
use ocifs::ztoc::{self, Ztoc};
use serde_json::json;

use super::{SMALL, Target, Verdict, layer_index};
use crate::support::image::sha256;
use crate::support::tarball::Entry;
use crate::support::ztoc::{Points, Ztoc as Writer, gzip_flushed, tar_with_metadata};

/// ztocs of a gzip layer and of a plain tar.
pub const ZTOC: Target = Target { name: "ztoc", valid, check, most_memory: SMALL };

static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let entries = [
        Entry::dir("usr/").owner(1, 2).mode(0o1777).mtime(1_700_000_000, 123_456_789),
        Entry::file("usr/file", [7; 3000]).mode(0o4755).xattr("user.a", "value"),
        Entry::file("empty", "").mtime(-1, 500_000_000),
        Entry::symlink("link", "usr/file"),
        Entry::hardlink("hard", "usr/file"),
        Entry::char_device("null", 1, 3),
        Entry::block_device("disk", 259, 70_000),
        Entry::fifo("pipe").xattr("security.capability", ""),
        Entry::file("last", [9; 512]),
    ];
    let (tar, metadata) = tar_with_metadata(&entries);
    let blob = gzip_flushed(&tar, 6000);
    let gzip = Writer::gzip(&metadata, &blob, 5000, Points::Soci);
    // With a window there is more of it than of all else, and changes would be lost in it.
    let alone = Writer::gzip(&metadata, &blob, 1 << 20, Points::Soci).without_first_checkpoint();
    let plain = Writer::plain(&metadata, &tar, 1024);
    let short = alone.encode();
    let valid = [plain.encode(), short.clone(), short, plain.encode_shared(), gzip.encode()];
    valid.into()
});

fn valid() -> Vec<Vec<u8>> {
    VALID.clone()
}

fn check(bytes: &[u8]) -> Verdict {
    let parsed = Ztoc::parse(bytes);
    let verdict = Verdict::from(&parsed);
    let Ok(ztoc) = parsed else { return verdict };
    check_ztoc(&ztoc);
    let names: usize =
        ztoc.entries.iter().map(|entry| entry.path.len() + entry.link_target.len()).sum();
    let copied = names + ztoc.entries.len() * size_of::<tar::Entry>();
    assert!(copied <= ztoc::MAX_EXPANSION * bytes.len(), "{copied} of {} bytes", bytes.len());
    let value = json!({ "digest": sha256(b"layer"), "size": ztoc.compressed_bytes });
    let Ok(layer) = serde_json::from_value::<Descriptor>(value) else { return verdict };
    let diff_id = DiffId(Digest::sha256(b"tar"));
    let budget = Arc::new(Budget::of(1 << 30));
    if let Ok(index) = LayerIndex::from_ztoc(ztoc, &layer, diff_id, Proof::Toc, &budget) {
        layer_index::check(&index);
    }
    verdict
}

/// What holds for every ztoc that is accepted, true or not.
pub fn check_ztoc(ztoc: &Ztoc<'_>) {
    let mut at = 0;
    let mut compressed = 0;
    for span in &ztoc.spans {
        assert_eq!(span.start.0, at);
        assert!(span.length > 0 && span.bits <= 7);
        at += span.length;
        assert!(span.compressed.start >= compressed);
        compressed = span.compressed.end;
        assert!(span.verified_range().start < compressed && compressed <= ztoc.compressed_bytes);
        assert_eq!(
            span.window.is_some(),
            span.start.0 > 0 && ztoc.compression == Compression::Gzip
        );
    }
    assert_eq!(at, ztoc.uncompressed_bytes, "spans cover the tar");
    let mut free = 0;
    for run in ztoc.entries.iter().flat_map(|entry| &entry.runs) {
        assert!(run.start.0 >= free + 512);
        free = run.start.0 + run.length;
    }
    assert!(free <= ztoc.uncompressed_bytes);
}
