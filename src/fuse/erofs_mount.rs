//! A mount whose names and attributes the kernel has to itself: EROFS over FUSE.
//!
//! # Design
//!
//! Three file systems, of which users see one:
//!
//! ```text
//! EROFS at the mount point    names, attributes; contents are blocks of the devices
//!   | its image               a file on a ramfs
//!   | its devices             files of a FUSE file system: `fuse::devices`
//! ```
//!
//! The ramfs and the FUSE file system are *detached*: they have no place in any tree of mounts and
//! live as long as EROFS has their files open (`fuse::devices` has a way to the devices no longer than
//! that). So everything goes when the mount at the mount point
//! goes, by whatever means: its last user gone, EROFS closes its devices, the FUSE file system
//! ends, and with it [`Server::wait`]. If this process dies and no other goes on with the
//! connection ([`resume`]), what the kernel has cached stays readable, everything else is an error at once, and an `umount`
//! cleans up.
//!
//! The path of the image, which `/proc/mounts` shows as the source of the mount, is made so that the
//! mount can be recognised as ours, and its connection and process found.
//!
//! The price of ramfs: the image, about 110 bytes a file and the names, is in memory that can't be swapped out, and
//! stays until the mount is gone, whatever becomes of this process. So its size is computed first, and what takes
//! more than a share of the machine's memory is refused ([`ErofsMountOptions::max_bytes`]); attributes that many files have
//! stand in it once.
//!
//! Rejected, as places from which memory could be reclaimed: tmpfs and memfd, which EROFS (6.18) does not read from
//! (they have no `read_folio`); a file in the cache, as the kernel warns in its log when that is on ext4, and as who
//! can write to the file would write to what the kernel parses; a file of our FUSE file system over a memfd, as EROFS
//! reads metadata block by block without reading ahead, so that each 4 KiB would be a request, names would be an
//! error once this process is dead, and their memory is taken twice; a loop device, which takes `ioctl` and is seen
//! by all.

mod attach;
mod detached;
mod error;
mod memory;
mod probe;
mod stage;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::connection::Connection;
use super::devices::{self, DeviceServer, Prefetching};
use super::gate::Gate;
use super::options::Ownership;
use super::prefetcher::{self, DeviceFolder, Prefetcher, Target};
use super::requests::Requests;
use super::session::{LOOP_THREADS, Link, Server, start};
use super::suspects::Suspects;
use crate::erofs::{Devices, Image, Uuid};
use crate::fs::Filesystem;
use detached::{device_minor as device_minor_of, shown_to_others, write_image};
use error::step;

pub use error::Error;
pub use probe::check;
pub(crate) use stage::never_abandoned;
pub use stage::{Attached, Contents, Parts, Stage};

/// How to mount.
#[derive(Clone, Debug)]
pub struct ErofsMountOptions {
    /// What is mounted, for people.
    pub source: String,
    /// Whose the files are shown to be.
    pub ownership: Ownership,
    /// The same for all mounts of an image.
    pub uuid: Uuid,
    /// The program that runs ahead of walks, if any; only over an image that is in the cache.
    pub prefetcher: Option<Arc<dyn prefetcher::Launcher>>,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
    /// Most bytes of memory for names and attributes, if not a share of the machine's.
    pub max_bytes: Option<u64>,
    /// What has ended other processes that served the mount.
    pub suspects: Option<Arc<Suspects>>,
}

/// Serves the contents of a mount that is to be, after it has written names and attributes.
///
/// # Errors
/// See [`Error`].
pub fn begin(
    parts: Parts,
    filesystem: &Arc<Filesystem>,
    options: &ErofsMountOptions,
    requests: &Arc<Requests>,
) -> Result<Begun, Error> {
    let image = Image::of(filesystem.tree())?;
    let limit = options.max_bytes.unwrap_or_else(memory::share);
    if image.bytes() > limit {
        return Err(Error::TooLarge { bytes: image.bytes(), limit });
    }
    let devices = write_image(image, owner(options), options.uuid, parts.image)?;
    let contents = Contents { devices: devices.len(), is_cached: is_cached(filesystem) };
    let prefetching = Arc::new(Prefetching::default());
    let link = Link::New(parts.device);
    let suspects = options.suspects.clone();
    let server = serve(link, filesystem, devices, requests, (&prefetching, suspects))?;
    Ok(Begun { server, prefetching, folder: parts.folder, contents })
}

/// Contents that are served, of a mount that is to be.
#[derive(Debug)]
pub struct Begun {
    server: Server,
    prefetching: Arc<Prefetching>,
    folder: OwnedFd,
    contents: Contents,
}

impl Begun {
    /// What is served.
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// Goes on once it is mounted.
    pub fn finish(
        self,
        mount_point: PathBuf,
        attached: Attached,
        filesystem: &Arc<Filesystem>,
        options: &ErofsMountOptions,
    ) -> Server {
        let Begun { server, prefetching, folder, .. } = self;
        let Attached { device_minor, is_far } = attached;
        if let Some(program) = options.prefetcher.as_ref().filter(|_| is_far) {
            let place = shown_to_others(&folder).and_then(|path| {
                let devices = DeviceFolder { path, device_minor: device_minor_of(&folder)? };
                Ok(Target { mount_point, device_minor, devices: Some(devices) })
            });
            prefetching.keep(folder, || Prefetcher::start(filesystem, Arc::clone(program), place));
        }
        server
    }
}

/// Goes on with the contents of a mount whose process is dead. It has no prefetcher any more: how many devices are open is
/// not known, nor when their folder could be let go of.
///
/// # Errors
/// See [`Error`].
pub fn resume(
    connection: Connection,
    filesystem: &Arc<Filesystem>,
    options: &ErofsMountOptions,
    requests: &Arc<Requests>,
) -> Result<Server, Error> {
    // Where files lie on the devices is known when the image has been written.
    let image = Image::of(filesystem.tree())?;
    let devices = image.write(owner(options), options.uuid, &mut io::sink())?;
    let begun = Link::Begun(connection);
    serve(begun, filesystem, devices, requests, (&Arc::default(), options.suspects.clone()))
}

fn owner(options: &ErofsMountOptions) -> Option<(u32, u32)> {
    match options.ownership {
        Ownership::Image => None,
        Ownership::Squash { uid, gid } => Some((uid, gid)),
    }
}

/// Whether all of an image is in the cache.
fn is_cached(filesystem: &Filesystem) -> bool {
    filesystem.contents().layers().iter().all(|layer| layer.is_cached())
}

fn serve(
    link: Link,
    filesystem: &Arc<Filesystem>,
    devices: Devices,
    requests: &Arc<Requests>,
    (prefetching, suspects): (&Arc<Prefetching>, Option<Arc<Suspects>>),
) -> Result<Server, Error> {
    let threads = if is_cached(filesystem) { LOOP_THREADS } else { devices::LOOP_THREADS };
    let gate = Arc::new(Gate::default());
    let blob_files = DeviceServer::new(
        Arc::clone(filesystem),
        devices,
        Arc::clone(requests),
        Arc::clone(prefetching),
        &gate,
    );
    start(blob_files, suspects, &gate, link, threads).map_err(step("serving"))
}
