//! Whole layers for containerd's content store, in the background (`--fetch-content`).
//!
//! # Problem
//!
//! Of an image that is shown containerd has no layer, and so can't export, push or save it.
//!
//! # Design
//!
//! Which layers are missing is asked of containerd, and nothing is kept of it here: of each image that has a remote
//! snapshot, in each namespace that has its manifest, the layers that labels of the manifest name. These labels
//! (`containerd.io/gc.ref.content.l.0` and so on) are containerd's own. They keep its garbage collection away from
//! a layer for as long as the image is there, and where they are missing, as with `discard_unpacked_layers`, its user does
//! not want layers and none is fetched.
//!
//! A layer is read by a process of `ocifs`, with the mirrors and credentials of images, and written through containerd's API,
//! which takes it only with the right digest. What was written of one when this program or containerd ended is there
//! afterwards: only the rest is fetched.
//!
//! Containers come first: one layer at a time is fetched, by a process of low priority, and no piece of it
//! while a pull is opening an image or a mount has fetched something within the last second; of each ten seconds one is
//! left to it even so, or it would never end.
//!
//! What fails is told once and tried again after a pause that grows. If containerd refuses what is written, as it does when the
//! disk is full, what was written is removed again.
//!
//! (Rejected: the name under which containerd itself writes a layer. A pull would wait for ours, which is slow on purpose.)
//!
//! (Rejected: to make the layer from the cache, which has it uncompressed. Only the same compressor with the same settings
//! gives the same bytes, and nothing says which that was.)

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::{Code, Status};

use crate::blob::Blob;
use crate::containerd::Containerd;
use crate::program::Program;
use crate::snapshots::Labels;
use crate::snapshotter::Snapshotter;

/// What labels of a manifest begin with that name its layers.
const LAYER: &str = "containerd.io/gc.ref.content.l.";

/// What the label of a blob begins with that says where it is from, by which a push may do without it.
const SOURCE: &str = "containerd.io/distribution.source.";

/// How often containerd is asked what is missing, if no image has come.
const LOOK: Duration = Duration::from_secs(60);

/// How long an image that has come is left alone: a container starts.
const SETTLE: Duration = Duration::from_secs(1);

/// The first pause after something failed, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(3600);

/// How often it is looked whether containers fetch, and how often in a row that is waited for.
const GLANCE: Duration = Duration::from_secs(1);
const GLANCES: usize = 9;

/// Why a layer is not there.
#[derive(Debug)]
enum Failure {
    /// containerd, which would do the same with any other layer.
    Containerd(Status),
    /// Its image alone.
    Image(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Containerd(status)
    }
}

/// Until when something is not tried again.
#[derive(Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    /// After the pauses that there were before.
    fn after(before: Option<Pause>) -> Pause {
        let length = before.map_or(FIRST_PAUSE, |before| before.length * 2).min(LAST_PAUSE);
        Pause { until: Instant::now() + length, length }
    }
}

/// What fetches.
#[derive(Debug)]
pub(crate) struct Fetcher {
    containerd: Containerd,
    snapshotter: Arc<Snapshotter>,
    program: Program,
    /// Namespaces and images of which nothing is missing.
    complete: HashSet<(String, String)>,
    /// Images that failed.
    failed: HashMap<String, Pause>,
    /// What has been told: of containerd by a code, of images by their names.
    told: HashSet<String>,
    /// What mounts had fetched when it was looked last.
    seen: Option<(Instant, u64)>,
}

impl Fetcher {
    pub(crate) fn new(
        containerd: Containerd,
        snapshotter: Arc<Snapshotter>,
        program: Program,
    ) -> Fetcher {
        Fetcher {
            containerd,
            snapshotter,
            program,
            complete: HashSet::new(),
            failed: HashMap::new(),
            told: HashSet::new(),
            seen: None,
        }
    }

    /// Fetches what is missing, for as long as the program runs.
    pub(crate) async fn run(mut self) {
        let news = Arc::clone(self.snapshotter.news());
        let mut pause = None;
        loop {
            match self.round(&news.take()).await {
                Ok(()) => {
                    pause = None;
                    let woken = news.come();
                    let is_news = tokio::time::timeout(self.next_look(), woken).await.is_ok();
                    if is_news {
                        sleep(SETTLE).await;
                    }
                }
                Err(status) => {
                    let why = status.message();
                    match is_interruption(&status) {
                        // It is started after this program, or started again.
                        true => log::info!("containerd does not answer: {why}"),
                        false => self.tell(
                            &format!("{:?}", status.code()),
                            &format!(
                                "layers are not put into containerd's store: {why}; containers run without them"
                            ),
                        ),
                    }
                    let next = Pause::after(pause.take());
                    sleep(next.length).await;
                    pause = Some(next);
                }
            }
        }
    }

    /// How long there is nothing to do, if no image comes.
    fn next_look(&self) -> Duration {
        let now = Instant::now();
        let pauses = self.failed.values().map(|pause| pause.until.saturating_duration_since(now));
        pauses.min().unwrap_or(LOOK).clamp(GLANCE, LOOK)
    }

    /// Fetches all that is missing now.
    async fn round(&mut self, news: &HashSet<String>) -> Result<(), Status> {
        let snapshotter = Arc::clone(&self.snapshotter);
        let images = blocking(move || snapshotter.shown()).await.unwrap_or(Ok(HashSet::new()));
        // Calls of containerd have told of it.
        let images = images.map_err(|error| Status::internal(error.to_string()))?;
        self.complete.retain(|(_, image)| images.contains(image) && !news.contains(image));
        self.failed.retain(|image, _| images.contains(image) && !news.contains(image));
        self.told.retain(|told| !told.contains('@') || images.contains(told));
        let mut images: Vec<String> = images.into_iter().collect();
        images.sort();
        for namespace in self.containerd.namespaces().await? {
            for image in &images {
                self.image(&namespace, image).await?;
            }
        }
        self.told.retain(|told| told.contains('@'));
        Ok(())
    }

    async fn image(&mut self, namespace: &str, image: &str) -> Result<(), Status> {
        let key = (namespace.to_owned(), image.to_owned());
        let is_paused = self.failed.get(image).is_some_and(|pause| pause.until > Instant::now());
        if self.complete.contains(&key) || is_paused {
            return Ok(());
        }
        let Some((_, manifest)) = image.rsplit_once('@') else { return Ok(()) };
        // It may come yet.
        let Some(labels) = self.containerd.labels(namespace, manifest).await? else {
            return Ok(());
        };
        let layers = layers(&labels);
        for digest in &layers {
            match self.layer(namespace, image, digest).await {
                Ok(()) => {}
                Err(Failure::Containerd(status)) => {
                    self.snapshotter.metrics().failures.add(1);
                    return Err(status);
                }
                Err(Failure::Image(why)) => {
                    self.snapshotter.metrics().failures.add(1);
                    self.tell(
                        image,
                        &format!(
                            "{image}: the layer {digest} is not put into containerd's store: {why}; containers run without it"
                        ),
                    );
                    let before = self.failed.remove(image);
                    self.failed.insert(image.to_owned(), Pause::after(before));
                    return Ok(());
                }
            }
        }
        self.failed.remove(image);
        self.told.remove(image);
        if !layers.is_empty() {
            self.complete.insert(key);
        }
        Ok(())
    }

    async fn layer(&mut self, namespace: &str, image: &str, digest: &str) -> Result<(), Failure> {
        let reference = format!("ocifs-layer-{digest}");
        let result = self.write(namespace, image, digest, &reference).await;
        if let Err(Failure::Containerd(status)) = &result
            && !is_interruption(status)
            && let Err(status) = self.containerd.abort(namespace, &reference).await
        {
            log::debug!("what was written of {digest} can't be removed: {status}");
        }
        result
    }

    async fn write(
        &mut self,
        namespace: &str,
        image: &str,
        digest: &str,
        reference: &str,
    ) -> Result<(), Failure> {
        let begun = self.containerd.ingest(namespace, reference, digest).await?;
        let Some(mut ingest) = begun else { return Ok(()) };
        let from = ingest.offset();
        log::info!("{image}: fetching the layer {digest} for containerd, from byte {from}");
        let blob = Blob::open(&self.program, image, digest, from).await;
        let mut blob = blob.map_err(Failure::Image)?;
        loop {
            self.give_way().await;
            let piece = blob.next().await.map_err(Failure::Image)?;
            if piece.is_empty() {
                break;
            }
            let bytes = piece.len() as u64;
            ingest.write(piece).await?;
            self.snapshotter.metrics().bytes.add(bytes);
        }
        ingest.commit(source_label(image)).await?;
        self.snapshotter.metrics().layers.add(1);
        log::info!("{image}: containerd has the layer {digest}");
        Ok(())
    }

    /// Waits while containers fetch, but not for ever.
    async fn give_way(&mut self) {
        if self.seen.is_some_and(|(when, _)| when.elapsed() < GLANCE) {
            return;
        }
        for _ in 0..GLANCES {
            let snapshotter = Arc::clone(&self.snapshotter);
            let traffic = blocking(move || snapshotter.traffic()).await.unwrap_or_default();
            let before = self.seen.replace((Instant::now(), traffic.fetched));
            let is_still = before.is_none_or(|(_, fetched)| fetched == traffic.fetched);
            if is_still && traffic.waiting == 0 {
                return;
            }
            sleep(GLANCE).await;
        }
        if let Some((when, _)) = &mut self.seen {
            *when = Instant::now();
        }
    }

    /// Tells of something once.
    fn tell(&mut self, key: &str, text: &str) {
        match self.told.insert(key.to_owned()) {
            true => log::warn!("{text}"),
            false => log::debug!("{text}"),
        }
    }
}

/// Whether a call has ended in the middle, rather than been refused.
fn is_interruption(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)
}

/// The layers that labels of a manifest name, in their order.
fn layers(labels: &HashMap<String, String>) -> Vec<&str> {
    let layers = labels.iter().filter_map(|(label, digest)| {
        let number: usize = label.strip_prefix(LAYER)?.parse().ok()?;
        Some((number, digest.as_str()))
    });
    let mut layers: Vec<(usize, &str)> = layers.collect();
    layers.sort_unstable();
    layers.into_iter().map(|(_, digest)| digest).collect()
}

/// Where a blob of an image is from, as containerd says it.
fn source_label(image: &str) -> Labels {
    let repository = image.split_once('@').map_or(image, |(repository, _)| repository);
    let parts = repository.split_once('/');
    parts.map(|(host, path)| (format!("{SOURCE}{host}"), path.to_owned())).into_iter().collect()
}

/// Does something that waits, on a thread of its own; `None` if that has panicked.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(act).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_that_containerd_keeps() {
        let labels = [
            ("containerd.io/gc.ref.content.config", "c"),
            ("containerd.io/gc.ref.content.l.10", "k"),
            ("containerd.io/gc.ref.content.l.2", "b"),
            ("containerd.io/gc.ref.content.l.0", "a"),
            ("containerd.io/gc.ref.content.l.x", "y"),
            ("containerd.io/distribution.source.r.example", "app"),
        ];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
        assert_eq!(layers(&labels), ["a", "b", "k"]);
        assert!(layers(&HashMap::new()).is_empty());
    }

    #[test]
    fn sources_as_containerd_says_them() {
        let label = source_label("docker.io/library/app@sha256:1");
        let expected = ("containerd.io/distribution.source.docker.io", "library/app");
        assert_eq!(label, [(expected.0.to_owned(), expected.1.to_owned())].into());
    }

    #[test]
    fn pauses_grow_to_an_end() {
        let mut pause = Pause::after(None);
        assert_eq!(pause.length, FIRST_PAUSE);
        for _ in 0..20 {
            pause = Pause::after(Some(pause));
        }
        assert_eq!(pause.length, LAST_PAUSE);
    }
}
