//! Test support: fixtures that tests build for themselves instead of checking in.
//!
//! Nothing here uses the crate under test. A fault in the code that reads a format must not be
//! able to hide in the code that writes the fixture, so every format is written down a second
//! time, from its definition.
//!
//! The modules below refer to each other as `crate::support::…`, so a test crate includes them by
//! `mod support;` (with a `#[path]` where needed) at its root.

// A test crate takes what it needs from here, and the compiler sees the rest as unused.
#![allow(dead_code, unused_imports)]

pub mod bolt;
pub mod cgroup;
pub mod content;
pub mod deflate;
pub mod deflate_writer;
pub mod environment;
pub mod estargz;
pub mod formats;
pub mod guard;
pub mod image;
pub mod kernel;
pub mod markdown;
pub mod packages;
pub mod registry;
#[cfg(test)]
mod registry_tests;
pub mod sparse;
pub mod store;
pub mod tarball;
pub mod wire;
pub mod zlib;
pub mod zstd_chunked;
pub mod ztoc;
