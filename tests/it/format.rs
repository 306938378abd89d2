//! The layer index's file format: pinned bytes, and files that are none.

use ocifs::digest::Digest;
use ocifs::index::{DecodeError, LayerIndex, format};

use crate::hostile::layer_index::{sample, sample_of_spans};

#[test]
fn an_index_without_its_tail_is_an_index() {
    let whole = sample();
    let head = LayerIndex::decode(&whole.encode_head()).unwrap();
    assert_eq!(head.encode_head(), whole.encode_head());
    assert_eq!(head.encode_tail(), b"");
    assert_eq!(head.window_bytes(), whole.window_bytes());
    let hashes = |index: &LayerIndex| {
        index.entries().filter(|entry| index.content_digest(entry).is_some()).count()
    };
    assert_eq!((hashes(&head), hashes(&whole)), (0, 2));
    // A name that binds a window can't be checked without it.
    assert!(LayerIndex::decode(&sample_of_spans().encode_head()).is_err());
    let decoded = LayerIndex::decode(&sample_of_spans().encode()).unwrap();
    assert_eq!(decoded, sample_of_spans());
    assert_eq!(decoded.window_bytes(), 15);
}

/// The digest of the encoded samples. If this fails, the format has changed: give it a new
/// `format::VERSION` and pin the new digest; files of old versions are then rebuilt.
#[test]
fn the_bytes_of_version_3_are_pinned() {
    assert_eq!(format::VERSION, 3);
    let digest = |index: LayerIndex| Digest::sha256(&index.encode()).to_string();
    assert_eq!((&*digest(sample()), &*digest(sample_of_spans())), (GOLDEN, GOLDEN_OF_SPANS));
}

const GOLDEN: &str = "sha256:83d67471912c659431c781f5a9179a0b8004eb53746788bd0b4734724af66fa2";
const GOLDEN_OF_SPANS: &str =
    "sha256:50ae4434226e9cbcb512a0caa955b463f8a24191f27ca8893648f8b498dde031";

#[test]
fn other_files_are_refused() {
    let good = sample().encode();
    assert_eq!(LayerIndex::decode(b""), Err(DecodeError::Length));
    assert_eq!(LayerIndex::decode(&good[..good.len() - 1]), Err(DecodeError::Length));
    let mut other = good.clone();
    other[0] = b'X';
    assert_eq!(LayerIndex::decode(&other), Err(DecodeError::Magic));
    let mut newer = good.clone();
    newer[8] = 4;
    assert_eq!(LayerIndex::decode(&newer), Err(DecodeError::Version(4)));
    for at in (0..good.len()).step_by(97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        assert!(LayerIndex::decode(&flipped).is_err(), "a bit at {at}");
    }
}

/// A head alone says how long its tail is: places in it are computed from that.
#[test]
fn a_head_with_an_absurd_tail_is_refused() {
    let head = sample().encode_head();
    let end = size_of::<format::FileHeader>();
    for (what, at) in [("hashes", end - 16), ("windows", end - 8)] {
        for count in [1 << 40, 1 << 59, u64::MAX] {
            let mut file = head.clone();
            file[at..at + 8].copy_from_slice(&u64::to_le_bytes(count));
            let body = file.len() - format::CHECKSUM_BYTES;
            let checksum = blake3::hash(&file[..body]);
            file[body..].copy_from_slice(checksum.as_bytes());
            let refused = matches!(LayerIndex::decode(&file), Err(DecodeError::Inconsistent(_)));
            assert!(refused, "{count} {what}");
        }
    }
}
