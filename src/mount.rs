//! What keeps running: a view of images at a place in the file system, its status, and its end.
//!
//! ```text
//! Mount::new      View -> Attached (the kernel mounts) -> fuse::serve -> ready     (or erofs_mount)
//! Mount::serve    the same where another process has mounted
//! Mount::resume   the same with a connection that a dead process has served
//! Mount::wait     until it is unmounted, by this process or another
//! StatusSocket    what it tells of itself meanwhile
//! ```
//!
//! A [`View`] is whole before it comes here ([`crate::image`]), so nothing that a mount does can show an
//! image in part.

mod attached;
mod error;
mod kept;
mod options;
mod prover;
mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::fuse::kernel::{MountPoint, Mounted};
use crate::fuse::{self, Link, PageCache, Requests, Server, erofs_mount, kernel, prefetcher};
use crate::image::{Opened, Selection, Shown, View};
use crate::space::{Directories, Space};
use crate::tree::Sharing;

use prover::{Proven, Prover};
use status::Images;

pub use attached::{Attached, check_free, found};
pub use error::Error;
pub use kept::Kept;
pub use options::{MountOptions, Prefetch};
pub use status::{FailedFile, PanicStatus, ReadStatus, RefusedStatus, WaitingRead};
pub use status::{
    ImageStatus, LayerStatus, Manner, NetworkStatus, ShownStatus, SpanStatus, Status, StatusError,
    StatusSocket, StatusSource, Supervision, TagStatus, query_status, status_sockets,
};

/// What a mount shows.
#[derive(Debug)]
pub enum Served {
    /// Images, whole.
    View(View),
    /// What is looked up.
    Directories(Lookups),
}

impl From<View> for Served {
    fn from(view: View) -> Served {
        Served::View(view)
    }
}

impl From<Lookups> for Served {
    fn from(lookups: Lookups) -> Served {
        Served::Directories(lookups)
    }
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
    /// Whether layers may be shown before they are proven.
    pub proves_later: bool,
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
    /// Lives as long as the mount does.
    _prover: Option<Prover>,
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

    /// Serves something where another process has mounted it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn serve(
        served: impl Into<Served>,
        attached: Attached,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        Mount::of_attached(served.into(), attached, options)
    }

    /// Serves the contents of a view that another process is about to mount. When this returns, they are, and
    /// [`BegunMount::finish`] is to follow.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(
        view: impl Into<View>,
        parts: erofs_mount::Parts,
        options: &MountOptions,
    ) -> Result<BegunMount, Error> {
        let view = view.into();
        let requests = Arc::new(Requests::default());
        let erofs = erofs_options(&view, options);
        let begun = erofs_mount::begin(parts, &view.filesystem, &erofs, &requests)?;
        let manner = view_manner(&view, options);
        Ok(BegunMount { view, manner, requests, options: erofs, begun })
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
    /// See [`Error`]; the mount stays as it is. [`Error::Different`] if it is not what is mounted.
    pub fn resume(
        served: impl Into<Served>,
        kept: Kept,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let served = served.into();
        if !kept.is_of(served.checksum()) {
            return Err(Error::Different);
        }
        if let Served::Directories(lookups) = &served {
            lookups.directories.catch_up().map_err(Error::Serve)?;
        }
        let Kept { connection, mounted, .. } = kept;
        let requests = Arc::new(Requests::default());
        let mount_point = mounted.mount_point.clone();
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
        Ok(Mount::running(served, mount_point, mounted, manner, requests, server))
    }

    fn served(
        served: Served,
        mount_point: MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let attached = Attached::new(mount_point, &served.source(), options)?;
        let mounted = attached.mounted.clone();
        Mount::of_attached(served, attached, options).inspect_err(|_| {
            if let Err(e) = kernel::unmount(&mounted, kernel::Unmount::Lazy) {
                log::error!("{e}");
            }
        })
    }

    fn of_attached(
        served: Served,
        attached: Attached,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let Attached { device, mounted } = attached;
        let manner = served.manner(options);
        let requests = Arc::new(Requests::default());
        let serve_options = serve_options(options, &mounted);
        let server = serve(&served, Link::New(device), &serve_options, &requests)?;
        let mount_point = mounted.mount_point.clone();
        Ok(Mount::running(served, mount_point, mounted, manner, requests, server))
    }

    fn running(
        served: Served,
        mount_point: PathBuf,
        mounted: Mounted,
        manner: Manner,
        requests: Arc<Requests>,
        server: Server,
    ) -> Mount {
        let _prover = served.proven(&manner, &server).and_then(Prover::start);
        Mount { served, mount_point, mounted, manner, requests, server, _prover }
    }

    fn with_kernel_metadata(
        view: View,
        mount_point: &MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let stage = erofs_mount::Stage::new(&view.source(), std::process::id())?;
        let begun = Mount::begin(view, stage.parts()?, options)?;
        let never = erofs_mount::never_abandoned;
        let attached = stage.attach(begun.contents(), mount_point, options.no_exec, &never)?;
        Ok(begun.finish(found(mount_point)?, attached))
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

    /// What another process needs to go on with it, beside what names were [written down](crate::space::Journal).
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn kept(&self) -> io::Result<Kept> {
        let connection = self.server.connection().duplicate()?;
        Ok(Kept::new(connection, self.mounted.clone(), self.served.kept()))
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

/// A view whose contents are served, and that is not mounted yet.
#[derive(Debug)]
pub struct BegunMount {
    view: View,
    manner: Manner,
    requests: Arc<Requests>,
    options: erofs_mount::ErofsMountOptions,
    begun: erofs_mount::Begun,
}

impl BegunMount {
    /// What is served.
    pub fn contents(&self) -> erofs_mount::Contents {
        self.begun.contents()
    }

    /// Goes on once it is mounted.
    pub fn finish(self, mounted: Mounted, attached: erofs_mount::Attached) -> Mount {
        let BegunMount { view, manner, requests, options, begun } = self;
        let mount_point = mounted.mount_point.clone();
        let server = begun.finish(mount_point.clone(), attached, &view.filesystem, &options);
        let served = Served::View(view);
        Mount::running(served, mount_point, mounted, manner, requests, server)
    }
}

/// How a plain mount is served.
fn serve_options(options: &MountOptions, mounted: &Mounted) -> fuse::ServeOptions {
    fuse::ServeOptions {
        ownership: options.ownership,
        default_permissions: options.checks_modes(),
        suspects: options.suspects.clone(),
        prefetch: match &options.prefetch {
            Prefetch::Off => fuse::Prefetch::Off,
            Prefetch::Push => fuse::Prefetch::Push,
            Prefetch::Process(program) => {
                let mount_point = mounted.mount_point.clone();
                let device_minor = mounted.connection;
                let place = prefetcher::Target { mount_point, device_minor, devices: None };
                fuse::Prefetch::Process(Arc::clone(program), place)
            }
        },
    }
}

/// How a view is mounted whose names and attributes the kernel has to itself.
fn erofs_options(view: &View, options: &MountOptions) -> erofs_mount::ErofsMountOptions {
    erofs_mount::ErofsMountOptions {
        source: view.source(),
        ownership: options.ownership,
        uuid: view.uuid(),
        prefetcher: match &options.prefetch {
            Prefetch::Process(program) => Some(Arc::clone(program)),
            Prefetch::Push | Prefetch::Off => None,
        },
        no_exec: options.no_exec,
        max_bytes: options.max_kernel_metadata_bytes,
        suspects: options.suspects.clone(),
    }
}

impl Served {
    /// What outlives the process.
    fn kept(&self) -> (Vec<Opened>, u64) {
        match self {
            Served::View(view) => {
                let images = view.images.iter().map(Shown::opened).collect();
                (images, view.filesystem.tree().checksum())
            }
            Served::Directories(lookups) => lookups.directories.kept(),
        }
    }

    /// A checksum of what is shown from the beginning, for [`Kept::is_of`].
    pub fn checksum(&self) -> u64 {
        self.kept().1
    }

    /// What `/proc/mounts` shows as the source.
    pub fn source(&self) -> String {
        match self {
            Served::View(view) => view.source(),
            Served::Directories(lookups) => lookups.source.clone(),
        }
    }

    /// What of it is to be proven while it is in use.
    fn proven(&self, manner: &Manner, server: &Server) -> Option<Proven> {
        match self {
            Served::View(view) => {
                let pages = || PageCache::of(server.connection()).ok();
                // The kernel's own file system has no way to be told.
                let pages = (!manner.kernel_metadata).then(pages).flatten();
                Some(Proven::View(Arc::clone(&view.filesystem), pages))
            }
            Served::Directories(lookups) => lookups
                .proves_later
                .then(|| Proven::Later(Images::Of(Arc::clone(&lookups.directories)))),
        }
    }

    fn manner(&self, options: &MountOptions) -> Manner {
        match self {
            Served::View(view) => view_manner(view, options),
            Served::Directories(lookups) => {
                Manner::of(options, Sharing::Nothing, false, &lookups.selection)
            }
        }
    }
}

fn view_manner(view: &View, options: &MountOptions) -> Manner {
    Manner::of(options, view.sharing, view.filesystem.has_labels(), &view.selection)
}

/// The source of a mount of registries, as `/proc/mounts` shows it.
pub const REGISTRIES: &str = "registries";

/// The same of a store of images for engines.
pub const STORE: &str = "image-store";

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
