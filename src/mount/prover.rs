//! Has layers proven that are shown by their headers, while the mount is in use.
//!
//! One thread for a mount, which exists only where there are such layers, or may come to be. It goes from layer to
//! layer and leaves the work to [`BlobReader::prove`]. If one turns out to be wrong, its reads are errors from then on;
//! but the kernel does not ask again for what it has in its page cache, so it is told to forget the files of
//! that layer.
//!
//! It begins a moment after the mount: who mounts reads something first.
//!
//! Where the kernel has names and attributes to itself, its page cache can't be told: what was read before stays readable
//! there as long as it is cached.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::status::Images;
use crate::blob::{BlobReader, Unproven, Walk};
use crate::fs::Filesystem;
use crate::fuse::PageCache;

/// How long after the mount it begins.
const DELAY: Duration = Duration::from_secs(1);

/// How often it is looked for layers that have come, or were read to their end by others.
const INTERVAL: Duration = Duration::from_secs(5);

/// Proves layers until it is dropped.
#[derive(Debug)]
pub(super) struct Prover(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_ended: bool,
    /// Ends what is being done.
    walk: Option<Walk>,
}

/// What is proven.
#[derive(Debug)]
pub(super) enum Proven {
    /// The layers of a view, whose files may be in the page cache.
    View(Arc<Filesystem>, Option<PageCache>),
    /// Those of images that are opened later.
    Later(Images),
}

impl Prover {
    /// Begins, if there is anything to prove.
    pub(super) fn start(proven: Proven) -> Option<Prover> {
        let has_nothing = |layers: &[Arc<BlobReader>]| !layers.iter().any(|l| l.is_being_proven());
        if matches!(&proven, Proven::View(view, _) if has_nothing(view.contents().layers())) {
            return None;
        }
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("prove".into());
        match thread.spawn(move || Work { proven, tried: HashSet::new() }.run(&of_thread)) {
            Ok(_) => Some(Prover(shared)),
            Err(e) => {
                log::warn!("layers are not proven in the background: {e}");
                None
            }
        }
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_ended = true;
        state.walk.iter().for_each(Walk::end);
        drop(state);
        self.0.ended.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false if it has ended.
    fn wait(&self, time: Duration) -> bool {
        let goes_on = |state: &mut State| !state.has_ended;
        let waited = self.ended.wait_timeout_while(self.state(), time, goes_on);
        !waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }

    fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// A walk that ends with it; `None` if it has ended.
    fn begin_walk(&self) -> Option<Walk> {
        let mut state = self.state();
        let walk = Walk::begin();
        state.walk = Some(walk.clone());
        (!state.has_ended).then_some(walk)
    }
}

struct Work {
    proven: Proven,
    /// Layers that were tried, by the addresses of their readers, which live as long as the view does.
    tried: HashSet<usize>,
}

impl Work {
    fn run(mut self, shared: &Shared) {
        let mut time = DELAY;
        while shared.wait(time) {
            time = INTERVAL;
            let layers = self.layers();
            for (at, layer) in layers.iter().enumerate() {
                if layer.is_being_proven() && self.tried.insert(Arc::as_ptr(layer).addr()) {
                    let Some(walk) = shared.begin_walk() else { return };
                    let outcome = layer.prove(&walk);
                    report(layer, outcome, shared.has_ended());
                }
                if let (Proven::View(view, Some(pages)), Some(_)) =
                    (&self.proven, layer.found_wrong())
                {
                    pages.forget_layer(view, at);
                }
            }
            let is_done = layers.iter().all(|layer| !layer.is_being_proven());
            if is_done && matches!(self.proven, Proven::View(..)) {
                return;
            }
        }
    }

    fn layers(&self) -> Vec<Arc<BlobReader>> {
        match &self.proven {
            Proven::View(view, _) => view.contents().layers().to_vec(),
            Proven::Later(images) => images.readers(),
        }
    }
}

fn report(layer: &BlobReader, outcome: Result<(), Unproven>, has_ended: bool) {
    let what = layer.name();
    match outcome {
        Ok(()) => log::info!("{what}: proven"),
        Err(_) if has_ended => log::debug!("{what}: not proven: the mount has ended"),
        // What is wrong with it was said when it was found.
        Err(Unproven::Wrong(_)) => {}
        Err(why) => log::warn!("{what}: not proven in the background: {why}"),
    }
}
