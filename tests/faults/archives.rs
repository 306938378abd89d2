//! Layers whose tar is malformed in its headers, numbers or extension records.
//!
//! What Go's `archive/tar` refuses is refused, because that is what engines unpack with; what it
//! takes is taken.

use crate::fixture::{GOOD, Verdict, accepts, image_with, options, read, refuses, refuses_all};
use crate::support::image::{Compression, Layer};
use crate::support::tarball::{Entry, Header, TarWriter, base256, octal, put, tar};

/// An archive of one entry whose header the test fills.
fn one(f: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| {
        put(&mut header.name, "f");
        f(header);
    });
    writer.finish()
}

/// An archive of one file `f` of these bytes with these PAX records.
fn pax(records: &[(&str, &str)], bytes: &[u8]) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.pax(records);
    writer.entry(&Entry::file("f", bytes));
    writer.finish()
}

/// An archive of one file `f` behind an extended header of exactly these bytes.
fn raw_pax(data: &[u8]) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| {
        header.typeflag = b'x';
        octal(&mut header.size, data.len() as u64);
    });
    writer.data(data);
    writer.entry(&Entry::file("f", GOOD));
    writer.finish()
}

#[test]
fn headers() {
    let mut second = tar(&[Entry::file("a", b"1")]);
    second.truncate(1024);
    second.extend(one(|header| header.break_checksum = true));
    refuses_all(vec![
        ("checksum", one(|h| h.break_checksum = true), &["offset 0", "checksum"]),
        ("checksum of the second entry", second, &["offset 1024", "checksum"]),
        ("text", b"just some text ".repeat(100), &["no tar but text"]),
        ("unknown type", one(|h| h.typeflag = b'Q'), &["unsupported entry type 'Q'"]),
        ("unknown type 0xff", one(|h| h.typeflag = 0xff), &["unsupported entry type"]),
        ("multi-volume", one(|h| h.typeflag = b'M'), &["unsupported entry type 'M'"]),
        ("size is no number", one(|h| put(&mut h.size, "12x")), &["`size` is not a number"]),
        ("mode is no number", one(|h| put(&mut h.mode, "rwx")), &["`mode` is not a number"]),
        ("uid is no number", one(|h| put(&mut h.uid, "root")), &["`uid` is not a number"]),
        ("time is no number", one(|h| put(&mut h.mtime, "today")), &["`mtime` is not a number"]),
        ("negative size", one(|h| base256(&mut h.size, -1)), &["size is -1"]),
        ("size 2^63 - 1", one(|h| base256(&mut h.size, i64::MAX)), &["past any possible archive"]),
        ("size 2^70", one(|h| h.size.copy_from_slice(&[0xbf; 12])), &["`size` is not a number"]),
    ]);
}

#[test]
fn ends() {
    let file = tar(&[Entry::file("f", vec![1; 5000])]);
    let header = tar(&[])[..512].to_vec();
    let mut lone = header.clone();
    lone.extend(tar(&[Entry::file("f", GOOD)]));
    let mut orphan = TarWriter::new();
    orphan.pax(&[("path", "x")]);
    let mut unfinished = TarWriter::new();
    unfinished.pax(&[("path", "x")]);
    let unfinished = unfinished.finish_without_end();
    let mut global = TarWriter::new();
    global.entry(&Entry::file("a", "1"));
    global.pax_global(&[("comment", "c".repeat(2000))]);
    let global = global.finish_without_end();
    let mut global_of_a_gib = TarWriter::new();
    global_of_a_gib.raw_header(|header| {
        header.typeflag = b'g';
        octal(&mut header.size, 1 << 30);
    });
    global_of_a_gib.entry(&Entry::file("behind", GOOD));
    let global_of_a_gib = global_of_a_gib.finish();
    refuses_all(vec![
        ("file beyond the end", one(|h| octal(&mut h.size, 1 << 30)), &["ends inside an entry"]),
        ("file of 8 EiB", one(|h| base256(&mut h.size, i64::MAX - 4096)), &["ends inside"]),
        ("cut in a header", file[..300].to_vec(), &["ends inside an entry"]),
        ("cut in a content", file[..4000].to_vec(), &["ends inside an entry"]),
        ("lone zero block", lone, &["zero block"]),
        ("cut in an extension", unfinished[..512 + 5].to_vec(), &["ends inside an entry"]),
        ("cut in a global header", global[..1024 + 700].to_vec(), &["ends inside an entry"]),
        ("a global header of 1 GiB", global_of_a_gib, &["larger than 1 MiB"]),
    ]);
    // What Go forgives: no end marker, no padding, junk behind the end, extension headers that nothing
    // follows, nothing at all.
    accepts(&orphan.finish()).unwrap();
    accepts(&unfinished).unwrap();
    let junk = [&file[..], &[0xaa; 700]].concat();
    for archive in [&file[..6144], &file[..5512], &junk[..]] {
        let image = accepts(archive).unwrap();
        assert_eq!(read(&image, "f").unwrap(), [1; 5000]);
    }
    accepts(&tar(&[])).unwrap();
    accepts(&[]).unwrap();
}

#[test]
fn absurd_pax_values() {
    let thirty = "1000000000000000000000000000000";
    let two63 = "9223372036854775808";
    refuses_all(vec![
        ("size -1", pax(&[("size", "-1")], GOOD), &["size is -1"]),
        ("size 2^63", pax(&[("size", two63)], GOOD), &["PAX", "number is malformed"]),
        ("size 2^63 - 1", pax(&[("size", "9223372036854775807")], GOOD), &["past any possible"]),
        ("size 10^30", pax(&[("size", thirty)], GOOD), &["PAX", "number is malformed"]),
        ("size in hexadecimal", pax(&[("size", "0x10")], GOOD), &["number is malformed"]),
        ("size beyond the end", pax(&[("size", "100000")], GOOD), &["ends inside an entry"]),
        ("uid 10^30", pax(&[("uid", thirty)], GOOD), &["number is malformed"]),
        ("time 10^30", pax(&[("mtime", thirty)], GOOD), &["time is malformed"]),
        ("time 1e9", pax(&[("mtime", "1e9")], GOOD), &["time is malformed"]),
        ("NUL in a path", pax(&[("path", "a\0b")], GOOD), &["PAX", "NUL"]),
        ("NUL in a link", pax(&[("linkpath", "a\0b")], GOOD), &["PAX", "NUL"]),
        ("xattr without a name", pax(&[("SCHILY.xattr.", "v")], GOOD), &["xattr name is empty"]),
        (
            "xattr name of 256 bytes",
            pax(&[(&format!("SCHILY.xattr.user.{}", "n".repeat(251)), "v")], GOOD),
            &["xattr name"],
        ),
        (
            "xattr of 65537 bytes",
            pax(&[("SCHILY.xattr.user.a", &"v".repeat(65537))], GOOD),
            &["xattr is larger"],
        ),
    ]);
}

#[test]
fn pax_records_that_lie() {
    refuses_all(vec![
        ("longer than the data", raw_pax(b"99 path=x\n"), &["PAX", "length does not fit"]),
        ("shorter than the record", raw_pax(b"5 path=x\n"), &["PAX", "newline"]),
        ("length 0", raw_pax(b"0 path=x\n"), &["PAX", "length does not fit"]),
        ("length of itself", raw_pax(b"2 path=x\n"), &["PAX", "length does not fit"]),
        ("length 10^30", raw_pax(format!("1{} path=x\n", "0".repeat(30)).as_bytes()), &["PAX"]),
        ("negative length", raw_pax(b"-10 path=x\n"), &["PAX", "length is no number"]),
        ("no length", raw_pax(b"path=x\n"), &["PAX"]),
        ("no equals", raw_pax(b"8 pathx\n"), &["PAX", "no `=`"]),
        ("no key", raw_pax(b"5 =x\n"), &["PAX"]),
        ("binary", raw_pax(&[0xff; 200]), &["PAX"]),
        ("trailing zeros", raw_pax(b"10 path=x\n\0\0\0\0"), &["PAX"]),
    ]);
}

/// Records that only look wrong.
#[test]
fn harmless_oddities_are_accepted() {
    let mut verdict = Verdict::default();
    for (what, archive) in [
        ("empty PAX header", raw_pax(b"")),
        ("empty values", pax(&[("path", ""), ("size", ""), ("mtime", "")], GOOD)),
        ("unknown keys", pax(&[("comment", "x"), ("VENDOR.y", "\0")], GOOD)),
        ("owners of more than 32 bits", pax(&[("uid", "-2"), ("gid", "4294967296")], GOOD)),
        ("time before 1970", pax(&[("mtime", "-1.5")], GOOD)),
        ("time of many digits", pax(&[("mtime", "1.00000000000000000001")], GOOD)),
        ("size said again", pax(&[("size", &GOOD.len().to_string())], GOOD)),
        ("xattr of 64 KiB", pax(&[("SCHILY.xattr.user.a", &"v".repeat(65536))], GOOD)),
    ] {
        let result = accepts(&archive).and_then(|image| read(&image, "f"));
        verdict.good(what, result);
    }
    verdict.end();
}

/// A failed pass of several spans takes all of them back, not just the last.
#[test]
fn spans_before_the_damage_are_removed() {
    let mut archive = tar(&[Entry::file("f", crate::fixture::noise(5 << 20, 1))]);
    archive.truncate(archive.len() - 1024);
    archive.extend(one(|header| header.break_checksum = true));
    let layer = Layer::new(&archive, Compression::None);
    refuses(&image_with(layer), &options(), &["checksum"]).unwrap();
}
