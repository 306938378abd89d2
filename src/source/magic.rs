//! What a file is by its first bytes.

use crate::codec::{self, Compression};
use crate::tar;

/// Bytes of a file that are looked at: past the superblocks of EROFS and ext4.
pub(super) const LOOK_BYTES: usize = 2048;

/// What a file that begins so is, if that is no archive of an image.
pub(super) fn check_archive(start: &[u8]) -> Result<(), &'static str> {
    match Compression::sniff(start) {
        // What is in it is seen when it is decompressed.
        Ok(Compression::Gzip | Compression::Zstd) => return Ok(()),
        Ok(Compression::None) => {}
        Err(codec::Error::Unsupported("xz")) => {
            return Err("compressed with xz: unpack it on the way, `xz -dc FILE | ocifs … -`");
        }
        Err(codec::Error::Unsupported("bzip2")) => {
            return Err(
                "compressed with bzip2: unpack it on the way, `bzip2 -dc FILE | ocifs … -`",
            );
        }
        Err(_) => return Err("compressed in a way that no image is"),
    }
    if start.get(..tar::BLOCK_BYTES).is_some_and(tar::is_header) {
        return Ok(());
    }
    let at = |offset: usize, magic: &[u8]| {
        start.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    Err(match start.trim_ascii_start() {
        [] => "empty",
        [b'\x7f', b'E', b'L', b'F', ..] => "a program",
        [b'#', b'!', ..] => "a script",
        [b'P', b'K', 3 | 5, 4 | 6, ..] => "a zip archive",
        [b'Q', b'F', b'I', 0xfb, ..] => "a disk image (qcow2)",
        [b'h', b's', b'q', b's', ..] => "a squashfs file system",
        [b'{' | b'[', ..] => "JSON; if it belongs to an image, name the folder that it is in",
        _ if at(32, b"SIF_MAGIC") => "an image of Apptainer (SIF), which has no layers",
        _ if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) => "an EROFS file system",
        _ if at(1024 + 56, &[0x53, 0xef]) => "an ext4 file system",
        _ if at(510, &[0x55, 0xaa]) => "a disk image",
        _ if start.iter().all(|b| *b == 0) => "zeros, as an empty tar is",
        _ => "not a tar archive, compressed or not",
    })
}
