//! What a pass refuses, and which of several faults it names: checksums are checked stages later than what
//! follows them is decoded.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::digest::{DiffId, Digest};
use crate::layer::cut::tests::deflate_writer::{self, Block};
use crate::layer::progress::Quiet;
use crate::oci::Descriptor;
use crate::source::{self, Opened, RawDocument};

/// A source of one blob.
#[derive(Debug)]
struct One(Vec<u8>);

impl Source for One {
    fn root(&self) -> Result<RawDocument, source::Error> {
        unreachable!("layers need no documents")
    }

    fn document(&self, _: &Descriptor) -> Result<RawDocument, source::Error> {
        unreachable!("layers need no documents")
    }

    fn blob(&self, _: &Descriptor, range: Range<u64>) -> Result<Opened, source::Error> {
        let bytes = self.0[range.start as usize..range.end as usize].to_vec();
        Ok(Opened { body: Box::new(Cursor::new(bytes)), start: range.start, end: range.end })
    }
}

/// Passes over a layer of this blob and tar: its spans, or why it is refused.
fn pass(blob: Vec<u8>, tar: &[u8], most: Option<u64>) -> Result<usize, String> {
    let descriptor = Descriptor {
        media_type: String::new(),
        digest: Digest::sha256(&blob),
        size: blob.len() as u64,
        platform: None,
        artifact_type: None,
        annotations: BTreeMap::new(),
        urls: Vec::new(),
        name: String::new(),
        data: String::new(),
    };
    let diff_id = Some(DiffId(Digest::sha256(tar)));
    let layer = ResolvedLayer { descriptor, diff_id, shown: ShownAs::ROOT };
    let options =
        LayerOptions { max_uncompressed_bytes: most, keep_spans: false, ..LayerOptions::default() };
    let source: Arc<dyn Source> = Arc::new(One(blob));
    let pass = FirstPass {
        layer: &layer,
        source: &source,
        cache: &Cache::none(),
        budget: &Arc::new(Budget::of(u64::MAX)),
        options: &options,
        hearing: Hearing { progress: &Quiet, stop: &AtomicBool::new(false) },
    };
    pass.run().map(|index| index.span_count()).map_err(|error| error.kind.to_string())
}

/// A tar of one file with so many bytes.
fn tar(bytes: usize) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(bytes as u64);
    let content: Vec<u8> = (0..bytes as u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    builder.append_data(&mut header, "file", &content[..]).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The member with a bit changed, which is counted from its end.
fn flipped(mut member: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = member.len() - from_end;
    member[at] ^= 0x10;
    member
}

const CHECKSUM: usize = 8;
const LENGTH: usize = 4;

#[test]
fn the_fault_that_comes_first_in_the_blob_is_named() {
    let checksum = Err("corrupt gzip stream: checksum mismatch".to_owned());
    let length = Err("corrupt gzip stream: length mismatch".to_owned());
    let invalid = Err("corrupt gzip stream: invalid deflate data".to_owned());
    let truncated = Err("the gzip stream ends too early".to_owned());
    // Small enough for one span, and too large.
    for size in [100_000, 9_000_000] {
        let tar = tar(size);
        let (left, right) = tar.split_at(tar.len() / 2);
        let check = |what: &str, members: &[Vec<u8>], expected: &Result<usize, String>| {
            let got = pass(members.concat(), &tar, None);
            assert_eq!(&got.map(|_| 0), expected, "{what} of {size}");
        };
        let (one, two) = (gzip(left), gzip(right));
        let no_deflate = [&two[..10], &[7; 50]].concat();
        let empty = gzip(b"");
        check("sound", &[one.clone(), two.clone()], &Ok(0));
        check("with an empty one", &[one.clone(), empty.clone(), two.clone()], &Ok(0));
        check("checksum", &[one.clone(), flipped(two.clone(), CHECKSUM)], &checksum);
        check("length", &[one.clone(), flipped(two.clone(), LENGTH)], &length);
        let both = flipped(flipped(one.clone(), LENGTH), CHECKSUM);
        check("both", &[both, two.clone()], &checksum);
        let (wrong, short) = (flipped(one.clone(), CHECKSUM), flipped(one.clone(), LENGTH));
        check("before damage", &[wrong.clone(), no_deflate.clone()], &checksum);
        check("before another", &[short.clone(), flipped(two.clone(), CHECKSUM)], &length);
        check("before the end", &[wrong.clone(), two[..two.len() / 2].to_vec()], &checksum);
        let other = flipped(empty, CHECKSUM);
        check("of nothing", &[one.clone(), other.clone(), two.clone()], &checksum);
        check("before nothing", &[short, other, two.clone()], &length);
        let damaged = [&one[..10], &[7; 50]].concat();
        check("damage", &[damaged.clone(), wrong.clone()], &invalid);
        check("end", &[one.clone(), two[..two.len() - 9].to_vec()], &truncated);
        // What is no tar, and what is too much.
        let letters = vec![b'x'; size];
        let no_tar = |member| pass(member, &letters, None).map(|_| 0);
        if size < 1 << 20 {
            // Later spans are not looked at.
            assert_eq!(no_tar(flipped(gzip(&letters), CHECKSUM)), checksum);
        }
        assert_eq!(no_tar(gzip(&letters)), Err("its content is no tar but text".to_owned()));
        let most = Some(tar.len() as u64 * 3 / 4);
        assert_eq!(pass([wrong, two.clone()].concat(), &tar, most).map(|_| 0), checksum, "{size}");
        let too_large = pass([one, two].concat(), &tar, most).unwrap_err();
        assert!(too_large.contains("it unpacks to more than"), "{too_large}");
    }
}

/// The end of a member can come behind the last span, which has then been cut.
#[test]
fn a_checksum_behind_the_last_span_counts() {
    let tar = tar(4_000_000);
    for stored in [60_000, 1 << 15] {
        let mut blocks: Vec<Block> =
            tar.chunks(stored).map(|chunk| Block::Stored(chunk.to_vec())).collect();
        blocks.push(Block::Fixed(vec![]));
        let mut sum = flate2::Crc::new();
        sum.update(&tar);
        let (deflate, _) = deflate_writer::stream(&blocks, &[]);
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
        let trailer = [sum.sum().to_le_bytes(), sum.amount().to_le_bytes()].concat();
        let blob = [&header[..], &deflate, &trailer].concat();
        assert!(pass(blob.clone(), &tar, None).unwrap() > 3);
        let wrong = pass(flipped(blob, CHECKSUM), &tar, None);
        assert_eq!(wrong, Err("corrupt gzip stream: checksum mismatch".to_owned()));
    }
}

/// Members without a byte in them cost nothing that lasts, and neither do blocks.
#[test]
fn endless_nothing_is_passed_over() {
    let tar = tar(1000);
    let empty = gzip(b"");
    let blob = [gzip(&tar[..700]), empty.repeat(100_000), gzip(&tar[700..])].concat();
    // So many compressed bytes are a span of their own.
    assert_eq!(pass(blob, &tar, None), Ok(2));
    let mut blocks = vec![Block::Stored(tar.clone())];
    blocks.extend((0..100_000).map(|at| match at % 2 {
        0 => Block::Stored(vec![]),
        _ => Block::Fixed(vec![]),
    }));
    let (deflate, _) = deflate_writer::stream(&blocks, &[]);
    let whole = gzip(&tar);
    let blob = [&whole[..10], &deflate, &whole[whole.len() - 8..]].concat();
    assert_eq!(pass(blob, &tar, None), Ok(1));
}
