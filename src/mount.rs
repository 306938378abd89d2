//! What keeps running: a view of images at a place in the file system, its status, and its end.
//!
//! ```text
//! Mount::new      View -> kernel::mount, fuse::serve -> ready          (or erofs_mount::mount)
//! Mount::resume   the same with a connection that a dead process has served
//! Mount::wait     until it is unmounted, by this process or another
//! StatusSocket    what it tells of itself meanwhile
//! ```
//!
//! A [`View`] is whole before it comes here ([`crate::image`]), so nothing that a mount does can show an
//! image in part.

mod kept;
mod options;
mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::fuse::kernel::{MountPoint, Mounted};
use crate::fuse::{self, Link, Requests, Server, erofs_mount, kernel, prefetcher};
use crate::hint::Hint;
use crate::image::{Selection, View};
use crate::space::{Directories, Space};
use crate::tree::Sharing;

pub use kept::Kept;
pub use options::{MountOptions, Prefetch};
pub use status::{FailedFile, PanicStatus, ReadStatus, WaitingRead};
pub use status::{
    ImageStatus, LayerStatus, Manner, NetworkStatus, ShownStatus, SpanStatus, Status, StatusError,
    StatusSocket, StatusSource, Supervision, TagStatus, query_status, status_sockets,
};

/// Why an image can't be mounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Erofs(#[from] erofs_mount::Error),
    #[error("starting to serve the mount: {0}")]
    Serve(io::Error),
    #[error("what the names of the images meant is not shown as it was when it was mounted")]
    Different,
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Kernel(error) => error.hint(),
            Error::Erofs(error) => error.hint(),
            Error::Serve(_) | Error::Different => None,
        }
    }
}

/// What a mount shows.
#[derive(Debug)]
enum Served {
    View(View),
    Directories(Lookups),
}

/// Directories whose names are looked up.
#[derive(Debug)]
pub struct Lookups {
    /// They.
    pub directories: Arc<dyn Directories>,
    /// What `/proc/mounts` shows as the source.
    pub source: String,
    /// What of images is shown.
    pub selection: Selection,
}

/// An image, or several, or directories whose names are looked up at a place in the file system.
#[derive(Debug)]
pub struct Mount {
    served: Served,
    /// Where it was mounted.
    mount_point: PathBuf,
    mounted: Mounted,
    manner: Manner,
    requests: Arc<Requests>,
    server: Server,
}

impl Mount {
    /// Mounts an image or a view of several on a directory that [`kernel::prepare`] has opened. When this returns, the
    /// mount answers.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted.
    pub fn new(
        view: impl Into<View>,
        mount_point: MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let view = view.into();
        check_free(&mount_point, options)?;
        if options.kernel_metadata {
            return Mount::with_kernel_metadata(view, &mount_point, options);
        }
        Mount::served(Served::View(view), mount_point, options)
    }

    /// Mounts directories whose names are looked up. When this returns, the mount answers.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted.
    pub fn of_directories(
        directories: Lookups,
        mount_point: MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        check_free(&mount_point, options)?;
        Mount::served(Served::Directories(directories), mount_point, options)
    }

    /// Goes on with a mount whose process is dead. What was under way has been [resent](fuse::Connection::resend).
    ///
    /// # Errors
    /// See [`Error`]; the mount stays as it is. [`Error::Different`] if the view is not what is mounted.
    pub fn resume(
        view: impl Into<View>,
        kept: Kept,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let view = view.into();
        if !kept.is_of(&view) {
            return Err(Error::Different);
        }
        let Kept { connection, mounted, .. } = kept;
        let requests = Arc::new(Requests::default());
        let mount_point = mounted.mount_point.clone();
        let served = Served::View(view);
        let manner = served.manner(options);
        let server = match &served {
            Served::View(view) if options.kernel_metadata => {
                let options = erofs_options(view, options);
                erofs_mount::resume(connection, &view.filesystem, &options, &requests)?
            }
            _ => {
                let serve_options = serve_options(options, &mounted);
                serve(&served, Link::Begun(connection), &serve_options, &requests)?
            }
        };
        Ok(Mount { served, mount_point, mounted, manner, requests, server })
    }

    fn served(
        served: Served,
        mount_point: MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let kernel_options = kernel::FuseMountOptions {
            source: served.source(),
            allow_other: options.allow_other,
            default_permissions: options.checks_modes(),
            no_exec: options.no_exec,
        };
        let channel = kernel::mount(&mount_point, &kernel_options)?;
        // Without it nothing is served, and the connection ends.
        let mounted = found(&mount_point)?;
        // What is open below the mount could not be unmounted.
        drop(mount_point);
        let manner = served.manner(options);
        let requests = Arc::new(Requests::default());
        let serve_options = serve_options(options, &mounted);
        let server =
            serve(&served, Link::New(channel), &serve_options, &requests).inspect_err(|_| {
                if let Err(e) = kernel::unmount(&mounted, kernel::Unmount::Lazy) {
                    log::error!("{e}");
                }
            })?;
        let mount_point = mounted.mount_point.clone();
        Ok(Mount { served, mount_point, mounted, manner, requests, server })
    }

    fn with_kernel_metadata(
        view: View,
        mount_point: &MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let requests = Arc::new(Requests::default());
        let manner =
            Manner::of(options, view.sharing, view.filesystem.has_labels(), &view.selection);
        let options = erofs_options(&view, options);
        let server = erofs_mount::mount(mount_point, &view.filesystem, &options, &requests)?;
        let mounted = found(mount_point)?;
        let mount_point = mounted.mount_point.clone();
        let served = Served::View(view);
        Ok(Mount { served, mount_point, mounted, manner, requests, server })
    }

    /// The real path of the mount point.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// The kernel's requests so far.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// Something that can unmount this mount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { mounted: self.mounted.clone() }
    }

    /// What another process needs to go on with it; of registries there is nothing.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn kept(&self) -> io::Result<Option<Kept>> {
        let Served::View(view) = &self.served else { return Ok(None) };
        let connection = self.server.connection().duplicate()?;
        Ok(Some(Kept::new(connection, self.mounted.clone(), view)))
    }

    /// A view on the mount's state for [`StatusSocket`].
    pub fn status_source(&self) -> StatusSource {
        StatusSource {
            images: match &self.served {
                Served::View(view) => status::Images::All(view.images.clone()),
                Served::Directories(lookups) => {
                    status::Images::Of(Arc::clone(&lookups.directories))
                }
            },
            mounted_at: self.mount_point.display().to_string(),
            device: Some(self.mounted.device),
            manner: self.manner.clone(),
            inodes: match &self.served {
                Served::View(view) => view.filesystem.tree().len() as u64,
                Served::Directories(_) => 0,
            },
            spans: match &self.served {
                Served::View(view) => Some(Arc::clone(&view.spans)),
                Served::Directories(lookups) => lookups.directories.spans().cloned(),
            },
            started: SystemTime::now(),
            traffic: match &self.served {
                Served::View(view) => Arc::clone(&view.traffic),
                Served::Directories(lookups) => Arc::clone(lookups.directories.traffic()),
            },
            requests: Arc::clone(&self.requests),
        }
    }

    /// The kernel's number of the connection.
    pub fn connection(&self) -> u32 {
        self.mounted.connection
    }

    /// Waits until it has been unmounted, by this process or another.
    ///
    /// # Errors
    /// The connection to the kernel broke.
    pub fn wait(self) -> io::Result<()> {
        self.server.wait()
    }
}

/// How a plain mount is served.
fn serve_options(options: &MountOptions, mounted: &Mounted) -> fuse::ServeOptions {
    fuse::ServeOptions {
        ownership: options.ownership,
        default_permissions: options.checks_modes(),
        prefetch: match &options.prefetch {
            Prefetch::Off => fuse::Prefetch::Off,
            Prefetch::Push => fuse::Prefetch::Push,
            Prefetch::Process(program) => {
                let mount_point = mounted.mount_point.clone();
                let device_minor = mounted.connection;
                let place = prefetcher::Target { mount_point, device_minor, devices: None };
                fuse::Prefetch::Process(program.clone(), place)
            }
        },
    }
}

/// How a view is mounted whose names and attributes the kernel has to itself.
fn erofs_options(view: &View, options: &MountOptions) -> erofs_mount::ErofsMountOptions {
    erofs_mount::ErofsMountOptions {
        source: view.source(),
        pid: options.pid,
        ownership: options.ownership,
        uuid: view.uuid(),
        prefetcher: match &options.prefetch {
            Prefetch::Process(program) => Some(program.clone()),
            Prefetch::Push | Prefetch::Off => None,
        },
        no_exec: options.no_exec,
        max_bytes: options.max_kernel_metadata_bytes,
    }
}

/// What has just been mounted on a directory.
fn found(mount_point: &MountPoint) -> Result<Mounted, Error> {
    let gone = || {
        let source = io::Error::other("the mount is not there: it was unmounted or moved at once");
        kernel::Error::Mount { path: mount_point.path(), cause: source }
    };
    Ok(mount_point.uppermost()?.ok_or_else(gone)?)
}

impl Served {
    /// What `/proc/mounts` shows as the source.
    fn source(&self) -> String {
        match self {
            Served::View(view) => view.source(),
            Served::Directories(lookups) => lookups.source.clone(),
        }
    }

    fn manner(&self, options: &MountOptions) -> Manner {
        match self {
            Served::View(view) => {
                Manner::of(options, view.sharing, view.filesystem.has_labels(), &view.selection)
            }
            Served::Directories(lookups) => {
                Manner::of(options, Sharing::Nothing, false, &lookups.selection)
            }
        }
    }
}

/// The source of a mount of registries, as `/proc/mounts` shows it.
pub const REGISTRIES: &str = "registries";

/// Checks that no other image is mounted there, unless that may be.
fn check_free(mount_point: &MountPoint, options: &MountOptions) -> Result<(), Error> {
    match mount_point.uppermost()? {
        Some(other) if !options.over => {
            let (path, image) = (other.mount_point, other.source);
            Err(kernel::Error::Occupied { path, image }.into())
        }
        _ => Ok(()),
    }
}

fn serve(
    served: &Served,
    link: Link,
    options: &fuse::ServeOptions,
    requests: &Arc<Requests>,
) -> Result<Server, Error> {
    let space = match served {
        Served::View(view) => Space::new(Arc::clone(&view.filesystem)),
        Served::Directories(lookups) => Space::of_directories(Arc::clone(&lookups.directories)),
    };
    fuse::serve(link, space, options, Arc::clone(requests)).map_err(Error::Serve)
}

/// Unmounts one particular mount, and not what another process may have mounted there since.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mounted: Mounted,
}

impl Unmounter {
    /// Of a mount that another process serves.
    pub fn new(mounted: Mounted) -> Unmounter {
        Unmounter { mounted }
    }

    /// Ends the connection, before the process does: see [`kernel::abort`].
    pub fn abort(&self) {
        if let Err(e) = kernel::abort(self.mounted.connection)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::info!("aborting the connection: {e}");
        }
    }

    /// Detaches the mount at once, even while it is in use.
    ///
    /// # Errors
    /// See [`kernel::Error`].
    pub fn unmount_lazily(&self) -> Result<(), kernel::Error> {
        match kernel::unmount(&self.mounted, kernel::Unmount::Abort) {
            // It is unmounted already, or covered by another mount.
            Err(kernel::Error::NotOurs(_)) => Ok(()),
            result => result,
        }
    }
}
