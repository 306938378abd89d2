//! Layers that are no tar in gzip, zstd or nothing: what they are is said. And such as only look wrong.

use std::io::Write;

use crate::fixture::{Verdict, noise};
use crate::shell::Home;
use crate::support::image::{Built, ImageBuilder, Layer, sha256};
use crate::support::tarball::{Entry, tar};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

/// A frame that wants a window of `1 << log` bytes.
fn zstd_with_window(data: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn image(layer: Layer) -> Built {
    ImageBuilder::new().push_layer(layer).build()
}

fn content() -> Vec<u8> {
    tar(&[Entry::file("file", noise(5000, 1))])
}

#[test]
fn what_is_no_layer_is_named() {
    let tar = content();
    let page = b"<!DOCTYPE html>\n<html><body>Sign in</body></html>".repeat(40);
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0pzst";
    let mut verdict = Verdict::default();
    for (what, blob, words) in [
        ("bzip2", b"BZh91AY&SY and so on".repeat(90), &["compressed with bzip2"][..]),
        ("xz", b"\xfd7zXZ\0 and so on".repeat(90), &["compressed with xz"]),
        ("lz4", b"\x04\x22\x4d\x18d@\xa7 and so on".repeat(90), &["compressed with lz4"]),
        ("lzip", b"LZIP\x01 and so on".repeat(90), &["no tar but lzip data"]),
        ("text", b"not a tar at all\n".repeat(100), &["no tar but text"]),
        ("little text", b"gone\n".to_vec(), &["no tar but text"]),
        ("a web page", page.clone(), &["no tar but a web page"]),
        ("a web page in gzip", gzip(&page), &["no tar but a web page"]),
        ("a web page in zstd", zstd(&page), &["no tar but a web page"]),
        ("an error", b"{\"errors\":[]}".to_vec(), &["no tar but a document (JSON)"]),
        ("a ZIP archive", b"PK\x03\x04\x14\0".repeat(200), &["no tar but a ZIP archive"]),
        ("gzip twice", gzip(&gzip(&tar)), &["compressed twice", "gzip"]),
        ("zstd in gzip", gzip(&zstd(&tar)), &["compressed twice", "zstd"]),
        ("gzip in zstd", zstd(&gzip(&tar)), &["compressed twice", "gzip"]),
        (
            "pzstd in gzip",
            gzip(&[&skippable[..], &zstd(&tar)].concat()),
            &["compressed twice", "zstd"],
        ),
        ("anything", noise(2000, 7), &["checksum does not match"]),
    ] {
        let home = Home::new();
        let built = image(Layer::from_blob(blob, "gzip", &tar));
        let outcome = home.run(&["ls", &home.layout(&built)]);
        let is_named = outcome.code == 1
            && outcome.stdout.is_empty()
            && outcome.stderr.matches("error").count() == 1
            && words.iter().all(|word| outcome.stderr.contains(word));
        verdict.row(what, is_named.then_some(()).ok_or(format!("{outcome:?}")));
    }
    verdict.end();
}

/// The first name in a tar may look like the start of something else.
#[test]
fn a_tar_is_a_tar_whatever_its_first_name() {
    for name in ["PK\x03\x04", "070701", "hsqs", "<html>", "{}", "LZIP"] {
        let tar = tar(&[Entry::file(name, "x")]);
        let home = Home::new();
        let outcome =
            home.run(&["ls", &home.layout(&image(Layer::from_blob(tar.clone(), "gzip", &tar)))]);
        assert_eq!(outcome.code, 0, "{name}: {outcome:?}");
    }
}

#[test]
fn zstd_windows() {
    let tar = content();
    // Each in a home of its own: the index of one would serve for the other, as the tar is the same.
    let layout = |home: &Home, log| {
        let blob = zstd_with_window(&tar, log);
        home.layout(&image(Layer::from_blob(blob, "zstd", &tar)))
    };
    let home = Home::new();
    home.run(&["ls", &layout(&home, 27)]).succeeded();
    let home = Home::new();
    let wide = layout(&home, 28);
    let outcome = home.run(&["ls", &wide]);
    outcome.failed(1, &["zstd window of 256 MiB", "128 MiB", "--max-zstd-window"]);
    home.run(&["ls", &wide, "--max-zstd-window", "255M"]).failed(1, &["256 MiB", "128 MiB"]);
    home.run(&["ls", &wide, "--max-zstd-window", "256M"]).succeeded();
    // What is not in the cache is read within the same limit.
    home.run(&["cache", "clear"]).succeeded();
    let read = |flags: &[&str]| home.run(&[&["cat", &wide, "file"], flags].concat());
    assert_eq!(read(&["--max-zstd-window", "2G", "--cache-size", "0"]).code, 0);
    let outcome = read(&["--cache-size", "0"]);
    outcome.failed(1, &["--max-zstd-window"]);
    for wrong in ["3G", "1", "0", "x"] {
        home.run(&["ls", &wide, "--max-zstd-window", wrong]).failed(2, &["--max-zstd-window"]);
    }
}

/// Old Podman and Buildah dropped the zeros at the end of a tar, and kept its diff ID.
#[test]
fn missing_padding() {
    let short = content();
    for missing in [512, 6144, 1 << 20] {
        let whole = [&short[..], &vec![0; missing]].concat();
        let home = Home::new();
        let layer = Layer::from_blob(zstd(&short), "zstd", &short).diff_id(&sha256(&whole));
        let reference = home.layout(&image(layer));
        let outcome = home.run(&["ls", &reference]);
        assert!(outcome.code == 0 && outcome.stdout == "file\n", "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("{missing} bytes of zeros")), "{outcome:?}");
        for _ in 0..2 {
            // Once streamed, once from the cache.
            let outcome = home.run(&["verify", &reference]);
            assert_eq!(outcome.code, 1, "{outcome:?}");
            let words = ["only padding is missing", &format!("{missing} bytes of zeros")];
            assert!(words.iter().all(|word| outcome.stdout.contains(word)), "{outcome:?}");
            assert!(!outcome.stdout.contains("SPLIT"), "{outcome:?}");
        }
    }
    // Anything else is another tar.
    let others = [
        [&short[..], &[0; 511]].concat(),
        [&short[..], &[0; 511], b"x"].concat(),
        [&short[..], &vec![0; (1 << 20) + 512]].concat(),
        short[..short.len() - 512].to_vec(),
    ];
    for whole in others {
        let home = Home::new();
        let layer = Layer::from_blob(zstd(&short), "zstd", &short).diff_id(&sha256(&whole));
        home.run(&["ls", &home.layout(&image(layer))]).failed(1, &["does not match the diff ID"]);
    }
}
