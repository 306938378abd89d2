//! Who hears how a first pass goes on.

use std::sync::atomic::AtomicBool;

/// Hears how a first pass goes on. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// The image has `layers` layers, of which `to_fetch` with `bytes` compressed bytes are new.
    fn start(&self, layers: usize, to_fetch: usize, bytes: u64) {
        let _ = (layers, to_fetch, bytes);
    }

    /// Compressed bytes were taken in.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A new layer is indexed.
    fn layer_done(&self) {}

    /// The cache has the index of one more layer, be it one of those that were counted or not.
    fn layer_opened(&self) {}
}

/// Hears nothing of a layer that was not counted, but that it is there.
pub(super) struct Uncounted<'a>(pub(super) &'a dyn Progress);

impl Progress for Uncounted<'_> {
    fn layer_opened(&self) {
        self.0.layer_opened();
    }
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {}

/// Who hears of a first pass, and whether it is still wanted.
#[derive(Clone, Copy)]
pub(super) struct Hearing<'a> {
    pub(super) progress: &'a dyn Progress,
    /// Set when another layer of the image has failed.
    pub(super) stop: &'a AtomicBool,
}
