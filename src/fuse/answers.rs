//! Answers about files of a volume that is open.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{
    FileAttr, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry,
};

use super::options::Ownership;
use super::reply::{FOREVER, refused, system_time};
use crate::fs;
use crate::space::Volume;
use crate::tree::{Attributes, BLOCK_BYTES, FileKind, Ino};

/// Attributes as the kernel is told them, with the number that it knows the inode by.
pub(super) fn attr(ownership: Ownership, number: u64, a: &Attributes) -> FileAttr {
    let mtime = system_time(a.mtime_seconds, a.mtime_nanoseconds);
    let (uid, gid) = match ownership {
        Ownership::Image => (a.uid, a.gid),
        Ownership::Squash { uid, gid } => (uid, gid),
    };
    FileAttr {
        ino: INodeNo(number),
        size: a.size,
        blocks: a.blocks,
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind: match a.kind {
            FileKind::Regular => FileType::RegularFile,
            FileKind::Directory => FileType::Directory,
            FileKind::Symlink => FileType::Symlink,
            FileKind::CharDevice => FileType::CharDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Fifo => FileType::NamedPipe,
        },
        perm: a.mode,
        nlink: a.nlink,
        uid,
        gid,
        rdev: a.encoded_device(),
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    }
}

/// The attributes of an inode, as they are found by its number.
pub(super) fn attr_of(ownership: Ownership, volume: &Volume, ino: Ino) -> FileAttr {
    attr(ownership, volume.shown(ino).number, &volume.attributes(ino))
}

pub(super) fn generation(volume: &Volume, ino: Ino) -> Generation {
    Generation(volume.shown(ino).generation.into())
}

/// A name in a directory of a volume. That there is none the kernel is told by inode 0, so that it remembers that.
pub(super) fn lookup(
    ownership: Ownership,
    volume: &Volume,
    dir: Ino,
    name: &OsStr,
    reply: ReplyEntry,
) {
    match volume.filesystem().lookup(dir, name.as_bytes()) {
        Ok(found) => {
            let generation = generation(volume, found.ino);
            reply.entry(&FOREVER, &attr_of(ownership, volume, found.ino), generation);
        }
        Err(fs::Error::NotFound) => {
            let mut absent = attr_of(ownership, volume, Ino::ROOT);
            absent.ino = INodeNo(0);
            reply.entry(&FOREVER, &absent, Generation(0));
        }
        Err(e) => reply.error(refused("lookup", &e)),
    }
}

/// The rows of a directory from an offset on.
pub(super) fn read_dir(
    ownership: Ownership,
    volume: &Volume,
    dir: Ino,
    offset: u64,
    mut reply: ReplyDirectory,
) {
    match volume.filesystem().read_dir(dir, offset) {
        Ok(rows) => {
            for (row, next) in rows.zip(offset + 1..) {
                let attr = attr_of(ownership, volume, row.ino);
                if reply.add(attr.ino, next, attr.kind, OsStr::from_bytes(row.name)) {
                    break;
                }
            }
            reply.ok();
        }
        Err(e) => reply.error(refused("readdir", &e)),
    }
}

/// The same with attributes; what is put into the reply is sent by the caller.
pub(super) fn read_dir_plus(
    ownership: Ownership,
    volume: &Volume,
    dir: Ino,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<(), fs::Error> {
    for (row, next) in volume.filesystem().read_dir(dir, offset)?.zip(offset + 1..) {
        let attr = attr_of(ownership, volume, row.ino);
        let (name, generation) = (OsStr::from_bytes(row.name), generation(volume, row.ino));
        if reply.add(attr.ino, next, name, &FOREVER, &attr, generation) {
            break;
        }
    }
    Ok(())
}
