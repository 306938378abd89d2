//! Bytes that nobody meant: errors are fine, panics and endless loops are not.
//!
//! Each property mutates something valid, because random bytes rarely get past a magic number.

use ocifs::codec::{Compression, Decoder, decompress};
use ocifs::oci::{Document, ImageConfig};
use ocifs::reference::ImageName;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::layers;
use crate::support::image::{self, compress};
use crate::support::tarball::{Entry, TarWriter, tar};

fn edits() -> impl Strategy<Value = Vec<(Index, u8)>> {
    prop::collection::vec((any::<Index>(), any::<u8>()), 0..5)
}

fn edit(mut bytes: Vec<u8>, edits: &[(Index, u8)]) -> Vec<u8> {
    for (at, byte) in edits {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

/// Computes every header checksum again, so that edits reach the fields behind it.
fn with_checksums(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

fn sample() -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.gnu_long_name(&[b'n'; 150]).entry(&Entry::file("x", "content"));
    writer.entry(&Entry::dir("usr/lib").xattr("user.a", "value").mtime(-3, 7));
    writer.entry(&Entry::symlink("lib", "usr/lib"));
    writer.entry(&Entry::file("lib/a", [1; 700]));
    writer.entry(&Entry::hardlink("b", "usr/lib/a"));
    writer.entry(&Entry::file("lib/.wh.x", ""));
    writer.sparse_old_gnu("s1", 9000, &[(0, &[1; 512]), (5000, &[2; 100])]);
    writer.sparse_pax_1_0("s2", 9000, &[(0, &[1; 512]), (5000, &[2; 100])]);
    writer.sparse_pax_0_1("s3", 9000, &[(0, &[1; 512]), (5000, &[2; 100])]);
    writer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tars(edits in edits(), cut in any::<Index>(), whole in any::<bool>()) {
        let mut bytes = with_checksums(edit(sample(), &edits));
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        // A merge of what was accepted must hold together as well.
        let layers = [bytes.clone(), tar(&[Entry::file("usr/lib/a/x", "1")])];
        if let Ok(tree) = layers::merge(&layers) {
            for ino in tree.inos() {
                let size = tree.content(ino).map_or(0, |content| content.size);
                prop_assert!(size <= i64::MAX as u64);
                prop_assert!(tree.attributes(ino).blocks <= 1 << 52);
            }
        }
    }

    #[test]
    fn compressed_streams(edits in edits(), cut in any::<Index>(), kind in 0..3) {
        let data: Vec<u8> = (0..20_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let kind = [image::Compression::GzipMultiMember(9000), image::Compression::ZstdManyFrames(9000), image::Compression::ZstdSkippable][kind as usize];
        let mut stream = edit(compress(&data, kind), &edits);
        stream.truncate(cut.index(stream.len()).max(4));
        // Damage may leave the data right, or be found out by its checksum; nothing else.
        let _ = decompress(&stream, 1 << 20);
    }

    #[test]
    fn gzip_equals_flate2(edits in edits()) {
        use std::io::Read;
        let data: Vec<u8> = (0..5000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let stream = edit(compress(&data, image::Compression::GzipMultiMember(4000)), &edits);
        let mut theirs = Vec::new();
        let accepted = flate2::bufread::MultiGzDecoder::new(&stream[..]).read_to_end(&mut theirs).is_ok();
        if accepted {
            let ours = decompress(&stream, 1 << 20);
            prop_assert_eq!(ours.ok(), Some(theirs));
        }
    }

    #[test]
    fn documents(text in "[\\[\\]{}:,\"a-z0-9 ]{0,60}", media_type in prop::option::of("[a-z/.+]{0,60}")) {
        let _ = Document::parse(text.as_bytes(), media_type.as_deref());
        let _ = ImageConfig::parse(text.as_bytes(), 1);
    }

    #[test]
    fn references(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
        if let Ok(name) = text.parse::<ImageName>() {
            // What is printed means the same again.
            let again: Result<ImageName, _> = name.to_string().parse();
            prop_assert_eq!(again.as_ref(), Ok(&name));
        }
    }
}

/// A decoder that takes nothing and gives nothing says so, instead of spinning.
#[test]
fn an_empty_call_makes_no_progress() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut decoder = Decoder::new(compression).unwrap();
        for output in [&mut [0; 10][..], &mut []] {
            let progress = decoder.decode(&[], output).unwrap();
            assert_eq!((progress.consumed, progress.produced), (0, 0));
        }
    }
}
