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
//! ends, and with it [`Server::wait`]. If this process dies, what the kernel has cached stays
//! readable, everything else is an error at once, and an `umount` cleans up.
//!
//! The path of the image, which `/proc/mounts` shows as the source of the mount, is made so that the
//! mount can be recognised as ours, and its connection and process found.
//!
//! The price of ramfs: the image, about 110 bytes a file and the names, is in memory that can't be swapped out, and
//! stays until the mount is gone, whatever becomes of this process. So its size is computed first, and what takes
//! more than a share of the machine's memory is refused ([`Options::max_bytes`]); attributes that many files have
//! stand in it once.
//!
//! Rejected, as places from which memory could be reclaimed: tmpfs and memfd, which EROFS (6.18) does not read from
//! (they have no `read_folio`); a file in the cache, as the kernel warns in its log when that is on ext4, and as who
//! can write to the file would write to what the kernel parses; a file of our FUSE file system over a memfd, as EROFS
//! reads metadata block by block without reading ahead, so that each 4 KiB would be a request, names would be an
//! error once this process is dead, and their memory is taken twice; a loop device, which takes `ioctl` and is seen
//! by all.

mod attach;
mod memory;
mod probe;

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::devices::{self, DeviceServer, Prefetching};
use super::kernel::MountPoint;
use super::prefetcher::{self, DeviceFolder, Place, Prefetcher};
use super::{Ownership, Requests, Server, kernel};
use crate::erofs::{self, Devices, Image, Uuid};
use crate::fs::Filesystem;
use attach::{Attacher, Task};

pub use probe::check;

/// The file system type that `/proc/mounts` shows.
pub(super) const FS_TYPE: &str = "erofs";

/// The kernel takes no longer values for options, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// How far the kernel reads ahead in the devices of an image that is in the cache: one READ brings so
/// many bytes of files that lie one after the other, and a walk an eighth of the requests that it
/// costs at the usual 128 KiB. What would have to be fetched is not worth it unasked. (It is decided when
/// it is mounted; what is evicted later costs more to fetch, and is as right.)
const READ_AHEAD_BYTES: u32 = kernel::MAX_READ_BYTES;

/// Where a process finds its own descriptors.
const DESCRIPTORS: &str = "/proc/self/fd/";

/// Begins the name of the folder that the image is in; the numbers of the connection and of its process
/// follow.
const MARK: &str = "ocifs-";

/// Why such a mount does not work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("--kernel-metadata needs root: mount without it")]
    NotRoot,
    #[error(
        "--kernel-metadata needs root of the machine, not of a container or a user namespace: mount \
         without it"
    )]
    NotPermitted,
    #[error(
        "--kernel-metadata needs a kernel that has EROFS (`modprobe erofs`, CONFIG_EROFS_FS): mount \
         without it"
    )]
    NoErofs,
    #[error(
        "--kernel-metadata needs a kernel that mounts EROFS from a file (Linux 6.12 with \
         CONFIG_EROFS_FS_BACKED_BY_FILE): mount without it"
    )]
    NotFromFile,
    #[error(
        "--kernel-metadata needs a kernel whose EROFS says when it can't read something (Linux 6.18.21 \
         or later, for example): this one would show zeros instead; mount without it"
    )]
    ShortReads,
    #[error("--kernel-metadata: {0}: mount without it")]
    Image(#[from] erofs::Error),
    #[error(
        "--kernel-metadata: the image's names and attributes would take {bytes} bytes of memory that can't be \
         swapped out, more than {limit}: mount without it, or raise the limit with --max-kernel-metadata"
    )]
    TooLarge { bytes: u64, limit: u64 },
    #[error("--kernel-metadata: {what}: {source}")]
    Step { what: &'static str, source: io::Error },
}

/// Says what was being done when something failed.
fn step<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Step { what, source: e.into() }
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is mounted, for people.
    pub source: String,
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
    options: &Options,
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
    let path = image_path(&place(&store), connection, &options.source);
    let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(step("a folder for names and attributes"))?;
    let owner = match options.ownership {
        Ownership::Image => None,
        Ownership::Squash { uid, gid } => Some((uid, gid)),
    };
    let devices = write_image(image, owner, options.uuid, Path::new(&path))?;
    let count = devices.len();
    let is_cached = filesystem.contents().layers().iter().all(|layer| layer.is_cached());
    let threads = if is_cached { super::LOOP_THREADS } else { devices::LOOP_THREADS };
    let prefetching = Arc::new(Prefetching::default());
    let blob_files = DeviceServer::new(
        Arc::clone(filesystem),
        devices,
        Arc::clone(requests),
        Arc::clone(&prefetching),
    );
    let server = super::start(blob_files, device, threads).map_err(step("serving"))?;
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
        let place = shown_to_others(&files).map(|path| Place {
            mount_point: mount_point.path(),
            device_minor,
            devices: Some(DeviceFolder { path, device_minor: connection }),
        });
        prefetching.keep(files, || Prefetcher::start(filesystem, program.clone(), place));
    }
    Ok(server)
}

fn write_image(
    image: Image<'_>,
    owner: Option<(u32, u32)>,
    uuid: Uuid,
    path: &Path,
) -> Result<Devices, Error> {
    let file = std::fs::File::create_new(path).map_err(step("a file for names and attributes"))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let devices = image.write(owner, uuid, &mut out)?;
    out.flush().map_err(erofs::Error::Write)?;
    Ok(devices)
}

/// EROFS without a place yet; its devices are the files `0`, `1` ... of a folder.
fn mount_image(path: &str, devices: usize, folder: &str, no_exec: bool) -> Result<OwnedFd, Error> {
    let context =
        rustix::mount::fsopen(FS_TYPE, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
            Errno::NODEV => Error::NoErofs,
            Errno::PERM => Error::NotPermitted,
            e => step("EROFS")(e),
        })?;
    let set = |key: &str, value: &str| {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(step("EROFS"))
    };
    set("source", path)?;
    (0..devices).try_for_each(|number| set("device", &format!("{folder}/{number}")))?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(|e| match e {
        Errno::PERM => Error::NotPermitted,
        // It wants a block device.
        Errno::NOTBLK => Error::NotFromFile,
        e => step("mounting EROFS")(e),
    })?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, no_exec);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(step("mounting EROFS"))
}

/// A new file system of a type, without a place. Options without a value are flags.
fn detached(kind: &'static str, options: &[(&str, &str)]) -> Result<OwnedFd, Error> {
    let failed = |e| match e {
        Errno::PERM => Error::NotPermitted,
        // Prefetching Linux 5.2.
        Errno::NOSYS => Error::NotFromFile,
        e => step(kind)(e),
    };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    for (key, value) in options {
        match *value {
            "" => rustix::mount::fsconfig_set_flag(context.as_fd(), *key),
            value => rustix::mount::fsconfig_set_string(context.as_fd(), *key, value),
        }
        .map_err(failed)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(failed)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(failed)
}

/// The path of a detached mount, for this process.
fn place(mount: &OwnedFd) -> String {
    format!("{DESCRIPTORS}{}", mount.as_raw_fd())
}

/// The same for other processes.
fn shown_to_others(mount: &OwnedFd) -> io::Result<PathBuf> {
    // As it is called there: `/proc` may be that of other processes.
    let own = std::fs::read_link("/proc/self")?;
    Ok(Path::new("/proc").join(own).join("fd").join(mount.as_raw_fd().to_string()))
}

/// The minor device number of a file system, which is the number of its connection over FUSE. It need
/// not be served yet.
fn device_minor(mount: &OwnedFd) -> io::Result<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(mount, "", flags, StatxFlags::empty())?.stx_dev_minor)
}

/// Has the kernel read further ahead in the devices than the 128 KiB of other files. Where that can't
/// be set (false) it is only slower, and how far walks are can't be told.
fn read_ahead(connection: u32) -> bool {
    let setting = format!("/sys/class/bdi/0:{connection}/read_ahead_kb");
    let set = std::fs::write(&setting, (READ_AHEAD_BYTES >> 10).to_string());
    set.inspect_err(|e| log::info!("{setting}: {e}")).is_ok()
}

/// `STORE/ocifs-CONNECTION-PID/SOURCE`, where the source is cut and changed so far that it is a path.
fn image_path(store: &str, connection: u32, source: &str) -> String {
    let pid = std::process::id();
    let folder = format!("{store}/{MARK}{connection}-{pid}");
    let mut path = folder.clone();
    let components = source.split('/').filter(|name| !matches!(*name, "" | "." | ".."));
    for component in components {
        let room = (MAX_VALUE_BYTES - 1).saturating_sub(path.len());
        let fits = |end: &usize| *end <= room && component.is_char_boundary(*end);
        let end = (0..=component.len()).rev().find(fits).unwrap_or(0);
        if end > 0 {
            path.push('/');
            path.push_str(&component[..end]);
        }
        if end < component.len() {
            break;
        }
    }
    if path == folder {
        path.push_str("/image");
    }
    path
}

/// What the source that the kernel shows says of such a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    pub(super) connection: u32,
    /// Who serves it.
    pub(super) pid: u32,
    /// What is mounted.
    pub(super) source: &'a str,
}

/// Reads the source that the kernel shows; `None` if the mount is not one of these.
pub(super) fn parse_source(source: &str) -> Option<Origin<'_>> {
    let (_, path) = source.strip_prefix(DESCRIPTORS)?.split_once('/')?;
    let (mark, source) = path.strip_prefix(MARK)?.split_once('/')?;
    let (connection, pid) = mark.split_once('-')?;
    Some(Origin { connection: connection.parse().ok()?, pid: pid.parse().ok()?, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_again() {
        let shown = |source: &str| {
            let path = image_path("/proc/self/fd/12", 345, source);
            assert!(path.len() <= MAX_VALUE_BYTES);
            let origin = parse_source(&path).unwrap();
            assert_eq!((origin.connection, origin.pid), (345, std::process::id()));
            origin.source.to_owned()
        };
        assert_eq!(shown("docker.io/library/debian:12"), "docker.io/library/debian:12");
        assert_eq!(shown("oci:/a//b/../c/./d"), "oci:/a/b/c/d");
        assert_eq!(shown(""), "image");
        assert_eq!(shown("../.."), "image");
        assert!(shown(&"a/".repeat(400)).ends_with("/a"));
        let long = shown(&format!("x{}", "\u{fc}".repeat(400)));
        assert!(long.len() > 200 && long.starts_with("x\u{fc}"));
        for other in ["", "/dev/loop0", "/proc/self/fd/1/image", "/proc/self/fd/1/ocifs-/x"] {
            assert_eq!(parse_source(other), None, "{other}");
        }
    }
}
