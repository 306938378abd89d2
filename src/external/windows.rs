//! Windows of checkpoints that stay in our artifact until a read wants one.

use std::ops::Range;
use std::sync::Arc;

use super::error::Error;
use super::finder::IndexFinder;
use crate::blob::WindowSource;
use crate::digest::Digest;
use crate::index::LayerIndex;
use crate::source;

impl IndexFinder {
    /// The windows of an index, if it left them in the registry.
    pub fn windows(self: &Arc<Self>, index: &LayerIndex) -> Arc<dyn WindowSource> {
        let (layer, offset) = (index.blob(), index.windows_offset());
        Arc::new(Windows { finder: Arc::clone(self), layer, offset })
    }
}

/// Windows in our artifact, which is looked for when the first is wanted.
#[derive(Debug)]
struct Windows {
    finder: Arc<IndexFinder>,
    layer: Digest,
    /// Where they begin behind the head.
    offset: u64,
}

impl WindowSource for Windows {
    fn windows(&self, range: Range<u64>) -> Result<Vec<u8>, source::Error> {
        let missing = || source::Error::Missing {
            path: "the registry".into(),
            what: format!("the layer index of {}", self.layer),
        };
        let ours = &self.finder.announced().ours;
        let packed = ours.iter().find(|packed| packed.layer == self.layer).ok_or_else(missing)?;
        let start = packed.head_bytes + self.offset;
        let range = start + range.start..start + range.end;
        self.finder.fetch(&packed.blob, range).map_err(|e| match e {
            Error::Source(e) => e,
            e => {
                log::warn!("{e}");
                missing()
            }
        })
    }
}
