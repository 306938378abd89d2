//! How a layer's bytes are reached.

use std::ops::Range;
use std::sync::Arc;

use crate::cache::LayerName;
use crate::codec;
use crate::oci::Descriptor;
use crate::source::{self, Source};

/// Windows that were left where their index came from.
pub trait WindowSource: std::fmt::Debug + Send + Sync {
    /// Stored windows by their place in the table of windows.
    ///
    /// # Errors
    /// They can't be had.
    fn windows(&self, range: Range<u64>) -> Result<Vec<u8>, source::Error>;
}

/// How a layer's bytes are reached.
#[derive(Debug)]
pub struct Access {
    /// The blob.
    pub descriptor: Descriptor,
    /// Where it comes from.
    pub source: Arc<dyn Source>,
    /// What decompressing may cost.
    pub codec: codec::Limits,
    /// The windows, where the index has none.
    pub windows: Option<Arc<dyn WindowSource>>,
    /// The name of the index in the cache.
    pub index_name: LayerName,
}
