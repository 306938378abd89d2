//! Layers that are small to send and huge to unpack, or that ask the decoder for huge buffers.
//!
//! The bombs are sequences of one compressed piece, so that the test itself never holds what they
//! unpack to. All their spans are the same zeros, and what is bounded here is time and memory; the
//! disk is covered by the limit on the number of bytes.

use std::io::{self, Read, Write};

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use ocifs::image::ImageOptions;

use crate::fixture::{Sandbox, Verdict, accepts, fails, image_with, open, options, read, refuses};
use crate::shell::{Home, run};
use crate::support::image::{Built, Layer, write_oci_layout};
use crate::support::tarball::{Entry, TarWriter, base256, octal, put, tar};

const MIB: usize = 1 << 20;

/// The head of a file of this many MiB, named `zeros`.
fn head(mib: usize) -> Vec<u8> {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| {
        put(&mut header.name, "zeros");
        base256(&mut header.size, (mib * MIB) as i64);
    });
    writer.finish_without_end()
}

fn gzip(source: &mut dyn Read) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::best());
    io::copy(source, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn zstd(source: &mut dyn Read) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    io::copy(source, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// An image of one layer that holds `pieces` times `mib` MiB of zeros.
fn bomb(compress: fn(&mut dyn Read) -> Vec<u8>, pieces: usize, mib: usize) -> Built {
    let mut blob = compress(&mut &head(pieces * mib)[..]);
    let piece = compress(&mut io::repeat(0).take((mib * MIB) as u64));
    for _ in 0..pieces {
        blob.extend_from_slice(&piece);
    }
    image_with(Layer::from_blob(blob, "gzip", b"unknown"))
}

#[test]
fn bombs_are_refused_while_they_stream() {
    let limited = ImageOptions { max_layer_bytes: Some(4 << 20), ..options() };
    let mut verdict = Verdict::default();
    for (what, bomb, options) in [
        ("gzip 1000:1, default limit", bomb(gzip, 20, 64), options()),
        ("zstd 10000:1 of 8 GiB, default limit", bomb(zstd, 32, 256), options()),
        ("gzip, own limit", bomb(gzip, 1, 64), limited.clone()),
        ("zstd, own limit", bomb(zstd, 1, 64), limited),
    ] {
        verdict.row(what, refuses(&bomb, &options, &["AllowLargerLayers", "unpacks to more"]));
    }
    verdict.end();
}

#[test]
fn the_limit_does_not_hit_real_layers() {
    let options = ImageOptions { max_layer_bytes: Some(2 << 20), ..options() };
    let sandbox = Sandbox::new();
    for (length, fits) in [(MIB, true), (2 * MIB - 2048, true), (2 * MIB, false)] {
        let archive = tar(&[Entry::file("zeros", vec![0; length])]);
        let image = crate::fixture::image_of(&archive, crate::support::image::Compression::Gzip);
        let layout = sandbox.path().join(length.to_string());
        write_oci_layout(&layout, &[(None, &image)]).unwrap();
        let name = format!("oci:{}", layout.display());
        assert_eq!(open(&name, &sandbox.cache(), &options).is_ok(), fits, "{length}");
    }
}

/// A zstd frame that announces a window of `log` bits and holds one raw block.
fn zstd_with_window(log: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let block = (content.len() as u32) << 3 | 1;
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.write_all(content).unwrap();
    frame
}

#[test]
fn zstd_windows_are_bounded() {
    let archive = tar(&[Entry::file("f", crate::fixture::GOOD)]);
    let image =
        |log| image_with(Layer::from_blob(zstd_with_window(log, &archive), "zstd", &archive));
    for log in [28, 31, 41] {
        refuses(&image(log), &options(), &["zstd window", "AllowLargerWindow"]).unwrap();
    }
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    write_oci_layout(&layout, &[(None, &image(27))]).unwrap();
    crate::fixture::opens(&sandbox, &format!("oci:{}", layout.display()), &options()).unwrap();
}

/// An extension header of 100 MiB, and chains of a million of them: the parser holds a MiB or two
/// of such data and no more.
#[test]
fn extension_headers_are_bounded() {
    let header = |typeflag: u8, size: u64| {
        let mut writer = TarWriter::new();
        writer.raw_header(|header| {
            header.typeflag = typeflag;
            octal(&mut header.size, size);
        });
        writer.finish_without_end()
    };
    let mut verdict = Verdict::default();
    for typeflag in [b'x', b'L', b'K'] {
        let data = gzip(&mut io::repeat(b'1').take(100 << 20));
        let huge = [gzip(&mut &header(typeflag, 100 << 20)[..]), data].concat();
        let piece = gzip(&mut &header(typeflag, 0).repeat(10_000)[..]);
        for (what, blob) in [("100 MiB", huge), ("a million", piece.repeat(100))] {
            let image = image_with(Layer::from_blob(blob, "gzip", b"unknown"));
            let what = format!("{what} of type {}", char::from(typeflag));
            verdict.row(&what, refuses(&image, &options(), &["larger than 1 MiB"]));
            // The same in a process that may have 256 MiB, stacks of threads included.
            let home = Home::new();
            let name = home.layout(&image);
            let mut limited = home.command("prlimit");
            limited.arg("--data=268435456").arg(env!("CARGO_BIN_EXE_ocifs")).args(["ls", &name]);
            run(&mut limited).failed(1, &["larger than 1 MiB"]);
        }
    }
    verdict.end();
    // Global headers are skipped without being held, however many there are.
    let end = tar(&[Entry::file("f", crate::fixture::GOOD)]);
    let image = accepts(&[header(b'g', 0).repeat(100_000), end].concat()).unwrap();
    assert_eq!(read(&image, "f").unwrap(), crate::fixture::GOOD);
}

/// The limit speaks before the missing end of the archive does.
#[test]
fn a_bomb_in_front_of_a_truncation_is_a_bomb() {
    let options = ImageOptions { max_layer_bytes: Some(1 << 20), ..options() };
    let mut blob = gzip(&mut &head(64)[..]);
    blob.extend_from_slice(&gzip(&mut io::repeat(0).take(8 << 20)));
    let image = image_with(Layer::from_blob(blob, "gzip", b"unknown"));
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    write_oci_layout(&layout, &[(None, &image)]).unwrap();
    let name = format!("oci:{}", layout.display());
    fails(&sandbox, &name, &options, &["AllowLargerLayers"]).unwrap();
}
