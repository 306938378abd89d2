//! Assembly: from an image name to a file system, and from that to a mount. The only module that
//! knows every other.
//!
//! ```text
//! name -> source -> resolve -> layer::open_all -> tree::merge -> Filesystem      Image::open
//! Filesystem -> kernel::mount -> fuse::serve -> ready                            Mount::new
//! ```
//!
//! [`Image`] needs no kernel: listing, reading and exporting work on it alone. [`Mount`] puts one
//! at a place. Nothing of a layer is served before its first pass has proven it, because an image
//! that is not whole never becomes an [`Image`].

mod status;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::blob::{Access, BlobReader, Spans};
use crate::cache::Cache;
use crate::content::Contents;
use crate::fs::Filesystem;
use crate::fuse::{self, Ownership, Requests, Server, kernel};
use crate::image::Platform;
use crate::index::{LayerIndex, Proof};
use crate::layer::{self, Progress};
use crate::reference::{ImageName, Layout};
use crate::resolve::{self, ResolvedImage};
use crate::source::archive::{Archive, Files};
use crate::source::directory::Directory;
use crate::source::registry::{self, Registry, Traffic};
use crate::source::{self, Source, docker_archive, layout};
use crate::tree::{self, Tree};

pub use status::{LayerStatus, NetworkStatus, SpanStatus, Status, StatusSocket, query_status};

/// Why an image can't be opened or mounted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    #[error(transparent)]
    Layer(#[from] layer::Error),
    #[error(transparent)]
    Tree(#[from] tree::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error("starting to serve the mount: {0}")]
    Serve(io::Error),
}

/// How an image is opened.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// The platform wanted; the host's if not said.
    pub platform: Option<Platform>,
    /// Fetch nothing from the network.
    pub offline: bool,
    /// How registries are reached.
    pub registry: registry::Options,
    /// Longest time for one read.
    pub read_deadline: Duration,
    /// Most uncompressed bytes of one layer, if not the default.
    pub max_layer_bytes: Option<u64>,
    /// Layers passed over at the same time.
    pub parallel_layers: usize,
    /// Span files kept open.
    pub open_files: usize,
    /// Folder for temporary files where the cache offers none.
    pub temporary_folder: PathBuf,
}

impl Default for ImageOptions {
    fn default() -> ImageOptions {
        ImageOptions {
            platform: None,
            offline: false,
            registry: registry::Options::default(),
            read_deadline: Duration::from_secs(60),
            max_layer_bytes: None,
            parallel_layers: layer::Options::default().parallel,
            open_files: 512,
            temporary_folder: PathBuf::from("/tmp"),
        }
    }
}

/// An image, open: all layers proven and merged.
#[derive(Debug)]
pub struct Image {
    resolved: ResolvedImage,
    /// What was checked of each layer.
    proofs: Vec<Proof>,
    filesystem: Arc<Filesystem>,
    spans: Arc<Spans>,
    traffic: Arc<Traffic>,
}

impl Image {
    /// Resolves a name, opens its layers (passing over those that are new), and merges them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let traffic = Arc::new(Traffic::default());
        let source = open_source(name, cache, options, &traffic)?;
        let resolve_options =
            resolve::Options { platform: options.platform.clone(), offline: options.offline };
        let resolved = resolve::resolve(name, source.as_ref(), cache, &resolve_options)?;
        let layer_options = layer::Options {
            offline: options.offline,
            max_uncompressed_bytes: options.max_layer_bytes,
            parallel: options.parallel_layers,
        };
        let layers = layer::open_all(&resolved.layers, &source, cache, &layer_options, progress)?;
        let tree = merge(&layers)?;
        let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
        let readers = layers.iter().zip(&resolved.layers).map(|(index, layer)| {
            let access = Access {
                descriptor: layer.descriptor.clone(),
                source: Arc::clone(&source),
                offline: options.offline,
                windows: None,
            };
            let table = index.span_table(layer.descriptor.digest, layer.descriptor.size);
            Arc::new(BlobReader::new(table, access, Arc::clone(&spans)))
        });
        let contents = Contents::new(readers.collect());
        let filesystem = Arc::new(Filesystem::new(tree, contents, options.read_deadline));
        // The indexes go: the tree has taken what it needs, and they are as large as it is.
        let proofs = layers.iter().map(|layer| layer.proof()).collect();
        Ok(Image { resolved, proofs, filesystem, spans, traffic })
    }

    /// What the name resolved to.
    pub fn resolved(&self) -> &ResolvedImage {
        &self.resolved
    }

    /// Names, attributes and bytes.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

fn merge(layers: &[Arc<LayerIndex>]) -> Result<Tree, tree::Error> {
    let layers: Vec<&LayerIndex> = layers.iter().map(Arc::as_ref).collect();
    tree::merge(&layers)
}

/// The source that a name stands for.
fn open_source(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
    traffic: &Arc<Traffic>,
) -> Result<Arc<dyn Source>, source::Error> {
    let local = match name {
        ImageName::Registry(reference) => {
            let (reference, traffic) = (reference.clone(), Arc::clone(traffic));
            return Ok(Arc::new(Registry::new(reference, options.registry.clone(), traffic)));
        }
        ImageName::Local(local) => local,
    };
    let spool = cache.temporary_folder().unwrap_or_else(|| options.temporary_folder.clone());
    // A mount in the background leaves the current directory.
    let path = std::path::absolute(&local.path)
        .map_err(|source| source::Error::File { path: local.path.clone(), source })?;
    let selector = local.selector.clone();
    Ok(match local.layout {
        Layout::OciLayout => Arc::new(layout::Layout::open(Files::Folder(path), selector)?),
        Layout::OciArchive => {
            let files = Files::Archive(Archive::open_file(&path, &spool)?);
            Arc::new(layout::Layout::open(files, selector)?)
        }
        Layout::DockerArchive => Arc::from(docker_archive::open(&path, &spool, selector)?),
        Layout::Dir => Arc::new(Directory::open(path)?),
    })
}

/// How an image is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// Let other users in.
    pub allow_other: bool,
    /// Let the kernel check the image's permission bits; by default only where root mounts.
    pub strict_modes: bool,
    /// Whose the files are shown to be.
    pub ownership: Ownership,
}

/// An image at a place in the file system.
#[derive(Debug)]
pub struct Mount {
    image: Image,
    mount_point: PathBuf,
    connection: Option<u32>,
    requests: Arc<Requests>,
    server: Server,
}

impl Mount {
    /// Mounts an image. When this returns, the mount answers.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted.
    pub fn new(image: Image, mount_point: &Path, options: &MountOptions) -> Result<Mount, Error> {
        let mount_point = kernel::prepare(mount_point)?;
        let kernel_options = kernel::Options {
            source: image.resolved.name.clone(),
            allow_other: options.allow_other,
            default_permissions: options.strict_modes || kernel::is_root(),
        };
        let device = kernel::mount(&mount_point, &kernel_options)?;
        let requests = Arc::new(Requests::default());
        let serve_options = fuse::Options {
            ownership: options.ownership,
            default_permissions: kernel_options.default_permissions,
        };
        let server = serve(&image, device, &serve_options, &requests).inspect_err(|_| {
            if let Err(e) = kernel::unmount(&mount_point, kernel::Unmount::Lazy) {
                log::error!("{e}");
            }
        })?;
        let connection = connection_at(&mount_point);
        Ok(Mount { image, mount_point, connection, requests, server })
    }

    /// The real path of the mount point.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// The image that is mounted.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The kernel's requests so far.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// Something that can unmount this mount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { mount_point: self.mount_point.clone(), connection: self.connection }
    }

    /// A view on the mount's state for [`StatusSocket`].
    pub fn status_source(&self) -> status::StatusSource {
        status::StatusSource {
            image: self.image.resolved.clone(),
            mount_point: self.mount_point.clone(),
            proofs: self.image.proofs.clone(),
            inodes: self.image.filesystem.tree().len() as u64,
            spans: Arc::clone(&self.image.spans),
            traffic: Arc::clone(&self.image.traffic),
            requests: Arc::clone(&self.requests),
        }
    }

    /// The kernel's number of the connection.
    pub fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Waits until it has been unmounted, by whomever.
    ///
    /// # Errors
    /// The connection to the kernel broke.
    pub fn wait(self) -> io::Result<()> {
        self.server.wait()
    }
}

fn serve(
    image: &Image,
    device: OwnedFd,
    options: &fuse::Options,
    requests: &Arc<Requests>,
) -> Result<Server, Error> {
    let filesystem = Arc::clone(&image.filesystem);
    fuse::serve(device, filesystem, options, Arc::clone(requests)).map_err(Error::Serve)
}

/// The connection number of the mount that is uppermost at a place.
fn connection_at(mount_point: &Path) -> Option<u32> {
    kernel::uppermost(mount_point).ok()?.map(|mount| mount.connection)
}

/// Unmounts one particular mount, and not what somebody else may have mounted there since.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mount_point: PathBuf,
    connection: Option<u32>,
}

impl Unmounter {
    /// Detaches the mount at once, even while it is in use.
    ///
    /// # Errors
    /// See [`kernel::Error`].
    pub fn unmount_lazily(&self) -> Result<(), kernel::Error> {
        if self.connection.is_some() && connection_at(&self.mount_point) != self.connection {
            return Ok(());
        }
        kernel::unmount(&self.mount_point, kernel::Unmount::Lazy)
    }
}
