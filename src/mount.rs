//! Assembly: from an image name to a file system, and from that to a mount. The only module that
//! knows every other.
//!
//! ```text
//! name -> source -> resolve -> external::IndexFinder, layer::open_all -> tree::merge -> Filesystem      Image::open
//! Filesystem -> kernel::mount -> fuse::serve -> ready                            Mount::new
//!
//! name -> the same, layers from the top down until questions are answered             Excerpt::open
//! names -> the same for each, common layers once -> tree::join -> Filesystem     Joint::add, finish
//! ```
//!
//! [`Image`] needs no kernel: listing, reading and exporting work on it alone. [`Joint`] makes a
//! [`View`] of several; an image is a view as well. [`Mount`] puts a view at a place. Nothing of a layer is served before its first pass has proven it, because an image
//! that is not whole never becomes an [`Image`].

mod access;
mod excerpt;
mod joint;
mod probe;
mod publish;
mod status;
mod tag;
mod verify;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::artifact;
use crate::blob::{self, Access, BlobReader, Spans};
use crate::cache::{Asked, Cache, LayerName};
use crate::codec;
use crate::content::Contents;
use crate::digest::Digest;
use crate::erofs::Uuid;
use crate::external::IndexFinder;
use crate::fs::Filesystem;
use crate::fuse::kernel::{MountPoint, Mounted};
use crate::fuse::{self, Ownership, Requests, Server, erofs_mount, kernel, prefetcher};
use crate::index::{Budget, LayerIndex, Proof};
use crate::layer::{self, OpenLayer, OpenedLayers, Progress};
use crate::oci::{Document, Platform};
use crate::reference::{DirectoryName, ImageName, StoredImage};
use crate::resolve::{self, ResolvedImage, ResolvedLayer};
use crate::source::containerd::Containerd;
use crate::source::containers_storage::ContainersStorage;
use crate::source::docker_daemon::{DockerDaemon, Documents};
use crate::source::local_copies::LocalCopies;
use crate::source::registry::{self, Registry, Traffic};
use crate::source::registry_storage::RegistryStorage;
use crate::source::{self, Source, on_disk};
use crate::tree::{self, Sharing};
use tag::Tag;

pub use excerpt::Excerpt;
pub use joint::Joint;
pub use probe::{Probe, probe};
pub use publish::{
    CachedIndex, KnownIndexes, Publication, build_indexes, known_indexes, push_indexes,
};
pub use status::{
    ImageStatus, LayerStatus, Manner, NetworkStatus, ShownStatus, SpanStatus, Status, StatusSocket,
    TagStatus, query_status, status_sockets,
};
pub use verify::{LayerVerification, ProvenBefore, Verification, verify};

/// Images named as the source of a mount, in bytes. The kernel takes 4096.
const MAX_SOURCE_BYTES: usize = 2048;

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
    #[error(transparent)]
    Metadata(#[from] erofs_mount::Error),
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Read(#[from] blob::Error),
    #[error("{0} is not in a registry: there is nowhere to push to")]
    NoRegistry(String),
    #[error(
        "{missing} of {bytes} uncompressed bytes did not stay in the cache: its limit (--cache-size) \
         or its disk is too small"
    )]
    NotKept { missing: u64, bytes: u64 },
    #[error("two images would have the directory `{0}`")]
    DirectoryTaken(DirectoryName),
    #[error("reading a few bytes of a layer: {0}")]
    Probe(io::Error),
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
    /// Use layer indexes among the referrers, which nothing binds to the image.
    pub trust_referrers: bool,
    /// Take nothing for granted: stream every layer that has not been proven.
    pub prove: bool,
    /// Ask the image's registry for the manifest and each layer before anything of them is shown that is
    /// on this machine already.
    pub check_access: bool,
    /// Take nothing from the cache: read documents and layers anew.
    pub again: bool,
    /// The user exempts the registry from TLS, or from the check of its certificate.
    pub is_exempt: bool,
    /// How registries are reached.
    pub registry: registry::Options,
    /// Where stores of other programs are looked for.
    pub places: source::Places,
    /// Longest time for one read.
    pub read_deadline: Duration,
    /// Most uncompressed bytes of one layer, if not the default.
    pub max_layer_bytes: Option<u64>,
    /// What decompressing a layer may cost.
    pub codec: codec::Limits,
    /// Most bytes of memory for names and attributes of one image, if not the default of [`Budget`].
    pub max_metadata_bytes: Option<u64>,
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
            trust_referrers: false,
            prove: false,
            check_access: false,
            again: false,
            is_exempt: false,
            registry: registry::Options::default(),
            places: source::Places::default(),
            read_deadline: Duration::from_secs(60),
            max_layer_bytes: None,
            codec: codec::Limits::default(),
            max_metadata_bytes: None,
            parallel_layers: layer::Options::default().parallel,
            open_files: 512,
            temporary_folder: PathBuf::from("/tmp"),
        }
    }
}

impl ImageOptions {
    fn of_resolving(&self) -> resolve::Options {
        let platform = self.platform.clone();
        let ImageOptions { offline, again, is_exempt, .. } = *self;
        resolve::Options { platform, offline, again, is_exempt }
    }

    /// The same, but the blobs of an image in a registry come from there alone.
    fn asking_only_where_it_is(&self) -> ImageOptions {
        let places = source::Places { content_stores: Vec::new(), ..self.places.clone() };
        ImageOptions { places, ..self.clone() }
    }
}

/// An image that is resolved, with all that opening its layers needs.
struct Opening<'a> {
    resolved: ResolvedImage,
    source: Arc<dyn Source>,
    finder: Arc<IndexFinder>,
    traffic: Arc<Traffic>,
    tag: Option<Arc<Tag>>,
    cache: &'a Arc<Cache>,
    options: layer::Options,
}

impl<'a> Opening<'a> {
    fn new(
        name: &ImageName,
        cache: &'a Arc<Cache>,
        options: &ImageOptions,
    ) -> Result<Opening<'a>, Error> {
        Opening::counting(name, cache, options, Arc::default())
    }

    /// The same, counting with others what goes over the network.
    fn counting(
        name: &ImageName,
        cache: &'a Arc<Cache>,
        options: &ImageOptions,
        traffic: Arc<Traffic>,
    ) -> Result<Opening<'a>, Error> {
        let (source, registry) = open_source(name, cache, options, &traffic)?;
        let resolve_options = options.of_resolving();
        let resolved = resolve::resolve(name, source.as_ref(), cache, &resolve_options)?;
        if options.check_access {
            access::confirm(&resolved, source.as_ref(), options.parallel_layers)?;
        }
        let stored = resolved.layers.iter().map(|layer| layer.descriptor.size);
        let stored = stored.fold(0, u64::saturating_add);
        let budget =
            options.max_metadata_bytes.map_or_else(|| Budget::for_layers(stored), Budget::of);
        let finder = Arc::new(IndexFinder::new(
            &resolved,
            Arc::clone(&source),
            registry,
            Arc::clone(cache),
            options.trust_referrers,
            options.offline,
            Arc::new(budget),
        ));
        let tag = Tag::of(name, &resolved, &source, options.offline);
        let options = layer::Options {
            prove: options.prove,
            only_its_blob: options.check_access,
            again: options.again,
            offline: options.offline,
            max_uncompressed_bytes: options.max_layer_bytes,
            codec: options.codec,
            parallel: options.parallel_layers,
            keep_spans: true,
        };
        Ok(Opening { resolved, source, finder, traffic, tag, cache, options })
    }

    fn layers(
        &self,
        layers: &[ResolvedLayer],
        known: &OpenedLayers,
        progress: &dyn Progress,
    ) -> Result<Vec<OpenLayer>, layer::Error> {
        let Opening { source, finder, cache, options, .. } = self;
        layer::open_all(layers, source, cache, finder, known, options, progress)
    }

    /// The bytes of a layer by way of an index, whose name in the cache is `name`.
    fn reader(
        &self,
        layer: &ResolvedLayer,
        index: &LayerIndex,
        name: LayerName,
        spans: &Arc<Spans>,
    ) -> Arc<BlobReader> {
        let access = Access {
            descriptor: layer.descriptor.clone(),
            source: Arc::clone(&self.source),
            offline: self.options.offline,
            codec: self.options.codec,
            windows: Some(self.finder.windows(index)),
            index_name: name,
        };
        let table = index.span_table(layer.descriptor.digest, layer.descriptor.size);
        Arc::new(BlobReader::new(table, access, Arc::clone(spans)))
    }

    fn cached(&self, layer: &ResolvedLayer) -> Option<OpenLayer> {
        if self.options.again {
            return None;
        }
        layer::cached(layer, self.cache, &self.finder, &self.options)
    }
}

/// What a name means now, without opening any layer.
///
/// # Errors
/// [`Error::Source`], [`Error::Resolve`].
pub fn resolve(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<ResolvedImage, Error> {
    let (source, _) = open_source(name, cache, options, &Arc::default())?;
    let resolve_options = options.of_resolving();
    Ok(resolve::resolve(name, source.as_ref(), cache, &resolve_options)?)
}

/// An image, open: all layers indexed and merged.
#[derive(Debug)]
pub struct Image {
    resolved: ResolvedImage,
    source: Arc<dyn Source>,
    tag: Option<Arc<Tag>>,
    /// What was checked of each layer.
    proofs: Vec<Proof>,
    filesystem: Arc<Filesystem>,
    spans: Arc<Spans>,
    traffic: Arc<Traffic>,
}

impl Image {
    /// Resolves a name, opens its layers (passing over those that nobody knows), and merges them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        name: &ImageName,
        cache: &Arc<Cache>,
        options: &ImageOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let opening = Opening::new(name, cache, options)?;
        let layers =
            opening.layers(&opening.resolved.layers, &OpenedLayers::default(), progress)?;
        let indexes: Vec<&LayerIndex> = layers.iter().map(|open| open.index.as_ref()).collect();
        let (mut tree, origins) = tree::merge_with_origins(&indexes)?;
        tree.number(&origins, &indexes);
        let spans = Arc::new(Spans::new(Arc::clone(cache), options.open_files));
        // The indexes go: the tree has taken what it needs, and they are as large as it is.
        let proofs = layers.iter().map(|open| open.index.proof()).collect();
        let readers = layers
            .into_iter()
            .zip(&opening.resolved.layers)
            .map(|(open, layer)| opening.reader(layer, &open.index, open.name, &spans));
        let contents = Contents::new(readers.collect());
        let filesystem = Arc::new(Filesystem::new(tree, contents, options.read_deadline));
        let Opening { resolved, source, tag, traffic, .. } = opening;
        Ok(Image { resolved, source, tag, proofs, filesystem, spans, traffic })
    }

    /// Brings everything into the cache that is not there yet, layers side by side; how many
    /// uncompressed bytes that are in all.
    ///
    /// # Errors
    /// The first thing that can't be had, or the cache is too small to keep all of it.
    pub fn pull(
        &self,
        read_deadline: Duration,
        parallel: usize,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let layers = self.filesystem.contents().layers();
        let bytes = layers.iter().map(|layer| layer.uncompressed_size()).sum();
        progress.start(layers.len(), layers.len(), bytes);
        let next = AtomicUsize::new(0);
        let results = thread::scope(|scope| {
            let workers = (0..parallel.clamp(1, layers.len().max(1))).map(|_| {
                scope.spawn(|| {
                    while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        layer.fetch_all(read_deadline, &|bytes| progress.advance(bytes))?;
                        progress.layer_done();
                    }
                    Ok(())
                })
            });
            let workers: Vec<_> = workers.collect();
            let died = |_| Err(blob::Error::Died("pulling".to_owned()));
            workers.into_iter().map(|w| w.join().unwrap_or_else(died)).collect::<Vec<_>>()
        });
        results.into_iter().collect::<Result<(), blob::Error>>()?;
        match layers.iter().map(|layer| layer.uncached_bytes()).sum() {
            0 => Ok(bytes),
            missing => Err(Error::NotKept { missing, bytes }),
        }
    }

    /// What has been checked of each layer, base first.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
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

/// What a mount shows: an image, or several with a directory each.
#[derive(Debug)]
pub struct View {
    images: Vec<Shown>,
    filesystem: Arc<Filesystem>,
    spans: Arc<Spans>,
    traffic: Arc<Traffic>,
    sharing: Sharing,
}

/// An image in a view.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its directory; `None` if it is the whole view.
    pub directory: Option<DirectoryName>,
    /// What its name resolved to.
    pub image: ResolvedImage,
    /// What was checked of each layer, base first.
    pub proofs: Vec<Proof>,
    /// Where it is.
    source: Arc<dyn Source>,
    /// Its tag, to ask whether it has moved.
    tag: Option<Arc<Tag>>,
}

impl From<Image> for View {
    fn from(image: Image) -> View {
        let Image { resolved, source, tag, proofs, filesystem, spans, traffic } = image;
        let shown = Shown { directory: None, image: resolved, proofs, source, tag };
        View { images: vec![shown], filesystem, spans, traffic, sharing: Sharing::Equal }
    }
}

impl View {
    /// The images, in the order in which they were named.
    pub fn images(&self) -> &[Shown] {
        &self.images
    }

    /// Names, attributes and bytes.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// An UUID made from the digests of the images and the names of their directories (version 8, RFC 9562).
    fn uuid(&self) -> Uuid {
        let mut text = String::new();
        for shown in &self.images {
            let directory = shown.directory.as_ref().map_or("", |directory| directory.as_str());
            text.push_str(&format!("{} {directory}\n", shown.image.digest));
        }
        let mut uuid = Uuid::default();
        uuid.copy_from_slice(&Digest::sha256(text.as_bytes()).hash()[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// What `/proc/mounts` shows as the source: the names of the images.
    fn source(&self) -> String {
        let mut source = String::new();
        for (at, shown) in self.images.iter().enumerate() {
            let name = &shown.image.name;
            if at > 0 && source.len() + name.len() > MAX_SOURCE_BYTES {
                source.push_str(&format!(",+{}", self.images.len() - at));
                break;
            }
            if at > 0 {
                source.push(',');
            }
            source.push_str(name);
        }
        source
    }
}

/// The source that a name stands for, and the registry if it is one.
fn open_source(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
    traffic: &Arc<Traffic>,
) -> Result<(Arc<dyn Source>, Option<Registry>), source::Error> {
    let local = match name {
        ImageName::Registry(reference) => {
            let (reference, traffic) = (reference.clone(), Arc::clone(traffic));
            let registry = Registry::new(reference, options.registry.clone(), traffic)?;
            let nearby =
                LocalCopies::new(Arc::new(registry.clone()), &options.places.content_stores);
            return Ok((Arc::new(nearby), Some(registry)));
        }
        ImageName::Local(local) => local,
        ImageName::Stored(stored) => return Ok((open_stored(stored, cache, options)?, None)),
    };
    Ok((on_disk::open(local, &spool(cache, options))?, None))
}

/// A folder for temporary files.
fn spool(cache: &Cache, options: &ImageOptions) -> PathBuf {
    cache.temporary_folder().unwrap_or_else(|| options.temporary_folder.clone())
}

/// An image in a store of another program.
fn open_stored(
    stored: &StoredImage,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<Arc<dyn Source>, source::Error> {
    let spool = spool(cache, options);
    Ok(match stored {
        StoredImage::Containerd { root, image } => {
            let named = root.as_deref().map(absolute).transpose()?.map(|root| vec![root]);
            let roots = named.as_ref().unwrap_or(&options.places.containerd);
            Arc::new(Containerd::open(roots, image)?)
        }
        StoredImage::RegistryStorage { path, image } => {
            Arc::new(RegistryStorage::open(&absolute(path)?, image.clone())?)
        }
        StoredImage::ContainersStorage { root, additional, image } => {
            let named = root.as_deref().map(absolute).transpose()?.map(|root| vec![root]);
            let usual = &options.places.containers_storage;
            let roots = named.as_ref().unwrap_or(usual);
            let additional = [&additional[..], usual].concat();
            Arc::new(ContainersStorage::open(roots, &additional, image, spool)?)
        }
        StoredImage::DockerDaemon { image } => {
            let daemon = DockerDaemon::open(
                &options.places.docker_sockets,
                image,
                spool,
                options.read_deadline,
            )?;
            Arc::new(remembered(daemon, cache, options.platform.as_ref())?)
        }
    })
}

/// An engine's image with its documents from the cache, so that it is not taken from the engine again
/// while its layers are in the cache as well; or else with its documents put there.
fn remembered(
    daemon: DockerDaemon,
    cache: &Cache,
    platform: Option<&Platform>,
) -> Result<DockerDaemon, source::Error> {
    let key = format!("docker-daemon:{}", daemon.id());
    if let Some(root) = cache.tag(&key).and_then(|record| cache.blob(&record.digest))
        && is_final(&root, platform)
    {
        return Ok(daemon.remembering(root));
    }
    if let Some(Documents { root, others }) = daemon.documents()? {
        for document in others.iter().chain([&root]) {
            cache.put_blob(&Digest::sha256(document), document);
        }
        cache.put_tag(&key, Digest::sha256(&root), Asked::Checked);
    }
    Ok(daemon)
}

/// Whether nothing that an engine may pull under the same ID later would be shown instead: of an index
/// it lists what the engine had, and what was not wanted then may have been all.
fn is_final(root: &[u8], platform: Option<&Platform>) -> bool {
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    match Document::parse(root, None) {
        Ok(Document::Manifest(_)) => true,
        Ok(Document::Index(index)) => {
            let images = index.entries.usable().filter(|entry| !entry.is_typed());
            let mut listed = images.filter_map(|image| image.platform.as_ref());
            listed.any(|platform| wanted.rank(platform) == Some(0))
        }
        Err(_) => false,
    }
}

/// An absolute path, because a mount in the background leaves the current directory.
fn absolute(path: &Path) -> Result<PathBuf, source::Error> {
    std::path::absolute(path)
        .map_err(|source| source::Error::File { path: path.to_owned(), source })
}

/// How the kernel is given what a walk will read next.
#[derive(Clone, Debug, Default)]
pub enum Prefetch {
    /// Not at all.
    #[default]
    Off,
    /// The serving process gives it small files of the cache before it asks for them.
    Push,
    /// This program, in a process of its own, asks before the walk does.
    Process(prefetcher::Program),
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
    /// How the kernel is given what a walk will read next.
    pub prefetch: Prefetch,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
    /// Mount over another image that is mounted there.
    pub over: bool,
    /// Give the kernel names and attributes as an image of its own ([`metadata`]): any user may come
    /// in and permissions are checked, whatever the other options say; there is a prefetcher only if the
    /// image is in the cache.
    pub kernel_metadata: bool,
    /// Most bytes of memory for that image, if not a share of the machine's.
    pub max_kernel_metadata_bytes: Option<u64>,
}

impl MountOptions {
    /// Whether the kernel checks the image's permission bits.
    fn checks_modes(&self) -> bool {
        // Root of a user namespace has no rights to the files of users that the namespace lacks.
        let is_root = kernel::is_root() && kernel::has_all_ids();
        self.strict_modes || self.kernel_metadata || is_root
    }
}

/// An image, or several, at a place in the file system.
#[derive(Debug)]
pub struct Mount {
    view: View,
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
        if !options.over
            && let Some(other) = mount_point.uppermost()?
        {
            let (path, image) = (other.mount_point, other.source);
            return Err(kernel::Error::Occupied { path, image }.into());
        }
        if options.kernel_metadata {
            return Mount::with_kernel_metadata(view, &mount_point, options);
        }
        let kernel_options = kernel::Options {
            source: view.source(),
            allow_other: options.allow_other,
            default_permissions: options.checks_modes(),
            no_exec: options.no_exec,
        };
        let channel = kernel::mount(&mount_point, &kernel_options)?;
        // Without it nothing is served, and the connection ends.
        let mounted = found(&mount_point)?;
        // What is open below the mount could not be unmounted.
        drop(mount_point);
        let manner = Manner::of(options, view.sharing);
        let requests = Arc::new(Requests::default());
        let serve_options = fuse::Options {
            ownership: options.ownership,
            default_permissions: kernel_options.default_permissions,
            prefetch: match &options.prefetch {
                Prefetch::Off => fuse::Prefetch::Off,
                Prefetch::Push => fuse::Prefetch::Push,
                Prefetch::Process(program) => {
                    let mount_point = mounted.mount_point.clone();
                    let device_minor = mounted.connection;
                    let place = prefetcher::Place { mount_point, device_minor, devices: None };
                    fuse::Prefetch::Process(program.clone(), place)
                }
            },
        };
        let server = serve(&view, channel, &serve_options, &requests).inspect_err(|_| {
            if let Err(e) = kernel::unmount(&mounted, kernel::Unmount::Lazy) {
                log::error!("{e}");
            }
        })?;
        let mount_point = mounted.mount_point.clone();
        Ok(Mount { view, mount_point, mounted, manner, requests, server })
    }

    fn with_kernel_metadata(
        view: View,
        mount_point: &MountPoint,
        options: &MountOptions,
    ) -> Result<Mount, Error> {
        let requests = Arc::new(Requests::default());
        let manner = Manner::of(options, view.sharing);
        let options = erofs_mount::Options {
            source: view.source(),
            ownership: options.ownership,
            uuid: view.uuid(),
            prefetcher: match &options.prefetch {
                Prefetch::Process(program) => Some(program.clone()),
                Prefetch::Push | Prefetch::Off => None,
            },
            no_exec: options.no_exec,
            max_bytes: options.max_kernel_metadata_bytes,
        };
        let server = erofs_mount::mount(mount_point, &view.filesystem, &options, &requests)?;
        let mounted = found(mount_point)?;
        let mount_point = mounted.mount_point.clone();
        Ok(Mount { view, mount_point, mounted, manner, requests, server })
    }

    /// The real path of the mount point.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// What is mounted.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The kernel's requests so far.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// Something that can unmount this mount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { mounted: self.mounted.clone() }
    }

    /// A view on the mount's state for [`StatusSocket`].
    pub fn status_source(&self) -> status::StatusSource {
        status::StatusSource {
            images: self.view.images.clone(),
            mounted_at: self.mount_point.display().to_string(),
            device: Some(self.mounted.device),
            manner: self.manner.clone(),
            inodes: self.view.filesystem.tree().len() as u64,
            spans: Arc::clone(&self.view.spans),
            traffic: Arc::clone(&self.view.traffic),
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

/// What has just been mounted on a directory.
fn found(mount_point: &MountPoint) -> Result<Mounted, Error> {
    let gone = || {
        let source = io::Error::other("the mount is not there: it was unmounted or moved at once");
        kernel::Error::Mount { path: mount_point.path(), source }
    };
    Ok(mount_point.uppermost()?.ok_or_else(gone)?)
}

fn serve(
    view: &View,
    device: OwnedFd,
    options: &fuse::Options,
    requests: &Arc<Requests>,
) -> Result<Server, Error> {
    let filesystem = Arc::clone(&view.filesystem);
    fuse::serve(device, filesystem, options, Arc::clone(requests)).map_err(Error::Serve)
}

/// Unmounts one particular mount, and not what another process may have mounted there since.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mounted: Mounted,
}

impl Unmounter {
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
