//! What a layer index says of the content of files: a digest of every one, by the bytes alone.

use ocifs::digest::ContentDigest;
use ocifs::index::{LayerIndex, MAX_HASHED_HOLES};
use sha2::{Digest as _, Sha256};

use crate::layers::index;
use crate::support::tarball::{Entry, TarWriter};

/// The digest of the entry of this name.
fn digest(index: &LayerIndex, name: &str) -> Option<ContentDigest> {
    let entry = index.entries().find(|entry| entry.name == name.as_bytes()).unwrap();
    index.content_digest(&entry)
}

#[test]
fn every_regular_file_has_the_sha_256_of_its_content() {
    let regions: [(u64, &[u8]); 3] = [(100, &[1; 700]), (800, &[2; 50]), (9000, &[3; 500])];
    let mut content = vec![0; 12_345];
    for (offset, bytes) in regions {
        content[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("plain", &content));
    writer.sparse_old_gnu("old", 12_345, &regions);
    writer.sparse_pax_0_0("0.0", 12_345, &regions);
    writer.sparse_pax_0_1("0.1", 12_345, &regions);
    writer.sparse_pax_1_0("1.0", 12_345, &regions);
    writer.sparse_pax_1_0("zeros", 12_345, &[]);
    writer.entry(&Entry::file("empty", ""));
    writer.sparse_pax_1_0("nothing", 0, &[]);
    writer.entry(&Entry::dir("dir"));
    let index = index(&writer.finish()).unwrap();
    let sha256 = |bytes: &[u8]| Some(ContentDigest::Sha256(Sha256::digest(bytes).into()));
    for name in ["plain", "old", "0.0", "0.1", "1.0"] {
        assert_eq!(digest(&index, name), sha256(&content), "{name}");
    }
    assert_eq!(digest(&index, "zeros"), sha256(&[0; 12_345]));
    assert_eq!(digest(&index, "empty"), sha256(b""));
    assert_eq!(digest(&index, "nothing"), sha256(b""));
    assert_eq!(digest(&index, "dir"), None);
}

/// Holes beyond a limit are not hashed byte by byte, and such files can be told apart all the same.
#[test]
fn long_holes_cost_nothing() {
    let huge = 1 << 60;
    let sparse = |regions: &[(u64, &[u8])]| {
        let mut writer = TarWriter::new();
        for number in 0..1000 {
            writer.sparse_pax_1_0(&format!("h{number}"), huge, regions);
        }
        writer.sparse_pax_1_0("small", 100_000, regions);
        index(&writer.finish()).unwrap()
    };
    let one = sparse(&[(0, &[1; 100]), (50_000, &[2; 100])]);
    let split = sparse(&[(0, &[1; 60]), (60, &[1; 40]), (40_000, &[0; 512]), (50_000, &[2; 100])]);
    let other = sparse(&[(0, &[1; 100]), (50_001, &[2; 100])]);
    for name in ["h0", "h999"] {
        let of = |index| digest(index, name).unwrap();
        assert!(matches!(of(&one), ContentDigest::Blocks(_)) && of(&one).sha256().is_none());
        assert_eq!(of(&one), of(&split), "{name}");
        assert!(of(&one).contradicts(&of(&other)), "{name}");
    }
    // Files that are no such burden are not affected by those that are.
    let small = |index| digest(index, "small").unwrap();
    assert!(small(&one).sha256().is_some());
    assert_eq!(small(&one), small(&split));
    assert!(small(&one).contradicts(&small(&other)));
    // The limit is that of a layer.
    let mut writer = TarWriter::new();
    writer.sparse_pax_1_0("first", MAX_HASHED_HOLES - 10, &[]);
    writer.sparse_pax_1_0("second", 11, &[]);
    writer.sparse_pax_1_0("third", 10, &[]);
    let index = index(&writer.finish()).unwrap();
    let is_sha256 = |name| digest(&index, name).unwrap().sha256().is_some();
    assert_eq!(["first", "second", "third"].map(is_sha256), [true, false, true]);
}
