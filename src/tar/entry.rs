//! What a tar holds: entries, and who receives them.

use super::error::Error;
use crate::extent::Run;

/// What kind of file an entry describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// Another name of a file that came earlier.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry with all extension headers applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as stored, not normalised.
    pub path: Vec<u8>,
    /// The kind of file.
    pub kind: FileType,
    /// Permission bits including setuid, setgid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: whole seconds since the epoch, rounded down.
    pub mtime_seconds: i64,
    /// Nanoseconds to add to `mtime_seconds`.
    pub mtime_nanoseconds: u32,
    /// Size of the file's content in bytes, holes included; 0 unless a regular file.
    pub size: u64,
    /// Target of a hard or symbolic link, as stored.
    pub link_target: Vec<u8>,
    /// Device numbers (major, minor).
    pub device: (u32, u32),
    /// Extended attributes in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content lies.
    pub runs: Vec<Run>,
    /// Whether the content was stored with a sparse map.
    pub sparse: bool,
}

impl Entry {
    /// A regular file of root's with this content and nothing else to say of it.
    pub fn of_file(path: Vec<u8>, mode: u32, size: u64, runs: Vec<Run>) -> Entry {
        Entry {
            path,
            kind: FileType::File,
            mode,
            uid: 0,
            gid: 0,
            mtime_seconds: 0,
            mtime_nanoseconds: 0,
            size,
            link_target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            runs,
            sparse: false,
        }
    }
}

/// Receives what the parser finds.
pub trait Sink {
    /// The error type of the receiver.
    type Error: From<Error>;

    /// An entry begins; for a regular file its content follows.
    ///
    /// # Errors
    /// Whatever the receiver refuses; the parser then stops.
    fn entry(&mut self, entry: Entry) -> Result<(), Self::Error>;

    /// Content bytes of the last entry (stored bytes: holes of sparse files do not come).
    fn content(&mut self, bytes: &[u8]);

    /// The content of the last entry is complete.
    fn end(&mut self);

    /// Bytes of the archive that are no content, before what they lead to: headers, maps, padding, and all
    /// that follows the end. With [`Sink::content`], each byte that the parser is fed comes once, in order.
    fn framing(&mut self, _bytes: &[u8]) {}
}

/// Whether Linux has a place for an xattr of this name. Archives made on macOS carry others, of any
/// length; the engines pass over what the file system does not support.
pub fn is_linux_xattr(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"security.", b"system."]
        .iter()
        .any(|namespace| name.len() > namespace.len() && name.starts_with(namespace))
}
