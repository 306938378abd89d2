//! What is mounted before any image is looked at: by a process that may mount, for one that need not.
//!
//! # Problem
//!
//! Mounting takes rights that a process which reads images is not to have.
//!
//! # Design
//!
//! A [`Stage`] is made by a process that has them. Its [`Parts`] go to the process that has the image open, which writes names
//! and attributes into a file, and serves contents on a connection. Then the stage is [attached](Stage::attach), while the
//! other process answers. Both may be the same process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attach::{Attacher, Task};
use super::detached::{detached, device_minor, place};
use super::error::{Error, step};
use super::probe::check;
use crate::fuse::kernel::{self, MountPoint, image_path};

/// How far the kernel reads ahead in the devices of an image that is in the cache: one READ brings so
/// many bytes of files that lie one after the other, and a walk an eighth of the requests that it
/// costs at the usual 128 KiB. What would have to be fetched is not worth it unasked. (It is decided when
/// it is mounted; what is evicted later costs more to fetch, and is as right.)
const READ_AHEAD_BYTES: u32 = kernel::MAX_READ_BYTES;

/// File systems without a place yet, and one more that is to be made of them.
#[derive(Debug)]
pub struct Stage {
    attacher: Attacher,
    device: OwnedFd,
    /// The file system of the devices.
    files: OwnedFd,
    /// The file system of names and attributes, and its file.
    store: OwnedFd,
    image: File,
    path: String,
}

/// What the process that serves needs of it.
#[derive(Debug)]
pub struct Parts {
    /// The connection to the kernel, on which INIT is to come.
    pub device: OwnedFd,
    /// For names and attributes.
    pub image: File,
    /// The folder of the devices.
    pub folder: OwnedFd,
}

impl Stage {
    /// Makes it; `pid` is the process that is there as long as the mount is served.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left.
    pub fn new(source: &str, pid: u32) -> Result<Stage, Error> {
        check()?;
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
        let path = image_path(&place(&store), connection, pid, source);
        let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(step("a folder for names and attributes"))?;
        let image = File::create_new(&path).map_err(step("a file for names and attributes"))?;
        Ok(Stage { attacher, device, files, store, image, path })
    }

    /// What the process that serves needs, in this process.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn parts(&self) -> Result<Parts, Error> {
        let failed = step("a descriptor");
        let clone = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let [device, image, folder] = self.descriptors();
        match (clone(device), clone(image), clone(folder)) {
            (Ok(device), Ok(image), Ok(folder)) => {
                Ok(Parts { device, image: image.into(), folder })
            }
            (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => Err(failed(e)),
        }
    }

    /// The same for another process, in the order of [`Parts`].
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.device.as_fd(), self.image.as_fd(), self.files.as_fd()]
    }

    /// Mounts it, while contents are served; `abandoned` says whether they no longer are, after it has waited a little.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted.
    pub fn attach(
        self,
        contents: Contents,
        mount_point: &MountPoint,
        no_exec: bool,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Attached, Error> {
        // It is written.
        drop(self.image);
        // Not before INIT, which sets it, nor after EROFS has opened the devices, as files keep it.
        let connection = device_minor(&self.files).map_err(step("the FUSE connection"))?;
        let is_far = contents.is_cached && read_far_ahead(connection);
        let (folder, mount_point) = (place(&self.files), mount_point.link());
        let devices = contents.devices;
        let task = Task { image: self.path, devices, folder, mount_point, no_exec };
        let device_minor = self.attacher.attach(task, abandoned)?;
        // From here on EROFS has it open.
        drop(self.store);
        Ok(Attached { device_minor, is_far })
    }
}

/// What is served for a stage.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Contents {
    /// How many devices the image has.
    pub devices: usize,
    /// Whether all of it is in the cache.
    pub is_cached: bool,
}

/// What is asked where this process answers itself.
pub(crate) fn never_abandoned() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(1));
    false
}

/// What has been mounted.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Attached {
    /// The minor number of its device.
    pub device_minor: u32,
    /// Whether the kernel reads as far ahead in its devices as walks need to be told by.
    pub is_far: bool,
}

/// Has the kernel read further ahead in the devices than the 128 KiB of other files. Where that can't
/// be set (false) it is only slower, and how far walks are can't be told.
fn read_far_ahead(connection: u32) -> bool {
    let setting = format!("/sys/class/bdi/0:{connection}/read_ahead_kb");
    let set = std::fs::write(&setting, (READ_AHEAD_BYTES >> 10).to_string());
    set.inspect_err(|e| log::info!("{setting}: {e}")).is_ok()
}
