//! Blobs of a registry's image that a containerd on this machine has already.
//!
//! # Problem
//!
//! Who looks into an image has often run it here: its layers lie, byte for byte and under their
//! digests, in the content store of containerd, of a Docker engine that uses containerd's, of k3s.
//! To download them again is waste, and slow.
//!
//! # Design
//!
//! [`LocalCopies`] stands before the source that an image has. What is asked for by name, and every
//! manifest, goes there; the bytes of a blob come from the first store that has a file for it:
//!
//! ```text
//! ROOT/io.containerd.content.v1.content/blobs/sha256/ab12…
//! ```
//!
//! That the registry is still asked for the manifest is what keeps names right (a tag may have moved) and
//! access checked. Blobs need no such check: a file that this process can open is one that its user
//! can read anyway, so no user gets to see what he could not see before.
//!
//! Nothing is trusted. The code that reads the bytes verifies them, as those from a registry; here it is
//! only seen to that a file which turns out bad costs a moment and not the read:
//!
//! - What is not a regular file of exactly the descriptor's size is none. It is looked at before it is
//!   opened, since opening a pipe may wait and opening a device may do something.
//! - A file that ends early or can't be read is left in the middle; the registry sends the rest.
//! - Wrong bytes are found by who reads them, who then [distrusts](Source::distrust) the digest: the
//!   store is believed to be the liar, and the registry is asked from then on.
//!
//! Files are opened for each body and closed with it. containerd may collect its garbage under us: a
//! body that is being read goes on (the file is there as long as it is open), the next one comes from
//! the registry; and no mount holds on to the disk space of what was removed.
//!
//! Who says that nothing may be fetched means the cache alone: a store is not asked then. And what is
//! there to tell about a registry (whether it sends ranges, whether what it has is right) is asked of
//! it; such callers leave this module out.
//!
//! Where there is no store, or one that this user may not enter, that is found out once, with one
//! attempt for each root. Otherwise a blob that no store has costs one attempt for each of them, once.
//!
//! # Left out
//!
//! Podman's store and Docker's own (overlay2) hold layers unpacked. What a manifest names is the compressed
//! blob, and compressing again does not give the same bytes: these stores can't stand in for one. They
//! could give the uncompressed tar that the diff ID in the config names (`tar_split`), even where
//! the manifest's layer happens to be uncompressed. But a cached layer index speaks of places in the
//! blob, so a layer would have two sources in two systems of coordinates, and each first look would
//! read the store's lists, several megabytes of JSON, for the rare layer that it holds. Who has the image
//! there says `containers-storage:` or `docker-daemon:`, and what that brings into the cache (indexes are
//! found by diff ID, spans by their content) serves the registry's name as well.
//!
//! The storage folder of a registry is read only if it is named (`registry-storage:`): no program can know
//! where on this machine one is.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::containerd::{CONTENT_FOLDER, blob_path};
use super::image::check_range;
use super::{Body, Connections, Error, Opened, RawDocument, Repository, Source, Throughput};
use crate::digest::Digest;
use crate::oci::Descriptor;

/// An image whose blobs are taken from stores on this machine, as far as these have them.
#[derive(Debug)]
pub struct LocalCopies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Where everything else comes from.
    source: Arc<dyn Source>,
    roots: Vec<PathBuf>,
    /// Those of the roots that there are.
    stores: OnceLock<Vec<PathBuf>>,
    /// What was found out about blobs. There is an end to them, as verified documents name them.
    known: Mutex<HashMap<Digest, KnownBlob>>,
}

/// What is known of a blob.
#[derive(Debug, Default)]
struct KnownBlob {
    /// The root of the store that has it; `None` if none has, or not the right bytes.
    store: Option<PathBuf>,
    /// Bytes of it may have come from a store since it was last distrusted.
    is_used: bool,
}

impl LocalCopies {
    /// Puts the stores below some roots of containerd before a source. Nothing is looked at yet.
    pub fn new(source: Arc<dyn Source>, roots: &[PathBuf]) -> LocalCopies {
        let (roots, stores) = (roots.to_vec(), OnceLock::new());
        LocalCopies(Arc::new(Shared { source, roots, stores, known: Mutex::default() }))
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<Digest, KnownBlob>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The roots where there is a store that we may enter.
    fn stores(&self) -> &[PathBuf] {
        self.stores.get_or_init(|| {
            let can_enter = |root: &&PathBuf| {
                let inside = root.join(CONTENT_FOLDER).join("blobs/.");
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match rustix::fs::openat(CWD, &inside, flags, Mode::empty()) {
                    Ok(_) => true,
                    Err(e) => {
                        log::debug!("no content store at {}: {e}", root.display());
                        false
                    }
                }
            };
            self.roots.iter().filter(can_enter).cloned().collect()
        })
    }

    /// Opens the file of a blob, if a store has one that can be right, and says which store.
    fn open(&self, descriptor: &Descriptor) -> Option<(File, PathBuf)> {
        let Descriptor { digest, size, .. } = *descriptor;
        let mut known = self.known();
        let candidates: Vec<PathBuf> = match known.get_mut(&digest) {
            Some(entry) => entry.store.take().into_iter().collect(),
            None => self.stores().to_vec(),
        };
        let is_new = !known.contains_key(&digest);
        let entry = known.entry(digest).or_default();
        for store in candidates {
            let path = store.join(CONTENT_FOLDER).join(blob_path(&digest));
            match open_file(&path, size) {
                Ok(file) => {
                    if is_new {
                        log::info!("blob {digest}: read from {}", path.display());
                    }
                    entry.store = Some(store.clone());
                    return Some((file, store));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound && is_new => {}
                // It is our own want, which passes: only this read goes to the registry.
                Err(e) if is_want(&e) => {
                    log::info!("{}: {e}; asking the registry", path.display());
                    match is_new {
                        true => drop(known.remove(&digest)),
                        false => entry.store = Some(store),
                    }
                    return None;
                }
                Err(e) => log::info!("{}: {e}; asking the registry", path.display()),
            }
        }
        None
    }

    /// Notes that a store does not give what it has.
    fn leave(&self, digest: &Digest, why: &dyn fmt::Display) {
        let mut known = self.known();
        if let Some(store) = known.get_mut(digest).and_then(|entry| entry.store.take()) {
            log::warn!("blob {digest} in {}: {why}; asking the registry", store.display());
        }
    }
}

/// Whether opening failed because we have too many files open, or too little memory.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    error.raw_os_error().is_some_and(|code| wants.iter().any(|want| want.raw_os_error() == code))
}

/// Opens a regular file of that size.
fn open_file(path: &Path, size: u64) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let metadata = place.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() != size {
        let message = format!("it has {} bytes, its descriptor says {size}", metadata.len());
        return Err(io::Error::other(message));
    }
    // Its owner may have a lease on it, for which we do not wait either.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    File::options().read(true).custom_flags(flags).open(place)
}

/// Reads a range of a blob from a store's file, or what is missing of it from the source.
struct LocalBody {
    shared: Arc<Shared>,
    descriptor: Descriptor,
    /// Offset in the blob of the next byte to come, and just past the last.
    at: u64,
    end: u64,
    from: From,
}

enum From {
    Store(File),
    Source(Body),
}

impl LocalBody {
    /// Goes on with what the source sends.
    fn go_on_elsewhere(&mut self, why: &dyn fmt::Display) -> io::Result<()> {
        self.shared.leave(&self.descriptor.digest, why);
        let opened = self.shared.source.blob(&self.descriptor, self.at..self.end);
        let Opened { mut body, start, .. } = opened.map_err(io::Error::other)?;
        let skip = self.at.saturating_sub(start);
        if io::copy(&mut (&mut body).take(skip), &mut io::sink())? < skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.from = From::Source(body);
        Ok(())
    }
}

impl Read for LocalBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let room = buf.len().min(left);
        let buf = &mut buf[..room];
        if buf.is_empty() {
            return Ok(0);
        }
        let n = loop {
            match &mut self.from {
                From::Source(body) => break body.read(buf)?,
                From::Store(file) => match file.read_at(buf, self.at) {
                    Ok(0) => self.go_on_elsewhere(&"it has become shorter")?,
                    Ok(n) => break n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => self.go_on_elsewhere(&e)?,
                },
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl Source for LocalCopies {
    fn root(&self) -> Result<RawDocument, Error> {
        self.0.source.root()
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Arc::clone(&self.0.source).repository()
    }

    fn head(&self) -> Result<Option<Digest>, Error> {
        self.0.source.head()
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        self.0.source.document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        check_range(descriptor, &range)?;
        let Some((file, _)) = self.0.open(descriptor) else {
            return self.0.source.blob(descriptor, range);
        };
        if let Some(entry) = self.0.known().get_mut(&descriptor.digest) {
            entry.is_used = true;
        }
        let Range { start, end } = range;
        let body = LocalBody {
            shared: Arc::clone(&self.0),
            descriptor: descriptor.clone(),
            at: start,
            end,
            from: From::Store(file),
        };
        Ok(Opened { body: Box::new(body), start, end })
    }

    fn blob_ahead(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        match self.0.open(descriptor) {
            Some(_) => self.blob(descriptor, range),
            None => self.0.source.blob_ahead(descriptor, range),
        }
    }

    fn connections(&self) -> Option<&Arc<Connections>> {
        self.0.source.connections()
    }

    fn throughput(&self) -> Option<Throughput> {
        self.0.source.throughput()
    }

    fn confirm(&self, blob: &Descriptor) -> Result<bool, Error> {
        self.0.source.confirm(blob)
    }

    fn sender(&self) -> Option<&str> {
        self.0.source.sender().filter(|_| self.0.stores().is_empty())
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        self.0.source.has(descriptor)
    }

    fn local_copy(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        self.0.open(descriptor).map(|(_, store)| store)
    }

    fn distrust(&self, digest: &Digest) -> bool {
        if let Some(entry) = self.0.known().get_mut(digest)
            && std::mem::take(&mut entry.is_used)
        {
            if let Some(store) = entry.store.take() {
                log::warn!("{} has wrong bytes for {digest}; asking the registry", store.display());
            }
            return true;
        }
        self.0.source.distrust(digest)
    }

    fn is_remote(&self) -> bool {
        self.0.source.is_remote()
    }

    fn is_offline(&self) -> bool {
        self.0.source.is_offline()
    }
}
