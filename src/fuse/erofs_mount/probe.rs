//! Whether the kernel can do it, and does it right: found out by a small mount without a place.
//!
//! Its only file is larger than the device that it lies on. Before "erofs: set fileio bio failed in short
//! read case" (Linux 6.18.21 among others) the rest became zeros without an error, and so would whatever
//! can't be fetched in time. Trying it is better than comparing versions: distributions carry fixes back.

use std::io::{self, Read};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::detached::{detached, mount_image, place, write_image};
use super::error::{Error, step};
use crate::codec::Compression;
use crate::digest::{DiffId, Digest, SpanDigest};
use crate::erofs::{BLOCK_BYTES, Image, Uuid};
use crate::extent::{CompressedOffset, UncompressedOffset};
use crate::fuse::kernel;
use crate::index::{self, Budget, Check, Identity, Proof, Restart, Span};
use crate::tar::Parser;
use crate::tree::{self, Tree};

/// Finds out whether such a mount is possible here. [`Stage::new`](super::Stage::new) does so too.
///
/// # Errors
/// See [`Error`].
pub fn check() -> Result<(), Error> {
    if !kernel::is_root() {
        return Err(Error::NotRoot);
    }
    let failed = step::<io::Error>("a mount to try");
    let tree = tree_of_a_file(2 * BLOCK_BYTES).map_err(&failed)?;
    let store = detached("ramfs", &[])?;
    let folder = place(&store);
    let device = std::fs::File::create_new(format!("{folder}/0"));
    device.and_then(|device| device.set_len(BLOCK_BYTES)).map_err(&failed)?;
    let path = format!("{folder}/try");
    let image = std::fs::File::create_new(&path).map_err(&failed)?;
    write_image(Image::of(&tree)?, None, Uuid::default(), image)?;
    let mounted = mount_image(&path, 1, &folder, false)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&mounted, "f", flags, Mode::empty()).map_err(step("a file to try"))?;
    let mut buf = vec![0; 2 * BLOCK_BYTES as usize];
    match rustix::io::pread(&file, &mut buf, 0) {
        Ok(length) if length as u64 > BLOCK_BYTES => Err(Error::ShortReads),
        _ => Ok(()),
    }
}

/// A tree of one file, `f`, of so many bytes.
fn tree_of_a_file(length: u64) -> io::Result<Tree> {
    let mut header = ::tar::Header::new_ustar();
    header.set_path("f")?;
    header.set_size(length);
    header.set_mode(0o400);
    header.set_cksum();
    let mut archive = ::tar::Builder::new(Vec::new());
    archive.append(&header, io::repeat(0).take(length))?;
    let bytes = archive.into_inner()?;
    let mut parser = Parser::new();
    let mut builder = index::Builder::new();
    parser.feed(&bytes, &mut builder).map_err(io::Error::other)?;
    parser.finish().map_err(io::Error::other)?;
    let digest = Digest::sha256(&bytes);
    let size = bytes.len() as u64;
    builder.span(&Span {
        start: UncompressedOffset(0),
        length: bytes.len() as u32,
        compressed_start: CompressedOffset(0),
        compressed_end: CompressedOffset(size),
        restart: Restart::Here,
        check: Check::Content,
        digest: SpanDigest::of(&bytes),
    });
    let layer = builder.finish(Identity {
        blob: digest,
        blob_size: size,
        diff_id: DiffId(digest),
        uncompressed_size: size,
        compression: Compression::None,
        proof: Proof::Full,
    });
    let budget = Arc::new(Budget::growing());
    tree::merge(&[&layer.map_err(io::Error::other)?], &budget).map_err(io::Error::other)
}
