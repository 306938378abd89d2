//! Opening a layer: its index from the cache, from others, or made by one streamed pass.
//!
//! An index is looked for where it costs least ([`cached`], then
//! [`IndexFinder::find`](crate::external::IndexFinder::find)); what has none is streamed, several layers at a time
//! (`layer::pass`), and cut into spans on the way (`layer::cut`). Of a large plain tar only the headers are read, if the
//! user asks for that (`layer::headers`).

mod budget;
mod cut;
mod download;
mod error;
mod headers;
mod images;
mod lookup;
mod opened;
mod options;
mod pass;
mod progress;
mod turns;

pub use error::{Error, ErrorKind};
pub use images::{Failure, ImageLayers, open_all, open_images};
pub use lookup::{Known, cached, known};
pub use opened::{OpenLayer, OpenedLayers};
pub use options::{LayerOptions, PassOrder};
pub use progress::{Progress, Quiet};
pub use turns::Turns;
