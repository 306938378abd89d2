//! The layer index's file format: pinned bytes, and files that lie.

use ocifs::index::{DecodeError, LayerIndex, format};
use proptest::prelude::*;

use crate::layers::index;
use crate::support::tarball::{Entry, TarWriter};

/// An index with everything in it.
fn sample() -> LayerIndex {
    let mut writer = TarWriter::new();
    writer.entry(&Entry::dir("./").mode(0o755).mtime(1, 0));
    writer.entry(&Entry::dir("usr").mode(0o755).owner(1, 2).mtime(1_700_000_000, 5));
    writer.entry(&Entry::file("usr/file", "content").mode(0o4711).xattr("user.a", "value"));
    writer.entry(&Entry::symlink("usr/link", "file"));
    writer.entry(&Entry::hardlink("hard", "usr/file"));
    writer.entry(&Entry::char_device("null", 1, 3));
    writer.entry(&Entry::block_device("disk", 259, 70000));
    writer.entry(&Entry::fifo("pipe").mtime(-2, 500_000_000));
    writer.entry(&Entry::file("usr/.wh.gone", ""));
    writer.entry(&Entry::file("opaque/.wh..wh..opq", ""));
    writer.sparse_pax_1_0("sparse", 100_000, &[(0, &[1; 512]), (50_000, &[2; 512])]);
    index(&writer.finish()).unwrap()
}

/// The digest of the encoded sample. If this fails, the format has changed: give it a new
/// `format::VERSION` and pin the new digest; files of old versions are then rebuilt.
#[test]
fn the_bytes_of_version_1_are_pinned() {
    assert_eq!(format::VERSION, 1);
    let digest = ocifs::digest::Digest::sha256(&sample().encode());
    assert_eq!(digest.to_string(), GOLDEN);
}

const GOLDEN: &str = "sha256:c0248b6d748abf25502e9a57284e33ad2b218777dbd2a5d765d88e021ddde48c";

#[test]
fn other_files_are_refused() {
    let good = sample().encode();
    assert_eq!(LayerIndex::decode(b""), Err(DecodeError::Length));
    assert_eq!(LayerIndex::decode(&good[..good.len() - 1]), Err(DecodeError::Checksum));
    let mut other = good.clone();
    other[0] = b'X';
    assert_eq!(LayerIndex::decode(&other), Err(DecodeError::Magic));
    let mut newer = good.clone();
    newer[8] = 2;
    assert_eq!(LayerIndex::decode(&newer), Err(DecodeError::Version(2)));
    for at in (0..good.len()).step_by(97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        assert!(LayerIndex::decode(&flipped).is_err(), "a bit at {at}");
    }
}

/// Makes the checksum right again, as an attacker would.
fn seal(mut body: Vec<u8>) -> Vec<u8> {
    let end = body.len() - format::TRAILER_BYTES;
    let checksum = blake3::hash(&body[..end]);
    body[end..].copy_from_slice(checksum.as_bytes());
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Errors are fine, panics are not: whatever decodes can be used without one.
    #[test]
    fn lies_under_a_right_checksum(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut file = sample().encode();
        let body = file.len() - format::TRAILER_BYTES;
        for (at, byte) in edits {
            // The header's identity is not what this is about.
            let at = 8 + at.index(body - 8);
            file[at] = byte;
        }
        if let Ok(index) = LayerIndex::decode(&seal(file)) {
            for entry in index.entries() {
                let _ = (index.xattrs(&entry).count(), index.content_hash(&entry), index.dir_path(entry.dir));
            }
            let _ = index.whiteouts().count();
            if let Ok(tree) = ocifs::tree::merge(&[&index, &index]) {
                for ino in tree.inos() {
                    let _ = (tree.attributes(ino), tree.content(ino), tree.symlink(ino), tree.xattrs(ino).count());
                    let _ = tree.children_by_name(ino).count();
                }
            }
        }
    }
}
