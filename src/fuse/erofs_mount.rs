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

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use super::connection::Connection;
use super::devices::{self, DeviceServer, Prefetching};
use super::gate::Gate;
use super::kernel;
use super::kernel::{MountPoint, image_path};
use super::options::Ownership;
use super::prefetcher::{self, DeviceFolder, Prefetcher, Target};
use super::requests::Requests;
use super::session::{LOOP_THREADS, Link, Server, start};
use crate::erofs::{Devices, Image, Uuid};
use crate::fs::Filesystem;
use attach::{Attacher, Task};
use detached::{detached, device_minor, place, shown_to_others, write_image};
use error::step;

pub use error::Error;
pub use probe::check;

/// How far the kernel reads ahead in the devices of an image that is in the cache: one READ brings so
/// many bytes of files that lie one after the other, and a walk an eighth of the requests that it
/// costs at the usual 128 KiB. What would have to be fetched is not worth it unasked. (It is decided when
/// it is mounted; what is evicted later costs more to fetch, and is as right.)
const READ_AHEAD_BYTES: u32 = kernel::MAX_READ_BYTES;

/// How to mount.
#[derive(Clone, Debug)]
pub struct ErofsMountOptions {
    /// What is mounted, for people.
    pub source: String,
    /// The process that is there as long as it is served; this one if none is named.
    pub pid: Option<u32>,
    /// Whose the files are shown to be.
    pub ownership: Ownership,
    /// The same for all mounts of an image.
    pub uuid: Uuid,
    /// The program that runs ahead of walks, if any; only over an image that is in the cache.
    pub prefetcher: Option<prefetcher::Program>,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
    /// Most bytes of memory for names and attributes, if not a share of the machine's.
    pub max_bytes: Option<u64>,
}

/// Mounts a file system and serves it.
///
/// # Errors
/// See [`Error`]; nothing is left mounted.
pub fn mount(
    mount_point: &MountPoint,
    filesystem: &Arc<Filesystem>,
    options: &ErofsMountOptions,
    requests: &Arc<Requests>,
) -> Result<Server, Error> {
    check()?;
    let image = Image::of(filesystem.tree())?;
    let limit = options.max_bytes.unwrap_or_else(memory::share);
    if image.bytes() > limit {
        return Err(Error::TooLarge { bytes: image.bytes(), limit });
    }
    let attacher = Attacher::start()?;
    let device = kernel::open_device().map_err(step("opening the FUSE device"))?;
    let files = detached(
        "fuse",
        &[
            ("source", "ocifs"),
            ("fd", &device.as_raw_fd().to_string()),
            ("rootmode", "40000"),
            ("user_id", "0"),
            ("group_id", "0"),
            ("max_read", &kernel::MAX_READ_BYTES.to_string()),
            // The kernel reads for everybody who may read a file of the image.
            ("allow_other", ""),
        ],
    )?;
    let connection = device_minor(&files).map_err(step("the FUSE connection"))?;
    let store = detached("ramfs", &[])?;
    let pid = options.pid.unwrap_or_else(std::process::id);
    let path = image_path(&place(&store), connection, pid, &options.source);
    let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(step("a folder for names and attributes"))?;
    let devices = write_image(image, owner(options), options.uuid, Path::new(&path))?;
    let count = devices.len();
    let is_cached = is_cached(filesystem);
    let prefetching = Arc::new(Prefetching::default());
    let server = serve(Link::New(device), filesystem, devices, requests, &prefetching)?;
    // Not before INIT, which sets it, nor after EROFS has opened the devices, as files keep it.
    let is_far = is_cached && read_ahead(connection);
    let device_minor = attacher.attach(Task {
        image: path,
        devices: count,
        folder: place(&files),
        mount_point: mount_point.link(),
        no_exec: options.no_exec,
    })?;
    if let Some(program) = options.prefetcher.as_ref().filter(|_| is_far) {
        let place = shown_to_others(&files).map(|path| Target {
            mount_point: mount_point.path(),
            device_minor,
            devices: Some(DeviceFolder { path, device_minor: connection }),
        });
        prefetching.keep(files, || Prefetcher::start(filesystem, program.clone(), place));
    }
    Ok(server)
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
    serve(Link::Begun(connection), filesystem, devices, requests, &Arc::default())
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
    prefetching: &Arc<Prefetching>,
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
    start(blob_files, &gate, link, threads).map_err(step("serving"))
}

/// Has the kernel read further ahead in the devices than the 128 KiB of other files. Where that can't
/// be set (false) it is only slower, and how far walks are can't be told.
fn read_ahead(connection: u32) -> bool {
    let setting = format!("/sys/class/bdi/0:{connection}/read_ahead_kb");
    let set = std::fs::write(&setting, (READ_AHEAD_BYTES >> 10).to_string());
    set.inspect_err(|e| log::info!("{setting}: {e}")).is_ok()
}
