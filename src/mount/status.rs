//! What a mount says about itself, over a Unix socket.
//!
//! Each mount listens on a socket named after the kernel's number of its connection, so that
//! a program that sees a mount in `/proc/self/mountinfo` finds its process. A client that connects gets
//! one JSON document. The socket is a convenience: a mount works without it.
//!
//! Where a supervisor starts the process that serves, the socket is the supervisor's. It says first that it lives, by an
//! empty line, which JSON may begin with; then it hands the client on to the process that serves. If there is none just
//! now it says so itself: who would clean up after a dead process must not meet a mount that is about to go on.
//!
//! Where the mount is now does not stand there: the process knows where it mounted, and nothing of other
//! places that it was bound or moved to since.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::options::MountOptions;
use crate::blob::{BlobReader, Spans};
use crate::fuse::{FailedPath, Ownership, ReadReport, Requests, SlowRead, panics};
use crate::image::{Selection, Shown};
use crate::source::registry::Traffic;
use crate::space::Directories;
use crate::tree::Sharing;

/// Longest wait for a status, either way.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long registries have to say what tags mean now; well within [`TIMEOUT`].
const TAG_TIMEOUT: Duration = Duration::from_secs(2);

/// What a supervisor says first.
const LIVES: &[u8] = b"\n";

/// How often a supervisor is asked while what serves dies.
const TRIES: u32 = 5;

/// Largest status document read, in bytes.
const MAX_STATUS_BYTES: u64 = 16 << 20;

/// The state of a mount.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// What it shows.
    #[serde(flatten)]
    pub shown: ShownStatus,
    /// The process that is there as long as it is mounted: SIGTERM ends the mount.
    pub pid: u32,
    /// The process that serves it, if that is another one, which the first starts again when it dies.
    #[serde(default)]
    pub worker: Option<u32>,
    /// How many times it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// Where it was mounted.
    #[serde(default)]
    pub mounted_at: String,
    /// Major and minor number of the device that its files are on.
    #[serde(default)]
    pub device: Option<(u32, u32)>,
    /// How it was mounted.
    #[serde(default)]
    pub options: Manner,
    /// Number of files, directories and so on.
    pub inodes: u64,
    /// What went over the network.
    pub network: NetworkStatus,
    /// Reads of spans, by whether they were cached.
    pub spans: SpanStatus,
    /// Files that the kernel was given before it asked for them.
    #[serde(default)]
    pub pushed: u64,
    /// Requests of the kernel that were the prefetcher's doing, which are not among the others.
    #[serde(default)]
    pub ahead: u64,
    /// Requests of the kernel by kind.
    pub requests: serde_json::Map<String, serde_json::Value>,
    /// The last reasons for failed reads, oldest first.
    pub recent_errors: Vec<String>,
    /// When it was mounted, in seconds since the epoch; 0 if that is not known.
    #[serde(default)]
    pub started: u64,
    /// Reads that had to wait.
    #[serde(default)]
    pub reads: ReadStatus,
    /// Files that could not be read, the one that failed last at the end.
    #[serde(default)]
    pub failed_files: Vec<FailedFile>,
    /// Panics in the process that serves it.
    #[serde(default)]
    pub panics: PanicStatus,
    /// Requests that were refused, as they have ended other processes.
    #[serde(default)]
    pub refused: RefusedStatus,
}

/// Reads of a mount that had to wait for what is not on this machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ReadStatus {
    /// How many wait now.
    pub waiting: usize,
    /// Those that have waited longest, the longest first.
    pub oldest: Vec<WaitingRead>,
    /// The one that has waited longest of those that have ended, and when it ended, in seconds since the epoch.
    pub slowest: Option<WaitingRead>,
}

/// A read that waits, or has waited.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WaitingRead {
    /// The file, without a slash in front.
    pub path: String,
    /// Where in it the read begins.
    pub offset: u64,
    /// For how long, in seconds.
    pub seconds: f64,
    /// When it ended, in seconds since the epoch, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

impl WaitingRead {
    fn of(read: &SlowRead, ended: Option<SystemTime>) -> WaitingRead {
        WaitingRead {
            path: String::from_utf8_lossy(&read.path).into_owned(),
            offset: read.offset,
            seconds: read.took.as_secs_f64(),
            ended: ended.map(since_epoch),
        }
    }
}

/// A file that could not be read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FailedFile {
    /// The file, without a slash in front.
    pub path: String,
    /// How many reads of it have failed.
    pub count: u64,
    /// When the last of them failed, in seconds since the epoch.
    pub last: u64,
    /// Why.
    pub cause: String,
}

impl FailedFile {
    fn of(failed: FailedPath) -> FailedFile {
        let FailedPath { path, count, last, cause } = failed;
        FailedFile { path, count, last: since_epoch(last), cause }
    }
}

/// Requests that were refused, as they have ended several processes that served the mount.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RefusedStatus {
    /// How many there were.
    pub count: u64,
    /// The last of them, with its path.
    pub last: Option<String>,
}

/// Panics in a process, which are defects of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PanicStatus {
    /// How many there were.
    pub count: u64,
    /// The last of them, with its place.
    pub last: Option<String>,
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What the process that starts another one to serve a mount knows of it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Supervision {
    /// That process itself.
    pub pid: u32,
    /// How many times it has started the other again.
    pub restarts: u32,
}

/// What it says for the other where there is none.
#[derive(Deserialize, Serialize)]
struct Restarting {
    restarting: Supervision,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no process to be asked, or it does not answer.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The process that serves has died, and another is being started.
    #[error(
        "process {} starts the process that serves it again, for the {}. time", .0.pid, .0.restarts + 1
    )]
    Restarting(Supervision),
    /// The supervisor lives, and the process that serves does not answer.
    #[error("the process that serves it does not answer")]
    Silent,
}

impl StatusError {
    /// What kind of error it is for who does not know of supervisors.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            StatusError::Socket(error) => error.kind(),
            StatusError::Restarting(_) => io::ErrorKind::Interrupted,
            StatusError::Silent => io::ErrorKind::TimedOut,
        }
    }

    /// Whether there is a supervisor, so that the mount is not dead whatever it answers.
    pub fn is_supervised(&self) -> bool {
        !matches!(self, StatusError::Socket(_))
    }
}

/// How something was mounted, as far as those who read it notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "named after what a mount is asked for")]
pub struct Manner {
    pub allow_other: bool,
    pub strict_modes: bool,
    /// Owner and group of all files, if not as in the image.
    pub owner: Option<(u32, u32)>,
    pub kernel_metadata: bool,
    pub noexec: bool,
    pub separate_inodes: bool,
    #[serde(default)]
    pub provenance: bool,
    /// The image whose files are left out.
    #[serde(default)]
    pub exclude_base: Option<String>,
    /// How artifacts are shown.
    #[serde(default)]
    pub artifacts: String,
    /// Whether what images consist of is shown, and of all platforms.
    #[serde(default)]
    pub layout: Option<String>,
    /// How many layers are shown, from the base up; all if there is no number.
    #[serde(default)]
    pub lowest_layers: Option<usize>,
}

impl Manner {
    /// How something is mounted with these options by this process; `provenance` if its files say where they are
    /// from.
    pub fn of(
        options: &MountOptions,
        sharing: Sharing,
        provenance: bool,
        selection: &Selection,
    ) -> Manner {
        Manner {
            allow_other: options.allow_other || options.kernel_metadata,
            strict_modes: options.checks_modes(),
            owner: match options.ownership {
                Ownership::Image => None,
                Ownership::Squash { uid, gid } => Some((uid, gid)),
            },
            kernel_metadata: options.kernel_metadata,
            noexec: options.no_exec,
            separate_inodes: sharing == Sharing::Nothing,
            provenance,
            exclude_base: selection.exclude.clone(),
            artifacts: selection.artifacts.name().to_owned(),
            layout: selection.layout.map(|layout| layout.name().to_owned()),
            lowest_layers: selection.lowest_layers,
        }
    }
}

/// The images of a mount. In JSON the fields of a single image stand among those of the mount, and
/// several are a list `images`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum ShownStatus {
    /// Each has a directory of its own.
    Directories {
        /// In the order in which they were named.
        images: Vec<ImageStatus>,
    },
    /// All of the mount.
    Single(ImageStatus),
}

impl ShownStatus {
    /// The images, however many there are.
    pub fn images(&self) -> &[ImageStatus] {
        match self {
            ShownStatus::Directories { images } => images,
            ShownStatus::Single(image) => std::slice::from_ref(image),
        }
    }
}

/// A mounted image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImageStatus {
    /// The name of its directory; none if it is all of the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The image's name.
    pub image: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Digest of the config.
    pub image_id: String,
    /// What its tag means now; none if there is no tag, or its registry does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagStatus>,
    /// The image's platform.
    pub platform: String,
    /// The layers, base first.
    pub layers: Vec<LayerStatus>,
}

/// What the tag of a mounted image means now.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TagStatus {
    /// It means something else than what is mounted.
    pub moved: bool,
    /// Digest of the manifest or image index.
    pub digest: String,
}

/// What the tags mean now, as far as their registries say so soon: all are asked at the same time.
fn tags_of(images: &[Shown]) -> Vec<Option<TagStatus>> {
    let until = Instant::now() + TAG_TIMEOUT;
    let asked: Vec<_> =
        images.iter().map(|shown| shown.tag.as_ref().map(|tag| (tag, tag.ask()))).collect();
    let answers = asked.into_iter().map(|asked| {
        let (tag, answer) = asked?;
        let left = until.saturating_duration_since(Instant::now());
        let now = answer.recv_timeout(left).ok()?;
        Some(TagStatus { moved: now != tag.digest, digest: now.to_string() })
    });
    answers.collect()
}

impl ImageStatus {
    fn of((shown, tag): (&Shown, Option<TagStatus>)) -> ImageStatus {
        let layers = shown.image.layers.iter().zip(&shown.readers);
        ImageStatus {
            directory: shown.directory.as_ref().map(|name| name.to_string()),
            image: shown.image.name.clone(),
            digest: shown.image.digest.to_string(),
            image_id: shown.image.image_id().to_string(),
            tag,
            platform: shown.image.platform.to_string(),
            layers: layers
                .map(|(layer, reader)| LayerStatus {
                    digest: layer.descriptor.digest.to_string(),
                    size: layer.descriptor.size,
                    cached: match reader.is_cached() {
                        // What lies between and behind spans is nothing that is ever read.
                        true => layer.descriptor.size,
                        false => reader.kept_bytes().min(layer.descriptor.size),
                    },
                    proof: reader.proof().name().to_owned(),
                    error: reader.found_wrong().map(|error| error.to_string()),
                    store: shown
                        .source
                        .local_copy(&layer.descriptor)
                        .map(|s| s.display().to_string()),
                })
                .collect(),
        }
    }
}

/// A layer of a mounted image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LayerStatus {
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Bytes of it whose content is in the cache; of no more than what the layer index knows.
    #[serde(default)]
    pub cached: u64,
    /// What has been checked of it.
    pub proof: String,
    /// What is wrong with it, if it was shown before it was verified: no more of it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The root of the store on this machine that its bytes come from, instead of from the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// Traffic with the registry.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NetworkStatus {
    /// HTTP requests.
    pub requests: u64,
    /// Bytes of bodies received.
    pub bytes: u64,
}

/// Use of spans.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SpanStatus {
    /// Reads of cached spans.
    pub hits: u64,
    /// Reads that had to fetch.
    pub misses: u64,
}

/// Where the numbers come from.
#[derive(Debug)]
pub struct StatusSource {
    pub(super) images: Images,
    pub(super) mounted_at: String,
    pub(super) device: Option<(u32, u32)>,
    pub(super) manner: Manner,
    pub(super) inodes: u64,
    pub(super) started: SystemTime,
    /// Those of the images, if all share them.
    pub(super) spans: Option<Arc<Spans>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) requests: Arc<Requests>,
}

/// The images of a mount.
#[derive(Clone, Debug)]
pub(super) enum Images {
    /// These.
    All(Vec<Shown>),
    /// Those that are open.
    Of(Arc<dyn Directories>),
}

impl Images {
    /// The bytes of all layers that are open.
    pub(super) fn readers(&self) -> Vec<Arc<BlobReader>> {
        match self {
            Images::All(images) => images.iter().flat_map(|shown| shown.readers.clone()).collect(),
            Images::Of(directories) => {
                let open = directories.shown().into_iter();
                open.flat_map(|(_, shown)| shown.readers).collect()
            }
        }
    }
}

impl StatusSource {
    /// Tells a client the state.
    ///
    /// # Errors
    /// The client has gone.
    pub fn answer(
        &self,
        mut stream: UnixStream,
        supervision: Option<Supervision>,
    ) -> io::Result<()> {
        stream.set_write_timeout(Some(TIMEOUT))?;
        // One that panics is not the last.
        let status = panics::caught(|| self.status(supervision));
        let status = status.ok_or_else(|| io::Error::other("a panic"))?;
        stream.write_all(&serde_json::to_vec(&status)?)
    }

    /// The state now. Asks registries what tags mean, for a short while.
    pub fn status(&self, supervision: Option<Supervision>) -> Status {
        // Before the question about tags, which is one more request.
        let network =
            NetworkStatus { requests: self.traffic.requests(), bytes: self.traffic.body_bytes() };
        let mut images: Vec<ImageStatus> = match &self.images {
            Images::All(images) => {
                images.iter().zip(tags_of(images)).map(ImageStatus::of).collect()
            }
            Images::Of(directories) => {
                let open = directories.shown().into_iter();
                let status = open.map(|(path, shown)| ImageStatus {
                    directory: Some(path).filter(|path| !path.is_empty()),
                    ..ImageStatus::of((&shown, None))
                });
                status.collect()
            }
        };
        let own = std::process::id();
        let (hits, misses) = self.spans.as_ref().map_or((0, 0), |spans| spans.hits_and_misses());
        let counts = self.requests.counts().into_iter();
        let ReadReport { waiting, under_way, slowest, failed } = self.requests.reads();
        let (panics, last_panic) = panics::seen();
        let (refusals, last_refused) = self.requests.refused();
        Status {
            shown: match (images.pop(), images.is_empty()) {
                (Some(only), true) if only.directory.is_none() => ShownStatus::Single(only),
                (last, _) => {
                    images.extend(last);
                    ShownStatus::Directories { images }
                }
            },
            pid: supervision.map_or(own, |of| of.pid),
            worker: supervision.map(|_| own),
            restarts: supervision.map_or(0, |of| of.restarts),
            mounted_at: self.mounted_at.clone(),
            device: self.device,
            options: self.manner.clone(),
            inodes: self.inodes,
            network,
            spans: SpanStatus { hits, misses },
            pushed: self.requests.pushed.load(Ordering::Relaxed),
            ahead: self.requests.ahead.load(Ordering::Relaxed),
            requests: counts.map(|(name, count)| (name.to_owned(), count.into())).collect(),
            recent_errors: self.requests.recent_errors(),
            started: since_epoch(self.started),
            reads: ReadStatus {
                waiting,
                oldest: under_way.iter().map(|read| WaitingRead::of(read, None)).collect(),
                slowest: slowest.map(|(read, ended)| WaitingRead::of(&read, Some(ended))),
            },
            failed_files: failed.into_iter().map(FailedFile::of).collect(),
            panics: PanicStatus { count: panics, last: last_panic },
            refused: RefusedStatus { count: refusals, last: last_refused },
        }
    }
}

/// A listening socket; the file goes away with it.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Another mount may have taken the name since.
    inode: u64,
}

impl StatusSocket {
    /// Listens in `folder` under the connection's number.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn listen(folder: &Path, connection: u32) -> io::Result<StatusSocket> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        check_folder(folder)?;
        let path = socket_path(folder, connection);
        // A connection number is used again once its mount is gone: what lies here is dead.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        Ok(StatusSocket { listener, path, inode })
    }

    /// Answers all clients on a thread of its own.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn serve(&self, source: StatusSource) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        std::thread::Builder::new().name("status".into()).spawn(move || {
            for stream in listener.incoming() {
                if let Err(e) = stream.and_then(|stream| source.answer(stream, None)) {
                    log::debug!("status: {e}");
                }
            }
        })?;
        Ok(())
    }

    /// The next client, who is told that the supervisor lives.
    ///
    /// # Errors
    /// There is none.
    pub fn accept(&self) -> io::Result<UnixStream> {
        let (mut stream, _) = self.listener.accept()?;
        stream.write_all(LIVES)?;
        Ok(stream)
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Supervision {
    /// Tells a client that there is no other process just now.
    ///
    /// # Errors
    /// The client has gone.
    pub fn answer(self, mut stream: UnixStream) -> io::Result<()> {
        stream.write_all(&serde_json::to_vec(&Restarting { restarting: self })?)
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if is_ours && let Err(e) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {e}", self.path.display());
        }
    }
}

/// Asks the process behind a connection for its state.
///
/// # Errors
/// See [`StatusError`].
pub fn query_status(folder: &Path, connection: u32) -> Result<Status, StatusError> {
    check_folder(folder)?;
    let path = socket_path(folder, connection);
    for _ in 0..TRIES {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut bytes = Vec::new();
        match stream.take(MAX_STATUS_BYTES).read_to_end(&mut bytes) {
            // It was handed on to a process that has died meanwhile.
            Ok(_) if bytes == LIVES => {}
            Err(_) if bytes == LIVES => break,
            read => {
                read?;
                return parse(&bytes);
            }
        }
    }
    Err(StatusError::Silent)
}

/// Reads what a process says.
fn parse(bytes: &[u8]) -> Result<Status, StatusError> {
    if let Ok(Restarting { restarting }) = serde_json::from_slice(bytes) {
        return Err(StatusError::Restarting(restarting));
    }
    Ok(serde_json::from_slice(bytes).map_err(io::Error::from)?)
}

/// A folder in a place where everybody may make one has to be ours.
fn check_folder(folder: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(folder)?;
    let ours = metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o022 == 0;
    match ours {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} is not a folder of ours", folder.display()))),
    }
}

/// The connections whose processes have a socket in the folder. Some may have ended without removing theirs.
pub fn status_sockets(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_suffix(".sock")?.parse().ok();
    let mut found: Vec<u32> =
        entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    found.sort_unstable();
    found
}

fn socket_path(folder: &Path, connection: u32) -> PathBuf {
    folder.join(format!("{connection}.sock"))
}
