//! Folders and tar archives as one: named files that can be read at any place.
//!
//! An image layout may lie in a folder or in a tar of that folder. A plain tar is read in place:
//! its headers are scanned once, seeking over the contents. A compressed one is unpacked into an
//! unlinked temporary file first, since nothing in it could be found otherwise.

mod members;
mod section;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::image::check_range;
use super::{Error, Opened};
use crate::codec::{self, Compression, Decoder};
use crate::oci::Descriptor;
use crate::tar;
use members::Members;
use section::SectionPlace;

pub use section::{Section, SectionReader};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A folder, or a tar of one.
#[derive(Clone, Debug)]
pub enum Files {
    /// A folder on disk.
    Folder(PathBuf),
    /// An opened archive.
    Archive(Archive),
}

/// A tar archive that is open.
#[derive(Clone, Debug)]
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
    members: Arc<Members>,
    /// The folder that all members are in, with a slash behind it; or nothing.
    root: String,
    /// Longest content that a sparse member may have, in bytes.
    max_sparse_bytes: u64,
}

impl Files {
    /// The folder or archive, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Files::Folder(path) | Files::Archive(Archive { path, .. }) => path,
        }
    }

    /// Opens a file by its name relative to the root; `None` if there is none.
    ///
    /// # Errors
    /// It is there and can't be opened.
    pub fn open(&self, name: &str) -> Result<Option<Section>, Error> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                section_of(look_at(&path, OFlags::empty()), path)
            }
            Files::Archive(archive) => archive.open(name),
        }
    }

    /// The same of a name that stands in the image's own documents: it is cleaned as the names of members
    /// are, and neither it nor a link leads out of a folder.
    ///
    /// # Errors
    /// It is there and can't be opened.
    pub fn open_named(&self, name: &str) -> Result<Option<Section>, Error> {
        match (self, members::clean(name)) {
            (_, None) => Ok(None),
            (Files::Folder(folder), Some(name)) => {
                section_of(look_beneath(folder, &name), folder.join(&name))
            }
            (Files::Archive(archive), Some(name)) => archive.open(&name),
        }
    }

    /// The same of a name that is no symlink: what it would lead to may be a file that another user wants
    /// to be read.
    ///
    /// # Errors
    /// It is there and can't be opened, or is a symlink.
    pub fn open_itself(&self, name: &str) -> Result<Option<Section>, Error> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                section_of(look_at(&path, OFlags::NOFOLLOW), path)
            }
            Files::Archive(archive) => archive.open(name),
        }
    }

    /// A range of a blob that has to be there; `name` is where it lies.
    ///
    /// # Errors
    /// It is missing or can't be opened, or the range is not within its descriptor's size.
    pub fn blob(
        &self,
        name: &str,
        descriptor: &Descriptor,
        range: Range<u64>,
    ) -> Result<Opened, Error> {
        check_range(descriptor, &range)?;
        let Some(section) = self.open(name)? else {
            let what = format!("blob {}", descriptor.digest);
            return Err(Error::Missing { path: self.path().to_owned(), what });
        };
        Ok(section.opened(descriptor, range))
    }

    /// Reads a small file that has to be there.
    ///
    /// # Errors
    /// It is missing, larger than `limit` bytes, or can't be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let Some(section) = self.open(name)? else {
            let what = format!("`{name}`");
            return Err(Error::Missing { path: self.path().to_owned(), what });
        };
        section.read_all(limit).map_err(|e| Error::file(self.path().join(name), e))
    }
}
impl Archive {
    /// Opens an archive; a compressed one is unpacked into `spool`, a folder for temporary files.
    ///
    /// # Errors
    /// Not a tar, or I/O.
    pub fn open_file(path: &Path, spool: &Path) -> Result<Archive, Error> {
        let file = open_without_waiting(path).map_err(|e| Error::file(path, e))?;
        Archive::open_file_at(file, path, spool)
    }

    /// The same of a file that is open; `path` is where it comes from, for messages.
    pub(super) fn open_file_at(
        mut file: File,
        path: &Path,
        spool: &Path,
    ) -> Result<Archive, Error> {
        let io = |e| Error::file(path, e);
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::invalid(path, "not a regular file"));
        }
        let length = metadata.len();
        let mut start = [0; tar::BLOCK_BYTES];
        let n = file.read_at(&mut start, 0).map_err(io)?;
        let compression = Compression::sniff(&start[..n])
            .map_err(|source| Error::Codec { path: path.to_owned(), cause: source })?;
        let length = match compression {
            Compression::None => length,
            compression => {
                let (unpacked, length) = unpack(&file, compression, path, spool)?;
                file = unpacked;
                length
            }
        };
        let members = Arc::new(Members::scan(&file, length, path)?);
        let max_sparse_bytes = codec::plausible_uncompressed_bytes(length);
        let (path, file, root) = (path.to_owned(), Arc::new(file), String::new());
        Ok(Archive { path, file, members, root, max_sparse_bytes })
    }

    /// The same from the folder on that all its members are in, if there is one: `tar -c app` packs a
    /// folder so, and `tar -C app -c .` as images are.
    pub(super) fn below_its_folder(&self) -> Option<Archive> {
        let root = format!("{}/", self.names().next()?.split_once('/')?.0);
        let is_root = self.names().all(|name| name.starts_with(&root));
        is_root.then(|| Archive { root, ..self.clone() })
    }

    fn open(&self, name: &str) -> Result<Option<Section>, Error> {
        let Some((place, length)) = self.members.find(&format!("{}{name}", self.root)) else {
            return Ok(None);
        };
        // Holes cost an archive nothing, and their reader time without end.
        if matches!(place, SectionPlace::Runs(_)) && length > self.max_sparse_bytes {
            let what = format!(
                "`{name}` is sparse and of {length} bytes: far more than an archive of its size should \
                 hold"
            );
            return Err(Error::invalid(&self.path, what));
        }
        Ok(Some(Section::new(Arc::clone(&self.file), place, length)))
    }

    /// The names of files and links in it, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.names().filter_map(|name| name.strip_prefix(&self.root))
    }
}

/// A file that was looked at, as a section; `None` if it is not there.
fn section_of(place: Result<File, Errno>, path: PathBuf) -> Result<Option<Section>, Error> {
    let failed = |e| Error::file(&path, e);
    let place = match place {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV) => return Err(Error::invalid(path, "a link leads out of the folder")),
        Err(e) => return Err(failed(e.into())),
    };
    let metadata = place.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::invalid(path, "not a regular file"));
    }
    let file = open_place(&place).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied if path.is_symlink() => {
            Error::invalid(&path, "a link to a file that may not be read, or is not this blob")
        }
        _ => failed(e),
    })?;
    Ok(Some(Section::new(Arc::new(file), SectionPlace::From(0), metadata.len())))
}

/// A file, looked at and not opened: to open a pipe may wait, and to open a device may do something.
fn look_at(path: &Path, flags: OFlags) -> Result<File, Errno> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty());
    opened.map(File::from)
}

/// The same of a file below a folder that neither its name nor links lead out of.
fn look_beneath(folder: &Path, name: &str) -> Result<File, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&folder, name, flags, Mode::empty(), resolve).map(File::from)
}

/// Opens what was looked at.
fn open_place(place: &File) -> io::Result<File> {
    open_without_waiting(&PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd())))
}

/// Opens a file that has to be a regular one.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let place = look_at(path, OFlags::empty())?;
    match place.metadata()?.is_file() {
        true => open_place(&place),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Opens a file that the user names, which may be anything; a named pipe does not make us wait for a writer.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(flags).open(path)
}

/// Decompresses an archive into an unlinked file: the file and its length.
fn unpack(
    file: &File,
    compression: Compression,
    path: &Path,
    spool: &Path,
) -> Result<(File, u64), Error> {
    let codec = |source| Error::Codec { path: path.to_owned(), cause: source };
    let mut out = tempfile::tempfile_in(spool).map_err(|e| Error::file(spool, e))?;
    let mut decoder = Decoder::new(compression).map_err(codec)?;
    let mut input = vec![0; CHUNK_BYTES];
    let mut output = vec![0; CHUNK_BYTES];
    let (mut offset, mut length) = (0, 0);
    loop {
        let n = file.read_at(&mut input, offset).map_err(|e| Error::file(path, e))?;
        if n == 0 {
            decoder.finish().map_err(codec)?;
            return Ok((out, length));
        }
        offset += n as u64;
        let mut rest = &input[..n];
        loop {
            let progress = decoder.decode(rest, &mut output).map_err(codec)?;
            if progress.consumed == 0 && progress.produced == 0 {
                break;
            }
            rest = &rest[progress.consumed..];
            out.write_all(&output[..progress.produced]).map_err(|e| Error::file(spool, e))?;
            length += progress.produced as u64;
            if length > codec::plausible_uncompressed_bytes(offset) {
                let what = "it unpacks to far more than an archive of its size should";
                return Err(Error::invalid(path, what));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn members_are_read_in_place_and_through_links() {
        let spool = tempfile::tempdir().unwrap();
        let plain = spool.path().join("x.tar");
        let mut tar = ::tar::Builder::new(Vec::new());
        let mut file = |name: &str, data: &[u8]| {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, data).unwrap();
        };
        file("./a.tar", &[7; 5000]);
        file("b/c", b"hello");
        let mut link = ::tar::Header::new_gnu();
        link.set_entry_type(::tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "id/layer.tar", "../a.tar").unwrap();
        tar.append_link(&mut link, "id/out", "../../a.tar").unwrap();
        let bytes = tar.into_inner().unwrap();
        std::fs::write(&plain, &bytes).unwrap();
        let packed = spool.path().join("x.tar.zst");
        std::fs::write(&packed, zstd::bulk::compress(&bytes, 1).unwrap()).unwrap();
        for path in [plain, packed] {
            let files = Files::Archive(Archive::open_file(&path, spool.path()).unwrap());
            assert_eq!(files.read("b/c", 10).unwrap(), b"hello");
            assert_eq!(files.read("id/layer.tar", 9999).unwrap(), [7; 5000]);
            assert!(files.read("b/c", 4).is_err(), "the limit holds");
            assert!(files.open("id/out").unwrap().is_none());
            let mut end = Vec::new();
            files.open("b/c").unwrap().unwrap().reader(3).read_to_end(&mut end).unwrap();
            assert_eq!(end, b"lo");
        }
        let junk = spool.path().join("junk");
        std::fs::write(&junk, [1; 2000]).unwrap();
        assert!(matches!(Archive::open_file(&junk, spool.path()), Err(Error::Tar { .. })));
    }

    #[test]
    fn ranges_of_blobs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b"), b"0123456789").unwrap();
        let files = Files::Folder(folder.path().to_owned());
        let read = |size: u64, range: Range<u64>| {
            let digest = crate::digest::Digest::sha256(b"0123456789");
            let json = format!(r#"{{"digest":"{digest}","size":{size}}}"#);
            let descriptor: Descriptor = crate::json::from_slice(json.as_bytes()).unwrap();
            let mut opened = files.blob("b", &descriptor, range.clone())?;
            assert_eq!((opened.start, opened.end), (range.start, range.end));
            let mut text = String::new();
            opened.body.read_to_string(&mut text).unwrap();
            Ok::<String, Error>(text)
        };
        assert_eq!(read(10, 0..10).unwrap(), "0123456789");
        assert_eq!(read(10, 3..7).unwrap(), "3456");
        assert_eq!(read(10, 10..10).unwrap(), "");
        assert_eq!(read(9, 0..9).unwrap(), "0123456789", "for the verifying reader to refuse");
        assert_eq!(read(9, 1..9).unwrap(), "12345678");
        assert_eq!(read(12, 8..12).unwrap(), "89", "the file is too short");
        assert!(matches!(read(9, 3..10), Err(Error::Range { size: 9, .. })));
        assert!(matches!(read(9, Range { start: 5, end: 4 }), Err(Error::Range { .. })));
    }
}
