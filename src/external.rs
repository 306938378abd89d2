//! Layer indexes that others made: found, checked, and turned into ours.
//!
//! # Problem
//!
//! A layer that this machine never saw need not be streamed if another program has written down where
//! everything in it is: the layer's own writer (eStargz, zstd:chunked), that of a SOCI index, or `ocifs index
//! push`. Each is somewhere else, bound to the image in another way or not at all.
//!
//! # Design
//!
//! A [`IndexFinder`] belongs to one resolved image. It knows under which names an index could be in the
//! cache ([`IndexFinder::names`]), and finds one outside ([`IndexFinder::find`]), best first:
//!
//! | where | bound by | proof |
//! |---|---|---|
//! | TOC in the layer | annotation of the layer's descriptor | `toc` |
//! | SOCI index, v2 | annotation of the manifest | `toc` |
//! | our artifact, then a SOCI index v1, among the referrers | nothing | `hint`, if the user trusts |
//!
//! Whatever goes wrong here is said in the log, and the layer is streamed instead: an index of
//! others can only help. One that was found to contradict its layer is not used again.
//!
//! # Invariants
//!
//! - A name in the cache binds what the index was bound by, so that an image with a lying annotation
//!   does not spoil another with the same layer.
//! - Referrers are not even asked for unless the user trusts them. What they say counts for the
//!   image in the repository where they were found, and for no other image with the same layer.

mod compare;
mod error;
mod finder;
mod order;
mod windows;

pub use compare::{Comparison, Difference, MAX_DIFFERENCES, compare};
pub use error::Error;
pub use finder::{ExternalIndex, Found, IndexFinder, MIN_LAYER_BYTES};
