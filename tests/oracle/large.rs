//! An image that is larger than what a mount without a cache remembers, and readers of it.

use std::fs;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

/// Files of the image, `f0` and so on.
pub const FILES: usize = 18;

const BYTES: usize = 2_600_000;

/// The content of a file, unlike that of any other and at any other place.
pub fn content(number: usize) -> Vec<u8> {
    let lines = (0..BYTES).map(|line| format!("line {line} of file {number}\n"));
    let mut bytes: Vec<u8> = Vec::with_capacity(BYTES + 32);
    for line in lines {
        if bytes.len() >= BYTES {
            break;
        }
        bytes.extend(line.into_bytes());
    }
    bytes.truncate(BYTES);
    bytes
}

/// Three layers, of which each read can be had by a range.
pub fn image() -> Built {
    (0..3)
        .fold(ImageBuilder::new(), |builder, layer| {
            let files = (0..FILES).filter(|number| number % 3 == layer);
            let files = files.map(|number| Entry::file(format!("f{number}"), content(number)));
            builder.layer(&tar(&files.collect::<Vec<_>>()), Compression::None)
        })
        .build()
}

/// Reads a file of a mount and checks it. The kernel is made to forget it first.
pub fn check(mount: &Path, number: usize) {
    let mut file = fs::File::open(mount.join(format!("f{number}"))).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap_or_else(|e| panic!("f{number}: {e}"));
    assert!(bytes == content(number), "f{number} has wrong bytes");
}
