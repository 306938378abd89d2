//! Limits and switches for opening layers.

use std::collections::HashSet;
use std::sync::Arc;

use super::turns::Turns;
use crate::codec;
use crate::digest::Digest;

/// Limits and switches for opening layers.
#[derive(Clone, Debug)]
pub struct LayerOptions {
    /// Take no index but one that proves everything: what is not proven is streamed.
    pub prove: bool,
    /// Show large plain tars by their headers alone, to be proven later, where nothing is known of them.
    pub headers: bool,
    /// Take nothing of a layer that this registry has not sent: content of the same digest may be here
    /// because another one has given it to another user.
    pub only_sent_by: Option<String>,
    /// Blobs of layers that are to be shown as others say they are, as they were before: an index of our own is not used
    /// for them, though there may be one by now. The two need not be the same tree.
    pub claimed: Arc<HashSet<Digest>>,
    /// Stream all that is not open already, whatever is in the cache, whose spans are compared with what comes.
    pub again: bool,
    /// Most uncompressed bytes of one layer; the default depends on the blob's size.
    pub max_uncompressed_bytes: Option<u64>,
    /// What decompressing may cost. With more than the default layers are passed over one at a time.
    pub codec: codec::Limits,
    /// Layers passed over at the same time.
    pub parallel: usize,
    /// Which of them come first.
    pub order: PassOrder,
    /// Keep the bytes that a first pass has seen, for those who will read them.
    pub keep_spans: bool,
    /// Shared with the first passes of images that are opened independently of this one.
    pub turns: Option<Arc<Turns>>,
}

/// In which order the layers of an image are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassOrder {
    /// All are there as soon as can be: large ones first, so that none of them is left to run alone at the end.
    #[default]
    SoonestDone,
    /// The topmost first, for users who look at what has come: what an image adds to its base is in its upper layers.
    TopmostFirst,
}

impl LayerOptions {
    /// How many layers are passed over at the same time with these limits.
    pub(super) fn parallel(&self) -> usize {
        match self.codec.zstd_window_log > codec::DEFAULT_ZSTD_WINDOW_LOG {
            true => 1,
            false => self.parallel,
        }
    }
}

impl Default for LayerOptions {
    fn default() -> LayerOptions {
        LayerOptions {
            prove: false,
            headers: false,
            only_sent_by: None,
            claimed: Arc::default(),
            again: false,
            max_uncompressed_bytes: None,
            codec: codec::Limits::default(),
            parallel: 4,
            order: PassOrder::default(),
            keep_spans: true,
            turns: None,
        }
    }
}
