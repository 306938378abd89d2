//! Sparse files whose maps are absurd, in each of the four encodings.
//!
//! A map that is believed could make a file of 8 EiB, send reads outside the layer, or cost a
//! run's memory for nothing.

use crate::fixture::{accepts, read, refuses_all};
use crate::support::tarball::{BLOCK, TarWriter, base256, octal, put};

/// A file in the old GNU encoding with this real size, map and stored size.
fn old_gnu(real_size: i64, map: &[(i64, i64)], stored: usize) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| {
        header.gnu();
        put(&mut header.name, "f");
        header.typeflag = b'S';
        octal(&mut header.size, stored as u64);
        for (at, (offset, length)) in map.iter().enumerate() {
            let at = 41 + at * 24;
            base256(&mut header.prefix[at..at + 12], *offset);
            base256(&mut header.prefix[at + 12..at + 24], *length);
        }
        base256(&mut header.prefix[138..150], real_size);
    });
    writer.data(&vec![7; stored]);
    writer.finish()
}

/// A file behind these PAX records, with these stored bytes.
fn pax(records: &[(&str, &str)], stored: &[u8]) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.pax(records);
    writer.raw_header(|header| {
        put(&mut header.name, "f");
        octal(&mut header.size, stored.len() as u64);
    });
    writer.data(stored);
    writer.finish()
}

fn pax_0_1(size: &str, map: &str, stored: usize) -> Vec<u8> {
    let count = map.split(',').count().div_ceil(2).to_string();
    let records = [
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.minor", "1"),
        ("GNU.sparse.size", size),
        ("GNU.sparse.numblocks", &count),
        ("GNU.sparse.map", map),
    ];
    pax(&records, &vec![7; stored])
}

fn pax_1_0(size: &str, map: &str, stored: usize) -> Vec<u8> {
    let records =
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", size)];
    let mut data = map.as_bytes().to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data.resize(data.len() + stored, 7);
    pax(&records, &data)
}

#[test]
fn absurd_maps_are_refused() {
    let max = "9223372036854775807";
    let two63 = "9223372036854775808";
    let two64 = "18446744073709551616";
    let many = format!("70000\n{}", "0\n0\n".repeat(70_000));
    let pairs = "0,0,".repeat(70_000);
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("gnu overlap", old_gnu(4096, &[(0, 512), (256, 512)], 1024), &["overlap"]),
        ("gnu order", old_gnu(4096, &[(1024, 512), (0, 512)], 1024), &["out of order"]),
        ("gnu past the end", old_gnu(600, &[(512, 512)], 512), &["past the end"]),
        ("gnu negative", old_gnu(600, &[(-512, 512)], 512), &["sparse map", "number"]),
        ("gnu negative size", old_gnu(-1, &[(0, 512)], 512), &["real size"]),
        ("gnu sum too small", old_gnu(4096, &[(0, 512)], 1024), &["do not add up"]),
        ("gnu sum too large", old_gnu(4096, &[(0, 1024)], 512), &["do not add up"]),
        ("gnu huge run", old_gnu(i64::MAX, &[(0, i64::MAX)], 512), &["sparse map"]),
        ("0.1 overlap", pax_0_1("4096", "0,512,256,512", 1024), &["overlap"]),
        ("0.1 past the end", pax_0_1("100", "0,512", 512), &["past the end"]),
        ("0.1 2^63", pax_0_1(two64, "0,512", 512), &["real size is no number"]),
        ("0.1 odd", pax_0_1("4096", "0,512,1024", 512), &["without its length"]),
        ("0.1 words", pax_0_1("4096", "a,b", 512), &["sparse map"]),
        ("0.1 wraps", pax_0_1(two63, &format!("{two63},{two63}"), 512), &["sparse map"]),
        ("0.1 many", pax_0_1("4096", pairs.trim_end_matches(','), 0), &["65536 runs"]),
        (
            "0.1 without a count",
            pax(&[("GNU.sparse.size", "512"), ("GNU.sparse.map", "0,512")], &[7; 512]),
            &["count of runs"],
        ),
        (
            "0.1 another count",
            pax(
                &[
                    ("GNU.sparse.size", "512"),
                    ("GNU.sparse.numblocks", "2"),
                    ("GNU.sparse.map", "0,512"),
                ],
                &[7; 512],
            ),
            &["count of runs"],
        ),
        ("1.0 overlap", pax_1_0("4096", "2\n0\n512\n256\n512\n", 1024), &["overlap"]),
        ("1.0 past the end", pax_1_0("100", "1\n0\n512\n", 512), &["past the end"]),
        ("1.0 2^63", pax_1_0(max, &format!("1\n0\n{two63}\n"), 512), &["sparse map"]),
        ("1.0 2^64", pax_1_0(max, &format!("1\n{two64}\n512\n"), 512), &["no number"]),
        ("1.0 count", pax_1_0("100", "99999999999\n", 512), &["65536 runs"]),
        ("1.0 count of 10^30", pax_1_0("100", &format!("1{}\n", "0".repeat(30)), 0), &["count"]),
        ("1.0 no map", pax_1_0("100", "", 512), &["count is no number"]),
        ("1.0 short map", pax_1_0("100", "9\n0\n512\n", 0), &["longer than the entry"]),
        ("1.0 many", pax_1_0("100", &many, 0), &["65536 runs"]),
        (
            "0.0 two offsets",
            pax(&[("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "1")], b""),
            &["two sparse offsets"],
        ),
        ("0.0 length first", pax(&[("GNU.sparse.numbytes", "0")], b""), &["without its offset"]),
        ("0.0 offset last", pax(&[("GNU.sparse.offset", "0")], b""), &["without its length"]),
    ];
    refuses_all(rows);
}

/// A huge file that is one hole is lawful, and reading at its far end gives zeros at once.
#[test]
fn huge_holes_cost_nothing() {
    for archive in [
        old_gnu(1 << 62, &[(0, 512)], 512),
        pax_0_1("4611686018427387904", "0,512", 512),
        pax_1_0("4611686018427387904", "1\n0\n512\n", 512),
    ] {
        let image = accepts(&archive).unwrap();
        let filesystem = image.filesystem();
        let ino = filesystem.tree().resolve(b"f", ocifs::tree::Symlinks::Follow).unwrap();
        assert_eq!(filesystem.tree().attributes(ino).size, 1 << 62);
        let file = filesystem.file(ino).unwrap();
        for (offset, expected) in [(0, 7), (511, 7), (512, 0), ((1 << 62) - 1, 0)] {
            let mut byte = [9];
            file.read(offset, &mut byte, filesystem.deadline()).unwrap();
            assert_eq!(byte, [expected], "at {offset}");
        }
        assert_eq!(file.readable(1 << 62, 10), 0);
        assert_eq!(file.readable(u64::MAX, 10), 0);
    }
    // Two of them, so that the total does not fit a u64 either.
    let mut writer = TarWriter::new();
    for name in ["a", "b", "c", "d"] {
        writer.pax(&[
            ("GNU.sparse.size", i64::MAX.to_string()),
            ("GNU.sparse.numblocks", "0".to_owned()),
            ("GNU.sparse.map", String::new()),
        ]);
        writer.raw_header(|header| put(&mut header.name, name));
    }
    if let Ok(image) = accepts(&writer.finish()) {
        assert_eq!(read(&image, "missing").unwrap_err(), "no such file or directory in the image");
        image.filesystem().totals();
    }
}
